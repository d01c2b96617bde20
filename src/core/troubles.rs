//! Which failures are told of: each when it comes up, and then at growing intervals while it stays.

use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the same failure is not told of again: at first, and at last.
const SILENCE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(600));

/// Failures that are told apart. Further ones count as one, so that no broker fills a log by failing
/// in a new way each time.
const MOST: usize = 16;

/// The failures of one connection, or of one kind of request to any broker.
#[derive(Debug, Default)]
pub(crate) struct Troubles {
    known: Vec<Trouble>,
}

#[derive(Debug)]
struct Trouble {
    what: Arc<str>,
    /// When it happened last.
    last: Instant,
    /// When it was told of last.
    told: Instant,
    /// How long it is not told of after that.
    silence: Duration,
    /// How often it happened since it was told of.
    untold: u32,
}

/// A failure that is to be told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Told {
    /// How often it happened since it was told of last.
    pub times: u32,
    /// Since when that was; zero the first time.
    pub within: Duration,
}

impl Troubles {
    /// Something failed. Returns whether that is to be told.
    pub fn failed(&mut self, what: &Arc<str>, now: Instant) -> Option<Told> {
        self.known
            .retain(|it| now.saturating_duration_since(it.last) < SILENCE.1);
        let Some(known) = self.find(what) else {
            self.known.push(Trouble {
                what: Arc::clone(what),
                last: now,
                told: now,
                silence: SILENCE.0,
                untold: 0,
            });
            let within = Duration::ZERO;
            return Some(Told { times: 1, within });
        };
        known.last = now;
        known.untold = known.untold.saturating_add(1);
        let within = now.saturating_duration_since(known.told);
        if within < known.silence {
            return None;
        }
        known.told = now;
        known.silence = (2 * known.silence).min(SILENCE.1);
        let times = std::mem::take(&mut known.untold);
        Some(Told { times, within })
    }

    fn find(&mut self, what: &str) -> Option<&mut Trouble> {
        let at = self.known.iter().position(|it| *it.what == *what);
        let full = self.known.len() == MOST;
        self.known.get_mut(at.or(full.then_some(MOST - 1))?)
    }

    /// Something succeeded. What fails later is told of as soon as at first.
    pub fn over(&mut self) {
        for known in &mut self.known {
            known.silence = SILENCE.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// The seconds at which these failures are told of, one failure each second.
    fn told(troubles: &mut Troubles, names: &[&str], seconds: u32, start: Instant) -> Vec<u32> {
        let failures = (0..seconds).filter(|at| {
            let what = Arc::from(names[*at as usize % names.len()]);
            troubles.failed(&what, start + *at * SECOND).is_some()
        });
        failures.collect()
    }

    #[test]
    fn each_failure_is_told_once_and_then_at_growing_intervals() {
        let mut troubles = Troubles::default();
        let start = Instant::now();
        let told = told(&mut troubles, &["refused"], 4000, start);
        assert_eq!(
            told,
            [0, 30, 90, 210, 450, 930, 1530, 2130, 2730, 3330, 3930]
        );
    }

    #[test]
    fn failures_that_take_turns_are_no_news_each_time() {
        let mut troubles = Troubles::default();
        let told = told(
            &mut troubles,
            &["a refused", "b refused"],
            90,
            Instant::now(),
        );
        assert_eq!(told, [0, 1, 30, 31]);
    }

    #[test]
    fn what_is_told_again_says_how_often_it_happened_meanwhile() {
        let mut troubles = Troubles::default();
        let start = Instant::now();
        let what = Arc::from("refused");
        let first = troubles.failed(&what, start);
        let within = Duration::ZERO;
        assert_eq!(first, Some(Told { times: 1, within }));
        assert_eq!(troubles.failed(&what, start + SECOND), None);
        let within = SILENCE.0;
        let again = troubles.failed(&what, start + within);
        assert_eq!(again, Some(Told { times: 2, within }));
    }

    #[test]
    fn after_a_success_it_is_told_of_as_soon_as_at_first_but_not_each_time() {
        let mut troubles = Troubles::default();
        let start = Instant::now();
        let what = Arc::from("refused");
        let mut told = Vec::new();
        for second in 0..100 {
            if troubles.failed(&what, start + second * SECOND).is_some() {
                told.push(second);
            }
            troubles.over();
        }
        assert_eq!(told, [0, 30, 60, 90]);
    }

    #[test]
    fn what_has_not_happened_for_long_is_new() {
        let mut troubles = Troubles::default();
        let start = Instant::now();
        told(&mut troubles, &["refused"], 400, start);
        let what = Arc::from("refused");
        let later = start + 399 * SECOND + SILENCE.1;
        assert_eq!(troubles.failed(&what, later).map(|it| it.times), Some(1));
        assert_eq!(troubles.known.len(), 1);
    }

    #[test]
    fn ever_new_failures_are_not_told_without_end() {
        let mut troubles = Troubles::default();
        let start = Instant::now();
        let all = (0..1000u32).filter(|number| {
            let what = Arc::from(format!("announces {number} bytes"));
            troubles
                .failed(&what, start + *number * SECOND / 100)
                .is_some()
        });
        assert_eq!(all.count(), MOST);
    }
}
