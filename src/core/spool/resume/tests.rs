use std::sync::Arc;

use super::super::chunk::ChunkUse;
use super::super::entry::{Entry, Fate};
use super::*;
use crate::core::identity::Identity;

fn line(epoch: i16, position: u64, floor: i64, sent: u64) -> Line {
    Line {
        identity: Identity {
            producer_id: 1,
            epoch,
        },
        sequence: 0,
        position,
        floor,
        sent,
    }
}

/// Slot 1 with these lines, and these positions settled: acked from this offset on, or without an outcome
/// that tells one.
fn state(lines: &[Line], settled: &[(Range<u64>, Option<i64>)]) -> State {
    let mut state = State::default();
    state.apply(&Entry::Slot {
        slot: 1,
        topic_id: [1; 16],
        partition: 0,
        topic: Arc::from("orders"),
    });
    for line in lines {
        state.apply(&Entry::Line {
            slot: 1,
            line: *line,
        });
    }
    for (positions, offset) in settled {
        state.apply(&Entry::Settled {
            slot: 1,
            position: positions.start,
            count: (positions.end - positions.start) as u32,
            fate: offset.map_or(Fate::NotWritten, Fate::Acked),
        });
    }
    state
}

fn catalog(chunks: &[Range<u64>]) -> Catalog {
    let mut catalog = Catalog::default();
    catalog.segment(0, 1 << 20, true);
    for (offset, positions) in (64..).step_by(64).zip(chunks) {
        let used = ChunkUse {
            offset,
            slot: 1,
            position: positions.start,
            count: (positions.end - positions.start) as u32,
            bytes: 64,
            newest: 0,
            begun: 0,
        };
        catalog.chunk_closed(0, used);
    }
    catalog
}

fn one(state: &State, catalog: &Catalog, damaged: bool) -> Resume {
    let mut slots = resume(state, catalog, damaged);
    assert_eq!(slots.len(), 1);
    slots.remove(0)
}

#[test]
fn what_is_not_settled_goes_on_where_it_was() {
    let state = state(
        &[line(0, 0, 5, 0)],
        &[(0..10, Some(100)), (20..30, Some(110))],
    );
    let slot = one(&state, &catalog(&[0..25, 25..40]), false);
    assert_eq!(slot.topic.as_ref().map(|it| &*it.topic), Some("orders"));
    assert_eq!(slot.unsettled, [10..20, 30..40]);
    assert_eq!(
        (slot.missing.len(), slot.end, slot.next_position),
        (0, 40, 40)
    );
    // What was acked behind the gap is no floor.
    let sent_under = SentUnder {
        line: line(0, 0, 110, 0),
        end: 40,
    };
    assert_eq!(slot.lines, [sent_under]);
    assert_eq!(slot.floor(), Some(110));
}

#[test]
fn the_floor_of_a_line_stays_while_it_is_higher() {
    let state = state(&[line(0, 0, 500, 0)], &[(0..10, None)]);
    assert_eq!(one(&state, &catalog(&[0..20]), false).floor(), Some(500));
}

#[test]
fn lines_under_which_nothing_is_in_doubt_are_left_out() {
    let lines = [line(0, 0, 1, 0), line(1, 10, 2, 15), line(2, 30, 3, 30)];
    let catalog = catalog(&[0..50]);
    let epochs = |settled: &[(Range<u64>, Option<i64>)]| {
        let slot = one(&state(&lines, settled), &catalog, false);
        let epochs = slot.lines.iter().map(|it| it.line.identity.epoch);
        epochs.collect::<Vec<_>>()
    };
    assert_eq!(epochs(&[]), [0, 1, 2]);
    assert_eq!(
        epochs(&[(0..12, None)]),
        [0, 1, 2],
        "the first sent up to 15"
    );
    assert_eq!(epochs(&[(0..15, None)]), [1, 2]);
    assert_eq!(
        epochs(&[(10..15, None), (15..30, None)]),
        [0, 2],
        "up to 10 is open"
    );
    assert_eq!(epochs(&[(0..30, None)]), [2]);
    assert!(epochs(&[(0..50, None)]).is_empty());
}

#[test]
fn what_is_lost_is_told_and_its_positions_are_not_used_again() {
    let state = state(&[line(0, 0, 0, 0), line(1, 40, 0, 45)], &[(0..5, None)]);
    let slot = one(&state, &catalog(&[3..10, 20..30]), true);
    assert_eq!(slot.unsettled, [5..10, 20..30]);
    assert_eq!(slot.missing, [10..20, 30..45]);
    assert_eq!(slot.end, 45);
    assert_eq!(slot.next_position, 45 + LEFT_OUT);
}

#[test]
fn a_slot_that_only_one_of_both_knows_is_there() {
    let only = one(&State::default(), &catalog(&[0..3]), false);
    assert_eq!(
        (only.topic, only.unsettled),
        (None, vec![Range { start: 0, end: 3 }])
    );
    let state = state(&[], &[(0..7, None)]);
    let only = one(&state, &Catalog::default(), false);
    assert_eq!((only.unsettled.len(), only.next_position), (0, 7));
}

#[test]
fn of_former_topics_with_nothing_left_the_last_one_is_remembered() {
    let mut state = State::default();
    for slot in 0..6 {
        state.apply(&Entry::Slot {
            slot,
            topic_id: [slot as u8; 16],
            partition: i32::from(slot == 1),
            topic: Arc::from("orders"),
        });
    }
    let mut resumed: Vec<Resume> = (0..6)
        .map(|slot| Resume {
            slot,
            topic: state.slots[&slot].topic.clone(),
            lines: Vec::new(),
            unsettled: (slot == 2).then_some(0..3).into_iter().collect(),
            missing: Vec::new(),
            end: 0,
            next_position: 0,
        })
        .collect();
    // Something of slot 3 is in a segment that is still there.
    forget_former(&mut state, &mut resumed, &BTreeSet::from([3]));
    let kept: Vec<u32> = state.slots.keys().copied().collect();
    assert_eq!(kept, [1, 2, 3, 4, 5]);
    let left: Vec<u32> = resumed.iter().map(|it| it.slot).collect();
    assert_eq!(left, kept);
}
