//! Batches that are part of transactions.

use uuid::Uuid;

use super::*;
use crate::core::lookup::Witness;
use crate::core::record::TopicPartition;
use crate::core::transaction::Cause;
use crate::core::wire::TransactionProtocol;

const NOT_LEADER: i16 = 6;
const CONCURRENT_TRANSACTIONS: i16 = 51;

fn scope() -> Arc<Scope> {
    Scope::open(TransactionProtocol::V2)
}

/// Without an identity.
fn transactional() -> Line {
    Line::with(Rules {
        transactional: true,
        ..rules()
    })
}

/// In a transaction that has its identity, which the broker has seen.
fn begun() -> (Line, Arc<Scope>) {
    let (mut line, scope) = (transactional(), scope());
    push(&mut line, &scope);
    line.ledger.adopt_for(&scope, FIRST);
    let first = line.take();
    line.acked(&first, 0);
    line.told.clear();
    (line, scope)
}

fn push(line: &mut Line, scope: &Arc<Scope>) -> BorrowedReceipt {
    line.push_within(Some(Arc::clone(scope)), 0..2)
}

fn give_up(line: &mut Line) {
    let effects = line.ledger.give_up_failed();
    line.note(effects);
}

/// The record that keeps the transaction from being committed, by its reason.
fn failed_by(scope: &Scope) -> Reason {
    match &*scope.failed().expect("it failed").cause {
        Cause::Record {
            partition: 3,
            unconfirmed,
        } => unconfirmed.reason().clone(),
        other => panic!("{other}"),
    }
}

#[test]
fn no_batch_goes_before_its_transaction_has_an_identity_here() {
    let (mut line, first, second) = (transactional(), scope(), scope());
    let receipts = [&first, &first, &second].map(|scope| push(&mut line, scope));
    assert!(line.try_take().is_none());
    // One that was given for another transaction changes nothing.
    line.ledger.adopt_for(&second, FIRST);
    assert!(line.try_take().is_none());
    line.ledger.adopt_for(&first, FIRST);
    for sequence in [0, 2] {
        let lent = line.take();
        assert_eq!(stamp(&lent), (7, 0, sequence));
        line.acked(&lent, 0);
    }
    assert!(line.try_take().is_none(), "it is of another transaction");
    line.ledger.adopt_for(&second, SECOND);
    let lent = line.take();
    assert_eq!(stamp(&lent), (7, 1, 0));
    line.acked(&lent, 4);
    assert!(receipts.iter().all(BorrowedReceipt::is_acked));
}

#[test]
fn the_first_batch_whose_offset_is_told_bears_witness_of_its_transaction() {
    let (mut line, scope) = (transactional(), scope());
    let mut told = Vec::new();
    for _ in 0..3 {
        push(&mut line, &scope);
    }
    line.ledger.adopt_for(&scope, FIRST);
    for base_offset in [None, Some(-1), Some(40)] {
        let lent = line.take();
        let acked = Report::Answered(answer(0, base_offset));
        let effects = line.ledger.report(lent.id, acked, line.now);
        told.push(effects.witness);
    }
    let [None, None, Some(appended)] = &told[..] else {
        panic!("{told:?}");
    };
    assert!(Arc::ptr_eq(&appended.scope, &scope));
    let place = (appended.base_offset, appended.producer_id, appended.epoch);
    assert_eq!(place, (40, FIRST.producer_id, FIRST.epoch));
    // One is enough.
    scope.bear(Witness {
        partition: TopicPartition::new("t", 3),
        topic_id: Uuid::nil(),
        base_offset: 40,
        producer_id: FIRST.producer_id,
        epoch: FIRST.epoch,
    });
    push(&mut line, &scope);
    let lent = line.take();
    let acked = Report::Answered(answer(0, Some(42)));
    let effects = line.ledger.report(lent.id, acked, line.now);
    assert!(effects.witness.is_none());
}

#[test]
fn under_the_same_epoch_the_next_transaction_goes_on_numbering() {
    let (mut line, _) = begun();
    let next = scope();
    push(&mut line, &next);
    line.ledger.adopt_for(&next, FIRST);
    assert_eq!(stamp(&line.take()), (7, 0, 2));
}

/// A broker that knows the producer id takes nothing but 0 under a new epoch. Of another id it takes any.
#[test]
fn several_batches_go_at_once_under_a_new_epoch_of_an_id_that_is_known() {
    let other = Identity {
        producer_id: 8,
        epoch: 0,
    };
    for (identity, at_once) in [(SECOND, 3), (other, 1)] {
        let (mut line, _) = begun();
        let next = scope();
        (0..3).for_each(|_| drop(push(&mut line, &next)));
        line.ledger.adopt_for(&next, identity);
        let lent: Vec<_> = std::iter::from_fn(|| line.try_take()).collect();
        assert_eq!(lent.len(), at_once, "{identity:?}");
    }
}

#[test]
fn of_a_transaction_that_failed_what_is_lent_is_waited_for_and_nothing_else_goes() {
    let (mut line, scope) = begun();
    let [lent, waiting] = [(); 2].map(|()| push(&mut line, &scope));
    let first = line.take();
    scope.fail(Cause::Requested);
    give_up(&mut line);
    assert!(waiting.is_not_written() && lent.is_open());
    assert!(line.try_take().is_none());
    line.acked(&first, 2);
    assert!(lent.is_acked(), "it was appended, whatever becomes of it");
    assert_eq!(line.ledger.len(), 0);
}

