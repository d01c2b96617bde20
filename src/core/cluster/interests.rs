//! Who wants which topic.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::next_ask::{Ask, Gap, NextAsk, Waits};
use super::view::Nodes;
use crate::core::broker_error::BrokerError;
use crate::core::endpoint::Endpoint;
use crate::core::line::Line;

/// A caller's wish for a topic that is not among the routes, or that lacks a partition there.
#[derive(Debug)]
pub(crate) struct Wish<T> {
    /// The partition that its record names.
    pub partition: Option<i32>,
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
    /// They are being asked already: only this deadline is new.
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
    /// A broker that was asked after the caller says that it does not have the partition.
    OutOfRange {
        topic: Arc<str>,
        partition: i32,
        count: usize,
    },
    /// A broker refuses it for good.
    Refused { topic: Arc<str>, error: BrokerError },
    /// It has more partitions than a producer takes, with those it has already.
    TooManyPartitions {
        topic: Arc<str>,
        partitions: usize,
        limit: usize,
    },
}

/// What a broker's error for a topic leads to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Failed<T> {
    /// It may be known soon.
    AskAgain,
    /// Waiting will not help: all who waited are refused.
    Final(Vec<(T, TopicRefusal)>),
}

/// What a broker's word on a topic leads to.
#[derive(Debug)]
#[must_use]
pub(crate) struct Found<T> {
    /// Callers that have now what they waited for.
    pub ready: Vec<T>,
    /// Callers that name a partition which is not there.
    pub refused: Vec<(T, TopicRefusal)>,
    /// A caller that does not wait named one, too.
    pub denied: bool,
}

/// A topic is taken for deleted after this many answers that it does not exist, of two brokers.
const MISSING: u32 = 3;

/// How many callers of a topic are asked whether they still wait, on average at each look at deadlines.
const ASKED: usize = 64;

/// UNKNOWN_TOPIC_OR_PARTITION.
pub(super) const UNKNOWN_TOPIC: i16 = 3;

/// INVALID_TOPIC_EXCEPTION, TOPIC_AUTHORIZATION_FAILED.
fn is_final(code: i16) -> bool {
    matches!(code, 17 | 29)
}

#[derive(Debug)]
struct Waiter<T> {
    partition: Option<i32>,
    asked: Instant,
    deadline: Instant,
    /// A request for the topic has left since: its answer may deny the partition.
    sent: bool,
    ticket: T,
}

/// The callers that do not wait.
#[derive(Debug)]
struct Glance {
    /// The highest partition that one of them named.
    partition: Option<i32>,
    /// They want to find the topic known if they ask again by then.
    until: Instant,
    /// As with a [`Waiter`].
    sent: bool,
}

/// Whether a topic with so many partitions has the one that is named.
fn has(count: usize, partition: Option<i32>) -> bool {
    partition.is_none_or(|named| usize::try_from(named).is_ok_and(|at| at < count))
}

/// A topic somebody produces to, or waits for.
#[derive(Debug)]
struct Interest<T> {
    waiters: Line<Waiter<T>>,
    /// How many of them may be asked by now whether they still wait.
    may_ask: usize,
    glance: Option<Glance>,
    last_used: Instant,
    last_error: Option<Arc<str>>,
    last_answer: Option<BrokerError>,
    /// A broker told of its partitions once.
    known: bool,
    next_ask: NextAsk,
    /// How many answers in a row said that it does not exist.
    missing: u32,
    /// The brokers that said so.
    missing_at: Vec<Endpoint>,
}

impl<T> Interest<T> {
    fn new(now: Instant) -> Self {
        Self {
            waiters: Line::new(),
            may_ask: 0,
            glance: None,
            last_used: now,
            last_error: None,
            last_answer: None,
            known: false,
            next_ask: NextAsk::new(),
            missing: 0,
            missing_at: Vec::new(),
        }
    }

    /// An answer did not say that it does not exist.
    fn not_missing(&mut self) {
        self.missing = 0;
        self.missing_at.clear();
    }

    fn is_wanted(&self, now: Instant) -> bool {
        let glance = self.glance.as_ref();
        !self.waiters.is_empty() || glance.is_some_and(|glance| now < glance.until)
    }

    /// Whether brokers are asked for it at all.
    fn is_live(&self, now: Instant) -> bool {
        self.known || self.is_wanted(now)
    }
}

