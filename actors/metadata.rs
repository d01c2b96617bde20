//! The MetadataActor: owns the picture of the cluster, and keeps it true.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;

use super::clock::{Alarm, ClockActor};
use super::guard::{self, Guard, Guarded, On, guarded};
use super::messages::*;
use super::now;
use crate::core::backoff::Backoff;
use crate::core::broker_error::BrokerError;
use crate::core::cluster::{ClusterView, TopicView};
use crate::core::record::TopicPartition;
use crate::core::wire::MetadataResponse;
use crate::intake::backend::TopicReply;
use crate::intake::error::SendError;
use crate::intake::topics::Topics;
use crate::net::{ControlClient, NetError};

/// What the configuration says of metadata.
pub(crate) struct MetadataRules {
    /// `bootstrap.servers`, for those who wait in vain.
    pub bootstrap: String,
    pub max_age: Duration,
    pub max_idle: Duration,
    /// How long to wait between two looks at a picture that is known to be old: from, to.
    pub backoff: (Duration, Duration),
    /// Of the waits' jitter.
    pub seed: u64,
}

struct Waiter {
    asked: Instant,
    deadline: Instant,
    reply: TopicReply,
}

/// A topic somebody produces to, or waits for.
struct Interest {
    waiters: Vec<Waiter>,
    /// Somebody who does not wait wants to find it known if he tries again by then.
    wanted_until: Option<Instant>,
    last_used: Instant,
    last_error: Option<Arc<str>>,
    last_answer: Option<BrokerError>,
}

impl Interest {
    fn new() -> Self {
        Self {
            waiters: Vec::new(),
            wanted_until: None,
            last_used: now(),
            last_error: None,
            last_answer: None,
        }
    }

    fn is_wanted(&self, now: Instant) -> bool {
        !self.waiters.is_empty() || self.wanted_until.is_some_and(|until| now < until)
    }
}

/// Owns the cluster view, the waiters, and a connection of its own.
pub(crate) struct MetadataActor {
    guard: Guard,
    dial: Box<dyn Fn() -> ControlClient>,
    view: ClusterView,
    rules: MetadataRules,
    control: Option<ControlClient>,
    topics: Arc<Topics>,
    interests: BTreeMap<Arc<str>, Interest>,
    clock: Addr<ClockActor>,
    identity: Recipient<SetNodes>,
    runtime: Recipient<InstallMetadata>,
    alarm: Alarm,
    /// When to ask next, if nothing calls for it before.
    due: Option<Instant>,
    /// Not before, whatever calls.
    not_before: Instant,
    /// Grows while answers leave something open.
    backoff: Backoff,
    last_trouble: Option<Arc<str>>,
}

impl MetadataActor {
    pub fn new(
        rules: MetadataRules,
        dial: impl Fn() -> ControlClient + 'static,
        topics: Arc<Topics>,
        clock: Addr<ClockActor>,
        (identity, runtime): (Recipient<SetNodes>, Recipient<InstallMetadata>),
        guard: Guard,
    ) -> Self {
        let backoff = Backoff::new(rules.backoff.0, rules.backoff.1, rules.seed);
        Self {
            view: ClusterView::default(),
            rules,
            guard,
            control: Some(dial()),
            dial: Box::new(dial),
            topics,
            interests: BTreeMap::new(),
            clock,
            identity,
            runtime,
            alarm: Alarm::default(),
            due: None,
            not_before: now(),
            backoff,
            last_trouble: None,
        }
    }

    fn resync(&mut self, ctx: &mut Context<Self>) {
        self.alarm = Alarm::default();
        self.soon(now(), ctx);
    }

    fn refuse_waiters(&mut self) {
        let interests = self.interests.values_mut();
        for waiter in interests.flat_map(|interest| interest.waiters.drain(..)) {
            let _ = waiter.reply.send(Err(SendError::Closed));
        }
    }

    fn publish(&self, topics: Vec<TopicView>, ready: Vec<(Arc<str>, TopicReply)>) {
        self.runtime.do_send(InstallMetadata {
            nodes: self.view.nodes().clone(),
            topics,
            ready,
        });
    }

