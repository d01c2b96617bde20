//! Tests of the outcomes of batches.

use std::any::Any;

use super::*;

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
    assert!(!line.error(&lent, NOT_ENOUGH_REPLICAS_AFTER_APPEND));
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
    assert_eq!(line.bumps, [FIRST]);
}

#[test]
fn errors_that_tell_of_another_leader_refresh_metadata() {
    for (code, refresh) in [(6, true), (3, true), (NOT_ENOUGH_REPLICAS, false)] {
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
    assert!(line.bumps.is_empty(), "the last of the line leaves no hole");
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
    line.ledger.note(&"no leader".into());
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
    assert!(line.bumps.is_empty(), "nothing is unclear");
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
    assert!(line.bumps.is_empty(), "the second was never stamped");
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
    assert_eq!(line.bumps, [FIRST]);
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
    assert!(line.bumps.is_empty() && line.ledger.len() == 0);
    line.push(1);
    assert_eq!(sequence(&line.take()), 1);
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

/// Whether the flush that tied `token` still waits.
fn waits(token: &Weak<dyn Any + Send + Sync>) -> bool {
    token.strong_count() > 0
}

fn tie(line: &mut Line) -> Weak<dyn Any + Send + Sync> {
    let token: Token = Arc::new(());
    line.ledger.tie(&token);
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
