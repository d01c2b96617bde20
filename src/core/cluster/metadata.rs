//! What the producer knows of its topics, and what it asks brokers for.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::interests::{Failed, Interests, TopicRefusal, UNKNOWN_TOPIC, Wanted, Wish};
use super::lockout::Lockout;
use super::next_ask::Gap;
use super::refresh::{Cause, RefreshSchedule};
use super::view::{ClusterView, MOST_PARTITIONS, TopicView};
use crate::core::broker_error::BrokerError;
use crate::core::endpoint::Endpoint;
use crate::core::record::TopicPartition;
use crate::core::security::SecurityError;
use crate::core::troubles::{Told, Troubles};
use crate::core::wire::{LeaderHint, MetadataResponse, Node};

/// What the configuration says of metadata.
#[derive(Debug, Clone)]
pub(crate) struct MetadataRules {
    /// `bootstrap.servers`, for the error of callers whose time is over.
    pub bootstrap: String,
    /// Whom brokers take this client for, if that is known.
    pub principal: Option<Arc<str>>,
    /// `metadata.max.age.ms`.
    pub max_age: Duration,
    /// `metadata.max.idle.ms`.
    pub max_idle: Duration,
    /// `retry.backoff.ms`, `retry.backoff.max.ms`.
    pub backoff: (Duration, Duration),
    /// Of the waits' jitter.
    pub seed: u64,
}

/// What is to be done now to keep the view up to date.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct MetadataRequest {
    /// The topics to ask for. If there are none, no request is sent.
    pub topics: Vec<String>,
    /// Another broker than the last one is to be asked: that one told nothing new, though something
    /// failed.
    pub elsewhere: bool,
    /// Topics that no caller sends to any more. They leave the routes, and are looked up again when a
    /// caller does.
    pub forgotten: Vec<Arc<str>>,
}

/// What the rest of the producer knows of topics.
pub(crate) trait TopicUse {
    /// Whether a topic is among the routes. Then it has to be kept up to date.
    fn is_routed(&self, topic: &str) -> bool;
    /// Whether a partition has batches that wait for a leader.
    fn waits_for_leader(&self, topic: &str, partition: usize) -> bool;
}

/// What brokers deny to callers that do not wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Denial {
    /// The topic, for good. It is not among the routes.
    Topic(BrokerError),
    /// The partitions from this number on.
    Partitions(usize),
    /// The topic, as it has more partitions than a producer takes. It is not among the routes.
    TooManyPartitions { partitions: usize, limit: usize },
}

/// What has to be done after a broker's response, in this order.
#[derive(Debug)]
#[must_use]
pub(crate) struct Effects<T> {
    /// Brokers came, went or moved.
    pub nodes_changed: bool,
    /// Callers that are refused.
    pub refused: Vec<(T, TopicRefusal)>,
    /// What callers that do not wait are to hear, too.
    pub denied: Vec<(Arc<str>, Denial)>,
    /// The topics the response tells of, as they are now.
    pub topics: Vec<TopicView>,
    /// Topics that are taken for deleted. They leave the routes.
    pub gone: Vec<Arc<str>>,
    /// Callers whose topic is one of these.
    pub ready: Vec<(Arc<str>, T)>,
}

/// The view of the cluster, the callers that wait for a part of it, and when it is renewed.
///
/// Invariant: no request is due without a topic that a caller wants or sends to.
#[derive(Debug)]
pub(crate) struct ProducerMetadata<T> {
    view: ClusterView,
    interests: Interests<T>,
    schedule: RefreshSchedule,
    /// The topics of the request on its way, in order of their names, and why they are asked for.
    asked: (Vec<Arc<str>>, Cause),
    max_idle: Duration,
    principal: Option<Arc<str>>,
    /// Why no broker could be asked.
    troubles: Troubles,
    lockout: Lockout,
}

impl<T> ProducerMetadata<T> {
    pub fn new(rules: &MetadataRules, now: Instant) -> Self {
        let schedule = RefreshSchedule::new(rules.backoff, rules.max_age, rules.seed, now);
        Self {
            view: ClusterView::default(),
            interests: Interests::new(
                &rules.bootstrap,
                rules.backoff,
                rules.max_age,
                rules.seed.wrapping_add(1),
            ),
            schedule,
            asked: Default::default(),
            max_idle: rules.max_idle,
            principal: rules.principal.clone(),
            troubles: Troubles::default(),
            lockout: Lockout::default(),
        }
    }

