//! What the intake needs of the runtime, as a trait. The actors implement it.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;

use super::error::SendError;
use super::lease::Lease;
use super::topics::Topic;
use crate::core::memory::{Buffer, Refusal};
use crate::core::spool::Progress;

/// Where the topic goes that a caller waits for.
pub(crate) type TopicReply = oneshot::Sender<Result<Arc<Topic>, SendError>>;

/// The answer to a question.
pub(crate) type Asking<T> = oneshot::Receiver<T>;

/// Ends when what was written is on the disk, or with why nobody knows.
pub(crate) type Synced = Pin<Box<dyn Future<Output = Result<(), Arc<str>>> + Send>>;

/// The runtime, as the intake uses it.
///
/// When a method returns, its request has been sent. If the reply is dropped instead of sent, the
/// request was lost: an actor restarted, or the producer ended. [`is_running`](Self::is_running)
/// tells which.
pub(crate) trait Backend: Send + Sync {
    /// Asks for a topic that is not known yet, or for a `partition` that it is not known to have. `times`
    /// are when the caller began to wait for it, and its deadline.
    ///
    /// A caller that does not wait drops the receiver of `reply` before. The topic is looked up all
    /// the same, so that the caller finds it when it tries again before its deadline.
    fn want_topic(
        &self,
        topic: &Arc<str>,
        partition: Option<i32>,
        times: (Instant, Instant),
        reply: TopicReply,
    );

    /// Asks for `size` bytes of memory.
    fn lease_memory(
        &self,
        size: usize,
        deadline: Instant,
    ) -> oneshot::Receiver<Result<Buffer, Refusal>>;

    /// Asks to be told when the spool has space again.
    fn wait_for_space(&self, deadline: Instant) -> oneshot::Receiver<Result<(), Arc<str>>>;

    /// Asks for a source, which somebody may have. `None` without a spool.
    fn open_source(&self, name: &Arc<str>) -> Option<Asking<Option<Lease>>>;

    /// Asks how far a source has come. `None` without a spool.
    fn progress_of(&self, source: &Arc<str>) -> Option<Asking<Progress>>;

    /// How many files of the spool have failed so far.
    fn failed_files(&self) -> u64;

    /// Where a record is accepted when it is on the disk: waits until all is that was written since so many
    /// files had failed.
    fn synced_since(&self, failed: u64) -> Option<Synced>;

    /// Whether the actors that answer are there.
    fn is_running(&self) -> bool;

    /// The present time by the runtime's clock.
    fn now(&self) -> Instant;
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::VecDeque;
    use std::sync::Mutex;

    use super::*;
    use crate::Config;
    use crate::core::memory::{Shelf, blank};
    use crate::intake::Intake;
    use crate::intake::topics::Topics;

    /// Where memory is granted to.
    pub(crate) type Lease = oneshot::Sender<Result<Buffer, Refusal>>;

    /// What comes of a wait for the disk.
    pub(crate) type SyncResult = Result<(), Arc<str>>;

    /// What an intake has asked for.
    #[derive(Default)]
    pub(crate) struct Asked {
        /// Of each question for a topic, whether its caller waited when the question arrived.
        pub waits: Mutex<Vec<bool>>,
        /// Those questions that nobody answers. Where no runtime is running they are dropped.
        pub open: Mutex<Vec<TopicReply>>,
        /// The last question for memory.
        pub lease: Mutex<Option<Lease>>,
        /// What comes of the next waits for the disk. Without any nobody waits for it.
        pub syncs: Mutex<VecDeque<Asking<SyncResult>>>,
        pub is_running: bool,
    }

    impl Backend for Arc<Asked> {
        fn want_topic(
            &self,
            _: &Arc<str>,
            _: Option<i32>,
            _: (Instant, Instant),
            reply: TopicReply,
        ) {
            let mut waits = self.waits.lock().expect("no panic");
            waits.push(!reply.is_closed());
            if self.is_running {
                self.open.lock().expect("no panic").push(reply);
            }
        }

        fn lease_memory(&self, _: usize, _: Instant) -> oneshot::Receiver<Result<Buffer, Refusal>> {
            let (lease, granted) = oneshot::channel();
            *self.lease.lock().expect("no panic") = Some(lease);
            granted
        }

        fn wait_for_space(&self, _: Instant) -> oneshot::Receiver<Result<(), Arc<str>>> {
            oneshot::channel().1
        }

        fn open_source(&self, _: &Arc<str>) -> Option<Asking<Option<super::Lease>>> {
            None
        }

        fn progress_of(&self, _: &Arc<str>) -> Option<Asking<Progress>> {
            None
        }

        fn failed_files(&self) -> u64 {
            0
        }

        fn synced_since(&self, _: u64) -> Option<Synced> {
            let synced = self.syncs.lock().expect("no panic").pop_front()?;
            Some(Box::pin(async { synced.await.expect("an answer") }))
        }

        fn is_running(&self) -> bool {
            self.is_running
        }

        fn now(&self) -> Instant {
            Instant::now()
        }
    }

    impl Asked {
        pub fn running() -> Arc<Self> {
            Arc::new(Self {
                is_running: true,
                ..Self::default()
            })
        }

        /// Grants the memory that was asked for last.
        pub fn grant(&self, shelf: &Arc<Shelf>) {
            let lease = self.lease.lock().expect("no panic").take();
            let (_, size) = Self::shelf();
            let granted = lease.expect("asked").send(Ok(shelf.buffer(blank(size))));
            assert!(granted.is_ok());
        }

        /// An intake that asks here.
        pub fn intake(self: &Arc<Self>, topics: Arc<Topics>, shelf: Arc<Shelf>) -> Intake {
            let config = Arc::new(Config::new("localhost:9092").expect("a configuration"));
            let backend = Arc::new(Arc::clone(self));
            Intake::new(config, (topics, shelf), backend, Arc::new([]), None)
        }

        /// A shelf as that configuration has it, with the size of a batch.
        pub fn shelf() -> (Arc<Shelf>, usize) {
            let config = Config::new("localhost:9092").expect("a configuration");
            let size = config.batch_size;
            (Shelf::new(config.buffer_memory, size), size)
        }
    }
}
