//! The RuntimeActor: one per producer. It starts and stops all other actors, tells partitions their
//! leaders, and handles flush, close and the failure of components.

mod certificates;
mod ending;
mod figures;
mod install;
mod leaving;
mod slots;
mod spooling;
mod start;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::Instant;

use actix::prelude::*;
use rand::rngs::SmallRng;
use tokio::sync::{oneshot, watch};

use super::PartitionActor;
use super::guard::{Guard, Guarded, On, Watch, guarded};
use super::lifecycle::{CloseError, Lifecycle, Supervise};
use super::messages::*;
use super::pool::PoolActor;
use super::sender::SenderActor;
use super::services::SharedServices;
use super::transaction::TransactionActor;
use crate::config::Config;
use crate::core::dispatch::Demand;
use crate::core::endpoint::Endpoint;
use crate::core::memory::Shelf;
use crate::core::partitioner::{RoundRobin, Sticky};
use crate::core::record::TopicPartition;
use crate::core::security::Expiries;
use crate::core::supervision::Component;
use crate::core::tally::OutcomeCounts;
use crate::intake::Intake;
use crate::intake::topics::{PartitionRoute, Topics};
use crate::net::ConnectOptions;

use slots::Spooling;
#[cfg(any(feature = "cli", feature = "internals"))]
pub(crate) use start::connect_options;
pub(crate) use start::{Runtime, RuntimeSpec, open_spool};

/// A partition whose actor runs.
struct PartitionEntry {
    addr: Addr<PartitionActor>,
    route: PartitionRoute,
    /// The leader that the partition was told last.
    told: Option<SetLeader>,
    /// Its records are in the spool.
    spooled: bool,
    /// Its topic has left the routes, and the stage was closed for that. One that was closed before,
    /// because the partition failed or was retired, stays closed if the topic comes back.
    asleep: bool,
    /// The application has its address, which is good until the end.
    addressed: bool,
}

impl PartitionEntry {
    fn has_leader(&self) -> bool {
        self.told.as_ref().is_some_and(|told| told.leader.is_some())
    }
}

/// A sender whose actor runs.
struct SenderEntry {
    addr: Addr<SenderActor>,
    /// The same address, as the partitions get it.
    shared: SenderAddr,
    endpoint: Endpoint,
    cluster_id: Option<Arc<str>>,
    incarnation: u64,
    demand: Demand,
    ready_queue: Arc<ReadyQueue>,
}

/// The close that is under way.
struct Closing {
    /// The callers that wait for it.
    replies: Vec<oneshot::Sender<Closed>>,
    /// It limits the close.
    timer: SpawnHandle,
    /// When the timer is over; `None`: never.
    until: Option<Instant>,
    /// The outcomes of the records that it waits for.
    counts: Arc<OutcomeCounts>,
    /// Nobody asked for it, and why it came: a component failed without which the producer cannot go on, or
    /// another producer has taken over.
    gone: Option<CloseError>,
}

/// Owns the lists of partitions and senders, and writes the table of topics.
pub(crate) struct RuntimeActor {
    guard: Guard,
    watch: Rc<Watch>,
    config: Arc<Config>,
    /// How to connect to a broker.
    connect: ConnectOptions,
    client_id: Arc<str>,
    topics: Arc<Topics>,
    intake: Arc<Intake>,
    /// Alive while there is a handle.
    handles: Weak<()>,
    shelf: Arc<Shelf>,
    services: Rc<SharedServices>,
    pool: Addr<PoolActor>,
    started: Instant,
    /// Gives the seeds for all random choices and waits.
    rng: SmallRng,

