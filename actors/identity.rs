//! The IdentityActor: the producer id and epoch under which partitions number their batches.

use std::collections::BTreeMap;
use std::sync::Arc;

use actix::prelude::*;

use super::clock::{Alarm, ClockActor};
use super::guard::{self, Guard, Guarded, On, guarded};
use super::messages::*;
use super::now;
use crate::core::endpoint::Endpoint;
use crate::core::identity::{Identities, Identity, NextIdentity};
use crate::core::record::TopicPartition;
use crate::core::wire::InitProducerIdResponse;
use crate::net::{ControlClient, NetError};

/// Owns the identity, and a connection of its own to ask for one.
pub(crate) struct IdentityActor {
    guard: Guard,
    identities: Identities,
    dial: Box<dyn Fn() -> ControlClient>,
    control: Option<ControlClient>,
    nodes: Arc<[(i32, Endpoint)]>,
    members: BTreeMap<TopicPartition, PartitionAddr>,
    clock: Addr<ClockActor>,
    alarm: Alarm,
}

impl IdentityActor {
    pub fn new(
        dial: impl Fn() -> ControlClient + 'static,
        clock: Addr<ClockActor>,
        guard: Guard,
    ) -> Self {
        Self {
            guard,
            identities: Identities::default(),
            control: Some(dial()),
            dial: Box::new(dial),
            nodes: Arc::default(),
            members: BTreeMap::new(),
            clock,
            alarm: Alarm::default(),
        }
    }

    fn resync(&mut self, ctx: &mut Context<Self>) {
        self.alarm = Alarm::default();
        if self.identities.is_asking() {
            let step = self.identities.failed();
            self.step(step, ctx);
        }
    }

    fn step(&mut self, step: NextIdentity, ctx: &mut Context<Self>) {
        match step {
            NextIdentity::Use(identity) => self.tell_all(identity),
            NextIdentity::Ask => self.ask(ctx),
            NextIdentity::Wait => {}
        }
    }

    /// Every partition learns of it; each adopts it when its old batches are resolved.
    fn tell_all(&mut self, identity: Identity) {
        self.members.retain(|_, member| member.is_running());
        for member in self.members.values() {
            member.do_send(SetIdentity(identity));
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
        guard::spawn(ctx, asking, |actor: &mut Self, (control, answer), ctx| {
            actor.control = Some(control);
            actor.answered(answer, ctx);
        });
    }

    fn answered(
        &mut self,
        answer: Result<InitProducerIdResponse, NetError>,
        ctx: &mut Context<Self>,
    ) {
        let given = match answer {
            Ok(response) => {
                let given = self.identities.answered(response);
                given.map_err(|why| why.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        let trouble = match given {
            Ok(identity) => {
                tracing::debug!(?identity, "a broker gave a producer id");
                return self.tell_all(identity);
            }
            Err(why) => format!("no producer id: {why}"),
        };
        tracing::warn!(trouble, "batches wait for a producer id");
        for member in self.members.values() {
            member.do_send(BlockedBy(trouble.as_str().into()));
        }
        if let Some(control) = &mut self.control {
            let at = now() + control.next_delay();
            self.alarm.set(&self.clock, at, || Arc::new(ctx.address()));
        }
    }
}

impl Sleeper for Addr<IdentityActor> {}

impl Actor for IdentityActor {
    type Context = Context<Self>;
}

guarded!(IdentityActor: WantIdentity, BumpEpoch, Tick, SetNodes, Resync);

impl Guarded for IdentityActor {
    fn guard(&mut self) -> &mut Guard {
        &mut self.guard
    }

    /// What was given out stays given out; a question on its way is asked anew.
    fn restart(&mut self, ctx: &mut Context<Self>) -> usize {
        self.control = Some((self.dial)());
        self.resync(ctx);
        0
    }

    fn fail(&mut self, _: &Arc<str>, _: &mut Context<Self>) {}
}

impl On<Resync> for IdentityActor {
    fn on(&mut self, _: Resync, ctx: &mut Context<Self>) {
        self.resync(ctx);
    }
}

impl On<WantIdentity> for IdentityActor {
    fn on(&mut self, message: WantIdentity, ctx: &mut Context<Self>) {
        let WantIdentity {
            partition,
            who,
            left,
        } = message;
        self.members.insert(partition, who.clone());
        // A bump that was lost in a restart is made up for here.
        let step = match left {
            Some(left) => self.identities.bump(left),
            None => self.identities.want(),
        };
        match step {
            NextIdentity::Use(identity) => who.do_send(SetIdentity(identity)),
            step => self.step(step, ctx),
        }
    }
}

impl On<BumpEpoch> for IdentityActor {
    fn on(&mut self, message: BumpEpoch, ctx: &mut Context<Self>) {
        let BumpEpoch {
            seen,
            partition,
            who,
        } = message;
        self.members.insert(partition, who);
        let step = self.identities.bump(seen);
        self.step(step, ctx);
    }
}

impl On<Tick> for IdentityActor {
    fn on(&mut self, _: Tick, ctx: &mut Context<Self>) {
        self.alarm.rang();
        let step = self.identities.failed();
        self.step(step, ctx);
    }
}

impl On<SetNodes> for IdentityActor {
    fn on(&mut self, SetNodes(nodes): SetNodes, _: &mut Context<Self>) {
        self.nodes = nodes;
    }
}

impl Handler<Stop> for IdentityActor {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}
