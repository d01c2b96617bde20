//! What a partition's leader remembers of its producers, and what it lets them append.
//!
//! `ProducerAppendInfo`, `ProducerStateEntry`, `VerificationStateEntry` and
//! `UnifiedLog.analyzeAndValidateProducerState` of Kafka 4.3.1.

use std::collections::{BTreeMap, VecDeque};

use crate::batch::{Header, Marker};
use crate::log::{REMEMBERED, code};

#[derive(Debug, Clone)]
struct Producer {
    /// -1 where nothing is known of it.
    epoch: i16,
    coordinator_epoch: i32,
    /// The largest timestamp of the last batch's records, or a marker's own.
    last_timestamp: i64,
    /// The last batches: first and last sequence, base offset.
    batches: VecDeque<(i32, i32, i64)>,
    /// Where its transaction began, if one is open.
    open: Option<i64>,
}

impl Producer {
    const UNKNOWN: Self = Self {
        epoch: -1,
        coordinator_epoch: -1,
        last_timestamp: -1,
        batches: VecDeque::new(),
        open: None,
    };

    /// Another epoch: what was under the last one is no duplicate any more.
    fn adopt(&mut self, epoch: i16) {
        if self.epoch != epoch {
            self.batches.clear();
            self.epoch = epoch;
        }
    }
}

/// A word that the coordinator was asked whether a partition is in a transaction. It stands for one
/// question: an answer that comes when the transaction has ended is no use any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guard(u64);

#[derive(Debug, Clone)]
struct Verification {
    guard: Guard,
    epoch: i16,
    lowest_sequence: i32,
    /// The broker adds the partition itself.
    adds: bool,
}

/// A transaction that has ended in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    pub producer_id: i64,
    pub first_offset: i64,
    /// The marker's.
    pub last_offset: i64,
    pub committed: bool,
}

/// A transaction that is open in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Open {
    pub producer_id: i64,
    pub epoch: i16,
    pub first_offset: i64,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Producers {
    known: BTreeMap<i64, Producer>,
    verifying: BTreeMap<i64, Verification>,
    guards: u64,
}

fn in_sequence(last: i32, next: i32) -> bool {
    last.wrapping_add(1) & i32::MAX == next
}

impl Producers {
    fn is_open(&self, producer_id: i64, epoch: i16) -> bool {
        let known = self.known.get(&producer_id);
        known.is_some_and(|it| it.open.is_some() && it.epoch == epoch)
    }

    /// Whether the coordinator has to be asked before such a batch is appended
    /// (`UnifiedLog.maybeStartTransactionVerification`).
    pub fn verify(&mut self, batch: &Header, adds: bool) -> Result<Option<Guard>, i16> {
        let id = batch.producer_id;
        if self.known.get(&id).is_some_and(|it| batch.epoch < it.epoch) {
            return Err(code::INVALID_PRODUCER_EPOCH);
        }
        if self.is_open(id, batch.epoch) {
            return Ok(None);
        }
        self.guards += 1;
        let new = Verification {
            guard: Guard(self.guards),
            epoch: batch.epoch,
            lowest_sequence: batch.first_sequence,
            adds,
        };
        let entry = self.verifying.entry(id).or_insert(new);
        if batch.epoch > entry.epoch {
            entry.epoch = batch.epoch;
            entry.lowest_sequence = batch.first_sequence;
        } else if batch.epoch == entry.epoch {
            entry.lowest_sequence = entry.lowest_sequence.min(batch.first_sequence);
        }
        Ok(Some(entry.guard))
    }

