use uuid::Uuid;

use super::*;
use crate::core::wire::TopicMetadata;
use crate::core::wire::metadata::PartitionInfo;

const MIN: Duration = Duration::from_millis(100);
const SECOND: Duration = Duration::from_secs(1);
const MAX_AGE: Duration = Duration::from_secs(300);
const MAX_IDLE: Duration = Duration::from_secs(600);

fn metadata() -> (ProducerMetadata<u32>, Instant) {
    let now = Instant::now();
    let rules = MetadataRules {
        bootstrap: "broker:9092".to_owned(),
        max_age: MAX_AGE,
        max_idle: MAX_IDLE,
        backoff: (MIN, SECOND),
        seed: 1,
    };
    (ProducerMetadata::new(&rules, now), now)
}

/// Waits for a topic for ten seconds.
fn wait(metadata: &mut ProducerMetadata<u32>, topic: &str, ticket: u32, now: Instant) -> Wanted {
    let wish = Wish {
        asked: now,
        deadline: now + SECOND * 10,
        ticket: Some(ticket),
    };
    metadata.want(topic.into(), wish, now)
}

/// The topics of the request that is due now, if one is.
fn request(metadata: &mut ProducerMetadata<u32>, now: Instant) -> Option<Vec<String>> {
    metadata.next_request(now, |_| false).map(|it| it.topics)
}

fn expire(metadata: &mut ProducerMetadata<u32>, now: Instant) -> Vec<u32> {
    let refused = metadata.expire(now, |_| false, |_| false);
    refused.into_iter().map(|(ticket, _)| ticket).collect()
}

/// What a broker tells of a topic: its name, error code, and the leaders of its partitions.
type Told<'a> = (&'a str, i16, &'a [i32]);

fn response(topics: &[Told]) -> MetadataResponse {
    let partition = |(partition, leader): (i32, &i32)| PartitionInfo {
        error_code: 0,
        partition,
        leader: *leader,
        leader_epoch: 1,
    };
    let topic = |&(name, error_code, leaders): &Told| TopicMetadata {
        error_code,
        name: name.to_owned(),
        id: Uuid::from_u128(1),
        partitions: (0..).zip(leaders).map(partition).collect(),
    };
    MetadataResponse {
        throttle: Duration::ZERO,
        nodes: vec![Node {
            id: 1,
            host: "one".to_owned(),
            port: 9092,
            rack: None,
        }],
        cluster_id: None,
        controller_id: 1,
        topics: topics.iter().map(topic).collect(),
        error_code: 0,
    }
}

fn answer(metadata: &mut ProducerMetadata<u32>, topics: &[Told], now: Instant) -> Effects<u32> {
    metadata.answered(response(topics), now, |_| false)
}

#[test]
fn without_a_topic_nothing_is_asked() {
    let (mut metadata, now) = metadata();
    for hours in 0..10 {
        let now = now + SECOND * 3600 * hours;
        metadata.refresh(now);
        assert_eq!(request(&mut metadata, now), None);
        assert_eq!(metadata.next_wake(), None);
    }
    wait(&mut metadata, "a", 0, now);
    assert!(request(&mut metadata, now).is_some());
}

#[test]
fn a_topic_that_never_was_and_that_nobody_waits_for_costs_nothing() {
    let (mut metadata, mut now) = metadata();
    wait(&mut metadata, "nothing", 7, now);
    let mut requests = 0;
    let refused = loop {
        if request(&mut metadata, now).is_some() {
            requests += 1;
            let effects = answer(&mut metadata, &[("nothing", 3, &[])], now);
            assert!(effects.refused.is_empty());
        }
        now = metadata.next_wake().expect("a deadline");
        let refused = expire(&mut metadata, now);
        if !refused.is_empty() {
            break refused;
        }
    };
    assert_eq!(refused, [7]);
    assert!((8..20).contains(&requests), "{requests} requests in 10 s");
    assert_eq!(metadata.next_wake(), None);
    assert_eq!(request(&mut metadata, now + SECOND * 3600), None);
}