    fn soon(&mut self, at: Instant, ctx: &mut Context<Self>) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
        self.work(ctx);
    }

    /// Asks a broker if it is time, and sets the alarm for what comes next.
    fn work(&mut self, ctx: &mut Context<Self>) {
        let now = now();
        if self.due.is_some_and(|due| due.max(self.not_before) <= now) && !self.interests.is_empty()
        {
            self.ask(ctx);
        }
        let waiters = self
            .interests
            .values()
            .flat_map(|interest| &interest.waiters);
        let deadlines = waiters.map(|waiter| waiter.deadline);
        // With no topic to ask for, what is due waits for one, and needs no alarm.
        let asks = self.control.is_some() && !self.interests.is_empty();
        let due = self.due.filter(|_| asks);
        let due = due.map(|due| due.max(self.not_before));
        if let Some(at) = deadlines.chain(due).min() {
            self.alarm.set(&self.clock, at, || Arc::new(ctx.address()));
        }
    }

    fn ask(&mut self, ctx: &mut Context<Self>) {
        let Some(mut control) = self.control.take() else {
            return;
        };
        self.due = None;
        self.forget_idle();
        let topics: Vec<_> = self
            .interests
            .keys()
            .map(|topic| topic.to_string())
            .collect();
        let asking = async move {
            let answer = control.metadata(&topics).await;
            (control, answer)
        };
        guard::spawn(ctx, asking, |actor: &mut Self, (control, answer), ctx| {
            actor.control = Some(control);
            actor.answered(answer, ctx);
        });
    }

    /// Topics nobody has sent to for `metadata.max.idle.ms` are looked up anew when somebody does.
    fn forget_idle(&mut self) {
        let (now, idle) = (now(), self.rules.max_idle);
        let (view, topics) = (&mut self.view, &self.topics);
        self.interests.retain(|name, interest| {
            if topics.get(name).is_some_and(|topic| topic.was_used()) {
                interest.last_used = now;
            }
            let keep = interest.is_wanted(now) || now < interest.last_used + idle;
            if !keep {
                view.forget(name);
                topics.remove(name);
            }
            keep
        });
    }

    fn answered(&mut self, answer: Result<MetadataResponse, NetError>, ctx: &mut Context<Self>) {
        let now = now();
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                let text: Arc<str> = error.to_string().into();
                if self.last_trouble.as_ref() != Some(&text) {
                    tracing::warn!(%error, "the cluster's metadata cannot be had");
                }
                for interest in self.interests.values_mut() {
                    interest.last_error = Some(Arc::clone(&text));
                    interest.last_answer = None;
                }
                self.trouble(Some(text));
                let delay = self
                    .control
                    .as_mut()
                    .map_or(self.rules.backoff.0, |c| c.next_delay());
                self.not_before = now + delay;
                return self.soon(now + delay, ctx);
            }
        };
        self.trouble(None);
        let changes = self.view.apply(answer);
        if changes.nodes {
            self.nodes_changed();
        }
        tracing::debug!(
            version = self.view.version(),
            topics = changes.topics.len(),
            "metadata"
        );
        let mut again = false;
        for (name, code) in changes.failed {
            again |= self.failed(&name, code);
        }
        let mut ready = Vec::new();
        for topic in &changes.topics {
            again |= topic.leaders.iter().any(|leader| leader.node.is_none());
            // Those who wanted it may have given up meanwhile. It is among the routes from now on
            // all the same, so it has to be kept up to date.
            let interest = self.interests.entry(Arc::clone(&topic.name));
            let interest = interest.or_insert_with(Interest::new);
            interest.last_error = None;
            interest.wanted_until = None;
            let waiters = interest.waiters.drain(..).map(|waiter| waiter.reply);
            ready.extend(waiters.map(|reply| (Arc::clone(&topic.name), reply)));
        }
        self.publish(changes.topics, ready);
        // Topics that came up while the question was on its way.
        again |= self
            .interests
            .values()
            .any(|interest| interest.is_wanted(now));
        let wait = if again {
            self.backoff.next()
        } else {
            self.backoff.reset();
            self.rules.max_age
        };
        // Whoever finds the picture old again need not ask more often than this.
        self.not_before = now + wait.min(self.rules.backoff.0);
        self.soon(now + wait, ctx);
    }

    fn trouble(&mut self, trouble: Option<Arc<str>>) {
        self.topics.set_last_error(trouble.clone());
        self.last_trouble = trouble;
    }

    fn nodes_changed(&mut self) {
        let nodes: Vec<_> = self
            .view
            .nodes()
            .iter()
            .map(|(id, at)| (*id, at.clone()))
            .collect();
        if let Some(control) = &mut self.control {
            control.set_nodes(nodes.clone());
        }
        self.identity.do_send(SetNodes(nodes.into()));
    }

    /// A broker could not tell of a topic. Returns whether to ask again.
    fn failed(&mut self, name: &Arc<str>, code: i16) -> bool {
        let Some(interest) = self.interests.get_mut(name) else {
            return false;
        };
        let error = BrokerError::new(code);
        interest.last_error = Some(format!("the broker answered {error}").into());
        interest.last_answer = Some(error.clone());
        // INVALID_TOPIC_EXCEPTION, TOPIC_AUTHORIZATION_FAILED: waiting will not help.
        if !matches!(code, 17 | 29) {
            return true;
        }
        for waiter in interest.waiters.drain(..) {
            let refused = SendError::TopicRefused {
                topic: Arc::clone(name),
                error: error.clone(),
            };
            let _ = waiter.reply.send(Err(refused));
        }
        // While it is among the routes somebody has to look after it.
        if self.topics.get(name).is_none() {
            self.interests.remove(name);
        }
        false
    }

    fn expire_waiters(&mut self) {
        let now = now();
        let bootstrap = &self.rules.bootstrap;
        let silence: Arc<str> =
            format!("no answer yet from {bootstrap}; is a Kafka broker listening there?").into();
        for (name, interest) in &mut self.interests {
            let (late, waiting) = std::mem::take(&mut interest.waiters)
                .into_iter()
                .partition::<Vec<_>, _>(|w| w.deadline <= now || w.reply.is_closed());
            interest.waiters = waiting;
            for waiter in late {
                let why = interest.last_error.clone();
                let _ = waiter.reply.send(Err(SendError::TopicUnknown {
                    topic: Arc::clone(name),
                    waited: waiter.deadline - waiter.asked,
                    why: why.unwrap_or_else(|| Arc::clone(&silence)),
                    error: interest.last_answer.clone(),
                }));
            }
        }
        // A topic that never was costs no further requests.
        let (view, topics) = (&self.view, &self.topics);
        self.interests.retain(|name, interest| {
            interest.is_wanted(now) || view.topic(name).is_some() || topics.get(name).is_some()
        });
    }
}

