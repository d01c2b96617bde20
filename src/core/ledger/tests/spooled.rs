//! A partition whose batches are in the spool.

use super::*;
use crate::core::lookup::{Absence, Fence, Look, Looked, Verdict};
use crate::core::spool::{Fate, Line as Stretch, Resume, Seen, SentUnder};

/// Where the log ends before anything is sent.
const END: i64 = 100;

pub(super) fn spooled() -> Line {
    spooled_with(resolving())
}

fn spooled_with(rules: Rules) -> Line {
    let mut line = Line::with(rules);
    line.ledger
        .spool(3, 0, Backlog::default(), Spools::Accepted);
    line.ledger.set_floor(END);
    line.adopt(FIRST);
    line
}

/// With a line in the journal and one success.
pub(super) fn sending() -> Line {
    sending_with(resolving())
}

fn sending_with(rules: Rules) -> Line {
    let mut line = spooled_with(rules);
    line.push(1);
    record_line(&mut line);
    let first = line.take();
    line.acked(&first, END);
    line.told.clear();
    line
}

pub(super) fn record_line(line: &mut Line) -> Stretch {
    let wanted = line.ledger.wants_line().expect("a line is wanted");
    line.ledger.set_line(wanted);
    wanted
}

/// Reads back so many records, as the disk has them.
pub fn read_back(line: &mut Line, count: u32) -> bool {
    let (position, most) = line.ledger.wants_back().expect("a backlog");
    assert!(u64::from(count) <= most);
    let memory = line.shelf.buffer(blank(1 << 10));
    let mut open = OpenBatch::within(None, memory, 3, line.now, true);
    for i in 0..count {
        let value = i.to_be_bytes();
        let record = RecordRef {
            key: None,
            value: Some(&value),
            headers: &[],
            timestamp: 1_000 + i64::from(i),
        };
        open.append(&record).expect("it fits");
    }
    let mut records = line.shelf.buffer(blank(1 << 10));
    records.replace(open.appended(0, 0).records);
    let read = ReadBack {
        position,
        count: count as i32,
        base_timestamp: 1_000,
        max_timestamp: 1_000 + i64::from(count),
        records,
    };
    line.ledger.read_back(read, line.now)
}

#[test]
fn nothing_is_sent_before_the_journal_says_under_which_numbers() {
    let mut line = spooled();
    line.push(2);
    line.push(3);
    assert!(line.try_take().is_none());
    let wanted = record_line(&mut line);
    let expected = Stretch {
        identity: FIRST,
        sequence: 0,
        position: 0,
        floor: END,
        sent: 0,
    };
    assert_eq!(wanted, expected);
    let first = line.take();
    line.acked(&first, END);
    line.take();
    assert_eq!(line.ledger.wants_line(), None, "the numbers go on");
}

#[test]
fn a_hole_in_the_numbers_takes_another_line() {
    let mut line = sending();
    let refused = line.push(4);
    line.push(2);
    let lent = line.take();
    line.error(&lent, INVALID_RECORD);
    assert!(refused.is_open(), "the journal has to have it first");
    // The numbers of what was refused are used again.
    assert!(line.try_take().is_none());
    let wanted = record_line(&mut line);
    assert_eq!((wanted.position, wanted.sequence, wanted.sent), (5, 1, 5));
    line.take();
    let effects = line.ledger.recorded(1);
    line.note(effects);
    assert!(refused.is_not_written());
}

#[test]
fn halves_are_in_the_spool_as_the_whole_was() {
    let mut line = sending();
    let sent = line.push(5);
    let lent = line.take();
    line.error(&lent, MESSAGE_TOO_LARGE);
    assert_eq!(line.ledger.splits, 1);
    drop(line);
    for receipt in &sent.receipts {
        let outcome = receipt.outcome();
        let kept = matches!(outcome, Some(Err(Unconfirmed::Kept(_))));
        assert!(kept, "{outcome:?}");
    }
}

#[test]
fn nothing_expires_and_an_acl_is_waited_for() {
    let mut line = sending();
    let sent = line.push(1);
    let lent = line.take();
    line.now += 1_000 * DAY;
    let effects = line.ledger.expire(line.now);
    line.note(effects);
    assert!(sent.is_open());
    line.error(&lent, 29);
    assert!(sent.is_open());
    line.now += Duration::from_secs(2);
    let again = line.take();
    line.acked(&again, END + 1);
    assert!(sent.is_acked());
}

