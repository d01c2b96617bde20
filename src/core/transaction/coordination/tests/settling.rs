//! Tests of a transaction of protocol 2 that follows close upon another: the markers of that may not be
//! written yet.

use super::*;

/// The second of two transactions, whose records come this long after the end of the first was asked for.
fn second_after(gap: Duration) -> (Play, Arc<Scope>) {
    let (mut play, first) = Play::begun(TransactionProtocol::V2);
    assert_eq!(play.join(&first, 0), Membership::Use(identity(0)));
    play.quiet();
    play.end(&first, true);
    play.done(&COMMIT, Some(identity(1)));
    let second = play.begin();
    play.now += gap;
    (play, second)
}

fn add(numbers: &[i32]) -> Request {
    Request::AddPartitions(numbers.iter().map(|it| partition(*it)).collect())
}

#[test]
fn its_partitions_wait_until_the_markers_are_written() {
    let (mut play, scope) = second_after(Duration::from_millis(1));
    for number in [0, 1] {
        assert_eq!(play.join(&scope, number), Membership::Wait);
    }
    play.refused(&add(&[0, 1]), 51);
    assert_eq!(play.join(&scope, 2), Membership::Wait);
    play.refused(&add(&[0, 1, 2]), 51);
    let request = play.ask();
    assert_eq!(request, add(&[0, 1, 2]));
    assert_eq!(play.join(&scope, 3), Membership::Wait);
    play.it.answered(&request, Answer::Done(None), play.now);
    for number in 0..5 {
        let member = play.join(&scope, number);
        assert_eq!(member, Membership::Use(identity(1)), "{number}");
    }
    play.quiet();
    assert_eq!(play.it.trouble(), None, "that is no trouble");
    play.end(&scope, true);
    play.done(&COMMIT, Some(identity(2)));
    assert_eq!(scope.end(), Some(&End::Committed));
}

#[test]
fn they_are_written_when_some_time_has_passed() {
    let (mut play, scope) = second_after(SETTLING);
    assert_eq!(play.join(&scope, 0), Membership::Use(identity(1)));
    play.quiet();
}

/// A retried EndTxn may be the one that is carried out.
#[test]
fn the_time_runs_from_the_last_attempt_to_end_the_one_before() {
    let (mut play, first) = Play::begun(TransactionProtocol::V2);
    play.join(&first, 0);
    play.end(&first, true);
    play.unanswered(&COMMIT);
    play.now += SETTLING;
    play.done(&COMMIT, Some(identity(1)));
    let second = play.begin();
    assert_eq!(play.join(&second, 0), Membership::Wait);
}

/// InitProducerId is answered when they are.
#[test]
fn nothing_is_asked_under_a_producer_id_that_was_asked_for_anew() {
    let (mut play, first) = Play::begun(TransactionProtocol::V2);
    play.join(&first, 0);
    play.end(&first, true);
    play.refused(&COMMIT, 49);
    assert!(matches!(play.it.begin(), Begin::Wait));
    play.done(&BUMP(Some(identity(0))), Some(identity(7)));
    let second = play.begin();
    assert_eq!(play.join(&second, 0), Membership::Use(identity(7)));
}

#[test]
fn the_waits_between_questions_double_up_to_that_of_java() {
    let (mut play, scope) = second_after(Duration::ZERO);
    play.join(&scope, 0);
    let waits: [(u128, _); 8] = [0, 1, 2, 4, 8, 16, 20, 20].map(|expected| {
        play.refused(&add(&[0]), 51);
        let waits = play.it.next_at().expect("it is asked again") - play.now;
        (expected, waits.as_millis())
    });
    for (expected, waits) in waits {
        assert_eq!(waits, expected, "{waits:?}");
    }
    assert!(play.it.trouble().is_some(), "it takes long");
}

/// What is wrong with a partition its broker tells, as without the question.
#[test]
fn no_other_answer_holds_partitions_up_or_fails_the_transaction() {
    for code in [3, 14, 16, 29, 35, 47, 48, 49, 53, 55, 90, -1] {
        let (mut play, scope) = second_after(Duration::ZERO);
        play.join(&scope, 0);
        play.refused(&add(&[0]), code);
        let member = play.join(&scope, 0);
        assert_eq!(member, Membership::Use(identity(1)), "{code}");
        assert!(scope.failed().is_none(), "{code}");
        play.quiet();
    }
    for answer in [
        Answer::Unanswered("lost".into()),
        Answer::Unsent("no broker".into()),
        Answer::NotServed("no version".into()),
    ] {
        let (mut play, scope) = second_after(Duration::ZERO);
        play.join(&scope, 0);
        let request = play.ask();
        play.it.answered(&request, answer, play.now);
        assert_eq!(play.join(&scope, 0), Membership::Use(identity(1)));
    }
    let (mut play, scope) = second_after(Duration::ZERO);
    play.join(&scope, 0);
    play.absent(&add(&[0]), 0);
    assert_eq!(play.join(&scope, 0), Membership::Use(identity(1)));
    assert!(scope.failed().is_none());
}

#[test]
fn one_that_is_aborted_meanwhile_asks_no_more_and_is_ended_as_the_coordinator_may_know_of_it() {
    let (mut play, scope) = second_after(Duration::ZERO);
    play.join(&scope, 0);
    play.refused(&add(&[0]), 51);
    play.end(&scope, false);
    assert_eq!(play.join(&scope, 0), Membership::Over);
    play.done(&ABORT, Some(identity(2)));
    play.begin();
}
