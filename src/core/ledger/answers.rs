//! What becomes of a batch that has come back: settled, retried, split, or failed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Attempt, Effects, Entry, Ledger, Report};
use crate::core::ack::Settlement;
use crate::core::batch::Stamp;
use crate::core::broker_error::{BrokerError, Class, asks_for_metadata, class_of};
use crate::core::identity::sequence_after;
use crate::core::outcome::{Reason, Unconfirmed};
#[cfg(test)]
use crate::simulation::planted::{self, Bug};

impl Ledger {
    /// A lent batch has come back.
    pub fn report(&mut self, id: u64, report: Report, now: Instant) -> Effects {
        let mut effects = Effects::default();
        // A batch that was abandoned meanwhile has its outcome already.
        let Some(at) = self
            .entries
            .iter()
            .position(|entry| entry.id == id && entry.lent)
        else {
            return effects;
        };
        self.lent -= 1;
        self.entries[at].lent = false;
        match report {
            Report::Answered(attempt) => self.answered(at, attempt, now, &mut effects),
            Report::Unasked => {
                let fate = Unconfirmed::Unknown(Reason::NotRequested);
                self.remove(at, Settlement::Failed(fate), &mut effects);
            }
            Report::Returned { written, error } => {
                effects.refresh_metadata = true;
                let entry = &mut self.entries[at];
                entry.last_error = Some(Arc::clone(&error));
                if written {
                    entry.doubt();
                    self.retry(at, Reason::Connection(error), now, &mut effects);
                } else {
                    entry.attempts -= 1;
                    if entry.batch.is_settled() {
                        self.fail(at, Reason::Connection(error), &mut effects);
                    }
                    self.unstamp_tail();
                }
            }
        }
        self.switch_identity(&mut effects);
        effects
    }