#[test]
fn what_was_spilled_goes_out_in_order_when_it_was_read_back() {
    let mut line = sending();
    let sent = line.push(1);
    let lent = line.take();
    let (heard, unheard) = (line.push(2), [3, 4].map(|count| drop(line.push(count))));
    line.ledger.spill(|_, _| false);
    assert_eq!(line.ledger.backlog(), 9);
    let behind = line.push(5);
    assert_eq!(line.ledger.backlog(), 14, "nothing overtakes it");
    line.acked(&lent, END + 1);
    assert!(sent.is_acked());
    assert!(line.try_take().is_none());
    let _ = unheard;
    for count in [2, 3, 4, 5] {
        assert!(read_back(&mut line, count));
    }
    assert_eq!(line.ledger.wants_back(), None);
    let mut offset = END + 2;
    for count in [2, 3, 4, 5] {
        let lent = line.take();
        assert_eq!(lent.count, count);
        line.acked(&lent, offset);
        offset += i64::from(count);
    }
    assert!(heard.is_acked() && behind.is_acked());
    assert_eq!(line.ledger.wants_line(), None);
}

#[test]
fn what_comes_before_a_doubt_is_not_spilled() {
    let mut line = sending();
    let counts = [1, 2, 3, 4];
    let _sent = counts.map(|count| line.push(count));
    let lent = line.take_many(3);
    line.lost(&lent[0]);
    line.error(&lent[1], OUT_OF_ORDER);
    line.lost(&lent[2]);
    line.back_off();
    let again = line.take();
    line.error(&again, OUT_OF_ORDER);
    // Both are looked for, and sent again if they are not there.
    line.ledger.spill(|_, _| false);
    assert_eq!(line.ledger.backlog(), 4, "the last one alone");
    line.ledger.adopt_behind(SECOND, Some(MARKER));
    let look = line.ledger.look().expect("two are sought");
    let verdicts = look.sought.iter().map(|it| (it.id, Verdict::Absent));
    let looked = Looked {
        verdicts: verdicts.collect(),
        fenced_at: Some(END + 1),
        surveyed: Vec::new(),
        hole: None,
    };
    let effects = line.ledger.looked(&look, looked);
    line.note(effects);
    line.back_off();
    record_line(&mut line);
    let mut offset = END + 2;
    for count in counts {
        if count == 4 {
            assert!(read_back(&mut line, 4));
        }
        let lent = line.take();
        assert_eq!(lent.count, count as i32);
        line.acked(&lent, offset);
        offset += i64::from(count);
    }
}

#[test]
fn what_ends_without_an_outcome_is_kept() {
    let mut line = sending();
    let (sent, _lent) = (line.push(1), line.take());
    let (parked, unsent) = (line.push(1), line.push(1));
    line.ledger.spill(|_, _| false);
    drop(unsent);
    let behind = line.push(1);
    let effects = line.ledger.abandon(|last| Reason::Closed { last });
    assert!(effects.records.is_empty(), "the journal is not told");
    line.note(effects);
    for receipt in [sent, parked, behind] {
        let outcome = receipt.receipts[0].outcome();
        assert!(
            matches!(outcome, Some(Err(Unconfirmed::Kept(_)))),
            "{outcome:?}"
        );
    }
}

#[test]
fn what_a_disk_may_have_lost_is_not_told_to_be_kept() {
    let mut line = sending();
    let receipts = [line.push(1), line.push(2), line.push(1)];
    // The last record of the second batch.
    line.ledger.doubt(3..4);
    let effects = line.ledger.abandon(|last| Reason::Closed { last });
    line.note(effects);
    let outcomes = receipts.map(|it| it.receipts[0].outcome());
    let doubted = Unconfirmed::Unknown(Reason::DiskFailed {
        first: Box::new(Reason::Closed { last: None }),
    });
    let kept = Unconfirmed::Kept(Reason::Closed { last: None });
    assert_eq!(
        outcomes,
        [Err(kept.clone()), Err(doubted), Err(kept)].map(Some)
    );
}

