//! What is different for a partition whose batches are in the spool.
//!
//! Nothing of it expires or fails for want of an answer: it waits, on disk. What ends otherwise than acked
//! is told when the spool's journal has it, so that no later producer sends what the application was told
//! to send again.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use super::backlog::{Backlog, ReadBack};
use super::spooled::{EndedPart, Record, Resuming, Spooled, Spools};
use super::{Effects, Entry, Ledger};
use crate::core::ack::Settlement;
use crate::core::batch::{SealedBatch, Settled, Token};
use crate::core::broker_error::BrokerError;
use crate::core::outcome::{Reason, Unconfirmed};
use crate::core::spool::{Fate, Line, Settled as Positions};

impl Ledger {
    /// Has its batches in the spool from now on. Those that come have positions from `next` on, and behind
    /// the backlog.
    ///
    /// With `Spools::Synced` [`set_durable`](Self::set_durable) says what is on the disk.
    pub fn spool(&mut self, partition: i32, next: u64, backlog: Backlog, spools: Spools) {
        self.spooled = Some(Box::new(Spooled {
            partition,
            spools,
            next,
            line: None,
            sent: 0,
            written: next,
            durable: match spools {
                Spools::Synced => next,
                Spools::Accepted | Spools::Spilled(_) => u64::MAX,
            },
            doubted: Positions::default(),
            backlog,
            resuming: Resuming::default(),
            ended: Vec::new(),
            ended_parts: Vec::new(),
            former: 0,
            tied: Vec::new(),
        }));
    }

    pub fn is_spooled(&self) -> bool {
        self.spooled.is_some()
    }

    /// The batch comes from the stage. Gives it back if it is to be sent from memory, with its position.
    pub(super) fn spool_batch(&mut self, mut batch: SealedBatch) -> Option<(SealedBatch, u64)> {
        let Some(spooled) = &mut self.spooled else {
            return Some((batch, 0));
        };
        if !spooled.spills() {
            batch.set_spooled();
        }
        let position = spooled.next;
        spooled.next += u64::from(batch.count().unsigned_abs());
        if spooled.backlog.is_empty() {
            return Some((batch, position));
        }
        spooled.backlog.push_back(position, batch);
        None
    }

    /// Lets go of the bytes of batches that were never sent. Those that the spool does not have are written
    /// to it before, as far as it has space. One that is looked for may have to be sent again, so what comes
    /// before it stays.
    ///
    /// Returns the positions that were passed over, which nothing in the spool has.
    pub fn spill(&mut self, mut write: impl FnMut(u64, &SealedBatch) -> bool) -> Vec<Range<u64>> {
        let mut passed = Vec::new();
        let Some(spooled) = &mut self.spooled else {
            return passed;
        };
        let sought = self.doubts.entries().map(|entry| entry.position).max();
        let waits =
            |entry: &Entry| !entry.lent && entry.stamp.is_none() && Some(entry.position) > sought;
        while self.entries.back().is_some_and(waits) {
            if let Some(entry) = self.entries.pop_back() {
                spooled.backlog.push_front(entry.position, entry.batch);
            }
        }
        if !spooled.spills() {
            return passed;
        }
        let Spooled {
            backlog,
            line,
            written,
            ..
        } = &mut **spooled;
        backlog.write(|position, batch| {
            let is_written = write(position, batch);
            if is_written {
                batch.set_spooled();
                let end = position + u64::from(batch.count().unsigned_abs());
                if *written < position {
                    passed.push(*written..position);
                    // A resume would read the log from where that one says, and much was acked since.
                    *line = None;
                }
                *written = end.max(*written);
            }
            is_written
        });
        passed
    }

    /// Takes what waits in the backlog and is in memory, once it is its turn.
    pub fn take_held(&mut self) {
        if !self.is_spooled() || self.waits_for_doubts() || self.surveys() {
            return;
        }
        while let Some(spooled) = &mut self.spooled
            && let Some((position, batch)) = spooled.backlog.take_held()
        {
            let entry = self.entry(batch, None, position);
            self.entries.push_back(entry);
        }
    }

