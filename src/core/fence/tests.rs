use std::time::Duration;

use super::*;
use crate::core::broker_error::BrokerError;

const V1: TransactionProtocol = TransactionProtocol::V1;
const V2: TransactionProtocol = TransactionProtocol::V2;
const COMMIT: Request = Request::End { commit: true };

fn identity(epoch: i16) -> Identity {
    Identity {
        producer_id: 7,
        epoch,
    }
}

fn partition(partition: i32) -> TopicPartition {
    TopicPartition::new("t", partition)
}

fn init(bumps: Option<Identity>) -> Request {
    Request::Init { bumps }
}

fn add(partitions: &[i32]) -> Request {
    Request::AddPartitions(partitions.iter().map(|it| partition(*it)).collect())
}

fn marker(above: i16) -> Option<Fence> {
    Some(Fence::Marker {
        producer_id: 7,
        above,
    })
}

fn backoff() -> Backoff {
    Backoff::new(Duration::from_millis(100), Duration::from_secs(1), 7)
}

/// Longer than a coordinator is not heard of.
const SILENCE: Duration = Duration::from_secs(25 * 60 * 60);

/// Fences with a clock, and a coordinator that says what a test has it say.
struct Play {
    fences: Fences,
    now: Instant,
}

impl Play {
    /// An id is there, with epoch 0.
    fn begun(protocol: TransactionProtocol) -> Self {
        Self::with(Fences::new("id".into(), backoff()), protocol)
    }

    /// The same of a spool.
    fn of_spool(protocol: TransactionProtocol) -> Self {
        let fences = Fences::of_spool("id".into(), Vec::new(), backoff(), Instant::now());
        Self::with(fences, protocol)
    }

    fn with(fences: Fences, protocol: TransactionProtocol) -> Self {
        let now = Instant::now();
        let mut play = Self { fences, now };
        assert_eq!(play.want(0, None), Given::Wait);
        play.fences.offers(0, protocol);
        play.done(&init(None), Some(identity(0)));
        assert_eq!(play.want(0, None), Given::Use(identity(0), None));
        play
    }

    fn want(&mut self, of: i32, left: Option<Identity>) -> Given {
        let wanted = Wanted {
            left,
            ..Wanted::default()
        };
        self.fences.want(&partition(of), wanted, self.now)
    }

    /// A request that is due.
    fn asked(&mut self) -> ToAsk {
        let mut asked = self.fences.ask(self.now);
        assert_eq!(asked.len(), 1, "{asked:?}");
        asked.remove(0)
    }

    /// The coordinator is asked this, and says this.
    fn says(&mut self, request: &Request, answer: Answer) -> Heard {
        let asked = self.asked();
        assert_eq!(&asked.request, request);
        let (id, now) = (asked.id, self.now);
        self.fences.answered(id, request, answer, now)
    }

    fn done(&mut self, request: &Request, identity: Option<Identity>) {
        assert_eq!(self.says(request, Answer::Done(identity)), Heard::Nothing);
    }

    fn refuses(&mut self, request: &Request, code: i16) -> Heard {
        let error = BrokerError::new(code);
        self.says(request, Answer::Refused { error, part: None })
    }

    /// Waits longer than any backoff.
    fn back_off(&mut self) {
        self.now += Duration::from_secs(2);
    }
}

#[test]
fn a_marker_under_the_next_epoch_is_the_fence() {
    let mut play = Play::begun(V2);
    let left = Some(identity(0));
    assert_eq!(play.want(0, left), Given::Wait);
    assert_eq!(play.want(1, left), Given::Wait);
    play.done(&add(&[0, 1]), None);
    play.done(&COMMIT, Some(identity(1)));
    for _ in 0..2 {
        // It may ask twice.
        assert_eq!(play.want(0, left), Given::Use(identity(1), marker(0)));
    }
    assert_eq!(play.want(1, left), Given::Use(identity(1), marker(0)));
    assert!(play.fences.ask(play.now).is_empty());
    // Another partition begins under that one, and needs no fence.
    assert_eq!(play.want(2, None), Given::Use(identity(1), None));
    // What was sent behind the fence needs one of its own.
    assert_eq!(play.want(0, Some(identity(1))), Given::Wait);
    play.done(&add(&[0]), None);
    play.done(&COMMIT, Some(identity(2)));
    let given = play.want(0, Some(identity(1)));
    assert_eq!(given, Given::Use(identity(2), marker(1)));
}

