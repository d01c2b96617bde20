//! The streams of a run, and the counts over all of them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use forebay::{Outcome, Receipt, Unconfirmed};
use hdrhistogram::Histogram;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::stream::{Settled, Stream};

pub struct Books {
    streams: Mutex<Vec<Arc<Stream>>>,
    pub accepted: AtomicU64,
    pub acked: AtomicU64,
    pub not_written: AtomicU64,
    pub aborted: AtomicU64,
    pub unknown: AtomicU64,
    pub refused: AtomicU64,
    inner: Mutex<Inner>,
}

struct Inner {
    /// From the call of `send` to the ack, in microseconds.
    latency: Histogram<u64>,
    last_ack: Instant,
    longest_gap: Duration,
    longest_outcome: Duration,
    /// How often each reason made a record not acked.
    reasons: BTreeMap<String, u64>,
    /// The same of records that are unknown. Each has to have its reason, however seldom it is.
    unknown: BTreeMap<String, u64>,
}

/// Timing of the load's acks. The producers that are started and ended during the run do not count.
pub struct Timing {
    pub p50: Duration,
    pub p99: Duration,
    pub p999: Duration,
    pub longest_gap: Duration,
    /// The longest time from a record's acceptance to its outcome.
    pub longest_outcome: Duration,
}

/// A record that was passed to `send`.
pub enum Sent<R = Receipt> {
    Accepted {
        /// Tells its outcome.
        receipt: R,
        /// When `send` was called, and when it returned.
        called: Instant,
        accepted: Instant,
    },
    Refused(String),
}

impl Books {
    pub fn new() -> Self {
        Self {
            streams: Mutex::default(),
            accepted: AtomicU64::new(0),
            acked: AtomicU64::new(0),
            not_written: AtomicU64::new(0),
            aborted: AtomicU64::new(0),
            unknown: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            inner: Mutex::new(Inner {
                latency: Histogram::new_with_bounds(1, 3_600_000_000, 2).expect("its bounds"),
                last_ack: Instant::now(),
                longest_gap: Duration::ZERO,
                longest_outcome: Duration::ZERO,
                reasons: BTreeMap::new(),
                unknown: BTreeMap::new(),
            }),
        }
    }

    /// Opens a new stream to a partition.
    pub fn open(&self, topic: &str, partition: i32) -> Arc<Stream> {
        self.add(|id| Stream::new(id, (topic, partition)))
    }

    /// Opens a stream whose records have old timestamps.
    pub fn open_backfill(&self, topic: &str, partition: i32) -> Arc<Stream> {
        self.add(|id| {
            let mut stream = Stream::new(id, (topic, partition));
            stream.backfills = true;
            stream
        })
    }

    /// Opens a stream whose records all lie behind those of another one.
    pub fn open_behind(&self, behind: Option<u32>, (topic, partition): (&str, i32)) -> Arc<Stream> {
        self.add(|id| {
            let mut stream = Stream::new(id, (topic, partition));
            stream.behind = behind;
            stream
        })
    }

    fn add(&self, stream: impl FnOnce(u32) -> Stream) -> Arc<Stream> {
        let mut streams = lock(&self.streams);
        let stream = Arc::new(stream(streams.len() as u32));
        streams.push(Arc::clone(&stream));
        stream
    }

    /// All streams, in the order of their ids.
    pub fn streams(&self) -> Vec<Arc<Stream>> {
        lock(&self.streams).clone()
    }

    /// Bytes that the streams and the fates of their records take.
    pub fn memory(&self) -> usize {
        let streams = lock(&self.streams);
        let of_each = streams.iter().map(|it| size_of::<Stream>() + it.memory());
        of_each.sum()
    }

    /// Notes the outcomes of a stream's records, in their order, to the end of the stream.
    pub async fn follow<R: Future<Output = Outcome>>(
        &self,
        stream: &Stream,
        mut sent: UnboundedReceiver<Sent<R>>,
        of_the_load: bool,
    ) {
        while let Some(sent) = sent.recv().await {
            match sent {
                Sent::Accepted {
                    receipt,
                    called,
                    accepted,
                } => {
                    let outcome = receipt.await;
                    self.settle(stream, &outcome, of_the_load.then_some((called, accepted)));
                }
                Sent::Refused(why) => {
                    self.refused.fetch_add(1, Relaxed);
                    self.note(format!("refused: {why}"));
                    stream.settle(Settled::Refused);
                }
            }
        }
    }

    fn settle(&self, stream: &Stream, outcome: &Outcome, sent: Option<(Instant, Instant)>) {
        let (count, settled) = match outcome {
            Ok(acked) => (&self.acked, Settled::Acked(acked.offset)),
            Err(Unconfirmed::NotWritten(_)) => (&self.not_written, Settled::NotWritten),
            Err(Unconfirmed::Aborted(_)) => (&self.aborted, Settled::Aborted),
            Err(_) => (&self.unknown, Settled::Unknown),
        };
        count.fetch_add(1, Relaxed);
        stream.settle(settled);
        let mut inner = lock(&self.inner);
        match outcome {
            Ok(_) => {}
            Err(why @ Unconfirmed::Unknown(_)) => {
                *inner.unknown.entry(why.to_string()).or_default() += 1;
            }
            Err(why) => inner.count(why.to_string()),
        }
        let Some((called, accepted)) = sent else {
            return;
        };
        let now = Instant::now();
        let open = now.duration_since(accepted);
        inner.longest_outcome = inner.longest_outcome.max(open);
        if outcome.is_ok() {
            let took = now.duration_since(called);
            inner.latency.saturating_record(took.as_micros() as u64);
            let gap = now.duration_since(inner.last_ack);
            inner.longest_gap = inner.longest_gap.max(gap);
            inner.last_ack = now;
        }
    }

    /// Starts to measure the gaps between acks.
    pub fn begin(&self) {
        let mut inner = lock(&self.inner);
        inner.last_ack = Instant::now();
        inner.longest_gap = Duration::ZERO;
    }

    pub fn timing(&self) -> Timing {
        let inner = lock(&self.inner);
        let at = |part| Duration::from_micros(inner.latency.value_at_quantile(part));
        Timing {
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
            longest_gap: inner.longest_gap,
            longest_outcome: inner.longest_outcome,
        }
    }

    /// Counts a reason why something could not be done.
    pub fn note(&self, reason: String) {
        lock(&self.inner).count(reason);
    }

    /// The reasons why records were not acked, the most frequent first, and then those why they are unknown.
    pub fn reasons(&self) -> [Vec<(String, u64)>; 2] {
        let inner = lock(&self.inner);
        [&inner.reasons, &inner.unknown].map(|reasons| {
            let mut reasons: Vec<_> = reasons.clone().into_iter().collect();
            reasons.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
            reasons
        })
    }
}

impl Inner {
    fn count(&mut self, reason: String) {
        const MOST: usize = 200;
        if self.reasons.len() < MOST || self.reasons.contains_key(&reason) {
            *self.reasons.entry(reason).or_default() += 1;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}
