//! Whose confirmation makes a record acked.

use std::fmt;

use serde::Deserialize;

/// `acks`: whose confirmation makes a record acked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize)]
#[non_exhaustive]
pub enum Acks {
    /// `0`: nobody's. The broker does not answer, so no record's fate is ever known.
    #[serde(rename = "0")]
    None,
    /// `1`: the leader's. A record is lost if the leader fails before a follower copied it.
    #[serde(rename = "1")]
    Leader,
    /// `all` (or `-1`): that of every replica in sync. The default, and what idempotence needs.
    #[default]
    #[serde(rename = "all", alias = "-1")]
    All,
}

impl fmt::Display for Acks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "0",
            Self::Leader => "1",
            Self::All => "all",
        })
    }
}
