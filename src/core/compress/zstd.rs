//! zstd: one frame per batch, compressed in one call. The frame contains its content size. Java's
//! stream omits it, and Java's reader accepts it.

use zstd::bulk::Compressor;
use zstd::stream::read::Decoder;

use super::codec::{CompressError, Encode, corrupt, failed, grow, read_bounded};

const CODEC: &str = "zstd";

/// The context keeps its tables between batches. It sizes them by the level and the input.
pub(super) struct Encoder(Compressor<'static>);

impl Encoder {
    pub(super) fn new(level: i32) -> Result<Self, CompressError> {
        Compressor::new(level)
            .map(Self)
            .map_err(|error| failed(CODEC, error))
    }
}

impl Encode for Encoder {
    fn encode(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, CompressError> {
        grow(out, zstd::zstd_safe::compress_bound(input.len()));
        self.0
            .compress_to_buffer(input, out.as_mut_slice())
            .map_err(|error| failed(CODEC, error))
    }
}

pub(super) fn decode(input: &[u8], limit: usize) -> Result<Vec<u8>, CompressError> {
    if input.is_empty() {
        return Err(corrupt(CODEC, "nothing there"));
    }
    let mut decoder = Decoder::with_buffer(input).map_err(|error| corrupt(CODEC, error))?;
    read_bounded(CODEC, &mut decoder, limit)
}
