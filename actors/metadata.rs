//! The MetadataActor: sends the requests that keep the view of the cluster true.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;

use super::clock::{Alarm, ClockActor};
use super::guard::{self, Guard, Guarded, On, guarded};
use super::messages::*;
use super::now;
use crate::core::cluster::{
    MetadataRules, ProducerMetadata, TopicRefusal, TopicView, Wanted, Wish,
};
use crate::core::wire::MetadataResponse;
use crate::intake::backend::TopicReply;
use crate::intake::error::SendError;
use crate::intake::topics::Topics;
use crate::net::{ControlClient, NetError};

/// Owns the metadata with the callers that wait for it, and a connection of its own.
pub(crate) struct MetadataActor {
    guard: Guard,
    dial: Box<dyn Fn() -> ControlClient>,
    metadata: ProducerMetadata<TopicReply>,
    /// `None` while a request is on its way.
    control: Option<ControlClient>,
    topics: Arc<Topics>,
    clock: Addr<ClockActor>,
    identity: Recipient<SetNodes>,
    runtime: Recipient<InstallMetadata>,
    alarm: Alarm,
}

impl MetadataActor {
    pub fn new(
        rules: &MetadataRules,
        dial: impl Fn() -> ControlClient + 'static,
        topics: Arc<Topics>,
        clock: Addr<ClockActor>,
        (identity, runtime): (Recipient<SetNodes>, Recipient<InstallMetadata>),
        guard: Guard,
    ) -> Self {
        Self {
            guard,
            metadata: ProducerMetadata::new(rules, now()),
            control: Some(dial()),
            dial: Box::new(dial),
            topics,
            clock,
            identity,
            runtime,
            alarm: Alarm::default(),
        }
    }

    /// Asks a broker if it is time, and sets the alarm for what comes next.
    fn work(&mut self, ctx: &mut Context<Self>) {
        let topics = &self.topics;
        let was_used = |name: &str| topics.get(name).is_some_and(|topic| topic.was_used());
        if let Some(request) = self.metadata.next_request(now(), was_used) {
            for topic in &request.forgotten {
                topics.remove(topic);
            }
            self.ask(request.topics, ctx);
        }
        if let Some(at) = self.metadata.next_wake() {
            self.wake_at(at, ctx);
        }
    }

    fn wake_at(&mut self, at: Instant, ctx: &mut Context<Self>) {
        self.alarm.set(&self.clock, at, || Arc::new(ctx.address()));
    }

    fn ask(&mut self, topics: Vec<String>, ctx: &mut Context<Self>) {
        let Some(mut control) = self.control.take() else {
            return;
        };
        let asking = async move {
            let answer = control.metadata(&topics).await;
            (control, answer)
        };
        guard::spawn(ctx, asking, |actor: &mut Self, (control, answer), ctx| {
            let control = actor.control.insert(control);
            match answer.map_err(|error| (error, control.next_delay())) {
                Ok(response) => actor.answered(response),
                Err((error, delay)) => actor.unanswered(&error, delay),
            }
            actor.work(ctx);
        });
    }

    fn answered(&mut self, response: MetadataResponse) {
        self.topics.set_last_error(None);
        let is_routed = |name: &str| self.topics.get(name).is_some();
        let effects = self.metadata.answered(response, now(), is_routed);
        if effects.nodes_changed {
            self.tell_nodes();
        }
        let (version, topics) = (self.metadata.view().version(), effects.topics);
        tracing::debug!(version, topics = topics.len(), "metadata");
        Self::refuse(effects.refused);
        self.publish(topics, effects.ready);
    }

    fn unanswered(&mut self, error: &NetError, delay: Duration) {
        let trouble: Arc<str> = error.to_string().into();
        if self.metadata.unanswered(&trouble, delay, now()) {
            tracing::warn!(%error, "the cluster's metadata cannot be had");
        }
        self.topics.set_last_error(Some(trouble));
    }

    fn tell_nodes(&mut self) {
        let nodes: Vec<_> = self.metadata.view().nodes().clone().into_iter().collect();
        if let Some(control) = &mut self.control {
            control.set_nodes(nodes.clone());
        }
        self.identity.do_send(SetNodes(nodes.into()));
    }

    fn publish(&self, topics: Vec<TopicView>, ready: Vec<(Arc<str>, TopicReply)>) {
        self.runtime.do_send(InstallMetadata {
            nodes: self.metadata.view().nodes().clone(),
            topics,
            ready,
        });
    }

    fn refuse(refused: Vec<(TopicReply, TopicRefusal)>) {
        for (reply, refusal) in refused {
            let _ = reply.send(Err(refusal.into()));
        }
    }

    fn close(&mut self) {
        for reply in self.metadata.close() {
            let _ = reply.send(Err(SendError::Closed));
        }
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

    /// The view stays; a request on its way is sent anew.
    fn restart(&mut self, ctx: &mut Context<Self>) -> usize {
        self.control = Some((self.dial)());
        self.tell_nodes();
        self.alarm = Alarm::default();
        self.metadata.request_lost(now());
        self.work(ctx);
        0
    }

    fn fail(&mut self, _: &Arc<str>, _: &mut Context<Self>) {
        self.close();
    }
}

impl On<Resync> for MetadataActor {
    /// The RuntimeActor may have missed a view: it gets all of it again.
    fn on(&mut self, _: Resync, ctx: &mut Context<Self>) {
        let topics = self.metadata.view().topics().cloned().collect();
        self.publish(topics, Vec::new());
        self.alarm = Alarm::default();
        self.metadata.refresh(now());
        self.work(ctx);
    }
}

impl On<WantTopic> for MetadataActor {
    fn on(&mut self, message: WantTopic, ctx: &mut Context<Self>) {
        let WantTopic { topic, reply, .. } = message;
        // The topic may have become known while this message waited.
        if let Some(known) = self.topics.get(&topic) {
            return drop(reply.send(Ok(known)));
        }
        let wish = Wish {
            asked: message.asked,
            deadline: message.deadline,
            ticket: (!reply.is_closed()).then_some(reply),
        };
        match self.metadata.want(topic, wish, now()) {
            Wanted::Ask => self.work(ctx),
            Wanted::Until(deadline) => self.wake_at(deadline, ctx),
            Wanted::Again => {}
        }
    }
}

impl On<RefreshMetadata> for MetadataActor {
    fn on(&mut self, _: RefreshMetadata, ctx: &mut Context<Self>) {
        self.metadata.refresh(now());
        self.work(ctx);
    }
}

impl On<LeaderMoved> for MetadataActor {
    fn on(&mut self, message: LeaderMoved, _: &mut Context<Self>) {
        let LeaderMoved {
            topic_partition: at,
            leader,
            nodes,
        } = message;
        if let Some(topic) = self.metadata.leader_moved(&at, leader, &nodes) {
            self.publish(vec![topic], Vec::new());
        }
    }
}

impl On<Tick> for MetadataActor {
    fn on(&mut self, _: Tick, ctx: &mut Context<Self>) {
        self.alarm.rang();
        let is_routed = |name: &str| self.topics.get(name).is_some();
        let refused = self
            .metadata
            .expire(now(), TopicReply::is_closed, is_routed);
        Self::refuse(refused);
        self.work(ctx);
    }
}

impl Handler<Stop> for MetadataActor {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Context<Self>) {
        self.close();
        ctx.stop();
    }
}
