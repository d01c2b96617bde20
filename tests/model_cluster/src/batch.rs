//! A record batch as a broker reads it, by code that shares nothing with the producer's.

use bytes::Bytes;

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
        let count = i32::from_be_bytes(at(bytes, 57));
        if i32::from_be_bytes(at(bytes, 23)) != count - 1 {
            return Err(INVALID_RECORD);
        }
        Ok(Self {
            producer_id: i64::from_be_bytes(at(bytes, 43)),
            epoch: i16::from_be_bytes(at(bytes, 51)),
            first_sequence: i32::from_be_bytes(at(bytes, 53)),
            count,
            attributes: i16::from_be_bytes(at(bytes, 21)),
            max_timestamp: i64::from_be_bytes(at(bytes, 35)),
        })
    }

    pub fn last_sequence(&self) -> i32 {
        self.first_sequence.wrapping_add(self.count - 1) & i32::MAX
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
