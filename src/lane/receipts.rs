//! Outcomes of many records, kept by runs.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::{Stream, StreamExt};

use super::Sent;
use crate::ack::{Ack, Latest, Receipt};
use crate::outcome::Outcome;

/// The receipts of many records: a stream of their outcomes, in the order in which they were put
/// in.
///
/// Records of one batch that follow one another take as much room as one, and cost an addition
/// each. It is a stream that ends when it is empty and may go on when something is put in.
///
/// ```no_run
/// # async fn example(lane: &mut forebay::Lane) -> Result<(), Box<dyn std::error::Error>> {
/// use forebay::{BorrowedRecord, Receipts};
///
/// let mut receipts = Receipts::default();
/// for i in 0..1_000_000u32 {
///     let record = BorrowedRecord::to("numbers").value(&i.to_be_bytes());
///     receipts.push(lane.send(record).await?);
///     // What is known by now need not be kept.
///     while let Some(outcome) = receipts.try_next() {
///         outcome?;
///     }
/// }
/// while let Some(outcome) = receipts.next().await {
///     outcome?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct Receipts {
    runs: VecDeque<Run>,
    len: usize,
}

/// Records of one batch that follow one another and have the same time.
#[derive(Debug)]
struct Run {
    ack: Arc<Ack>,
    next: u32,
    end: u32,
    timestamp: i64,
}

impl Receipts {
    /// Puts a record in, behind those already there.
    #[inline]
    pub fn push(&mut self, sent: Sent<'_>) {
        self.add(sent.0);
    }

    /// Puts a receipt in, behind those already there.
    pub fn push_receipt(&mut self, receipt: Receipt) {
        self.add(&receipt.into_latest());
    }

    #[inline]
    fn add(&mut self, latest: &Latest) {
        self.len += 1;
        match self.runs.back_mut() {
            Some(run)
                if run.end == latest.index
                    && run.timestamp == latest.timestamp
                    && Arc::ptr_eq(&run.ack, &latest.ack) =>
            {
                run.end += 1;
            }
            _ => self.runs.push_back(Run {
                ack: Arc::clone(&latest.ack),
                next: latest.index,
                end: latest.index + 1,
                timestamp: latest.timestamp,
            }),
        }
    }

    /// How many outcomes are to come.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no outcome is to come.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The next outcome, if it is known by now.
    #[inline]
    pub fn try_next(&mut self) -> Option<Outcome> {
        let run = self.runs.front_mut()?;
        let outcome = run.ack.outcome(run.next, run.timestamp)?;
        run.next += 1;
        self.len -= 1;
        if run.next == run.end {
            self.runs.pop_front();
        }
        Some(outcome)
    }

    /// Waits for the next outcome; `None` when there is none to come.
    pub async fn next(&mut self) -> Option<Outcome> {
        StreamExt::next(self).await
    }
}

impl Stream for Receipts {
    type Item = Outcome;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Outcome>> {
        if let Some(outcome) = self.try_next() {
            return Poll::Ready(Some(outcome));
        }
        let Some(run) = self.runs.front() else {
            return Poll::Ready(None);
        };
        // Wakes at once if the outcome has come meanwhile.
        run.ack.register(run.next, context.waker());
        Poll::Pending
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.len, Some(self.len))
    }
}
