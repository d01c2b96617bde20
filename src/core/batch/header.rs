//! The 61-byte header of a v2 record batch (protocol guide, "Record Batch").

use super::crc;

/// Bytes of a v2 batch header.
pub const HEADER_LEN: usize = 61;

/// The bit of `attributes` that makes a batch part of a transaction (KIP-98).
pub(super) const TRANSACTIONAL: i16 = 1 << 4;

/// The bit of a batch that brokers wrote.
pub(super) const CONTROL: i16 = 1 << 5;

/// The first byte that the CRC covers: `attributes`, right after the CRC field.
const CRC_FROM: usize = 21;

/// Producer id, epoch and first sequence number of a batch. They are set when the batch is taken
/// for sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    pub producer_id: i64,
    pub epoch: i16,
    pub sequence: i32,
    /// Whether the batch is part of a transaction, and stands or falls with it. A producer with a
    /// transactional id may send batches that are not.
    pub transactional: bool,
}

impl Stamp {
    /// The stamp of a batch that is not idempotent.
    pub const NONE: Self = Self {
        producer_id: -1,
        epoch: -1,
        sequence: -1,
        transactional: false,
    };

    fn attributes(self) -> i16 {
        i16::from(self.transactional) * TRANSACTIONAL
    }
}

/// What the header says about the records.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Summary {
    /// The codec is in the lowest three bits. All other bits are 0: the timestamps are create times,
    /// and whether the batch is transactional its stamp says.
    pub attributes: i16,
    pub count: i32,
    pub base_timestamp: i64,
    pub max_timestamp: i64,
}

/// Returns the header for `length` bytes of records whose CRC is `sum`.
pub(super) fn write(summary: &Summary, stamp: Stamp, length: usize, sum: u32) -> [u8; HEADER_LEN] {
    let mut header = [0; HEADER_LEN];
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        header[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    };
    put(&0i64.to_be_bytes()); // base offset: the broker sets it
    put(&((HEADER_LEN - 12 + length) as i32).to_be_bytes());
    put(&(-1i32).to_be_bytes()); // partition leader epoch: the broker sets it
    put(&[2]); // magic
    put(&[0; 4]); // CRC: filled in below
    put(&(summary.attributes | stamp.attributes()).to_be_bytes());
    put(&(summary.count - 1).to_be_bytes());
    put(&summary.base_timestamp.to_be_bytes());
    put(&summary.max_timestamp.to_be_bytes());
    put(&stamp.producer_id.to_be_bytes());
    put(&stamp.epoch.to_be_bytes());
    put(&stamp.sequence.to_be_bytes());
    put(&summary.count.to_be_bytes());
    let crc = crc::joined(crc::sum(&header[CRC_FROM..]), sum, length);
    header[17..CRC_FROM].copy_from_slice(&crc.to_be_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::batch::record::RecordRef;
    use bytes::{Bytes, BytesMut};
    use kafka_protocol::records::RecordBatchDecoder;

    fn written(summary: &Summary, stamp: Stamp, records: &[u8]) -> [u8; HEADER_LEN] {
        write(summary, stamp, records.len(), crc::sum(records))
    }

    /// The decoder of the `kafka-protocol` crate reads the batch and checks its CRC.
    #[test]
    fn an_independent_decoder_agrees() {
        for transactional in [false, true] {
            decodes(transactional);
        }
    }

    fn decodes(transactional: bool) {
        let mut records = Vec::new();
        for i in 0..3i32 {
            let value = format!("value-{i}");
            let record = RecordRef {
                key: (i != 1).then_some(b"key".as_slice()),
                value: Some(value.as_bytes()),
                headers: &[],
                timestamp: 0,
            };
            let delta = i64::from(i) * (1 << 33);
            let mut bytes = [0; 64];
            let length = record
                .encode(&mut bytes, 0, 64, i, delta)
                .expect("room enough");
            records.extend_from_slice(&bytes[..length]);
        }
        let summary = Summary {
            attributes: 0,
            count: 3,
            base_timestamp: 1_000,
            max_timestamp: 1_000 + 2 * (1 << 33),
        };
        let stamp = Stamp {
            producer_id: 77,
            epoch: 5,
            sequence: 9,
            transactional,
        };
        let mut bytes = BytesMut::from(&written(&summary, stamp, &records)[..]);
        bytes.extend_from_slice(&records);
        let set = RecordBatchDecoder::decode(&mut bytes.freeze()).expect("a valid batch");
        assert_eq!(set.records.len(), 3);
        for (i, record) in set.records.iter().enumerate() {
            assert_eq!(record.offset, i as i64);
            assert_eq!(record.timestamp, 1_000 + (i as i64) * (1 << 33));
            assert_eq!(record.producer_id, 77);
            assert_eq!(record.producer_epoch, 5);
            assert_eq!(record.transactional, transactional);
            assert_eq!(record.value, Some(Bytes::from(format!("value-{i}"))));
            assert_eq!(record.key.is_none(), i == 1);
        }
    }

    #[test]
    fn a_flipped_byte_changes_the_crc() {
        let summary = Summary {
            attributes: 0,
            count: 1,
            base_timestamp: 0,
            max_timestamp: 0,
        };
        let one = written(&summary, Stamp::NONE, b"abc");
        let other = written(&summary, Stamp::NONE, b"abd");
        assert_ne!(one[17..21], other[17..21]);
    }
}
