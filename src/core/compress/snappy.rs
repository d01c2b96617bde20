//! Snappy as snappy-java's `SnappyOutputStream` writes it ("xerial"): a header of 16 bytes, then
//! chunks of a length (4 bytes, big endian) and a raw block. This is neither snappy's own framing
//! format nor a single raw block.

use snap::raw;

use super::codec::{CompressError, Encode, corrupt, failed, grow};

const CODEC: &str = "snappy";
const MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
/// The magic, the version, and the oldest version that can read it. Both versions are 1.
const HEADER: [u8; 16] = {
    let [a, b, c, d, e, f, g, h] = MAGIC;
    [a, b, c, d, e, f, g, h, 0, 0, 0, 1, 0, 0, 0, 1]
};
/// Bytes of the input in one chunk.
const CHUNK: usize = 32 * 1024;
/// The largest possible ratio of decompressed to compressed bytes: the densest element of the
/// format encodes 64 bytes in 3.
const MAX_RATIO: usize = 64 / 3 + 1;

pub(super) struct Encoder(raw::Encoder);

impl Encoder {
    pub(super) fn new() -> Self {
        Self(raw::Encoder::new())
    }
}

impl Encode for Encoder {
    fn encode(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, CompressError> {
        grow(out, HEADER.len());
        out[..HEADER.len()].copy_from_slice(&HEADER);
        let mut end = HEADER.len();
        for chunk in input.chunks(CHUNK) {
            let block = end + 4;
            grow(out, block + raw::max_compress_len(chunk.len()));
            let len = self
                .0
                .compress(chunk, &mut out[block..])
                .map_err(|error| failed(CODEC, error))?;
            out[end..block].copy_from_slice(&(len as u32).to_be_bytes());
            end = block + len;
        }
        Ok(end)
    }
}

/// Without the header, the input is read as one raw block. Other clients write that, and
/// snappy-java reads it.
pub(super) fn decode(input: &[u8], limit: usize) -> Result<Vec<u8>, CompressError> {
    let mut out = Vec::new();
    if !input.starts_with(&MAGIC) {
        decode_block(input, limit, &mut out)?;
        return Ok(out);
    }
    let mut rest = input;
    while !rest.is_empty() {
        // A header between chunks is legal: one stream may follow another.
        if rest.starts_with(&MAGIC) {
            rest = after_header(rest)?;
            continue;
        }
        let Some((len, after)) = rest.split_first_chunk() else {
            return Err(corrupt(CODEC, "a chunk's length is cut off"));
        };
        let len = u32::from_be_bytes(*len) as usize;
        let Some((block, after)) = after.split_at_checked(len) else {
            return Err(corrupt(CODEC, "a chunk is cut off"));
        };
        decode_block(block, limit, &mut out)?;
        rest = after;
    }
    Ok(out)
}

fn after_header(input: &[u8]) -> Result<&[u8], CompressError> {
    let Some((header, after)) = input.split_first_chunk::<{ HEADER.len() }>() else {
        return Err(corrupt(CODEC, "the header is cut off"));
    };
    if header[8..12] == [0; 4] {
        return Err(corrupt(CODEC, "version 0"));
    }
    Ok(after)
}

fn decode_block(block: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), CompressError> {
    let len = raw::decompress_len(block).map_err(|error| corrupt(CODEC, error))?;
    if len > limit - out.len() {
        return Err(CompressError::TooLarge { limit });
    }
    // The length is only what the block claims. A claim beyond the largest ratio is false, and must
    // not lead to an allocation of that size.
    if len > block.len().saturating_mul(MAX_RATIO) {
        return Err(corrupt(CODEC, "a block claims more than it can hold"));
    }
    let start = out.len();
    out.resize(start + len, 0);
    raw::Decoder::new()
        .decompress(block, &mut out[start..])
        .map_err(|error| corrupt(CODEC, error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(input: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let len = Encoder::new().encode(input, &mut out).unwrap();
        out.truncate(len);
        out
    }

    #[test]
    fn writes_the_bytes_of_the_format() {
        // Computed by hand: the block is its length (3), then a literal of three bytes with the tag
        // (3 - 1) << 2.
        let mut expected = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
        assert_eq!(encode(b""), expected);
        expected.extend_from_slice(b"\0\0\0\x05\x03\x08abc");
        assert_eq!(encode(b"abc"), expected);
    }

    #[test]
    fn cuts_the_input_every_32_kib() {
        let mut input = vec![b'x'; CHUNK];
        input.push(b'y');
        let out = encode(&input);
        let first = u32::from_be_bytes(out[16..20].try_into().unwrap()) as usize;
        assert_eq!(out[20..23], [0x80, 0x80, 0x02]); // 32768 as a varint
        assert_eq!(out[20 + first..], *b"\0\0\0\x03\x01\0y");
        assert_eq!(decode(&out, CHUNK + 1).unwrap(), input);
    }

    #[test]
    fn reads_streams_that_follow_each_other() {
        let mut twice = encode(b"abc");
        twice.extend(encode(b"def"));
        assert_eq!(decode(&twice, 6).unwrap(), b"abcdef");
    }

    #[test]
    fn reads_one_raw_block_without_a_header() {
        assert_eq!(decode(b"\x03\x08abc", 3).unwrap(), b"abc");
    }

    #[test]
    fn believes_no_length_that_the_block_cannot_keep() {
        let claim = b"\xff\xff\xff\x7f\x08abc"; // 256 MiB in 8 bytes
        assert!(matches!(
            decode(claim, usize::MAX),
            Err(CompressError::Corrupt { .. })
        ));
    }
}
