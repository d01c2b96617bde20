//! One replica of a partition: its log, and what it remembers of producers.
//!
//! Kafka 4's rules for idempotent producers (`UnifiedLog.append`, `ProducerAppendInfo`,
//! `ProducerStateEntry`). `tests/kafka/model.rs` compares them with a real broker, code by code.

use std::rc::Rc;

use bytes::Bytes;

use crate::batch::{Header, Marker};
use crate::producers::{Ended, Guard, Open, Producers};

pub mod code {
    pub const UNKNOWN_SERVER_ERROR: i16 = -1;
    pub const OFFSET_OUT_OF_RANGE: i16 = 1;
    pub const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
    pub const LEADER_NOT_AVAILABLE: i16 = 5;
    pub const NOT_LEADER_OR_FOLLOWER: i16 = 6;
    pub const REQUEST_TIMED_OUT: i16 = 7;
    pub const MESSAGE_TOO_LARGE: i16 = 10;
    pub const COORDINATOR_LOAD_IN_PROGRESS: i16 = 14;
    pub const COORDINATOR_NOT_AVAILABLE: i16 = 15;
    pub const NOT_COORDINATOR: i16 = 16;
    pub const NOT_ENOUGH_REPLICAS: i16 = 19;
    pub const NOT_ENOUGH_REPLICAS_AFTER_APPEND: i16 = 20;
    pub const ILLEGAL_GENERATION: i16 = 22;
    pub const UNKNOWN_MEMBER_ID: i16 = 25;
    pub const TOPIC_AUTHORIZATION_FAILED: i16 = 29;
    pub const CLUSTER_AUTHORIZATION_FAILED: i16 = 31;
    pub const INVALID_REQUEST: i16 = 42;
    pub const OUT_OF_ORDER_SEQUENCE_NUMBER: i16 = 45;
    pub const INVALID_PRODUCER_EPOCH: i16 = 47;
    pub const INVALID_TXN_STATE: i16 = 48;
    pub const INVALID_PRODUCER_ID_MAPPING: i16 = 49;
    pub const INVALID_TRANSACTION_TIMEOUT: i16 = 50;
    pub const CONCURRENT_TRANSACTIONS: i16 = 51;
    pub const TRANSACTION_COORDINATOR_FENCED: i16 = 52;
    pub const TRANSACTIONAL_ID_AUTHORIZATION_FAILED: i16 = 53;
    pub const OPERATION_NOT_ATTEMPTED: i16 = 55;
    pub const FENCED_LEADER_EPOCH: i16 = 74;
    pub const UNKNOWN_LEADER_EPOCH: i16 = 75;
    pub const OFFSET_NOT_AVAILABLE: i16 = 78;
    pub const FENCED_INSTANCE_ID: i16 = 82;
    pub const PRODUCER_FENCED: i16 = 90;
    pub const UNKNOWN_TOPIC_ID: i16 = 100;
    pub const TRANSACTIONAL_ID_NOT_FOUND: i16 = 105;
    pub const TRANSACTION_ABORTABLE: i16 = 120;
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

    /// The end of a transaction, if it is one.
    pub fn marker(&self) -> Option<Marker> {
        self.header.is_control().then(|| Marker::read(&self.bytes))
    }
}

/// Brokers remember this many batches of a producer.
pub const REMEMBERED: usize = 5;

/// A replica's log.
#[derive(Debug, Clone, Default)]
pub struct Log {
    batches: Vec<Rc<Stored>>,
    producers: Producers,
    /// In the order of their ends.
    ended: Vec<Ended>,
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

impl ReplicaState {
    fn may_append(&self, acks: i16) -> Result<(), i16> {
        if !self.leads {
            return Err(code::NOT_LEADER_OR_FOLLOWER);
        }
        // No more can be asked for than there are.
        let least = self.min_in_sync.min(self.replicas);
        match acks == -1 && self.in_sync < least {
            true => Err(code::NOT_ENOUGH_REPLICAS),
            false => Ok(()),
        }
    }
}

impl Log {
    /// What a broker does with a producer's batch. An error is the code of its answer.
    pub fn produce(
        &mut self,
        state: ReplicaState,
        acks: i16,
        bytes: &Bytes,
    ) -> Result<Appended, i16> {
        self.produce_verified(state, acks, bytes, None)
    }

    /// The same, when the coordinator has been asked about the batch's transaction.
    pub fn produce_verified(
        &mut self,
        state: ReplicaState,
        acks: i16,
        bytes: &Bytes,
        guard: Option<Guard>,
    ) -> Result<Appended, i16> {
        state.may_append(acks)?;
        // Kafka looks at the size before the checksum.
        if bytes.len() > state.max_message {
            return Err(code::MESSAGE_TOO_LARGE);
        }
        let header = Header::read(bytes)?;
        if header.producer_id >= 0
            && let Some(before) = self.producers.look(&header, guard)?
        {
            return Ok(Appended {
                base_offset: before,
                end: before + i64::from(header.count),
                duplicate: true,
            });
        }
        Ok(self.append(header, bytes.clone()))
    }

