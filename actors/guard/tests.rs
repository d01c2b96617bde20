//! A panic in every handler, again and again, and nothing is lost.

use std::collections::HashMap;
use std::time::Duration;

use actix::prelude::*;
use krafka::testing::FakeBroker;

use super::faults;
use crate::config::ConfigBuilder;
use crate::{
    Config, Lifecycle, LifecycleEvent, Part, Placement, Producer, Reason, Record, SendError,
    TopicPartition, Undelivered,
};

/// Every guarded handler on a record's way.
const HANDLERS: [&str; 22] = [
    "ClockActor:WakeAt",
    "IdentityActor:WantIdentity",
    "IdentityActor:Nodes",
    "MetadataActor:WantTopic",
    "MetadataActor:Republish",
    "MetadataActor:Revisit",
    "PartitionActor:FlushPartition",
    "PartitionActor:Identified",
    "PartitionActor:Lead",
    "PartitionActor:LoanBack",
    "PartitionActor:Revisit",
    "PartitionActor:Take",
    "PartitionActor:Tick",
    "PartitionActor:Wake",
    "PoolActor:LeaseMemory",
    "PoolActor:Restock",
    "RuntimeActor:Install",
    "SenderActor:FromLink",
    "SenderActor:Offer",
    "SenderActor:Pump",
    "SenderActor:Ready",
    "SenderActor:Revisit",
];

const RECORDS: usize = 400;

async fn broker() -> FakeBroker {
    let broker = FakeBroker::start_cluster(2).await.expect("a cluster");
    assert!(broker.create_topic("t", 3));
    broker
}

fn config(broker: &FakeBroker) -> ConfigBuilder {
    Config::builder()
        .bootstrap_servers(broker.bootstrap_servers())
        .set("batch.size", 256)
        .set("buffer.memory", 4096)
        .set("linger.ms", 1)
        .set("retry.backoff.ms", 1)
        .set("reconnect.backoff.ms", 1)
        .set("reconnect.backoff.max.ms", 5)
        .set("retry.backoff.max.ms", 5)
        .set("forebay.restart.max", 1_000_000)
}

fn start(config: ConfigBuilder) -> Producer {
    let config = config.build().expect("a configuration");
    // On this thread, where the faults are planned.
    let builder = Producer::builder().placement(Placement::CurrentArbiter);
    builder.start(config).expect("a producer")
}

/// Sends records, has them acked, and looks for each in the log: once, and in order.
async fn deliver(handler: &str, every: u32, most: u32) -> u32 {
    let within = Duration::from_secs(20);
    let delivered = tokio::time::timeout(within, deliver_all(handler, every, most)).await;
    delivered.unwrap_or_else(|_| panic!("{handler}, every {every}: it hangs"))
}

async fn deliver_all(handler: &str, every: u32, most: u32) -> u32 {
    let broker = broker().await;
    let producer = start(config(&broker));
    faults::plan(handler, every, most);
    let mut receipts = Vec::new();
    for number in 0..RECORDS {
        let record = Record::to("t")
            .partition((number % 3) as i32)
            .value(number.to_string());
        receipts.push(
            producer
                .send(record)
                .await
                .unwrap_or_else(|e| panic!("{handler}: {e}")),
        );
    }
    producer.flush().await.expect("the runtime lives");
    for receipt in receipts {
        let outcome = receipt.await;
        outcome.unwrap_or_else(|e| panic!("{handler}: {e}"));
    }
    let struck = faults::stop();
    let figures = producer.figures().await.expect("the runtime lives");
    assert_eq!(
        (figures.queued_records(), figures.in_flight()),
        (0, 0),
        "{handler}"
    );
    let pool = figures.pool;
    assert_eq!(
        pool.available_bytes, pool.total_bytes,
        "{handler}: memory leaked"
    );
    producer
        .close(Duration::from_secs(5))
        .await
        .expect("closed in time");
    let mut logs: HashMap<i32, Vec<usize>> = HashMap::new();
    for record in broker.all_records("t").expect("records") {
        let value = record.value.expect("a value");
        let number = std::str::from_utf8(&value)
            .expect("text")
            .parse()
            .expect("a number");
        logs.entry(record.partition).or_default().push(number);
    }
    for (partition, numbers) in logs {
        let sent: Vec<_> = (0..RECORDS)
            .filter(|n| (n % 3) as i32 == partition)
            .collect();
        assert_eq!(numbers, sent, "{handler}, partition {partition}");
    }
    struck
}

