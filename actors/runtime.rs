//! The RuntimeActor: creates and retires every other actor, and nothing else does.

mod census;
mod ending;
mod install;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::Instant;

use actix::prelude::*;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::sync::oneshot;

pub(crate) use census::GetFigures;
pub(crate) use ending::{Close, Flush, LastHandleDropped};
pub(crate) use install::InstallMetadata;

use self::ending::Closing;
use self::install::{Sender, Slot};
use super::clock::ClockActor;
use super::delivery::DeliveryActor;
use super::guard::{ComponentFell, Guard, Guarded, On, Resync, Watch, guarded};
use super::identity::IdentityActor;
use super::metadata::{MetadataActor, MetadataRules, Republish, Serve};
use super::now;
use super::partition::{Restart, Retire, SharedServices};
use super::pool::{PoolActor, Restock};
use super::sender::MoveTo;
use crate::actors::lifecycle::{Lifecycle, Supervise};
use crate::config::{Config, MetadataRecovery};
use crate::core::compress::Compressor;
use crate::core::endpoint::Endpoint;
use crate::core::ledger::Rules;
use crate::core::memory::Shelf;
use crate::core::partitioner::{RoundRobin, Sticky};
use crate::core::record::TopicPartition;
use crate::core::supervision::Component;
use crate::intake::Intake;
use crate::intake::topics::Topics;
use crate::meters::PoolMeters;
use crate::net::{ConnectOptions, ControlClient};

/// The addresses a handle needs, once the actors run.
pub(crate) struct Runtime {
    pub runtime: Addr<RuntimeActor>,
    pub pool: Addr<PoolActor>,
    pub metadata: Addr<MetadataActor>,
    /// Held by whoever sends [`LastHandleDropped`], and dropped before.
    pub handles: Arc<()>,
    /// Resolves when every actor has stopped.
    pub ended: oneshot::Receiver<()>,
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
    services: Rc<SharedServices>,
    pool: Addr<PoolActor>,
    started: Instant,
    /// Seeds whatever makes choices or waits at random.
    rng: SmallRng,

    /// Partitions outlive the metadata that named them: a topic that vanishes and returns goes on
    /// counting its sequences.
    partitions: BTreeMap<Arc<str>, Vec<Slot>>,
    stickies: BTreeMap<Arc<str>, (Arc<Sticky>, Arc<RoundRobin>)>,
    senders: BTreeMap<i32, Sender>,
    next_incarnation: u64,

    closing: Option<Closing>,
    ended: Option<oneshot::Sender<()>>,
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
        let clock = ClockActor::new(watch.guard(Component::Clock)).start();
        let meters = PoolMeters::new(&client_id, config.buffer_memory);
        let guard = watch.guard(Component::Pool);
        let pool = start_pool(config, shelf, clock.clone(), meters, guard);

        let mut rng = SmallRng::seed_from_u64(seed);
        let mut dial = || {
            let (config, seed) = (Arc::clone(config), rng.random());
            move || control(&config, seed)
        };
        let (dial_identity, dial_metadata) = (dial(), dial());
        let guard = watch.guard(Component::Identity);
        let identity = IdentityActor::new(dial_identity, clock.clone(), guard).start();
        let metadata = MetadataActor::new(
            metadata_rules(config, rng.random()),
            dial_metadata,
            Arc::clone(topics),
            clock.clone(),
            identity.clone(),
            watch.guard(Component::Metadata),
        )
        .start();
        let services = Rc::new(SharedServices {
            shelf: Arc::clone(shelf),
            compressor: Rc::new(RefCell::new(Compressor::new(config.compression))),
            linger: config.linger,
            rules: Rc::new(ledger_rules(config)),
            clock,
            identity,
            metadata: metadata.clone(),
            delivery: DeliveryActor::new(watch.guard(Component::Delivery)).start(),
        });
        let (end, ended) = oneshot::channel();
        let handles = Arc::new(());
        let actor = Self {
            guard: watch.guard(Component::Runtime),
            watch: Arc::clone(&watch),
            config: Arc::clone(config),
            client_id,
            topics: Arc::clone(topics),
            intake: None,
            handles: Arc::downgrade(&handles),
            shelf: Arc::clone(shelf),
            services,
            pool: pool.clone(),
            started: now(),
            rng,
            partitions: BTreeMap::new(),
            stickies: BTreeMap::new(),
            senders: BTreeMap::new(),
            next_incarnation: 1,
            closing: None,
            ended: Some(end),
        };
        let runtime = actor.start_with(intake);
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

