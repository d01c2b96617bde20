//! A stream of numbered records, what became of each, and whether the log agrees.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use forebay::{Acked, Config, Outcome, Producer, Receipt, Record, Unconfirmed};

use tracing_subscriber::EnvFilter;

use super::{Cluster, Isolation, Partitioning, Seen};

const KEYS: u64 = 10_000;
const VALUE: usize = 100;
/// A stream whose end is the test's to say still ends.
const LIMIT: Duration = Duration::from_secs(300);

/// The number of records for a run of `default` records; `FOREBAY_RECORDS` multiplies it.
pub fn scaled(default: u64) -> u64 {
    let factor = std::env::var("FOREBAY_RECORDS").unwrap_or_else(|_| "1".into());
    let factor: f64 = factor
        .parse()
        .expect("FOREBAY_RECORDS is a factor such as 10 or 0.1");
    (default as f64 * factor) as u64
}

/// The record's number in ASCII, filled up to 100 bytes.
fn record(topic: &Arc<str>, counter: u64) -> Record {
    let mut value = format!("{counter} ");
    value.extend(std::iter::repeat_n('x', VALUE - value.len()));
    let key = format!("key-{}", counter % KEYS);
    Record::to(Arc::clone(topic)).key(key).value(value)
}

/// A load to be run: keyed records of 100 bytes, numbered from 0.
pub struct Load {
    topic: Arc<str>,
    records: u64,
    per_second: Option<u64>,
}

impl Load {
    pub fn new(topic: &str, records: u64) -> Self {
        let (topic, per_second) = (topic.into(), None);
        Self {
            topic,
            records,
            per_second,
        }
    }

    /// No faster than this, so that faults fall into the stream.
    pub fn per_second(mut self, rate: u64) -> Self {
        self.per_second = Some(rate);
        self
    }

    /// Sends the records and closes the producer.
    pub fn run(self, config: Config) -> Outcomes {
        self.start(config).finish()
    }

    /// Sends the records, and goes on until it is told to stop.
    pub fn start(self, config: Config) -> Running {
        let progress = Arc::new(Progress::default());
        let shared = Arc::clone(&progress);
        let thread = std::thread::spawn(move || self.drive(config, &shared));
        Running { progress, thread }
    }

    fn drive(self, config: Config, progress: &Progress) -> Outcomes {
        // `FOREBAY_LOG=forebay=debug` shows what the producer was doing.
        let _ = tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::from_env("FOREBAY_LOG"))
            .with_writer(std::io::stderr)
            .try_init();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(self.send_all(config, progress))
    }

    async fn send_all(self, config: Config, progress: &Progress) -> Outcomes {
        const BETWEEN_LOOKS: u64 = 256;
        let producer = Producer::start(config).expect("a producer");
        let mut outcomes = Outcomes::default();
        let mut open = VecDeque::new();
        let begin = Instant::now();
        for counter in 0.. {
            let look = counter % BETWEEN_LOOKS == 0;
            if counter >= self.records && progress.stop.load(Relaxed)
                || look && begin.elapsed() > LIMIT
            {
                break;
            }
            match producer.send(record(&self.topic, counter)).await {
                Ok(receipt) => open.push_back((counter, receipt)),
                Err(error) => outcomes.refused.push((counter as i64, error.to_string())),
            }
            if look {
                progress.sent.store(counter, Relaxed);
                outcomes.take_settled(&mut open);
                self.pace(counter, begin).await;
            }
        }
        outcomes.sending = begin.elapsed();
        producer.flush().await.expect("a flush");
        outcomes.took = begin.elapsed();
        for partition in &producer.figures().await.expect("figures").partitions {
            outcomes.retries += partition.retries;
            outcomes.splits += partition.splits;
        }
        for (counter, receipt) in open {
            let outcome = tokio::time::timeout(Duration::from_secs(1), receipt).await;
            match outcome {
                Ok(outcome) => outcomes.add(counter, outcome),
                Err(_) => outcomes.missing.push(counter as i64),
            }
        }
        let closed = producer.close(Duration::from_secs(10)).await;
        closed.expect("closed in time");
        outcomes
    }

    async fn pace(&self, sent: u64, begin: Instant) {
        if let Some(rate) = self.per_second {
            let due = Duration::from_secs_f64(sent as f64 / rate as f64);
            tokio::time::sleep(due.saturating_sub(begin.elapsed())).await;
        }
    }
}

#[derive(Debug, Default)]
struct Progress {
    sent: AtomicU64,
    stop: AtomicBool,
}

/// A load on a thread of its own.
pub struct Running {
    progress: Arc<Progress>,
    thread: JoinHandle<Outcomes>,
}

impl Running {
    /// Records sent so far.
    pub fn sent(&self) -> u64 {
        self.progress.sent.load(Relaxed)
    }

