//! The state of a lane that is used as a sink, and its errors.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use crate::actors::lifecycle::CloseError;
use crate::core::ack::Receipt;
use crate::core::outcome::Unconfirmed;
use crate::core::receipts::Receipts;
use crate::intake::error::SendError;

/// Why a [`Lane`](crate::Lane) used as a sink does not go on.
///
/// ```no_run
/// # async fn example(mut lane: forebay::Lane) {
/// use forebay::{Record, SinkError};
/// use futures_util::SinkExt;
///
/// let mut sent = lane.feed(Record::to("orders").value("shoes")).await;
/// if sent.is_ok() {
///     sent = lane.flush().await;
/// }
/// match sent {
///     Ok(()) => println!("all is written"),
///     Err(SinkError::Refused(error)) => println!("not accepted: {error}"),
///     Err(error) => println!("{error}"),
/// }
/// # }
/// ```
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SinkError {
    /// A record was not accepted.
    #[error("a record was refused: {0}")]
    Refused(SendError),
    /// A record was accepted and not confirmed.
    #[error("a record was not confirmed: {0}")]
    Unconfirmed(Unconfirmed),
    /// The producer ended before everything had its outcome.
    #[error("the flush did not end: {0}")]
    Flush(CloseError),
}

impl From<SendError> for SinkError {
    fn from(error: SendError) -> Self {
        Self::Refused(error)
    }
}

impl From<Unconfirmed> for SinkError {
    fn from(unconfirmed: Unconfirmed) -> Self {
        Self::Unconfirmed(unconfirmed)
    }
}

impl From<CloseError> for SinkError {
    fn from(error: CloseError) -> Self {
        Self::Flush(error)
    }
}

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The records that a lane took as a sink and that are not reported yet.
#[derive(Default)]
pub(super) struct SinkState {
    /// The record that has to wait until it is accepted.
    pub waiting: Option<Boxed<Result<Receipt, SendError>>>,
    pub flush: Option<Boxed<Result<(), CloseError>>>,
    pub receipts: Receipts,
}

impl SinkState {
    pub fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// Waits until the waiting record is accepted, if there is one.
    pub async fn accepted(&mut self) -> Result<(), SendError> {
        std::future::poll_fn(|context| self.poll_accepted(context)).await
    }

    pub fn poll_accepted(&mut self, context: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        if let Some(waiting) = &mut self.waiting {
            let accepted = ready!(waiting.as_mut().poll(context));
            self.waiting = None;
            self.receipts.push_receipt(accepted?);
        }
        Poll::Ready(Ok(()))
    }

    /// Drops the receipts of records whose outcome is known. Returns the first failure.
    pub fn check_outcomes(&mut self) -> Result<(), Unconfirmed> {
        while let Some(outcome) = self.receipts.try_next() {
            outcome?;
        }
        Ok(())
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
