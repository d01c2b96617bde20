//! Topics that come, go and grow, and brokers that ask for patience, under a producer that goes on.

use std::time::{Duration, Instant};

use forebay::config::ConfigBuilder;
use forebay::{Config, Producer, Record, SendError};
use forebay_kafka_cluster::{self as kafka, Cluster, Load};

const LIMIT: Duration = Duration::from_secs(60);

fn config(cluster: &Cluster) -> ConfigBuilder {
    Config::builder().bootstrap_servers(cluster.bootstrap())
}

async fn close(producer: Producer) {
    let closed = producer.close(Duration::from_secs(10)).await;
    closed.expect("closed in time");
}

/// It is another topic of the same name: what was acked before is gone with the old one, and
/// whatever is sent from then on arrives, once and in order, without a new producer.
#[test]
fn a_topic_is_deleted_and_created_again() {
    if !kafka::require_or_skip("a_topic_is_deleted_and_created_again") {
        return;
    }
    const TOPIC: &str = "returning";
    let cluster = &*kafka::shared();
    cluster.create_topic(TOPIC, 3, 3, &[]).unwrap();
    let config = config(cluster).set("max.block.ms", 2000);
    let running = Load::new(TOPIC, 1)
        .per_second(3000)
        .start(config.build().unwrap());
    let mut behind = Vec::new();
    for _ in 0..2 {
        running.wait_for(3000);
        cluster.delete_topic(TOPIC).unwrap();
        cluster.create_topic(TOPIC, 3, 3, &[]).unwrap();
        // Its progress is told every 256 records.
        behind.push(running.sent() as i64 + 512);
        running.wait_for(3000);
    }
    let outcomes = running.finish();
    println!("{outcomes}");
    let seen = cluster.seen(TOPIC);
    assert_eq!(outcomes.missing, [0; 0]);
    assert_eq!(seen.duplicated(), [0; 0]);
    assert_eq!(seen.reordered(|_| 0), [(0, 0, 0); 0]);
    let said_not_to_be = outcomes.not_written.iter().chain(&outcomes.refused);
    assert_eq!(seen.phantom(said_not_to_be.map(|(it, _)| *it)), [0; 0]);
    let acked = outcomes.acked.iter().map(|(counter, _)| *counter);
    let acked: Vec<i64> = acked.filter(|counter| *counter > behind[1]).collect();
    assert!(
        acked.len() > 1000,
        "{} acked after the last time",
        acked.len()
    );
    assert_eq!(seen.lost(acked), [0; 0]);
    cluster.check_segments(TOPIC);
}

#[tokio::test]
async fn a_partition_that_was_added_takes_the_first_record_that_names_it() {
    if !kafka::require_or_skip("a_partition_that_was_added_takes_the_first_record_that_names_it") {
        return;
    }
    const TOPIC: &str = "growing";
    let cluster = &*kafka::shared();
    cluster.create_topic(TOPIC, 2, 3, &[]).unwrap();
    let producer = Producer::start(config(cluster).build().unwrap()).unwrap();
    let record = || Record::to(TOPIC).partition(2).value("third");
    let refused = producer.send(record()).await.unwrap_err();
    match refused {
        SendError::PartitionOutOfRange {
            topic,
            partition,
            count,
            ..
        } => assert_eq!((&*topic, partition, count), (TOPIC, 2, 2)),
        other => panic!("{other:?}"),
    }

    cluster.add_partitions(TOPIC, 3).unwrap();
    // The controller has told all brokers by then.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let receipt = producer.send(record()).await.unwrap();
    assert_eq!(receipt.await.unwrap().partition, 2);
    close(producer).await;
}

