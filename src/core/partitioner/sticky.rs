//! Chooses the partition of records without a key: one partition until about `batch.size` bytes
//! went there, then another. This is Java's `BuiltInPartitioner` (KIP-794). Each topic has its own.
//!
//! A new partition for each record would make many small batches. A new one for each *batch*
//! (KIP-480) sent most records to the slowest broker, because its batches are the largest. Counting
//! bytes avoids both.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::TopicPartitions;

/// How many batches wait for one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// The partition.
    pub partition: i32,
    /// How many batches wait to be sent to it.
    pub queue_len: usize,
    /// Whether it can take records: it has a leader, and the leader has responded within
    /// `partitioner.availability.timeout.ms`.
    pub available: bool,
}

/// The sticky partition of one topic, shared by all threads that send to it.
#[derive(Debug)]
pub struct Sticky {
    adaptive: bool,
    switch_at: u32,
    /// The partition in the upper half, and the bytes that went there in the lower half. Both are
    /// in one word, so that no thread adds one partition's bytes to another's. No other data is
    /// published through this word, so `Relaxed` is enough.
    run: AtomicU64,
    /// Locked only to choose another partition, or to note the loads.
    chooser: Mutex<Chooser>,
}

/// No partition is chosen.
const NONE: u64 = pack(-1, 0);

const fn pack(partition: i32, produced: u32) -> u64 {
    ((partition as u32 as u64) << 32) | produced as u64
}

const fn partition_of(run: u64) -> i32 {
    (run >> 32) as i32
}

impl Sticky {
    /// Switches to another partition after `batch_size` bytes, where 0 counts as 1. `adaptive` is
    /// `partitioner.adaptive.partitioning.enable`. Without it, [`Sticky::update`] does nothing. The
    /// same `seed` makes the same choices.
    pub fn new(adaptive: bool, batch_size: usize, seed: u64) -> Self {
        Self::with_source(adaptive, batch_size, Source::seeded(seed))
    }

    fn with_source(adaptive: bool, batch_size: usize, source: Source) -> Self {
        Self {
            adaptive,
            switch_at: u32::try_from(batch_size.max(1)).unwrap_or(u32::MAX),
            run: AtomicU64::new(NONE),
            chooser: Mutex::new(Chooser {
                source,
                ids: Vec::new(),
                ends: Vec::new(),
                listed: 0,
            }),
        }
    }

    /// The current partition, or -1 if another one has to be chosen.
    #[inline]
    pub(crate) fn current(&self) -> i32 {
        partition_of(self.run.load(Ordering::Relaxed))
    }

    /// The partition for the next record. This takes one load, unless another partition has to be
    /// chosen.
    #[inline]
    pub fn next(&self, partitions: &TopicPartitions<'_>) -> i32 {
        let partition = self.current();
        // A topic that was deleted and created again may have fewer partitions.
        if (0..partitions.total).contains(&partition) {
            partition
        } else {
            self.choose(partitions)
        }
    }

    #[cold]
    fn choose(&self, partitions: &TopicPartitions<'_>) -> i32 {
        let mut chooser = self.chooser();
        // Another thread may have chosen while this one waited for the lock.
        let current = self.current();
        if (0..partitions.total).contains(&current) {
            return current;
        }
        let partition = chooser.choose(partitions);
        self.run.store(pack(partition, 0), Ordering::Relaxed);
        partition
    }

    /// Counts `bytes` that were appended to `partition`. Returns true if that partition is no
    /// longer the current one.
    ///
    /// The switch comes after `batch_size` bytes. While the partition has an open batch
    /// (`batch_open`), it is postponed until twice as many. So it comes at the end of a batch and
    /// leaves no small batch behind (KAFKA-14156).
    ///
    /// Before an append to a partition without an open batch, call this with 0 bytes. It makes a
    /// switch that was postponed. If it returns true, ask [`Sticky::next`] again.
    #[inline]
    pub fn appended(&self, partition: i32, bytes: usize, batch_open: bool) -> bool {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let mut run = self.run.load(Ordering::Relaxed);
        loop {
            if partition_of(run) != partition {
                return true;
            }
            let produced = (run as u32).saturating_add(bytes);
            let over = produced >= self.switch_at
                && (!batch_open || produced >= self.switch_at.saturating_mul(2));
            let after = if over {
                NONE
            } else {
                pack(partition, produced)
            };
            match self
                .run
                .compare_exchange_weak(run, after, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => return over,
                Err(now) => run = now,
            }
        }
    }

