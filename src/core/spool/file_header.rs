//! What each file of the spool begins with.

use super::frame::number;

/// Bytes of the header.
pub const LEN: usize = 48;

/// Bytes before what a segment and a journal hold: a page.
pub const PAGE: usize = 4096;

/// Where the header stands again in that page.
const AGAIN_AT: usize = 2048;

/// The version of the format that is written here, and the newest that can be read.
pub const VERSION: u32 = 1;

const CRC_AT: usize = 44;

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Segment,
    Index,
    Journal,
}

impl Kind {
    fn magic(self) -> &'static [u8; 8] {
        match self {
            Self::Segment => b"FBYSPOOL",
            Self::Index => b"FBYINDEX",
            Self::Journal => b"FBYJOURN",
        }
    }
}

/// What the header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileHeader {
    /// The number in the file's name.
    pub number: u64,
    /// Part of each CRC: what a former use has left in the file does not check. An index has the one of
    /// its segment.
    pub salt: u64,
    /// Bytes of the file.
    pub length: u64,
}

/// Why a file is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    #[error("it does not begin as a file of the spool")]
    NotOurs,
    #[error("its header is damaged")]
    Broken,
    #[error("its header is that of number {number}: it was renamed or copied")]
    OtherNumber { number: u64 },
    #[error(
        "it has version {version} of the spool's format, and this version of forebay reads up to \
         {VERSION}; start the one that wrote it"
    )]
    Newer { version: u32 },
}

impl FileHeader {
    pub fn encode(&self, kind: Kind) -> [u8; LEN] {
        self.encode_version(kind, VERSION)
    }

    fn encode_version(&self, kind: Kind, version: u32) -> [u8; LEN] {
        let mut header = [0; LEN];
        header[..8].copy_from_slice(kind.magic());
        header[8..12].copy_from_slice(&version.to_le_bytes());
        header[16..24].copy_from_slice(&self.number.to_le_bytes());
        header[24..32].copy_from_slice(&self.salt.to_le_bytes());
        header[32..40].copy_from_slice(&self.length.to_le_bytes());
        let sum = crc_fast::crc32_iscsi(&header[..CRC_AT]);
        header[CRC_AT..].copy_from_slice(&sum.to_le_bytes());
        header
    }

    /// The first page of a segment or a journal. The header is there twice, so that damage to one leaves
    /// the other.
    pub fn page(&self, kind: Kind) -> [u8; PAGE] {
        let (header, mut page) = (self.encode(kind), [0; PAGE]);
        page[..LEN].copy_from_slice(&header);
        page[AGAIN_AT..AGAIN_AT + LEN].copy_from_slice(&header);
        page
    }

    /// Reads the header of the file whose name has this number.
    pub fn decode(kind: Kind, number: u64, bytes: &[u8]) -> Result<Self, HeaderError> {
        let read = decode(kind, bytes)?;
        match read.number == number {
            true => Ok(read),
            false => Err(HeaderError::OtherNumber {
                number: read.number,
            }),
        }
    }

    /// Reads a first page. The second header counts if the first one is damaged.
    pub fn decode_page(kind: Kind, number: u64, page: &[u8]) -> Result<Self, HeaderError> {
        let first = Self::decode(kind, number, page);
        match first {
            Ok(_) | Err(HeaderError::Newer { .. } | HeaderError::OtherNumber { .. }) => first,
            Err(_) => {
                let again = page.get(AGAIN_AT..).unwrap_or_default();
                Self::decode(kind, number, again).or(first)
            }
        }
    }
}

fn decode(kind: Kind, bytes: &[u8]) -> Result<FileHeader, HeaderError> {
    let Some(header) = bytes.first_chunk::<LEN>() else {
        return Err(HeaderError::NotOurs);
    };
    if !header.starts_with(kind.magic()) {
        return Err(HeaderError::NotOurs);
    }
    // Every version has these bytes and this CRC, so that a flipped bit is no newer version.
    let sum = crc_fast::crc32_iscsi(&header[..CRC_AT]);
    if number(header, CRC_AT).map(u32::from_le_bytes) != Some(sum) {
        return Err(HeaderError::Broken);
    }
    let read = |at| number(header, at).map_or(0, u64::from_le_bytes);
    let version = number(header, 8).map_or(0, u32::from_le_bytes);
    match version {
        VERSION => Ok(FileHeader {
            number: read(16),
            salt: read(24),
            length: read(32),
        }),
        version => Err(HeaderError::Newer { version }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: FileHeader = FileHeader {
        number: 7,
        salt: 0x1234,
        length: 1 << 26,
    };

    #[test]
    fn any_bit_may_flip_and_the_page_is_read() {
        let page = HEADER.page(Kind::Segment);
        for bit in 0..PAGE * 8 {
            let mut page = page;
            page[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(FileHeader::decode_page(Kind::Segment, 7, &page), Ok(HEADER));
        }
    }

    #[test]
    fn a_header_that_is_hurt_is_none_and_no_newer_one() {
        let header = HEADER.encode(Kind::Index);
        assert_eq!(FileHeader::decode(Kind::Index, 7, &header), Ok(HEADER));
        for bit in 0..LEN * 8 {
            let mut header = header;
            header[bit / 8] ^= 1 << (bit % 8);
            let read = FileHeader::decode(Kind::Index, 7, &header);
            let expected = match bit < 64 {
                true => HeaderError::NotOurs,
                false => HeaderError::Broken,
            };
            assert_eq!(read, Err(expected), "bit {bit}");
        }
        for end in 0..LEN {
            let read = FileHeader::decode(Kind::Index, 7, &header[..end]);
            assert_eq!(read, Err(HeaderError::NotOurs));
        }
    }

    #[test]
    fn others_are_told_by_their_words() {
        let page = HEADER.page(Kind::Segment);
        let other = FileHeader::decode_page(Kind::Segment, 8, &page);
        assert_eq!(other, Err(HeaderError::OtherNumber { number: 7 }));
        let journal = FileHeader::decode_page(Kind::Journal, 7, &page);
        assert_eq!(journal, Err(HeaderError::NotOurs));
        let newer = HEADER.encode_version(Kind::Segment, 2);
        let newer = FileHeader::decode_page(Kind::Segment, 7, &newer);
        assert_eq!(newer, Err(HeaderError::Newer { version: 2 }));
    }
}
