//! The ledger of a partition: all its sealed batches, from sealing to outcome. It decides which
//! batch is sent next, with which sequence number, and what becomes of it.

mod aging;
mod answers;
mod backlog;
mod doubts;
mod entry;
mod line;
mod parked;
mod recreated;
mod resolving;
mod resuming;
mod spooled;
mod spooling;
mod transaction;

pub use backlog::{Backlog, ReadBack};
pub use entry::Appended;
pub use spooled::{Record, Resuming, Spools};
pub use transaction::Joining;

use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::core::ack::Settlement;
use crate::core::batch::{HEADER_LEN, SealedBatch, Settled, Stamp, Token};
use crate::core::broker_error::BrokerError;
use crate::core::compress::{Compression, Compressor};
use crate::core::identity::{Identity, sequence_after};
use crate::core::memory::Buffer;
use crate::core::outcome::{Reason, Unconfirmed};
use crate::core::security::SecurityError;
use crate::core::transaction::Scope;
use crate::core::wire::TransactionProtocol;

use doubts::Doubts;
use entry::{Entry, age};
use spooled::Spooled;

/// The configuration that applies to the batches of all partitions.
#[derive(Debug, Clone)]
pub struct Rules {
    pub idempotent: bool,
    /// Batches are part of transactions.
    pub transactional: bool,
    /// How many batches of one partition may be in flight.
    pub max_in_flight: usize,
    /// Attempts after the first.
    pub retries: u32,
    pub backoff: Duration,
    pub backoff_max: Duration,
    pub delivery_timeout: Duration,
    /// How long brokers remember a producer, by the timestamps of its records.
    pub producer_expiration: Duration,
    pub codec: Compression,
    /// What would be told *unknown* is looked for in the log first, for so long past `delivery_timeout`.
    pub resolve: Option<Duration>,
    /// What a former producer may have written is sent again where the log cannot tell.
    pub resends: bool,
}

/// After a silence of this length the broker may have forgotten the producer, so one batch is lent
/// at a time until a success. That costs one round trip. Brokers can be told to forget sooner than
/// [`Rules::producer_expiration`] says. The clock that measures waits may stand still while the machine is
/// suspended, and the other one may be set back. So either of them counts.
const SILENCE: Duration = Duration::from_secs(5 * 60);

/// Why a batch that is still lent at the end was not looked for.
const UNANSWERED: &str =
    "forebay.unknown.resolve.timeout.ms ran out before its last request was answered or given up";

/// A batch lent to a sender.
#[derive(Debug)]
pub struct Lent {
    pub id: u64,
    pub header: [u8; HEADER_LEN],
    pub records: Arc<Buffer>,
    pub count: i32,
    /// This is not the batch's first attempt.
    pub again: bool,
    /// What the batch's transaction speaks, if it is part of one.
    pub protocol: Option<TransactionProtocol>,
    /// Held by the loan, and then by the message that reports on it: see [`Ledger::recover`].
    pub alive: Arc<()>,
}

/// What a sender reports on a batch that was lent to it.
#[derive(Debug)]
pub enum Report {
    /// The broker responded.
    Answered(Attempt),
    /// There is no response. Unless `written`, no byte of the batch reached the socket.
    Returned { written: bool, error: Arc<str> },
    /// `acks=0`: the bytes are written to the kernel, and no response will come.
    Unasked,
}

/// The broker's response for one batch.
#[derive(Debug)]
pub struct Attempt {
    pub error: BrokerError,
    pub base_offset: Option<i64>,
    pub log_append_time: Option<i64>,
    /// The records that the broker finds invalid: (index in the batch, reason).
    pub invalid: Vec<(u32, Arc<str>)>,
}

/// What has to be done outside the ledger.
#[derive(Debug, Default)]
#[must_use]
pub struct Effects {
    /// Batches whose outcome is known. Their listeners and callbacks have to be told.
    pub settled: Vec<Settled>,
    /// The metadata may be out of date.
    pub refresh_metadata: bool,
    /// The first batch of its transaction whose place in a log is known.
    pub witness: Option<Appended>,
    /// Since when batches were in doubt of which the log tells now whether they are there.
    pub resolved: Vec<Instant>,
    /// Outcomes that the spool's journal has to have.
    pub records: Vec<Record>,
    /// Records that may be in a part of the log that nobody can read are sent again, and why.
    pub resent: Option<(Arc<str>, Vec<Range<u64>>)>,
    /// So many of them are not, and why it is not known whether they are there.
    pub unknown: Option<(u64, Arc<str>)>,
    /// Records of a former producer that the disk has lost.
    pub lost: u64,
}

