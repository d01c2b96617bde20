//! The whole runtime, its real actors, in virtual time: a seed decides everything that happens.
//!
//! Mounted into the library's own tests, where actors can be made to panic and bugs be planted.
//! See `DESIGN.md` for what is modelled and what is not.

mod batch;
mod broker;
mod check;
mod cluster;
mod load;
mod log;
mod many;
mod network;
pub(crate) mod planted;
mod seed;
mod tally;
mod weather;
mod world;

use std::sync::Mutex;

pub(crate) use network::{Pipe, dial};
pub(crate) use seed::in_virtual_time;

/// What an injected panic carries.
struct Injected;

fn seeds() -> u64 {
    let wanted = std::env::var("FOREBAY_SEEDS").ok();
    wanted.map_or(300, |seeds| {
        seeds.parse().expect("FOREBAY_SEEDS is a number")
    })
}

fn first() -> u64 {
    let wanted = std::env::var("FOREBAY_FIRST_SEED").ok();
    wanted.map_or(0, |seed| {
        seed.parse().expect("FOREBAY_FIRST_SEED is a number")
    })
}

#[test]
fn no_seed_breaks_an_invariant() {
    let wrong = Mutex::new(Vec::new());
    let began = std::time::Instant::now();
    let (first, seeds) = (first(), seeds());
    let tally = many::run_many(first..first + seeds, None, |seed, verdict| {
        let mut wrong = wrong.lock().expect("no panic holds it");
        if !verdict.wrong.is_empty() {
            wrong.push((seed, verdict.wrong.clone()));
        }
        wrong.len() >= 20
    });
    println!("{tally}{:?} of real time", began.elapsed());
    let mut wrong = wrong.into_inner().expect("no panic held it");
    wrong.sort();
    for (seed, wrong) in &wrong {
        println!(
            "seed {seed}: {}\n    {}",
            wrong.join("\n    "),
            many::replay(*seed)
        );
    }
    assert!(
        wrong.is_empty(),
        "{} of {} seeds failed",
        wrong.len(),
        tally.seeds
    );
}

/// Runs the seed of `FOREBAY_SEED` and prints everything that happened.
#[test]
fn replay() {
    let Ok(seed) = std::env::var("FOREBAY_SEED") else {
        return;
    };
    let seed = seed.parse().expect("FOREBAY_SEED is a number");
    many::keep_quiet();
    let watchdog = many::Watchdog::start();
    watchdog.begin(seed);
    let verdict = seed::run(seed, true);
    for line in &verdict.text {
        println!("{line}");
    }
    println!("{}hash {:016x}", verdict.tally, verdict.hash);
    assert!(verdict.wrong.is_empty(), "{:#?}", verdict.wrong);
}

#[test]
fn a_seed_repeats_itself() {
    many::keep_quiet();
    let hashes = |_| {
        (0..40)
            .map(|seed| seed::run(seed, false).hash)
            .collect::<Vec<_>>()
    };
    let [first, second] = [0, 1].map(hashes);
    for (seed, (first, second)) in first.iter().zip(&second).enumerate() {
        assert_eq!(first, second, "seed {seed}");
    }
    let mut different = first.clone();
    different.sort_unstable();
    different.dedup();
    assert_eq!(different.len(), first.len(), "seeds differ from each other");
}

#[test]
fn clients_that_failed_together_do_not_come_back_together() {
    use std::cell::RefCell;
    use std::rc::Rc;
    use std::time::Duration;

    use crate::{Config, Placement, Producer, Record};

    let refused = Rc::new(RefCell::new(vec![Vec::new(); 2]));
    let attempts = Rc::clone(&refused);
    in_virtual_time(async move {
        let began = tokio::time::Instant::now();
        let mut producers = Vec::new();
        for client in 0..2 {
            let attempts = Rc::clone(&attempts);
            let listener = move || {
                attempts.borrow_mut()[client].push(began.elapsed());
                Box::pin(async { Err(std::io::ErrorKind::ConnectionRefused.into()) }) as _
            };
            let host = format!("broker-{client}");
            network::listen(&host, 9092, Box::new(listener));
            let config = Config::new(&format!("{host}:9092")).expect("a configuration");
            let builder = Producer::builder().placement(Placement::CurrentArbiter);
            let producer = builder.start(config).expect("a producer");
            let sender = producer.clone();
            tokio::task::spawn_local(async move { sender.send(Record::to("t")).await });
            producers.push(producer);
        }
        tokio::time::sleep(Duration::from_secs(20)).await;
    });
    let refused = refused.borrow();
    assert!(refused[0].len() > 10, "{refused:?}");
    assert_ne!(refused[0], refused[1], "both wait equally long each time");
}

