//! A record batch as a broker reads it, by code that shares nothing with the producer's.

use bytes::{BufMut, Bytes, BytesMut};

/// Bits of a batch's attributes.
const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;

/// The parts of a batch's header that decide over its fate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub producer_id: i64,
    pub epoch: i16,
    pub first_sequence: i32,
    pub count: i32,
    pub attributes: i16,
    /// The largest timestamp of its records, in milliseconds.
    pub max_timestamp: i64,
}

pub const HEADER: usize = 61;

fn at<const N: usize>(bytes: &[u8], from: usize) -> [u8; N] {
    bytes[from..from + N].try_into().expect("a whole header")
}

impl Header {
    /// Reads a produce request's records. An error is the code that a broker answers.
    pub fn read(bytes: &[u8]) -> Result<Self, i16> {
        const CORRUPT_MESSAGE: i16 = 2;
        const INVALID_RECORD: i16 = 87;
        if bytes.len() < HEADER {
            return Err(CORRUPT_MESSAGE);
        }
        let length = i32::from_be_bytes(at(bytes, 8)) as usize;
        if length + 12 != bytes.len() {
            return Err(INVALID_RECORD); // more than one batch, or a part of one
        }
        if bytes[16] != 2 || i64::from_be_bytes(at(bytes, 0)) != 0 {
            return Err(INVALID_RECORD);
        }
        let crc = u32::from_be_bytes(at(bytes, 17));
        if crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &bytes[21..]) as u32 != crc {
            return Err(CORRUPT_MESSAGE);
        }
        let header = Self::of(bytes);
        if i32::from_be_bytes(at(bytes, 23)) != header.count - 1 || header.count == 0 {
            return Err(INVALID_RECORD);
        }
        if header.is_control() {
            return Err(INVALID_RECORD); // that is for coordinators to write
        }
        Ok(header)
    }

    /// Reads it without a question.
    fn of(bytes: &[u8]) -> Self {
        Self {
            producer_id: i64::from_be_bytes(at(bytes, 43)),
            epoch: i16::from_be_bytes(at(bytes, 51)),
            first_sequence: i32::from_be_bytes(at(bytes, 53)),
            count: i32::from_be_bytes(at(bytes, 57)),
            attributes: i16::from_be_bytes(at(bytes, 21)),
            max_timestamp: i64::from_be_bytes(at(bytes, 35)),
        }
    }

    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    /// It holds no records, but the end of a transaction.
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    pub fn last_sequence(&self) -> i32 {
        self.first_sequence.wrapping_add(self.count - 1) & i32::MAX
    }
}

/// The end of a transaction, as a coordinator has it written to a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    pub producer_id: i64,
    pub epoch: i16,
    pub committed: bool,
    pub coordinator_epoch: i32,
    /// By the broker's wall clock, in milliseconds.
    pub timestamp: i64,
}

impl Marker {
    /// The control batch that says so (`MemoryRecords.withEndTransactionMarker`).
    pub fn batch(&self) -> (Header, Bytes) {
        let mut record = BytesMut::new();
        record.put_slice(&[0, 0, 0]); // attributes, and the deltas of timestamp and offset
        record.put_u8(4 << 1); // a key of four bytes, zigzag
        record.put_i16(0);
        record.put_i16(i16::from(self.committed));
        record.put_u8(6 << 1);
        record.put_i16(0);
        record.put_i32(self.coordinator_epoch);
        record.put_u8(0); // no headers
        let mut from_attributes = BytesMut::new();
        from_attributes.put_i16(TRANSACTIONAL | CONTROL);
        from_attributes.put_i32(0);
        from_attributes.put_i64(self.timestamp);
        from_attributes.put_i64(self.timestamp);
        from_attributes.put_i64(self.producer_id);
        from_attributes.put_i16(self.epoch);
        from_attributes.put_i32(-1);
        from_attributes.put_i32(1);
        from_attributes.put_u8((record.len() as u8) << 1);
        from_attributes.put_slice(&record);
        let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &from_attributes);
        let mut batch = BytesMut::new();
        batch.put_i64(0);
        batch.put_i32(from_attributes.len() as i32 + 9);
        batch.put_i32(-1);
        batch.put_u8(2);
        batch.put_u32(crc as u32);
        batch.put_slice(&from_attributes);
        (Header::of(&batch), batch.freeze())
    }

    /// What a control batch says.
    pub fn read(batch: &[u8]) -> Self {
        let header = Header::of(batch);
        let record = &batch[HEADER + 1..];
        Self {
            producer_id: header.producer_id,
            epoch: header.epoch,
            committed: i16::from_be_bytes(at(record, 6)) == 1,
            coordinator_epoch: i32::from_be_bytes(at(record, 11)),
            timestamp: header.max_timestamp,
        }
    }
}

/// A varint, zigzag, and what follows it.
fn varint(bytes: &[u8]) -> (i64, &[u8]) {
    let (mut value, mut shift) = (0u64, 0);
    for (at, byte) in bytes.iter().enumerate() {
        value |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            let value = (value >> 1) as i64 ^ -((value & 1) as i64);
            return (value, &bytes[at + 1..]);
        }
    }
    panic!("a varint ends early");
}

/// The records' values, from uncompressed bytes behind the header.
pub fn values(records: &Bytes, count: i32) -> Vec<Bytes> {
    let mut rest = &records[..];
    let mut values = Vec::new();
    for number in 0..count {
        let (length, record) = varint(rest);
        let (record, after) = record.split_at(length as usize);
        let (_timestamp_delta, record) = varint(&record[1..]);
        let (offset_delta, record) = varint(record);
        assert_eq!(offset_delta, i64::from(number), "offsets count up");
        let (key, record) = varint(record);
        let record = &record[key.max(0) as usize..];
        let (value, record) = varint(record);
        values.push(records.slice_ref(&record[..value.max(0) as usize]));
        rest = after;
    }
    assert!(rest.is_empty(), "bytes behind the last record");
    values
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// A batch of a producer, under a stamp of id, epoch and first sequence, whose records nobody reads.
    pub fn data((id, epoch, first): (i64, i16, i32), count: i32, transactional: bool) -> Bytes {
        let mut from_attributes = BytesMut::new();
        from_attributes.put_i16(if transactional { TRANSACTIONAL } else { 0 });
        from_attributes.put_i32(count - 1);
        from_attributes.put_i64(0);
        from_attributes.put_i64(0);
        from_attributes.put_i64(id);
        from_attributes.put_i16(epoch);
        from_attributes.put_i32(first);
        from_attributes.put_i32(count);
        from_attributes.put_bytes(b'x', count as usize);
        let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &from_attributes);
        let mut batch = BytesMut::new();
        batch.put_i64(0);
        batch.put_i32(from_attributes.len() as i32 + 9);
        batch.put_i32(-1);
        batch.put_u8(2);
        batch.put_u32(crc as u32);
        batch.put_slice(&from_attributes);
        batch.freeze()
    }

    #[test]
    fn a_marker_is_read_as_it_was_written() {
        let marker = Marker {
            producer_id: 1 << 40,
            epoch: 300,
            committed: true,
            coordinator_epoch: 77,
            timestamp: 1_700_000_000_000,
        };
        for committed in [true, false] {
            let marker = Marker {
                committed,
                ..marker
            };
            let (header, bytes) = marker.batch();
            assert_eq!(Marker::read(&bytes), marker);
            assert!(header.is_control() && header.is_transactional());
            assert_eq!((header.count, header.first_sequence), (1, -1));
            // No client writes one.
            assert_eq!(Header::read(&bytes), Err(87));
        }
    }
}
