//! gzip: one member per batch, with the same plain header that Java's `GZIPOutputStream` writes.

use flate2::bufread::MultiGzDecoder;
use flate2::{Compress, FlushCompress, Status};

use super::codec::{CompressError, Encode, corrupt, failed, grow, read_bounded};

const CODEC: &str = "gzip";
/// The size of the window as a power of two in bytes: the largest, which Java's `Deflater` uses
/// too.
const WINDOW_BITS: u8 = 15;
/// The level that -1 stands for.
const DEFAULT_LEVEL: u32 = 6;

pub(super) struct Encoder(Compress);

impl Encoder {
    pub(super) fn new(level: i32) -> Self {
        let level = u32::try_from(level).unwrap_or(DEFAULT_LEVEL);
        Self(Compress::new_gzip(
            flate2::Compression::new(level),
            WINDOW_BITS,
        ))
    }
}

impl Encode for Encoder {
    fn encode(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, CompressError> {
        let deflate = &mut self.0;
        deflate.reset();
        // Enough for the fastest level, which writes 9 bits for each byte without a match.
        grow(out, input.len() + input.len() / 8 + 64);
        loop {
            let (read, written) = (deflate.total_in() as usize, deflate.total_out() as usize);
            let status = deflate
                .compress(&input[read..], &mut out[written..], FlushCompress::Finish)
                .map_err(|error| failed(CODEC, error))?;
            match status {
                Status::StreamEnd => return Ok(deflate.total_out() as usize),
                Status::Ok | Status::BufError => grow(out, out.len() * 2),
            }
        }
    }
}

/// Several members in a row are one stream, as in Java's `GZIPInputStream`.
pub(super) fn decode(input: &[u8], limit: usize) -> Result<Vec<u8>, CompressError> {
    if input.is_empty() {
        return Err(corrupt(CODEC, "nothing there"));
    }
    read_bounded(CODEC, &mut MultiGzDecoder::new(input), limit)
}
