//! What becomes of an accepted record: exactly one of acked, not written, unknown; or it is kept.

use std::sync::Arc;
use std::time::Duration;

use crate::core::broker_error::BrokerError;
use crate::core::security::SecurityError;
use crate::core::supervision::Component;

/// The one outcome of an accepted record.
///
/// ```
/// use forebay::{Outcome, Unconfirmed};
///
/// fn tell(outcome: Outcome) -> String {
///     match outcome {
///         Ok(acked) => format!("partition {} offset {:?}", acked.partition, acked.offset),
///         Err(Unconfirmed::NotWritten(reason)) => format!("send it again: {reason}"),
///         // Also what is right for outcomes that later versions add.
///         Err(unconfirmed) => format!("it may be in the log, or not: {unconfirmed}"),
///     }
/// }
/// # tell(Ok(forebay::Acked::new(0, Some(7), 0)));
/// ```
pub type Outcome = Result<Acked, Unconfirmed>;

/// The record is in the log; Java's `RecordMetadata`. See [`Outcome`] for an example.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Acked {
    /// The partition it is in.
    pub partition: i32,
    /// Its offset. `None` when the broker confirmed the record without saying where it is, as it
    /// does for a batch it had already appended on an earlier attempt.
    pub offset: Option<i64>,
    /// Its timestamp in milliseconds since 1970-01-01 UTC: the record's own, or the broker's where the
    /// topic has `message.timestamp.type=LogAppendTime`.
    pub timestamp: i64,
}

impl Acked {
    /// What a producer would tell, for tests of an application.
    pub fn new(partition: i32, offset: Option<i64>, timestamp: i64) -> Self {
        Self {
            partition,
            offset,
            timestamp,
        }
    }
}

/// An accepted record of which no broker has confirmed that it is in the log. See [`Outcome`] for an
/// example.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unconfirmed {
    /// Certainly not in the log: it may be sent again without making a duplicate.
    #[error("not written: {0}")]
    NotWritten(Reason),
    /// Its transaction was aborted. Its bytes may be in the log, but no reader with
    /// `isolation.level=read_committed` ever sees them: for those it may be sent again, in another
    /// transaction, without making a duplicate.
    #[error("aborted: {0}")]
    Aborted(Reason),
    /// It may be in the log, or not: sending it again may make a duplicate.
    #[error("may or may not be written: {0}")]
    Unknown(Reason),
    /// It is in the spool, and the next producer on the same directory delivers it: not to be sent again.
    #[error("kept in the spool, for the next producer to deliver: {0}")]
    Kept(Reason),
}

impl Unconfirmed {
    /// Why, whichever of them it is.
    pub fn reason(&self) -> &Reason {
        match self {
            Self::NotWritten(reason)
            | Self::Aborted(reason)
            | Self::Unknown(reason)
            | Self::Kept(reason) => reason,
        }
    }
}

