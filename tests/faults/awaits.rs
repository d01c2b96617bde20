//! Who awaits an outcome does not wait for `linger.ms`, and who does not await lets batches fill.

use futures_util::FutureExt;
use futures_util::future::join_all;
use krafka::testing::{ApiKey, Control};

use crate::*;

/// Batches that linger for longer than a test takes.
const PATIENT: &[(&str, &str)] = &[("linger.ms", "100000"), ("delivery.timeout.ms", "200000")];

fn record(partition: i32, value: impl ToString) -> Record {
    Record::to("many")
        .partition(partition)
        .value(value.to_string())
}

/// A producer whose batches linger for long, and a topic of three partitions.
async fn patient() -> (FakeBroker, Producer) {
    let broker = broker().await;
    broker.create_topic("many", 3);
    let producer = producer(&broker, PATIENT);
    producer.partitions_for("many").await.expect("a topic");
    (broker, producer)
}

async fn accepted(producer: &Producer, record: Record) -> Receipt {
    within(producer.send(record)).await.expect("accepted")
}

fn requests(broker: &FakeBroker) -> usize {
    broker.request_count(ApiKey::Produce)
}

#[tokio::test]
async fn a_record_that_is_awaited_goes_at_once_and_others_linger() {
    let (broker, producer) = patient().await;
    // A connection is made for it.
    acked(accepted(&producer, record(0, 0)).await).await;
    let lingers = accepted(&producer, record(1, "lingers")).await;
    for i in 1..10 {
        acked(accepted(&producer, record(0, i)).await).await;
    }
    assert!(lingers.outcome().is_none(), "nobody waits for it");
    assert_eq!(requests(&broker), 10);
    // It is one of two in its batch.
    acked(accepted(&producer, record(1, "awaited")).await).await;
    assert!(lingers.outcome().is_some());
    close(producer).await;
}

#[tokio::test]
async fn one_that_awaits_takes_a_batch_that_others_fill_along_in_no_hurry() {
    let (broker, producer) = patient().await;
    let mut receipts = Receipts::default();
    for i in 0..10 {
        receipts.push_receipt(accepted(&producer, record(0, i)).await);
    }
    let mut awaited = accepted(&producer, record(0, 10)).await;
    assert!((&mut awaited).now_or_never().is_none());
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(requests(&broker), 0);
    // Whoever takes their outcomes from `Receipts` waits for all of them.
    while let Some(outcome) = within(receipts.next()).await {
        outcome.expect("acked");
    }
    acked(awaited).await;
    assert_eq!(requests(&broker), 1);
    close(producer).await;
}

#[tokio::test]
async fn while_something_is_in_flight_those_who_await_share_a_request() {
    let (broker, producer) = patient().await;
    acked(accepted(&producer, record(0, "first")).await).await;
    broker.on(ApiKey::Produce, |_| {
        Control::Delay(Duration::from_millis(100))
    });
    let before = requests(&broker);
    let mut one = accepted(&producer, record(0, "one")).await;
    assert!((&mut one).now_or_never().is_none());
    while requests(&broker) == before {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let others = (0..30).map(|i| {
        let producer = producer.clone();
        async move { accepted(&producer, record(i % 3, i)).await.await }
    });
    for outcome in within(join_all(others)).await {
        outcome.expect("acked");
    }
    acked(one).await;
    assert_eq!(requests(&broker) - before, 2, "they filled meanwhile");
    close(producer).await;
}

#[tokio::test]
async fn a_record_that_is_awaited_for_a_while_goes_at_once() {
    let (_broker, producer) = patient().await;
    let receipt = accepted(&producer, record(0, 0)).await;
    let mut twin = receipt.clone();
    tokio::select! {
        biased;
        _ = &mut twin => panic!("it cannot be there at once"),
        () = std::future::ready(()) => {}
    }
    // Nobody polls it any more, and it goes all the same.
    within(async {
        while receipt.outcome().is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    close(producer).await;
}
