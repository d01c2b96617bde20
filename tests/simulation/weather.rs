//! The storm: what goes wrong, when, and for how long.

use std::rc::Rc;
use std::time::Duration;

use forebay::Supervise;
use forebay_model_cluster::Conditions;
use rand::Rng;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep, sleep_until};

use super::resolve;
use super::tally::Fault;
use super::world::{Weather, World};

/// Lets things go wrong for as long as the plan says.
pub(super) async fn storm(world: &Rc<World>) {
    tokio::join!(rage(world), resolve::storm(world));
    if !world.plan.silence.is_zero() {
        world.count(Fault::Silence);
        world.weather.set(Weather::FAIR);
        world.kafka.conditions.set(Conditions::FAIR);
        sleep_until(world.silent_until()).await;
        tokio::join!(rage(world), resolve::storm(world));
    }
    if !world.plan.outage.is_zero() {
        world.count(Fault::Outage);
        world.outage.set(true);
        (0..world.kafka.brokers()).for_each(|broker| world.kafka.kill(broker, false));
        sleep(world.plan.outage).await;
        world.outage.set(false);
    }
}

async fn rage(world: &Rc<World>) {
    let end = Instant::now() + world.plan.storm;
    let weights = world.plan.weights;
    let total: u32 = weights.iter().sum();
    // Some things simply happen now and then, all the time.
    let level = |fault: Fault| weights[fault as usize];
    world.kafka.change(|conditions| {
        conditions.answers_lost = level(Fault::AnswerLost) * 15;
        conditions.answers_late = level(Fault::AnswerLate) * 15;
        conditions.errors_before = level(Fault::ErrorBefore) * 20;
        conditions.errors_after = level(Fault::ErrorAfter) * 20;
        conditions.throttles = level(Fault::Throttle) * 20;
    });
    world.weather.set(Weather {
        panics: level(Fault::Panic) * 15,
        creep: level(Fault::Creep) * 300,
        stalls: level(Fault::Stall) * 8,
    });
    while total > 0 && Instant::now() < end {
        sleep(world.between(1, 250)).await;
        if let Some(fault) = world.pick(Fault::ALL, &weights) {
            strike(world, fault);
        }
    }
}

/// Everything works again, and goes on working.
pub(super) async fn heal(world: &Rc<World>) {
    world.weather.set(Weather::FAIR);
    world.healed.set(true);
    world.healed_at.set(Some(Instant::now()));
    let kafka = &world.kafka;
    kafka.unblock_markers();
    kafka.conditions.set(Conditions::FAIR);
    for broker in 0..kafka.brokers() {
        let (alive, frozen, cut_off) = {
            let it = &kafka.cluster.borrow().brokers[broker];
            (it.alive, it.frozen, it.cut_off)
        };
        match (alive, frozen) {
            (false, _) => kafka.restart(broker, false),
            (true, true) => kafka.thaw(broker),
            _ => {}
        }
        if alive && cut_off {
            kafka.rejoin(broker);
        }
    }
    for number in 0..world.plan.topics {
        kafka.create_topic(number, 1 + world.below(3) as usize);
    }
    kafka.publish_all();
    for part in world.parts() {
        world.supervise(Supervise::Restart(part));
    }
}

/// Once everything works, one broker is cut off from the controller for good, or for as long as anybody
/// looks: the others are enough for every partition.
pub(super) async fn cut_off_for_good(world: &Rc<World>, broker: usize) {
    // By then every replica is in sync.
    sleep(Duration::from_secs(1)).await;
    world.count(Fault::CutOffForGood);
    world.kafka.cut_off(broker, world.below(2) == 0);
}

/// A spell that begins now and ends later.
pub(super) fn spell(
    world: &Rc<World>,
    most: u64,
    on: fn(&mut Conditions),
    off: fn(&mut Conditions),
) {
    let kafka = Rc::clone(&world.kafka);
    kafka.change(on);
    spawn_local(async move {
        sleep(kafka.between(20, most)).await;
        kafka.change(off);
    });
}

