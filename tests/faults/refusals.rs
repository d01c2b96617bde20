//! Records that are never accepted, each with its reason.

use forebay::{Reason, SendError, Unconfirmed, WaitsFor};
use futures_util::FutureExt;
use kafka_protocol::messages::ApiKey as ApiKeyNumber;
use krafka::error::ErrorCode;
use krafka::testing::{ApiKey, Control};

use crate::scripted::{Answer, Scripted, Twist, node};
use crate::*;

async fn refusal(producer: &Producer, record: Record) -> SendError {
    within(producer.send(record)).await.expect_err("refused")
}

#[tokio::test]
async fn a_topic_nobody_knows() {
    let broker = broker().await;
    broker.on(ApiKey::Metadata, |_| Control::Error(ErrorCode::from_i16(3)));
    let producer = producer(&broker, &[("max.block.ms", "100")]);
    match refusal(&producer, Record::to("nowhere").value("x")).await {
        SendError::TopicUnknown {
            topic,
            waited,
            why,
            error,
            ..
        } => {
            assert_eq!((&*topic, waited.as_millis()), ("nowhere", 100));
            assert!(why.contains("UNKNOWN_TOPIC_OR_PARTITION"), "{why}");
            assert_eq!(error.map(|error| error.code), Some(3));
        }
        other => panic!("{other:?}"),
    }
    // It may come up later.
    broker.clear_hooks();
    acked(send(&producer, 0).await).await;
    close(producer).await;
}

#[tokio::test]
async fn a_topic_that_is_not_allowed() {
    for code in [17, 29] {
        let broker = broker().await;
        broker.on_once(ApiKey::Metadata, move |_| {
            Control::Error(ErrorCode::from_i16(code))
        });
        let producer = producer(&broker, &[]);
        let refused = refusal(&producer, to("x")).await;
        assert!(
            matches!(refused, SendError::TopicRefused { .. }),
            "{refused:?}"
        );
        acked(send(&producer, 0).await).await;
        close(producer).await;
    }
}

#[tokio::test]
async fn no_broker_at_all() {
    let broker = broker().await;
    broker.crash(0);
    let producer = producer(&broker, &[("max.block.ms", "100")]);
    let refused = refusal(&producer, to("x")).await;
    assert!(
        matches!(refused, SendError::TopicUnknown { .. }),
        "{refused:?}"
    );
    close(producer).await;
}

#[tokio::test]
async fn a_partition_the_topic_does_not_have() {
    let broker = broker().await;
    let producer = producer(&broker, &[]);
    acked(send(&producer, 0).await).await;
    for partition in [1, -1, i32::MAX] {
        match refusal(&producer, to("x").partition(partition)).await {
            SendError::PartitionOutOfRange {
                partition: told,
                count: 1,
                ..
            } => assert_eq!(told, partition),
            other => panic!("{other:?}"),
        }
    }
    close(producer).await;
    assert_eq!(log(&broker), numbers(1));
}

#[tokio::test]
async fn a_record_that_is_too_large_or_too_old() {
    let broker = broker().await;
    let producer = producer(
        &broker,
        &[("max.request.size", "2000"), ("batch.size", "1000")],
    );
    match refusal(&producer, to("x".repeat(2000))).await {
        SendError::TooLarge {
            key, limit, size, ..
        } => {
            assert_eq!((key, limit), ("max.request.size", 2000));
            assert!(size > 2000);
        }
        other => panic!("{other:?}"),
    }
    let refused = refusal(&producer, to("x").timestamp(-1)).await;
    assert!(matches!(refused, SendError::NegativeTimestamp(-1)));
    // Larger than a batch is none of that.
    acked(send(&producer, "y".repeat(1800)).await).await;
    close(producer).await;
}

#[tokio::test]
async fn after_the_close() {
    let broker = broker().await;
    let producer = producer(&broker, &[]);
    acked(send(&producer, 0).await).await;
    let clone = producer.clone();
    close(producer).await;
    let refused = refusal(&clone, to("x")).await;
    assert!(matches!(refused, SendError::Closed));
    let (record, refused) = clone.try_send(to("x")).expect_err("refused").into_parts();
    assert!(matches!(refused, SendError::Closed));
    assert_eq!(record, to("x"), "it comes back");
    assert!(clone.close(PATIENCE).await.is_ok(), "closed is closed");
    assert!(clone.flush().await.is_err() && clone.figures().await.is_err());
}

