//! Goes through a segment without an index: what is in it, and what is damaged.

use std::collections::BTreeMap;
use std::io;

use super::chunk::{ALIGN, ChunkHeader, ChunkUse, HEADER};
use super::file_header::{FileHeader, PAGE};
use super::frame::{self, Claim, Source};
use super::pieces::{Piece, ReadChunk};

/// Reads a file from an offset on, as many bytes as there is room for.
pub type ReadAt<'a> = dyn FnMut(u64, &mut [u8]) -> io::Result<()> + 'a;

/// Bytes that are read at once where no chunk is.
const WINDOW: u64 = 64 * 1024;

/// Bytes that are tried alone where more cannot be read.
const SECTOR: usize = 4096;

/// What a scan has found.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Scanned {
    /// In the order of the segment. A chunk with a gap is there once for each of its parts. One without
    /// records is there, too: it tells which position was next.
    pub chunks: Vec<ChunkUse>,
    /// The highest position of each source in each slot.
    pub accepted: BTreeMap<(u32, u32), u64>,
    pub damage: Vec<Damage>,
}

/// What is damaged in a segment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    #[error(
        "{count} records of slot {slot}, from position {position} on, are damaged at offset {offset}, \
         and what follows them is whole"
    )]
    Records {
        offset: u64,
        slot: u32,
        position: u64,
        /// 0 if that cannot be said.
        count: u32,
    },
    #[error("{count} records at offset {offset} are of a chunk whose header is damaged")]
    NoChunk { offset: u64, count: u64 },
    #[error("{length} bytes at offset {offset} cannot be read: {why}")]
    Unreadable {
        offset: u64,
        length: u64,
        why: String,
    },
}

/// Scans a segment of which `length` bytes are there.
pub fn scan(header: &FileHeader, length: u64, read: &mut ReadAt<'_>) -> Scanned {
    let segment = header.length.min(u32::MAX.into());
    let length = length.min(segment);
    let mut scanned = Scan {
        salt: header.salt,
        segment,
        length,
        read,
        left: frame::search_budget(length),
        scanned: Scanned::default(),
    }
    .run();
    if length < segment {
        scanned.damage.push(Damage::Unreadable {
            offset: length,
            length: segment - length,
            why: "the file ends before".to_owned(),
        });
    }
    scanned
}

struct Scan<'a, 'b> {
    salt: u64,
    /// Bytes that it has.
    segment: u64,
    /// Bytes that are there.
    length: u64,
    read: &'a mut ReadAt<'b>,
    /// Bytes that may be summed where no chunk is.
    left: u64,
    scanned: Scanned,
}

impl Scan<'_, '_> {
    fn run(mut self) -> Scanned {
        let mut at = PAGE as u64;
        while at + HEADER as u64 <= self.length {
            let header = self.bytes(at, HEADER as u64);
            at = match ChunkHeader::decode(&header, self.salt, at, self.segment) {
                Some(header) => self.chunk(at, header.length.into()),
                None => self.search(at),
            };
        }
        self.scanned
    }

    /// Takes a chunk, and returns where it ends.
    fn chunk(&mut self, at: u64, length: u64) -> u64 {
        let bytes = self.bytes(at, length.min(self.length - at));
        let Some(chunk) = ReadChunk::new(&bytes, self.salt, at, self.segment) else {
            // It could be read the first time, and not the second.
            return at + ALIGN as u64;
        };
        let empty = |position| ChunkUse {
            offset: at as u32,
            slot: chunk.header.slot,
            position,
            count: 0,
            bytes: HEADER as u32,
            newest: i64::MIN,
            begun: chunk.header.begun,
        };
        let mut used = empty(chunk.header.position);
        for piece in chunk.pieces() {
            match piece {
                Piece::Records(records) => {
                    used.count += records.count;
                    used.bytes = records.end as u32;
                    used.newest = used.newest.max(records.newest);
                    if let Some(source) = records.source {
                        let Source { source, position } = source;
                        let known = self.scanned.accepted.entry((used.slot, source));
                        let highest = known.or_insert(position);
                        *highest = position.max(*highest);
                    }
                }
                Piece::Gap {
                    offset,
                    position,
                    count,
                } => {
                    self.scanned.damage.push(Damage::Records {
                        offset,
                        slot: used.slot,
                        position,
                        count,
                    });
                    let behind = empty(position + u64::from(count));
                    let before = std::mem::replace(&mut used, behind);
                    self.scanned
                        .chunks
                        .extend((before.count > 0).then_some(before));
                }
            }
        }
        self.scanned.chunks.push(used);
        at + length
    }

