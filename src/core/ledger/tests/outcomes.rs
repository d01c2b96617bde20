//! Tests of the outcomes of batches.

use std::any::Any;

use super::model::Broker;
use super::*;
use crate::core::endpoint::Endpoint;

#[test]
fn answers_settle_each_record_with_its_offset() {
    let mut line = Line::new();
    let sent = line.push(3);
    let lent = line.take();
    line.report(
        &lent,
        Report::Answered(Attempt {
            log_append_time: Some(99),
            ..answer(0, Some(40))
        }),
    );
    assert_eq!(sent.offsets(), [Some(40), Some(41), Some(42)]);
    let acked = sent.outcome().expect("acked");
    assert_eq!((acked.partition, acked.timestamp), (3, 99));
    assert_eq!(line.ledger.len(), 0);
}

#[test]
fn an_error_that_may_follow_the_append_is_never_not_written() {
    let mut line = Line::new();
    let sent = line.push(1);
    let lent = line.take();
    line.error(&lent, NOT_ENOUGH_REPLICAS_AFTER_APPEND);
    line.back_off();
    // The refusal of a retry says nothing about the first attempt.
    let again = line.take();
    line.error(&again, INVALID_RECORD);
    assert!(sent.is_unknown());

    let mut line = Line::new();
    let sent = line.push(1);
    let lent = line.take();
    line.error(&lent, UNKNOWN_SERVER_ERROR);
    assert!(sent.is_unknown());
    assert_eq!(line.left, [FIRST]);
}

#[test]
fn errors_that_another_leader_may_explain_refresh_metadata() {
    // REQUEST_TIMED_OUT and NOT_ENOUGH_REPLICAS are all that a leader says that is cut off from the
    // controller.
    let explained = [
        3,
        6,
        7,
        NOT_ENOUGH_REPLICAS,
        NOT_ENOUGH_REPLICAS_AFTER_APPEND,
    ];
    let others = [2, INVALID_RECORD, UNKNOWN_SERVER_ERROR];
    let all = explained.map(|code| (code, true)).into_iter();
    for (code, refresh) in all.chain(others.map(|code| (code, false))) {
        let mut line = Line::new();
        line.push(1);
        let lent = line.take();
        assert_eq!(line.error(&lent, code), refresh, "{code}");
    }
}

#[test]
fn retries_run_out() {
    let mut line = Line::with(Rules {
        retries: 2,
        ..rules()
    });
    line.adopt(FIRST);
    let sent = line.push(1);
    for _ in 0..3 {
        assert!(sent.is_open());
        let lent = line.take();
        line.error(&lent, NOT_ENOUGH_REPLICAS);
        line.back_off();
    }
    assert!(sent.is_not_written());
    assert!(line.left.is_empty(), "the last of the line leaves no hole");
    // A batch that was not written was not attempted.
    let sent = line.push(1);
    for _ in 0..10 {
        let lent = line.take();
        line.unwritten(&lent);
    }
    assert!(sent.is_open());
}

#[test]
fn the_broker_names_invalid_records_and_the_rest_of_the_batch_fails_too() {
    let mut line = Line::new();
    let sent = line.push(3);
    let lent = line.take();
    line.report(
        &lent,
        Report::Answered(Attempt {
            invalid: vec![(1, "no key".into())],
            ..answer(INVALID_RECORD, None)
        }),
    );
    let reason = |at: usize| match sent.receipts[at].outcome() {
        Some(Err(Unconfirmed::NotWritten(reason))) => reason,
        other => panic!("{other:?}"),
    };
    assert!(matches!(reason(0), Reason::BatchMate(_)));
    assert!(matches!(reason(1), Reason::InvalidRecord { .. }));
    assert!(matches!(reason(2), Reason::BatchMate(_)));
}

#[test]
fn nothing_is_heard_of_what_was_not_asked_for() {
    let mut line = Line::with(Rules {
        idempotent: false,
        ..rules()
    });
    let sent = line.push(2);
    let lent = line.take();
    line.report(&lent, Report::Unasked);
    assert_eq!(
        sent.outcome(),
        Err(Unconfirmed::Unknown(Reason::NotRequested))
    );
}

