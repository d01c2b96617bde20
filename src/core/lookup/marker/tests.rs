use kafka_protocol::records::Record;

use super::*;
use crate::core::batch::logged::LogError;
use crate::core::batch::logged::encoded::{batch, marker, record};

const PRODUCER: i64 = 77;

fn of((producer_id, producer_epoch): (i64, i16), record: Record) -> Record {
    Record {
        producer_id,
        producer_epoch,
        ..record
    }
}

fn data(offsets: std::ops::Range<i64>, whose: (i64, i16)) -> Vec<u8> {
    let records = offsets.map(|it| of(whose, record(it, it as i32)));
    batch(&records.collect::<Vec<_>>())
}

/// A control batch: of type 0 an abort, of type 1 a commit.
fn control(offset: i64, whose: (i64, i16), kind: i16) -> Vec<u8> {
    batch(&[of(whose, marker(offset, kind))])
}

/// A look behind the batch of offsets 10 and 11, in epoch 4.
fn scan() -> MarkerScan {
    let witness = Witness {
        partition: TopicPartition::new("t", 0),
        topic_id: Uuid::nil(),
        base_offset: 10,
        producer_id: PRODUCER,
        epoch: 4,
    };
    MarkerScan::new(&witness, 1 << 20)
}

fn after(records: &[Vec<u8>]) -> Option<Result<Marker, Illegible>> {
    let mut scan = scan();
    scan.read(&records.concat());
    scan.told()
}

const OURS: (i64, i16) = (PRODUCER, 4);
const NEXT: (i64, i16) = (PRODUCER, 5);
const OTHERS: (i64, i16) = (78, 9);

#[test]
fn the_first_marker_of_the_producer_behind_the_batch_decides_whatever_its_epoch_is() {
    for of in [OURS, NEXT, (PRODUCER, 9)] {
        let aborted = Marker::Aborted { epoch: of.1 };
        for (kind, expected) in [(0, aborted), (1, Marker::Committed)] {
            let told = after(&[
                data(10..12, OURS),
                data(12..14, OTHERS),
                control(14, OTHERS, 1 - kind),
                data(15..16, OURS),
                control(16, of, kind),
                // What comes behind is of another instance.
                control(17, (PRODUCER, 10), 1 - kind),
            ]);
            assert_eq!(told, Some(Ok(expected)), "{of:?}");
        }
    }
}

#[test]
fn it_is_read_on_until_the_marker_is_there() {
    let mut scan = scan();
    assert_eq!(scan.next_offset(), 10);
    // The first batch may begin before what was asked for.
    scan.read(&[data(8..10, OTHERS), data(10..12, OURS)].concat());
    assert_eq!((scan.told(), scan.next_offset()), (None, 12));
    scan.read(&[]);
    scan.begins_at(12);
    assert_eq!(scan.told(), None, "only what was read is gone");
    scan.read(&control(12, NEXT, 1));
    assert_eq!(scan.told(), Some(Ok(Marker::Committed)));
}

#[test]
fn behind_a_hole_no_marker_says_anything() {
    let hole = |from, to| Some(Err(Absence::Hole { from, to }.into()));
    let compacted = after(&[data(10..12, OURS), control(13, NEXT, 1)]);
    assert_eq!(compacted, hole(12, 12));
    let without_it = after(&[control(12, NEXT, 1)]);
    assert_eq!(without_it, hole(10, 11));
    let mut deleted = scan();
    deleted.read(&data(10..12, OURS));
    deleted.begins_at(20);
    deleted.read(&control(20, NEXT, 1));
    assert_eq!(deleted.told(), hole(12, 19));
}

/// Of a topic with the same name that was created anew.
#[test]
fn another_log_says_nothing() {
    let another = |offset| Some(Err(Illegible::Another { offset }));
    for first in [
        data(10..12, OTHERS),
        data(10..12, NEXT),
        control(10, OURS, 1),
    ] {
        assert_eq!(after(&[first, control(12, NEXT, 1)]), another(10));
    }
    let around = data(9..12, OURS);
    assert_eq!(after(&[around, control(12, NEXT, 1)]), another(9));
    let earlier = control(12, (PRODUCER, 3), 1);
    assert_eq!(after(&[data(10..12, OURS), earlier]), another(12));
}

#[test]
fn what_cannot_be_read_is_no_marker() {
    let told = after(&[data(10..12, OURS), control(12, NEXT, 7)]);
    assert_eq!(told, Some(Err(Illegible::Emptied { offset: 12 })));
    let mut broken = control(12, NEXT, 1);
    broken[16] = 1;
    let told = after(&[data(10..12, OURS), broken]);
    let format = LogError::Format {
        base_offset: 12,
        magic: 1,
    };
    assert_eq!(told, Some(Err(Absence::Broken(format).into())));
    let mut scan = scan();
    scan.most = 10;
    scan.read(&data(10..12, OURS));
    let unread = matches!(
        scan.told(),
        Some(Err(Illegible::Unread(Absence::TooMuch { .. })))
    );
    assert!(unread, "{:?}", scan.told());
}