    /// The offset of the same batch, if it is remembered; an error if it does not fit.
    pub fn look(&self, batch: &Header, guard: Option<Guard>) -> Result<Option<i64>, i16> {
        let (first, last) = (batch.first_sequence, batch.last_sequence());
        let unknown = Producer::UNKNOWN;
        let known = self.known.get(&batch.producer_id).unwrap_or(&unknown);
        if batch.epoch == known.epoch
            && let Some((.., offset)) = known.batches.iter().find(|b| (b.0, b.1) == (first, last))
        {
            return Ok(Some(*offset));
        }
        if batch.epoch < known.epoch {
            return Err(code::INVALID_PRODUCER_EPOCH);
        }
        let verifying = self.verifying.get(&batch.producer_id);
        if batch.is_transactional()
            && !self.is_open(batch.producer_id, batch.epoch)
            && verifying.is_none_or(|it| Some(it.guard) != guard)
        {
            return Err(code::INVALID_TXN_STATE);
        }
        let late = verifying.is_some_and(|it| {
            it.adds && first != 0 && known.batches.is_empty() || first > it.lowest_sequence
        });
        let fits = match known.epoch {
            -1 => true,
            epoch if epoch != batch.epoch => first == 0,
            // Behind a marker of this epoch there is no sequence yet.
            _ => in_sequence(known.batches.back().map_or(-1, |it| it.1), first),
        };
        if late || !fits {
            return Err(code::OUT_OF_ORDER_SEQUENCE_NUMBER);
        }
        if known.open.is_some() && !batch.is_transactional() {
            return Err(code::INVALID_TXN_STATE);
        }
        Ok(None)
    }

    /// Whether a coordinator may write this marker (`ProducerAppendInfo.appendEndTxnMarker`). One of
    /// transaction version 2 has to come with a higher epoch than the transaction's records.
    pub fn look_at_marker(&self, marker: &Marker, version: i16) -> Result<(), i16> {
        let Some(known) = self.known.get(&marker.producer_id) else {
            return Ok(());
        };
        let again =
            marker.epoch == known.epoch && (known.open.is_none() || marker.epoch == i16::MAX);
        let old = match version >= 2 {
            true => marker.epoch <= known.epoch && !again,
            false => marker.epoch < known.epoch,
        };
        if old {
            return Err(code::INVALID_PRODUCER_EPOCH);
        }
        if known.coordinator_epoch > marker.coordinator_epoch {
            return Err(code::TRANSACTION_COORDINATOR_FENCED);
        }
        Ok(())
    }

    /// A batch is in the log.
    pub fn appended(&mut self, batch: &Header, base_offset: i64) {
        let id = batch.producer_id;
        let known = self.known.entry(id).or_insert(Producer::UNKNOWN);
        known.adopt(batch.epoch);
        known.last_timestamp = batch.max_timestamp;
        let (first, last) = (batch.first_sequence, batch.last_sequence());
        known.batches.push_back((first, last, base_offset));
        if known.batches.len() > REMEMBERED {
            known.batches.pop_front();
        }
        if batch.is_transactional() {
            known.open.get_or_insert(base_offset);
            self.verifying.remove(&id);
        }
    }

    /// A marker is in the log. Returns the transaction that it ends, if one was open.
    pub fn marked(&mut self, marker: &Marker, offset: i64) -> Option<Ended> {
        let id = marker.producer_id;
        let known = self.known.entry(id).or_insert(Producer::UNKNOWN);
        known.adopt(marker.epoch);
        known.coordinator_epoch = marker.coordinator_epoch;
        known.last_timestamp = marker.timestamp;
        let began = known.open.take();
        // A question for the next transaction may be under way, which has the marker's epoch.
        let next = |it: &Verification| it.adds && it.epoch == marker.epoch;
        if !self.verifying.get(&id).is_some_and(next) {
            self.verifying.remove(&id);
        }
        began.map(|first_offset| Ended {
            producer_id: id,
            first_offset,
            last_offset: offset,
            committed: marker.committed,
        })
    }

    pub fn open(&self) -> impl Iterator<Item = Open> {
        self.known.iter().filter_map(|(id, known)| {
            Some(Open {
                producer_id: *id,
                epoch: known.epoch,
                first_offset: known.open?,
            })
        })
    }

    /// Forgets all, but not which guards were given out.
    pub fn clear(&mut self) {
        self.known.clear();
        self.verifying.clear();
    }

    /// Those with an open transaction are remembered.
    pub fn forget(&mut self, now: i64, expiration: i64) {
        let expired = |it: &Producer| it.open.is_none() && now - it.last_timestamp >= expiration;
        self.known.retain(|_, known| !expired(known));
    }

    /// A snapshot has one batch of each.
    pub fn keep_one_batch(&mut self) {
        for known in self.known.values_mut() {
            let older = known.batches.len().saturating_sub(1);
            known.batches.drain(..older);
        }
    }
}
