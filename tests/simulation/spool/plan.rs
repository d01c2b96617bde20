//! What one seed is like: the cluster, the disk, and how long processes live.

use std::time::Duration;

use forebay::Config;
use forebay_model_cluster::{Settings, Transactions, V1, V2, rng};
use rand::Rng;
use rand::rngs::SmallRng;

use crate::resolve::Resolves;
use crate::seed::one_of;
use crate::tally::Fault;
use crate::world;

/// What a seed of the spool has beside what every seed has.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub partitions: usize,
    /// Processes that end while things go wrong.
    pub lives: u32,
    /// Milliseconds that one of them lives at most, beside some that live for a moment.
    pub life: u64,
    /// Of 10 processes, those that close their producer.
    pub closes: u64,
    /// `forebay.spool.durability=machine`, and machines stop.
    pub machine: bool,
    /// `forebay.spool.durability=spill`.
    pub spill: bool,
    /// Mean pause between two records, in milliseconds.
    pub pace: u64,
    /// Longest value, in bytes beside the tag.
    pub filler: u64,
    /// Milliseconds that a round of a thread of the disk takes at most.
    pub slowness: u64,
    /// Syncs fail, so many milliseconds apart at most.
    pub failing_syncs: Option<u64>,
    /// `forebay.spool.max.bytes`, in segments.
    pub segments: u64,
    /// Sources that are followed beside.
    pub sources: u32,
}

/// What may happen to a cluster without anything being lost by it, or by hand.
const FAULTS: &[Fault] = &[
    Fault::Cut,
    Fault::AnswerLost,
    Fault::AnswerLate,
    Fault::ErrorBefore,
    Fault::ErrorAfter,
    Fault::Kill,
    Fault::KillForgetful,
    Fault::Freeze,
    Fault::LeaderMove,
    Fault::SlowReplicas,
    Fault::SlowNetwork,
    Fault::TopicUnknown,
    Fault::MetadataStale,
    Fault::MetadataEmpty,
    Fault::Throttle,
    Fault::Panic,
    Fault::Creep,
    Fault::Stall,
    Fault::CutOff,
    Fault::Growth,
    Fault::MetadataHostile,
    Fault::Retire,
];

/// What brokers and the weather are like.
pub(super) fn of_world(rng: &mut SmallRng) -> world::Plan {
    let mut weights = [0; Fault::COUNT];
    let share = one_of(rng, &[0.0, 0.15, 0.3, 0.6]);
    for fault in FAULTS {
        if rng.random_bool(share) {
            weights[*fault as usize] = rng.random_range(1..=5);
        }
    }
    if rng.random_bool(0.5) {
        weights[Fault::Panic as usize] = 0;
    }
    let version = one_of(rng, &[V1, 1, V2, V2, V2]);
    world::Plan {
        congested: false,
        kafka: Settings {
            min_in_sync: one_of(rng, &[1, 2, 2]),
            max_message: one_of(rng, &[1 << 20, 1 << 20, 1 << 20, 500, 900]),
            names_duplicates: rng.random_bool(0.2),
            newest_produce: one_of(rng, &[8, 11, 12, 13, 13]),
            hints: rng.random_bool(0.5),
            socket: one_of(rng, &[64, 1_000, 10_000, 100_000]),
            transactions: Some(Transactions {
                version,
                knows_v2: version >= V2 || rng.random_bool(0.6),
                sweep: Duration::from_millis(one_of(rng, &[100, 1_000, 10_000])),
                ..Transactions::FAIR
            }),
            reads: true,
            ..Settings::FAIR
        },
        weights,
        storm: Duration::from_millis(rng.random_range(300..8_000)),
        silence: Duration::ZERO,
        outage: match rng.random_bool(0.1) {
            true => Duration::from_millis(rng.random_range(1_000..20_000)),
            false => Duration::ZERO,
        },
        stays_cut_off: None,
        topics: 1,
        pauses: false,
        passing: false,
        backfills: rng.random_bool(0.2),
        resolves: Some(Resolves::of_spool(rng)),
    }
}

/// In some seeds the topic is deleted and created anew. That is drawn from a generator of its own, so that
/// the others are what they would be without.
pub(super) fn recreates(seed: u64, world: &mut world::Plan) {
    let mut rng = rng(seed ^ 0x5eed_0f70_71c5);
    if rng.random_bool(0.3) {
        world.weights[Fault::Delete as usize] = rng.random_range(1..=4);
        // A partition that nonsense tells of, and that the topic has not any more, would wait for ever.
        world.weights[Fault::MetadataHostile as usize] = 0;
    }
}

pub(super) fn of_lives(rng: &mut SmallRng, _: &world::Plan) -> Plan {
    let mut plan = Plan {
        partitions: rng.random_range(1..=3),
        lives: rng.random_range(1..=12),
        life: one_of(rng, &[20, 100, 500, 2_000]),
        closes: one_of(rng, &[0, 1, 5]),
        machine: rng.random_bool(0.3),
        pace: one_of(rng, &[0, 1, 5, 20, 120]),
        filler: one_of(rng, &[1, 1, 60, 200]),
        slowness: one_of(rng, &[1, 5, 40]),
        failing_syncs: rng.random_bool(0.2).then(|| one_of(rng, &[20, 200, 1_000])),
        segments: one_of(rng, &[3, 4, 6, 100, 100]),
        sources: one_of(rng, &[0, 1, 1, 2]),
        spill: rng.random_bool(0.2),
    };
    plan.spill &= !plan.machine;
    if plan.spill {
        plan.sources = 0;
    }
    plan
}

/// The configuration of every process.
pub(super) fn config(rng: &mut SmallRng, plan: &Plan, world: &world::Plan) -> Config {
    let batch = one_of(rng, &[100, 150, 300, 700, 2_000]);
    let config = Config::builder()
        .bootstrap_servers("broker-0:9092,broker-1:9092,broker-2:9092")
        .set("client.id", "simulated")
        .set(
            "max.in.flight.requests.per.connection",
            one_of(rng, &[1, 2, 5, 5, 5]),
        )
        .set("request.timeout.ms", rng.random_range(60..1_450))
        .set("delivery.timeout.ms", rng.random_range(1_500..6_000))
        .set("linger.ms", one_of(rng, &[0, 0, 1, 5, 40]))
        .set("batch.size", batch)
        .set("buffer.memory", batch.max(300) * one_of(rng, &[3, 8, 40]))
        .set("max.request.size", batch.max(300) * 4)
        .set("max.block.ms", one_of(rng, &[20, 300, 2_000, 20_000]))
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
        .set("connections.max.idle.ms", one_of(rng, &[100, 540_000]))
        .set("compression.type", one_of(rng, &["none", "none", "lz4"]))
        .set("forebay.restart.max", 1_000_000)
        .set("forebay.spool.dir", "spool")
        .set(
            "forebay.spool.durability",
            match (plan.machine, plan.spill) {
                (true, _) => "machine",
                (_, true) => "spill",
                _ => "process",
            },
        );
    let config = match &world.resolves {
        Some(resolves) => resolves.configure(config),
        None => config,
    };
    let mut config = config.build().expect("a configuration");
    // Smaller than anybody may have them, so that there are several.
    config.spool_segment_bytes = one_of(rng, &[32 << 10, 64 << 10, 256 << 10]);
    config.spool_max_bytes = plan.segments * config.spool_segment_bytes as u64;
    config
}
