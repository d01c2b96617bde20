use kafka_protocol::records::Record;

use super::*;
use crate::core::batch::logged::encoded::{self, batch, record};

const PRODUCER: i64 = 77;
const MOST: u64 = 1 << 20;

/// The batch of these offsets, from sequence number `sequence` on.
fn data(offsets: std::ops::Range<i64>, epoch: i16, sequence: i32) -> Vec<u8> {
    let sequences = sequence..;
    let records = offsets.zip(sequences).map(|(offset, sequence)| Record {
        transactional: false,
        producer_epoch: epoch,
        ..record(offset, sequence)
    });
    batch(&records.collect::<Vec<_>>())
}

fn marker(offset: i64, producer_id: i64, epoch: i16) -> Vec<u8> {
    batch(&[Record {
        producer_id,
        producer_epoch: epoch,
        ..encoded::marker(offset, 1)
    }])
}

fn sought(id: u64, epoch: i16, sequence: i32, count: i32) -> Sought {
    Sought {
        id,
        producer_id: PRODUCER,
        epoch,
        sequence,
        count,
    }
}

/// A look from offset 10 on for two batches of epoch 4.
fn scan(fence: Option<Fence>) -> Scan {
    Scan::new(
        10,
        fence,
        vec![sought(1, 4, 6, 2), sought(2, 4, 8, 3)],
        MOST,
    )
}

const MARKER: Fence = Fence::Marker {
    producer_id: PRODUCER,
    above: 4,
};

fn verdicts(scan: &Scan) -> Vec<(u64, Verdict)> {
    scan.verdicts().collect()
}

fn at(base_offset: i64) -> Verdict {
    Verdict::At(Found {
        base_offset,
        log_append_time: None,
    })
}

#[test]
fn what_lies_before_the_marker_is_found_and_the_rest_is_absent() {
    let mut scan = scan(Some(MARKER));
    scan.read(&data(10..12, 4, 6));
    assert!(!scan.is_over());
    assert_eq!(
        verdicts(&scan),
        [(1, at(10))],
        "of the other nothing is known yet"
    );
    assert_eq!(scan.next_offset(), 12);
    scan.read(&marker(12, PRODUCER, 5));
    assert_eq!((scan.is_over(), scan.fenced_at()), (true, Some(12)));
    assert_eq!(verdicts(&scan), [(1, at(10)), (2, Verdict::Absent)]);
}

#[test]
fn a_batch_is_known_by_all_of_its_numbers() {
    let others = [
        data(10..12, 5, 6),
        data(12..14, 4, 7),
        data(14..17, 4, 6),
        data(17..19, 3, 6),
    ];
    let mut scan = scan(Some(MARKER));
    scan.read(&others.concat());
    scan.read(&marker(19, PRODUCER, 5));
    assert_eq!(
        verdicts(&scan),
        [(1, Verdict::Absent), (2, Verdict::Absent)]
    );
}

#[test]
fn only_a_marker_of_ours_under_a_later_epoch_is_a_fence() {
    let mut scan = scan(Some(MARKER));
    for (offset, producer_id, epoch) in [(10, PRODUCER, 4), (11, PRODUCER, 3), (12, 78, 9)] {
        scan.read(&marker(offset, producer_id, epoch));
        assert!(!scan.is_over(), "{producer_id} in epoch {epoch}");
    }
    // A late batch is possible behind each of those.
    scan.read(&data(13..16, 4, 8));
    scan.read(&marker(16, PRODUCER, 6));
    assert_eq!(verdicts(&scan), [(1, Verdict::Absent), (2, at(13))]);
}

#[test]
fn up_to_an_offset_nothing_is_read_where_it_is_the_floor() {
    let fenced = scan(Some(Fence::Offset(10)));
    assert_eq!(fenced.fenced_at(), Some(10));
    assert_eq!(
        verdicts(&fenced),
        [(1, Verdict::Absent), (2, Verdict::Absent)]
    );

    let mut scan = scan(Some(Fence::Offset(15)));
    // The first batch may begin before what was asked for, and the last behind the fence.
    scan.read(&[data(8..12, 1, 0), data(12..15, 4, 8)].concat());
    assert_eq!(verdicts(&scan), [(1, Verdict::Absent), (2, at(12))]);
}

#[test]
fn where_offsets_are_gone_nothing_is_absent() {
    let hole = Verdict::Unknown(Absence::Hole { from: 12, to: 14 });
    let mut compacted = scan(Some(MARKER));
    compacted.read(&data(10..12, 4, 6));
    compacted.read(&data(15..16, 4, 0));
    compacted.read(&marker(16, PRODUCER, 5));
    assert_eq!(verdicts(&compacted), [(1, at(10)), (2, hole)]);

    let mut deleted = scan(Some(MARKER));
    deleted.begins_at(10);
    assert_eq!(deleted.next_offset(), 10);
    deleted.begins_at(12);
    deleted.read(&marker(12, PRODUCER, 5));
    let hole = Verdict::Unknown(Absence::Hole { from: 10, to: 11 });
    assert_eq!(verdicts(&deleted), [(1, hole), (2, hole)]);

    let mut beyond = scan(Some(Fence::Offset(12)));
    beyond.begins_at(20);
    let hole = Verdict::Unknown(Absence::Hole { from: 10, to: 19 });
    assert_eq!(verdicts(&beyond), [(1, hole), (2, hole)]);
}

#[test]
fn without_a_fence_only_what_is_there_is_said() {
    let mut scan = scan(None);
    assert!(scan.is_endless());
    scan.read(&data(10..12, 4, 6));
    scan.read(&marker(12, PRODUCER, 9));
    assert!(!scan.is_over() && !scan.all_found());
    assert_eq!(verdicts(&scan), [(1, at(10))]);
    scan.read(&data(13..16, 4, 8));
    assert!(scan.all_found());
}

#[test]
fn a_broken_log_and_too_much_of_it_are_said() {
    let mut broken = scan(Some(MARKER));
    let mut bytes = data(10..12, 4, 6);
    bytes[16] = 1;
    broken.read(&bytes);
    assert!(broken.is_over());
    let broken = verdicts(&broken);
    let is_broken = |(_, verdict): &(u64, Verdict)| {
        matches!(
            verdict,
            Verdict::Unknown(Absence::Broken(LogError::Format { .. }))
        )
    };
    assert!(broken.iter().all(is_broken), "{broken:?}");

    let mut long = Scan::new(10, Some(MARKER), vec![sought(1, 4, 6, 2)], 100);
    let piece = data(10..11, 1, 0);
    long.read(&piece);
    assert!(!long.is_over());
    long.read(&data(11..12, 1, 1));
    let read = 2 * piece.len() as u64;
    let too_much = Verdict::Unknown(Absence::TooMuch { read });
    assert_eq!(verdicts(&long), [(1, too_much)]);
}
