//! Decides under which identity batches are numbered, and when the sequence numbers start again.

use super::{Effects, Entry, Ledger};
use crate::core::ack::Settlement;
use crate::core::identity::Identity;
use crate::core::outcome::{Reason, Unconfirmed};

impl Ledger {
    pub(super) fn may_go(&self, entry: &Entry) -> bool {
        !self.rules.idempotent
            || entry.stamp.is_some()
            || (self.identity.is_some() && self.newer.is_none())
    }

    /// Whether batches need an identity and the ledger has none, neither a present nor a next one.
    pub fn wants_identity(&self) -> bool {
        self.rules.idempotent && self.identity.is_none() && self.newer.is_none()
    }

    /// The identity that the ledger left, if it has no other yet.
    pub fn left(&self) -> Option<Identity> {
        self.left.filter(|_| self.identity.is_none())
    }

    /// Notes that the sequence numbers have a gap, and asks for another identity.
    pub(super) fn break_line(&mut self, effects: &mut Effects) {
        if self.rules.idempotent && !std::mem::replace(&mut self.broken, true) {
            effects.bump = self.identity;
        }
    }

    /// Takes the stamps off the last batches that never reached a socket, from the end on. Their
    /// sequence numbers are used again.
    pub(super) fn unstamp_tail(&mut self) {
        let stamped = self
            .entries
            .iter_mut()
            .rev()
            .skip_while(|entry| entry.stamp.is_none());
        for entry in stamped {
            if entry.lent || entry.attempts > 0 || entry.unresolved || self.broken {
                break;
            }
            if let Some(stamp) = entry.stamp.take() {
                self.next_sequence = stamp.sequence;
            }
        }
    }

    /// Takes an identity from the IdentityActor. The next batches are stamped with it, once those
    /// under the old identity are resolved.
    pub fn adopt(&mut self, identity: Identity) -> Effects {
        let mut effects = Effects::default();
        let known = self.newer.or(self.identity).or(self.left);
        let older = known.is_some_and(|known| {
            known.producer_id == identity.producer_id && known.epoch >= identity.epoch
        });
        if !older {
            self.newer = Some(identity);
            self.switch_identity(&mut effects);
        }
        effects
    }

    /// Leaves the old identity as soon as no batch needs it.
    pub(super) fn switch_identity(&mut self, effects: &mut Effects) {
        if self.lent > 0 {
            return;
        }
        if self.broken {
            // Under the old identity a retry of these would be refused. Under a new one they might
            // be written twice.
            while let Some(at) = self.entries.iter().position(|entry| entry.unresolved) {
                let last = self.entries[at].last_error.clone();
                let last = last.unwrap_or_else(|| "no answer".into());
                let fate = Unconfirmed::Unknown(Reason::AfterUnresolved { last });
                self.remove(at, Settlement::Failed(fate), effects);
            }
            self.broken = false;
            self.left = self.identity.take();
        }
        if self.identity.is_some() && self.newer.is_none() || !self.rules.idempotent {
            return;
        }
        let hangs = self
            .entries
            .iter()
            .any(|entry| entry.stamp.is_some() && entry.unresolved);
        if !hangs {
            for entry in &mut self.entries {
                entry.stamp = None;
            }
            self.next_sequence = 0;
            self.proven = false;
            self.identity = self.newer.take();
        }
    }

    /// Notes that the leader or the topic's id has changed. The new leader has not accepted a batch
    /// yet, so one batch is lent at a time. It has not refused one either, so no batch waits for a
    /// backoff (KIP-951).
    pub fn leader_changed(&mut self) {
        self.proven = false;
        self.leader_generation = self.leader_generation.wrapping_add(1);
        for entry in &mut self.entries {
            entry.not_before = None;
        }
    }
}
