use super::*;

const MIN: Duration = Duration::from_millis(100);
const SECOND: Duration = Duration::from_secs(1);
const MAX_AGE: Duration = Duration::from_secs(300);
const MAX_IDLE: Duration = Duration::from_secs(300);

fn interests() -> (Interests<u32>, Instant) {
    let interests = Interests::new("broker:9092", (MIN, SECOND), MAX_AGE, 1);
    (interests, Instant::now())
}

/// Waits for `topic` until `seconds` after `now`.
fn wait(
    interests: &mut Interests<u32>,
    topic: &str,
    ticket: u32,
    now: Instant,
    seconds: u32,
) -> Wanted {
    let wish = Wish {
        partition: None,
        asked: now,
        deadline: now + SECOND * seconds,
        ticket: Some(ticket),
    };
    interests.want(topic.into(), wish, now)
}

/// Asks for `topic` without waiting.
fn glance(interests: &mut Interests<u32>, topic: &str, now: Instant, seconds: u32) -> Wanted {
    let wish = Wish {
        partition: None,
        asked: now,
        deadline: now + SECOND * seconds,
        ticket: None,
    };
    interests.want(topic.into(), wish, now)
}

/// A broker told of the topic, which has one partition. Returns whose wait is over.
fn found(interests: &mut Interests<u32>, topic: &Arc<str>, gap: Gap, now: Instant) -> Vec<u32> {
    interests.found((topic, 1), gap, now).ready
}

fn expire(interests: &mut Interests<u32>, now: Instant) -> Vec<u32> {
    let refused = interests.expire(now, |_| false, |_| false);
    refused.into_iter().map(|(ticket, _)| ticket).collect()
}

fn topics(interests: &Interests<u32>) -> Vec<&str> {
    interests.by_topic.keys().map(|topic| &**topic).collect()
}

#[test]
fn of_many_that_wait_for_a_topic_only_the_first_has_brokers_asked() {
    let (mut interests, now) = interests();
    for topic in ["a", "b"] {
        assert_eq!(wait(&mut interests, topic, 0, now, 10), Wanted::Ask);
        for seconds in [5, 20, 10] {
            let until = Wanted::Until(now + SECOND * seconds);
            assert_eq!(wait(&mut interests, topic, 1, now, seconds), until);
        }
    }
}

#[test]
fn a_caller_that_does_not_wait_keeps_its_topic_wanted_until_its_deadline() {
    let (mut interests, now) = interests();
    assert_eq!(glance(&mut interests, "a", now, 10), Wanted::Ask);
    for seconds in 0..10 {
        let now = now + SECOND * seconds;
        assert!(interests.any(now));
        assert!(expire(&mut interests, now).is_empty());
        assert_eq!(topics(&interests), ["a"]);
    }
    let now = now + SECOND * 10;
    assert!(!interests.any(now));
    assert!(expire(&mut interests, now).is_empty());
    assert!(interests.by_topic.is_empty());
}

#[test]
fn a_topic_stays_wanted_for_the_longest_of_those_who_do_not_wait() {
    let (mut interests, now) = interests();
    for (first, second) in [(60, 1), (1, 60)] {
        glance(&mut interests, "a", now, first);
        glance(&mut interests, "a", now, second);
        let late = now + SECOND * 59;
        assert!(expire(&mut interests, late).is_empty());
        assert!(interests.any(late), "{first} s, then {second} s");
    }
}

#[test]
fn asking_all_the_time_without_waiting_leaves_nothing_behind() {
    let (mut interests, start) = interests();
    glance(&mut interests, "a", start, 10);
    for millis in 1..1000 {
        let now = start + Duration::from_millis(millis);
        assert_eq!(glance(&mut interests, "a", now, 10), Wanted::Again);
    }
    assert_eq!(interests.next_deadline(), None);
    let late = start + SECOND * 20;
    assert_eq!(glance(&mut interests, "a", late, 10), Wanted::Ask);
}

