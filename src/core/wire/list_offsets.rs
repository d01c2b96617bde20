//! ListOffsets: where a partition's log begins or ends.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{ListOffsetsRequest, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::header::request_frame;
use super::reader::Reader;
use super::{Api, Isolation, WireError};

/// Which offset is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The first that is there.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "an answer to a Fetch request says it, too")
    )]
    Earliest,
    /// The one behind the last that the isolation lets see.
    Latest,
}

/// What is asked of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffsetQuestion<'a> {
    pub topic: &'a str,
    pub partition: i32,
    /// A broker that leads in another epoch refuses, from version 4 on; -1 if it is not to ask.
    pub leader_epoch: i32,
    pub place: Place,
    /// Brokers know of it from version 2 on.
    pub isolation: Isolation,
    /// How long a broker may look for offsets elsewhere, from version 10 on.
    pub timeout: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListOffsetsResponse {
    pub throttle: Duration,
    pub error_code: i16,
    /// -1 if there is none.
    pub offset: i64,
    /// -1 if the broker does not say.
    pub leader_epoch: i32,
}

/// A request for one offset.
pub fn encode(
    version: i16,
    correlation_id: i32,
    client_id: &str,
    question: OffsetQuestion<'_>,
) -> Result<Bytes, WireError> {
    let timestamp = match question.place {
        Place::Latest => -1,
        Place::Earliest => -2,
    };
    let partition = ListOffsetsPartition::default()
        .with_partition_index(question.partition)
        .with_timestamp(timestamp)
        .with_current_leader_epoch(question.leader_epoch);
    let topic = ListOffsetsTopic::default()
        .with_name(TopicName(StrBytes::from_string(question.topic.to_owned())))
        .with_partitions(vec![partition]);
    let mut request = ListOffsetsRequest::default()
        .with_replica_id((-1).into())
        .with_isolation_level(question.isolation.level())
        .with_topics(vec![topic]);
    if version >= 10 {
        request.timeout_ms = i32::try_from(question.timeout.as_millis()).unwrap_or(i32::MAX);
    }
    let api = Api::ListOffsets;
    request_frame(api, version, correlation_id, client_id, &request)
}

