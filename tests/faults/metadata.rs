//! Which metadata are asked for, of whom, and how often.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use forebay::SendError;
use kafka_protocol::messages::{ApiKey, MetadataResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use crate::scripted::{Answer, Reply, Scripted, Twist, node};
use crate::*;

const PRODUCE: i16 = 12;

/// A `retry.backoff.ms`.
const QUICK: &str = "5";

/// Changes what a broker answers to metadata requests, told how many came before.
fn tells(change: impl Fn(usize, &mut MetadataResponse) + Send + Sync + 'static) -> Twist {
    Twist::answering(move |before, answer| {
        if let Answer::Metadata(metadata) = answer {
            change(before, metadata);
        }
    })
}

/// Names the leader of every partition, and the brokers there are.
fn lead(metadata: &mut MetadataResponse, leader: i32, epoch: i32, ports: &[u16]) {
    metadata.brokers = (0..).zip(ports).map(|(id, port)| node(id, *port)).collect();
    let topics = metadata.topics.iter_mut();
    for partition in topics.flat_map(|topic| &mut topic.partitions) {
        partition.leader_id = leader.into();
        partition.leader_epoch = epoch;
    }
}

fn start(servers: &str, keys: &[(&str, &str)]) -> Producer {
    Producer::start(config(servers, keys)).expect("a producer")
}

/// A port where nothing listens.
fn closed_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound").port()
}

#[tokio::test]
async fn new_topics_are_asked_for_at_once_and_alone() {
    let broker = Scripted::start(PRODUCE, Twist::default()).await;
    // Nobody could wait that long for each of them.
    let keys = [
        ("retry.backoff.ms", "50000"),
        ("retry.backoff.max.ms", "50000"),
    ];
    let producer = start(&broker.servers(), &keys);
    let names: Vec<_> = (0..200).map(|number| format!("t{number}")).collect();
    for name in &names {
        let partitions = within(producer.partitions_for(name.as_str())).await;
        assert_eq!(partitions.expect("known").len(), 2);
    }
    let alone: Vec<_> = names.into_iter().map(|name| vec![name]).collect();
    assert_eq!(broker.asked(), alone);
}

#[tokio::test]
async fn new_topics_that_come_up_together_are_asked_for_together() {
    let broker = Scripted::start(PRODUCE, Twist::default()).await;
    let producer = start(
        &broker.servers(),
        &[
            ("retry.backoff.ms", "50000"),
            ("retry.backoff.max.ms", "50000"),
        ],
    );
    within(producer.partitions_for("t")).await.expect("known");
    let names: Vec<_> = (0..50).map(|number| format!("t{number}")).collect();
    let each = names
        .iter()
        .map(|name| producer.partitions_for(name.as_str()));
    for known in within(futures_util::future::join_all(each)).await {
        known.expect("known");
    }
    let asked = broker.asked();
    assert!(asked.len() <= 4, "{} requests", asked.len());
    let mut names_asked: Vec<_> = asked.into_iter().flatten().collect();
    names_asked.sort();
    let mut names: Vec<_> = names.into_iter().chain(["t".to_owned()]).collect();
    names.sort();
    assert_eq!(names_asked, names, "each once");
}

/// What the broker that is cut off from the controller does with a produce request.
#[derive(Debug, Clone, Copy)]
enum Deed {
    Answers(i16),
    Hangs,
}

/// A broker that still believes that it leads, and says so.
fn cut_off(ports: &Arc<OnceLock<Vec<u16>>>, deed: Deed) -> Twist {
    let ports = Arc::clone(ports);
    let answer = move |_, answer: &mut Answer| match (answer, deed) {
        (Answer::Metadata(metadata), _) => lead(metadata, 0, 1, ports.get().expect("set")),
        (Answer::Produce(produce), Deed::Answers(code)) => {
            let topics = produce.responses.iter_mut();
            for partition in topics.flat_map(|topic| &mut topic.partition_responses) {
                partition.error_code = code;
                partition.base_offset = -1;
            }
        }
        _ => {}
    };
    let frame = move |api, _, frame| match (api, deed) {
        (ApiKey::Produce, Deed::Hangs) => Reply::Bytes(Vec::new()),
        _ => Reply::Bytes(frame),
    };
    Twist {
        frame: Some(Box::new(frame)),
        ..Twist::answering(answer)
    }
}

/// A record goes to its partition's new leader although the broker that is asked first never hears of
/// it. Besides these two, the cluster has brokers at ports where nothing listens.
/// Returns how many produce requests that broker got.
async fn passes_by_a_broker_that_is_cut_off(deed: Deed, dead: usize, backoff: &str) -> usize {
    let ports = Arc::new(OnceLock::new());
    let cut_off = Scripted::start(PRODUCE, cut_off(&ports, deed)).await;
    let known = Arc::clone(&ports);
    let leads = tells(move |_, metadata| lead(metadata, 1, 2, known.get().expect("set")));
    let leader = Scripted::start(PRODUCE, leads).await;
    let dead = std::iter::repeat_with(closed_port).take(dead);
    let all = [cut_off.port, leader.port].into_iter().chain(dead);
    ports.set(all.collect()).expect("once");
    let keys = [
        ("request.timeout.ms", "200"),
        ("delivery.timeout.ms", "5000"),
        ("retry.backoff.ms", backoff),
        ("retry.backoff.max.ms", "1000"),
    ];
    let producer = start(&cut_off.servers(), &keys);
    let outcome = outcome(send(&producer, "through").await).await;
    assert!(outcome.is_ok(), "{deed:?}: {outcome:?}");
    assert_eq!(leader.values(0), ["through"], "{deed:?}");
    cut_off.requests(ApiKey::Produce)
}