/// The topics that brokers are asked for, and the callers that wait for them.
///
/// Invariants:
/// - callers that do not wait leave one deadline per topic behind, however often they ask;
/// - a topic that is known or among the routes stays until nobody has sent to it for
///   `metadata.max.idle.ms`; any other leaves when nobody wants it any more and its wait has been over
///   for a while. So who asks for it again soon has to wait, too, and has another broker asked;
/// - a topic of which something is missing is asked for again after waits that grow ([`Waits`]).
#[derive(Debug)]
pub(crate) struct Interests<T> {
    by_topic: BTreeMap<Arc<str>, Interest<T>>,
    waits: Waits,
    /// The reason in the error of a caller whose time is over before any broker has responded.
    no_response_yet: Arc<str>,
    /// Why no broker could be asked, since one responded last. It is the reason of callers whose topic
    /// could not be asked for at all.
    in_the_way: Option<Arc<str>>,
}

impl<T> Interests<T> {
    /// `bootstrap` is what `bootstrap.servers` says.
    pub fn new(
        bootstrap: &str,
        backoff: (Duration, Duration),
        max_age: Duration,
        seed: u64,
    ) -> Self {
        let no_response_yet =
            format!("no answer yet from {bootstrap}; is a Kafka broker listening there?");
        Self {
            by_topic: BTreeMap::new(),
            waits: Waits::new(backoff, max_age, seed),
            no_response_yet: no_response_yet.into(),
            in_the_way: None,
        }
    }

    fn live(&self, now: Instant) -> impl Iterator<Item = (&Arc<str>, &Interest<T>)> {
        let live = move |(_, interest): &(_, &Interest<T>)| interest.is_live(now);
        self.by_topic.iter().filter(live)
    }

    /// Whether there is any topic to ask for.
    pub fn any(&self, now: Instant) -> bool {
        self.live(now).next().is_some()
    }

    /// All topics to ask for, in order of their names.
    pub fn topics(&self, now: Instant) -> impl Iterator<Item = &Arc<str>> {
        self.live(now).map(|(topic, _)| topic)
    }

    /// The topics that are asked for without the others: those no broker has answered for yet, and, if
    /// they are wanted `again`, those that were left open and whose time has come.
    pub fn some_topics(&self, again: bool, now: Instant) -> impl Iterator<Item = &Arc<str>> {
        let some = self
            .live(now)
            .filter(move |(_, interest)| match interest.next_ask.when() {
                Ask::New => true,
                Ask::Again(at) => again && at <= now,
                Ask::WithAll => false,
            });
        some.map(|(topic, _)| topic)
    }

    /// Whether there are topics that no broker has answered for yet, and when the first of those that
    /// were left open is due.
    pub fn next_ask(&self, now: Instant) -> (bool, Option<Instant>) {
        let mut next = (false, None);
        for (_, interest) in self.live(now) {
            match interest.next_ask.when() {
                Ask::New => next.0 = true,
                Ask::Again(at) => next.1 = Some(next.1.map_or(at, |next: Instant| next.min(at))),
                Ask::WithAll => {}
            }
        }
        next
    }

    /// Whether a broker has answered for the topic before.
    pub fn was_answered(&self, topic: &str) -> bool {
        let interest = self.by_topic.get(topic);
        interest.is_some_and(|interest| interest.next_ask.when() != Ask::New)
    }

    /// When the first waiter's time is up.
    pub fn next_deadline(&self) -> Option<Instant> {
        let lines = self.by_topic.values().map(|interest| &interest.waiters);
        lines.filter_map(Line::next_deadline).min()
    }