/// The journal gets it behind this, and the next producer does not deliver it.
#[test]
fn what_the_journal_is_told_of_is_not_kept() {
    let mut line = sending();
    let (lost, old) = (line.push(1), line.push(1));
    line.ledger.spill(|_, _| false);
    let effects = line.ledger.lose(1..2);
    assert_eq!(effects.records.len(), 1);
    line.note(effects);
    let effects = line.ledger.expire_spooled(3, DAY);
    assert_eq!(effects.records.len(), 1);
    line.note(effects);
    assert!(lost.is_open() && old.is_open());
    let effects = line.ledger.abandon(|last| Reason::Closed { last });
    line.note(effects);
    let outcome = lost.receipts[0].outcome();
    let damaged = Unconfirmed::NotWritten(Reason::Damaged);
    assert_eq!(outcome, Some(Err(damaged)));
    // Its lines may not be in their file yet, and without them the journal is not told.
    let outcome = old.receipts[0].outcome();
    assert!(
        matches!(outcome, Some(Err(Unconfirmed::Kept(_)))),
        "{outcome:?}"
    );
}

#[test]
fn a_dropped_ledger_keeps_its_records() {
    let mut line = sending();
    let (sent, _lent) = (line.push(1), line.take());
    drop(line);
    let outcome = sent.receipts[0].outcome();
    assert!(
        matches!(outcome, Some(Err(Unconfirmed::Kept(_)))),
        "{outcome:?}"
    );
}

#[test]
fn a_flush_waits_for_what_is_on_the_disk() {
    let mut line = sending();
    line.push(1);
    line.ledger.spill(|_, _| false);
    let token: Token = Arc::new(());
    line.ledger.tie(&token, |_| false);
    line.push(1);
    for (offset, waits) in [(END + 1, true), (END + 2, false)] {
        assert_eq!(Arc::strong_count(&token) > 1, offset == END + 1);
        assert!(read_back(&mut line, 1));
        let lent = line.take();
        line.acked(&lent, offset);
        assert!(
            !waits || Arc::strong_count(&token) == 1,
            "told with the batch"
        );
    }
}

/// What a former producer left: five records, three of them sent under this line.
fn resuming() -> Line {
    resuming_with(resolving())
}

fn resolving() -> Rules {
    Rules {
        resolve: Some(Duration::from_secs(60)),
        ..rules()
    }
}

/// Positions 10 to 15, which may have been sent under this line.
pub(super) fn left_under(line: Stretch) -> Resume {
    Resume {
        slot: 1,
        topic: None,
        lines: vec![SentUnder { line, end: 15 }],
        unsettled: std::iter::once(10..15).collect(),
        missing: Vec::new(),
        end: 15,
        next_position: 15,
    }
}

fn resuming_with(rules: Rules) -> Line {
    let mut line = Line::with(rules);
    let backlog = Backlog::resumed([(10, 5)].into_iter(), &[]);
    line.ledger.spool(3, 15, backlog, Spools::Accepted);
    let resume = left_under(Stretch {
        identity: FIRST,
        sequence: 4,
        position: 8,
        floor: 70,
        sent: 8,
    });
    let effects = line.ledger.resume(Resuming::new(&resume));
    line.note(effects);
    line
}

const MARKER: Fence = Fence::Marker {
    producer_id: 7,
    above: 0,
};

#[test]
fn what_a_former_producer_left_is_looked_for_behind_a_fence() {
    let mut line = resuming();
    assert!(line.ledger.wants_identity());
    assert_eq!(line.ledger.left(), Some(FIRST));
    assert_eq!(line.ledger.wants_back(), None, "not yet");
    line.ledger.adopt_behind(SECOND, Some(MARKER));
    let look = line.ledger.look().expect("a survey");
    let expected = Look {
        floor: 70,
        fence: Some(MARKER),
        sought: Vec::new(),
        survey: Some(7),
    };
    assert_eq!(look, expected);
    let found = |sequence, count| Seen {
        identity: FIRST,
        sequence,
        count,
        base_offset: 80 + i64::from(sequence),
    };
    let looked = Looked {
        verdicts: Vec::new(),
        fenced_at: Some(90),
        // Of the first, which begins before what is left, the journal has heard.
        surveyed: vec![found(5, 2), found(8, 1)],
        hole: None,
    };
    let effects = line.ledger.looked(&look, looked);
    let records: Vec<_> = effects
        .records
        .iter()
        .map(|it| (it.position, it.count, it.fate))
        .collect();
    assert_eq!(
        records,
        [(10, 1, Fate::Acked(86)), (12, 1, Fate::Acked(88))]
    );
    line.note(effects);
    assert_eq!(line.ledger.backlog(), 3);
    for count in [1, 2] {
        assert!(read_back(&mut line, count));
    }
    let wanted = record_line(&mut line);
    assert_eq!(
        (wanted.identity, wanted.position, wanted.sequence),
        (SECOND, 11, 0)
    );
    assert_eq!(wanted.floor, 91);
    let lent = line.take();
    line.acked(&lent, 91);
    // What was found between them had other numbers.
    let wanted = record_line(&mut line);
    assert_eq!((wanted.position, wanted.sequence), (13, 1));
}

