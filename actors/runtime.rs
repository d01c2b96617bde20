//! The RuntimeActor: creates and retires every other actor, and nothing else does.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use actix::prelude::*;
use futures_util::future::join_all;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::sync::oneshot;

use super::clock::{ClockActor, Stop};
use super::delivery::DeliveryActor;
use super::guard::{self, Guard, Guarded, On, PartFell, Revisit, Watch, guarded};
use super::identity::IdentityActor;
use super::metadata::{MetadataActor, MetadataRules, Republish, Serve, TopicReply};
use super::now;
use super::partition::{
    Barrier, FlushPartition, Lead, Led, PartitionActor, PartitionCensus, PartitionParts, Retire,
    Revive, Shared,
};
use super::pool::{PoolActor, PoolCensus, Restock};
use super::sender::{MoveTo, SenderActor, SenderCensus, SenderRules};
use crate::compress::{Compression, Compressor};
use crate::config::{Config, MetadataRecovery};
use crate::error::{CloseError, SendError};
use crate::figures::{Figures, PoolFigures};
use crate::intake::Intake;
use crate::lifecycle::{Lifecycle, Supervise};
use crate::metadata::TopicView;
use crate::meters::{NodeMeters, PoolMeters, TopicMeters};
use crate::net::{ConnectOptions, ControlClient, Endpoint};
use crate::partition::{Ledger, Rules, Stage};
use crate::partitioner::{RoundRobin, Sticky};
use crate::pool::Shelf;
use crate::record::TopicPartition;
use crate::sender::Appetite;
use crate::supervision::Part;
use crate::topics::{Door, Gauge, Topic, Topics};

/// The picture of the cluster has changed, or somebody waits for a part of it.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Install {
    pub nodes: BTreeMap<i32, Endpoint>,
    pub topics: Vec<TopicView>,
    pub ready: Vec<(Arc<str>, TopicReply)>,
}

/// Everything accepted so far is to go out now; answered when all of it has its outcome.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Flush(pub oneshot::Sender<()>);

/// The producer is to end: what is accepted is delivered if that takes no longer than `within`,
/// then everything has its outcome and every actor stops.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Close {
    pub within: Duration,
    pub reply: Option<oneshot::Sender<Result<(), CloseError>>>,
}

/// The last handle was dropped.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct HandlesGone;

/// Asks for the figures of the whole producer.
#[derive(Message)]
#[rtype(result = "Figures")]
pub(crate) struct Census;

/// The addresses a handle needs, once the actors run.
pub(crate) struct Runtime {
    pub runtime: Addr<RuntimeActor>,
    pub pool: Addr<PoolActor>,
    pub metadata: Addr<MetadataActor>,
    /// Held by whoever sends [`HandlesGone`], and dropped before.
    pub handles: Arc<()>,
    /// Resolves when every actor has stopped.
    pub ended: oneshot::Receiver<()>,
}

struct Slot {
    door: Door,
    /// What the partition was told last.
    told: Option<Lead>,
}

struct Sender {
    addr: Arc<Addr<SenderActor>>,
    endpoint: Endpoint,
    incarnation: u64,
    appetite: Appetite,
}

/// Owns the lists of what there is, and the writes to the routes.
pub(crate) struct RuntimeActor {
    guard: Guard,
    watch: Arc<Watch>,
    config: Arc<Config>,
    client_id: Arc<str>,
    topics: Arc<Topics>,
    intake: Option<Arc<Intake>>,
    handles: Weak<()>,
    shelf: Arc<Shelf>,
    parts: PartitionParts,
    pool: Addr<PoolActor>,
    started: Instant,
    /// Seeds whatever makes choices or waits at random.
    chance: SmallRng,

    /// Partitions outlive the metadata that named them: a topic that vanishes and returns goes on
    /// counting its sequences.
    partitions: BTreeMap<Arc<str>, Vec<Slot>>,
    stickies: BTreeMap<Arc<str>, (Arc<Sticky>, Arc<RoundRobin>)>,
    senders: BTreeMap<i32, Sender>,
    next_incarnation: u64,

    closing: Option<Closing>,
    ended: Option<oneshot::Sender<()>>,
}

struct Closing {
    replies: Vec<oneshot::Sender<Result<(), CloseError>>>,
    timer: SpawnHandle,
}

