use bytes::Bytes;
use kafka_protocol::records::RecordBatchDecoder;

use super::*;
use crate::core::ack::Receipt;
use crate::core::batch::Header;
use crate::core::batch::{OpenBatch, RecordRef};
use crate::core::compress::decompress;
use crate::core::memory::{Shelf, blank};

const SIZE: usize = 4096;
const STAMP: Stamp = Stamp {
    producer_id: 4,
    epoch: 2,
    sequence: 1,
    transactional: false,
};

fn batch(shelf: &Arc<Shelf>, records: usize) -> (SealedBatch, Vec<Receipt>) {
    let memory = shelf.buffer(blank(SIZE));
    let mut open = OpenBatch::new(memory, 0, Instant::now(), true);
    let receipts = (0..records)
        .map(|i| {
            // Duplicate header keys, null values and decreasing timestamps are all legal.
            let header = |value: Option<&'static str>| Header {
                key: "twice".into(),
                value: value.map(Bytes::from),
            };
            let value = format!("value {}", i % 7);
            let record = RecordRef {
                key: (i % 3 > 0).then_some(b"key".as_slice()),
                value: (i % 5 > 0).then_some(value.as_bytes()),
                headers: &[header(Some("1")), header(None)],
                timestamp: 1_000 - i as i64,
            };
            let index = open.append(&record).expect("it fits");
            let ack = Arc::clone(open.ack());
            Receipt::new(ack, index, record.timestamp)
        })
        .collect();
    (open.seal(), receipts)
}

/// What the decoder of the `kafka-protocol` crate reads: value and timestamp of each record.
fn decoded(batch: &mut SealedBatch) -> Vec<(Option<Bytes>, i64)> {
    let bits = batch.summary.attributes;
    let (header, records) = batch.stamped(STAMP);
    assert_eq!(batch.wire_len(), header.len() + records.len());
    let mut bytes: Bytes = [&header[..], &records[..]].concat().into();
    let plain = |records: &mut Bytes, _| Ok(decompress(bits, records, 1 << 20)?.into());
    let set = RecordBatchDecoder::decode_with_custom_compression(&mut bytes, Some(plain))
        .expect("a valid batch");
    assert_eq!(set.records.len(), batch.count() as usize);
    let records = set.records.into_iter().enumerate();
    records
        .map(|(at, record)| {
            assert_eq!(record.offset, at as i64);
            assert_eq!((record.producer_id, record.producer_epoch), (4, 2));
            (record.value, record.timestamp)
        })
        .collect()
}

#[test]
fn every_codec_gives_the_same_records() {
    let shelf = Shelf::new(1 << 20, SIZE);
    let plain = decoded(&mut batch(&shelf, 80).0);
    for name in ["gzip", "snappy", "lz4", "zstd"] {
        let codec = Compression::from_name(name).expect("a codec");
        if !codec.is_built_in() {
            continue;
        }
        let (mut batch, _receipts) = batch(&shelf, 80);
        let before = batch.wire_len();
        let mut compressor = Compressor::new(codec);
        batch.compress(codec, &mut compressor);
        assert!(batch.wire_len() < before, "{name}");
        assert_eq!(batch.uncompressed_len(), before - HEADER_LEN);
        assert_eq!(decoded(&mut batch), plain, "{name}");
        // A second call changes nothing: the bytes never change again.
        let (header, records) = batch.stamped(STAMP);
        batch.compress(codec, &mut compressor);
        let again = batch.stamped(STAMP);
        assert!(header == again.0 && Arc::ptr_eq(&records, &again.1));
    }
}

#[test]
fn what_would_grow_goes_as_it_is() {
    let codec = Compression::Gzip { level: 6 };
    let shelf = Shelf::new(1 << 20, SIZE);
    let (mut batch, _receipts) = batch(&shelf, 1);
    batch.compress(codec, &mut Compressor::new(codec));
    assert_eq!(batch.summary.attributes, 0);
    assert_eq!(decoded(&mut batch).len(), 1);
}

