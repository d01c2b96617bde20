//! The batch at the tail: records are appended to it.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use super::crc::Running;
use super::header::HEADER_LEN;
use super::record::RecordRef;
use super::sealed::SealedBatch;
use crate::core::ack::{Ack, AckSettler};
use crate::core::delivery::{Callback, Listener, Listeners};
use crate::core::memory::Buffer;

/// A batch that still takes records. Everything in it is committed: a record is in `count` only
/// once all its bytes are in the buffer.
pub struct OpenBatch {
    records: Buffer,
    count: i32,
    base_timestamp: i64,
    max_timestamp: i64,
    opened_at: Instant,
    /// Where the records have to end: the buffer has room for the header too, so that `batch.size`
    /// bounds the whole batch.
    limit: usize,
    /// Follows the records, unless they will be compressed.
    crc: Option<Running>,
    /// The length at which it catches up next.
    sum_at: usize,
    settle: AckSettler,
    listeners: Listeners,
}

/// The bytes after which a running sum catches up.
const STRIDE: usize = 4096;

impl OpenBatch {
    /// With `plain` the records will go as they are.
    pub fn new(records: Buffer, partition: i32, opened_at: Instant, plain: bool) -> Self {
        Self {
            limit: limit(&records),
            records,
            count: 0,
            base_timestamp: 0,
            max_timestamp: 0,
            opened_at,
            crc: plain.then(Running::new),
            sum_at: if plain { STRIDE } else { usize::MAX },
            settle: AckSettler::new(partition),
            listeners: Listeners::default(),
        }
    }

    /// Memory for a batch that begins with a record of this size: `at_least`, or more for a record
    /// that does not fit in it.
    pub fn buffer_size(record: &RecordRef<'_>, at_least: usize) -> usize {
        at_least.max(HEADER_LEN + record.upper_bound())
    }

    /// Moves the records to a larger buffer.
    pub fn grow(&mut self, mut larger: Buffer) {
        if larger.replace(&self.records) {
            self.limit = limit(&larger);
            self.records = larger;
        }
    }

    /// Whether the record would fit if the batch had a buffer of `size` bytes, which is larger than
    /// the one it has.
    pub fn could_grow(&self, record: &RecordRef<'_>, size: usize) -> bool {
        self.records.capacity() < size && self.wire_len() + record.upper_bound() <= size
    }

    /// Appends the record and returns its index, or `None` if it does not fit any more.
    #[inline]
    pub fn append(&mut self, record: &RecordRef<'_>) -> Option<u32> {
        if self.count == 0 {
            self.base_timestamp = record.timestamp;
            self.max_timestamp = record.timestamp;
        }
        let (count, limit) = (self.count, self.limit);
        let delta = record.timestamp.wrapping_sub(self.base_timestamp);
        let end = self
            .records
            .append(|memory, at| record.encode(memory, at, limit, count, delta))?;
        self.count = count + 1;
        self.max_timestamp = self.max_timestamp.max(record.timestamp);
        if end >= self.sum_at {
            self.sum_up();
        }
        Some(count as u32)
    }

    /// What receipts look at.
    #[inline]
    pub fn ack(&self) -> &Arc<Ack> {
        self.settle.ack()
    }

    /// Has `callback` called with the outcome of the record at `index`.
    pub fn call_back(&mut self, index: u32, timestamp: i64, callback: Callback) {
        let receipt = self.settle.receipt(index, timestamp);
        self.listeners.call_back(receipt, callback);
    }

    /// Tells `listener` of this batch's outcome, once however often it asks.
    pub fn listen(&mut self, listener: &Arc<dyn Listener>) {
        self.listeners.add(listener);
    }

    pub fn opened_at(&self) -> Instant {
        self.opened_at
    }

    /// Bytes on the wire so far, header included.
    pub fn wire_len(&self) -> usize {
        HEADER_LEN + self.len()
    }

