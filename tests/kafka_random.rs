//! Faults at random, for as long as `FOREBAY_SECONDS` says; `FOREBAY_SEED` repeats a run's choice
//! of them.

mod kafka;

use std::time::{Duration, Instant};

use forebay::Config;
use kafka::{Cluster, ClusterOptions, Load, State};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

const TOPIC: &str = "stream";
const PARTITIONS: i32 = 12;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().expect("a number"))
}

/// Any broker may be killed, hang or be restarted at any time, also two of the three, so that
/// the topic has too few replicas in sync; and time is short, so that records run out of it.
#[test]
fn outcomes_are_true_whatever_happens() {
    if !kafka::require_or_skip("outcomes_are_true_whatever_happens") {
        return;
    }
    let seed = number("FOREBAY_SEED").unwrap_or_else(rand::random);
    let length = Duration::from_secs(number("FOREBAY_SECONDS").unwrap_or(30));
    println!("FOREBAY_SEED={seed}");
    let mut random = SmallRng::seed_from_u64(seed);

    let cluster = Cluster::start(ClusterOptions::default()).unwrap();
    cluster.create_topic(TOPIC, PARTITIONS, 3, &[]).unwrap();
    let one_of = |random: &mut SmallRng, all: &[&'static str]| {
        let at = random.random_range(0..all.len());
        all[at]
    };
    let settings = [
        (
            "request.timeout.ms",
            one_of(&mut random, &["500", "1000", "3000"]),
        ),
        (
            "delivery.timeout.ms",
            one_of(&mut random, &["3500", "8000", "120000"]),
        ),
        ("linger.ms", one_of(&mut random, &["0", "5", "50"])),
        (
            "batch.size",
            one_of(&mut random, &["500", "16384", "200000"]),
        ),
        (
            "buffer.memory",
            one_of(&mut random, &["1000000", "33554432"]),
        ),
        ("max.block.ms", "2000"),
        ("compression.type", one_of(&mut random, &["none", "lz4"])),
        (
            "max.in.flight.requests.per.connection",
            one_of(&mut random, &["1", "2", "5"]),
        ),
        (
            "connections.max.idle.ms",
            one_of(&mut random, &["0", "300", "540000"]),
        ),
        (
            "metadata.max.age.ms",
            one_of(&mut random, &["100", "300000"]),
        ),
    ];
    println!("{settings:?}");
    let builder = Config::builder().bootstrap_servers(cluster.bootstrap());
    let builder = settings.iter().fold(builder, |b, (k, v)| b.set(*k, v));
    let running = Load::new(TOPIC, 1)
        .per_second(3000)
        .start(builder.build().unwrap());

    let begin = Instant::now();
    while begin.elapsed() < length {
        let broker = &cluster.brokers()[random.random_range(0..3)];
        let fault = random.random_range(0..4);
        let all_run = cluster
            .brokers()
            .iter()
            .all(|b| b.state() == State::Running);
        println!(
            "{:?} broker {} {:?} {fault}",
            begin.elapsed(),
            broker.id(),
            broker.state()
        );
        match (broker.state(), fault) {
            (State::Running, 0) => broker.kill().unwrap(),
            (State::Running, 1) => broker.freeze().unwrap(),
            // Without a quorum a broker would not shut down in time.
            (State::Running, 2) if all_run => broker.restart().unwrap(),
            (State::Running, _) if all_run => drop(cluster.elect_leaders(TOPIC)),
            (State::Running, _) => {}
            (State::Frozen, _) => broker.thaw().unwrap(),
            (State::Down, _) => broker.restart().unwrap(),
        }
        std::thread::sleep(Duration::from_millis(random.random_range(0..4000)));
    }
    for broker in cluster.brokers() {
        match broker.state() {
            State::Running => {}
            State::Frozen => broker.thaw().unwrap(),
            State::Down => broker.restart().unwrap(),
        }
    }
    cluster.wait_ready().unwrap();
    cluster.wait_in_sync(TOPIC).unwrap();
    // It recovers. What has piled up may still run out of its time, for some settings make it slow;
    // once that is worked off, everything is acked.
    running.wait_for(60_000);
    let healthy_from = running.sent() as i64;
    running.wait_for(6000);
    let outcomes = running.finish();
    outcomes.agree_with(&cluster.seen(TOPIC));
    cluster.check_segments(TOPIC);
    let failed = [&outcomes.not_written, &outcomes.unknown, &outcomes.refused];
    let late = failed.map(|list| list.iter().find(|(counter, _)| *counter > healthy_from));
    assert_eq!(
        late,
        [None, None, None],
        "failed although the cluster was whole"
    );
}