    /// Since when the first batch waits that was never sent.
    pub fn waits_since(&self) -> Option<Instant> {
        let unsent = |entry: &&Entry| !entry.lent && entry.stamp.is_none();
        self.entries
            .iter()
            .find(unsent)
            .map(|entry| entry.batch.created_at())
    }

    /// Where to read back from, and how many records at most: batches wait on disk, and those in memory will
    /// soon be gone.
    pub fn wants_back(&self) -> Option<(u64, u64)> {
        let spooled = self.spooled.as_ref()?;
        let unlent = self.entries.len() - self.lent;
        if unlent >= self.rules.max_in_flight || self.waits_for_doubts() || self.surveys() {
            return None;
        }
        spooled.backlog.next()
    }

    /// Takes what was read back. Returns whether it was what comes next.
    pub fn read_back(&mut self, read: ReadBack, now: Instant) -> bool {
        let Some(spooled) = &mut self.spooled else {
            return false;
        };
        let position = read.position;
        let Some(batch) = spooled.backlog.take(read, spooled.partition, now) else {
            return false;
        };
        let entry = self.entry(batch, None, position);
        self.entries.push_back(entry);
        true
    }

    /// All records from `from` on that are before this position have their outcome, or are not in the spool.
    pub fn open_from(&self, from: u64) -> u64 {
        let Some(spooled) = &self.spooled else {
            return 0;
        };
        let parts = spooled.ended_parts.iter().map(|part| part.position);
        let open = self.entries.iter().chain(self.ended());
        let open = open.chain(self.doubts.entries());
        let open = open.filter(|entry| entry.batch.is_spooled());
        let open = open.map(|entry| entry.position).chain(parts);
        let open = open.chain(spooled.backlog.first_spooled());
        let open = open.filter(|position| *position >= from);
        open.min().unwrap_or(spooled.next)
    }

    /// Batches that wait on disk, or for the journal; those on disk count as one.
    pub(super) fn parked(&self) -> usize {
        let parked = |spooled: &Spooled| {
            spooled.ended.len()
                + spooled.ended_parts.len()
                + usize::from(!spooled.backlog.is_empty())
        };
        self.spooled.as_deref().map_or(0, parked)
    }

    /// The disk has lost these records.
    pub fn lose(&mut self, lost: Range<u64>) -> Effects {
        let mut effects = Effects::default();
        let Some(spooled) = &mut self.spooled else {
            return effects;
        };
        let count = lost.end - lost.start;
        let (parts, batches) = spooled.backlog.lose(lost);
        effects.lost = count;
        let fate = || Settlement::Failed(Unconfirmed::NotWritten(Reason::Damaged));
        for (position, count, listeners) in parts {
            let record = Record::new(position, count as i32, Fate::NotWritten);
            effects.records.push(record);
            let mut settled = Settled::unheard(spooled.partition, count, fate(), &listeners);
            spooled.tie_to(position, &mut settled);
            effects.settled.push(settled);
        }
        for (position, batch) in batches {
            let entry = self.entry(batch, None, position);
            self.end_entry(entry, fate(), &mut effects);
        }
        self.untie();
        effects
    }

    /// What waits on disk, in records.
    #[cfg(test)]
    pub fn backlog(&self) -> u64 {
        self.spooled
            .as_ref()
            .map_or(0, |spooled| spooled.backlog.records())
    }

    /// Up to where records came that may not be on the disk yet, and have to be.
    pub fn not_durable(&self) -> Option<u64> {
        let spooled = self.spooled.as_ref()?;
        (spooled.durable < spooled.next).then_some(spooled.next)
    }

    /// All before this position is on the disk.
    pub fn set_durable(&mut self, position: u64) {
        if let Some(spooled) = &mut self.spooled {
            spooled.durable = spooled.durable.max(position);
        }
    }

