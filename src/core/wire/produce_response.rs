//! The response to a Produce request, with a result for each partition.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use super::reader::Reader;
use super::{Api, Node, WireError};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProduceResponse {
    pub throttle: Duration,
    pub partitions: Vec<PartitionResponse>,
    /// The addresses of the leaders in `partitions` (KIP-951).
    pub nodes: Vec<Node>,
    /// Bytes behind what this version has.
    pub left: usize,
}

/// How the response names a topic: by name up to version 12, by id from version 13 on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TopicKey {
    Name(Arc<str>),
    Id(Uuid),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionResponse {
    pub topic: TopicKey,
    pub partition: i32,
    pub error_code: i16,
    /// -1 if the broker does not say.
    pub base_offset: i64,
    /// -1 unless the topic uses log append time.
    pub log_append_time_ms: i64,
    /// -1 if the broker does not say.
    pub log_start_offset: i64,
    pub record_errors: Vec<RecordError>,
    pub error_message: Option<String>,
    pub leader: Option<LeaderHint>,
}

/// A record for which the broker refused the batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordError {
    pub index: i32,
    pub message: Option<String>,
}

/// The partition's current leader, as told by a former one (KIP-951).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaderHint {
    pub node_id: i32,
    pub epoch: i32,
}

impl LeaderHint {
    /// Reads a tagged field. `None` if it names nobody.
    pub(super) fn read(field: &mut Reader<'_>) -> Result<Option<Self>, WireError> {
        let hint = Self {
            node_id: field.i32()?,
            epoch: field.i32()?,
        };
        field.skip_tags()?;
        Ok((hint.node_id >= 0).then_some(hint))
    }
}

impl ProduceResponse {
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
            if version >= 10 && tag == 0 {
                nodes = Node::read_all(field)?;
            }
            Ok(())
        })?;
        Ok(Self {
            throttle,
            partitions,
            nodes,
            left: reader.left(),
        })
    }
}

fn read_partition(
    version: i16,
    topic: TopicKey,
    reader: &mut Reader<'_>,
) -> Result<PartitionResponse, WireError> {
    let mut answer = PartitionResponse {
        topic,
        partition: reader.i32()?,
        error_code: reader.i16()?,
        base_offset: reader.base_offset()?,
        log_append_time_ms: reader.i64()?,
        log_start_offset: if version >= 5 { reader.i64()? } else { -1 },
        record_errors: Vec::new(),
        error_message: None,
        leader: None,
    };
    if version >= 8 {
        answer.record_errors = read_record_errors(reader)?;
        answer.error_message = reader.words()?;
    }
    reader.tags(|tag, field| {
        if version < 10 || tag != 0 {
            return Ok(());
        }
        answer.leader = LeaderHint::read(field)?;
        Ok(())
    })?;
    Ok(answer)
}

