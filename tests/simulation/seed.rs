//! One seed, from its plan to its verdict.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use forebay::config::Acks;
use forebay::internals::{faults, panic_message};
use forebay::{Config, Placement, Producer, Unconfirmed};
use forebay_model_cluster::{Cluster, Settings, rng, virtual_time};
use rand::Rng;
use rand::rngs::SmallRng;
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};

use super::check::{Promise, check};
use super::load::{Load, Name, Told};
use super::tally::{Fault, Invariant, Tally};
use super::weather::{before_message, heal, storm};
use super::world::{History, Plan, World};

/// What came of a seed.
pub(super) struct Verdict {
    pub tally: Tally,
    /// What is wrong, in words; empty if nothing is.
    pub wrong: Vec<String>,
    /// Of everything that happened.
    pub hash: u64,
    pub text: Vec<String>,
}

/// A seed's configuration of the producer, as far as the simulation has to know it.
struct ProducerSettings {
    config: Config,
    delivery_timeout: Duration,
    promise: Promise,
    /// An actor may be given up.
    fragile: bool,
}

fn one_of<T: Copy>(rng: &mut SmallRng, of: &[T]) -> T {
    of[rng.random_range(0..of.len())]
}

fn plan(rng: &mut SmallRng) -> Plan {
    let mut weights = [0; Fault::COUNT];
    // Some seeds have much of a few faults, and none of the others: what two of them do together
    // shows best where nothing else is wrong.
    let share = one_of(rng, &[0.15, 0.3, 0.6, 1.0]);
    for weight in &mut weights {
        if rng.random_bool(share) {
            *weight = rng.random_range(1..=5);
        }
    }
    if rng.random_bool(0.5) {
        weights[Fault::Panic as usize] = 0;
    }
    let congested = rng.random_bool(0.25);
    if congested {
        weights[Fault::SlowNetwork as usize] = 5;
        weights[Fault::Freeze as usize] = 5;
    }
    Plan {
        congested,
        kafka: Settings {
            min_in_sync: one_of(rng, &[1, 2, 2]),
            max_message: one_of(rng, &[1 << 20, 1 << 20, 1 << 20, 500, 900]),
            names_duplicates: rng.random_bool(0.2),
            newest_produce: one_of(rng, &[8, 9, 11, 12, 13, 13]),
            hints: rng.random_bool(0.5),
            socket: match congested {
                true => 64,
                false => one_of(rng, &[64, 1_000, 10_000, 100_000]),
            },
            first_epoch: one_of(rng, &[0, 0, 0, 0, 32_766]),
        },
        weights,
        storm: Duration::from_millis(rng.random_range(300..5_000)),
    }
}

fn producer_settings(rng: &mut SmallRng, plan: &Plan) -> ProducerSettings {
    let request_timeout = rng.random_range(60..1_500);
    let linger = one_of(rng, &[0, 0, 1, 5, 40]);
    let spare = one_of(rng, &[0, 300, 1_500, 6_000]);
    let spare = if plan.congested { 0 } else { spare };
    let delivery_timeout = request_timeout + linger + spare;
    let batch = one_of(rng, &[100, 150, 300, 700, 2_000]);
    let memory = batch.max(300) * one_of(rng, &[3, 8, 40]);
    // Where many small batches wait for a narrow socket they are all of one size.
    let (batch, memory) = match plan.congested {
        true => (100, 60_000),
        false => (batch, memory),
    };
    let idempotent = !rng.random_bool(if plan.congested { 0.5 } else { 0.15 });
    let acks = match idempotent {
        true => "all",
        false => one_of(rng, &["all", "1", "0"]),
    };
    let in_flight = one_of(rng, &[1, 2, 5, 5, 5]);
    let fragile = rng.random_bool(0.1);
    let codec = one_of(rng, &["none", "none", "none", "none", "lz4"]);
    let config = Config::builder()
        .bootstrap_servers("broker-0:9092,broker-1:9092,broker-2:9092")
        // The one that is made up counts producers, and so would differ in length.
        .set("client.id", "simulated")
        .set("acks", acks)
        .set("enable.idempotence", idempotent)
        .set("max.in.flight.requests.per.connection", in_flight)
        .set("request.timeout.ms", request_timeout)
        .set("delivery.timeout.ms", delivery_timeout)
        .set("linger.ms", linger)
        .set("batch.size", batch)
        .set("buffer.memory", memory)
        .set("max.request.size", batch.max(300) * 4)
        .set("max.block.ms", one_of(rng, &[20, 300, 2_000]))
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
        .set("connections.max.idle.ms", one_of(rng, &[100, 540_000]))
        .set("compression.type", codec)
        .set("forebay.restart.max", if fragile { 3 } else { 1_000_000 })
        .build()
        .expect("a configuration");
    ProducerSettings {
        config,
        delivery_timeout: Duration::from_millis(delivery_timeout),
        promise: Promise {
            kept: acks == "all",
            once: idempotent,
            ordered: idempotent || (in_flight == 1 && acks == "all"),
            fenced: idempotent && plan.kafka.first_epoch == 0,
            called: plan.weights[Fault::Panic as usize] == 0,
        },
        fragile: fragile && plan.weights[Fault::Panic as usize] > 0,
    }
}