impl RuntimeActor {
    /// Starts all actors on the arbiter it is called on.
    pub fn start_all(
        config: &Arc<Config>,
        topics: &Arc<Topics>,
        shelf: &Arc<Shelf>,
        intake: oneshot::Receiver<Arc<Intake>>,
        seed: u64,
    ) -> Runtime {
        let client_id: Arc<str> = config.client_id.as_str().into();
        let watch = Watch::new(config.restart_max, config.restart_window);
        let clock = ClockActor::new(watch.guard(Part::Clock)).start();
        let meters = PoolMeters::new(&client_id, config.buffer_memory);
        let pool = PoolActor::new(
            config.buffer_memory,
            config.batch_size,
            Arc::clone(shelf),
            clock.clone(),
            meters,
            watch.guard(Part::Pool),
        )
        .start();
        let waker = pool.clone();
        shelf.wake_with(move || waker.do_send(Restock));
        pool.do_send(Restock);

        let mut chance = SmallRng::seed_from_u64(seed);
        let mut dial = || {
            let (config, seed) = (Arc::clone(config), chance.random());
            move || control(&config, seed)
        };
        let (dial_identity, dial_metadata) = (dial(), dial());
        let guard = watch.guard(Part::Identity);
        let identity = IdentityActor::new(dial_identity, clock.clone(), guard).start();
        let bootstrap = config.bootstrap_servers.iter().map(Endpoint::to_string);
        let rules = MetadataRules {
            bootstrap: bootstrap.collect::<Vec<_>>().join(","),
            max_age: config.metadata_max_age,
            max_idle: config.metadata_max_idle,
            backoff: (config.retry_backoff, config.retry_backoff_max),
            seed: chance.random(),
        };
        let metadata = MetadataActor::new(
            rules,
            dial_metadata,
            Arc::clone(topics),
            clock.clone(),
            identity.clone(),
            watch.guard(Part::Metadata),
        )
        .start();
        let parts = PartitionParts {
            shelf: Arc::clone(shelf),
            compressor: Rc::new(RefCell::new(Compressor::new(config.compression))),
            linger: config.linger,
            delivery_timeout: config.delivery_timeout,
            clock,
            identity,
            metadata: metadata.clone(),
            delivery: DeliveryActor::new(watch.guard(Part::Delivery)).start(),
        };
        let (end, ended) = oneshot::channel();
        let handles = Arc::new(());
        let actor = Self {
            guard: watch.guard(Part::Runtime),
            watch: Arc::clone(&watch),
            config: Arc::clone(config),
            client_id,
            topics: Arc::clone(topics),
            intake: None,
            handles: Arc::downgrade(&handles),
            shelf: Arc::clone(shelf),
            parts,
            pool: pool.clone(),
            started: now(),
            chance,
            partitions: BTreeMap::new(),
            stickies: BTreeMap::new(),
            senders: BTreeMap::new(),
            next_incarnation: 1,
            closing: None,
            ended: Some(end),
        };
        let runtime = Self::create(|ctx| {
            // The intake needs our address, and partitions need the intake.
            ctx.wait(
                intake
                    .into_actor(&actor)
                    .map(|intake, actor, ctx| match intake {
                        Ok(intake) => actor.intake = Some(intake),
                        Err(_) => ctx.stop(),
                    }),
            );
            actor
        });
        metadata.do_send(Serve(runtime.clone()));
        watch.report_to(runtime.clone());
        Runtime {
            runtime,
            pool,
            metadata,
            handles,
            ended,
        }
    }

    fn sender(&mut self, node: i32, endpoint: &Endpoint) {
        if let Some(sender) = self.senders.get_mut(&node) {
            if sender.endpoint != *endpoint {
                sender.endpoint = endpoint.clone();
                sender.addr.do_send(MoveTo(endpoint.clone()));
            }
            return;
        }
        let incarnation = self.next_incarnation;
        self.next_incarnation += 1;
        let config = &self.config;
        let rules = SenderRules {
            acks: config.acks,
            max_in_flight: config.max_in_flight,
            max_request_size: config.max_request_size,
            batch_size: config.batch_size,
            request_timeout: config.request_timeout,
            max_idle: config.connections_max_idle,
            reconnect_backoff: (config.reconnect_backoff, config.reconnect_backoff_max),
            connect: connect_options(config),
            setup_timeout_max: config.connection_setup_timeout_max,
            seed: self.chance.random(),
        };
        let appetite = Appetite::default();
        let addr = SenderActor::new(
            (node, endpoint.clone()),
            (incarnation, appetite.clone()),
            rules,
            self.parts.clock.clone(),
            self.parts.metadata.clone(),
            NodeMeters::new(&self.client_id, node),
            self.watch.guard(Part::Sender(node)),
        )
        .start();
        self.senders.insert(
            node,
            Sender {
                addr: Arc::new(addr),
                endpoint: endpoint.clone(),
                incarnation,
                appetite,
            },
        );
    }

