//! Starts all actors of a producer, in the order in which they need each other, and turns the
//! configuration into their rules.

mod dial;
mod identity;
mod spool;

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::sync::watch;

use super::RuntimeActor;
use super::slots::{Slots, Spooling};
use crate::actors::backend::{ActorBackend, SpoolDoor};
use crate::actors::clock::ClockActor;
use crate::actors::delivery::{DeliveryActor, DeliveryElsewhere};
use crate::actors::guard::Watch;
use crate::actors::messages::{
    CertificatesSeen, Closed, InstallMetadata, Restock, SetNodes, SpaceChanged,
};
use crate::actors::metadata::MetadataActor;
use crate::actors::now;
use crate::actors::pool::PoolActor;
use crate::actors::services::SharedServices;
use crate::actors::spool::SpoolActor;
use crate::actors::transaction::TransactionActor;
use crate::config::{Config, Durability, InDoubt, MetadataRecovery, OnUnknown};
use crate::core::cluster::MetadataRules;
use crate::core::compress::Compressor;
use crate::core::dispatch::{DispatchRules, LinkRules};
use crate::core::endpoint::Endpoint;
use crate::core::ledger::{Rules, Spools};
use crate::core::memory::{MemoryObserver, Shelf};
use crate::core::partitioner::Partitioner;
use crate::core::security::Expiries;
use crate::core::supervision::Component;
use crate::core::user_code::HeldUp;
use crate::intake::Intake;
use crate::intake::interceptor::Interceptor;
use crate::intake::topics::Topics;
use crate::meters::PoolMeters;
use crate::net::{ConnectOptions, Observer, Security, Seen};
use dial::dial;
use identity::{FencedSpool, IdentityGiver, start_identity};
pub(crate) use spool::{OpenedSpool, open as open_spool};

/// What a runtime is started with.
pub(crate) struct RuntimeSpec {
    pub config: Arc<Config>,
    pub interceptors: Arc<[Arc<dyn Interceptor>]>,
    pub partitioner: Option<Arc<dyn Partitioner>>,
    pub security: Security,
    /// The seed of all random choices of the runtime.
    pub seed: u64,
    /// The spool, if there is to be one.
    pub spool: Option<OpenedSpool>,
}

/// A started runtime, as a handle needs it.
pub(crate) struct Runtime {
    pub runtime: Addr<RuntimeActor>,
    pub intake: Arc<Intake>,
    /// Who begins and ends transactions, if there is a `transactional.id`.
    pub transactions: Option<Addr<TransactionActor>>,
    /// Kept while there is a handle. It has to be dropped before
    /// [`LastHandleDropped`](crate::actors::messages::LastHandleDropped) is sent.
    pub handles: Arc<()>,
    /// Gets what became of the close when every actor has stopped.
    pub ended: watch::Receiver<Option<Closed>>,
}

/// Starts the DeliveryActor on a thread of its own.
pub(crate) type StartDelivery<'a> =
    &'a mut dyn FnMut(DeliveryElsewhere) -> io::Result<Addr<DeliveryActor>>;

impl RuntimeSpec {
    /// Starts all actors on the present arbiter. With `delivery` the one that calls user code is started
    /// by that.
    pub fn start(mut self, delivery: Option<StartDelivery<'_>>) -> io::Result<Runtime> {
        let config = Arc::clone(&self.config);
        let mut rng = SmallRng::seed_from_u64(self.seed);
        // The RuntimeActor needs the other actors, and they need its address. So its address is
        // made first.
        let ctx = Context::new();
        let runtime: Addr<RuntimeActor> = ctx.address();
        let topics = Topics::new();
        let shelf = Shelf::new(config.buffer_memory, config.batch_size);
        let (max, window) = (config.restart_max, config.restart_window);
        let watch = Watch::new(max, window, Some(runtime.clone().recipient()));
        let clock = ClockActor::new(watch.guard(Component::Clock)).start();
        let pool = start_pool(&config, &shelf, (&clock, &runtime), &watch);
        let connect = self.connect(&runtime);
        let delivery = start_delivery(delivery, (max, window), &runtime, &watch)?;
        let around = (&clock, &delivery, &runtime);
        let spool = self.spool.take();
        let (spooling, fenced, door) = start_spool(&config, spool, (&clock, &runtime), &watch);
        let mut identity = start_identity(&config, &connect, around, fenced, &watch, rng.random());
        let metadata = start_metadata(
            (&config, &connect),
            &topics,
            &clock,
            (
                std::mem::take(&mut identity.nodes),
                runtime.clone().recipient(),
            ),
            &watch,
            (rng.random(), rng.random()),
        );
        let backend = ActorBackend::new(&pool, &metadata, &runtime, door);
        let intake = self.intake(backend, (Arc::clone(&topics), Arc::clone(&shelf)));
        let transactions = identity.transactions.clone();
        let services = services(&config, &shelf, clock, identity, (metadata, delivery));
        let ((end, ended), handles) = (watch::channel(None), Arc::new(()));
        let mut actor = RuntimeActor {
            guard: watch.guard(Component::Runtime),
            watch: Rc::clone(&watch),
            client_id: config.client_id.as_str().into(),
            config,
            connect,
            topics,
            intake: Arc::clone(&intake),
            handles: Arc::downgrade(&handles),
            shelf,
            services,
            pool,
            started: now(),
            rng,
            partitions: BTreeMap::new(),
            unrouted: BTreeSet::new(),
            partitioners: BTreeMap::new(),
            senders: BTreeMap::new(),
            released: Vec::new(),
            next_incarnation: 1,
            expiries: Expiries::default(),
            transactions: transactions.clone(),
            spooling,
            closing: None,
            ended: Some(end),
        };
        actor.route_remembered();
        ctx.run(actor);
        Ok(Runtime {
            runtime,
            intake,
            transactions,
            handles,
            ended,
        })
    }