    /// The partitions of each topic. They stay while records have no outcome, also when the topic
    /// leaves the routes. If it comes back meanwhile, they continue with their sequence numbers.
    partitions: BTreeMap<Arc<str>, Vec<PartitionEntry>>,
    /// Topics that have left the routes, and of which records wait for their outcome.
    unrouted: BTreeSet<Arc<str>>,
    /// The partitioners of each topic. They stay when the topic's entry is replaced, and go with its
    /// partitions.
    partitioners: BTreeMap<Arc<str>, (Arc<Sticky>, Arc<RoundRobin>)>,
    senders: BTreeMap<i32, SenderEntry>,
    /// The senders of brokers that have left. Each ends when its connection has.
    released: Vec<actix::WeakAddr<SenderActor>>,
    /// The incarnation of the next sender that is started.
    next_incarnation: u64,
    /// The certificates that brokers and this client show each other.
    expiries: Expiries,

    /// Who begins and ends transactions, if there is a `transactional.id`.
    transactions: Option<Addr<TransactionActor>>,
    /// Set if there is a spool.
    spooling: Option<Spooling>,
    closing: Option<Closing>,
    /// Gets what became of the close when every actor has stopped.
    ended: Option<watch::Sender<Option<Closed>>>,
}

impl RuntimeActor {
    fn partition(&self, named: &TopicPartition) -> Option<&PartitionEntry> {
        let at = usize::try_from(named.partition).ok()?;
        self.partitions.get(&named.topic)?.get(at)
    }

    /// Has the other actors announce themselves again, because any message may have been lost.
    fn resync_all(&mut self) {
        self.services.metadata.do_send(Resync);
        self.services.identity.do_send(Resync);
        if let Some(lookups) = &self.services.lookups {
            lookups.do_send(Resync);
        }
        self.pool.do_send(Resync);
        if let Some(spooling) = &self.spooling {
            spooling.spool.do_send(Resync);
            spooling.open_slots();
        }
        for sender in self.senders.values() {
            // The lost message may have had the broker's present address.
            sender.addr.do_send(MoveTo {
                endpoint: sender.endpoint.clone(),
                cluster_id: sender.cluster_id.clone(),
            });
            sender.addr.do_send(Resync);
        }
        for entry in self.partitions.values_mut().flatten() {
            entry.told = None;
            entry.addr.do_send(Resync);
        }
        self.close_unrouted();
    }
}

impl Actor for RuntimeActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.begin_with_spool(ctx);
    }
}

guarded!(RuntimeActor: InstallMetadata, CertificatesSeen, Pressure, LeaveProducer, Taken, FindMarker, Flush,
    WaitForResumed, Close, LastHandleDropped, ComponentFell, Supervise);

impl Guarded for RuntimeActor {
    fn guard(&mut self) -> &mut Guard {
        &mut self.guard
    }

    /// The lists stay. If the lost message had a new view of the cluster, that view comes again.
    /// Three other messages would not come again: that everything is delivered, that the last
    /// handle was dropped, and that a component failed without which the producer has to end. So
    /// their causes are checked here.
    fn restart(&mut self, ctx: &mut Context<Self>) -> usize {
        if self.watch.is_lost() {
            self.give_up(CloseError::Gone, ctx);
        } else if self.closing.is_some() {
            self.deliver_and_end(ctx);
        } else if self.handles.strong_count() == 0 {
            self.drain(ctx);
        }
        0
    }

    fn fail(&mut self, _: &Arc<str>, ctx: &mut Context<Self>) {
        self.give_up(CloseError::Gone, ctx);
    }
}

impl On<Pressure> for RuntimeActor {
    fn on(&mut self, _: Pressure, ctx: &mut Context<Self>) {
        self.spill(ctx);
        let senders = self.senders.values();
        for sender in senders.filter(|sender| sender.ready_queue.any_open()) {
            sender.addr.do_send(WakeSender);
        }
    }
}

impl On<LeaveProducer> for RuntimeActor {
    fn on(&mut self, leave: LeaveProducer, _: &mut Context<Self>) {
        for entry in self.partitions.values().flatten() {
            entry.addr.do_send(leave.clone());
        }
    }
}

impl On<Taken> for RuntimeActor {
    fn on(&mut self, Taken(why): Taken, ctx: &mut Context<Self>) {
        if self.services.taken.set(Arc::clone(&why)).is_ok() {
            tracing::error!(
                %why,
                "another producer has taken the transactional ids of the spool, so this one ends, and what is \
                 in its spool is kept there; see that no copy of the directory is used beside it"
            );
        }
        self.give_up(CloseError::Fenced, ctx);
    }
}