#[test]
fn in_protocol_1_the_epoch_is_asked_for_before_the_marker() {
    let mut play = Play::begun(V1);
    let left = Some(identity(0));
    play.want(0, left);
    play.done(&init(left), Some(identity(1)));
    play.done(&add(&[0]), None);
    play.done(&COMMIT, None);
    assert_eq!(play.want(0, left), Given::Use(identity(1), marker(0)));
    // One that left an epoch before the present one needs no other.
    play.want(1, left);
    play.done(&add(&[1]), None);
    play.done(&COMMIT, None);
    assert_eq!(play.want(1, left), Given::Use(identity(1), marker(0)));
}

#[test]
fn an_end_without_an_answer_is_repeated_as_it_was() {
    let mut play = Play::begun(V2);
    play.want(0, Some(identity(0)));
    play.done(&add(&[0]), None);
    play.says(&COMMIT, Answer::Unanswered("lost".into()));
    assert!(play.fences.ask(play.now).is_empty(), "not at once");
    play.back_off();
    play.fences.offers(0, V1);
    let asked = play.asked();
    assert_eq!((asked.protocol, asked.identity), (V2, Some(identity(0))));
    play.fences.lost();
    play.done(&COMMIT, Some(identity(1)));
    let given = play.want(0, Some(identity(0)));
    assert_eq!(given, Given::Use(identity(1), marker(0)));
}

#[test]
fn one_that_was_ended_by_the_coordinator_is_made_anew() {
    for code in [47, 48, 49, 90] {
        let mut play = Play::begun(V2);
        let left = Some(identity(0));
        play.want(0, left);
        play.done(&add(&[0]), None);
        play.refuses(&COMMIT, code);
        play.back_off();
        play.done(&init(None), Some(identity(2)));
        assert_eq!(play.want(0, left), Given::Wait);
        play.done(&add(&[0]), None);
        play.done(&COMMIT, Some(identity(3)));
        assert_eq!(
            play.want(0, left),
            Given::Use(identity(3), marker(2)),
            "{code}"
        );
    }
}

/// What the coordinator says of the id.
fn described(state: &str, epoch: i16) -> Answer {
    Answer::Described {
        state: state.into(),
        identity: identity(epoch),
    }
}

#[test]
fn an_id_that_another_producer_has_taken_is_not_taken_back() {
    for (code, state, epoch) in [
        (47, "Empty", 1),
        (90, "CompleteCommit", 1),
        (49, "Ongoing", 7),
        (90, "CompleteAbort", 2),
    ] {
        let mut play = Play::of_spool(V2);
        let left = Some(identity(0));
        play.want(0, left);
        assert_eq!(play.refuses(&add(&[0]), code), Heard::Nothing);
        play.back_off();
        let heard = play.says(&Request::Describe, described(state, epoch));
        assert!(matches!(heard, Heard::Taken(_)), "{code}: {heard:?}");
        assert!(play.fences.taken().is_some());
        // It asks for nothing any more, and gives out nothing.
        play.now += SILENCE;
        assert!(play.fences.ask(play.now).is_empty());
        assert_eq!(play.want(0, left), Given::Wait);
    }
}

