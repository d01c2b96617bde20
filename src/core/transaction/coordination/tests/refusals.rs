//! What each refusal leads to, whatever was asked.

use super::*;

/// COORDINATOR_LOAD_IN_PROGRESS, COORDINATOR_NOT_AVAILABLE, NOT_COORDINATOR, REQUEST_TIMED_OUT,
/// NETWORK_EXCEPTION, UNKNOWN_SERVER_ERROR, CONCURRENT_TRANSACTIONS.
const PASS: [i16; 7] = [14, 15, 16, 7, 13, -1, 51];
/// TOPIC_ and GROUP_AUTHORIZATION_FAILED, ILLEGAL_GENERATION, UNKNOWN_MEMBER_ID, FENCED_INSTANCE_ID,
/// UNSUPPORTED_FOR_MESSAGE_FORMAT, TRANSACTION_ABORTABLE, OPERATION_NOT_ATTEMPTED.
const ABORT_IT: [i16; 8] = [29, 30, 22, 25, 82, 43, 120, 55];
/// CLUSTER_ and TRANSACTIONAL_ID_AUTHORIZATION_FAILED, UNSUPPORTED_VERSION, INVALID_TXN_STATE,
/// INVALID_PRODUCER_ID_MAPPING: Java calls these fatal. Here the next transaction is tried.
const FATAL_IN_JAVA: [i16; 5] = [31, 53, 35, 48, OTHER_ID];
const OTHER_ID: i16 = 49;
/// INVALID_PRODUCER_EPOCH, PRODUCER_FENCED.
const FENCE: [i16; 2] = [47, 90];

/// A transaction whose next request is of this kind, and that request.
fn about_to_ask(kind: &str) -> (Play, Arc<Scope>, Request) {
    let sent = offsets();
    let protocol = match kind {
        "TxnOffsetCommit" => TransactionProtocol::V2,
        _ => TransactionProtocol::V1,
    };
    let (mut play, scope) = Play::begun(protocol);
    let request = match kind {
        "AddPartitionsToTxn" => {
            play.join(&scope, 0);
            Request::AddPartitions(vec![partition(0)])
        }
        _ => {
            assert!(play.it.send_offsets(&scope, Arc::clone(&sent)));
            match kind {
                "AddOffsetsToTxn" => Request::AddOffsets("g".into()),
                _ => Request::CommitOffsets(sent),
            }
        }
    };
    assert_eq!(request.name(), kind);
    (play, scope, request)
}

const IN_A_TRANSACTION: [&str; 3] = ["AddPartitionsToTxn", "AddOffsetsToTxn", "TxnOffsetCommit"];

#[test]
fn what_passes_is_asked_again_in_a_transaction() {
    for kind in IN_A_TRANSACTION {
        for code in PASS {
            let (mut play, scope, request) = about_to_ask(kind);
            for _ in 0..3 {
                play.refused(&request, code);
            }
            assert!(scope.failed().is_none(), "{kind} {code}");
            play.done(&request, None);
        }
    }
}

/// CONCURRENT_TRANSACTIONS is over when some markers are written; anything else may last.
#[test]
fn a_coordinator_that_still_ends_the_last_transaction_is_waited_for_by_a_shorter_time() {
    for (code, least, most) in [(51, 0, 0), (15, 80, 120)] {
        let (mut play, _, request) = about_to_ask("AddPartitionsToTxn");
        play.refused(&request, code);
        let waits = play.it.next_at().expect("again") - play.now;
        let (least, most) = (Duration::from_millis(least), Duration::from_millis(most));
        assert!(least <= waits && waits <= most, "{code}: {waits:?}");
    }
}

#[test]
fn what_is_refused_for_good_has_the_transaction_aborted_and_the_next_one_begins() {
    for kind in IN_A_TRANSACTION {
        for code in ABORT_IT.into_iter().chain(FATAL_IN_JAVA) {
            let (mut play, scope, request) = about_to_ask(kind);
            play.refused(&request, code);
            let why = scope.failed().expect("it can only be aborted").clone();
            let Cause::Refused(TransactionError::Refused { request, error, .. }) = &*why.cause
            else {
                panic!("{why:?}");
            };
            assert_eq!((*request, error.code), (kind, code));
            // Nothing more is asked for it, and nothing more is taken.
            play.quiet();
            assert_eq!(play.join(&scope, 7), Membership::Over);
            assert!(!play.it.send_offsets(&scope, offsets()));
            play.end(&scope, true);
            assert_eq!(scope.end(), Some(&End::Aborted(why)));
            play.done(&ABORT, Some(identity(1)));
            if kind != "TxnOffsetCommit" {
                assert!(matches!(play.it.begin(), Begin::Wait));
                play.done(&BUMP(Some(identity(0))), Some(identity(1)));
            }
            play.begin();
        }
    }
}

#[test]
fn whoever_is_fenced_in_a_transaction_can_only_abort_it() {
    for kind in IN_A_TRANSACTION {
        for code in FENCE {
            let (mut play, scope, request) = about_to_ask(kind);
            play.refused(&request, code);
            assert!(scope.failed().is_some(), "{kind} {code}");
            play.end(&scope, true);
            play.refused(&ABORT, 90);
            assert!(matches!(play.it.begin(), Begin::Refused(_)), "{kind}");
        }
    }
}

