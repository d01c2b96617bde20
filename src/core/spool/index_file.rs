//! The index of a closed segment: what is in it, without reading it.

use super::chunk::ChunkUse;
use super::file_header::{FileHeader, HeaderError, Kind, LEN};
use super::frame::{Source, number};

/// Bytes of the two counts behind the header.
const COUNTS: usize = 8;
const CHUNK: usize = 40;
const SOURCE: usize = 12;
const CRC: usize = 4;

/// What a closed segment holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// The segment's number.
    pub number: u64,
    /// The segment's salt. An index with another one is of a former use of that number.
    pub salt: u64,
    pub chunks: Vec<ChunkUse>,
    /// The highest position of each source in it.
    pub accepted: Vec<Source>,
}

/// Why an index is not used. The segment has to be scanned instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    #[error(transparent)]
    Header(#[from] HeaderError),
    #[error("it is damaged")]
    Broken,
}

impl Index {
    pub fn encode(&self) -> Vec<u8> {
        let length = LEN + COUNTS + self.chunks.len() * CHUNK + self.accepted.len() * SOURCE + CRC;
        let header = FileHeader {
            number: self.number,
            salt: self.salt,
            length: length as u64,
        };
        let mut bytes = Vec::with_capacity(length);
        bytes.extend_from_slice(&header.encode(Kind::Index));
        bytes.extend_from_slice(&(self.chunks.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&(self.accepted.len() as u32).to_le_bytes());
        for chunk in &self.chunks {
            bytes.extend_from_slice(&chunk.offset.to_le_bytes());
            bytes.extend_from_slice(&chunk.slot.to_le_bytes());
            bytes.extend_from_slice(&chunk.position.to_le_bytes());
            bytes.extend_from_slice(&chunk.count.to_le_bytes());
            bytes.extend_from_slice(&chunk.bytes.to_le_bytes());
            bytes.extend_from_slice(&chunk.newest.to_le_bytes());
            bytes.extend_from_slice(&chunk.begun.to_le_bytes());
        }
        for source in &self.accepted {
            bytes.extend_from_slice(&source.source.to_le_bytes());
            bytes.extend_from_slice(&source.position.to_le_bytes());
        }
        let sum = crc_fast::crc32_iscsi(&bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// Reads the index of the segment with this number. What is behind its end is passed over.
    pub fn decode(number: u64, bytes: &[u8]) -> Result<Self, IndexError> {
        let header = FileHeader::decode(Kind::Index, number, bytes)?;
        read(&header, bytes).ok_or(IndexError::Broken)
    }
}

fn read(header: &FileHeader, bytes: &[u8]) -> Option<Index> {
    let bytes = bytes.get(..usize::try_from(header.length).ok()?)?;
    let (bytes, sum) = bytes.split_last_chunk::<CRC>()?;
    if crc_fast::crc32_iscsi(bytes) != u32::from_le_bytes(*sum) {
        return None;
    }
    let chunks = u32::from_le_bytes(number(bytes, LEN)?) as usize;
    let accepted = u32::from_le_bytes(number(bytes, LEN + 4)?) as usize;
    let rest = bytes.get(LEN + COUNTS..)?;
    if rest.len()
        != chunks
            .checked_mul(CHUNK)?
            .checked_add(accepted.checked_mul(SOURCE)?)?
    {
        return None;
    }
    let (chunks, accepted) = rest.split_at(chunks * CHUNK);
    Some(Index {
        number: header.number,
        salt: header.salt,
        chunks: chunks
            .chunks_exact(CHUNK)
            .map(chunk)
            .collect::<Option<_>>()?,
        accepted: accepted
            .chunks_exact(SOURCE)
            .map(source)
            .collect::<Option<_>>()?,
    })
}

fn chunk(bytes: &[u8]) -> Option<ChunkUse> {
    let used = ChunkUse {
        offset: u32::from_le_bytes(number(bytes, 0)?),
        slot: u32::from_le_bytes(number(bytes, 4)?),
        position: u64::from_le_bytes(number(bytes, 8)?),
        count: u32::from_le_bytes(number(bytes, 16)?),
        bytes: u32::from_le_bytes(number(bytes, 20)?),
        newest: i64::from_le_bytes(number(bytes, 24)?),
        begun: i64::from_le_bytes(number(bytes, 32)?),
    };
    used.is_possible().then_some(used)
}

fn source(bytes: &[u8]) -> Option<Source> {
    Some(Source {
        source: u32::from_le_bytes(number(bytes, 0)?),
        position: u64::from_le_bytes(number(bytes, 4)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> Index {
        let chunk = |offset, position, count| ChunkUse {
            offset,
            slot: 3,
            position,
            count,
            bytes: 200,
            newest: -1,
            begun: 1 << 40,
        };
        Index {
            number: 9,
            salt: 5,
            chunks: vec![chunk(4096, 0, 10), chunk(4352, 10, 0)],
            accepted: vec![Source {
                source: 1,
                position: u64::MAX,
            }],
        }
    }

    #[test]
    fn an_index_is_read_as_it_was_written_and_with_what_is_behind() {
        let mut bytes = index().encode();
        assert_eq!(Index::decode(9, &bytes), Ok(index()));
        bytes.extend([7; 100]);
        assert_eq!(Index::decode(9, &bytes), Ok(index()));
        let other = HeaderError::OtherNumber { number: 9 };
        assert_eq!(Index::decode(8, &bytes), Err(other.into()));
    }

    #[test]
    fn an_index_that_is_hurt_anywhere_is_not_used() {
        let bytes = index().encode();
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Index::decode(9, &bytes).is_err(), "bit {bit}");
        }
        for end in 0..bytes.len() {
            assert!(Index::decode(9, &bytes[..end]).is_err(), "{end} bytes");
        }
    }

    #[test]
    fn positions_that_would_overflow_are_damage() {
        let mut index = index();
        index.chunks[0].position = u64::MAX;
        assert_eq!(Index::decode(9, &index.encode()), Err(IndexError::Broken));
    }
}