/// Runs a seed on this thread, in virtual time.
pub(super) fn run(seed: u64, with_text: bool) -> Verdict {
    let ran = catch_unwind(AssertUnwindSafe(|| virtual_time(simulate(seed, with_text))));
    faults::at_none();
    ran.unwrap_or_else(|panic| Verdict {
        tally: Tally {
            seeds: 1,
            ..Tally::default()
        },
        wrong: vec![format!("a panic: {}", panic_message(&*panic))],
        hash: 0,
        text: Vec::new(),
    })
}

/// Nothing in a simulation takes longer than this, in virtual time.
const ENDLESS: Duration = Duration::from_secs(600);

async fn simulate(seed: u64, with_text: bool) -> Verdict {
    let mut rng = rng(seed);
    let plan = plan(&mut rng);
    let settings = producer_settings(&mut rng, &plan);
    let topics: Vec<usize> = match rng.random_range(0..3) {
        0 => vec![1],
        1 => vec![3],
        _ => vec![1, 2],
    };
    let clones = rng.random_range(1..=3);
    let records = rng.random_range(10..=50);
    let pace = one_of(&mut rng, &[1, 20, 120]);
    let filler = one_of(&mut rng, &[1, 1, 60, 200]);
    let ending = rng.random_range(0..10u32);
    let (topics, clones, records, pace, filler) = match plan.congested {
        true => (vec![3], 3, 60, 1, 1),
        false => (topics, clones, records, pace, filler),
    };
    let cluster = Cluster::new(3, &topics, &mut rng);
    let promise = settings.promise;
    let world = World::new(seed, plan, cluster, rng);
    if with_text {
        world.chronicle.history.borrow_mut().text = Some(vec![format!("{:?}", world.plan)]);
    }
    {
        let world = Rc::clone(&world);
        faults::at_each(move |actor, message| before_message(&world, actor, message));
    }
    let load = Rc::new(Load {
        world: Rc::clone(&world),
        journal: Default::default(),
        delivery_timeout: settings.delivery_timeout,
        records,
        pace,
        filler,
        topics,
    });
    let mut wrong = Vec::new();
    let lived = timeout(ENDLESS, live(&load, settings, clones, ending)).await;
    match lived {
        Ok(found) => wrong.extend(found),
        Err(_) => wrong.push("it never ends".to_owned()),
    }
    faults::at_none();

    let mut tally = world.chronicle.tally.borrow().clone();
    tally.seeds = 1;
    tally.seconds = world.start.elapsed().as_secs();
    let leaked = |wrong: &&String| wrong.starts_with(Invariant::Leaked.label());
    tally.broken[Invariant::Leaked as usize] = wrong.iter().filter(leaked).count() as u64;
    tally.stuck = wrong.len() as u64 - tally.broken[Invariant::Leaked as usize];
    {
        let cluster = world.kafka.cluster.borrow();
        let everywhere = cluster.everywhere();
        let logs = everywhere
            .into_iter()
            .filter_map(|at| Some((at, cluster.log(at)?)));
        let logs: Vec<_> = logs.collect();
        wrong.extend(check(
            seed,
            promise,
            &load.journal.borrow(),
            &logs,
            &mut tally,
        ));
    }
    for (name, sent) in &load.journal.borrow().sent {
        let outcome = match sent.told.outcome() {
            Some(Ok(acked)) => acked.offset.unwrap_or(-1),
            Some(Err(Unconfirmed::NotWritten(_))) => -2,
            Some(Err(_)) => -3,
            None => -4,
        };
        world.note("outcome", &[i64::from(name.0), i64::from(name.1), outcome]);
    }
    let history: History = std::mem::take(&mut *world.chronicle.history.borrow_mut());
    tally.events = history.events;
    Verdict {
        tally,
        wrong,
        hash: history.hash(),
        text: history.text.unwrap_or_default(),
    }
}

