//! What the intake asks the runtime for when a record cannot be appended at once.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;

use super::error::SendError;
use super::topics::Topic;
use crate::core::memory::{Buffer, Refusal};

/// Sends a topic to the caller that waits for it.
pub(crate) type TopicReply = oneshot::Sender<Result<Arc<Topic>, SendError>>;

/// The runtime, as the intake uses it.
///
/// When a method returns, its request has been sent. If the reply is dropped instead of sent, the
/// request was lost: an actor restarted, or the producer ended. [`is_running`](Self::is_running)
/// tells which.
pub(crate) trait Backend: Send + Sync {
    /// Asks for a topic that is not known yet. `asked` is when the caller began to wait for it. A
    /// caller that does not wait drops the receiver. It finds the topic when it tries again later.
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

    /// Asks the brokers for the metadata of all topics again.
    fn refresh_metadata(&self);

    /// Whether the actors that reply still run.
    fn is_running(&self) -> bool;

    /// The present time by the runtime's clock.
    fn now(&self) -> Instant;
}
