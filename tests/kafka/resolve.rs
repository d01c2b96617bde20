//! `forebay.unknown=resolve`: what was in doubt is looked for in the log, and nothing is unknown after it.

use std::time::{Duration, Instant};

use forebay::config::ConfigBuilder;
use forebay::{Acked, Config, Outcome, Producer, Reason, Receipt, Record, Unconfirmed};
use forebay_kafka_cluster::{
    self as kafka, Cluster, ClusterOptions, Isolation, Outcomes, Release, Rules, Running,
};
use krafka::admin::{AclBinding, AclOperation, AclPermissionType, AclResourceType};
use tokio::time::timeout;

use crate::doubt::{EXPIRATION, LOST_ANSWERS, forgetful_broker, outcomes, runtime, written};
use crate::kills::{each_hangs_and_then_all, stream_through};
use crate::millis;
use crate::security::authorisation::{acl, grant_at, guarded_for, start_at};

/// Records run out of time soon, and are looked for long enough.
fn in_a_hurry(config: ConfigBuilder) -> ConfigBuilder {
    config
        .set("request.timeout.ms", 1000)
        .set("max.block.ms", 1000)
        .set("delivery.timeout.ms", 2500)
        .set("forebay.unknown", "resolve")
}

fn assert_nothing_is_unknown(outcomes: &Outcomes) {
    let first = outcomes.unknown.first();
    assert_eq!(first, None, "{} are", outcomes.unknown.len());
}

/// What runs out of time is in the log or not, and it is said which.
#[test]
fn nothing_is_unknown_when_time_runs_out() {
    let topic = "nothing-is-unknown-when-time-runs-out";
    let hang =
        |cluster: &Cluster, running: &Running| each_hangs_and_then_all(cluster, topic, running);
    let outcomes = stream_through(topic, (150_000, 25), in_a_hurry, hang);
    let Some(outcomes) = outcomes else { return };
    assert!(!outcomes.not_written.is_empty(), "nothing ran out of time");
    assert_nothing_is_unknown(&outcomes);
}

fn resolving(config: ConfigBuilder) -> ConfigBuilder {
    config
        .set("forebay.unknown", "resolve")
        .set("forebay.producer.id.expiration.ms", EXPIRATION)
}

/// A backfill: brokers forget a producer by such records at once, and would append a retry again.
#[test]
fn old_records_in_doubt_are_found_or_sent_again_and_are_there_once() {
    if !kafka::require_or_skip("old_records_in_doubt_are_found_or_sent_again_and_are_there_once") {
        return;
    }
    let _turn = kafka::one_at_a_time();
    let cluster = &Cluster::start(forgetful_broker()).unwrap();
    let year = 365 * 24 * 60 * 60 * 1_000;
    let times = [millis() - year; 3];
    let lost_requests = Rules {
        hold_requests: true,
        ..Rules::default()
    };
    for (topic, held) in [("found", LOST_ANSWERS), ("sent-again", lost_requests)] {
        let told = outcomes(cluster, topic, resolving, times, held);
        let told = runtime().block_on(told);
        assert!(told.iter().all(Result::is_ok), "{topic}: {told:?}");
        assert_eq!(written(cluster, topic), 4, "{topic}");
    }
}

/// Records that run out of time soon.
fn soon(cluster: &Cluster, more: &[(&str, &str)]) -> Producer {
    let mut config = in_a_hurry(Config::builder().bootstrap_servers(cluster.bootstrap()));
    for (key, value) in more {
        config = config.set(*key, value);
    }
    Producer::start(config.build().unwrap()).unwrap()
}

async fn send(producer: &Producer, topic: &str, value: &str) -> Receipt {
    let record = Record::to(topic).partition(0).value(value.to_owned());
    producer.send(record).await.unwrap()
}

/// The values in the log, in their order.
pub fn values(cluster: &Cluster, topic: &str) -> Vec<String> {
    let mut values = Vec::new();
    let take = |_, _, value: &[u8]| values.push(String::from_utf8_lossy(value).into_owned());
    cluster
        .read_values(topic, Isolation::default(), take)
        .unwrap();
    values
}

