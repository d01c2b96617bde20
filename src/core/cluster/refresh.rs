//! When brokers are asked for metadata.

use std::time::{Duration, Instant};

use crate::core::backoff::Backoff;

/// Why a request is sent, which decides what its answer leads to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Cause {
    /// It asks for all topics.
    pub all: bool,
    /// It asks for topics that an answer has left open before.
    pub again: bool,
    /// Something failed that the metadata may explain.
    pub failure: bool,
    /// It goes to another broker than the last one.
    pub elsewhere: bool,
}

/// When the next metadata request is due, and whether another broker is to get it.
///
/// Invariants:
/// - one request at a time: nothing is due while one is on its way;
/// - what was never asked for does not wait, unless no broker could be reached;
/// - nothing is asked for again within `retry.backoff.ms`, but once of another broker. The jitter of a
///   wait may shorten this;
/// - the waits grow while requests that a failure caused change nothing.
#[derive(Debug)]
pub(crate) struct RefreshSchedule {
    /// When to ask for all topics next, unless something asks for it earlier.
    due: Option<Instant>,
    /// The earliest time of the next request for all topics.
    all_from: Instant,
    /// The earliest time to ask again for topics that were left open.
    again_from: Instant,
    /// The earliest time of any request: no broker could be reached.
    any_from: Instant,
    /// A request is on its way.
    asking: bool,
    /// Something has failed since the last request for all topics.
    failure: bool,
    /// The last answer to a doubt changed nothing.
    fruitless: bool,
    backoff: Backoff,
    min_interval: Duration,
    max_interval: Duration,
    max_age: Duration,
}

impl RefreshSchedule {
    /// Nothing is due yet. `backoff` runs from `retry.backoff.ms` to `retry.backoff.max.ms`.
    pub fn new(backoff: (Duration, Duration), max_age: Duration, seed: u64, now: Instant) -> Self {
        Self {
            due: None,
            all_from: now,
            again_from: now,
            any_from: now,
            asking: false,
            failure: false,
            fruitless: false,
            backoff: Backoff::new(backoff.0, backoff.1, seed),
            min_interval: backoff.0,
            max_interval: backoff.1,
            max_age,
        }
    }

    /// Something failed: all topics are to be asked for.
    pub fn failure(&mut self, now: Instant) {
        self.failure = true;
        self.ask_by(now);
    }

    fn ask_by(&mut self, at: Instant) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// When to ask next, if topics that were left open are due at `again`, and some were never asked
    /// for if there are any `new`. `None` while a request is on its way.
    pub fn next(&self, new: bool, again: Option<Instant>) -> Option<Instant> {
        if self.asking {
            return None;
        }
        let new = new.then_some(self.any_from);
        let again = again.map(|at| at.max(self.again_from));
        let next = new.into_iter().chain(again).chain(self.all_at()).min();
        next.map(|at| at.max(self.any_from))
    }

    fn all_at(&self) -> Option<Instant> {
        self.due.map(|due| due.max(self.all_from))
    }

    /// The request that is due now, if one is; see [`next`](Self::next). It leaves.
    pub fn ask(&mut self, new: bool, again: Option<Instant>, now: Instant) -> Option<Cause> {
        if self.next(new, again).is_none_or(|at| at > now) {
            return None;
        }
        self.asking = true;
        let all = self.all_at().is_some_and(|at| at <= now);
        // A request for all topics asks for those that were left open, too.
        let again = again.is_some_and(|at| all || at.max(self.again_from) <= now);
        let failure = all && std::mem::take(&mut self.failure);
        if all {
            self.due = None;
        }
        // After a time without failures the waits begin anew.
        if failure && now >= self.all_from + self.max_interval {
            self.backoff.reset();
        }
        let elsewhere = self.fruitless && (again || failure);
        Some(Cause {
            all,
            again,
            failure,
            elsewhere,
        })
    }

    /// Whether a request is on its way.
    pub fn is_asking(&self) -> bool {
        self.asking
    }