#[test]
fn a_retry_of_a_transaction_that_failed_is_given_up_and_may_be_in_the_log() {
    for (code, aborted) in [(NOT_LEADER, true), (CONCURRENT_TRANSACTIONS, false)] {
        let (mut line, scope) = begun();
        let receipt = push(&mut line, &scope);
        let lent = line.take();
        line.error(&lent, code);
        assert!(receipt.is_open() && scope.failed().is_none(), "it passes");
        scope.fail(Cause::Requested);
        line.back_off();
        give_up(&mut line);
        match receipt.outcome() {
            Err(Unconfirmed::Aborted(_)) if aborted => {}
            Err(Unconfirmed::NotWritten(_)) if !aborted => {}
            other => panic!("{code}: {other:?}"),
        }
        assert!(line.try_take().is_none());
    }
}

#[test]
fn a_record_that_runs_out_of_time_fails_its_transaction() {
    // What was never sent, and what is on its way, with one behind it.
    for lent in [0, 1, 2] {
        let (mut line, scope) = begun();
        let receipts = [(); 2].map(|()| push(&mut line, &scope));
        let lent = line.take_many(lent);
        line.time_out();
        assert!(receipts.iter().all(|it| it.outcome().is_err()));
        assert!(matches!(failed_by(&scope), Reason::Expired { .. }));
        // The end waits until they are back. What their answers say changes nothing any more.
        assert_eq!(line.ledger.len(), lent.len());
        for (lent, code) in lent.iter().zip([0, 48]) {
            line.error(lent, code);
        }
        assert!(receipts.iter().all(|it| it.outcome().is_err()));
        assert_eq!((line.ledger.len(), line.told.len()), (0, 2));
    }
}

#[test]
fn a_retry_that_runs_out_of_time_fails_its_transaction() {
    let (mut line, scope) = begun();
    let receipt = push(&mut line, &scope);
    let lent = line.take();
    line.error(&lent, NOT_LEADER);
    line.time_out();
    assert!(receipt.is_unknown());
    assert!(matches!(failed_by(&scope), Reason::Expired { .. }));
}

/// INVALID_PRODUCER_EPOCH, UNKNOWN_PRODUCER_ID, OUT_OF_ORDER_SEQUENCE_NUMBER: under its epoch nothing can be
/// begun anew in the middle of a transaction. INVALID_TXN_STATE, INVALID_PRODUCER_ID_MAPPING,
/// PRODUCER_FENCED, TRANSACTION_ABORTABLE, TOPIC_AUTHORIZATION_FAILED, INVALID_RECORD.
#[test]
fn whatever_a_broker_refuses_for_good_fails_the_transaction_with_the_reason() {
    for code in [47, 59, OUT_OF_ORDER, 48, 49, 90, 120, 29, INVALID_RECORD] {
        let (mut line, scope) = begun();
        let [refused, behind] = [(); 2].map(|()| push(&mut line, &scope));
        let lent = line.take();
        line.error(&lent, code);
        assert!(refused.is_not_written(), "{code}");
        match failed_by(&scope) {
            Reason::Broker(error) => assert_eq!(error.code, code),
            other => panic!("{code}: {other}"),
        }
        give_up(&mut line);
        assert!(behind.is_not_written(), "{code}");
        // The next one has an identity of its own, and begins at 0.
        let next = Scope::open(TransactionProtocol::V2);
        let receipt = push(&mut line, &next);
        line.ledger.adopt_for(&next, SECOND);
        let lent = line.take();
        assert_eq!(stamp(&lent), (7, 1, 0), "{code}");
        line.acked(&lent, 9);
        assert!(receipt.is_acked() && next.failed().is_none(), "{code}");
    }
}

#[test]
fn retries_that_run_out_fail_the_transaction() {
    let mut line = Line::with(Rules {
        transactional: true,
        retries: 1,
        ..rules()
    });
    let scope = scope();
    let receipt = push(&mut line, &scope);
    line.ledger.adopt_for(&scope, FIRST);
    for again in [true, false] {
        let lent = line.take();
        line.error(&lent, NOT_ENOUGH_REPLICAS);
        assert_eq!(scope.failed().is_none(), again);
        line.back_off();
    }
    assert!(receipt.is_not_written());
    assert!(matches!(failed_by(&scope), Reason::Broker(_)));
}

/// The broker still writes the markers of the transaction before.
#[test]
fn a_broker_that_is_not_done_with_the_transaction_before_is_waited_for() {
    let (mut line, scope) = begun();
    let receipt = push(&mut line, &scope);
    for _ in 0..3 {
        let lent = line.take();
        assert_eq!(sequence(&lent), 2);
        line.error(&lent, CONCURRENT_TRANSACTIONS);
        assert!(line.try_take().is_none(), "after a wait");
        line.back_off();
    }
    let lent = line.take();
    line.acked(&lent, 2);
    assert!(receipt.is_acked() && scope.failed().is_none());
}

#[test]
fn the_halves_of_a_batch_that_is_too_large_are_part_of_its_transaction() {
    let (mut line, scope) = begun();
    let whole = push(&mut line, &scope);
    let lent = line.take();
    line.error(&lent, MESSAGE_TOO_LARGE);
    let first = line.take();
    line.acked(&first, 2);
    let halves = [first, line.take()];
    assert_eq!(halves.each_ref().map(sequence), [2, 3]);
    line.error(&halves[1], MESSAGE_TOO_LARGE);
    let [first, second] = [0, 1].map(|at| whole.receipts[at].outcome().expect("an outcome"));
    assert!(first.is_ok() && second.is_err());
    assert!(
        matches!(failed_by(&scope), Reason::Broker(_)),
        "all fail with it"
    );
}
