//! Tests of what the coordinator is asked, and what follows.

mod fences;
mod refusals;
mod searches;
mod settling;

use super::*;
use crate::core::identity::Wanted;
use crate::core::transaction::scope::{End, Why};

const MIN: Duration = Duration::from_millis(100);
const MAX: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(60);
const BUMP: fn(Option<Identity>) -> Request = |bumps| Request::Init { bumps };

fn identity(epoch: i16) -> Identity {
    Identity {
        producer_id: 9,
        epoch,
    }
}

fn offsets() -> Arc<GroupOffsets> {
    Arc::new(GroupOffsets {
        group: crate::core::transaction::GroupMetadata::new("g"),
        offsets: Vec::new(),
    })
}

fn partition(number: i32) -> TopicPartition {
    TopicPartition::new("t", number)
}

/// A coordination, and the time.
struct Play {
    it: Coordination,
    now: Instant,
}

impl Play {
    fn new(protocol: TransactionProtocol) -> Self {
        let mut it = Coordination::new(
            "id".into(),
            None,
            Backoff::new(MIN, MAX, 1),
            60 * MAX,
            PATIENCE,
        );
        it.offers(protocol);
        let now = Instant::now();
        Self { it, now }
    }

    /// With a transaction that has begun under epoch 0.
    fn begun(protocol: TransactionProtocol) -> (Self, Arc<Scope>) {
        let mut play = Self::new(protocol);
        assert!(matches!(play.it.begin(), Begin::Wait));
        play.done(&BUMP(None), Some(identity(0)));
        let scope = play.begin();
        (play, scope)
    }

    fn begin(&mut self) -> Arc<Scope> {
        match self.it.begin() {
            Begin::Begun(scope) => scope,
            other => panic!("{other:?}"),
        }
    }

    /// The request that is due by now, or will be.
    fn ask(&mut self) -> Request {
        if let Some(at) = self.it.not_before {
            self.now = self.now.max(at);
        }
        self.it.ask(self.now).expect("something to ask")
    }

    fn quiet(&mut self) {
        assert_eq!(self.it.ask(self.now + 10 * MAX), None);
    }

    fn done(&mut self, expected: &Request, identity: Option<Identity>) {
        let request = self.ask();
        assert_eq!(&request, expected);
        let answer = Answer::Done(identity);
        self.it.answered(&request, answer, self.now);
    }

    fn refused(&mut self, expected: &Request, code: i16) {
        let request = self.ask();
        assert_eq!(&request, expected);
        let error = BrokerError::new(code);
        let answer = Answer::Refused { error, part: None };
        self.it.answered(&request, answer, self.now);
    }

    fn unanswered(&mut self, expected: &Request) {
        let request = self.ask();
        assert_eq!(&request, expected);
        let answer = Answer::Unanswered("lost".into());
        self.it.answered(&request, answer, self.now);
    }

    fn absent(&mut self, expected: &Request, number: i32) {
        let request = self.it.ask(self.now).expect("something to ask");
        assert_eq!(&request, expected);
        let absent = Answer::Absent {
            partitions: vec![partition(number)],
            why: "UNKNOWN_TOPIC_OR_PARTITION".into(),
        };
        self.it.answered(&request, absent, self.now);
    }

    /// A partition takes part.
    fn join(&mut self, scope: &Arc<Scope>, number: i32) -> Membership {
        self.join_as(scope, number, Wanted::default())
    }

    fn join_as(&mut self, scope: &Arc<Scope>, number: i32, wanted: Wanted) -> Membership {
        let scope = Arc::clone(scope);
        let joining = Joining { scope, wanted };
        self.it.join(&partition(number), &joining, self.now)
    }

    fn end(&mut self, scope: &Arc<Scope>, commit: bool) {
        assert!(self.it.end(scope, commit), "to be flushed");
        self.quiet();
        self.it.flushed(scope, self.now);
    }
}

const COMMIT: Request = Request::End { commit: true };
const ABORT: Request = Request::End { commit: false };

