//! The result of an attempt to accept a record without waiting: it is accepted, or something is
//! missing.

use std::pin::Pin;
use std::sync::Arc;

use super::error::SendError;
use super::topics::{Topic, Topics};
use crate::core::ack::Ack;

/// What differs between the ways to send: how a known topic is found, and what is kept of an
/// accepted record.
pub(crate) trait Entry {
    /// What leads to a topic. A lane needs no reference count for it.
    type Found;
    /// What is kept of an accepted record.
    type Kept;

    /// Finds a topic, if it is known.
    fn find_topic(&mut self, name: &str, topics: &Topics) -> Option<Self::Found>;

    /// The topic that was found.
    fn topic<'a>(&'a self, found: &'a Self::Found) -> &'a Arc<Topic>;

    /// Remembers a topic that the record has waited for.
    fn learn_topic(&mut self, topic: Arc<Topic>) -> Self::Found;

    /// Makes what is kept of an accepted record.
    fn keep(&mut self, found: Self::Found, accepted: Accepted, timestamp: i64) -> Self::Kept;
}

/// The partition that a record goes to.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    pub partition: usize,
    /// The sticky partitioner chose it, and may still switch to another one.
    pub sticky: bool,
}

/// Where an accepted record is: its partition, its batch's ack, and its index in the batch.
pub(crate) struct Accepted {
    pub partition: usize,
    pub index: u32,
    pub ack: Arc<Ack>,
}

/// The result of an attempt to accept a record without waiting.
pub(crate) enum Admission<T> {
    Accepted(T),
    Missing(Missing),
}

/// What a record has to wait for.
pub(crate) enum Missing {
    /// Its topic's metadata: the topic is not known yet, or not with the partition that it names.
    Topic,
    /// Memory of this many bytes, for a new batch or for the open one to grow.
    Memory(Arc<Topic>, Target, usize),
    /// Space in the spool.
    Space(Arc<Topic>, Target),
}

/// The future of a record that has to wait.
pub(crate) type Later<'a, T> = Pin<Box<dyn Future<Output = Result<T, SendError>> + Send + 'a>>;
