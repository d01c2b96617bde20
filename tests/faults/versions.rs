//! Brokers of every age: each version of SendRecord, on a broker made of somebody else's codec.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kafka_protocol::messages::ApiKey;

use crate::scripted::{Answer, Scripted, Twist};
use crate::*;

#[tokio::test]
async fn each_version_of_produce_is_spoken() {
    for version in 3..=13 {
        let broker = Scripted::start(version, Twist::default()).await;
        let servers = broker.servers();
        let config = config(&servers, &[("linger.ms", "10")]);
        let producer = Producer::start(config).expect("a producer");
        let mut receipts = Vec::new();
        for i in 0..20 {
            let record = Record::to("t").partition(i % 2).value(i.to_string());
            receipts.push(within(producer.send(record)).await.expect("accepted"));
        }
        for (i, receipt) in (0..).zip(receipts) {
            assert_eq!(
                acked(receipt).await.offset,
                Some(i / 2),
                "version {version}"
            );
        }
        close(producer).await;
        for partition in 0..2 {
            let expected = (partition..20).step_by(2).map(|i| i.to_string());
            assert!(expected.eq(broker.values(partition)), "version {version}");
        }
    }
}

/// `delivery.timeout.ms` is two minutes.
#[tokio::test]
async fn what_a_broker_of_unknown_versions_leads_fails_at_once_until_it_is_exchanged() {
    for (range, advice) in [
        (Some((0, 2)), "Kafka 0.11 or newer"),
        (Some((14, 20)), "newer release of this client"),
        (None, "is this a Kafka broker"),
    ] {
        let odd = Arc::new(AtomicBool::new(true));
        let still = Arc::clone(&odd);
        let change = move |_: usize, answer: &mut Answer| {
            let Answer::ApiVersions(answer) = answer else {
                return;
            };
            match range {
                _ if !still.load(Ordering::Relaxed) => {}
                None => drop(answer.api_keys.remove(0)),
                Some((min, max)) => {
                    answer.api_keys[0].min_version = min;
                    answer.api_keys[0].max_version = max;
                }
            }
        };
        let broker = Scripted::start(11, Twist::answering(change)).await;
        let producer = Producer::start(config(&broker.servers(), &[])).expect("a producer");
        for value in 0..2 {
            let failed = outcome(send(&producer, value).await).await;
            let Err(Unconfirmed::NotWritten(reason)) = failed else {
                panic!("{failed:?}");
            };
            let said = reason.to_string();
            assert!(said.contains(&broker.servers()), "{said}");
            assert!(said.contains("no common version of Produce"), "{said}");
            assert!(said.contains(advice), "{said}");
        }
        odd.store(false, Ordering::Relaxed);
        acked(send(&producer, "x").await).await;
        assert_eq!(broker.values(0), ["x"]);
        close(producer).await;
    }
}

/// Such a broker would take the batch for one without a codec that it knows, and answer with an unknown
/// error.
#[cfg(feature = "zstd")]
#[tokio::test]
async fn a_broker_that_is_too_old_for_zstd_fails_its_records_at_once() {
    let broker = Scripted::start(6, Twist::default()).await;
    let keys = [("compression.type", "zstd")];
    let producer = Producer::start(config(&broker.servers(), &keys)).expect("a producer");
    let failed = outcome(send(&producer, 0).await).await;
    let Err(Unconfirmed::NotWritten(reason)) = failed else {
        panic!("{failed:?}");
    };
    let said = reason.to_string();
    assert!(said.contains(&broker.servers()), "{said}");
    assert!(said.contains("too old for compression.type=zstd"), "{said}");
    assert!(said.contains("Kafka 2.1"), "{said}");
    assert_eq!(broker.requests(ApiKey::Produce), 0);
    close(producer).await;
}

/// As Azure's Event Hubs do: they do not say which versions they have.
#[tokio::test]
async fn a_broker_that_closes_on_a_new_version_is_asked_in_an_old_one() {
    let twist = Twist {
        newest_versions: Some(0),
        ..Twist::default()
    };
    let broker = Scripted::start(11, twist).await;
    let keys = [("connections.max.idle.ms", "20")];
    let producer = Producer::start(config(&broker.servers(), &keys)).expect("a producer");
    let mut connections = 0;
    for value in 0..3 {
        acked(send(&producer, value).await).await;
        let idle = async {
            let figures = || async { producer.figures().await.expect("figures") };
            while figures().await.brokers[0].connected {
                tokio::task::yield_now().await;
            }
        };
        within(idle).await;
        assert!(
            broker.requests(ApiKey::ApiVersions) > connections,
            "a new connection"
        );
        connections = broker.requests(ApiKey::ApiVersions);
    }
    // Once for metadata, once for the producer id, once for records.
    assert_eq!(broker.closed(), 3);
    close(producer).await;
}
