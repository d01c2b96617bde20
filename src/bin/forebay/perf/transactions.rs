//! `forebay perf` in transactions: commits them as Kafka's tool does, and tells what became of them.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use forebay::transaction::NotCommitted;
use forebay::{Config, SendError, Transaction, TransactionalProducer, transaction};
use hdrhistogram::Histogram;

use super::figures::{Stats, histogram, millis, print, record};
use super::{Load, TO_CLOSE, counted, print_figures, status};
use crate::Failure;
use crate::follow::{Follower, Handle};
use crate::tally::Tally;
use crate::text::per_second;
use crate::transactional::Limits;

/// That of Kafka's tool.
const PREFIX: &str = "performance-producer-";
/// That of Kafka's tool.
const DURATION: Duration = Duration::from_secs(3);

/// Any of these makes `forebay perf` send in transactions, and so does the key `transactional.id`.
#[derive(clap::Args)]
pub struct Transactions {
    /// Send in transactions, under this transactional.id. Without it, but with one of the next two options:
    /// performance-producer- and a random UUID.
    #[arg(long, value_name = "ID")]
    transactional_id: Option<String>,
    /// Commit a transaction, and begin the next one, once it is this old, in ms. 3,000 if neither this nor a
    /// number of records is given.
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..))]
    transaction_duration_ms: Option<u64>,
    /// Commit a transaction, and begin the next one, once it has so many records.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    transaction_records: Option<u32>,
}

impl Transactions {
    /// When to commit, if there are to be transactions. Then the configuration gets an id, if it has none.
    pub fn limits(self, config: &mut Config) -> Option<Limits> {
        let (time, records) = (self.transaction_duration_ms, self.transaction_records);
        if self.transactional_id.is_some() {
            config.transactional_id = self.transactional_id;
        }
        if config.transactional_id.is_none() {
            if time.is_none() && records.is_none() {
                return None;
            }
            let random = uuid::Builder::from_random_bytes(rand::random()).into_uuid();
            config.transactional_id = Some(format!("{PREFIX}{random}"));
        }
        let default = match records {
            Some(_) => Duration::MAX,
            None => DURATION,
        };
        Some(Limits {
            records: records.map_or(usize::MAX, |it| it as usize),
            time: time.map_or(default, Duration::from_millis),
        })
    }
}

/// How transactions ended, and the records in them.
struct Ends {
    committed: Count,
    aborted: Count,
    unknown: Count,
    /// Of what was committed, in microseconds.
    latencies: Histogram<u64>,
    longest: Duration,
    latency: Duration,
    /// What became of the records.
    tally: Tally,
}

#[derive(Default)]
struct Count {
    transactions: u64,
    records: u64,
}

impl Count {
    fn add(&mut self, records: u64) {
        self.transactions += 1;
        self.records += records;
    }
}

impl Ends {
    fn new() -> Result<Self, Failure> {
        Ok(Self {
            committed: Count::default(),
            aborted: Count::default(),
            unknown: Count::default(),
            latencies: histogram()?,
            longest: Duration::ZERO,
            latency: Duration::ZERO,
            tally: Tally::default(),
        })
    }

    /// Counts a commit that was asked for so long ago. Returns whether there can be more transactions.
    fn ended(&mut self, records: u64, end: Result<(), NotCommitted>, latency: Duration) -> bool {
        match end {
            Ok(()) => {
                self.committed.add(records);
                self.tally.acked += records;
                record(&mut self.latencies, latency);
                self.longest = self.longest.max(latency);
                self.latency += latency;
                true
            }
            Err(NotCommitted::Aborted(why)) => {
                self.aborted.add(records);
                self.tally.aborted(records, why);
                true
            }
            // Kafka's tool ends there, too. The next one could not begin before this one has ended.
            Err(end) => {
                self.unknown.add(records);
                self.tally.unknown(records, end);
                false
            }
        }
    }

    /// What Kafka's tool does not tell.
    fn line(&self, time: Duration) -> String {
        let Self {
            committed,
            aborted,
            unknown,
            ..
        } = self;
        let mut line = format!(
            "{} transactions committed ({} records, {:.6} records/sec), {} aborted ({} records), {} unknown \
             ({} records)",
            committed.transactions,
            committed.records,
            per_second(committed.records, time),
            aborted.transactions,
            aborted.records,
            unknown.transactions,
            unknown.records,
        );
        if committed.transactions > 0 {
            // The histogram rounds up, by a thousandth.
            let [p50, p99] = [0.5, 0.99].map(|p| {
                let at = self.latencies.value_at_quantile(p);
                millis(Duration::from_micros(at).min(self.longest))
            });
            line += &format!(
                ", commits: {:.2} ms avg, {:.2} ms max, {p50:.2} ms 50th, {p99:.2} ms 99th",
                millis(self.latency) / committed.transactions as f64,
                millis(self.longest),
            );
        }
        line + "."
    }
}

/// A transaction that has begun, what it is sent through, and how many records it took.
struct Open<H> {
    transaction: Transaction,
    handle: H,
    began: Instant,
    records: usize,
}