/// Until it returns `send` waits as for a new topic. What was accepted before takes little memory, and
/// another topic goes on.
#[tokio::test]
async fn a_topic_that_is_deleted_does_not_take_the_memory_of_others() {
    if !kafka::require_or_skip("a_topic_that_is_deleted_does_not_take_the_memory_of_others") {
        return;
    }
    const TOPIC: &str = "deleted-in-use";
    const OTHER: &str = "beside-a-deleted-one";
    const MEMORY: usize = 4 << 20;
    let cluster = &*kafka::shared();
    for topic in [TOPIC, OTHER] {
        cluster.create_topic(topic, 1, 3, &[]).unwrap();
    }
    let config = config(cluster).set("buffer.memory", MEMORY);
    let config = config.set("max.block.ms", 5000).set("linger.ms", 0);
    let producer = Producer::start(config.build().unwrap()).unwrap();
    let record = |topic| Record::to(topic).partition(0).value(vec![0; 1000]);
    for topic in [TOPIC, OTHER] {
        let receipt = producer.send(record(topic)).await.unwrap();
        receipt.await.unwrap();
    }

    cluster.delete_topic(TOPIC).unwrap();
    let mut waiting = Vec::new();
    let refused = loop {
        match producer.send(record(TOPIC)).await {
            Ok(receipt) => waiting.push(receipt),
            Err(refused) => break refused,
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    let SendError::TopicUnknown { error, .. } = &refused else {
        panic!("after {} records: {refused}", waiting.len());
    };
    assert_eq!(error.as_ref().map(|error| error.code), Some(3));
    let figures = producer.figures().await.unwrap();
    let left = figures.pool.available_bytes;
    assert!(
        left > MEMORY / 2,
        "{} records left {left} bytes",
        waiting.len()
    );
    for _ in 0..10 {
        let receipt = producer.send(record(OTHER)).await.unwrap();
        let acked = tokio::time::timeout(Duration::from_secs(5), receipt).await;
        acked.expect("another topic goes on").unwrap();
    }

    cluster.create_topic(TOPIC, 1, 3, &[]).unwrap();
    waiting.push(producer.send(record(TOPIC)).await.unwrap());
    for receipt in waiting {
        let outcome = tokio::time::timeout(LIMIT, receipt).await;
        outcome.expect("an outcome").unwrap();
    }
    close(producer).await;
}

#[tokio::test]
async fn a_topic_name_that_is_not_legal_is_refused_at_once() {
    if !kafka::require_or_skip("a_topic_name_that_is_not_legal_is_refused_at_once") {
        return;
    }
    let cluster = &*kafka::shared();
    // Waited for, this would take a minute.
    let producer = Producer::start(config(cluster).build().unwrap()).unwrap();
    let record = Record::to("topic abc").value("1");
    let refused = tokio::time::timeout(LIMIT / 2, producer.send(record)).await;
    match refused.expect("at once") {
        Err(SendError::IllegalTopicName { topic, why, .. }) => {
            assert_eq!(&*topic, "topic abc");
            assert!(why.contains("it has a ' '"), "{why}");
        }
        other => panic!("{other:?}"),
    }
    close(producer).await;
}

/// Whoever is throttled waits, instead of sending into a connection that the broker does not read
/// for so long: else requests would run out of time and be sent again.
#[tokio::test]
async fn a_throttled_producer_waits_and_goes_on() {
    if !kafka::require_or_skip("a_throttled_producer_waits_and_goes_on") {
        return;
    }
    const TOPIC: &str = "throttled";
    const CLIENT: &str = "throttled-client";
    let cluster = &*kafka::shared();
    cluster.create_topic(TOPIC, 1, 3, &[]).unwrap();
    // Brokers take the mean of ten seconds.
    cluster.limit_client(CLIENT, Some(2_000.0)).unwrap();
    let hurry = config(cluster).set("request.timeout.ms", 1000);
    let config = hurry.set("client.id", CLIENT).set("linger.ms", 0);
    let producer = Producer::start(config.build().unwrap()).unwrap();

    // In several batches, so that some are in flight when the first one is answered.
    let mut receipts = Vec::new();
    for i in 0..200 {
        let value = format!("{i} {}", "x".repeat(1000));
        let record = Record::to(TOPIC).partition(0).value(value);
        receipts.push(producer.send(record).await.unwrap());
    }
    let begin = Instant::now();
    let mut throttled = false;
    while !throttled && begin.elapsed() < LIMIT {
        let figures = producer.figures().await.unwrap();
        throttled = figures.brokers.iter().any(|broker| broker.throttled);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(throttled, "no broker asked for a pause");
    cluster.limit_client(CLIENT, None).unwrap();
    receipts.push(
        producer
            .send(Record::to(TOPIC).partition(0).value("200"))
            .await
            .unwrap(),
    );
    for receipt in receipts {
        receipt.await.unwrap();
    }
    let figures = producer.figures().await.unwrap();
    let retries: u64 = figures.partitions.iter().map(|it| it.retries).sum();
    assert_eq!(retries, 0, "nothing ran out of time");
    let pauses = figures.brokers.iter().filter(|broker| broker.throttled);
    assert_eq!(pauses.count(), 0, "all pauses are over");
    close(producer).await;
    let seen = cluster.seen(TOPIC);
    assert_eq!(seen.records(), 201);
    assert_eq!(seen.reordered(|_| 0), [(0, 0, 0); 0]);
}
