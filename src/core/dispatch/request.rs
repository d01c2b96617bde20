//! Makes a Produce request of batches.

use std::sync::Arc;
use std::time::Duration;

use super::{Gate, OutgoingBatch};
use crate::core::acks::Acks;
use crate::core::memory::Buffer;
use crate::core::wire::{self, Batch, Envelope, TopicBatches, WireError};

/// The last version that names topics by their names.
const LAST_BY_NAME: i16 = 12;

/// A request to be written. It owns the bytes it carries. Whatever becomes of its batches, their
/// bytes do not change until they are written or the connection is gone.
#[derive(Debug)]
pub(crate) struct OutgoingRequest {
    pub envelope: Envelope,
    pub records: Vec<Arc<Buffer>>,
    pub gate: Arc<Gate>,
    /// Whether the broker responds to it, which it does not with `acks=0`.
    pub is_answered: bool,
}

/// Sorts the batches by topic, because a request may name each topic only once. Returns the version
/// of the request. From version 13 on, topics go by their ids. If the id of a topic is unknown,
/// because its broker is old, an earlier version is used.
///
/// While a topic that was deleted and made anew becomes known, batches with its former id and with its
/// new one may be in the same request.
pub(crate) fn arrange<P: OutgoingBatch>(batches: &mut [P], newest: i16) -> i16 {
    batches.sort_by(|a, b| (a.topic(), a.topic_id()).cmp(&(b.topic(), b.topic_id())));
    match batches.iter().any(|batch| batch.topic_id().is_nil()) {
        true => newest.min(LAST_BY_NAME),
        false => newest,
    }
}

/// Encodes the request for batches that [`arrange`] sorted. Their records are not copied into it.
pub(crate) fn encode<P: OutgoingBatch>(
    batches: &[P],
    version: i16,
    correlation_id: i32,
    client_id: &str,
    transactional_id: Option<&str>,
    acks: Acks,
    timeout: Duration,
) -> Result<Envelope, WireError> {
    let by_name = version <= LAST_BY_NAME;
    let same_id = |a: &P, b: &P| by_name || a.topic_id() == b.topic_id();
    let of_one_topic = batches.chunk_by(|a, b| a.topic() == b.topic() && same_id(a, b));
    let topics: Vec<_> = of_one_topic
        .map(|batches| TopicBatches {
            topic: batches[0].topic(),
            topic_id: batches[0].topic_id(),
            batches: batches.iter().map(|batch| Batch {
                partition: batch.partition(),
                header: batch.header(),
                records_len: batch.records_len(),
            }),
        })
        .collect();
    let acks = match acks {
        Acks::None => 0,
        Acks::Leader => 1,
        Acks::All => -1,
    };
    let timeout = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    wire::encode_produce(
        version,
        correlation_id,
        client_id,
        transactional_id,
        acks,
        timeout,
        topics,
    )
}

#[cfg(test)]
mod tests {
    use bytes::Buf;
    use kafka_protocol::messages::{ProduceRequest, RequestHeader};
    use kafka_protocol::protocol::Decodable;
    use uuid::Uuid;

    use super::super::outgoing_batch::tests::Batch;
    use super::*;
    use crate::core::batch::HEADER_LEN;

    #[test]
    fn batches_of_a_topic_stand_together() {
        let mut batches = [Batch("b", 1), Batch("a", 2), Batch("b", 3)];
        assert_eq!(arrange(&mut batches, 13), 13);
        assert_eq!(batches, [Batch("a", 2), Batch("b", 1), Batch("b", 3)]);
        assert_eq!(
            arrange(&mut [Batch("\0", 1)], 13),
            12,
            "a topic without an id"
        );
        assert_eq!(arrange(&mut [Batch("\0", 1)], 9), 9);
    }

    /// A batch of topic `t` with this id and partition.
    struct OfTopic(u128, i32);

    impl OutgoingBatch for OfTopic {
        fn topic(&self) -> &str {
            "t"
        }

        fn topic_id(&self) -> Uuid {
            Uuid::from_u128(self.0)
        }

        fn partition(&self) -> i32 {
            self.1
        }

        fn header(&self) -> &[u8; HEADER_LEN] {
            &[0; HEADER_LEN]
        }

        fn records_len(&self) -> usize {
            0
        }
    }

    #[test]
    fn batches_of_a_former_topic_go_under_its_own_id() {
        for (version, expected) in [
            (13, vec![(1, vec![0, 2]), (2, vec![1])]),
            (12, vec![(0, vec![0, 2, 1])]),
        ] {
            let mut batches = [OfTopic(1, 0), OfTopic(2, 1), OfTopic(1, 2)];
            assert_eq!(arrange(&mut batches, version), version);
            let timeout = Duration::from_secs(1);
            let envelope = encode(&batches, version, 1, "client", None, Acks::All, timeout);
            let mut frame = envelope.expect("a request").bytes;
            frame.advance(4);
            RequestHeader::decode(&mut frame, 2).expect("a header");
            let request = ProduceRequest::decode(&mut frame, version).expect("a request");
            let topics = request.topic_data.iter().map(|topic| {
                let partitions = topic.partition_data.iter().map(|it| it.index).collect();
                (topic.topic_id.as_u128(), partitions)
            });
            assert_eq!(topics.collect::<Vec<_>>(), expected);
        }
    }
}
