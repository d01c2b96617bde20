//! The loop around each client written in Rust. `java/Load.java` and `go/main.go` have the same
//! loop.

use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bytes::Bytes;
use nix::time::ClockId;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinHandle;

use crate::cases::Transactions;
use crate::job::Job;

/// Bytes of different values. After them the values repeat.
const RING: usize = 1 << 20;
/// Records between two readings of the clock, without a rate.
const STRIDE: usize = 256;
/// Different values that each task has, if it is tasks that send.
const OF_A_TASK: usize = 16;
const BURST: Duration = Duration::from_millis(1);
const CALLBACKS: Duration = Duration::from_secs(5);
/// Microseconds of the longest latency that is counted: one second.
const LONGEST: usize = 1_000_000;

/// One record to send. Its bytes belong to the ring. A client that needs them owned clones the
/// `Bytes`.
#[derive(Clone)]
pub struct Entry {
    pub key: Option<Bytes>,
    pub value: Bytes,
}

/// A client under load.
pub trait Client {
    /// Sends a record, and waits if the client has to wait. `due` is passed to [`Results::settled`]
    /// with the record's outcome.
    async fn send(&mut self, entry: &Entry, due: u64);
    /// Sends many records, without a rate: with many calls of `send`, or with the client's own call
    /// for many.
    async fn send_all(&mut self, entries: &[Entry]) {
        for entry in entries {
            self.send(entry, 0).await;
        }
    }
    /// Called before a pause.
    async fn pause(&mut self) {}
    /// Begins a transaction, for a job that has them.
    async fn begin(&mut self) {
        unreachable!("a client without transactions");
    }
    /// Commits it, and reports the outcomes of all of its records.
    async fn commit(&mut self) {
        unreachable!("a client without transactions");
    }
    /// Starts a task that sends a record and awaits its outcome until `results` says that it is over, and
    /// returns how many it has sent. For a job that has tasks.
    fn start_task(&mut self, _entries: Vec<Entry>, _results: &'static Results) -> JoinHandle<u64> {
        unreachable!("a client without tasks");
    }
    /// Returns when every record has its outcome.
    async fn finish(self);
}

/// Counts outcomes. Each client reports them on one thread, so no atomic additions are needed. Each
/// addition would cost up to a fifth of the fastest client's time for a record.
pub struct Results {
    began: Instant,
    /// Latency is counted of each record.
    paced: bool,
    /// The tasks end.
    is_over: AtomicBool,
    /// Nanoseconds since the start. The latency of records that are due in this range is counted, and that
    /// of commits.
    window: std::ops::Range<u64>,
    acked: AtomicU64,
    failed: AtomicU64,
    latencies: Vec<AtomicU32>,
}

impl Results {
    fn new(job: &Job) -> Self {
        let window = job.warm_up * 1_000_000..(job.warm_up + job.window) * 1_000_000;
        let paced = job.rate > 0 || job.tasks > 0;
        let counted = paced || job.transactions.is_some();
        let latencies = if counted { LONGEST } else { 0 };
        Self {
            began: Instant::now(),
            paced,
            is_over: AtomicBool::new(false),
            window,
            acked: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            latencies: (0..latencies).map(|_| AtomicU32::new(0)).collect(),
        }
    }

    /// Whether the tasks end.
    pub fn is_over(&self) -> bool {
        self.is_over.load(Relaxed)
    }

    /// Nanoseconds since the start.
    pub fn now(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    /// Counts the outcome of one record.
    pub fn settled(&self, acked: bool, due: u64) {
        let count = if acked { &self.acked } else { &self.failed };
        count.store(count.load(Relaxed) + 1, Relaxed);
        if !acked {
            return;
        }
        if self.paced {
            self.took(due);
        }
    }

    /// Counts the latency of a record that was due then, or of a commit that was asked for.
    fn took(&self, since: u64) {
        if self.window.contains(&since) {
            let us = self.now().saturating_sub(since) / 1000;
            self.latencies[(us as usize).min(LONGEST - 1)].fetch_add(1, Relaxed);
        }
    }

    /// How many records have an outcome.
    pub fn count(&self) -> u64 {
        self.acked() + self.failed.load(Relaxed)
    }

    fn acked(&self) -> u64 {
        self.acked.load(Relaxed)
    }

    /// How many records are acked and failed, once all that were sent are settled. Some clients
    /// finish before their last callbacks do, so this waits. After a while it gives up.
    fn all(&self, sent: u64) -> (u64, u64) {
        let begin = Instant::now();
        loop {
            let (acked, failed) = (self.acked(), self.failed.load(Relaxed));
            if self.count() >= sent || begin.elapsed() > CALLBACKS {
                return (acked, failed);
            }
            std::thread::sleep(BURST);
        }
    }

    fn percentile(&self, share: f64) -> usize {
        let counts = || self.latencies.iter().map(|n| u64::from(n.load(Relaxed)));
        let rank = (counts().sum::<u64>() as f64 * share) as u64;
        let mut seen = 0;
        let at = counts().position(|n| {
            seen += n;
            seen > rank
        });
        at.unwrap_or(0)
    }
}

/// Random letters, cut into adjacent values, so that every client reads the same megabyte.
struct Ring {
    entries: Vec<Entry>,
    at: usize,
}

impl Ring {
    fn new(job: &Job) -> Self {
        let mut random = SmallRng::seed_from_u64(0);
        let size = job.key + job.value;
        let letters: Vec<u8> = (0..RING)
            .map(|_| random.random_range(b'A'..=b'Z'))
            .collect();
        let letters = Bytes::from(letters);
        let entries = (0..RING / size).map(|i| {
            let mut value = letters.slice(i * size..(i + 1) * size);
            let key = value.split_to(job.key);
            Entry {
                key: (job.key > 0).then_some(key),
                value,
            }
        });
        Self {
            entries: entries.collect(),
            at: 0,
        }
    }

