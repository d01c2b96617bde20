//! What can go wrong with a transaction.

use std::sync::Arc;
use std::time::Duration;

use crate::core::broker_error::BrokerError;
use crate::core::outcome::Unconfirmed;

/// Why there is no transaction, or why it cannot be committed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TransactionError {
    /// Another instance with the same `transactional.id` was started. This one can do nothing more; what
    /// it had open was aborted.
    #[error(
        "another instance has taken the transactional.id {transactional_id:?}; give each instance that \
         runs an id of its own, or let this one end"
    )]
    #[non_exhaustive]
    Fenced {
        /// The `transactional.id`.
        transactional_id: Arc<str>,
    },
    /// A broker refused what a transaction needs.
    #[error("{request} for {part} was refused: the broker answered {error}")]
    #[non_exhaustive]
    Refused {
        /// Which request.
        request: &'static str,
        /// What it was for: the transactional id, a partition or a group.
        part: Arc<str>,
        /// The broker's answer.
        error: BrokerError,
    },
    /// The brokers do not serve transactions, or none that this producer can speak of.
    #[error("no transactions with these brokers: {0}")]
    NotServed(Arc<str>),
    /// The transaction could not begin, or its offsets could not be sent, within `max.block.ms`.
    #[error("no answer after {waited:?} (max.block.ms): {why}")]
    #[non_exhaustive]
    TimedOut {
        /// How long was waited.
        waited: Duration,
        /// What went wrong last.
        why: Arc<str>,
    },
    /// The transaction can only be aborted.
    #[error("the transaction can only be aborted: {0}")]
    Failed(Arc<Cause>),
    /// The producer is closed.
    #[error("the producer is closed")]
    Closed,
    /// It would have to wait in code that the runtime calls. A task that is spawned may wait.
    #[error("it would have to wait in code that the runtime calls; spawn a task for it")]
    InCallback,
}

impl TransactionError {
    /// The coordinator says that it is at a later epoch: INVALID_PRODUCER_EPOCH or PRODUCER_FENCED.
    pub(crate) fn is_of_later_epoch(&self) -> bool {
        matches!(self, Self::Refused { error, .. } if matches!(error.code, 47 | 90))
    }
}

/// Why a transaction was aborted, or can only be, or why nobody knows whether it was committed.
///
/// ```
/// use forebay::Reason;
/// use forebay::transaction::{Cause, TransactionError};
///
/// /// Whether the same records would fail again in another transaction.
/// fn is_the_records_fault(cause: &Cause) -> bool {
///     match cause {
///         Cause::Record { unconfirmed, .. } => matches!(
///             unconfirmed.reason(),
///             Reason::InvalidRecord { .. } | Reason::BatchMate(_) | Reason::Broker(_)
///         ),
///         // A broker that refuses what is asked for the transaction: an ACL is missing, for example.
///         Cause::Refused(TransactionError::Refused { error, .. }) => error.missing_acl().is_some(),
///         // Also what is right for causes that later versions add.
///         _ => false,
///     }
/// }
/// assert!(!is_the_records_fault(&Cause::Requested));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Cause {
    /// The application aborted it, or dropped it.
    #[error("the application aborted it")]
    Requested,
    /// A record of it failed. The others are aborted because of that.
    #[error("a record was {unconfirmed}")]
    #[non_exhaustive]
    Record {
        /// The partition the record went to.
        partition: i32,
        /// What became of the record, by itself.
        unconfirmed: Unconfirmed,
    },
    /// A coordinator refused what was asked for it.
    #[error("{0}")]
    Refused(TransactionError),
    /// Everything else was ready to be committed, and its offsets could not be sent within
    /// `max.block.ms`.
    #[error("its offsets could not be sent: {why}")]
    #[non_exhaustive]
    OffsetsUnsent {
        /// What went wrong last.
        why: Arc<str>,
    },
    /// An answer of the coordinator was missed, and then it refused to say what became of the commit. The
    /// log does not tell either.
    #[error("{refused}; and its log does not tell what became of it: {why}")]
    #[non_exhaustive]
    Untold {
        /// What the coordinator refused.
        refused: TransactionError,
        /// Why the log does not tell.
        why: Arc<str>,
    },
    /// The producer was closed while it was open.
    #[error("the producer was closed")]
    Closed,
    /// A part of the runtime fell, or let go of what belonged to it.
    #[error("{why}")]
    #[non_exhaustive]
    Runtime {
        /// What happened.
        why: Arc<str>,
    },
}

impl Cause {
    pub(crate) fn runtime(why: impl Into<Arc<str>>) -> Self {
        Self::Runtime { why: why.into() }
    }
}
