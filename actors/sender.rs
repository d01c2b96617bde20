//! The SenderActor: one per broker. It gathers ready batches of many partitions into requests,
//! keeps at most `max.in.flight.requests.per.connection` of them in flight, and gives each batch
//! back to its partition with the broker's response.
//!
//! Its [`Dispatcher`] decides what is sent and when: `Dispatcher::work` gathers, `InFlight::has_room`
//! keeps the limit. This file turns messages into calls of the dispatcher, and its decisions into
//! messages. `connection.rs` has the connection's side.

mod connection;

use std::rc::Rc;
use std::sync::Arc;

use actix::prelude::*;
use tokio::sync::mpsc::UnboundedSender;

use super::clock::Alarm;
use super::guard::{self, Guard, Guarded, On, guarded};
use super::messages::*;
use super::now;
use super::services::SharedServices;
use crate::core::dial::Learned;
use crate::core::dispatch::{Action, Demand, DispatchRules, Dispatcher, OutgoingRequest};
use crate::core::endpoint::Endpoint;
use crate::core::figures::BrokerFigures;
use crate::core::security::SecurityError;
use crate::meters::NodeMeters;
use crate::net::{ConnectOptions, LinkEvent, NetError};

/// An event of the connection with this number. Sent by the connection's task.
#[derive(Message)]
#[rtype(result = "()")]
struct FromLink {
    number: u64,
    event: LinkEvent,
}

/// Owns the connection to one broker, and the [`Dispatcher`], which decides what is sent over it.
pub(crate) struct SenderActor {
    guard: Guard,
    node: i32,
    endpoint: Endpoint,
    cluster_id: Option<Arc<str>>,
    incarnation: u64,
    dispatcher: Dispatcher<PartitionAddr>,
    services: Rc<SharedServices>,
    meters: NodeMeters,
    connect: ConnectOptions,
    learned: Learned,
    /// The broker did not let the last connection in.
    locked_out: Option<Arc<SecurityError>>,
    /// Requests for the connection's task.
    outbox: Option<UnboundedSender<OutgoingRequest>>,
    /// The connection's task.
    task: Option<SpawnHandle>,
    alarm: Alarm,
}

impl SenderActor {
    pub fn new(
        (node, endpoint, cluster_id): (i32, Endpoint, Option<Arc<str>>),
        (incarnation, demand, ready_queue): (u64, Demand, Arc<ReadyQueue>),
        (rules, connect): (DispatchRules, ConnectOptions),
        services: Rc<SharedServices>,
        meters: NodeMeters,
        guard: Guard,
    ) -> Self {
        let shelf = Arc::clone(&services.shelf);
        let dispatcher = Dispatcher::new(rules, shelf, (ready_queue, demand), now());
        Self {
            guard,
            node,
            endpoint,
            cluster_id,
            incarnation,
            dispatcher,
            services,
            meters,
            connect,
            learned: Learned::default(),
            locked_out: None,
            outbox: None,
            task: None,
            alarm: Alarm::default(),
        }
    }

    /// Does what the dispatcher decided.
    fn act(&mut self, ctx: &mut Context<Self>) {
        let incarnation = self.incarnation;
        while let Some(action) = self.dispatcher.next_action() {
            match action {
                Action::Take {
                    partition,
                    batches,
                    open,
                } => partition.partition.do_send(Take {
                    incarnation,
                    batches,
                    open,
                }),
                Action::Wake(partition) => partition.partition.do_send(WakePartition),
                Action::TellQueued(partition, queued) => partition.partition.do_send(QueueState {
                    incarnation,
                    queued,
                }),
                Action::TellBlocked(partition, why) => partition.partition.do_send(BlockedBy {
                    why,
                    security: self.locked_out.clone(),
                }),
                Action::Refuse(partition, why) => partition
                    .partition
                    .do_send(RefuseBatches { incarnation, why }),
                Action::Yield => self.yield_once(ctx),
                Action::Connect(connect) => self.connect(connect, ctx),
                Action::Disconnect => self.disconnect(ctx),
                Action::Write(request) => self.write(request),
                Action::Alarm(at) => {
                    let clock = &self.services.clock;
                    self.alarm.set(clock, at, || Arc::new(ctx.address()));
                }
                Action::LeaderMoved {
                    topic_partition,
                    topic_id,
                    leader,
                    nodes,
                } => self.services.metadata.do_send(LeaderMoved {
                    topic_partition,
                    topic_id,
                    leader,
                    nodes,
                }),
                Action::RefreshMetadata => self.services.metadata.do_send(RefreshMetadata),
            }
        }
    }

