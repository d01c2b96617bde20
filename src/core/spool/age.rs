//! What time it is, for the age of records.

use std::time::Instant;

/// Tells the time by two clocks, so that no record is taken for older than it is.
#[derive(Debug, Clone, Copy)]
pub struct AgeClock {
    started: Instant,
    /// Milliseconds since 1970.
    started_at: i64,
}

impl AgeClock {
    /// `wall`: milliseconds since 1970.
    pub fn new(now: Instant, wall: i64) -> Self {
        Self {
            started: now,
            started_at: wall,
        }
    }

    /// Milliseconds since 1970, by what has passed since the start. A clock that is set makes nothing old
    /// while the process lives. While the machine sleeps this stands still.
    pub fn passed(&self, now: Instant) -> i64 {
        let since = now.saturating_duration_since(self.started).as_millis();
        let since = i64::try_from(since).unwrap_or(i64::MAX);
        self.started_at.saturating_add(since)
    }

    /// Milliseconds since 1970, for what is accepted now: not before it is. The next process goes by that,
    /// and knows nothing of how long the machine has slept.
    pub fn accepts(&self, now: Instant, wall: i64) -> i64 {
        self.passed(now).max(wall)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_accepted_behind_a_sleep_is_no_older_for_it() {
        let start = Instant::now();
        let clock = AgeClock::new(start, 1000);
        let now = start + Duration::from_millis(50);
        assert_eq!((clock.passed(now), clock.accepts(now, 1050)), (1050, 1050));
        // The machine has slept.
        assert_eq!((clock.passed(now), clock.accepts(now, 9000)), (1050, 9000));
        // The clock was set back.
        assert_eq!((clock.passed(now), clock.accepts(now, 10)), (1050, 1050));
    }
}
