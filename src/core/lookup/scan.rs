//! Reads the log from where a doubtful batch may begin up to the fence behind it.

use crate::core::batch::logged::{LogError, LoggedBatch, LoggedBatches};
use crate::core::spool::Seen;

/// A batch that is looked for, by what its header has in the log. Brokers that compress it anew keep
/// these (`LogValidator`), and compaction keeps them while it keeps the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sought {
    pub id: u64,
    pub producer_id: i64,
    pub epoch: i16,
    pub sequence: i32,
    pub count: i32,
}

/// Where nothing of what is sought can come any more: brokers refuse a batch of an epoch below the newest
/// that the partition has seen of a producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fence {
    /// A marker of this producer under an epoch above this one. One of the same epoch is none: it ends a
    /// transaction, and lets more batches of its epoch follow.
    Marker { producer_id: i64, above: i16 },
    /// What is at this offset was acked under a later epoch.
    Offset(i64),
}

impl Fence {
    /// Whether it is a marker behind which nothing of this producer and epoch can come.
    pub fn keeps_out(self, of: i64, epoch: i16) -> bool {
        matches!(self, Self::Marker { producer_id, above } if producer_id == of && epoch <= above)
    }
}

/// Why it cannot be said that a batch is absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Absence {
    #[error(
        "offsets {from} to {to} of the log are gone, by retention, compaction or DeleteRecords, and it \
         may have been there"
    )]
    Hole { from: i64, to: i64 },
    #[error("the log is not as it should be: {0}")]
    Broken(#[from] LogError),
    #[error("{read} bytes of the log were read, no more are (forebay.unknown.resolve.max.bytes)")]
    TooMuch { read: u64 },
}

/// What became of a batch that was sought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is in the log.
    At(Found),
    /// It is certainly not in the log, and will not be.
    Absent,
    /// It was not found, and may have been there.
    Unknown(Absence),
}

/// Where a batch is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    pub base_offset: i64,
    /// The time that the broker gave its records, where it gives them one.
    pub log_append_time: Option<i64>,
}

/// A look for batches in the log of one partition.
///
/// Invariant: each offset from `floor` up to `next` was part of a batch that was read, or is in the hole.
#[derive(Debug)]
pub struct Scan {
    next: i64,
    /// Without one the look never ends, unless all is found.
    fence: Option<Fence>,
    sought: Vec<Sought>,
    found: Vec<(u64, Found)>,
    /// The producer whose batches are told.
    survey: Option<i64>,
    surveyed: Vec<Seen>,
    hole: Option<Absence>,
    fenced_at: Option<i64>,
    read: u64,
    most: u64,
}

impl Scan {
    /// What is `sought` is not before `floor`. No more than `most` bytes are read.
    pub fn new(floor: i64, fence: Option<Fence>, sought: Vec<Sought>, most: u64) -> Self {
        let mut scan = Self {
            next: floor,
            fence,
            sought,
            found: Vec::new(),
            survey: None,
            surveyed: Vec::new(),
            hole: None,
            fenced_at: None,
            read: 0,
            most,
        };
        scan.look_for_end();
        scan
    }

    /// Tells all batches of this producer.
    pub fn survey(mut self, producer_id: Option<i64>) -> Self {
        self.survey = producer_id;
        self
    }

    /// The batches of the producer that is surveyed, and why there may have been more.
    pub fn surveyed(&mut self) -> (Vec<Seen>, Option<Absence>) {
        (std::mem::take(&mut self.surveyed), self.hole)
    }

    /// Where to read on.
    pub fn next_offset(&self) -> i64 {
        self.next
    }

    /// Whether nothing has to be read any more: the fence was reached, or it cannot be.
    pub fn is_over(&self) -> bool {
        self.fenced_at.is_some()
            || matches!(
                self.hole,
                Some(Absence::Broken(_) | Absence::TooMuch { .. })
            )
    }

    /// Where the fence is, once it was reached.
    pub fn fenced_at(&self) -> Option<i64> {
        self.fenced_at
    }

    /// Whether there is no fence to be reached.
    pub fn is_endless(&self) -> bool {
        self.fence.is_none()
    }

    /// Whether any batch was found.
    pub fn found_any(&self) -> bool {
        !self.found.is_empty()
    }

    /// Whether every batch was found, so that nothing is in doubt, with a fence or without.
    pub fn all_found(&self) -> bool {
        self.found.len() == self.sought.len() && self.survey.is_none()
    }

    /// The log begins at `start` by now: what was before is gone.
    pub fn begins_at(&mut self, start: i64) {
        if start > self.next {
            self.note_hole(start);
            self.next = start;
            self.look_for_end();
        }
    }

    /// Takes what a broker sent from [`next_offset`](Self::next_offset) on.
    pub fn read(&mut self, records: &[u8]) {
        self.read += records.len() as u64;
        for batch in LoggedBatches::new(records) {
            if self.is_over() {
                return;
            }
            match batch {
                Ok(batch) => self.pass(&batch),
                Err(error) => self.hole = Some(error.into()),
            }
        }
        if self.read >= self.most && !self.is_over() {
            self.hole = Some(Absence::TooMuch { read: self.read });
        }
    }

    fn pass(&mut self, batch: &LoggedBatch) {
        // The first may be one that begins before what was asked for.
        if batch.last_offset() < self.next {
            return;
        }
        if batch.base_offset > self.next {
            self.note_hole(batch.base_offset);
        }
        self.next = batch.last_offset() + 1;
        match (batch.control, self.fence) {
            (Some(_), Some(Fence::Marker { producer_id, above }))
                if batch.producer_id == producer_id && batch.epoch > above =>
            {
                self.fenced_at = Some(batch.base_offset);
            }
            (Some(_), _) => {}
            (None, _) => {
                if self.survey == Some(batch.producer_id) {
                    self.surveyed.push(batch.into());
                }
                let is_it = |sought: &&Sought| {
                    let delta = sought.count - 1;
                    (sought.producer_id, sought.epoch, sought.sequence, delta)
                        == (
                            batch.producer_id,
                            batch.epoch,
                            batch.base_sequence,
                            batch.last_offset_delta,
                        )
                };
                if let Some(sought) = self.sought.iter().find(is_it) {
                    let found = Found {
                        base_offset: batch.base_offset,
                        log_append_time: batch.log_append_time(),
                    };
                    self.found.push((sought.id, found));
                }
            }
        }
        self.look_for_end();
    }

    fn look_for_end(&mut self) {
        if let Some(Fence::Offset(at)) = self.fence
            && self.next >= at
        {
            self.fenced_at = Some(at);
        }
    }

    fn note_hole(&mut self, to: i64) {
        let (from, to) = (self.next, to - 1);
        self.hole.get_or_insert(Absence::Hole { from, to });
    }

    /// What became of each batch that was sought, if that is known: without the fence, only of those that
    /// were found, or that can never be.
    pub fn verdicts(&self) -> impl Iterator<Item = (u64, Verdict)> {
        self.sought.iter().filter_map(|sought| {
            let found = self.found.iter().find(|(id, _)| *id == sought.id);
            let verdict = match (found, self.hole) {
                (Some((_, at)), _) => Verdict::At(*at),
                _ if !self.is_over() => return None,
                (None, Some(why)) => Verdict::Unknown(why),
                (None, None) => Verdict::Absent,
            };
            Some((sought.id, verdict))
        })
    }
}

#[cfg(test)]
mod tests;
