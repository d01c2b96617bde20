//! How long to wait before the next attempt (KIP-580).

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

const JITTER: f64 = 0.2;

/// Doubles from `min` to `max`, give or take 20 %, so that clients that failed together do not
/// come back together.
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

    /// The wait after one more failure; never longer than `max`.
    pub fn next(&mut self) -> Duration {
        let factor = 2u32.saturating_pow(self.attempts);
        let wait = self.min.saturating_mul(factor).min(self.max);
        self.attempts = self.attempts.saturating_add(1);
        let jitter = self.random.random_range(1.0 - JITTER..=1.0 + JITTER);
        Duration::try_from_secs_f64(wait.as_secs_f64() * jitter)
            .map_or(self.max, |w| w.min(self.max))
    }

    /// After a success the next wait is `min` again.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }
}
