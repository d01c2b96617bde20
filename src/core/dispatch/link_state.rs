//! The state of the connection to one broker: whether it is up, when it may be tried again, until
//! when it is throttled, and since when it is idle.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::core::backoff::Backoff;
use crate::core::troubles::{Told, Troubles};

/// The configuration that applies to connections.
#[derive(Debug, Clone)]
pub(crate) struct LinkRules {
    /// `reconnect.backoff.ms`, `reconnect.backoff.max.ms`
    pub reconnect_backoff: (Duration, Duration),
    /// `socket.connection.setup.timeout.ms`, `socket.connection.setup.timeout.max.ms`
    pub setup_timeout: (Duration, Duration),
    /// `connections.max.idle.ms`. With `None`, idle connections are kept.
    pub max_idle: Option<Duration>,
    /// The seed of the random part of the waits.
    pub seed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// There is nothing to send, or it may not be tried again yet.
    Down,
    Connecting,
    /// It is up, and has to end: the broker and this client have no version of Produce in common.
    Unusable,
    /// Produce requests are sent in this version.
    Up {
        version: i16,
    },
}

/// How to make the next connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Connect {
    /// The number of this connection. Events of a connection with another number are ignored.
    pub number: u64,
    /// How long it may take.
    pub setup_timeout: Duration,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ended {
    /// It was up.
    pub was_up: bool,
    /// The broker closed a connection on which nothing was sent or awaited. That is not an error.
    pub quiet: bool,
    /// It is the second in a row that was [`unusable`](LinkState::unusable), or a later one.
    pub refused: bool,
    /// How it is to be told of; `None` if it was told of lately.
    pub told: Option<Told>,
}

