//! Why a record was not accepted.

use std::sync::Arc;
use std::time::Duration;

use crate::core::broker_error::BrokerError;
use crate::core::cluster::TopicRefusal;
use crate::core::record::{NegativeTimestamp, Record};

/// A record that was refused: it was never accepted, and is certainly not in the log.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The topic could not be looked up within `max.block.ms`.
    #[error("the topic {topic:?} is not known after {waited:?} (max.block.ms): {why}")]
    TopicUnknown {
        /// The record's topic.
        topic: Arc<str>,
        /// How long was waited.
        waited: Duration,
        /// What the brokers, or the connections to them, said last.
        why: Arc<str>,
        /// The brokers' last answer for the topic, if they could be asked:
        /// `UNKNOWN_TOPIC_OR_PARTITION` where it does not exist.
        error: Option<BrokerError>,
    },
    /// A broker refuses the topic for good: its name is not legal, or access is denied.
    #[error("the topic {topic:?} cannot be used: the broker answered {error}")]
    TopicRefused {
        /// The record's topic.
        topic: Arc<str>,
        /// The broker's answer.
        error: BrokerError,
    },
    /// A serializer failed or panicked.
    #[error("the {part} of a record for {topic:?} could not be serialized: {why}")]
    Serialize {
        /// The record's topic.
        topic: Arc<str>,
        /// "key" or "value".
        part: &'static str,
        /// What the serializer said.
        why: Arc<str>,
    },
    /// The record, or the partitioner, names a partition the topic does not have.
    #[error("partition {partition} of {topic:?} is out of range: the topic has {count}")]
    PartitionOutOfRange {
        /// The record's topic.
        topic: Arc<str>,
        /// The partition asked for.
        partition: i32,
        /// How many the topic has.
        count: usize,
    },
    /// An interceptor or a partitioner of the application panicked.
    #[error("{what} panicked: {why}")]
    Panicked {
        /// Which piece of user code.
        what: &'static str,
        /// The panic's message.
        why: Arc<str>,
    },
    /// The record is larger than `max.request.size` or `buffer.memory` allows.
    #[error("the record takes {size} bytes, more than {key} ({limit}) allows")]
    TooLarge {
        /// Bytes the record takes, its batch's header included.
        size: usize,
        /// The configuration key that bounds it.
        key: &'static str,
        /// The configured bound.
        limit: usize,
    },
    /// A timestamp before 1970.
    #[error("the timestamp {0} is negative; use milliseconds since 1970-01-01 UTC")]
    NegativeTimestamp(i64),
    /// No memory came free within `max.block.ms`.
    #[error(
        "no memory within {waited:?} (max.block.ms): buffer.memory ({total} bytes) is full of \
         records that wait for brokers{}",
        last(why)
    )]
    NoMemory {
        /// How long was waited.
        waited: Duration,
        /// The configured `buffer.memory`.
        total: usize,
        /// The last trouble with a broker, if there was any.
        why: Option<Arc<str>>,
    },
    /// `try_send` would have to wait, for the topic to be looked up or for memory.
    #[error("sending now would have to wait for {0}")]
    WouldBlock(&'static str),
    /// The partition has failed, or was retired: it takes no records until it is restarted by
    /// hand. Other partitions do.
    #[error(
        "partition {partition} of {topic:?} has failed or was retired; \
         Producer::restart has it work again"
    )]
    PartitionDown {
        /// The record's topic.
        topic: Arc<str>,
        /// The partition.
        partition: i32,
    },
    /// The producer is closed.
    #[error("the producer is closed")]
    Closed,
}

/// A record that [`Producer::try_send`](crate::Producer::try_send) refused, as it was handed in, and
/// why.
// Boxed, because whoever sends moves the result of every record.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}", .0.1)]
pub struct TrySendError(Box<(Record, SendError)>);

impl TrySendError {
    pub(crate) fn new(record: Record, error: SendError) -> Self {
        Self(Box::new((record, error)))
    }

    /// Why it was refused.
    pub fn error(&self) -> &SendError {
        &self.0.1
    }

    /// The record, to be sent again, and why it was refused.
    pub fn into_parts(self) -> (Record, SendError) {
        *self.0
    }
}

impl From<TrySendError> for SendError {
    fn from(refused: TrySendError) -> Self {
        refused.0.1
    }
}

impl From<TopicRefusal> for SendError {
    fn from(refusal: TopicRefusal) -> Self {
        match refusal {
            TopicRefusal::Unknown {
                topic,
                waited,
                why,
                error,
            } => Self::TopicUnknown {
                topic,
                waited,
                why,
                error,
            },
            TopicRefusal::Refused { topic, error } => Self::TopicRefused { topic, error },
        }
    }
}

impl From<NegativeTimestamp> for SendError {
    fn from(NegativeTimestamp(millis): NegativeTimestamp) -> Self {
        Self::NegativeTimestamp(millis)
    }
}

fn last(why: &Option<Arc<str>>) -> String {
    why.as_ref()
        .map_or_else(String::new, |why| format!("; the last trouble was: {why}"))
}
