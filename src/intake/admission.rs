//! How far a record came on its way into a batch, and what it misses.

use std::pin::Pin;
use std::sync::Arc;

use super::error::SendError;
use super::topics::{Topic, Topics};
use crate::core::ack::Ack;

/// What each way in has of its own.
pub(crate) trait Entry {
    /// What it keeps of a record that was accepted.
    type Kept;

    /// The topic, if it is known.
    fn topic(&mut self, name: &str, topics: &Topics) -> Option<Arc<Topic>>;

    /// Keeps what there is to keep.
    fn keep(&mut self, topic: Arc<Topic>, accepted: Accepted, timestamp: i64) -> Self::Kept;
}

/// Where a record goes.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    pub partition: usize,
    /// Chosen by the sticky partitioner, which may be asked once more.
    pub sticky: bool,
}

/// Where an accepted record is.
pub(crate) struct Accepted {
    pub partition: usize,
    pub index: u32,
    pub ack: Arc<Ack>,
}

/// How far a record came without waiting.
pub(crate) enum Admission<T> {
    Accepted(T),
    Missing(Missing),
}

/// What a record has to wait for.
pub(crate) enum Missing {
    /// Its topic's metadata.
    Topic,
    /// So many bytes, for a new batch.
    Memory(Arc<Topic>, Target, usize),
}

/// A record that has to wait.
pub(crate) type Later<'a, T> = Pin<Box<dyn Future<Output = Result<T, SendError>> + Send + 'a>>;