#[test]
fn each_transaction_of_protocol_2_has_an_epoch_of_its_own() {
    let (mut play, first) = Play::begun(TransactionProtocol::V2);
    for number in 0..2 {
        assert_eq!(play.join(&first, number), Membership::Use(identity(0)));
    }
    play.quiet();
    play.end(&first, true);
    play.done(&COMMIT, Some(identity(1)));
    assert_eq!(first.end(), Some(&End::Committed));
    let second = play.begin();
    play.now += SETTLING;
    assert_eq!(play.join(&second, 0), Membership::Use(identity(1)));
    assert_eq!(play.join(&first, 1), Membership::Over, "it has ended");
}

#[test]
fn partitions_of_protocol_1_are_added_before_they_are_given_the_identity() {
    let (mut play, first) = Play::begun(TransactionProtocol::V1);
    for number in 0..2 {
        assert_eq!(play.join(&first, number), Membership::Wait);
    }
    let add = Request::AddPartitions(vec![partition(0), partition(1)]);
    play.refused(&add, 51);
    play.refused(&add, 3);
    play.done(&add, None);
    assert_eq!(play.join(&first, 1), Membership::Use(identity(0)));
    play.end(&first, true);
    play.done(&COMMIT, None);
    assert_eq!(first.end(), Some(&End::Committed));
    let second = play.begin();
    assert_eq!(
        play.join(&second, 1),
        Membership::Wait,
        "each transaction adds its own"
    );
    play.done(&Request::AddPartitions(vec![partition(1)]), None);
    assert_eq!(play.join(&second, 1), Membership::Use(identity(0)));
}

/// The broker attempts none of a request that has one topic it does not know.
#[test]
fn a_partition_that_is_not_known_yet_holds_up_no_other() {
    let (mut play, scope) = Play::begun(TransactionProtocol::V1);
    for number in 0..3 {
        assert_eq!(play.join(&scope, number), Membership::Wait);
    }
    let add =
        |numbers: &[i32]| Request::AddPartitions(numbers.iter().map(|it| partition(*it)).collect());
    play.absent(&add(&[0, 1, 2]), 1);
    assert_eq!(play.it.ask(play.now), Some(add(&[0, 2])), "at once");
    let done = Answer::Done(None);
    play.it.answered(&add(&[0, 2]), done, play.now);
    assert_eq!(play.join(&scope, 0), Membership::Use(identity(0)));
    assert_eq!(play.it.ask(play.now), None, "that one waits");
    // Nor does it hold up those that come while it waits, and the waits grow while nothing else is asked.
    assert_eq!(play.join(&scope, 3), Membership::Wait);
    assert_eq!(play.it.ask(play.now), Some(add(&[3])));
    play.it.answered(&add(&[3]), Answer::Done(None), play.now);
    let mut waits = Vec::new();
    for _ in 0..3 {
        let at = play.it.next_at().expect("it is asked for again");
        assert_eq!(play.it.ask(at - Duration::from_millis(1)), None);
        waits.push(at - play.now);
        play.now = at;
        play.absent(&add(&[1]), 1);
    }
    assert!(waits[2] > waits[1], "{waits:?}");
    play.now = play.it.next_at().expect("and again");
    play.done(&add(&[1]), None);
    assert_eq!(play.join(&scope, 1), Membership::Use(identity(0)));
    assert_eq!(play.it.next_at(), None);
}

#[test]
fn offsets_do_not_wait_for_a_partition_that_is_not_known_and_its_wait_ends_with_the_transaction() {
    let (mut play, scope) = Play::begun(TransactionProtocol::V1);
    play.join(&scope, 1);
    play.absent(&Request::AddPartitions(vec![partition(1)]), 1);
    assert!(play.it.send_offsets(&scope, offsets()));
    assert_eq!(play.it.ask(play.now), Some(Request::AddOffsets("g".into())));
    let done = Answer::Done(None);
    play.it
        .answered(&Request::AddOffsets("g".into()), done, play.now);
    play.end(&scope, false);
    play.done(&ABORT, None);
    play.it.begin();
    play.done(&BUMP(Some(identity(0))), Some(identity(1)));
    let next = play.begin();
    play.join(&next, 1);
    assert_eq!(
        play.it.ask(play.now),
        Some(Request::AddPartitions(vec![partition(1)])),
        "it may be known by now"
    );
}

