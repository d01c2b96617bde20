//! Brokers of every age: each version of SendRecord, on a broker made of somebody else's codec.

use crate::scripted::{Scripted, Twist};
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

#[tokio::test]
async fn a_broker_too_old_for_us_is_an_error_in_the_end() {
    let broker = Scripted::start(2, Twist::default()).await;
    let servers = broker.servers();
    let keys = [
        ("request.timeout.ms", "100"),
        ("delivery.timeout.ms", "200"),
    ];
    let producer = Producer::start(config(&servers, &keys)).expect("a producer");
    let outcome = outcome(send(&producer, "x").await).await;
    assert!(is_not_written(&outcome), "{outcome:?}");
    assert!(broker.values(0).is_empty());
    close(producer).await;
}