    #[expect(
        clippy::too_many_lines,
        reason = "a table: what each class of answer does"
    )]
    fn answered(&mut self, at: usize, attempt: Attempt, now: Instant, effects: &mut Effects) {
        let Attempt {
            error,
            base_offset,
            log_append_time,
            invalid,
        } = attempt;
        effects.refresh_metadata = asks_for_metadata(error.code);
        let class = class_of(error.code);
        let first = at == 0;
        let entry = &mut self.entries[at];
        let proves = first && entry.leader_generation == self.leader_generation;
        if class != Class::Success {
            entry.last_error = Some(error.to_string().into());
        }
        match class {
            Class::Success => {
                self.proven |= proves;
                self.last_success = Some(now);
                let settlement = Settlement::Acked {
                    base_offset,
                    log_append_time,
                };
                self.remove(at, settlement, effects);
            }
            #[cfg(test)]
            Class::Duplicate if planted::is(Bug::DuplicateFails) => {
                let fate = Unconfirmed::NotWritten(Reason::Broker(error));
                self.remove_with_hole(at, Settlement::Failed(fate), effects);
            }
            Class::Duplicate if entry.unresolved => {
                self.proven |= proves;
                self.last_success = Some(now);
                let base_offset = base_offset.filter(|offset| *offset >= 0);
                let settlement = Settlement::Acked {
                    base_offset,
                    log_append_time,
                };
                self.remove(at, settlement, effects);
            }
            Class::Duplicate => {
                tracing::error!("the broker calls a batch a duplicate that was never sent before");
                entry.doubt();
                self.fail(at, Reason::Broker(error), effects);
            }
            Class::Refused if !invalid.is_empty() && !entry.unresolved => {
                let settlement = Settlement::Invalid {
                    error,
                    records: invalid.into(),
                };
                self.remove_with_hole(at, settlement, effects);
            }
            Class::Refused => self.fail(at, Reason::Broker(error), effects),
            Class::Doubtful => {
                entry.doubt();
                self.fail(at, Reason::Broker(error), effects);
            }
            Class::RefusedForNow => self.retry(at, Reason::Broker(error), now, effects),
            #[cfg(test)]
            Class::DoubtfulForNow if planted::is(Bug::DoubtIgnored) => {
                self.retry(at, Reason::Broker(error), now, effects);
            }
            Class::DoubtfulForNow => {
                entry.doubt();
                self.retry(at, Reason::Broker(error), now, effects);
            }
            Class::TooLarge => self.split(at, error, effects),
            // Behind an earlier batch that has to go first, these two say nothing new.
            Class::OutOfOrder | Class::IdentityLost if !first => {
                self.retry(at, Reason::Broker(error), now, effects);
            }
            Class::OutOfOrder | Class::IdentityLost
                if entry.unresolved || !self.rules.idempotent =>
            {
                self.fail(at, Reason::Broker(error), effects);
            }
            Class::OutOfOrder | Class::IdentityLost => {
                self.retry(at, Reason::Broker(error), now, effects);
                self.break_line(effects);
            }
        }
    }

    /// The batch at `at` is to be tried again, if it still may.
    fn retry(&mut self, at: usize, reason: Reason, now: Instant, effects: &mut Effects) {
        self.proven = false;
        let backoff = self.backoff(&self.entries[at]);
        let entry = &mut self.entries[at];
        if entry.batch.is_settled() || entry.attempts > self.rules.retries {
            return self.fail(at, reason, effects);
        }
        entry.not_before = Some(now + backoff);
        #[cfg(test)]
        if planted::is(Bug::RetryBehind) {
            let retried = self.entries.remove(at);
            self.entries.extend(retried);
        }
    }

    /// Exponential from `retry.backoff.ms` to `retry.backoff.max.ms`, give or take a fifth (KIP-580).
    fn backoff(&self, entry: &Entry) -> Duration {
        let doublings = entry.attempts.saturating_sub(1).min(16);
        let backoff = self
            .rules
            .backoff
            .saturating_mul(1 << doublings)
            .min(self.rules.backoff_max);
        // The batch's number is as good a die as any, and the same in every replay.
        let die = (entry.id.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(entry.attempts)) >> 48;
        backoff.mul_f64(0.8 + 0.4 * die as f64 / 65_536.0)
    }

    /// The batch at `at` ends unconfirmed.
    pub(super) fn fail(&mut self, at: usize, reason: Reason, effects: &mut Effects) {
        let fate = match self.entries[at].unresolved {
            true => Unconfirmed::Unknown(reason),
            false => Unconfirmed::NotWritten(reason),
        };
        self.remove_with_hole(at, Settlement::Failed(fate), effects);
    }

    pub(super) fn remove(&mut self, at: usize, settlement: Settlement, effects: &mut Effects) {
        if let Some(entry) = self.entries.get_mut(at) {
            effects.settled.extend(entry.settle(settlement));
        }
        if at == 0 && self.entries.len() == 1 {
            // It begins in front again: most ledgers hold one batch, whose place stays in the cache.
            self.entries.clear();
        } else {
            self.entries.remove(at);
        }
    }

    /// Removes a batch whose sequences the broker may never see. If none follow they are used
    /// again; otherwise the line is broken.
    fn remove_with_hole(&mut self, at: usize, settlement: Settlement, effects: &mut Effects) {
        let entry = &self.entries[at];
        let (stamp, unresolved, count) = (entry.stamp, entry.unresolved, entry.batch.count());
        self.remove(at, settlement, effects);
        if let Some(stamp) = stamp {
            let last = sequence_after(stamp.sequence, count) == self.next_sequence;
            if last && !unresolved && !self.broken {
                self.next_sequence = stamp.sequence;
            } else {
                self.break_line(effects);
            }
        }
    }

    fn split(&mut self, at: usize, error: BrokerError, effects: &mut Effects) {
        self.proven = false;
        if self.entries[at].unresolved || self.entries[at].batch.is_settled() {
            return self.fail(at, Reason::Broker(error), effects);
        }
        let Some(whole) = self.entries.remove(at) else {
            return;
        };
        let stamp = whole.stamp;
        match whole.batch.split() {
            Ok([head, tail]) => {
                self.splits += 1;
                let next = stamp.map(|stamp| Stamp {
                    sequence: sequence_after(stamp.sequence, head.count()),
                    ..stamp
                });
                let (mut head, mut tail) = (self.entry(head, stamp), self.entry(tail, next));
                head.tokens.clone_from(&whole.tokens);
                tail.tokens = whole.tokens;
                self.entries.insert(at, tail);
                self.entries.insert(at, head);
            }
            Err(batch) => {
                let entry = Entry {
                    batch: *batch,
                    ..whole
                };
                self.entries.insert(at, entry);
                self.fail(at, Reason::Broker(error), effects);
            }
        }
    }
}
