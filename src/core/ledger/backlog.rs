//! The backlog of a partition: batches that are in the spool and not in memory, and what has to wait behind
//! those.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use crate::core::ack::{AckSettler, RecordId};
use crate::core::batch::{SealedBatch, renumber};
use crate::core::delivery::Listener;
use crate::core::memory::Buffer;
use crate::core::spool::Spooled;

/// Records that were read back from the spool: a batch, or what is left of one.
#[derive(Debug)]
pub struct ReadBack {
    /// The position of the first record.
    pub position: u64,
    pub count: i32,
    pub base_timestamp: i64,
    pub max_timestamp: i64,
    pub records: Buffer,
}

/// Records that were taken out: where they begin, how many they are, who is told of them.
type Removed = (u64, u64, Vec<Arc<dyn Listener>>);

impl ReadBack {
    /// Makes it of what was read. `None` if its bytes are not records. `buffer` makes the memory for them.
    pub fn of(read: Spooled, buffer: impl FnOnce(Vec<u8>) -> Buffer) -> Option<Self> {
        let count = i32::try_from(read.count).ok()?;
        let mut records = read.records;
        if read.index > 0 {
            let mut anew = Vec::with_capacity(records.len());
            renumber(&records, count, &mut anew)?;
            records = anew;
        }
        Some(Self {
            position: read.position,
            count,
            base_timestamp: read.base_timestamp,
            max_timestamp: read.newest,
            records: buffer(records),
        })
    }
}

/// All that was accepted behind what the ledger has in memory, in the order of positions.
///
/// Invariant: while there is anything here, nothing comes into the ledger but from here. So the order stays.
#[derive(Debug, Default)]
pub struct Backlog {
    parked: VecDeque<Parked>,
    /// What it holds, by the count of records.
    records: u64,
}

enum Parked {
    /// A batch with its bytes: the spool does not have it.
    Held(u64, Box<SealedBatch>),
    /// A batch without its bytes, because somebody waits for its outcome.
    Batch(u64, Box<SealedBatch>),
    /// Batches whose outcomes nobody waits for. However many they are, they are one entry.
    Range {
        position: u64,
        count: u64,
        /// Who is told of them.
        listeners: Vec<Arc<dyn Listener>>,
        /// Where each batch begins, and its name, if anybody is told of it.
        names: VecDeque<(u64, RecordId)>,
    },
}

impl fmt::Debug for Parked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parked")
            .field("position", &self.position())
            .field("count", &self.count())
            .finish_non_exhaustive()
    }
}

impl Parked {
    fn of(position: u64, mut batch: SealedBatch) -> Self {
        if !batch.is_spooled() {
            return Self::Held(position, Box::new(batch));
        }
        if batch.is_unheard() {
            let (count, name) = (batch.count().unsigned_abs(), batch.first());
            let listeners = batch.into_listeners();
            let names = (!listeners.is_empty()).then_some((position, name));
            return Self::Range {
                position,
                count: count.into(),
                listeners,
                names: names.into_iter().collect(),
            };
        }
        batch.let_go();
        Self::Batch(position, Box::new(batch))
    }

    fn count(&self) -> u64 {
        match self {
            Self::Held(_, batch) | Self::Batch(_, batch) => u64::from(batch.count().unsigned_abs()),
            Self::Range { count, .. } => *count,
        }
    }

    fn position(&self) -> u64 {
        match self {
            Self::Held(position, _) | Self::Batch(position, _) | Self::Range { position, .. } => {
                *position
            }
        }
    }

    /// Takes what follows in, if they can be one entry.
    fn join(&mut self, mut next: Self) -> Result<(), Self> {
        let (
            Self::Range {
                position,
                count,
                listeners,
                names,
            },
            Self::Range {
                position: behind,
                count: more,
                listeners: others,
                names: other_names,
            },
        ) = (self, &mut next)
        else {
            return Err(next);
        };
        let same = listeners.len() == others.len()
            && listeners
                .iter()
                .zip(&*others)
                .all(|(one, other)| Arc::ptr_eq(one, other));
        if !same || *position + *count != *behind {
            return Err(next);
        }
        *count += *more;
        names.append(other_names);
        Ok(())
    }
}

