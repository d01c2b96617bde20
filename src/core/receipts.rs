//! Outcomes of many records, kept by runs.

use std::collections::VecDeque;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::{Stream, StreamExt};

use crate::core::ack::{Ack, BorrowedReceipt, Latest, Receipt, Settlement};
use crate::core::outcome::{Acked, Outcome, Unconfirmed};
use crate::core::user_code;
use crate::core::wakers::Place;

/// The receipts of many records: a stream of their outcomes, in the order in which they were put
/// in.
///
/// The stream ends when it is empty, and goes on when something is put in again. Records of one batch
/// that follow one another take as much memory as one: 8 bytes, and 16 more wherever the time changes.
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
    /// Records whose outcome is known; they stand before all others.
    known: Known,
    runs: VecDeque<Run>,
    /// The run behind `runs`, which grows.
    last: Run,
    /// The times of the records in `runs` and `last`, in their order.
    times: VecDeque<Time>,
    len: usize,
    pieces: Vec<Piece>,
    /// Pieces that nothing is left of.
    free: Vec<u32>,
    /// By partition, the piece of its last record: most likely that of its next one.
    recent: Vec<u32>,
}

impl Receipts {
    /// Puts a record in, behind those already there.
    #[inline]
    pub fn push(&mut self, sent: BorrowedReceipt<'_>) {
        self.push_latest(sent.latest());
    }

    /// Puts a receipt in, behind those already there.
    #[inline]
    pub fn push_receipt(&mut self, receipt: Receipt) {
        self.push_latest(&receipt.into_latest());
    }

    #[inline]
    fn push_latest(&mut self, latest: &Latest) {
        let partition = usize::try_from(latest.partition).unwrap_or_default();
        let joins = self.joins(&latest.ack, partition, latest.index);
        let indices = latest.index..latest.index + 1;
        self.put(joins, partition, indices, latest.timestamp);
    }

    /// Finds the piece that records from index `first` on continue, or says that they begin a new one.
    /// Allocates nothing, so that it can be called under the claim of the batch's stage.
    #[inline]
    pub(crate) fn joins(&self, ack: &Arc<Ack>, partition: usize, first: u32) -> Joins {
        let goes_on = |at: &u32| {
            let piece = self.pieces.get(*at as usize);
            piece.is_some_and(|piece| Arc::ptr_eq(&piece.ack, ack) && piece.end == first)
        };
        let last = Some(self.last.piece).filter(goes_on);
        let recent = || self.recent.get(partition).copied().filter(goes_on);
        match last.or_else(recent) {
            Some(piece) => Joins {
                piece,
                begins: None,
            },
            None => Joins {
                piece: 0,
                begins: Some(Arc::clone(ack)),
            },
        }
    }

    /// Puts in records of a batch at these indices.
    #[inline]
    pub(crate) fn put(
        &mut self,
        joins: Joins,
        partition: usize,
        indices: Range<u32>,
        timestamp: i64,
    ) {
        let count = indices.len();
        self.len += count;
        match self.times.back_mut() {
            Some(time) if time.timestamp == timestamp => time.count += count,
            _ => self.times.push_back(Time { timestamp, count }),
        }
        let count = count as u32;
        let piece = match joins.begins {
            Some(ack) => self.begin(ack, partition, indices),
            None => {
                if let Some(piece) = self.pieces.get_mut(joins.piece as usize) {
                    piece.end = indices.end;
                }
                joins.piece
            }
        };
        if self.last.count > 0 && self.last.piece == piece {
            self.last.count += count;
        } else {
            let former = std::mem::replace(&mut self.last, Run { piece, count });
            if former.count > 0 {
                self.runs.push_back(former);
            }
        }
    }

    #[inline(never)]
    fn begin(&mut self, ack: Arc<Ack>, partition: usize, indices: Range<u32>) -> u32 {
        let piece = Piece {
            ack,
            next: indices.start,
            end: indices.end,
            place: Place::NONE,
        };
        let at = match self.free.pop() {
            Some(at) => {
                self.pieces[at as usize] = piece;
                at
            }
            None => {
                self.pieces.push(piece);
                self.pieces.len() as u32 - 1
            }
        };
        if self.recent.len() <= partition {
            // Whatever piece stands there, it does not go on with another partition's records.
            self.recent.resize(partition + 1, at);
        }
        self.recent[partition] = at;
        at
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
        if self.known.told == self.known.count {
            match self.look() {
                Next::Known => {}
                Next::Failed(undelivered) => return Some(Err(*undelivered)),
                Next::Open => return None,
            }
        }
        self.len -= 1;
        let known = &mut self.known;
        let at = i64::from(known.told);
        // The only write here, so the reads do not wait for it.
        known.told += 1;
        Some(Ok(Acked {
            partition: known.partition,
            offset: known.offset.map(|first| first + at),
            timestamp: known.timestamp,
        }))
    }

