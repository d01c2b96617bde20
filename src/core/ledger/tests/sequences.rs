//! Tests of which batch may be sent, and under which sequence number.

use super::*;

#[test]
fn one_in_flight_until_the_first_success_then_five() {
    let mut line = Line::new();
    line.push_many(8);
    let first = line.take();
    assert!(line.try_take().is_none(), "nothing is proven yet");
    assert_eq!(line.ledger.readiness(line.now), Readiness::No);
    line.acked(&first, 0);
    let five = line.take_many(5);
    assert!(line.try_take().is_none());
    let sequences: Vec<_> = five.iter().map(sequence).collect();
    assert_eq!(sequences, [2, 4, 6, 8, 10]);
    line.acked(&five[0], 2);
    assert_eq!(sequence(&line.take()), 12);
}

#[test]
fn nothing_is_taken_without_an_identity() {
    let mut line = Line::with(rules());
    line.push(1);
    assert!(line.ledger.wants_identity());
    assert!(line.try_take().is_none());
    line.adopt(FIRST);
    assert!(!line.ledger.wants_identity());
    assert_eq!(stamp(&line.take()), (7, 0, 0));
}

#[test]
fn after_an_error_only_the_head_may_go() {
    let mut line = Line::proven();
    line.push_many(4);
    let lent = line.take_many(3);
    line.error(&lent[0], NOT_ENOUGH_REPLICAS);
    line.back_off();
    assert!(line.try_take().is_none(), "two are still out");
    line.error(&lent[1], OUT_OF_ORDER);
    line.error(&lent[2], OUT_OF_ORDER);
    line.back_off();
    let head = line.take();
    assert_eq!((head.id, head.again), (lent[0].id, true));
    assert!(line.try_take().is_none());
    line.acked(&head, 1);
    let rest = line.take_many(3);
    let sequences: Vec<_> = rest.iter().map(sequence).collect();
    assert_eq!(sequences, [3, 5, 7]);
    assert!(line.left.is_empty());
}

/// A broker remembers the last five batches of a producer. If five more follow an unresolved batch,
/// the broker cannot recognize it as a duplicate any more.
#[test]
fn nothing_new_goes_while_a_batch_is_in_doubt() {
    let mut line = Line::proven();
    line.push_many(9);
    let lent = line.take_many(5);
    for (at, lent) in lent.iter().enumerate() {
        match at {
            1 | 3 => line.lost(lent),
            _ => line.acked(lent, 1 + 2 * at as i64),
        }
    }
    line.back_off();
    for doubtful in [&lent[1], &lent[3]] {
        let again = line.take();
        assert_eq!(again.id, doubtful.id);
        assert!(line.try_take().is_none(), "one is in doubt");
        line.error(&again, DUPLICATE);
    }
    line.take_many(4);
    assert!(line.left.is_empty());
}

#[test]
fn a_retry_sends_the_same_bytes() {
    for codec in [Compression::None, Compression::Gzip { level: 6 }] {
        if !codec.is_built_in() {
            continue;
        }
        let mut line = Line::with(Rules { codec, ..rules() });
        line.adopt(FIRST);
        line.push(60);
        let first = line.take();
        line.lost(&first);
        line.back_off();
        let again = line.take();
        assert_eq!(first.header, again.header);
        assert!(Arc::ptr_eq(&first.records, &again.records));
        assert!(again.again && !first.again);
        assert_eq!(line.ledger.retried, 1);
    }
}

#[test]
fn a_retry_waits_for_its_backoff_which_grows() {
    let mut line = Line::new();
    line.push(1);
    let mut last = Duration::ZERO;
    for expected in [100, 200, 400, 800, 1000, 1000] {
        let lent = line.take();
        line.lost(&lent);
        let Readiness::At(at) = line.ledger.readiness(line.now) else {
            panic!("a retry has a time");
        };
        let wait = at - line.now;
        let expected = Duration::from_millis(expected);
        assert!(wait >= expected.mul_f64(0.8) && wait <= expected.mul_f64(1.2));
        assert!(wait > last || expected == rules().backoff_max);
        last = wait;
        line.pass(wait - Duration::from_millis(1));
        assert!(line.try_take().is_none());
        line.pass(Duration::from_millis(1));
    }
}

