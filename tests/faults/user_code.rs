//! Code of the application that panics, and code that is told of outcomes.

use std::sync::{Arc, Mutex};

use actix::prelude::*;
use forebay::partitioner::{Partitioner, TopicPartitions};
use forebay::{BatchOutcome, Interceptor, Placement, SendError, SendRecord};
use tokio::sync::mpsc;

use crate::*;

/// Panics at records whose value starts with "bad", and at every acknowledgement.
struct Unsteady;

impl Interceptor for Unsteady {
    fn on_send(&self, record: Record) -> Record {
        let bad = record
            .value_bytes()
            .is_some_and(|value| value.starts_with(b"bad"));
        assert!(!bad, "bad record");
        record.header("seen", "yes")
    }

    fn on_acknowledgement(&self, _: &BatchOutcome) {
        panic!("cannot stand good news");
    }

    fn on_error(&self, _: &str, _: &SendError) {
        panic!("nor bad ones");
    }
}

struct Wild;

impl Partitioner for Wild {
    fn partition(
        &self,
        _: &str,
        key: Option<&[u8]>,
        _: Option<&[u8]>,
        _: &TopicPartitions<'_>,
    ) -> i32 {
        match key {
            Some(b"panic") => panic!("no idea"),
            Some(b"far") => 99,
            _ => 0,
        }
    }
}

#[tokio::test]
async fn panics_refuse_the_record_and_nothing_else() {
    let broker = broker().await;
    let producer = Producer::builder()
        .interceptor(Unsteady)
        .partitioner(Wild)
        .start(config(&broker.bootstrap_servers(), &[]))
        .expect("a producer");
    let refused = |sent: Result<Receipt, SendError>| sent.expect_err("refused");
    for round in 0..3 {
        let error = refused(producer.send(to("bad")).await);
        assert!(matches!(error, SendError::Panicked { .. }), "{error:?}");
        let record = |key: &'static str| Record::to("t").key(key).value("x");
        let error = refused(producer.send(record("panic")).await);
        assert!(matches!(error, SendError::Panicked { .. }), "{error:?}");
        let error = refused(producer.send(record("far")).await);
        assert!(
            matches!(error, SendError::PartitionOutOfRange { partition: 99, .. }),
            "{error:?}"
        );
        let panicking = |_: Outcome| panic!("a callback's");
        let sent = producer.send_with(to(2 * round), panicking).await;
        acked(sent.expect("accepted")).await;
        acked(send(&producer, 2 * round + 1).await).await;
    }
    close(producer).await;
    assert_eq!(log(&broker), numbers(6));
    let records = broker.all_records("t").expect("a log");
    assert!(records.iter().all(|record| record.headers.len() == 1));
}

#[tokio::test]
async fn callbacks_come_in_order_and_before_close_returns() {
    let broker = broker().await;
    let producer = producer(&broker, &[]);
    let told = Arc::new(Mutex::new(Vec::new()));
    for i in 0..200 {
        let told = Arc::clone(&told);
        let callback = move |outcome: Outcome| {
            let offset = outcome.expect("acked").offset.expect("an offset");
            assert_eq!(offset, i);
            told.lock().expect("no panic").push(i);
        };
        let sent = producer.send_with(to(i), callback).await;
        drop(sent.expect("accepted"));
    }
    close(producer).await;
    assert!(told.lock().expect("no panic").iter().copied().eq(0..200));
}

#[tokio::test]
async fn a_callback_may_send() {
    let broker = broker().await;
    let producer = producer(&broker, &[]);
    producer.partitions_for("t").await.expect("a topic");
    let (tell, mut told) = mpsc::unbounded_channel();
    let again = producer.clone();
    let callback = move |_: Outcome| {
        let _ = tell.send(again.try_send(to("second")));
    };
    let first = producer.send_with(to("first"), callback).await;
    acked(first.expect("accepted")).await;
    let second = within(told.recv()).await.expect("called");
    acked(second.expect("accepted")).await;
    close(producer).await;
    assert_eq!(log(&broker), ["first", "second"]);
}

struct Reader {
    tell: mpsc::UnboundedSender<BatchOutcome>,
}

impl Actor for Reader {
    type Context = Context<Self>;
}

impl Handler<BatchOutcome> for Reader {
    type Result = ();

    fn handle(&mut self, delivered: BatchOutcome, _: &mut Context<Self>) {
        let _ = self.tell.send(delivered);
    }
}

#[actix::test]
async fn an_actor_is_told_of_batches() {
    let broker = broker().await;
    let producer = producer(&broker, &[("linger.ms", "20")]);
    let (tell, mut told) = mpsc::unbounded_channel();
    let reader = Reader { tell }.start();
    let telling = producer.outcomes_to(reader.recipient());
    let mut open = Vec::new();
    for i in 0..100 {
        let record = Record::to("t").partition(0).value(i.to_string());
        let receipt = telling.send(record).await.expect("accepted");
        open.push((receipt.id(), i));
    }
    while !open.is_empty() {
        let delivered = within(told.recv()).await.expect("alive");
        assert_eq!(&*delivered.topic_partition.topic, "t");
        open.retain(|(id, i)| {
            let offset = delivered.offset_of(*id);
            assert!(offset.is_none_or(|offset| offset == *i));
            !delivered.contains(*id)
        });
    }
    drop(telling);
    close(producer).await;
}

#[actix::test]
async fn the_runtime_may_share_an_arbiter() {
    let broker = broker().await;
    let producer = Producer::builder()
        .placement(Placement::CurrentArbiter)
        .start(config(&broker.bootstrap_servers(), &[]))
        .expect("a producer");
    all_acked(send_all(&producer, 0..100).await).await;
    let partition = producer.partition_actor("t", 0).await.expect("an actor");
    let produced =
        within(partition.send(SendRecord::new(Record::to("elsewhere").value("100")))).await;
    acked(produced.expect("alive").expect("accepted")).await;
    close(producer).await;
    assert_eq!(log(&broker), numbers(101));
}

#[test]
fn without_an_arbiter_there_is_none_to_share() {
    let config = config("localhost:1", &[]);
    let refused = Producer::builder()
        .placement(Placement::CurrentArbiter)
        .start(config);
    assert!(matches!(refused, Err(forebay::StartError::NoArbiter)));
}
