//! Causes random faults in a real Kafka cluster, and gives a verdict on every record:
//!
//! ```text
//! cargo run --release --example chaos -- --minutes 3 --seed 7
//! ```
//!
//! It starts three brokers (a JDK 17 and Maven are needed) and puts a proxy in front of each. It
//! sends numbered records through them, and meanwhile causes faults of brokers, connections and
//! other producers. Then it waits until all is quiet, reads every log to its end with Kafka's own
//! consumer, and compares it with the outcome of each record. The exit status is 0 if all verdicts
//! hold, 1 if one does not, and 2 if the run failed. Unless it is 0, the brokers' files are kept.
//! Ctrl-C ends the faults early and judges what there is. A second one ends the process.
//!
//! With `--transactions` many transactional producers send instead, and the verdict is on every
//! transaction, as a `read_committed` consumer sees it.

mod books;
mod clients;
mod connections;
mod doubts;
mod faults;
mod hanging;
mod ids;
mod instance;
mod kinds;
mod load;
mod report;
mod run;
mod stream;
mod topics;
mod transactions;
mod verdicts;
mod workload;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Duration;

use clap::Parser;
use forebay::Config;
use forebay_kafka_cluster::{self as kafka, Cluster, ClusterOptions, Listener};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use faults::CLIENT;
use kinds::{Kind, Sending, Tally, Wanted};
use run::{PROXIED, Run, Wants};

/// How long brokers remember a producer, by the timestamps of its records: longer than any
/// `delivery.timeout.ms`, and much shorter than the age of old records.
const EXPIRATION_MS: i64 = 600_000;

/// Causes faults in a real Kafka cluster, and judges the outcome of every record.
#[derive(Parser)]
#[command(after_long_help = format!("Kinds of faults:\n{}", Kind::list()))]
struct Arguments {
    /// The least minutes of faults.
    #[arg(long, default_value_t = 3.0)]
    minutes: f64,
    /// Repeats a run's settings and its choice of faults, but not their timing.
    #[arg(long)]
    seed: Option<u64>,
    /// Kinds of faults, by default all. Each may have the number that must be reached before the
    /// run ends (`kill:100,freeze:100,cut`), by default one. --help lists them.
    #[arg(long, value_delimiter = ',')]
    faults: Vec<Wanted>,
    /// Records that must have been acked before the run ends.
    #[arg(long, default_value_t = 0)]
    records: u64,
    /// Connections that must have died before the run ends.
    #[arg(long, default_value_t = 0)]
    deaths: u64,
    /// Records per second.
    #[arg(long, default_value_t = 10_000.0)]
    rate: f64,
    /// A setting of the producer, `key=value`, instead of what the seed chooses.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Sends in transactions, of many transactional ids.
    #[arg(long)]
    transactions: bool,
    /// Transactions that must have ended before the run ends.
    #[arg(long, default_value_t = 0, requires = "transactions")]
    ends: u64,
    /// The protocol of transactions, 1 or 2, by the cluster's feature `transaction.version`.
    #[arg(long, default_value_t = 2, requires = "transactions",
        value_parser = clap::value_parser!(u8).range(1..=2))]
    protocol: u8,
}

impl Arguments {
    fn sending(&self) -> Sending {
        match self.transactions {
            true => Sending::Transactions,
            false => Sending::Records,
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let seed = arguments
        .seed
        .unwrap_or_else(|| rand::random_range(1..1_000_000));
    if let Err(missing) = kafka::available() {
        eprintln!("chaos needs a JDK 17 and Maven: {missing}");
        return ExitCode::from(2);
    }
    match run(&arguments, seed) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("the run could not be done: {error}");
            ExitCode::from(2)
        }
    }
}

fn start_cluster(arguments: &Arguments) -> kafka::Result<Cluster> {
    let mut options = ClusterOptions::default()
        .relays()
        .listener(Listener {
            name: PROXIED.into(),
            proxied: true,
            security_protocol: "PLAINTEXT".into(),
            properties: Vec::new(),
        })
        // So that each fault is over soon and the next one can come.
        .property("broker.session.timeout.ms", "3000")
        .property("broker.heartbeat.interval.ms", "500")
        .property("replica.lag.time.max.ms", "4000")
        .property("quota.window.num", "3")
        // A producer of old records is forgotten soon.
        .property("producer.id.expiration.ms", EXPIRATION_MS.to_string())
        .property("producer.id.expiration.check.interval.ms", "1000")
        // A broker that was killed reads its last segments again when it starts.
        .property("log.segment.bytes", "33554432")
        // Transactions that are left open are aborted soon after their time.
        .property(
            "transaction.abort.timed.out.transaction.cleanup.interval.ms",
            "1000",
        );
    if arguments.protocol == 1 {
        let args = ["--feature", "transaction.version=1"];
        options.format_args.extend(args.map(str::to_owned));
    }
    Cluster::start(options)
}

