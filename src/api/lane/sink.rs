//! A lane as a sink of records.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::Sink;

use super::{Lane, Now};
use crate::actors::lifecycle::CloseError;
use crate::core::ack::Receipt;
use crate::core::outcome::Unconfirmed;
use crate::core::receipts::Receipts;
use crate::core::record::Record;
use crate::core::stage::AppendOptions;
use crate::intake::error::SendError;

/// Why a lane used as a sink does not go on.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SinkError {
    /// A record was not accepted.
    #[error("a record was refused: {0}")]
    Refused(#[from] SendError),
    /// A record was accepted and not confirmed.
    #[error("a record was not confirmed: {0}")]
    Unconfirmed(#[from] Unconfirmed),
    /// The producer ended before everything had its outcome.
    #[error("the flush did not end: {0}")]
    Flush(#[from] CloseError),
}

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What has been put into a lane as a sink.
#[derive(Default)]
pub(super) struct SinkState {
    /// The record that has to wait to be accepted.
    waiting: Option<Boxed<Result<Receipt, SendError>>>,
    flush: Option<Boxed<Result<(), CloseError>>>,
    receipts: Receipts,
}

impl SinkState {
    pub fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// Waits until the record that has to wait is accepted.
    pub async fn accepted(&mut self) -> Result<(), SendError> {
        std::future::poll_fn(|context| self.poll_accepted(context)).await
    }

    fn poll_accepted(&mut self, context: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        if let Some(waiting) = &mut self.waiting {
            let accepted = ready!(waiting.as_mut().poll(context));
            self.waiting = None;
            self.receipts.push_receipt(accepted?);
        }
        Poll::Ready(Ok(()))
    }

    /// Lets go of what is confirmed.
    fn look(&mut self) -> Result<(), Unconfirmed> {
        while let Some(outcome) = self.receipts.try_next() {
            outcome?;
        }
        Ok(())
    }
}

/// Takes records, and says at a flush whether all of them are written.
///
/// A record that has to wait, for its topic or for memory, makes the sink wait. `flush` has
/// everything go out at once and waits for the outcomes; the first failure is the error of whatever
/// is called next, and the sink goes on after it. Closing is flushing: the producer stays open.
impl Sink<Record> for Lane {
    type Error = SinkError;

    fn poll_ready(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), SinkError>> {
        ready!(self.sunk.poll_accepted(context))?;
        self.sunk.look()?;
        Poll::Ready(Ok(()))
    }

    fn start_send(mut self: Pin<&mut Self>, record: Record) -> Result<(), SinkError> {
        let record = self.producer.intake().intercepted(record)?;
        let mut borrowed = record.borrowed();
        match self.send_now(&mut borrowed) {
            Ok(Now::Accepted(slot)) => {
                let Self { routes, sunk, .. } = &mut *self;
                sunk.receipts.push(routes.sent(slot));
                Ok(())
            }
            Ok(Now::Missing(short)) => {
                let producer = self.producer.clone();
                self.sunk.waiting = Some(Box::pin(async move {
                    let mut options = AppendOptions::for_listeners(producer.listeners());
                    let intake = producer.intake();
                    let sent = intake
                        .accepted_later(record.borrowed(), &mut options, short)
                        .await;
                    sent.inspect_err(|error| intake.refused(record.topic(), error))
                }));
                Ok(())
            }
            Err(error) => {
                self.producer.intake().refused(record.topic(), &error);
                Err(error.into())
            }
        }
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), SinkError>> {
        ready!(self.sunk.poll_accepted(context))?;
        let Self { producer, sunk, .. } = &mut *self;
        if sunk.flush.is_none() && !sunk.receipts.is_empty() {
            let producer = producer.clone();
            sunk.flush = Some(Box::pin(async move { producer.flush().await }));
        }
        if let Some(flush) = &mut sunk.flush {
            let flushed = ready!(flush.as_mut().poll(context));
            sunk.flush = None;
            flushed?;
        }
        sunk.look()?;
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), SinkError>> {
        self.poll_flush(context)
    }
}

impl fmt::Debug for SinkState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SinkState")
            .field("waiting", &self.is_waiting())
            .field("receipts", &self.receipts.len())
            .finish_non_exhaustive()
    }
}
