//! What happens because time passes: linger, expiry, the age of metadata.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use forebay::{Component, Interceptor, Reason, SendError, TopicPartition};
use krafka::error::ErrorCode;
use krafka::testing::{ApiKey, Control};

use crate::*;

#[tokio::test]
async fn a_batch_goes_when_it_has_lingered() {
    let broker = broker().await;
    broker.create_topic("two", 2);
    let producer = producer(&broker, &[("linger.ms", "80")]);
    for topic in ["t", "two"] {
        producer.partitions_for(topic).await.expect("a topic");
    }
    let began = Instant::now();
    let receipts = send_all(&producer, 0..10).await;
    let other = Record::to("two").partition(1).value("x");
    let other = within(producer.send(other)).await.expect("accepted");
    // Nobody awaits them: they would go at once.
    while receipts.iter().any(|receipt| receipt.outcome().is_none()) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    all_acked(receipts).await;
    acked(other).await;
    // Nobody asked for a flush: both partitions went by themselves, and not before their time.
    assert!(began.elapsed() >= Duration::from_millis(80));
    let requests = broker.request_count(ApiKey::Produce);
    assert!(
        requests <= 2,
        "the records of a partition go together: {requests}"
    );
    close(producer).await;
    assert_eq!(log(&broker), numbers(10));
}

/// One request at a time, of one batch, and a broker that takes most of a record's time for each.
#[tokio::test]
async fn what_has_lingered_and_waits_for_its_turn_expires_in_time() {
    const PARTITIONS: i32 = 8;
    let broker = broker().await;
    broker.create_topic("many", PARTITIONS);
    let keys = [
        ("linger.ms", "20"),
        ("max.in.flight.requests.per.connection", "1"),
        ("max.request.size", "1024"),
        ("batch.size", "1024"),
        ("request.timeout.ms", "1000"),
        ("delivery.timeout.ms", "1020"),
    ];
    let producer = producer(&broker, &keys);
    producer.partitions_for("many").await.expect("a topic");
    let send = |partition| {
        let value = format!("{partition:0700}");
        let record = Record::to("many").partition(partition).value(value);
        within(producer.send(record))
    };
    for partition in 0..PARTITIONS {
        acked(send(partition).await.expect("accepted")).await;
    }
    // The alarms that were set for these have passed.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let before = broker.request_count(ApiKey::Produce);
    broker.on(ApiKey::Produce, |_| {
        Control::Delay(Duration::from_millis(800))
    });
    let mut receipts = Vec::new();
    for partition in 0..PARTITIONS {
        receipts.push(send(partition).await.expect("accepted"));
    }
    let mut expired = 0;
    for receipt in receipts {
        expired += i32::from(is_not_written(&outcome(receipt).await));
    }
    let requests = broker.request_count(ApiKey::Produce) - before;
    assert!(
        requests <= 2,
        "nobody looked before the {requests}th request"
    );
    assert!(expired >= PARTITIONS - 2, "{expired} expired");
    close(producer).await;
}

#[tokio::test]
async fn what_expires_in_several_partitions_is_told_for_each() {
    let broker = broker().await;
    broker.create_topic("many", 4);
    let keys = [
        ("request.timeout.ms", "100"),
        ("delivery.timeout.ms", "200"),
    ];
    let producer = producer(&broker, &keys);
    producer.partitions_for("many").await.expect("a topic");
    let to = |partition: i32, value: &str| {
        Record::to("many")
            .partition(partition)
            .value(value.to_owned())
    };
    broker.on(ApiKey::Produce, |_| Control::Error(ErrorCode::from_i16(19)));
    // An attempt may be under way at that very moment, and be let in when others are.
    let mut unknown = Vec::new();
    for round in 0..2 {
        let mut receipts = Vec::new();
        for partition in 0..4 {
            let value = format!("lost {round} {partition}");
            let sent = within(producer.send(to(partition, &value))).await;
            receipts.push((sent.expect("accepted"), value));
        }
        for (receipt, value) in receipts {
            let last = match outcome(receipt).await {
                Err(Unconfirmed::NotWritten(Reason::Expired { last, .. })) => last,
                Err(Unconfirmed::Unknown(Reason::Expired { last, .. })) => {
                    unknown.push(value);
                    last
                }
                outcome => panic!("{outcome:?}"),
            };
            assert!(last.is_some_and(|last| last.contains("NOT_ENOUGH_REPLICAS")));
        }
    }
    broker.clear_hooks();
    for partition in 0..4 {
        let sent = within(producer.send(to(partition, "kept"))).await;
        acked(sent.expect("accepted")).await;
    }
    close(producer).await;
    let records = broker.all_records("many").expect("a log");
    let values = records.iter().filter_map(|record| record.value.clone());
    let values = values.map(|value| String::from_utf8(value.to_vec()).expect("text"));
    let (kept, others): (Vec<_>, Vec<_>) = values.partition(|value| value == "kept");
    assert_eq!(kept.len(), 4);
    let stray = others.iter().find(|value| !unknown.contains(value));
    assert_eq!(stray, None, "not written, and there");
}