    fn slot(&self, topic: &Arc<str>, partition: i32, meters: &TopicMeters) -> Option<Slot> {
        let config = &self.config;
        let plain = config.compression == Compression::None;
        let stage = Arc::new(Stage::new(partition, config.batch_size, plain));
        let ledger = Rc::new(RefCell::new(Ledger::new(Rules {
            idempotent: config.enable_idempotence,
            max_in_flight: config.max_in_flight,
            retries: config.retries,
            backoff: config.retry_backoff,
            backoff_max: config.retry_backoff_max,
            delivery_timeout: config.delivery_timeout,
            codec: config.compression,
        })));
        let gauge = Arc::new(Gauge::new(self.started));
        let topic_partition = TopicPartition::new(Arc::clone(topic), partition);
        let shared = Shared {
            stage: Arc::clone(&stage),
            ledger,
            gauge: Arc::clone(&gauge),
        };
        let addr = PartitionActor::new(
            topic_partition.clone(),
            shared,
            self.parts.clone(),
            meters.clone(),
            self.intake.clone()?,
            self.watch.guard(Part::Partition(topic_partition)),
        )
        .start();
        Some(Slot {
            door: Door { stage, addr, gauge },
            told: None,
        })
    }

    fn topic(&mut self, view: &TopicView) {
        let mut slots = self.partitions.remove(&view.name).unwrap_or_default();
        if slots.len() < view.leaders.len() {
            let meters = TopicMeters::new(&self.client_id, &view.name);
            for partition in slots.len()..view.leaders.len() {
                slots.extend(self.slot(&view.name, partition as i32, &meters));
            }
        }
        for (at, slot) in slots.iter_mut().enumerate() {
            let leader = view.leaders.get(at).and_then(|leader| {
                let node = leader.node?;
                let sender = self.senders.get(&node)?;
                Some(Led {
                    node,
                    epoch: leader.epoch,
                    sender: Arc::clone(&sender.addr),
                    incarnation: sender.incarnation,
                    appetite: sender.appetite.clone(),
                })
            });
            let topic_id = view.id;
            let lead = Lead { topic_id, leader };
            if slot.told.as_ref() != Some(&lead) {
                slot.told = Some(lead.clone());
                slot.door.addr.do_send(lead);
            }
        }
        if self.closing.is_none() {
            self.route(view, &slots);
        }
        self.partitions.insert(Arc::clone(&view.name), slots);
    }

    /// Makes the topic known to those who send.
    fn route(&mut self, view: &TopicView, slots: &[Slot]) {
        let available: Vec<i32> = (0i32..)
            .zip(&view.leaders)
            .filter(|(_, l)| l.node.is_some())
            .map(|(p, _)| p)
            .collect();
        let count = view.leaders.len().min(slots.len());
        let known = self.topics.get(&view.name);
        if known.is_none_or(|topic| topic.partitions.len() != count || topic.available != available)
        {
            let (sticky, round_robin) = self.choosers(&view.name);
            let doors = slots[..count]
                .iter()
                .map(|slot| slot.door.clone())
                .collect();
            let name = Arc::clone(&view.name);
            self.topics
                .insert(Topic::new(name, doors, available, sticky, round_robin));
        }
    }

    fn choosers(&mut self, topic: &Arc<str>) -> (Arc<Sticky>, Arc<RoundRobin>) {
        let (config, chance) = (&self.config, &mut self.chance);
        let made = || {
            let adaptive = config.partitioner_adaptive;
            (
                Arc::new(Sticky::new(adaptive, config.batch_size, chance.random())),
                Arc::new(RoundRobin::new()),
            )
        };
        self.stickies
            .entry(Arc::clone(topic))
            .or_insert_with(made)
            .clone()
    }

    /// Has every partition flush; `done` hears when all have, and is dropped if one has missed it.
    fn barrier(&self, done: oneshot::Sender<()>) {
        let barrier = Barrier::new(done);
        let addrs = self.partitions.values().flatten().map(|s| &s.door.addr);
        for addr in addrs.filter(|addr| addr.connected()) {
            addr.do_send(FlushPartition(Some(Arc::clone(&barrier))));
        }
    }

    /// Waits until everything has its outcome, and ends.
    fn deliver_and_end(&mut self, ctx: &mut Context<Self>) {
        let (done, delivered) = oneshot::channel();
        self.barrier(done);
        guard::spawn(
            ctx,
            delivered,
            |actor: &mut Self, delivered, ctx| match delivered {
                Ok(()) => actor.end(Ok(()), ctx),
                Err(_) => actor.deliver_and_end(ctx),
            },
        );
    }

