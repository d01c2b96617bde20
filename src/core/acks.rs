//! Whose confirmation makes a record acked.

use std::fmt;

use serde::Deserialize;

/// `acks`: whose confirmation makes a record acked. Default: [`Acks::All`].
///
/// ```
/// use forebay::config::{Acks, Config};
///
/// let config = Config::builder()
///     .bootstrap_servers("localhost:9092")
///     .acks(Acks::Leader)
///     .idempotence(false) // which needs the confirmation of all
///     .build()?;
/// assert_eq!(config.acks.to_string(), "1");
/// # Ok::<(), forebay::ConfigError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize)]
#[non_exhaustive]
pub enum Acks {
    /// `0`: nobody's. The broker does not answer, so no record's outcome is ever known:
    /// [`Reason::NotRequested`](crate::Reason::NotRequested).
    #[serde(rename = "0")]
    None,
    /// `1`: the leader's. An acked record is lost if the leader fails before a follower has copied it.
    #[serde(rename = "1")]
    Leader,
    /// `all` (or `-1`): that of every replica in sync. Idempotence needs it.
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