/// Settings that matter under faults, chosen by the seed.
fn settings(random: &mut SmallRng) -> Vec<(&'static str, &'static str)> {
    let mut one_of = |all: &[&'static str]| all[random.random_range(0..all.len())];
    vec![
        ("request.timeout.ms", one_of(&["1000", "2000", "4000"])),
        ("delivery.timeout.ms", one_of(&["6000", "20000", "120000"])),
        ("max.block.ms", one_of(&["2000", "60000"])),
        ("linger.ms", one_of(&["0", "5", "50"])),
        ("batch.size", one_of(&["1000", "16384", "200000"])),
        ("buffer.memory", one_of(&["1000000", "8000000", "33554432"])),
        ("compression.type", one_of(&["none", "lz4"])),
        (
            "max.in.flight.requests.per.connection",
            one_of(&["1", "2", "5"]),
        ),
        ("connections.max.idle.ms", one_of(&["300", "540000"])),
        ("metadata.max.age.ms", one_of(&["200", "300000"])),
        ("metadata.max.idle.ms", one_of(&["5000", "300000"])),
        ("transaction.timeout.ms", one_of(&["10000", "60000"])),
    ]
}

fn configured(cluster: &Cluster, seed: u64, set: &[String]) -> Result<Config, String> {
    let mut chosen = settings(&mut SmallRng::seed_from_u64(seed));
    for setting in set {
        let (key, value) = setting
            .split_once('=')
            .ok_or_else(|| format!("--set {setting}: not key=value"))?;
        chosen.retain(|(known, _)| *known != key);
        chosen.push((key, value));
    }
    let text: Vec<_> = chosen.iter().map(|(k, v)| format!("{k}={v}")).collect();
    println!("{}", text.join(" "));
    let builder = Config::builder()
        .bootstrap_servers(cluster.bootstrap_through(PROXIED))
        .set("client.id", CLIENT)
        .set("forebay.producer.id.expiration.ms", EXPIRATION_MS);
    let builder = chosen.iter().fold(builder, |b, (k, v)| b.set(*k, v));
    builder.build().map_err(|e| e.to_string())
}

/// Writes the log of the producers beside the brokers' logs: warnings, or what `FOREBAY_LOG` says.
/// `forebay=debug,chaos=debug` also logs the faults of connections.
fn log_to(dir: &Path) -> std::io::Result<PathBuf> {
    let path = dir.join("forebay.log");
    let filter = std::env::var("FOREBAY_LOG").unwrap_or_else(|_| "warn".into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(Mutex::new(File::create(&path)?))
        .init();
    Ok(path)
}

/// Runs the test. Returns whether all verdicts hold.
fn run(arguments: &Arguments, seed: u64) -> Result<bool, Box<dyn std::error::Error>> {
    println!("seed {seed}: starting three brokers");
    let cluster = start_cluster(arguments)?;
    let kept = cluster.dir().to_owned();
    let outcome = run_on(&cluster, arguments, seed);
    if !matches!(outcome, Ok(true)) {
        cluster.keep_files();
        println!("logs and data are kept in {}", kept.display());
    }
    outcome
}

fn run_on(
    cluster: &Cluster,
    arguments: &Arguments,
    seed: u64,
) -> Result<bool, Box<dyn std::error::Error>> {
    log_to(cluster.dir())?;
    let config = configured(cluster, seed, &arguments.set)?;
    let wants = Wants {
        least: Duration::from_secs_f64(arguments.minutes * 60.0),
        records: arguments.records,
        deaths: arguments.deaths,
        ends: arguments.ends,
    };
    let tally = Tally::new(&arguments.faults, arguments.sending())?;
    let run = Run::new(cluster, config, tally, (seed, arguments.rate))?;
    match arguments.sending() {
        Sending::Records => run.of_records(&wants),
        Sending::Transactions => run.of_transactions(&wants),
    }
}
