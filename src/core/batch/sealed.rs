//! A batch whose records never change again.

use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

use super::crc;
use super::header::{self, HEADER_LEN, Stamp, Summary};
use super::record::renumber;
use crate::core::ack::{AckSettler, RecordId, Settlement};
use crate::core::compress::{self, Compression, Compressor};
use crate::core::delivery::Listeners;
use crate::core::memory::Buffer;

/// The records of a sealed batch. Every request that carries them is an owner: the memory goes
/// back to the pool when the last one is done.
#[derive(Debug)]
pub enum Payload {
    /// In leased memory.
    Leased(Buffer),
    /// Half of a batch that was split; outside the budget.
    Own(Vec<u8>),
}

impl Payload {
    /// It goes to a socket.
    pub fn leaves(&self) {
        if let Self::Leased(buffer) = self {
            buffer.leaves();
        }
    }

    /// Puts fewer bytes in the place of what is there.
    fn shrink(&mut self, bytes: &[u8]) -> bool {
        match self {
            Self::Leased(buffer) => buffer.replace(bytes),
            Self::Own(own) => {
                own.clear();
                own.extend_from_slice(bytes);
                true
            }
        }
    }
}

impl std::ops::Deref for Payload {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Leased(buffer) => buffer,
            Self::Own(bytes) => bytes,
        }
    }
}

/// A batch on its way to its outcome.
#[derive(Debug)]
pub struct SealedBatch {
    records: Arc<Payload>,
    /// The records' CRC, if it has been summed.
    sum: Option<u32>,
    summary: Summary,
    /// Bytes of the records before they were compressed.
    uncompressed: usize,
    /// Compression was tried.
    squeezed: bool,
    /// When its first record was accepted: `delivery.timeout.ms` counts from here.
    created_at: Instant,
    /// How receipts name its first record.
    first: RecordId,
    settle: Option<AckSettler>,
    listeners: Listeners,
}

/// What a flush waits for: that the last clone is dropped.
pub type Token = Arc<dyn Any + Send + Sync>;

/// A batch that has its outcome; what is left to do is to tell.
#[derive(Debug)]
pub struct Settled {
    pub first: RecordId,
    pub count: i32,
    pub settlement: Settlement,
    pub listeners: Listeners,
    /// What waits until this has been told; the ledger's to fill in.
    pub tokens: Vec<Token>,
}

impl SealedBatch {
    pub(super) fn new(
        (records, sum): (Buffer, Option<u32>),
        count: i32,
        (base_timestamp, max_timestamp): (i64, i64),
        created_at: Instant,
        settle: AckSettler,
        listeners: Listeners,
    ) -> Self {
        Self {
            uncompressed: records.len(),
            records: Arc::new(Payload::Leased(records)),
            sum,
            summary: Summary {
                attributes: 0,
                count,
                base_timestamp,
                max_timestamp,
            },
            squeezed: false,
            created_at,
            first: settle.first(),
            settle: Some(settle),
            listeners,
        }
    }

    pub fn count(&self) -> i32 {
        self.summary.count
    }

    pub fn created_at(&self) -> Instant {
        self.created_at
    }

    /// Bytes on the wire, header included.
    pub fn wire_len(&self) -> usize {
        HEADER_LEN + self.records.len()
    }

    /// Bytes the records had before compression.
    pub fn uncompressed_len(&self) -> usize {
        self.uncompressed
    }

    /// Compresses the records, once, before the first request carries them. Where that would make
    /// them larger, or the codec fails, they go as they are.
    pub fn compress(&mut self, codec: Compression, compressor: &mut Compressor) {
        if self.squeezed || codec == Compression::None {
            return;
        }
        self.squeezed = true;
        let Some(records) = Arc::get_mut(&mut self.records) else {
            return;
        };
        match compressor.compress(records) {
            Ok(smaller) if smaller.len() < records.len() && records.shrink(smaller) => {
                self.sum = None;
                self.summary.attributes = codec.attribute_bits();
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "a batch goes uncompressed"),
        }
    }

    /// The batch as it goes to the wire under `stamp`. The same stamp gives the same bytes.
    pub fn stamped(&mut self, stamp: Stamp) -> ([u8; HEADER_LEN], Arc<Payload>) {
        let sum = *self.sum.get_or_insert_with(|| crc::sum(&self.records));
        let header = header::write(&self.summary, stamp, self.records.len(), sum);
        (header, Arc::clone(&self.records))
    }

    /// Marks that bytes of the batch may be in a log, for its drop guard's sake.
    pub fn set_unresolved(&mut self) {
        if let Some(settle) = &mut self.settle {
            settle.unresolved = true;
        }
    }

    /// Gives all records their outcome. `None` if they had one already.
    pub fn settle(&mut self, settlement: Settlement) -> Option<Settled> {
        self.settle.take()?.settle(settlement.clone());
        let listeners = std::mem::take(&mut self.listeners);
        Some(Settled {
            first: self.first,
            count: self.count(),
            settlement,
            listeners,
            tokens: Vec::new(),
        })
    }

    pub fn is_settled(&self) -> bool {
        self.settle.is_none()
    }

    /// Cuts the batch in two halves by records, for a broker that found it too large.
    ///
    /// Gives the batch back if it is a single record, or settled already.
    pub fn split(mut self) -> Result<[Self; 2], Box<Self>> {
        let count = self.count();
        let at = count / 2;
        if at == 0 || self.settle.is_none() {
            return Err(Box::new(self));
        }
        let mut halves = [Vec::new(), Vec::new()];
        let plain =
            match compress::decompress(self.summary.attributes, &self.records, self.uncompressed) {
                Ok(plain) => plain,
                Err(error) => {
                    tracing::error!(%error, "a batch compressed here does not decompress");
                    return Err(Box::new(self));
                }
            };
        let latest = renumber(&plain, at, &mut halves[0]).and_then(|(rest, latest)| {
            Some([latest, renumber(rest, count - at, &mut halves[1])?.1])
        });
        let (Some(latest), Some(whole)) = (latest, self.settle.take()) else {
            return Err(Box::new(self));
        };

        let middle = RecordId {
            index: self.first.index + at as u32,
            ..self.first
        };
        let listeners = std::mem::take(&mut self.listeners).split(middle);
        let base_timestamp = self.summary.base_timestamp;
        let part = |records: Vec<u8>, latest, count, first, listeners| Self {
            uncompressed: records.len(),
            records: Arc::new(Payload::Own(records)),
            sum: None,
            summary: Summary {
                attributes: 0,
                count,
                base_timestamp,
                max_timestamp: base_timestamp.wrapping_add(latest),
            },
            squeezed: false,
            created_at: self.created_at,
            first,
            settle: Some(AckSettler::new(whole.partition())),
            listeners,
        };
        let [head, tail] = halves;
        let parts = [
            part(head, latest[0], at, self.first, listeners.0),
            part(tail, latest[1], count - at, middle, listeners.1),
        ];
        let acks = parts.iter().filter_map(|part| part.settle.as_ref());
        whole.split([0, at as u32].into_iter().zip(acks));
        Ok(parts)
    }
}

#[cfg(test)]
mod tests;