#[test]
fn a_topic_that_is_found_serves_its_waiters_and_is_kept_up_to_date() {
    let (mut metadata, now) = metadata();
    for ticket in 0..3 {
        wait(&mut metadata, "a", ticket, now);
    }
    assert_eq!(
        request(&mut metadata, now).as_deref(),
        Some(&["a".into()][..])
    );
    let effects = answer(&mut metadata, &[("a", 0, &[1, 1])], now);
    assert!(effects.nodes_changed);
    let names: Vec<_> = effects.topics.iter().map(|topic| &*topic.name).collect();
    assert_eq!(names, ["a"]);
    let ready: Vec<_> = effects.ready.iter().map(|(_, ticket)| *ticket).collect();
    assert_eq!(ready, [0, 1, 2]);
    assert_eq!(metadata.next_wake(), Some(now + MAX_AGE));
}

#[test]
fn topics_that_come_up_while_a_request_is_on_its_way_are_asked_for_soon() {
    let (mut metadata, now) = metadata();
    wait(&mut metadata, "a", 0, now);
    assert!(request(&mut metadata, now).is_some());
    assert_eq!(wait(&mut metadata, "b", 1, now), Wanted::Ask);
    assert_eq!(request(&mut metadata, now), None, "one at a time");
    let deadline = now + SECOND * 10;
    assert_eq!(metadata.next_wake(), Some(deadline));
    drop(answer(&mut metadata, &[("a", 0, &[1])], now));
    let next = metadata.next_wake().expect("a request");
    assert!(next <= now + MIN, "{:?}", next - now);
    let expected = ["a", "b"].map(String::from);
    assert_eq!(request(&mut metadata, next).as_deref(), Some(&expected[..]));
}

#[test]
fn what_an_answer_leaves_open_decides_when_the_next_request_is_due() {
    let soon = MIN.mul_f64(1.2);
    let cases: [(Told, bool); 6] = [
        (("a", 0, &[1, 1]), false),
        (("a", 0, &[1, -1]), true), // an election
        (("a", 0, &[]), true),      // being made
        (("a", 3, &[]), true),      // not there
        (("a", 17, &[]), false),
        (("a", 29, &[]), false),
    ];
    for (told, open) in cases {
        let (mut metadata, now) = metadata();
        wait(&mut metadata, "a", 0, now);
        assert!(request(&mut metadata, now).is_some());
        drop(metadata.answered(response(&[told]), now, |_| true));
        let next = metadata.next_wake().expect("a request");
        match open {
            true => assert!(next <= now + soon, "{told:?}"),
            false => assert_eq!(next, now + MAX_AGE, "{told:?}"),
        }
    }
}

#[test]
fn a_topic_refused_for_good_refuses_its_waiters_with_the_answer() {
    for code in [17, 29] {
        let (mut metadata, now) = metadata();
        wait(&mut metadata, "bad", 0, now);
        wait(&mut metadata, "bad", 1, now);
        wait(&mut metadata, "good", 2, now);
        assert!(request(&mut metadata, now).is_some());
        let effects = answer(&mut metadata, &[("bad", code, &[]), ("good", 0, &[1])], now);
        let refused: Vec<_> = effects.refused.iter().map(|(ticket, _)| *ticket).collect();
        assert_eq!(refused, [0, 1]);
        assert_eq!(effects.ready, [("good".into(), 2)]);
        metadata.refresh(now + SECOND);
        let next = request(&mut metadata, now + SECOND);
        assert_eq!(next.as_deref(), Some(&["good".into()][..]));
    }
}

#[test]
fn no_call_has_brokers_asked_more_often_than_the_shortest_backoff() {
    let (mut metadata, start) = metadata();
    wait(&mut metadata, "a", 0, start);
    let (mut last, mut requests) = (None, 0);
    for millis in 0..2000 {
        let now = start + Duration::from_millis(millis);
        metadata.refresh(now);
        if request(&mut metadata, now).is_none() {
            continue;
        }
        let gap = last.replace(now).map_or(MIN, |last| now - last);
        assert!(gap >= MIN, "{gap:?}");
        requests += 1;
        drop(answer(&mut metadata, &[("a", 0, &[1])], now));
    }
    assert_eq!(requests, 20);
}

