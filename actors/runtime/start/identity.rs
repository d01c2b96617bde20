//! Starts who gives partitions their identity: the IdentityActor, the TransactionActor, or the FenceActor.

use std::rc::Rc;
use std::sync::Arc;

use actix::prelude::*;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use uuid::Uuid;

use super::dial::{dial, dial_coordinators};
use crate::actors::clock::ClockActor;
use crate::actors::delivery::DeliveryActor;
use crate::actors::fence::{FenceActor, SpoolPeers};
use crate::actors::guard::Watch;
use crate::actors::identity::IdentityActor;
use crate::actors::lookup::LookupActor;
use crate::actors::messages::{IdentityPeer, RecordId, SetNodes, Taken};
use crate::actors::now;
use crate::actors::runtime::RuntimeActor;
use crate::actors::transaction::{Around, TransactionActor};
use crate::config::{Config, OnUnknown};
use crate::core::backoff::Backoff;
use crate::core::fence::Fences;
use crate::core::identity::Identities;
use crate::core::lookup::Lookups;
use crate::core::supervision::Component;
use crate::core::transaction::Coordination;
use crate::meters::LookupMeters;
use crate::net::ConnectOptions;

/// Who gives partitions their identity, as the others know it.
pub(super) struct IdentityGiver {
    pub peer: Box<dyn IdentityPeer>,
    /// Those who connect to brokers that metadata name.
    pub nodes: Vec<Recipient<SetNodes>>,
    pub fences: Option<Addr<FenceActor>>,
    pub lookups: Option<Addr<LookupActor>>,
    pub transactions: Option<Addr<TransactionActor>>,
}

/// A spool whose records are fenced.
pub(super) struct FencedSpool {
    /// What its transactional ids begin with.
    pub name: Arc<str>,
    /// Those that former producers used, with their producer ids.
    pub ids: Vec<(Arc<str>, Vec<i64>)>,
    pub journal: Recipient<RecordId>,
    pub runtime: Recipient<Taken>,
}

pub(super) fn start_identity(
    config: &Arc<Config>,
    connect: &ConnectOptions,
    (clock, delivery, runtime): (&Addr<ClockActor>, &Addr<DeliveryActor>, &Addr<RuntimeActor>),
    spool: Option<FencedSpool>,
    watch: &Rc<Watch>,
    seed: u64,
) -> IdentityGiver {
    let backoff = backoff(config, seed);
    let principal = connect.security.principal.clone();
    let Some(id) = &config.transactional_id else {
        let guard = watch.guard(Component::Identity);
        let identities = Identities::of(principal);
        let dial = dial(config, connect, seed);
        let identity = IdentityActor::new(identities, dial, clock.clone(), backoff, guard).start();
        if config.unknown == OnUnknown::Resolve || spool.is_some() {
            let around = (clock, runtime, spool);
            return start_resolving(config, connect, identity, around, watch, seed);
        }
        return IdentityGiver {
            peer: Box::new(identity.clone()),
            nodes: vec![identity.recipient()],
            fences: None,
            lookups: None,
            transactions: None,
        };
    };
    let id: Arc<str> = id.as_str().into();
    let coordination = Coordination::new(
        Arc::clone(&id),
        principal,
        backoff,
        config.max_block,
        config.unknown_resolve_timeout,
    );
    let dial_for = dial_coordinators(config, connect, seed);
    let dial = move || dial_for(&id);
    let guard = watch.guard(Component::Transactions);
    let around = Around {
        clock: clock.clone(),
        delivery: delivery.clone(),
        runtime: runtime.clone().recipient(),
        markers: runtime.clone().recipient(),
    };
    let actor = TransactionActor::new(coordination, dial, config.max_block, around, guard).start();
    let lookups = start_lookups(config, connect, clock, watch, seed);
    IdentityGiver {
        peer: Box::new(actor.clone()),
        nodes: vec![actor.clone().recipient(), lookups.clone().recipient()],
        fences: None,
        lookups: Some(lookups),
        transactions: Some(actor),
    }
}

/// The waits of those who are refused, or not answered.
fn backoff(config: &Config, seed: u64) -> Backoff {
    Backoff::new(config.retry_backoff, config.retry_backoff_max, seed)
}

/// It connects to a broker when something is to be read there, and not before.
fn start_lookups(
    config: &Config,
    connect: &ConnectOptions,
    clock: &Addr<ClockActor>,
    watch: &Rc<Watch>,
    seed: u64,
) -> Addr<LookupActor> {
    let longest = config.retry_backoff_max;
    LookupActor::new(
        Lookups::new(
            backoff(config, seed),
            longest,
            config.unknown_resolve_max_bytes,
        ),
        connect.clone(),
        LookupMeters::new(&config.client_id.as_str().into()),
        clock.clone(),
        watch.guard(Component::Lookups),
    )
    .start()
}

/// Puts the FenceActor before the IdentityActor, and starts who reads logs.
fn start_resolving(
    config: &Arc<Config>,
    connect: &ConnectOptions,
    identity: Addr<IdentityActor>,
    (clock, runtime, spool): (&Addr<ClockActor>, &Addr<RuntimeActor>, Option<FencedSpool>),
    watch: &Rc<Watch>,
    seed: u64,
) -> IdentityGiver {
    let backoff_of_ids = backoff(config, seed);
    let (fences, spool) = match spool {
        Some(FencedSpool {
            name,
            ids,
            journal,
            runtime,
        }) => {
            let fences = Fences::of_spool(name, ids, backoff_of_ids, now());
            (fences, Some(SpoolPeers { journal, runtime }))
        }
        None => {
            let mut rng = SmallRng::seed_from_u64(seed);
            let id = Uuid::from_u128(rng.random());
            let name = format!("{}{id}", config.unknown_transactional_id_prefix);
            (Fences::new(name.into(), backoff_of_ids), None)
        }
    };
    let fences = FenceActor::new(
        fences,
        Box::new(dial_coordinators(config, connect, seed)),
        identity.clone(),
        (clock.clone(), runtime.clone().recipient()),
        spool,
        watch.guard(Component::Fences),
    )
    .start();
    let lookups = start_lookups(config, connect, clock, watch, seed);
    IdentityGiver {
        peer: Box::new(fences.clone()),
        nodes: vec![
            identity.recipient(),
            fences.clone().recipient(),
            lookups.clone().recipient(),
        ],
        fences: Some(fences),
        lookups: Some(lookups),
        transactions: None,
    }
}
