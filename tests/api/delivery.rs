//! Records through the actors to somebody else's broker, and what comes back.

use std::time::Duration;

use forebay::{BigEndian, Config, FromFn, Producer, Record, RecordPart, SendError, TypedProducer};
use krafka::testing::FakeBroker;

#[actix::test]
async fn acked_records_are_in_the_log_in_order() {
    let broker = FakeBroker::start_cluster(3).await.expect("a cluster");
    broker.create_topic("orders", 4);
    let config = Config::new(&broker.bootstrap_servers()).expect("a configuration");
    let producer = Producer::start(config).expect("a producer");
    let mut receipts = Vec::new();
    for i in 0..1000 {
        let record = Record::to("orders")
            .key(format!("k{}", i % 10))
            .value(format!("v{i}"));
        receipts.push(producer.send(record).await.expect("accepted"));
    }
    for receipt in receipts {
        receipt.await.expect("acked");
    }
    producer
        .close(Duration::from_secs(5))
        .await
        .expect("closed in time");
    let records = broker.all_records("orders").expect("records");
    assert_eq!(records.len(), 1000);
}

#[actix::test]
async fn typed_records_are_serialized_and_a_serializer_may_fail_or_panic() {
    let broker = FakeBroker::start().await.expect("a broker");
    broker.create_topic("orders", 1);
    let config = Config::new(&broker.bootstrap_servers()).expect("a configuration");
    let producer = Producer::start(config).expect("a producer");
    let sized = FromFn(|value: &u8| match value {
        0 => panic!("no zeroes"),
        1 => Err("no ones"),
        n => Ok(vec![b'x'; usize::from(*n)]),
    });
    let orders = TypedProducer::<i64, u8>::new(producer, BigEndian, sized);
    for refused in [0, 1] {
        let sent = orders
            .send(Record::to("orders"), Some(&7), Some(&refused))
            .await;
        assert!(
            matches!(
                sent,
                Err(SendError::Serialize {
                    part: RecordPart::Value,
                    ..
                })
            ),
            "{sent:?}"
        );
    }
    let sent = orders.send(Record::to("orders"), Some(&7), Some(&3)).await;
    sent.expect("accepted").await.expect("acked");
    let sent = orders.send(Record::to("orders"), None, None).await;
    sent.expect("accepted").await.expect("acked");
    let records = broker.all_records("orders").expect("records");
    assert_eq!(records[0].key.as_deref(), Some(&7i64.to_be_bytes()[..]));
    assert_eq!(records[0].value.as_deref(), Some(&b"xxx"[..]));
    assert_eq!((&records[1].key, &records[1].value), (&None, &None));
    assert_eq!(records.len(), 2);
}
