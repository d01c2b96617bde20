//! Whatever happens to the cluster in the middle of a stream: nothing lost, doubled or reordered,
//! and every outcome true.
//!
//! The stream is paced so that the faults fall into it, and goes on until the last one is over.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use forebay::config::ConfigBuilder;
use forebay::{Config, Producer, Record, SendError};
use forebay_kafka_cluster::{
    self as kafka, Cluster, ClusterOptions, Load, Outcomes, Running, State, scaled,
};

const PARTITIONS: i32 = 12;

fn config(cluster: &Cluster) -> ConfigBuilder {
    Config::builder().bootstrap_servers(cluster.bootstrap())
}

/// The cluster of these tests, whole again whatever a test before has left behind.
fn whole_cluster() -> &'static Cluster {
    static OURS: OnceLock<Cluster> = OnceLock::new();
    let cluster = OURS.get_or_init(|| Cluster::start(ClusterOptions::default()).unwrap());
    for broker in cluster.brokers() {
        match broker.state() {
            State::Running => {}
            State::Frozen => broker.thaw().unwrap(),
            State::Down => broker.restart().unwrap(),
        }
    }
    cluster.wait_ready().unwrap();
    cluster
}

/// Streams to a new topic for `seconds` at least, while `faults` does its worst, then holds the
/// log against the outcomes.
pub fn stream_through(
    topic: &str,
    (records, seconds): (u64, u64),
    set: impl Fn(ConfigBuilder) -> ConfigBuilder,
    faults: impl Fn(&Cluster, &Running),
) -> Option<Outcomes> {
    if !kafka::require_or_skip(topic) {
        return None;
    }
    let _turn = kafka::one_at_a_time();
    let cluster = whole_cluster();
    cluster.create_topic(topic, PARTITIONS, 3, &[]).unwrap();
    let records = scaled(records);
    let config = set(config(cluster)).build().unwrap();
    let a_second = records / seconds;
    let running = Load::new(topic, records).per_second(a_second).start(config);
    running.wait_for(a_second);
    faults(cluster, &running);
    running.wait_for(a_second);
    let outcomes = running.finish();
    cluster.wait_in_sync(topic).unwrap();
    println!("{topic}");
    outcomes.agree_with(&cluster.seen(topic));
    cluster.check_segments(topic);
    Some(outcomes)
}

/// Before the next fault: all copies are whole, and every broker leads its share again.
fn recover(cluster: &Cluster, topic: &str) {
    cluster.wait_in_sync(topic).unwrap();
    cluster.elect_leaders(topic).unwrap();
}

/// Kills a broker, and waits until it is back and has what it missed. `while_down` is called between the
/// end of the broker and its return.
pub fn a_broker_is_down_for_a_while(cluster: &Cluster, topic: &str, while_down: impl FnOnce()) {
    let broker = cluster.broker(2);
    broker.kill().unwrap();
    cluster.wait_gone(broker.id()).unwrap();
    while_down();
    broker.restart().unwrap();
    broker.wait_ready().unwrap();
    cluster.wait_in_sync(topic).unwrap();
}

fn assert_all_acked(outcomes: &Outcomes) {
    let failed = [&outcomes.not_written, &outcomes.unknown, &outcomes.refused];
    let first = failed.map(|list| list.first().cloned());
    assert_eq!(first, [None, None, None], "the faults were over in time");
}

#[test]
fn each_broker_is_killed_once() {
    let topic = "each-broker-is-killed-once";
    let outcomes = stream_through(
        topic,
        (300_000, 25),
        |config| config,
        |cluster, running| {
            for broker in cluster.brokers() {
                broker.kill().unwrap();
                running.wait_for(1);
                broker.restart().unwrap();
                broker.wait_ready().unwrap();
                recover(cluster, topic);
            }
        },
    );
    outcomes.as_ref().inspect(|it| assert_all_acked(it));
}

#[test]
fn each_broker_hangs_for_longer_than_a_request_may_take() {
    let topic = "each-broker-hangs-for-longer-than-a-request-may-take";
    let outcomes = stream_through(
        topic,
        (150_000, 25),
        |config| config.set("request.timeout.ms", 3000),
        |cluster, _| {
            for broker in cluster.brokers() {
                broker.freeze().unwrap();
                std::thread::sleep(Duration::from_secs(5));
                broker.thaw().unwrap();
                recover(cluster, topic);
            }
        },
    );
    outcomes.as_ref().inspect(|it| assert_all_acked(it));
}

/// Each broker stands still for longer than records may take, and then all of them do: nobody is left to turn
/// to.
pub fn each_hangs_and_then_all(cluster: &Cluster, topic: &str, running: &Running) {
    for broker in cluster.brokers() {
        broker.freeze().unwrap();
        std::thread::sleep(Duration::from_secs(4));
        broker.thaw().unwrap();
        recover(cluster, topic);
        running.wait_for(1000);
    }
    for broker in cluster.brokers() {
        broker.freeze().unwrap();
    }
    std::thread::sleep(Duration::from_secs(4));
    for broker in cluster.brokers() {
        broker.thaw().unwrap();
    }
    cluster.wait_in_sync(topic).unwrap();
    running.wait_for(1000);
}

