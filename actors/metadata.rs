//! The MetadataActor: sends the requests that keep the view of the cluster true.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;

use super::clock::{Alarm, ClockActor};
use super::guard::{self, Guard, Guarded, On, guarded};
use super::messages::*;
use super::now;
use crate::core::cluster::{
    MetadataRequest, MetadataRules, ProducerMetadata, TopicRefusal, TopicUse, TopicView, Wanted,
    Wish,
};
use crate::core::troubles::Told;
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
    /// The request on its way.
    asking: Option<SpawnHandle>,
    /// The next request goes to the bootstrap list.
    rebootstraps: bool,
    /// `retry.backoff.max.ms`: how long callers that do not wait are told what brokers deny.
    denied_for: Duration,
    topics: Arc<Topics>,
    clock: Addr<ClockActor>,
    /// Those who connect to brokers that metadata name.
    connecting: Vec<Recipient<SetNodes>>,
    runtime: Recipient<InstallMetadata>,
    alarm: Alarm,
}

impl MetadataActor {
    pub fn new(
        rules: &MetadataRules,
        dial: impl Fn() -> ControlClient + 'static,
        topics: Arc<Topics>,
        clock: Addr<ClockActor>,
        (connecting, runtime): (Vec<Recipient<SetNodes>>, Recipient<InstallMetadata>),
        guard: Guard,
    ) -> Self {
        Self {
            guard,
            metadata: ProducerMetadata::new(rules, now()),
            control: Some(dial()),
            asking: None,
            rebootstraps: false,
            denied_for: rules.backoff.1,
            dial: Box::new(dial),
            topics,
            clock,
            connecting,
            runtime,
            alarm: Alarm::default(),
        }
    }

    /// Asks a broker if it is time, and sets the alarm for what comes next.
    fn work(&mut self, ctx: &mut Context<Self>) {
        let is_used = |name: &str| self.topics.is_used(name);
        if let Some(mut request) = self.metadata.next_request(now(), is_used) {
            let forgotten = std::mem::take(&mut request.forgotten);
            if !forgotten.is_empty() {
                self.publish(Vec::new(), forgotten, Vec::new());
            }
            self.ask(request, ctx);
        }
        if let Some(at) = self.metadata.next_wake(now()) {
            self.wake_at(at, ctx);
        }
    }

    fn wake_at(&mut self, at: Instant, ctx: &mut Context<Self>) {
        self.alarm.set(&self.clock, at, || Arc::new(ctx.address()));
    }

    fn ask(&mut self, request: MetadataRequest, ctx: &mut Context<Self>) {
        let MetadataRequest {
            topics, elsewhere, ..
        } = request;
        if topics.is_empty() {
            return;
        }
        let Some(mut control) = self.control.take() else {
            return;
        };
        if std::mem::take(&mut self.rebootstraps) {
            control.rebootstrap();
        }
        let asking = async move {
            let answer = control.metadata(&topics, elsewhere).await;
            (control, answer)
        };
        let asking = guard::spawn(ctx, asking, |actor: &mut Self, (control, answer), ctx| {
            let control = actor.control.insert(control);
            if control.logged_in() {
                actor.metadata.let_in();
            }
            match answer.map_err(|error| (error, control.next_delay())) {
                Ok(response) => actor.answered(response),
                Err((error, delay)) => actor.unanswered(&error, delay),
            }
            actor.work(ctx);
        });
        self.asking = Some(asking);
    }

    fn answered(&mut self, response: MetadataResponse) {
        self.topics.set_last_error(None);
        let now = now();
        let broker = self.control.as_ref().and_then(ControlClient::broker);
        let effects = self.metadata.answered(response, broker, now, &*self.topics);
        self.set_control_nodes();
        if effects.nodes_changed {
            self.tell_nodes();
        }
        self.topics.deny(effects.denied, now, now + self.denied_for);
        let (version, topics) = (self.metadata.view().version(), effects.topics);
        tracing::debug!(version, topics = topics.len(), "metadata");
        for topic in &effects.gone {
            tracing::warn!(%topic, "brokers do not know the topic any more: it was deleted");
        }
        Self::refuse(effects.refused);
        self.publish(topics, effects.gone, effects.ready);
    }

    fn unanswered(&mut self, error: &NetError, delay: Duration) {
        let trouble: Arc<str> = error.to_string().into();
        let told = self.metadata.unanswered(&trouble, delay, now());
        if let Some(Told { times, within }) = told {
            tracing::warn!(%error, times, ?within, "the cluster's metadata cannot be had");
        }
        self.topics.set_last_error(Some(trouble));
        let locked_out = self
            .metadata
            .locked_out(error.security(), !delay.is_zero(), now());
        if let Some((error, waiting)) = locked_out {
            for reply in waiting {
                let _ = reply.send(Err(SendError::Security(Arc::clone(&error))));
            }
            self.drop_unwanted();
        }
    }

