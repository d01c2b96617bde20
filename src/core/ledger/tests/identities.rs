//! What happens when the sequence numbers have a gap, and under which identity they start again.

use super::model::Broker;
use super::*;

#[test]
fn out_of_order_behind_the_head_says_nothing_new() {
    for out in 2..=5 {
        let mut line = Line::proven();
        let sent = line.push_many(out);
        let lent = line.take_many(out);
        line.error(&lent[0], NOT_ENOUGH_REPLICAS);
        for lent in &lent[1..] {
            line.error(lent, OUT_OF_ORDER);
        }
        assert!(line.left.is_empty());
        for (at, old) in lent.iter().enumerate() {
            line.back_off();
            let again = line.take();
            assert_eq!(again.header, old.header);
            line.acked(&again, 1 + 2 * at as i64);
        }
        assert!(sent.iter().all(BorrowedReceipt::is_acked));
    }
}

#[test]
fn out_of_order_at_the_head_starts_anew_when_all_are_back() {
    for out in 1..=5 {
        let mut line = Line::proven();
        let sent = line.push_many(out + 1);
        let lent = line.take_many(out);
        line.error(&lent[0], OUT_OF_ORDER);
        for lent in &lent[1..] {
            assert!(!line.ledger.wants_identity(), "not while any is out");
            line.back_off();
            assert!(line.try_take().is_none(), "not while any is out");
            line.error(lent, OUT_OF_ORDER);
        }
        assert_eq!(line.left, [FIRST]);
        line.adopt(SECOND);
        line.back_off();
        let head = line.take();
        assert_eq!(stamp(&head), (7, 1, 0));
        assert!(line.try_take().is_none(), "the new epoch is not proven");
        line.acked(&head, 1);
        for at in 1..=out {
            let next = line.take();
            assert_eq!(stamp(&next), (7, 1, 2 * at as i32));
            line.acked(&next, 1 + 2 * at as i64);
        }
        assert!(sent.iter().all(BorrowedReceipt::is_acked));
    }
}

#[test]
fn a_broker_that_forgot_the_producer_is_told_a_new_epoch() {
    let mut line = Line::proven();
    let sent = line.push(2);
    let lent = line.take();
    assert_eq!(sequence(&lent), 1);
    line.error(&lent, UNKNOWN_PRODUCER_ID);
    assert_eq!(line.left, [FIRST]);
    assert!(line.ledger.wants_identity(), "the old one is gone at once");
    line.adopt(SECOND);
    line.back_off();
    let again = line.take();
    assert_eq!(stamp(&again), (7, 1, 0));
    line.acked(&again, 5);
    assert_eq!(sent.offsets(), [Some(5), Some(6)]);
}

#[test]
fn a_broken_line_with_an_unresolved_head_cannot_be_told_from_written() {
    let mut line = Line::proven();
    let sent = line.push_many(2);
    let lent = line.take_many(2);
    line.lost(&lent[0]);
    line.unwritten(&lent[1]);
    line.back_off();
    let again = line.take();
    line.error(&again, OUT_OF_ORDER);
    assert!(sent[0].is_unknown());
    assert_eq!(line.left, [FIRST]);
    line.adopt(SECOND);
    let next = line.take();
    assert_eq!(stamp(&next), (7, 1, 0));
    line.acked(&next, 3);
    assert!(sent[1].is_acked());
}

