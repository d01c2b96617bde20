//! `forebay.unknown=resolve`: what befalls fences and looks into the log, and which records may stay unknown.

use std::rc::Rc;
use std::time::Duration;

use forebay::Reason;
use forebay::config::ConfigBuilder;
use forebay_model_cluster::{Kind, Participant, Transactions, V1, V2, rng};
use rand::Rng;
use rand::rngs::SmallRng;
use tokio::time::{Instant, sleep};

use super::load::{Load, Sent};
use super::seed::one_of;
use super::tally::{Excuse, Fault, Trouble};
use super::weather::spell;
use super::world::{Plan, World};

/// What a seed is like that resolves.
#[derive(Debug, Clone)]
pub(super) struct Resolves {
    /// `forebay.unknown.resolve.timeout.ms`
    pub timeout: Duration,
    /// `forebay.unknown.resolve.max.bytes`
    most: Option<u64>,
    /// How much of each kind of trouble there is, by [`Trouble`].
    weights: [u32; Trouble::COUNT],
    /// Transactional ids are refused, or not served, so that the next record has to be the fence.
    no_markers: bool,
    /// Nobody may read the topics.
    no_read: bool,
    /// Epochs may run out, or coordinators forget the ids: a new producer's batches fence nothing of the
    /// former one's.
    pub other_producers: bool,
}

/// Has every third seed resolve. What it is like is drawn from a generator of its own, so that the other
/// seeds are what they were.
pub(super) fn choose(seed: u64, plan: &mut Plan) {
    const OTHERS: u64 = 0x72_6573_6f6c_7665;
    let mut rng = rng(seed ^ OTHERS);
    if rng.random_range(0..3) > 0 {
        return;
    }
    let version = one_of(&mut rng, &[V1, 1, V2, V2, V2]);
    let serves_markers = rng.random_bool(0.9);
    let permitted = rng.random_bool(0.75);
    let forgets = rng.random_bool(0.05);
    let transactions = Transactions {
        version,
        knows_v2: version >= V2 || rng.random_bool(0.6),
        sweep: Duration::from_millis(one_of(&mut rng, &[100, 1_000, 10_000])),
        expiration: match forgets {
            true => Duration::from_millis(rng.random_range(3_000..20_000)),
            false => Transactions::FAIR.expiration,
        },
        permitted,
        ..Transactions::FAIR
    };
    let mut weights = [0; Trouble::COUNT];
    let share = one_of(&mut rng, &[0.0, 0.3, 0.6, 1.0]);
    for weight in &mut weights[..Trouble::MarkerStray as usize] {
        if rng.random_bool(share) {
            *weight = rng.random_range(1..=5);
        }
    }
    // What a late repeat can spoil takes more than one fence, so there have to be many.
    if rng.random_bool(0.5) {
        weights[Trouble::MarkerAgain as usize] = 5;
    }
    let timeout = one_of(&mut rng, &[100, 2_000, 20_000, 60_000, 60_000, 60_000]);
    let kafka = &mut plan.kafka;
    kafka.transactions = serves_markers.then_some(transactions);
    kafka.reads = true;
    kafka.readable = rng.random_bool(0.93);
    if !plan.congested && plan.silence.is_zero() && rng.random_bool(0.2) {
        plan.backfills = true;
        kafka.expiration_check = Duration::from_millis(rng.random_range(50..2_000));
    }
    // What brings doubt.
    if rng.random_bool(0.6) {
        for fault in [
            Fault::AnswerLost,
            Fault::ErrorAfter,
            Fault::Freeze,
            Fault::Cut,
        ] {
            let weight = &mut plan.weights[fault as usize];
            *weight = (*weight).max(4);
        }
    }
    let few_epochs = kafka.first_epoch > 0;
    if few_epochs && rng.random_bool(0.5) {
        kafka.first_epoch = 32_757;
    }
    plan.resolves = Some(Resolves {
        timeout: Duration::from_millis(timeout),
        most: rng.random_bool(0.05).then_some(1_000),
        weights,
        no_markers: !serves_markers || !permitted,
        no_read: !kafka.readable,
        other_producers: few_epochs || forgets,
    });
}

impl Resolves {
    /// For what is in a spool: it is looked for until it is found out.
    pub fn of_spool(rng: &mut SmallRng) -> Self {
        let mut weights = [0; Trouble::COUNT];
        let share = one_of(rng, &[0.0, 0.3, 0.6, 1.0]);
        for weight in &mut weights[..Trouble::MarkerStray as usize] {
            if rng.random_bool(share) {
                *weight = rng.random_range(1..=5);
            }
        }
        Self {
            timeout: Duration::from_secs(60),
            most: None,
            weights,
            no_markers: false,
            no_read: false,
            other_producers: false,
        }
    }

    pub fn configure(&self, config: ConfigBuilder) -> ConfigBuilder {
        let timeout = self.timeout.as_millis() as i64;
        let config = config
            .set("forebay.unknown", "resolve")
            .set("forebay.unknown.resolve.timeout.ms", timeout);
        match self.most {
            Some(most) => config.set("forebay.unknown.resolve.max.bytes", most as i64),
            None => config,
        }
    }