/// Whether a batch can be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    Now,
    At(Instant),
    /// Not before something else happens: a response, an identity, or another batch.
    No,
}

/// All sealed batches of a partition without an outcome, in the order of their records, which is
/// the order of their sequence numbers. A batch keeps its place while it is lent. So a retry is at
/// its place without being moved.
///
/// Invariants:
/// - batches with a stamp come before those without, and their sequence numbers have no gaps;
/// - a batch with an unresolved attempt never gets another stamp and never ends as `NotWritten`;
/// - only the first batch that is not lent can be taken, so no batch overtakes a retry;
/// - a batch is removed only with its outcome. A lent batch stays even when it has expired.
#[derive(Debug)]
pub struct Ledger {
    rules: Rc<Rules>,
    /// Up to this age of its last records a producer is certainly remembered by brokers. A batch takes
    /// time to arrive, and clocks differ: for a day that is an hour.
    safe_age: Duration,
    entries: VecDeque<Entry>,
    next_id: u64,
    lent: usize,
    identity: Option<Identity>,
    /// The transaction that the identity was given for. Batches of another have to ask for theirs.
    scope: Option<Arc<Scope>>,
    /// The last identity that the ledger left because its sequence numbers had a gap. It must not
    /// be used again, even if a late message brings it: its sequence numbers are used, and batches
    /// that start again at 0 would look like duplicates.
    left: Option<Identity>,
    next_sequence: i32,
    /// The sequence numbers have a gap, or the broker does not remember them. No batch is taken
    /// until all lent ones are back. Then the numbers start again under another identity.
    broken: bool,
    /// Since the last error, the present leader has accepted a batch under the present identity.
    /// Until then one batch is lent at a time: a broker accepts any first sequence number, so a
    /// second batch could be written before a retry of the first.
    proven: bool,
    /// Counts the changes of the leader. A success from an earlier leader proves nothing about the
    /// present one.
    leader_generation: u32,
    /// Until then, by either clock, the broker remembers the producer for sure, by the last success.
    remembered_until: Option<(Instant, i64)>,
    /// The topic's records get the broker's time: the last response to a first attempt gave one.
    append_times: bool,
    /// The last [`wall_clock`](Self::wall_clock).
    wall: i64,
    doubts: Doubts,
    /// Set if its batches are in the spool.
    spooled: Option<Box<Spooled>>,
    /// Attempts after the first, of all batches.
    pub retried: u64,
    /// Batches that were split.
    pub splits: u64,
}

impl Ledger {
    pub fn new(rules: impl Into<Rc<Rules>>) -> Self {
        let rules: Rc<Rules> = rules.into();
        Self {
            safe_age: rules.producer_expiration - rules.producer_expiration / 24,
            rules,
            entries: VecDeque::new(),
            next_id: 0,
            lent: 0,
            identity: None,
            scope: None,
            left: None,
            next_sequence: 0,
            broken: false,
            proven: false,
            leader_generation: 0,
            remembered_until: None,
            append_times: false,
            wall: i64::MIN,
            doubts: Doubts::default(),
            spooled: None,
            retried: 0,
            splits: 0,
        }
    }

    /// It is `wall`, in milliseconds since 1970. To be called before batches are added or taken.
    pub fn wall_clock(&mut self, wall: i64) {
        self.wall = wall;
    }

    /// Adds a batch at the end.
    pub fn push(&mut self, batch: SealedBatch) {
        let Some((batch, position)) = self.spool_batch(batch) else {
            return;
        };
        let entry = self.entry(batch, None, position);
        self.entries.push_back(entry);
    }

    fn entry(&mut self, batch: SealedBatch, stamp: Option<Stamp>, position: u64) -> Entry {
        self.next_id += 1;
        Entry {
            id: self.next_id,
            position,
            age: age(self.wall, batch.max_timestamp()),
            batch,
            lent: false,
            loan: Weak::new(),
            attempts: 0,
            unresolved: false,
            stamp,
            leader_generation: 0,
            not_before: None,
            floor: None,
            overdue: None,
            last_error: None,
            security: None,
            tokens: Vec::new(),
        }
    }