/// Sends in transactions, through what `handle` makes of each.
pub async fn run<H: Handle<Receipt = transaction::Receipt>>(
    mut load: Load,
    stats: Stats,
    (config, limits): (Config, Limits),
    handle: impl Fn(&Transaction) -> H,
) -> Result<ExitCode, Failure> {
    let producer = TransactionalProducer::start(config)?;
    let begin = async || {
        let transaction = producer.begin().await?;
        Ok::<_, transaction::TransactionError>(Open {
            handle: handle(&transaction),
            transaction,
            began: Instant::now(),
            records: 0,
        })
    };
    let mut ends = Ends::new()?;
    // Before the clock starts, as in Kafka's tool: the first one waits for its producer id.
    let mut open = Some(begin().await.map_err(|e| Failure::Failed(e.to_string()))?);
    let (mut follower, followed) = Follower::start(stats);
    let began = Instant::now();
    for i in 0..load.records {
        load.wait(i, began, &mut follower).await;
        let mut current = match open.take() {
            Some(open) => open,
            None => match begin().await {
                Ok(open) => open,
                Err(error) => {
                    ends.tally.not_written(load.records - i, error);
                    break;
                }
            },
        };
        let (record, size) = load.next();
        let due = match follower.send(&mut current.handle, record, size).await {
            Ok(at) => {
                current.records += 1;
                limits.reached(current.records, at.saturating_duration_since(current.began))
            }
            Err(error) => {
                ends.tally.refused(&error);
                // Its commit says why.
                matches!(error, SendError::TransactionEnded { .. })
            }
        };
        if due || i + 1 == load.records {
            // What is appended meanwhile is looked at.
            follower.hand_over().await;
            let asked = Instant::now();
            let end = current.transaction.commit().await;
            if !ends.ended(current.records as u64, end, asked.elapsed()) {
                let why = "a transaction before it is in doubt";
                ends.tally.not_written(load.records - i - 1, why);
                break;
            }
        } else {
            open = Some(current);
        }
    }
    let took = began.elapsed();
    follower.finish().await;
    let stats = counted(followed).await?;
    print(&stats.line(took));
    print(&ends.line(took));
    if load.print_metrics {
        print_figures(producer.figures().await);
    }
    let _ = producer.close(TO_CLOSE).await;
    Ok(status(&ends.tally))
}

#[cfg(test)]
mod tests {

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        transactions: Transactions,
    }

    fn limits(args: &[&str], configured: Option<&str>) -> Option<(String, Limits)> {
        let args = std::iter::once("perf").chain(args.iter().copied());
        let mut config = Config::builder().bootstrap_servers("localhost:1");
        if let Some(id) = configured {
            config = config.set("transactional.id", id);
        }
        let mut config = config.build().expect("a configuration");
        let parsed = Only::try_parse_from(args).expect("arguments");
        let limits = parsed.transactions.limits(&mut config);
        assert_eq!(limits.is_some(), config.transactional_id.is_some());
        limits.map(|limits| (config.transactional_id.unwrap_or_default(), limits))
    }

    #[test]
    fn transactions_have_the_defaults_of_kafkas_tool() {
        assert!(limits(&[], None).is_none());
        for (args, configured, id) in [
            (&["--transactional-id", "a"][..], None, "a"),
            (&["--transactional-id", "a"], Some("b"), "a"),
            (&[], Some("b"), "b"),
        ] {
            let (named, limits) = limits(args, configured).expect("transactions");
            assert_eq!(named, id);
            assert_eq!(
                (limits.records, limits.time.as_millis()),
                (usize::MAX, 3000)
            );
        }
        let args = ["--transaction-duration-ms", "5"];
        let (first, limited) = limits(&args, None).expect("transactions");
        assert_eq!((limited.records, limited.time.as_millis()), (usize::MAX, 5));
        let (second, _) = limits(&args, None).expect("transactions");
        for id in [&first, &second] {
            let random = id.strip_prefix("performance-producer-").expect(id);
            assert_eq!(random.parse::<uuid::Uuid>().expect(id).get_version_num(), 4);
        }
        assert_ne!(first, second);
    }

    #[test]
    fn a_number_of_records_takes_the_place_of_the_default_time() {
        let (_, limited) = limits(&["--transaction-records", "7"], None).expect("transactions");
        assert!(!limited.reached(6, Duration::from_secs(1_000)));
        assert!(limited.reached(7, Duration::ZERO));
        let both = [
            "--transaction-records",
            "7",
            "--transaction-duration-ms",
            "5",
        ];
        let (_, limited) = limits(&both, None).expect("transactions");
        assert!(limited.reached(7, Duration::ZERO));
        assert!(limited.reached(1, Duration::from_millis(5)));
        assert!(!limited.reached(6, Duration::from_millis(4)));
    }

    #[test]
    fn what_was_not_committed_is_told() {
        let mut ends = Ends::new().expect("a histogram");
        assert_eq!(
            ends.line(Duration::from_secs(1)),
            "0 transactions committed (0 records, 0.000000 records/sec), 0 aborted (0 records), \
             0 unknown (0 records)."
        );
        for at in 1..=100 {
            assert!(ends.ended(10, Ok(()), Duration::from_millis(at)));
        }
        assert!(ends.tally.is_good());
        let aborted = NotCommitted::Aborted(transaction::Cause::Requested);
        assert!(ends.ended(20, Err(aborted), Duration::from_secs(9)));
        let unknown = NotCommitted::Unknown(transaction::Cause::Requested);
        assert!(!ends.ended(30, Err(unknown), Duration::from_secs(9)));
        assert_eq!(
            ends.line(Duration::from_secs(2)),
            "100 transactions committed (1000 records, 500.000000 records/sec), 1 aborted (20 records), \
             1 unknown (30 records), commits: 50.50 ms avg, 100.00 ms max, 50.01 ms 50th, 99.01 ms 99th."
        );
        assert!(!ends.tally.is_good());
        let told = ends.tally.to_string();
        assert!(
            told.starts_with("1,000 acked, 20 not written, 30 unknown"),
            "{told}"
        );
        assert!(
            told.contains("20 x aborted: the application aborted it"),
            "{told}"
        );
    }
}