    /// The disk may not have these.
    pub fn doubt(&mut self, positions: Range<u64>) {
        if let Some(spooled) = &mut self.spooled {
            spooled.doubted.add(positions, 0);
        }
    }

    pub(super) fn is_durable(&self, entry: &Entry) -> bool {
        self.spooled
            .as_ref()
            .is_none_or(|spooled| entry.end() <= spooled.durable)
    }

    /// The line that the journal needs before the next batch may be sent.
    pub fn wants_line(&self) -> Option<Line> {
        let spooled = self.spooled.as_ref()?;
        let (identity, floor) = (self.identity?, self.doubts.floor?);
        if self.broken || self.awaits_fence() || self.waits_for_doubts() || self.surveys() {
            return None;
        }
        let position = match self.first_unnumbered() {
            Some(entry) if self.ends_fence(entry) || !entry.batch.is_spooled() => return None,
            Some(entry) => entry.position,
            // What comes next need not be in the spool.
            None if spooled.spills() && spooled.backlog.next().is_none() => return None,
            None => spooled.backlog.first().unwrap_or(spooled.next),
        };
        (!self.line_serves(position)).then_some(Line {
            identity,
            sequence: self.next_sequence,
            position,
            floor,
            sent: spooled.sent.max(position),
        })
    }

    /// The batch that ends here has its sequence numbers.
    pub(super) fn note_sent(&mut self, end: u64) {
        if let Some(spooled) = &mut self.spooled {
            spooled.sent = spooled.sent.max(end);
        }
    }

    /// The journal has this line.
    pub fn set_line(&mut self, line: Line) {
        // One that was asked for in another slot says nothing of this one.
        if let Some(spooled) = &mut self.spooled
            && line.position >= spooled.former
        {
            spooled.line = Some(line);
        }
    }

    /// Whether the journal says which sequence number a batch at this position has.
    pub(super) fn line_serves(&self, position: u64) -> bool {
        let Some(spooled) = &self.spooled else {
            return true;
        };
        spooled.line.is_some_and(|line| {
            Some(line.identity) == self.identity
                && line.sequence_at(position) == Some(self.next_sequence)
        })
    }

    /// Whether this refusal is waited out: an ACL can be given.
    pub(super) fn waits_out(&self, error: &BrokerError) -> bool {
        self.is_spooled() && error.missing_acl().is_some()
    }

    /// The batch has its outcome. What the journal has to have first is told later.
    pub(super) fn end_entry(
        &mut self,
        mut entry: Entry,
        settlement: Settlement,
        effects: &mut Effects,
    ) {
        let Some(spooled) = &mut self.spooled else {
            effects.settled.extend(entry.settle(settlement));
            return;
        };
        if entry.batch.is_settled() {
            return;
        }
        if !entry.batch.is_spooled() {
            return self.settle_spooled(entry, settlement, effects);
        }
        let Some(record) = record_of(entry.position, entry.batch.count(), &settlement) else {
            return self.settle_spooled(entry, settlement, effects);
        };
        let fate = record.fate;
        effects.records.push(record);
        match fate {
            Fate::Acked(_) => self.settle_spooled(entry, settlement, effects),
            _ => spooled.ended.push((entry, settlement)),
        }
    }

    fn settle_spooled(&mut self, mut entry: Entry, settlement: Settlement, effects: &mut Effects) {
        let position = entry.position;
        let Some(mut settled) = entry.settle(settlement) else {
            return;
        };
        if let Some(spooled) = &self.spooled {
            spooled.tie_to(position, &mut settled);
        }
        effects.settled.push(settled);
        self.untie();
    }

    /// Those who wait only for what has its outcome wait until that was told.
    pub(super) fn untie(&mut self) {
        let first = self.first_unsettled();
        if let Some(spooled) = &mut self.spooled {
            spooled
                .tied
                .retain(|(end, _)| first.is_some_and(|first| first < *end));
        }
    }