#[tokio::test]
async fn a_callback_of_what_expired_may_send() {
    let broker = broker().await;
    let keys = [
        ("request.timeout.ms", "100"),
        ("delivery.timeout.ms", "200"),
    ];
    let producer = producer(&broker, &keys);
    producer.partitions_for("t").await.expect("a topic");
    broker.on(ApiKey::Produce, |_| Control::Error(ErrorCode::from_i16(19)));
    let (tell, told) = tokio::sync::oneshot::channel();
    let (again, broker) = (producer.clone(), Arc::new(broker));
    let hooks = Arc::clone(&broker);
    let callback = move |outcome: Outcome| {
        assert!(outcome.is_err(), "{outcome:?}");
        hooks.clear_hooks();
        let _ = tell.send(again.try_send(to("second")));
    };
    let first = producer.send_with(to("first"), callback).await;
    assert!(outcome(first.expect("accepted")).await.is_err());
    let second = within(told).await.expect("called");
    acked(second.expect("accepted")).await;
    close(producer).await;
    assert_eq!(log(&broker), ["second"]);
}

#[tokio::test]
async fn metadata_is_asked_for_again_when_it_is_old() {
    let broker = broker().await;
    let producer = producer(&broker, &[("metadata.max.age.ms", "20")]);
    acked(send(&producer, 0).await).await;
    let more = broker.request_count(ApiKey::Metadata) + 5;
    assert!(
        broker
            .wait_for_requests(ApiKey::Metadata, more, PATIENCE)
            .await
    );
    // And a partition that was added is found without a record that asks for it.
    broker.add_partitions("t", 3);
    let found = async {
        while producer.partitions_for("t").await.expect("a topic").len() < 3 {
            tokio::task::yield_now().await;
        }
    };
    within(found).await;
    close(producer).await;
}

/// A producer that soon forgets a topic that nobody sends to.
fn forgetful(broker: &FakeBroker) -> Producer {
    let keys = [("metadata.max.age.ms", "20")];
    let mut config = config(&broker.bootstrap_servers(), &keys);
    // Less than the least that a configuration takes.
    config.metadata_max_idle = Duration::from_millis(30);
    let builder = Producer::builder().unchecked();
    builder.start(config).expect("a producer")
}

#[tokio::test]
async fn a_topic_nobody_sends_to_is_forgotten_and_goes_on_where_it_was() {
    let broker = broker().await;
    let producer = forgetful(&broker);
    for round in 0..3 {
        acked(send(&producer, 2 * round).await).await;
        acked(send(&producer, 2 * round + 1).await).await;
        // Nobody asks for topics any more when there is none that somebody sends to.
        let forgotten = async {
            loop {
                let before = broker.request_count(ApiKey::Metadata);
                tokio::time::sleep(Duration::from_millis(150)).await;
                if broker.request_count(ApiKey::Metadata) == before {
                    return;
                }
            }
        };
        within(forgotten).await;
    }
    assert_eq!(log(&broker), numbers(6));
    assert_eq!(
        broker.request_count(ApiKey::InitProducerId),
        1,
        "sequences go on"
    );
    close(producer).await;
}

/// Its stage was closed before, and not because nobody sends to it.
#[tokio::test]
async fn a_topic_with_a_partition_that_was_retired_is_let_go_of_too() {
    let broker = broker().await;
    let producer = forgetful(&broker);
    acked(send(&producer, 0).await).await;
    producer.retire(Component::Partition(TopicPartition::new("t", 0)));
    let freed = async {
        while !producer
            .figures()
            .await
            .expect("figures")
            .partitions
            .is_empty()
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within(freed).await;
    let asked = broker.request_count(ApiKey::Metadata);
    tokio::time::sleep(Duration::from_millis(150)).await;
    let asked = broker.request_count(ApiKey::Metadata) - asked;
    assert!(asked <= 1, "asked {asked} times more");
    // It is made anew, as any other.
    acked(send(&producer, 1).await).await;
    assert_eq!(log(&broker), numbers(2));
    close(producer).await;
}

/// Notes what it hears; the first of two panics each time.
#[derive(Clone, Default)]
struct Notes {
    panics: bool,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Notes {
    fn note(&self, text: String) {
        assert!(!self.panics, "no patience");
        self.heard.lock().expect("no panic").push(text);
    }
}

impl Interceptor for Notes {
    fn on_acknowledgement(&self, delivered: &forebay::BatchOutcome) {
        self.note(format!("{} delivered", delivered.topic_partition));
    }

    fn on_error(&self, topic: &str, error: &SendError) {
        self.note(format!("{topic}: {error}"));
    }
}

#[tokio::test]
async fn interceptors_hear_of_refusals_and_outcomes_whatever_others_do() {
    let broker = broker().await;
    let notes = Notes::default();
    let panicking = Notes {
        panics: true,
        ..Notes::default()
    };
    let producer = Producer::builder()
        .interceptor(panicking)
        .interceptor(notes.clone())
        .start(config(
            &broker.bootstrap_servers(),
            &[("max.request.size", "1000")],
        ))
        .expect("a producer");
    acked(send(&producer, "x").await).await;
    assert!(within(producer.send(to("x".repeat(2000)))).await.is_err());
    assert!(within(producer.send(to("x").partition(9))).await.is_err());
    close(producer).await;
    let heard = notes.heard.lock().expect("no panic").clone();
    let expected = ["max.request.size", "out of range", "t-0 delivered"];
    for what in expected {
        let count = heard.iter().filter(|it| it.contains(what)).count();
        assert_eq!(count, 1, "{what}: {heard:?}");
    }
}
