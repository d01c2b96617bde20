//! Fetch: reads a partition's log, one partition with each request and without a session (KIP-227).

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::{FetchRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::header::request_frame;
use super::reader::Reader;
use super::{Api, Isolation, LeaderHint, Node, WireError};

/// The session's epoch that asks for none.
const NO_SESSION: i32 = -1;

/// What is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading<'a> {
    pub topic: &'a str,
    /// Used instead of the name from version 13 on.
    pub topic_id: Uuid,
    pub partition: i32,
    /// A broker that leads in another epoch refuses, from version 9 on; -1 if it is not to ask.
    pub leader_epoch: i32,
    /// The offset to begin at. The first batch may begin before it.
    pub offset: i64,
    /// Bytes of records. A first batch that is larger comes nevertheless (KIP-74).
    pub max_bytes: i32,
    /// How long to wait where there is nothing behind the offset.
    pub max_wait: Duration,
    pub isolation: Isolation,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchResponse {
    pub throttle: Duration,
    /// Of the partition, or of the whole request.
    pub error_code: i16,
    /// What is before it has been replicated; -1 with an error, and where a broker that throttles says
    /// nothing of the partition.
    pub high_watermark: i64,
    /// What is before it is decided; -1 if the broker does not say.
    pub last_stable_offset: i64,
    /// -1 if the broker does not say.
    pub log_start_offset: i64,
    /// For those who read what is committed: the aborted transactions among the records.
    pub aborted: Vec<AbortedTransaction>,
    /// Batches. The last one may be cut off.
    pub records: Bytes,
    /// Who leads the partition, where the broker that was asked does not.
    pub leader: Option<LeaderHint>,
    /// The address of that leader (KIP-951).
    pub nodes: Vec<Node>,
}

/// All batches of this producer that are transactional, from the offset on and up to the next marker of
/// the producer, were aborted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortedTransaction {
    pub producer_id: i64,
    pub first_offset: i64,
}

/// A request to read.
pub fn encode(
    version: i16,
    correlation_id: i32,
    client_id: &str,
    reading: Reading<'_>,
) -> Result<Bytes, WireError> {
    let partition = FetchPartition::default()
        .with_partition(reading.partition)
        .with_current_leader_epoch(reading.leader_epoch)
        .with_fetch_offset(reading.offset)
        .with_log_start_offset(-1)
        .with_partition_max_bytes(reading.max_bytes);
    let topic = FetchTopic::default().with_partitions(vec![partition]);
    let topic = match version {
        13.. => topic.with_topic_id(reading.topic_id),
        _ => topic.with_topic(TopicName(StrBytes::from_string(reading.topic.to_owned()))),
    };
    let request = FetchRequest::default()
        .with_replica_id((-1).into())
        .with_max_wait_ms(i32::try_from(reading.max_wait.as_millis()).unwrap_or(i32::MAX))
        .with_min_bytes(1)
        .with_max_bytes(reading.max_bytes)
        .with_isolation_level(reading.isolation.level())
        .with_session_epoch(NO_SESSION)
        .with_topics(vec![topic]);
    request_frame(Api::Fetch, version, correlation_id, client_id, &request)
}

impl FetchResponse {
    /// Reads the answer about the one partition that was asked for. The records are not copied.
    pub fn decode(version: i16, partition: i32, body: &Bytes) -> Result<Self, WireError> {
        const MESSAGE: &str = "Fetch answer";
        Api::Fetch.check(version)?;
        let mut reader = Reader::new(MESSAGE, body, Api::Fetch.is_flexible(version));
        let mut answer = Self {
            throttle: reader.throttle()?,
            error_code: 0,
            high_watermark: -1,
            last_stable_offset: -1,
            log_start_offset: -1,
            aborted: Vec::new(),
            records: Bytes::new(),
            leader: None,
            nodes: Vec::new(),
        };
        if version >= 7 {
            answer.error_code = reader.i16()?;
            let _session = reader.i32()?;
        }
        let topics = reader.count(5)?;
        // Who is above a quota is told nothing but to wait (KIP-219).
        let must_wait = topics == 0 && !answer.throttle.is_zero();
        let mut answered = answer.error_code != 0 || must_wait;
        for _ in 0..topics {
            if version >= 13 {
                let _topic_id = reader.uuid()?;
            } else {
                let _topic = reader.text()?;
            }
            for _ in 0..reader.count(24)? {
                let (index, told) = read_partition(version, body, &mut reader)?;
                if index == partition && !answered {
                    answered = true;
                    answer = Self {
                        throttle: answer.throttle,
                        ..told
                    };
                }
            }
            reader.skip_tags()?;
        }
        reader.tags(|tag, field| {
            if version >= 16 && tag == 0 {
                answer.nodes = Node::read_all(field)?;
            }
            Ok(())
        })?;
        match answered {
            true => Ok(answer),
            false => Err(WireError::Unanswered { message: MESSAGE }),
        }
    }
}

