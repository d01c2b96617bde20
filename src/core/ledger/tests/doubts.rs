//! What becomes of batches in doubt where they are looked for in the log.

mod seeds;

use super::*;
use crate::core::lookup::{Absence, Fence, Found, Look, Looked, Verdict};

const RESOLVE: Duration = Duration::from_secs(60);
/// The end of the log before anything was sent.
const END: i64 = 100;
const MARKER: Fence = Fence::Marker {
    producer_id: 7,
    above: 0,
};

fn resolving() -> Rules {
    Rules {
        resolve: Some(RESOLVE),
        ..rules()
    }
}

/// With an identity and a floor.
fn begun() -> Line {
    let mut line = Line::with(resolving());
    line.ledger.set_floor(END);
    line.adopt(FIRST);
    line
}

/// A batch ran out of time while it was lent, and its answer is lost.
fn doubtful() -> (Line, BorrowedReceipt) {
    let mut line = begun();
    let sent = line.push(2);
    let lent = line.take();
    line.time_out();
    line.lost(&lent);
    (line, sent)
}

impl Line {
    fn look(&self) -> Look {
        self.ledger.look().expect("something to look for")
    }

    /// The look ends with these verdicts, at this fence.
    fn looked(&mut self, verdicts: &[Verdict], fenced_at: Option<i64>) {
        let look = self.look();
        let ids = look.sought.iter().map(|sought| sought.id);
        let verdicts = ids.zip(verdicts.iter().copied()).collect();
        let looked = Looked {
            verdicts,
            fenced_at,
            surveyed: Vec::new(),
            hole: None,
        };
        let effects = self.ledger.looked(&look, looked);
        self.note(effects);
    }

    /// The identity behind the marker is there, and the marker is waited for.
    fn fence(&mut self) {
        assert!(self.ledger.wants_identity());
        self.ledger.adopt_behind(SECOND, Some(MARKER));
        assert!(!self.ledger.wants_identity());
        assert!(self.try_take().is_none(), "not before the marker is seen");
    }
}

fn at(base_offset: i64) -> Verdict {
    Verdict::At(Found {
        base_offset,
        log_append_time: None,
    })
}

#[test]
fn nothing_is_sent_before_it_is_known_where_the_log_ends() {
    let mut line = Line::with(resolving());
    line.adopt(FIRST);
    line.push(2);
    assert!(line.ledger.wants_floor() && line.ledger.holds_back());
    assert!(line.try_take().is_none());
    line.ledger.set_floor(END);
    assert!(!line.ledger.wants_floor() && !line.ledger.holds_back());
    line.take();
}

#[test]
fn what_has_no_time_left_is_acked_if_it_is_there_and_not_written_if_not() {
    for (verdict, acked) in [(at(104), true), (Verdict::Absent, false)] {
        let mut line = begun();
        let sent = line.push(2);
        let lent = line.take();
        line.time_out();
        assert!(sent.is_open(), "its loan may bring an answer");
        line.lost(&lent);
        assert!(sent.is_open());
        line.fence();
        let look = line.look();
        assert_eq!((look.floor, look.fence), (END, Some(MARKER)));
        line.looked(&[verdict], Some(110));
        assert_eq!((sent.is_acked(), sent.is_not_written()), (acked, !acked));
        if acked {
            assert_eq!(sent.offsets(), [Some(104), Some(105)]);
        }
        assert!(line.ledger.look().is_none());
        // The partition goes on behind the marker.
        line.push(1);
        assert_eq!(stamp(&line.take()), (7, 1, 0));
    }
}

#[test]
fn since_when_it_was_in_doubt_is_told_with_the_truth() {
    for (verdict, is_told) in [
        (at(104), true),
        (Verdict::Absent, true),
        (Verdict::Unknown(Absence::TooMuch { read: 1 }), false),
    ] {
        let (mut line, _sent) = doubtful();
        let since = line.now;
        line.ledger.note_doubts(since);
        line.now += Duration::from_secs(3);
        line.ledger.note_doubts(line.now);
        line.fence();
        line.looked(&[verdict], Some(110));
        let expected = is_told.then_some(since);
        assert_eq!(line.resolved, Vec::from_iter(expected), "{verdict:?}");
    }
}