#[test]
fn each_waiter_is_refused_at_its_own_deadline() {
    let (mut interests, now) = interests();
    let waiters = [("a", 3), ("b", 1), ("a", 2), ("b", 4)];
    for (topic, seconds) in waiters {
        wait(&mut interests, topic, seconds, now, seconds);
    }
    for seconds in 1..=4 {
        let deadline = now + SECOND * seconds;
        assert_eq!(interests.next_deadline(), Some(deadline));
        let early = deadline - Duration::from_millis(1);
        assert!(expire(&mut interests, early).is_empty());
        assert_eq!(expire(&mut interests, deadline), [seconds]);
    }
    assert_eq!(interests.next_deadline(), None);
    assert!(interests.by_topic.is_empty());
}

#[test]
fn a_waiter_that_has_gone_is_forgotten_before_its_deadline() {
    let (mut interests, now) = interests();
    for ticket in 0..4 {
        wait(&mut interests, "a", ticket, now, 10);
    }
    let refused = interests.expire(now, |ticket| ticket % 2 == 0, |_| false);
    assert!(refused.is_empty(), "nobody hears of it");
    let left = found(&mut interests, &"a".into(), Gap::Nothing, now);
    assert_eq!(left, [1, 3]);
}

#[test]
fn who_waits_in_vain_hears_of_the_last_trouble() {
    let refused: Arc<str> = "connection refused".into();
    let leaderless = BrokerError::new(5);
    let words: Arc<str> = format!("the broker answered {leaderless}").into();
    let tell = |interests: &mut Interests<u32>, trouble, now| match trouble {
        "refused" => interests.unanswered(&refused),
        "answer" => drop(interests.failed(&"a".into(), &BrokerError::new(5), false, now)),
        _ => {}
    };
    let nothing: Arc<str> =
        "no answer yet from broker:9092; is a Kafka broker listening there?".into();
    for (troubles, why, error) in [
        (["", ""], &nothing, None),
        (["", "refused"], &refused, None),
        (["refused", "answer"], &words, Some(&leaderless)),
        (["answer", "refused"], &refused, None),
    ] {
        let (mut interests, now) = interests();
        wait(&mut interests, "a", 0, now, 3);
        for trouble in troubles {
            tell(&mut interests, trouble, now);
        }
        let expired = interests.expire(now + SECOND * 9, |_| false, |_| false);
        let expected = TopicRefusal::Unknown {
            topic: "a".into(),
            waited: SECOND * 3,
            why: Arc::clone(why),
            error: error.cloned(),
        };
        assert_eq!(expired, [(0, expected)], "{troubles:?}");
    }
}

#[test]
fn a_topic_refused_for_good_refuses_all_its_waiters_at_once() {
    for code in -1..130 {
        let (mut interests, now) = interests();
        for (topic, ticket) in [("a", 0), ("b", 1), ("a", 2)] {
            wait(&mut interests, topic, ticket, now, 10);
        }
        let failed = interests.failed(&"a".into(), &BrokerError::new(code), false, now);
        if !matches!(code, 17 | 29) {
            assert_eq!(failed, Failed::AskAgain, "code {code}");
            assert_eq!(topics(&interests), ["a", "b"]);
            continue;
        }
        let refused = TopicRefusal::Refused {
            topic: "a".into(),
            error: BrokerError::new(code),
        };
        let all = vec![(0, refused.clone()), (2, refused)];
        assert_eq!(failed, Failed::Final(all), "code {code}");
        // It is not asked for, but who asks again has to wait.
        let asked: Vec<_> = interests.topics(now).map(|topic| &**topic).collect();
        assert_eq!(asked, ["b"]);
        assert!(expire(&mut interests, now + 3 * SECOND).is_empty());
        assert_eq!(topics(&interests), ["b"]);
    }
}

#[test]
fn a_topic_among_the_routes_is_looked_after_even_when_it_is_refused() {
    for (routed, left) in [(true, 1), (false, 0)] {
        let (mut interests, now) = interests();
        wait(&mut interests, "a", 0, now, 10);
        assert!(matches!(
            interests.failed(&"a".into(), &BrokerError::new(29), routed, now),
            Failed::Final(refused) if refused.len() == 1
        ));
        assert_eq!(interests.topics(now).count(), left);
    }
}

