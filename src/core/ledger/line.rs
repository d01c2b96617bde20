//! Decides under which identity batches are numbered, and when the sequence numbers start again.

use super::{Effects, Entry, Ledger};
use crate::core::ack::Settlement;
use crate::core::identity::Identity;
use crate::core::outcome::{Reason, Unconfirmed};

impl Ledger {
    pub(super) fn may_go(&self, entry: &Entry) -> bool {
        let numbers =
            || self.identity.is_some() && self.is_numbered_for(entry) && self.may_begin(entry);
        !self.rules.idempotent || entry.stamp.is_some() || numbers()
    }

    /// Whether batches need an identity and the ledger has none, or that of another transaction.
    pub fn wants_identity(&self) -> bool {
        // The marker of its fence has to come behind the floor.
        let waits = || self.awaits_fence() || self.left.is_some() && self.wants_floor();
        let has_none = || self.identity.is_none() && !waits();
        self.rules.idempotent && (has_none() || self.begins_another_transaction())
    }

    /// The identity that the ledger left, if it has no other yet.
    pub fn left(&self) -> Option<Identity> {
        self.left.filter(|_| self.identity.is_none())
    }

    /// Notes that the sequence numbers have a gap. The ledger leaves its identity once all lent
    /// batches are back.
    pub(super) fn break_line(&mut self) {
        self.broken |= self.rules.idempotent;
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

    /// Takes the identity that the ledger asked for. Sequence numbers start at 0 under it. An
    /// identity that comes unasked changes nothing: brokers keep an epoch for each partition, so
    /// what happens to other partitions is no reason to leave one.
    pub fn adopt(&mut self, identity: Identity) {
        let used = self.left.is_some_and(|left| {
            left.producer_id == identity.producer_id && left.epoch >= identity.epoch
        });
        if self.wants_identity() && !used {
            self.begin_under(identity);
        }
    }

    /// Sequence numbers start at 0 under this identity.
    pub(super) fn begin_under(&mut self, identity: Identity) {
        self.next_sequence = 0;
        self.proven = false;
        self.identity = Some(identity);
        self.identity_changed();
    }

    /// Leaves an identity whose sequence numbers have a gap, as soon as no batch is lent.
    pub(super) fn leave_broken_line(&mut self, effects: &mut Effects) {
        if !self.broken || self.lent > 0 {
            return;
        }
        // Under the old identity a retry of these would be refused. Under a new one they might be
        // written twice.
        while let Some(at) = self.entries.iter().position(|entry| entry.unresolved) {
            let last = self.entries[at].last_error.clone();
            let last = last.unwrap_or_else(|| "no answer".into());
            let reason = Reason::AfterUnresolved { last };
            if self.look_for(at, &reason) {
                continue;
            }
            let fate = Unconfirmed::Unknown(reason);
            self.remove(at, Settlement::Failed(fate), effects);
        }
        for entry in &mut self.entries {
            entry.stamp = None;
        }
        self.broken = false;
        self.left = self.identity.take();
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
