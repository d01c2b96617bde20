//! `forebay perf`: measures like Kafka's `kafka-producer-perf-test`, with the same output.

pub mod figures;
mod transactions;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use forebay::{Config, Producer, Record};
use tokio::task::JoinHandle;

use crate::Failure;
use crate::follow::{Follower, Handle, Receipt};
use crate::payload::Payload;
use crate::settings::{KeyValue, build, topic_name};
use crate::tally::Tally;
use figures::{Stats, print};
use transactions::Transactions;

/// The sending task sleeps only if it is ahead of the wanted rate by this much, since sleeps are no
/// more precise.
const SHORTEST_SLEEP: Duration = Duration::from_millis(2);
const TO_CLOSE: Duration = Duration::from_secs(10);

/// Measures throughput and latency, with the options and the output of Kafka's
/// kafka-producer-perf-test.
///
/// Values are random letters from a buffer that is filled before the clock starts. Latency is
/// counted from the call of send to the outcome, for acked records (with acks=0: for sent ones).
/// Exit status: 0 if every record is acked (or acks=0 asked for no ack), 1 if not, 2 if the
/// arguments or the configuration are wrong.
#[derive(clap::Args)]
#[command(group(clap::ArgGroup::new("payload").required(true).args(["record_size", "payload_file"])))]
pub struct Perf {
    /// The topic of the records.
    #[arg(long, value_parser = topic_name)]
    topic: String,
    /// How many records to send.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    num_records: u64,
    /// Size of a record's value in bytes.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    record_size: Option<u32>,
    /// A file whose lines are the values, chosen at random.
    #[arg(long, value_name = "FILE")]
    payload_file: Option<PathBuf>,
    /// Records per second, approximately; -1 for as many as possible.
    #[arg(long, allow_negative_numbers = true)]
    throughput: f64,
    /// Brokers to ask first for all the others.
    #[arg(long, value_name = "HOST:PORT,...")]
    bootstrap_server: Option<String>,
    /// Configuration keys. They override the file and the environment.
    #[arg(long, value_name = "KEY=VALUE", num_args = 1.., value_parser = KeyValue)]
    #[arg(visible_alias = "command-property")]
    producer_props: Vec<(String, String)>,
    /// A configuration in Kafka's key names: .properties or .toml.
    #[arg(
        long = "producer.config",
        value_name = "FILE",
        visible_alias = "command-config"
    )]
    producer_config: Option<PathBuf>,
    /// What records are sent through: the producer that all tasks can share, or a lane, which
    /// belongs to one task.
    #[arg(long, value_enum, default_value = "shared")]
    handle: HandleKind,
    /// Time between two lines of figures, in ms.
    #[arg(long, default_value = "5000", value_parser = clap::value_parser!(u64).range(1..))]
    reporting_interval: u64,
    /// Print the producer's own figures at the end, as JSON.
    #[arg(long)]
    print_metrics: bool,
    #[command(flatten)]
    transactions: Transactions,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum HandleKind {
    Shared,
    Lane,
}

pub async fn run(args: Perf) -> Result<ExitCode, Failure> {
    let mut config = build(
        args.producer_config.as_ref(),
        args.bootstrap_server.as_deref(),
        &args.producer_props,
        Config::builder().properties("client.id=perf-producer-client"),
    )?;
    let limits = args.transactions.limits(&mut config);
    let load = Load {
        payload: match (&args.payload_file, args.record_size) {
            (Some(path), _) => Payload::file(path)?,
            (None, size) => Payload::random(size.unwrap_or(1) as usize),
        },
        topic: args.topic.into(),
        records: args.num_records,
        throughput: args.throughput,
        print_metrics: args.print_metrics,
    };
    let stats = Stats::new(Duration::from_millis(args.reporting_interval))?;
    if let Some(limits) = limits {
        let how = (config, limits);
        return match args.handle {
            HandleKind::Shared => transactions::run(load, stats, how, |it| it.handle()).await,
            HandleKind::Lane => transactions::run(load, stats, how, |it| it.lane()).await,
        };
    }
    let producer = Producer::start(config)?;
    match args.handle {
        HandleKind::Shared => plain(load, stats, producer.clone(), producer).await,
        HandleKind::Lane => plain(load, stats, producer.lane(), producer).await,
    }
}

/// What is sent, and how fast.
struct Load {
    topic: Arc<str>,
    payload: Payload,
    records: u64,
    throughput: f64,
    print_metrics: bool,
}

impl Load {
    /// The next record, and the size of its value.
    fn next(&mut self) -> (Record, usize) {
        let value = self.payload.next();
        let size = value.len();
        (Record::to(Arc::clone(&self.topic)).value(value), size)
    }

    /// Waits until record `i` should be sent.
    async fn wait<R: Receipt>(&self, i: u64, began: Instant, follower: &mut Follower<usize, R>) {
        if let Some(due) = due(i, self.throughput).map(|due| began + due)
            && due.saturating_duration_since(Instant::now()) >= SHORTEST_SLEEP
        {
            follower.hand_over().await;
            tokio::time::sleep_until(due.into()).await;
        }
    }
}

/// Sends without transactions.
async fn plain<H: Handle>(
    mut load: Load,
    stats: Stats,
    mut handle: H,
    producer: Producer,
) -> Result<ExitCode, Failure> {
    let (mut follower, followed) = Follower::start(stats);
    let mut refused = Tally::default();
    let began = Instant::now();
    for i in 0..load.records {
        load.wait(i, began, &mut follower).await;
        let (record, size) = load.next();
        if let Err(error) = follower.send(&mut handle, record, size).await {
            refused.refused(&error);
        }
    }
    follower.finish().await;
    // A flush fails only with the runtime. Then every record's outcome says so.
    let _ = producer.flush().await;
    let mut stats = counted(followed).await?;
    print(&stats.line(began.elapsed()));
    stats.tally.add(refused);
    if load.print_metrics {
        print_figures(producer.figures().await);
    }
    let _ = producer.close(TO_CLOSE).await;
    Ok(status(&stats.tally))
}

async fn counted(followed: JoinHandle<Stats>) -> Result<Stats, Failure> {
    let stats = followed.await;
    stats.map_err(|e| Failure::Failed(format!("the count of outcomes is lost: {e}")))
}

fn print_figures<E>(figures: Result<forebay::Figures, E>) {
    if let Ok(figures) = figures
        && let Ok(figures) = serde_json::to_string_pretty(&figures)
    {
        print(&figures);
    }
}

fn status(tally: &Tally) -> ExitCode {
    match tally.is_good() {
        true => ExitCode::SUCCESS,
        false => {
            eprintln!("{tally}");
            ExitCode::FAILURE
        }
    }
}

/// When record `i` should be sent, from the start.
fn due(i: u64, throughput: f64) -> Option<Duration> {
    // A throughput of 0 would mean to wait for ever. Kafka's tool does not throttle then.
    (throughput > 0.0)
        .then(|| Duration::try_from_secs_f64(i as f64 / throughput).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_due_at_the_pace_asked_for() {
        assert_eq!(due(1000, 500.0), Some(Duration::from_secs(2)));
        assert_eq!(due(1000, -1.0), None);
        assert_eq!(due(1000, 0.0), None);
        assert_eq!(due(u64::MAX, f64::MIN_POSITIVE), None);
    }
}