impl Backlog {
    /// What was accepted by former producers, and has no outcome.
    pub fn resumed(
        unsettled: impl Iterator<Item = (u64, u64)>,
        listeners: &[Arc<dyn Listener>],
    ) -> Self {
        let mut backlog = Self::default();
        for (position, count) in unsettled {
            backlog.records += count;
            backlog.parked.push_back(Parked::Range {
                position,
                count,
                listeners: listeners.to_vec(),
                names: VecDeque::new(),
            });
        }
        backlog
    }

    pub fn is_empty(&self) -> bool {
        self.parked.is_empty()
    }

    #[cfg(test)]
    pub fn records(&self) -> u64 {
        self.records
    }

    /// The position of the first record that waits here.
    pub fn first(&self) -> Option<u64> {
        self.parked.front().map(Parked::position)
    }

    /// The position of the first record that the spool has.
    pub fn first_spooled(&self) -> Option<u64> {
        let spooled = |parked: &&Parked| !matches!(parked, Parked::Held(..));
        self.parked.iter().find(spooled).map(Parked::position)
    }

    /// Where to read on, and how many records may be read in one piece. `None` also where what comes next
    /// need not be read.
    pub fn next(&self) -> Option<(u64, u64)> {
        match self.parked.front()? {
            Parked::Held(..) => None,
            parked => Some((parked.position(), parked.count())),
        }
    }

    /// Takes what comes next, if it need not be read.
    pub fn take_held(&mut self) -> Option<(u64, SealedBatch)> {
        match self.parked.pop_front()? {
            Parked::Held(position, batch) => {
                self.records -= u64::from(batch.count().unsigned_abs());
                Some((position, *batch))
            }
            parked => {
                self.parked.push_front(parked);
                None
            }
        }
    }

    /// Has what is here with its bytes written, in order. The bytes of what was written go home.
    pub fn write(&mut self, mut write: impl FnMut(u64, &mut SealedBatch) -> bool) {
        let mut has_space = true;
        for parked in std::mem::take(&mut self.parked) {
            let parked = match parked {
                Parked::Held(position, mut batch) if has_space => {
                    has_space = write(position, &mut batch);
                    Parked::of(position, *batch)
                }
                parked => parked,
            };
            self.add_last(parked);
        }
    }

    /// A batch comes behind all that is here. If the spool has it, its bytes go home.
    pub fn push_back(&mut self, position: u64, batch: SealedBatch) {
        let parked = Parked::of(position, batch);
        self.records += parked.count();
        self.add_last(parked);
    }

    fn add_last(&mut self, parked: Parked) {
        let unjoined = match self.parked.back_mut() {
            Some(last) => last.join(parked),
            None => Err(parked),
        };
        if let Err(parked) = unjoined {
            self.parked.push_back(parked);
        }
    }

    /// A batch comes before all that is here. If the spool has it, its bytes go home.
    pub fn push_front(&mut self, position: u64, batch: SealedBatch) {
        let mut parked = Parked::of(position, batch);
        self.records += parked.count();
        if let Some(first) = self.parked.pop_front()
            && let Err(first) = parked.join(first)
        {
            self.parked.push_front(first);
        }
        self.parked.push_front(parked);
    }