#[test]
fn an_error_for_a_topic_that_nobody_wants_calls_for_nothing() {
    let (mut interests, now) = interests();
    for code in [3, 5, 17, 29] {
        let _ = interests.failed(&"a".into(), &BrokerError::new(code), false, now);
        assert!(interests.by_topic.is_empty());
    }
}

#[test]
fn a_topic_that_is_found_serves_all_who_wait_and_stays() {
    let (mut interests, now) = interests();
    for ticket in 0..3 {
        wait(&mut interests, "a", ticket, now, 10);
    }
    glance(&mut interests, "a", now, 10);
    let ready = found(&mut interests, &"a".into(), Gap::Nothing, now);
    assert_eq!(ready, [0, 1, 2]);
    assert_eq!(interests.next_ask(now), (false, None));
    assert_eq!(interests.next_deadline(), None);
    // Those who wanted this one gave up before the broker answered.
    assert_eq!(
        found(&mut interests, &"b".into(), Gap::Nothing, now).len(),
        0
    );
    assert_eq!(topics(&interests), ["a", "b"]);
}

#[test]
fn a_topic_that_was_known_once_outlives_its_waiters() {
    let (mut interests, now) = interests();
    for topic in ["known", "never was"] {
        wait(&mut interests, topic, 0, now, 1);
    }
    let refused = interests.expire(now + SECOND, |_| false, |topic| topic == "known");
    assert_eq!(refused.len(), 2);
    assert_eq!(topics(&interests), ["known"]);
}

#[test]
fn an_answer_that_finds_the_topic_leaves_no_former_trouble_behind() {
    let (mut interests, now) = interests();
    wait(&mut interests, "a", 0, now, 1);
    drop(interests.failed(&"a".into(), &BrokerError::new(5), false, now));
    assert_eq!(
        found(&mut interests, &"a".into(), Gap::Nothing, now).len(),
        1
    );
    // It is not among the routes all the same.
    wait(&mut interests, "a", 1, now, 1);
    let refused = interests.expire(now + SECOND, |_| false, |_| false);
    let [(1, TopicRefusal::Unknown { why, error, .. })] = &refused[..] else {
        panic!("{refused:?}");
    };
    assert!(why.contains("no answer yet"), "{why}");
    assert_eq!(*error, None);
}

/// When the only topic is asked for again.
fn again(interests: &Interests<u32>, now: Instant) -> Duration {
    let (new, again) = interests.next_ask(now);
    assert!(!new);
    again.expect("open") - now
}

#[test]
fn what_nobody_waits_for_is_asked_for_less_and_less() {
    let (mut interests, mut now) = interests();
    let mut requests = 0;
    let end = now + SECOND * 600;
    while now < end {
        found(&mut interests, &"a".into(), Gap::Idle, now);
        now += again(&interests, now);
        requests += 1;
    }
    assert!((8..=16).contains(&requests), "{requests} in 10 minutes");
    for _ in 0..20 {
        found(&mut interests, &"a".into(), Gap::Waited, now);
        assert!(again(&interests, now) <= SECOND);
    }
    found(&mut interests, &"a".into(), Gap::Nothing, now);
    assert_eq!(interests.next_ask(now), (false, None));
    found(&mut interests, &"a".into(), Gap::Idle, now);
    assert!(again(&interests, now) <= MIN.mul_f64(1.2), "from the start");
}

#[test]
fn who_asks_again_at_once_for_what_cannot_be_had_has_to_wait() {
    // Not there, and not allowed.
    for code in [3, 29] {
        let (mut interests, mut now) = interests();
        let end = now + SECOND * 10;
        let mut requests = 0;
        while now < end {
            wait(&mut interests, "a", 0, now, 0);
            let (new, again) = interests.next_ask(now);
            if new || again.is_some_and(|at| at <= now) {
                requests += 1;
                drop(interests.failed(&"a".into(), &BrokerError::new(code), false, now));
            }
            drop(expire(&mut interests, now));
            now += Duration::from_millis(1);
        }
        assert!((5..=20).contains(&requests), "{requests} requests in 10 s");
        drop(expire(&mut interests, now + 3 * SECOND));
        assert!(interests.by_topic.is_empty(), "nothing stays");
    }
}