#[tokio::test]
async fn a_send_that_was_dropped_leaves_nothing() {
    let broker = broker().await;
    let producer = producer(&broker, &[]);
    assert!(producer.send(to("dropped")).now_or_never().is_none());
    acked(send(&producer, "kept").await).await;
    close(producer).await;
    assert_eq!(log(&broker), ["kept"]);
}

#[tokio::test]
async fn what_would_have_to_wait() {
    let broker = broker().await;
    let producer = producer(&broker, &[]);
    let (record, refused) = producer
        .try_send(to("x"))
        .expect_err("refused")
        .into_parts();
    assert!(
        matches!(refused, SendError::WouldBlock(WaitsFor::Topic)),
        "{refused:?}"
    );
    assert_eq!(record, to("x"), "it comes back");
    // The refusal has asked for the topic.
    let sent = async {
        loop {
            match producer.try_send(to("later")) {
                Ok(receipt) => return acked(receipt).await,
                Err(refused) => match refused.error() {
                    SendError::WouldBlock(_) => tokio::task::yield_now().await,
                    other => panic!("{other:?}"),
                },
            }
        }
    };
    within(sent).await;
    close(producer).await;
    assert_eq!(log(&broker), ["later"]);
}

/// CLUSTER_AUTHORIZATION_FAILED, and UNSUPPORTED_VERSION. `delivery.timeout.ms` is two minutes.
#[tokio::test]
async fn without_leave_to_be_idempotent_records_fail_at_once_and_later_ones_may_go() {
    for (brokers, code) in [(1, 31), (3, 31), (1, 35), (3, 53)] {
        let broker = cluster(brokers).await;
        broker.on(ApiKey::InitProducerId, move |_| {
            Control::Error(ErrorCode::from_i16(code))
        });
        let producer = producer(&broker, &[]);
        let asked = || broker.request_count(ApiKey::InitProducerId);
        for times in 1..=2 {
            let failed = outcome(send(&producer, "x").await).await;
            let Err(Unconfirmed::NotWritten(Reason::NoProducerId { why, .. })) = failed else {
                panic!("{failed:?}");
            };
            assert!(why.contains("enable.idempotence=false"), "{why}");
            assert_eq!(asked(), times * brokers.min(2), "{code} by {brokers}");
        }
        // Leave may be given later.
        broker.clear_hooks();
        acked(send(&producer, "y").await).await;
        close(producer).await;
        assert_eq!(log(&broker), ["y"]);
    }
}

/// One has old rules, and one cannot be reached. The one that refuses is no second broker, though it is
/// asked again.
#[tokio::test]
async fn a_producer_id_that_one_broker_refuses_is_had_of_another() {
    for _ in 0..8 {
        let grants = Scripted::start(12, Twist::default()).await;
        let other = grants.port;
        let refuses = move |_, answer: &mut Answer| match answer {
            Answer::InitProducerId(answer) => answer.error_code = 31,
            Answer::Metadata(metadata) => {
                metadata.brokers.extend([node(1, 1), node(2, other)]);
            }
            _ => {}
        };
        let broker = Scripted::start(12, Twist::answering(refuses)).await;
        let producer = Producer::start(config(&broker.servers(), &[])).expect("a producer");
        acked(send(&producer, "x").await).await;
        assert!(broker.requests(ApiKeyNumber::InitProducerId) <= 1);
        close(producer).await;
    }
}

/// COORDINATOR_LOAD_IN_PROGRESS passes by itself. It is asked for at growing intervals.
#[tokio::test]
async fn a_refusal_that_passes_is_asked_again_after_a_wait_that_grows() {
    let broker = broker().await;
    broker.on(ApiKey::InitProducerId, |_| {
        Control::Error(ErrorCode::from_i16(14))
    });
    let keys = [
        ("retry.backoff.ms", "100"),
        ("retry.backoff.max.ms", "1000"),
        ("request.timeout.ms", "1000"),
        ("delivery.timeout.ms", "3000"),
    ];
    let producer = producer(&broker, &keys);
    let failed = outcome(send(&producer, "x").await).await;
    let Err(Unconfirmed::NotWritten(Reason::Expired { last, .. })) = failed else {
        panic!("{failed:?}");
    };
    let last = last.expect("a reason");
    assert!(last.contains("COORDINATOR_LOAD_IN_PROGRESS"), "{last}");
    // After 0.1, 0.2, 0.4, 0.8 and then every second, give or take a fifth.
    let asked = broker.request_count(ApiKey::InitProducerId);
    assert!((3..=8).contains(&asked), "asked {asked} times");
    close(producer).await;
}