    /// The cluster as it is known.
    pub fn view(&self) -> &ClusterView {
        &self.view
    }

    /// The response to a request for `topic_id` names a new leader (KIP-951). If that was news, returns
    /// the topic, and whether brokers came or moved.
    pub fn leader_moved(
        &mut self,
        at: &TopicPartition,
        topic_id: Uuid,
        leader: LeaderHint,
        nodes: &[Node],
    ) -> Option<(TopicView, bool)> {
        self.view
            .hint((&at.topic, topic_id), at.partition, leader, nodes)
    }

    /// A caller wants a topic that is not among the routes, or a partition that it lacks there.
    pub fn want(&mut self, topic: Arc<str>, wish: Wish<T>, now: Instant) -> Wanted {
        let (deadline, waits) = (wish.deadline, wish.ticket.is_some());
        match self.interests.want(topic, wish, now) {
            // To look at all topics for each that comes up is for the time when that has come back.
            Wanted::Ask if self.schedule.is_asking() && waits => Wanted::Until(deadline),
            Wanted::Ask if self.schedule.is_asking() => Wanted::Again,
            wanted => wanted,
        }
    }

    /// Something failed: the view may be out of date.
    pub fn refresh(&mut self, now: Instant) {
        self.schedule.failure(now);
    }

    /// The request on its way, if there is one, is lost.
    pub fn request_lost(&mut self, now: Instant) {
        self.schedule.lost();
        self.schedule.failure(now);
    }

    /// The request to send now, if one is due. `was_used` tells whether a topic was sent to
    /// since it was last called for it.
    pub fn next_request(
        &mut self,
        now: Instant,
        was_used: impl Fn(&str) -> bool,
    ) -> Option<MetadataRequest> {
        if self.schedule.is_asking() || !self.interests.any(now) {
            return None;
        }
        let (new, again) = self.interests.next_ask(now);
        let cause = self.schedule.ask(new, again, now)?;
        let mut request = MetadataRequest {
            elsewhere: cause.elsewhere,
            ..MetadataRequest::default()
        };
        let topics: Vec<_> = if cause.all {
            request.forgotten = self.interests.forget_idle(now, self.max_idle, was_used);
            for topic in &request.forgotten {
                self.view.forget(topic);
            }
            self.interests.topics(now).cloned().collect()
        } else {
            let topics = self.interests.some_topics(cause.again, now);
            topics.cloned().collect()
        };
        if topics.is_empty() {
            // An empty list would ask for nothing, and of old brokers for everything.
            self.schedule.lost();
        }
        self.interests.asking(&topics);
        request.topics = topics.iter().map(|topic| topic.to_string()).collect();
        self.asked = (topics, cause);
        Some(request)
    }

    /// This broker responded, if it is known which. What it tells of topics that were not asked for is
    /// ignored.
    pub fn answered(
        &mut self,
        mut response: MetadataResponse,
        broker: Option<&Endpoint>,
        now: Instant,
        uses: &impl TopicUse,
    ) -> Effects<T> {
        self.troubles.over();
        self.lockout.let_in();
        self.interests.responded();
        let (asked, cause) = std::mem::take(&mut self.asked);
        let was_asked = |name: &str| asked.binary_search_by(|asked| (**asked).cmp(name)).is_ok();
        response.topics.retain(|topic| was_asked(&topic.name));
        let changes = self.view.apply(response);
        // What was never asked for before says nothing of the broker.
        let mut news = changes.news.iter();
        let news = changes.nodes || news.any(|topic| self.interests.was_answered(topic));
        let mut effects = Effects {
            nodes_changed: changes.nodes,
            refused: Vec::new(),
            denied: Vec::new(),
            topics: changes.topics,
            gone: Vec::new(),
            ready: Vec::new(),
        };
        let mut left_out: BTreeSet<_> = asked.iter().collect();
        for (topic, code) in &changes.failed {
            left_out.remove(topic);
            let is_routed = uses.is_routed(topic);
            if let (true, UNKNOWN_TOPIC, Some(broker)) = (is_routed, *code, broker)
                && self.interests.missing(topic, broker, self.view.nodes())
            {
                self.view.forget(topic);
                effects.gone.push(Arc::clone(topic));
            }
            let error = BrokerError::new(*code).of(&self.principal);
            match self.interests.failed(topic, &error, is_routed, now) {
                Failed::AskAgain => {}
                Failed::Final(refused) => {
                    effects.refused.extend(refused);
                    if !is_routed {
                        let denial = Denial::Topic(error);
                        effects.denied.push((Arc::clone(topic), denial));
                    }
                }
            }
        }
        for (topic, partitions) in changes.too_large {
            left_out.remove(&topic);
            self.refuse_too_large(topic, partitions, uses, now, &mut effects);
        }
        for topic in &effects.topics {
            left_out.remove(&topic.name);
            let (gap, count) = (gap(topic, uses), topic.leaders.len());
            let found = self.interests.found((&topic.name, count), gap, now);
            let ready = found.ready.into_iter();
            let ready = ready.map(|ticket| (Arc::clone(&topic.name), ticket));
            effects.ready.extend(ready);
            effects.refused.extend(found.refused);
            if found.denied {
                let denial = Denial::Partitions(count);
                effects.denied.push((Arc::clone(&topic.name), denial));
            }
        }
        for topic in left_out {
            self.interests.left_out(topic, now);
        }
        self.schedule.answered(cause, news, now);
        effects
    }

