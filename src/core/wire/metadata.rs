//! Metadata: the topics, the leaders of their partitions, and the brokers.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{MetadataRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::header::request_frame;
use super::reader::Reader;
use super::{Api, Node, WireError};

/// In place of operations that were not asked for.
const NOT_TOLD: i32 = i32::MIN;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetadataResponse {
    pub throttle: Duration,
    pub nodes: Vec<Node>,
    pub cluster_id: Option<String>,
    /// -1 if there is none.
    pub controller_id: i32,
    pub topics: Vec<TopicMetadata>,
    /// The error of the whole response, from version 13 on (KIP-1102).
    pub error_code: i16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicMetadata {
    pub error_code: i16,
    pub name: String,
    /// Nil before version 10.
    pub id: Uuid,
    pub partitions: Vec<PartitionInfo>,
    /// What this client may do with it: a bit for each operation. `None` before version 8, and where
    /// that was not asked for.
    pub operations: Option<i32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionInfo {
    pub error_code: i16,
    pub partition: i32,
    /// -1 if there is none.
    pub leader: i32,
    /// -1 before version 7.
    pub leader_epoch: i32,
    /// How many replicas there are.
    pub replicas: usize,
    /// How many of them are in sync.
    pub in_sync: usize,
}

/// A request for these topics. The broker may create those that do not exist, if its configuration
/// allows it.
pub fn encode(
    version: i16,
    correlation_id: i32,
    client_id: &str,
    topics: &[String],
) -> Result<Bytes, WireError> {
    let request = request(topics).with_allow_auto_topic_creation(true);
    request_frame(Api::Metadata, version, correlation_id, client_id, &request)
}

/// A request that creates nothing, and asks what this client may do with these topics.
#[cfg(any(test, feature = "cli"))]
pub fn encode_look(
    version: i16,
    correlation_id: i32,
    client_id: &str,
    topics: &[String],
) -> Result<Bytes, WireError> {
    let request = request(topics)
        .with_allow_auto_topic_creation(false)
        .with_include_topic_authorized_operations(version >= 8);
    request_frame(Api::Metadata, version, correlation_id, client_id, &request)
}

fn request(topics: &[String]) -> MetadataRequest {
    let topics = topics
        .iter()
        .map(|name| {
            let name = TopicName(StrBytes::from_string(name.clone()));
            MetadataRequestTopic::default().with_name(Some(name))
        })
        .collect();
    MetadataRequest::default().with_topics(Some(topics))
}

impl MetadataResponse {
    pub fn decode(version: i16, body: &Bytes) -> Result<Self, WireError> {
        Api::Metadata.check(version)?;
        let flexible = Api::Metadata.is_flexible(version);
        let mut reader = Reader::new("Metadata answer", body, flexible);
        let throttle = reader.throttle()?;
        let nodes = Node::read_all(&mut reader)?;
        let cluster_id = reader.nullable_text()?.map(Cow::into_owned);
        let controller_id = reader.i32()?;
        let count = reader.count(9)?;
        let mut topics = Vec::with_capacity(count);
        for _ in 0..count {
            topics.push(read_topic(version, &mut reader)?);
        }
        if (8..=10).contains(&version) {
            let _cluster_operations = reader.i32()?;
        }
        let error_code = if version >= 13 { reader.i16()? } else { 0 };
        reader.skip_tags()?;
        Ok(Self {
            throttle,
            nodes,
            cluster_id,
            controller_id,
            topics,
            error_code,
        })
    }
}

fn read_topic(version: i16, reader: &mut Reader<'_>) -> Result<TopicMetadata, WireError> {
    let error_code = reader.i16()?;
    let name = reader.text()?.into_owned();
    let id = if version >= 10 {
        reader.uuid()?
    } else {
        Uuid::nil()
    };
    let _is_internal = reader.bool()?;
    let count = reader.count(18)?;
    let mut partitions = Vec::with_capacity(count);
    for _ in 0..count {
        partitions.push(read_partition(version, reader)?);
    }
    let operations = if version >= 8 {
        Some(reader.i32()?).filter(|it| *it != NOT_TOLD)
    } else {
        None
    };
    reader.skip_tags()?;
    Ok(TopicMetadata {
        error_code,
        name,
        id,
        partitions,
        operations,
    })
}

fn read_partition(version: i16, reader: &mut Reader<'_>) -> Result<PartitionInfo, WireError> {
    let mut info = PartitionInfo {
        error_code: reader.i16()?,
        partition: reader.i32()?,
        leader: reader.i32()?,
        leader_epoch: if version >= 7 { reader.i32()? } else { -1 },
        replicas: 0,
        in_sync: 0,
    };
    info.replicas = reader.skip_i32s()?;
    info.in_sync = reader.skip_i32s()?;
    // Offline replicas.
    if version >= 5 {
        reader.skip_i32s()?;
    }
    reader.skip_tags()?;
    Ok(info)
}

#[cfg(test)]
mod tests {
    use bytes::Buf;
    use kafka_protocol::messages;
    use kafka_protocol::messages::metadata_response::{
        MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
    };
    use kafka_protocol::messages::{BrokerId, MetadataRequest, RequestHeader};
    use kafka_protocol::protocol::Decodable;
    use proptest::prelude::*;

    use super::super::hostile::{encoded, mangle};
    use super::*;

    #[test]
    fn another_implementation_reads_the_request() {
        let names = ["a".to_owned(), "größen".to_owned()];
        for version in 4..=13 {
            for topics in [&names[..], &[]] {
                let mut frame = encode(version, 5, "client", topics).expect("a request");
                assert_eq!(frame.get_i32() as usize, frame.len());
                let header_version = if version >= 9 { 2 } else { 1 };
                let header = RequestHeader::decode(&mut frame, header_version).expect("a header");
                assert_eq!(header.correlation_id, 5);
                let request = MetadataRequest::decode(&mut frame, version).expect("a request");
                assert!(!frame.has_remaining());
                assert!(request.allow_auto_topic_creation);
                let asked = request.topics.expect("a list, even if empty");
                let asked: Vec<_> = asked.iter().map(|t| t.name.as_deref().cloned()).collect();
                let expected: Vec<_> = topics
                    .iter()
                    .map(|name| Some(StrBytes::from_string(name.clone())))
                    .collect();
                assert_eq!(asked, expected);
            }
        }
        for version in 4..=13 {
            let mut frame = encode_look(version, 5, "client", &names).expect("a request");
            frame.advance(4);
            let header_version = if version >= 9 { 2 } else { 1 };
            RequestHeader::decode(&mut frame, header_version).expect("a header");
            let request = MetadataRequest::decode(&mut frame, version).expect("a request");
            assert!(!request.allow_auto_topic_creation);
            assert_eq!(request.include_topic_authorized_operations, version >= 8);
            assert_eq!(request.topics.map(|it| it.len()), Some(2));
        }
        assert!(encode(3, 5, "client", &names).is_err());
        assert!(encode(4, 5, "client", &["x".repeat(40_000)]).is_err());
    }

    fn response(version: i16) -> messages::MetadataResponse {
        let text = StrBytes::from_static_str;
        let broker = |id, host, port| {
            MetadataResponseBroker::default()
                .with_node_id(BrokerId(id))
                .with_host(text(host))
                .with_port(port)
        };
        let mut partition = MetadataResponsePartition::default()
            .with_error_code(5)
            .with_partition_index(1)
            .with_leader_id(BrokerId(-1))
            .with_replica_nodes(vec![BrokerId(1), BrokerId(2)])
            .with_isr_nodes(vec![BrokerId(2)]);
        if version >= 5 {
            partition = partition.with_offline_replicas(vec![BrokerId(1)]);
        }
        if version >= 7 {
            partition = partition.with_leader_epoch(8);
        }
        let mut topic = MetadataResponseTopic::default()
            .with_name(Some(TopicName(text("orders"))))
            .with_partitions(vec![partition, MetadataResponsePartition::default()]);
        if version >= 10 {
            topic = topic.with_topic_id(Uuid::from_u128(3));
        }
        if version >= 8 {
            topic = topic.with_topic_authorized_operations(1 << 4);
        }
        let unknown = MetadataResponseTopic::default()
            .with_error_code(3)
            .with_name(Some(TopicName(text("nothing"))));
        let response = messages::MetadataResponse::default()
            .with_throttle_time_ms(-1)
            .with_brokers(vec![
                broker(1, "one", 9092).with_rack(Some(text("east"))),
                broker(2, "::1", 65_535),
                // Addresses that are impossible.
                broker(3, "three", 0),
                broker(4, "four", 65_536),
                broker(5, "", 9092),
            ])
            .with_cluster_id(Some(text("cluster")))
            .with_controller_id(BrokerId(2))
            .with_topics(vec![topic, unknown]);
        if version >= 13 {
            response.with_error_code(129)
        } else {
            response
        }
    }

    #[test]
    fn every_version_is_understood() {
        for version in 4..=13 {
            let body = encoded(&response(version), version);
            let answer = MetadataResponse::decode(version, &body).expect("a good answer");
            let node = |id, host: &str, port, rack: Option<&str>| Node {
                id,
                host: host.to_owned(),
                port,
                rack: rack.map(str::to_owned),
            };
            let partition = |error_code, partition, leader, leader_epoch| PartitionInfo {
                error_code,
                partition,
                leader,
                leader_epoch,
                // Only the first of the two has any.
                replicas: if partition == 1 { 2 } else { 0 },
                in_sync: usize::from(partition == 1),
            };
            let orders = TopicMetadata {
                error_code: 0,
                name: "orders".to_owned(),
                id: Uuid::from_u128(if version >= 10 { 3 } else { 0 }),
                partitions: vec![
                    partition(5, 1, -1, if version >= 7 { 8 } else { -1 }),
                    partition(0, 0, 0, -1),
                ],
                operations: (version >= 8).then_some(1 << 4),
            };
            let nothing = TopicMetadata {
                error_code: 3,
                name: "nothing".to_owned(),
                id: Uuid::nil(),
                partitions: vec![],
                operations: None,
            };
            let expected = MetadataResponse {
                throttle: Duration::ZERO,
                nodes: vec![
                    node(1, "one", 9092, Some("east")),
                    node(2, "::1", 65_535, None),
                ],
                cluster_id: Some("cluster".to_owned()),
                controller_id: 2,
                topics: vec![orders, nothing],
                error_code: if version >= 13 { 129 } else { 0 },
            };
            assert_eq!(answer, expected, "version {version}");
        }
    }

    #[test]
    fn an_answer_without_brokers_is_understood() {
        let body = encoded(&messages::MetadataResponse::default(), 12);
        let answer = MetadataResponse::decode(12, &body).expect("an empty answer");
        assert!(answer.nodes.is_empty() && answer.topics.is_empty());
        assert_eq!(answer.controller_id, -1);
    }

    #[test]
    fn broken_answers_are_refused() {
        for version in 4..=13 {
            mangle(&encoded(&response(version), version), |body| {
                MetadataResponse::decode(version, body)
            });
        }
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(
            version in 3i16..=14,
            bytes in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let _ = MetadataResponse::decode(version, &bytes.into());
        }
    }
}