#[test]
fn where_the_log_cannot_tell_it_is_sent_again_or_left_unknown() {
    for resends in [true, false] {
        let mut line = resuming_with(Rules {
            resends,
            ..resolving()
        });
        line.ledger.adopt_behind(SECOND, Some(MARKER));
        let look = line.ledger.look().expect("a survey");
        let looked = Looked {
            verdicts: Vec::new(),
            fenced_at: Some(90),
            surveyed: vec![Seen {
                identity: FIRST,
                sequence: 8,
                count: 1,
                base_offset: 88,
            }],
            hole: Some(Absence::Hole { from: 70, to: 79 }),
        };
        let effects = line.ledger.looked(&look, looked);
        let unknown = effects.unknown.as_ref().map(|(records, _)| *records);
        assert_eq!(
            (effects.resent.is_some(), unknown),
            match resends {
                true => (true, None),
                false => (false, Some(4)),
            }
        );
        let fates: Vec<_> = effects
            .records
            .iter()
            .map(|it| (it.position, it.count))
            .collect();
        match resends {
            true => assert_eq!(fates, [(12, 1)]),
            false => assert_eq!(fates, [(12, 1), (10, 2), (13, 2)]),
        }
        line.note(effects);
        assert_eq!(line.ledger.backlog(), if resends { 4 } else { 0 });
    }
}

/// Under a running producer, too.
#[test]
fn a_batch_of_which_the_log_cannot_tell_is_sent_again_or_left_unknown() {
    let hole = Absence::Hole { from: 70, to: 79 };
    for (resends, reads) in [(true, true), (true, false), (false, true), (false, false)] {
        let mut line = sending_with(Rules {
            resends,
            ..resolving()
        });
        let sent = line.push(2);
        let lent = line.take();
        line.doubt(&lent);
        line.ledger.adopt_behind(SECOND, Some(MARKER));
        let look = line.ledger.look().expect("one is sought");
        let effects = match reads {
            true => {
                let looked = Looked {
                    verdicts: vec![(look.sought[0].id, Verdict::Unknown(hole))],
                    fenced_at: Some(END + 1),
                    surveyed: Vec::new(),
                    hole: None,
                };
                line.ledger.looked(&look, looked)
            }
            false => line.ledger.unreadable(&look, &"no READ".into()),
        };
        assert_eq!(effects.resent.is_some(), resends);
        assert_eq!(effects.records.len(), usize::from(!resends));
        line.note(effects);
        if !resends {
            let effects = line.ledger.recorded(1);
            line.note(effects);
            assert!(sent.is_unknown());
            continue;
        }
        if line.ledger.wants_identity() {
            line.ledger.adopt_behind(SECOND, None);
        }
        record_line(&mut line);
        let lent = line.take();
        assert_eq!(lent.count, 2);
        line.acked(&lent, END + 2);
        assert!(sent.is_acked());
    }
}

#[test]
fn a_flush_waits_for_no_more_than_what_a_survey_leaves() {
    let mut line = resuming();
    let token: Token = Arc::new(());
    line.ledger.tie(&token, |_| false);
    line.ledger.adopt_behind(SECOND, Some(MARKER));
    let look = line.ledger.look().expect("a survey");
    let looked = Looked {
        verdicts: Vec::new(),
        fenced_at: Some(90),
        surveyed: vec![Seen {
            identity: FIRST,
            sequence: 6,
            count: 5,
            base_offset: 80,
        }],
        hole: None,
    };
    let effects = line.ledger.looked(&look, looked);
    assert_eq!(effects.settled.len(), 1);
    line.note(effects);
    assert_eq!(Arc::strong_count(&token), 1, "all was found");
}

