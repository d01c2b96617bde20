//! Batches for tests, as the `kafka-protocol` crate writes them.

use bytes::{Bytes, BytesMut};
use kafka_protocol::records::{
    Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};

/// A record of producer 77 in epoch 5, as the `kafka-protocol` crate has it.
pub fn record(offset: i64, sequence: i32) -> Record {
    Record {
        transactional: true,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: 8,
        producer_id: 77,
        producer_epoch: 5,
        timestamp_type: TimestampType::Creation,
        offset,
        sequence,
        timestamp: 1_000 + offset,
        key: None,
        value: Some(Bytes::from_static(b"value")),
        headers: Default::default(),
    }
}

/// A marker of this type behind it.
pub fn marker(offset: i64, kind: i16) -> Record {
    Record {
        control: true,
        producer_epoch: 6,
        key: Some([0i16.to_be_bytes(), kind.to_be_bytes()].concat().into()),
        value: Some(Bytes::from_static(&[0, 0, 0, 0, 0, 9])),
        ..record(offset, -1)
    }
}

/// One batch of these records.
pub fn batch(records: &[Record]) -> Vec<u8> {
    let options = RecordEncodeOptions {
        version: 2,
        compression: Compression::None,
    };
    let mut out = BytesMut::new();
    RecordBatchEncoder::encode(&mut out, records, &options).expect("a batch");
    out.to_vec()
}
