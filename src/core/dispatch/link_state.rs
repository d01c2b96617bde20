//! The connection to one broker, as its sender knows it: whether it is up, when it may be tried again,
//! how long it is throttled, and since when it is idle.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::core::backoff::Backoff;

/// What the configuration says of connections.
#[derive(Debug, Clone)]
pub(crate) struct LinkRules {
    /// `reconnect.backoff.ms`, `reconnect.backoff.max.ms`
    pub reconnect_backoff: (Duration, Duration),
    /// `socket.connection.setup.timeout.ms`, `socket.connection.setup.timeout.max.ms`
    pub setup_timeout: (Duration, Duration),
    /// `connections.max.idle.ms`; `None` keeps idle connections.
    pub max_idle: Option<Duration>,
    /// Of the waits' jitter.
    pub seed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing to send, or not yet tried again.
    Down,
    Connecting,
    /// Produce requests go in this version.
    Up {
        version: i16,
    },
}

/// A connection is to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Connect {
    /// Whatever another connection says is not heard.
    pub number: u64,
    /// How long it may take.
    pub setup_timeout: Duration,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ended {
    /// It was up.
    pub was_up: bool,
    /// A connection with nothing on it was closed, which is no fault.
    pub quiet: bool,
    /// The error is another one than the last.
    pub is_news: bool,
}

/// The state of a connection that is made when there is something to send.
#[derive(Debug)]
pub(crate) struct LinkState {
    phase: Phase,
    number: u64,
    max_idle: Option<Duration>,
    reconnect: Backoff,
    setup_timeout: Backoff,
    not_before: Option<Instant>,
    throttled_until: Option<Instant>,
    last_used: Instant,
    last_error: Option<Arc<str>>,
}

impl LinkState {
    pub fn new(rules: &LinkRules, now: Instant) -> Self {
        let backoff = |(min, max)| Backoff::new(min, max, rules.seed);
        Self {
            phase: Phase::Down,
            number: 0,
            max_idle: rules.max_idle,
            reconnect: backoff(rules.reconnect_backoff),
            setup_timeout: backoff(rules.setup_timeout),
            not_before: None,
            throttled_until: None,
            last_used: now,
            last_error: None,
        }
    }

    pub fn is_up(&self) -> bool {
        matches!(self.phase, Phase::Up { .. })
    }

    pub fn is_down(&self) -> bool {
        self.phase == Phase::Down
    }

    /// The version of Produce, while the connection is up.
    pub fn version(&self) -> Option<i16> {
        match self.phase {
            Phase::Up { version } => Some(version),
            _ => None,
        }
    }

    /// Whether this is the connection that is heard.
    pub fn is_current(&self, number: u64) -> bool {
        self.number == number
    }

    /// Begins to connect, or says when it may.
    pub fn connect(&mut self, now: Instant) -> Result<Connect, Instant> {
        if let Some(at) = self.not_before.filter(|at| *at > now) {
            return Err(at);
        }
        self.number += 1;
        self.phase = Phase::Connecting;
        Ok(Connect {
            number: self.number,
            setup_timeout: self.setup_timeout.next(),
        })
    }

    /// The connection is up. Returns when it has been idle for too long.
    pub fn connected(&mut self, version: i16, now: Instant) -> Option<Instant> {
        self.phase = Phase::Up { version };
        self.setup_timeout.reset();
        self.not_before = None;
        self.last_used = now;
        self.max_idle.map(|idle| now + idle)
    }

    /// A request was handed to the connection.
    pub fn used(&mut self, now: Instant) {
        self.last_used = now;
    }

    /// A response came. Returns until when the broker wants a pause, if it does.
    pub fn answered(&mut self, throttle: Duration, now: Instant) -> Option<Instant> {
        self.last_used = now;
        self.reconnect.reset();
        self.last_error = None;
        if throttle.is_zero() {
            return None;
        }
        self.throttled_until = Some(now + throttle);
        self.throttled_until
    }

    /// Until when nothing may be sent, if the broker asked for a pause that is not over at `now`.
    pub fn throttled(&mut self, now: Instant) -> Option<Instant> {
        self.throttled_until.take_if(|until| *until <= now);
        self.throttled_until
    }

    /// The pause that was asked for, as far as it is known to be over.
    pub fn throttled_until(&self) -> Option<Instant> {
        self.throttled_until
    }

