//! What the intake needs of the runtime, as a trait. The actors implement it.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;

use super::error::SendError;
use super::topics::Topic;
use crate::core::memory::{Buffer, Refusal};

/// Where the topic goes that a caller waits for.
pub(crate) type TopicReply = oneshot::Sender<Result<Arc<Topic>, SendError>>;

/// The runtime, as the intake uses it.
///
/// When a method returns, its request has been sent. If the reply is dropped instead of sent, the
/// request was lost: an actor restarted, or the producer ended. [`is_running`](Self::is_running)
/// tells which.
pub(crate) trait Backend: Send + Sync {
    /// Asks for a topic that is not known yet. `asked` is when the caller began to wait for it.
    ///
    /// A caller that does not wait drops the receiver of `reply` before. The topic is looked up all
    /// the same, so that the caller finds it when it tries again before `deadline`.
    fn want_topic(&self, topic: &Arc<str>, asked: Instant, deadline: Instant, reply: TopicReply);

    /// Asks for `size` bytes of memory.
    fn lease_memory(
        &self,
        size: usize,
        deadline: Instant,
    ) -> oneshot::Receiver<Result<Buffer, Refusal>>;

    /// Asks the brokers for the topics' metadata again.
    fn refresh_metadata(&self);

    /// Whether the actors that answer are there.
    fn is_running(&self) -> bool;

    /// The present time by the runtime's clock.
    fn now(&self) -> Instant;
}
