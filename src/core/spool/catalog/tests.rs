use proptest::prelude::*;

use super::*;

const NONE: [u64; 0] = [];

/// A chunk of 100 bytes for each record.
fn chunk(slot: u32, offset: u32, position: u64, count: u32) -> ChunkUse {
    ChunkUse {
        offset,
        slot,
        position,
        count,
        bytes: count * 100,
        newest: position as i64,
        begun: position as i64,
    }
}

/// Full segments of 10,000 bytes with these chunks.
fn catalog(segments: &[&[ChunkUse]]) -> Catalog {
    let mut catalog = Catalog::default();
    for (number, chunks) in (0..).zip(segments) {
        catalog.segment(number, 10_000, true);
        for chunk in *chunks {
            catalog.chunk_closed(number, *chunk);
        }
    }
    catalog
}

fn where_is(catalog: &Catalog, slot: u32) -> Vec<(u64, u64, u64)> {
    let held = catalog.held(slot, 0);
    held.map(|held| (held.segment, held.from, held.to))
        .collect()
}

#[test]
fn a_segment_is_free_once_all_of_it_is_settled() {
    let mut catalog = catalog(&[
        &[chunk(1, 64, 0, 10), chunk(2, 128, 0, 5)],
        &[chunk(1, 64, 10, 5)],
    ]);
    assert_eq!(catalog.free(), NONE);
    assert_eq!(catalog.settle(1, 0..10, 0), NONE);
    assert_eq!(catalog.settle(2, 3..5, 0), NONE);
    assert_eq!(catalog.settle(2, 0..3, 0), [0]);
    assert_eq!(catalog.settle(2, 0..3, 0), NONE, "it was told already");
    assert_eq!(catalog.total_bytes(), 20_000);
    catalog.removed(0);
    catalog.removed(1);
    assert_eq!(catalog.total_bytes(), 10_000, "one that is needed stays");
    assert_eq!(catalog.settle(1, 8..15, 0), [1]);
}

#[test]
fn one_that_is_being_filled_is_not_free() {
    let mut catalog = Catalog::default();
    catalog.segment(7, 10_000, false);
    catalog.chunk_opened(7, 64);
    catalog.settle(1, 0..10, 0);
    assert!(!catalog.segment_full(7), "a chunk is open");
    assert!(
        catalog.chunk_closed(7, chunk(1, 64, 0, 10)),
        "settled before it was closed"
    );
    catalog.segment(8, 10_000, false);
    assert!(
        !catalog.chunk_closed(8, chunk(1, 64, 10, 0)),
        "more chunks may begin"
    );
    assert!(catalog.segment_full(8));
    assert_eq!(catalog.free(), [7, 8]);
}

#[test]
fn records_are_found_in_the_order_of_their_positions() {
    let catalog = catalog(&[
        &[chunk(1, 64, 10, 10)],
        &[chunk(1, 64, 0, 10), chunk(1, 128, 20, 5)],
    ]);
    assert_eq!(
        where_is(&catalog, 1),
        [(1, 0, 10), (0, 10, 20), (1, 20, 25)]
    );
    let from: Vec<_> = catalog.held(1, 15).map(|held| held.from).collect();
    assert_eq!(from, [10, 20]);
    assert_eq!(catalog.end(1), 25);
    assert_eq!(catalog.held(9, 0).count(), 0);
}

#[test]
fn what_is_there_twice_is_held_once() {
    let mut catalog = catalog(&[
        &[chunk(1, 64, 0, 10)],
        // Copied before a crash, with more than could be read of the first.
        &[chunk(1, 64, 5, 10)],
        &[chunk(1, 64, 0, 20)],
        &[chunk(1, 64, 2, 8)],
    ]);
    assert_eq!(
        where_is(&catalog, 1),
        [(0, 0, 10), (1, 10, 15), (2, 15, 20)]
    );
    assert_eq!(catalog.free(), [3]);
    assert_eq!(catalog.settle(1, 0..15, 0), [0, 1]);
    assert_eq!(catalog.settle(1, 15..20, 0), [2]);
}

#[test]
fn what_is_lost_is_missing_until_it_is_settled() {
    let mut catalog = catalog(&[&[chunk(1, 64, 0, 10), chunk(1, 128, 15, 5)]]);
    catalog.settle(1, 0..5, 0);
    assert_eq!(catalog.missing(1), [10..15]);
    catalog.reached(1, 30);
    catalog.settle(1, 12..13, 0);
    assert_eq!(catalog.missing(1), [10..12, 13..15, 20..30]);
    catalog.settle(1, 5..30, 0);
    assert_eq!(catalog.missing(1), []);
    assert_eq!(catalog.missing(2), []);
}

