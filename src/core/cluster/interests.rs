//! Who wants which topic.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::core::broker_error::BrokerError;

/// A caller's wish for a topic that is not among the routes.
#[derive(Debug)]
pub(crate) struct Wish<T> {
    pub asked: Instant,
    pub deadline: Instant,
    /// Comes back with the answer. A caller without one does not wait, and will have asked again by
    /// its deadline.
    pub ticket: Option<T>,
}

/// What a wish leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Brokers are to be asked.
    Ask,
    /// They are being asked already for others who wait: only this deadline is new.
    Until(Instant),
    /// A caller that does not wait asks once more.
    Again,
}

/// Why a caller does not get its topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TopicRefusal {
    /// It was not known in time.
    Unknown {
        topic: Arc<str>,
        waited: Duration,
        /// The last trouble, in words.
        why: Arc<str>,
        /// The brokers' last answer for the topic.
        error: Option<BrokerError>,
    },
    /// A broker refuses it for good.
    Refused { topic: Arc<str>, error: BrokerError },
}

/// What a broker's error for a topic leads to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Failed<T> {
    /// It may be known soon.
    AskAgain,
    /// Waiting will not help: all who waited are refused.
    Final(Vec<(T, TopicRefusal)>),
}

/// INVALID_TOPIC_EXCEPTION, TOPIC_AUTHORIZATION_FAILED.
fn is_final(code: i16) -> bool {
    matches!(code, 17 | 29)
}

#[derive(Debug)]
struct Waiter<T> {
    asked: Instant,
    deadline: Instant,
    ticket: T,
}

/// A topic somebody produces to, or waits for.
#[derive(Debug)]
struct Interest<T> {
    waiters: Vec<Waiter<T>>,
    /// A caller that does not wait wants to find it known if it asks again by then.
    wanted_until: Option<Instant>,
    last_used: Instant,
    last_error: Option<Arc<str>>,
    last_answer: Option<BrokerError>,
}

impl<T> Interest<T> {
    fn new(now: Instant) -> Self {
        Self {
            waiters: Vec::new(),
            wanted_until: None,
            last_used: now,
            last_error: None,
            last_answer: None,
        }
    }

    fn is_wanted(&self, now: Instant) -> bool {
        !self.waiters.is_empty() || self.wanted_until.is_some_and(|until| now < until)
    }
}

/// The topics that brokers are asked for, and the callers that wait for them.
///
/// Invariants:
/// - callers that do not wait leave one deadline per topic behind, however often they ask;
/// - a topic that is known or among the routes stays until nobody has sent to it for
///   `metadata.max.idle.ms`; any other leaves when nobody wants it any more.
#[derive(Debug)]
pub(crate) struct Interests<T> {
    by_topic: BTreeMap<Arc<str>, Interest<T>>,
    /// The reason in the error of a caller whose time is over before any broker has responded.
    no_response_yet: Arc<str>,
}

