use super::*;

const SECOND: Duration = Duration::from_secs(1);
const MAX_IDLE: Duration = Duration::from_secs(300);

fn interests() -> (Interests<u32>, Instant) {
    (Interests::new("broker:9092"), Instant::now())
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
        asked: now,
        deadline: now + SECOND * seconds,
        ticket: Some(ticket),
    };
    interests.want(topic.into(), wish, now)
}

/// Asks for `topic` without waiting.
fn glance(interests: &mut Interests<u32>, topic: &str, now: Instant, seconds: u32) -> Wanted {
    let wish = Wish {
        asked: now,
        deadline: now + SECOND * seconds,
        ticket: None,
    };
    interests.want(topic.into(), wish, now)
}

fn expire(interests: &mut Interests<u32>, now: Instant) -> Vec<u32> {
    let refused = interests.expire(now, |_| false, |_| false);
    refused.into_iter().map(|(ticket, _)| ticket).collect()
}

fn topics(interests: &Interests<u32>) -> Vec<&str> {
    interests.topics().map(|topic| &**topic).collect()
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
        assert!(interests.any_wanted(now));
        assert_eq!(expire(&mut interests, now), []);
        assert_eq!(topics(&interests), ["a"]);
    }
    let now = now + SECOND * 10;
    assert!(!interests.any_wanted(now));
    assert_eq!(expire(&mut interests, now), []);
    assert!(interests.is_empty());
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
        assert_eq!(expire(&mut interests, early), []);
        assert_eq!(expire(&mut interests, deadline), [seconds]);
    }
    assert_eq!(interests.next_deadline(), None);
    assert!(interests.is_empty());
}

#[test]
fn a_waiter_that_has_gone_is_forgotten_before_its_deadline() {
    let (mut interests, now) = interests();
    for ticket in 0..4 {
        wait(&mut interests, "a", ticket, now, 10);
    }
    let refused = interests.expire(now, |ticket| ticket % 2 == 0, |_| false);
    let gone: Vec<_> = refused.iter().map(|(ticket, _)| *ticket).collect();
    assert_eq!(gone, [0, 2]);
    let left: Vec<_> = interests.found(&"a".into(), now).collect();
    assert_eq!(left, [1, 3]);
}

#[test]
fn who_waits_in_vain_hears_of_the_last_trouble() {
    let refused: Arc<str> = "connection refused".into();
    let leaderless = BrokerError::new(5);
    let words: Arc<str> = format!("the broker answered {leaderless}").into();
    let tell = |interests: &mut Interests<u32>, trouble| match trouble {
        "refused" => interests.unanswered(&refused),
        "answer" => drop(interests.failed(&"a".into(), 5, false)),
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
            tell(&mut interests, trouble);
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
        let failed = interests.failed(&"a".into(), code, false);
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
        assert_eq!(topics(&interests), ["b"]);
    }
}

#[test]
fn a_topic_among_the_routes_is_looked_after_even_when_it_is_refused() {
    for (routed, left) in [(true, &["a"][..]), (false, &[])] {
        let (mut interests, now) = interests();
        wait(&mut interests, "a", 0, now, 10);
        assert!(matches!(
            interests.failed(&"a".into(), 29, routed),
            Failed::Final(refused) if refused.len() == 1
        ));
        assert_eq!(topics(&interests), left);
    }
}

#[test]
fn an_error_for_a_topic_that_nobody_wants_calls_for_nothing() {
    let (mut interests, _) = interests();
    for code in [3, 5, 17, 29] {
        let failed = interests.failed(&"a".into(), code, false);
        assert_eq!(failed, Failed::Final(Vec::new()));
        assert!(interests.is_empty());
    }
}

#[test]
fn a_topic_that_is_found_serves_all_who_wait_and_stays() {
    let (mut interests, now) = interests();
    for ticket in 0..3 {
        wait(&mut interests, "a", ticket, now, 10);
    }
    glance(&mut interests, "a", now, 10);
    let ready: Vec<_> = interests.found(&"a".into(), now).collect();
    assert_eq!(ready, [0, 1, 2]);
    assert!(!interests.any_wanted(now));
    assert_eq!(interests.next_deadline(), None);
    // Those who wanted this one gave up before the broker answered.
    assert_eq!(interests.found(&"b".into(), now).count(), 0);
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
fn a_topic_is_idle_once_nobody_has_sent_to_it_for_long_enough() {
    let (mut interests, start) = interests();
    for topic in ["idle", "used"] {
        assert_eq!(interests.found(&topic.into(), start).count(), 0);
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
    assert_eq!(interests.close(), []);
}
