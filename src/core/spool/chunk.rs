//! Chunks: the piece of a segment that one partition fills.

use std::sync::Arc;
use std::sync::atomic::{Ordering, compiler_fence};

use super::frame::{self, FrameInfo, LONGEST_HEAD, Source, number};
use super::region::Region;

/// Bytes of a chunk before its frames.
pub const HEADER: usize = 64;

/// Chunks begin at multiples of this many bytes.
pub const ALIGN: usize = 64;

const CRC_AT: usize = 60;

/// No record has a higher position, so that sums of positions and counts do not overflow.
pub const LAST_POSITION: u64 = 1 << 62;

/// Says that a batch goes on, in the header of a chunk.
const GOES_ON: u32 = 1;

/// The batch that the next record belongs to, unless another one begins with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    /// How many of its records come before.
    pub index: u32,
    pub base_timestamp: i64,
}

/// What the header of a chunk says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkHeader {
    /// Bytes, those of the header included.
    pub length: u32,
    /// The number of the topic partition.
    pub slot: u32,
    /// Of the first record.
    pub position: u64,
    /// The batch that goes on here.
    pub batch: Option<Batch>,
    /// When it was begun, in milliseconds since 1970.
    pub begun: i64,
}

impl ChunkHeader {
    /// `offset` is where the chunk begins in its segment.
    pub fn encode(&self, salt: u64, offset: u64) -> [u8; HEADER] {
        let mut header = [0; HEADER];
        let batch = self.batch.unwrap_or(Batch {
            index: 0,
            base_timestamp: 0,
        });
        let goes_on = u32::from(self.batch.is_some()) * GOES_ON;
        header[..4].copy_from_slice(&self.length.to_le_bytes());
        header[4..8].copy_from_slice(&self.slot.to_le_bytes());
        header[8..16].copy_from_slice(&self.position.to_le_bytes());
        header[16..20].copy_from_slice(&goes_on.to_le_bytes());
        header[20..24].copy_from_slice(&batch.index.to_le_bytes());
        header[24..32].copy_from_slice(&batch.base_timestamp.to_le_bytes());
        header[32..40].copy_from_slice(&self.begun.to_le_bytes());
        let sum = sum(&header, salt, offset);
        header[CRC_AT..].copy_from_slice(&sum.to_le_bytes());
        header
    }

    /// What stands at the beginning of `bytes`, if it is the header of a chunk there that ends where the
    /// segment does, or before.
    pub fn decode(bytes: &[u8], salt: u64, offset: u64, segment: u64) -> Option<Self> {
        let header = bytes.first_chunk::<HEADER>()?;
        let length = u32::from_le_bytes(number(header, 0)?);
        let possible = length as usize > HEADER
            && (length as usize).is_multiple_of(ALIGN)
            && offset.checked_add(length.into())? <= segment;
        if !possible || sum(header, salt, offset) != u32::from_le_bytes(number(header, CRC_AT)?) {
            return None;
        }
        let position = u64::from_le_bytes(number(header, 8)?);
        let goes_on = u32::from_le_bytes(number(header, 16)?) & GOES_ON != 0;
        if position > LAST_POSITION {
            return None;
        }
        let batch = Batch {
            index: u32::from_le_bytes(number(header, 20)?),
            base_timestamp: i64::from_le_bytes(number(header, 24)?),
        };
        Some(Self {
            length,
            slot: u32::from_le_bytes(number(header, 4)?),
            position,
            batch: goes_on.then_some(batch),
            begun: i64::from_le_bytes(number(header, 32)?),
        })
    }
}

fn sum(header: &[u8; HEADER], salt: u64, offset: u64) -> u32 {
    let mut place = [0; 16 + CRC_AT];
    place[..8].copy_from_slice(&salt.to_le_bytes());
    place[8..16].copy_from_slice(&offset.to_le_bytes());
    place[16..].copy_from_slice(&header[..CRC_AT]);
    crc_fast::crc32_iscsi(&place)
}

/// What is in a chunk: all of it, or where there is damage a part of it that is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkUse {
    /// Where the chunk begins in its segment.
    pub offset: u32,
    pub slot: u32,
    /// Of the first record.
    pub position: u64,
    /// Records.
    pub count: u32,
    /// Bytes from the beginning of the chunk up to where these records end.
    pub bytes: u32,
    /// The newest timestamp of these records, in milliseconds since 1970.
    pub newest: i64,
    /// When the chunk was begun, in milliseconds since 1970. None of its records was accepted before.
    pub begun: i64,
}

impl ChunkUse {
    /// The position behind the last record.
    pub fn end(&self) -> u64 {
        self.position.saturating_add(self.count.into())
    }

    /// Whether it is within bounds, wherever it was read.
    pub(super) fn is_possible(&self) -> bool {
        self.position <= 2 * LAST_POSITION && self.bytes as usize >= HEADER
    }
}

/// Where a chunk is to be.
#[derive(Debug, Clone)]
pub struct Place {
    /// The segment.
    pub region: Arc<dyn Region>,
    /// The segment's.
    pub salt: u64,
    /// Where the chunk begins: a multiple of [`ALIGN`].
    pub at: u32,
    /// Bytes of the chunk, its header included: a multiple of [`ALIGN`].
    pub length: u32,
    /// What time it is, in milliseconds since 1970.
    pub begun: i64,
}