impl ListOffsetsResponse {
    /// Reads the answer about the one partition that was asked for.
    pub fn decode(version: i16, partition: i32, body: &Bytes) -> Result<Self, WireError> {
        const MESSAGE: &str = "ListOffsets answer";
        let api = Api::ListOffsets;
        api.check(version)?;
        let mut reader = Reader::new(MESSAGE, body, api.is_flexible(version));
        let throttle = match version {
            2.. => reader.throttle()?,
            _ => Duration::ZERO,
        };
        let mut answer = None;
        for _ in 0..reader.count(5)? {
            let _topic = reader.text()?;
            for _ in 0..reader.count(22)? {
                let index = reader.i32()?;
                let error_code = reader.i16()?;
                let _timestamp = reader.i64()?;
                let offset = reader.base_offset()?;
                let leader_epoch = if version >= 4 { reader.i32()? } else { -1 };
                reader.skip_tags()?;
                if index == partition {
                    answer = Some(Self {
                        throttle,
                        error_code,
                        offset,
                        leader_epoch,
                    });
                }
            }
            reader.skip_tags()?;
        }
        reader.skip_tags()?;
        answer.ok_or(WireError::Unanswered { message: MESSAGE })
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages;
    use kafka_protocol::messages::list_offsets_response::{
        ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
    };
    use proptest::prelude::*;

    use super::super::hostile::{encoded, mangle, read};
    use super::*;

    #[test]
    fn another_implementation_reads_the_request() {
        for version in 1..=10 {
            for (place, timestamp) in [(Place::Latest, -1), (Place::Earliest, -2)] {
                let question = OffsetQuestion {
                    topic: "größen",
                    partition: 3,
                    leader_epoch: if version >= 4 { 8 } else { -1 },
                    place,
                    isolation: match version {
                        1 => Isolation::ReadUncommitted,
                        _ => Isolation::ReadCommitted,
                    },
                    timeout: Duration::from_secs(2),
                };
                let frame = encode(version, 5, "client", question).expect("a request");
                let request: ListOffsetsRequest = read(Api::ListOffsets, version, frame);
                assert_eq!(*request.replica_id, -1);
                assert_eq!(request.isolation_level, i8::from(version > 1));
                assert_eq!(request.timeout_ms, if version >= 10 { 2_000 } else { 0 });
                let [topic] = request.topics.as_slice() else {
                    panic!("{request:?}");
                };
                assert_eq!(&**topic.name, "größen");
                let [partition] = topic.partitions.as_slice() else {
                    panic!("{topic:?}");
                };
                assert_eq!(partition.partition_index, 3);
                assert_eq!(partition.timestamp, timestamp);
                assert_eq!(partition.current_leader_epoch, question.leader_epoch);
            }
        }
    }

    #[test]
    fn what_a_version_has_no_room_for_is_left_out_or_refused() {
        let question = OffsetQuestion {
            topic: "t",
            partition: 0,
            leader_epoch: 8,
            place: Place::Latest,
            isolation: Isolation::ReadUncommitted,
            timeout: Duration::MAX,
        };
        // The broker refuses nothing by an epoch that it does not know of.
        encode(3, 5, "client", question).expect("a request");
        let committed = OffsetQuestion {
            isolation: Isolation::ReadCommitted,
            ..question
        };
        let error = encode(1, 5, "client", committed).expect_err("another offset");
        assert!(matches!(error, WireError::Encode { .. }), "{error:?}");
        for version in [0, 11] {
            let error = encode(version, 5, "client", question).expect_err("unknown");
            assert!(matches!(error, WireError::UnknownVersion { .. }));
        }
    }

    fn response(version: i16) -> messages::ListOffsetsResponse {
        let partition = |index, offset| {
            let partition = ListOffsetsPartitionResponse::default()
                .with_partition_index(index)
                .with_error_code(index as i16)
                .with_timestamp(-1)
                .with_offset(offset);
            match version {
                4.. => partition.with_leader_epoch(8),
                _ => partition,
            }
        };
        let topic = ListOffsetsTopicResponse::default()
            .with_name(TopicName(StrBytes::from_static_str("größen")))
            .with_partitions(vec![partition(3, 1 << 40), partition(6, -1)]);
        let response = messages::ListOffsetsResponse::default().with_topics(vec![topic]);
        match version {
            2.. => response.with_throttle_time_ms(7),
            _ => response,
        }
    }

    #[test]
    fn every_version_is_understood() {
        for version in 1..=10 {
            let body = encoded(&response(version), version);
            for (partition, offset) in [(3, 1 << 40), (6, -1)] {
                let expected = ListOffsetsResponse {
                    throttle: Duration::from_millis(if version >= 2 { 7 } else { 0 }),
                    error_code: partition as i16,
                    offset,
                    leader_epoch: if version >= 4 { 8 } else { -1 },
                };
                let answer = ListOffsetsResponse::decode(version, partition, &body);
                assert_eq!(answer, Ok(expected), "version {version}");
            }
            assert!(matches!(
                ListOffsetsResponse::decode(version, 4, &body),
                Err(WireError::Unanswered { .. })
            ));
        }
    }

    #[test]
    fn broken_answers_are_refused() {
        for version in 1..=10 {
            mangle(&encoded(&response(version), version), |body| {
                ListOffsetsResponse::decode(version, 3, body)
            });
        }
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(
            version in 0i16..=11,
            bytes in prop::collection::vec(any::<u8>(), 0..100),
        ) {
            let _ = ListOffsetsResponse::decode(version, 0, &bytes.into());
        }
    }
}