    /// The position of the first record that has no outcome.
    fn first_unsettled(&self) -> Option<u64> {
        let spooled = self.spooled.as_ref()?;
        let ended = spooled.ended.iter().map(|(entry, _)| entry.position);
        let parts = spooled.ended_parts.iter().map(|part| part.position);
        let sought = self.doubts.entries().map(|entry| entry.position);
        let sent = self.entries.front().map(|entry| entry.position);
        ended
            .chain(parts)
            .chain(sought)
            .chain(sent)
            .chain(spooled.backlog.first())
            .min()
    }

    /// Adds `token` to every record without an outcome; see [`tie`](Self::tie).
    pub(super) fn tie_spooled(&mut self, token: &Token, over: impl Fn(&Token) -> bool) {
        let waits = self.first_unsettled().is_some();
        if let (true, Some(spooled)) = (waits, &mut self.spooled) {
            spooled.tied.retain(|(_, other)| !over(other));
            spooled.tied.push((spooled.next, Arc::clone(token)));
        }
    }

    /// The journal has the outcome of what begins at this position.
    pub fn recorded(&mut self, position: u64) -> Effects {
        let mut effects = Effects::default();
        let Some(spooled) = &mut self.spooled else {
            return effects;
        };
        let place = spooled
            .ended
            .iter()
            .position(|(entry, _)| entry.position == position);
        if let Some(place) = place {
            let (entry, settlement) = spooled.ended.remove(place);
            self.settle_spooled(entry, settlement, &mut effects);
            return effects;
        }
        let mut parts = spooled.ended_parts.iter();
        if let Some(place) = parts.position(|part| part.position == position) {
            let EndedPart {
                count,
                listeners,
                settlement,
                ..
            } = spooled.ended_parts.remove(place);
            let count = u64::from(count.unsigned_abs());
            let mut settled = Settled::unheard(spooled.partition, count, settlement, &listeners);
            spooled.tie_to(position, &mut settled);
            effects.settled.push(settled);
            self.untie();
        }
        effects
    }

    /// The outcomes that wait for the journal.
    pub fn unrecorded(&self) -> Vec<Record> {
        let Some(spooled) = &self.spooled else {
            return Vec::new();
        };
        let ended = spooled.ended.iter();
        let ended = ended
            .map(|(entry, settlement)| record_of(entry.position, entry.batch.count(), settlement));
        let parts = spooled.ended_parts.iter();
        let parts = parts.map(|part| record_of(part.position, part.count, &part.settlement));
        ended.chain(parts).flatten().collect()
    }

    /// Batches whose outcome the journal does not have yet.
    pub(super) fn ended(&self) -> impl Iterator<Item = &Entry> {
        let ended = self.spooled.iter().flat_map(|spooled| &spooled.ended);
        ended.map(|(entry, _)| entry)
    }

