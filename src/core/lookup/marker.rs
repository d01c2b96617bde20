//! Reads the log from a batch of a transaction up to its marker, which says how the transaction ended.

use std::sync::Arc;

use uuid::Uuid;

use super::scan::Absence;
use crate::core::batch::logged::{Control, LoggedBatch, LoggedBatches};
use crate::core::record::TopicPartition;

/// A batch that was acked in a transaction. Behind it in its log comes the marker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witness {
    pub partition: TopicPartition,
    /// Nil if brokers do not tell it.
    pub topic_id: Uuid,
    pub base_offset: i64,
    pub producer_id: i64,
    pub epoch: i16,
}

/// What a marker says of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marker {
    Committed,
    Aborted {
        /// The one that the marker was written under. In protocol 1 it is the transaction's own if its
        /// producer asked for the abort, and the next one if its coordinator had it aborted.
        epoch: i16,
    },
}

/// Why the log does not tell what became of the transaction, and never will.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Illegible {
    #[error(transparent)]
    Unread(#[from] Absence),
    #[error(
        "the batch at offset {offset} of the log is another than the one that was acked there: the topic \
         was created anew, or the log was lost"
    )]
    Another { offset: i64 },
    #[error("compaction has emptied the marker at offset {offset} of the log")]
    Emptied { offset: i64 },
}

/// What has come of a look for the marker of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MarkerNews {
    Found(Marker),
    /// It will never be found, and why.
    Unknown(Arc<str>),
    /// The log was read to its end, and the marker is not there yet.
    NotYet {
        /// For so long that another broker may lead by now.
        refresh: bool,
    },
    /// The log cannot be read for now, and why.
    Trouble(Arc<str>),
}

/// A look for the first marker of a producer behind a batch of it.
///
/// That one ends the transaction of the batch, whatever its epoch is: the marker of an earlier transaction
/// was there before the batch, and no later one begins before this one has ended. Its epoch is that of the
/// batch, or a later one: so it is in protocol 2, and where another instance has had it aborted. Only in
/// protocol 1 a marker of the transaction before may come late, and nothing tells it from this one's.
///
/// Invariant: each offset from the batch up to `next` was part of a batch that was read.
#[derive(Debug)]
pub struct MarkerScan {
    next: i64,
    base_offset: i64,
    producer_id: i64,
    epoch: i16,
    told: Option<Result<Marker, Illegible>>,
    read: u64,
    most: u64,
}

impl MarkerScan {
    /// No more than `most` bytes are read.
    pub fn new(witness: &Witness, most: u64) -> Self {
        Self {
            next: witness.base_offset,
            base_offset: witness.base_offset,
            producer_id: witness.producer_id,
            epoch: witness.epoch,
            told: None,
            read: 0,
            most,
        }
    }

    /// Where to read on.
    pub fn next_offset(&self) -> i64 {
        self.next
    }

    /// What the log says, once it does, or why it does not.
    pub fn told(&self) -> Option<Result<Marker, Illegible>> {
        self.told
    }

    /// The log begins at `start` by now: what was before is gone.
    pub fn begins_at(&mut self, start: i64) {
        if start > self.next {
            self.hole_up_to(start);
        }
    }

    /// Takes what a broker sent from [`next_offset`](Self::next_offset) on.
    pub fn read(&mut self, records: &[u8]) {
        self.read += records.len() as u64;
        for batch in LoggedBatches::new(records) {
            if self.told.is_some() {
                return;
            }
            match batch {
                Ok(batch) => self.pass(&batch),
                Err(error) => self.illegible(Absence::Broken(error)),
            }
        }
        if self.read >= self.most {
            self.illegible(Absence::TooMuch { read: self.read });
        }
    }

    fn pass(&mut self, batch: &LoggedBatch) {
        let offset = batch.base_offset;
        let is_first = self.next == self.base_offset;
        // The first may be one that begins before what was asked for.
        if batch.last_offset() < self.next {
            return;
        }
        if offset > self.next {
            // The marker may have been there.
            return self.hole_up_to(offset);
        }
        self.next = batch.last_offset() + 1;
        let is_ours = batch.producer_id == self.producer_id;
        if is_first {
            let is_it = is_ours && batch.control.is_none() && batch.epoch == self.epoch;
            if !is_it || offset != self.base_offset {
                self.illegible(Illegible::Another { offset });
            }
            return;
        }
        if !is_ours {
            return;
        }
        match batch.control {
            None => {}
            Some(_) if batch.epoch < self.epoch => self.illegible(Illegible::Another { offset }),
            Some(Control::Commit) => self.tell(Ok(Marker::Committed)),
            Some(Control::Abort) => self.tell(Ok(Marker::Aborted { epoch: batch.epoch })),
            Some(Control::Emptied | Control::Other(_)) => {
                self.illegible(Illegible::Emptied { offset });
            }
        }
    }

    fn hole_up_to(&mut self, start: i64) {
        let (from, to) = (self.next, start - 1);
        self.illegible(Absence::Hole { from, to });
    }

    fn illegible(&mut self, why: impl Into<Illegible>) {
        self.tell(Err(why.into()));
    }

    fn tell(&mut self, told: Result<Marker, Illegible>) {
        self.told.get_or_insert(told);
    }
}

#[cfg(test)]
mod tests;