    /// Waits until so many more records have been sent.
    pub fn wait_for(&self, more: u64) {
        let until = self.sent() + more;
        let begin = Instant::now();
        while self.sent() < until {
            assert!(!self.thread.is_finished(), "the load has ended");
            assert!(begin.elapsed() < LIMIT, "the load stands still");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Lets it end, and waits for every outcome.
    pub fn finish(self) -> Outcomes {
        self.progress.stop.store(true, Relaxed);
        self.thread.join().expect("the load does not panic")
    }
}

/// What became of every record, by its number.
#[derive(Default)]
pub struct Outcomes {
    pub acked: Vec<(i64, Acked)>,
    pub not_written: Vec<(i64, String)>,
    pub unknown: Vec<(i64, String)>,
    /// Never accepted.
    pub refused: Vec<(i64, String)>,
    /// Accepted, and without an outcome although a flush has returned.
    pub missing: Vec<i64>,
    /// Until the last record was accepted.
    pub sending: Duration,
    /// Until the last record had its outcome.
    pub took: Duration,
    pub retries: u64,
    pub splits: u64,
}

impl Outcomes {
    fn take_settled(&mut self, open: &mut VecDeque<(u64, Receipt)>) {
        while let Some((counter, receipt)) = open.front() {
            let Some(outcome) = receipt.outcome() else {
                return;
            };
            let counter = *counter;
            open.pop_front();
            self.add(counter, outcome);
        }
    }

    fn add(&mut self, counter: u64, outcome: Outcome) {
        let counter = counter as i64;
        match outcome {
            Ok(acked) => self.acked.push((counter, acked)),
            Err(Unconfirmed::NotWritten(why)) => self.not_written.push((counter, why.to_string())),
            Err(unknown) => self.unknown.push((counter, unknown.reason().to_string())),
        }
    }

    /// Records that ran out of time without a word of what was in the way.
    pub fn unexplained(&self) -> usize {
        let failed = self.not_written.iter().chain(&self.unknown);
        failed.filter(|(_, why)| why.ends_with("ran out")).count()
    }

    pub fn records(&self) -> usize {
        let unconfirmed = self.not_written.len() + self.unknown.len() + self.missing.len();
        self.acked.len() + unconfirmed + self.refused.len()
    }

    /// Holds the log against what was said of it: nothing acked is lost, nothing is there twice
    /// or out of order, nothing is there that was said not to be, and every offset is right.
    pub fn agree_with(&self, seen: &Seen) {
        let counters = |list: &[(i64, String)]| list.iter().map(|(c, _)| *c).collect::<Vec<_>>();
        let some = |list: &[(i64, String)]| format!("{:?}", &list[..list.len().min(3)]);
        println!("{self}");
        assert_eq!(
            head(&self.missing),
            [0; 0],
            "accepted records without an outcome"
        );
        assert_eq!(head(&seen.lost(self.acked.iter().map(|(c, _)| *c))), [0; 0]);
        assert_eq!(head(&seen.duplicated()), [0; 0], "in the log twice");
        assert_eq!(head(&seen.reordered(|_| 0)), [(0, 0, 0); 0], "out of order");
        let said = "said to be not written, and is in the log";
        let phantom = seen.phantom(counters(&self.not_written));
        assert_eq!(
            head(&phantom),
            [0; 0],
            "{said}: {}",
            some(&self.not_written)
        );
        let phantom = seen.phantom(counters(&self.refused));
        assert_eq!(head(&phantom), [0; 0], "refused, and is in the log");
        let in_log = seen.phantom(counters(&self.unknown)).len();
        println!("{in_log} of the unknown are in the log");
        assert_eq!(
            seen.records(),
            self.acked.len() + in_log,
            "in the log, and never sent"
        );
        for (counter, acked) in &self.acked {
            if let Some(offset) = acked.offset {
                let found = seen.counter_at(acked.partition, offset);
                assert_eq!(found, Some(*counter), "at the offset of {acked:?}");
            }
        }
    }

    /// [`agree_with`](Self::agree_with), and every record is acked.
    pub fn all_acked_in(&self, seen: &Seen) {
        self.agree_with(seen);
        let first = |list: &[(i64, String)]| list.first().cloned();
        let failed = [&self.not_written, &self.unknown, &self.refused].map(|list| first(list));
        assert_eq!(failed, [None, None, None], "not acked");
    }
}

fn head<T: Clone>(list: &[T]) -> Vec<T> {
    list[..list.len().min(5)].to_vec()
}

impl fmt::Display for Outcomes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let without_offset = self.acked.iter().filter(|(_, a)| a.offset.is_none());
        let rate = self.records() as f64 / self.took.as_secs_f64();
        write!(
            f,
            "{} records in {:.1?} ({rate:.0}/s): {} acked ({} without an offset), \
             {} not written, {} unknown, {} refused, {} missing; {} unexplained; \
             {} retries, {} splits",
            self.records(),
            self.took,
            self.acked.len(),
            without_offset.count(),
            self.not_written.len(),
            self.unknown.len(),
            self.refused.len(),
            self.missing.len(),
            self.unexplained(),
            self.retries,
            self.splits,
        )?;
        let samples = [&self.not_written, &self.unknown, &self.refused];
        for (counter, why) in samples.into_iter().filter_map(|list| list.first()) {
            write!(f, "\n  {counter}: {why}")?;
        }
        Ok(())
    }
}

impl Cluster {
    /// What the topic holds now.
    pub fn seen(&self, topic: &str) -> Seen {
        self.read_counters(topic, Isolation::default())
            .expect("a topic to read")
    }

    /// All keys lie where Java would have put them, and every batch on every broker's disk is
    /// valid. Wants the cluster quiet.
    pub fn check_log(&self, topic: &str) {
        let Partitioning { mismatching, .. } =
            self.check_partitioning(topic).expect("keys to be checked");
        assert_eq!(mismatching, 0, "keys lie in other partitions than Java's");
        self.check_segments(topic);
    }

    pub fn check_segments(&self, topic: &str) {
        for broker in self.brokers() {
            let log = self
                .dump_batches(broker.id(), topic)
                .expect("segments to be dumped");
            assert_eq!(log.invalid, 0, "invalid batches on broker {}", broker.id());
            assert!(log.valid > 0, "broker {} has no batch", broker.id());
        }
    }
}
