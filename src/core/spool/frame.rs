//! Frames: the records of one append, with what is needed to know them again. See `docs/spool-format.md`.

use std::ops::Range;

/// Bytes of a frame before what its flags add.
pub const HEADER: usize = 16;

/// Bytes of the longest head: the header, and all that flags can add to it.
pub const LONGEST_HEAD: usize = HEADER + BEGINS_LEN + SOURCE_LEN;

/// Frames begin at multiples of this many bytes.
pub const ALIGN: usize = 4;

/// A batch begins with the first record.
const BEGINS: u8 = 1;
/// The records are of a source.
const SOURCE: u8 = 2;

const BEGINS_LEN: usize = 8;
const SOURCE_LEN: usize = 12;

/// What the CRC covers before the header: the salt and the offset.
const PLACE: usize = 16;

/// Where the CRC is in the header.
const CRC_AT: usize = 12;

/// Where an application has a record from, such as a line of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// The number that the journal has for the source's name.
    pub source: u32,
    pub position: u64,
}

/// What a frame says beside its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameInfo {
    /// Records, at least 1.
    pub count: u16,
    /// Records of the chunk that come before.
    pub first: u32,
    /// The base timestamp of the batch that begins with the first record.
    pub begins: Option<i64>,
    pub source: Option<Source>,
}

impl FrameInfo {
    fn flags(&self) -> u8 {
        u8::from(self.begins.is_some()) * BEGINS + u8::from(self.source.is_some()) * SOURCE
    }

    /// Bytes before the records.
    pub fn head_len(&self) -> usize {
        head_len(self.flags())
    }

    /// What is written before `records`. `offset` is where the frame begins in its segment.
    #[inline]
    pub fn head(&self, records: &[u8], salt: u64, offset: u64) -> Head {
        let mut place = [0; PLACE + LONGEST_HEAD];
        let mut end = PLACE + HEADER;
        if let Some(timestamp) = self.begins {
            place[end..end + BEGINS_LEN].copy_from_slice(&timestamp.to_le_bytes());
            end += BEGINS_LEN;
        }
        if let Some(source) = self.source {
            place[end..end + 4].copy_from_slice(&source.source.to_le_bytes());
            place[end + 4..end + SOURCE_LEN].copy_from_slice(&source.position.to_le_bytes());
            end += SOURCE_LEN;
        }
        let length = (end - PLACE - HEADER + records.len()) as u32;
        // In two words each: what is stored in small pieces takes long to be read as one.
        let first = u128::from(salt) | u128::from(offset) << 64;
        let header = u128::from(length)
            | u128::from(self.count) << 32
            | u128::from(self.flags()) << 48
            | u128::from(mark(salt)) << 56
            | u128::from(self.first) << 64;
        place[..PLACE].copy_from_slice(&first.to_le_bytes());
        place[PLACE..PLACE + HEADER].copy_from_slice(&header.to_le_bytes());
        let sum = sum(&place[..end], records);
        let header = header | u128::from(sum) << (8 * CRC_AT);
        place[PLACE..PLACE + HEADER].copy_from_slice(&header.to_le_bytes());
        Head { place, end }
    }
}

/// What stands before the records of a frame.
#[derive(Debug, Clone, Copy)]
pub struct Head {
    /// With what the CRC covers before it.
    place: [u8; PLACE + LONGEST_HEAD],
    end: usize,
}

impl Head {
    pub fn bytes(&self) -> &[u8] {
        &self.place[PLACE..self.end]
    }
}

fn head_len(flags: u8) -> usize {
    let begins = usize::from(flags & BEGINS != 0) * BEGINS_LEN;
    HEADER + begins + usize::from(flags & SOURCE != 0) * SOURCE_LEN
}

/// The byte of the salt that each header repeats. It tells most of what is no frame without a CRC.
fn mark(salt: u64) -> u8 {
    salt as u8
}

/// The sum of a head and of what follows it. Turned, as the same damage at the end of both would cancel
/// itself.
pub(super) fn sum(head: &[u8], body: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(head).rotate_left(16) ^ crc_fast::crc32_iscsi(body)
}

/// Bytes that may be summed in a search through so many. Bytes that look like many frames, and are none,
/// would otherwise be summed again and again.
pub(super) fn search_budget(bytes: u64) -> u64 {
    (1 << 20) + 4 * bytes
}

/// What a header claims, before its CRC was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// Bytes of the head and of the records.
    pub length: usize,
    flags: u8,
    count: u16,
    pub first: u32,
}