#[test]
fn a_topic_is_idle_once_nobody_has_sent_to_it_for_long_enough() {
    let (mut interests, start) = interests();
    for topic in ["idle", "used"] {
        assert_eq!(
            found(&mut interests, &topic.into(), Gap::Nothing, start).len(),
            0
        );
    }
    for fifths in 1..=10 {
        let now = start + MAX_IDLE / 5 * fifths;
        let idle = interests.forget_idle(now, MAX_IDLE, |topic| topic == "used");
        let expected = if fifths == 5 {
            &["idle".into()][..]
        } else {
            &[]
        };
        assert_eq!(idle, *expected, "after {fifths} fifths of the time");
    }
    assert_eq!(topics(&interests), ["used"]);
}

#[test]
fn a_topic_that_somebody_wants_is_never_idle() {
    let (mut interests, now) = interests();
    wait(&mut interests, "awaited", 0, now, 1);
    glance(&mut interests, "glanced at", now, 1000);
    let later = now + MAX_IDLE * 2;
    assert!(interests.forget_idle(later, MAX_IDLE, |_| false).is_empty());
    let later = now + SECOND * 1000;
    let idle = interests.forget_idle(later, MAX_IDLE, |_| false);
    assert_eq!(*idle, ["glanced at".into()]);
}

#[test]
fn a_close_lets_go_of_everybody() {
    let (mut interests, now) = interests();
    for (topic, ticket) in [("a", 0), ("b", 1), ("a", 2)] {
        wait(&mut interests, topic, ticket, now, 10);
    }
    assert_eq!(interests.close(), [0, 2, 1]);
    assert!(interests.close().is_empty());
}

/// How many callers are asked whether they still wait, while the time of so many runs out, one by one.
fn asked(many: u32) -> usize {
    let (mut interests, start) = interests();
    for caller in 0..many {
        wait(&mut interests, "a", caller, start, caller + 1);
    }
    let asked = std::cell::Cell::new(0);
    let stays = |_: &u32| {
        asked.set(asked.get() + 1);
        false
    };
    for caller in 0..many {
        let at = start + SECOND * (caller + 1);
        assert_eq!(interests.next_deadline(), Some(at));
        let refused = interests.expire(at, stays, |_| false);
        assert_eq!(refused.len(), 1);
        assert_eq!(refused[0].0, caller);
    }
    asked.get()
}

#[test]
fn four_times_as_many_who_wait_for_a_topic_cost_four_times_as_much() {
    let (some, more) = (asked(500), asked(2_000));
    assert!(more < 6 * some, "{more} are asked instead of {some}");
}

#[test]
fn who_left_is_forgotten_soon_however_many_wait() {
    let (mut interests, now) = interests();
    for caller in 0..1_000 {
        wait(&mut interests, "a", caller, now, 60);
    }
    for _ in 0..1_000 / ASKED + 1 {
        let refused = interests.expire(now, |_| true, |_| false);
        assert!(refused.is_empty());
    }
    assert!(!interests.any(now));
}

/// It was deleted, and asked for less and less, since nobody sent to it.
#[test]
fn who_comes_to_a_topic_that_nobody_waited_for_has_it_asked_for_soon() {
    let (mut interests, mut now) = interests();
    let topic: Arc<str> = "a".into();
    assert!(found(&mut interests, &topic, Gap::Nothing, now).is_empty());
    for _ in 0..20 {
        let failed = interests.failed(&topic, &BrokerError::new(3), false, now);
        assert_eq!(failed, Failed::AskAgain);
        let (_, again) = interests.next_ask(now);
        now = again.expect("it is asked for again");
    }
    assert_eq!(
        interests.failed(&topic, &BrokerError::new(3), false, now),
        Failed::AskAgain
    );
    let again = |interests: &Interests<u32>| interests.next_ask(now).1.expect("again") - now;
    assert!(again(&interests) > SECOND * 60);
    wait(&mut interests, "a", 0, now, 60);
    assert_eq!(again(&interests), SECOND);
}