#[test]
fn another_stamp_is_another_header_over_the_same_bytes() {
    let shelf = Shelf::new(1 << 20, SIZE);
    let (mut batch, _receipts) = batch(&shelf, 3);
    let (one, records) = batch.stamped(STAMP);
    let other = Stamp {
        sequence: 9,
        ..STAMP
    };
    let (two, same) = batch.stamped(other);
    assert!(one != two && Arc::ptr_eq(&records, &same));
    let in_transaction = Stamp {
        transactional: true,
        ..STAMP
    };
    let (three, same) = batch.stamped(in_transaction);
    assert!(one != three && Arc::ptr_eq(&records, &same));
    // The attributes, and the CRC that covers them.
    assert_eq!((one[22] | 0x10, &one[23..]), (three[22], &three[23..]));
    assert_eq!(batch.stamped(STAMP).0, one);
}

#[test]
fn halves_hold_the_records_in_order() {
    for codec in [Compression::None, Compression::Gzip { level: 1 }] {
        let shelf = Shelf::new(1 << 20, SIZE);
        for count in 2..80 {
            let (mut whole, receipts) = batch(&shelf, count);
            let expected = decoded(&mut whole);
            whole.compress(codec, &mut Compressor::new(codec));
            let [mut head, mut tail] = whole.split().expect("two halves");
            assert_eq!(head.count(), count as i32 / 2);
            let halves = [decoded(&mut head), decoded(&mut tail)].concat();
            assert_eq!(halves, expected, "{count}");
            for half in [&mut head, &mut tail] {
                let latest = decoded(half).iter().map(|(_, at)| *at).max();
                assert_eq!(Some(half.summary.max_timestamp), latest);
            }
            tail.settle(Settlement::Acked {
                base_offset: Some(50),
                log_append_time: None,
            });
            let last = receipts[count - 1].outcome().expect("settled");
            let offset = 50 + i64::from(tail.count()) - 1;
            assert_eq!(last.expect("acked").offset, Some(offset));
            assert!(receipts[0].outcome().is_none());
        }
    }
}

#[test]
fn halves_are_charged_and_give_back_what_they_were() {
    let shelf = Shelf::new(8 * SIZE, SIZE);
    let (whole, _receipts) = batch(&shelf, 40);
    let halves = whole.split().expect("two halves");
    let bytes: usize = halves.iter().map(|half| half.records.len()).sum();
    assert_eq!(shelf.idle_bytes(), SIZE - bytes, "the whole one is back");
    let [head, tail] = halves;
    let [_, last] = tail.split().expect("two halves");
    drop((head, last));
    let collected = shelf.collect();
    let sizes = collected.returned.iter().map(|(_, size)| size);
    assert_eq!(sizes.sum::<usize>(), collected.charged);
}

#[test]
fn what_cannot_be_split_comes_back_whole() {
    let shelf = Shelf::new(1 << 20, SIZE);
    let (single, receipts) = batch(&shelf, 1);
    let single = single.split().expect_err("one record");
    assert!(!single.is_settled() && receipts[0].outcome().is_none());
    let (mut settled, _receipts) = batch(&shelf, 4);
    settled.settle(Settlement::Split(Vec::new()));
    assert!(settled.split().is_err());
}

#[test]
fn memory_goes_back_when_the_last_request_is_done_with_it() {
    let shelf = Shelf::new(8 * SIZE, SIZE);
    let (mut batch, _receipts) = batch(&shelf, 2);
    let (_, carried) = batch.stamped(STAMP);
    batch.settle(Settlement::Split(Vec::new()));
    let before = carried.to_vec();
    drop(batch);
    assert_eq!(shelf.idle_bytes(), 0, "a request still carries it");
    assert_eq!(carried[..], before[..]);
    drop(carried);
    assert_eq!(shelf.idle_bytes(), SIZE);
}
