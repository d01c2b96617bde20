//! What one broker says about the cluster.
//!
//! Asked directly, over a blocking socket with a short time limit: a client
//! library might ask another broker than the one meant, and a frozen one would
//! hold it up.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    ApiKey, MetadataRequest, MetadataResponse, RequestHeader, ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

use super::{Error, Result};

const LIMIT: Duration = Duration::from_secs(1);

pub struct View {
    pub brokers: Vec<i32>,
    /// By the topics asked for, in their order; `None` is a topic the broker
    /// does not know.
    pub topics: Vec<Option<Vec<PartitionView>>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionView {
    pub partition: i32,
    pub leader: Option<i32>,
    pub leader_epoch: i32,
    pub replicas: Vec<i32>,
    pub in_sync: Vec<i32>,
}

/// `version` is that of the request.
pub fn ask(broker: SocketAddr, version: i16, topics: &[&str]) -> Result<View> {
    let answer = exchange(broker, version, topics).map_err(Error::at(broker))?;
    let topics = topics
        .iter()
        .map(|asked| {
            let named = |name: &TopicName| name.as_str() == *asked;
            let topic = answer
                .topics
                .iter()
                .find(|topic| topic.name.as_ref().is_some_and(named))?;
            (topic.error_code == 0).then(|| partitions(topic))
        })
        .collect();
    let brokers = answer.brokers.iter().map(|b| b.node_id.0).collect();
    Ok(View { brokers, topics })
}

fn partitions(
    topic: &kafka_protocol::messages::metadata_response::MetadataResponseTopic,
) -> Vec<PartitionView> {
    let mut partitions: Vec<PartitionView> = topic
        .partitions
        .iter()
        .map(|p| PartitionView {
            partition: p.partition_index,
            leader: (p.leader_id.0 >= 0).then_some(p.leader_id.0),
            leader_epoch: p.leader_epoch,
            replicas: p.replica_nodes.iter().map(|id| id.0).collect(),
            in_sync: p.isr_nodes.iter().map(|id| id.0).collect(),
        })
        .collect();
    partitions.sort_unstable_by_key(|p| p.partition);
    partitions
}

fn exchange(
    broker: SocketAddr,
    version: i16,
    topics: &[&str],
) -> std::io::Result<MetadataResponse> {
    let topics = topics
        .iter()
        .map(|name| TopicName(StrBytes::from_string((*name).into())))
        .map(|name| MetadataRequestTopic::default().with_name(Some(name)))
        .collect();
    let request = MetadataRequest::default()
        .with_topics(Some(topics))
        .with_allow_auto_topic_creation(false);
    let header = RequestHeader::default()
        .with_request_api_key(ApiKey::Metadata as i16)
        .with_request_api_version(version);
    let mut body = BytesMut::new();
    let request_header = ApiKey::Metadata.request_header_version(version);
    header
        .encode(&mut body, request_header)
        .and_then(|()| request.encode(&mut body, version))
        .map_err(std::io::Error::other)?;

    let mut socket = TcpStream::connect_timeout(&broker, LIMIT)?;
    socket.set_read_timeout(Some(LIMIT))?;
    socket.set_write_timeout(Some(LIMIT))?;
    socket.write_all(&(body.len() as u32).to_be_bytes())?;
    socket.write_all(&body)?;

    let mut length = [0; 4];
    socket.read_exact(&mut length)?;
    let mut answer = vec![0; u32::from_be_bytes(length) as usize];
    socket.read_exact(&mut answer)?;
    let mut answer = Bytes::from(answer);
    let response_header = ApiKey::Metadata.response_header_version(version);
    ResponseHeader::decode(&mut answer, response_header)
        .and_then(|_| MetadataResponse::decode(&mut answer, version))
        .map_err(std::io::Error::other)
}