impl Sleeper for Addr<MetadataActor> {}

impl Actor for MetadataActor {
    type Context = Context<Self>;
}

guarded!(MetadataActor: WantTopic, RefreshMetadata, LeaderMoved, Tick, Resync);

impl Guarded for MetadataActor {
    fn guard(&mut self) -> &mut Guard {
        &mut self.guard
    }

    /// The picture stays; a question on its way is asked anew.
    fn restart(&mut self, ctx: &mut Context<Self>) -> usize {
        self.control = Some((self.dial)());
        self.nodes_changed();
        self.resync(ctx);
        0
    }

    fn fail(&mut self, _: &Arc<str>, _: &mut Context<Self>) {
        self.refuse_waiters();
    }
}

impl On<Resync> for MetadataActor {
    /// The RuntimeActor may have missed a view: it gets all of it again.
    fn on(&mut self, _: Resync, ctx: &mut Context<Self>) {
        let topics = self.view.topics().cloned().collect();
        self.publish(topics, Vec::new());
        self.resync(ctx);
    }
}

impl On<WantTopic> for MetadataActor {
    fn on(&mut self, message: WantTopic, ctx: &mut Context<Self>) {
        let WantTopic {
            topic,
            asked,
            deadline,
            reply,
        } = message;
        // It may have come while the message was on its way.
        if let Some(known) = self.topics.get(&topic) {
            return drop(reply.send(Ok(known)));
        }
        let interest = self.interests.entry(topic).or_insert_with(Interest::new);
        if reply.is_closed() {
            // He may try again all the time: nothing here may grow with that.
            let again = interest.wanted_until.is_some_and(|until| until > asked);
            interest.wanted_until = Some(deadline);
            return match again {
                true => {}
                false => self.soon(now(), ctx),
            };
        }
        let first = interest.waiters.is_empty();
        interest.waiters.push(Waiter {
            asked,
            deadline,
            reply,
        });
        if first {
            return self.soon(now(), ctx);
        }
        // The question is asked already; many may wait for its answer.
        self.alarm
            .set(&self.clock, deadline, || Arc::new(ctx.address()));
    }
}

impl On<RefreshMetadata> for MetadataActor {
    fn on(&mut self, _: RefreshMetadata, ctx: &mut Context<Self>) {
        self.soon(now(), ctx);
    }
}

impl On<LeaderMoved> for MetadataActor {
    fn on(&mut self, hint: LeaderMoved, _: &mut Context<Self>) {
        let LeaderMoved {
            topic_partition: TopicPartition { topic, partition },
            leader,
            nodes,
        } = hint;
        if let Some(view) = self.view.hint(&topic, partition, leader, &nodes) {
            self.publish(vec![view], Vec::new());
        }
    }
}

impl On<Tick> for MetadataActor {
    fn on(&mut self, _: Tick, ctx: &mut Context<Self>) {
        self.alarm.rang();
        self.expire_waiters();
        self.work(ctx);
    }
}

impl Handler<Stop> for MetadataActor {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Context<Self>) {
        self.refuse_waiters();
        ctx.stop();
    }
}