    /// The next `count` entries, or fewer at the end of the ring.
    fn next(&mut self, count: usize) -> &[Entry] {
        let from = self.at;
        let to = (from + count).min(self.entries.len());
        self.at = if to < self.entries.len() { to } else { 0 };
        &self.entries[from..to]
    }
}

/// Reports to the measuring process. The output is flushed after each line.
fn tell(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .expect("an open standard output");
}

/// Starts a client, puts it under load, and reports the marks. Then it waits until its input ends,
/// so that its memory can be measured.
pub fn run<C: Client>(job: &Job, start: impl AsyncFnOnce(&'static Results) -> C) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let results: &'static Results = Box::leak(Box::new(Results::new(job)));
        let mut client = start(results).await;
        let mut marks = Marks { results, told: 0 };
        let mut ring = Ring::new(job);
        let mut sent = 0;
        if let Some(Transactions { time, records }) = job.transactions {
            // Marks are set between transactions, where all that is acked is committed.
            while marks.go_on() {
                client.begin().await;
                let due = results.now().saturating_add(time.saturating_mul(1_000_000));
                let mut left = records;
                while left > 0 && results.now() < due {
                    let entries = ring.next(left.min(STRIDE as u64) as usize);
                    client.send_all(entries).await;
                    left -= entries.len() as u64;
                }
                let asked = results.now();
                client.commit().await;
                results.took(asked);
                sent += records - left;
            }
        } else if job.tasks > 0 {
            let tasks: Vec<_> = (0..job.tasks)
                .map(|_| client.start_task(ring.next(OF_A_TASK).to_vec(), results))
                .collect();
            while marks.go_on() {
                // This thread is not one of the runtime's workers, on which the tasks are.
                std::thread::sleep(BURST);
            }
            results.is_over.store(true, Relaxed);
            for task in tasks {
                sent += task.await.expect("a task that ends");
            }
        } else if job.rate == 0 {
            while marks.go_on() {
                let entries = ring.next(STRIDE);
                client.send_all(entries).await;
                sent += entries.len() as u64;
            }
        } else {
            let first = results.began.elapsed();
            for burst in 0.. {
                if !marks.go_on() {
                    break;
                }
                let due = first + burst * BURST;
                // The runtime's timer is not precise enough. This thread is not one of the
                // runtime's workers.
                std::thread::sleep(due.saturating_sub(results.began.elapsed()));
                for _ in 0..job.rate / 1000 {
                    for entry in ring.next(1) {
                        client.send(entry, due.as_nanos() as u64).await;
                        sent += 1;
                    }
                }
                client.pause().await;
            }
        }
        client.finish().await;
        let (acked, failed) = results.all(sent);
        tell(&format!("end {sent} {acked} {failed}"));
        if !results.latencies.is_empty() {
            let [p50, p99] = [0.50, 0.99].map(|share| results.percentile(share));
            tell(&format!("latency {p50} {p99}"));
        }
    });
    tell("bye");
    let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
}

/// Reports `warm` and `done`, each with the number of acked records, the time, and the processor
/// time of the process, in nanoseconds.
struct Marks {
    results: &'static Results,
    told: usize,
}

impl Marks {
    fn go_on(&mut self) -> bool {
        let now = self.results.now();
        let (name, at) = match self.told {
            0 => ("warm", self.results.window.start),
            _ => ("done", self.results.window.end),
        };
        if now >= at {
            let cpu = ClockId::CLOCK_PROCESS_CPUTIME_ID.now().expect("a clock");
            let cpu = cpu.tv_sec() * 1_000_000_000 + cpu.tv_nsec();
            tell(&format!("{name} {} {now} {cpu}", self.results.acked()));
            self.told += 1;
        }
        self.told < 2
    }
}
