//! Why a record was not accepted.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::core::broker_error::BrokerError;
use crate::core::cluster::TopicRefusal;
use crate::core::record::{NegativeTimestamp, Record};
use crate::core::security::SecurityError;
use crate::core::transaction::Cause;

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
    /// The topic, or the partition that the record names, could not be looked up within `max.block.ms`.
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
    /// No topic can have this name. That is found out here, and no broker is asked.
    #[error("the topic name {} is not legal: {why}", shortened(topic))]
    #[non_exhaustive]
    IllegalTopicName {
        /// The record's topic.
        topic: Arc<str>,
        /// Which of Kafka's rules for names it breaks: 1 to 249 characters of `a` to `z`, `A` to
        /// `Z`, `0` to `9`, `.`, `_` and `-`, and neither `.` nor `..`.
        why: Arc<str>,
    },
    /// A broker refuses the topic for good: access is denied ([`BrokerError::missing_acl`] says which ACL
    /// is missing, beside CREATE on the topic where brokers are to create it), or it has rules of its own
    /// for names. Brokers are asked anew for who sends to it later, so that an ACL that comes is noticed.
    #[error("the topic {topic:?} cannot be used: the broker answered {error}")]
    #[non_exhaustive]
    TopicRefused {
        /// The record's topic.
        topic: Arc<str>,
        /// The broker's answer.
        error: BrokerError,
    },
    /// The topic, with those in use, has more partitions than one producer takes.
    #[error(
        "the topic {topic:?} has {partitions} partitions: with those of the other topics in use that is \
         more than the {limit} that a producer takes; use more producers, or a topic with fewer partitions"
    )]
    #[non_exhaustive]
    TooManyPartitions {
        /// The record's topic.
        topic: Arc<str>,
        /// How many partitions the broker says it has.
        partitions: usize,
        /// The most that a producer takes, of all its topics.
        limit: usize,
    },
    /// No broker lets this client in, and none ever did: certificates, credentials or protocols are
    /// wrong, and waiting would not mend them.
    #[error("no broker can be asked: {0}")]
    Security(Arc<SecurityError>),
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
    /// The record, or the partitioner, names a partition the topic does not have. Of what a record names, a
    /// broker has said so that was asked after the call: the partition may have been added a moment ago.
    #[error("partition {partition} of {topic:?} is out of range: {}", range(*partition, *count))]
    #[non_exhaustive]
    PartitionOutOfRange {
        /// The record's topic.
        topic: Arc<str>,
        /// The partition asked for.
        partition: i32,
        /// How many the topic has; 0 if the topic is not known, and was not asked for since the number is
        /// negative.
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
    /// The spool had no space within `max.block.ms`.
    #[error("no space in the spool within {waited:?} (max.block.ms): {why}")]
    #[non_exhaustive]
    NoSpace {
        /// How long was waited.
        waited: Duration,
        /// Whether `forebay.spool.max.bytes` is reached, or what is wrong with the disk.
        why: Arc<str>,
    },
    /// The record was written to the spool, and it is not known whether it is on the disk: with
    /// `forebay.spool.durability=machine` nobody said so. It may be delivered, now or after a restart.
    #[error("the record may be in the spool, or not: {why}")]
    #[non_exhaustive]
    InDoubt {
        /// Why nobody knows.
        why: Arc<str>,
    },
    /// The record is of a [`Source`](crate::Source), and its topic is not in the spool: its position could
    /// not be kept.
    #[error(
        "the topic {topic:?} of a source's record is not in the spool: name it in forebay.spool.topics"
    )]
    #[non_exhaustive]
    NotSpooled {
        /// The record's topic.
        topic: Arc<str>,
    },
    /// [`try_send`](crate::Producer::try_send) would have to wait.
    #[error("sending now would have to wait for {0}")]
    WouldBlock(WaitsFor),
    /// It would have to wait, in code that the runtime calls: a callback, an interceptor, a partitioner.
    /// The wait could be for what this very code holds up. Send it from a task, or with
    /// [`try_send`](crate::Producer::try_send).
    #[error(
        "sending would have to wait for {0} in code that the runtime calls, and holds up; \
         spawn a task that sends it"
    )]
    InCallback(WaitsFor),
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
    /// The transaction has ended, or can only be aborted, and takes no more records.
    #[error("the transaction takes no more records{}", failed(why))]
    #[non_exhaustive]
    TransactionEnded {
        /// Why it can only be aborted, if that is so.
        why: Option<Arc<Cause>>,
    },
    /// A [`SendRecord`](crate::SendRecord) of no transaction went to a partition of a producer that sends
    /// in transactions alone.
    #[error("the producer sends in transactions alone; use transaction::Handle::message")]
    NoTransaction,
    /// The producer is closed.
    #[error("the producer is closed")]
    Closed,
}

/// What a record would have to wait for; see [`SendError::WouldBlock`] and [`SendError::InCallback`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WaitsFor {
    /// The metadata of its topic, which has been asked for.
    Topic,
    /// Memory: the next portion of `buffer.memory`.
    Memory,
    /// Space in the spool, on the disk.
    Spool,
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
            Self::Spool => "space in the spool",
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
            TopicRefusal::OutOfRange {
                topic,
                partition,
                count,
            } => Self::PartitionOutOfRange {
                topic,
                partition,
                count,
            },
            TopicRefusal::Refused { topic, error } => Self::TopicRefused { topic, error },
            TopicRefusal::TooManyPartitions {
                topic,
                partitions,
                limit,
            } => Self::TooManyPartitions {
                topic,
                partitions,
                limit,
            },
        }
    }
}

impl From<NegativeTimestamp> for SendError {
    fn from(NegativeTimestamp(millis): NegativeTimestamp) -> Self {
        Self::NegativeTimestamp(millis)
    }
}

/// The name as it is shown: whoever names a topic may have taken something else for the name.
fn shortened(name: &str) -> String {
    const SHOWN: usize = 100;
    match name.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{:?}...", &name[..end]),
        None => format!("{name:?}"),
    }
}

fn range(partition: i32, count: usize) -> String {
    match partition {
        ..0 => "it is negative".to_owned(),
        _ => format!("the topic has {count}"),
    }
}

fn failed(why: &Option<Arc<Cause>>) -> String {
    why.as_ref().map_or_else(String::new, |why| {
        format!(": it can only be aborted, as {why}")
    })
}

fn last(why: &Option<Arc<str>>) -> String {
    why.as_ref()
        .map_or_else(String::new, |why| format!("; the last trouble was: {why}"))
}
