//! What becomes of records that have waited in the spool for too long.

use std::time::{Duration, Instant};

use super::parked::AT_ONCE;
use super::spooled::Spools;
use super::{Effects, Entry, Ledger};
use crate::core::ack::Settlement;
use crate::core::outcome::{Reason, Unconfirmed};

impl Ledger {
    /// Ends what was never sent, is not in the spool, and has waited for as long as it would there.
    pub(super) fn expire_unspooled(&mut self, now: Instant) -> Effects {
        let mut effects = Effects::default();
        while let Some((at, max_age)) = self.first_unspooled()
            && self.entries[at].batch.created_at() + max_age <= now
            && let Some(entry) = self.entries.remove(at)
        {
            let too_old = Unconfirmed::NotWritten(Reason::TooOld { max_age });
            self.end_entry(entry, Settlement::Failed(too_old), &mut effects);
        }
        effects
    }

    pub(super) fn next_unspooled_expiry(&self) -> Option<Instant> {
        let (at, max_age) = self.first_unspooled()?;
        Some(self.entries.get(at)?.batch.created_at() + max_age)
    }

    /// The first batch that was never sent, if the spool does not have it, and how long it may wait.
    fn first_unspooled(&self) -> Option<(usize, Duration)> {
        let Spools::Spilled(max_age) = self.spooled.as_ref()?.spools else {
            return None;
        };
        let at = self.entries.iter().position(is_unsent)?;
        (!self.entries.get(at)?.batch.is_spooled()).then_some((at, max_age))
    }

    /// Ends all records before this position that were never sent. What was sent, or may have been by a
    /// former producer, goes on: it may be in the log.
    pub fn expire_spooled(&mut self, before: u64, max_age: Duration) -> Effects {
        let mut effects = Effects::default();
        if self.surveys() {
            return effects;
        }
        let too_old = || Settlement::Failed(Unconfirmed::NotWritten(Reason::TooOld { max_age }));
        let is_over = |entry: &Entry| is_unsent(entry) && entry.end() <= before;
        while let Some(at) = self.entries.iter().position(is_over) {
            if let Some(entry) = self.entries.remove(at) {
                self.end_entry(entry, too_old(), &mut effects);
            }
        }
        let Some(first) = self.spooled.as_ref().and_then(|it| it.backlog.first()) else {
            return effects;
        };
        let end = before.min(first.saturating_add(AT_ONCE));
        self.end_parked(first..end, &too_old(), &mut effects);
        self.end_batches(before, &too_old(), &mut effects);
        effects
    }
}

fn is_unsent(entry: &Entry) -> bool {
    !entry.lent && entry.stamp.is_none() && entry.attempts == 0
}