#[test]
fn an_id_whose_time_was_over_goes_on_behind_who_ended_it() {
    for (code, state, epoch) in [
        (47, "CompleteAbort", 1),
        (90, "PrepareAbort", 1),
        (48, "Empty", 0),
    ] {
        let mut play = Play::of_spool(V2);
        let left = Some(identity(0));
        play.want(0, left);
        play.done(&add(&[0]), None);
        play.refuses(&COMMIT, code);
        play.back_off();
        play.refuses(&Request::Describe, 16);
        play.back_off();
        let heard = play.says(&Request::Describe, described(state, epoch));
        assert_eq!(heard, Heard::Nothing, "{code}");
        play.done(&init(Some(identity(epoch))), Some(identity(epoch + 1)));
        assert_eq!(play.want(0, left), Given::Wait);
        play.done(&add(&[0]), None);
    }
}

#[test]
fn one_that_is_taken_between_description_and_use_is_left() {
    let mut play = Play::of_spool(V2);
    play.want(0, Some(identity(0)));
    play.refuses(&add(&[0]), 47);
    play.back_off();
    play.says(&Request::Describe, described("CompleteAbort", 1));
    play.refuses(&init(Some(identity(1))), 90);
    play.back_off();
    let heard = play.says(&Request::Describe, described("Empty", 2));
    assert!(matches!(heard, Heard::Taken(_)), "{heard:?}");
}

#[test]
fn one_that_the_coordinator_has_forgotten_is_made_anew() {
    let mut play = Play::of_spool(V2);
    play.want(0, Some(identity(0)));
    play.refuses(&add(&[0]), 49);
    play.back_off();
    assert_eq!(play.refuses(&Request::Describe, 105), Heard::Nothing);
    play.done(&init(None), Some(identity(0)));
}

#[test]
fn where_nobody_says_whose_an_id_is_it_counts_as_taken() {
    let mut play = Play::of_spool(V1);
    play.now += SILENCE;
    play.refuses(&init(Some(identity(0))), 90);
    play.back_off();
    let none = Answer::NotServed("no version of it".into());
    let heard = play.says(&Request::Describe, none);
    assert!(matches!(heard, Heard::Taken(_)), "{heard:?}");
}

#[test]
fn a_partition_that_is_refused_delays_itself_alone() {
    let mut play = Play::begun(V2);
    let left = Some(identity(0));
    for of in 0..3 {
        play.want(of, left);
    }
    assert_eq!(play.refuses(&add(&[0, 1, 2]), 29), Heard::Nothing);
    let refused = play.refuses(&add(&[0]), 29);
    assert!(
        matches!(&refused, Heard::Refused(it, _) if *it == partition(0)),
        "{refused:?}"
    );
    // UNKNOWN_TOPIC_OR_PARTITION passes, or not.
    assert_eq!(play.refuses(&add(&[1]), 3), Heard::Nothing);
    play.done(&add(&[2]), None);
    play.done(&COMMIT, Some(identity(1)));
    assert_eq!(play.want(2, left), Given::Use(identity(1), marker(0)));
    assert_eq!(play.want(1, left), Given::Wait);
    play.back_off();
    play.done(&add(&[1]), None);
    play.done(&COMMIT, Some(identity(2)));
    assert_eq!(play.want(1, left), Given::Use(identity(2), marker(1)));
}

#[test]
fn a_coordinator_that_moves_is_asked_again_for_all() {
    let mut play = Play::begun(V2);
    let left = Some(identity(0));
    play.want(0, left);
    play.want(1, left);
    for code in [14, 15, 16] {
        play.refuses(&add(&[0, 1]), code);
        play.back_off();
    }
    play.done(&add(&[0, 1]), None);
}