#[test]
fn what_cannot_be_fenced_is_looked_for_up_to_the_end() {
    let mut line = resuming();
    let other = Identity {
        producer_id: 8,
        epoch: 0,
    };
    line.ledger.adopt_behind(other, None);
    assert!(line.ledger.wants_floor());
    line.ledger.set_floor(95);
    let look = line.ledger.look().expect("a survey");
    assert_eq!((look.floor, look.fence), (70, Some(Fence::Offset(95))));
    let looked = Looked {
        verdicts: Vec::new(),
        fenced_at: Some(95),
        surveyed: Vec::new(),
        hole: None,
    };
    let effects = line.ledger.looked(&look, looked);
    line.note(effects);
    assert!(read_back(&mut line, 5));
    record_line(&mut line);
    assert_eq!(line.take().count, 5);
}

#[test]
fn where_the_machine_may_fail_nothing_is_sent_before_it_is_on_the_disk() {
    let mut line = spooled();
    line.ledger.spool(3, 0, Backlog::default(), Spools::Synced);
    line.push(2);
    assert_eq!(line.ledger.not_durable(), Some(2));
    record_line(&mut line);
    line.push(2);
    assert!(line.try_take().is_none());
    line.ledger.set_durable(2);
    assert_eq!(line.take().count, 2);
    assert_eq!(line.ledger.not_durable(), Some(4));
    assert!(line.try_take().is_none());
}

fn ended(effects: &Effects) -> Vec<(u64, i32)> {
    let records = effects.records.iter();
    let ended = records.map(|record| {
        assert_eq!(record.fate, Fate::Rejected);
        let why = record.why.as_deref().unwrap_or_default();
        assert!(why.contains("forebay.spool.max.age.ms"), "{why}");
        (record.position, record.count)
    });
    ended.collect()
}

#[test]
fn what_is_too_old_ends_and_what_was_sent_goes_on() {
    let mut line = sending();
    let (sent, lent) = (line.push(1), line.take());
    let (old, young) = (line.push(2), line.push(3));
    // The first record of `young` is not too old, and its batch ends as a whole.
    let effects = line.ledger.expire_spooled(5, DAY);
    assert_eq!(ended(&effects), [(2, 2)]);
    line.note(effects);
    assert!(old.is_open(), "the journal has to have it first");
    let effects = line.ledger.recorded(2);
    line.note(effects);
    assert!(old.is_not_written() && sent.is_open());
    line.acked(&lent, END + 1);
    assert!(sent.is_acked());
    let wanted = record_line(&mut line);
    assert_eq!((wanted.position, wanted.sequence), (4, 2));
    let lent = line.take();
    line.acked(&lent, END + 2);
    assert!(young.is_acked());
    assert!(line.ledger.expire_spooled(9, DAY).records.is_empty());
}

#[test]
fn what_is_too_old_on_the_disk_ends_with_its_receipts() {
    let mut line = sending();
    let heard = line.push(2);
    drop((line.push(3), line.push(4)));
    line.ledger.spill(|_, _| false);
    let token: Token = Arc::new(());
    line.ledger.tie(&token, |_| false);
    let effects = line.ledger.expire_spooled(8, DAY);
    assert_eq!(ended(&effects), [(3, 5), (1, 2)]);
    let mut told = effects.records.clone();
    told.sort_by_key(|record| record.position);
    assert_eq!(line.ledger.unrecorded(), told, "if the news of it is lost");
    line.note(effects);
    assert_eq!(line.ledger.backlog(), 2);
    assert_eq!(line.ledger.wants_back(), Some((8, 2)));
    assert!(heard.is_open());
    let effects = line.ledger.recorded(1);
    line.note(effects);
    assert!(heard.is_not_written());
    let effects = line.ledger.expire_spooled(10, DAY);
    assert_eq!(ended(&effects), [(8, 2)]);
    line.note(effects);
    assert_eq!(line.ledger.wants_back(), None);
    for (position, waits) in [(3, true), (8, false)] {
        let effects = line.ledger.recorded(position);
        line.note(effects);
        assert_eq!(Arc::strong_count(&token) > 1, waits, "a flush");
    }
}

#[test]
fn what_may_be_in_the_log_is_never_too_old() {
    let mut line = resuming();
    assert!(line.ledger.expire_spooled(15, DAY).records.is_empty());
    assert_eq!(line.ledger.backlog(), 5);
}
