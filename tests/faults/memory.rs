//! Memory that runs out.

use forebay::SendError;
use krafka::testing::{ApiKey, Control};

use crate::*;

const TIGHT: &[(&str, &str)] = &[
    ("batch.size", "1024"),
    ("buffer.memory", "16384"),
    ("max.block.ms", "100"),
    ("request.timeout.ms", "600"),
];

fn large(i: usize) -> String {
    format!("{i:0700}")
}

/// Sends until memory is short; returns what was accepted.
async fn fill(producer: &Producer) -> Vec<Receipt> {
    let mut accepted = Vec::new();
    loop {
        match within(producer.send(to(large(accepted.len())))).await {
            Ok(receipt) => accepted.push(receipt),
            Err(SendError::NoMemory { total: 16384, .. }) => return accepted,
            Err(other) => panic!("{other:?}"),
        }
        assert!(accepted.len() < 100, "memory has no end");
    }
}

#[tokio::test]
async fn what_does_not_fit_is_refused_and_what_was_accepted_arrives() {
    let broker = broker().await;
    let producer = producer(&broker, TIGHT);
    producer.partitions_for("t").await.expect("a topic");
    broker.on_once(ApiKey::Produce, |_| Control::Silence);
    let accepted = fill(&producer).await;
    assert!(!accepted.is_empty());
    let expected: Vec<_> = (0..accepted.len()).map(large).collect();
    all_acked(accepted).await;
    assert_eq!(log(&broker), expected);
    // All of it is there again.
    all_acked(send_all(&producer, (0..40).map(large)).await).await;
    let figures = producer.figures().await.expect("figures");
    assert_eq!(figures.pool.available_bytes, 16384);
    assert!(figures.pool.exhausted > 0);
    close(producer).await;
}

#[tokio::test]
async fn a_send_that_waits_for_memory_may_be_dropped() {
    let broker = broker().await;
    let producer = producer(
        &broker,
        &[
            ("batch.size", "1024"),
            ("buffer.memory", "16384"),
            ("request.timeout.ms", "300"),
        ],
    );
    producer.partitions_for("t").await.expect("a topic");
    broker.on_once(ApiKey::Produce, |_| Control::Silence);
    let mut accepted = Vec::new();
    loop {
        let send = producer.send(to(large(accepted.len())));
        match tokio::time::timeout(Duration::from_millis(50), send).await {
            Ok(sent) => accepted.push(sent.expect("accepted")),
            Err(_) => break, // dropped while it waits
        }
    }
    let expected: Vec<_> = (0..accepted.len()).map(large).collect();
    all_acked(accepted).await;
    assert_eq!(log(&broker), expected, "the dropped one was never accepted");
    acked(send(&producer, "next").await).await;
    close(producer).await;
}

#[tokio::test]
async fn open_batches_give_way_to_a_large_record() {
    let broker = broker().await;
    broker.create_topic("many", 12);
    // Nothing leaves by itself.
    let producer = producer(
        &broker,
        &[
            ("batch.size", "1024"),
            ("buffer.memory", "16384"),
            ("linger.ms", "100000"),
            ("delivery.timeout.ms", "200000"),
        ],
    );
    producer.partitions_for("t").await.expect("a topic");
    let mut receipts = Vec::new();
    for partition in 0..12 {
        let record = Record::to("many").partition(partition).value("small");
        receipts.push(within(producer.send(record)).await.expect("accepted"));
    }
    let large = send(&producer, "x".repeat(15_000)).await;
    all_acked(receipts).await;
    producer.flush().await.expect("flushed");
    acked(large).await;
    close(producer).await;
}

#[tokio::test]
async fn many_that_wait_are_all_served() {
    let broker = broker().await;
    let producer = producer(
        &broker,
        &[("batch.size", "1024"), ("buffer.memory", "4096")],
    );
    let sends = (0..200).map(|i| {
        let producer = producer.clone();
        async move {
            let size = [10, 700, 3000][i % 3];
            let record = to("y".repeat(size));
            acked(within(producer.send(record)).await.expect("accepted")).await
        }
    });
    within(futures_util::future::join_all(sends)).await;
    assert_eq!(log(&broker).len(), 200);
    close(producer).await;
}
