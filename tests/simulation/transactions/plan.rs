//! What one seed is like: the cluster, the producer, and what its application does.

use std::time::Duration;

use forebay::Config;
use forebay_model_cluster::{Settings, Transactions, V1, V2, Version};
use rand::Rng;
use rand::rngs::SmallRng;

use crate::seed::one_of;
use crate::tally::{Fault, Trouble};
use crate::world;

/// The `transactional.id` of all instances.
pub(super) const ID: &str = "worker-1";

/// What a seed of transactions has beside what every seed has.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// Tasks that begin transactions of one producer, one after the other.
    pub workers: u32,
    /// How many each of them begins.
    pub transactions: u32,
    /// Most records of a transaction.
    pub records: u64,
    /// Mean pause between two records, in milliseconds.
    pub pace: u64,
    /// Longest value, in bytes beside the tag.
    pub filler: u64,
    /// Of 16 transactions, those that commit offsets.
    pub offsets: u64,
    /// When the second protocol is finalized.
    pub upgrade: Option<Duration>,
    /// When somebody takes the transactional id, and does nothing with it.
    pub taken_over: Option<Duration>,
    /// When a second instance begins that goes on with the transactional id.
    pub second: Option<Duration>,
    /// Of 1,000 requests and answers of EndTxn, those that are lost around these times: so a commit is in
    /// doubt when another instance takes the id.
    pub muffled: (u32, u32),
    /// Between transactions, for so long at most.
    pub idle: Duration,
    /// How much of each kind of trouble there is, by [`Trouble`].
    pub weights: [u32; Trouble::COUNT],
    pub ending: Ending,
    /// `transaction.timeout.ms`
    pub timeout: Duration,
    /// `delivery.timeout.ms`
    pub delivery_timeout: Duration,
    /// `max.block.ms`
    pub max_block: Duration,
    /// An actor may be given up.
    pub fragile: bool,
    /// Topics are deleted, and with them what was committed.
    pub deletes: bool,
}

/// How the producer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// In the middle of everything.
    ClosedEarly,
    /// Its handles are dropped when all is done.
    Dropped,
    Closed,
}

/// What brokers and the weather are like.
pub(super) fn of_world(rng: &mut SmallRng, topics: usize) -> world::Plan {
    let mut weights = [0; Fault::COUNT];
    let share = one_of(rng, &[0.0, 0.15, 0.3, 0.6, 1.0]);
    for weight in &mut weights {
        if rng.random_bool(share) {
            *weight = rng.random_range(1..=5);
        }
    }
    if rng.random_bool(0.5) {
        weights[Fault::Panic as usize] = 0;
    }
    if rng.random_bool(0.85) {
        weights[Fault::Delete as usize] = 0;
    }
    // A partition that is not there holds every transaction up that has a record for it.
    if rng.random_bool(0.8) {
        weights[Fault::MetadataHostile as usize] = 0;
    }
    world::Plan {
        congested: false,
        kafka: kafka(rng),
        weights,
        storm: Duration::from_millis(rng.random_range(300..8_000)),
        silence: Duration::ZERO,
        outage: match rng.random_bool(0.05) {
            true => Duration::from_millis(rng.random_range(1_000..20_000)),
            false => Duration::ZERO,
        },
        stays_cut_off: rng.random_bool(0.05).then(|| rng.random_range(0..3)),
        topics,
        pauses: false,
        passing: false,
        backfills: false,
        resolves: None,
    }
}

fn kafka(rng: &mut SmallRng) -> Settings {
    let version: Version = one_of(rng, &[V1, 1, V2, V2, V2]);
    let knows_v2 = version >= V2 || rng.random_bool(0.6);
    let newest_produce = match knows_v2 {
        true => one_of(rng, &[12, 13]),
        false => one_of(rng, &[8, 9, 11]),
    };
    let expiration = match rng.random_bool(0.08) {
        true => Duration::from_millis(rng.random_range(3_000..20_000)),
        false => Transactions::FAIR.expiration,
    };
    Settings {
        min_in_sync: one_of(rng, &[1, 2, 2]),
        max_message: one_of(rng, &[1 << 20, 1 << 20, 1 << 20, 1 << 20, 500, 900]),
        names_duplicates: rng.random_bool(0.2),
        newest_produce,
        hints: rng.random_bool(0.5),
        socket: one_of(rng, &[64, 1_000, 10_000, 100_000]),
        first_epoch: one_of(rng, &[0, 0, 0, 0, 32_762]),
        readable: rng.random_bool(0.95),
        transactions: Some(Transactions {
            version,
            knows_v2,
            sweep: Duration::from_millis(one_of(rng, &[100, 1_000, 10_000])),
            expiration,
            ..Transactions::FAIR
        }),
        ..Settings::FAIR
    }
}