#[test]
fn where_a_marker_does_not_come_others_go_on_under_a_fresh_id() {
    let mut play = Play::begun(V2);
    let left = Some(identity(0));
    play.want(0, left);
    play.want(1, left);
    play.done(&add(&[0, 1]), None);
    play.done(&COMMIT, Some(identity(1)));
    play.fences.seen(&partition(0), 7);
    assert_eq!(play.fences.leave(play.now), None);
    play.back_off();
    assert!(play.fences.next_at(play.now - Duration::from_millis(1)) <= Some(play.now));
    let why = "a marker is not written";
    assert_eq!(play.fences.leave(play.now), Some((7, why)));
    assert_eq!(play.fences.leave(play.now), None, "once");

    // One that has nothing in doubt.
    let wanted = Wanted {
        left: Some(identity(0)),
        fresh: true,
        ..Wanted::default()
    };
    assert_eq!(
        play.fences.want(&partition(2), wanted, play.now),
        Given::Wait
    );
    let fresh = Identity {
        producer_id: 8,
        epoch: 0,
    };
    play.done(&init(None), Some(fresh));
    let given = play.fences.want(&partition(2), wanted, play.now);
    assert_eq!(given, Given::Use(fresh, None));
    // The one whose marker is awaited waits for that one.
    assert_eq!(play.want(1, left), Given::Use(identity(1), marker(0)));
    // One that came into doubt meanwhile waits for the end of the other transaction.
    assert_eq!(play.want(3, left), Given::Wait);
    assert_eq!(play.refuses(&add(&[3]), 51), Heard::Nothing);
}

#[test]
fn a_partition_that_was_freed_begins_above_all_that_it_may_have_had() {
    let mut play = Play::begun(V2);
    let wanted = Wanted {
        freed: 1,
        ..Wanted::default()
    };
    assert_eq!(
        play.fences.want(&partition(0), wanted, play.now),
        Given::Wait
    );
    assert_eq!(
        play.fences.want(&partition(0), wanted, play.now),
        Given::Wait
    );
    play.done(&init(Some(identity(0))), Some(identity(1)));
    let given = play.fences.want(&partition(0), wanted, play.now);
    assert_eq!(given, Given::Use(identity(1), None));
    assert!(play.fences.ask(play.now).is_empty());
}

#[test]
fn epochs_that_are_used_up_bring_another_producer_id() {
    let mut play = Play::begun(V2);
    let left = Some(identity(0));
    play.want(0, left);
    play.done(&add(&[0]), None);
    let next = Identity {
        producer_id: 9,
        epoch: 0,
    };
    play.done(&COMMIT, Some(next));
    // The marker is of the former one.
    assert_eq!(play.want(0, left), Given::Use(next, marker(0)));
    // Of one that comes too late nothing can be ruled out.
    assert_eq!(play.want(1, left), Given::Use(next, None));
    assert!(play.fences.ask(play.now).is_empty());
}

/// The marker of the former producer id was passed over, and can be had no more.
#[test]
fn a_marker_that_does_not_come_as_epochs_run_out_is_followed_by_one_of_the_next_producer() {
    let mut play = Play::begun(V2);
    let left = Some(identity(0));
    play.want(0, left);
    play.done(&add(&[0]), None);
    let next = |epoch| Identity {
        producer_id: 9,
        epoch,
    };
    play.done(&COMMIT, Some(next(0)));
    assert_eq!(play.want(0, left), Given::Use(next(0), marker(0)));
    play.now += Duration::from_secs(6);
    play.done(&add(&[0]), None);
    play.done(&COMMIT, Some(next(1)));
    let other = Fence::Marker {
        producer_id: 9,
        above: 0,
    };
    assert_eq!(play.want(0, left), Given::Use(next(1), Some(other)));
}

#[test]
fn no_more_markers_are_written_for_one_that_waits_for_none() {
    let mut play = Play::begun(V2);
    play.want(0, Some(identity(0)));
    play.done(&add(&[0]), None);
    play.done(&COMMIT, Some(identity(1)));
    let plain = Wanted {
        left: Some(identity(0)),
        plain: true,
        ..Wanted::default()
    };
    let given = play.fences.want(&partition(0), plain, play.now);
    assert_eq!(given, Given::Plain);
    play.now += Duration::from_secs(6);
    assert_eq!(play.fences.leave(play.now), None);
    assert!(play.fences.ask(play.now).is_empty());
    // It ends while its marker is being asked for.
    play.want(1, Some(identity(1)));
    play.done(&add(&[1]), None);
    play.fences.seen(&partition(1), 7);
    play.done(&COMMIT, Some(identity(2)));
    play.now += Duration::from_secs(6);
    assert_eq!(play.fences.leave(play.now), None);
    assert!(play.fences.ask(play.now).is_empty());
    // What was written meanwhile is no fence for what it sends later: brokers may have forgotten it by then.
    assert_eq!(play.want(1, Some(identity(1))), Given::Wait);
    play.done(&add(&[1]), None);
    play.done(&COMMIT, Some(identity(3)));
    let given = play.want(1, Some(identity(1)));
    assert_eq!(given, Given::Use(identity(3), marker(2)));
}

