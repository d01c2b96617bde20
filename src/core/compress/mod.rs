//! Compresses and decompresses the records of a batch, in the framings that the Java client writes.
//!
//! A v2 batch compresses everything after its 61-byte header as one stream, and names the codec in
//! the lowest three bits of its attributes. Each codec has a cargo feature of its own name. A codec
//! that is not built in is refused with [`CompressError::NotBuilt`], never replaced by another.

mod codec;
#[cfg(feature = "gzip")]
mod gzip;
#[cfg(feature = "lz4")]
mod lz4;
#[cfg(feature = "snappy")]
mod snappy;
#[cfg(feature = "zstd")]
mod zstd;

#[cfg(test)]
mod tests;

use codec::{CompressError, Encode, grow};

/// The bits of a batch's attributes that name its codec.
const CODEC_MASK: i16 = 0b111;

/// What `compression.type` and the level keys choose. Default: [`Compression::None`].
///
/// ```
/// use forebay::Config;
/// use forebay::config::Compression;
///
/// let gzip = Compression::Gzip { level: 6 };
/// if gzip.is_built_in() {
///     let builder = Config::builder().bootstrap_servers("localhost:9092");
///     assert_eq!(builder.compression(gzip).build()?.compression, gzip);
/// }
/// # Ok::<(), forebay::ConfigError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Compression {
    /// No compression.
    #[default]
    None,
    /// `compression.gzip.level`: 1 to 9, or -1 for the codec's own default (6).
    Gzip {
        /// The level.
        level: i32,
    },
    /// Snappy has no levels.
    Snappy,
    /// `compression.lz4.level`: 1 to 17, as in Kafka. The encoder has only one speed, so **the
    /// level has no effect**: every level compresses about as well as Java's default (9, LZ4's fast
    /// mode).
    Lz4 {
        /// The level. It is checked and then ignored.
        level: i32,
    },
    /// `compression.zstd.level`: -131072 to 22. 0 means zstd's default (3).
    Zstd {
        /// The level.
        level: i32,
    },
}

impl Compression {
    /// The codec's number in a batch's attributes.
    pub(crate) fn attribute_bits(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Gzip { .. } => 1,
            Self::Snappy => 2,
            Self::Lz4 { .. } => 3,
            Self::Zstd { .. } => 4,
        }
    }

    /// The oldest version of Produce that carries it. Brokers that lack version 7 do not know zstd
    /// (KIP-110).
    pub(crate) fn oldest_produce(self) -> i16 {
        match self {
            Self::Zstd { .. } => 7,
            _ => 3,
        }
    }

    /// The name in `compression.type`. It is also the cargo feature, except for `none`.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip { .. } => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 { .. } => "lz4",
            Self::Zstd { .. } => "zstd",
        }
    }

    /// The codec of that name, at Kafka's default level.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "none" => Some(Self::None),
            "gzip" => Some(Self::Gzip { level: -1 }),
            "snappy" => Some(Self::Snappy),
            "lz4" => Some(Self::Lz4 { level: 9 }),
            "zstd" => Some(Self::Zstd { level: 3 }),
            _ => None,
        }
    }

    /// The same codec at another level. A codec without levels does not change.
    pub fn with_level(self, level: i32) -> Self {
        match self {
            Self::None | Self::Snappy => self,
            Self::Gzip { .. } => Self::Gzip { level },
            Self::Lz4 { .. } => Self::Lz4 { level },
            Self::Zstd { .. } => Self::Zstd { level },
        }
    }

    /// Whether this build of forebay has the codec.
    pub fn is_built_in(self) -> bool {
        match self {
            Self::None => true,
            Self::Gzip { .. } => cfg!(feature = "gzip"),
            Self::Snappy => cfg!(feature = "snappy"),
            Self::Lz4 { .. } => cfg!(feature = "lz4"),
            Self::Zstd { .. } => cfg!(feature = "zstd"),
        }
    }

    /// Whether this build can compress like this: the codec is built in, and Kafka has the level.
    /// It is called at start, so that a wrong choice is refused then and not at the first batch.
    pub(crate) fn check(self) -> Result<(), CompressError> {
        let (level, range) = match self {
            Self::None => return Ok(()),
            Self::Gzip { level: -1 } => (-1, -1..=-1),
            Self::Gzip { level } => (level, 1..=9),
            Self::Snappy => (0, 0..=0),
            Self::Lz4 { level } => (level, 1..=17),
            Self::Zstd { level } => (level, -131_072..=22),
        };
        let codec = self.name();
        if !self.is_built_in() {
            let feature = codec;
            return Err(CompressError::NotBuilt { codec, feature });
        }
        if !range.contains(&level) {
            return Err(CompressError::Level {
                codec,
                level,
                range,
            });
        }
        Ok(())
    }
}