#[test]
fn an_expired_unresolved_head_takes_unresolved_successors_with_it_and_no_others() {
    let mut line = Line::proven();
    let head = line.push(2);
    line.pass(rules().delivery_timeout / 2);
    let sent = line.push_many(4);
    let lent = line.take_many(4);
    line.lost(&lent[0]);
    line.lost(&lent[1]); // unresolved too
    line.error(&lent[2], NOT_ENOUGH_REPLICAS); // attempted, and certainly not written
    line.unwritten(&lent[3]); // never attempted, like the one that was not taken
    line.pass(rules().delivery_timeout / 2);
    line.expire();
    assert!(head.is_unknown());
    assert!(matches!(
        sent[0].outcome(),
        Err(Unconfirmed::Unknown(Reason::AfterUnresolved { .. }))
    ));
    assert_eq!(line.told, [head.batch, sent[0].batch]);
    assert_eq!(line.left, [FIRST]);
    assert!(sent[1..].iter().all(BorrowedReceipt::is_open));
    line.adopt(SECOND);
    for (at, sent) in sent[1..].iter().enumerate() {
        let lent = line.take();
        assert_eq!(stamp(&lent), (7, 1, 2 * at as i32));
        line.acked(&lent, 5);
        assert!(sent.is_acked());
    }
}

#[test]
fn successors_still_out_when_the_head_expires_get_the_answer_they_are_given() {
    let mut line = Line::proven();
    let head = line.push(2);
    line.pass(rules().delivery_timeout / 2);
    let sent = line.push_many(4);
    let lent = line.take_many(4);
    line.lost(&lent[0]);
    line.pass(rules().delivery_timeout / 2);
    line.expire();
    assert!(head.is_unknown() && sent.iter().all(BorrowedReceipt::is_open));
    line.acked(&lent[1], 5);
    line.error(&lent[2], OUT_OF_ORDER);
    assert!(line.try_take().is_none());
    line.lost(&lent[3]);
    assert!(sent[0].is_acked() && sent[1].is_open() && sent[2].is_unknown());
    assert_eq!(line.left, [FIRST]);
    line.adopt(SECOND);
    line.back_off();
    assert_eq!(stamp(&line.take()), (7, 1, 0));
}

#[test]
fn an_identity_that_was_left_behind_is_never_taken_again() {
    let mut line = Line::proven();
    line.push(1);
    let lent = line.take();
    line.error(&lent, OUT_OF_ORDER);
    assert!(line.ledger.wants_identity());
    // It had asked twice, and the second answer is late.
    line.adopt(FIRST);
    line.back_off();
    assert!(
        line.try_take().is_none(),
        "its sequences are used up: numbered anew from 0, batches would look like duplicates"
    );
    line.adopt(SECOND);
    assert_eq!(stamp(&line.take()), (7, 1, 0));
}

/// Brokers keep an epoch for each partition. So an identity that this one did not ask for, because
/// another left its own, changes neither its numbers nor how much it has in flight.
#[test]
fn an_identity_that_comes_unasked_changes_nothing() {
    let mut line = Line::proven();
    line.push_many(8);
    let lent = line.take_many(2);
    for identity in [SECOND, FIRST, SECOND] {
        line.adopt(identity);
    }
    let more = line.take_many(3);
    let stamps: Vec<_> = lent.iter().chain(&more).map(stamp).collect();
    assert_eq!(stamps, [1, 3, 5, 7, 9].map(|first| (7, 0, first)));
    line.lost(&lent[0]);
    for (at, lent) in lent.iter().chain(&more).enumerate().skip(1) {
        line.acked(lent, 1 + 2 * at as i64);
    }
    line.back_off();
    let again = line.take();
    assert_eq!(again.header, lent[0].header);
    line.acked(&again, 1);
    let rest = line.take_many(3);
    let stamps: Vec<_> = rest.iter().map(stamp).collect();
    assert_eq!(stamps, [11, 13, 15].map(|first| (7, 0, first)));
    assert!(line.left.is_empty());
}

#[test]
fn behind_the_last_epoch_comes_another_producer_id() {
    let last = Identity {
        producer_id: 7,
        epoch: i16::MAX,
    };
    let fresh = Identity {
        producer_id: 8,
        epoch: 0,
    };
    let mut line = Line::with(rules());
    line.adopt(last);
    line.push(1);
    let lent = line.take();
    line.error(&lent, UNKNOWN_PRODUCER_ID);
    assert_eq!(line.left, [last]);
    line.adopt(fresh);
    line.back_off();
    assert_eq!(stamp(&line.take()), (8, 0, 0));
}

