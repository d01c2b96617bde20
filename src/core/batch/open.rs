//! An open batch: the last batch of a partition, to which records are appended.

use std::fmt;
use std::ptr;
use std::sync::{Arc, Weak};
use std::time::Instant;

use super::crc::Running;
use super::header::HEADER_LEN;
use super::record::RecordRef;
use super::sealed::SealedBatch;
use crate::core::ack::{Ack, AckSettler, Filling};
use crate::core::delivery::{Callback, Listener, Listeners};
use crate::core::memory::Buffer;
use crate::core::spool::Appending;
use crate::core::transaction::Scope;

/// A batch that still takes records. Every record in it is complete: `count` includes a record only
/// after all its bytes are in the buffer.
pub struct OpenBatch {
    records: Buffer,
    count: i32,
    base_timestamp: i64,
    max_timestamp: i64,
    opened_at: Instant,
    /// The length at which the records must end, in bytes. The rest of the buffer's size is
    /// reserved for the header, so that `batch.size` bounds the whole batch.
    limit: usize,
    /// The CRC of the records so far. `None` if the records will be compressed, which changes their
    /// bytes.
    crc: Option<Running>,
    /// The length of the records at which the CRC is brought up to date next.
    sum_at: usize,
    /// The transaction that its records are part of, if they are of one. Here beside what each append
    /// reads.
    scope: Option<Arc<Scope>>,
    settle: AckSettler,
    listeners: Listeners,
}

/// Bytes that are appended before the CRC is brought up to date.
const STRIDE: usize = 4096;

impl OpenBatch {
    /// For records of no transaction.
    #[cfg(any(test, feature = "internals"))]
    pub fn new(records: Buffer, partition: i32, opened_at: Instant, plain: bool) -> Self {
        Self::within(None, records, partition, opened_at, plain)
    }

    /// For records of a transaction, or of none. `plain`: the records will be sent uncompressed.
    pub fn within(
        scope: Option<Arc<Scope>>,
        records: Buffer,
        partition: i32,
        opened_at: Instant,
        plain: bool,
    ) -> Self {
        Self {
            limit: limit(&records),
            records,
            count: 0,
            base_timestamp: 0,
            max_timestamp: 0,
            opened_at,
            crc: plain.then(Running::new),
            sum_at: if plain { STRIDE } else { usize::MAX },
            settle: AckSettler::within(scope.clone(), partition),
            scope,
            listeners: Listeners::default(),
        }
    }

    /// The size of the buffer for a batch whose first record is `record`: `at_least`, or more if
    /// the record needs more.
    pub fn buffer_size(record: &RecordRef<'_>, at_least: usize) -> usize {
        at_least.max(HEADER_LEN + record.upper_bound())
    }

    /// Moves the records into a larger buffer.
    pub fn grow(&mut self, mut larger: Buffer) {
        if larger.replace(&self.records) {
            self.limit = limit(&larger);
            self.records = larger;
        }
    }

    /// The bytes of a buffer that has room for the record, too.
    pub fn size_with(&self, record: &RecordRef<'_>) -> usize {
        self.wire_len() + record.upper_bound()
    }

    /// Whether the record would fit into a buffer of `size` bytes, if that is larger than the
    /// present one.
    pub fn could_grow(&self, record: &RecordRef<'_>, size: usize) -> bool {
        self.records.capacity() < size && self.size_with(record) <= size
    }

    /// Appends the record and returns its index, or `None` if it does not fit.
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

    /// What was appended since it had `before` bytes and `index` records, as the spool takes it.
    pub fn appended(&self, before: usize, index: u32) -> Appending<'_> {
        Appending {
            records: self.records.get(before..).unwrap_or_default(),
            count: (self.count as u32 - index) as u16,
            newest: self.max_timestamp,
            begins: (index == 0).then_some(self.base_timestamp),
            source: None,
        }
    }

    /// Notes that its records are in the spool: if it is dropped without an outcome, they are kept.
    pub fn set_spooled(&mut self) {
        self.settle.spooled = true;
    }

    /// Has `filling` told who waits for its records. It has none yet.
    pub(crate) fn filled_by(&mut self, filling: Weak<dyn Filling>) {
        self.settle.filled_by(filling);
    }

    /// Whether it takes records of this transaction, or of none.
    #[inline]
    pub fn is_of(&self, scope: &Option<Arc<Scope>>) -> bool {
        let place = |it: &Option<Arc<Scope>>| it.as_ref().map_or(ptr::null(), Arc::as_ptr);
        place(&self.scope) == place(scope)
    }

    /// The ack that the receipts of this batch share.
    #[inline]
    pub fn ack(&self) -> &Arc<Ack> {
        self.settle.ack()
    }

    /// Registers `callback` for the outcome of the record at `index`.
    pub fn call_back(&mut self, index: u32, timestamp: i64, callback: Callback) {
        let receipt = self.settle.receipt(index, timestamp);
        self.listeners.call_back(receipt, callback);
    }

    /// Registers `listener` for the outcome of this batch. It is told once, even if it is
    /// registered several times.
    pub fn listen(&mut self, listener: &Arc<dyn Listener>) {
        self.listeners.add(listener);
    }

    pub fn opened_at(&self) -> Instant {
        self.opened_at
    }

    /// Bytes on the wire so far, including the header.
    pub fn wire_len(&self) -> usize {
        HEADER_LEN + self.len()
    }

    /// Bytes of the records so far.
    #[inline]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    pub fn count(&self) -> i32 {
        self.count
    }

    /// Brings the CRC up to date while the records are still in the cache of the thread that wrote
    /// them. `full` says that no further record fits. Otherwise the batch is sealed before it is
    /// full.
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

    /// Seals the batch: its records never change again.
    pub fn seal(self) -> SealedBatch {
        let sum = self.crc.map(|crc| crc.finish(&self.records));
        SealedBatch::new(
            (self.records, sum),
            self.count,
            (self.base_timestamp, self.max_timestamp),
            self.opened_at,
            self.scope,
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
            // From a value of 58 bytes on, the record's own length takes a second byte.
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
        assert_eq!(latest, 10, "the refused record's timestamp does not count");
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
