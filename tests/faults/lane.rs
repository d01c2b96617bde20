//! The exclusive door: what goes through it is as well off as what is sent through the shared one.

use std::sync::Arc;

use forebay::{
    BorrowedReceipt, BorrowedRecord, Header, Interceptor, Reason, Receipts, SendError, SinkError,
};
use futures_util::{SinkExt, StreamExt, stream};
use krafka::error::ErrorCode;
use krafka::testing::{ApiKey, Control};

use crate::*;

fn value(value: &str) -> BorrowedRecord<'_> {
    BorrowedRecord::to("t").value(value)
}

#[tokio::test]
async fn each_record_arrives_as_it_was_and_tells_where() {
    let broker = cluster(2).await;
    broker.create_topic("wide", 3);
    let producer = producer(&broker, &[("batch.size", "300")]);
    let mut lane = producer.lane();
    let headers = [Header::null("trace")];
    let mut receipts = Receipts::default();
    let mut partitions = Vec::new();
    for i in 0..200 {
        // The bytes are the caller's again as soon as the call returns.
        let (key, value) = (format!("k{}", i % 7), format!("v{i}"));
        let topic = if i % 5 == 0 { "t" } else { "wide" };
        let record = BorrowedRecord::to(topic).key(&key).value(&value);
        let record = record.headers(&headers).timestamp(1_000 + i);
        let sent = within(lane.send(record)).await.expect("accepted");
        assert_eq!(sent.timestamp(), 1_000 + i);
        partitions.push((topic, sent.partition()));
        receipts.push(sent);
    }
    assert_eq!(receipts.len(), 200);
    for (i, (topic, partition)) in partitions.into_iter().enumerate() {
        let outcome = within(receipts.next()).await.expect("one for each");
        let acked = outcome.expect("acked");
        assert_eq!(acked.partition, partition);
        let log = broker.all_records(topic).expect("a log");
        let mut there = log
            .iter()
            .filter(|it| (it.partition, Some(it.offset)) == (partition, acked.offset));
        let record = there.next().expect("it is where the receipt says");
        assert_eq!(record.value.as_deref(), Some(format!("v{i}").as_bytes()));
        assert_eq!(
            record.key.as_deref(),
            Some(format!("k{}", i % 7).as_bytes())
        );
        assert_eq!(record.timestamp, 1_000 + i as i64);
    }
    assert!(within(receipts.next()).await.is_none());
    close(producer).await;
}

#[tokio::test]
async fn an_idle_lane_lingers_no_longer_than_others() {
    let broker = broker().await;
    let producer = producer(&broker, &[("linger.ms", "20")]);
    let mut lane = producer.lane();
    for _ in 0..3 {
        let receipt = lane.send(value("x")).await.expect("accepted").receipt();
        // Nobody touches the lane meanwhile, nobody flushes, and nobody awaits it.
        while receipt.outcome().is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        acked(receipt).await;
    }
    close(producer).await;
}

#[tokio::test]
async fn doors_may_be_mixed_and_dropped() {
    let broker = broker().await;
    let producer = producer(&broker, &[("linger.ms", "50")]);
    let mut lane = producer.lane();
    let mut other = producer.lane();
    for i in 0..30 {
        let text = i.to_string();
        match i % 3 {
            0 => drop(lane.send(value(&text)).await.expect("accepted")),
            1 => drop(other.send(value(&text)).await.expect("accepted")),
            _ => drop(send(&producer, i).await),
        }
    }
    drop((lane, other));
    within(producer.flush()).await.expect("flushed");
    assert_eq!(log(&broker), numbers(30));
    close(producer).await;
}

