//! Sends a record by a message to a partition's actor.

use std::future::ready;
use std::pin::pin;
use std::sync::Arc;

use actix::prelude::*;
use futures_util::future::{Either, select};

use super::PartitionActor;
use super::turns::Turn;
use crate::actors::now;
use crate::core::ack::Receipt;
use crate::core::delivery::Listener;
use crate::core::record::{Record, TopicName};
use crate::core::stage::AppendOptions;
use crate::core::transaction;
use crate::core::user_code::{HeldUp, polled};
use crate::intake::Intake;
use crate::intake::error::SendError;

/// A record for this partition, as a message. It is for applications that work with actors.
///
/// The result is the same as that of [`Producer::send`](crate::Producer::send): a [`Receipt`] once
/// the record is accepted. The topic and partition of the actor replace those of the record. One
/// message per record costs about ten times as much as `send`, so use `send` where that matters.
///
/// Records are accepted in the order of the actor's mailbox. One that has to wait for memory keeps
/// those behind it waiting, too, each for `max.block.ms` at most from when the actor took it out of
/// the mailbox. If one is refused, the next goes on. What waits is not counted in `buffer.memory`,
/// and the mailbox does not hold it back: to bound it, await the answers of the oldest.
#[derive(Message)]
#[rtype(result = "Result<Receipt, SendError>")]
pub struct SendRecord {
    record: Record,
    pub(crate) listeners: Option<Arc<[Arc<dyn Listener>]>>,
}

impl SendRecord {
    /// Makes the message for a record. The receipt will tell the record's outcome.
    pub fn new(record: Record) -> Self {
        let listeners = None;
        Self { record, listeners }
    }
}

impl std::fmt::Debug for SendRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SendRecord").field(&self.record).finish()
    }
}

/// A record for this partition in a transaction, as a message; made with
/// [`Handle::message`](crate::transaction::Handle::message). Otherwise as [`SendRecord`].
#[derive(Message)]
#[rtype(result = "Result<transaction::Receipt, SendError>")]
pub struct SendInTransaction {
    record: Record,
    intake: Arc<Intake>,
    listeners: Arc<[Arc<dyn Listener>]>,
}

impl SendInTransaction {
    pub(crate) fn new(
        record: Record,
        intake: Arc<Intake>,
        listeners: Arc<[Arc<dyn Listener>]>,
    ) -> Self {
        Self {
            record,
            intake,
            listeners,
        }
    }
}

impl std::fmt::Debug for SendInTransaction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SendInTransaction")
            .field(&self.record)
            .finish()
    }
}

/// The future of a record that came as a message.
type Sent<R> = ResponseFuture<Result<R, SendError>>;

impl Handler<SendRecord> for PartitionActor {
    type Result = Sent<Receipt>;

    fn handle(&mut self, message: SendRecord, _: &mut Context<Self>) -> Self::Result {
        let SendRecord { record, listeners } = message;
        if self.services.rules.transactional {
            return Box::pin(ready(Err(SendError::NoTransaction)));
        }
        let intake = Arc::clone(&self.intake);
        let listeners = listeners.unwrap_or_else(|| Arc::clone(&intake.listeners));
        Box::pin(self.accept(record, intake, listeners))
    }
}

impl Handler<SendInTransaction> for PartitionActor {
    type Result = Sent<transaction::Receipt>;

    fn handle(&mut self, message: SendInTransaction, _: &mut Context<Self>) -> Self::Result {
        let SendInTransaction {
            record,
            intake,
            listeners,
        } = message;
        let accepted = self.accept(record, intake, listeners);
        Box::pin(async move { accepted.await.map(transaction::Receipt::new) })
    }
}

impl PartitionActor {
    /// Accepts a record when those before it were, through this intake.
    fn accept(
        &mut self,
        mut record: Record,
        intake: Arc<Intake>,
        listeners: Arc<[Arc<dyn Listener>]>,
    ) -> impl Future<Output = Result<Receipt, SendError>> + use<> {
        let (topic, partition) = (
            Arc::clone(&self.topic_partition.topic),
            self.topic_partition.partition,
        );
        record.topic = TopicName::Shared(Arc::clone(&topic));
        record.partition = Some(partition);
        let asked = now();
        let Turn { before, down, over } = self.turns.next();
        let sent = async move {
            let options = AppendOptions::for_listeners(&listeners);
            let sending = async {
                if let Some(before) = before {
                    let _ = before.await; // however that one ended
                }
                intake.send_since(asked, record, options).await
            };
            let sent = match select(pin!(sending), down).await {
                Either::Left((sent, _)) => sent,
                Either::Right(_) => {
                    let error = intake.closed_stage(&topic, partition);
                    intake.refused(&topic, &error);
                    Err(error)
                }
            };
            drop(over); // the next one's turn
            sent
        };
        // Between its polls the actor goes on.
        polled(HeldUp::Nothing, sent)
    }
}
