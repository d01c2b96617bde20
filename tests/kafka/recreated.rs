//! Topics that are deleted, or created anew, while a spool has records of theirs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use forebay::{Outcome, Producer, Reason, Receipt, Record, SendError, Unconfirmed};
use forebay_kafka_cluster::{self as kafka, Cluster, Isolation};
use serde_json::Value;

use crate::doubt::runtime;
use crate::spooling::{directory, producer};

const LIMIT: Duration = Duration::from_secs(60);

async fn send(producer: &Producer, topic: &str, number: u32) -> Result<Receipt, SendError> {
    let record = Record::to(topic).partition(0).value(number.to_string());
    producer.send(record).await
}

async fn outcome(receipt: Receipt) -> Outcome {
    let told = tokio::time::timeout(LIMIT, receipt).await;
    told.expect("it is told in time")
}

/// Sends a record that is acked.
async fn deliver(producer: &Producer, topic: &str, number: u32) {
    let receipt = send(producer, topic, number).await.unwrap();
    outcome(receipt).await.unwrap();
}

/// Sends until the producer has learned of the present topic. Returns what it has sent for the former one,
/// and the number of the first record of the present one.
async fn learn(producer: &Producer, topic: &str, from: u32) -> (BTreeSet<u32>, u32) {
    let mut rejected = BTreeSet::new();
    for number in from..from + 1_000 {
        // The topic may not be known yet.
        let Ok(receipt) = send(producer, topic, number).await else {
            continue;
        };
        match outcome(receipt).await {
            Ok(_) => return (rejected, number),
            Err(why) => {
                assert_eq!(*why.reason(), Reason::TopicRecreated, "{why:?}");
                rejected.insert(number);
            }
        }
    }
    panic!("nothing goes to the present topic");
}

/// The numbers in the log.
fn there(cluster: &Cluster, topic: &str) -> Vec<u32> {
    let mut all = Vec::new();
    let take = |_, _, value: &[u8]| all.push(String::from_utf8_lossy(value).parse().unwrap());
    cluster
        .read_values(topic, Isolation::default(), take)
        .unwrap();
    all
}

/// The numbers that have a line, and what is said of each.
fn rejected(dir: &Path) -> BTreeMap<u32, String> {
    let mut all = BTreeMap::new();
    for file in fs::read_dir(dir.join("spool/rejected"))
        .into_iter()
        .flatten()
    {
        let text = fs::read_to_string(file.unwrap().path()).unwrap();
        for line in text.lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            let number = line["value"].as_str().unwrap().parse().unwrap();
            all.insert(number, line["reason"].as_str().unwrap().to_owned());
        }
    }
    all
}

fn recreate(cluster: &Cluster, topic: &str) {
    cluster.delete_topic(topic).unwrap();
    cluster.create_topic(topic, 1, 3, &[]).unwrap();
}

#[test]
fn what_waits_for_a_topic_that_is_created_anew_while_nobody_runs_is_kept_aside() {
    const NAME: &str =
        "what_waits_for_a_topic_that_is_created_anew_while_nobody_runs_is_kept_aside";
    if !kafka::require_or_skip(NAME) {
        return;
    }
    const TOPIC: &str = "anew-at-start";
    let cluster = &*kafka::shared();
    cluster.create_topic(TOPIC, 1, 3, &[]).unwrap();
    let dir = directory(TOPIC);
    let servers = cluster.bootstrap();
    runtime().block_on(async {
        let producer = producer(&dir, &servers, "");
        for number in 0..10 {
            deliver(&producer, TOPIC, number).await;
        }
        producer.close(LIMIT).await.unwrap();
    });
    runtime().block_on(async {
        // It reaches no broker.
        let producer = producer(&dir, "127.0.0.1:1", "");
        for number in 10..30 {
            drop(send(&producer, TOPIC, number).await.unwrap());
        }
        let _kept = producer.close(Duration::ZERO).await;
    });
    recreate(cluster, TOPIC);
    let (mut aside, first) = runtime().block_on(async {
        let producer = producer(&dir, &servers, "");
        let learned = learn(&producer, TOPIC, 1_000).await;
        let resumed = tokio::time::timeout(LIMIT, producer.resumed()).await;
        resumed.expect("in time").unwrap();
        producer.close(LIMIT).await.unwrap();
        learned
    });
    aside.extend(10..30);
    let lines = rejected(&dir);
    assert_eq!(lines.keys().copied().collect::<BTreeSet<_>>(), aside);
    let never = Reason::TopicRecreated.to_string();
    assert!((10..30).all(|number| lines[&number] == never), "{lines:?}");
    assert_eq!(there(cluster, TOPIC), [first]);
    fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn a_topic_that_is_created_anew_under_a_spool_gets_nothing_of_the_former_one() {
    const NAME: &str = "a_topic_that_is_created_anew_under_a_spool_gets_nothing_of_the_former_one";
    if !kafka::require_or_skip(NAME) {
        return;
    }
    const TOPIC: &str = "anew-meanwhile";
    const OTHER: &str = "anew-beside";
    let cluster = &*kafka::shared();
    for topic in [TOPIC, OTHER] {
        cluster.create_topic(topic, 1, 3, &[]).unwrap();
    }
    let dir = directory(TOPIC);
    let servers = cluster.bootstrap();
    runtime().block_on(async {
        let producer = producer(&dir, &servers, "max.block.ms=1000");
        for number in 0..10 {
            deliver(&producer, TOPIC, number).await;
        }
        cluster.delete_topic(TOPIC).unwrap();
        let mut waiting = Vec::new();
        // While it is still routed.
        for number in 10..60 {
            match send(&producer, TOPIC, number).await {
                Ok(receipt) => waiting.push((number, receipt)),
                Err(_) => break,
            }
        }
        assert!(!waiting.is_empty());
        deliver(&producer, OTHER, 0).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        deliver(&producer, OTHER, 1).await;
        cluster.create_topic(TOPIC, 1, 3, &[]).unwrap();
        let (mut aside, first) = learn(&producer, TOPIC, 1_000).await;
        let mut acked = vec![first];
        for (number, receipt) in waiting {
            match outcome(receipt).await {
                Err(Unconfirmed::NotWritten(why) | Unconfirmed::Unknown(why)) => {
                    assert_eq!(why, Reason::TopicRecreated);
                    aside.insert(number);
                }
                // Before it was gone everywhere.
                Ok(_) => {}
                other => panic!("{number}: {other:?}"),
            }
        }
        for number in 2_000..2_100 {
            deliver(&producer, TOPIC, number).await;
            acked.push(number);
        }
        producer.close(LIMIT).await.unwrap();
        let lines = rejected(&dir);
        assert_eq!(lines.keys().copied().collect::<BTreeSet<_>>(), aside);
        assert_eq!(there(cluster, TOPIC), acked);
        println!("{} records are kept aside", aside.len());
    });
    assert_eq!(there(cluster, OTHER), [0, 1]);
    fs::remove_dir_all(&dir).unwrap();
}
