//! The line of sequences: under which identity batches are numbered, and when it begins anew.

use super::{Effects, Entry, Ledger};
use crate::core::ack::Settlement;
use crate::core::identity::Identity;
use crate::core::outcome::{Reason, Unconfirmed};
#[cfg(test)]
use crate::simulation::planted::{self, Bug};

impl Ledger {
    pub(super) fn may_go(&self, entry: &Entry) -> bool {
        !self.rules.idempotent
            || entry.stamp.is_some()
            || (self.identity.is_some() && self.newer.is_none())
    }

    /// Whether a batch waits for an identity that nobody has asked for yet.
    pub fn wants_identity(&self) -> bool {
        self.rules.idempotent && self.identity.is_none() && self.newer.is_none()
    }

    /// The identity that the line left behind, if it has no other yet.
    pub fn left(&self) -> Option<Identity> {
        self.left.filter(|_| self.identity.is_none())
    }

    pub(super) fn break_line(&mut self, effects: &mut Effects) {
        if self.rules.idempotent && !std::mem::replace(&mut self.broken, true) {
            effects.bump = self.identity;
        }
    }

    /// Batches that never reached a socket give their sequences back, from the tail on.
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

    /// The IdentityActor gave out an identity: this partition's next batches are stamped with it,
    /// once those under the old one are resolved.
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

    /// Leaves the old identity behind as soon as nothing hangs on it any more.
    pub(super) fn switch_identity(&mut self, effects: &mut Effects) {
        if self.lent > 0 {
            return;
        }
        if self.broken {
            // Retried under the old identity these would be refused, under a new one they might
            // be written twice.
            while let Some(at) = self.entries.iter().position(|entry| entry.unresolved) {
                #[cfg(test)]
                if planted::is(Bug::UnresolvedRestamped) {
                    self.entries[at].unresolved = false;
                    continue;
                }
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

    /// The leader or the topic's id has changed: what the new one accepts has to be seen first. It
    /// has refused nothing yet, so nothing waits for a backoff (KIP-951).
    pub fn leader_changed(&mut self) {
        #[cfg(test)]
        if planted::is(Bug::SequenceForgotten) && self.entries.is_empty() {
            self.next_sequence = 0;
        }
        self.proven = false;
        self.leader_generation = self.leader_generation.wrapping_add(1);
        for entry in &mut self.entries {
            entry.not_before = None;
        }
    }
}