#[test]
fn a_transaction_without_records_is_not_spoken_of() {
    for protocol in [TransactionProtocol::V1, TransactionProtocol::V2] {
        for (commit, expected) in [
            (true, End::Committed),
            (false, End::Aborted(Cause::Requested.into())),
        ] {
            let (mut play, scope) = Play::begun(protocol);
            play.end(&scope, commit);
            play.quiet();
            assert_eq!(scope.end(), Some(&expected));
            play.begin();
        }
    }
}

#[test]
fn a_second_transaction_waits_until_the_first_has_ended() {
    let (mut play, first) = Play::begun(TransactionProtocol::V2);
    assert!(matches!(play.it.begin(), Begin::Wait));
    play.join(&first, 0);
    assert!(play.it.end(&first, true));
    assert!(matches!(play.it.begin(), Begin::Wait));
    play.it.flushed(&first, play.now);
    assert!(matches!(play.it.begin(), Begin::Wait));
    play.done(&COMMIT, Some(identity(1)));
    play.begin();
}

#[test]
fn a_record_that_failed_has_its_transaction_aborted() {
    let (mut play, scope) = Play::begun(TransactionProtocol::V2);
    play.join(&scope, 0);
    assert!(play.it.end(&scope, true));
    let failed = || Why::from(Cause::runtime("a record failed"));
    scope.fail(failed());
    play.it.flushed(&scope, play.now);
    assert_eq!(scope.end(), Some(&End::Aborted(failed())));
    assert!(
        matches!(play.it.begin(), Begin::Wait),
        "the brokers do not know yet"
    );
    play.done(&ABORT, Some(identity(1)));
    play.begin();
}

#[test]
fn an_abort_of_protocol_1_leaves_the_epoch() {
    let (mut play, scope) = Play::begun(TransactionProtocol::V1);
    play.join(&scope, 0);
    play.done(&Request::AddPartitions(vec![partition(0)]), None);
    play.end(&scope, false);
    assert!(matches!(scope.end(), Some(End::Aborted(_))));
    play.done(&ABORT, None);
    assert!(matches!(play.it.begin(), Begin::Wait));
    play.refused(&BUMP(Some(identity(0))), 51);
    play.done(&BUMP(Some(identity(0))), Some(identity(2)));
    let next = play.begin();
    assert_eq!(play.join(&next, 0), Membership::Wait);
    play.done(&Request::AddPartitions(vec![partition(0)]), None);
    assert_eq!(play.join(&next, 0), Membership::Use(identity(2)));
}

#[test]
fn a_commit_that_is_refused_was_not_carried_out_unless_an_answer_was_missed() {
    for (missed, code, expected) in [
        (false, 47, "aborted"),
        (false, 90, "aborted"),
        (false, 48, "aborted"),
        (true, 48, "aborted"),
        (true, 90, "unknown"),
        (true, 49, "unknown"),
        (true, 53, "unknown"),
    ] {
        let (mut play, scope) = Play::begun(TransactionProtocol::V2);
        play.join(&scope, 0);
        play.end(&scope, true);
        if missed {
            play.unanswered(&COMMIT);
        }
        play.refused(&COMMIT, code);
        let end = match scope.end() {
            Some(End::Aborted(_)) => "aborted",
            Some(End::Unknown(_)) => "unknown",
            _ => "open",
        };
        assert_eq!(end, expected, "{code}, missed an answer: {missed}");
        match code {
            // There is nothing to ask any more.
            47 | 90 => {
                assert!(matches!(play.it.begin(), Begin::Refused(_)));
                continue;
            }
            48 => play.done(&ABORT, Some(identity(2))),
            _ if matches!(play.it.begin(), Begin::Refused(_)) => panic!("{code} is no fence"),
            _ => play.done(&BUMP(Some(identity(0))), Some(identity(2))),
        }
        play.begin();
    }
}