#[test]
fn an_idle_topic_is_forgotten_and_leaves_the_routes() {
    let (mut metadata, start) = metadata();
    for (topic, ticket) in [("idle", 0), ("used", 1)] {
        wait(&mut metadata, topic, ticket, start);
    }
    assert!(request(&mut metadata, start).is_some());
    let known: [Told; 2] = [("idle", 0, &[1]), ("used", 0, &[1])];
    drop(answer(&mut metadata, &known, start));
    let mut now = metadata.next_wake().expect("a request");
    assert_eq!(now, start + MAX_AGE);
    let was_used = |topic: &str| topic == "used";
    let next = metadata.next_request(now, was_used).expect("one is due");
    assert_eq!(next.topics, ["idle", "used"]);
    assert!(next.forgotten.is_empty());
    drop(answer(&mut metadata, &known, now));
    now = metadata.next_wake().expect("a request");
    assert_eq!(now, start + MAX_IDLE);
    let next = metadata.next_request(now, was_used).expect("one is due");
    assert_eq!(next.topics, ["used"]);
    assert_eq!(next.forgotten, ["idle".into()]);
    assert!(metadata.view().topic("idle").is_none());
    assert!(metadata.view().topic("used").is_some());
}

#[test]
fn a_known_topic_is_asked_for_although_those_who_wanted_it_gave_up() {
    let (mut metadata, now) = metadata();
    wait(&mut metadata, "late", 0, now);
    assert!(request(&mut metadata, now).is_some());
    let now = now + SECOND * 10;
    assert_eq!(expire(&mut metadata, now), [0]);
    let effects = answer(&mut metadata, &[("late", 0, &[1])], now);
    assert!(effects.ready.is_empty());
    assert_eq!(effects.topics.len(), 1);
    let next = request(&mut metadata, now + MAX_AGE);
    assert_eq!(next.as_deref(), Some(&["late".into()][..]));
}

#[test]
fn trouble_is_news_when_it_changes() {
    let (mut metadata, now) = metadata();
    let [refused, silent] = ["connection refused", "no answer"].map(Arc::from);
    for (trouble, news) in [
        (&refused, true),
        (&refused, false),
        (&silent, true),
        (&refused, true),
    ] {
        assert_eq!(metadata.unanswered(trouble, MIN, now), news, "{trouble}");
    }
    drop(answer(&mut metadata, &[], now));
    assert!(metadata.unanswered(&refused, MIN, now));
}

#[test]
fn after_a_failed_request_the_next_broker_is_asked_when_its_delay_is_over() {
    for delay in [Duration::ZERO, MIN, SECOND] {
        let (mut metadata, now) = metadata();
        wait(&mut metadata, "a", 0, now);
        assert!(request(&mut metadata, now).is_some());
        metadata.unanswered(&"connection refused".into(), delay, now);
        metadata.refresh(now);
        assert_eq!(metadata.next_wake(), Some(now + delay));
        assert!(request(&mut metadata, now + delay).is_some());
    }
}

#[test]
fn a_lost_request_is_asked_anew() {
    let (mut metadata, now) = metadata();
    wait(&mut metadata, "a", 0, now);
    assert!(request(&mut metadata, now).is_some());
    assert_eq!(request(&mut metadata, now + SECOND), None);
    metadata.request_lost(now + SECOND);
    assert!(request(&mut metadata, now + SECOND).is_some());
}

#[test]
fn a_new_leader_is_news_once() {
    let (mut metadata, now) = metadata();
    drop(answer(&mut metadata, &[("a", 0, &[-1])], now));
    let hint = LeaderHint {
        node_id: 1,
        epoch: 2,
    };
    let at = TopicPartition::new("a", 0);
    for news in [true, false] {
        let view = metadata.leader_moved(&at, hint, &[]);
        assert_eq!(view.is_some(), news);
    }
}