    /// Takes out what is here of these records: where it begins, how many they are, who is told of them. What
    /// somebody waits for stays.
    pub fn remove(&mut self, from: u64, count: u64) -> Vec<Removed> {
        let end = from.saturating_add(count);
        let mut removed = Vec::new();
        let mut kept = VecDeque::with_capacity(self.parked.len() + 1);
        for parked in std::mem::take(&mut self.parked) {
            let behind = parked.position() + parked.count();
            let (first, last) = (parked.position().max(from), behind.min(end));
            if first >= last {
                kept.push_back(parked);
                continue;
            }
            let Parked::Range {
                position,
                listeners,
                mut names,
                ..
            } = parked
            else {
                kept.push_back(parked);
                continue;
            };
            let mut part = |position: u64, end: u64| Parked::Range {
                position,
                count: end - position,
                listeners: listeners.clone(),
                names: {
                    names.retain(|(at, _)| *at >= position);
                    let behind = names.partition_point(|(at, _)| *at < end);
                    names.drain(..behind).collect()
                },
            };
            if position < first {
                kept.push_back(part(position, first));
            }
            if last < behind {
                kept.push_back(part(last, behind));
            }
            self.records -= last - first;
            removed.push((first, last - first, listeners));
        }
        self.parked = kept;
        removed
    }

    /// Takes out the batches all of whose records are before this position, from the first one on.
    pub fn take_before(&mut self, before: u64) -> Vec<(u64, SealedBatch)> {
        let mut batches = Vec::new();
        while let Some(parked) = self.parked.pop_front() {
            match parked {
                Parked::Held(position, batch) | Parked::Batch(position, batch)
                    if position + u64::from(batch.count().unsigned_abs()) <= before =>
                {
                    self.records -= u64::from(batch.count().unsigned_abs());
                    batches.push((position, *batch));
                }
                other => {
                    self.parked.push_front(other);
                    break;
                }
            }
        }
        batches
    }

    /// Takes out all that has any of these records.
    pub fn lose(&mut self, lost: Range<u64>) -> (Vec<Removed>, Vec<(u64, SealedBatch)>) {
        let removed = self.remove(lost.start, lost.end - lost.start);
        let mut batches = Vec::new();
        for parked in std::mem::take(&mut self.parked) {
            let (from, end) = (parked.position(), parked.position() + parked.count());
            match parked {
                Parked::Batch(position, batch) if from < lost.end && lost.start < end => {
                    self.records -= end - from;
                    batches.push((position, *batch));
                }
                parked => self.parked.push_back(parked),
            }
        }
        (removed, batches)
    }

    /// The batches whose outcome somebody waits for, and the records of which nobody has a receipt.
    pub fn into_parts(self) -> (Vec<(u64, SealedBatch)>, Vec<Removed>) {
        let (mut batches, mut unheard) = (Vec::new(), Vec::new());
        for parked in self.parked {
            match parked {
                Parked::Held(position, batch) | Parked::Batch(position, batch) => {
                    batches.push((position, *batch));
                }
                Parked::Range {
                    position,
                    count,
                    listeners,
                    ..
                } => unheard.push((position, count, listeners)),
            }
        }
        (batches, unheard)
    }

    /// Makes a batch of what was read back. `None` if that is not what comes next.
    pub fn take(&mut self, read: ReadBack, partition: i32, now: Instant) -> Option<SealedBatch> {
        let count = u64::from(read.count.unsigned_abs());
        let first = self.parked.front_mut()?;
        if first.position() != read.position || first.count() < count || count == 0 {
            return None;
        }
        let batch = match first {
            Parked::Batch(_, whole) if whole.count() == read.count => {
                let Some(Parked::Batch(_, mut batch)) = self.parked.pop_front() else {
                    return None;
                };
                batch.refill(read.records);
                *batch
            }
            Parked::Held(..) | Parked::Batch(..) => return None,
            Parked::Range {
                position,
                count: left,
                listeners,
                names,
            } => {
                let is_it = names.front().is_some_and(|(at, _)| *at == read.position);
                let name = names.pop_front().filter(|_| is_it).map(|(_, name)| name);
                let settle = AckSettler::read_back(name, partition);
                let timestamps = (read.base_timestamp, read.max_timestamp);
                let batch = SealedBatch::read_back(
                    read.records,
                    read.count,
                    timestamps,
                    now,
                    settle,
                    listeners,
                );
                *position += count;
                *left -= count;
                if *left == 0 {
                    self.parked.pop_front();
                }
                batch
            }
        };
        self.records -= count;
        Some(batch)
    }
}

#[cfg(test)]
mod tests;
