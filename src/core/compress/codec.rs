//! What all codecs share: the trait, the error, and decompression up to a limit.

#[cfg(any(feature = "gzip", feature = "lz4", feature = "zstd"))]
use std::io::Read;
use std::ops::RangeInclusive;

/// Why compressing or decompressing failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CompressError {
    /// The codec is known but was left out of this build.
    #[error("{codec} is not built in: enable forebay's cargo feature `{feature}`")]
    NotBuilt {
        /// The codec's name in `compression.type`.
        codec: &'static str,
        /// The cargo feature that builds it in.
        feature: &'static str,
    },
    /// The codec does not have this level.
    #[error(
        "{codec} has no level {level}: it takes {} to {}",
        range.start(),
        range.end()
    )]
    Level {
        /// The codec's name.
        codec: &'static str,
        /// The level asked for.
        level: i32,
        /// The levels the codec has. gzip also takes -1.
        range: RangeInclusive<i32>,
    },
    /// A batch's attributes name a codec that Kafka does not have.
    #[error("{bits} names no codec")]
    UnknownCodec {
        /// The low three bits of the attributes.
        bits: i16,
    },
    /// The compressed bytes contain more than the caller's limit.
    #[error("more than {limit} bytes come out")]
    TooLarge {
        /// The limit given.
        limit: usize,
    },
    /// The compressed bytes are not valid for the codec.
    #[error("not valid {codec}: {reason}")]
    Corrupt {
        /// The codec's name.
        codec: &'static str,
        /// What is wrong with them.
        reason: String,
    },
    /// The codec's library refused to compress.
    #[error("{codec} failed: {reason}")]
    Failed {
        /// The codec's name.
        codec: &'static str,
        /// What the library said.
        reason: String,
    },
}

/// One codec's state between batches.
pub(super) trait Encode: Send {
    /// Writes the compressed form of `input` to the front of `out`, which may grow, and returns its
    /// length. The bytes after that are left over from earlier batches. `out` never shrinks, so its
    /// memory is zeroed only once.
    fn encode(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, CompressError>;
}

pub(super) fn grow(out: &mut Vec<u8>, len: usize) {
    if out.len() < len {
        out.resize(len, 0);
    }
}

/// Reads `reader` to its end. More than `limit` bytes are an error.
#[cfg(any(feature = "gzip", feature = "lz4", feature = "zstd"))]
pub(super) fn read_bounded(
    codec: &'static str,
    reader: &mut impl Read,
    limit: usize,
) -> Result<Vec<u8>, CompressError> {
    let mut out = Vec::new();
    let result = reader
        .take((limit as u64).saturating_add(1))
        .read_to_end(&mut out);
    // If the limit was exceeded before the reader failed, that is the more useful error.
    if out.len() > limit {
        return Err(CompressError::TooLarge { limit });
    }
    match result {
        Ok(_) => Ok(out),
        Err(error) => Err(corrupt(codec, error)),
    }
}

#[allow(dead_code, reason = "unused if no codec is built in")]
pub(super) fn corrupt(codec: &'static str, reason: impl ToString) -> CompressError {
    let reason = reason.to_string();
    CompressError::Corrupt { codec, reason }
}

#[allow(dead_code, reason = "unused if no codec is built in")]
pub(super) fn failed(codec: &'static str, reason: impl ToString) -> CompressError {
    let reason = reason.to_string();
    CompressError::Failed { codec, reason }
}