/// What the application does, and what befalls it.
pub(super) fn of_transactions(rng: &mut SmallRng, world: &world::Plan) -> Plan {
    let some_time = |rng: &mut SmallRng, chance: f64| {
        let most = world.storm.as_millis() as u64 + 1_000;
        rng.random_bool(chance)
            .then(|| Duration::from_millis(rng.random_range(1..most)))
    };
    let transactions = world.kafka.transactions.unwrap_or(Transactions::FAIR);
    let upgrades = transactions.knows_v2 && transactions.version < V2;
    let mut weights = [0; Trouble::COUNT];
    let share = one_of(rng, &[0.0, 0.3, 0.6, 1.0]);
    // A marker that is never written leaves a transaction open for ever, whatever a client does. What a late
    // request begins comes by itself.
    let helps = |(trouble, _): &(&Trouble, _)| {
        !matches!(
            trouble,
            Trouble::MarkerSkipped | Trouble::MarkerStray | Trouble::Reopened
        )
    };
    for (_, weight) in Trouble::ALL.iter().zip(&mut weights).filter(helps) {
        if rng.random_bool(share) {
            *weight = rng.random_range(1..=5);
        }
    }
    let timeout = one_of(rng, &[500, 2_000, 10_000, 60_000, 60_000]);
    let idle = match transactions.expiration < Transactions::FAIR.expiration {
        true => rng.random_range(0..8_000),
        false => one_of(rng, &[0, 0, 50, 1_000]),
    };
    let spare = one_of(rng, &[300, 1_500, 6_000, 60_000]);
    Plan {
        workers: one_of(rng, &[1, 1, 2, 3]),
        transactions: rng.random_range(2..=8),
        records: one_of(rng, &[3, 10, 30]),
        pace: one_of(rng, &[0, 1, 20, 120]),
        filler: one_of(rng, &[1, 1, 60, 200]),
        offsets: one_of(rng, &[0, 0, 4, 12]),
        upgrade: some_time(rng, 0.5).filter(|_| upgrades),
        taken_over: some_time(rng, 0.3),
        second: some_time(rng, 0.2),
        muffled: one_of(rng, &[(0, 0), (1_000, 0), (0, 1_000), (400, 600)]),
        idle: Duration::from_millis(idle),
        weights,
        ending: match rng.random_range(0..10) {
            0 => Ending::ClosedEarly,
            1 => Ending::Dropped,
            _ => Ending::Closed,
        },
        timeout: Duration::from_millis(timeout),
        delivery_timeout: Duration::from_millis(spare + 1_500),
        max_block: Duration::from_millis(one_of(rng, &[50, 300, 2_000, 20_000])),
        fragile: rng.random_bool(0.1) && world.weights[Fault::Panic as usize] > 0,
        deletes: world.weights[Fault::Delete as usize] > 0,
    }
}

/// The configuration of every instance.
pub(super) fn config(rng: &mut SmallRng, plan: &Plan) -> Config {
    let batch = one_of(rng, &[100, 150, 300, 700, 2_000]);
    Config::builder()
        .bootstrap_servers("broker-0:9092,broker-1:9092,broker-2:9092")
        .set("client.id", "simulated")
        .set("transactional.id", ID)
        .set("transaction.timeout.ms", plan.timeout.as_millis() as i64)
        .set(
            "max.in.flight.requests.per.connection",
            one_of(rng, &[1, 2, 5, 5, 5]),
        )
        .set("request.timeout.ms", rng.random_range(60..1_450))
        .set(
            "delivery.timeout.ms",
            plan.delivery_timeout.as_millis() as i64,
        )
        .set("linger.ms", one_of(rng, &[0, 0, 1, 5, 40]))
        .set("batch.size", batch)
        .set("buffer.memory", batch.max(300) * one_of(rng, &[3, 8, 40]))
        .set("max.request.size", batch.max(300) * 4)
        .set("max.block.ms", plan.max_block.as_millis() as i64)
        .set("retries", one_of(rng, &[i32::MAX, i32::MAX, i32::MAX, 2]))
        .set("retry.backoff.ms", one_of(rng, &[1, 10, 100]))
        .set("retry.backoff.max.ms", one_of(rng, &[100, 800]))
        .set("reconnect.backoff.ms", one_of(rng, &[1, 10, 50]))
        .set("reconnect.backoff.max.ms", one_of(rng, &[50, 500]))
        .set(
            "socket.connection.setup.timeout.ms",
            one_of(rng, &[50, 500]),
        )
        .set("socket.connection.setup.timeout.max.ms", 1_000)
        .set("metadata.max.age.ms", one_of(rng, &[200, 1_000, 300_000]))
        .set(
            "metadata.max.idle.ms",
            one_of(rng, &[5_000, 300_000, 300_000]),
        )
        .set("connections.max.idle.ms", one_of(rng, &[100, 540_000]))
        .set("compression.type", one_of(rng, &["none", "none", "lz4"]))
        .set(
            "forebay.restart.max",
            if plan.fragile { 3 } else { 1_000_000 },
        )
        .build()
        .expect("a configuration")
}