#[test]
fn duplicate_after_an_unresolved_attempt_is_success_without_an_offset() {
    let mut line = Line::proven();
    let sent = line.push_many(2);
    let lent = line.take();
    line.lost(&lent);
    line.back_off();
    let again = line.take();
    line.error(&again, DUPLICATE);
    assert_eq!(sent[0].offsets(), [None, None]);
    assert!(line.left.is_empty());
    assert_eq!(sequence(&line.take()), 3, "the sequence goes on");
}

#[test]
fn duplicate_on_a_first_attempt_is_unknown_and_bumps() {
    let mut line = Line::proven();
    let sent = line.push_many(2);
    let lent = line.take_many(2);
    line.error(&lent[0], DUPLICATE);
    assert!(sent[0].is_unknown());
    line.error(&lent[1], OUT_OF_ORDER);
    assert_eq!(line.left, [FIRST]);
    line.adopt(SECOND);
    line.back_off();
    assert_eq!(stamp(&line.take()), (7, 1, 0));
}

#[test]
fn a_refusal_at_the_tail_leaves_no_hole_and_one_before_it_does() {
    let mut line = Line::proven();
    let sent = line.push_many(2);
    let lent = line.take_many(2);
    line.error(&lent[1], INVALID_RECORD);
    assert!(sent[1].is_not_written());
    assert!(line.left.is_empty());
    assert_eq!(line.ledger.next_sequence, 3, "used again");

    line.push(2);
    let behind = line.take();
    line.error(&lent[0], INVALID_RECORD);
    line.error(&behind, OUT_OF_ORDER);
    assert_eq!(line.left, [FIRST]);
    line.adopt(SECOND);
    line.back_off();
    assert_eq!(stamp(&line.take()), (7, 1, 0));
}

#[test]
fn a_duplicate_under_a_new_identity_is_success_too() {
    let mut line = Line::proven();
    let sent = line.push(2);
    let lent = line.take();
    line.error(&lent, UNKNOWN_PRODUCER_ID);
    line.adopt(SECOND);
    line.back_off();
    let anew = line.take();
    line.lost(&anew);
    line.back_off();
    let again = line.take();
    assert_eq!(again.header, anew.header);
    line.error(&again, DUPLICATE);
    assert!(sent.is_acked());
    assert_eq!(line.left, [FIRST]);
}

/// The broker appends a batch after its records were reported as unknown.
#[test]
fn an_append_after_the_delivery_timeout_is_there_once_and_affects_no_other_batch() {
    // The response arrives after all.
    let (mut broker, mut line) = (Broker::default(), Line::proven());
    let late = line.push_values([0, 1]);
    let lent = line.take();
    line.time_out();
    let next = line.push_values([2, 3]);
    broker.answer(&mut line, &lent);
    broker.settle_down(&mut line, SECOND);
    assert!(late.is_unknown() && next.is_acked() && line.left.is_empty());
    assert_eq!(broker.values(), [0, 1, 2, 3]);

    // Or the connection ends, and the broker reads the rest of it later: before the next batch, or
    // after it.
    for behind in [false, true] {
        let (mut broker, mut line) = (Broker::default(), Line::proven());
        let late = line.push_values([0, 1]);
        let lent = line.take();
        line.time_out();
        let next = line.push_values([2, 3]);
        line.lost(&lent);
        if !behind {
            broker.append(&lent);
        }
        broker.settle_down(&mut line, SECOND);
        broker.append(&lent);
        assert!(late.is_unknown() && next.is_acked());
        assert_eq!(line.left, [FIRST]);
        let expected = if behind { &[2, 3][..] } else { &[0, 1, 2, 3] };
        assert_eq!(broker.values(), expected);
    }
}