/// Reads what is said of one partition, behind its number.
fn read_partition(
    version: i16,
    body: &Bytes,
    reader: &mut Reader<'_>,
) -> Result<(i32, FetchResponse), WireError> {
    let index = reader.i32()?;
    let mut answer = FetchResponse {
        throttle: Duration::ZERO,
        error_code: reader.i16()?,
        high_watermark: reader.base_offset()?,
        last_stable_offset: reader.base_offset()?,
        log_start_offset: if version >= 5 {
            reader.base_offset()?
        } else {
            -1
        },
        aborted: Vec::new(),
        records: Bytes::new(),
        leader: None,
        nodes: Vec::new(),
    };
    let count = reader.count(16)?;
    answer.aborted.reserve(count);
    for _ in 0..count {
        answer.aborted.push(AbortedTransaction {
            producer_id: reader.i64()?,
            first_offset: reader.i64()?,
        });
        reader.skip_tags()?;
    }
    if version >= 11 {
        let _preferred_replica = reader.i32()?;
    }
    answer.records = body.slice_ref(reader.bytes()?);
    reader.tags(|tag, field| {
        if tag != 1 {
            return Ok(());
        }
        answer.leader = LeaderHint::read(field)?;
        Ok(())
    })?;
    Ok((index, answer))
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages;
    use kafka_protocol::messages::BrokerId;
    use kafka_protocol::messages::fetch_response::{
        AbortedTransaction as Aborted, FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint,
        PartitionData,
    };
    use proptest::prelude::*;

    use super::super::hostile::{encoded, mangle, read};
    use super::*;

    #[test]
    fn another_implementation_reads_the_request() {
        for version in 4..=17 {
            for (isolation, level) in [
                (Isolation::ReadUncommitted, 0),
                (Isolation::ReadCommitted, 1),
            ] {
                let reading = Reading {
                    topic: "größen",
                    topic_id: Uuid::from_u128(3),
                    partition: 4,
                    leader_epoch: 8,
                    offset: 1 << 40,
                    max_bytes: 1 << 20,
                    max_wait: Duration::from_millis(500),
                    isolation,
                };
                let frame = encode(version, 5, "client", reading).expect("a request");
                let request: FetchRequest = read(Api::Fetch, version, frame);
                assert_eq!(
                    (*request.replica_id, *request.replica_state.replica_id),
                    (-1, -1)
                );
                assert_eq!(request.cluster_id, None);
                assert_eq!((request.max_wait_ms, request.min_bytes), (500, 1));
                assert_eq!(
                    (request.max_bytes, request.isolation_level),
                    (1 << 20, level)
                );
                assert_eq!(request.session_id, 0);
                assert_eq!(request.session_epoch, -1, "version {version}");
                assert!(request.forgotten_topics_data.is_empty());
                let [topic] = request.topics.as_slice() else {
                    panic!("{request:?}");
                };
                match version {
                    13.. => assert_eq!(topic.topic_id, Uuid::from_u128(3)),
                    _ => assert_eq!(&**topic.topic, "größen"),
                }
                let [partition] = topic.partitions.as_slice() else {
                    panic!("{topic:?}");
                };
                assert_eq!((partition.partition, partition.fetch_offset), (4, 1 << 40));
                assert_eq!(partition.partition_max_bytes, 1 << 20);
                let epoch = if version >= 9 { 8 } else { -1 };
                assert_eq!(partition.current_leader_epoch, epoch);
                assert_eq!(partition.last_fetched_epoch, -1);
                assert_eq!(partition.log_start_offset, -1);
            }
        }
    }

    fn response(version: i16) -> messages::FetchResponse {
        let mut partition = PartitionData::default()
            .with_partition_index(4)
            .with_error_code(6)
            .with_high_watermark(90)
            .with_last_stable_offset(80)
            .with_aborted_transactions(Some(vec![
                Aborted::default()
                    .with_producer_id(7.into())
                    .with_first_offset(55),
                Aborted::default()
                    .with_producer_id(8.into())
                    .with_first_offset(60),
            ]))
            .with_records(Some(Bytes::from_static(b"batches")));
        if version >= 5 {
            partition = partition.with_log_start_offset(50);
        }
        if version >= 12 {
            partition = partition.with_current_leader(
                LeaderIdAndEpoch::default()
                    .with_leader_id(BrokerId(2))
                    .with_leader_epoch(9),
            );
        }
        let mut nothing = PartitionData::default().with_partition_index(5);
        nothing.aborted_transactions = None;
        let mut topic = FetchableTopicResponse::default().with_partitions(vec![partition, nothing]);
        topic = match version {
            13.. => topic.with_topic_id(Uuid::from_u128(3)),
            _ => topic.with_topic(TopicName(StrBytes::from_static_str("größen"))),
        };
        let mut response = messages::FetchResponse::default()
            .with_throttle_time_ms(7)
            .with_responses(vec![topic]);
        if version >= 16 {
            response = response.with_node_endpoints(vec![
                NodeEndpoint::default()
                    .with_node_id(BrokerId(2))
                    .with_host(StrBytes::from_static_str("two"))
                    .with_port(9092),
            ]);
        }
        response
    }

    #[test]
    fn every_version_is_understood() {
        for version in 4..=17 {
            let body = encoded(&response(version), version);
            let answer = FetchResponse::decode(version, 4, &body).expect("an answer");
            let aborted = |producer_id, first_offset| AbortedTransaction {
                producer_id,
                first_offset,
            };
            let hint = LeaderHint {
                node_id: 2,
                epoch: 9,
            };
            let node = Node {
                id: 2,
                host: "two".to_owned(),
                port: 9092,
                rack: None,
            };
            let expected = FetchResponse {
                throttle: Duration::from_millis(7),
                error_code: 6,
                high_watermark: 90,
                last_stable_offset: 80,
                log_start_offset: if version >= 5 { 50 } else { -1 },
                aborted: vec![aborted(7, 55), aborted(8, 60)],
                records: Bytes::from_static(b"batches"),
                leader: (version >= 12).then_some(hint),
                nodes: (version >= 16).then_some(node).into_iter().collect(),
            };
            assert_eq!(answer, expected, "version {version}");
            // They are where they were read from.
            let within = body.as_ptr_range();
            assert!(within.contains(&answer.records.as_ptr()));

            let other = FetchResponse::decode(version, 5, &body).expect("an answer");
            assert_eq!((other.error_code, other.records.len()), (0, 0));
            assert_eq!((other.aborted.len(), other.leader), (0, None));
            assert!(matches!(
                FetchResponse::decode(version, 6, &body),
                Err(WireError::Unanswered { .. })
            ));
        }
    }

    #[test]
    fn an_error_of_the_whole_request_is_that_of_the_partition() {
        for version in 7..=17 {
            let refusal = messages::FetchResponse::default().with_error_code(70);
            let body = encoded(&refusal, version);
            let answer = FetchResponse::decode(version, 4, &body).expect("an answer");
            assert_eq!((answer.error_code, answer.high_watermark), (70, -1));
            let beside_records = response(version).with_error_code(70);
            let body = encoded(&beside_records, version);
            let answer = FetchResponse::decode(version, 4, &body).expect("an answer");
            assert_eq!((answer.error_code, answer.records.len()), (70, 0));
        }
    }

    /// KafkaApis.handleFetchRequest: above a quota the answer is empty.
    #[test]
    fn who_has_to_wait_is_told_nothing_else() {
        for version in 4..=17 {
            let empty = messages::FetchResponse::default();
            let answer = FetchResponse::decode(version, 4, &encoded(&empty, version));
            assert!(
                matches!(answer, Err(WireError::Unanswered { .. })),
                "{answer:?}"
            );
            let body = encoded(&empty.with_throttle_time_ms(700), version);
            let answer = FetchResponse::decode(version, 4, &body).expect("an answer");
            assert_eq!(answer.throttle, Duration::from_millis(700));
            assert_eq!((answer.error_code, answer.high_watermark), (0, -1));
        }
    }

    #[test]
    fn broken_answers_are_refused() {
        for version in 4..=17 {
            mangle(&encoded(&response(version), version), |body| {
                FetchResponse::decode(version, 4, body)
            });
        }
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(
            version in 3i16..=18,
            bytes in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let _ = FetchResponse::decode(version, 0, &bytes.into());
        }
    }
}