    /// Bytes of records so far.
    #[inline]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    pub fn count(&self) -> i32 {
        self.count
    }

    /// Sums what has not been summed yet, while it is in the writer's cache. It is `full`, or it
    /// leaves with room for more.
    pub fn finish(&mut self, full: bool) {
        self.sum_up();
        if full {
            self.records.close();
        }
    }

    #[inline(never)]
    fn sum_up(&mut self) {
        if let Some(crc) = &mut self.crc {
            crc.catch_up(&self.records);
            self.sum_at = self.len() + STRIDE;
        }
    }

    /// Closes the batch: its records never change from here on.
    pub fn seal(self) -> SealedBatch {
        let sum = self.crc.map(|crc| crc.finish(&self.records));
        SealedBatch::new(
            (self.records, sum),
            self.count,
            (self.base_timestamp, self.max_timestamp),
            self.opened_at,
            self.settle,
            self.listeners,
        )
    }
}

fn limit(memory: &Buffer) -> usize {
    memory.capacity().saturating_sub(HEADER_LEN)
}

impl fmt::Debug for OpenBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenBatch")
            .field("count", &self.count)
            .field("len", &self.len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::batch::Stamp;
    use crate::core::memory::{Shelf, blank};

    const SIZE: usize = 200;

    fn open(size: usize) -> OpenBatch {
        let shelf = Shelf::new(1 << 20, size);
        let memory = shelf.buffer(blank(size));
        OpenBatch::new(memory, 0, Instant::now(), true)
    }

    fn record(value: &[u8], timestamp: i64) -> RecordRef<'_> {
        RecordRef {
            key: None,
            value: Some(value),
            headers: &[],
            timestamp,
        }
    }

    #[test]
    fn the_size_bounds_the_whole_batch_and_is_used_to_the_last_byte() {
        for length in 1..SIZE - HEADER_LEN {
            let mut batch = open(SIZE);
            let value = vec![1; length];
            let mut count = 0;
            while batch.append(&record(&value, 0)).is_some() {
                count += 1;
            }
            let (records, each) = (batch.len(), length + 6 + usize::from(length > 63));
            assert!(HEADER_LEN + records <= SIZE, "{length}");
            assert_eq!(batch.count(), count);
            // Lengths from 57 on take a second byte for the record's own length.
            let room = SIZE - HEADER_LEN - records;
            assert!(room < each + 2, "{length}: {room} bytes are left");
            let sealed = batch.seal();
            assert_eq!(sealed.wire_len(), HEADER_LEN + records);
        }
    }

    #[test]
    fn memory_made_for_a_record_takes_it_whatever_its_timestamp() {
        for length in [0, 1, 63, 64, 300, 10_000] {
            let value = vec![1; length];
            let large = record(&value, i64::MAX);
            let mut batch = open(OpenBatch::buffer_size(&large, SIZE));
            assert!(batch.append(&large).is_some(), "{length}");
        }
    }

    #[test]
    fn a_refused_record_leaves_no_trace() {
        let mut batch = open(SIZE);
        assert!(batch.append(&record(b"first", 10)).is_some());
        let before = (batch.len(), batch.count());
        assert!(batch.append(&record(&[0; SIZE], 99)).is_none());
        assert_eq!((batch.len(), batch.count()), before);
        let (header, _) = batch.seal().stamped(Stamp::NONE);
        let latest = i64::from_be_bytes(header[35..43].try_into().expect("eight bytes"));
        assert_eq!(latest, 10, "its timestamp is not the batch's");
    }

    #[test]
    fn timestamps_may_go_back_and_forth() {
        let mut batch = open(SIZE);
        for timestamp in [500, 0, i64::MAX, 3] {
            assert!(batch.append(&record(b"x", timestamp)).is_some());
        }
        let (header, records) = batch.seal().stamped(Stamp::NONE);
        let mut bytes = bytes::Bytes::from([&header[..], &records[..]].concat());
        let set =
            kafka_protocol::records::RecordBatchDecoder::decode(&mut bytes).expect("a valid batch");
        let timestamps: Vec<_> = set.records.iter().map(|record| record.timestamp).collect();
        assert_eq!(timestamps, [500, 0, i64::MAX, 3]);
        let latest = i64::from_be_bytes(header[35..43].try_into().expect("eight bytes"));
        assert_eq!(latest, i64::MAX);
    }
}