    /// How long after everything works again nothing is in doubt any more, with another record for each
    /// partition.
    pub fn rests_after(&self, plan: &Plan) -> Duration {
        // Nothing more comes for a topic that is gone.
        let no_fence = self.other_producers || plan.passing || self.no_markers && plan.backfills;
        match no_fence {
            true => self.timeout + Duration::from_secs(2),
            false => SOON,
        }
    }
}

/// A marker that was passed over is asked for again after 5 s. What waits behind it may run out of time
/// meanwhile.
pub(super) const ASKED_AGAIN: Duration = Duration::from_secs(6);

/// Once everything works, what is in doubt is resolved by then.
const SOON: Duration = Duration::from_secs(20);

/// Lets things go wrong for fences, while the weather is as for everybody.
pub(super) async fn storm(world: &Rc<World>) {
    let Some(resolves) = &world.plan.resolves else {
        return;
    };
    let end = Instant::now() + world.plan.storm;
    let level = |trouble: Trouble| resolves.weights[trouble as usize];
    // The storm of all has set its own by then.
    sleep(Duration::from_micros(1)).await;
    world.kafka.change(|conditions| {
        conditions.coordinator_errors = level(Trouble::CoordinatorError) * 20;
        conditions.coordinator_errors_after = level(Trouble::CoordinatorError) * 10;
        conditions.markers_again = level(Trouble::MarkerAgain) * 150;
        conditions.markers_skipped = level(Trouble::MarkerSkipped) * 60;
    });
    let total: u32 = resolves.weights.iter().sum();
    while total > 0 && Instant::now() < end {
        sleep(world.between(1, 300)).await;
        if let Some(trouble) = world.pick(Trouble::ALL, &resolves.weights) {
            strike(world, trouble);
        }
    }
}

fn strike(world: &Rc<World>, trouble: Trouble) {
    if let Some((most, on, off)) = trouble.spell() {
        spell(world, most, on, off);
        return world.chronicle.trouble(trouble);
    }
    match trouble {
        Trouble::CoordinatorMove => {
            let ids = world.kafka.transactional_ids();
            let id = ids.get(world.below(ids.len() as u64) as usize);
            let moved = |id: &String| world.kafka.move_coordinator(Kind::Transaction, id);
            if !id.is_some_and(moved) {
                return;
            }
        }
        Trouble::MarkersBlocked => {
            let everywhere = world.kafka.cluster.borrow().everywhere();
            let Some(at) = everywhere.get(world.below(everywhere.len() as u64) as usize) else {
                return;
            };
            // Until all is well, or less.
            let time = world.between(50, 12_000);
            world.kafka.block_markers(Participant::Partition(*at), time);
        }
        // These happen by themselves, and are counted when they do; the rest is for transactions.
        _ => return,
    }
    world.chronicle.trouble(trouble);
}

/// Whether a record may be unknown because the producer, or a part of it, ended. Where a part is given up
/// without which a producer cannot go on, it closes, whether or not anybody asked it to.
pub(super) fn excuse_of_end(why: &Reason, closes: bool, fragile: bool) -> Option<Excuse> {
    match why {
        Reason::Closed { .. } if closes => Some(Excuse::Closed),
        Reason::Closed { .. } | Reason::Failed { .. } if fragile => Some(Excuse::GivenUp),
        _ => None,
    }
}

/// Why a record may be unknown, as the model knows it; `None` if it may not.
pub(super) fn excuse(load: &Load, sent: &Sent, why: &Reason) -> Option<Excuse> {
    let world = &load.world;
    let Some(resolves) = &world.plan.resolves else {
        return Some(Excuse::NotSought);
    };
    if let Some(excuse) = excuse_of_end(why, world.closes.get(), load.fragile) {
        return Some(excuse);
    }
    let is_deleted = {
        let cluster = world.kafka.cluster.borrow();
        let mut topics = cluster.topics.iter();
        topics.any(|topic| topic.number == sent.topic && !topic.exists)
    };
    if is_deleted {
        return Some(Excuse::Deleted);
    }
    let Reason::Unresolved { why, .. } = why else {
        return None;
    };
    let is = |what: &str| why.contains(what);
    if is("READ on the topic") {
        return resolves.no_read.then_some(Excuse::NoRead);
    }
    if is("forebay.unknown.resolve.max.bytes") {
        return resolves.most.map(|_| Excuse::TooMuch);
    }
    if !is("forebay.unknown.resolve.timeout.ms") {
        return None;
    }
    let healed = world.healed_at.get();
    let in_storm = healed.is_none_or(|healed| sent.due <= healed + SOON);
    match in_storm {
        true => Some(Excuse::OutOfTime),
        false if resolves.other_producers || resolves.no_markers => Some(Excuse::NoFence),
        false => None,
    }
}
