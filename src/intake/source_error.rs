//! Why a source is not lent, or takes no record.

use std::sync::Arc;
use std::time::Duration;

use super::error::SendError;

/// Why a [`Source`](crate::Source) was not given, or did not accept a record.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The producer has no spool that could keep positions.
    #[error(
        "a source needs a spool that keeps its positions: set forebay.spool.dir, and not \
         forebay.spool.durability=spill"
    )]
    NoSpool,
    /// No source can have this name: it has 1 to 1,000 bytes.
    #[error("the name of a source has 1 to {limit} bytes, and this one has {length}")]
    #[non_exhaustive]
    IllegalName {
        /// How many bytes it has.
        length: usize,
        /// The most that it may have.
        limit: usize,
    },
    /// Somebody else in this producer has the source, and has not dropped it.
    #[error("the source {name:?} is in use: drop it where it is, or share that one")]
    #[non_exhaustive]
    InUse {
        /// The source's name.
        name: Arc<str>,
    },
    /// The position is not above all that were accepted of the source. Its record was not tried: either it is
    /// among them, or positions do not rise.
    #[error(
        "the position {position} does not follow {accepted}, up to which the source is accepted"
    )]
    #[non_exhaustive]
    NotRising {
        /// The position of the record.
        position: u64,
        /// The highest position that is accepted.
        accepted: u64,
    },
    /// Nobody knows whether the disk has the record at `position`: with `forebay.spool.durability=machine`
    /// nothing said so. It may be delivered. No later record is accepted before it is known: the next call
    /// waits for that first. If a sync has failed, only the next producer on the directory can tell.
    #[error("whether the source's position {position} is accepted is not known: {why}")]
    #[non_exhaustive]
    InDoubt {
        /// The position of a record that may be accepted, of this call or of an earlier one. What is behind
        /// it was not tried.
        position: u64,
        /// Why nobody knows.
        why: Arc<str>,
    },
    /// The spool did not answer within `max.block.ms`.
    #[error("the spool does not answer within {waited:?} (max.block.ms)")]
    #[non_exhaustive]
    Unanswered {
        /// How long was waited.
        waited: Duration,
    },
    /// The record was refused; it is certainly not accepted, and its position may be used again.
    #[error("{0}")]
    Refused(SendError),
}

impl From<SendError> for SourceError {
    fn from(refused: SendError) -> Self {
        Self::Refused(refused)
    }
}
