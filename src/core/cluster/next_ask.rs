//! When brokers are asked for one topic, and how long that waits.

use std::time::{Duration, Instant};

use crate::core::backoff::Backoff;

/// What an answer leaves open of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Gap {
    Nothing,
    /// Nobody waits for what is missing.
    Idle,
    /// A caller or a batch waits for it.
    Waited,
}

/// When brokers are asked for a topic, unless all topics are asked for before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    /// Without delay: no broker has answered for it yet.
    New,
    /// Again, because the last answer left something open.
    Again(Instant),
    WithAll,
}

/// How long until a topic is asked for again that an answer has left open. The waits grow: up to
/// `retry.backoff.max.ms` while somebody waits for it, and up to `metadata.max.age.ms` otherwise. So the
/// end of an outage is noticed within about the time that the outage took.
#[derive(Debug)]
pub(super) struct Waits {
    backoff: Backoff,
    /// `retry.backoff.max.ms`.
    longest_waited: Duration,
    /// `metadata.max.age.ms`.
    longest_idle: Duration,
}

impl Waits {
    /// `backoff` runs from `retry.backoff.ms` to `retry.backoff.max.ms`.
    pub fn new(backoff: (Duration, Duration), max_age: Duration, seed: u64) -> Self {
        Self {
            backoff: Backoff::new(backoff.0, backoff.1, seed),
            longest_waited: backoff.1,
            longest_idle: max_age,
        }
    }
}

/// The next request for one topic.
#[derive(Debug)]
pub(super) struct NextAsk {
    ask: Ask,
    /// How many answers in a row have left something open.
    left_open: u32,
}

impl NextAsk {
    pub fn new() -> Self {
        Self {
            ask: Ask::New,
            left_open: 0,
        }
    }

    pub fn when(&self) -> Ask {
        self.ask
    }

    /// Whether a wait has not been over for `retry.backoff.max.ms` yet. Who wants the topic again until
    /// then is not the first: the brokers that were asked may be those that do not know it.
    pub fn is_recent(&self, waits: &Waits, now: Instant) -> bool {
        matches!(self.ask, Ask::Again(at) if now < at + waits.longest_waited)
    }

    /// Nothing is left to ask for that could not wait for the others.
    pub fn with_all(&mut self) {
        self.ask = Ask::WithAll;
    }

    /// Notes what an answer left open.
    pub fn answered(&mut self, gap: Gap, waits: &mut Waits, now: Instant) {
        let longest = match gap {
            Gap::Nothing => {
                self.left_open = 0;
                self.ask = Ask::WithAll;
                return;
            }
            Gap::Idle => waits.longest_idle,
            Gap::Waited => waits.longest_waited,
        };
        self.left_open = self.left_open.saturating_add(1);
        let wait = waits.backoff.after(self.left_open, longest);
        self.ask = Ask::Again(now + wait);
    }

    /// A caller wants the topic.
    pub fn wanted(&mut self, waits: &Waits, now: Instant) {
        match self.ask {
            Ask::New => {}
            // So far perhaps nobody waited for it.
            Ask::Again(_) => self.no_later_than(now + waits.longest_waited),
            // It is not among the routes all the same.
            Ask::WithAll => self.ask = Ask::New,
        }
    }

    /// Has brokers asked again, no later than `at`.
    pub fn no_later_than(&mut self, at: Instant) {
        self.ask = match self.ask {
            Ask::New => Ask::New,
            Ask::Again(sooner) if sooner < at => Ask::Again(sooner),
            Ask::Again(_) | Ask::WithAll => Ask::Again(at),
        };
    }
}
