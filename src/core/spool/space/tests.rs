use std::sync::atomic::AtomicUsize;

use super::super::chunk::HEADER;
use super::super::region::Memory;
use super::*;

fn segment(number: u64, chunks: usize) -> EmptySegment {
    EmptySegment {
        number,
        salt: number,
        region: Arc::new(Memory::new(PAGE + 256 * chunks)),
    }
}

fn space(segments: &[usize]) -> Arc<Space> {
    let space = Space::new();
    (0..)
        .zip(segments)
        .for_each(|(number, chunks)| space.add(segment(number, *chunks)));
    space.register(1);
    space
}

/// The segment of the next chunk of 256 bytes.
fn begin(space: &Space) -> Option<u64> {
    space
        .begin((256, 256), 1, 0, None)
        .map(|(segment, _)| segment)
}

fn offsets(space: &Space) -> Vec<(u64, u32)> {
    let events = space.events().into_iter();
    let opened = events.filter_map(|event| match event {
        SpaceEvent::Opened {
            segment, offset, ..
        }
        | SpaceEvent::Copying { segment, offset } => Some((segment, offset)),
        _ => None,
    });
    opened.collect()
}

#[test]
fn chunks_lie_one_behind_the_other() {
    let space = space(&[2, 2]);
    let segments: Vec<_> = (0..5).map(|_| begin(&space)).collect();
    assert_eq!(segments, [Some(0), Some(0), Some(1), Some(1), None]);
    let page = PAGE as u32;
    let expected = [(0, page), (0, page + 256), (1, page), (1, page + 256)];
    assert_eq!(offsets(&space), expected);
    assert!(!space.has_any());
}

#[test]
fn the_rest_of_a_segment_is_used_if_it_is_long_enough() {
    let space = space(&[2, 2]);
    let length = |chunk: Option<(u64, Chunk)>| chunk.map(|(_, chunk)| chunk.room());
    begin(&space);
    let short = length(space.begin((4096, 128), 1, 0, None)).expect("a chunk");
    assert!(short < 256 - HEADER, "{short}");
    begin(&space);
    assert_eq!(
        space
            .begin((4096, 512), 1, 0, None)
            .map(|(segment, _)| segment),
        None
    );
    let left = space.events().contains(&SpaceEvent::Left(1));
    assert!(left, "no chunk would fit, and it is not used any more");
}

#[test]
fn a_slot_that_the_journal_does_not_have_gets_none() {
    let space = space(&[2]);
    assert!(space.begin((256, 256), 9, 0, None).is_none());
    space.register(9);
    assert!(space.begin((256, 256), 9, 0, None).is_some());
    space.close();
    assert!(space.begin((256, 256), 9, 0, None).is_none());
    assert!(space.begin_copy(256, 9, 0, (None, 0)).is_none());
}

#[test]
fn the_reserved_segment_is_for_copies() {
    let space = space(&[1, 1]);
    space.reserve(1);
    assert_eq!(begin(&space), Some(0));
    assert_eq!((begin(&space), space.has_any()), (None, false));
    let copy = space.begin_copy(256, 7, 40, (None, 0));
    assert_eq!(copy.map(|(segment, _)| segment), Some(1), "of any slot");
    assert!(space.begin_copy(256, 7, 40, (None, 0)).is_none());
}

/// Callers would fill it, and the copies that free another one would find no space.
#[test]
fn the_rest_of_the_reserved_segment_is_for_copies_until_another_is_ready() {
    let space = space(&[1, 4]);
    space.reserve(1);
    assert_eq!(begin(&space), Some(0));
    let begin_copy = || space.begin_copy(256, 7, 40, (None, 5)).expect("space");
    let (segment, copy) = begin_copy();
    assert_eq!(copy.used().begun, 5);
    space.end_copy(segment, &copy);
    assert_eq!((begin(&space), space.has_any()), (None, false));
    assert_eq!(begin_copy().0, 1);
    space.add(self::segment(2, 1));
    assert!(space.has_any());
    assert_eq!(
        (begin(&space), begin(&space), begin(&space)),
        (Some(1), Some(1), None)
    );
    assert_eq!(space.next_position(7), 0, "a copy moves no positions");
}

#[test]
fn copies_leave_to_callers_what_they_began_themselves() {
    let space = space(&[3, 1]);
    space.reserve(1);
    assert_eq!(begin(&space), Some(0));
    let copy = space.begin_copy(256, 7, 40, (None, 0));
    assert_eq!(copy.map(|(segment, _)| segment), Some(0));
    assert_eq!((begin(&space), begin(&space)), (Some(0), None));
}

#[test]
fn a_segment_that_is_given_up_is_left_by_all() {
    let space = space(&[2, 2, 2]);
    begin(&space);
    let before = space.given_up();
    space.give_up(0);
    space.give_up(1);
    assert!(space.given_up() > before);
    assert_eq!(begin(&space), Some(2));
    assert!(space.events().contains(&SpaceEvent::Left(0)));
}

#[test]
fn its_owner_is_woken_for_events_and_positions_go_on() {
    let space = space(&[2]);
    let woken = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&woken);
    space.wake_with(move || {
        counted.fetch_add(1, Ordering::Relaxed);
    });
    space.time_with(|| 1234);
    let (segment, chunk) = space.begin((256, 256), 1, 7, None).expect("space");
    assert_eq!(
        (woken.load(Ordering::Relaxed), chunk.used().begun),
        (1, 1234)
    );
    space.end(segment, &chunk);
    assert_eq!(
        (woken.load(Ordering::Relaxed), space.next_position(1)),
        (2, 7)
    );
    assert_eq!(space.events().len(), 2);
    assert_eq!(space.events(), []);
}
