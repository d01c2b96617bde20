//! One replica of a partition: its log, and what it remembers of producers.
//!
//! Kafka 4's rules for idempotent producers (`UnifiedLog.append`, `ProducerAppendInfo`,
//! `ProducerStateEntry`). `tests/kafka/model.rs` compares them with a real broker, code by code.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use bytes::Bytes;

use crate::batch::Header;

pub mod code {
    pub const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
    pub const NOT_LEADER_OR_FOLLOWER: i16 = 6;
    pub const REQUEST_TIMED_OUT: i16 = 7;
    pub const MESSAGE_TOO_LARGE: i16 = 10;
    pub const NOT_ENOUGH_REPLICAS: i16 = 19;
    pub const NOT_ENOUGH_REPLICAS_AFTER_APPEND: i16 = 20;
    pub const OUT_OF_ORDER_SEQUENCE_NUMBER: i16 = 45;
    pub const INVALID_PRODUCER_EPOCH: i16 = 47;
    pub const UNKNOWN_TOPIC_ID: i16 = 100;
}

/// A batch in a log.
#[derive(Debug)]
pub struct Stored {
    pub header: Header,
    pub base_offset: i64,
    pub bytes: Bytes,
}

impl Stored {
    pub fn end(&self) -> i64 {
        self.base_offset + i64::from(self.header.count)
    }
}

/// Brokers remember this many batches of a producer.
pub const REMEMBERED: usize = 5;

#[derive(Debug, Clone, Default)]
struct Producer {
    epoch: i16,
    /// The largest timestamp of the last batch's records.
    last_timestamp: i64,
    /// The last batches: first and last sequence, base offset.
    batches: VecDeque<(i32, i32, i64)>,
}

/// A replica's log.
#[derive(Debug, Clone, Default)]
pub struct Log {
    batches: Vec<Rc<Stored>>,
    producers: BTreeMap<i64, Producer>,
}

/// Where an appended batch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    pub base_offset: i64,
    /// The offset behind its last record.
    pub end: i64,
    /// It was there before.
    pub duplicate: bool,
}

/// A broker's part in a partition when a batch comes for it.
#[derive(Debug, Clone, Copy)]
pub struct ReplicaState {
    pub leads: bool,
    pub replicas: usize,
    pub in_sync: usize,
    /// `min.insync.replicas`
    pub min_in_sync: usize,
    /// `max.message.bytes`
    pub max_message: usize,
}

impl Log {
    /// What a broker does with a producer's batch. An error is the code of its answer.
    pub fn produce(
        &mut self,
        state: ReplicaState,
        acks: i16,
        bytes: &Bytes,
    ) -> Result<Appended, i16> {
        if !state.leads {
            return Err(code::NOT_LEADER_OR_FOLLOWER);
        }
        // No more can be asked for than there are.
        let least = state.min_in_sync.min(state.replicas);
        if acks == -1 && state.in_sync < least {
            return Err(code::NOT_ENOUGH_REPLICAS);
        }
        self.append(bytes, state.max_message)
    }

    fn append(&mut self, bytes: &Bytes, max_message_bytes: usize) -> Result<Appended, i16> {
        // Kafka looks at the size before the checksum.
        if bytes.len() > max_message_bytes {
            return Err(code::MESSAGE_TOO_LARGE);
        }
        let header = Header::read(bytes)?;
        if header.producer_id >= 0
            && let Some(known) = self.producers.get(&header.producer_id)
            && let Some(before) = known.look(&header)?
        {
            return Ok(Appended {
                base_offset: before,
                end: before + i64::from(header.count),
                duplicate: true,
            });
        }
        let base_offset = self.end();
        let stored = Stored {
            header,
            base_offset,
            bytes: bytes.clone(),
        };
        let end = stored.end();
        self.store(Rc::new(stored));
        Ok(Appended {
            base_offset,
            end,
            duplicate: false,
        })
    }