    /// Lets the other actors of the arbiter run once, then goes on.
    fn yield_once(&self, ctx: &mut Context<Self>) {
        let turn = tokio::task::yield_now();
        guard::spawn(ctx, turn, |sender: &mut Self, (), ctx| {
            sender.dispatcher.turn_over(now());
            sender.act(ctx);
        });
    }
}

impl SenderPeer for Addr<SenderActor> {}

impl Sleeper for Addr<SenderActor> {}

impl Actor for SenderActor {
    type Context = Context<Self>;
}

guarded!(SenderActor: Ready, WakeSender, Offer, FromLink, MoveTo, Tick, Resync, Restart, Retire);

impl Guarded for SenderActor {
    fn guard(&mut self) -> &mut Guard {
        &mut self.guard
    }

    /// Drops the connection, which cannot be trusted any more. So every loan goes back. The
    /// partitions announce themselves again when they resync.
    fn restart(&mut self, ctx: &mut Context<Self>) -> usize {
        let loans = self.dispatcher.loans();
        self.dispatcher.reset();
        self.alarm = Alarm::default();
        let endpoint = self.endpoint.clone();
        self.lost(&NetError::Restarted { endpoint }, ctx);
        loans
    }

    fn fail(&mut self, why: &Arc<str>, ctx: &mut Context<Self>) {
        let given_up = format!("the sender to broker {} was given up: {why}", self.node);
        self.dispatcher.stop(given_up.into());
        self.restart(ctx);
    }
}

impl On<Resync> for SenderActor {
    fn on(&mut self, _: Resync, ctx: &mut Context<Self>) {
        self.alarm = Alarm::default();
        self.dispatcher.resync(now());
        self.act(ctx);
    }
}

impl On<Restart> for SenderActor {
    fn on(&mut self, _: Restart, ctx: &mut Context<Self>) {
        self.guard.recovered();
        self.dispatcher.resume(now());
        self.act(ctx);
    }
}

impl On<Retire> for SenderActor {
    fn on(&mut self, _: Retire, ctx: &mut Context<Self>) {
        let retired = format!("the sender to broker {} was retired", self.node);
        self.dispatcher.stop(retired.into());
        self.guard.retired();
        self.restart(ctx);
    }
}

impl On<Ready> for SenderActor {
    fn on(&mut self, Ready(partition): Ready, ctx: &mut Context<Self>) {
        self.dispatcher.ready(partition, now());
        self.act(ctx);
    }
}

impl On<Offer> for SenderActor {
    fn on(&mut self, Offer { loan, more }: Offer, ctx: &mut Context<Self>) {
        self.dispatcher.offered(loan, more, now());
        self.act(ctx);
    }
}

impl On<WakeSender> for SenderActor {
    fn on(&mut self, _: WakeSender, ctx: &mut Context<Self>) {
        self.dispatcher.dispatch(now());
        self.act(ctx);
    }
}

impl On<Tick> for SenderActor {
    fn on(&mut self, _: Tick, ctx: &mut Context<Self>) {
        self.alarm.rang();
        match self.dispatcher.tick(now()) {
            Ok(()) => self.act(ctx),
            Err(fault) => self.fault(fault, ctx),
        }
    }
}

impl Handler<Stop> for SenderActor {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}

impl Handler<GetBrokerFigures> for SenderActor {
    type Result = MessageResult<GetBrokerFigures>;

    fn handle(&mut self, _: GetBrokerFigures, _: &mut Context<Self>) -> Self::Result {
        let link = self.dispatcher.link();
        MessageResult(BrokerFigures {
            node: self.node,
            address: self.endpoint.to_string(),
            connected: link.is_up(),
            requests_in_flight: self.dispatcher.in_flight(),
            throttled: link.throttled_until().is_some_and(|until| until > now()),
            last_error: link.last_error().map(|error| error.to_string()),
        })
    }
}
