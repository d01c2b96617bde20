//! The IdentityActor: the producer id and epoch under which partitions number their batches.

use std::collections::BTreeMap;
use std::sync::Arc;

use actix::prelude::*;

use super::clock::{Alarm, ClockActor};
use super::guard::{self, Guard, Guarded, On, guarded};
use super::messages::*;
use super::now;
use crate::core::backoff::Backoff;
use crate::core::cluster::Nodes;
use crate::core::endpoint::Endpoint;
use crate::core::identity::{Identities, NextIdentity, NoIdentity, Refusal, Wanted};
use crate::core::record::TopicPartition;
use crate::core::troubles::{Told, Troubles};
use crate::core::wire::{Api, InitProducerIdResponse};
use crate::net::{ControlClient, NetError};

/// Owns the identity, and a connection of its own to ask for one.
pub(crate) struct IdentityActor {
    guard: Guard,
    identities: Identities,
    dial: Box<dyn Fn() -> ControlClient>,
    /// `None` while a request is on its way.
    control: Option<ControlClient>,
    /// The request on its way.
    asking: Option<SpawnHandle>,
    nodes: Arc<Nodes>,
    /// The connection was told the nodes. It is told once: it may have gone back to the bootstrap list.
    nodes_told: bool,
    /// Partitions that asked for an identity and did not get one yet.
    waiting: BTreeMap<TopicPartition, (PartitionAddr, Wanted)>,
    troubles: Troubles,
    clock: Addr<ClockActor>,
    alarm: Alarm,
    /// The wait after refusals.
    backoff: Backoff,
}

impl IdentityActor {
    pub fn new(
        identities: Identities,
        dial: impl Fn() -> ControlClient + 'static,
        clock: Addr<ClockActor>,
        backoff: Backoff,
        guard: Guard,
    ) -> Self {
        Self {
            guard,
            identities,
            control: Some(dial()),
            dial: Box::new(dial),
            asking: None,
            nodes: Arc::default(),
            nodes_told: false,
            waiting: BTreeMap::new(),
            troubles: Troubles::default(),
            clock,
            alarm: Alarm::default(),
            backoff,
        }
    }

    fn resync(&mut self, ctx: &mut Context<Self>) {
        self.alarm = Alarm::default();
        if self.identities.is_asking() {
            self.identities.failed();
            self.serve(ctx);
        }
    }

    /// Gives each partition that waits its identity, or asks a broker for what is missing.
    fn serve(&mut self, ctx: &mut Context<Self>) {
        let mut asks = false;
        let identities = &mut self.identities;
        self.waiting
            .retain(|_, (who, wanted)| match identities.want(*wanted) {
                NextIdentity::Use(identity) => {
                    who.do_send(SetIdentity::plain(identity));
                    false
                }
                NextIdentity::Ask => {
                    asks = true;
                    true
                }
                NextIdentity::Wait => true,
            });
        if asks {
            self.ask(ctx);
        }
    }

    /// Asks a broker, and those that have refused last.
    fn ask(&mut self, ctx: &mut Context<Self>) {
        let Some(mut control) = self.control.take() else {
            return;
        };
        if !std::mem::replace(&mut self.nodes_told, true) {
            control.set_nodes(&self.nodes);
        }
        let refused_by = self.identities.refused_by().to_vec();
        let asking = async move {
            let answer = control.init_producer_id(&refused_by).await;
            (control, answer)
        };
        let asking = guard::spawn(ctx, asking, |actor: &mut Self, (control, answer), ctx| {
            actor.control = Some(control);
            actor.answered(answer, ctx);
        });
        self.asking = Some(asking);
    }

    fn answered(
        &mut self,
        answer: Result<InitProducerIdResponse, NetError>,
        ctx: &mut Context<Self>,
    ) {
        let (given, broker) = match answer {
            Ok(response) => {
                let broker = self.control.as_ref().and_then(ControlClient::broker);
                (self.identities.answered(response), broker.cloned())
            }
            Err(error) => {
                let why = error.to_string().into();
                match error.not_served(Api::InitProducerId) {
                    Some(broker) => (Err(NoIdentity::NotServed(why)), Some(broker.clone())),
                    None => (Err(NoIdentity::Unanswered(why)), None),
                }
            }
        };
        match given {
            Ok(identity) => {
                tracing::debug!(?identity, "a broker gave a producer id");
                self.backoff.reset();
                self.troubles.over();
                self.serve(ctx);
            }
            Err(why) => self.refused(&why, broker, ctx),
        }
    }

    /// There is no identity, as `broker` said, if one did.
    fn refused(&mut self, why: &NoIdentity, broker: Option<Endpoint>, ctx: &mut Context<Self>) {
        let refusal = self.identities.refused(why, broker.as_ref(), &self.nodes);
        let why: Arc<str> = why.to_string().into();
        if let Some(Told { times, within }) = self.troubles.failed(&why, now()) {
            tracing::warn!(%why, times, ?within, "there is no producer id");
        }
        match refusal {
            Refusal::AskAnother => return self.ask(ctx),
            Refusal::Final => {
                for (partition, _) in std::mem::take(&mut self.waiting).into_values() {
                    partition.do_send(RefuseIdentity(Arc::clone(&why)));
                }
            }
            Refusal::ForNow => {
                let blocked_by: Arc<str> = format!("no producer id: {why}").into();
                for (partition, _) in self.waiting.values() {
                    partition.do_send(BlockedBy::from(Arc::clone(&blocked_by)));
                }
            }
        }
        // A broker that refuses is connected, so the connection's own wait would not grow.
        let own = self.backoff.next();
        let wait = match &mut self.control {
            Some(control) if broker.is_none() => control.next_delay(),
            _ => own,
        };
        self.alarm
            .set(&self.clock, now() + wait, || Arc::new(ctx.address()));
    }
}

impl Sleeper for Addr<IdentityActor> {}

impl IdentityPeer for Addr<IdentityActor> {}

impl Actor for IdentityActor {
    type Context = Context<Self>;
}

guarded!(IdentityActor: WantIdentity, Tick, SetNodes, Resync);

impl Guarded for IdentityActor {
    fn guard(&mut self) -> &mut Guard {
        &mut self.guard
    }

    /// What was given out stays given out; a question on its way is cancelled, and asked anew. A
    /// partition whose request was lost asks again.
    fn restart(&mut self, ctx: &mut Context<Self>) -> usize {
        if let Some(asking) = self.asking.take() {
            ctx.cancel_future(asking);
        }
        self.control = Some((self.dial)());
        self.nodes_told = false;
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
            wanted,
            scope: _,
        } = message;
        match self.identities.want(wanted) {
            NextIdentity::Use(identity) => who.do_send(SetIdentity::plain(identity)),
            step => {
                self.waiting.insert(partition, (who, wanted));
                if step == NextIdentity::Ask {
                    self.ask(ctx);
                }
            }
        }
    }
}

impl On<Tick> for IdentityActor {
    fn on(&mut self, _: Tick, ctx: &mut Context<Self>) {
        self.alarm.rang();
        self.identities.failed();
        self.serve(ctx);
    }
}

impl On<SetNodes> for IdentityActor {
    fn on(&mut self, SetNodes(nodes): SetNodes, _: &mut Context<Self>) {
        if self.nodes != nodes {
            self.nodes = nodes;
            self.nodes_told = false;
        }
    }
}

impl Handler<Stop> for IdentityActor {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}