impl On<FindMarker> for RuntimeActor {
    /// If nobody has sent to the topic for long, no broker is asked who leads it, and its partitions may be
    /// gone. They come back with the next view of the cluster.
    fn on(&mut self, find: FindMarker, _: &mut Context<Self>) {
        let Some(witness) = find.scope.witness() else {
            return;
        };
        if self.topics.get(&witness.partition.topic).is_none() {
            self.want(&witness.partition.topic);
        }
        if let Some(entry) = self.partition(&witness.partition) {
            entry.addr.do_send(find);
        }
    }
}

impl On<ComponentFell> for RuntimeActor {
    /// The message that panicked is lost, and it may have been any. It would be hard to tell which
    /// actors need it, so all actors resync. That is rare, and the number of restarts is limited.
    fn on(&mut self, ComponentFell { component, failed }: ComponentFell, ctx: &mut Context<Self>) {
        match (component, failed) {
            (_, None) | (Component::Partition(_) | Component::Sender(_), Some(_)) => {
                self.resync_all()
            }
            (component, Some(why)) => {
                tracing::error!(
                    %component, %why,
                    "the producer cannot go on without this component"
                );
                self.give_up(CloseError::Gone, ctx);
            }
        }
    }
}

impl On<Supervise> for RuntimeActor {
    fn on(&mut self, asked: Supervise, _: &mut Context<Self>) {
        if self.closing.is_some() {
            return;
        }
        let (component, again) = match &asked {
            Supervise::Restart(component) => (component, true),
            Supervise::Retire(component) => (component, false),
        };
        match component {
            Component::Partition(named) => match self.partition(named).map(|entry| &entry.addr) {
                Some(addr) if again => addr.do_send(Restart),
                Some(addr) => addr.do_send(Retire),
                None => tracing::warn!(%component, "there is no such component"),
            },
            Component::Sender(node) => match self.senders.get(node).map(|sender| &sender.addr) {
                Some(addr) if again => {
                    addr.do_send(Restart);
                    self.resync_all();
                }
                Some(addr) => addr.do_send(Retire),
                None => tracing::warn!(%component, "there is no such component"),
            },
            component => {
                tracing::warn!(%component, ?asked, "not a component that this can be asked of")
            }
        }
    }
}

impl Handler<Lifecycle> for RuntimeActor {
    type Result = ();

    /// News of a component on another thread.
    fn handle(&mut self, told: Lifecycle, _: &mut Context<Self>) {
        self.watch.tell(&told.component, told.event);
    }
}

impl Drop for RuntimeActor {
    fn drop(&mut self) {
        if self.ended.is_some() {
            tracing::warn!(
                client_id = &*self.client_id,
                "the arbiter of a producer ended without a close of it: what was not delivered is settled \
                 as not written or unknown; await Producer::close before the arbiter or its System stops, \
                 or give the producer a thread of its own (Placement::OwnThread)"
            );
        }
    }
}

impl Handler<Subscribe> for RuntimeActor {
    type Result = ();

    fn handle(&mut self, Subscribe(recipient): Subscribe, _: &mut Context<Self>) {
        self.watch.subscribe(recipient);
    }
}

/// Asks for the address of a partition's actor. Sent by a handle to the RuntimeActor.
#[derive(Message)]
#[rtype(result = "Option<Addr<PartitionActor>>")]
pub(crate) struct GetPartition(pub TopicPartition);

impl Handler<GetPartition> for RuntimeActor {
    type Result = Option<Addr<PartitionActor>>;

    fn handle(&mut self, GetPartition(asked): GetPartition, _: &mut Context<Self>) -> Self::Result {
        let at = usize::try_from(asked.partition).ok()?;
        let entry = self.partitions.get_mut(&asked.topic)?.get_mut(at)?;
        entry.addressed = true;
        Some(entry.addr.clone())
    }
}
