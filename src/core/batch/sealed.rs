//! A sealed batch: its records never change again.

use std::any::Any;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use super::crc;
use super::header::{self, HEADER_LEN, Stamp, Summary};
use super::record::renumber;
use crate::core::ack::{AckSettler, RecordId, Settlement};
use crate::core::compress::{self, Compression, Compressor};
use crate::core::delivery::{Listener, Listeners};
use crate::core::memory::Buffer;
use crate::core::transaction::Scope;

/// A batch that takes no more records. It lives until its outcome is known.
#[derive(Debug)]
pub struct SealedBatch {
    /// The batch and every request that carries it share them. The memory goes back to the pool
    /// when the last of these owners is dropped.
    records: Arc<Buffer>,
    /// The CRC of the records, if it has been computed.
    sum: Option<u32>,
    summary: Summary,
    /// Bytes of the records before they were compressed.
    uncompressed: usize,
    /// Compression was tried, with or without success.
    squeezed: bool,
    /// When the first record was accepted: `delivery.timeout.ms` counts from then.
    created_at: Instant,
    /// The id of the first record, as receipts show it.
    first: RecordId,
    scope: Option<Arc<Scope>>,
    settle: Option<AckSettler>,
    listeners: Listeners,
}

/// A flush waits until the last clone of its token is dropped.
pub type Token = Arc<dyn Any + Send + Sync>;

/// A batch whose outcome is known. Its listeners and callbacks have yet to be told.
#[derive(Debug)]
pub struct Settled {
    pub first: RecordId,
    pub count: i32,
    pub settlement: Settlement,
    /// The transaction that the records are part of. Their outcome is known when it has ended.
    pub scope: Option<Arc<Scope>>,
    pub listeners: Listeners,
    /// The memory of the records, if anybody is to be told. Outcomes that wait to be told count so, and
    /// those who send are held up before outcomes pile up.
    pub memory: Option<Arc<Buffer>>,
    /// Tokens to drop after the listeners were told. The ledger fills them in.
    pub tokens: Vec<Token>,
}

impl Settled {
    /// Records that nobody has a receipt of.
    pub fn unheard(
        partition: i32,
        count: u64,
        settlement: Settlement,
        listeners: &[Arc<dyn Listener>],
    ) -> Self {
        Self {
            first: AckSettler::within(None, partition).first(),
            count: i32::try_from(count).unwrap_or(i32::MAX),
            settlement,
            scope: None,
            listeners: Listeners::of(listeners),
            memory: None,
            tokens: Vec::new(),
        }
    }
}

impl SealedBatch {
    pub(super) fn new(
        (records, sum): (Buffer, Option<u32>),
        count: i32,
        (base_timestamp, max_timestamp): (i64, i64),
        created_at: Instant,
        scope: Option<Arc<Scope>>,
        settle: AckSettler,
        listeners: Listeners,
    ) -> Self {
        Self {
            uncompressed: records.len(),
            records: Arc::new(records),
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
            scope,
            settle: Some(settle),
            listeners,
        }
    }

    /// A batch that was read back from the spool.
    pub fn read_back(
        records: Buffer,
        count: i32,
        timestamps: (i64, i64),
        created_at: Instant,
        settle: AckSettler,
        listeners: &[Arc<dyn Listener>],
    ) -> Self {
        Self::new(
            (records, None),
            count,
            timestamps,
            created_at,
            None,
            settle,
            Listeners::of(listeners),
        )
    }

    pub fn count(&self) -> i32 {
        self.summary.count
    }

    /// The id of the first record.
    pub fn first(&self) -> RecordId {
        self.first
    }

    pub fn created_at(&self) -> Instant {
        self.created_at
    }

    /// The largest timestamp of its records, in milliseconds since 1970.
    pub fn max_timestamp(&self) -> i64 {
        self.summary.max_timestamp
    }

    /// The transaction that its records are part of, if they are of one.
    pub fn scope(&self) -> Option<&Arc<Scope>> {
        self.scope.as_ref()
    }

    /// Bytes on the wire, including the header.
    pub fn wire_len(&self) -> usize {
        HEADER_LEN + self.records.len()
    }

    /// Bytes of the records before compression.
    pub fn uncompressed_len(&self) -> usize {
        self.uncompressed
    }

    /// Compresses the records. This happens once, before the first request that carries them. If
    /// compression would make them larger, or the codec fails, they are sent uncompressed.
    pub fn compress(&mut self, codec: Compression, compressor: &mut Compressor) {
        if self.squeezed || codec == Compression::None {
            return;
        }
        self.squeezed = true;
        let Some(records) = Arc::get_mut(&mut self.records) else {
            return;
        };
        match compressor.compress(records) {
            Ok(smaller) if smaller.len() < records.len() && records.replace(smaller) => {
                self.sum = None;
                self.summary.attributes = codec.attribute_bits();
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "a batch goes uncompressed"),
        }
    }