    /// A caller wants a topic.
    pub fn want(&mut self, topic: Arc<str>, wish: Wish<T>, now: Instant) -> Wanted {
        let Wish {
            partition,
            asked,
            deadline,
            ticket,
        } = wish;
        let interest = self
            .by_topic
            .entry(topic)
            .or_insert_with(|| Interest::new(now));
        if interest.known && partition.is_some() && !interest.is_wanted(now) {
            // What is known may have become more: brokers are asked as soon as it may be again.
            interest.next_ask.no_later_than(now);
        } else {
            interest.next_ask.wanted(&self.waits, now);
        }
        let Some(ticket) = ticket else {
            let mut glance = Glance {
                partition,
                until: deadline,
                sent: false,
            };
            let mut again = false;
            if let Some(former) = interest.glance.take().filter(|it| it.until > asked) {
                again = partition <= former.partition;
                glance.partition = partition.max(former.partition);
                // That one may have more time, or records that wait for their outcome.
                glance.until = deadline.max(former.until);
                glance.sent = again && former.sent;
            }
            interest.glance = Some(glance);
            return if again { Wanted::Again } else { Wanted::Ask };
        };
        let first = interest.waiters.is_empty();
        let waiter = Waiter {
            partition,
            asked,
            deadline,
            sent: false,
            ticket,
        };
        interest.waiters.push(deadline, waiter);
        match first {
            true => Wanted::Ask,
            false => Wanted::Until(deadline),
        }
    }

    /// A request for these topics leaves.
    pub fn asking(&mut self, topics: &[Arc<str>]) {
        for topic in topics {
            if let Some(interest) = self.by_topic.get_mut(topic) {
                let waiters = interest.waiters.iter_mut();
                waiters.for_each(|waiter| waiter.sent = true);
                let glance = interest.glance.iter_mut();
                glance.for_each(|glance| glance.sent = true);
            }
        }
    }

    /// A broker told of a topic with `count` partitions: returns what becomes of those who waited for it.
    /// From now on it is among the routes and has to be kept up to date, even if they have given up
    /// meanwhile. `gap`: what the answer left open.
    ///
    /// Who names a partition that it does not have waits on, if the request was sent before.
    pub fn found(
        &mut self,
        (topic, count): (&Arc<str>, usize),
        gap: Gap,
        now: Instant,
    ) -> Found<T> {
        let interest = self
            .by_topic
            .entry(Arc::clone(topic))
            .or_insert_with(|| Interest::new(now));
        interest.last_error = None;
        interest.last_answer = None;
        interest.known = true;
        interest.not_missing();
        interest.next_ask.answered(gap, &mut self.waits, now);
        let mut found = Found {
            ready: Vec::new(),
            refused: Vec::new(),
            denied: false,
        };
        for waiter in interest.waiters.take_all() {
            match waiter.partition {
                Some(partition) if !has(count, Some(partition)) => match waiter.sent {
                    true => {
                        let refusal = TopicRefusal::OutOfRange {
                            topic: Arc::clone(topic),
                            partition,
                            count,
                        };
                        found.refused.push((waiter.ticket, refusal));
                    }
                    false => interest.waiters.push(waiter.deadline, waiter),
                },
                _ => found.ready.push(waiter.ticket),
            }
        }
        if let Some(glance) = interest.glance.take()
            && !has(count, glance.partition)
        {
            found.denied = glance.sent;
            interest.glance = Some(glance).filter(|glance| !glance.sent);
        }
        if interest.is_wanted(now) {
            interest.next_ask.no_later_than(now);
        }
        found
    }

    /// A broker says that a topic does not exist, though it did. Returns whether it is taken for deleted:
    /// one broker may be behind the others, and an answer may be older than the topic. From then on it is
    /// asked for only while it is wanted.
    pub fn missing(&mut self, topic: &str, broker: &Endpoint, nodes: &Nodes) -> bool {
        let Some(interest) = self.by_topic.get_mut(topic) else {
            return false;
        };
        interest.missing += 1;
        if !interest.missing_at.contains(broker) {
            interest.missing_at.push(broker.clone());
        }
        let deleted = interest.missing >= MISSING && nodes.are_two(&interest.missing_at);
        interest.known &= !deleted;
        deleted
    }

    /// A broker could not tell of a topic.
    pub fn failed(
        &mut self,
        topic: &Arc<str>,
        error: &BrokerError,
        is_routed: bool,
        now: Instant,
    ) -> Failed<T> {
        if error.code != UNKNOWN_TOPIC {
            self.not_missing(topic);
        }
        if !is_final(error.code) {
            let why = format!("the broker answered {error}");
            self.open(topic, why.into(), Some(error.clone()), now);
            return Failed::AskAgain;
        }
        let refusal = TopicRefusal::Refused {
            topic: Arc::clone(topic),
            error: error.clone(),
        };
        Failed::Final(self.refuse(topic, &refusal, is_routed, now))
    }

