//! Sends a record by a message to a partition's actor.

use std::sync::Arc;

use actix::prelude::*;

use super::PartitionActor;
use crate::core::ack::Receipt;
use crate::core::delivery::Listener;
use crate::core::record::{Record, TopicName};
use crate::core::stage::AppendOptions;
use crate::intake::error::SendError;
use crate::intake::topics::TopicCache;

/// A record for this partition, as a message. It is for applications that work with actors.
///
/// The result is the same as that of [`Producer::send`](crate::Producer::send): a [`Receipt`] once
/// the record is accepted. The topic and partition of the actor replace those of the record. One
/// message per record costs about ten times as much as `send`, so use `send` where that matters.
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

impl Handler<SendRecord> for PartitionActor {
    type Result = ResponseFuture<Result<Receipt, SendError>>;

    fn handle(&mut self, message: SendRecord, _: &mut Context<Self>) -> Self::Result {
        let SendRecord {
            mut record,
            listeners,
        } = message;
        record.topic = TopicName::Shared(Arc::clone(&self.topic_partition.topic));
        record.partition = Some(self.topic_partition.partition);
        let intake = Arc::clone(&self.intake);
        Box::pin(async move {
            let listeners = listeners.as_ref().unwrap_or(&intake.listeners);
            let options = AppendOptions::for_listeners(listeners);
            intake.send(&TopicCache::default(), record, options).await
        })
    }
}
