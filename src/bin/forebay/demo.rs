//! `forebay demo`: sends keyed records to an embedded broker of another project, and reads them
//! back.

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use forebay::{Config, Outcome, Producer, Record};
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use krafka::testing::FakeBroker;

use crate::Failure;
use crate::follow::{Follower, Observer, Sent};
use crate::perf::figures::{histogram, record};
use crate::read_back::read_back;
use crate::records::{Check, KEYS, Places, Source, VALUE_LEN};
use crate::tally::Tally;
use crate::text::{Grouped, MB, per_second};

const BROKERS: usize = 3;
const PARTITIONS: i32 = 12;
const TOPIC: &str = "forebay-demo";
/// The embedded broker keeps all records in memory.
const MAX_RECORDS: u64 = 10_000_000;
const TICK: Duration = Duration::from_millis(200);
const TO_CLOSE: Duration = Duration::from_secs(10);

/// Shows the whole path of records, with nothing to install: starts a cluster of three brokers in
/// this process, sends keyed records to it, reads them back with the consumer of another project,
/// and compares.
///
/// Exit status: 0 only if every record was read back once, unchanged, and in order.
#[derive(clap::Args)]
pub struct Demo {
    /// How many records of 100 bytes to produce.
    #[arg(long, default_value_t = 3_000_000)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=MAX_RECORDS))]
    records: u64,
}

pub async fn run(args: Demo) -> Result<ExitCode, Failure> {
    let records = args.records;
    let brokers = FakeBroker::start_cluster(BROKERS).await;
    let brokers = brokers.map_err(|e| Failure::Failed(format!("no embedded brokers: {e}")))?;
    let brokers = Arc::new(brokers);
    brokers.create_topic(TOPIC, PARTITIONS);
    let servers = brokers.bootstrap_servers();
    say(&format!(
        "{} keyed records of {VALUE_LEN} bytes to {PARTITIONS} partitions on {BROKERS} brokers \
         (krafka's FakeBroker, in this process)",
        Grouped(records)
    ));

    let producer = Producer::start(Config::new(&servers)?)?;
    let (produced, took) = produce(&producer, &brokers, records).await?;
    producer
        .close(TO_CLOSE)
        .await
        .map_err(|e| Failure::Failed(format!("closing the producer: {e}")))?;
    say_how_fast(&produced, took);

    let Produced { places, tally, .. } = produced;
    let began = Instant::now();
    let mut check = Check::new(places);
    let bar = progress(records, "reading back")?;
    let read = read_back(&servers, TOPIC, PARTITIONS, &mut check, &bar).await;
    bar.finish_and_clear();
    read?;
    say(&format!(
        "read back  {} records with krafka's consumer in {:.2} s",
        Grouped(check.seen),
        began.elapsed().as_secs_f64()
    ));
    say(&format!(
        "order      {} of {} partitions in order, counters of {} keys without a gap",
        check.partitions_in_order,
        check.partitions,
        Grouped(KEYS as u64)
    ));
    say(
        "           The brokers run in this process and on its cores: the figures are those of \
         both sides together.",
    );
    if tally.acked == records && check.is_right() {
        say("all right: every record is there once, every byte the same, where its ack said");
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!(
        "not right: {} of {} records acked, {} came back; {}",
        Grouped(tally.acked),
        Grouped(records),
        Grouped(check.seen),
        check.wrong
    );
    Ok(ExitCode::FAILURE)
}

fn say_how_fast(produced: &Produced, took: Duration) {
    let Produced {
        tally, latencies, ..
    } = produced;
    say(&format!(
        "produced   {tally} in {:.2} s",
        took.as_secs_f64()
    ));
    let rate = per_second(tally.acked, took);
    say(&format!(
        "rate       {} records/s, {:.1} MB/s",
        Grouped(rate as u64),
        rate * VALUE_LEN as f64 / MB
    ));
    let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|p| percentile(latencies, p));
    say(&format!(
        "latency    p50 {p50:.1} ms, p99 {p99:.1} ms, p99.9 {p999:.1} ms from send to ack"
    ));
}