fn strike(world: &Rc<World>, fault: Fault) {
    let brokers = world.kafka.cluster.borrow().brokers.len() as u64;
    let victim = world.below(brokers) as usize;
    let works = world.kafka.cluster.borrow().brokers[victim].works();
    match fault {
        Fault::Cut => {
            let mut connections = world.kafka.connections.borrow_mut();
            connections.retain(|(_, cut)| !cut.is_over());
            if connections.is_empty() {
                return;
            }
            let at = world.below(connections.len() as u64) as usize;
            let kept = match world.below(3) {
                0 => usize::MAX,
                1 => 0,
                _ => world.below(600) as usize,
            };
            connections.remove(at).1.cut(kept, world.below(2) == 0);
        }
        Fault::Kill | Fault::KillForgetful if works => {
            world.kafka.kill(victim, fault == Fault::KillForgetful);
            // One alone moves, so that the others are where they were.
            let (world, moves) = (Rc::clone(world), victim == 2 && world.below(2) == 0);
            spawn_local(async move {
                sleep(world.between(20, 2_500)).await;
                let alive = world.kafka.cluster.borrow().brokers[victim].alive;
                if !alive && !world.outage.get() {
                    world.kafka.restart(victim, moves);
                }
            });
        }
        Fault::Freeze if works => {
            world.kafka.freeze(victim);
            let world = Rc::clone(world);
            spawn_local(async move {
                sleep(world.between(20, 4_000)).await;
                if world.kafka.cluster.borrow().brokers[victim].frozen {
                    world.kafka.thaw(victim);
                }
            });
        }
        Fault::CutOff if works && !world.kafka.cluster.borrow().brokers[victim].cut_off => {
            world.kafka.cut_off(victim, world.below(2) == 0);
            let world = Rc::clone(world);
            spawn_local(async move {
                sleep(world.between(20, 6_000)).await;
                let cut_off = world.kafka.cluster.borrow().brokers[victim].cut_off;
                if cut_off && !world.healed.get() {
                    world.kafka.rejoin(victim);
                }
            });
        }
        Fault::LeaderMove => {
            let everywhere = world.kafka.cluster.borrow().everywhere();
            if everywhere.is_empty() {
                return;
            }
            let at = everywhere[world.below(everywhere.len() as u64) as usize];
            if !world.kafka.move_leader(at) {
                return;
            }
        }
        Fault::SlowReplicas => spell(
            world,
            2_000,
            |w| w.replication = 1_500,
            |w| w.replication = 3,
        ),
        Fault::SlowNetwork => spell(world, 2_000, |w| w.latency = 400, |w| w.latency = 3),
        Fault::TopicUnknown => spell(
            world,
            1_000,
            |w| w.topic_unknown = true,
            |w| w.topic_unknown = false,
        ),
        Fault::MetadataStale => {
            return spell(
                world,
                1_000,
                |w| w.metadata_stale = true,
                |w| w.metadata_stale = false,
            );
        }
        Fault::MetadataEmpty => {
            return spell(
                world,
                1_000,
                |w| w.metadata_empty = true,
                |w| w.metadata_empty = false,
            );
        }
        Fault::MetadataHostile => {
            return spell(
                world,
                1_000,
                |w| w.metadata_hostile = true,
                |w| w.metadata_hostile = false,
            );
        }
        Fault::NoProducerIds => spell(
            world,
            1_500,
            |w| w.no_producer_ids = true,
            |w| w.no_producer_ids = false,
        ),
        Fault::Growth => {
            let topics = world.kafka.cluster.borrow().topics.len() as u64;
            if !world.kafka.grow_topic(world.below(topics) as usize) {
                return;
            }
        }
        Fault::Delete => {
            let number = world.below(world.plan.topics as u64) as usize;
            let topic = {
                let cluster = world.kafka.cluster.borrow();
                let newest = cluster.newest(number);
                newest.filter(|topic| cluster.topics[*topic].exists)
            };
            let Some(topic) = topic else {
                return;
            };
            let (world, late) = (Rc::clone(world), world.below(2) == 0);
            spawn_local(async move {
                if late {
                    last_leaders(&world, topic).await;
                }
                world.kafka.delete_topic(topic);
                sleep(world.between(1, if late { 200 } else { 1_500 })).await;
                let partitions = 1 + world.below(3) as usize;
                world.kafka.create_topic(number, partitions);
                sleep(world.between(0, 300)).await;
                world.kafka.change(|w| w.hints_late = false);
            });
        }
        Fault::Retire => {
            let (world, part) = (Rc::clone(world), world.some_part());
            world.supervise(Supervise::Retire(part.clone()));
            spawn_local(async move {
                sleep(world.between(1, 1_000)).await;
                world.supervise(Supervise::Restart(part));
            });
        }
        // These happen by themselves, and are counted when they do; the rest could not be.
        _ => return,
    }
    world.count(fault);
}

/// Leaders move, so that brokers tell of the new ones, and that arrives when the topic may be another one.
async fn last_leaders(world: &World, topic: usize) {
    let partitions = world.kafka.cluster.borrow().topics[topic].partitions.len();
    for last in [false, false, true] {
        world.kafka.change(|w| w.hints_late |= last);
        for partition in 0..partitions {
            world.kafka.move_leader((topic, partition));
        }
        sleep(world.between(1, 80)).await;
    }
}

/// What may happen to any message that an actor is about to handle.
pub(super) fn before_message(world: &World, actor: &'static str, message: &'static str) {
    world.note(actor, &[]);
    world.note(message, &[]);
    let history = world.chronicle.history.borrow();
    if history.events > SPINS {
        // No time passes, so nothing in virtual time can end it.
        let text = history.text.iter().flatten().rev().take(200);
        text.for_each(|line| eprintln!("{line}"));
        eprintln!("seed {} spins: {}", world.seed, world.replay);
        std::process::exit(101);
    }
    drop(history);
    let weather = world.weather.get();
    if weather.panics + weather.creep + weather.stalls == 0 {
        return;
    }
    let die = world.kafka.rng.borrow_mut().random_range(0..10_000u32);
    let pass = |fault, micros| {
        world.count(fault);
        let time = Duration::from_micros(1 + world.below(micros));
        // It moves the clock at its first poll.
        let _ = futures_util::FutureExt::now_or_never(tokio::time::advance(time));
    };
    if die < weather.panics {
        world.count(Fault::Panic);
        std::panic::panic_any(crate::Injected);
    } else if die < weather.panics + weather.stalls {
        pass(Fault::Stall, STALL_MS * 1_000);
    } else if die < weather.panics + weather.stalls + weather.creep {
        pass(Fault::Creep, 700);
    }
}

/// No seed has nearly as many events.
const SPINS: u64 = 1_000_000;

/// The longest stall of the runtime, in milliseconds.
pub(super) const STALL_MS: u64 = 150;