    /// Whether the coordinator has to be asked before this batch can be appended: with what has to be
    /// shown then. `adds` if the broker adds the partition to the transaction by itself.
    pub fn verify(
        &mut self,
        state: ReplicaState,
        batch: &Header,
        adds: bool,
    ) -> Result<Option<Guard>, i16> {
        if !state.leads {
            return Err(code::NOT_LEADER_OR_FOLLOWER);
        }
        self.producers.verify(batch, adds)
    }

    /// What a broker does with a coordinator's marker.
    pub fn mark(
        &mut self,
        state: ReplicaState,
        marker: &Marker,
        version: i16,
    ) -> Result<Appended, i16> {
        state.may_append(-1)?;
        self.producers.look_at_marker(marker, version)?;
        let (header, bytes) = marker.batch();
        Ok(self.append(header, bytes))
    }

    fn append(&mut self, header: Header, bytes: Bytes) -> Appended {
        let base_offset = self.end();
        let stored = Stored {
            header,
            base_offset,
            bytes,
        };
        let end = stored.end();
        self.store(Rc::new(stored));
        Appended {
            base_offset,
            end,
            duplicate: false,
        }
    }

    /// Appends without a question, as followers do.
    fn store(&mut self, stored: Rc<Stored>) {
        let header = &stored.header;
        if let Some(marker) = stored.marker() {
            let ended = self.producers.marked(&marker, stored.base_offset);
            self.ended.extend(ended);
        } else if header.producer_id >= 0 {
            self.producers.appended(header, stored.base_offset);
        }
        self.batches.push(stored);
    }

    /// Forgets the producers whose last batch's records are older than `producer.id.expiration.ms`, by
    /// the records' own timestamps (`ProducerStateManager.removeExpiredProducers`).
    pub fn forget_producers(&mut self, now: i64, expiration: i64) {
        self.producers.forget(now, expiration);
    }

    /// The broker was started again. What it knows of producers comes from a snapshot, which has one batch of
    /// each that has not expired. After a crash, too: then the log is read first, and a snapshot is taken
    /// behind its end (`LogLoader.recoverSegment`).
    pub fn reload(&mut self, now: i64, expiration: i64) {
        let batches = self.emptied();
        batches.into_iter().for_each(|batch| self.store(batch));
        self.forget_producers(now, expiration);
        self.producers.keep_one_batch();
    }

    /// The offset behind the last record.
    pub fn end(&self) -> i64 {
        self.batches.last().map_or(0, |batch| batch.end())
    }

    pub fn batches(&self) -> &[Rc<Stored>] {
        &self.batches
    }

    /// The transactions that are open here, by producer id.
    pub fn open(&self) -> Vec<Open> {
        self.producers.open().collect()
    }

    /// The transactions that have ended here, in the order of their ends.
    pub fn ended(&self) -> &[Ended] {
        &self.ended
    }

    /// The transaction that this very marker has ended here, if any.
    pub fn ended_by(&self, marker: &Rc<Stored>) -> Option<Ended> {
        let is_here = |it: &&Ended| it.last_offset == marker.base_offset;
        let ended = self.ended.iter().rfind(is_here)?;
        let there = self.batches.iter().rfind(|it| Rc::ptr_eq(it, marker));
        there.map(|_| *ended)
    }

    /// Up to where every transaction has ended, as far as replicas have it
    /// (`UnifiedLog.lastStableOffset`): what consumers with `read_committed` see.
    pub fn last_stable_offset(&self, high_watermark: i64) -> i64 {
        let open = self.producers.open().map(|it| it.first_offset);
        let unsure = self
            .ended
            .iter()
            .filter(|it| it.last_offset >= high_watermark);
        let firsts = open.chain(unsure.map(|it| it.first_offset));
        firsts
            .min()
            .map_or(high_watermark, |first| first.min(high_watermark))
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

    /// Takes all batches out, and forgets what they said of producers.
    fn emptied(&mut self) -> Vec<Rc<Stored>> {
        self.producers.clear();
        self.ended.clear();
        std::mem::take(&mut self.batches)
    }

    /// Keeps the first `count` batches, and remembers of producers what they say.
    fn truncate(&mut self, count: usize) {
        if count < self.batches.len() {
            let kept = self.emptied().into_iter().take(count);
            kept.for_each(|batch| self.store(batch));
        }
    }

    /// Loses the batches that begin at `offset` or later.
    pub fn lose_from(&mut self, offset: i64) {
        let kept = self.batches.iter().take_while(|b| b.base_offset < offset);
        self.truncate(kept.count());
    }
}