/// What runs out of time is not acked, but what is said of it is true, and whatever comes later
/// arrives: each kind of outcome is held against the log.
#[test]
fn outcomes_are_true_when_time_runs_out() {
    let topic = "outcomes-are-true-when-time-runs-out";
    let outcomes = stream_through(
        topic,
        (150_000, 25),
        |config| {
            let hurry = config
                .set("request.timeout.ms", 1000)
                .set("max.block.ms", 1000);
            hurry.set("delivery.timeout.ms", 2500)
        },
        |cluster, running| each_hangs_and_then_all(cluster, topic, running),
    );
    let Some(outcomes) = outcomes else { return };
    let late = outcomes.unknown.len() + outcomes.not_written.len();
    assert!(late > 0, "nothing ran out of time");
    assert_eq!(
        outcomes.unexplained(),
        0,
        "a time-out says what was in the way"
    );
    let last = outcomes.acked.iter().map(|(counter, _)| *counter).max();
    let sent = outcomes.records() as i64;
    assert!(
        last > Some(sent - 1000),
        "nothing was acked after the faults"
    );
}

/// A broker that hangs is replaced as leader, and wakes up with requests of before in its sockets.
#[test]
fn a_broker_hangs_until_it_has_lost_its_partitions() {
    let topic = "a-broker-hangs-until-it-has-lost-its-partitions";
    let outcomes = stream_through(
        topic,
        (100_000, 15),
        |config| config.set("request.timeout.ms", 3000),
        |cluster, running| {
            let broker = cluster.broker(1);
            broker.freeze().unwrap();
            let others_lead = |cluster: &Cluster| {
                let partitions = cluster.partitions(topic).unwrap();
                partitions.iter().all(|p| p.leader.is_some_and(|l| l != 1))
            };
            let frozen = Instant::now();
            while !others_lead(cluster) {
                assert!(frozen.elapsed() < Duration::from_secs(60));
                std::thread::sleep(Duration::from_millis(100));
            }
            running.wait_for(1000);
            broker.thaw().unwrap();
            cluster.wait_in_sync(topic).unwrap();
        },
    );
    outcomes.as_ref().inspect(|it| assert_all_acked(it));
}

#[test]
fn a_rolling_restart_and_the_elections_after_it() {
    let topic = "a-rolling-restart-and-the-elections-after-it";
    let outcomes = stream_through(
        topic,
        (150_000, 25),
        |config| config,
        |cluster, running| {
            for broker in cluster.brokers() {
                broker.terminate().unwrap();
                running.wait_for(1);
                broker.restart().unwrap();
                broker.wait_ready().unwrap();
                recover(cluster, topic);
            }
        },
    );
    outcomes.as_ref().inspect(|it| assert_all_acked(it));
}

#[test]
fn partitions_are_added() {
    const MORE: i32 = 20;
    let topic = "partitions-are-added";
    let outcomes = stream_through(
        topic,
        (50_000, 10),
        |config| config.set("metadata.max.age.ms", 500),
        |cluster, running| {
            cluster.add_partitions(topic, MORE).unwrap();
            running.wait_for(20_000);
        },
    );
    let Some(outcomes) = outcomes else { return };
    assert_all_acked(&outcomes);
    for partition in 0..MORE {
        let arrived = |(_, acked): &(i64, forebay::Acked)| acked.partition == partition;
        assert!(
            outcomes.acked.iter().any(arrived),
            "nothing for partition {partition}"
        );
    }
}

#[test]
fn a_topic_is_waited_for() {
    if !kafka::require_or_skip("a_topic_is_waited_for") {
        return;
    }
    let _turn = kafka::one_at_a_time();
    let cluster = whole_cluster();
    let limit = Duration::from_secs(8);
    let config = config(cluster).set("max.block.ms", limit.as_millis());
    let producer = Producer::start(config.build().unwrap()).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();

    let sender = producer.clone();
    let waiting = runtime.spawn(async move { sender.send(Record::to("late").value("1")).await });
    std::thread::sleep(Duration::from_secs(2));
    assert!(!waiting.is_finished(), "the topic is not there yet");
    cluster.create_topic("late", 1, 3, &[]).unwrap();
    let receipt = runtime.block_on(waiting).unwrap();
    runtime.block_on(receipt.unwrap()).unwrap();

    let never = runtime.block_on(producer.send(Record::to("never").value("1")));
    let Err(SendError::TopicUnknown {
        topic, why, waited, ..
    }) = never
    else {
        panic!("{never:?}");
    };
    assert_eq!((&*topic, waited), ("never", limit));
    assert!(why.contains("UNKNOWN_TOPIC_OR_PARTITION"), "{why}");
    runtime
        .block_on(producer.close(Duration::from_secs(5)))
        .unwrap();
}
