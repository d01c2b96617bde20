//! Every sealed batch of a partition, from its sealing to its outcome.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::ack::Settlement;
use crate::batch::{HEADER_LEN, Payload, SealedBatch, Settled, Stamp, Token};
use crate::broker_error::{BrokerError, Class, asks_for_metadata, class_of};
use crate::compress::{Compression, Compressor};
use crate::identity::{Identity, sequence_after};
use crate::outcome::{Reason, Undelivered};

/// What the configuration says of a partition's batches.
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
    /// Times its bytes went to a socket.
    attempts: u32,
    /// An attempt ended in a way that leaves open whether the batch is in the log. Sticky.
    unresolved: bool,
    stamp: Option<Stamp>,
    /// The ledger's reign when it was lent last.
    reign: u32,
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
    rules: Rules,
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
    reign: u32,
    last_success: Option<Instant>,
    /// Attempts after a batch's first, and batches that were split.
    pub retried: u64,
    pub splits: u64,
}

impl Ledger {
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            entries: VecDeque::new(),
            next_id: 0,
            lent: 0,
            identity: None,
            newer: None,
            left: None,
            next_sequence: 0,
            broken: false,
            proven: false,
            reign: 0,
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
            attempts: 0,
            unresolved: false,
            stamp,
            reign: 0,
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
        let one_at_a_time = self.rules.idempotent && !self.proven;
        let window = if one_at_a_time {
            1
        } else {
            self.rules.max_in_flight
        };
        self.lent < window && !self.broken
    }

    fn may_go(&self, entry: &Entry) -> bool {
        !self.rules.idempotent
            || entry.stamp.is_some()
            || (self.identity.is_some() && self.newer.is_none())
    }

    /// Whether a batch waits for an identity that nobody has asked for yet.
    pub fn wants_identity(&self) -> bool {
        self.rules.idempotent && self.identity.is_none() && self.newer.is_none()
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
            reign,
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
        entry.lent = true;
        entry.reign = *reign;
        entry.not_before = None;
        entry.attempts += 1;
        self.retried += u64::from(entry.attempts > 1);
        self.lent += 1;
        let (id, count, again) = (entry.id, entry.batch.count(), entry.attempts > 1);
        Some(Lent {
            id,
            header,
            records,
            count,
            again,
        })
    }

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
                let fate = Undelivered::Unknown(Reason::NotRequested);
                self.remove(at, Settlement::Failed(fate), &mut effects);
            }
            Report::Returned { written, error } => {
                effects.refresh_metadata = true;
                let entry = &mut self.entries[at];
                entry.last_error = Some(Arc::clone(&error));
                if written {
                    entry.doubt();
                    self.again(at, Reason::Connection(error), now, &mut effects);
                } else {
                    entry.attempts -= 1;
                    if entry.batch.is_settled() {
                        self.fail(at, Reason::Connection(error), &mut effects);
                    }
                    self.unstamp_tail();
                }
            }
        }
        self.renew(&mut effects);
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
        let first = at == 0;
        let entry = &mut self.entries[at];
        let proves = first && entry.reign == self.reign;
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
            Class::RefusedForNow => self.again(at, Reason::Broker(error), now, effects),
            Class::DoubtfulForNow => {
                entry.doubt();
                self.again(at, Reason::Broker(error), now, effects);
            }
            Class::TooLarge => self.split(at, error, effects),
            // Behind an earlier batch that has to go first, these two say nothing new.
            Class::OutOfOrder | Class::IdentityLost if !first => {
                self.again(at, Reason::Broker(error), now, effects);
            }
            Class::OutOfOrder | Class::IdentityLost
                if entry.unresolved || !self.rules.idempotent =>
            {
                self.fail(at, Reason::Broker(error), effects);
            }
            Class::OutOfOrder | Class::IdentityLost => {
                self.again(at, Reason::Broker(error), now, effects);
                self.break_line(effects);
            }
        }
    }

    /// The batch at `at` is to be tried again, if it still may.
    fn again(&mut self, at: usize, reason: Reason, now: Instant, effects: &mut Effects) {
        self.proven = false;
        let backoff = self.backoff(&self.entries[at]);
        let entry = &mut self.entries[at];
        if entry.batch.is_settled() || entry.attempts > self.rules.retries {
            return self.fail(at, reason, effects);
        }
        entry.not_before = Some(now + backoff);
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
    fn fail(&mut self, at: usize, reason: Reason, effects: &mut Effects) {
        let fate = match self.entries[at].unresolved {
            true => Undelivered::Unknown(reason),
            false => Undelivered::NotWritten(reason),
        };
        self.remove_with_hole(at, Settlement::Failed(fate), effects);
    }

    fn remove(&mut self, at: usize, settlement: Settlement, effects: &mut Effects) {
        if let Some(mut entry) = self.entries.remove(at) {
            effects.settled.extend(entry.settle(settlement));
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

    fn break_line(&mut self, effects: &mut Effects) {
        if self.rules.idempotent && !std::mem::replace(&mut self.broken, true) {
            effects.bump = self.identity;
        }
    }

    /// Batches that never reached a socket give their sequences back, from the tail on.
    fn unstamp_tail(&mut self) {
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
            self.renew(&mut effects);
        }
        effects
    }

    /// Leaves the old identity behind as soon as nothing hangs on it any more.
    fn renew(&mut self, effects: &mut Effects) {
        if self.lent > 0 {
            return;
        }
        if self.broken {
            // Retried under the old identity these would be refused, under a new one they might
            // be written twice.
            while let Some(at) = self.entries.iter().position(|entry| entry.unresolved) {
                let last = self.entries[at].last_error.clone();
                let last = last.unwrap_or_else(|| "no answer".into());
                let fate = Undelivered::Unknown(Reason::AfterUnresolved(last));
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

    /// The leader or the topic's id has changed: what the new one accepts has to be seen first.
    pub fn rearm(&mut self) {
        self.proven = false;
        self.reign = self.reign.wrapping_add(1);
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
                let fate = Settlement::Failed(Undelivered::Unknown(reason));
                effects.settled.extend(entry.settle(fate));
                at += 1;
            } else {
                self.fail(at, reason, &mut effects);
            }
        }
        self.renew(&mut effects);
        effects
    }

    /// When the next batch without an outcome runs out of time.
    pub fn next_expiry(&self) -> Option<Instant> {
        let waiting = self.entries.iter().find(|entry| !entry.batch.is_settled());
        waiting.map(|entry| entry.batch.created_at() + self.rules.delivery_timeout)
    }

    /// Something stands in the way of all batches; a time-out carries it.
    pub fn note(&mut self, error: &Arc<str>) {
        for entry in &mut self.entries {
            entry.last_error.get_or_insert_with(|| Arc::clone(error));
        }
    }

    /// Settles everything at once: the producer closes.
    pub fn abandon(&mut self) -> Effects {
        let mut effects = Effects::default();
        for mut entry in std::mem::take(&mut self.entries) {
            let reason = Reason::Closed {
                last: entry.last_error.take(),
            };
            let fate = match entry.lent || entry.unresolved {
                true => Undelivered::Unknown(reason),
                false => Undelivered::NotWritten(reason),
            };
            effects
                .settled
                .extend(entry.settle(Settlement::Failed(fate)));
        }
        self.lent = 0;
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