    /// Notes how many batches wait for each partition. From now on a partition is chosen more often
    /// the shorter its queue is, and not at all while it is not available. For this, `loads` has to
    /// list every partition of the topic. Until it does, all available partitions are chosen
    /// equally often.
    ///
    /// If the current partition is not available but another is, the current one is left at once.
    /// (Java continues with it until `batch.size` bytes wait there.)
    pub fn update(&self, loads: &[Load]) {
        if !self.adaptive {
            return;
        }
        self.chooser().weigh(loads);
        if !loads.iter().any(|load| load.available) {
            return;
        }
        let stuck = |run| {
            let current = partition_of(run);
            loads
                .iter()
                .any(|load| load.partition == current && !load.available)
        };
        // An error only means that the current partition is available.
        let _ = self
            .run
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |run| {
                stuck(run).then_some(NONE)
            });
    }

    fn chooser(&self) -> MutexGuard<'_, Chooser> {
        self.chooser.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is needed to choose a partition.
#[derive(Debug)]
struct Chooser {
    source: Source,
    /// The available partitions. Empty if all partitions are available and have equal queues.
    ids: Vec<i32>,
    /// The cumulative frequencies: the numbers of `ids[i]` go from `ends[i - 1]` up to, but not
    /// including, `ends[i]`.
    ends: Vec<u64>,
    /// How many partitions the loads listed.
    listed: usize,
}

impl Chooser {
    /// Inverts the queue lengths into frequencies. The longest queue gets 1. For example, the
    /// lengths 0 3 1 make the frequencies 4 1 3, with the ends 4 5 8.
    fn weigh(&mut self, loads: &[Load]) {
        self.ids.clear();
        self.ends.clear();
        self.listed = loads.len();
        let available = || loads.iter().filter(|load| load.available);
        let Some(longest) = available().map(|load| load.queue_len).max() else {
            return;
        };
        if loads
            .iter()
            .all(|load| load.available && load.queue_len == longest)
        {
            return;
        }
        let mut end = 0_u64;
        for load in available() {
            let frequency = ((longest - load.queue_len) as u64).saturating_add(1);
            end = end.saturating_add(frequency);
            self.ids.push(load.partition);
            self.ends.push(end);
        }
    }

    fn choose(&mut self, partitions: &TopicPartitions<'_>) -> i32 {
        if let Some(partition) = self.weighted(partitions) {
            return partition;
        }
        partitions.pick(self.source.draw())
    }

    fn weighted(&mut self, partitions: &TopicPartitions<'_>) -> Option<i32> {
        let range = *self.ends.last()?;
        // The topic has more partitions since the loads were listed. The new ones have to be chosen
        // too.
        if self.listed < usize::try_from(partitions.total).unwrap_or(0) {
            return None;
        }
        let number = self.source.draw() % range;
        let at = self.ends.partition_point(|end| *end <= number);
        let partition = *self.ids.get(at)?;
        // The loads may be older than the metadata: the partition may have lost its leader, or no
        // longer exist.
        let there = if partitions.available.is_empty() {
            (0..partitions.total).contains(&partition)
        } else {
            partitions.available.contains(&partition)
        };
        there.then_some(partition)
    }
}

/// The source of the random numbers.
#[derive(Debug)]
enum Source {
    XorShift(u64),
    /// 0, 1, 2 and so on, as in Java's tests.
    #[cfg(test)]
    Counting(u64),
}

impl Source {
    /// Mixes the seed (splitmix64), so that neighbouring seeds make unrelated series.
    fn seeded(seed: u64) -> Self {
        let mut x = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        // xorshift never leaves 0.
        Self::XorShift((x ^ (x >> 31)).max(1))
    }

    fn draw(&mut self) -> u64 {
        match self {
            Self::XorShift(x) => {
                *x ^= *x >> 12;
                *x ^= *x << 25;
                *x ^= *x >> 27;
                // The remainder uses the low bits, but the high bits are more random.
                x.wrapping_mul(0x2545_f491_4f6c_dd1d).rotate_left(32)
            }
            #[cfg(test)]
            Self::Counting(x) => {
                *x += 1;
                *x - 1
            }
        }
    }
}

#[cfg(test)]
mod tests;
