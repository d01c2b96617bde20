//! What can go wrong with a transaction.

use std::sync::Arc;
use std::time::Duration;

use crate::core::broker_error::BrokerError;

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
    Failed(Arc<str>),
    /// The producer is closed.
    #[error("the producer is closed")]
    Closed,
    /// It would have to wait in code that the runtime calls. A task that is spawned may wait.
    #[error("it would have to wait in code that the runtime calls; spawn a task for it")]
    InCallback,
}
