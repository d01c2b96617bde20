//! The lane of a transaction.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::{Sink, SinkExt};

use crate::api::lane::{self, SinkError};
use crate::core::record::{AsRecord, BorrowedRecord, Record};
use crate::core::transaction::{BorrowedReceipt, Receipts};
use crate::intake::SliceError;
use crate::intake::error::SendError;

/// A handle for one task that sends a great many records in a transaction; see
/// [`forebay::Lane`](crate::Lane).
#[derive(Debug)]
pub struct Lane(lane::Lane);

impl Lane {
    pub(super) fn new(lane: lane::Lane) -> Self {
        Self(lane)
    }

    /// Sends a record. It waits and fails in the same cases as [`Producer::send`](crate::Producer::send).
    ///
    /// # Errors
    ///
    /// [`SendError`] if the record is refused. The transaction can be committed without it.
    pub async fn send<'a>(
        &'a mut self,
        record: BorrowedRecord<'a>,
    ) -> Result<BorrowedReceipt<'a>, SendError> {
        self.0.send(record).await.map(BorrowedReceipt)
    }

    /// Sends records one after the other; see [`forebay::Lane::send_slice`](crate::Lane::send_slice).
    ///
    /// # Errors
    ///
    /// [`SliceError`] for the first record that is refused. Those behind it were not tried.
    pub async fn send_slice(
        &mut self,
        records: &[impl AsRecord],
        receipts: &mut Receipts,
    ) -> Result<(), SliceError> {
        self.0.send_slice(records, &mut receipts.0).await
    }
}

/// Takes records, and reports at a flush whether all of them were appended; otherwise as
/// [`forebay::Lane`](crate::Lane).
impl Sink<Record> for Lane {
    type Error = SinkError;

    fn poll_ready(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), SinkError>> {
        self.0.poll_ready_unpin(context)
    }

    fn start_send(mut self: Pin<&mut Self>, record: Record) -> Result<(), SinkError> {
        self.0.start_send_unpin(record)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), SinkError>> {
        self.0.poll_flush_unpin(context)
    }

    fn poll_close(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), SinkError>> {
        self.0.poll_close_unpin(context)
    }
}
