//! Every sealed batch of a partition, from its sealing to its outcome.

mod answers;
mod line;

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::core::ack::Settlement;
use crate::core::batch::{HEADER_LEN, Payload, SealedBatch, Settled, Stamp, Token};
use crate::core::broker_error::BrokerError;
use crate::core::compress::{Compression, Compressor};
use crate::core::identity::{Identity, sequence_after};
use crate::core::outcome::{Reason, Unconfirmed};
#[cfg(test)]
use crate::simulation::planted::{self, Bug};

/// What the configuration says of batches, for all partitions.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    pub idempotent: bool,
    /// Batches of one partition without an answer, at most.
    pub max_in_flight: usize,
    /// Attempts after the first.
    pub retries: u32,
    pub backoff: Duration,
    pub backoff_max: Duration,
    pub delivery_timeout: Duration,
    pub codec: Compression,
}

/// How long brokers remember a producer that is silent: `producer.id.expiration.ms`, its default.
const REMEMBERED: Duration = Duration::from_secs(24 * 60 * 60);

/// A batch lent to a sender.
#[derive(Debug)]
pub(crate) struct Lent {
    pub id: u64,
    pub header: [u8; HEADER_LEN],
    pub records: Arc<Payload>,
    pub count: i32,
    /// Not the batch's first attempt.
    pub again: bool,
    /// Held by whatever carries the loan or the news of it; see [`Ledger::recover`].
    pub alive: Arc<()>,
}

/// What a sender says of a batch that was lent to it.
#[derive(Debug)]
pub(crate) enum Report {
    /// The broker answered.
    Answered(Attempt),
    /// There is no answer. Unless `written`, no byte of the batch ever reached the socket.
    Returned { written: bool, error: Arc<str> },
    /// `acks=0`: the bytes are with the kernel and nothing more will be heard.
    Unasked,
}

/// A broker's answer to one batch.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub error: BrokerError,
    pub base_offset: Option<i64>,
    pub log_append_time: Option<i64>,
    /// The records the broker objects to: (index in the batch, why).
    pub invalid: Vec<(u32, Arc<str>)>,
}

/// What has to be done beside the ledger.
#[derive(Debug, Default)]
#[must_use]
pub(crate) struct Effects {
    /// Batches that have their outcome: whoever asked is to be told.
    pub settled: Vec<Settled>,
    /// The identity under which the partition cannot go on.
    pub bump: Option<Identity>,
    /// The cluster is not as we think.
    pub refresh_metadata: bool,
}

/// Whether a batch can be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Readiness {
    Now,
    At(Instant),
    /// Not before something else happens: an answer, an identity, another batch.
    No,
}

#[derive(Debug)]
struct Entry {
    id: u64,
    batch: SealedBatch,
    lent: bool,
    /// The loan, while it is lent.
    loan: Weak<()>,
    /// Times its bytes went to a socket.
    attempts: u32,
    /// An attempt ended in a way that leaves open whether the batch is in the log. Sticky.
    unresolved: bool,
    stamp: Option<Stamp>,
    /// The ledger's reign when it was lent last.
    leader_generation: u32,
    not_before: Option<Instant>,
    last_error: Option<Arc<str>>,
    tokens: Vec<Token>,
}

/// The deque: batches in the order of their records, which is the order of their sequences. A
/// batch keeps its place while it is lent, so a retry is at the head again without being moved.
///
/// Invariants:
/// - stamped batches stand before unstamped ones, their sequences without a gap;
/// - a batch with an unresolved attempt is never stamped anew and never `NotWritten`;
/// - only the first batch that is not lent can be taken, so nothing overtakes a retry;
/// - a batch leaves only with its outcome; while it is lent it stays, expired or not.
#[derive(Debug)]
pub(crate) struct Ledger {
    rules: Rc<Rules>,
    entries: VecDeque<Entry>,
    next_id: u64,
    lent: usize,
    identity: Option<Identity>,
    /// What new batches will be stamped with once the old identity's are resolved.
    newer: Option<Identity>,
    /// The identity under which the line broke. Others may still have it told to us, but its
    /// sequences are used: numbered from 0 again, batches would look like duplicates.
    left: Option<Identity>,
    next_sequence: i32,
    /// The line of sequences has a hole or the broker lost it: nothing is taken until what is lent
    /// has come back; then everything starts anew under another identity.
    broken: bool,
    /// The broker has accepted a batch under this identity, from this leader, since the last
    /// error. Until then one batch is lent at a time: brokers accept any first sequence, so a
    /// second one could get in before a retry of the first.
    proven: bool,
    /// Counts the leaders: what an earlier one accepts proves nothing of the present one.
    leader_generation: u32,
    last_success: Option<Instant>,
    /// Attempts after a batch's first, and batches that were split.
    pub retried: u64,
    pub splits: u64,
}