#[test]
fn a_marker_of_a_producer_that_is_forgotten_is_not_waited_for() {
    let mut play = Play::begun(V2);
    let left = Some(identity(0));
    play.want(0, left);
    play.done(&add(&[0]), None);
    play.done(&COMMIT, Some(identity(1)));
    assert_eq!(play.want(0, left), Given::Use(identity(1), marker(0)));
    play.now += Duration::from_secs(6);
    play.refuses(&add(&[0]), 49);
    play.back_off();
    let next = Identity {
        producer_id: 9,
        epoch: 0,
    };
    play.done(&init(None), Some(next));
    assert_eq!(play.want(0, left), Given::Use(next, None));
    assert!(play.fences.ask(play.now).is_empty());
}

#[test]
fn epochs_are_left_for_the_fences_of_all_partitions() {
    let mut play = Play::begun(V2);
    let left = Some(identity(0));
    play.want(0, left);
    play.done(&add(&[0]), None);
    let worn = i16::MAX / 2 + 1;
    play.done(&COMMIT, Some(identity(worn)));
    let why = "half of its epochs are used up";
    assert_eq!(play.fences.leave(play.now), Some((7, why)));
    assert_eq!(play.fences.leave(play.now), None, "once");
    // What is fenced goes on under a fresh id, and what begins does.
    assert_eq!(play.want(0, left), Given::Wait);
    let fresh = Identity {
        producer_id: 8,
        epoch: 0,
    };
    play.done(&init(None), Some(fresh));
    assert_eq!(play.want(0, left), Given::Use(fresh, marker(0)));
    assert_eq!(play.want(2, None), Given::Use(fresh, None));
    // One that is in doubt under the former id has its fence there.
    assert_eq!(play.want(1, left), Given::Wait);
    play.done(&add(&[1]), None);
    play.done(&COMMIT, Some(identity(worn + 1)));
    assert_eq!(play.want(1, left), Given::Use(fresh, marker(worn)));
    assert!(play.fences.ask(play.now).is_empty());
}

#[test]
fn without_permission_for_ids_they_are_plain() {
    let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1), 7);
    let mut play = Play {
        fences: Fences::new("id".into(), backoff),
        now: Instant::now(),
    };
    play.want(0, None);
    let heard = play.refuses(&init(None), 53);
    assert!(matches!(heard, Heard::Denied(_)), "{heard:?}");
    assert_eq!(play.want(0, None), Given::Plain);
    play.back_off();
    assert!(play.fences.ask(play.now).is_empty());
    // An identity that came from elsewhere is bumped there.
    let mut play = Play::begun(V2);
    let elsewhere = Identity {
        producer_id: 1_000,
        epoch: 3,
    };
    assert_eq!(play.want(0, Some(elsewhere)), Given::Plain);
}

#[test]
fn the_coordinator_hears_of_an_idle_id_once_a_day() {
    let mut play = Play::begun(V2);
    play.now += Duration::from_secs(23 * 60 * 60);
    assert!(play.fences.ask(play.now).is_empty());
    let at = play.fences.next_at(play.now).expect("a renewal");
    play.now = at;
    play.done(&init(Some(identity(0))), Some(identity(1)));
    assert_eq!(play.want(1, None), Given::Use(identity(1), None));
}
