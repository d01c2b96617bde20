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
        principal: None,
        max_age: MAX_AGE,
        max_idle: MAX_IDLE,
        backoff: (MIN, SECOND),
        seed: 1,
    };
    (ProducerMetadata::new(&rules, now), now)
}

/// Waits for a topic for ten seconds.
fn wait(metadata: &mut ProducerMetadata<u32>, topic: &str, ticket: u32, now: Instant) -> Wanted {
    wish(metadata, topic, None, Some(ticket), now)
}

/// Wants a topic, with a partition if one is named, for ten seconds.
fn wish(
    metadata: &mut ProducerMetadata<u32>,
    topic: &str,
    partition: Option<i32>,
    ticket: Option<u32>,
    now: Instant,
) -> Wanted {
    let wish = Wish {
        partition,
        asked: now,
        deadline: now + SECOND * 10,
        ticket,
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
        replicas: 3,
        in_sync: 3,
    };
    let topic = |&(name, error_code, leaders): &Told| TopicMetadata {
        error_code,
        name: name.to_owned(),
        id: Uuid::from_u128(1),
        partitions: (0..).zip(leaders).map(partition).collect(),
        operations: None,
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

/// What the rest of the producer knows, the same of every topic.
#[derive(Default)]
struct Uses {
    routed: bool,
    waits: bool,
}

impl TopicUse for Uses {
    fn is_routed(&self, _: &str) -> bool {
        self.routed
    }

    fn waits_for_leader(&self, _: &str, _: usize) -> bool {
        self.waits
    }
}

fn answer(metadata: &mut ProducerMetadata<u32>, topics: &[Told], now: Instant) -> Effects<u32> {
    metadata.answered(response(topics), None, now, &Uses::default())
}

#[test]
fn without_a_topic_nothing_is_asked() {
    let (mut metadata, now) = metadata();
    for hours in 0..10 {
        let now = now + SECOND * 3600 * hours;
        metadata.refresh(now);
        assert_eq!(request(&mut metadata, now), None);
        assert_eq!(metadata.next_wake(now), None);
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
        now = metadata.next_wake(now).expect("a deadline");
        let refused = expire(&mut metadata, now);
        if !refused.is_empty() {
            break refused;
        }
    };
    assert_eq!(refused, [7]);
    assert!((8..20).contains(&requests), "{requests} requests in 10 s");
    assert_eq!(metadata.next_wake(now), None);
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
    assert_eq!(metadata.next_wake(now), Some(now + MAX_AGE));
}

#[test]
fn topics_that_come_up_while_a_request_is_on_its_way_are_asked_for_after_it() {
    let (mut metadata, now) = metadata();
    wait(&mut metadata, "a", 0, now);
    assert!(request(&mut metadata, now).is_some());
    for topic in ["b", "c"] {
        // So nobody has to look at all the others for each of them.
        let until = Wanted::Until(now + SECOND * 10);
        assert_eq!(wait(&mut metadata, topic, 1, now), until);
        assert_eq!(request(&mut metadata, now), None, "one at a time");
    }
    let glance = wish(&mut metadata, "b", None, None, now);
    assert_eq!(glance, Wanted::Again);
    let deadline = now + SECOND * 10;
    assert_eq!(metadata.next_wake(now), Some(deadline));
    drop(answer(&mut metadata, &[("a", 0, &[1])], now));
    assert_eq!(metadata.next_wake(now), Some(now), "at once");
    let expected = ["b", "c"].map(String::from);
    assert_eq!(request(&mut metadata, now).as_deref(), Some(&expected[..]));
}

#[test]
fn a_topic_that_is_not_there_does_not_hold_new_ones_up_nor_is_it_asked_for_with_them() {
    let (mut metadata, now) = metadata();
    wait(&mut metadata, "none", 0, now);
    assert!(request(&mut metadata, now).is_some());
    drop(answer(&mut metadata, &[("none", 3, &[])], now));
    assert_eq!(request(&mut metadata, now), None);
    for topic in ["a", "b"] {
        wait(&mut metadata, topic, 1, now);
        assert_eq!(
            request(&mut metadata, now).as_deref(),
            Some(&[topic.to_owned()][..])
        );
        drop(answer(&mut metadata, &[(topic, 0, &[1])], now));
    }
    let next = metadata.next_wake(now).expect("a request");
    assert!(next <= now + MIN.mul_f64(1.21), "{:?}", next - now);
    let again = metadata.next_request(next, |_| false).expect("due");
    assert_eq!(again.topics, ["none"]);
    assert!(!again.elsewhere, "it was new");
    drop(answer(&mut metadata, &[("none", 3, &[])], next));
    let next = metadata.next_wake(next).expect("a request");
    let again = metadata.next_request(next, |_| false).expect("due");
    assert_eq!(again.topics, ["none"]);
    assert!(again.elsewhere, "another broker may know it");
}

/// The broker may be cut off from the controller, and whoever asks may never wait for long.
#[test]
fn a_topic_that_is_asked_for_again_and_again_for_a_moment_is_asked_of_another_broker() {
    for ticket in [None, Some(0)] {
        let (mut metadata, mut now) = metadata();
        let mut requests = Vec::new();
        for _ in 0..10 {
            let wish = Wish {
                partition: None,
                asked: now,
                deadline: now + MIN / 2,
                ticket,
            };
            metadata.want("a".into(), wish, now);
            if let Some(request) = metadata.next_request(now, |_| false) {
                requests.push(request.elsewhere);
                drop(answer(&mut metadata, &[("a", 3, &[])], now));
            }
            drop(expire(&mut metadata, now + 2 * MIN));
            now += 2 * MIN;
        }
        assert!(
            requests[2..].iter().all(|elsewhere| *elsewhere),
            "{requests:?}"
        );
        assert!(requests.len() > 3, "{requests:?}");
    }
}

#[test]
fn a_failure_that_brings_no_news_has_another_broker_asked() {
    let (mut metadata, now) = metadata();
    wait(&mut metadata, "a", 0, now);
    assert!(request(&mut metadata, now).is_some());
    drop(answer(&mut metadata, &[("a", 0, &[1, 1])], now));
    let mut ask = |now, told: &[Told]| {
        metadata.refresh(now);
        let at = metadata.next_wake(now).expect("due");
        let request = metadata.next_request(at, |_| false).expect("due");
        let effects = metadata.answered(response(told), None, at, &Uses::default());
        assert_eq!(effects.topics.len(), told.len());
        (request.elsewhere, at)
    };
    let same: [Told; 1] = [("a", 0, &[1, 1])];
    let (elsewhere, at) = ask(now + SECOND, &same);
    assert!(!elsewhere);
    let (elsewhere, at) = ask(at, &[]);
    assert!(elsewhere);
    let (elsewhere, at) = ask(at, &[("a", 0, &[1, -1])]);
    assert!(elsewhere, "an answer without the topic is no news");
    let (elsewhere, _) = ask(at, &same);
    assert!(!elsewhere);
}

#[test]
fn what_nobody_asked_for_is_ignored() {
    let (mut metadata, now) = metadata();
    wait(&mut metadata, "a", 0, now);
    assert!(request(&mut metadata, now).is_some());
    let effects = answer(
        &mut metadata,
        &[("a", 0, &[1]), ("b", 0, &[1]), ("c", 29, &[])],
        now,
    );
    assert_eq!(effects.topics.len(), 1);
    assert!(effects.denied.is_empty());
    assert!(metadata.view().topic("b").is_none());
    assert_eq!(
        request(&mut metadata, now + MAX_AGE).as_deref(),
        Some(&["a".into()][..])
    );
}

#[test]
fn an_answer_that_leaves_a_topic_out_has_it_asked_for_again_later() {
    let (mut metadata, mut now) = metadata();
    let start = now;
    wait(&mut metadata, "a", 7, now);
    for _ in 0..4 {
        assert!(request(&mut metadata, now).is_some());
        drop(answer(&mut metadata, &[], now));
        let next = metadata.next_wake(now).expect("a request");
        assert!(next >= now + MIN.mul_f64(0.79));
        now = next;
    }
    let refused = metadata.expire(start + SECOND * 10, |_| false, |_| false);
    let (_, TopicRefusal::Unknown { why, .. }) = &refused[0] else {
        panic!("{refused:?}");
    };
    assert!(why.contains("left the topic out"), "{why}");
}

#[test]
fn more_partitions_than_a_producer_takes_are_refused() {
    let (mut metadata, mut now) = metadata();
    let many = vec![1; MOST_PARTITIONS - 10];
    for (topic, leaders, fits) in [
        ("a", &many[..], true),
        ("b", &many[..11], false),
        ("b", &many[..10], true),
    ] {
        now += SECOND;
        wait(&mut metadata, topic, 1, now);
        assert!(request(&mut metadata, now).is_some());
        let effects = answer(&mut metadata, &[(topic, 0, leaders)], now);
        assert_eq!(effects.ready.len(), usize::from(fits), "{topic}");
        let refused = TopicRefusal::TooManyPartitions {
            topic: topic.into(),
            partitions: leaders.len(),
            limit: MOST_PARTITIONS,
        };
        let expected = if fits { vec![] } else { vec![(1, refused)] };
        assert_eq!(effects.refused, expected);
    }
    // One that is known stays as it was.
    metadata.refresh(now + SECOND);
    assert!(request(&mut metadata, now + SECOND).is_some());
    let uses = Uses {
        routed: true,
        ..Uses::default()
    };
    drop(metadata.answered(
        response(&[("a", 0, &many), ("b", 0, &many[..11])]),
        None,
        now,
        &uses,
    ));
    let count = metadata.view().topic("b").map(|topic| topic.leaders.len());
    assert_eq!(count, Some(10));
}

#[test]
fn when_the_last_topic_turns_out_idle_nothing_is_asked() {
    let (mut metadata, now) = metadata();
    wait(&mut metadata, "a", 0, now);
    assert!(request(&mut metadata, now).is_some());
    drop(answer(&mut metadata, &[("a", 0, &[1])], now));
    let later = now + MAX_IDLE;
    let request = metadata.next_request(later, |_| false).expect("due");
    assert_eq!(request.forgotten, ["a".into()]);
    assert!(request.topics.is_empty());
    assert_eq!(metadata.next_wake(later), None);
    wait(&mut metadata, "b", 0, later);
    let request = metadata.next_request(later, |_| false).expect("at once");
    assert_eq!(request.topics, ["b"]);
}

#[test]
fn a_partition_without_a_leader_is_asked_for_often_only_while_batches_wait() {
    for (waits, expected) in [(false, 5..20), (true, 500..900)] {
        let (mut metadata, mut now) = metadata();
        wait(&mut metadata, "a", 0, now);
        let end = now + SECOND * 600;
        let mut requests = 0;
        while now < end {
            let request = metadata.next_request(now, |_| true).expect("due");
            assert_eq!(request.topics, ["a"]);
            requests += 1;
            let uses = Uses {
                waits,
                ..Uses::default()
            };
            let told: [Told; 1] = [("a", 0, &[1, -1])];
            drop(metadata.answered(response(&told), None, now, &uses));
            now = metadata.next_wake(now).expect("a request");
        }
        assert!(expected.contains(&requests), "{requests} in 10 minutes");
    }
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
        let uses = Uses {
            routed: true,
            ..Uses::default()
        };
        drop(metadata.answered(response(&[told]), None, now, &uses));
        let next = metadata.next_wake(now).expect("a request");
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
fn calls_that_bring_no_news_have_brokers_asked_less_and_less() {
    let (mut metadata, start) = metadata();
    wait(&mut metadata, "a", 0, start);
    let mut times = Vec::new();
    for millis in 0..2000 {
        let now = start + Duration::from_millis(millis);
        metadata.refresh(now);
        if request(&mut metadata, now).is_some() {
            times.push(millis);
            drop(answer(&mut metadata, &[("a", 0, &[1])], now));
        }
    }
    // The first answer is news. After the second, another broker is asked at once.
    assert_eq!(times.remove(2), times[1] + 1);
    let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
    assert!(gaps.clone().all(|gap| gap >= 79), "{times:?}");
    assert!((4..8).contains(&times.len()), "{times:?}");
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
    let mut now = metadata.next_wake(start).expect("a request");
    assert_eq!(now, start + MAX_AGE);
    let was_used = |topic: &str| topic == "used";
    let next = metadata.next_request(now, was_used).expect("one is due");
    assert_eq!(next.topics, ["idle", "used"]);
    assert!(next.forgotten.is_empty());
    drop(answer(&mut metadata, &known, now));
    now = metadata.next_wake(now).expect("a request");
    assert_eq!(now, start + MAX_IDLE);
    let next = metadata.next_request(now, was_used).expect("one is due");
    assert_eq!(next.topics, ["used"]);
    assert_eq!(next.forgotten, ["idle".into()]);
    assert!(metadata.view().topic("idle").is_none());
    assert!(metadata.view().topic("used").is_some());
}

/// Has the brokers, by turns, say of a topic that is routed what these codes say. Returns whether it was
/// taken for deleted after each.
fn told_of_a_known_topic(codes: &[Option<i16>]) -> Vec<bool> {
    let (mut metadata, mut now) = metadata();
    let two = |topics: &[Told]| {
        let mut response = response(topics);
        let mut second = response.nodes[0].clone();
        (second.id, second.host) = (2, "two".to_owned());
        response.nodes.push(second);
        response
    };
    let uses = Uses {
        routed: true,
        ..Uses::default()
    };
    wait(&mut metadata, "a", 0, now);
    assert!(request(&mut metadata, now).is_some());
    drop(metadata.answered(two(&[("a", 0, &[1])]), None, now, &uses));
    let codes = codes.iter().zip(["one", "two"].into_iter().cycle());
    let gone = codes.map(|(code, host)| {
        now += SECOND * 10;
        metadata.refresh(now);
        assert!(request(&mut metadata, now).is_some());
        let broker = Endpoint::new(host, 9092);
        let told: Vec<Told> = code.iter().map(|code| ("a", *code, &[][..])).collect();
        let effects = metadata.answered(two(&told), Some(&broker), now, &uses);
        !effects.gone.is_empty()
    });
    gone.collect()
}

#[test]
fn only_answers_in_a_row_say_that_a_topic_was_deleted() {
    const LEFT_OUT: Option<i16> = None;
    for (codes, gone) in [
        (&[Some(3), Some(3), Some(3)][..], &[false, false, true][..]),
        (&[Some(3), Some(5), Some(3), Some(3)], &[false; 4]),
        (&[Some(3), Some(3), Some(5), Some(3)], &[false; 4]),
        (&[Some(3), Some(3), LEFT_OUT, Some(3)], &[false; 4]),
        (&[Some(3), Some(3), Some(29), Some(3)], &[false; 4]),
    ] {
        assert_eq!(told_of_a_known_topic(codes), gone, "{codes:?}");
    }
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
fn trouble_is_told_once_though_brokers_fail_by_turns() {
    let (mut metadata, now) = metadata();
    let [refused, silent] = ["connection refused", "no answer"].map(Arc::from);
    for (trouble, told) in [
        (&refused, true),
        (&refused, false),
        (&silent, true),
        (&refused, false),
        (&silent, false),
    ] {
        let unanswered = metadata.unanswered(trouble, MIN, now);
        assert_eq!(unanswered.is_some(), told, "{trouble}");
    }
}

#[test]
fn after_a_failed_request_the_next_broker_is_asked_when_its_delay_is_over() {
    for delay in [Duration::ZERO, MIN, SECOND] {
        let (mut metadata, now) = metadata();
        wait(&mut metadata, "a", 0, now);
        assert!(request(&mut metadata, now).is_some());
        metadata.unanswered(&"connection refused".into(), delay, now);
        metadata.refresh(now);
        assert_eq!(metadata.next_wake(now), Some(now + delay));
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
    wait(&mut metadata, "a", 0, now);
    assert!(request(&mut metadata, now).is_some());
    drop(answer(&mut metadata, &[("a", 0, &[-1])], now));
    let hint = LeaderHint {
        node_id: 1,
        epoch: 2,
    };
    let (at, id) = (TopicPartition::new("a", 0), Uuid::from_u128(1));
    for news in [true, false] {
        let view = metadata.leader_moved(&at, id, hint, &[]);
        assert_eq!(view.map(|(_, moved)| moved), news.then_some(false));
    }
    // A leader that nobody has heard of yet.
    let hint = LeaderHint {
        node_id: 2,
        epoch: 3,
    };
    let node = Node {
        id: 2,
        host: "two".to_owned(),
        port: 9092,
        rack: None,
    };
    let view = metadata.leader_moved(&at, id, hint, &[node]);
    assert!(view.expect("news").1, "a new broker");
    assert!(metadata.view().nodes().by_id.contains_key(&2));
}

/// Of the callers: who has what it waits for, and who is refused a partition, with the count it is told.
fn told(effects: &Effects<u32>) -> (Vec<u32>, Vec<(u32, usize)>) {
    let refused = effects.refused.iter().map(|(ticket, refusal)| {
        let TopicRefusal::OutOfRange { count, .. } = refusal else {
            panic!("{refusal:?}");
        };
        (*ticket, *count)
    });
    let ready = effects.ready.iter().map(|(_, ticket)| *ticket);
    (ready.collect(), refused.collect())
}

#[test]
fn only_an_answer_that_was_asked_for_after_the_call_denies_a_partition() {
    let (mut metadata, now) = metadata();
    wait(&mut metadata, "a", 0, now);
    assert_eq!(request(&mut metadata, now), Some(vec!["a".to_owned()]));
    // They come while the request is on its way. The broker may have read it before the topic grew.
    wish(&mut metadata, "a", Some(0), Some(1), now);
    wish(&mut metadata, "a", Some(1), Some(2), now);
    wish(&mut metadata, "a", Some(2), Some(3), now);
    let effects = answer(&mut metadata, &[("a", 0, &[1])], now);
    assert_eq!(told(&effects), (vec![0, 1], vec![]));
    // As soon as it may be, and for nobody alone.
    assert_eq!(request(&mut metadata, now), Some(vec!["a".to_owned()]));
    let effects = answer(&mut metadata, &[("a", 0, &[1, 1])], now);
    assert_eq!(told(&effects), (vec![2], vec![(3, 2)]));
    assert!(effects.denied.is_empty());
    assert_eq!(request(&mut metadata, now), None);
}

#[test]
fn all_who_name_absent_partitions_share_one_request_in_each_backoff() {
    let (mut metadata, start) = metadata();
    wait(&mut metadata, "a", 0, start);
    let (mut times, mut refused) = (Vec::new(), 0);
    for millis in 0..1000 {
        let now = start + Duration::from_millis(millis);
        wish(&mut metadata, "a", Some(7), Some(1), now);
        if request(&mut metadata, now).is_some() {
            times.push(millis);
            let effects = answer(&mut metadata, &[("a", 0, &[1])], now);
            refused += told(&effects).1.len();
        }
    }
    assert_eq!(times[..2], [0, 1]);
    let gaps = times[1..].windows(2).map(|pair| pair[1] - pair[0]);
    assert!(gaps.clone().all(|gap| gap >= 100), "{times:?}");
    assert!((900..=1000).contains(&refused), "{refused}");
}

#[test]
fn a_caller_that_does_not_wait_is_denied_a_partition_by_an_answer_asked_for_after_it() {
    let (mut metadata, now) = metadata();
    wait(&mut metadata, "a", 0, now);
    assert!(request(&mut metadata, now).is_some());
    assert_eq!(wish(&mut metadata, "a", Some(3), None, now), Wanted::Again);
    assert!(
        answer(&mut metadata, &[("a", 0, &[1])], now)
            .denied
            .is_empty()
    );
    assert!(request(&mut metadata, now).is_some());
    let denied = answer(&mut metadata, &[("a", 0, &[1])], now).denied;
    assert_eq!(denied, [("a".into(), Denial::Partitions(1))]);
    assert_eq!(
        request(&mut metadata, now),
        None,
        "nobody wants it any more"
    );
}

#[test]
fn who_names_a_partition_in_vain_hears_why_no_broker_could_be_asked() {
    let (mut metadata, now) = metadata();
    wait(&mut metadata, "a", 0, now);
    assert!(request(&mut metadata, now).is_some());
    drop(answer(&mut metadata, &[("a", 0, &[1])], now));
    wish(&mut metadata, "a", Some(1), Some(1), now);
    assert!(request(&mut metadata, now).is_some());
    let _ = metadata.unanswered(&"all are down".into(), SECOND, now);
    let refused = metadata.expire(now + SECOND * 10, |_| false, |_| true);
    let [(1, TopicRefusal::Unknown { why, .. })] = &refused[..] else {
        panic!("{refused:?}");
    };
    assert_eq!(&**why, "whether it has a partition 1 by now: all are down");
}

#[test]
fn a_caller_for_whom_no_broker_could_be_asked_hears_what_was_in_the_way() {
    let (mut metadata, now) = metadata();
    wait(&mut metadata, "early", 1, now);
    assert!(metadata.next_request(now, |_| false).is_some());
    let why: Arc<str> = "the login is refused".into();
    let _ = metadata.unanswered(&why, SECOND * 20, now);
    // Until its time is over nobody is asked again.
    wait(&mut metadata, "late", 2, now + SECOND);
    let refused = metadata.expire(now + SECOND * 11, |_| false, |_| false);
    assert_eq!(refused.len(), 2);
    for (_, refusal) in refused {
        let TopicRefusal::Unknown { why: told, .. } = refusal else {
            panic!("{refusal:?}");
        };
        assert_eq!(told, why);
    }
}