    /// How brokers are connected to. The RuntimeActor is told of certificates.
    fn connect(&self, runtime: &Addr<RuntimeActor>) -> ConnectOptions {
        let security = self.security.clone().started(self.seed);
        ConnectOptions {
            observer: observer(runtime.downgrade()),
            ..connect_options(&self.config, security)
        }
    }

    fn intake(self, backend: ActorBackend, shared: (Arc<Topics>, Arc<Shelf>)) -> Arc<Intake> {
        Arc::new(Intake::new(
            self.config,
            shared,
            Arc::new(backend),
            self.interceptors,
            self.partitioner,
        ))
    }
}

/// Starts the SpoolActor, if there is a spool. Returns what the RuntimeActor, the FenceActor and callers need
/// of it.
fn start_spool(
    config: &Config,
    opened: Option<OpenedSpool>,
    (clock, runtime): (&Addr<ClockActor>, &Addr<RuntimeActor>),
    watch: &Rc<Watch>,
) -> (Option<Spooling>, Option<FencedSpool>, Option<SpoolDoor>) {
    let Some(opened) = opened else {
        return (None, None, None);
    };
    let OpenedSpool {
        start,
        resumed,
        name,
        ids,
        told,
    } = opened;
    let (space, written, machine) = (
        Arc::clone(&start.space),
        Arc::clone(&start.written),
        start.machine,
    );
    let guard = watch.guard(Component::Spool);
    let spool = SpoolActor::new(start, clock.clone(), guard).start();
    told.set(spool.clone());
    let waker = spool.clone();
    space.wake_with(move || waker.do_send(SpaceChanged));
    let written = machine.then_some(written);
    let spools = match config.spool_durability {
        Durability::Process => Spools::Accepted,
        Durability::Machine => Spools::Synced,
        Durability::Spill => Spools::Spilled(config.spool_max_age),
    };
    let spooling = Spooling {
        spool: spool.clone(),
        space,
        written: written.clone(),
        spools,
        topics: config.spool_topics.iter().cloned().collect(),
        slots: Slots::new(resumed, now()),
        doubts_id: false,
        asks_again: false,
        spilling: false,
    };
    let fenced = FencedSpool {
        name,
        ids,
        journal: spool.clone().recipient(),
        runtime: runtime.clone().recipient(),
    };
    let door = SpoolDoor {
        spool,
        written,
        keeps_positions: config.spool_durability != Durability::Spill,
    };
    (Some(spooling), Some(fenced), Some(door))
}

/// What all partitions and senders share.
fn services(
    config: &Config,
    shelf: &Arc<Shelf>,
    clock: Addr<ClockActor>,
    identity: IdentityGiver,
    (metadata, delivery): (Addr<MetadataActor>, Addr<DeliveryActor>),
) -> Rc<SharedServices> {
    Rc::new(SharedServices {
        shelf: Arc::clone(shelf),
        compressor: Rc::new(RefCell::new(Compressor::new(config.compression))),
        linger: config.linger,
        rules: Rc::new(ledger_rules(config)),
        freed: Cell::new(0),
        taken: OnceCell::new(),
        clock,
        identity: identity.peer,
        fences: identity.fences,
        lookups: identity.lookups,
        metadata,
        delivery,
    })
}

fn start_delivery(
    elsewhere: Option<StartDelivery<'_>>,
    restarts: (u32, Duration),
    runtime: &Addr<RuntimeActor>,
    watch: &Rc<Watch>,
) -> io::Result<Addr<DeliveryActor>> {
    match elsewhere {
        Some(start) => start(DeliveryElsewhere {
            restarts,
            runtime: runtime.clone().recipient(),
            subscribers: runtime.clone().recipient(),
            lost: Arc::clone(watch.lost()),
        }),
        None => {
            let guard = watch.guard(Component::Delivery);
            Ok(DeliveryActor::start_with(guard, HeldUp::Runtime).0)
        }
    }
}