#[tokio::test]
async fn a_lane_may_go_to_another_thread() {
    let broker = broker().await;
    let producer = producer(&broker, &[]);
    let mut lane = producer.lane();
    acked(lane.send(value("0")).await.expect("accepted").receipt()).await;
    let sending = tokio::task::spawn_blocking(move || {
        futures_util::future::FutureExt::now_or_never(lane.send(value("1")))
            .expect("it need not wait")
            .map(|sent: BorrowedReceipt<'_>| sent.receipt())
    });
    acked(within(sending).await.expect("no panic").expect("accepted")).await;
    assert_eq!(log(&broker), numbers(2));
    close(producer).await;
}

#[tokio::test]
async fn a_lane_waits_for_memory_and_may_stop_waiting() {
    let (broker, producer) = short_of_memory().await;
    let mut lane = producer.lane();
    let mut receipts = Receipts::default();
    let mut dropped = 0;
    let text = |i: usize| format!("{i:0700}");
    while receipts.len() < 40 {
        let text = text(receipts.len());
        match tokio::time::timeout(Duration::from_millis(20), lane.send(value(&text))).await {
            Ok(sent) => receipts.push(sent.expect("accepted")),
            Err(_) => dropped += 1, // it was not accepted, and is sent again
        }
    }
    assert!(dropped > 0, "memory was never short");
    all_told(receipts).await;
    assert_eq!(log(&broker), (0..40).map(text).collect::<Vec<_>>());
    close(producer).await;
}

#[tokio::test]
async fn refusals_are_those_of_the_shared_door() {
    let broker = broker().await;
    let producer = producer(
        &broker,
        &[("max.request.size", "2000"), ("max.block.ms", "60")],
    );
    let mut lane = producer.lane();
    let refused = |sent: Result<BorrowedReceipt<'_>, SendError>| sent.expect_err("refused");
    // INVALID_TOPIC_EXCEPTION
    broker.on_once(ApiKey::Metadata, |_| {
        Control::Error(ErrorCode::from_i16(17))
    });
    let error = refused(within(lane.send(BorrowedRecord::to("denied").value("x"))).await);
    assert!(matches!(error, SendError::TopicRefused { .. }), "{error}");
    acked(lane.send(value("x")).await.expect("accepted").receipt()).await;
    let error = refused(lane.send(value("x").timestamp(-5)).await);
    assert!(matches!(error, SendError::NegativeTimestamp(-5)), "{error}");
    let error = refused(lane.send(value("x").partition(9)).await);
    assert!(
        matches!(error, SendError::PartitionOutOfRange { partition: 9, .. }),
        "{error}"
    );
    let error = refused(lane.send(value(&"x".repeat(3000))).await);
    assert!(matches!(error, SendError::TooLarge { .. }), "{error}");
    acked(lane.send(value("x")).await.expect("accepted").receipt()).await;
    close(producer).await;
    let error = refused(lane.send(value("x")).await);
    assert!(matches!(error, SendError::Closed), "{error}");
}

#[tokio::test]
async fn interceptors_see_what_a_lane_sends() {
    struct Shout;
    impl Interceptor for Shout {
        fn on_send(&self, record: Record) -> Record {
            assert_ne!(record.value_bytes().map(|it| &it[..]), Some(&b"panic"[..]));
            Record::to("t").value("loud")
        }
    }
    let broker = broker().await;
    let builder = Producer::builder().interceptor(Shout);
    let producer = builder.start(config(&broker.bootstrap_servers(), &[]));
    let producer = producer.expect("a producer");
    let mut lane = producer.lane();
    let receipt = within(lane.send(value("soft"))).await.expect("accepted");
    acked(receipt.receipt()).await;
    let refused = within(lane.send(value("panic"))).await;
    assert!(matches!(refused, Err(SendError::Panicked { .. })));
    assert_eq!(log(&broker), ["loud"]);
    close(producer).await;
}

#[tokio::test]
async fn a_lane_is_a_sink_whose_flush_says_that_all_is_written() {
    let broker = broker().await;
    let keys = [
        ("batch.size", "1024"),
        ("buffer.memory", "4096"),
        ("linger.ms", "10000"),
    ];
    let producer = producer(&broker, &keys);
    let mut lane = producer.lane();
    // The topic is not known yet and memory is short: the sink waits where it has to.
    let mut records = stream::iter((0..200).map(|i| Ok(to(i))));
    within(lane.send_all(&mut records)).await.expect("written");
    assert_eq!(log(&broker), numbers(200));
    within(SinkExt::<Record>::close(&mut lane))
        .await
        .expect("nothing is open");
    within(SinkExt::send(&mut lane, to("200")))
        .await
        .expect("a lane that was closed goes on");
    close(producer).await;
}

#[tokio::test]
async fn a_sink_says_what_was_not_written() {
    let broker = broker().await;
    let producer = producer(&broker, &[("max.block.ms", "60")]);
    let mut lane = producer.lane();
    within(SinkExt::send(&mut lane, to("fine")))
        .await
        .expect("written");
    // INVALID_TIMESTAMP is not tried again.
    broker.on_once(ApiKey::Produce, |_| Control::Error(ErrorCode::from_i16(32)));
    match within(SinkExt::send(&mut lane, to("wrong"))).await {
        Err(SinkError::Unconfirmed(Unconfirmed::NotWritten(Reason::Broker(error)))) => {
            assert_eq!(error.code, 32);
        }
        other => panic!("{other:?}"),
    }
    broker.on_once(ApiKey::Metadata, |_| {
        Control::Error(ErrorCode::from_i16(17))
    });
    let nowhere = Record::to("?").value("x");
    let refused = within(SinkExt::send(&mut lane, nowhere)).await;
    assert!(matches!(refused, Err(SinkError::Refused(_))), "{refused:?}");
    // It goes on.
    within(SinkExt::send(&mut lane, to("again")))
        .await
        .expect("written");
    assert_eq!(log(&broker), ["fine", "again"]);
    close(producer).await;
}

#[tokio::test]
async fn receipts_are_kept_by_runs_whatever_the_order() {
    let broker = cluster(1).await;
    broker.create_topic("wide", 4);
    let producer = producer(&broker, &[("batch.size", "200"), ("linger.ms", "2")]);
    let mut lane = producer.lane();
    let mut receipts = Receipts::default();
    let mut expected = Vec::new();
    let topic: Arc<str> = "wide".into();
    for i in 0..300u32 {
        let partition = (i * i % 7 % 4) as i32;
        let bytes = i.to_be_bytes();
        let record = BorrowedRecord::to(&topic)
            .partition(partition)
            .value(&bytes);
        receipts.push(lane.send(record).await.expect("accepted"));
        expected.push(partition);
    }
    let mut next = [0; 4];
    let outcomes: Vec<_> = within(receipts.collect()).await;
    assert_eq!(outcomes.len(), expected.len());
    for (outcome, partition) in outcomes.into_iter().zip(expected) {
        let acked = outcome.expect("acked");
        let next = &mut next[partition as usize];
        assert_eq!((acked.partition, acked.offset), (partition, Some(*next)));
        *next += 1;
    }
    close(producer).await;
}
