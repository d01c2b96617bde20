//! Reads batches back from chunks: the frames of one batch become one batch again.

use std::ops::Range;

use super::chunk::Batch;
use super::frame::Source;
use super::pieces::{Piece, ReadChunk, Records};

/// A batch as it was accepted, or a part of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spooled {
    /// Of the first record.
    pub position: u64,
    /// The first record's index in its batch. Above 0 where the beginning of the batch was not asked for, or
    /// is damaged. The offset deltas of the records begin with it.
    pub index: u32,
    /// The batch's. The timestamp deltas of the records count from it.
    pub base_timestamp: i64,
    /// The newest timestamp, in milliseconds since 1970. Of a part it may be that of another record of the
    /// same append.
    pub newest: i64,
    pub count: u32,
    /// As they stand in the batch.
    pub records: Vec<u8>,
    /// Where records are from: how many are before them here, and the place of those that follow.
    pub sources: Vec<(u32, Source)>,
}

impl Spooled {
    /// The position behind the last record.
    pub fn end(&self) -> u64 {
        self.position.saturating_add(self.count.into())
    }
}

/// Reads the chunks of one partition, in the order of positions.
#[derive(Debug)]
pub struct Reader {
    next: u64,
    open: Option<Spooled>,
}

impl Reader {
    /// Reads from this position on.
    pub fn new(from: u64) -> Self {
        Self {
            next: from,
            open: None,
        }
    }

    /// Where the next record is read.
    pub fn next_position(&self) -> u64 {
        self.next
    }

    /// Reads the records of the chunk that have these positions. Batches that end are added to `batches`; the
    /// last one may go on in the next chunk. Returns the positions that should be there and are damaged.
    pub fn read(
        &mut self,
        chunk: &ReadChunk<'_>,
        positions: Range<u64>,
        batches: &mut Vec<Spooled>,
    ) -> Vec<Range<u64>> {
        let mut missing = Vec::new();
        self.next = self.next.max(positions.start);
        for piece in chunk.pieces() {
            let Piece::Records(records) = piece else {
                continue;
            };
            if records.position >= positions.end {
                break;
            }
            let Some(records) = records.within(self.next..positions.end) else {
                continue;
            };
            if records.position > self.next {
                missing.push(self.next..records.position);
            }
            self.next = records.end_position();
            self.take(&records, batches);
        }
        if self.next < positions.end {
            missing.push(self.next..positions.end);
            self.next = positions.end;
        }
        missing
    }

    /// There is no further chunk.
    pub fn finish(self) -> Option<Spooled> {
        self.open
    }

    fn take(&mut self, records: &Records<'_>, batches: &mut Vec<Spooled>) {
        let Batch {
            index,
            base_timestamp,
        } = records.batch;
        let goes_on = |open: &&mut Spooled| {
            let next = (open.end(), open.index + open.count, open.base_timestamp);
            next == (records.position, index, base_timestamp)
        };
        match self.open.as_mut().filter(goes_on) {
            Some(open) => {
                let source = records.source.map(|source| (open.count, source));
                open.sources.extend(source);
                open.records.extend_from_slice(records.bytes);
                open.newest = open.newest.max(records.newest);
                open.count += records.count;
            }
            None => batches.extend(
                self.open.replace(Spooled {
                    position: records.position,
                    index,
                    base_timestamp,
                    newest: records.newest,
                    count: records.count,
                    records: records.bytes.to_vec(),
                    sources: records
                        .source
                        .map(|source| (0, source))
                        .into_iter()
                        .collect(),
                }),
            ),
        }
    }
}

#[cfg(test)]
mod tests;
