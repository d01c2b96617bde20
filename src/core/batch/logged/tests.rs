use bytes::Bytes;
use kafka_protocol::records::Record;
use proptest::prelude::*;

use super::encoded::{batch, marker, record};
use super::*;

/// Two records of data, one of a producer without an id, a commit, and an abort.
fn log() -> Vec<u8> {
    let plain = Record {
        transactional: false,
        producer_id: -1,
        producer_epoch: -1,
        ..record(42, -1)
    };
    [
        batch(&[record(40, 9), record(41, 10)]),
        batch(&[plain]),
        batch(&[marker(43, 1)]),
        batch(&[marker(44, 0)]),
    ]
    .concat()
}

fn read(bytes: &[u8]) -> Result<Vec<LoggedBatch>, LogError> {
    LoggedBatches::new(bytes).collect()
}

#[test]
fn headers_are_read_as_another_implementation_writes_them() {
    let log = log();
    let batches = read(&log).expect("batches");
    let [data, plain, commit, abort] = batches.as_slice() else {
        panic!("{batches:?}");
    };
    let lengths: usize = batches.iter().map(|it| it.length).sum();
    assert_eq!(lengths, log.len());
    let expected = LoggedBatch {
        base_offset: 40,
        length: data.length,
        leader_epoch: 8,
        attributes: 0x10,
        last_offset_delta: 1,
        base_timestamp: 1_040,
        max_timestamp: 1_041,
        producer_id: 77,
        epoch: 5,
        base_sequence: 9,
        count: 2,
        control: None,
    };
    assert_eq!(*data, expected);
    assert!(data.is_transactional() && !plain.is_transactional());
    assert_eq!((data.last_offset(), plain.last_offset()), (41, 42));
    assert_eq!((plain.producer_id, plain.epoch), (-1, -1));
    assert_eq!((plain.base_sequence, plain.control), (-1, None));
    assert_eq!((commit.base_offset, commit.epoch), (43, 6));
    assert_eq!(commit.control, Some(Control::Commit));
    assert_eq!(abort.control, Some(Control::Abort));
    assert!(abort.is_transactional());
}

#[test]
fn a_batch_that_is_cut_off_is_passed_over() {
    let log = log();
    let ends: Vec<_> = read(&log)
        .expect("batches")
        .iter()
        .scan(0, |end, batch| {
            *end += batch.length;
            Some(*end)
        })
        .collect();
    for cut in 0..=log.len() {
        let mut batches = LoggedBatches::new(&log[..cut]);
        let whole = batches.by_ref().inspect(|it| assert!(it.is_ok())).count();
        assert_eq!(whole, ends.iter().filter(|end| **end <= cut).count());
        let last = ends.iter().filter(|end| **end <= cut).max().unwrap_or(&0);
        assert_eq!(batches.left(), cut - last);
    }
}

#[test]
fn compaction_leaves_holes_and_empty_batches() {
    let mut holes = batch(&[record(40, 9), record(41, 10), record(42, 11)]);
    // One record is left, the last offset is as before.
    holes[57..61].copy_from_slice(&1i32.to_be_bytes());
    let mut empty = batch(&[marker(50, 1)]);
    empty[57..61].copy_from_slice(&0i32.to_be_bytes());
    let batches = read(&[holes, empty].concat()).expect("batches");
    assert_eq!((batches[0].count, batches[0].last_offset()), (1, 42));
    assert_eq!(batches[1].control, Some(Control::Emptied));
}

#[test]
fn markers_of_other_types_are_told_apart() {
    for kind in [2, 6, -1] {
        let batches = read(&batch(&[marker(0, kind)])).expect("a batch");
        assert_eq!(batches[0].control, Some(Control::Other(kind)));
    }
    for key in [&[][..], &[0, 0], &[0, 0, 0], &[0xff, 0xff, 0, 1]] {
        let broken = Record {
            key: Some(Bytes::from_static(key)),
            ..marker(7, 0)
        };
        let broken = read(&batch(&[broken]));
        assert_eq!(broken, Err(LogError::Marker { base_offset: 7 }), "{key:?}");
    }
    let without_key = Record {
        key: None,
        ..marker(7, 0)
    };
    read(&batch(&[without_key])).expect_err("a marker without a key");
}

#[test]
fn what_is_no_log_is_refused() {
    let good = batch(&[record(40, 9), record(41, 10)]);
    let with = |at: usize, bytes: &[u8]| {
        let mut changed = good.clone();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        read(&changed)
    };
    for magic in [0, 1, 3, -1] {
        let expected = LogError::Format {
            base_offset: 40,
            magic,
        };
        assert_eq!(with(16, &magic.to_be_bytes()), Err(expected));
    }
    for length in [-1, 0, 48, i32::MIN] {
        let expected = LogError::Length {
            base_offset: 40,
            length,
        };
        assert_eq!(with(8, &length.to_be_bytes()), Err(expected));
    }
    for (delta, count) in [(-1, 0), (1, 3), (1, -1), (i32::MIN, i32::MIN)] {
        let bytes = i32::to_be_bytes(delta);
        let mut changed = good.clone();
        changed[23..27].copy_from_slice(&bytes);
        changed[57..61].copy_from_slice(&i32::to_be_bytes(count));
        let expected = LogError::Count {
            base_offset: 40,
            count,
            last_offset_delta: delta,
        };
        assert_eq!(read(&changed), Err(expected));
    }
    for base_offset in [-1, i64::MAX, i64::MIN] {
        assert!(with(0, &base_offset.to_be_bytes()).is_err());
    }
    let last = i64::MAX - 1;
    assert!(with(0, &last.to_be_bytes()).is_ok());
}

#[test]
fn offsets_go_up_and_an_error_is_the_end() {
    let one = batch(&[record(40, 9), record(41, 10)]);
    for again in [40, 41, 0] {
        let log = [one.clone(), batch(&[record(again, 0)]), one.clone()].concat();
        let mut batches = LoggedBatches::new(&log);
        assert!(matches!(batches.next(), Some(Ok(_))));
        let expected = LogError::Order {
            base_offset: again,
            last_offset: 41,
        };
        assert_eq!(batches.next(), Some(Err(expected)));
        assert_eq!(batches.next(), None);
    }
}

proptest! {
    #[test]
    fn random_bytes_never_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        at in 0usize..400,
        byte: u8,
    ) {
        let _ = read(&bytes);
        let mut log = log();
        let at = at % log.len();
        log[at] = byte;
        let mut batches = LoggedBatches::new(&log);
        let whole: usize = batches.by_ref().flatten().map(|it| it.length).sum();
        prop_assert!(whole <= log.len());
    }
}