#[test]
fn little_that_is_left_of_old_segments_is_moved() {
    let dead = chunk(9, 64, 0, 20);
    let mut catalog = catalog(&[
        &[dead, chunk(1, 6400, 0, 60)],
        &[chunk(9, 64, 20, 30)],
        &[chunk(9, 64, 50, 1)],
    ]);
    assert_eq!(catalog.moves(1).next(), None, "80 of 100, and 30");
    catalog.settle(1, 0..60, 0);
    catalog.settle(9, 3..5, 0);
    assert_eq!(catalog.moves(3).next(), None, "all are new");
    let held = |from, to| Held {
        segment: 0,
        used: dead,
        from,
        to,
    };
    let first = Move {
        segment: 0,
        records: vec![(9, held(0, 3)), (9, held(5, 20))],
    };
    assert_eq!(catalog.moves(1).collect::<Vec<_>>(), [first]);
    assert_eq!(catalog.unsettled_bytes(), (18 + 30 + 1) * 100);
    // Copies of both parts take their place, and nothing holds the old segment.
    catalog.segment(3, 10_000, false);
    assert_eq!(catalog.moved(3, chunk(9, 64, 0, 3)), NONE);
    assert_eq!(catalog.moved(3, chunk(9, 128, 5, 15)), [0]);
    assert_eq!(
        where_is(&catalog, 9),
        [(3, 0, 3), (3, 5, 20), (1, 20, 50), (2, 50, 51)]
    );
}

proptest! {
    /// Beside a count of all that is held.
    #[test]
    fn what_is_not_settled_of_a_segment_is_known(
        steps in prop::collection::vec((0..4_u8, 0..3_u32, 0..60_u64, 0..20_u32), 1..60)
    ) {
        let mut catalog = Catalog::default();
        for (offset, (step, slot, position, count)) in (64..).step_by(64).zip(steps) {
            let number = position % 4;
            catalog.segment(number, 10_000, true);
            match step {
                0 => drop(catalog.chunk_closed(number, chunk(slot, offset, position, count))),
                1 => drop(catalog.moved(number, chunk(slot, offset, position, count))),
                2 => drop(catalog.settle(slot, position..position + u64::from(count), 0)),
                _ => catalog.removed(number),
            }
            for (number, segment) in &catalog.segments {
                let mut live = Live::default();
                for (_, settled, held) in catalog.held_by(*number) {
                    live.add(Live::of(&held, settled));
                }
                prop_assert_eq!(segment.live, live, "segment {}", number);
            }
        }
    }
}

#[test]
fn the_oldest_is_the_first_of_some_slot() {
    let mut catalog = catalog(&[&[chunk(1, 64, 50, 10), chunk(2, 128, 40, 10)]]);
    let of = |slot, position, newest| Oldest {
        slot,
        position,
        newest,
    };
    assert_eq!(catalog.oldest(), Some(of(2, 40, 40)));
    catalog.settle(2, 40..42, 0);
    assert_eq!(catalog.oldest(), Some(of(2, 42, 40)));
    catalog.settle(2, 42..50, 0);
    assert_eq!(catalog.oldest(), Some(of(1, 50, 50)));
    catalog.settle(1, 0..60, 0);
    assert_eq!(catalog.oldest(), None);
}

/// Of one slot, with when they were begun.
fn aged(chunks: &[(u64, u32, i64)]) -> Catalog {
    let mut catalog = Catalog::default();
    catalog.segment(0, 10_000, true);
    for (offset, (position, count, begun)) in (64..).step_by(64).zip(chunks) {
        let used = ChunkUse {
            begun: *begun,
            ..chunk(1, offset, *position, *count)
        };
        catalog.chunk_closed(0, used);
    }
    catalog
}

#[test]
fn records_are_as_old_as_the_next_chunk() {
    let catalog = aged(&[(0, 10, 1000), (10, 10, 2000), (20, 10, 3000)]);
    let before = |time| catalog.accepted_before(time, |_| 4000);
    assert_eq!(before(2000), []);
    assert_eq!(before(2001), [(1, 10)]);
    assert_eq!(before(3000), [(1, 10)]);
    assert_eq!(before(3001), [(1, 20)]);
    assert_eq!(before(4000), [(1, 20)]);
    assert_eq!(before(4001), [(1, 30)]);
}

#[test]
fn no_chunk_is_filled_for_longer_than_an_hour() {
    let catalog = aged(&[(0, 10, 1000), (10, 10, 1000 + 5 * FILLS)]);
    let before = |time| catalog.accepted_before(time, |_| i64::MAX);
    assert_eq!(before(1000 + FILLS), []);
    assert_eq!(before(1001 + FILLS), [(1, 10)]);
    assert_eq!(before(1001 + 6 * FILLS), [(1, 20)]);
}

#[test]
fn parts_of_one_chunk_say_nothing_of_each_other() {
    let mut catalog = aged(&[(0, 30, 1000)]);
    catalog.settle(1, 10..20, 0);
    let before = |catalog: &Catalog, time| catalog.accepted_before(time, |_| 9000);
    assert_eq!(before(&catalog, 9000), []);
    // The first part is copied to another segment, with the time of the former chunk.
    catalog.segment(1, 10_000, true);
    let copy = ChunkUse {
        begun: 1000,
        ..chunk(1, 64, 0, 10)
    };
    catalog.moved(1, copy);
    assert_eq!(where_is(&catalog, 1).len(), 2);
    assert_eq!(before(&catalog, 9000), []);
    assert_eq!(before(&catalog, 9001), [(1, 30)]);
}

#[test]
fn a_clock_that_is_set_back_makes_nothing_old() {
    let catalog = aged(&[(0, 10, 5000), (10, 10, 100), (20, 10, 200)]);
    let before = |time| catalog.accepted_before(time, |_| 300);
    assert_eq!(before(200), []);
    assert_eq!(before(201), [(1, 20)]);
}