    fn close(&mut self, close: Close, ctx: &mut Context<Self>) {
        let Close { within, reply } = close;
        if let Some(closing) = &mut self.closing {
            closing.replies.extend(reply);
            return;
        }
        self.topics.clear();
        for slot in self.partitions.values().flatten() {
            slot.door.stage.close();
        }
        self.pool.do_send(Stop);
        let timer = ctx.run_later(within, |actor, ctx| {
            actor.end(Err(CloseError::TimedOut), ctx)
        });
        self.closing = Some(Closing {
            replies: reply.into_iter().collect(),
            timer,
        });
        self.deliver_and_end(ctx);
    }

    fn revisit_all(&mut self) {
        self.parts.metadata.do_send(Republish);
        self.parts.metadata.do_send(Revisit);
        self.parts.identity.do_send(Revisit);
        self.pool.do_send(Revisit);
        for sender in self.senders.values() {
            // The lost message may have told it where its broker is now.
            sender.addr.do_send(MoveTo(sender.endpoint.clone()));
            sender.addr.do_send(Revisit);
        }
        for slot in self.partitions.values_mut().flatten() {
            slot.told = None;
            slot.door.addr.do_send(Revisit);
        }
    }

    /// Ends the producer when what it holds has its outcome.
    fn drain(&mut self, ctx: &mut Context<Self>) {
        let (within, reply) = (self.config.delivery_timeout, None);
        self.close(Close { within, reply }, ctx);
    }

    /// Ends the producer at once: everything that is accepted has its outcome.
    fn give_up(&mut self, ctx: &mut Context<Self>) {
        if self.closing.is_some() {
            // What is still waited for may never come.
            return self.end(Err(CloseError::Gone), ctx);
        }
        let (within, reply) = (Duration::ZERO, None);
        self.close(Close { within, reply }, ctx);
    }

    /// Stops everything: partitions first, so that what they settle is still told.
    fn end(&mut self, outcome: Result<(), CloseError>, ctx: &mut Context<Self>) {
        let Some(Closing { replies, timer }) = self.closing.take() else {
            return;
        };
        ctx.cancel_future(timer);
        let slots = std::mem::take(&mut self.partitions);
        let partitions: Vec<_> = slots.into_values().flatten().map(|s| s.door.addr).collect();
        let senders = std::mem::take(&mut self.senders);
        let PartitionParts {
            clock,
            identity,
            metadata,
            delivery,
            ..
        } = self.parts.clone();
        let ended = self.ended.take();
        let stopping = async move {
            join_all(partitions.iter().map(|partition| partition.send(Stop))).await;
            for sender in senders.into_values() {
                sender.addr.do_send(Stop);
            }
            let _ = delivery.send(Stop).await;
            metadata.do_send(Stop);
            identity.do_send(Stop);
            let _ = clock.send(Stop).await;
            for reply in replies {
                let _ = reply.send(outcome);
            }
            if let Some(ended) = ended {
                let _ = ended.send(());
            }
        };
        // Not a future of this actor: it stops too, and that would drop it.
        actix_rt::spawn(stopping);
        self.intake = None;
        ctx.stop();
    }
}

fn connect_options(config: &Config) -> ConnectOptions {
    ConnectOptions {
        client_id: config.client_id.clone(),
        setup_timeout: config.connection_setup_timeout,
        request_timeout: config.request_timeout,
        send_buffer: config.send_buffer,
        receive_buffer: config.receive_buffer,
    }
}

fn control(config: &Config, seed: u64) -> ControlClient {
    let backoff = (config.retry_backoff, config.retry_backoff_max);
    ControlClient::new(
        config.bootstrap_servers.clone(),
        connect_options(config),
        backoff,
        seed,
    )
    .rebootstraps(config.metadata_recovery == MetadataRecovery::Rebootstrap)
}

impl Actor for RuntimeActor {
    type Context = Context<Self>;
}

guarded!(RuntimeActor: Install, Flush, Close, HandlesGone, PartFell, Supervise);

impl Guarded for RuntimeActor {
    fn guard(&mut self) -> &mut Guard {
        &mut self.guard
    }

    /// The lists stay; what a lost picture would have added comes again. Nobody says a second time
    /// that everything is delivered, that the last handle is gone, or that a part failed without
    /// which the producer must end.
    fn restart(&mut self, ctx: &mut Context<Self>) -> usize {
        if self.watch.is_lost() {
            self.give_up(ctx);
        } else if self.closing.is_some() {
            self.deliver_and_end(ctx);
        } else if self.handles.strong_count() == 0 {
            self.drain(ctx);
        }
        0
    }