/// A producer on this thread, and a cluster in which nothing goes wrong by itself.
fn fair(settings: crate::config::ConfigBuilder) -> (std::rc::Rc<world::World>, crate::Producer) {
    let mut rng = world::rng(1);
    let cluster = cluster::Cluster::new(3, &[1], &mut rng);
    let world = world::World::new(1, world::Plan::FAIR, cluster, rng);
    broker::listen(&world);
    let config = settings
        .bootstrap_servers("broker-0:9092,broker-1:9092,broker-2:9092")
        .set("delivery.timeout.ms", 20_000)
        .set("request.timeout.ms", 5_000)
        .build();
    let builder = crate::Producer::builder().placement(crate::Placement::CurrentArbiter);
    let producer = builder.start(config.expect("a configuration"));
    (world, producer.expect("a producer"))
}

async fn sent(producer: &crate::Producer) -> crate::Receipt {
    let record = crate::Record::to("topic-0").partition(0);
    producer.send(record).await.expect("accepted")
}

#[test]
fn a_move_that_is_lost_in_a_panic_is_told_again() {
    use crate::actors::faults;

    in_virtual_time(async {
        let (world, producer) = fair(crate::Config::builder());
        sent(&producer).await.await.expect("acked");
        let leader = world.cluster.borrow().topics[0].partitions[0].now.leader;
        let leader = leader.expect("a leader");
        faults::plan("SenderActor:MoveTo", 1, 1);
        world.kill(leader, false);
        world.restart(leader, true);
        let outcome = sent(&producer).await.await;
        assert_eq!(faults::stop(), [1], "the sender is told of the move");
        outcome.expect("acked");
    });
}

#[test]
fn a_part_that_fails_while_the_producer_closes_ends_it_at_once() {
    use std::time::Duration;

    use crate::CloseError;
    use crate::actors::faults;

    in_virtual_time(async {
        let (world, producer) = fair(crate::Config::builder().set("forebay.restart.max", 0));
        sent(&producer).await.await.expect("acked");
        (0..world.brokers()).for_each(|broker| world.freeze(broker));
        let receipt = sent(&producer).await;
        // Without the clock nothing would ever run out of time.
        faults::plan("ClockActor:*", 1, 1);
        let closing = producer.close(Duration::from_secs(3_600));
        let delivery_timeout = Duration::from_secs(20);
        let outcome = tokio::time::timeout(delivery_timeout, receipt);
        let (closed, outcome) = tokio::join!(closing, outcome);
        assert_eq!(faults::stop(), [1], "the clock fails");
        assert!(outcome.expect("an outcome in time").is_err());
        assert!(matches!(closed, Err(CloseError::Gone)), "{closed:?}");
    });
}

/// Every bug that others had is found, and the test says how soon.
#[test]
fn planted_bugs_are_found() {
    const MOST: u64 = 10_000;
    for bug in planted::Bug::ALL {
        let found = Mutex::new(None);
        let tally = many::run_many(0..MOST, Some(bug), |seed, verdict| {
            let mut found = found.lock().expect("no panic holds it");
            let symptoms = bug.symptom().iter().map(|symptom| symptom.label());
            let shows = |wrong: &&String| symptoms.clone().any(|label| wrong.starts_with(label));
            if let Some(wrong) = verdict.wrong.iter().find(shows) {
                found.get_or_insert((seed, wrong.clone()));
            }
            found.is_some()
        });
        let found = found.into_inner().expect("no panic held it");
        let (seed, wrong) = found.unwrap_or_else(|| panic!("{MOST} seeds do not show {bug:?}"));
        println!(
            "{bug:?}: found after {} seeds, by seed {seed}: {wrong}",
            tally.seeds
        );
    }
}