#[test]
fn a_commit_that_is_refused_though_it_is_open_is_aborted_there_too() {
    for code in [53, 120] {
        let (mut play, scope) = Play::begun(TransactionProtocol::V2);
        play.join(&scope, 0);
        play.end(&scope, true);
        play.refused(&COMMIT, code);
        assert!(matches!(scope.end(), Some(End::Aborted(_))), "{code}");
        play.done(&ABORT, Some(identity(1)));
        play.begin();
    }
}

/// KAFKA-17754: it may come late, and would count for the next transaction under the same epoch.
#[test]
fn what_was_missed_in_protocol_1_takes_the_epoch_with_it() {
    let add = Request::AddPartitions(vec![partition(0)]);
    for missed in [0, 1, 2] {
        let (mut play, scope) = Play::begun(TransactionProtocol::V1);
        play.join(&scope, 0);
        if missed == 1 {
            play.unanswered(&add);
        }
        play.done(&add, None);
        play.end(&scope, true);
        if missed == 2 {
            play.unanswered(&COMMIT);
        }
        play.done(&COMMIT, None);
        assert_eq!(scope.end(), Some(&End::Committed));
        if missed > 0 {
            assert!(matches!(play.it.begin(), Begin::Wait));
            play.done(&BUMP(Some(identity(0))), Some(identity(1)));
        }
        play.begin();
    }
}

#[test]
fn offsets_that_cannot_be_sent_do_not_hold_the_commit_up_for_ever() {
    let (mut play, scope) = Play::begun(TransactionProtocol::V2);
    let offsets = offsets();
    play.join(&scope, 0);
    assert!(play.it.send_offsets(&scope, Arc::clone(&offsets)));
    assert!(play.it.end(&scope, true));
    play.it.flushed(&scope, play.now);
    let until = play.now + 60 * MAX;
    while scope.end().is_none() {
        play.refused(&Request::CommitOffsets(Arc::clone(&offsets)), 3);
        play.now = play.it.next_at().expect("something to wait for");
        play.it.expire(play.now);
        assert!(play.now <= until);
    }
    assert_eq!(play.now, until);
    play.done(&ABORT, Some(identity(1)));
}

#[test]
fn an_end_is_asked_for_until_it_is_answered() {
    let (mut play, scope) = Play::begun(TransactionProtocol::V2);
    play.join(&scope, 0);
    play.end(&scope, true);
    for code in [16, 14, 51, -1] {
        play.refused(&COMMIT, code);
        play.unanswered(&COMMIT);
        assert_eq!(scope.end(), None);
    }
    let request = play.ask();
    play.it.lost(play.now);
    assert_eq!(play.ask(), request);
    play.it
        .answered(&COMMIT, Answer::Done(Some(identity(1))), play.now);
    assert_eq!(scope.end(), Some(&End::Committed));
}

#[test]
fn whoever_waits_to_begin_is_told_of_a_refusal_and_may_ask_again() {
    let mut play = Play::new(TransactionProtocol::V2);
    assert!(matches!(play.it.begin(), Begin::Wait));
    play.refused(&BUMP(None), 53);
    let Begin::Refused(error) = play.it.begin() else {
        panic!("it was refused");
    };
    let expected = "InitProducerId for id was refused: the broker answered \
                    TRANSACTIONAL_ID_AUTHORIZATION_FAILED (53); this client needs the ACL WRITE on the \
                    transactional id";
    assert_eq!(error.to_string(), expected);
    play.quiet();
    assert!(matches!(play.it.begin(), Begin::Wait));
    play.done(&BUMP(None), Some(identity(0)));
    play.begin();
}

#[test]
fn the_protocol_changes_between_transactions_alone_and_with_a_new_epoch() {
    let (mut play, first) = Play::begun(TransactionProtocol::V1);
    play.it.offers(TransactionProtocol::V2);
    assert_eq!(play.join(&first, 0), Membership::Wait);
    play.done(&Request::AddPartitions(vec![partition(0)]), None);
    play.end(&first, true);
    play.done(&COMMIT, None);
    assert_eq!(play.it.protocol(), TransactionProtocol::V1);
    assert!(matches!(play.it.begin(), Begin::Wait));
    play.done(&BUMP(Some(identity(0))), Some(identity(1)));
    let second = play.begin();
    assert_eq!(play.it.protocol(), TransactionProtocol::V2);
    assert_eq!(play.join(&second, 0), Membership::Use(identity(1)));
}

