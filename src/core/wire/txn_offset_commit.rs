//! TxnOffsetCommit: commits a group's offsets with a transaction.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::{
    GroupId, ProducerId, TopicName, TransactionalId, TxnOffsetCommitRequest,
};
use kafka_protocol::protocol::StrBytes;

use super::header::request_frame;
use super::reader::Reader;
use super::{Api, PartitionResult, Transactor, WireError};

/// A group, and as whom a member of it commits (KIP-447). With a generation of -1 and an empty member the
/// broker does not ask whether whoever commits is still in the group. Brokers before Kafka 2.5 (version
/// 3) know of nothing else, and a request to them that names a member is refused here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group<'a> {
    pub id: &'a str,
    pub generation: i32,
    pub member: &'a str,
    pub instance: Option<&'a str>,
}

/// The offset to begin at after what a transaction has consumed of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommittedOffset<'a> {
    pub topic: &'a str,
    pub partition: i32,
    pub offset: i64,
    /// Of the last record that was consumed; -1 if that is not known.
    pub leader_epoch: i32,
    pub metadata: &'a str,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TxnOffsetCommitResponse {
    pub throttle: Duration,
    pub partitions: Vec<PartitionResult>,
}

/// A request to commit these offsets, in any order. Version 5 is of the second protocol alone: with it
/// the group needs no AddOffsetsToTxn.
pub fn encode<'a>(
    version: i16,
    correlation_id: i32,
    client_id: &str,
    transactor: Transactor<'_>,
    group: Group<'_>,
    offsets: impl IntoIterator<Item = CommittedOffset<'a>>,
) -> Result<Bytes, WireError> {
    let text = |text: &str| StrBytes::from_string(text.to_owned());
    let mut topics: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    for it in offsets {
        let partition = TxnOffsetCommitRequestPartition::default()
            .with_partition_index(it.partition)
            .with_committed_offset(it.offset)
            .with_committed_leader_epoch(it.leader_epoch)
            .with_committed_metadata(Some(text(it.metadata)));
        topics.entry(it.topic).or_default().push(partition);
    }
    let topics = topics.into_iter().map(|(topic, partitions)| {
        TxnOffsetCommitRequestTopic::default()
            .with_name(TopicName(text(topic)))
            .with_partitions(partitions)
    });
    let request = TxnOffsetCommitRequest::default()
        .with_transactional_id(TransactionalId(text(transactor.transactional_id)))
        .with_group_id(GroupId(text(group.id)))
        .with_producer_id(ProducerId(transactor.producer_id))
        .with_producer_epoch(transactor.epoch)
        .with_generation_id(group.generation)
        .with_member_id(text(group.member))
        .with_group_instance_id(group.instance.map(text))
        .with_topics(topics.collect());
    let api = Api::TxnOffsetCommit;
    request_frame(api, version, correlation_id, client_id, &request)
}

impl TxnOffsetCommitResponse {
    pub fn decode(version: i16, body: &Bytes) -> Result<Self, WireError> {
        let api = Api::TxnOffsetCommit;
        api.check(version)?;
        let mut reader = Reader::new("TxnOffsetCommit answer", body, api.is_flexible(version));
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
    use kafka_protocol::messages::txn_offset_commit_response::{
        TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
    };
    use proptest::prelude::*;

    use super::super::hostile::{TRANSACTOR, encoded, mangle, read};
    use super::*;

    /// Whoever commits, and is no member.
    const ANYBODY: Group<'_> = Group {
        id: "readers",
        generation: -1,
        member: "",
        instance: None,
    };

    fn offset(topic: &str, partition: i32, offset: i64) -> CommittedOffset<'_> {
        CommittedOffset {
            topic,
            partition,
            offset,
            leader_epoch: 6,
            metadata: "here",
        }
    }

    #[test]
    fn another_implementation_reads_the_request() {
        let offsets = [
            offset("b", 4, 1 << 33),
            offset("a", 0, 0),
            offset("b", 1, 2),
        ];
        let member = Group {
            generation: 9,
            member: "m-1",
            instance: Some("i-1"),
            ..ANYBODY
        };
        for version in 0..=5 {
            for group in [ANYBODY, member] {
                let frame = match encode(version, 5, "client", TRANSACTOR, group, offsets) {
                    Ok(frame) => frame,
                    // Without its name a member that has left the group would not be fenced.
                    Err(error) if version < 3 && group == member => {
                        assert!(matches!(error, WireError::Encode { .. }), "{error:?}");
                        continue;
                    }
                    Err(error) => panic!("{error}"),
                };
                let request: TxnOffsetCommitRequest = read(Api::TxnOffsetCommit, version, frame);
                assert_eq!(&**request.transactional_id, "orders-1");
                assert_eq!((*request.producer_id, request.producer_epoch), (1 << 40, 3));
                let read = Group {
                    id: &request.group_id,
                    generation: request.generation_id,
                    member: &request.member_id,
                    instance: request.group_instance_id.as_deref(),
                };
                assert_eq!(read, group);
                let epoch = if version >= 2 { 6 } else { -1 };
                let mut topics = Vec::new();
                for topic in &request.topics {
                    for it in &topic.partitions {
                        assert_eq!(it.committed_leader_epoch, epoch);
                        assert_eq!(it.committed_metadata.as_deref(), Some("here"));
                        topics.push((&**topic.name, it.partition_index, it.committed_offset));
                    }
                }
                assert_eq!(topics, [("a", 0, 0), ("b", 4, 1 << 33), ("b", 1, 2)]);
                assert_eq!(request.topics.len(), 2);
            }
        }
        assert!(encode(6, 5, "client", TRANSACTOR, ANYBODY, offsets).is_err());
    }

    fn response() -> messages::TxnOffsetCommitResponse {
        let partition = |index, code| {
            TxnOffsetCommitResponsePartition::default()
                .with_partition_index(index)
                .with_error_code(code)
        };
        let topic = |name, partitions| {
            TxnOffsetCommitResponseTopic::default()
                .with_name(TopicName(StrBytes::from_static_str(name)))
                .with_partitions(partitions)
        };
        messages::TxnOffsetCommitResponse::default()
            .with_throttle_time_ms(7)
            .with_topics(vec![
                topic("a", vec![partition(0, 0)]),
                topic("b", vec![partition(4, 22), partition(1, 0)]),
            ])
    }

    #[test]
    fn every_version_is_understood() {
        for version in 0..=5 {
            let body = encoded(&response(), version);
            let answer = TxnOffsetCommitResponse::decode(version, &body).expect("an answer");
            assert_eq!(answer.throttle, Duration::from_millis(7));
            let results = answer.partitions.iter();
            let results: Vec<_> = results
                .map(|it| (&*it.topic, it.partition, it.error_code))
                .collect();
            assert_eq!(results, [("a", 0, 0), ("b", 4, 22), ("b", 1, 0)]);
        }
    }

    #[test]
    fn broken_answers_are_refused() {
        for version in 0..=5 {
            mangle(&encoded(&response(), version), |body| {
                TxnOffsetCommitResponse::decode(version, body)
            });
        }
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(
            version in -1i16..=6,
            bytes in prop::collection::vec(any::<u8>(), 0..100),
        ) {
            let _ = TxnOffsetCommitResponse::decode(version, &bytes.into());
        }
    }
}
