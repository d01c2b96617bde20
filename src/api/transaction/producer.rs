//! The producer that sends in transactions, and one transaction.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use tokio::sync::oneshot;

use super::{Handle, InDoubt, Lane, NotCommitted};
use crate::actors::lifecycle::{CloseError, Lifecycle, Supervise};
use crate::actors::{BeginTransaction, OpenTransaction, SendOffsets, TransactionActor, now};
use crate::api::producer::Producer;
use crate::config::Config;
use crate::core::figures::Figures;
use crate::core::outcome::Outcome;
use crate::core::record::{AsRecord, Record};
use crate::core::supervision::Component;
use crate::core::tally::Outcomes;
use crate::core::transaction::{
    Cause, GroupMetadata, GroupOffsets, ReadUpTo, Receipt, Receipts, TransactionError,
};
use crate::core::user_code;
use crate::intake::deadline::{GRACE, NoAnswer, answer_by};
use crate::intake::error::{SendError, TrySendError};
use crate::intake::{SliceError, UNANSWERED};

/// Sends records to Kafka in transactions: a reader with `isolation.level=read_committed` sees all of
/// one, or nothing.
///
/// It is a type of its own: a configuration with a `transactional.id` makes it, and nothing else. It is a
/// cheap handle, and has one transaction at a time. How it ends, and everything else, is as with a
/// [`Producer`].
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use forebay::{Config, Record, TransactionalProducer};
///
/// let config = Config::builder()
///     .bootstrap_servers("localhost:9092")
///     .set("transactional.id", "billing-1")
///     .build()?;
/// let producer = TransactionalProducer::start(config)?;
/// let transaction = producer.begin().await?;
/// for value in ["one", "two", "three"] {
///     let _receipt = transaction.send(Record::to("bills").value(value)).await?;
/// }
/// transaction.commit().await?;
/// producer.close(std::time::Duration::from_secs(10)).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct TransactionalProducer {
    producer: Producer,
    transactions: Addr<TransactionActor>,
}

impl TransactionalProducer {
    pub(in crate::api) fn new(producer: Producer, transactions: Addr<TransactionActor>) -> Self {
        Self {
            producer,
            transactions,
        }
    }

    /// Begins a transaction. It waits until the one before has ended; the first one of a producer waits
    /// until the coordinator has ended what another instance with this `transactional.id` had open, and
    /// fences that.
    ///
    /// Brokers abort a transaction that is not ended within `transaction.timeout.ms` of its first record.
    ///
    /// # Errors
    ///
    /// [`TransactionError`]: it waited for `max.block.ms`, or a broker refused, or another instance has
    /// taken the `transactional.id`.
    pub async fn begin(&self) -> Result<Transaction, TransactionError> {
        let max_block = self.producer.config().max_block;
        let asked = now();
        let unanswered = || TransactionError::TimedOut {
            waited: max_block,
            why: UNANSWERED.into(),
        };
        loop {
            if user_code::must_not_wait() {
                return Err(TransactionError::InCallback);
            }
            let (reply, begun) = oneshot::channel();
            let deadline = asked + max_block;
            self.transactions
                .do_send(BeginTransaction { deadline, reply });
            match answer_by(begun, Some(deadline + GRACE), now).await {
                Ok(Ok(begun)) => {
                    return begun.map(|open| Transaction::new(&self.producer, open));
                }
                // The message was lost in a restart, and is sent again.
                Ok(Err(_)) if self.transactions.connected() => {}
                Ok(Err(_)) => return Err(TransactionError::Closed),
                Err(NoAnswer::TimedOut) => return Err(unanswered()),
                Err(NoAnswer::InCallback) => return Err(TransactionError::InCallback),
            }
        }
    }

    /// The numbers of a topic's partitions; see [`Producer::partitions_for`].
    ///
    /// # Errors
    ///
    /// As [`Producer::partitions_for`].
    pub async fn partitions_for(&self, topic: &str) -> Result<Vec<i32>, SendError> {
        self.producer.partitions_for(topic).await
    }

