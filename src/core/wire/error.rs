//! What can be wrong with received bytes, or with a request to be encoded.

use super::Api;

/// What was found, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    #[error("the {message} ends early: {needed} bytes are due at byte {at}, {left} are left")]
    Truncated {
        message: &'static str,
        at: usize,
        needed: usize,
        left: usize,
    },

    #[error("the {message} claims a length of {length} at byte {at}")]
    NegativeLength {
        message: &'static str,
        at: usize,
        length: i64,
    },

    #[error(
        "the {message} claims {count} elements of at least {least} bytes at byte {at}, \
         {left} bytes are left"
    )]
    Count {
        message: &'static str,
        at: usize,
        count: usize,
        least: usize,
        left: usize,
    },

    #[error("the {message} gives the offset {offset}, which no batch can have")]
    Offset { message: &'static str, offset: i64 },

    #[error("the {message} has null at byte {at}, where null is not allowed")]
    Null { message: &'static str, at: usize },

    #[error("the {message} has a varint of more than 32 bits at byte {at}")]
    VarInt { message: &'static str, at: usize },

    #[error("the {message} does not tell of every batch, and {left} bytes are left over")]
    LeftOver { message: &'static str, left: usize },

    #[error("the {message} does not tell of what was asked for")]
    Unanswered { message: &'static str },

    #[error(
        "no common version of {api}: the broker speaks {}, this producer {ours_min} to {ours_max}",
        theirs.map_or_else(|| "none".to_owned(), |(min, max)| format!("{min} to {max}"))
    )]
    NoCommonVersion {
        api: Api,
        theirs: Option<(i16, i16)>,
        ours_min: i16,
        ours_max: i16,
    },

    #[error("the broker's list of versions is empty")]
    NoVersions,

    #[error("the broker refused the {api} request with error code {code}")]
    Refused { api: Api, code: i16 },

    #[error("version {version} of {api} is not spoken here")]
    UnknownVersion { api: Api, version: i16 },

    #[error("{what} of {length} bytes does not fit the request, which takes {most}")]
    TooLong {
        what: &'static str,
        length: usize,
        most: usize,
    },

    #[error("the {api} request cannot be encoded: {reason}")]
    Encode { api: Api, reason: String },
}