#[test]
fn an_answer_that_comes_late_is_the_outcome() {
    let mut line = begun();
    let sent = line.push(2);
    let lent = line.take();
    line.time_out();
    line.acked(&lent, 100);
    assert!(sent.is_acked());
    assert!(!line.ledger.wants_identity() && line.ledger.look().is_none());
}

#[test]
fn bytes_of_what_has_no_time_left_go_home_at_once() {
    let mut line = begun();
    line.push(2);
    let lent = line.take();
    line.time_out();
    line.lost(&lent);
    let records = Arc::downgrade(&lent.records);
    drop(lent);
    assert!(records.upgrade().is_none());
    assert_eq!(
        (line.ledger.len(), line.ledger.load().records),
        (1, 2),
        "it still counts"
    );
}

#[test]
fn the_floor_is_that_of_the_first_attempt() {
    let mut line = begun();
    line.push(1);
    let first = line.take();
    line.acked(&first, 100);
    // Two are in flight. The second is acked, which says nothing of the first.
    let doubtful = line.push(2);
    let other = line.push(2);
    let lent = line.take_many(2);
    line.acked(&lent[1], 103);
    assert!(other.is_acked());
    line.lost(&lent[0]);
    line.back_off();
    let again = line.take();
    line.time_out();
    line.lost(&again);
    line.fence();
    assert_eq!(line.look().floor, 101);
    line.looked(&[at(101)], Some(110));
    assert!(doubtful.is_acked());
}

#[test]
fn what_has_time_left_is_sent_again_in_its_order_and_others_wait() {
    let mut line = begun();
    line.push(1);
    let first = line.take();
    line.acked(&first, 100);
    let sent = line.push_many(3);
    let lent = line.take_many(2);
    line.lost(&lent[0]);
    line.lost(&lent[1]);
    line.back_off();
    // The broker has started again, and remembers one batch.
    let again = line.take();
    line.error(&again, OUT_OF_ORDER);
    line.fence();
    assert_eq!(line.look().sought.len(), 2);
    line.looked(&[Verdict::Absent, Verdict::Absent], Some(101));
    assert!(sent.iter().all(BorrowedReceipt::is_open));
    for (number, sent) in sent.iter().enumerate() {
        let lent = line.take();
        let at = 2 * number as i32;
        assert_eq!(stamp(&lent), (7, 1, at));
        line.acked(&lent, 102 + i64::from(at));
        assert!(sent.is_acked());
    }
}

#[test]
fn halves_of_a_batch_are_sent_again_before_what_came_behind() {
    let mut line = begun();
    line.push(1);
    let first = line.take();
    line.acked(&first, 100);
    line.push(4);
    let whole = line.take();
    line.error(&whole, MESSAGE_TOO_LARGE);
    line.push(7);
    line.back_off();
    let head = line.take();
    line.acked(&head, 101);
    let tail = line.take();
    line.doubt(&tail);
    line.fence();
    line.looked(&[Verdict::Absent], Some(104));
    for (count, offset) in [(2, 105), (7, 107)] {
        let lent = line.take();
        assert_eq!(lent.count, count);
        line.acked(&lent, offset);
    }
}

#[test]
fn what_was_to_be_sent_again_runs_out_of_time_while_it_is_looked_for() {
    let mut line = begun();
    let sent = line.push(2);
    let lent = line.take();
    line.doubt(&lent);
    line.fence();
    line.time_out();
    assert!(sent.is_open());
    line.looked(&[Verdict::Absent], Some(101));
    assert!(sent.is_not_written());
}