    fn fail(&mut self, _: &Arc<str>, ctx: &mut Context<Self>) {
        self.give_up(ctx);
    }
}

impl On<PartFell> for RuntimeActor {
    /// The message that panicked is lost, whatever it was. Instead of telling which loss matters to
    /// whom, everybody takes a fresh look; that is rare, and bounded by the budget of restarts.
    fn on(&mut self, PartFell { part, failed }: PartFell, ctx: &mut Context<Self>) {
        match (part, failed) {
            (_, None) | (Part::Partition(_) | Part::Sender(_), Some(_)) => self.revisit_all(),
            (part, Some(why)) => {
                tracing::error!(%part, %why, "the producer cannot go on without this part");
                self.give_up(ctx);
            }
        }
    }
}

impl On<Supervise> for RuntimeActor {
    fn on(&mut self, asked: Supervise, _: &mut Context<Self>) {
        if self.closing.is_some() {
            return;
        }
        let (part, again) = match &asked {
            Supervise::Restart(part) => (part, true),
            Supervise::Retire(part) => (part, false),
        };
        match part {
            Part::Partition(TopicPartition { topic, partition }) => {
                let at = usize::try_from(*partition).ok();
                let slots = self.partitions.get(topic);
                let slot = at.zip(slots).and_then(|(at, slots)| slots.get(at));
                match slot.map(|slot| &slot.door.addr) {
                    Some(addr) if again => addr.do_send(Revive),
                    Some(addr) => addr.do_send(Retire),
                    None => tracing::warn!(%part, "there is no such part"),
                }
            }
            Part::Sender(node) => match self.senders.get(node).map(|sender| &sender.addr) {
                Some(addr) if again => {
                    addr.do_send(Revive);
                    self.revisit_all();
                }
                Some(addr) => addr.do_send(Retire),
                None => tracing::warn!(%part, "there is no such part"),
            },
            part => tracing::warn!(%part, ?asked, "not a part that this can be asked of"),
        }
    }
}

/// Somebody wants to hear what befalls the parts.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Subscribe(pub Recipient<Lifecycle>);

impl Handler<Subscribe> for RuntimeActor {
    type Result = ();

    fn handle(&mut self, Subscribe(recipient): Subscribe, _: &mut Context<Self>) {
        self.watch.subscribe(recipient);
    }
}

impl On<Install> for RuntimeActor {
    fn on(&mut self, install: Install, _: &mut Context<Self>) {
        let Install {
            nodes,
            topics,
            ready,
        } = install;
        for (node, endpoint) in &nodes {
            self.sender(*node, endpoint);
        }
        for view in &topics {
            self.topic(view);
        }
        for (name, reply) in ready {
            let _ = reply.send(self.topics.get(&name).ok_or(SendError::Closed));
        }
    }
}

impl On<Flush> for RuntimeActor {
    fn on(&mut self, Flush(done): Flush, _: &mut Context<Self>) {
        self.barrier(done);
    }
}

impl On<Close> for RuntimeActor {
    fn on(&mut self, close: Close, ctx: &mut Context<Self>) {
        self.close(close, ctx);
    }
}

impl On<HandlesGone> for RuntimeActor {
    fn on(&mut self, _: HandlesGone, ctx: &mut Context<Self>) {
        self.drain(ctx);
    }
}

impl Handler<Census> for RuntimeActor {
    type Result = ResponseFuture<Figures>;

    fn handle(&mut self, _: Census, _: &mut Context<Self>) -> Self::Result {
        let doors = self
            .partitions
            .values()
            .flatten()
            .map(|slot| slot.door.addr.clone());
        let doors: Vec<_> = doors.collect();
        let senders: Vec<_> = self
            .senders
            .values()
            .map(|sender| sender.addr.clone())
            .collect();
        let (pool, shelf) = (self.pool.clone(), Arc::clone(&self.shelf));
        let total_bytes = self.config.buffer_memory;
        Box::pin(async move {
            let partitions = join_all(doors.iter().map(|door| door.send(PartitionCensus))).await;
            let brokers = join_all(senders.iter().map(|sender| sender.send(SenderCensus))).await;
            let mut pool_figures = PoolFigures {
                total_bytes,
                ..shelf.figures()
            };
            if let Ok(state) = pool.send(PoolCensus).await {
                pool_figures.available_bytes = state.available;
                pool_figures.waiting = state.waiting;
            }
            let mut partitions: Vec<_> = partitions.into_iter().flatten().collect();
            partitions.sort_by(|a, b| a.topic_partition.cmp(&b.topic_partition));
            Figures {
                pool: pool_figures,
                partitions,
                brokers: brokers.into_iter().flatten().collect(),
            }
        })
    }
}
