//! Starts all actors of a producer, in the order in which they need each other, and turns the
//! configuration into their rules.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use actix::prelude::*;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::sync::oneshot;

use super::RuntimeActor;
use crate::actors::backend::ActorBackend;
use crate::actors::clock::ClockActor;
use crate::actors::delivery::DeliveryActor;
use crate::actors::guard::Watch;
use crate::actors::identity::IdentityActor;
use crate::actors::messages::{InstallMetadata, Restock, SetNodes};
use crate::actors::metadata::MetadataActor;
use crate::actors::now;
use crate::actors::pool::PoolActor;
use crate::actors::services::SharedServices;
use crate::config::{Config, MetadataRecovery};
use crate::core::cluster::MetadataRules;
use crate::core::compress::Compressor;
use crate::core::dispatch::{DispatchRules, LinkRules};
use crate::core::endpoint::Endpoint;
use crate::core::ledger::Rules;
use crate::core::memory::Shelf;
use crate::core::partitioner::Partitioner;
use crate::core::supervision::Component;
use crate::intake::Intake;
use crate::intake::interceptor::Interceptor;
use crate::intake::topics::Topics;
use crate::meters::PoolMeters;
use crate::net::{ConnectOptions, ControlClient};

/// What a runtime is started with.
pub(crate) struct RuntimeSpec {
    pub config: Arc<Config>,
    pub interceptors: Arc<[Arc<dyn Interceptor>]>,
    pub partitioner: Option<Arc<dyn Partitioner>>,
    /// The seed of all random choices of the runtime.
    pub seed: u64,
}

/// A started runtime, as a handle needs it.
pub(crate) struct Runtime {
    pub runtime: Addr<RuntimeActor>,
    pub intake: Arc<Intake>,
    /// Kept while there is a handle. It has to be dropped before
    /// [`LastHandleDropped`](crate::actors::messages::LastHandleDropped) is sent.
    pub handles: Arc<()>,
    /// Resolves when every actor has stopped.
    pub ended: oneshot::Receiver<()>,
}

impl RuntimeSpec {
    /// Starts all actors on the present arbiter.
    pub fn start(self) -> Runtime {
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
        let pool = start_pool(&config, &shelf, &clock, &watch);
        let identity = start_identity(&config, &clock, &watch, rng.random());
        let metadata = start_metadata(
            &config,
            &topics,
            &clock,
            (identity.clone().recipient(), runtime.clone().recipient()),
            &watch,
            (rng.random(), rng.random()),
        );
        let backend = ActorBackend {
            pool: pool.clone(),
            metadata: metadata.clone(),
            runtime: runtime.clone(),
        };
        let intake = Arc::new(Intake::new(
            Arc::clone(&config),
            (Arc::clone(&topics), Arc::clone(&shelf)),
            Box::new(backend),
            self.interceptors,
            self.partitioner,
        ));
        let delivery = DeliveryActor::new(watch.guard(Component::Delivery)).start();
        let services = Rc::new(SharedServices {
            shelf: Arc::clone(&shelf),
            compressor: Rc::new(RefCell::new(Compressor::new(config.compression))),
            linger: config.linger,
            rules: Rc::new(ledger_rules(&config)),
            clock,
            identity,
            metadata,
            delivery,
        });
        let (end, ended) = oneshot::channel();
        let handles = Arc::new(());
        ctx.run(RuntimeActor {
            guard: watch.guard(Component::Runtime),
            watch: Rc::clone(&watch),
            client_id: config.client_id.as_str().into(),
            config,
            topics,
            intake: Arc::clone(&intake),
            handles: Arc::downgrade(&handles),
            shelf,
            services,
            pool,
            started: now(),
            rng,
            partitions: BTreeMap::new(),
            partitioners: BTreeMap::new(),
            senders: BTreeMap::new(),
            next_incarnation: 1,
            closing: None,
            ended: Some(end),
        });
        Runtime {
            runtime,
            intake,
            handles,
            ended,
        }
    }
}

fn start_pool(
    config: &Config,
    shelf: &Arc<Shelf>,
    clock: &Addr<ClockActor>,
    watch: &Rc<Watch>,
) -> Addr<PoolActor> {
    let meters = PoolMeters::new(&config.client_id.as_str().into(), config.buffer_memory);
    let pool = PoolActor::new(
        config.buffer_memory,
        config.batch_size,
        Arc::clone(shelf),
        clock.clone(),
        meters,
        watch.guard(Component::Pool),
    )
    .start();
    let waker = pool.clone();
    shelf.wake_with(move || waker.do_send(Restock));
    pool.do_send(Restock);
    pool
}

fn start_identity(
    config: &Arc<Config>,
    clock: &Addr<ClockActor>,
    watch: &Rc<Watch>,
    seed: u64,
) -> Addr<IdentityActor> {
    let guard = watch.guard(Component::Identity);
    IdentityActor::new(dial(config, seed), clock.clone(), guard).start()
}

fn start_metadata(
    config: &Arc<Config>,
    topics: &Arc<Topics>,
    clock: &Addr<ClockActor>,
    tells: (Recipient<SetNodes>, Recipient<InstallMetadata>),
    watch: &Rc<Watch>,
    (dial_seed, backoff_seed): (u64, u64),
) -> Addr<MetadataActor> {
    MetadataActor::new(
        &metadata_rules(config, backoff_seed),
        dial(config, dial_seed),
        Arc::clone(topics),
        clock.clone(),
        tells,
        watch.guard(Component::Metadata),
    )
    .start()
}

/// Makes clients for metadata and producer ids. They have connections of their own, so that their
/// requests do not wait behind produce requests to a broker that hangs.
fn dial(config: &Arc<Config>, seed: u64) -> impl Fn() -> ControlClient + 'static {
    let config = Arc::clone(config);
    move || {
        ControlClient::new(
            config.bootstrap_servers.clone(),
            connect_options(&config),
            (config.retry_backoff, config.retry_backoff_max),
            seed,
        )
        .rebootstraps(config.metadata_recovery == MetadataRecovery::Rebootstrap)
    }
}

pub(super) fn connect_options(config: &Config) -> ConnectOptions {
    ConnectOptions {
        client_id: config.client_id.clone(),
        setup_timeout: config.connection_setup_timeout,
        request_timeout: config.request_timeout,
        send_buffer: config.send_buffer,
        receive_buffer: config.receive_buffer,
    }
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

pub(super) fn dispatch_rules(config: &Config, seed: u64) -> DispatchRules {
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
        acks: config.acks,
        max_in_flight: config.max_in_flight,
        max_request_size: config.max_request_size,
        batch_size: config.batch_size,
        linger: config.linger,
        request_timeout: config.request_timeout,
        link,
    }
}