#[actix::test]
async fn every_handler_may_panic_at_its_first_message() {
    for handler in HANDLERS {
        let struck = deliver(handler, 1, 1).await;
        // These two are only sent where something else has fallen.
        let secondary = handler.contains("Revisit") || handler.contains("Republish");
        assert!(secondary || struck == 1, "{handler} was not reached");
    }
}

#[actix::test]
async fn every_handler_may_panic_again_and_again() {
    for handler in HANDLERS {
        for every in [2, 3, 7] {
            deliver(handler, every, 10).await;
        }
    }
}

struct Ear(Vec<Lifecycle>);

impl Actor for Ear {
    type Context = Context<Self>;
}

impl Handler<Lifecycle> for Ear {
    type Result = ();

    fn handle(&mut self, heard: Lifecycle, _: &mut Context<Self>) {
        self.0.push(heard);
    }
}

#[derive(Message)]
#[rtype(result = "Vec<Lifecycle>")]
struct Heard;

impl Handler<Heard> for Ear {
    type Result = MessageResult<Heard>;

    fn handle(&mut self, _: Heard, _: &mut Context<Self>) -> Self::Result {
        MessageResult(std::mem::take(&mut self.0))
    }
}

#[actix::test]
async fn past_its_budget_a_partition_fails_alone_and_can_be_restarted_by_hand() {
    let broker = broker().await;
    let producer = start(config(&broker).set("forebay.restart.max", 2));
    let ear = Ear(Vec::new()).start();
    producer.subscribe(ear.clone().recipient());
    let send = |partition| producer.send(Record::to("t").partition(partition).value("x"));
    send(0).await.expect("accepted").await.expect("acked");

    faults::plan("PartitionActor:Wake", 1, u32::MAX);
    let undelivered = loop {
        // Within its budget it restarts, and the record goes out all the same.
        if let Err(undelivered) = send(0).await.expect("accepted").await {
            break undelivered;
        }
    };
    let Undelivered::NotWritten(Reason::Failed { part, why }) = &undelivered else {
        panic!("{undelivered:?}");
    };
    assert_eq!(&**part, "the partition t-0");
    assert!(why.contains("injected"), "{why}");
    assert_eq!(faults::stop(), 3);
    assert!(matches!(send(0).await, Err(SendError::Closed)));
    send(1)
        .await
        .expect("accepted")
        .await
        .expect("others do not notice");

    let part = Part::Partition(TopicPartition::new("t", 0));
    producer.restart(part.clone());
    producer.figures().await.expect("behind the restart");
    send(0)
        .await
        .expect("accepted")
        .await
        .expect("it works again");
    let heard = ear.send(Heard).await.expect("alive");
    let events: Vec<_> = heard
        .into_iter()
        .filter(|it| it.part == part)
        .map(|it| it.event)
        .collect();
    let restarted = |event: &&LifecycleEvent| matches!(event, LifecycleEvent::Restarted { .. });
    assert_eq!(events.iter().filter(restarted).count(), 2, "{events:?}");
    assert!(
        events
            .iter()
            .any(|event| matches!(event, LifecycleEvent::Failed { .. }))
    );
    assert_eq!(events.last(), Some(&LifecycleEvent::Recovered));
    producer
        .close(Duration::from_secs(5))
        .await
        .expect("closed in time");
}

#[actix::test]
async fn without_its_pool_the_producer_ends_and_says_so() {
    let broker = broker().await;
    let producer = start(config(&broker).set("forebay.restart.max", 0));
    let send = || producer.send(Record::to("t").partition(0).value(vec![0; 200]));
    send().await.expect("accepted").await.expect("acked");
    faults::plan("PoolActor:LeaseMemory", 1, u32::MAX);
    let mut receipts = Vec::new();
    let refused = loop {
        match send().await {
            Ok(receipt) => receipts.push(receipt),
            Err(refused) => break refused,
        }
        assert!(receipts.len() < 100, "it goes on without its pool");
    };
    faults::stop();
    assert!(matches!(refused, SendError::Closed), "{refused:?}");
    for receipt in receipts {
        let _ = receipt.await; // acked or not: it has an outcome
    }
    producer
        .close(Duration::from_secs(5))
        .await
        .expect("closed already");
}