    /// Whether [`take`](Self::take) would give a batch.
    pub fn readiness(&self, now: Instant) -> Readiness {
        match self.entries.iter().find(|entry| !entry.lent) {
            Some(entry) if self.has_room(now) && self.may_go(entry) => match entry.not_before {
                Some(at) if at > now => Readiness::At(at),
                _ => Readiness::Now,
            },
            _ => Readiness::No,
        }
    }

    /// Whether another batch could be lent in addition to those that are.
    pub fn has_room(&self, now: Instant) -> bool {
        let alone = || !self.proven || self.may_be_forgotten(now) || self.goes_alone();
        // Batches are looked at last, and only where that decides.
        !self.broken
            && self.lent < self.rules.max_in_flight
            && (self.lent == 0 || !self.rules.idempotent || !alone())
    }

    /// Whether so much time has passed since the last success that the broker may have forgotten the
    /// producer.
    fn may_be_forgotten(&self, now: Instant) -> bool {
        self.remembered_until
            .is_some_and(|(until, wall)| now > until || self.wall > wall)
    }

    /// Whether nothing may be lent besides a batch that is. One may be in doubt. Or one of them, or the
    /// next, is old: once a broker has appended that one, it may forget the producer at any time, as after
    /// a silence. It would then append a retry of the batch before a second time. And if it refused the
    /// batch behind, it would accept the one behind that.
    fn goes_alone(&self) -> bool {
        let next = self.entries.iter().find(|entry| !entry.lent);
        let mut concerned = self.stamped().chain(next);
        concerned.any(|entry| entry.unresolved || self.is_old(entry))
    }

    /// Whether brokers may forget the producer at any time once they have appended the batch.
    fn is_old(&self, entry: &Entry) -> bool {
        entry.age > self.safe_age && !self.append_times
    }

    /// The batches that may have been lent.
    fn stamped(&self) -> impl Iterator<Item = &Entry> {
        let stamped = |entry: &&Entry| entry.stamp.is_some();
        self.entries.iter().take_while(stamped)
    }

    /// Whether some batch may be in the log already. A broker remembers the last five batches of a
    /// producer. If five more followed, it could not recognize a retry as a duplicate.
    pub fn is_in_doubt(&self) -> bool {
        self.stamped().any(|entry| entry.unresolved)
    }

    /// Lends the first batch that is not lent, with a stamp.
    pub fn take(&mut self, now: Instant, compressor: &mut Compressor) -> Option<Lent> {
        if self.readiness(now) != Readiness::Now {
            return None;
        }
        self.proven &= !self.may_be_forgotten(now);
        let Self {
            rules,
            entries,
            identity,
            next_sequence,
            leader_generation,
            doubts,
            ..
        } = self;
        let entry = entries.iter_mut().find(|entry| !entry.lent)?;
        entry.batch.compress(rules.codec, compressor);
        let stamp = match (entry.stamp, rules.idempotent) {
            (Some(stamp), _) => stamp,
            (None, false) => Stamp::NONE,
            (None, true) => {
                let Identity { producer_id, epoch } = (*identity)?;
                let stamp = Stamp {
                    producer_id,
                    epoch,
                    sequence: *next_sequence,
                    transactional: rules.transactional,
                };
                *next_sequence = sequence_after(*next_sequence, entry.batch.count());
                entry.stamp = Some(stamp);
                entry.floor = doubts.floor;
                stamp
            }
        };
        let (header, records) = entry.batch.stamped(stamp);
        entry.lent = true;
        entry.leader_generation = *leader_generation;
        entry.not_before = None;
        // A split brings its stamp.
        if entry.attempts == 0 {
            entry.floor = doubts.floor;
        }
        entry.attempts += 1;
        self.retried += u64::from(entry.attempts > 1);
        self.lent += 1;
        let end = entry.end();
        let alive = Arc::new(());
        entry.loan = Arc::downgrade(&alive);
        let (id, count, again) = (entry.id, entry.batch.count(), entry.attempts > 1);
        let protocol = entry.batch.scope().map(|scope| scope.protocol());
        self.note_sent(end);
        Some(Lent {
            id,
            header,
            records,
            count,
            again,
            protocol,
            alive,
        })
    }