    /// A broker answered. `news`: the answer changed something that was asked for before.
    pub fn answered(&mut self, cause: Cause, news: bool, now: Instant) {
        self.asking = false;
        self.any_from = now;
        self.ask_by(now + self.max_age);
        if !cause.all && !cause.again {
            return;
        }
        self.again_from = now + self.min_interval;
        if news {
            self.fruitless = false;
            self.backoff.reset();
        } else if cause.again || cause.failure {
            // The broker may be cut off from the controller.
            self.fruitless = true;
        }
        if cause.failure && !news && !cause.elsewhere {
            // One more broker is asked, at once: what failed is tried again after `retry.backoff.ms`, and
            // should go to the right place then.
            self.all_from = now;
            self.failure(now);
        } else if cause.all {
            let wait = match cause.failure && !news {
                true => self.backoff.next(),
                false => self.min_interval,
            };
            self.all_from = now + wait;
        }
    }

    /// No broker answered: the next one is to be asked after `delay`.
    pub fn unanswered(&mut self, cause: Cause, delay: Duration, now: Instant) {
        self.asking = false;
        self.any_from = now + delay;
        if cause.all {
            self.failure |= cause.failure;
            self.all_from = self.any_from;
            self.ask_by(self.any_from);
        }
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

    /// When all topics are asked for next.
    fn next(schedule: &RefreshSchedule) -> Option<Instant> {
        schedule.next(false, None)
    }

    /// The request that is due.
    fn ask(schedule: &mut RefreshSchedule, now: Instant) -> Option<Cause> {
        schedule.ask(false, None, now)
    }

    #[test]
    fn nothing_is_due_until_something_calls_for_it() {
        let (mut schedule, now) = schedule(0);
        assert_eq!(next(&schedule), None);
        schedule.failure(now);
        assert_eq!(next(&schedule), Some(now));
    }

    #[test]
    fn nothing_is_due_while_a_request_is_on_its_way() {
        let (mut schedule, now) = schedule(0);
        schedule.failure(now);
        let cause = ask(&mut schedule, now).expect("due");
        schedule.failure(now);
        assert_eq!(schedule.next(true, Some(now)), None);
        schedule.answered(cause, true, now);
        assert_eq!(next(&schedule), Some(now + MIN), "the call was kept");
    }

    #[test]
    fn a_view_without_gaps_is_renewed_when_it_is_old() {
        let (mut schedule, now) = schedule(0);
        let cause = schedule.ask(true, None, now).expect("due");
        schedule.answered(cause, true, now);
        assert_eq!(next(&schedule), Some(now + MAX_AGE));
        // Requests for other topics do not renew it.
        let later = now + MAX_AGE / 2;
        let cause = schedule.ask(true, None, later).expect("due");
        assert!(!cause.all);
        schedule.answered(cause, true, later);
        assert_eq!(next(&schedule), Some(now + MAX_AGE));
    }

    #[test]
    fn what_was_never_asked_for_does_not_wait_after_an_answer() {
        let (mut schedule, now) = schedule(0);
        for _ in 0..100 {
            let cause = schedule.ask(true, None, now).expect("at once");
            assert_eq!(cause, Cause::default());
            schedule.answered(cause, true, now);
        }
        // Nor does it make others wait.
        schedule.failure(now);
        assert_eq!(next(&schedule), Some(now));
    }

    #[test]
    fn nothing_is_asked_for_again_within_the_shortest_wait() {
        let (mut schedule, now) = schedule(0);
        let cause = schedule.ask(false, Some(now), now).expect("due");
        schedule.answered(cause, false, now);
        assert_eq!(schedule.next(false, Some(now)), Some(now + MIN));
        assert_eq!(schedule.next(true, Some(now)), Some(now));
        assert_eq!(schedule.ask(true, Some(now), now), Some(Cause::default()));
    }

    #[test]
    fn waits_grow_while_failures_bring_no_news() {
        for seed in 0..100 {
            let (mut schedule, mut now) = schedule(seed);
            let mut wait = |news| {
                schedule.failure(now);
                now = next(&schedule).expect("a call");
                let cause = ask(&mut schedule, now).expect("due");
                schedule.answered(cause, news, now);
                schedule.failure(now);
                next(&schedule).expect("a call") - now
            };
            assert_eq!(wait(false), Duration::ZERO, "another broker is asked");
            for doubled in [1, 2, 4, 8] {
                let wait = wait(false);
                assert!(wait >= MIN.mul_f64(0.79 * f64::from(doubled)), "{wait:?}");
                assert!(wait <= MIN.mul_f64(1.21 * f64::from(doubled)), "{wait:?}");
            }
            assert!(wait(false) >= MAX.mul_f64(0.79));
            assert_eq!(wait(true), MIN, "news resets it");
            assert_eq!(wait(false), Duration::ZERO);
            assert!(wait(false) <= MIN.mul_f64(1.21));
        }
    }

    #[test]
    fn waits_begin_anew_after_a_time_without_failures() {
        let (mut schedule, mut now) = schedule(0);
        for _ in 0..10 {
            schedule.failure(now);
            now = next(&schedule).expect("a call");
            let cause = ask(&mut schedule, now).expect("due");
            schedule.answered(cause, false, now);
        }
        schedule.failure(now);
        now = next(&schedule).expect("a call") + MAX * 2;
        let cause = ask(&mut schedule, now).expect("due");
        schedule.answered(cause, false, now);
        schedule.failure(now);
        let wait = next(&schedule).expect("a call") - now;
        assert!(wait <= MIN.mul_f64(1.21), "{wait:?}");
    }

    #[test]
    fn what_brings_no_news_goes_to_another_broker_next() {
        let (mut schedule, mut now) = schedule(0);
        let mut request = |again: bool, failure: bool, news| {
            if failure {
                schedule.failure(now);
            }
            now += MAX_AGE;
            let cause = schedule.ask(true, again.then_some(now), now);
            let cause = cause.expect("due");
            schedule.answered(cause, news, now);
            cause.elsewhere
        };
        assert!(!request(false, true, false));
        assert!(request(false, true, false));
        assert!(request(true, false, false), "whatever caused it");
        assert!(request(false, true, true), "this one knows");
        assert!(!request(false, true, true));
        assert!(!request(true, false, false));
        assert!(!request(false, false, false), "only old metadata");
        assert!(request(true, false, true));
    }

    /// Metadata that are renewed sooner than a topic that is not there would be asked for again.
    #[test]
    fn what_is_left_open_is_asked_of_another_broker_though_all_topics_are_asked_for_before() {
        let mut now = Instant::now();
        let mut schedule = RefreshSchedule::new((MIN, MAX), MIN, 0, now);
        schedule.failure(now);
        let mut elsewhere = Vec::new();
        for _ in 0..4 {
            let again = Some(now + MAX);
            now = schedule.next(false, again).expect("due");
            let cause = schedule.ask(false, again, now).expect("due");
            assert!(cause.all);
            schedule.answered(cause, false, now);
            elsewhere.push(cause.elsewhere);
        }
        assert_eq!(elsewhere, [false, true, true, true]);
    }

    #[test]
    fn a_failure_without_news_has_one_more_broker_asked_without_another_failure() {
        let (mut schedule, now) = schedule(0);
        schedule.failure(now);
        let first = ask(&mut schedule, now).expect("due");
        schedule.answered(first, false, now);
        let second = ask(&mut schedule, now).expect("at once");
        assert!(second.elsewhere && second.failure);
        schedule.answered(second, false, now);
        assert_eq!(next(&schedule), Some(now + MAX_AGE));
    }

    #[test]
    fn after_a_failed_request_nothing_comes_before_the_delay() {
        for delay in [Duration::ZERO, MIN, LONGER, MAX] {
            let (mut schedule, now) = schedule(0);
            schedule.failure(now);
            let cause = ask(&mut schedule, now).expect("due");
            schedule.failure(now);
            schedule.unanswered(cause, delay, now);
            schedule.failure(now);
            assert_eq!(next(&schedule), Some(now + delay));
            assert_eq!(schedule.next(true, Some(now)), Some(now + delay));
        }
    }

    #[test]
    fn a_request_that_is_lost_is_asked_anew() {
        let (mut schedule, now) = schedule(0);
        schedule.failure(now);
        ask(&mut schedule, now).expect("due");
        schedule.lost();
        assert_eq!(next(&schedule), None, "until something calls for it");
        schedule.failure(now);
        assert_eq!(next(&schedule), Some(now));
    }
}
