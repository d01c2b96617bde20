//! A topic that was deleted and created anew while its records were in the spool.

use super::spooled::{left_under, record_line, sending, spooled};
use super::*;
use crate::core::spool::{Fate, Line as Stretch, Resume};

const UNKNOWN_TOPIC_ID: i16 = 100;

/// Where the slot of the present topic begins.
const NEXT: u64 = 1_000;

/// The topic is another one now. Returns what the journal is to have, and whether lines are to be written.
fn recreate(line: &mut Line) -> Vec<(u64, i32, Fate, bool)> {
    let effects = line.ledger.topic_recreated(Some(NEXT));
    outcomes_of(line, effects)
}

fn outcomes_of(line: &mut Line, effects: Effects) -> Vec<(u64, i32, Fate, bool)> {
    let records = effects.records.clone();
    line.note(effects);
    let records = records.into_iter();
    let of = |record: Record| {
        (
            record.position,
            record.count,
            record.fate,
            record.why.is_some(),
        )
    };
    records.map(of).collect()
}

fn record(line: &mut Line, position: u64) {
    let effects = line.ledger.recorded(position);
    line.note(effects);
}

#[test]
fn what_was_never_sent_is_rejected_and_what_comes_goes_to_the_present_topic() {
    let mut line = sending();
    let (first, second) = (line.push(2), line.push(3));
    line.ledger.spill(|_, _| false);
    let in_memory = line.push(1);
    let outcomes = recreate(&mut line);
    assert_eq!(line.ledger.backlog(), 0);
    let count: i32 = outcomes.iter().map(|it| it.1).sum();
    assert!(
        outcomes.iter().all(|it| it.2 == Fate::Rejected && it.3),
        "{outcomes:?}"
    );
    assert_eq!(count, 6);
    assert!(first.is_open(), "its line has to be there first");
    assert_eq!(line.ledger.open_from(0), 1);
    assert_eq!(line.ledger.open_from(NEXT), NEXT);
    for (position, ..) in outcomes {
        record(&mut line, position);
    }
    for sent in [&first, &second, &in_memory] {
        assert_eq!(
            sent.outcome(),
            Err(Unconfirmed::NotWritten(Reason::TopicRecreated))
        );
    }
    let present = line.push(1);
    line.ledger.set_floor(0);
    let wanted = record_line(&mut line);
    assert_eq!(
        (wanted.position, wanted.sequence),
        (NEXT, 1),
        "the former line is of another slot"
    );
    let lent = line.take();
    line.acked(&lent, 0);
    assert!(present.is_acked());
}

#[test]
fn what_is_lent_ends_when_it_is_back() {
    type Expected = fn(&Outcome) -> bool;
    let acked: Expected = |it| matches!(it, Ok(acked) if acked.offset == Some(200));
    let unsent: Expected = |it| *it == Err(Unconfirmed::NotWritten(Reason::TopicRecreated));
    let in_doubt: Expected = |it| *it == Err(Unconfirmed::Unknown(Reason::TopicRecreated));
    type Back = fn(&mut Line, &Lent);
    let cases: [(Back, Expected); 5] = [
        (|line, lent| line.acked(lent, 200), acked),
        (|line, lent| _ = line.error(lent, INVALID_RECORD), unsent),
        (|line, lent| line.unwritten(lent), unsent),
        (|line, lent| line.lost(lent), in_doubt),
        (
            |line, lent| _ = line.error(lent, UNKNOWN_TOPIC_ID),
            in_doubt,
        ),
    ];
    for (case, (back, expected)) in cases.into_iter().enumerate() {
        let mut line = sending();
        let sent = line.push(1);
        let lent = line.take();
        assert_eq!(recreate(&mut line), []);
        let present = line.push(1);
        assert!(sent.is_open() && line.try_take().is_none());
        back(&mut line, &lent);
        record(&mut line, 1);
        assert!(
            expected(&sent.outcome()),
            "case {case}: {:?}",
            sent.outcome()
        );
        assert!(present.is_open());
        // It was under the former line.
        assert!(line.ledger.wants_floor() || line.ledger.wants_identity());
    }
}

#[test]
fn what_comes_for_a_topic_that_is_gone_is_too_late() {
    let mut line = spooled();
    let sent = line.push(1);
    assert!(line.ledger.is_any_open());
    let effects = line.ledger.topic_recreated(None);
    assert_eq!(
        outcomes_of(&mut line, effects),
        [(0, 1, Fate::Rejected, true)]
    );
    assert!(!line.ledger.is_any_open());
    record(&mut line, 0);
    assert!(sent.is_not_written());
    line.push(1);
    assert!(line.ledger.is_any_open());
    let effects = line.ledger.topic_recreated(None);
    assert_eq!(
        outcomes_of(&mut line, effects),
        [(1, 1, Fate::Rejected, true)]
    );
}

/// Positions 10 to 15, of which those from 13 on may have been sent.
fn left() -> Resume {
    left_under(Stretch {
        identity: FIRST,
        sequence: 0,
        position: 13,
        floor: 4,
        sent: 13,
    })
}

const OF_LEFT: [(u64, i32, Fate, bool); 2] =
    [(10, 3, Fate::Rejected, true), (13, 2, Fate::Unknown, true)];

#[test]
fn what_a_former_producer_left_of_a_former_topic_ends_at_once() {
    let mut line = spooled();
    let effects = line.ledger.leave_former(&left());
    assert_eq!(outcomes_of(&mut line, effects), OF_LEFT);
    assert_eq!(line.ledger.open_from(0), 10);
    let unrecorded: Vec<_> = line
        .ledger
        .unrecorded()
        .iter()
        .map(|it| it.position)
        .collect();
    assert_eq!(unrecorded, [10, 13], "it is told again");
    record(&mut line, 10);
    record(&mut line, 13);
    assert_eq!(line.ledger.len(), 0);
}

#[test]
fn a_log_that_is_gone_is_not_surveyed() {
    let mut line = Line::with(Rules {
        resolve: Some(Duration::from_secs(60)),
        ..rules()
    });
    let backlog = Backlog::resumed(std::iter::once((10, 5)), &[]);
    line.ledger.spool(3, 20, backlog, Spools::Accepted);
    let effects = line.ledger.resume(Resuming::new(&left()));
    line.note(effects);
    assert!(line.ledger.holds_back());
    let effects = line.ledger.topic_recreated(Some(NEXT));
    assert_eq!(effects.resent, None);
    let mut outcomes = outcomes_of(&mut line, effects);
    outcomes.sort_unstable_by_key(|it| it.0);
    assert_eq!(outcomes, OF_LEFT);
    assert_eq!(line.ledger.backlog(), 0);
}