impl Ledger {
    pub fn new(rules: impl Into<Rc<Rules>>) -> Self {
        Self {
            rules: rules.into(),
            entries: VecDeque::new(),
            next_id: 0,
            lent: 0,
            identity: None,
            newer: None,
            left: None,
            next_sequence: 0,
            broken: false,
            proven: false,
            leader_generation: 0,
            last_success: None,
            retried: 0,
            splits: 0,
        }
    }

    /// Adds a batch at the tail.
    pub fn push(&mut self, batch: SealedBatch) {
        let entry = self.entry(batch, None);
        self.entries.push_back(entry);
    }

    fn entry(&mut self, batch: SealedBatch, stamp: Option<Stamp>) -> Entry {
        self.next_id += 1;
        Entry {
            id: self.next_id,
            batch,
            lent: false,
            loan: Weak::new(),
            attempts: 0,
            unresolved: false,
            stamp,
            leader_generation: 0,
            not_before: None,
            last_error: None,
            tokens: Vec::new(),
        }
    }

    /// Whether [`take`](Self::take) would give a batch.
    pub fn readiness(&self, now: Instant) -> Readiness {
        match self.entries.iter().find(|entry| !entry.lent) {
            Some(entry) if self.has_room() && self.may_go(entry) => match entry.not_before {
                Some(at) if at > now => Readiness::At(at),
                _ => Readiness::Now,
            },
            _ => Readiness::No,
        }
    }

    /// Whether another batch, once there is one, could be lent beside those that are.
    pub fn has_room(&self) -> bool {
        let one_at_a_time = self.rules.idempotent && (!self.proven || self.is_in_doubt());
        #[cfg(test)]
        let one_at_a_time = one_at_a_time && !planted::is(Bug::UnprovenPipelined);
        let window = if one_at_a_time {
            1
        } else {
            self.rules.max_in_flight
        };
        self.lent < window && !self.broken
    }

    /// Whether a batch may be in the log already. Brokers remember the last five of a producer: if
    /// five others followed it, its retry could not be recognised any more.
    fn is_in_doubt(&self) -> bool {
        let mut stamped = self
            .entries
            .iter()
            .take_while(|entry| entry.stamp.is_some());
        stamped.any(|entry| entry.unresolved)
    }