    /// The first run, to be told from.
    fn front(&mut self) -> Option<&mut Run> {
        let last = Some(&mut self.last).filter(|last| last.count > 0);
        self.runs.front_mut().or(last)
    }

    /// Looks at the first run, once the known records are told. Failures are boxed, so that an
    /// outcome is made of numbers alone where it is asked for.
    #[inline(never)]
    fn look(&mut self) -> Next {
        let Some(&mut Run { piece: at, count }) = self.front() else {
            return Next::Open;
        };
        let Some(time) = self.times.front_mut() else {
            return Next::Open;
        };
        let piece = &mut self.pieces[at as usize];
        // Numbers are taken from where they stand: those of an outcome just made would be read as they
        // were not written, and waited for.
        let (ack, index, alike) = piece.ack.holder(piece.next);
        let (taken, found) = match ack.settlement() {
            None => return Next::Open,
            Some(Settlement::Acked {
                base_offset,
                log_append_time,
            }) => {
                let count = time.count.min(alike.min(count) as usize) as u32;
                self.known = Known {
                    told: 0,
                    count,
                    partition: ack.partition(),
                    offset: base_offset.map(|base| base + i64::from(index)),
                    timestamp: log_append_time.unwrap_or(time.timestamp),
                };
                (count, Next::Known)
            }
            Some(_) => match ack.outcome(index, time.timestamp) {
                Some(Err(undelivered)) => {
                    self.len -= 1;
                    (1, Next::Failed(Box::new(undelivered)))
                }
                _ => return Next::Open,
            },
        };
        time.count -= taken as usize;
        if time.count == 0 {
            self.times.pop_front();
        }
        piece.next += taken;
        if piece.next == piece.end {
            // A batch that has its outcome takes no more records.
            piece.ack = Ack::nobodys();
            self.free.push(at);
        }
        if let Some(run) = self.front() {
            run.count -= taken;
            if run.count == 0 {
                self.runs.pop_front();
            }
        }
        found
    }

    /// Waits for the next outcome; `None` when there is none to come.
    ///
    /// In a callback under [`Placement::CurrentArbiter`](crate::Placement::CurrentArbiter) it is `None`
    /// too where it would have to wait: no outcome comes before the callback returns.
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
        let Some(&mut Run { piece, .. }) = self.front() else {
            return Poll::Ready(None);
        };
        if user_code::holds_up_runtime() {
            // None comes before the code that asks returns. The receipts stay.
            return Poll::Ready(None);
        }
        // Wakes at once if the outcome has come meanwhile.
        let Piece {
            ack,
            next,
            end,
            place,
        } = &mut self.pieces[piece as usize];
        let records = *end - *next;
        ack.register(*next, place, context.waker(), records);
        Poll::Pending
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.len, Some(self.len))
    }
}

/// Acked records of one batch that follow one another.
#[derive(Debug, Default)]
struct Known {
    told: u32,
    count: u32,
    partition: i32,
    /// Of the first one.
    offset: Option<i64>,
    timestamp: i64,
}

/// So many records, the next ones of a piece.
#[derive(Debug, Clone, Copy, Default)]
struct Run {
    piece: u32,
    count: u32,
}

/// So many records that follow one another, of whatever batches, have the same time: mostly all that
/// were sent in a tick of the clock.
#[derive(Debug)]
struct Time {
    timestamp: i64,
    count: usize,
}

/// Records of one batch at consecutive indices, put in one after the other, others perhaps in
/// between. An ack's owners are counted by pieces, because an atomic addition for each record would
/// cost as much as the rest.
#[derive(Debug)]
struct Piece {
    ack: Arc<Ack>,
    /// Index of the next one to tell, and behind the last one.
    next: u32,
    end: u32,
    /// Where the waker of whoever polled it last is.
    place: Place,
}

/// What the receipts of records join that were just accepted. Not an enum, which would be written to
/// the stack in parts and read as a whole: the processor waits for that.
#[derive(Debug)]
pub(crate) struct Joins {
    /// The piece that they go on with.
    piece: u32,
    /// They begin a piece of this ack instead.
    begins: Option<Arc<Ack>>,
}

/// What the next record's outcome is, where it is not among those known.
enum Next {
    /// It is now.
    Known,
    Failed(Box<Unconfirmed>),
    Open,
}

#[cfg(test)]
mod tests;