    /// Ends the producer; see [`Producer::close`]. A transaction that is open is aborted.
    ///
    /// # Errors
    ///
    /// As [`Producer::close`].
    pub async fn close(&self, within: Duration) -> Result<Outcomes, CloseError> {
        self.producer.close(within).await
    }

    /// What the producer holds and has done; see [`Producer::figures`].
    ///
    /// # Errors
    ///
    /// As [`Producer::figures`].
    pub async fn figures(&self) -> Result<Figures, CloseError> {
        self.producer.figures().await
    }

    /// Tells `recipient` what befalls the components of the runtime; see [`Producer::subscribe`].
    pub fn subscribe(&self, recipient: Recipient<Lifecycle>) {
        self.producer.subscribe(recipient);
    }

    /// Restarts a partition or a sender that failed or was retired; see [`Producer::restart`].
    pub fn restart(&self, component: Component) {
        self.producer.restart(component);
    }

    /// Retires a partition or a sender; see [`Producer::retire`].
    pub fn retire(&self, component: Component) {
        self.producer.retire(component);
    }

    /// The recipient for [`Supervise`] messages; see [`Producer::supervision`].
    pub fn supervision(&self) -> Recipient<Supervise> {
        self.producer.supervision()
    }

    /// The configuration it was started with.
    pub fn config(&self) -> &Config {
        self.producer.config()
    }
}

impl fmt::Debug for TransactionalProducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = &self.config().transactional_id;
        f.debug_struct("TransactionalProducer")
            .field("transactional_id", id)
            .finish_non_exhaustive()
    }
}

/// A transaction that has begun. It ends with [`commit`](Self::commit) or [`abort`](Self::abort); if it is
/// dropped, or lost in a panic, it is aborted.
///
/// It may live in an actor, and be moved to any thread. Whoever else is to send in it gets a
/// [`handle`](Self::handle). Records are sent at once, as without a transaction; what waits for the end is
/// who may see them.
///
/// A record that fails makes the whole transaction fail: no more are taken, and the commit aborts it and
/// says why.
#[must_use = "a transaction that is dropped is aborted"]
pub struct Transaction {
    handle: Handle,
    open: OpenTransaction,
    max_block: Duration,
}

impl Transaction {
    fn new(producer: &Producer, open: OpenTransaction) -> Self {
        Self {
            handle: Handle::new(producer.within(Arc::clone(open.scope()))),
            max_block: producer.config().max_block,
            open,
        }
    }

    /// A handle that sends in this transaction.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Sends a record; see [`Handle::send`].
    ///
    /// # Errors
    ///
    /// [`SendError`] if the record is refused. The transaction can be committed without it.
    pub async fn send(&self, record: Record) -> Result<Receipt, SendError> {
        self.handle.send(record).await
    }