#[tokio::test]
async fn a_broker_that_is_cut_off_and_answers_does_not_hold_records_up() {
    // REQUEST_TIMED_OUT is what such a leader says of acks=all.
    for code in [3, 5, 6, 7, 9, 19, 20, 74] {
        passes_by_a_broker_that_is_cut_off(Deed::Answers(code), 0, QUICK).await;
    }
    passes_by_a_broker_that_is_cut_off(Deed::Hangs, 0, QUICK).await;
}

#[tokio::test]
async fn brokers_that_cannot_be_reached_are_passed_over() {
    for dead in 1..4 {
        passes_by_a_broker_that_is_cut_off(Deed::Answers(7), dead, QUICK).await;
    }
}

/// The refusal of `try_send`, once it is not that it would have to wait.
async fn refusal(producer: &Producer, topic: &str) -> SendError {
    let refused = async {
        loop {
            let refused = producer.try_send(Record::to(topic)).expect_err("refused");
            match refused.into_parts().1 {
                SendError::WouldBlock(_) => tokio::task::yield_now().await,
                refusal => break refusal,
            }
        }
    };
    within(refused).await
}

#[tokio::test]
async fn who_does_not_wait_hears_that_a_topic_is_refused_and_when_it_is_not_any_more() {
    for code in [17, 29] {
        let denied = Arc::new(AtomicBool::new(true));
        let still = Arc::clone(&denied);
        let denies = tells(move |_, metadata| {
            if still.load(Ordering::Relaxed) {
                let topics = metadata.topics.iter_mut();
                topics.for_each(|topic| topic.error_code = code);
            }
        });
        let broker = Scripted::start(PRODUCE, denies).await;
        let keys = [("retry.backoff.max.ms", "1000")];
        let producer = start(&broker.servers(), &keys);
        for _ in 0..3 {
            match refusal(&producer, "t").await {
                SendError::TopicRefused { error, .. } => assert_eq!(error.code, code),
                other => panic!("{code}: {other}"),
            }
        }
        // They do not ask each time. Who waits has the broker asked again.
        let requests = broker.requests(ApiKey::Metadata);
        assert!(requests <= 3, "{requests} requests");
        let refused = within(producer.send(to("no"))).await.expect_err("refused");
        assert!(
            matches!(refused, SendError::TopicRefused { .. }),
            "{refused}"
        );
        assert!(broker.requests(ApiKey::Metadata) > requests);
        denied.store(false, Ordering::Relaxed);
        let granted = async {
            while let Err(refused) = producer.try_send(to("yes")) {
                assert!(matches!(
                    refused.error(),
                    SendError::TopicRefused { .. } | SendError::WouldBlock(_)
                ));
                tokio::task::yield_now().await;
            }
        };
        within(granted).await;
    }
}

#[tokio::test]
async fn a_topic_with_more_partitions_than_a_producer_takes_is_refused() {
    let vast = tells(|_, metadata| {
        for topic in &mut metadata.topics {
            let partitions = (0..1_000_000).map(|index| {
                let partition = topic.partitions[0].clone();
                partition.with_partition_index(index)
            });
            topic.partitions = partitions.collect();
        }
    });
    let broker = Scripted::start(PRODUCE, vast).await;
    let producer = start(&broker.servers(), &[]);
    let refused = within(producer.send(to("no"))).await.expect_err("refused");
    for refused in [refused, refusal(&producer, "t").await] {
        let SendError::TooManyPartitions {
            partitions, limit, ..
        } = refused
        else {
            panic!("{refused}");
        };
        assert_eq!((partitions, limit), (1_000_000, 100_000));
    }
}

#[tokio::test]
async fn topics_nobody_asked_for_are_not_taken_in() {
    let talkative = tells(|_, metadata| {
        for number in 0..100 {
            let mut other = metadata.topics[0].clone();
            other.name = Some(TopicName(StrBytes::from_string(format!("t{number}"))));
            metadata.topics.push(other);
        }
    });
    let broker = Scripted::start(PRODUCE, talkative).await;
    let producer = start(&broker.servers(), &[("metadata.max.age.ms", "50")]);
    acked(send(&producer, "one").await).await;
    let twice = async {
        while broker.requests(ApiKey::Metadata) < 3 {
            tokio::task::yield_now().await;
        }
    };
    within(twice).await;
    for asked in broker.asked() {
        assert_eq!(asked, ["t"]);
    }
    let figures = producer.figures().await.expect("alive");
    assert_eq!(figures.partitions.len(), 2);
}

#[tokio::test]
async fn what_a_broker_that_is_cut_off_had_goes_to_the_new_leader_at_the_first_retry() {
    for deed in [Deed::Answers(7), Deed::Hangs] {
        let requests = passes_by_a_broker_that_is_cut_off(deed, 0, "1000").await;
        assert_eq!(requests, 1, "{deed:?}");
    }
}

#[tokio::test]
async fn the_first_record_of_a_topic_costs_one_metadata_request() {
    for _ in 0..20 {
        let broker = Scripted::start(PRODUCE, Twist::default()).await;
        let producer = start(&broker.servers(), &[]);
        acked(send(&producer, "first").await).await;
        assert_eq!(broker.asked(), [["t"]]);
        close(producer).await;
    }
}
