//! Finds records of the spool in a partition's log, by the sequence numbers that they were sent with.

use std::ops::Range;

use super::resume::{Resume, SentUnder};
use super::settled::Settled;
use crate::core::batch::logged::LoggedBatch;
use crate::core::identity::{Identity, SEQUENCES};

/// What is in doubt under a line is nearer than this to the first of it.
const NEAR: u64 = 1 << 30;

/// What the header of a batch in the log says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    pub identity: Identity,
    pub sequence: i32,
    /// Records that it had when it was appended.
    pub count: u32,
    pub base_offset: i64,
}

impl From<&LoggedBatch> for Seen {
    fn from(batch: &LoggedBatch) -> Self {
        Self {
            identity: Identity {
                producer_id: batch.producer_id,
                epoch: batch.epoch,
            },
            sequence: batch.base_sequence,
            // Compaction lowers the count, and not the last delta, which is not below 0.
            count: batch.last_offset_delta.unsigned_abs().saturating_add(1),
            base_offset: batch.base_offset,
        }
    }
}

/// Records of the spool that are in the log, and were not settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InLog {
    pub position: u64,
    pub count: u32,
    /// Of the first one.
    pub base_offset: i64,
}

/// The log and the spool do not agree. What both have counts as found all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    #[error(
        "the batch at offset {base_offset} has the records at positions {from} to {to}, and some of them \
         are settled already"
    )]
    Partly {
        base_offset: i64,
        from: u64,
        to: u64,
    },
    #[error(
        "the batch at offset {base_offset} has the records at positions {from} to {to}, and the spool knows \
         of none behind {end} that were sent so"
    )]
    Beyond {
        base_offset: i64,
        from: u64,
        to: u64,
        end: u64,
    },
    #[error(
        "records at positions {from} to {to} are in the log twice, for the second time at {base_offset}"
    )]
    Twice {
        base_offset: i64,
        from: u64,
        to: u64,
    },
}

/// What of one slot is in its partition's log.
#[derive(Debug)]
pub struct Survey {
    lines: Vec<SentUnder>,
    /// In order.
    doubtful: Vec<Range<u64>>,
    found: Vec<InLog>,
    found_positions: Settled,
}

impl Survey {
    /// Looks for all that is not settled, be it on the disk or lost.
    pub fn new(resume: &Resume) -> Self {
        let mut doubtful = [&resume.unsettled[..], &resume.missing[..]].concat();
        doubtful.sort_unstable_by_key(|range| range.start);
        Self {
            lines: resume.lines.clone(),
            doubtful,
            found: Vec::new(),
            found_positions: Settled::default(),
        }
    }

    /// A batch is in the log. It is no marker.
    pub fn see(&mut self, batch: Seen) -> Result<(), Mismatch> {
        let Some((from, end)) = self.position_of(&batch) else {
            return Ok(());
        };
        let (to, base_offset) = (from + u64::from(batch.count), batch.base_offset);
        let inside = self.doubtful.iter().map(|range| Range {
            start: range.start.max(from),
            end: range.end.min(to),
        });
        let inside: Vec<_> = inside.filter(|part| !part.is_empty()).collect();
        let fresh = |part: &Range<u64>| self.found_positions.unsettled(part.clone());
        let fresh: Vec<_> = inside.iter().flat_map(fresh).collect();
        let length = |parts: &[Range<u64>]| parts.iter().map(|it| it.end - it.start).sum::<u64>();
        for part in &fresh {
            self.found_positions.add(part.clone(), 0);
            self.found.push(InLog {
                position: part.start,
                count: (part.end - part.start) as u32,
                base_offset: base_offset.saturating_add((part.start - from) as i64),
            });
        }
        if to > end {
            return Err(Mismatch::Beyond {
                base_offset,
                from,
                to,
                end,
            });
        }
        if length(&fresh) < length(&inside) {
            return Err(Mismatch::Twice {
                base_offset,
                from,
                to,
            });
        }
        // All of what is settled was so by whole batches.
        match inside.is_empty() || length(&inside) == to - from {
            true => Ok(()),
            false => Err(Mismatch::Partly {
                base_offset,
                from,
                to,
            }),
        }
    }

    /// Where the batch's first record is, and how far its line goes; `None` if it was sent under no line that
    /// is known. Then nothing of it is in doubt.
    ///
    /// Of the positions that a sequence may stand for, 2^31 apart, the last one counts that the line can have
    /// come to. How far that is cannot be told from what is settled: positions that a start left out are so,
    /// too.
    fn position_of(&self, batch: &Seen) -> Option<(u64, u64)> {
        let of_it = |it: &&SentUnder| it.line.identity == batch.identity;
        // Under one identity the latest line that begins there or before counts.
        let mut latest_first = self.lines.iter().rev().filter(of_it);
        latest_first.find_map(|SentUnder { line, end }| {
            let first = line.position_of(batch.sequence)?;
            let behind = self.doubtful.iter().find(|it| it.end > line.position)?;
            let come_to = behind.start.max(line.position).saturating_add(NEAR);
            let rounds = come_to.min(*end).checked_sub(first + 1)? / SEQUENCES;
            Some((first + rounds * SEQUENCES, *end))
        })
    }

    /// What was found, in the order of the log.
    pub fn found(&self) -> &[InLog] {
        &self.found
    }

    /// What was not found. It is not in the log once the log was read from the floor up to the fence, without
    /// a hole.
    pub fn absent(&self) -> Vec<Range<u64>> {
        let doubtful = self.doubtful.iter();
        let absent = doubtful.flat_map(|range| self.found_positions.unsettled(range.clone()));
        absent.collect()
    }

    /// What was not found, and may have been sent.
    pub fn absent_under_lines(&self) -> Vec<Range<u64>> {
        let mut sent = Settled::default();
        for SentUnder { line, end } in &self.lines {
            sent.add(line.position..*end, 0);
        }
        let absent = self.absent();
        let sent = sent.iter().flat_map(|(part, _)| {
            let within = |it: &Range<u64>| it.start.max(part.start)..it.end.min(part.end);
            absent.iter().map(within).collect::<Vec<_>>()
        });
        sent.filter(|part| !part.is_empty()).collect()
    }
}

#[cfg(test)]
mod tests;
