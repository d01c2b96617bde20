//! Who may go on, and who may not: another instance has taken the `transactional.id`, or time was over.

use std::time::Duration;

use forebay::transaction::{GroupMetadata, NotCommitted, ReadUpTo, TransactionError};
use forebay::{Record, TopicPartition, TransactionalProducer};
use forebay_kafka_cluster::{self as kafka, Cluster, ClusterOptions, Isolation, Release};

use super::{PARTITIONS, close, producer, seen};
use crate::produce::configured;

/// How often coordinators look for transactions whose time is over.
const SWEEP: &str = "transaction.abort.timed.out.transaction.cleanup.interval.ms";

fn cluster(release: Option<&str>) -> Cluster {
    let mut options = ClusterOptions::default().brokers(1).property(SWEEP, "500");
    if let Some(release) = release {
        options = options.release(Release::of(release));
    }
    Cluster::start(options).expect("a cluster")
}

/// The coordinator aborts it, and the same producer goes on: so it has not been taken for one that another
/// instance has fenced.
async fn what_took_too_long_is_aborted_and_the_next_goes_on(cluster: &Cluster) {
    let topic = "too-long";
    cluster.create_topic(topic, PARTITIONS, 1, &[]).unwrap();
    let settings = [
        ("transactional.id", topic),
        ("transaction.timeout.ms", "1000"),
    ];
    let producer = TransactionalProducer::start(configured(cluster, &settings)).expect("it starts");
    for (round, commits) in [(0, true), (1, false), (2, true)] {
        let transaction = producer.begin().await.expect("begun");
        let first = transaction.send(Record::to(topic).value(format!("late {round}")));
        first
            .await
            .expect("accepted")
            .await
            .expect("appended in time");
        tokio::time::sleep(Duration::from_secs(4)).await;
        if round == 2 {
            // A broker refuses the batch, before the end is asked for.
            let second = transaction.send(Record::to(topic).value("too late")).await;
            second
                .expect("accepted")
                .await
                .expect_err("its time is over");
        }
        match commits {
            true => {
                let committed = transaction.commit().await;
                let aborted = matches!(committed, Err(NotCommitted::Aborted(_)));
                assert!(aborted, "{round}: {committed:?}");
            }
            false => transaction.abort().await,
        }
        let next = producer.begin().await.expect("nobody else has the id");
        let sent = next.send(Record::to(topic).value(format!("next {round}")));
        let receipt = sent.await.expect("accepted");
        next.commit().await.expect("committed");
        receipt.ended().await.expect("acked");
    }
    close(producer).await;
    let mut read = seen(cluster, topic, Isolation::ReadCommitted);
    read.sort();
    assert_eq!(read, ["next 0", "next 1", "next 2"]);
}

/// What the older instance does when it is not the only one any more.
#[derive(Debug, Clone, Copy)]
enum Does {
    Commit,
    Abort,
    /// To the partition that the transaction has, and to another one.
    Send(i32),
    SendOffsets,
}

/// It is refused, and so is everything it does later. The transaction that the newer one has open meanwhile
/// is left alone.
async fn whoever_is_fenced_leaves_the_newer_instance_alone(cluster: &Cluster, does: Does) {
    let topic = format!("fences-{does:?}").replace(['(', ')'], "");
    let topic = topic.as_str();
    cluster.create_topic(topic, PARTITIONS, 1, &[]).unwrap();
    let (older, newer) = (producer(cluster, topic), producer(cluster, topic));
    let record = |value: &str| Record::to(topic).partition(0).value(value.to_owned());
    let open = older.begin().await.expect("begun");
    let sent = open.send(record("older")).await;
    sent.expect("accepted").await.expect("appended");
    let transaction = newer.begin().await.expect("begun");
    let sent = transaction.send(record("newer")).await;
    sent.expect("accepted").await.expect("appended");
    match does {
        Does::Commit | Does::Abort => {}
        Does::Send(partition) => {
            let record = record("fenced").partition(partition);
            let sent = open.send(record).await.expect("accepted");
            sent.await.expect_err("fenced");
        }
        Does::SendOffsets => {
            let read = ReadUpTo::new(TopicPartition::new(topic, 0), 1);
            let group = GroupMetadata::new(topic);
            let sent = open.send_offsets(&group, [read]).await;
            let failed = matches!(sent, Err(TransactionError::Failed(_)));
            assert!(failed, "{sent:?}");
        }
    }
    match does {
        Does::Abort => open.abort().await,
        _ => {
            let committed = open.commit().await;
            let aborted = matches!(committed, Err(NotCommitted::Aborted(_)));
            assert!(aborted, "{does:?}: {committed:?}");
        }
    }
    for _ in 0..2 {
        let begun = older.begin().await;
        let fenced = matches!(begun, Err(TransactionError::Fenced { .. }));
        assert!(fenced, "{does:?}: {begun:?}");
    }
    transaction.commit().await.expect("it was left alone");
    close(older).await;
    newer.begin().await.expect("begun").abort().await;
    close(newer).await;
    assert_eq!(seen(cluster, topic, Isolation::ReadCommitted), ["newer"]);
}

async fn fences(release: Option<&str>) {
    let cluster = &cluster(release);
    what_took_too_long_is_aborted_and_the_next_goes_on(cluster).await;
    for does in [
        Does::Commit,
        Does::Abort,
        Does::Send(0),
        Does::Send(1),
        Does::SendOffsets,
    ] {
        whoever_is_fenced_leaves_the_newer_instance_alone(cluster, does).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn time_and_newer_instances_are_told_apart() {
    if kafka::require_or_skip("time_and_newer_instances_are_told_apart") {
        fences(None).await;
    }
}

/// Kafka 3.9 has not finalized the second protocol.
#[tokio::test(flavor = "multi_thread")]
async fn time_and_newer_instances_are_told_apart_in_the_first_protocol() {
    if kafka::require_or_skip("time_and_newer_instances_are_told_apart_in_the_first_protocol") {
        fences(Some("3.9.1")).await;
    }
}