/// The storm and what comes after it. Returns what is wrong beside the records.
async fn live(
    load: &Rc<Load>,
    settings: ProducerSettings,
    clones: u32,
    ending: u32,
) -> Vec<String> {
    let world = &load.world;
    let delivery_timeout = settings.delivery_timeout;
    let producer = Producer::builder()
        .placement(Placement::CurrentArbiter)
        .seed(world.seed)
        .start(settings.config)
        .expect("a producer");
    world.supervision.replace(Some(producer.supervision()));
    let senders: Vec<_> = (0..clones)
        .map(|clone| spawn_local(Rc::clone(load).run(producer.clone(), clone)))
        .collect();
    let mut wrong = Vec::new();
    match ending {
        // Closed in the middle of everything.
        0 => {
            let closing = async {
                sleep(world.between(0, 3_000)).await;
                producer.close(world.between(0, 1_000)).await
            };
            let (_, closed) = tokio::join!(storm(world), closing);
            let _ = closed;
            for sender in senders {
                let _ = sender.await;
            }
            heal(world).await;
        }
        // Dropped when all is sent.
        1 => {
            storm(world).await;
            heal(world).await;
            for sender in senders {
                let _ = sender.await;
            }
            drop(producer);
            sleep(delivery_timeout + Duration::from_secs(1)).await;
        }
        _ => {
            storm(world).await;
            heal(world).await;
            for sender in senders {
                let _ = sender.await;
            }
            sleep(delivery_timeout + Duration::from_secs(2)).await;
            if !settings.fragile {
                wrong.extend(at_rest(load, &producer, clones).await);
            }
            let _ = producer.close(delivery_timeout).await;
        }
    }
    world.supervision.replace(None);
    // What is still on its way arrives.
    sleep(Duration::from_secs(6)).await;
    wrong
}

/// Nothing goes wrong any more: everything has come to rest, and the next records are acked.
async fn at_rest(load: &Rc<Load>, producer: &Producer, clone: u32) -> Vec<String> {
    let mut wrong = Vec::new();
    let figures = match producer.figures().await {
        Ok(figures) => figures,
        Err(error) => return vec![format!("no figures: {error}")],
    };
    let pool = figures.pool;
    if pool.available_bytes != pool.total_bytes {
        wrong.push(format!("{}: {pool:?}", Invariant::Leaked.label()));
    }
    if figures.queued_records() + figures.in_flight() > 0 {
        wrong.push(format!("not at rest: {:?}", figures.partitions));
    }
    let everywhere = load.world.kafka.cluster.borrow().everywhere();
    // These promise nothing.
    let lax = producer.config().acks == Acks::None || producer.config().retries < 10;
    for (number, at) in (0..).zip(everywhere) {
        if at.1 >= load.world.kafka.cluster.borrow().topics[at.0].visible {
            continue;
        }
        let name: Name = (clone, number);
        let mut accepted = false;
        // A partition that nobody has heard of yet is known soon after it was asked for.
        for _ in 0..3 {
            accepted = accepted || load.send(producer, None, name, Some(at)).await;
            sleep(Duration::from_secs(u64::from(!accepted))).await;
        }
        if !accepted {
            wrong.push(format!(
                "stuck: a record for {at:?} is refused though all is well"
            ));
            continue;
        }
        let receipt = match &load.journal.borrow().sent[&name].told {
            Told::By(receipt) => receipt.clone(),
            Told::WithOthers(..) => unreachable!("it was sent by itself"),
        };
        let outcome = receipt.await;
        if let (Err(why), false) = (outcome, lax) {
            let cluster = load.world.kafka.cluster.borrow();
            let partition = &cluster.topics[at.0].partitions[at.1].now;
            let views: Vec<_> = (0..cluster.brokers.len())
                .map(|b| cluster.view(b, at))
                .collect();
            let text = format!("stuck: a record for {at:?} is not acked though all is well: {why}");
            wrong.push(format!("{text}; {partition:?}, brokers believe {views:?}"));
        }
    }
    wrong
}
