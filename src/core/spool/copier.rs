//! Copies records of one slot into new chunks, where they keep their positions.

use std::ops::Range;

use super::chunk::{Appending, Chunk, ChunkHeader};
use super::pieces::{Piece, ReadChunk, Records};
use super::space::Space;

/// Bytes of a chunk of copies, unless a single frame needs more.
const LARGEST: usize = 256 << 10;

/// What became of copying.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copied {
    /// All of it is in new chunks.
    All,
    /// Some of it is damaged. The rest is in new chunks.
    Part,
    /// There is no space now.
    NoSpace,
}

/// Copies what `chunk` has of these positions, frame by frame, so that sources and batches stay.
pub fn copy(space: &Space, chunk: &ReadChunk<'_>, positions: Range<u64>) -> Copied {
    let mut row: Vec<Records<'_>> = Vec::new();
    let mut next = positions.start;
    let (mut bytes, mut count) = (0, 0);
    for piece in chunk.pieces() {
        let Piece::Records(records) = piece else {
            continue;
        };
        let Some(records) = records.within(next..positions.end) else {
            continue;
        };
        let goes_on = row.last().is_none_or(|last| follows(last, &records));
        let length = Chunk::length_for(records.bytes.len());
        if !goes_on || bytes + length > LARGEST {
            if !write(space, &chunk.header, &row) {
                return Copied::NoSpace;
            }
            row.clear();
            bytes = 0;
        }
        next = records.end_position();
        count += u64::from(records.count);
        bytes += length;
        row.push(records);
    }
    if !write(space, &chunk.header, &row) {
        return Copied::NoSpace;
    }
    match count == positions.end - positions.start {
        true => Copied::All,
        false => Copied::Part,
    }
}

/// Whether the records can stand behind these in a chunk.
fn follows(last: &Records<'_>, next: &Records<'_>) -> bool {
    let same_batch = last.batch.base_timestamp == next.batch.base_timestamp
        && last.batch.index.checked_add(last.count) == Some(next.batch.index);
    last.end_position() == next.position && (next.batch.index == 0 || same_batch)
}

/// Writes a chunk of these. False: there is no space.
fn write(space: &Space, header: &ChunkHeader, row: &[Records<'_>]) -> bool {
    let Some(first) = row.first() else {
        return true;
    };
    let length = Chunk::length_for_all(row.iter().map(|records| records.bytes.len()));
    let batch = (first.batch.index > 0).then_some(first.batch);
    let begun = space.begin_copy(length, header.slot, first.position, (batch, header.begun));
    let Some((segment, mut chunk)) = begun else {
        return false;
    };
    for records in row {
        let Ok(count) = u16::try_from(records.count) else {
            break;
        };
        let copied = chunk.append(&Appending {
            records: records.bytes,
            count,
            newest: records.newest,
            begins: (records.batch.index == 0).then_some(records.batch.base_timestamp),
            source: records.source,
        });
        if !copied {
            break;
        }
    }
    space.end_copy(segment, &chunk);
    true
}

#[cfg(test)]
mod tests;