/// Records that were appended to a batch together.
#[derive(Debug, Clone, Copy)]
pub struct Appending<'a> {
    /// As they stand in the batch.
    pub records: &'a [u8],
    pub count: u16,
    /// The newest timestamp among them, in milliseconds since 1970. Only the index is told.
    pub newest: i64,
    /// The batch's base timestamp, if it begins with these records.
    pub begins: Option<i64>,
    pub source: Option<Source>,
}

/// A chunk that is filled. It alone writes where it is.
#[derive(Debug)]
pub struct Chunk {
    region: Arc<dyn Region>,
    salt: u64,
    at: u32,
    /// Where the next frame begins.
    next: usize,
    end: usize,
    slot: u32,
    position: u64,
    count: u32,
    newest: i64,
    begun: i64,
    batch: Option<Batch>,
    /// The highest position of each source that has records here.
    accepted: Vec<Source>,
}

impl Chunk {
    /// Begins a chunk whose first record has this position. `batch` is what the former chunk of the
    /// partition ends with. `None` if there is no such place in the region.
    pub fn begin(place: Place, slot: u32, position: u64, batch: Option<Batch>) -> Option<Self> {
        let header = ChunkHeader {
            length: place.length,
            slot,
            position,
            batch,
            begun: place.begun,
        };
        let at = place.at as usize;
        let end = at.checked_add(place.length as usize)?;
        let fits = end <= place.region.len()
            && place.length as usize > HEADER
            && at.is_multiple_of(ALIGN)
            && end.is_multiple_of(ALIGN)
            && position <= LAST_POSITION;
        let header = header.encode(place.salt, place.at.into());
        if !fits || !place.region.write(at, &header) {
            return None;
        }
        Some(Self {
            region: place.region,
            salt: place.salt,
            at: place.at,
            next: at + HEADER,
            end,
            slot,
            position,
            count: 0,
            newest: i64::MIN,
            begun: place.begun,
            batch,
            accepted: Vec::new(),
        })
    }

    /// Bytes of a chunk that takes so many bytes of records in one frame, whatever its head.
    pub fn length_for(records: usize) -> usize {
        (HEADER + LONGEST_HEAD + records).next_multiple_of(ALIGN)
    }

    /// Bytes of a chunk that takes records in so many frames, with so many bytes each, whatever their heads.
    pub fn length_for_all(records: impl Iterator<Item = usize>) -> usize {
        let frames = records.map(|records| (LONGEST_HEAD + records).next_multiple_of(frame::ALIGN));
        (HEADER + frames.sum::<usize>()).next_multiple_of(ALIGN)
    }

    /// Bytes of records that fit in, whatever their frame's head.
    pub fn room(&self) -> usize {
        (self.end - self.next).saturating_sub(LONGEST_HEAD)
    }

    /// The position of the next record.
    pub fn next_position(&self) -> u64 {
        self.position + u64::from(self.count)
    }

    /// The batch that goes on with the next record, in this chunk or in the next.
    pub fn batch(&self) -> Option<Batch> {
        self.batch
    }

    /// Writes the records. They are in the region when it returns true. False: they do not fit, and
    /// nothing of them is there; or no batch has begun that they could belong to.
    #[inline]
    pub fn append(&mut self, appending: &Appending<'_>) -> bool {
        let Appending {
            records,
            count,
            newest,
            begins,
            source,
        } = *appending;
        let info = FrameInfo {
            count,
            first: self.count,
            begins,
            source,
        };
        let batch = match (begins, self.batch) {
            (Some(base_timestamp), _) => Batch {
                index: 0,
                base_timestamp,
            },
            (None, Some(batch)) => batch,
            (None, None) => return false,
        };
        let (Some(total), Some(index)) = (
            self.count.checked_add(count.into()),
            batch.index.checked_add(count.into()),
        ) else {
            return false;
        };
        let head_len = info.head_len();
        let whole = head_len + records.len();
        if whole > self.end - self.next || count == 0 || records.is_empty() {
            return false;
        }
        let head = info.head(records, self.salt, self.next as u64);
        // The head comes last. Without it the records are not there, wherever the process is killed.
        if !self.region.write(self.next + head_len, records) {
            return false;
        }
        // Nor may the compiler write it before.
        compiler_fence(Ordering::Release);
        if !self.region.write(self.next, head.bytes()) {
            return false;
        }
        self.next = (self.next + whole).next_multiple_of(frame::ALIGN);
        self.count = total;
        self.newest = self.newest.max(newest);
        self.batch = Some(Batch { index, ..batch });
        if let Some(source) = source {
            note(&mut self.accepted, source);
        }
        true
    }

    /// What is in it so far.
    pub fn used(&self) -> ChunkUse {
        ChunkUse {
            offset: self.at,
            slot: self.slot,
            position: self.position,
            count: self.count,
            bytes: (self.next - self.at as usize) as u32,
            newest: self.newest,
            begun: self.begun,
        }
    }

    /// The highest position of each source that has records in it.
    pub fn accepted(&self) -> &[Source] {
        &self.accepted
    }
}

/// Keeps the highest position of each source. The last one is mostly asked for again.
fn note(accepted: &mut Vec<Source>, source: Source) {
    let known = accepted
        .iter_mut()
        .rev()
        .find(|known| known.source == source.source);
    match known {
        Some(known) => known.position = known.position.max(source.position),
        None => accepted.push(source),
    }
}

#[cfg(test)]
mod tests;