impl Claim {
    /// What stands at the beginning of `bytes`, if that may be a header of a segment with this salt.
    pub fn read(bytes: &[u8], salt: u64) -> Option<Self> {
        let header = bytes.first_chunk::<HEADER>()?;
        let [l0, l1, l2, l3, c0, c1, flags, marked, f0, f1, f2, f3, ..] = *header;
        let after = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        let count = u16::from_le_bytes([c0, c1]);
        let first = u32::from_le_bytes([f0, f1, f2, f3]);
        let possible = marked == mark(salt)
            && flags <= BEGINS | SOURCE
            && count > 0
            && first.checked_add(count.into()).is_some()
            && after > head_len(flags) - HEADER;
        possible.then(|| Self {
            length: HEADER + after,
            flags,
            count,
            first,
        })
    }

    /// The frame, if its CRC is right. `bytes` begin where it does, and may be longer.
    pub fn check(self, bytes: &[u8], salt: u64, offset: u64) -> Option<Frame> {
        let (head, records) = bytes.get(..self.length)?.split_at(head_len(self.flags));
        let mut place = [0; PLACE + LONGEST_HEAD];
        place[..8].copy_from_slice(&salt.to_le_bytes());
        place[8..PLACE].copy_from_slice(&offset.to_le_bytes());
        place[PLACE..PLACE + head.len()].copy_from_slice(head);
        let stored = number(head, CRC_AT)?;
        place[PLACE + CRC_AT..PLACE + HEADER].fill(0);
        if sum(&place[..PLACE + head.len()], records) != u32::from_le_bytes(stored) {
            return None;
        }
        let mut at = HEADER;
        let mut begins = None;
        if self.flags & BEGINS != 0 {
            begins = Some(i64::from_le_bytes(number(head, at)?));
            at += BEGINS_LEN;
        }
        let mut source = None;
        if self.flags & SOURCE != 0 {
            source = Some(Source {
                source: u32::from_le_bytes(number(head, at)?),
                position: u64::from_le_bytes(number(head, at + 4)?),
            });
        }
        Some(Frame {
            info: FrameInfo {
                count: self.count,
                first: self.first,
                begins,
                source,
            },
            records: head.len()..self.length,
        })
    }
}

/// A frame whose CRC is right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub info: FrameInfo,
    /// Where its records are, from the beginning of the frame on.
    pub records: Range<usize>,
}

impl Frame {
    /// Bytes up to the next frame.
    pub fn len(&self) -> usize {
        self.records.end.next_multiple_of(ALIGN)
    }
}

/// The bytes of a number, if there are so many.
pub(super) fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALT: u64 = 0x1234_5678_9abc_def0;
    const RECORDS: &[u8] = b"twelve bytes";

    fn frame(begins: bool, source: bool) -> (FrameInfo, Vec<u8>) {
        let info = FrameInfo {
            count: 3,
            first: 17,
            begins: begins.then_some(-5),
            source: source.then_some(Source {
                source: 2,
                position: 1 << 40,
            }),
        };
        let head = info.head(RECORDS, SALT, 4096);
        assert_eq!(head.bytes().len(), info.head_len());
        let bytes = [head.bytes(), RECORDS].concat();
        (info, bytes)
    }

    fn read(bytes: &[u8], salt: u64, offset: u64) -> Option<Frame> {
        Claim::read(bytes, salt)?.check(bytes, salt, offset)
    }

    #[test]
    fn a_frame_is_read_as_it_was_written() {
        for (begins, source) in [(false, false), (true, false), (false, true), (true, true)] {
            let (info, bytes) = frame(begins, source);
            let read = read(&bytes, SALT, 4096).expect("a frame");
            assert_eq!(read.info, info);
            assert_eq!(&bytes[read.records.clone()], RECORDS);
            assert_eq!(read.len(), bytes.len().next_multiple_of(ALIGN));
        }
    }

    #[test]
    fn it_is_none_of_another_segment_or_place() {
        let (_, bytes) = frame(true, true);
        // With the same lowest byte: the CRC alone tells.
        assert_eq!(read(&bytes, SALT ^ 0x100, 4096), None);
        assert_eq!(read(&bytes, SALT ^ 1, 4096), None);
        assert_eq!(read(&bytes, SALT, 4100), None);
    }

    #[test]
    fn no_two_bits_of_head_and_records_can_flip_unseen() {
        let (_, bytes) = frame(true, false);
        let flip = |bits: &[usize]| {
            let mut bytes = bytes.clone();
            bits.iter().for_each(|bit| bytes[bit / 8] ^= 1 << (bit % 8));
            read(&bytes, SALT, 4096)
        };
        for one in 0..bytes.len() * 8 {
            assert_eq!(flip(&[one]), None, "bit {one}");
            for two in 0..one {
                assert_eq!(flip(&[one, two]), None, "bits {one} and {two}");
            }
        }
    }

    #[test]
    fn no_part_of_a_frame_is_one() {
        let (_, bytes) = frame(true, true);
        for end in 0..bytes.len() {
            assert_eq!(read(&bytes[..end], SALT, 4096), None, "{end} bytes");
        }
        assert_eq!(read(&[0; 64], 0, 4096), None, "nothing is no frame");
    }
}
