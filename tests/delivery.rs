//! Records through the actors to somebody else's broker, and what comes back.

use std::time::Duration;

use forebay::{Config, Producer, Record};
use krafka::testing::FakeBroker;

#[actix::test]
async fn acked_records_are_in_the_log_in_order() {
    let _ = tracing_subscriber::fmt()
        .with_env_filter("debug")
        .with_test_writer()
        .try_init();
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
