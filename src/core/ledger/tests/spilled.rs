//! A partition whose batches are in the spool only where memory is used up.

use std::ops::Range;

use super::spooled::{read_back, record_line};
use super::*;

/// Where the log ends before anything is sent.
const END: i64 = 100;

const MAX_AGE: Duration = Duration::from_secs(60);

/// With one success, and nothing in the journal.
fn sending() -> Line {
    let mut line = Line::with(Rules {
        resolve: Some(Duration::from_secs(60)),
        ..rules()
    });
    let spools = Spools::Spilled(MAX_AGE);
    line.ledger.spool(3, 0, Backlog::default(), spools);
    line.ledger.set_floor(END);
    line.adopt(FIRST);
    line.push(1);
    assert_eq!(line.ledger.wants_line(), None);
    let first = line.take();
    line.acked(&first, END);
    line.told.clear();
    line
}

/// Spills, where the disk has space for so many batches. Returns the positions of those that were written,
/// and what was passed over.
fn spill(line: &mut Line, mut space: usize) -> (Vec<u64>, Vec<Range<u64>>) {
    let mut written = Vec::new();
    let passed = line.ledger.spill(|position, batch| {
        assert!(!batch.is_spooled());
        let fits = space > 0;
        space = space.saturating_sub(1);
        written.extend(fits.then_some(position));
        fits
    });
    (written, passed)
}

#[test]
fn what_is_sent_from_memory_is_no_matter_of_the_journal() {
    let mut line = sending();
    let sent = line.push(2);
    let lent = line.take();
    line.acked(&lent, END + 1);
    let refused = line.push(3);
    let lent = line.take();
    line.error(&lent, INVALID_RECORD);
    assert_eq!(line.records, []);
    assert!(sent.is_acked() && refused.is_not_written());
    assert_eq!(line.ledger.open_from(0), 6);
}

#[test]
fn what_waits_is_written_in_order_and_read_back_under_a_line_of_its_own() {
    let mut line = sending();
    line.push(2);
    let lent = line.take();
    let waiting = [3, 4].map(|count| line.push(count));
    let passed = 0..3;
    assert_eq!(spill(&mut line, 9), (vec![3, 6], vec![passed]));
    assert_eq!(line.ledger.open_from(0), 3);
    // What comes behind stays in memory, and behind what is on the disk.
    let behind = line.push(5);
    line.ledger.take_held();
    line.acked(&lent, END + 1);
    assert!(line.try_take().is_none());
    for count in [3, 4] {
        assert!(read_back(&mut line, count));
    }
    line.ledger.take_held();
    let wanted = record_line(&mut line);
    assert_eq!((wanted.position, wanted.sequence), (3, 3));
    for (count, offset) in [(3, END + 3), (4, END + 6)] {
        let lent = line.take();
        assert_eq!(lent.count, count);
        line.acked(&lent, offset);
    }
    let recorded = line.records.iter().map(|it| it.position);
    assert_eq!(recorded.collect::<Vec<_>>(), [3, 6]);
    let lent = line.take();
    assert_eq!(lent.count, 5);
    line.acked(&lent, END + 10);
    assert!(waiting.iter().all(|it| it.is_acked()) && behind.is_acked());
}

#[test]
fn what_the_disk_has_no_space_for_stays_in_memory_and_in_its_place() {
    let mut line = sending();
    let waiting = [2, 3, 4].map(|count| line.push(count));
    assert_eq!(spill(&mut line, 1).0, [1]);
    assert_eq!(line.ledger.backlog(), 9);
    // With space again what is there already is not written a second time.
    assert_eq!(spill(&mut line, 9), (vec![3, 6], vec![]));
    for count in [2, 3, 4] {
        assert!(read_back(&mut line, count));
    }
    record_line(&mut line);
    let mut offset = END + 1;
    for count in [2, 3, 4] {
        let lent = line.take();
        assert_eq!(lent.count, count);
        line.acked(&lent, offset);
        offset += i64::from(count);
    }
    assert!(waiting.iter().all(|it| it.is_acked()));
}

#[test]
fn what_came_to_memory_between_two_outages_is_passed_over() {
    let mut line = sending();
    line.push(2);
    let passed = 0..1;
    assert_eq!(spill(&mut line, 9).1, vec![passed]);
    assert!(read_back(&mut line, 2));
    record_line(&mut line);
    let lent = line.take();
    line.acked(&lent, END + 1);
    for offset in [END + 3, END + 4] {
        line.push(1);
        let lent = line.take();
        line.acked(&lent, offset);
    }
    line.push(7);
    let passed = 3..5;
    assert_eq!(spill(&mut line, 9), (vec![5], vec![passed]));
    assert!(read_back(&mut line, 7));
    let wanted = record_line(&mut line);
    assert_eq!((wanted.position, wanted.floor), (5, END + 5));
}

#[test]
fn at_the_end_what_is_on_the_disk_is_kept_and_the_rest_is_not_written() {
    let mut line = sending();
    let doubtful = line.push(1);
    let lent = line.take();
    let spilled = line.push(2);
    spill(&mut line, 9);
    let held = line.push(3);
    line.lost(&lent);
    let effects = line.ledger.abandon(|last| Reason::Closed { last });
    line.note(effects);
    let closed = |last| Reason::Closed { last };
    let effects = line.ledger.abandon_doubts(closed);
    line.note(effects);
    let outcome = |it: &BorrowedReceipt| it.receipts[0].outcome();
    assert!(matches!(outcome(&spilled), Some(Err(Unconfirmed::Kept(_)))));
    assert!(held.is_not_written());
    let doubtful = outcome(&doubtful);
    assert!(
        matches!(doubtful, Some(Err(Unconfirmed::Unknown(_)))),
        "{doubtful:?}"
    );
}

#[test]
fn what_waits_in_memory_ends_as_it_would_on_the_disk() {
    let mut line = sending();
    let (first, second) = (line.push(1), line.push(1));
    let lent = line.take();
    assert!(line.ledger.next_expiry().is_some());
    line.now += MAX_AGE;
    let effects = line.ledger.expire(line.now);
    line.note(effects);
    assert!(first.is_open() && second.is_not_written(), "one was sent");
    line.acked(&lent, END + 1);
    assert!(first.is_acked());
    assert_eq!(line.ledger.next_expiry(), None);
}

#[test]
fn of_a_topic_that_was_created_anew_nothing_is_left() {
    let mut line = sending();
    let spilled = line.push(2);
    spill(&mut line, 9);
    let held = line.push(3);
    let next = 1 << 32;
    let effects = line.ledger.topic_recreated(Some(next));
    line.note(effects);
    assert!(held.is_not_written());
    let recorded = line.records.iter().map(|it| (it.position, it.count));
    assert_eq!(recorded.collect::<Vec<_>>(), [(1, 2)]);
    let effects = line.ledger.recorded(1);
    line.note(effects);
    assert!(spilled.is_not_written());
    assert_eq!(line.ledger.backlog(), 0);
    // Its slot begins there.
    line.push(4);
    assert_eq!(spill(&mut line, 9), (vec![next], vec![]));
}
