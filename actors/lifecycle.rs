//! Messages on starts, restarts and failures of components, for applications that want them.

use std::sync::Arc;
use std::time::Duration;

use actix::Message;

use crate::core::supervision::Component;
use crate::core::tally::Outcomes;

/// Something has befallen a component; see [`Producer::subscribe`](crate::Producer::subscribe).
///
/// ```
/// use actix::prelude::*;
/// use forebay::{Lifecycle, LifecycleEvent};
///
/// struct Watcher;
///
/// impl Actor for Watcher {
///     type Context = Context<Self>;
/// }
///
/// impl Handler<Lifecycle> for Watcher {
///     type Result = ();
///
///     fn handle(&mut self, told: Lifecycle, _: &mut Context<Self>) {
///         if let LifecycleEvent::Failed { why, .. } = &told.event {
///             println!("{} has failed: {why}", told.component);
///         }
///     }
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "()")]
#[non_exhaustive]
pub struct Lifecycle {
    /// Which component.
    pub component: Component,
    /// What.
    pub event: LifecycleEvent,
}

/// What can befall a component; see [`Lifecycle`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LifecycleEvent {
    /// It runs.
    Started,
    /// It panicked and goes on.
    #[non_exhaustive]
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
    #[non_exhaustive]
    Failed {
        /// What the last panic said.
        why: Arc<str>,
    },
    /// It had failed or was retired, and was restarted by hand. Its restarts count from 0 again.
    Recovered,
    /// It was retired by hand; see [`Supervise::Retire`].
    Retired,
}

/// Asks for something to be done to a component by hand: a message to
/// [`Producer::supervision`](crate::Producer::supervision).
///
/// What came of it is told by [`Lifecycle`]. Nothing comes of it for a component that does not exist, or
/// once the producer is closing.
///
/// ```no_run
/// # fn example(producer: &forebay::Producer) {
/// use forebay::{Component, Supervise, TopicPartition};
///
/// let partition = Component::Partition(TopicPartition::new("orders", 3));
/// producer.supervision().do_send(Supervise::Restart(partition));
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "()")]
#[non_exhaustive]
pub enum Supervise {
    /// A partition or a sender that failed or was retired is to work again. For any other component
    /// this does nothing: it restarts by itself, or takes the producer with it.
    Restart(Component),
    /// A partition takes no more records, and goes on delivering what it holds, until it is restarted or
    /// its topic is let go of because nobody sends to it (`metadata.max.idle.ms`). A sender gives its
    /// connection up and sends nothing: batches go back to their partitions, and wait there for
    /// another leader or until `delivery.timeout.ms` is over. Any other component cannot be retired:
    /// [close](crate::Producer::close) the producer.
    Retire(Component),
}

/// Why [`Producer::flush`](crate::Producer::flush), [`Producer::close`](crate::Producer::close) or
/// [`Producer::figures`](crate::Producer::figures) could not do all of its work.
///
/// ```no_run
/// # async fn example(producer: forebay::Producer) {
/// use std::time::Duration;
/// use forebay::CloseError;
///
/// match producer.close(Duration::from_secs(10)).await {
///     Ok(outcomes) if outcomes.all_acked() => println!("all is delivered"),
///     Ok(outcomes) | Err(CloseError::TimedOut(outcomes)) => println!("{outcomes}"),
///     Err(error) => println!("{error}"),
/// }
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CloseError {
    /// The time given to `close` ran out, or `delivery.timeout.ms` of a `flush`. This is what became of
    /// the records that it waited for.
    ///
    /// After a `close` every record has its outcome. After a `flush` some may have none that is counted
    /// here; then callbacks or interceptors are too slow.
    #[error("the timeout ran out; of the records that were waited for: {0}")]
    TimedOut(Outcomes),
    /// The runtime's thread does not answer, though the time is over: it is busy with something else. That
    /// can be a task that blocks the arbiter, under
    /// [`Placement::CurrentArbiter`](crate::Placement::CurrentArbiter). What was asked for is done when the
    /// thread comes to it.
    #[error("the runtime does not answer: something else keeps its thread busy")]
    NoAnswer,
    /// It was called in code that the runtime calls, such as a callback, and would have to wait. The wait
    /// could be for what this very code holds up. Nothing was done: call it from a task.
    #[error(
        "it would have to wait in code that the runtime calls, and holds up; spawn a task for it"
    )]
    InCallback,
    /// The runtime ended first: its thread or arbiter is gone, or a component of it failed without which
    /// it cannot go on. Every record has its outcome.
    #[error("the runtime is gone")]
    Gone,
    /// Another producer works with a copy of the spool, and has taken the transactional ids of this one.
    /// Every record has its outcome; what was in the spool without one is kept there
    /// ([`Unconfirmed::Kept`](crate::Unconfirmed::Kept)).
    #[error(
        "another producer works with a copy of the spool, and has taken its transactional ids; see that each \
         producer has a directory of its own, and that no copy of one is used beside it"
    )]
    Fenced,
}