fn read_record_errors(reader: &mut Reader<'_>) -> Result<Vec<RecordError>, WireError> {
    let count = reader.count(6)?;
    let mut errors = Vec::with_capacity(count);
    for _ in 0..count {
        errors.push(RecordError {
            index: reader.i32()?,
            message: reader.words()?,
        });
        reader.skip_tags()?;
    }
    Ok(errors)
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages;
    use kafka_protocol::messages::produce_response::{
        BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse,
        TopicProduceResponse,
    };
    use kafka_protocol::messages::{BrokerId, TopicName};
    use kafka_protocol::protocol::StrBytes;
    use proptest::prelude::*;

    use super::super::hostile::{encoded, mangle};
    use super::*;

    /// The offsets of a batch's records follow its base offset, and have to be numbers, too.
    #[test]
    fn an_offset_that_no_batch_can_have_is_refused() {
        const MAX: i64 = i64::MAX - i32::MAX as i64;
        for version in [3, 11, 12] {
            let decode = |offset| {
                let mut response = response(version);
                response.responses[0].partition_responses[1].base_offset = offset;
                ProduceResponse::decode(version, &encoded(&response, version))
            };
            for offset in [-1, 0, MAX] {
                let decoded = decode(offset).expect("an offset");
                assert_eq!(decoded.partitions[1].base_offset, offset);
            }
            for offset in [i64::MIN, -2, MAX + 1, i64::MAX] {
                let message = "Produce answer";
                assert_eq!(decode(offset), Err(WireError::Offset { message, offset }));
            }
        }
    }

    fn text(text: &'static str) -> StrBytes {
        StrBytes::from_static_str(text)
    }

    /// A refused batch and an accepted one, with all fields of the version.
    fn response(version: i16) -> messages::ProduceResponse {
        let mut refused = PartitionProduceResponse::default()
            .with_index(3)
            .with_error_code(87)
            .with_base_offset(-1)
            .with_log_append_time_ms(-1);
        let mut accepted = PartitionProduceResponse::default()
            .with_index(4)
            .with_base_offset(1 << 40)
            .with_log_append_time_ms(1_700_000_000_000);
        let mut response = messages::ProduceResponse::default().with_throttle_time_ms(20);
        if version >= 5 {
            accepted = accepted.with_log_start_offset(9);
        }
        if version >= 8 {
            let errors = [(0, None), (5, Some(text("bad key")))];
            refused = refused
                .with_error_message(Some(text("refused")))
                .with_record_errors(
                    errors
                        .map(|(index, message)| {
                            BatchIndexAndErrorMessage::default()
                                .with_batch_index(index)
                                .with_batch_index_error_message(message)
                        })
                        .to_vec(),
                );
        }
        if version >= 9 {
            refused = refused.with_unknown_tagged_field(40, Bytes::from_static(b"later"));
        }
        if version >= 10 {
            accepted = accepted.with_current_leader(
                LeaderIdAndEpoch::default()
                    .with_leader_id(BrokerId(2))
                    .with_leader_epoch(6),
            );
            let node = NodeEndpoint::default()
                .with_node_id(BrokerId(2))
                .with_host(text("two"))
                .with_port(9094)
                .with_rack(Some(text("east")));
            let unreachable = node.clone().with_port(-1);
            response = response.with_node_endpoints(vec![node, unreachable]);
        }
        let mut topic = TopicProduceResponse::default();
        if version >= 13 {
            topic = topic.with_topic_id(Uuid::from_u128(5));
        } else {
            topic = topic.with_name(TopicName(text("orders")));
        }
        response.with_responses(vec![
            topic.with_partition_responses(vec![refused, accepted]),
        ])
    }

    #[test]
    fn every_version_is_understood() {
        for version in 3..=13 {
            let body = encoded(&response(version), version);
            let answer = ProduceResponse::decode(version, &body).expect("a good answer");
            let topic = match version {
                13.. => TopicKey::Id(Uuid::from_u128(5)),
                _ => TopicKey::Name("orders".into()),
            };
            let refused = PartitionResponse {
                topic: topic.clone(),
                partition: 3,
                error_code: 87,
                base_offset: -1,
                log_append_time_ms: -1,
                log_start_offset: -1,
                record_errors: match version {
                    8.. => [(0, None), (5, Some("bad key".to_owned()))]
                        .map(|(index, message)| RecordError { index, message })
                        .to_vec(),
                    _ => vec![],
                },
                error_message: (version >= 8).then(|| "refused".to_owned()),
                leader: None,
            };
            let accepted = PartitionResponse {
                topic,
                partition: 4,
                error_code: 0,
                base_offset: 1 << 40,
                log_append_time_ms: 1_700_000_000_000,
                log_start_offset: if version >= 5 { 9 } else { -1 },
                record_errors: vec![],
                error_message: None,
                leader: (version >= 10).then_some(LeaderHint {
                    node_id: 2,
                    epoch: 6,
                }),
            };
            let node = Node {
                id: 2,
                host: "two".to_owned(),
                port: 9094,
                rack: Some("east".to_owned()),
            };
            let expected = ProduceResponse {
                throttle: Duration::from_millis(20),
                partitions: vec![refused, accepted],
                nodes: if version >= 10 { vec![node] } else { vec![] },
                left: 0,
            };
            assert_eq!(answer, expected, "version {version}");
        }
    }

    #[test]
    fn broken_answers_are_refused() {
        for version in 3..=13 {
            mangle(&encoded(&response(version), version), |body| {
                let answer = ProduceResponse::decode(version, body);
                answer.map(|answer| ProduceResponse { left: 0, ..answer })
            });
        }
        assert!(ProduceResponse::decode(2, &Bytes::new()).is_err());
        assert!(ProduceResponse::decode(14, &Bytes::new()).is_err());
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(
            version in -1i16..=15,
            bytes in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let _ = ProduceResponse::decode(version, &bytes.into());
        }
    }
}
