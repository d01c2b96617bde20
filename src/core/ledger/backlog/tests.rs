use super::*;
use crate::core::batch::{RecordRef, Run};
use crate::core::memory::Shelf;

fn resumed(parts: &[(u64, u64)]) -> Backlog {
    Backlog::resumed(parts.iter().copied(), &[])
}

/// Records as they stand in a batch, from this index on.
fn records(index: u32, count: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    for index in index..index + count {
        let record = RecordRef {
            key: None,
            value: Some(b"value"),
            headers: &[],
            timestamp: 0,
        };
        let mut memory = [0; 64];
        let length = record.encode(&mut memory, 0, 64, index as i32, 0);
        bytes.extend_from_slice(&memory[..length.expect("room")]);
    }
    bytes
}

fn read(position: u64, index: u32, count: u32) -> Option<ReadBack> {
    let shelf = Shelf::new(1 << 20, 1 << 10);
    let spooled = Spooled {
        position,
        index,
        base_timestamp: 1000,
        newest: 1000,
        count,
        records: records(index, count),
        sources: Vec::new(),
    };
    ReadBack::of(spooled, |records| shelf.charged(records))
}

fn parts(backlog: &Backlog) -> Vec<(u64, u64)> {
    let parked = backlog.parked.iter();
    parked
        .map(|parked| (parked.position(), parked.count()))
        .collect()
}

#[test]
fn what_is_read_back_comes_in_order_or_not_at_all() {
    let mut backlog = resumed(&[(10, 5), (20, 2)]);
    let now = Instant::now();
    let mut take = |position, count| {
        let read = read(position, 0, count).expect("records");
        backlog.take(read, 3, now).map(|batch| batch.count())
    };
    assert_eq!(take(11, 1), None, "it is not the first");
    assert_eq!(take(10, 6), None, "so many are not there");
    assert_eq!(take(10, 2), Some(2));
    assert_eq!(take(10, 2), None, "it was taken");
    assert_eq!(take(12, 3), Some(3));
    assert_eq!(take(20, 2), Some(2));
    assert!(backlog.is_empty());
    assert_eq!((backlog.records(), backlog.next()), (0, None));
}

#[test]
fn what_is_left_of_a_batch_is_numbered_anew() {
    let read = read(13, 3, 2).expect("records");
    let run = Run::read(&read.records).expect("records");
    assert_eq!((run.index, run.count), (0, 2));
}

#[test]
fn what_is_no_row_of_records_is_not_read_back() {
    let shelf = Shelf::new(1 << 20, 1 << 10);
    let mut bytes = records(3, 2);
    bytes.truncate(bytes.len() - 1);
    let spooled = Spooled {
        position: 13,
        index: 3,
        base_timestamp: 1000,
        newest: 1000,
        count: 2,
        records: bytes,
        sources: Vec::new(),
    };
    assert!(ReadBack::of(spooled, |records| shelf.charged(records)).is_none());
}

#[test]
fn what_was_found_is_taken_out_and_the_rest_stays() {
    let mut backlog = resumed(&[(10, 10), (30, 10)]);
    let removed = |backlog: &mut Backlog, from, count| {
        let removed = backlog.remove(from, count).into_iter();
        removed
            .map(|(position, count, _)| (position, count))
            .collect::<Vec<_>>()
    };
    assert_eq!(removed(&mut backlog, 15, 20), [(15, 5), (30, 5)]);
    assert_eq!(parts(&backlog), [(10, 5), (35, 5)]);
    assert_eq!(removed(&mut backlog, 12, 1), [(12, 1)]);
    assert_eq!(parts(&backlog), [(10, 2), (13, 2), (35, 5)]);
    assert_eq!(removed(&mut backlog, 100, 5), []);
    assert_eq!(
        removed(&mut backlog, 0, u64::MAX),
        [(10, 2), (13, 2), (35, 5)]
    );
    assert!(backlog.is_empty());
    assert_eq!(backlog.records(), 0);
}

#[test]
fn batches_that_nobody_waits_for_are_one_entry() {
    let mut backlog = Backlog::default();
    let unheard = |position, count| {
        let shelf = Shelf::new(1 << 20, 1 << 10);
        let settle = AckSettler::read_back(None, 3);
        let read = read(position, 0, count).expect("records");
        let memory = shelf.charged(read.records.to_vec());
        let times = (1000, 1000);
        SealedBatch::read_back(memory, count as i32, times, Instant::now(), settle, &[])
    };
    for position in [10, 12, 14] {
        backlog.push_back(position, unheard(position, 2));
    }
    assert_eq!(parts(&backlog), [(10, 6)]);
    backlog.push_front(8, unheard(8, 2));
    assert_eq!(parts(&backlog), [(8, 8)]);
    // Not next to it.
    backlog.push_back(20, unheard(20, 2));
    assert_eq!(parts(&backlog), [(8, 8), (20, 2)]);
    assert_eq!(backlog.records(), 10);
}
