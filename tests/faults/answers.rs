//! Answers to produce requests: what a retry makes of them, and what else they say.

use krafka::error::ErrorCode;
use krafka::testing::{ApiKey, Control};

use crate::scripted::{Answer, Scripted, Twist};
use crate::*;

const ONE_BATCH: &[(&str, &str)] = &[("linger.ms", "20")];

fn error(code: i16) -> Control {
    Control::Error(ErrorCode::from_i16(code))
}

#[tokio::test]
async fn what_may_succeed_later_is_tried_again() {
    let broker = broker().await;
    let producer = producer(&broker, &[]);
    // Errors before the append, and those of a broker that does not know us any more.
    let codes = [
        2, 3, 5, 6, 7, 8, 9, 19, 20, 45, 47, 56, 59, 74, 75, 89, 100, 103,
    ];
    for (at, code) in codes.into_iter().enumerate() {
        broker.on_once(ApiKey::Produce, move |_| error(code));
        let acked = acked(send(&producer, at).await).await;
        assert_eq!(acked.offset, Some(at as i64), "{code}");
    }
    assert_eq!(log(&broker), numbers(codes.len()));
    assert_eq!(broker.request_count(ApiKey::Produce), 2 * codes.len());
    assert_eq!(
        broker.request_count(ApiKey::InitProducerId),
        1,
        "bumps are local"
    );
    close(producer).await;
}

#[tokio::test]
async fn what_was_appended_all_the_same_is_not_appended_twice() {
    let broker = broker().await;
    let producer = producer(&broker, &[]);
    let codes = [3, 6, 7, 20, 56, 100];
    for (at, code) in codes.into_iter().enumerate() {
        broker.on_once(ApiKey::Produce, move |_| {
            Control::ApplyThen(Box::new(error(code)))
        });
        let acked = acked(send(&producer, at).await).await;
        assert_eq!(acked.offset, Some(at as i64), "{code}");
    }
    assert_eq!(log(&broker), numbers(codes.len()));
    close(producer).await;
}

#[tokio::test]
async fn a_batch_the_broker_finds_too_large_goes_in_parts() {
    let broker = broker().await;
    let producer = producer(&broker, ONE_BATCH);
    acked(send(&producer, 0).await).await;
    broker.on_times(ApiKey::Produce, 3, |_| error(10));
    let receipts = send_all(&producer, 1..17).await;
    for (at, receipt) in (1..).zip(receipts) {
        assert_eq!(acked(receipt).await.offset, Some(at));
    }
    assert_eq!(log(&broker), numbers(17));
    let figures = producer.figures().await.expect("figures");
    assert_eq!(figures.partitions[0].splits, 3);
    close(producer).await;
}

#[tokio::test]
async fn an_error_in_the_middle_keeps_the_order() {
    let broker = broker().await;
    let producer = producer(&broker, &[]);
    let errors = [19, 6, 0, 45, 0, 0, 20, 59, 7];
    broker.on(ApiKey::Produce, move |request| {
        match errors.get(request.api_call_index as usize % 31) {
            None | Some(0) => Control::Pass,
            Some(20) => Control::ApplyThen(Box::new(error(20))),
            Some(code) => error(*code),
        }
    });
    let receipts = send_all(&producer, 0..300).await;
    all_acked(receipts).await;
    assert_eq!(log(&broker), numbers(300));
    close(producer).await;
}

/// Brokers keep epochs for each partition, so where one begins anew another need not.
#[tokio::test]
async fn a_refusal_concerns_its_partition_alone() {
    let twist = |before, answer: &mut Answer| {
        if let (2, Answer::Produce(response)) = (before, answer) {
            let answered = &mut response.responses[0].partition_responses[0];
            assert_eq!(answered.index, 0);
            answered.error_code = 59; // UNKNOWN_PRODUCER_ID
        }
    };
    let broker = Scripted::start(11, Twist::answering(twist)).await;
    let producer = Producer::start(config(&broker.servers(), &[])).expect("a producer");
    for partition in [0, 1, 0, 1, 0] {
        let record = Record::to("t").partition(partition).value("x");
        acked(within(producer.send(record)).await.expect("accepted")).await;
    }
    assert_eq!(broker.epoch(0), Some(1));
    assert_eq!(broker.epoch(1), Some(0), "nothing happened there");
    assert_eq!(
        broker.requests(kafka_protocol::messages::ApiKey::InitProducerId),
        1
    );
    close(producer).await;
}

#[tokio::test]
async fn a_throttled_producer_waits_and_takes_it_for_no_failure() {
    let broker = broker().await;
    let producer = producer(&broker, &[("request.timeout.ms", "300")]);
    broker.set_throttle(ApiKey::Produce, Duration::from_millis(400));
    acked(send(&producer, 0).await).await;
    let figures = producer.figures().await.expect("figures");
    assert!(figures.brokers.iter().any(|broker| broker.throttled));
    broker.set_throttle(ApiKey::Produce, Duration::ZERO);
    acked(send(&producer, 1).await).await;
    assert_eq!(broker.request_count(ApiKey::Produce), 2, "nothing again");
    close(producer).await;
}

#[tokio::test]
async fn nobody_is_asked_with_acks_0() {
    let broker = broker().await;
    let keys = [("acks", "0"), ("enable.idempotence", "false")];
    let producer = producer(&broker, &keys);
    for receipt in send_all(&producer, 0..50).await {
        assert!(is_unknown(&outcome(receipt).await));
    }
    close(producer).await;
    assert!(broker.request_count(ApiKey::Produce) > 0);
    assert_eq!(broker.request_count(ApiKey::InitProducerId), 0);
}
