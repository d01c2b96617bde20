//! What is different for a partition whose batches are part of transactions.

use std::sync::Arc;

use super::{Effects, Entry, Ledger};
use crate::core::ack::Settlement;
use crate::core::identity::{Identity, Wanted};
use crate::core::outcome::{Reason, Unconfirmed};
use crate::core::transaction::Scope;

/// A partition's wish to take part in a transaction.
#[derive(Debug)]
pub struct Joining {
    pub scope: Arc<Scope>,
    /// Which identity it left, and how often partitions had been freed when it was made: by that it is told
    /// apart from the one that was freed.
    pub wanted: Wanted,
}

impl Ledger {
    /// Whether the present identity is for the batch: that of its transaction, if it is part of one.
    pub(super) fn is_numbered_for(&self, entry: &Entry) -> bool {
        let same =
            |scope: &Arc<Scope>| self.scope.as_ref().is_some_and(|it| Arc::ptr_eq(it, scope));
        !self.rules.transactional || entry.batch.scope().is_some_and(same)
    }

    /// The first batch that has no sequence number yet.
    pub(super) fn first_unnumbered(&self) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.stamp.is_none())
    }

    pub(super) fn begins_another_transaction(&self) -> bool {
        self.rules.transactional
            && self
                .first_unnumbered()
                .is_some_and(|entry| !self.is_numbered_for(entry))
    }

    /// The transaction that an identity is wanted for: that of the first batch without a number, or of the
    /// `open` one if there is none.
    pub fn joins(&self, open: impl FnOnce() -> Option<Arc<Scope>>) -> Option<Arc<Scope>> {
        match self.first_unnumbered() {
            Some(entry) => entry.batch.scope().cloned(),
            None => open(),
        }
    }

    /// Takes the identity for a transaction. If it is the same as for the one before, the sequence numbers
    /// go on, as in protocol 1.
    ///
    /// A broker that knows the producer accepts nothing but a first sequence number of 0 under a new epoch.
    /// So several batches may be lent at once then, though none has succeeded under it. One that does not
    /// know it accepts any, and a retry of the first batch behind the second would be refused.
    pub fn adopt_for(&mut self, scope: &Arc<Scope>, identity: Identity) {
        let is_other =
            |entry: &Entry| !entry.batch.scope().is_some_and(|it| Arc::ptr_eq(it, scope));
        let is_late = self.first_unnumbered().is_some_and(is_other);
        if is_late || !self.wants_identity() || self.left == Some(identity) {
            return;
        }
        if self.identity != Some(identity) {
            let is_known = self.identity.map(|it| it.producer_id) == Some(identity.producer_id);
            let proven = self.proven && is_known;
            self.begin_under(identity);
            self.proven = proven;
        }
        self.scope = Some(Arc::clone(scope));
    }

    /// Settles the batches of a transaction that failed, but for those that are lent: they are waited
    /// for.
    pub fn give_up_failed(&mut self) -> Effects {
        let mut effects = Effects::default();
        let why = |entry: &Entry| match entry.lent {
            true => None,
            false => entry.batch.scope()?.is_over(),
        };
        let next = |ledger: &Self| {
            let mut entries = ledger.entries.iter().zip(0..);
            entries.find_map(|(entry, at)| Some((at, entry.unresolved, why(entry)?)))
        };
        while let Some((at, unresolved, why)) = next(self) {
            let reason = Reason::TransactionAborted { why };
            let fate = match unresolved {
                true => Unconfirmed::Aborted(reason),
                false => Unconfirmed::NotWritten(reason),
            };
            self.remove_with_hole(at, Settlement::Failed(fate), &mut effects);
        }
        self.leave_broken_line(&mut effects);
        effects
    }
}
