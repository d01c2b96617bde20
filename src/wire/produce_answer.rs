//! The answer to a Produce request, partition by partition.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use super::reader::Reader;
use super::{Api, Node, WireError};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProduceAnswer {
    pub throttle: Duration,
    pub partitions: Vec<PartitionAnswer>,
    /// Where the leaders named in `partitions` are (KIP-951).
    pub nodes: Vec<Node>,
}

/// How the answer names a topic: by name up to version 12, by id from 13 on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TopicKey {
    Name(Arc<str>),
    Id(Uuid),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionAnswer {
    pub topic: TopicKey,
    pub partition: i32,
    pub error_code: i16,
    /// -1 if the broker does not say.
    pub base_offset: i64,
    /// -1 unless the topic's timestamps are those of the append.
    pub log_append_time_ms: i64,
    /// -1 if the broker does not say.
    pub log_start_offset: i64,
    pub record_errors: Vec<RecordError>,
    pub error_message: Option<String>,
    pub leader: Option<LeaderHint>,
}

/// A record that made the broker refuse its batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordError {
    pub index: i32,
    pub message: Option<String>,
}

/// The partition's current leader, from a broker that no longer is it (KIP-951).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaderHint {
    pub node_id: i32,
    pub epoch: i32,
}

impl ProduceAnswer {
    pub fn decode(version: i16, body: &Bytes) -> Result<Self, WireError> {
        Api::Produce.check(version)?;
        let flexible = Api::Produce.is_flexible(version);
        let mut reader = Reader::new("Produce answer", body, flexible);
        let mut partitions = Vec::new();
        for _ in 0..reader.count(5)? {
            let topic = if version >= 13 {
                TopicKey::Id(reader.uuid()?)
            } else {
                TopicKey::Name(reader.text()?.into())
            };
            let count = reader.count(22)?;
            partitions.reserve(count);
            for _ in 0..count {
                partitions.push(read_partition(version, topic.clone(), &mut reader)?);
            }
            reader.skip_tags()?;
        }
        let throttle = reader.throttle()?;
        let mut nodes = Vec::new();
        reader.tags(|tag, field| {
            if version < 10 || tag != 0 {
                return Ok(false);
            }
            nodes = Node::read_all(field)?;
            Ok(true)
        })?;
        reader.finish()?;
        Ok(Self {
            throttle,
            partitions,
            nodes,
        })
    }
}

fn read_partition(
    version: i16,
    topic: TopicKey,
    reader: &mut Reader<'_>,
) -> Result<PartitionAnswer, WireError> {
    let mut answer = PartitionAnswer {
        topic,
        partition: reader.i32()?,
        error_code: reader.i16()?,
        base_offset: reader.i64()?,
        log_append_time_ms: reader.i64()?,
        log_start_offset: if version >= 5 { reader.i64()? } else { -1 },
        record_errors: Vec::new(),
        error_message: None,
        leader: None,
    };
    if version >= 8 {
        answer.record_errors = read_record_errors(reader)?;
        answer.error_message = reader.nullable_text()?.map(str::to_owned);
    }
    reader.tags(|tag, field| {
        if version < 10 || tag != 0 {
            return Ok(false);
        }
        let hint = LeaderHint {
            node_id: field.i32()?,
            epoch: field.i32()?,
        };
        field.skip_tags()?;
        answer.leader = (hint.node_id >= 0).then_some(hint);
        Ok(true)
    })?;
    Ok(answer)
}

fn read_record_errors(reader: &mut Reader<'_>) -> Result<Vec<RecordError>, WireError> {
    let count = reader.count(6)?;
    let mut errors = Vec::with_capacity(count);
    for _ in 0..count {
        errors.push(RecordError {
            index: reader.i32()?,
            message: reader.nullable_text()?.map(str::to_owned),
        });
        reader.skip_tags()?;
    }
    Ok(errors)
}
