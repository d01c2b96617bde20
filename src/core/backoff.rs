//! The wait before a connection or a metadata request is tried again (KIP-580).
//!
//! A batch's wait is in `ledger/answers.rs`. It has no random source, so that a replay has the same
//! waits.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// The random part of a wait, as a share of it: 20 % more or less.
const JITTER: f64 = 0.2;

/// The wait doubles from `min` to `max`, with a jitter of 20 %. Without the jitter, clients that
/// failed together would all come back at the same moment.
#[derive(Debug, Clone)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    attempts: u32,
    random: SmallRng,
}

impl Backoff {
    pub fn new(min: Duration, max: Duration, seed: u64) -> Self {
        Self {
            min: min.min(max),
            max,
            attempts: 0,
            random: SmallRng::seed_from_u64(seed),
        }
    }

    /// Returns the wait after one more failure. It is never longer than `max`.
    pub fn next(&mut self) -> Duration {
        self.attempts = self.attempts.saturating_add(1);
        self.after(self.attempts, self.max)
    }

    /// Returns the wait after this many failures of something that has its own count. It is never
    /// longer than `longest`.
    pub fn after(&mut self, failures: u32, longest: Duration) -> Duration {
        let factor = 2u32.saturating_pow(failures.saturating_sub(1));
        let wait = self.min.saturating_mul(factor).min(longest);
        let jitter = self.random.random_range(1.0 - JITTER..=1.0 + JITTER);
        Duration::try_from_secs_f64(wait.as_secs_f64() * jitter).map_or(longest, |w| w.min(longest))
    }

    /// Call this after a success: the next wait is `min` again.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: Duration = Duration::from_millis(100);
    const MAX: Duration = Duration::from_secs(1);

    #[test]
    fn waits_double_with_jitter_up_to_the_longest() {
        for seed in 0..200 {
            let mut backoff = Backoff::new(MIN, MAX, seed);
            for expected in [0.1, 0.2, 0.4, 0.8, 1.0, 1.0] {
                let wait = backoff.next();
                let seconds = wait.as_secs_f64();
                assert!(seconds >= expected * 0.799, "{seconds} of {expected}");
                assert!(seconds <= expected * 1.201, "{seconds} of {expected}");
                assert!(wait <= MAX);
            }
        }
    }

    #[test]
    fn a_reset_starts_again() {
        let mut backoff = Backoff::new(MIN, MAX, 1);
        for _ in 0..5 {
            backoff.next();
        }
        backoff.reset();
        assert!(backoff.next() <= MIN.mul_f64(1.2));
    }

    #[test]
    fn a_seed_repeats_and_another_differs() {
        let waits = |seed| {
            let mut backoff = Backoff::new(MIN, MAX, seed);
            [backoff.next(), backoff.next(), backoff.next()]
        };
        assert_eq!(waits(1), waits(1));
        assert_ne!(waits(1), waits(2));
    }

    #[test]
    fn extremes_do_not_overflow() {
        let mut backoff = Backoff::new(Duration::MAX, Duration::MAX, 1);
        for _ in 0..100 {
            assert!(backoff.next() > MAX);
        }
        let mut none = Backoff::new(Duration::ZERO, Duration::ZERO, 1);
        assert_eq!(none.next(), Duration::ZERO);
        // A `min` above `max` counts as `max`.
        assert!(Backoff::new(MAX, MIN, 1).next() <= MIN);
    }
}