fn say(line: &str) {
    // If standard output is closed, the exit status still tells the result.
    let _ = writeln!(io::stdout(), "{line}");
}

fn percentile(latencies: &Histogram<u64>, quantile: f64) -> f64 {
    latencies.value_at_quantile(quantile) as f64 / 1000.0
}

fn progress(records: u64, what: &'static str) -> Result<ProgressBar, Failure> {
    let template = "{prefix} [{bar:30}] {human_pos}/{human_len} {rate} {msg}";
    let style = ProgressStyle::with_template(template)
        .map_err(|e| Failure::Failed(format!("no progress bar: {e}")))?;
    let rate = |state: &ProgressState, to: &mut dyn fmt::Write| {
        let _ = write!(to, "{}/s", Grouped(state.per_sec() as u64));
    };
    let style = style.progress_chars("=> ").with_key("rate", rate);
    let bar = ProgressBar::new(records).with_style(style);
    bar.set_prefix(what);
    Ok(bar)
}

/// What the receipts reported.
struct Produced {
    places: Places,
    tally: Tally,
    /// In microseconds.
    latencies: Histogram<u64>,
    acked: Arc<AtomicU64>,
}

impl Observer<u64> for Produced {
    fn settled(&mut self, sent: &Sent<u64>, outcome: Outcome, now: Instant) {
        self.tally.outcome(&outcome);
        if let Ok(acked) = outcome {
            self.places.set(sent.tag, &acked);
            record(&mut self.latencies, now - sent.at);
            self.acked.store(self.tally.acked, Ordering::Relaxed);
        }
    }
}

async fn produce(
    producer: &Producer,
    brokers: &Arc<FakeBroker>,
    records: u64,
) -> Result<(Produced, Duration), Failure> {
    let topic: Arc<str> = TOPIC.into();
    let acked = Arc::new(AtomicU64::new(0));
    let (mut follower, followed) = Follower::start(Produced {
        places: Places::new(records),
        tally: Tally::default(),
        latencies: histogram()?,
        acked: Arc::clone(&acked),
    });
    let bar = progress(records, "producing")?;
    let show = tokio::spawn(show(
        bar.clone(),
        acked,
        producer.clone(),
        Arc::clone(brokers),
    ));
    let mut handle = producer.clone();
    let mut source = Source::new();
    let mut refused = Tally::default();
    let began = Instant::now();
    for _ in 0..records {
        let (number, key, value) = source.next();
        let record = Record::to(Arc::clone(&topic)).key(key).value(value);
        if let Err(error) = follower.send(&mut handle, record, number).await {
            refused.refused(&error);
        }
    }
    follower.finish().await;
    let flushed = producer.flush().await;
    let followed = followed.await;
    let took = began.elapsed();
    show.abort();
    bar.finish_and_clear();
    flushed.map_err(|e| Failure::Failed(format!("flushing: {e}")))?;
    let mut produced =
        followed.map_err(|e| Failure::Failed(format!("the count of outcomes is lost: {e}")))?;
    produced.tally.add(refused);
    Ok((produced, took))
}

/// Shows progress until it is aborted.
async fn show(
    bar: ProgressBar,
    acked: Arc<AtomicU64>,
    producer: Producer,
    brokers: Arc<FakeBroker>,
) {
    loop {
        tokio::time::sleep(TICK).await;
        // The embedded broker keeps a list of all requests for tests, and searches it at each
        // request.
        brokers.clear_requests();
        bar.set_position(acked.load(Ordering::Relaxed));
        if let Ok(figures) = producer.figures().await {
            bar.set_message(format!(
                "queue {} records, {} batches in flight",
                Grouped(figures.queued_records() as u64),
                figures.in_flight()
            ));
        }
    }
}
