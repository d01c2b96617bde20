//! Brokers that are killed, or end and start again, in the middle of transactions.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use forebay::transaction::GroupMetadata;
use forebay::transaction::{NotCommitted, ReadUpTo};
use forebay::{Record, TopicPartition, Transaction, TransactionalProducer};
use forebay_kafka_cluster::{self as kafka, Cluster, ClusterOptions, Isolation};

use super::{PARTITIONS, close, producer, seen};

const TOPIC: &str = "bounces";
/// Records in each transaction.
const EACH: usize = 30;

/// Sends the records of one transaction, and offsets. Whatever is refused or fails, its commit will say why.
async fn send(transaction: &Transaction, number: usize) {
    for at in 0..EACH {
        let record = Record::to(TOPIC)
            .partition(at as i32 % PARTITIONS)
            .value(format!("{number} {at}"));
        if transaction.send(record).await.is_err() {
            return;
        }
    }
    let read = ReadUpTo::new(TopicPartition::new(TOPIC, 0), number as i64);
    let group = GroupMetadata::new(TOPIC);
    let _ = transaction.send_offsets(&group, [read]).await;
}

/// Until it is committed. Returns how often it was aborted.
async fn commit(producer: &TransactionalProducer, number: usize) -> usize {
    let mut aborted = 0;
    loop {
        let Ok(transaction) = producer.begin().await else {
            continue;
        };
        send(&transaction, number).await;
        let mut committed = transaction.commit().await;
        while let Err(NotCommitted::InDoubt(in_doubt)) = committed {
            committed = in_doubt.resolve().await;
        }
        match committed {
            Ok(()) => return aborted,
            Err(NotCommitted::Aborted(_)) => aborted += 1,
            Err(other) => panic!("{number}: {other}"),
        }
    }
}

/// Each broker is killed once, and then each is ended once.
fn bounce(cluster: &Cluster) {
    for kills in [true, false] {
        for broker in cluster.brokers() {
            match kills {
                true => broker.kill().unwrap(),
                false => broker.terminate().unwrap(),
            }
            broker.restart().unwrap();
            broker.wait_ready().unwrap();
            cluster.wait_in_sync(TOPIC).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_that_come_and_go_leave_each_transaction_whole_and_once() {
    let name = "brokers_that_come_and_go_leave_each_transaction_whole_and_once";
    if !kafka::require_or_skip(name) {
        return;
    }
    let cluster = Cluster::start(ClusterOptions::default()).expect("a cluster");
    cluster.create_topic(TOPIC, PARTITIONS, 3, &[]).unwrap();
    let producer = producer(&cluster, TOPIC);
    let over = AtomicBool::new(false);
    let began = Instant::now();
    let (count, aborted) = std::thread::scope(|threads| {
        let bouncing = threads.spawn(|| {
            bounce(&cluster);
            over.store(true, Ordering::SeqCst);
        });
        let runtime = tokio::runtime::Handle::current();
        let work = async {
            let (mut number, mut aborted) = (0, 0);
            // Some behind the last fault, too.
            let mut left = 20;
            while left > 0 {
                left -= usize::from(over.load(Ordering::SeqCst));
                aborted += commit(&producer, number).await;
                number += 1;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            (number, aborted)
        };
        let done = tokio::task::block_in_place(|| runtime.block_on(work));
        bouncing.join().expect("no panic");
        done
    });
    println!(
        "{count} transactions, {aborted} aborted, {:.0?}",
        began.elapsed()
    );
    close(producer).await;
    let mut times = BTreeMap::<String, usize>::new();
    for value in seen(&cluster, TOPIC, Isolation::ReadCommitted) {
        *times.entry(value).or_default() += 1;
    }
    let twice: Vec<_> = times.iter().filter(|(_, times)| **times > 1).collect();
    assert_eq!(twice, [], "written twice");
    assert_eq!(times.len(), count * EACH, "written at all");
}