    /// Settles every batch whose `delivery.timeout.ms` is over, and what was looked for long enough. A lent
    /// batch keeps its place. With a spool all of it has time.
    pub fn expire(&mut self, now: Instant) -> Effects {
        let mut effects = Effects::default();
        if self.is_spooled() {
            return self.expire_unspooled(now);
        }
        let timeout = self.rules.delivery_timeout;
        let mut at = 0;
        while let Some(entry) = self.entries.get_mut(at) {
            if now < entry.batch.created_at() + timeout {
                break;
            }
            let reason = entry.expired(timeout, now);
            if let (true, Some(resolve)) = (entry.lent, self.rules.resolve)
                && now < entry.batch.created_at() + timeout + resolve
            {
                entry.overdue.get_or_insert_with(|| Box::new(reason));
                at += 1;
            } else if entry.lent {
                let first = entry.overdue.take().map_or(reason, |it| *it);
                let reason = match self.rules.resolve {
                    None => first,
                    Some(_) => Reason::Unresolved {
                        first: Box::new(first),
                        why: UNANSWERED.into(),
                    },
                };
                let fate = Settlement::Failed(Unconfirmed::Unknown(reason));
                // The end of a transaction waits for the loan itself: it may still arrive.
                let kept = self
                    .rules
                    .transactional
                    .then(|| std::mem::take(&mut entry.tokens));
                effects.settled.extend(entry.settle(fate));
                entry.tokens.extend(kept.into_iter().flatten());
                at += 1;
            } else {
                self.fail(at, reason, &mut effects);
            }
        }
        self.leave_broken_line(&mut effects);
        self.expire_doubtful(now, &mut effects);
        effects
    }

    /// Settles doubtful batches that brokers may have forgotten at the time `wall`, in milliseconds
    /// since 1970. A broker drops a producer whose last batch has records older than
    /// `producer.id.expiration.ms`, at its next check or when it restarts. After that it appends a
    /// retry a second time. To be called before batches are taken while
    /// [`is_in_doubt`](Self::is_in_doubt).
    pub fn expire_doubts(&mut self, wall: i64) -> Effects {
        let mut effects = Effects::default();
        // Where the broker sets the timestamps, it goes by them, and they are new.
        if !self.rules.idempotent || self.append_times {
            return effects;
        }
        let (expiration, safe) = (self.rules.producer_expiration, self.safe_age);
        let mut at = 0;
        // Behind those with a stamp none is in doubt.
        while let Some(entry) = self.entries.get(at).filter(|entry| entry.stamp.is_some()) {
            let age = age(wall, entry.batch.max_timestamp());
            if entry.lent || !entry.unresolved || age < safe {
                at += 1;
                continue;
            }
            let last = entry.last_error.clone();
            let last = last.unwrap_or_else(|| "no answer".into());
            let reason = Reason::Forgotten {
                age,
                expiration,
                last,
            };
            self.fail(at, reason, &mut effects);
        }
        self.leave_broken_line(&mut effects);
        effects
    }

    /// When the next batch without an outcome expires.
    pub fn next_expiry(&self) -> Option<Instant> {
        if self.is_spooled() {
            return self.next_unspooled_expiry();
        }
        let mut waiting = self.entries.iter().filter(|it| !it.batch.is_settled());
        let end = |entry: &Entry| entry.batch.created_at() + self.rules.delivery_timeout;
        let first = match (waiting.next(), self.rules.resolve) {
            (Some(first), Some(resolve)) if first.overdue.is_some() => {
                let open = waiting.find(|it| it.overdue.is_none());
                let overdue = end(first) + resolve;
                Some(open.map_or(overdue, |open| overdue.min(end(open))))
            }
            (first, _) => first.map(end),
        };
        match self.has_doubts() {
            true => first.into_iter().chain(self.next_doubt_expiry()).min(),
            false => first,
        }
    }

    /// Repairs the counts after a panic. If neither a loan nor a message about it exists any more,
    /// the message was lost in the panic. Then it is unknown whether the batch was written and what
    /// the broker responded.
    pub fn recover(&mut self, now: Instant) -> Effects {
        self.lent = self.entries.iter().filter(|entry| entry.lent).count();
        let gone = |entry: &&Entry| entry.lent && entry.loan.strong_count() == 0;
        let gone: Vec<u64> = self
            .entries
            .iter()
            .filter(gone)
            .map(|entry| entry.id)
            .collect();
        let mut effects = Effects::default();
        for id in gone {
            let error = "the answer was lost when the partition restarted".into();
            let written = true;
            effects.extend(self.report(id, Report::Returned { written, error }, now));
        }
        effects
    }