#[test]
fn what_cannot_be_found_out_in_time_is_unknown_and_says_why() {
    let mut line = begun();
    let sent = line.push(2);
    let lent = line.take();
    line.lost(&lent);
    line.time_out();
    line.ledger.note_trouble("the broker is gone".into());
    assert_eq!(line.ledger.next_expiry(), Some(line.now + RESOLVE));
    line.pass(RESOLVE - Duration::from_millis(1));
    line.expire();
    assert!(sent.is_open());
    line.pass(Duration::from_millis(1));
    line.expire();
    let Err(Unconfirmed::Unknown(Reason::Unresolved { first, why })) = sent.outcome() else {
        panic!("{:?}", sent.outcome());
    };
    assert!(matches!(*first, Reason::Expired { .. }), "{first}");
    assert!(why.contains("the broker is gone"), "{why}");
}

#[test]
fn one_that_is_lent_for_so_long_is_unknown_too() {
    let mut line = begun();
    let sent = line.push(2);
    let lent = line.take();
    line.time_out();
    assert_eq!(line.ledger.next_expiry(), Some(line.now + RESOLVE));
    line.pass(RESOLVE);
    line.expire();
    assert!(sent.is_unknown());
    line.lost(&lent);
    assert_eq!(line.ledger.len(), 0);
}

#[test]
fn without_a_marker_the_next_batch_is_the_fence() {
    let (mut line, sent) = doubtful();
    line.ledger.adopt_behind(SECOND, None);
    assert_eq!(line.look().fence, None, "only what is there can be said");
    line.looked(&[Verdict::Absent], None);
    assert!(sent.is_open());
    line.push(1);
    let next = line.take();
    assert_eq!(stamp(&next), (7, 1, 0));
    line.acked(&next, 103);
    assert_eq!(line.look().fence, Some(Fence::Offset(103)));
    line.push(1);
    let next = line.take();
    line.acked(&next, 104);
    assert_eq!(
        line.look().fence,
        Some(Fence::Offset(103)),
        "the first is enough"
    );
    line.looked(&[Verdict::Absent], Some(103));
    assert!(sent.is_not_written());
}

#[test]
fn records_that_brokers_forget_a_producer_by_are_no_fence() {
    let (mut line, sent) = doubtful();
    line.ledger.adopt_behind(SECOND, None);
    // They are a day old and more.
    line.ledger.wall_clock(2 * DAY.as_millis() as i64);
    line.push(1);
    let old = line.take();
    line.acked(&old, 103);
    assert_eq!(line.look().fence, None);
    assert!(sent.is_open());
}

#[test]
fn old_records_behind_a_marker_go_under_another_producer_id() {
    let (mut line, _) = doubtful();
    line.fence();
    line.looked(&[Verdict::Absent], Some(100));
    line.push(1);
    let new = line.take();
    line.acked(&new, 101);
    line.ledger.wall_clock(2 * DAY.as_millis() as i64);
    let sent = line.push(1);
    assert!(line.try_take().is_none(), "the fence would go with it");
    line.ledger.leave_fenced();
    assert!(line.ledger.wants_identity() && line.ledger.wants_fresh());
    let fresh = Identity {
        producer_id: 8,
        epoch: 0,
    };
    line.ledger.adopt_behind(fresh, None);
    let old = line.take();
    assert_eq!(stamp(&old), (8, 0, 0));
    line.acked(&old, 102);
    assert!(sent.is_acked());
}

#[test]
fn where_no_marker_comes_any_more_the_next_producer_goes_on() {
    let (mut line, sent) = doubtful();
    line.fence();
    line.push(1);
    let next = Identity {
        producer_id: 8,
        epoch: 0,
    };
    line.ledger.adopt_behind(next, None);
    assert_eq!(stamp(&line.take()), (8, 0, 0));
    assert!(sent.is_open(), "it may be found");
}

