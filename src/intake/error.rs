//! Why a record was not accepted.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::core::broker_error::BrokerError;
use crate::core::cluster::TopicRefusal;
use crate::core::record::{NegativeTimestamp, Record};

/// Why a record was refused. It was never accepted, and is certainly not in the log.
///
/// ```no_run
/// # async fn example(producer: forebay::Producer) -> Result<(), Box<dyn std::error::Error>> {
/// use forebay::{Record, SendError};
///
/// match producer.send(Record::to("orders").value("shoes")).await {
///     Ok(receipt) => println!("written at offset {:?}", receipt.await?.offset),
///     Err(SendError::NoMemory { .. }) => println!("the brokers are too slow"),
///     Err(SendError::Closed) => println!("too late"),
///     Err(error) => println!("{error}"),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The topic could not be looked up within `max.block.ms`.
    #[error("the topic {topic:?} is not known after {waited:?} (max.block.ms): {why}")]
    #[non_exhaustive]
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
    #[non_exhaustive]
    TopicRefused {
        /// The record's topic.
        topic: Arc<str>,
        /// The broker's answer.
        error: BrokerError,
    },
    /// A serializer failed or panicked.
    #[error("the {part} of a record for {topic:?} could not be serialized: {why}")]
    #[non_exhaustive]
    Serialize {
        /// The record's topic.
        topic: Arc<str>,
        /// Which of its parts.
        part: RecordPart,
        /// What the serializer said.
        why: Arc<str>,
    },
    /// The record, or the partitioner, names a partition the topic does not have.
    #[error("partition {partition} of {topic:?} is out of range: the topic has {count}")]
    #[non_exhaustive]
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
    #[non_exhaustive]
    Panicked {
        /// Which piece of user code, for people to read.
        what: &'static str,
        /// The panic's message.
        why: Arc<str>,
    },
    /// The record is larger than `max.request.size` or `buffer.memory` allows.
    #[error("the record takes {size} bytes, more than {key} ({limit}) allows")]
    #[non_exhaustive]
    TooLarge {
        /// Bytes the record takes, its batch's header included.
        size: usize,
        /// The configuration key that bounds it, as [`KEYS`](crate::config::KEYS) has it.
        key: &'static str,
        /// The configured bound, in bytes.
        limit: usize,
    },
    /// A timestamp before 1970; it is given in milliseconds.
    #[error("the timestamp {0} is negative; use milliseconds since 1970-01-01 UTC")]
    NegativeTimestamp(i64),
    /// No memory came free within `max.block.ms`.
    #[error(
        "no memory within {waited:?} (max.block.ms): buffer.memory ({total} bytes) is full of \
         records that wait for brokers{}",
        last(why)
    )]
    #[non_exhaustive]
    NoMemory {
        /// How long was waited.
        waited: Duration,
        /// The configured `buffer.memory`, in bytes.
        total: usize,
        /// The last trouble with a broker, if there was any.
        why: Option<Arc<str>>,
    },
    /// [`try_send`](crate::Producer::try_send) would have to wait.
    #[error("sending now would have to wait for {0}")]
    WouldBlock(WaitsFor),
    /// The partition has failed, or was retired. It takes no records until it is restarted by hand;
    /// other partitions do.
    #[error(
        "partition {partition} of {topic:?} has failed or was retired; \
         Producer::restart has it work again"
    )]
    #[non_exhaustive]
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

/// What a record would have to wait for; see [`SendError::WouldBlock`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WaitsFor {
    /// The metadata of its topic, which has been asked for.
    Topic,
    /// Memory: the next portion of `buffer.memory`.
    Memory,
}

/// A part of a record that is serialized; see [`SendError::Serialize`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RecordPart {
    /// The record's key.
    Key,
    /// The record's value.
    Value,
}

/// A record that [`Producer::try_send`](crate::Producer::try_send) refused, as it was handed in, and
/// why. The method has an example.
// Boxed, because whoever sends moves the result of every record.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}", .0.1)]
pub struct TrySendError(Box<(Record, SendError)>);

impl TrySendError {
    /// Why it was refused.
    pub fn error(&self) -> &SendError {
        &self.0.1
    }

    /// The record, to be sent again, and why it was refused.
    pub fn into_parts(self) -> (Record, SendError) {
        *self.0
    }

    pub(crate) fn new(record: Record, error: SendError) -> Self {
        Self(Box::new((record, error)))
    }
}

impl fmt::Display for WaitsFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Topic => "the topic's metadata",
            Self::Memory => "memory",
        })
    }
}

impl fmt::Display for RecordPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Key => "key",
            Self::Value => "value",
        })
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
