//! Metadata answers that are not true, or no longer.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::metadata_response::MetadataResponsePartition;
use kafka_protocol::messages::{ApiKey, BrokerId, MetadataResponse, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable};

const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const LEADER_NOT_AVAILABLE: i16 = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// There are no such topics.
    UnknownTopics,
    /// No partition has a leader.
    NoLeaders,
    /// Each partition is led by the broker after the one that leads it.
    OtherLeaders,
    /// As [`OtherLeaders`](Self::OtherLeaders), and in the epoch before this.
    FormerLeaders,
    /// Topics have half the partitions they have.
    FewerPartitions,
    /// There are neither brokers nor topics.
    Nothing,
}

impl Lie {
    pub const ALL: [Self; 6] = [
        Self::UnknownTopics,
        Self::NoLeaders,
        Self::OtherLeaders,
        Self::FormerLeaders,
        Self::FewerPartitions,
        Self::Nothing,
    ];
}

/// The correlation id and the version, if this frame asks for metadata.
pub fn is_metadata(request: &[u8]) -> Option<([u8; 4], i16)> {
    let header = request.get(4..12)?;
    let (key, rest) = header.split_first_chunk::<2>()?;
    let (version, correlation) = rest.split_first_chunk::<2>()?;
    let asks = i16::from_be_bytes(*key) == ApiKey::Metadata as i16;
    let correlation = correlation.try_into().ok()?;
    asks.then(|| (correlation, i16::from_be_bytes(*version)))
}

/// The frame with the lie in it; `None` where it cannot be read.
pub fn rewritten(frame: &Bytes, version: i16, lie: Lie) -> Option<Bytes> {
    let mut body = frame.slice(4..);
    let header_version = ApiKey::Metadata.response_header_version(version);
    let header = ResponseHeader::decode(&mut body, header_version).ok()?;
    let mut answer = MetadataResponse::decode(&mut body, version).ok()?;
    let mut brokers: Vec<BrokerId> = answer.brokers.iter().map(|b| b.node_id).collect();
    brokers.sort_unstable();
    if lie == Lie::Nothing {
        answer.brokers.clear();
        answer.topics.clear();
    }
    for topic in &mut answer.topics {
        match lie {
            Lie::UnknownTopics => {
                topic.error_code = UNKNOWN_TOPIC_OR_PARTITION;
                topic.partitions.clear();
            }
            Lie::NoLeaders => topic.partitions.iter_mut().for_each(|partition| {
                partition.error_code = LEADER_NOT_AVAILABLE;
                partition.leader_id = BrokerId(-1);
            }),
            Lie::OtherLeaders | Lie::FormerLeaders => {
                let epochs = i32::from(lie == Lie::FormerLeaders);
                for partition in &mut topic.partitions {
                    partition.leader_epoch -= epochs;
                    lead_by_the_next(partition, &brokers);
                }
            }
            Lie::FewerPartitions => {
                let half = (topic.partitions.len() / 2).max(1) as i32;
                topic.partitions.retain(|it| it.partition_index < half);
            }
            Lie::Nothing => {}
        }
    }
    let mut lied = BytesMut::zeroed(4);
    header.encode(&mut lied, header_version).ok()?;
    answer.encode(&mut lied, version).ok()?;
    let length = (lied.len() - 4) as u32;
    lied[..4].copy_from_slice(&length.to_be_bytes());
    Some(lied.freeze())
}

fn lead_by_the_next(partition: &mut MetadataResponsePartition, brokers: &[BrokerId]) {
    let at = brokers.iter().position(|id| *id == partition.leader_id);
    if let Some(at) = at {
        partition.leader_id = brokers[(at + 1) % brokers.len()];
    }
}
