//! Everything that can go wrong between a record and its outcome, against somebody else's broker.

mod addressee;
mod answers;
mod awaits;
mod clouds;
mod codes;
mod connections;
mod coordinators;
mod doors;
mod ends;
mod fuzzing;
mod garbage;
mod lane;
mod logins;
mod markers;
mod memory;
mod metadata;
mod panics;
mod pressure;
mod refusals;
mod scripted;
mod secrets;
mod slice;
mod spool;
mod time;
mod topics;
mod transactions;
mod turns;
mod user_code;
mod versions;
mod waits;

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

/// A producer whose broker has crashed, and ten records that run out of time in 200 ms.
async fn ten_that_expire() -> (FakeBroker, Producer, Vec<Receipt>) {
    let broker = broker().await;
    let keys = [
        ("request.timeout.ms", "100"),
        ("delivery.timeout.ms", "200"),
    ];
    let producer = producer(&broker, &keys);
    acked(send(&producer, 0).await).await;
    broker.crash(0);
    let receipts = send_all(&producer, 0..10).await;
    (broker, producer, receipts)
}

async fn within<F: Future>(future: F) -> F::Output {
    let waited = tokio::time::timeout(PATIENCE, future).await;
    waited.expect("it hangs")
}

async fn close(producer: Producer) {
    within(producer.close(PATIENCE)).await.expect("closed");
}

/// A thread without any runtime.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = std::sync::Arc::new(Unpark(std::thread::current())).into();
    let mut context = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            std::task::Poll::Ready(output) => return output,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
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