/// The state of the connection to one broker. It is connected only when there is something to send.
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
    troubles: Troubles,
    /// The last connection that the broker answered on was unusable.
    unusable: bool,
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
            troubles: Troubles::default(),
            unusable: false,
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

    /// Whether this is the number of the present connection.
    pub fn is_current(&self, number: u64) -> bool {
        self.number == number
    }

    /// Begins to connect. The error is the time from which that is allowed.
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

    /// The connection is up. Returns when it will have been idle for too long.
    pub fn connected(&mut self, version: i16, now: Instant) -> Option<Instant> {
        self.phase = Phase::Up { version };
        self.unusable = false;
        self.setup_timeout.reset();
        self.not_before = None;
        self.last_used = now;
        self.max_idle.map(|idle| now + idle)
    }

    /// The connection is up, but it is of no use: there is no version of Produce. The broker may be
    /// about to be replaced, or to lose its partitions, so it is asked once more before they are
    /// refused.
    pub fn unusable(&mut self) {
        self.phase = Phase::Unusable;
    }

    /// A request was handed to the connection.
    pub fn used(&mut self, now: Instant) {
        self.last_used = now;
    }

    /// A response arrived. If the broker throttles, returns until when nothing may be sent.
    pub fn responded(&mut self, throttle: Duration, now: Instant) -> Option<Instant> {
        self.last_used = now;
        self.reconnect.reset();
        self.last_error = None;
        self.troubles.over();
        if throttle.is_zero() {
            return None;
        }
        self.throttled_until = Some(now + throttle);
        self.throttled_until
    }

    /// Until when nothing may be sent, if the broker throttles at `now`. Ends a throttling that is
    /// over.
    pub fn throttled(&mut self, now: Instant) -> Option<Instant> {
        self.throttled_until.take_if(|until| *until <= now);
        self.throttled_until
    }

    /// Until when nothing may be sent, by the last call of [`throttled`](Self::throttled).
    pub fn throttled_until(&self) -> Option<Instant> {
        self.throttled_until
    }

    /// The connection is gone. `idle`: nothing was sent or awaited on it. `closed`: the broker
    /// closed it.
    pub fn lost(&mut self, error: &Arc<str>, idle: bool, closed: bool, now: Instant) -> Ended {
        let was_up = self.is_up();
        let unusable = self.phase == Phase::Unusable;
        let refused = unusable && std::mem::replace(&mut self.unusable, true);
        self.disconnect();
        let quiet = was_up && idle && closed;
        let told = match quiet {
            true => None,
            false => self.troubles.failed(error, now),
        };
        if !quiet {
            self.not_before = Some(now + self.reconnect.next());
            self.last_error = Some(Arc::clone(error));
        }
        Ended {
            was_up,
            quiet,
            refused,
            told,
        }
    }

    /// Gives the connection up. Its later events are ignored.
    pub fn disconnect(&mut self) {
        self.phase = Phase::Down;
        self.number += 1;
    }

    /// The broker has another address, which may be tried at once.
    pub fn moved(&mut self) {
        self.not_before = None;
    }

    /// When the connection will have been idle for too long. `None` if it is down, or if idle
    /// connections are kept.
    pub fn idle_at(&self) -> Option<Instant> {
        let idle = self.max_idle.filter(|_| self.is_up())?;
        Some(self.last_used + idle)
    }

    /// The last error, if no response has arrived since.
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
        assert!(!ended.was_up && !ended.quiet && ended.told.is_some());
        let at = link.connect(now).expect_err("it has just failed");
        assert!(at > now && at <= now + 2 * SECOND);
        let second = link.connect(at).expect("the backoff is over");
        assert!(
            second.number > first.number,
            "events of the first are ignored"
        );
        assert!(second.setup_timeout > first.setup_timeout, "it doubles");
    }

    /// Amazon MSK accepts 20 new connections a second and broker from clients that log in by IAM.
    #[test]
    fn many_producers_come_back_to_a_broker_that_accepts_20_a_second() {
        let start = Instant::now();
        let rules = |seed| LinkRules {
            reconnect_backoff: (SECOND, 10 * SECOND),
            setup_timeout: (10 * SECOND, 30 * SECOND),
            max_idle: None,
            seed,
        };
        // All lose their connections at once.
        let mut links: Vec<_> = (0..200)
            .map(|seed| LinkState::new(&rules(seed), start))
            .collect();
        let mut due: Vec<Instant> = Vec::new();
        for link in &mut links {
            link.lost(&error("reset"), false, true, start);
            due.push(link.connect(start).expect_err("it has just failed"));
        }
        let mut attempts = Vec::new();
        for second in 0..120 {
            let now = start + second * SECOND;
            let (mut accepted, mut tried) = (0, 0);
            for (link, due) in links.iter_mut().zip(&mut due) {
                while *due < now + SECOND {
                    link.connect(*due).expect("its time has come");
                    tried += 1;
                    if accepted < 20 {
                        accepted += 1;
                        link.connected(9, *due);
                        *due = start + 3600 * SECOND;
                        break;
                    }
                    link.lost(&error("refused"), true, true, *due);
                    *due = link.connect(*due).expect_err("it has just failed");
                }
            }
            attempts.push(tried);
        }
        assert!(links.iter().all(LinkState::is_up));
        let until = attempts.iter().rposition(|tried| *tried > 0).expect("some");
        println!("{until} s, attempts in each: {:?}", &attempts[..=until]);
        assert!(
            until < 40,
            "10 s would do if they came one by one: {attempts:?}"
        );
        let later = attempts[10..].iter().max();
        assert!(
            later.is_some_and(|most| *most < 40),
            "they spread: {attempts:?}"
        );
    }

    #[test]
    fn the_same_error_again_is_not_news() {
        let now = Instant::now();
        let mut link = link(now);
        let mut is_told = |why| link.lost(&error(why), true, false, now).told.is_some();
        let told = ["refused", "refused", "reset", "refused"].map(&mut is_told);
        assert_eq!(told, [true, false, true, false]);
        link.responded(Duration::ZERO, now);
        assert_eq!(link.last_error(), None);
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
    fn throttling_lasts_as_long_as_the_broker_asked_for() {
        let now = Instant::now();
        let mut link = link(now);
        assert_eq!(link.responded(Duration::ZERO, now), None);
        assert_eq!(link.responded(SECOND, now), Some(now + SECOND));
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