    /// Looks for the next chunk, and for frames that are in none. Returns where to go on.
    fn search(&mut self, from: u64) -> u64 {
        let length = (WINDOW + HEADER as u64).min(self.length - from);
        let window = self.bytes(from, length);
        let mut at = 0;
        while at < WINDOW && at + HEADER as u64 <= length {
            let rest = &window[at as usize..];
            if at > 0 && at.is_multiple_of(ALIGN as u64) {
                let chunk = ChunkHeader::decode(rest, self.salt, from + at, self.segment);
                if chunk.is_some() {
                    return from + at;
                }
            }
            at += match Claim::read(rest, self.salt) {
                Some(claim) => self.stray(claim, rest, from + at),
                None => frame::ALIGN as u64,
            };
        }
        // The end of a window is a multiple of where chunks begin, unless a frame went beyond.
        (from + at).next_multiple_of(ALIGN as u64)
    }

    /// Looks at what may be a frame in no chunk. Returns how far to go on.
    fn stray(&mut self, claim: Claim, rest: &[u8], at: u64) -> u64 {
        let next = frame::ALIGN as u64;
        let length = claim.length as u64;
        if at + length > self.length {
            return next;
        }
        let Some(left) = self.left.checked_sub(length) else {
            return next;
        };
        self.left = left;
        let beyond;
        let bytes = match rest.get(..claim.length) {
            Some(bytes) => bytes,
            None => {
                beyond = self.bytes(at, length);
                &beyond
            }
        };
        let Some(frame) = claim.check(bytes, self.salt, at) else {
            return next;
        };
        let found = u64::from(frame.info.count);
        match self.scanned.damage.last_mut() {
            Some(Damage::NoChunk { count, .. }) => *count += found,
            _ => self.scanned.damage.push(Damage::NoChunk {
                offset: at,
                count: found,
            }),
        }
        frame.len() as u64
    }

    /// Bytes of the segment. What cannot be read is 0, and damage.
    fn bytes(&mut self, at: u64, length: u64) -> Vec<u8> {
        let mut bytes = vec![0; length as usize];
        if (self.read)(at, &mut bytes).is_ok() {
            return bytes;
        }
        let mut rest = &mut bytes[..];
        let mut offset = at;
        while !rest.is_empty() {
            let left = SECTOR - (offset % SECTOR as u64) as usize;
            let (sector, behind) = rest.split_at_mut(left.min(rest.len()));
            let length = sector.len() as u64;
            if let Err(error) = (self.read)(offset, sector) {
                sector.fill(0);
                unreadable(&mut self.scanned.damage, offset, length, error);
            }
            offset += length;
            rest = behind;
        }
        bytes
    }
}

/// Tells once of bytes in a row, or of those that were told already.
fn unreadable(damage: &mut Vec<Damage>, offset: u64, length: u64, error: io::Error) {
    if let Some(Damage::Unreadable {
        offset: from,
        length: known,
        ..
    }) = damage.last_mut()
        && (*from..=*from + *known).contains(&offset)
    {
        *known = (*known).max(offset + length - *from);
        return;
    }
    damage.push(Damage::Unreadable {
        offset,
        length,
        why: error.to_string(),
    });
}

#[cfg(test)]
mod tests;
