//! A handle of a transaction.

use std::fmt;
use std::sync::Arc;

use actix::prelude::*;

use super::Lane;
use crate::actors::lifecycle::CloseError;
use crate::actors::{PartitionActor, SendInTransaction};
use crate::api::producer::Producer;
use crate::api::typed_producer::TypedProducer;
use crate::core::delivery::BatchOutcome;
use crate::core::outcome::Outcome;
use crate::core::record::{AsRecord, Record};
use crate::core::tally::Outcomes;
use crate::core::transaction::{Receipt, Receipts};
use crate::intake::SliceError;
use crate::intake::error::{SendError, TrySendError};

/// Sends records in one transaction; made with [`Transaction::handle`](super::Transaction::handle).
///
/// A cheap handle, as a [`Producer`]'s: clone it, move it to any thread, hand it to whoever sends in the
/// transaction. When that has ended, each of its handles refuses with [`SendError::TransactionEnded`].
#[derive(Clone)]
pub struct Handle {
    producer: Producer,
}

impl Handle {
    pub(super) fn new(producer: Producer) -> Self {
        Self { producer }
    }

    pub(super) fn into_producer(self) -> Producer {
        self.producer
    }

    /// Sends a record; see [`Producer::send`].
    ///
    /// # Errors
    ///
    /// [`SendError`] if the record is refused. The transaction can be committed without it.
    pub async fn send(&self, record: Record) -> Result<Receipt, SendError> {
        self.producer.send(record).await.map(Receipt::new)
    }

    /// Sends a record and has `callback` called with its outcome, at the end of the transaction; see
    /// [`Producer::send_with`].
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send). The callback of a refused record is dropped and not called.
    pub async fn send_with(
        &self,
        record: Record,
        callback: impl FnOnce(Outcome) + Send + 'static,
    ) -> Result<Receipt, SendError> {
        let sent = self.producer.send_with(record, callback).await;
        sent.map(Receipt::new)
    }

    /// Sends a record, or refuses it at once if it would have to wait; see [`Producer::try_send`].
    ///
    /// # Errors
    ///
    /// [`TrySendError`] has the record, to be sent again, and the [`SendError`].
    pub fn try_send(&self, record: Record) -> Result<Receipt, TrySendError> {
        self.producer.try_send(record).map(Receipt::new)
    }

    /// Sends records one behind the other; see [`Producer::send_slice`].
    ///
    /// # Errors
    ///
    /// [`SliceError`] for the first record that is refused. Those behind it were not tried.
    pub async fn send_slice(
        &self,
        records: &[impl AsRecord],
        receipts: &mut Receipts,
    ) -> Result<(), SliceError> {
        self.producer.send_slice(records, &mut receipts.0).await
    }

    /// Serializes and sends; see [`TypedProducer::send`].
    ///
    /// # Errors
    ///
    /// [`SendError::Serialize`] if a serializer fails or panics, and those of [`send`](Self::send).
    pub async fn send_typed<K: ?Sized + 'static, V: ?Sized + 'static>(
        &self,
        typed: &TypedProducer<K, V>,
        record: Record,
        key: Option<&K>,
        value: Option<&V>,
    ) -> Result<Receipt, SendError> {
        let sent = typed.send_by(&self.producer, record, key, value).await;
        sent.map(Receipt::new)
    }

    /// A handle for one task that sends a great many records; see [`Producer::lane`].
    pub fn lane(&self) -> Lane {
        Lane::new(self.producer.lane())
    }

    /// A message that sends a record in the transaction, for the actor of a partition; see
    /// [`SendRecord`](crate::SendRecord).
    pub fn message(&self, record: Record) -> SendInTransaction {
        let listeners = Arc::clone(self.producer.listeners());
        SendInTransaction::new(record, self.producer.shared_intake(), listeners)
    }

    /// The address of a partition's actor, for [`message`](Self::message)s; see
    /// [`Producer::partition_actor`].
    ///
    /// # Errors
    ///
    /// As [`Producer::partition_actor`].
    pub async fn partition_actor(
        &self,
        topic: &str,
        partition: i32,
    ) -> Result<Addr<PartitionActor>, SendError> {
        self.producer.partition_actor(topic, partition).await
    }

    /// A handle whose records' outcomes go to `recipient`, at the end of the transaction; see
    /// [`Producer::outcomes_to`].
    #[must_use]
    pub fn outcomes_to(&self, recipient: Recipient<BatchOutcome>) -> Self {
        Self::new(self.producer.outcomes_to(recipient))
    }

    /// Has everything sent so far go out now, and waits until all of it is appended, or has failed. Returns
    /// how many records were appended, as acked, and how many were not.
    ///
    /// # Errors
    ///
    /// As [`Producer::flush`].
    pub async fn flush(&self) -> Result<Outcomes, CloseError> {
        self.producer.flush().await
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("producer", &self.producer)
            .finish_non_exhaustive()
    }
}