    /// A topic has more partitions than a producer takes.
    fn refuse_too_large(
        &mut self,
        topic: Arc<str>,
        partitions: usize,
        uses: &impl TopicUse,
        now: Instant,
        effects: &mut Effects<T>,
    ) {
        let (is_routed, limit) = (uses.is_routed(&topic), MOST_PARTITIONS);
        let refusal = TopicRefusal::TooManyPartitions {
            topic: Arc::clone(&topic),
            partitions,
            limit,
        };
        let refused = self.interests.refuse(&topic, &refusal, is_routed, now);
        effects.refused.extend(refused);
        if !is_routed {
            let denial = Denial::TooManyPartitions { partitions, limit };
            effects.denied.push((topic, denial));
        }
    }

    /// No broker responded. The next one is asked after `delay`. Returns how that is to be told, unless
    /// it was lately.
    pub fn unanswered(
        &mut self,
        last_error: &Arc<str>,
        delay: Duration,
        now: Instant,
    ) -> Option<Told> {
        self.interests.unanswered(last_error);
        let (_, cause) = std::mem::take(&mut self.asked);
        self.schedule.unanswered(cause, delay, now);
        self.troubles.failed(last_error, now)
    }

    /// A broker let this client in, though it has answered nothing yet.
    pub fn let_in(&mut self) {
        self.lockout.let_in();
    }

    /// The same failure, looked at for what a wait would not mend. Returns the callers that are to hear
    /// of it at once, and what they hear. `round_over`: no other broker is tried at once.
    pub fn locked_out(
        &mut self,
        error: Option<(SecurityError, bool)>,
        round_over: bool,
        now: Instant,
    ) -> Option<(Arc<SecurityError>, Vec<T>)> {
        let error = self.lockout.failed(error, round_over, now)?;
        Some((Arc::new(error), self.interests.close()))
    }

    /// Refuses the callers whose time is over, and those that do not wait any more (`gone`). A topic that
    /// was never known, and that no caller wants any more, costs no further requests.
    pub fn expire(
        &mut self,
        now: Instant,
        gone: impl Fn(&T) -> bool,
        is_routed: impl Fn(&str) -> bool,
    ) -> Vec<(T, TopicRefusal)> {
        let view = &self.view;
        let kept = |topic: &str| view.topic(topic).is_some() || is_routed(topic);
        self.interests.expire(now, gone, kept)
    }

    /// No caller is to wait any more. Returns all that did.
    pub fn close(&mut self) -> Vec<T> {
        self.interests.close()
    }

    /// When to check again: a request is due, or the time of a caller is over.
    pub fn next_wake(&self, now: Instant) -> Option<Instant> {
        let due = match self.schedule.is_asking() || !self.interests.any(now) {
            // Without a topic to ask for, what is due waits for one.
            true => None,
            false => {
                let (new, again) = self.interests.next_ask(now);
                self.schedule.next(new, again)
            }
        };
        self.interests.next_deadline().into_iter().chain(due).min()
    }
}

/// What a broker's word on a topic leaves open.
fn gap(topic: &TopicView, uses: &impl TopicUse) -> Gap {
    let leaders = topic.leaders.iter().enumerate();
    let missing = leaders.filter(|(_, leader)| leader.node.is_none());
    let gaps = missing.map(|(at, _)| match uses.waits_for_leader(&topic.name, at) {
        true => Gap::Waited,
        false => Gap::Idle,
    });
    gaps.max().unwrap_or(Gap::Nothing)
}

#[cfg(test)]
mod tests;
