//! What the producer knows of its topics, and what it asks brokers for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::interests::{Failed, Interests, TopicRefusal, Wanted, Wish};
use super::refresh::RefreshSchedule;
use super::view::{ClusterView, TopicView};
use crate::core::record::TopicPartition;
use crate::core::wire::{LeaderHint, MetadataResponse, Node};

/// What the configuration says of metadata.
#[derive(Debug, Clone)]
pub(crate) struct MetadataRules {
    /// `bootstrap.servers`, for the error of callers whose time is over.
    pub bootstrap: String,
    /// `metadata.max.age.ms`.
    pub max_age: Duration,
    /// `metadata.max.idle.ms`.
    pub max_idle: Duration,
    /// `retry.backoff.ms`, `retry.backoff.max.ms`.
    pub backoff: (Duration, Duration),
    /// Of the waits' jitter.
    pub seed: u64,
}

/// A metadata request to send now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct MetadataRequest {
    pub topics: Vec<String>,
    /// Topics that no caller sends to any more. They leave the routes, and are looked up again when a
    /// caller does.
    pub forgotten: Vec<Arc<str>>,
}

/// What has to be done after a broker's response, in this order.
#[derive(Debug)]
#[must_use]
pub(crate) struct Effects<T> {
    /// Brokers came, went or moved.
    pub nodes_changed: bool,
    /// Callers that are refused.
    pub refused: Vec<(T, TopicRefusal)>,
    /// The topics the response tells of, as they are now.
    pub topics: Vec<TopicView>,
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
    max_idle: Duration,
    /// Why no broker could be asked, until one responds.
    last_error: Option<Arc<str>>,
}

impl<T> ProducerMetadata<T> {
    pub fn new(rules: &MetadataRules, now: Instant) -> Self {
        let schedule = RefreshSchedule::new(rules.backoff, rules.max_age, rules.seed, now);
        Self {
            view: ClusterView::default(),
            interests: Interests::new(&rules.bootstrap),
            schedule,
            max_idle: rules.max_idle,
            last_error: None,
        }
    }

    /// The cluster as it is known.
    pub fn view(&self) -> &ClusterView {
        &self.view
    }

    /// A produce response names a new leader (KIP-951). Returns the topic if that was news.
    pub fn leader_moved(
        &mut self,
        at: &TopicPartition,
        leader: LeaderHint,
        nodes: &[Node],
    ) -> Option<TopicView> {
        self.view.hint(&at.topic, at.partition, leader, nodes)
    }

    /// A caller wants a topic that is not among the routes.
    pub fn want(&mut self, topic: Arc<str>, wish: Wish<T>, now: Instant) -> Wanted {
        let wanted = self.interests.want(topic, wish, now);
        if wanted == Wanted::Ask {
            self.schedule.ask_by(now);
        }
        wanted
    }

    /// The view may be out of date.
    pub fn refresh(&mut self, now: Instant) {
        self.schedule.ask_by(now);
    }

    /// The request on its way, if there is one, is lost.
    pub fn request_lost(&mut self, now: Instant) {
        self.schedule.lost();
        self.schedule.ask_by(now);
    }

    /// The request to send now, if one is due. `was_used` tells whether a topic was sent to
    /// since it was last called for it.
    pub fn next_request(
        &mut self,
        now: Instant,
        was_used: impl Fn(&str) -> bool,
    ) -> Option<MetadataRequest> {
        if self.interests.is_empty() || !self.schedule.is_due(now) {
            return None;
        }
        self.schedule.asked();
        let forgotten = self.interests.forget_idle(now, self.max_idle, was_used);
        for topic in &forgotten {
            self.view.forget(topic);
        }
        let topics = self.interests.topics().map(|topic| topic.to_string());
        Some(MetadataRequest {
            topics: topics.collect(),
            forgotten,
        })
    }

    /// A broker responded. `is_routed` tells whether a topic is among the routes: then it has to be kept
    /// up to date.
    pub fn answered(
        &mut self,
        response: MetadataResponse,
        now: Instant,
        is_routed: impl Fn(&str) -> bool,
    ) -> Effects<T> {
        self.last_error = None;
        let changes = self.view.apply(response);
        let mut effects = Effects {
            nodes_changed: changes.nodes,
            refused: Vec::new(),
            topics: changes.topics,
            ready: Vec::new(),
        };
        let mut open = false;
        for (topic, code) in &changes.failed {
            match self.interests.failed(topic, *code, is_routed(topic)) {
                Failed::AskAgain => open = true,
                Failed::Final(refused) => effects.refused.extend(refused),
            }
        }
        for topic in &effects.topics {
            open |= topic.leaders.iter().any(|leader| leader.node.is_none());
            let waiters = self.interests.found(&topic.name, now);
            let ready = waiters.map(|ticket| (Arc::clone(&topic.name), ticket));
            effects.ready.extend(ready);
        }
        // Topics that came up while the request was on its way.
        open |= self.interests.any_wanted(now);
        self.schedule.answered(open, now);
        effects
    }

    /// No broker responded. The next one is asked after `delay`. Returns whether the error is another one
    /// than last time.
    pub fn unanswered(&mut self, last_error: &Arc<str>, delay: Duration, now: Instant) -> bool {
        self.interests.unanswered(last_error);
        self.schedule.failed(delay, now);
        let last = self.last_error.replace(Arc::clone(last_error));
        last.as_ref() != Some(last_error)
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
    pub fn next_wake(&self) -> Option<Instant> {
        // Without a topic to ask for, what is due waits for one.
        let due = self.schedule.next().filter(|_| !self.interests.is_empty());
        self.interests.next_deadline().into_iter().chain(due).min()
    }
}

#[cfg(test)]
mod tests;