#[test]
fn sequences_wrap_behind_the_largest() {
    let mut line = Line::proven();
    line.ledger.next_sequence = i32::MAX - 1;
    let sent = line.push_many(3);
    let lent = line.take_many(3);
    let sequences: Vec<_> = lent.iter().map(sequence).collect();
    assert_eq!(sequences, [i32::MAX - 1, 0, 2]);
    // Sequence numbers that were not written are used again, also across the wrap.
    for lent in lent.iter().rev() {
        line.unwritten(lent);
    }
    let lent = line.take_many(3);
    assert_eq!(
        lent.iter().map(sequence).collect::<Vec<_>>(),
        [i32::MAX - 1, 0, 2]
    );
    for (at, lent) in lent.iter().enumerate() {
        line.acked(lent, 10 * at as i64);
    }
    assert_eq!(sent[2].offsets(), [Some(20), Some(21)]);
}

#[test]
fn what_was_never_written_gives_its_sequences_back() {
    let mut line = Line::proven();
    line.push_many(3);
    let lent = line.take_many(3);
    for lent in &lent {
        line.unwritten(lent);
    }
    assert_eq!(line.ledger.next_sequence, 1);
    assert_eq!(line.ledger.retried, 0, "nothing was tried");
    // At once: the sender has its own backoff.
    let again = line.take_many(3);
    assert_eq!(again.iter().map(sequence).collect::<Vec<_>>(), [1, 3, 5]);
    assert!(again.iter().all(|lent| !lent.again));
}

#[test]
fn a_written_batch_keeps_its_sequence_when_those_behind_it_give_theirs_back() {
    let mut line = Line::proven();
    line.push_many(3);
    let lent = line.take_many(3);
    line.lost(&lent[0]);
    line.unwritten(&lent[1]);
    line.unwritten(&lent[2]);
    assert_eq!(line.ledger.next_sequence, 3);
    line.back_off();
    let head = line.take();
    assert_eq!(head.header, lent[0].header);
    line.acked(&head, 1);
    assert_eq!(sequence(&line.take()), 3);
}

#[test]
fn a_new_leader_has_to_prove_itself() {
    let mut line = Line::proven();
    line.push_many(4);
    let lent = line.take_many(2);
    line.ledger.leader_changed();
    // Responses of the old leader prove nothing about the new one.
    line.acked(&lent[0], 1);
    line.acked(&lent[1], 3);
    let first = line.take();
    assert!(line.try_take().is_none());
    line.acked(&first, 5);
    line.take();
}

#[test]
fn a_new_leader_is_tried_at_once() {
    let mut line = Line::proven();
    line.push_many(2);
    let lent = line.take();
    line.error(&lent, 6); // NOT_LEADER_OR_FOLLOWER
    assert!(line.try_take().is_none(), "the same leader is not");
    line.ledger.leader_changed();
    let again = line.take();
    assert_eq!(again.header, lent.header);
    // The new leader refuses it for the second time, so it waits twice as long as at first.
    line.error(&again, NOT_ENOUGH_REPLICAS);
    let Readiness::At(at) = line.ledger.readiness(line.now) else {
        panic!("a retry has a time");
    };
    assert!(at - line.now >= rules().backoff.mul_f64(2.0 * 0.8));
}

#[test]
fn after_a_silence_one_batch_shows_whether_the_broker_remembers_the_producer() {
    let mut line = Line::with(Rules {
        delivery_timeout: DAY,
        ..rules()
    });
    line.adopt(FIRST);
    line.push_many(4);
    let first = line.take();
    line.acked(&first, 0);
    line.pass(Duration::from_secs(5 * 60 + 1));
    let first = line.take();
    assert!(line.try_take().is_none());
    line.acked(&first, 2);
    let lent = line.take_many(2);
    line.push_many(3);
    line.acked(&lent[0], 4);
    // The answer to the other one stays away meanwhile.
    line.pass(Duration::from_secs(5 * 60 + 1));
    assert!(line.try_take().is_none());
    line.acked(&lent[1], 6);
    line.take_many(3);
}

