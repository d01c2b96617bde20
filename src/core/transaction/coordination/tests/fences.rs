//! Another instance has taken the transactional id, or time was over.

use super::*;

/// InitProducerId would abort what the newer instance has open, whatever epoch it names.
#[test]
fn an_instance_that_is_fenced_asks_for_nothing_any_more() {
    let (mut play, scope) = Play::begun(TransactionProtocol::V2);
    play.join(&scope, 0);
    play.end(&scope, true);
    play.refused(&COMMIT, 90);
    for _ in 0..2 {
        let begin = play.it.begin();
        assert!(matches!(
            begin,
            Begin::Refused(TransactionError::Fenced { .. })
        ));
        play.quiet();
    }
}

/// With a transaction of protocol 1 that the coordinator has added a partition to.
fn added() -> (Play, Arc<Scope>) {
    let (mut play, scope) = Play::begun(TransactionProtocol::V1);
    play.join(&scope, 0);
    play.done(&Request::AddPartitions(vec![partition(0)]), None);
    (play, scope)
}

#[test]
fn in_protocol_1_a_transaction_whose_time_was_over_is_told_from_one_that_was_fenced() {
    for (commit, code) in [(true, 90), (false, 90), (true, 47)] {
        let (mut play, scope) = added();
        play.end(&scope, commit);
        play.refused(&Request::End { commit }, code);
        assert!(matches!(scope.end(), Some(End::Aborted(_))));
        // The coordinator took the next epoch for the abort, and gave it to nobody.
        assert_eq!(play.it.identity(), Some(identity(1)));
        play.refused(&ABORT, 51);
        play.unanswered(&ABORT);
        play.done(&ABORT, None);
        assert!(matches!(play.it.begin(), Begin::Wait));
        play.done(&BUMP(Some(identity(1))), Some(identity(2)));
        play.begin();
    }
}

#[test]
fn in_protocol_1_a_newer_instance_fences_for_good() {
    let (mut play, scope) = added();
    play.end(&scope, true);
    play.refused(&COMMIT, 90);
    play.refused(&ABORT, 90);
    let begin = play.it.begin();
    assert!(matches!(
        begin,
        Begin::Refused(TransactionError::Fenced { .. })
    ));
    play.quiet();
}

/// The next epoch may be the newer instance's then: it would be asked to abort that one's transaction.
#[test]
fn in_protocol_1_only_what_was_certainly_open_may_have_been_ended_by_time() {
    // An answer to the end was missed: it may have been carried out.
    let (mut play, scope) = added();
    play.end(&scope, true);
    play.unanswered(&COMMIT);
    play.refused(&COMMIT, 90);
    assert!(matches!(scope.end(), Some(End::Unknown(_))));
    assert!(matches!(play.it.begin(), Begin::Refused(_)));
    // The coordinator was not told of any partition.
    let (mut play, scope) = Play::begun(TransactionProtocol::V1);
    play.join(&scope, 0);
    play.refused(&Request::AddPartitions(vec![partition(0)]), 90);
    play.end(&scope, true);
    play.refused(&ABORT, 90);
    assert!(matches!(play.it.begin(), Begin::Refused(_)));
    // No epoch is left.
    let (mut play, scope) = Play::begun(TransactionProtocol::V1);
    play.it.identity = Some(identity(i16::MAX));
    play.join(&scope, 0);
    play.done(&Request::AddPartitions(vec![partition(0)]), None);
    play.end(&scope, true);
    play.refused(&COMMIT, 90);
    assert!(matches!(play.it.begin(), Begin::Refused(_)));
}

/// It was idle for longer than `transactional.id.expiration.ms`.
#[test]
fn an_id_that_the_coordinator_has_forgotten_is_given_anew() {
    let other = Identity {
        producer_id: 10,
        epoch: 0,
    };
    for protocol in [TransactionProtocol::V1, TransactionProtocol::V2] {
        let (mut play, scope) = Play::begun(protocol);
        play.join(&scope, 0);
        if protocol == TransactionProtocol::V1 {
            play.refused(&Request::AddPartitions(vec![partition(0)]), 49);
        }
        play.end(&scope, true);
        let commit = protocol == TransactionProtocol::V2;
        play.refused(&Request::End { commit }, 49);
        assert!(matches!(scope.end(), Some(End::Aborted(_))));
        assert!(matches!(play.it.begin(), Begin::Wait));
        play.done(&BUMP(Some(identity(0))), Some(other));
        play.begin();
        assert_eq!(play.it.identity(), Some(other));
    }
}

/// Where a request of an open transaction is refused so, it is asked at the end.
#[test]
fn what_is_fenced_in_the_middle_is_told_at_its_end() {
    for code in [47, 90] {
        let (mut play, scope) = Play::begun(TransactionProtocol::V2);
        play.join(&scope, 0);
        let sent = offsets();
        assert!(play.it.send_offsets(&scope, Arc::clone(&sent)));
        play.refused(&Request::CommitOffsets(sent), code);
        assert!(scope.failed().is_some());
        assert_eq!(play.join(&scope, 1), Membership::Over);
        play.end(&scope, true);
        play.refused(&ABORT, 90);
        assert!(matches!(scope.end(), Some(End::Aborted(_))));
        assert!(matches!(play.it.begin(), Begin::Refused(_)));
    }
}
