//! What a certificate says of itself.

use std::time::Duration;

use serde::Serialize;

/// A certificate, as far as people want to know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Certificate {
    /// Whose it is, such as `CN=broker-1,O=Example`.
    pub subject: String,
    /// Who signed it.
    pub issuer: String,
    /// The hosts that it is for: names and addresses.
    pub hosts: Vec<String>,
    /// Its last second, as a time in UTC.
    pub until: String,
    /// The same, since 1970.
    #[serde(skip)]
    pub not_after: Duration,
}

const DAY: i64 = 86_400;

impl Certificate {
    /// Whole days until it expires; negative once it has. `now` is since 1970.
    #[cfg(any(test, feature = "cli"))]
    pub fn days_left(&self, now: Duration) -> i64 {
        days_left(self.not_after, now)
    }
}

/// Whole days from `now` until the end; negative once it has come. Both are since 1970.
pub(super) fn days_left(not_after: Duration, now: Duration) -> i64 {
    let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    let left = seconds(not_after).saturating_sub(seconds(now));
    left.div_euclid(DAY)
}