    /// Ends all that is there without an outcome: it is kept.
    pub(super) fn keep_all(
        &mut self,
        why: &impl Fn(Option<Arc<str>>) -> Reason,
        effects: &mut Effects,
    ) {
        let Some(spooled) = &mut self.spooled else {
            return;
        };
        let doubted = std::mem::take(&mut spooled.doubted);
        let kept = |position: u64, count: u64, last| {
            let first = why(last);
            let is_safe = doubted.count_unsettled(position..position + count) == count;
            Settlement::Failed(match is_safe {
                true => Unconfirmed::Kept(first),
                false => Unconfirmed::Unknown(Reason::DiskFailed {
                    first: Box::new(first),
                }),
            })
        };
        // The journal has it, or will: the next producer does not deliver it. Of what is rejected the journal
        // is not told before that has its lines, and they may not be there yet.
        let is_told =
            |settlement: &Settlement| fate_of(settlement).is_some() && !is_kept_aside(settlement);
        let ended = std::mem::take(&mut spooled.ended).into_iter();
        let ended = ended.map(|(entry, settlement)| (entry, Some(settlement).filter(is_told)));
        let sought = std::mem::take(&mut self.doubts.list);
        let sought = sought.into_iter().map(|doubt| doubt.entry);
        let open = sought.chain(std::mem::take(&mut self.entries));
        let open = open.map(|mut entry| {
            let is_kept = entry.batch.is_spooled() || entry.batch.is_settled();
            let told = (!is_kept).then(|| entry.abandoned(why));
            (entry, told)
        });
        let entries = ended.chain(open);
        let entries =
            entries.map(|(entry, told)| (entry.position, told, entry.last_error, entry.batch));
        let (parked, unheard) = std::mem::take(&mut spooled.backlog).into_parts();
        let parked = parked.into_iter();
        let parked = parked.map(|(position, batch)| {
            let lost = || Settlement::Failed(Unconfirmed::NotWritten(why(None)));
            let told = (!batch.is_spooled()).then(lost);
            (position, told, None, batch)
        });
        for (position, told, last, mut batch) in entries.chain(parked) {
            let count = u64::from(batch.count().unsigned_abs());
            let settlement = told.unwrap_or_else(|| kept(position, count, last));
            if let Some(mut settled) = batch.settle(settlement) {
                spooled.tie_to(position, &mut settled);
                effects.settled.push(settled);
            }
        }
        let parts = std::mem::take(&mut spooled.ended_parts).into_iter();
        let parts = parts.map(|part| {
            let count = u64::from(part.count.unsigned_abs());
            (part.position, count, part.listeners)
        });
        let unheard = parts.chain(unheard);
        for (position, count, listeners) in unheard {
            let settlement = kept(position, count, None);
            let mut settled = Settled::unheard(spooled.partition, count, settlement, &listeners);
            spooled.tie_to(position, &mut settled);
            effects.settled.push(settled);
        }
        spooled.tied.clear();
        self.lent = 0;
    }
}

/// What the journal is to have of records that ended so; `None` if nothing.
pub(super) fn record_of(position: u64, count: i32, settlement: &Settlement) -> Option<Record> {
    let fate = fate_of(settlement)?;
    Some(Record {
        why: is_kept_aside(settlement).then(|| rejected(settlement)),
        ..Record::new(position, count, fate)
    })
}

/// What becomes of records that ended so; `None` if that is open.
fn fate_of(settlement: &Settlement) -> Option<Fate> {
    Some(match settlement {
        // Without an offset it raises no floor.
        Settlement::Acked { base_offset, .. } => Fate::Acked(base_offset.unwrap_or(i64::MIN)),
        Settlement::Failed(Unconfirmed::NotWritten(
            Reason::Broker(_) | Reason::TooOld { .. } | Reason::TopicRecreated,
        ))
        | Settlement::Invalid { .. } => Fate::Rejected,
        Settlement::Failed(Unconfirmed::NotWritten(_) | Unconfirmed::Aborted(_)) => {
            Fate::NotWritten
        }
        Settlement::Failed(Unconfirmed::Unknown(_)) => Fate::Unknown,
        Settlement::Failed(Unconfirmed::Kept(_)) | Settlement::Split(_) => return None,
    })
}

/// Whether records that ended so have to be in a file of lines first.
fn is_kept_aside(settlement: &Settlement) -> bool {
    let reason = match settlement {
        Settlement::Failed(Unconfirmed::Unknown(reason)) => Some(reason),
        _ => None,
    };
    fate_of(settlement) == Some(Fate::Rejected) || reason == Some(&Reason::TopicRecreated)
}

/// Why the records will never be taken, in words.
fn rejected(settlement: &Settlement) -> Arc<str> {
    match settlement {
        Settlement::Failed(unconfirmed @ Unconfirmed::Unknown(_)) => unconfirmed.to_string().into(),
        Settlement::Failed(unconfirmed) => unconfirmed.reason().to_string().into(),
        Settlement::Invalid { error, records } => match records.first() {
            Some((index, message)) => {
                let first = format!(
                    "the broker refused record {index} of the batch with {error}: {message}"
                );
                first.into()
            }
            None => format!("the broker answered {error}").into(),
        },
        Settlement::Acked { .. } | Settlement::Split(_) => "".into(),
    }
}