struct Plain;

impl Encode for Plain {
    fn encode(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, CompressError> {
        grow(out, input.len());
        out[..input.len()].copy_from_slice(input);
        Ok(input.len())
    }
}

fn encoder(compression: Compression) -> Result<Box<dyn Encode>, CompressError> {
    compression.check()?;
    match compression {
        Compression::None => Ok(Box::new(Plain)),
        #[cfg(feature = "gzip")]
        Compression::Gzip { level } => Ok(Box::new(gzip::Encoder::new(level))),
        #[cfg(feature = "snappy")]
        Compression::Snappy => Ok(Box::new(snappy::Encoder::new())),
        #[cfg(feature = "lz4")]
        Compression::Lz4 { .. } => Ok(Box::new(lz4::Encoder::new())),
        #[cfg(feature = "zstd")]
        Compression::Zstd { level } => Ok(Box::new(zstd::Encoder::new(level)?)),
        #[allow(unreachable_patterns, reason = "every codec may be built in")]
        other => Err(not_built(other.name())),
    }
}

/// Compresses one batch after another. There is one per thread. It keeps the codec's context and
/// one output buffer, as large as the largest batch needed. Once both have grown, compressing
/// allocates nothing. Only zstd's own context may be sized again when batches become much larger or
/// smaller.
pub struct Compressor {
    compression: Compression,
    encoder: Option<Box<dyn Encode>>,
    out: Vec<u8>,
}

impl Compressor {
    /// Allocates nothing yet: the context is created with the first batch. A codec that is not
    /// built in is an error then. `Compression::check` reports it earlier.
    pub fn new(compression: Compression) -> Self {
        Self {
            compression,
            encoder: None,
            out: Vec::new(),
        }
    }

    /// The compressed form of `input`, valid until the next call. It may be
    /// longer than `input`. With [`Compression::None`] it is a copy.
    pub fn compress(&mut self, input: &[u8]) -> Result<&[u8], CompressError> {
        let encoder = match &mut self.encoder {
            Some(encoder) => encoder,
            none => none.insert(encoder(self.compression)?),
        };
        let len = encoder.encode(input, &mut self.out)?;
        Ok(&self.out[..len])
    }
}

impl std::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compressor")
            .field("compression", &self.compression)
            .field("scratch", &self.out.len())
            .finish_non_exhaustive()
    }
}

/// Decompresses the records of a batch. `bits` are the batch's attributes, of which the lowest
/// three name the codec.
///
/// The result is never longer than `limit` bytes: if the batch contains more, that is an error as
/// soon as it shows. The codec needs working memory besides. For LZ4 this is at most 8 MiB. For
/// zstd it is the window that the frame asks for, up to 128 MiB, of which untouched pages cost
/// nothing.
pub fn decompress(bits: i16, input: &[u8], limit: usize) -> Result<Vec<u8>, CompressError> {
    match bits & CODEC_MASK {
        0 if input.len() > limit => Err(CompressError::TooLarge { limit }),
        0 => Ok(input.to_vec()),
        #[cfg(feature = "gzip")]
        1 => gzip::decode(input, limit),
        #[cfg(not(feature = "gzip"))]
        1 => Err(not_built("gzip")),
        #[cfg(feature = "snappy")]
        2 => snappy::decode(input, limit),
        #[cfg(not(feature = "snappy"))]
        2 => Err(not_built("snappy")),
        #[cfg(feature = "lz4")]
        3 => lz4::decode(input, limit),
        #[cfg(not(feature = "lz4"))]
        3 => Err(not_built("lz4")),
        #[cfg(feature = "zstd")]
        4 => zstd::decode(input, limit),
        #[cfg(not(feature = "zstd"))]
        4 => Err(not_built("zstd")),
        bits => Err(CompressError::UnknownCodec { bits }),
    }
}

#[allow(dead_code, reason = "unused if every codec is built in")]
fn not_built(codec: &'static str) -> CompressError {
    let feature = codec;
    CompressError::NotBuilt { codec, feature }
}
