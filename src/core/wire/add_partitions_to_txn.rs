//! AddPartitionsToTxn: names the partitions that a transaction is going to write to. In the first protocol
//! that has to be, in the second it may.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::{AddPartitionsToTxnRequest, ProducerId, TopicName, TransactionalId};
use kafka_protocol::protocol::StrBytes;

use super::header::request_frame;
use super::reader::Reader;
use super::{Api, PartitionResult, Transactor, WireError};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddPartitionsToTxnResponse {
    pub throttle: Duration,
    /// If one has an error that is its own, the others have OPERATION_NOT_ATTEMPTED, and none is added.
    pub partitions: Vec<PartitionResult>,
}

/// A request to add these partitions, each with its topic's name, in any order.
pub fn encode<'a>(
    version: i16,
    correlation_id: i32,
    client_id: &str,
    transactor: Transactor<'_>,
    partitions: impl IntoIterator<Item = (&'a str, i32)>,
) -> Result<Bytes, WireError> {
    // Brokers want each topic once.
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for (topic, partition) in partitions {
        topics.entry(topic).or_default().push(partition);
    }
    let topics = topics.into_iter().map(|(topic, partitions)| {
        AddPartitionsToTxnTopic::default()
            .with_name(TopicName(StrBytes::from_string(topic.to_owned())))
            .with_partitions(partitions)
    });
    let id = StrBytes::from_string(transactor.transactional_id.to_owned());
    let request = AddPartitionsToTxnRequest::default()
        .with_v3_and_below_transactional_id(TransactionalId(id))
        .with_v3_and_below_producer_id(ProducerId(transactor.producer_id))
        .with_v3_and_below_producer_epoch(transactor.epoch)
        .with_v3_and_below_topics(topics.collect());
    let api = Api::AddPartitionsToTxn;
    request_frame(api, version, correlation_id, client_id, &request)
}

impl AddPartitionsToTxnResponse {
    pub fn decode(version: i16, body: &Bytes) -> Result<Self, WireError> {
        let api = Api::AddPartitionsToTxn;
        api.check(version)?;
        let mut reader = Reader::new("AddPartitionsToTxn answer", body, api.is_flexible(version));
        let answer = Self {
            throttle: reader.throttle()?,
            partitions: PartitionResult::read_all(&mut reader)?,
        };
        reader.skip_tags()?;
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages;
    use kafka_protocol::messages::add_partitions_to_txn_response::{
        AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult,
    };
    use proptest::prelude::*;

    use super::super::hostile::{TRANSACTOR, encoded, mangle, read};
    use super::*;

    #[test]
    fn another_implementation_reads_the_request() {
        let partitions = [("b", 4), ("größen", 0), ("b", 1)];
        for version in 0..=3 {
            let frame = encode(version, 5, "client", TRANSACTOR, partitions).expect("a request");
            let request: AddPartitionsToTxnRequest = read(Api::AddPartitionsToTxn, version, frame);
            assert_eq!(&**request.v3_and_below_transactional_id, "orders-1");
            assert_eq!(*request.v3_and_below_producer_id, 1 << 40);
            assert_eq!(request.v3_and_below_producer_epoch, 3);
            let topics = request.v3_and_below_topics.iter();
            let topics: Vec<_> = topics
                .map(|it| (&**it.name, it.partitions.clone()))
                .collect();
            assert_eq!(topics, [("b", vec![4, 1]), ("größen", vec![0])]);
        }
        // Those are for brokers.
        assert!(encode(4, 5, "client", TRANSACTOR, partitions).is_err());
    }

    fn response() -> messages::AddPartitionsToTxnResponse {
        let result = |partition, code| {
            AddPartitionsToTxnPartitionResult::default()
                .with_partition_index(partition)
                .with_partition_error_code(code)
        };
        let topic = |name, results| {
            AddPartitionsToTxnTopicResult::default()
                .with_name(TopicName(StrBytes::from_static_str(name)))
                .with_results_by_partition(results)
        };
        messages::AddPartitionsToTxnResponse::default()
            .with_throttle_time_ms(7)
            .with_results_by_topic_v3_and_below(vec![
                topic("b", vec![result(4, 55), result(1, 29)]),
                topic("größen", vec![result(0, 55)]),
            ])
    }

    #[test]
    fn every_version_is_understood() {
        for version in 0..=3 {
            let body = encoded(&response(), version);
            let answer = AddPartitionsToTxnResponse::decode(version, &body).expect("an answer");
            assert_eq!(answer.throttle, Duration::from_millis(7));
            let results = answer.partitions.iter();
            let results: Vec<_> = results
                .map(|it| (&*it.topic, it.partition, it.error_code))
                .collect();
            assert_eq!(results, [("b", 4, 55), ("b", 1, 29), ("größen", 0, 55)]);
        }
    }

    #[test]
    fn broken_answers_are_refused() {
        for version in 0..=3 {
            mangle(&encoded(&response(), version), |body| {
                AddPartitionsToTxnResponse::decode(version, body)
            });
        }
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(
            version in -1i16..=4,
            bytes in prop::collection::vec(any::<u8>(), 0..100),
        ) {
            let _ = AddPartitionsToTxnResponse::decode(version, &bytes.into());
        }
    }
}