#[test]
fn a_partition_that_forgot_its_numbers_does_not_begin_again_under_the_same_epoch() {
    let (mut play, scope) = Play::begun(TransactionProtocol::V2);
    for _ in 0..2 {
        // It may ask twice.
        assert_eq!(play.join(&scope, 0), Membership::Use(identity(0)));
    }
    let anew = Wanted {
        freed: 1,
        ..Wanted::default()
    };
    assert_eq!(play.join_as(&scope, 0, anew), Membership::Over);
    assert!(scope.failed().is_some());
}

#[test]
fn offsets_are_committed_before_the_end() {
    for protocol in [TransactionProtocol::V1, TransactionProtocol::V2] {
        let (mut play, scope) = Play::begun(protocol);
        let sent = [offsets(), offsets()];
        for sent in &sent {
            assert!(play.it.send_offsets(&scope, Arc::clone(sent)));
        }
        assert!(play.it.end(&scope, true));
        play.it.flushed(&scope, play.now);
        assert!(!play.it.send_offsets(&scope, offsets()), "it is closed");
        if protocol == TransactionProtocol::V1 {
            play.done(&Request::AddOffsets("g".into()), None);
        }
        for sent in sent {
            assert!(play.it.is_sending(&sent));
            play.refused(&Request::CommitOffsets(Arc::clone(&sent)), 14);
            play.done(&Request::CommitOffsets(Arc::clone(&sent)), None);
            assert!(!play.it.is_sending(&sent));
        }
        play.done(&COMMIT, Some(identity(1)));
        assert_eq!(scope.end(), Some(&End::Committed));
    }
}

#[test]
fn refused_offsets_have_the_transaction_aborted() {
    let (mut play, scope) = Play::begun(TransactionProtocol::V2);
    let offsets = offsets();
    assert!(play.it.send_offsets(&scope, Arc::clone(&offsets)));
    // ILLEGAL_GENERATION.
    play.refused(&Request::CommitOffsets(offsets), 22);
    let why = &scope.failed().expect("aborted").text;
    assert!(why.contains("ILLEGAL_GENERATION"), "{why}");
    play.end(&scope, true);
    play.done(&ABORT, Some(identity(1)));
}

/// InitProducerId gives no identity behind the last epoch, where it is asked for the one before that.
#[test]
fn what_the_coordinator_aborted_is_followed_by_the_identity_it_tells() {
    let (mut play, scope) = Play::begun(TransactionProtocol::V2);
    assert_eq!(play.join(&scope, 0), Membership::Use(identity(0)));
    play.end(&scope, true);
    play.refused(&COMMIT, 48);
    assert!(matches!(scope.end(), Some(End::Aborted(_))));
    play.done(&ABORT, Some(identity(1)));
    let next = play.begin();
    play.now += SETTLING;
    assert_eq!(play.join(&next, 0), Membership::Use(identity(1)));
}

#[test]
fn a_partition_that_was_let_go_of_takes_part_in_the_next_transaction() {
    let (mut play, scope) = Play::begun(TransactionProtocol::V1);
    assert_eq!(play.join(&scope, 0), Membership::Wait);
    play.done(&Request::AddPartitions(vec![partition(0)]), None);
    assert_eq!(play.join(&scope, 0), Membership::Use(identity(0)));
    play.end(&scope, true);
    play.done(&COMMIT, None);
    // It has forgotten its sequence numbers, and the epoch is still the same.
    let anew = Wanted {
        freed: 1,
        ..Wanted::default()
    };
    let scope = play.begin();
    assert_eq!(play.join_as(&scope, 0, anew), Membership::Over);
    play.end(&scope, true);
    assert!(matches!(scope.end(), Some(End::Aborted(_))));
    assert!(matches!(play.it.begin(), Begin::Wait));
    play.done(&BUMP(Some(identity(0))), Some(identity(1)));
    let next = play.begin();
    assert_eq!(play.join_as(&next, 0, anew), Membership::Wait);
}