    /// Appends without a question, as followers do.
    fn store(&mut self, stored: Rc<Stored>) {
        let header = &stored.header;
        if header.producer_id >= 0 {
            let known = self.producers.entry(header.producer_id).or_default();
            if known.epoch != header.epoch {
                known.batches.clear();
                known.epoch = header.epoch;
            }
            known.last_timestamp = header.max_timestamp;
            let (first, last) = (header.first_sequence, header.last_sequence());
            known.batches.push_back((first, last, stored.base_offset));
            if known.batches.len() > REMEMBERED {
                known.batches.pop_front();
            }
        }
        self.batches.push(stored);
    }

    /// Forgets the producers whose last batch's records are older than `producer.id.expiration.ms`, by
    /// the records' own timestamps (`ProducerStateManager.removeExpiredProducers`).
    pub fn forget_producers(&mut self, now: i64, expiration: i64) {
        let expired = |known: &Producer| now - known.last_timestamp >= expiration;
        self.producers.retain(|_, known| !expired(known));
    }

    /// The broker was started again. What it knows of producers comes from a snapshot, which has one batch of
    /// each that has not expired. After a crash, too: then the log is read first, and a snapshot is taken
    /// behind its end (`LogLoader.recoverSegment`).
    pub fn reload(&mut self, now: i64, expiration: i64) {
        let batches = std::mem::take(self).batches;
        batches.into_iter().for_each(|batch| self.store(batch));
        self.forget_producers(now, expiration);
        for known in self.producers.values_mut() {
            let older = known.batches.len().saturating_sub(1);
            known.batches.drain(..older);
        }
    }

    /// The offset behind the last record.
    pub fn end(&self) -> i64 {
        self.batches.last().map_or(0, |batch| batch.end())
    }

    pub fn batches(&self) -> &[Rc<Stored>] {
        &self.batches
    }

    /// Makes this log like the leader's: drops what the leader does not have, and copies what it has
    /// more.
    pub fn follow(&mut self, leader: &Self) {
        let same = |(mine, theirs): &(&Rc<Stored>, &Rc<Stored>)| Rc::ptr_eq(mine, theirs);
        let common = self.batches.iter().zip(&leader.batches);
        // From the end: all but the last few are the same.
        let common = match (
            self.batches.last(),
            leader.batches.get(self.batches.len().wrapping_sub(1)),
        ) {
            (Some(mine), Some(theirs)) if Rc::ptr_eq(mine, theirs) => self.batches.len(),
            _ => common.take_while(same).count(),
        };
        self.truncate(common);
        for batch in &leader.batches[common..] {
            self.store(Rc::clone(batch));
        }
    }

    /// Keeps the first `count` batches, and remembers of producers what they say.
    fn truncate(&mut self, count: usize) {
        if count < self.batches.len() {
            let kept = std::mem::take(self).batches.into_iter().take(count);
            kept.for_each(|batch| self.store(batch));
        }
    }

    /// Loses the batches that begin at `offset` or later.
    pub fn lose_from(&mut self, offset: i64) {
        let kept = self.batches.iter().take_while(|b| b.base_offset < offset);
        self.truncate(kept.count());
    }
}

impl Producer {
    /// The offset of the same batch, if it is remembered; an error if it does not fit.
    fn look(&self, batch: &Header) -> Result<Option<i64>, i16> {
        let (first, last) = (batch.first_sequence, batch.last_sequence());
        if batch.epoch < self.epoch {
            return Err(code::INVALID_PRODUCER_EPOCH);
        }
        if batch.epoch > self.epoch {
            return match first {
                0 => Ok(None),
                _ => Err(code::OUT_OF_ORDER_SEQUENCE_NUMBER),
            };
        }
        let same = self.batches.iter().find(|b| (b.0, b.1) == (first, last));
        if let Some((.., offset)) = same {
            return Ok(Some(*offset));
        }
        match self.batches.back() {
            Some((_, before, _)) if before.wrapping_add(1) & i32::MAX != first => {
                Err(code::OUT_OF_ORDER_SEQUENCE_NUMBER)
            }
            _ => Ok(None),
        }
    }
}
