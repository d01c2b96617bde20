//! LZ4 frames as Kafka's `Lz4BlockOutputStream` writes them: independent blocks of 64 KiB, without
//! block checksums, content checksum and content size.
//!
//! The frame header is then always the same seven bytes. So only the blocks are compressed by the
//! library, which needs neither a copy of the input nor an allocation for that.

use lz4_flex::block::{CompressTable, compress_into_with_table, get_maximum_output_size};
use lz4_flex::frame::FrameDecoder;

use super::codec::{CompressError, Encode, corrupt, failed, grow, read_bounded};

const CODEC: &str = "lz4";
const MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
/// The magic, version 1 with independent blocks, blocks of 64 KiB, and the second byte of the
/// descriptor's xxHash32. The checksum is computed as the LZ4 specification says (KIP-57).
const HEADER: [u8; 7] = [0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82];
/// Bytes of the input in one block.
const BLOCK: usize = 64 * 1024;
/// Flag in a block's length: the block is stored uncompressed.
const STORED: u32 = 1 << 31;
const END_MARK: [u8; 4] = [0; 4];

pub(super) struct Encoder {
    small: CompressTable,
    large: CompressTable,
}

impl Encoder {
    pub(super) fn new() -> Self {
        Self {
            small: CompressTable::small(),
            large: CompressTable::large(),
        }
    }
}

impl Encode for Encoder {
    fn encode(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, CompressError> {
        grow(out, HEADER.len());
        out[..HEADER.len()].copy_from_slice(&HEADER);
        let mut end = HEADER.len();
        for block in input.chunks(BLOCK) {
            let start = end + 4;
            grow(out, start + get_maximum_output_size(block.len()));
            // The small table takes half the time to clear, but has 16-bit positions.
            let table = if block.len() < usize::from(u16::MAX) {
                &mut self.small
            } else {
                &mut self.large
            };
            let packed = compress_into_with_table(block, &mut out[start..], table)
                .map_err(|error| failed(CODEC, error))?;
            let (len, flag) = if packed < block.len() {
                (packed, 0)
            } else {
                out[start..start + block.len()].copy_from_slice(block);
                (block.len(), STORED)
            };
            out[end..start].copy_from_slice(&(len as u32 | flag).to_le_bytes());
            end = start + len;
        }
        grow(out, end + END_MARK.len());
        out[end..end + END_MARK.len()].copy_from_slice(&END_MARK);
        Ok(end + END_MARK.len())
    }
}

pub(super) fn decode(input: &[u8], limit: usize) -> Result<Vec<u8>, CompressError> {
    // The library accepts a frame that is cut off between two blocks.
    check_frame(input).map_err(|reason| corrupt(CODEC, reason))?;
    let mut decoder = FrameDecoder::new(input);
    let out = read_bounded(CODEC, &mut decoder, limit)?;
    // It also stops without an error at a block that decompresses to nothing.
    if !decoder.get_ref().is_empty() {
        return Err(corrupt(CODEC, "an empty block"));
    }
    Ok(out)
}

/// Checks by the lengths of the blocks that `input` is one complete frame of the kind Kafka allows.
fn check_frame(input: &[u8]) -> Result<(), &'static str> {
    const CUT_OFF: &str = "the frame is cut off";
    let header: &[u8; HEADER.len()] = input.first_chunk().ok_or(CUT_OFF)?;
    if !header.starts_with(&MAGIC) {
        return Err("no frame");
    }
    let flag = |bit: u8| header[4] & (1 << bit) != 0;
    if !flag(5) {
        return Err("linked blocks, which Kafka does not take");
    }
    if flag(0) {
        return Err("a dictionary, which Kafka does not take");
    }
    let content_size = if flag(3) { 8 } else { 0 };
    let block_checksum = if flag(4) { 4 } else { 0 };
    let content_checksum = if flag(2) { 4 } else { 0 };

    let mut rest = input.get(HEADER.len() + content_size..).ok_or(CUT_OFF)?;
    loop {
        let (word, after) = rest.split_first_chunk().ok_or(CUT_OFF)?;
        if *word == END_MARK {
            return match after.len().cmp(&content_checksum) {
                std::cmp::Ordering::Less => Err(CUT_OFF),
                std::cmp::Ordering::Equal => Ok(()),
                std::cmp::Ordering::Greater => Err("bytes after the frame"),
            };
        }
        let len = (u32::from_le_bytes(*word) & !STORED) as usize;
        rest = after
            .get(len.saturating_add(block_checksum)..)
            .ok_or(CUT_OFF)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_the_bytes_of_the_format() {
        let mut out = Vec::new();
        let mut encoder = Encoder::new();
        let len = encoder.encode(b"", &mut out).unwrap();
        assert_eq!(out[..len], *b"\x04\x22\x4d\x18\x60\x40\x82\0\0\0\0");
        // Three bytes cannot become smaller, so they are stored.
        let len = encoder.encode(b"abc", &mut out).unwrap();
        assert_eq!(
            out[..len],
            *b"\x04\x22\x4d\x18\x60\x40\x82\x03\0\0\x80abc\0\0\0\0"
        );
    }

    #[test]
    fn a_frame_cut_between_blocks_is_no_frame() {
        let mut out = Vec::new();
        let len = Encoder::new().encode(&[7; 200_000], &mut out).unwrap();
        for cut in 0..len {
            assert!(decode(&out[..cut], usize::MAX).is_err(), "cut at {cut}");
        }
        out.truncate(len);
        out.push(0);
        assert!(decode(&out, usize::MAX).is_err());
    }

    #[test]
    fn an_empty_block_does_not_end_the_frame_in_silence() {
        let frame = b"\x04\x22\x4d\x18\x60\x40\x82\0\0\0\x80\x03\0\0\x80abc\0\0\0\0";
        assert!(decode(frame, 10).is_err());
    }
}