#[test]
fn old_records_wait_for_no_doubt_that_no_marker_can_end() {
    let (mut line, sent) = doubtful();
    // The epochs were used up.
    let next = |epoch| Identity {
        producer_id: 8,
        epoch,
    };
    let marker = Fence::Marker {
        producer_id: 8,
        above: 0,
    };
    line.ledger.adopt_behind(next(1), Some(marker));
    line.looked(&[Verdict::Absent], Some(100));
    assert!(sent.is_open());
    line.ledger.wall_clock(2 * DAY.as_millis() as i64);
    line.push(1);
    line.ledger.leave_fenced();
    assert!(line.ledger.wants_identity() && line.ledger.wants_fresh());
    // Of the same producer there would be one marker after the other.
    line.ledger.adopt_behind(next(2), Some(marker));
    assert!(line.ledger.wants_identity());
    let fresh = Identity {
        producer_id: 9,
        epoch: 0,
    };
    line.ledger.adopt_behind(fresh, None);
    assert_eq!(stamp(&line.take()), (9, 0, 0));
    assert!(sent.is_open());
}

#[test]
fn a_log_that_cannot_be_read_leaves_the_batch_unknown_and_lets_the_next_go() {
    let (mut line, sent) = doubtful();
    line.fence();
    let look = line.look();
    assert!(line.ledger.awaited_producer().is_some());
    let effects = line.ledger.unreadable(&look, &"no READ".into());
    line.note(effects);
    assert!(sent.is_unknown());
    assert_eq!(line.ledger.awaited_producer(), None);
    assert!(line.ledger.wants_identity() && line.ledger.wants_plain());
    let plain = Identity {
        producer_id: 9,
        epoch: 0,
    };
    line.ledger.adopt_behind(plain, None);
    line.push(1);
    assert_eq!(stamp(&line.take()), (9, 0, 0));
}

#[test]
fn a_look_of_before_says_nothing() {
    let mut line = begun();
    let sent = line.push_many(2);
    let lent = line.take();
    line.time_out();
    line.lost(&lent);
    let before = line.look();
    line.fence();
    let looked = Looked {
        verdicts: vec![(before.sought[0].id, Verdict::Absent)],
        fenced_at: Some(100),
        surveyed: Vec::new(),
        hole: None,
    };
    let effects = line.ledger.looked(&before, looked);
    line.note(effects);
    assert!(sent[0].is_open());
}

#[test]
fn a_topic_that_was_made_anew_has_another_log() {
    let mut line = begun();
    let sent = line.push_many(2);
    let lent = line.take();
    let effects = line.ledger.topic_changed();
    line.note(effects);
    assert!(line.ledger.wants_floor());
    // What was in the log of before is not looked for in this one.
    line.ledger.set_floor(0);
    line.time_out();
    line.lost(&lent);
    assert!(sent[0].is_unknown());
    assert!(sent[1].is_not_written(), "it never was in any");
}

#[test]
fn an_identity_that_no_marker_can_fence_any_more_is_left() {
    let mut line = begun();
    line.push(1);
    let lent = line.take();
    line.ledger.leave_producer(8);
    assert!(!line.ledger.wants_identity());
    line.ledger.leave_producer(7);
    assert!(!line.ledger.wants_identity(), "not while anything is out");
    line.acked(&lent, 100);
    assert!(line.ledger.wants_identity() && line.ledger.wants_fresh());
    assert_eq!(line.ledger.left(), Some(FIRST));
}

#[test]
fn a_close_settles_what_is_looked_for() {
    let (mut line, sent) = doubtful();
    let effects = line.ledger.abandon_doubts(|last| Reason::Closed { last });
    line.note(effects);
    assert!(sent.is_unknown());
    assert_eq!(line.ledger.len(), 0);
}

#[test]
fn a_flush_waits_for_what_is_looked_for() {
    let mut line = begun();
    line.push(2);
    let lent = line.take();
    let before: Token = Arc::new(());
    line.ledger.tie(&before, |_| false);
    line.time_out();
    line.lost(&lent);
    let behind: Token = Arc::new(());
    line.ledger.tie(&behind, |_| false);
    assert_eq!(
        [Arc::strong_count(&before), Arc::strong_count(&behind)],
        [2, 2]
    );
    line.fence();
    line.looked(&[Verdict::Absent], Some(100));
    assert_eq!(
        [Arc::strong_count(&before), Arc::strong_count(&behind)],
        [1, 1]
    );
}
