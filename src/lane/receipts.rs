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
/// Records of one batch that follow one another take as much room as one, 24 bytes. It is a stream
/// that ends when it is empty and may go on when something is put in.
///
/// ```no_run
/// # async fn example(lane: &mut forebay::Lane) -> Result<(), Box<dyn std::error::Error>> {
/// use forebay::{BorrowedRecord, Receipts};
///
/// let mut receipts = Receipts::default();
/// for i in 0..1_000_000u32 {
///     let number = i.to_be_bytes();
///     let record = BorrowedRecord::to("numbers").value(&number);
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
    batches: Vec<Batch>,
    /// Batches that no run is left of.
    free: Vec<usize>,
    /// By partition, the batch of its last record: most likely that of its next one.
    last: Vec<usize>,
}

/// Records of one batch that follow one another and have the same time.
#[derive(Debug)]
struct Run {
    batch: usize,
    next: u32,
    end: u32,
    timestamp: i64,
}

/// A batch that runs are left of. Counted here, because to count an ack's references for each
/// record would be an atomic addition each.
#[derive(Debug)]
struct Batch {
    ack: Arc<Ack>,
    runs: usize,
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
                    && Arc::ptr_eq(&self.batches[run.batch].ack, &latest.ack) =>
            {
                run.end += 1;
            }
            _ => self.add_run(latest),
        }
    }

    fn add_run(&mut self, latest: &Latest) {
        let partition = usize::try_from(latest.partition).unwrap_or_default();
        let known = self
            .last
            .get(partition)
            .and_then(|at| self.batches.get(*at));
        let batch = match known {
            Some(batch) if Arc::ptr_eq(&batch.ack, &latest.ack) && batch.runs > 0 => {
                self.last[partition]
            }
            _ => self.begin(partition, &latest.ack),
        };
        self.batches[batch].runs += 1;
        self.runs.push_back(Run {
            batch,
            next: latest.index,
            end: latest.index + 1,
            timestamp: latest.timestamp,
        });
    }

    #[cold]
    fn begin(&mut self, partition: usize, ack: &Arc<Ack>) -> usize {
        let (ack, runs) = (Arc::clone(ack), 0);
        let batch = match self.free.pop() {
            Some(batch) => {
                self.batches[batch] = Batch { ack, runs };
                batch
            }
            None => {
                self.batches.push(Batch { ack, runs });
                self.batches.len() - 1
            }
        };
        if self.last.len() <= partition {
            self.last.resize(partition + 1, usize::MAX);
        }
        self.last[partition] = batch;
        batch
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
        let ack = &self.batches[run.batch].ack;
        let (index, timestamp) = (run.next, run.timestamp);
        if index + 1 == run.end {
            let outcome = ack.outcome(index, timestamp)?;
            self.end_run();
            return Some(outcome);
        }
        // The outcome is made where it is returned; a move of it would cost as much again.
        if !ack.is_settled(index) {
            return None;
        }
        run.next += 1;
        self.len -= 1;
        ack.outcome(index, timestamp)
    }

    fn end_run(&mut self) {
        self.len -= 1;
        let Some(run) = self.runs.pop_front() else {
            return;
        };
        let batch = &mut self.batches[run.batch];
        batch.runs -= 1;
        if batch.runs == 0 {
            batch.ack = Ack::nobodys();
            self.free.push(run.batch);
        }
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
        self.batches[run.batch]
            .ack
            .register(run.next, context.waker());
        Poll::Pending
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.len, Some(self.len))
    }
}
