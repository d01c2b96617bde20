//! Makes a Produce request of batches.

use std::sync::Arc;
use std::time::Duration;

use super::{Gate, OutgoingBatch};
use crate::core::acks::Acks;
use crate::core::batch::Payload;
use crate::core::wire::{self, Batch, Envelope, TopicBatches, WireError};

/// The last version that names topics by their names.
const LAST_BY_NAME: i16 = 12;

/// A request to be written. It owns the bytes it carries. Whatever becomes of its batches, their
/// bytes do not change until they are written or the connection is gone.
#[derive(Debug)]
pub(crate) struct OutgoingRequest {
    pub envelope: Envelope,
    pub records: Vec<Arc<Payload>>,
    pub gate: Arc<Gate>,
}

/// Sorts the batches by topic, because a request may name each topic only once. Returns the version
/// of the request. From version 13 on, topics go by their ids. If the id of a topic is unknown,
/// because its broker is old, an earlier version is used.
pub(crate) fn arrange<P: OutgoingBatch>(batches: &mut [P], newest: i16) -> i16 {
    batches.sort_by(|a, b| a.topic().cmp(b.topic()));
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
    acks: Acks,
    timeout: Duration,
) -> Result<Envelope, WireError> {
    let of_one_topic = batches.chunk_by(|a, b| a.topic() == b.topic());
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
    wire::encode_produce(version, correlation_id, client_id, acks, timeout, topics)
}

#[cfg(test)]
mod tests {
    use super::super::outgoing_batch::tests::Batch;
    use super::*;

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
}
