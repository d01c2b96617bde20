//! Decides what becomes of a batch that comes back from a sender: it is settled, retried, split, or
//! failed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Attempt, Effects, Entry, Ledger, Report, SILENCE};
use crate::core::ack::Settlement;
use crate::core::batch::Stamp;
use crate::core::broker_error::{BrokerError, Class, asks_for_metadata, class_of};
use crate::core::identity::{Identity, sequence_after};
use crate::core::outcome::{Reason, Unconfirmed};

impl Ledger {
    /// Handles the report on a lent batch.
    pub fn report(&mut self, id: u64, report: Report, now: Instant) -> Effects {
        let mut effects = Effects::default();
        // An abandoned batch has its outcome already.
        let Some(at) = self
            .entries
            .iter()
            .position(|entry| entry.id == id && entry.lent)
        else {
            return effects;
        };
        self.lent -= 1;
        self.entries[at].lent = false;
        if self.is_of_former(&self.entries[at]) {
            self.report_former(at, report, &mut effects);
            self.leave_broken_line(&mut effects);
            return effects;
        }
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
                    self.retry(at, Reason::Connection { why: error }, now, &mut effects);
                } else {
                    entry.attempts -= 1;
                    if entry.is_over() {
                        self.fail(at, Reason::Connection { why: error }, &mut effects);
                    }
                    self.unstamp_tail();
                }
            }
        }
        self.leave_broken_line(&mut effects);
        effects
    }

    fn answered(&mut self, at: usize, attempt: Attempt, now: Instant, effects: &mut Effects) {
        let Attempt {
            error,
            base_offset,
            log_append_time,
            invalid,
        } = attempt;
        effects.refresh_metadata = asks_for_metadata(error.code);
        let class = class_of(error.code);
        let (first, waits_out) = (at == 0, self.waits_out(&error));
        let entry = &mut self.entries[at];
        let proves = first && entry.leader_generation == self.leader_generation;
        if class != Class::Success {
            entry.last_error = Some(error.to_string().into());
        }
        match class {
            Class::Success => {
                self.acked(at, proves, (base_offset, log_append_time), now, effects);
            }
            Class::Duplicate if entry.unresolved => {
                let base_offset = base_offset.filter(|offset| *offset >= 0);
                self.acked(at, proves, (base_offset, log_append_time), now, effects);
            }
            Class::Duplicate => {
                tracing::error!("the broker calls a batch a duplicate that was never sent before");
                entry.doubt();
                self.fail(at, Reason::Broker(error), effects);
            }
            Class::Refused if waits_out => {
                self.retry(at, Reason::Broker(error), now, effects);
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
            Class::DoubtfulForNow => {
                entry.doubt();
                self.retry(at, Reason::Broker(error), now, effects);
            }
            Class::TooLarge => self.split(at, error, effects),
            // An earlier batch has to be retried first, and this error is a consequence of that. It
            // says nothing new.
            Class::OutOfOrder | Class::IdentityLost if !first => {
                self.retry(at, Reason::Broker(error), now, effects);
            }
            Class::OutOfOrder | Class::IdentityLost
                if entry.unresolved || !self.rules.idempotent || self.rules.transactional =>
            {
                self.fail(at, Reason::Broker(error), effects);
            }
            Class::OutOfOrder | Class::IdentityLost => {
                self.retry(at, Reason::Broker(error), now, effects);
                self.break_line();
            }
        }
    }

    /// The batch is in the log, and leaves. `told` is the append time in the broker's answer.
    fn acked(
        &mut self,
        at: usize,
        proves: bool,
        (base_offset, told): (Option<i64>, Option<i64>),
        now: Instant,
        effects: &mut Effects,
    ) {
        let log_append_time = self.append_time(at, told);
        let entry = &self.entries[at];
        // By its newest record, and if the broker sets the timestamps, that is new.
        let remembered = match self.append_times {
            true => self.safe_age,
            false => {
                let age = entry.age + now.saturating_duration_since(entry.batch.created_at());
                self.safe_age.saturating_sub(age)
            }
        };
        self.proven = (self.proven || proves) && !remembered.is_zero();
        let remembered = remembered.min(SILENCE);
        let wall = self.wall.saturating_add(remembered.as_millis() as i64);
        self.remembered_until = Some((now + remembered, wall));
        let settlement = Settlement::Acked {
            base_offset,
            log_append_time,
        };
        self.acked_at(at, base_offset);
        effects.witness = self.entries[at].appended(base_offset);
        self.remove(at, settlement, effects);
    }

    /// The time that the broker gave the records of an acked batch, `None` if they keep their own.
    ///
    /// To a duplicate a broker answers with the largest timestamp that the batch has in the log
    /// (`UnifiedLog.append`), also where it is the records' own.
    fn append_time(&mut self, at: usize, told: Option<i64>) -> Option<i64> {
        let entry = &self.entries[at];
        if !entry.unresolved {
            self.append_times = told.is_some();
            return told;
        }
        told.filter(|time| self.append_times || *time != entry.batch.max_timestamp())
    }

    /// Retries the batch at `at` after a backoff, or fails it if no attempt is left.
    fn retry(&mut self, at: usize, reason: Reason, now: Instant, effects: &mut Effects) {
        self.proven = false;
        let backoff = self.backoff(&self.entries[at]);
        let entry = &mut self.entries[at];
        let no_more = entry.attempts > self.rules.retries && self.spooled.is_none();
        if entry.is_over() || no_more {
            let reason = entry.overdue.as_deref().cloned().unwrap_or(reason);
            return self.fail(at, reason, effects);
        }
        entry.not_before = Some(now + backoff);
    }

    /// The wait before a retry: exponential from `retry.backoff.ms` to `retry.backoff.max.ms`, with
    /// a jitter of 20 % (KIP-580).
    fn backoff(&self, entry: &Entry) -> Duration {
        let doublings = entry.attempts.saturating_sub(1).min(16);
        let backoff = self
            .rules
            .backoff
            .saturating_mul(1 << doublings)
            .min(self.rules.backoff_max);
        // The jitter is a hash of the batch's number and attempts, so that a replay has the same
        // waits.
        let die = (entry.id.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(entry.attempts)) >> 48;
        backoff.mul_f64(0.8 + 0.4 * die as f64 / 65_536.0)
    }

    /// Fails the batch at `at`: its records are unknown or not written.
    pub(super) fn fail(&mut self, at: usize, reason: Reason, effects: &mut Effects) {
        if self.entries[at].unresolved && self.look_for(at, &reason) {
            return self.break_line();
        }
        let fate = match self.entries[at].unresolved {
            true => Unconfirmed::Unknown(reason),
            false => Unconfirmed::NotWritten(reason),
        };
        self.remove_with_hole(at, Settlement::Failed(fate), effects);
    }

    pub(super) fn remove(&mut self, at: usize, settlement: Settlement, effects: &mut Effects) {
        if self.is_spooled() {
            if let Some(entry) = self.entries.remove(at) {
                self.end_entry(entry, settlement, effects);
            }
            return;
        }
        if let Some(entry) = self.entries.get_mut(at) {
            effects.settled.extend(entry.settle(settlement));
        }
        if at == 0 && self.entries.len() == 1 {
            // Most ledgers hold one batch. `clear` makes the deque start at its first slot again,
            // which stays in the cache.
            self.entries.clear();
        } else {
            self.entries.remove(at);
        }
    }

    /// Removes a batch whose sequence numbers the broker may never see. If no stamped batch
    /// follows, its numbers are used again. Otherwise the numbers have a gap.
    pub(super) fn remove_with_hole(
        &mut self,
        at: usize,
        settlement: Settlement,
        effects: &mut Effects,
    ) {
        let entry = &self.entries[at];
        let (stamp, unresolved, count) = (entry.stamp, entry.unresolved, entry.batch.count());
        self.remove(at, settlement, effects);
        // One of a former transaction is of a line that is over.
        let is_of = |stamp: &Stamp, it: Identity| {
            (stamp.producer_id, stamp.epoch) == (it.producer_id, it.epoch)
        };
        let present = stamp.filter(|stamp| self.identity.is_some_and(|it| is_of(stamp, it)));
        if let Some(stamp) = present {
            let last = sequence_after(stamp.sequence, count) == self.next_sequence;
            if last && !unresolved && !self.broken {
                self.next_sequence = stamp.sequence;
            } else {
                self.break_line();
            }
        }
    }

    fn split(&mut self, at: usize, error: BrokerError, effects: &mut Effects) {
        self.proven = false;
        if self.entries[at].unresolved || self.entries[at].is_over() {
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
                let mut head = self.entry(head, stamp, whole.position);
                // Without a spool all have the same position, and are in the order of their names.
                let middle = match self.is_spooled() {
                    true => head.end(),
                    false => head.position,
                };
                let mut tail = self.entry(tail, next, middle);
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