/// The broker forgets the producer when its newest record is four minutes old, so ten seconds before that
/// it counts as forgotten.
#[test]
fn an_ack_proves_no_longer_than_the_broker_remembers_the_records() {
    const SECOND: Duration = Duration::from_secs(1);
    let mut line = Line::with(Rules {
        producer_expiration: 240 * SECOND,
        delivery_timeout: DAY,
        ..rules()
    });
    line.adopt(FIRST);
    line.ledger.wall_clock(221_001);
    line.push_many(6);
    let first = line.take();
    line.acked(&first, 0);
    line.pass(9 * SECOND);
    let lent = line.take_many(2);
    line.acked(&lent[0], 2);
    line.acked(&lent[1], 4);
    line.pass(2 * SECOND);
    let alone = line.take();
    assert!(line.try_take().is_none());
    line.acked(&alone, 6);
    line.take();
    assert!(line.try_take().is_none());
}

/// The machine was suspended, and the clock that measures waits stood still meanwhile.
#[test]
fn a_silence_counts_by_the_wall_clock_too() {
    let (began, silence) = (600_000, 300_000);
    for (later, alone) in [(silence, false), (silence + 1, true), (-silence, false)] {
        let mut line = Line::with(rules());
        line.adopt(FIRST);
        line.ledger.wall_clock(began);
        line.push_many(4);
        let first = line.take();
        line.acked(&first, 0);
        line.ledger.wall_clock(began + later);
        let first = line.take();
        let second = line.try_take();
        assert_eq!(second.is_none(), alone, "{later} ms later");
        line.acked(&first, 2);
        line.take();
    }
}

#[test]
fn without_idempotence_nothing_is_stamped_and_nothing_holds_back() {
    let mut line = Line::with(Rules {
        idempotent: false,
        max_in_flight: 2,
        ..rules()
    });
    assert!(!line.ledger.wants_identity());
    let sent = line.push_many(3);
    let lent = line.take_many(2);
    assert!(line.try_take().is_none());
    assert!(lent.iter().all(|lent| stamp(lent) == (-1, -1, -1)));
    line.lost(&lent[0]);
    line.acked(&lent[1], 0);
    line.back_off();
    let again = line.take_many(2);
    assert_eq!(again[0].id, lent[0].id);
    line.error(&again[0], OUT_OF_ORDER);
    line.acked(&again[1], 2);
    assert!(sent[0].is_unknown() && sent[1].is_acked() && sent[2].is_acked());
    assert!(line.left.is_empty());
}

/// A broker that has appended old records may forget the producer before the next batch comes. It would
/// then accept any: also one behind a batch that it has refused.
#[test]
fn batches_of_old_records_go_one_at_a_time() {
    let wall = 10 * DAY.as_millis() as i64;
    let mut line = Line::proven();
    line.push_many(1);
    line.ledger.wall_clock(wall);
    line.push_many(4);
    // Behind one that is not old: that may have to be tried again.
    let new = line.take();
    assert!(line.try_take().is_none());
    line.acked(&new, 1);
    for offset in [3, 5, 7] {
        let old = line.take();
        assert!(line.try_take().is_none());
        line.acked(&old, offset);
    }
    // The records that follow are new, and the first of them has to arrive, too.
    line.ledger.wall_clock(0);
    line.push_many(4);
    for offset in [9, 11] {
        let lent = line.take();
        assert!(line.try_take().is_none());
        line.acked(&lent, offset);
    }
    line.take_many(3);
}

/// Where the broker sets the timestamps, no record is old.
#[test]
fn batches_of_old_records_go_together_where_the_broker_sets_the_time() {
    let mut line = Line::new();
    line.ledger.wall_clock(10 * DAY.as_millis() as i64);
    line.push_many(6);
    let first = line.take();
    let log_append_time = Some(1);
    let answered = Report::Answered(Attempt {
        log_append_time,
        ..answer(0, Some(0))
    });
    line.report(&first, answered);
    line.take_many(5);
}
