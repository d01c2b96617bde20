//! The IdentityActor: the producer id and epoch under which partitions number their batches.

use std::collections::HashSet;
use std::sync::Arc;

use actix::prelude::*;

use super::PartitionActor;
use super::clock::{Alarm, ClockActor, Sleeper, Stop, Tick};
use super::now;
use super::partition::Trouble;
use crate::broker_error::BrokerError;
use crate::identity::{Identities, Identity, Step};
use crate::net::{ControlClient, Endpoint, NetError};
use crate::wire::InitProducerIdAnswer;

/// A partition has batches and no identity to stamp them with.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct WantIdentity(pub Addr<PartitionActor>);

/// A partition cannot go on under the identity it has `seen`.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Bump {
    pub seen: Identity,
    pub who: Addr<PartitionActor>,
}

/// The identity to use from now on.
#[derive(Message, Clone, Copy)]
#[rtype(result = "()")]
pub(crate) struct Identified(pub Identity);

/// The brokers there are.
#[derive(Message, Clone)]
#[rtype(result = "()")]
pub(crate) struct Nodes(pub Arc<[(i32, Endpoint)]>);

/// Owns the identity, and a connection of its own to ask for one.
pub(crate) struct IdentityActor {
    identities: Identities,
    control: Option<ControlClient>,
    nodes: Arc<[(i32, Endpoint)]>,
    members: HashSet<Addr<PartitionActor>>,
    clock: Addr<ClockActor>,
    alarm: Alarm,
}

impl IdentityActor {
    pub fn new(control: ControlClient, clock: Addr<ClockActor>) -> Self {
        Self {
            identities: Identities::default(),
            control: Some(control),
            nodes: Arc::default(),
            members: HashSet::new(),
            clock,
            alarm: Alarm::default(),
        }
    }

    fn step(&mut self, step: Step, ctx: &mut Context<Self>) {
        match step {
            Step::Use(identity) => self.tell_all(identity),
            Step::Ask => self.ask(ctx),
            Step::Wait => {}
        }
    }

    /// Every partition learns of it; each adopts it when its old batches are resolved.
    fn tell_all(&mut self, identity: Identity) {
        self.members.retain(Addr::connected);
        for member in &self.members {
            member.do_send(Identified(identity));
        }
    }

    fn ask(&mut self, ctx: &mut Context<Self>) {
        let Some(mut control) = self.control.take() else {
            return;
        };
        control.set_nodes(self.nodes.to_vec());
        let asking = async move {
            let answer = control.init_producer_id().await;
            (control, answer)
        };
        ctx.spawn(
            asking
                .into_actor(self)
                .map(|(control, answer), actor, ctx| {
                    actor.control = Some(control);
                    actor.answered(answer, ctx);
                }),
        );
    }

    fn answered(
        &mut self,
        answer: Result<InitProducerIdAnswer, NetError>,
        ctx: &mut Context<Self>,
    ) {
        let trouble = match answer {
            Ok(InitProducerIdAnswer {
                error_code: 0,
                producer_id,
                epoch,
                ..
            }) => {
                let identity = Identity { producer_id, epoch };
                tracing::debug!(?identity, "a broker gave a producer id");
                self.identities.obtained(identity);
                return self.tell_all(identity);
            }
            Ok(answer) => {
                format!(
                    "no producer id: the broker answered {}",
                    BrokerError::new(answer.error_code)
                )
            }
            Err(error) => format!("no producer id: {error}"),
        };
        tracing::warn!(trouble, "batches wait for a producer id");
        for member in &self.members {
            member.do_send(Trouble(trouble.as_str().into()));
        }
        if let Some(control) = &mut self.control {
            let at = now() + control.next_delay();
            self.alarm
                .set(&self.clock, at, || Sleeper::Identity(ctx.address()));
        }
    }
}

impl Actor for IdentityActor {
    type Context = Context<Self>;
}

impl Handler<WantIdentity> for IdentityActor {
    type Result = ();

    fn handle(&mut self, WantIdentity(who): WantIdentity, ctx: &mut Context<Self>) {
        self.members.insert(who.clone());
        match self.identities.want() {
            Step::Use(identity) => who.do_send(Identified(identity)),
            step => self.step(step, ctx),
        }
    }
}

impl Handler<Bump> for IdentityActor {
    type Result = ();

    fn handle(&mut self, Bump { seen, who }: Bump, ctx: &mut Context<Self>) {
        self.members.insert(who.clone());
        let step = self.identities.bump(seen);
        self.step(step, ctx);
    }
}

impl Handler<Tick> for IdentityActor {
    type Result = ();

    fn handle(&mut self, _: Tick, ctx: &mut Context<Self>) {
        self.alarm.rang();
        let step = self.identities.failed();
        self.step(step, ctx);
    }
}

impl Handler<Nodes> for IdentityActor {
    type Result = ();

    fn handle(&mut self, Nodes(nodes): Nodes, _: &mut Context<Self>) {
        self.nodes = nodes;
    }
}

impl Handler<Stop> for IdentityActor {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}
