//! When brokers are asked for metadata.

use std::time::{Duration, Instant};

use crate::core::backoff::Backoff;

/// When the next metadata request is due.
///
/// Invariants:
/// - one request at a time: nothing is due while one is on its way;
/// - no request is sent until `retry.backoff.ms` after the last response. The jitter of a wait may
///   shorten this.
#[derive(Debug)]
pub(crate) struct RefreshSchedule {
    /// When to ask next, unless something asks for it earlier.
    due: Option<Instant>,
    /// The earliest time of the next request.
    not_before: Instant,
    /// A request is on its way.
    asking: bool,
    /// Grows while responses leave something open.
    backoff: Backoff,
    min_interval: Duration,
    max_age: Duration,
}

impl RefreshSchedule {
    /// Nothing is due yet. `backoff` runs from `retry.backoff.ms` to `retry.backoff.max.ms`.
    pub fn new(backoff: (Duration, Duration), max_age: Duration, seed: u64, now: Instant) -> Self {
        Self {
            due: None,
            not_before: now,
            asking: false,
            backoff: Backoff::new(backoff.0, backoff.1, seed),
            min_interval: backoff.0,
            max_age,
        }
    }

    /// Brokers are to be asked at `at`, if not earlier.
    pub fn ask_by(&mut self, at: Instant) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// Whether it is time to ask.
    pub fn is_due(&self, now: Instant) -> bool {
        self.next().is_some_and(|at| at <= now)
    }

    /// When to ask next; `None` while a request is on its way.
    pub fn next(&self) -> Option<Instant> {
        let due = self.due.filter(|_| !self.asking);
        due.map(|due| due.max(self.not_before))
    }

    /// A request leaves.
    pub fn asked(&mut self) {
        self.due = None;
        self.asking = true;
    }

    /// A broker answered. While that leaves something `open`, it is asked again soon.
    pub fn answered(&mut self, open: bool, now: Instant) {
        let wait = if open {
            self.backoff.next()
        } else {
            self.backoff.reset();
            self.max_age
        };
        self.asking = false;
        self.not_before = now + wait.min(self.min_interval);
        self.ask_by(now + wait);
    }

    /// No broker answered: the next one is to be asked after `delay`.
    pub fn failed(&mut self, delay: Duration, now: Instant) {
        self.asking = false;
        self.not_before = now + delay;
        self.ask_by(now + delay);
    }

    /// The request on its way, if there is one, counts no more.
    pub fn lost(&mut self) {
        self.asking = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: Duration = Duration::from_millis(100);
    const MAX: Duration = Duration::from_secs(1);
    const MAX_AGE: Duration = Duration::from_secs(300);
    const LONGER: Duration = MIN.saturating_mul(2);

    fn schedule(seed: u64) -> (RefreshSchedule, Instant) {
        let now = Instant::now();
        let schedule = RefreshSchedule::new((MIN, MAX), MAX_AGE, seed, now);
        (schedule, now)
    }

    #[test]
    fn nothing_is_due_until_something_calls_for_it() {
        let (mut schedule, now) = schedule(0);
        assert!(!schedule.is_due(now + MAX_AGE));
        schedule.ask_by(now);
        assert!(schedule.is_due(now));
    }

    #[test]
    fn the_earliest_call_counts() {
        for (first, second) in [(MIN, MAX), (MAX, MIN), (MIN, MIN)] {
            let (mut schedule, now) = schedule(0);
            schedule.ask_by(now + first);
            schedule.ask_by(now + second);
            assert_eq!(schedule.next(), Some(now + MIN));
            assert!(!schedule.is_due(now));
        }
    }

    #[test]
    fn nothing_is_due_while_a_request_is_on_its_way() {
        let (mut schedule, now) = schedule(0);
        schedule.ask_by(now);
        schedule.asked();
        schedule.ask_by(now);
        assert!(!schedule.is_due(now + MAX_AGE));
        assert_eq!(schedule.next(), None);
        schedule.answered(false, now);
        assert_eq!(schedule.next(), Some(now + MIN), "the call was kept");
    }

    #[test]
    fn a_view_without_gaps_is_renewed_when_it_is_old() {
        let (mut schedule, now) = schedule(0);
        schedule.asked();
        schedule.answered(false, now);
        assert_eq!(schedule.next(), Some(now + MAX_AGE));
    }

    #[test]
    fn nothing_is_asked_more_often_than_the_shortest_backoff() {
        for seed in 0..100 {
            let (mut schedule, mut now) = schedule(seed);
            for open in [true, false, true, true, false, false] {
                schedule.asked();
                schedule.answered(open, now);
                schedule.ask_by(now);
                let next = schedule.next().expect("a call");
                // A wait that is on has its jitter.
                let least = if open { MIN.mul_f64(0.8) } else { MIN };
                assert!(next - now >= least, "{:?}", next - now);
                assert!(next - now <= MIN);
                now = next;
            }
        }
    }

    #[test]
    fn waits_grow_while_answers_leave_something_open() {
        for seed in 0..100 {
            let (mut schedule, now) = schedule(seed);
            let mut wait = |open| {
                schedule.asked();
                schedule.answered(open, now);
                schedule.next().expect("a next time") - now
            };
            for doubled in [1, 2, 4, 8] {
                let wait = wait(true);
                assert!(wait >= MIN.mul_f64(0.79 * f64::from(doubled)), "{wait:?}");
                assert!(wait <= MIN.mul_f64(1.21 * f64::from(doubled)), "{wait:?}");
            }
            for _ in 0..3 {
                assert!(wait(true) >= MAX.mul_f64(0.79));
            }
            assert_eq!(wait(false), MAX_AGE);
            assert!(
                wait(true) <= MIN.mul_f64(1.21),
                "an answer without gaps resets it"
            );
        }
    }

    #[test]
    fn after_a_failure_no_call_comes_before_the_delay() {
        for delay in [Duration::ZERO, MIN, LONGER, MAX] {
            let (mut schedule, now) = schedule(0);
            schedule.ask_by(now);
            schedule.asked();
            schedule.ask_by(now);
            schedule.failed(delay, now);
            schedule.ask_by(now);
            assert_eq!(schedule.next(), Some(now + delay));
        }
    }

    #[test]
    fn a_request_that_is_lost_is_asked_anew() {
        let (mut schedule, now) = schedule(0);
        schedule.ask_by(now);
        schedule.asked();
        schedule.lost();
        assert_eq!(schedule.next(), None, "until something calls for it");
        schedule.ask_by(now);
        assert!(schedule.is_due(now));
    }
}
