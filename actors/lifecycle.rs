//! What befalls the components of a runtime, for applications that want to know.

use std::sync::Arc;
use std::time::Duration;

use actix::Message;

use crate::core::supervision::Component;

/// Something has befallen a component; see
/// [`Producer::subscribe`](crate::Producer::subscribe).
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "()")]
#[non_exhaustive]
pub struct Lifecycle {
    /// Which component.
    pub component: Component,
    /// What.
    pub event: LifecycleEvent,
}

/// What can befall a component.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LifecycleEvent {
    /// It runs.
    Started,
    /// It panicked and goes on.
    Restarted {
        /// What the panic said.
        why: Arc<str>,
        /// Batches in its care that it kept.
        kept: usize,
        /// How long it was away.
        took: Duration,
    },
    /// It panicked more often than `forebay.restart.max` in `forebay.restart.window.ms` allows, and
    /// everything in its care has its outcome. A partition or a sender stays so until it is
    /// restarted by hand; any other component takes the producer with it.
    Failed {
        /// What the last panic said.
        why: Arc<str>,
    },
    /// It had failed or was retired, and was restarted by hand, with a fresh budget.
    Recovered,
    /// It was retired by hand; see [`Supervise::Retire`].
    Retired,
}

/// Asks for something to be done to a component by hand: a message to
/// [`Producer::supervision`](crate::Producer::supervision). What came of it is told by
/// [`Lifecycle`]; nothing does for a component there is not, nor once the producer is closing.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "()")]
#[non_exhaustive]
pub enum Supervise {
    /// A partition or a sender that failed or was retired is to work again. For any other component
    /// this does nothing: it restarts by itself, or takes the producer with it.
    Restart(Component),
    /// A partition takes no more records, and goes on delivering what it holds. A sender gives its
    /// connection up and sends nothing: batches go back to their partitions, and wait there for
    /// another leader or until `delivery.timeout.ms` is over. Any other component cannot be retired:
    /// [close](crate::Producer::close) the producer.
    Retire(Component),
}

/// `flush` or `close` could not do all of its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CloseError {
    /// The time given to `close` ran out: what was left has its outcome, but was not delivered.
    #[error(
        "the timeout ran out; the records that were left are settled as not written or unknown"
    )]
    TimedOut,
    /// The runtime ended first: its thread or arbiter is gone, or a component of it failed without which
    /// it cannot go on.
    #[error("the runtime is gone")]
    Gone,
}
