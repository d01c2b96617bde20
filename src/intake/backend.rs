//! What the intake needs of the runtime once a record cannot be appended at once.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;

use super::error::SendError;
use super::topics::Topic;
use crate::core::memory::{Buffer, Refusal};

/// Where a caller's topic goes.
pub(crate) type TopicReply = oneshot::Sender<Result<Arc<Topic>, SendError>>;

/// The actors, as the intake sees them.
///
/// A question is on its way when the method returns. Its receiver says that the question was lost, with
/// an actor's restart or with the producer's end; [`is_running`](Self::is_running) tells which.
pub(crate) trait Backend: Send + Sync {
    /// Asks for a topic that is not among the routes. Whoever drops the receiver does not wait, and
    /// wants to find the topic there when it comes again.
    fn want_topic(
        &self,
        topic: &Arc<str>,
        asked: Instant,
        deadline: Instant,
    ) -> oneshot::Receiver<Result<Arc<Topic>, SendError>>;

    /// Asks for `size` bytes of memory.
    fn lease_memory(
        &self,
        size: usize,
        deadline: Instant,
    ) -> oneshot::Receiver<Result<Buffer, Refusal>>;

    /// Has the brokers asked for the topics again.
    fn refresh_metadata(&self);

    /// Whether the actors that answer are there.
    fn is_running(&self) -> bool;

    /// The time as the runtime has it.
    fn now(&self) -> Instant;
}