    /// Returns the header with `stamp`, and the records. The same stamp gives the same bytes.
    pub fn stamped(&mut self, stamp: Stamp) -> ([u8; HEADER_LEN], Arc<Buffer>) {
        let sum = *self.sum.get_or_insert_with(|| crc::sum(&self.records));
        let header = header::write(&self.summary, stamp, self.records.len(), sum);
        (header, Arc::clone(&self.records))
    }

    /// Notes that bytes of the batch may be in a log. If the batch is dropped without an outcome,
    /// its records are then reported as unknown.
    pub fn set_unresolved(&mut self) {
        if let Some(settle) = &mut self.settle {
            settle.unresolved = true;
        }
    }

    /// Notes that the batch is certainly not in a log.
    pub fn set_resolved(&mut self) {
        if let Some(settle) = &mut self.settle {
            settle.unresolved = false;
        }
    }

    /// Lets go of the records' bytes: nothing will be sent any more.
    pub fn let_go(&mut self) {
        self.records = Arc::new(self.records.beside(Vec::new()));
    }

    /// Notes that the records are in the spool: if the batch is dropped without an outcome, they are kept.
    pub fn set_spooled(&mut self) {
        if let Some(settle) = &mut self.settle {
            settle.spooled = true;
        }
    }

    /// Whether its records are in the spool, and it has no outcome.
    pub fn is_spooled(&self) -> bool {
        self.settle.as_ref().is_some_and(|settle| settle.spooled)
    }

    /// The records as they were accepted, uncompressed. `None` where what was compressed cannot be read.
    pub fn plain(&self) -> Option<Cow<'_, [u8]>> {
        let Summary { attributes, .. } = self.summary;
        if attributes == 0 {
            return Some(Cow::Borrowed(&self.records));
        }
        match compress::decompress(attributes, &self.records, self.uncompressed) {
            Ok(plain) => Some(Cow::Owned(plain)),
            Err(error) => {
                tracing::error!(%error, "a batch compressed here does not decompress");
                None
            }
        }
    }

    /// What timestamps of its records count from, in milliseconds since 1970.
    pub fn base_timestamp(&self) -> i64 {
        self.summary.base_timestamp
    }

    /// Whether nobody waits for the outcome of any of its records.
    pub fn is_unheard(&self) -> bool {
        self.settle.as_ref().is_none_or(AckSettler::is_unheard) && !self.listeners.has_callbacks()
    }

    /// Takes the records again that it let go of, and that were read back.
    pub fn refill(&mut self, records: Buffer) {
        self.uncompressed = records.len();
        self.records = Arc::new(records);
        self.sum = None;
        self.summary.attributes = 0;
        self.squeezed = false;
    }

    /// Lets go of the whole batch, since nobody waits for its records. Returns who is told of them.
    pub fn into_listeners(mut self) -> Vec<Arc<dyn Listener>> {
        if let Some(settle) = self.settle.take() {
            settle.forget();
        }
        std::mem::take(&mut self.listeners).into_listeners()
    }

    /// Gives all records their outcome. Returns `None` if they already have one.
    pub fn settle(&mut self, settlement: Settlement) -> Option<Settled> {
        self.settle.take()?.settle(settlement.clone());
        let listeners = std::mem::take(&mut self.listeners);
        let memory = (!listeners.is_empty()).then(|| {
            self.records.leaves();
            Arc::clone(&self.records)
        });
        Some(Settled {
            first: self.first,
            count: self.count(),
            settlement,
            scope: self.scope.clone(),
            memory,
            listeners,
            tokens: Vec::new(),
        })
    }

    pub fn is_settled(&self) -> bool {
        self.settle.is_none()
    }

    /// Splits the batch into two halves with the same number of records, give or take one, after a
    /// broker refused it as too large. Their memory is charged. It is no more than the batch's own,
    /// which goes back once nobody has it.
    ///
    /// Returns the batch unchanged if it has a single record or is settled already.
    pub fn split(mut self) -> Result<[Self; 2], Box<Self>> {
        let count = self.count();
        let at = count / 2;
        if at == 0 || self.settle.is_none() {
            return Err(Box::new(self));
        }
        let mut halves = [Vec::new(), Vec::new()];
        let latest = self.plain().and_then(|plain| {
            let (rest, latest) = renumber(&plain, at, &mut halves[0])?;
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
            records: Arc::new(self.records.beside(records)),
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
            scope: self.scope.clone(),
            settle: Some(whole.part()),
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