/// What was told is what is in the log, in the order of sending, once.
pub fn assert_true(told: &[(&str, Outcome)], log: &[String]) {
    let acked = told.iter().filter(|(_, outcome)| outcome.is_ok());
    let acked: Vec<_> = acked.map(|(value, _)| (*value).to_owned()).collect();
    assert_eq!(log, acked, "{told:?}");
    let unknown = |(_, it): &&(&str, Outcome)| matches!(it, Err(Unconfirmed::Unknown(_)));
    assert_eq!(told.iter().find(unknown), None);
}

/// The broker stands still with a record in its socket, for longer than the record may take.
pub async fn frozen(
    cluster: &Cluster,
    producer: &Producer,
    topic: &str,
) -> Vec<(&'static str, Outcome)> {
    let first = send(producer, topic, "first").await;
    let mut told = vec![("first", first.await)];
    cluster.brokers()[0].freeze().unwrap();
    let doubtful = send(producer, topic, "doubtful").await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    cluster.brokers()[0].thaw().unwrap();
    let behind = send(producer, topic, "behind").await;
    told.push(("doubtful", doubtful.await));
    told.push(("behind", behind.await));
    told
}

/// In the first protocol of transactions, and in the second.
#[test]
fn a_marker_is_a_fence_in_both_protocols() {
    if !kafka::require_or_skip("a_marker_is_a_fence_in_both_protocols") {
        return;
    }
    let _turn = kafka::one_at_a_time();
    for release in [Release::default(), Release::of("3.9.1")] {
        let options = ClusterOptions::default().brokers(1).release(release);
        let cluster = &Cluster::start(options).unwrap();
        cluster.create_topic("t", 1, 1, &[]).unwrap();
        let told = runtime().block_on(async {
            // The coordinator is there from the first record on.
            let producer = soon(cluster, &[("delivery.timeout.ms", "60000")]);
            send(&producer, "t", "warm").await.await.unwrap();
            producer.close(Duration::from_secs(10)).await.unwrap();
            let producer = soon(cluster, &[]);
            let mut told = vec![("warm", Ok(Acked::new(0, Some(0), 0)))];
            told.extend(frozen(cluster, &producer, "t").await);
            let figures = producer.figures().await.unwrap().lookups;
            assert_eq!(figures.found + figures.absent, 1, "{figures:?}");
            producer.close(Duration::from_secs(30)).await.unwrap();
            told
        });
        assert_true(&told, &values(cluster, "t"));
    }
}

