//! Reads the frames of one chunk, past what is damaged.

use std::ops::Range;

use super::chunk::{Batch, ChunkHeader, HEADER};
use super::frame::{ALIGN, Claim, Frame, Source, search_budget};
use crate::core::batch::Run;

/// A chunk as it was read from its segment.
#[derive(Debug, Clone, Copy)]
pub struct ReadChunk<'a> {
    pub header: ChunkHeader,
    /// Where it begins in its segment.
    offset: u64,
    salt: u64,
    bytes: &'a [u8],
}

impl<'a> ReadChunk<'a> {
    /// `bytes` begin where the chunk does, at `offset` of a segment that is `segment` bytes long. They may
    /// end where what is wanted of the chunk does. `None` if no chunk begins there.
    pub fn new(bytes: &'a [u8], salt: u64, offset: u64, segment: u64) -> Option<Self> {
        let header = ChunkHeader::decode(bytes, salt, offset, segment)?;
        let length = bytes.len().min(header.length as usize);
        Some(Self {
            header,
            offset,
            salt,
            bytes: &bytes[..length],
        })
    }

    /// What is in it.
    pub fn pieces(&self) -> Pieces<'a> {
        Pieces {
            chunk: *self,
            at: HEADER,
            first: 0,
            batch: self.header.batch,
            found: None,
        }
    }
}

/// What is in a chunk, one behind the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    Records(Records<'a>),
    /// Records that cannot be read any more, though frames behind them can.
    Gap {
        /// Where they were in the segment, about.
        offset: u64,
        position: u64,
        /// 0 if that cannot be said.
        count: u32,
    },
}

/// The records of one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Records<'a> {
    /// Of the first record.
    pub position: u64,
    pub count: u32,
    /// The batch they belong to, and the first one's index in it.
    pub batch: Batch,
    /// The newest timestamp among them. Of a part of them it may be another one's.
    pub newest: i64,
    pub source: Option<Source>,
    /// As they stand in the batch.
    pub bytes: &'a [u8],
    /// Where the frame ends in the chunk.
    pub end: usize,
}

impl Records<'_> {
    /// The position behind the last record.
    pub fn end_position(&self) -> u64 {
        self.position + u64::from(self.count)
    }

    /// Those of them that have these positions; `None` if none has.
    pub fn within(&self, positions: Range<u64>) -> Option<Self> {
        let from = self.position.max(positions.start);
        let to = self.end_position().min(positions.end);
        if from >= to {
            return None;
        }
        let (skip, count) = ((from - self.position) as u32, (to - from) as u32);
        Some(Self {
            position: from,
            count,
            batch: Batch {
                index: self.batch.index + skip,
                ..self.batch
            },
            bytes: Run::part(self.bytes, skip, count)?,
            ..*self
        })
    }
}

/// Goes through the frames of a chunk.
#[derive(Debug, Clone)]
pub struct Pieces<'a> {
    chunk: ReadChunk<'a>,
    at: usize,
    /// The number of the next record within the chunk.
    first: u32,
    batch: Option<Batch>,
    /// What stands behind the gap that was told last.
    found: Option<Records<'a>>,
}

impl<'a> Pieces<'a> {
    fn frame(&self, at: usize, claim: Claim) -> Option<(Frame, &'a [u8])> {
        let bytes = self.chunk.bytes.get(at..)?;
        let frame = claim.check(bytes, self.chunk.salt, self.chunk.offset + at as u64)?;
        Some((frame.clone(), bytes.get(frame.records)?))
    }

    fn claim(&self, at: usize) -> Option<Claim> {
        let bytes = self.chunk.bytes.get(at..)?;
        let claim = Claim::read(bytes, self.chunk.salt)?;
        (claim.first >= self.first && claim.length <= bytes.len()).then_some(claim)
    }

    /// The records of a whole frame, if it is known to which batch they belong.
    fn records(&self, at: usize, frame: &Frame, bytes: &'a [u8]) -> Option<Records<'a>> {
        let run = Run::read(bytes)?;
        let info = frame.info;
        let batch = match (info.begins, self.batch) {
            (Some(base_timestamp), _) => Batch {
                index: 0,
                base_timestamp,
            },
            // If another batch had begun in a gap before, the index would be lower.
            (None, Some(batch)) => Batch {
                index: batch.index.checked_add(info.first - self.first)?,
                ..batch
            },
            (None, None) => return None,
        };
        if (run.index, run.count) != (batch.index, info.count.into()) {
            return None;
        }
        Some(Records {
            position: self.chunk.header.position + u64::from(info.first),
            count: run.count,
            batch,
            newest: batch.base_timestamp.saturating_add(run.newest_delta),
            source: info.source,
            bytes,
            end: (at + frame.len()).min(self.chunk.bytes.len()),
        })
    }

    /// Goes on behind these records.
    fn pass(&mut self, records: Records<'a>) -> Piece<'a> {
        let before = (records.position - self.chunk.header.position) as u32;
        self.at = records.end;
        self.first = before.saturating_add(records.count);
        self.batch = Some(Batch {
            index: records.batch.index.saturating_add(records.count),
            ..records.batch
        });
        Piece::Records(records)
    }

    /// Looks for whole frames behind one that is not. There are none at the end of what was written.
    fn search(&mut self) -> Option<Piece<'a>> {
        let begin = self.at;
        let gap = |first: u32, end: u32| {
            Some(Piece::Gap {
                offset: self.chunk.offset + begin as u64,
                position: self.chunk.header.position + u64::from(first),
                count: end - first,
            })
        };
        let mut left = search_budget((self.chunk.bytes.len() - begin) as u64);
        let (mut at, mut lost) = (begin, None);
        self.at = self.chunk.bytes.len();
        while at < self.chunk.bytes.len() {
            let Some(claim) = self.claim(at) else {
                at += ALIGN;
                continue;
            };
            let Some(after) = left.checked_sub(claim.length as u64) else {
                return gap(self.first, lost.unwrap_or(self.first));
            };
            left = after;
            let Some((frame, bytes)) = self.frame(at, claim) else {
                at += ALIGN;
                continue;
            };
            if let Some(records) = self.records(at, &frame, bytes) {
                self.found = Some(records);
                return gap(self.first, frame.info.first);
            }
            // Whole, and of a batch whose beginning is lost.
            let end = frame.info.first.saturating_add(frame.info.count.into());
            lost = lost.max(Some(end));
            at += frame.len();
        }
        lost.and_then(|end| gap(self.first, end))
    }
}

impl<'a> Iterator for Pieces<'a> {
    type Item = Piece<'a>;

    fn next(&mut self) -> Option<Piece<'a>> {
        if let Some(found) = self.found.take() {
            return Some(self.pass(found));
        }
        let claim = self.claim(self.at).filter(|it| it.first == self.first);
        let frame = claim.and_then(|claim| self.frame(self.at, claim));
        let records = frame.and_then(|(frame, bytes)| self.records(self.at, &frame, bytes));
        match records {
            Some(records) => Some(self.pass(records)),
            None => self.search(),
        }
    }
}
