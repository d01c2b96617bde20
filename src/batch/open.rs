//! The batch at the tail: records are appended to it.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use super::header::HEADER_LEN;
use super::record::RecordRef;
use super::sealed::SealedBatch;
use super::varint;
use crate::ack::{Receipt, Settle};
use crate::delivery::{Callback, Listener, Listeners};
use crate::pool::Buffer;

/// A batch that still takes records. Everything in it is committed: a record is in `count` only
/// once all its bytes are in the buffer.
pub(crate) struct OpenBatch {
    records: Buffer,
    count: i32,
    base_timestamp: i64,
    max_timestamp: i64,
    opened_at: Instant,
    settle: Settle,
    listeners: Listeners,
}

impl OpenBatch {
    pub fn new(records: Buffer, partition: i32, opened_at: Instant) -> Self {
        Self {
            records,
            count: 0,
            base_timestamp: 0,
            max_timestamp: 0,
            opened_at,
            settle: Settle::new(partition),
            listeners: Listeners::default(),
        }
    }

    /// Memory for a batch that begins with a record of this size: `batch.size`, or more for a
    /// record that does not fit in it and gets a batch of its own.
    pub fn buffer_size(record: &RecordRef<'_>, batch_size: usize) -> usize {
        batch_size.max(HEADER_LEN + record.upper_bound())
    }

    /// Appends the record, or returns `None` if it does not fit any more.
    #[inline]
    pub fn append(&mut self, record: &RecordRef<'_>) -> Option<Receipt> {
        if self.count == 0 {
            self.base_timestamp = record.timestamp;
            self.max_timestamp = record.timestamp;
        }
        let delta = record.timestamp.wrapping_sub(self.base_timestamp);
        let body = record.body_len(self.count, delta);
        let length = varint::len(body as i64) + body;
        // The buffer has room for the header too, so that `batch.size` bounds the whole batch.
        if HEADER_LEN + self.records.len() + length > self.records.capacity()
            || self.count == i32::MAX
        {
            return None;
        }
        let receipt = self.settle.receipt(self.count as u32, record.timestamp)?;
        record.encode(self.records.bytes_mut(), body, self.count, delta);
        self.max_timestamp = self.max_timestamp.max(record.timestamp);
        self.count += 1;
        Some(receipt)
    }

    /// Has `callback` called with the outcome of the record that `receipt` was given for.
    pub fn call_back(&mut self, receipt: Receipt, callback: Callback) {
        self.listeners.call_back(receipt, callback);
    }

    /// Tells `listener` of this batch's outcome, once however often it asks.
    pub fn listen(&mut self, listener: &Arc<dyn Listener>) {
        self.listeners.add(listener);
    }

    pub fn opened_at(&self) -> Instant {
        self.opened_at
    }

    /// Bytes of records so far.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    pub fn count(&self) -> i32 {
        self.count
    }

    /// Closes the batch: its records never change from here on.
    pub fn seal(self) -> SealedBatch {
        SealedBatch::new(
            self.records,
            self.count,
            (self.base_timestamp, self.max_timestamp),
            self.opened_at,
            self.settle,
            self.listeners,
        )
    }
}

impl fmt::Debug for OpenBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenBatch")
            .field("count", &self.count)
            .field("len", &self.len())
            .finish()
    }
}