/// One partition has its only copy on a broker that stands still. Others, which that broker led, go on
/// elsewhere, and what was in doubt there is known before it wakes up.
#[test]
fn a_dead_partition_holds_up_itself_alone() {
    if !kafka::require_or_skip("a_dead_partition_holds_up_itself_alone") {
        return;
    }
    let _turn = kafka::one_at_a_time();
    let cluster = &Cluster::start(ClusterOptions::default()).unwrap();
    cluster.create_topic("alone", 3, 1, &[]).unwrap();
    cluster.create_topic("copied", 12, 3, &[]).unwrap();
    let alone = cluster.partitions("alone").unwrap();
    let dead = alone
        .iter()
        .find(|it| it.leader == Some(2))
        .expect("one of three")
        .partition;
    let copied = cluster.partitions("copied").unwrap();
    let moved: Vec<_> = copied.iter().filter(|it| it.leader == Some(2)).collect();
    assert!(!moved.is_empty());
    runtime().block_on(async {
        let resolve = ("forebay.unknown.resolve.timeout.ms", "120000");
        let producer = soon(cluster, &[("delivery.timeout.ms", "3000"), resolve]);
        let to = |topic: &str, partition: i32, value: &str| {
            producer.send(
                Record::to(topic)
                    .partition(partition)
                    .value(value.to_owned()),
            )
        };
        // The coordinator is there from the first record on.
        while to("alone", dead, "first").await.unwrap().await.is_err() {}
        for partition in &moved {
            to("copied", partition.partition, "first")
                .await
                .unwrap()
                .await
                .unwrap();
        }
        let broker = cluster.broker(2);
        broker.freeze().unwrap();
        let doubtful = to("alone", dead, "doubtful").await.unwrap();
        let mut others = Vec::new();
        for partition in &moved {
            others.push(to("copied", partition.partition, "doubtful").await.unwrap());
        }
        let frozen = Instant::now();
        for other in others {
            let outcome = timeout(Duration::from_secs(60), other).await;
            let outcome = outcome.expect("it does not wait for the dead one");
            let unknown = matches!(outcome, Err(Unconfirmed::Unknown(_)));
            assert!(!unknown, "{outcome:?}");
        }
        println!("others were known after {:?}", frozen.elapsed());
        for partition in &moved {
            let mut behind = to("copied", partition.partition, "behind")
                .await
                .unwrap()
                .await;
            while behind.is_err() && frozen.elapsed() < Duration::from_secs(90) {
                behind = to("copied", partition.partition, "behind")
                    .await
                    .unwrap()
                    .await;
            }
            behind.expect("they go on");
        }
        assert!(
            doubtful.outcome().is_none(),
            "of the dead one nothing is known"
        );
        broker.thaw().unwrap();
        let outcome = timeout(Duration::from_secs(60), doubtful)
            .await
            .expect("known soon");
        let log = values(cluster, "alone");
        let is_there = log.contains(&"doubtful".to_owned());
        assert_eq!(outcome.is_ok(), is_there, "{outcome:?}");
        assert!(
            !matches!(outcome, Err(Unconfirmed::Unknown(_))),
            "{outcome:?}"
        );
        producer.close(Duration::from_secs(30)).await.unwrap();
    });
}

/// Without WRITE on transactional ids the next record is the fence. Without READ on the topic nobody can
/// know.
#[test]
fn what_may_not_be_done_is_said_and_got_around() {
    if !kafka::require_or_skip("what_may_not_be_done_is_said_and_got_around") {
        return;
    }
    let _turn = kafka::one_at_a_time();
    let cluster = &guarded_for(&["unmarked", "unread"]);
    let ids = AclBinding::new(
        AclResourceType::TransactionalId,
        "*",
        "User:unread",
        "*",
        AclOperation::Write,
        AclPermissionType::Allow,
    );
    grant_at(
        cluster,
        &[
            acl("unmarked", AclOperation::Write, "unmarked"),
            acl("unmarked", AclOperation::Read, "unmarked"),
            acl("unread", AclOperation::Write, "unread"),
            ids,
        ],
    );
    for user in ["unmarked", "unread"] {
        cluster.create_topic(user, 1, 1, &[]).unwrap();
        let told = runtime().block_on(async {
            let more = [
                ("request.timeout.ms", "1000"),
                ("delivery.timeout.ms", "2500"),
                ("forebay.unknown", "resolve"),
            ];
            let producer = start_at(cluster, user, &more);
            // The ACLs, and the coordinator, are there.
            let begin = Instant::now();
            while let Err(refused) = producer.partitions_for(user).await {
                assert!(begin.elapsed() < Duration::from_secs(30), "{refused}");
            }
            let mut warm = send(&producer, user, "warm").await.await;
            while warm.is_err() {
                assert!(begin.elapsed() < Duration::from_secs(60), "{warm:?}");
                warm = send(&producer, user, "warm").await.await;
            }
            let told = frozen(cluster, &producer, user).await;
            producer.close(Duration::from_secs(30)).await.unwrap();
            told
        });
        let log = values(cluster, user);
        if user == "unmarked" {
            assert_true(&told, &log[1..]);
            continue;
        }
        match &told[1].1 {
            Err(Unconfirmed::Unknown(Reason::Unresolved { why, .. })) => {
                assert!(why.contains("READ on the topic"), "{why}");
            }
            other => panic!("{other:?}"),
        }
        assert!(told[2].1.is_ok(), "the next one goes: {:?}", told[2].1);
    }
}