    /// Sends a record and has `callback` called with its outcome, at the end; see [`Handle::send_with`].
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send). The callback of a refused record is dropped and not called.
    pub async fn send_with(
        &self,
        record: Record,
        callback: impl FnOnce(Outcome) + Send + 'static,
    ) -> Result<Receipt, SendError> {
        self.handle.send_with(record, callback).await
    }

    /// Sends a record, or refuses it at once if it would have to wait; see [`Handle::try_send`].
    ///
    /// # Errors
    ///
    /// [`TrySendError`] has the record, to be sent again, and the [`SendError`].
    pub fn try_send(&self, record: Record) -> Result<Receipt, TrySendError> {
        self.handle.try_send(record)
    }

    /// Sends records one behind the other; see [`Handle::send_slice`].
    ///
    /// # Errors
    ///
    /// [`SliceError`] for the first record that is refused. Those behind it were not tried.
    pub async fn send_slice(
        &self,
        records: &[impl AsRecord],
        receipts: &mut Receipts,
    ) -> Result<(), SliceError> {
        self.handle.send_slice(records, receipts).await
    }

    /// A handle for one task that sends a great many records in this transaction; see [`Handle::lane`].
    pub fn lane(&self) -> Lane {
        self.handle.lane()
    }

    /// Has offsets of a consumer group committed with the transaction: what was consumed then counts as
    /// consumed if, and only if, what was made of it is committed.
    ///
    /// `group` is what any consumer knows of itself. The consumer must not commit these offsets by itself.
    ///
    /// ```no_run
    /// # async fn example(transaction: forebay::Transaction) -> Result<(), Box<dyn std::error::Error>> {
    /// use forebay::TopicPartition;
    /// use forebay::transaction::{GroupMetadata, ReadUpTo};
    ///
    /// let group = GroupMetadata::new("billing");
    /// let read = ReadUpTo::new(TopicPartition::new("orders", 0), 42);
    /// transaction.send_offsets(&group, [read]).await?;
    /// transaction.commit().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`TransactionError`]: the transaction can only be aborted then, but for
    /// [`TransactionError::TimedOut`] and [`TransactionError::InCallback`], where they may still be sent.
    pub async fn send_offsets(
        &self,
        group: &GroupMetadata,
        offsets: impl IntoIterator<Item = ReadUpTo>,
    ) -> Result<(), TransactionError> {
        let offsets = Arc::new(GroupOffsets {
            group: group.clone(),
            offsets: offsets.into_iter().collect(),
        });
        if offsets.offsets.is_empty() {
            return Ok(());
        }
        let deadline = now() + self.max_block;
        if user_code::must_not_wait() {
            return Err(TransactionError::InCallback);
        }
        let (reply, sent) = oneshot::channel();
        let connected = self.open.send_offsets(SendOffsets {
            scope: Arc::clone(self.open.scope()),
            offsets,
            deadline,
            reply,
        });
        // The runtime itself replies at the deadline.
        match answer_by(sent, Some(deadline + GRACE), now).await {
            Ok(Ok(sent)) => sent,
            // They may have been lost in a restart: what they belong to is not to be committed without.
            Ok(Err(_)) if connected => {
                let why = "offsets were lost when a part of the runtime restarted";
                let why = Cause::runtime(why);
                self.open.scope().fail(why.clone());
                Err(TransactionError::Failed(Arc::new(why)))
            }
            Ok(Err(_)) => Err(TransactionError::Closed),
            Err(NoAnswer::TimedOut) => Err(TransactionError::TimedOut {
                waited: self.max_block,
                why: "the coordinator of the group has not answered".into(),
            }),
            Err(NoAnswer::InCallback) => Err(TransactionError::InCallback),
        }
    }

    /// Has everything sent so far go out now, and waits until all of it is appended, or has failed; see
    /// [`Handle::flush`].
    ///
    /// # Errors
    ///
    /// As [`Producer::flush`].
    pub async fn flush(&self) -> Result<Outcomes, CloseError> {
        self.handle.flush().await
    }

    /// Commits the transaction: sends what was not sent, waits until all is appended, and has the
    /// coordinator commit it. It takes no more records from the call on.
    ///
    /// If this future is dropped, the commit goes on, unless it was never polled: then the transaction is
    /// aborted.
    ///
    /// # Errors
    ///
    /// [`NotCommitted`]: a record failed, or the coordinator refuses, and so it was aborted; or it is in
    /// doubt.
    pub async fn commit(self) -> Result<(), NotCommitted> {
        self.into_ending().resolve().await
    }

    /// Aborts the transaction, and waits until none of its batches is on its way, for `max.block.ms` at
    /// most. What was not sent is not sent any more. It takes no more records from the call on.
    ///
    /// It cannot fail: no commit is ever asked for. Until the coordinator has heard of it, or
    /// `transaction.timeout.ms` is over, readers of what is committed wait at its first record.
    pub async fn abort(self) {
        let _ = self.into_ending().ended(false).await;
    }

    /// From here on a drop does not abort it.
    fn into_ending(self) -> InDoubt {
        let Self { open, handle, .. } = self;
        InDoubt::new(open.leave(), handle.into_producer())
    }
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Transaction")
            .field(self.open.scope())
            .finish()
    }
}