fn start_pool(
    config: &Config,
    shelf: &Arc<Shelf>,
    (clock, runtime): (&Addr<ClockActor>, &Addr<RuntimeActor>),
    watch: &Rc<Watch>,
) -> Addr<PoolActor> {
    let meters = PoolMeters::new(&config.client_id.as_str().into(), config.buffer_memory);
    let meters = Arc::new(meters);
    shelf.observe_with(Arc::clone(&meters) as Arc<dyn MemoryObserver>);
    let pool = PoolActor::new(
        config.buffer_memory,
        config.batch_size,
        Arc::clone(shelf),
        (clock.clone(), runtime.clone().recipient()),
        meters,
        watch.guard(Component::Pool),
    )
    .start();
    let waker = pool.clone();
    shelf.wake_with(move || waker.do_send(Restock));
    pool.do_send(Restock);
    pool
}

fn start_metadata(
    (config, connect): (&Arc<Config>, &ConnectOptions),
    topics: &Arc<Topics>,
    clock: &Addr<ClockActor>,
    tells: (Vec<Recipient<SetNodes>>, Recipient<InstallMetadata>),
    watch: &Rc<Watch>,
    (dial_seed, backoff_seed): (u64, u64),
) -> Addr<MetadataActor> {
    MetadataActor::new(
        &metadata_rules(config, &connect.security, backoff_seed),
        dial(config, connect, dial_seed),
        Arc::clone(topics),
        clock.clone(),
        tells,
        watch.guard(Component::Metadata),
    )
    .start()
}

/// Tells the RuntimeActor which certificates are in use.
fn observer(runtime: actix::WeakAddr<RuntimeActor>) -> Observer {
    Observer::new(move |broker, seen| {
        if let (Seen::Certificates(certificates), Some(runtime)) = (seen, runtime.upgrade()) {
            runtime.do_send(CertificatesSeen {
                broker: broker.clone(),
                shown: certificates.broker,
                own: certificates.own,
            });
        }
    })
}

pub(crate) fn connect_options(config: &Config, security: Security) -> ConnectOptions {
    ConnectOptions {
        client_id: config.client_id.clone(),
        setup_timeout: config.connection_setup_timeout,
        request_timeout: config.request_timeout,
        send_buffer: config.send_buffer,
        receive_buffer: config.receive_buffer,
        security,
        names_addressee: config.metadata_cluster_check
            && config.metadata_recovery == MetadataRecovery::Rebootstrap,
        observer: Observer::default(),
    }
}

fn metadata_rules(config: &Config, security: &Security, seed: u64) -> MetadataRules {
    let bootstrap = config.bootstrap_servers.iter().map(Endpoint::to_string);
    MetadataRules {
        bootstrap: bootstrap.collect::<Vec<_>>().join(","),
        principal: security.principal.clone(),
        max_age: config.metadata_max_age,
        max_idle: config.metadata_max_idle,
        backoff: (config.retry_backoff, config.retry_backoff_max),
        seed,
    }
}

fn ledger_rules(config: &Config) -> Rules {
    Rules {
        idempotent: config.enable_idempotence,
        transactional: config.transactional_id.is_some(),
        max_in_flight: config.max_in_flight,
        retries: config.retries,
        backoff: config.retry_backoff,
        backoff_max: config.retry_backoff_max,
        delivery_timeout: config.delivery_timeout,
        producer_expiration: config.producer_expiration,
        resends: config.spool_in_doubt == InDoubt::Resend,
        codec: config.compression,
        resolve: (config.unknown == OnUnknown::Resolve || config.spool_dir.is_some())
            .then_some(config.unknown_resolve_timeout),
    }
}

pub(super) fn dispatch_rules(config: &Config, security: &Security, seed: u64) -> DispatchRules {
    let link = LinkRules {
        reconnect_backoff: (config.reconnect_backoff, config.reconnect_backoff_max),
        setup_timeout: (
            config.connection_setup_timeout,
            config.connection_setup_timeout_max,
        ),
        max_idle: config.connections_max_idle,
        seed,
    };
    DispatchRules {
        client_id: config.client_id.clone(),
        principal: security.principal.clone(),
        acks: config.acks,
        oldest_produce: config.compression.oldest_produce(),
        transactional_id: config.transactional_id.as_deref().map(Arc::from),
        max_in_flight: config.max_in_flight,
        max_request_size: config.max_request_size,
        batch_size: config.batch_size,
        linger: config.linger,
        request_timeout: config.request_timeout,
        link,
    }
}