    /// Notes the last error that holds up all batches: for those that have expired, it is given as the
    /// cause. Without a time, for all of them. One that is lent is held up by nothing, and keeps what its
    /// own last attempt said.
    pub fn note(
        &mut self,
        error: &Arc<str>,
        security: Option<&Arc<SecurityError>>,
        expired: Option<Instant>,
    ) {
        let timeout = self.rules.delivery_timeout;
        let over = |entry: &&mut Entry| {
            expired.is_none_or(|now| now >= entry.batch.created_at() + timeout)
        };
        for entry in self.entries.iter_mut().take_while(over) {
            if !entry.lent || entry.last_error.is_none() {
                entry.last_error = Some(Arc::clone(error));
                entry.security = security.cloned();
            }
        }
    }

    /// Settles all batches at once, because the producer closes or the partition is given up. `why`
    /// makes the reason from a batch's last error.
    pub fn abandon(&mut self, why: impl Fn(Option<Arc<str>>) -> Reason) -> Effects {
        let mut effects = Effects::default();
        if self.entries.iter().any(|entry| entry.stamp.is_some()) {
            self.break_line();
        }
        self.keep_all(&why, &mut effects);
        for mut entry in std::mem::take(&mut self.entries) {
            let fate = entry.abandoned(&why);
            effects.settled.extend(entry.settle(fate));
        }
        self.lent = 0;
        self.leave_broken_line(&mut effects);
        effects
    }

    /// Adds `token` to every batch without an outcome. Its last clone is dropped when all of them
    /// were told their outcome. With transactions it is dropped when they have come back, too: until then
    /// one that expired may still arrive. Tokens that are `over`, because nobody waits any more, are dropped
    /// before there are twice as many.
    pub fn tie(&mut self, token: &Token, over: impl Fn(&Token) -> bool) {
        if self.is_spooled() {
            return self.tie_spooled(token, over);
        }
        let waits_for_loans = self.rules.transactional;
        let is_open =
            |entry: &&mut Entry| !entry.batch.is_settled() || waits_for_loans && entry.lent;
        let sought = self.doubts.entries_mut();
        for entry in self.entries.iter_mut().filter(is_open).chain(sought) {
            let tokens = &mut entry.tokens;
            // Not each time: many flushes may wait, and each of them for many batches.
            if tokens.len() == tokens.capacity() {
                tokens.retain(|other| !over(other));
                tokens.reserve(tokens.len().max(1));
            }
            tokens.push(Arc::clone(token));
        }
    }

    /// What the ledger holds.
    pub fn load(&self) -> Load {
        let open = self.entries.iter().filter(|it| !it.batch.is_settled());
        let waiting = self.doubts.entries().chain(self.ended()).chain(open);
        let mut load = Load {
            in_flight: self.lent,
            ..Load::default()
        };
        for entry in waiting {
            load.batches += 1;
            load.records += entry.batch.count().unsigned_abs() as usize;
            load.bytes += entry.batch.wire_len();
            let created = entry.batch.created_at();
            load.oldest = Some(load.oldest.map_or(created, |oldest| oldest.min(created)));
        }
        load
    }

    /// The number of batches, including lent ones and those that are looked for.
    pub fn len(&self) -> usize {
        self.entries.len() + self.doubts.len() + self.parked()
    }

    /// Whether every batch is lent, so that the next one to lend would be new.
    pub fn all_lent(&self) -> bool {
        self.entries.len() == self.lent
    }

    /// Whether any batch is lent to a sender.
    pub fn is_lent(&self) -> bool {
        self.lent > 0
    }
}

impl Effects {
    fn extend(&mut self, other: Self) {
        self.settled.extend(other.settled);
        self.refresh_metadata |= other.refresh_metadata;
        self.witness = self.witness.take().or(other.witness);
        self.records.extend(other.records);
        self.resent = self.resent.take().or(other.resent);
        self.lost += other.lost;
    }
}

impl Drop for Ledger {
    /// Bytes of the lent batches may have been written. If those batches are dropped without an
    /// outcome, their records are unknown.
    fn drop(&mut self) {
        for entry in self.entries.iter_mut().filter(|entry| entry.lent) {
            entry.batch.set_unresolved();
        }
    }
}

/// What a partition's ledger holds without an outcome.
#[derive(Debug, Clone, Copy, Default)]
pub struct Load {
    pub batches: usize,
    pub records: usize,
    pub bytes: usize,
    pub in_flight: usize,
    pub oldest: Option<Instant>,
}

#[cfg(test)]
mod tests;