/// Why a record was not confirmed; see [`Unconfirmed::reason`].
///
/// ```
/// use forebay::{Reason, Unconfirmed};
///
/// /// Whether the brokers, and not the record, are to blame.
/// fn is_outage(unconfirmed: &Unconfirmed) -> bool {
///     match unconfirmed.reason() {
///         Reason::Expired { .. } | Reason::Connection { .. } => true,
///         Reason::Broker(error) => error.name().as_deref() == Some("NOT_ENOUGH_REPLICAS"),
///         _ => false,
///     }
/// }
/// # assert!(!is_outage(&Unconfirmed::Unknown(Reason::NotRequested)));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// The broker refused the batch. Where an ACL is missing, [`BrokerError::missing_acl`] says which.
    #[error("the broker answered {0}")]
    Broker(BrokerError),
    /// The broker refused the whole batch because of other records in it.
    #[error("the batch was refused because of other records in it: {0}")]
    BatchMate(BrokerError),
    /// The broker refused this very record.
    #[error("the broker refused the record with {error}: {message}")]
    #[non_exhaustive]
    InvalidRecord {
        /// The code of the answer.
        error: BrokerError,
        /// What the broker said of this record.
        message: Arc<str>,
    },
    /// `delivery.timeout.ms` ran out. It is counted from when the first record of a batch was
    /// accepted, so a record that joined the batch later has had less time, by at most `linger.ms`
    /// and however long the batch could not be sent.
    #[error(
        "delivery.timeout.ms ({timeout:?}) ran out: the first record of the batch was accepted \
         {age:?} ago{}",
        last_error(last)
    )]
    #[non_exhaustive]
    Expired {
        /// The configured `delivery.timeout.ms`.
        timeout: Duration,
        /// How long ago the first record of the batch was accepted.
        age: Duration,
        /// What went wrong last: with the batch, or with what it waited for.
        last: Option<Arc<str>>,
        /// The same, if it waited for a broker that does not let this client in.
        security: Option<Arc<SecurityError>>,
    },
    /// The producer was closed before the record could be delivered.
    #[error("the producer was closed first{}", last_error(last))]
    #[non_exhaustive]
    Closed {
        /// The error of the last attempt, if there was one.
        last: Option<Arc<str>>,
    },
    /// Another producer works with a copy of the spool, and has taken the transactional ids of this one,
    /// which has ended.
    #[error("another producer has taken the transactional ids of the spool: {why}")]
    #[non_exhaustive]
    Fenced {
        /// What the coordinator says of one of them.
        why: Arc<str>,
    },
    /// The component of the runtime that held the record panicked too often and was given up.
    #[error("{component} was given up after too many panics, the last one: {why}")]
    #[non_exhaustive]
    Failed {
        /// Which component.
        component: Component,
        /// What the last panic said.
        why: Arc<str>,
    },
    /// `acks=0`: no broker was asked for an answer.
    #[error("acks=0 asks for no answer")]
    NotRequested,
    /// An earlier batch of the partition ended without an answer, so this one, sent behind it,
    /// cannot be told from it any more.
    #[error("an earlier batch of the partition stayed unresolved: {last}")]
    #[non_exhaustive]
    AfterUnresolved {
        /// The error of this batch's last attempt.
        last: Arc<str>,
    },
    /// The batch may be in the log, and the timestamps of its records are so old that brokers may
    /// have forgotten the producer. They would append a retry a second time.
    #[error(
        "the newest record of the batch has a timestamp {age:?} old, and brokers forget a producer \
         by such timestamps (forebay.producer.id.expiration.ms is {expiration:?}), so a retry might \
         write it twice; the last error was: {last}"
    )]
    #[non_exhaustive]
    Forgotten {
        /// How old the newest record's timestamp is.
        age: Duration,
        /// The configured `forebay.producer.id.expiration.ms`.
        expiration: Duration,
        /// The error of the last attempt.
        last: Arc<str>,
    },
    /// With `forebay.unknown=resolve`: it was looked for in the log, and nobody can know.
    #[error("{first}; it was looked for in the log, but {why}")]
    #[non_exhaustive]
    Unresolved {
        /// Why it was in doubt.
        first: Box<Reason>,
        /// Why the log does not tell, and what to change if that can be.
        why: Arc<str>,
    },
    /// The spool has lost the record: its file is damaged, or cannot be read.
    #[error("the spool has lost it: its file is damaged, or cannot be read")]
    Damaged,
    /// The producer ended first, and a file of the spool could not be synced: with
    /// `forebay.spool.durability=machine` nobody knows whether the next producer finds the record there.
    #[error(
        "{first}; a file of the spool could not be synced, so the next producer may not find it there; look \
         for the disk's errors in the system's log"
    )]
    #[non_exhaustive]
    DiskFailed {
        /// Why it has no other outcome.
        first: Box<Reason>,
    },
    /// It waited in the spool for longer than `forebay.spool.max.age.ms`, and was never sent. The directory
    /// `rejected` of the spool has it.
    #[error("forebay.spool.max.age.ms ({max_age:?}) ran out while it waited in the spool")]
    #[non_exhaustive]
    TooOld {
        /// The configured `forebay.spool.max.age.ms`.
        max_age: Duration,
    },
    /// Its topic was deleted and created anew while it waited in the spool, and it was accepted for the
    /// former one. The directory `rejected` of the spool has it.
    #[error("the topic was deleted and created anew, and this was accepted for the former one")]
    TopicRecreated,
    /// No broker gives the producer id that an idempotent producer needs.
    #[error("no producer id: {why}")]
    #[non_exhaustive]
    NoProducerId {
        /// What the brokers said, and what to change.
        why: Arc<str>,
    },
    /// The leader of the partition and this producer have no version of Produce in common.
    #[error("the leader of the partition cannot take records: {why}")]
    #[non_exhaustive]
    NoCommonVersion {
        /// Which broker, which versions it and this producer speak, and what to change.
        why: Arc<str>,
    },
    /// The transaction of the record was aborted.
    #[error("its transaction was aborted: {why}")]
    #[non_exhaustive]
    TransactionAborted {
        /// Why it was.
        why: Arc<str>,
    },
    /// The transaction of the record was to be committed, and it is not known whether it was.
    #[error("it is not known whether its transaction was committed: {why}")]
    #[non_exhaustive]
    CommitInDoubt {
        /// Why nobody knows.
        why: Arc<str>,
    },
    /// The component of the runtime that held the record is gone.
    #[error("the part of the runtime that held the record is gone")]
    RuntimeGone,
    /// It was asked for in code that the runtime calls, and no outcome comes before that code returns.
    /// A clone of the receipt tells the record's outcome later.
    #[error(
        "its outcome was waited for in code that the runtime calls, where none can come; \
         spawn a task that waits for it"
    )]
    InCallback,
    /// The connection failed and `retries` allows no further attempt.
    #[error("no retries left: {why}")]
    #[non_exhaustive]
    Connection {
        /// What happened to the connection.
        why: Arc<str>,
    },
}

fn last_error(last: &Option<Arc<str>>) -> String {
    last.as_ref()
        .map_or_else(String::new, |last| format!("; the last error was: {last}"))
}