impl<T> Interests<T> {
    /// `bootstrap` is what `bootstrap.servers` says.
    pub fn new(bootstrap: &str) -> Self {
        let no_response_yet =
            format!("no answer yet from {bootstrap}; is a Kafka broker listening there?");
        Self {
            by_topic: BTreeMap::new(),
            no_response_yet: no_response_yet.into(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.by_topic.is_empty()
    }

    /// The topics, in order of their names.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<str>> {
        self.by_topic.keys()
    }

    /// Whether anybody wants a topic and has not got it.
    pub fn any_wanted(&self, now: Instant) -> bool {
        self.by_topic
            .values()
            .any(|interest| interest.is_wanted(now))
    }

    /// When the first waiter's time is up.
    pub fn next_deadline(&self) -> Option<Instant> {
        let waiters = self
            .by_topic
            .values()
            .flat_map(|interest| &interest.waiters);
        waiters.map(|waiter| waiter.deadline).min()
    }

    /// A caller wants a topic.
    pub fn want(&mut self, topic: Arc<str>, wish: Wish<T>, now: Instant) -> Wanted {
        let Wish {
            asked,
            deadline,
            ticket,
        } = wish;
        let interest = self
            .by_topic
            .entry(topic)
            .or_insert_with(|| Interest::new(now));
        let Some(ticket) = ticket else {
            let again = interest.wanted_until.is_some_and(|until| until > asked);
            interest.wanted_until = Some(deadline);
            return if again { Wanted::Again } else { Wanted::Ask };
        };
        let first = interest.waiters.is_empty();
        interest.waiters.push(Waiter {
            asked,
            deadline,
            ticket,
        });
        match first {
            true => Wanted::Ask,
            false => Wanted::Until(deadline),
        }
    }

    /// A broker told of a topic: returns those who waited for it. From now on it is among the routes
    /// and has to be kept up to date, even if they have given up meanwhile.
    pub fn found(&mut self, topic: &Arc<str>, now: Instant) -> impl Iterator<Item = T> {
        let interest = self
            .by_topic
            .entry(Arc::clone(topic))
            .or_insert_with(|| Interest::new(now));
        interest.last_error = None;
        interest.wanted_until = None;
        let waiters = interest.waiters.drain(..);
        waiters.map(|waiter| waiter.ticket)
    }

    /// A broker could not tell of a topic.
    pub fn failed(&mut self, topic: &Arc<str>, code: i16, is_routed: bool) -> Failed<T> {
        let Some(interest) = self.by_topic.get_mut(topic) else {
            return Failed::Final(Vec::new());
        };
        let error = BrokerError::new(code);
        interest.last_error = Some(format!("the broker answered {error}").into());
        interest.last_answer = Some(error.clone());
        if !is_final(code) {
            return Failed::AskAgain;
        }
        let refused = interest.waiters.drain(..).map(|waiter| {
            let refusal = TopicRefusal::Refused {
                topic: Arc::clone(topic),
                error: error.clone(),
            };
            (waiter.ticket, refusal)
        });
        let refused = refused.collect();
        if !is_routed {
            self.by_topic.remove(topic);
        }
        Failed::Final(refused)
    }

    /// No broker could be asked.
    pub fn unanswered(&mut self, error: &Arc<str>) {
        for interest in self.by_topic.values_mut() {
            interest.last_error = Some(Arc::clone(error));
            interest.last_answer = None;
        }
    }

    /// Refuses those whose time is up, and those whose ticket nobody holds any more. Then forgets
    /// the topics that nobody wants, unless they are to be `kept`.
    pub fn expire(
        &mut self,
        now: Instant,
        gone: impl Fn(&T) -> bool,
        kept: impl Fn(&str) -> bool,
    ) -> Vec<(T, TopicRefusal)> {
        let mut refused = Vec::new();
        for (topic, interest) in &mut self.by_topic {
            let (late, waiting) = std::mem::take(&mut interest.waiters)
                .into_iter()
                .partition(|waiter| waiter.deadline <= now || gone(&waiter.ticket));
            interest.waiters = waiting;
            let late: Vec<Waiter<T>> = late;
            refused.extend(late.into_iter().map(|waiter| {
                let why = interest
                    .last_error
                    .as_ref()
                    .unwrap_or(&self.no_response_yet);
                let refusal = TopicRefusal::Unknown {
                    topic: Arc::clone(topic),
                    waited: waiter.deadline - waiter.asked,
                    why: Arc::clone(why),
                    error: interest.last_answer.clone(),
                };
                (waiter.ticket, refusal)
            }));
        }
        self.by_topic
            .retain(|topic, interest| interest.is_wanted(now) || kept(topic));
        refused
    }

    /// Forgets the topics that nobody wants and nobody has sent to for `max_idle`; returns them.
    /// `was_used` tells whether somebody has sent to a topic since it was last asked.
    pub fn forget_idle(
        &mut self,
        now: Instant,
        max_idle: Duration,
        was_used: impl Fn(&str) -> bool,
    ) -> Vec<Arc<str>> {
        let mut idle = Vec::new();
        self.by_topic.retain(|topic, interest| {
            if was_used(topic) {
                interest.last_used = now;
            }
            let keep = interest.is_wanted(now) || now < interest.last_used + max_idle;
            if !keep {
                idle.push(Arc::clone(topic));
            }
            keep
        });
        idle
    }

    /// Nobody is to wait any more; returns all who did.
    pub fn close(&mut self) -> Vec<T> {
        let interests = self.by_topic.values_mut();
        let waiters = interests.flat_map(|interest| interest.waiters.drain(..));
        waiters.map(|waiter| waiter.ticket).collect()
    }
}

#[cfg(test)]
mod tests;
