//! Everything that can go wrong between a record and its outcome, against somebody else's broker.

mod answers;
mod codes;
mod connections;
mod doors;
mod ends;
mod fuzzing;
mod garbage;
mod lane;
mod memory;
mod panics;
mod refusals;
mod scripted;
mod slice;
mod time;
mod user_code;
mod versions;

use std::time::Duration;

use forebay::{Acked, Config, Outcome, Producer, Receipt, Receipts, Record, Unconfirmed};
use krafka::testing::{ApiKey, Control, FakeBroker};

/// Longer than anything takes that works.
const PATIENCE: Duration = Duration::from_secs(30);

/// Quick to try again, and in no hurry to give up.
fn config(servers: &str, keys: &[(&str, &str)]) -> Config {
    let quick = [
        ("linger.ms", "0"),
        ("retry.backoff.ms", "5"),
        ("retry.backoff.max.ms", "20"),
        ("reconnect.backoff.ms", "5"),
        ("reconnect.backoff.max.ms", "20"),
    ];
    let builder = Config::builder().bootstrap_servers(servers);
    let keys = quick.iter().chain(keys);
    let builder = keys.fold(builder, |builder, (key, value)| builder.set(*key, value));
    builder.build().expect("a configuration")
}

fn producer(broker: &FakeBroker, keys: &[(&str, &str)]) -> Producer {
    Producer::start(config(&broker.bootstrap_servers(), keys)).expect("a producer")
}

/// One broker with the topic "t" of one partition.
async fn broker() -> FakeBroker {
    cluster(1).await
}

async fn cluster(brokers: usize) -> FakeBroker {
    let broker = FakeBroker::start_cluster(brokers).await.expect("a cluster");
    broker.create_topic("t", 1);
    broker
}

fn to(value: impl ToString) -> Record {
    Record::to("t").partition(0).value(value.to_string())
}

async fn send(producer: &Producer, value: impl ToString) -> Receipt {
    within(producer.send(to(value))).await.expect("accepted")
}

async fn send_all<V: ToString>(
    producer: &Producer,
    values: impl IntoIterator<Item = V>,
) -> Vec<Receipt> {
    let mut receipts = Vec::new();
    for value in values {
        receipts.push(send(producer, value).await);
    }
    receipts
}

async fn outcome(receipt: Receipt) -> Outcome {
    within(receipt).await
}

async fn acked(receipt: Receipt) -> Acked {
    outcome(receipt).await.expect("acked")
}

async fn all_acked(receipts: Vec<Receipt>) {
    for receipt in receipts {
        acked(receipt).await;
    }
}

async fn all_told(mut receipts: Receipts) {
    while let Some(outcome) = within(receipts.next()).await {
        outcome.expect("acked");
    }
}

/// A producer with memory for a few records, and a broker whose first answer never comes.
async fn short_of_memory() -> (FakeBroker, Producer) {
    let broker = broker().await;
    let keys = [
        ("batch.size", "1024"),
        ("buffer.memory", "8192"),
        ("request.timeout.ms", "300"),
    ];
    let producer = producer(&broker, &keys);
    producer.partitions_for("t").await.expect("a topic");
    broker.on_once(ApiKey::Produce, |_| Control::Silence);
    (broker, producer)
}

async fn within<F: Future>(future: F) -> F::Output {
    let waited = tokio::time::timeout(PATIENCE, future).await;
    waited.expect("it hangs")
}

async fn close(producer: Producer) {
    within(producer.close(PATIENCE)).await.expect("closed");
}

fn is_unknown(outcome: &Outcome) -> bool {
    matches!(outcome, Err(Unconfirmed::Unknown(_)))
}

fn is_not_written(outcome: &Outcome) -> bool {
    matches!(outcome, Err(Unconfirmed::NotWritten(_)))
}

/// The values in the log of "t", partition by partition.
fn log(broker: &FakeBroker) -> Vec<String> {
    let records = broker.all_records("t").expect("a log");
    let value = |value: Option<bytes::Bytes>| {
        String::from_utf8(value.expect("a value").to_vec()).expect("text")
    };
    records
        .into_iter()
        .map(|record| value(record.value))
        .collect()
}

fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|i| i.to_string()).collect()
}
