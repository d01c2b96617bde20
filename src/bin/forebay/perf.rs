//! `forebay perf`: measures like Kafka's `kafka-producer-perf-test`, with the same output.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use forebay::{Config, Outcome, Producer, Reason, Record, Unconfirmed};
use hdrhistogram::Histogram;

use crate::Failure;
use crate::follow::{Follower, Handle, Observer, Sent};
use crate::payload::Payload;
use crate::settings::{KeyValue, build, topic_name};
use crate::tally::Tally;
use crate::text::{MB, per_second};

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
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum HandleKind {
    Shared,
    Lane,
}

pub async fn run(args: Perf) -> Result<ExitCode, Failure> {
    let config = build(
        args.producer_config.as_ref(),
        args.bootstrap_server.as_deref(),
        &args.producer_props,
        Config::builder().properties("client.id=perf-producer-client"),
    )?;
    let mut payload = match (&args.payload_file, args.record_size) {
        (Some(path), _) => Payload::file(path)?,
        (None, size) => Payload::random(size.unwrap_or(1) as usize),
    };
    let topic: Arc<str> = args.topic.into();
    let producer = Producer::start(config)?;
    let stats = Stats::new(Duration::from_millis(args.reporting_interval))?;
    let mut handle = match args.handle {
        HandleKind::Shared => Handle::Shared(producer.clone()),
        HandleKind::Lane => Handle::Lane(Box::new(producer.lane())),
    };
    let (mut follower, followed) = Follower::start(stats);
    let mut refused = Tally::default();
    let began = Instant::now();
    for i in 0..args.num_records {
        if let Some(due) = due(i, args.throughput).map(|due| began + due)
            && due.saturating_duration_since(Instant::now()) >= SHORTEST_SLEEP
        {
            follower.hand_over().await;
            tokio::time::sleep_until(due.into()).await;
        }
        let value = payload.next();
        let size = value.len();
        let record = Record::to(Arc::clone(&topic)).value(value);
        if let Err(error) = follower.send(&mut handle, record, size).await {
            refused.refused(&error);
        }
    }
    follower.finish().await;
    // A flush fails only with the runtime. Then every record's outcome says so.
    let _ = producer.flush().await;
    let mut stats = followed
        .await
        .map_err(|e| Failure::Failed(format!("the count of outcomes is lost: {e}")))?;
    print(&stats.total.line(began.elapsed(), &stats.latencies));
    stats.tally.add(refused);
    if args.print_metrics
        && let Ok(figures) = producer.figures().await
        && let Ok(figures) = serde_json::to_string_pretty(&figures)
    {
        print(&figures);
    }
    let _ = producer.close(TO_CLOSE).await;
    Ok(match stats.tally.is_good() {
        true => ExitCode::SUCCESS,
        false => {
            eprintln!("{}", stats.tally);
            ExitCode::FAILURE
        }
    })
}

/// When record `i` should be sent, from the start.
fn due(i: u64, throughput: f64) -> Option<Duration> {
    // A throughput of 0 would mean to wait for ever. Kafka's tool does not throttle then.
    (throughput > 0.0)
        .then(|| Duration::try_from_secs_f64(i as f64 / throughput).ok())
        .flatten()
}

fn print(line: &str) {
    // A closed standard output is no error.
    let _ = writeln!(io::stdout(), "{line}");
}

/// Sums over a period.
#[derive(Default)]
struct Sums {
    count: u64,
    bytes: u64,
    latency: Duration,
    max_latency: Duration,
}

impl Sums {
    fn add(&mut self, bytes: usize, latency: Duration) {
        self.count += 1;
        self.bytes += bytes as u64;
        self.latency += latency;
        self.max_latency = self.max_latency.max(latency);
    }

    fn average(&self) -> f64 {
        millis(self.latency) / self.count as f64
    }

    /// The line for a window, as Kafka's tool writes it.
    fn window(&self, time: Duration) -> String {
        format!(
            "{} records sent, {:.1} records/sec ({:.2} MB/sec), {:.1} ms avg latency, \
             {:.1} ms max latency.",
            self.count,
            per_second(self.count, time),
            per_second(self.bytes, time) / MB,
            self.average(),
            millis(self.max_latency),
        )
    }

    /// The last line, as Kafka's tool writes it.
    fn line(&self, time: Duration, latencies: &Histogram<u64>) -> String {
        let [p50, p95, p99, p999] =
            [0.5, 0.95, 0.99, 0.999].map(|p| latencies.value_at_quantile(p) as f64 / 1000.0);
        format!(
            "{} records sent, {:.6} records/sec ({:.2} MB/sec), {:.2} ms avg latency, \
             {:.2} ms max latency, {p50:.0} ms 50th, {p95:.0} ms 95th, {p99:.0} ms 99th, \
             {p999:.0} ms 99.9th.",
            self.count,
            per_second(self.count, time),
            per_second(self.bytes, time) / MB,
            self.average(),
            millis(self.max_latency),
        )
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

struct Stats {
    total: Sums,
    window: Sums,
    window_start: Instant,
    interval: Duration,
    /// In microseconds.
    latencies: Histogram<u64>,
    tally: Tally,
}

impl Stats {
    fn new(interval: Duration) -> Result<Self, Failure> {
        Ok(Self {
            total: Sums::default(),
            window: Sums::default(),
            window_start: Instant::now(),
            interval,
            latencies: histogram()?,
            tally: Tally::default(),
        })
    }
}

/// A histogram of microseconds up to an hour, with three digits.
pub fn histogram() -> Result<Histogram<u64>, Failure> {
    Histogram::new_with_bounds(1, 3_600_000_000, 3)
        .map_err(|e| Failure::Failed(format!("no histogram: {e}")))
}

pub fn record(latencies: &mut Histogram<u64>, latency: Duration) {
    latencies.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
}

impl Observer<usize> for Stats {
    fn settled(&mut self, sent: &Sent<usize>, outcome: Outcome, now: Instant) {
        self.tally.outcome(&outcome);
        if !matches!(
            outcome,
            Ok(_) | Err(Unconfirmed::Unknown(Reason::NotRequested))
        ) {
            return;
        }
        let latency = now - sent.at;
        self.total.add(sent.tag, latency);
        self.window.add(sent.tag, latency);
        record(&mut self.latencies, latency);
        let window = now - self.window_start;
        if window >= self.interval {
            print(&self.window.window(window));
            self.window = Sums::default();
            self.window_start = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_are_those_of_kafkas_tool() {
        let mut latencies = histogram().expect("a histogram");
        let mut sums = Sums::default();
        for i in 1..=1000 {
            let latency = Duration::from_millis(i);
            sums.add(100, latency);
            record(&mut latencies, latency);
        }
        assert_eq!(
            sums.window(Duration::from_secs(2)),
            "1000 records sent, 500.0 records/sec (0.05 MB/sec), 500.5 ms avg latency, \
             1000.0 ms max latency."
        );
        assert_eq!(
            sums.line(Duration::from_secs(3), &latencies),
            "1000 records sent, 333.333333 records/sec (0.03 MB/sec), 500.50 ms avg latency, \
             1000.00 ms max latency, 500 ms 50th, 950 ms 95th, 990 ms 99th, 999 ms 99.9th."
        );
    }

    #[test]
    fn records_are_due_at_the_pace_asked_for() {
        assert_eq!(due(1000, 500.0), Some(Duration::from_secs(2)));
        assert_eq!(due(1000, -1.0), None);
        assert_eq!(due(1000, 0.0), None);
        assert_eq!(due(u64::MAX, f64::MIN_POSITIVE), None);
    }
}