    /// Lends the first batch that is not lent, stamped.
    pub fn take(&mut self, now: Instant, compressor: &mut Compressor) -> Option<Lent> {
        if self
            .last_success
            .is_some_and(|last| now.duration_since(last) > REMEMBERED)
        {
            self.proven = false;
        }
        if self.readiness(now) != Readiness::Now {
            return None;
        }
        let Self {
            rules,
            entries,
            identity,
            next_sequence,
            leader_generation,
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
                };
                *next_sequence = sequence_after(*next_sequence, entry.batch.count());
                entry.stamp = Some(stamp);
                stamp
            }
        };
        let (header, records) = entry.batch.stamped(stamp);
        #[cfg(test)]
        planted::reuse(&header, &records);
        entry.lent = true;
        entry.leader_generation = *leader_generation;
        entry.not_before = None;
        entry.attempts += 1;
        self.retried += u64::from(entry.attempts > 1);
        self.lent += 1;
        let alive = Arc::new(());
        entry.loan = Arc::downgrade(&alive);
        let (id, count, again) = (entry.id, entry.batch.count(), entry.attempts > 1);
        Some(Lent {
            id,
            header,
            records,
            count,
            again,
            alive,
        })
    }

    /// Settles every batch whose `delivery.timeout.ms` has run out. A lent one keeps its place.
    pub fn expire(&mut self, now: Instant) -> Effects {
        let mut effects = Effects::default();
        let timeout = self.rules.delivery_timeout;
        let mut at = 0;
        while let Some(entry) = self.entries.get_mut(at) {
            if now < entry.batch.created_at() + timeout {
                break;
            }
            let reason = Reason::Expired {
                timeout,
                last: entry.last_error.clone(),
            };
            if entry.lent {
                let fate = Settlement::Failed(Unconfirmed::Unknown(reason));
                effects.settled.extend(entry.settle(fate));
                #[cfg(test)]
                planted::free(&entry.batch.stamped(entry.stamp.unwrap_or(Stamp::NONE)).1);
                at += 1;
            } else {
                self.fail(at, reason, &mut effects);
            }
        }
        self.switch_identity(&mut effects);
        effects
    }

    /// When the next batch without an outcome runs out of time.
    pub fn next_expiry(&self) -> Option<Instant> {
        let waiting = self.entries.iter().find(|entry| !entry.batch.is_settled());
        waiting.map(|entry| entry.batch.created_at() + self.rules.delivery_timeout)
    }

    /// Brings the counts in order after a panic. A loan of which nothing is left came back in the
    /// message that panicked: whether it was written, and what was answered, is not known any more.
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

    /// Something stands in the way of all batches; a time-out carries it.
    pub fn note(&mut self, error: &Arc<str>) {
        for entry in &mut self.entries {
            entry.last_error.get_or_insert_with(|| Arc::clone(error));
        }
    }

    /// Settles everything at once, because the producer closes or the partition is given up. `why`
    /// is handed the last error of each batch.
    pub fn abandon(&mut self, why: impl Fn(Option<Arc<str>>) -> Reason) -> Effects {
        let mut effects = Effects::default();
        if self.entries.iter().any(|entry| entry.stamp.is_some()) {
            self.break_line(&mut effects);
        }
        for mut entry in std::mem::take(&mut self.entries) {
            let reason = why(entry.last_error.take());
            let fate = match entry.lent || entry.unresolved {
                true => Unconfirmed::Unknown(reason),
                false => Unconfirmed::NotWritten(reason),
            };
            effects
                .settled
                .extend(entry.settle(Settlement::Failed(fate)));
        }
        self.lent = 0;
        self.switch_identity(&mut effects);
        effects
    }

    /// Ties `token` to every batch without an outcome: its last clone goes when all have theirs.
    pub fn tie(&mut self, token: &Token) {
        for entry in self
            .entries
            .iter_mut()
            .filter(|entry| !entry.batch.is_settled())
        {
            entry.tokens.push(Arc::clone(token));
        }
    }

    /// Batches and bytes without an outcome, and how many batches are lent.
    pub fn load(&self) -> Load {
        let waiting = self
            .entries
            .iter()
            .filter(|entry| !entry.batch.is_settled());
        let mut load = Load {
            in_flight: self.lent,
            ..Load::default()
        };
        for entry in waiting {
            load.batches += 1;
            load.records += entry.batch.count().unsigned_abs() as usize;
            load.bytes += entry.batch.wire_len();
            load.oldest = load.oldest.or(Some(entry.batch.created_at()));
        }
        load
    }

    /// How many batches there are, lent ones too.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether every batch there is is lent, so that the next one to go would be a new one.
    pub fn all_lent(&self) -> bool {
        self.entries.len() == self.lent
    }

    /// Whether anything is lent to a sender.
    pub fn is_lent(&self) -> bool {
        self.lent > 0
    }
}

impl Effects {
    fn extend(&mut self, other: Self) {
        self.settled.extend(other.settled);
        self.bump = self.bump.or(other.bump);
        self.refresh_metadata |= other.refresh_metadata;
    }
}

impl Drop for Ledger {
    /// The bytes of what is lent may have left: the batches' own drop guards have to know.
    fn drop(&mut self) {
        for entry in self.entries.iter_mut().filter(|entry| entry.lent) {
            entry.batch.set_unresolved();
        }
    }
}

/// What a partition holds.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Load {
    pub batches: usize,
    pub records: usize,
    pub bytes: usize,
    pub in_flight: usize,
    pub oldest: Option<Instant>,
}

impl Entry {
    fn settle(&mut self, settlement: Settlement) -> Option<Settled> {
        let mut settled = self.batch.settle(settlement)?;
        settled.tokens = std::mem::take(&mut self.tokens);
        Some(settled)
    }

    fn doubt(&mut self) {
        self.unresolved = true;
        self.batch.set_unresolved();
    }
}

#[cfg(test)]
mod tests;