    /// A broker's answer does not mention a topic that it was asked for.
    pub fn left_out(&mut self, topic: &Arc<str>, now: Instant) {
        self.not_missing(topic);
        let why = "the broker's answer left the topic out".into();
        self.open(topic, why, None, now);
    }

    fn not_missing(&mut self, topic: &str) {
        if let Some(interest) = self.by_topic.get_mut(topic) {
            interest.not_missing();
        }
    }

    fn open(&mut self, topic: &str, why: Arc<str>, error: Option<BrokerError>, now: Instant) {
        if let Some(interest) = self.by_topic.get_mut(topic) {
            interest.last_error = Some(why);
            interest.last_answer = error;
            let gap = match interest.is_wanted(now) {
                true => Gap::Waited,
                false => Gap::Idle,
            };
            interest.next_ask.answered(gap, &mut self.waits, now);
        }
    }

    /// Waiting for the topic will not help. Returns all who waited, with the reason. Who wants it again has
    /// brokers asked again, after a wait.
    pub fn refuse(
        &mut self,
        topic: &Arc<str>,
        refusal: &TopicRefusal,
        is_routed: bool,
        now: Instant,
    ) -> Vec<(T, TopicRefusal)> {
        let Some(interest) = self.by_topic.get_mut(topic) else {
            return Vec::new();
        };
        let waiters = interest.waiters.take_all();
        let refused = waiters
            .map(|waiter| (waiter.ticket, refusal.clone()))
            .collect();
        match refusal {
            TopicRefusal::Refused { error, .. } => {
                interest.last_error = Some(format!("the broker answered {error}").into());
                interest.last_answer = Some(error.clone());
            }
            TopicRefusal::TooManyPartitions { partitions, .. } => {
                interest.last_error = Some(format!("it has {partitions} partitions").into());
            }
            TopicRefusal::Unknown { .. } | TopicRefusal::OutOfRange { .. } => {}
        }
        interest.glance = None;
        interest.known |= is_routed;
        if is_routed {
            interest.next_ask.with_all();
        } else {
            interest
                .next_ask
                .answered(Gap::Waited, &mut self.waits, now);
        }
        refused
    }

    /// A broker responded.
    pub fn responded(&mut self) {
        self.in_the_way = None;
    }

    /// No broker could be asked.
    pub fn unanswered(&mut self, error: &Arc<str>) {
        self.in_the_way = Some(Arc::clone(error));
        for interest in self.by_topic.values_mut() {
            interest.last_error = Some(Arc::clone(error));
            interest.last_answer = None;
        }
    }

    /// Refuses those whose time is up, and forgets those whose ticket nobody holds any more, in time.
    /// Then forgets the topics that nobody wants, unless they are to be `kept` or were asked for a short
    /// time ago.
    pub fn expire(
        &mut self,
        now: Instant,
        gone: impl Fn(&T) -> bool,
        kept: impl Fn(&str) -> bool,
    ) -> Vec<(T, TopicRefusal)> {
        let mut refused = Vec::new();
        for (topic, interest) in &mut self.by_topic {
            interest.may_ask += ASKED;
            if interest.may_ask >= interest.waiters.len() {
                interest.may_ask = 0;
                interest.waiters.forget(|waiter| gone(&waiter.ticket));
            }
            let late = std::iter::from_fn(|| interest.waiters.take_late(now));
            refused.extend(late.map(|waiter| {
                let why = interest.last_error.as_ref().or(self.in_the_way.as_ref());
                let why = why.unwrap_or(&self.no_response_yet);
                let why = match waiter.partition {
                    Some(partition) if interest.known => {
                        format!("whether it has a partition {partition} by now: {why}").into()
                    }
                    _ => Arc::clone(why),
                };
                let refusal = TopicRefusal::Unknown {
                    topic: Arc::clone(topic),
                    waited: waiter.deadline - waiter.asked,
                    why,
                    error: interest.last_answer.clone(),
                };
                (waiter.ticket, refusal)
            }));
        }
        self.by_topic.retain(|topic, interest| {
            interest.known |= kept(topic);
            interest.is_live(now) || interest.next_ask.is_recent(&self.waits, now)
        });
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
        let waiters = interests.flat_map(|interest| interest.waiters.take_all());
        waiters.map(|waiter| waiter.ticket).collect()
    }
}

#[cfg(test)]
mod tests;