    /// Refuses callers whose time is over, and asks no more for what nobody wants.
    fn drop_unwanted(&mut self) {
        let is_routed = |name: &str| self.topics.get(name).is_some();
        let refused = self
            .metadata
            .expire(now(), TopicReply::is_closed, is_routed);
        Self::refuse(refused);
    }

    /// Tells the connection the brokers, though they are the same: a broker may have sent it back to the
    /// bootstrap list.
    fn set_control_nodes(&mut self) {
        let nodes = self.metadata.view().nodes();
        if let Some(control) = &mut self.control {
            control.set_nodes(nodes);
        }
    }

    fn tell_nodes(&self) {
        let nodes = Arc::new(self.metadata.view().nodes().clone());
        for connecting in &self.connecting {
            connecting.do_send(SetNodes(Arc::clone(&nodes)));
        }
    }

    fn publish(
        &self,
        topics: Vec<TopicView>,
        gone: Vec<Arc<str>>,
        ready: Vec<(Arc<str>, TopicReply)>,
    ) {
        self.runtime.do_send(InstallMetadata {
            nodes: self.metadata.view().nodes().clone(),
            topics,
            gone,
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

impl TopicUse for Topics {
    fn is_routed(&self, topic: &str) -> bool {
        self.get(topic).is_some()
    }

    fn waits_for_leader(&self, topic: &str, partition: usize) -> bool {
        let topic = self.get(topic);
        let route = topic
            .as_ref()
            .and_then(|topic| topic.partitions.get(partition));
        route.is_some_and(|route| route.gauge.waits_for_leader())
    }
}

impl Sleeper for Addr<MetadataActor> {}

impl Actor for MetadataActor {
    type Context = Context<Self>;
}

guarded!(MetadataActor: WantTopic, RefreshMetadata, Rebootstrap, LeaderMoved, Tick, Resync);

impl Guarded for MetadataActor {
    fn guard(&mut self) -> &mut Guard {
        &mut self.guard
    }

    /// The view stays; a request on its way is cancelled, and sent anew.
    fn restart(&mut self, ctx: &mut Context<Self>) -> usize {
        if let Some(asking) = self.asking.take() {
            ctx.cancel_future(asking);
        }
        self.control = Some((self.dial)());
        self.set_control_nodes();
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
    /// The RuntimeActor may have missed a view: it gets all of it again. Others may have missed the brokers.
    fn on(&mut self, _: Resync, ctx: &mut Context<Self>) {
        self.tell_nodes();
        let view = self.metadata.view();
        let mut gone = self.topics.names();
        gone.retain(|name| view.topic(name).is_none());
        self.publish(view.topics().cloned().collect(), gone, Vec::new());
        self.alarm = Alarm::default();
        self.metadata.refresh(now());
        self.work(ctx);
    }
}

impl On<WantTopic> for MetadataActor {
    fn on(&mut self, message: WantTopic, ctx: &mut Context<Self>) {
        let WantTopic {
            topic,
            partition,
            reply,
            ..
        } = message;
        // It may have become known while this message waited.
        let known = self.topics.get(&topic);
        // The spool remembers topics, and routes them before a broker was asked: then nobody waits.
        let is_new = || self.metadata.view().topic(&topic).is_none();
        let known = known.filter(|_| !(reply.is_closed() && is_new()));
        let known = known.filter(|it| partition.is_none_or(|named| it.place(named).is_some()));
        if let Some(known) = known {
            return drop(reply.send(Ok(known)));
        }
        let wish = Wish {
            partition,
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

impl On<Rebootstrap> for MetadataActor {
    fn on(&mut self, _: Rebootstrap, ctx: &mut Context<Self>) {
        self.rebootstraps = true;
        self.metadata.refresh(now());
        self.work(ctx);
    }
}

impl On<LeaderMoved> for MetadataActor {
    fn on(&mut self, message: LeaderMoved, _: &mut Context<Self>) {
        let LeaderMoved {
            topic_partition: at,
            topic_id,
            leader,
            nodes,
        } = message;
        let moved = self.metadata.leader_moved(&at, topic_id, leader, &nodes);
        if let Some((topic, nodes_changed)) = moved {
            if nodes_changed {
                self.set_control_nodes();
                self.tell_nodes();
            }
            self.publish(vec![topic], Vec::new(), Vec::new());
        }
    }
}

impl On<Tick> for MetadataActor {
    fn on(&mut self, _: Tick, ctx: &mut Context<Self>) {
        self.alarm.rang();
        self.drop_unwanted();
        let now = now();
        self.topics.deny([], now, now);
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

#[cfg(test)]
mod tests;