    /// The connection is gone. `idle` says that nothing was on it, `closed` that the broker closed it.
    pub fn lost(&mut self, error: &Arc<str>, idle: bool, closed: bool, now: Instant) -> Ended {
        let was_up = self.is_up();
        self.disconnect();
        let quiet = was_up && idle && closed;
        let is_news = self.last_error.as_ref() != Some(error);
        if !quiet {
            self.not_before = Some(now + self.reconnect.next());
            self.last_error = Some(Arc::clone(error));
        }
        Ended {
            was_up,
            quiet,
            is_news,
        }
    }

    /// Gives the connection up. What it still says is not heard.
    pub fn disconnect(&mut self) {
        self.phase = Phase::Down;
        self.number += 1;
    }

    /// The broker is somewhere else: it may be tried at once.
    pub fn moved(&mut self) {
        self.not_before = None;
    }

    /// When the connection has been idle for too long, if it is up and may end for that.
    pub fn idle_at(&self) -> Option<Instant> {
        let idle = self.max_idle.filter(|_| self.is_up())?;
        Some(self.last_used + idle)
    }

    /// What went wrong last, until a response comes.
    pub fn last_error(&self) -> Option<&Arc<str>> {
        self.last_error.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn link(now: Instant) -> LinkState {
        let rules = LinkRules {
            reconnect_backoff: (SECOND, 10 * SECOND),
            setup_timeout: (10 * SECOND, 30 * SECOND),
            max_idle: Some(60 * SECOND),
            seed: 1,
        };
        LinkState::new(&rules, now)
    }

    fn error(text: &str) -> Arc<str> {
        text.into()
    }

    #[test]
    fn a_connection_that_failed_is_tried_again_after_its_backoff() {
        let now = Instant::now();
        let mut link = link(now);
        let first = link.connect(now).expect("nothing failed before");
        let ended = link.lost(&error("refused"), true, false, now);
        assert!(!ended.was_up && !ended.quiet && ended.is_news);
        let at = link.connect(now).expect_err("it has just failed");
        assert!(at > now && at <= now + 2 * SECOND);
        let second = link.connect(at).expect("the backoff is over");
        assert!(
            second.number > first.number,
            "what the first says is not heard"
        );
        assert!(second.setup_timeout > first.setup_timeout, "it doubles");
    }

    #[test]
    fn the_same_error_again_is_no_news() {
        let now = Instant::now();
        let mut link = link(now);
        assert!(link.lost(&error("refused"), true, false, now).is_news);
        assert!(!link.lost(&error("refused"), true, false, now).is_news);
        assert!(link.lost(&error("reset"), true, false, now).is_news);
        link.answered(Duration::ZERO, now);
        assert_eq!(link.last_error(), None);
        assert!(link.lost(&error("reset"), true, false, now).is_news);
    }

    #[test]
    fn a_broker_may_close_an_idle_connection_without_a_fault() {
        let now = Instant::now();
        for (idle, closed, quiet) in [
            (true, true, true),
            (true, false, false),
            (false, true, false),
        ] {
            let mut link = link(now);
            link.connected(9, now);
            let ended = link.lost(&error("closed"), idle, closed, now);
            assert_eq!((ended.was_up, ended.quiet), (true, quiet));
            assert_eq!(
                link.connect(now).is_ok(),
                quiet,
                "it is tried again at once"
            );
        }
    }

    #[test]
    fn a_pause_lasts_as_long_as_the_broker_asked_for() {
        let now = Instant::now();
        let mut link = link(now);
        assert_eq!(link.answered(Duration::ZERO, now), None);
        assert_eq!(link.answered(SECOND, now), Some(now + SECOND));
        assert_eq!(link.throttled(now), Some(now + SECOND));
        assert_eq!(link.throttled(now + SECOND), None);
    }

    #[test]
    fn an_idle_connection_ends_and_one_that_is_used_does_not() {
        let now = Instant::now();
        let mut link = link(now);
        assert_eq!(link.idle_at(), None, "it is not up");
        assert_eq!(link.connected(9, now), Some(now + 60 * SECOND));
        link.used(now + SECOND);
        assert_eq!(link.idle_at(), Some(now + 61 * SECOND));
        link.disconnect();
        assert_eq!(link.idle_at(), None);
    }

    #[test]
    fn a_broker_that_moved_is_tried_at_once() {
        let now = Instant::now();
        let mut link = link(now);
        link.lost(&error("refused"), true, false, now);
        link.moved();
        assert!(link.connect(now).is_ok());
    }
}