#[test]
fn an_identity_is_asked_for_until_it_is_given_or_refused() {
    for code in PASS {
        let mut play = Play::new(TransactionProtocol::V2);
        assert!(matches!(play.it.begin(), Begin::Wait));
        for _ in 0..3 {
            play.refused(&BUMP(None), code);
            assert!(matches!(play.it.begin(), Begin::Wait), "{code}");
        }
        play.done(&BUMP(None), Some(identity(0)));
        play.begin();
    }
    let others = |code: &i16| *code != OTHER_ID;
    for code in ABORT_IT.into_iter().chain(FATAL_IN_JAVA).filter(others) {
        let mut play = Play::new(TransactionProtocol::V2);
        assert!(matches!(play.it.begin(), Begin::Wait));
        play.refused(&BUMP(None), code);
        let begin = play.it.begin();
        let Begin::Refused(TransactionError::Refused { error, .. }) = begin else {
            panic!("{code}: {begin:?}");
        };
        assert_eq!(error.code, code);
        // What was missing may be there the next time.
        assert!(matches!(play.it.begin(), Begin::Wait));
        play.done(&BUMP(None), Some(identity(0)));
        play.begin();
    }
    // Another instance has the id under another producer id.
    for code in FENCE.into_iter().chain([OTHER_ID]) {
        let mut play = Play::new(TransactionProtocol::V2);
        assert!(matches!(play.it.begin(), Begin::Wait));
        play.refused(&BUMP(None), code);
        for _ in 0..2 {
            let begin = play.it.begin();
            let fenced = matches!(begin, Begin::Refused(TransactionError::Fenced { .. }));
            assert!(fenced, "{code}: {begin:?}");
        }
    }
}

#[test]
fn a_broker_that_does_not_serve_transactions_is_told_at_once() {
    let mut play = Play::new(TransactionProtocol::V2);
    assert!(matches!(play.it.begin(), Begin::Wait));
    let request = play.ask();
    let not_served = Answer::NotServed("InitProducerId is not served".into());
    play.it.answered(&request, not_served, play.now);
    let begin = play.it.begin();
    let told = matches!(begin, Begin::Refused(TransactionError::NotServed(_)));
    assert!(told, "{begin:?}");
    // Offsets of a member cannot be sent to a group's coordinator before Kafka 2.5.
    let (mut play, scope, request) = about_to_ask("TxnOffsetCommit");
    let asked = play.ask();
    assert_eq!(asked, request);
    let not_served = Answer::NotServed("no version with members".into());
    play.it.answered(&asked, not_served, play.now);
    let why = scope.failed().expect("it can only be aborted");
    let told = matches!(&*why.cause, Cause::Refused(TransactionError::NotServed(_)));
    assert!(told, "{why:?}");
}

#[test]
fn an_abort_asks_for_nothing_that_was_still_to_be_asked() {
    // Nothing was said of it: the coordinator does not know of the transaction.
    let (mut play, scope) = Play::begun(TransactionProtocol::V1);
    play.join(&scope, 0);
    assert!(play.it.send_offsets(&scope, offsets()));
    play.end(&scope, false);
    play.quiet();
    assert_eq!(scope.end(), Some(&End::Aborted(Cause::Requested.into())));
    play.begin();
    // What passes is not asked again, but may have been carried out.
    let (mut play, scope, request) = about_to_ask("AddPartitionsToTxn");
    play.refused(&request, 3);
    play.end(&scope, false);
    // The coordinator does not know of it, and says so.
    play.refused(&ABORT, 48);
    assert!(matches!(play.it.begin(), Begin::Wait));
    play.done(&BUMP(Some(identity(0))), Some(identity(1)));
    play.begin();
}

#[test]
fn a_request_on_its_way_is_waited_for_before_an_abort_is_asked_for() {
    let (mut play, scope, request) = about_to_ask("AddPartitionsToTxn");
    assert_eq!(play.ask(), request);
    assert!(play.it.end(&scope, false));
    play.it.flushed(&scope, play.now);
    assert_eq!(play.it.ask(play.now), None, "one at a time");
    play.it.answered(&request, Answer::Done(None), play.now);
    assert_eq!(play.join(&scope, 0), Membership::Over);
    play.done(&ABORT, None);
}

#[test]
fn a_commit_waits_for_partitions_and_offsets_and_an_end_for_every_batch() {
    let (mut play, scope) = Play::begun(TransactionProtocol::V1);
    play.join(&scope, 0);
    let sent = offsets();
    assert!(play.it.send_offsets(&scope, Arc::clone(&sent)));
    assert!(play.it.end(&scope, true));
    // Batches are flushed meanwhile, and more partitions may come to it.
    play.done(&Request::AddPartitions(vec![partition(0)]), None);
    assert_eq!(play.join(&scope, 1), Membership::Wait);
    play.done(&Request::AddPartitions(vec![partition(1)]), None);
    assert_eq!(play.join(&scope, 1), Membership::Use(identity(0)));
    play.done(&Request::AddOffsets("g".into()), None);
    play.done(&Request::CommitOffsets(sent), None);
    play.quiet();
    assert_eq!(scope.end(), None);
    play.it.flushed(&scope, play.now);
    play.done(&COMMIT, None);
    assert_eq!(scope.end(), Some(&End::Committed));
}

#[test]
fn where_epochs_are_used_up_another_producer_id_is_gone_on_with() {
    let other = Identity {
        producer_id: 10,
        epoch: 0,
    };
    // The end of a transaction brings it, or InitProducerId.
    for protocol in [TransactionProtocol::V2, TransactionProtocol::V1] {
        let (mut play, scope) = Play::begun(protocol);
        play.join(&scope, 0);
        if protocol == TransactionProtocol::V1 {
            play.done(&Request::AddPartitions(vec![partition(0)]), None);
        }
        play.end(&scope, false);
        play.done(
            &ABORT,
            Some(other).filter(|_| protocol == TransactionProtocol::V2),
        );
        if protocol == TransactionProtocol::V1 {
            assert!(matches!(play.it.begin(), Begin::Wait));
            play.done(&BUMP(Some(identity(0))), Some(other));
        }
        play.begin();
        assert_eq!(play.it.identity(), Some(other));
    }
}
