//! Metadata: which topics there are, who leads their partitions, where the brokers are.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{MetadataRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::header::request_frame;
use super::reader::Reader;
use super::{Api, Node, WireError};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetadataAnswer {
    pub throttle: Duration,
    pub nodes: Vec<Node>,
    pub cluster_id: Option<String>,
    /// -1 if there is none.
    pub controller_id: i32,
    pub topics: Vec<TopicAnswer>,
    /// Of the answer as a whole, from version 13 on (KIP-1102).
    pub error_code: i16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicAnswer {
    pub error_code: i16,
    pub name: String,
    /// Nil before version 10.
    pub id: Uuid,
    pub partitions: Vec<PartitionInfo>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionInfo {
    pub error_code: i16,
    pub partition: i32,
    /// -1 if there is none.
    pub leader: i32,
    /// -1 before version 7.
    pub leader_epoch: i32,
}

/// Asks for these topics. The broker may create the ones it lacks, if it is configured to.
pub fn encode(
    version: i16,
    correlation_id: i32,
    client_id: &str,
    topics: &[String],
) -> Result<Bytes, WireError> {
    let topics = topics
        .iter()
        .map(|name| {
            let name = TopicName(StrBytes::from_string(name.clone()));
            MetadataRequestTopic::default().with_name(Some(name))
        })
        .collect();
    let request = MetadataRequest::default()
        .with_topics(Some(topics))
        .with_allow_auto_topic_creation(true);
    request_frame(Api::Metadata, version, correlation_id, client_id, &request)
}

impl MetadataAnswer {
    pub fn decode(version: i16, body: &Bytes) -> Result<Self, WireError> {
        Api::Metadata.check(version)?;
        let flexible = Api::Metadata.is_flexible(version);
        let mut reader = Reader::new("Metadata answer", body, flexible);
        let throttle = reader.throttle()?;
        let nodes = Node::read_all(&mut reader)?;
        let cluster_id = reader.nullable_text()?.map(str::to_owned);
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
        reader.finish()?;
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

fn read_topic(version: i16, reader: &mut Reader<'_>) -> Result<TopicAnswer, WireError> {
    let error_code = reader.i16()?;
    let name = reader.text()?.to_owned();
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
    if version >= 8 {
        let _topic_operations = reader.i32()?;
    }
    reader.skip_tags()?;
    Ok(TopicAnswer {
        error_code,
        name,
        id,
        partitions,
    })
}

fn read_partition(version: i16, reader: &mut Reader<'_>) -> Result<PartitionInfo, WireError> {
    let info = PartitionInfo {
        error_code: reader.i16()?,
        partition: reader.i32()?,
        leader: reader.i32()?,
        leader_epoch: if version >= 7 { reader.i32()? } else { -1 },
    };
    // Replicas, those in sync, those offline.
    reader.skip_i32s()?;
    reader.skip_i32s()?;
    if version >= 5 {
        reader.skip_i32s()?;
    }
    reader.skip_tags()?;
    Ok(info)
}
