//! Transactions that hang, and whether they are noticed.

use bytes::Bytes;
use forebay_kafka_cluster::{self as kafka, Cluster, ClusterOptions};
use forebay_model_cluster::raw;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    ApiKey, ProduceRequest, ProduceResponse, TopicName, TransactionalId,
};
use kafka_protocol::protocol::StrBytes;

use crate::millis;
use crate::model::{encoded, over_a_socket};

/// A late batch of the first protocol, as brokers before 3.6 take it (KAFKA-14402).
fn send_unannounced(cluster: &Cluster, topic: &'static str, producer_id: i64) {
    const TRANSACTIONAL: i16 = 0x10;
    let long_ago = millis() - 120_000;
    let batch = encoded((producer_id, 0, 0), (long_ago, TRANSACTIONAL), 1, 10);
    let partition = PartitionProduceData::default().with_records(Some(Bytes::from(batch)));
    let topic = TopicProduceData::default()
        .with_name(TopicName(StrBytes::from_static_str(topic)))
        .with_partition_data(vec![partition]);
    let request = ProduceRequest::default()
        .with_transactional_id(Some(TransactionalId(StrBytes::from_static_str("nobody"))))
        .with_acks(-1)
        .with_timeout_ms(5_000)
        .with_topic_data(vec![topic]);
    let (api, version) = (ApiKey::Produce, 11);
    let request = raw::request(api, version, &request);
    let answer = over_a_socket(cluster.brokers()[0].address(), &request);
    let answer: ProduceResponse = raw::response(api, version, answer);
    let code = answer.responses[0].partition_responses[0].error_code;
    assert_eq!(code, 0, "it is appended");
}

/// What `examples/chaos` judges by.
#[test]
fn a_transaction_that_no_coordinator_knows_of_is_found() {
    if !kafka::require_or_skip("a_transaction_that_no_coordinator_knows_of_is_found") {
        return;
    }
    let options = ClusterOptions::default()
        .brokers(1)
        .property("transaction.partition.verification.enable", "false");
    let cluster = Cluster::start(options).unwrap();
    let topic = "unannounced";
    cluster.create_topic(topic, 1, 1, &[]).unwrap();
    let find = || cluster.find_hanging_transactions(1, 1).unwrap();
    assert_eq!(find().rows().count(), 0, "{}", find());
    send_unannounced(&cluster, topic, 4_711);
    let found = find();
    let rows: Vec<_> = found.rows().collect();
    let hangs = |row: &str| row.starts_with(topic) && row.contains("4711");
    assert!(matches!(rows[..], [row] if hangs(row)), "{found}");
    assert_eq!(cluster.open_transactions().unwrap(), [""; 0]);
}
