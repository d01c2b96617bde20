//! zstd, one frame per batch, compressed in one go: the frame carries its
//! content size, which Java's stream leaves out and its reader takes.

use zstd::bulk::Compressor;
use zstd::stream::read::Decoder;

use super::codec::{CompressError, Encode, corrupt, failed, grow, read_bounded};

const CODEC: &str = "zstd";

/// The context sizes its tables by level and input, and keeps them.
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