    /// The intake needs our address, and partitions need the intake.
    fn start_with(self, intake: oneshot::Receiver<Arc<Intake>>) -> Addr<Self> {
        Self::create(|ctx| {
            ctx.wait(
                intake
                    .into_actor(&self)
                    .map(|intake, actor, ctx| match intake {
                        Ok(intake) => actor.intake = Some(intake),
                        Err(_) => ctx.stop(),
                    }),
            );
            self
        })
    }

    fn resync_all(&mut self) {
        self.services.metadata.do_send(Republish);
        self.services.metadata.do_send(Resync);
        self.services.identity.do_send(Resync);
        self.pool.do_send(Resync);
        for sender in self.senders.values() {
            // The lost message may have told it where its broker is now.
            sender.addr.do_send(MoveTo(sender.endpoint.clone()));
            sender.addr.do_send(Resync);
        }
        for slot in self.partitions.values_mut().flatten() {
            slot.told = None;
            slot.route.addr.do_send(Resync);
        }
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

fn start_pool(
    config: &Config,
    shelf: &Arc<Shelf>,
    clock: Addr<ClockActor>,
    meters: PoolMeters,
    guard: Guard,
) -> Addr<PoolActor> {
    let (total, batch) = (config.buffer_memory, config.batch_size);
    let pool = PoolActor::new(total, batch, Arc::clone(shelf), clock, meters, guard).start();
    let waker = pool.clone();
    shelf.wake_with(move || waker.do_send(Restock));
    pool.do_send(Restock);
    pool
}

fn metadata_rules(config: &Config, seed: u64) -> MetadataRules {
    let bootstrap = config.bootstrap_servers.iter().map(Endpoint::to_string);
    MetadataRules {
        bootstrap: bootstrap.collect::<Vec<_>>().join(","),
        max_age: config.metadata_max_age,
        max_idle: config.metadata_max_idle,
        backoff: (config.retry_backoff, config.retry_backoff_max),
        seed,
    }
}

fn ledger_rules(config: &Config) -> Rules {
    Rules {
        idempotent: config.enable_idempotence,
        max_in_flight: config.max_in_flight,
        retries: config.retries,
        backoff: config.retry_backoff,
        backoff_max: config.retry_backoff_max,
        delivery_timeout: config.delivery_timeout,
        codec: config.compression,
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

guarded!(RuntimeActor: InstallMetadata, Flush, Close, LastHandleDropped, ComponentFell, Supervise);

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

impl On<ComponentFell> for RuntimeActor {
    /// The message that panicked is lost, whatever it was. Instead of telling which loss matters to
    /// whom, everybody takes a fresh look; that is rare, and bounded by the budget of restarts.
    fn on(&mut self, ComponentFell { part, failed }: ComponentFell, ctx: &mut Context<Self>) {
        match (part, failed) {
            (_, None) | (Component::Partition(_) | Component::Sender(_), Some(_)) => {
                self.resync_all()
            }
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
            Component::Partition(TopicPartition { topic, partition }) => {
                let at = usize::try_from(*partition).ok();
                let slots = self.partitions.get(topic);
                let slot = at.zip(slots).and_then(|(at, slots)| slots.get(at));
                match slot.map(|slot| &slot.route.addr) {
                    Some(addr) if again => addr.do_send(Restart),
                    Some(addr) => addr.do_send(Retire),
                    None => tracing::warn!(%part, "there is no such part"),
                }
            }
            Component::Sender(node) => match self.senders.get(node).map(|sender| &sender.addr) {
                Some(addr) if again => {
                    addr.do_send(Restart);
                    self.resync_all();
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