#[test]
fn what_was_never_sent_expires_as_not_written_in_order() {
    let mut line = Line::with(rules());
    let early = line.push_many(2);
    line.pass(Duration::from_secs(60));
    let late = line.push(1);
    assert_eq!(
        line.ledger.next_expiry(),
        Some(line.now + Duration::from_secs(60))
    );
    line.pass(Duration::from_secs(60));
    line.ledger.note(&"no leader".into(), None, None);
    line.expire();
    assert!(early.iter().all(BorrowedReceipt::is_not_written) && late.is_open());
    assert_eq!(line.told, [early[0].batch, early[1].batch]);
    match early[0].outcome() {
        Err(Unconfirmed::NotWritten(Reason::Expired {
            last: Some(last), ..
        })) => {
            assert_eq!(&*last, "no leader");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(
        line.ledger.next_expiry(),
        Some(line.now + Duration::from_secs(60))
    );
}

#[test]
fn expired_while_lent_it_keeps_its_slot_and_its_bytes() {
    let mut line = Line::proven();
    let sent = line.push_many(5);
    let lent = line.take_many(5);
    line.time_out();
    assert!(sent.iter().all(BorrowedReceipt::is_unknown));
    let order: Vec<_> = sent.iter().map(|sent| sent.batch).collect();
    assert_eq!(line.told, order);
    assert_eq!(line.ledger.next_expiry(), None);
    assert_eq!((line.ledger.len(), line.ledger.load().batches), (5, 0));
    line.push(1);
    assert!(line.try_take().is_none(), "five are still out");
    assert_eq!(Arc::strong_count(&lent[0].records), 2);

    // Then the responses arrive after all.
    line.acked(&lent[0], 1);
    assert!(sent[0].is_unknown(), "an outcome is the last word");
    assert_eq!(Arc::strong_count(&lent[0].records), 1);
    for (at, lent) in (3..).step_by(2).zip(&lent[1..]) {
        line.acked(lent, at);
    }
    assert!(line.left.is_empty(), "nothing is unclear");
    assert_eq!(sequence(&line.take()), 11);
}

#[test]
fn expired_while_lent_and_refused_leaves_a_hole() {
    let mut line = Line::proven();
    let sent = line.push_many(2);
    let lent = line.take();
    line.time_out();
    line.error(&lent, NOT_ENOUGH_REPLICAS);
    assert!(sent.iter().all(|sent| sent.outcome().is_err()));
    assert!(line.left.is_empty(), "the second was never stamped");
    line.push(1);
    assert_eq!(sequence(&line.take()), 1);
}

#[test]
fn expired_while_lent_and_never_answered_bumps() {
    let mut line = Line::proven();
    let sent = line.push(2);
    let lent = line.take();
    line.time_out();
    let next = line.push(2);
    line.lost(&lent);
    assert!(sent.is_unknown());
    assert_eq!(line.left, [FIRST]);
    line.adopt(SECOND);
    let lent = line.take();
    assert_eq!(stamp(&lent), (7, 1, 0));
    line.acked(&lent, 9);
    assert!(next.is_acked());
}

#[test]
fn expired_while_lent_and_never_written_gives_its_sequences_back() {
    let mut line = Line::proven();
    line.push(2);
    let lent = line.take();
    line.time_out();
    line.unwritten(&lent);
    assert!(line.left.is_empty() && line.ledger.len() == 0);
    line.push(1);
    assert_eq!(sequence(&line.take()), 1);
}

/// It was answered, or not; then its broker lets nobody in.
#[test]
fn what_a_batch_waits_for_is_told_rather_than_what_became_of_its_last_attempt() {
    let why: Arc<str> = "no login".into();
    let refused = Arc::new(SecurityError::Protocol {
        broker: Endpoint::new("broker", 9092),
        why: Arc::clone(&why),
    });
    for lent in [false, true] {
        let mut line = Line::proven();
        let batch = line.push(1);
        let first = line.take();
        line.lost(&first);
        line.back_off();
        if lent {
            line.take();
        }
        line.pass(rules().delivery_timeout);
        line.ledger.note(&why, Some(&refused), Some(line.now));
        line.expire();
        let Err(Unconfirmed::Unknown(Reason::Expired { last, security, .. })) = batch.outcome()
        else {
            panic!("it has expired, and was in doubt");
        };
        assert_eq!(last.as_ref() == Some(&why), !lent, "{last:?}");
        assert_eq!(security, Some(Arc::clone(&refused)).filter(|_| !lent));
    }
}

#[test]
fn what_held_a_batch_up_is_told_of_those_that_have_expired() {
    let mut line = Line::proven();
    let first = line.push(1);
    line.pass(rules().delivery_timeout / 2);
    let second = line.push(1);
    for (batch, why) in [(first, "no leader"), (second, "no connection")] {
        line.pass(rules().delivery_timeout / 2);
        line.ledger.note(&why.into(), None, Some(line.now));
        line.expire();
        let Err(Unconfirmed::NotWritten(Reason::Expired { last, .. })) = batch.outcome() else {
            panic!("it has expired");
        };
        assert_eq!(last.as_deref(), Some(why));
    }
}

#[test]
fn closing_settles_everything_truthfully() {
    let mut line = Line::proven();
    let sent = line.push_many(4);
    let lent = line.take_many(2);
    line.lost(&lent[1]);
    let effects = line.ledger.abandon(|last| Reason::Closed { last });
    line.note(effects);
    assert!(sent[0].is_unknown(), "lent");
    assert!(sent[1].is_unknown(), "unresolved");
    assert!(sent[2].is_not_written() && sent[3].is_not_written());
    assert_eq!(line.told.len(), 4);
    // Loans that come back later change nothing.
    line.acked(&lent[0], 1);
    assert_eq!(line.told.len(), 4);
    assert!(sent[0].is_unknown());
}

#[test]
fn a_ledger_that_is_dropped_settles_everything_truthfully() {
    let mut line = Line::proven();
    let sent = line.push_many(3);
    let lent = line.take_many(2);
    line.lost(&lent[1]);
    drop(line);
    assert!(sent[0].is_unknown(), "lent: its bytes may have left");
    assert!(sent[1].is_unknown(), "unresolved");
    assert!(sent[2].is_not_written());
}

/// As a broker answers to a batch that it finds to be a duplicate: with the largest timestamp that
/// the batch has in the log.
#[test]
fn a_duplicate_keeps_its_timestamps_unless_the_broker_sets_them() {
    for (append_time, told, expected) in [
        (None, 1_002, [1_000, 1_001, 1_002]),
        (Some(5_000), 6_000, [6_000; 3]),
        (Some(5_000), 1_002, [1_002; 3]),
    ] {
        let mut line = Line::new();
        let answered = |offset, log_append_time| {
            Report::Answered(Attempt {
                log_append_time,
                ..answer(0, Some(offset))
            })
        };
        line.push(1);
        let first = line.take();
        line.report(&first, answered(0, append_time));
        let sent = line.push(3);
        let lent = line.take();
        line.lost(&lent);
        line.back_off();
        let again = line.take();
        line.report(&again, answered(1, Some(told)));
        let times = sent.receipts.iter().map(|receipt| {
            let acked = receipt.outcome().expect("an outcome").expect("acked");
            acked.timestamp
        });
        assert_eq!(times.collect::<Vec<_>>(), expected, "{append_time:?}");
    }
}

/// A broker judges by the largest timestamp of a batch's records. Those here are just after 1970.
#[test]
fn a_doubtful_batch_is_not_retried_once_brokers_may_have_forgotten_the_producer() {
    let hour = DAY.as_millis() as i64 / 24;
    let setup = |append_time| {
        let mut line = Line::new();
        line.push(1);
        let first = line.take();
        line.report(
            &first,
            Report::Answered(Attempt {
                log_append_time: append_time,
                ..answer(0, Some(0))
            }),
        );
        let sent = line.push_many(4);
        let lent = line.take_many(3);
        line.lost(&lent[0]);
        line.error(&lent[1], NOT_ENOUGH_REPLICAS);
        line.lost(&lent[2]);
        line.back_off();
        (line, sent)
    };
    // The newest record of a batch has 1,001 ms.
    for (wall, append_time) in [(23 * hour + 1_000, None), (1_000 * hour, Some(5))] {
        let (mut line, sent) = setup(append_time);
        let effects = line.ledger.expire_doubts(wall);
        line.note(effects);
        assert!(sent.iter().all(BorrowedReceipt::is_open));
        assert_eq!(sequence(&line.take()), 1, "it is retried");
    }

    let (mut line, sent) = setup(None);
    let effects = line.ledger.expire_doubts(23 * hour + 1_001);
    line.note(effects);
    assert!(matches!(
        sent[0].outcome(),
        Err(Unconfirmed::Unknown(Reason::Forgotten { .. }))
    ));
    assert!(sent[2].is_unknown());
    assert!(sent[1].is_open() && sent[3].is_open(), "in no log");
    assert_eq!(line.left, [FIRST]);
    line.adopt(SECOND);
    assert_eq!(stamp(&line.take()), (7, 1, 0));
}

/// The next batch has as many records as one that expired and was appended. Under the same sequence
/// numbers the broker would take it for that one, and ack what it never wrote.
#[test]
fn a_batch_like_one_that_expired_and_was_appended_is_written() {
    for expires_lent in [false, true] {
        for answered in [None, Some(0), Some(NOT_ENOUGH_REPLICAS_AFTER_APPEND)] {
            let (mut broker, mut line) = (Broker::default(), Line::proven());
            let expired = line.push_values([0, 1]);
            let lent = line.take();
            broker.append(&lent);
            let report = |line: &mut Line| match answered {
                None => line.lost(&lent),
                Some(0) => line.acked(&lent, 1),
                Some(code) => drop(line.error(&lent, code)),
            };
            if !expires_lent {
                report(&mut line);
            }
            line.time_out();
            let next = line.push_values([2, 3]);
            if expires_lent {
                report(&mut line);
            }
            broker.settle_down(&mut line, SECOND);
            let what = format!("lent: {expires_lent}, {answered:?}");
            assert!(
                expires_lent || answered == Some(0) || expired.is_unknown(),
                "{what}"
            );
            assert_eq!(next.offsets(), [Some(2), Some(3)], "{what}");
            assert_eq!(broker.values(), [0, 1, 2, 3], "{what}");
        }
    }
}

/// A leader that restarts remembers one batch of a producer, not five.
#[test]
fn a_restarted_leader_knows_the_last_batch_alone_and_what_is_told_is_true() {
    for doubtful in 1..=5 {
        let (mut broker, mut line) = (Broker::default(), Line::proven());
        let sent: Vec<_> = (0..doubtful)
            .map(|at| line.push_values([2 * at, 2 * at + 1]))
            .collect();
        let lent = line.take_many(doubtful as usize);
        lent.iter().for_each(|lent| broker.append(lent));
        broker.restart();
        lent.iter().for_each(|lent| line.lost(lent));
        let next = line.push_values([100]);
        broker.settle_down(&mut line, SECOND);
        // The first of several is refused as out of order. Then nothing is certain of any.
        match doubtful {
            1 => assert_eq!(sent[0].offsets(), [Some(0), Some(1)]),
            _ => assert!(sent.iter().all(BorrowedReceipt::is_unknown), "{doubtful}"),
        }
        assert!(next.is_acked());
        let values: Vec<_> = (0..2 * doubtful).chain([100]).collect();
        assert_eq!(broker.values(), values);
    }
}

/// Whether the flush that tied `token` still waits.
fn waits(token: &Weak<dyn Any + Send + Sync>) -> bool {
    token.strong_count() > 0
}

fn tie(line: &mut Line) -> Weak<dyn Any + Send + Sync> {
    let token: Token = Arc::new(());
    line.ledger.tie(&token, |_| false);
    Arc::downgrade(&token)
}

#[test]
fn a_flush_ends_when_the_last_batch_has_its_outcome() {
    let mut line = Line::proven();
    line.push_many(3);
    let lent = line.take_many(2);
    let flush = tie(&mut line);
    line.push(1); // later, so it does not count
    line.acked(&lent[0], 1);
    line.error(&lent[1], INVALID_RECORD);
    assert!(waits(&flush));
    let last = line.take();
    line.error(&last, MESSAGE_TOO_LARGE); // its halves go on
    assert!(waits(&flush));
    line.back_off();
    for offset in 3..5 {
        assert!(waits(&flush));
        let half = line.take();
        line.acked(&half, offset);
    }
    assert!(!waits(&flush));
    assert!(!waits(&tie(&mut Line::new())), "nothing to wait for");
}

#[test]
fn flushes_whose_callers_have_left_do_not_pile_up() {
    let mut line = Line::proven();
    line.push_many(2);
    let lasting: Token = Arc::new(());
    line.ledger.tie(&lasting, |_| false);
    let left: Vec<Token> = (0..100).map(|_| Arc::new(()) as Token).collect();
    for token in &left {
        let is_left = |it: &Token| left.iter().any(|other| Arc::ptr_eq(it, other));
        line.ledger.tie(token, is_left);
    }
    let held: usize = left.iter().map(|token| Arc::strong_count(token) - 1).sum();
    assert!(held <= 2 * 4, "{held}: a few at each batch");
    assert_eq!(Arc::strong_count(&lasting), 1 + 2, "its caller waits");
}

/// Each is looked at a few times, and not once for each that comes.
#[test]
fn many_flushes_that_wait_cost_no_more_than_their_number() {
    let mut line = Line::proven();
    line.push_many(2);
    let looked = std::cell::Cell::new(0);
    let flushes: Vec<Token> = (0..5_000).map(|_| Arc::new(()) as Token).collect();
    for token in &flushes {
        line.ledger.tie(token, |_| {
            looked.set(looked.get() + 1);
            false
        });
    }
    assert!(looked.get() <= 2 * 2 * 5_000, "{}", looked.get());
}

#[test]
fn a_flush_ends_when_batches_expire_though_they_are_lent() {
    let mut line = Line::proven();
    line.push_many(2);
    line.take();
    let flush = tie(&mut line);
    line.time_out();
    assert!(!waits(&flush));
    assert!(
        !waits(&tie(&mut line)),
        "what has its outcome is not waited for"
    );
}

#[test]
fn a_flush_ends_when_the_line_breaks_or_the_producer_closes() {
    let mut line = Line::proven();
    line.push_many(2);
    let lent = line.take_many(2);
    let flush = tie(&mut line);
    line.lost(&lent[1]);
    line.error(&lent[0], UNKNOWN_SERVER_ERROR);
    assert!(!waits(&flush), "both are unknown");

    line.push(1);
    let flush = tie(&mut line);
    let effects = line.ledger.abandon(|last| Reason::Closed { last });
    assert!(waits(&flush), "the outcome was not told yet");
    line.note(effects);
    assert!(!waits(&flush));
}
