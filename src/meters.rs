//! Metrics of the producer through the `metrics` facade, under the names of Java's metrics.
//!
//! The handles are created once. A batch then costs a few atomic additions, and a record nothing.
//! The application has to install its recorder before the producer starts.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram};

use crate::core::ack::Settlement;
use crate::core::batch::{SealedBatch, Settled};
use crate::core::endpoint::Endpoint;
use crate::core::figures::LookupFigures;
use crate::core::ledger::Lent;
use crate::core::memory::MemoryObserver;
use crate::core::outcome::{Reason, Unconfirmed};

/// The metrics of one topic: `producer-topic-metrics`, and those of `producer-metrics` that count
/// batches.
pub(crate) struct TopicMeters {
    records: Counter,
    bytes: Counter,
    errors: Counter,
    /// Records with `acks=0`: whether they were written is not known.
    unconfirmed: Counter,
    /// Records that the next producer on the spool's directory delivers.
    kept: Counter,
    retries: Counter,
    batch_size: Histogram,
    records_per_batch: Histogram,
    /// From doubt to truth.
    doubt_time: Histogram,
}

impl TopicMeters {
    pub fn new(client_id: &Arc<str>, topic: &Arc<str>) -> Self {
        let labels = [
            ("client-id", Arc::clone(client_id)),
            ("topic", Arc::clone(topic)),
        ];
        let labels = labels.map(|(name, value)| metrics::Label::new(name, value.to_string()));
        let labels = labels.to_vec();
        Self {
            records: metrics::counter!("record-send-total", labels.clone()),
            bytes: metrics::counter!("byte-total", labels.clone()),
            errors: metrics::counter!("record-error-total", labels.clone()),
            unconfirmed: metrics::counter!("record-unconfirmed-total", labels.clone()),
            kept: metrics::counter!("record-kept-total", labels.clone()),
            retries: metrics::counter!("record-retry-total", labels.clone()),
            batch_size: metrics::histogram!("batch-size", labels.clone()),
            records_per_batch: metrics::histogram!("records-per-batch", labels.clone()),
            doubt_time: metrics::histogram!("doubt-time", labels),
        }
    }

    pub fn sealed(&self, batch: &SealedBatch) {
        self.batch_size.record(batch.uncompressed_len() as f64);
        self.records_per_batch.record(f64::from(batch.count()));
    }

    pub fn taken(&self, lent: &Lent) {
        self.bytes.increment(lent.records.len() as u64);
        if lent.again {
            self.retries.increment(u64::from(lent.count.unsigned_abs()));
        }
    }

    /// The log tells whether a batch is there that was in doubt for so long.
    pub fn resolved(&self, doubted: Duration) {
        self.doubt_time.record(doubted.as_secs_f64() * 1e3);
    }

    pub fn settled(&self, settled: &Settled) {
        let count = u64::from(settled.count.unsigned_abs());
        match &settled.settlement {
            Settlement::Acked { .. } => self.records.increment(count),
            Settlement::Failed(Unconfirmed::Unknown(Reason::NotRequested)) => {
                self.unconfirmed.increment(count);
            }
            Settlement::Failed(Unconfirmed::Kept(_)) => self.kept.increment(count),
            _ => self.errors.increment(count),
        }
    }
}

/// The metrics of one broker: `producer-node-metrics`.
pub(crate) struct NodeMeters {
    requests: Counter,
    batches: Counter,
    latency: Histogram,
    throttle: Histogram,
    in_flight: Gauge,
    /// What this sender has added to the gauge, which producers of one `client.id` share.
    counted: Cell<usize>,
}

impl NodeMeters {
    pub fn new(client_id: &Arc<str>, node: i32) -> Self {
        let labels = vec![
            metrics::Label::new("client-id", client_id.to_string()),
            metrics::Label::new("node-id", node.to_string()),
        ];
        Self {
            requests: metrics::counter!("request-total", labels.clone()),
            batches: metrics::counter!("batch-total", labels.clone()),
            latency: metrics::histogram!("request-latency", labels.clone()),
            throttle: metrics::histogram!("produce-throttle-time", labels.clone()),
            in_flight: metrics::gauge!("requests-in-flight", labels),
            counted: Cell::new(0),
        }
    }

    pub fn sent(&self, batches: usize) {
        self.requests.increment(1);
        self.batches.increment(batches as u64);
    }

    /// Counts a response. The durations are recorded in milliseconds, as in Java.
    pub fn answered(&self, latency: Duration, throttle: Duration) {
        self.latency.record(latency.as_secs_f64() * 1e3);
        self.throttle.record(throttle.as_secs_f64() * 1e3);
    }

    /// Requests without a response, as of now.
    pub fn in_flight(&self, requests: usize) {
        let counted = self.counted.replace(requests);
        self.in_flight.increment(requests as f64 - counted as f64);
    }
}

impl Drop for NodeMeters {
    /// Requests of a sender that is gone are in flight no more.
    fn drop(&mut self) {
        self.in_flight(0);
    }
}

/// What was looked up in logs.
pub(crate) struct LookupMeters {
    bytes: Counter,
    found: Counter,
    absent: Counter,
    unknown: Counter,
}

impl LookupMeters {
    pub fn new(client_id: &Arc<str>) -> Self {
        let labels = vec![metrics::Label::new("client-id", client_id.to_string())];
        Self {
            bytes: metrics::counter!("lookup-byte-total", labels.clone()),
            found: metrics::counter!("lookup-found-total", labels.clone()),
            absent: metrics::counter!("lookup-absent-total", labels.clone()),
            unknown: metrics::counter!("lookup-unknown-total", labels),
        }
    }

    /// Counts what has come between two snapshots.
    pub fn told(&self, before: &LookupFigures, after: &LookupFigures) {
        self.bytes.increment(after.bytes - before.bytes);
        self.found.increment(after.found - before.found);
        self.absent.increment(after.absent - before.absent);
        self.unknown.increment(after.unknown - before.unknown);
    }
}

/// The metrics of the spool.
pub(crate) struct SpoolMeters {
    bytes: Gauge,
    /// What this spool has added to the gauge, which producers of one `client.id` share.
    counted: Cell<u64>,
    resumed: Counter,
    lost: Counter,
    rejected: Counter,
    sync_time: Histogram,
}

impl SpoolMeters {
    pub fn new(client_id: &Arc<str>) -> Self {
        let labels = vec![metrics::Label::new("client-id", client_id.to_string())];
        Self {
            bytes: metrics::gauge!("spool-bytes", labels.clone()),
            counted: Cell::new(0),
            resumed: metrics::counter!("spool-resumed-total", labels.clone()),
            lost: metrics::counter!("spool-lost-total", labels.clone()),
            rejected: metrics::counter!("spool-rejected-total", labels.clone()),
            sync_time: metrics::histogram!("spool-sync-time", labels),
        }
    }

    /// Bytes of segments, as of now.
    pub fn bytes(&self, bytes: u64) {
        let counted = self.counted.replace(bytes);
        self.bytes.increment(bytes as f64 - counted as f64);
    }

    pub fn resumed(&self, records: u64) {
        self.resumed.increment(records);
    }

    pub fn lost(&self, records: u64) {
        self.lost.increment(records);
    }

    pub fn rejected(&self, records: u64) {
        self.rejected.increment(records);
    }

    pub fn synced(&self, time: Duration) {
        self.sync_time.record(time.as_secs_f64() * 1e3);
    }
}

impl Drop for SpoolMeters {
    fn drop(&mut self) {
        self.bytes(0);
    }
}

/// When a certificate expires, in milliseconds since 1970; 0 once it is out of use. `None`: this client's.
pub(crate) fn certificate_expiry(
    client_id: &Arc<str>,
    broker: Option<&Endpoint>,
    not_after: Duration,
) {
    let client_id = metrics::Label::new("client-id", client_id.to_string());
    let gauge = match broker {
        Some(broker) => {
            let broker = metrics::Label::new("broker", broker.to_string());
            metrics::gauge!("broker-certificate-expiry-time-ms", vec![client_id, broker])
        }
        None => metrics::gauge!("client-certificate-expiry-time-ms", vec![client_id]),
    };
    gauge.set(not_after.as_millis() as f64);
}

/// The metrics of the memory pool. Producers of one `client.id` share them, so each adds its part.
/// That is done as it happens, since in steady state no actor hears of it.
pub(crate) struct PoolMeters {
    bytes: usize,
    total: Gauge,
    available: Gauge,
    waiting: Gauge,
    waited: Counter,
    exhausted: Counter,
}

impl PoolMeters {
    pub fn new(client_id: &Arc<str>, bytes: usize) -> Self {
        let labels = vec![metrics::Label::new("client-id", client_id.to_string())];
        let meters = Self {
            bytes,
            total: metrics::gauge!("buffer-total-bytes", labels.clone()),
            available: metrics::gauge!("buffer-available-bytes", labels.clone()),
            waiting: metrics::gauge!("waiting-threads", labels.clone()),
            waited: metrics::counter!("bufferpool-wait-time-ns-total", labels.clone()),
            exhausted: metrics::counter!("buffer-exhausted-total", labels),
        };
        meters.total.increment(bytes as f64);
        meters.available.increment(bytes as f64);
        meters.waiting.increment(0.0);
        meters
    }

    /// The pool is no more. What is still used goes on being counted until it is free.
    pub fn ended(&self) {
        self.total.decrement(self.bytes as f64);
        self.available.decrement(self.bytes as f64);
    }

    pub fn waited(&self, time: Duration, in_vain: bool) {
        self.waited
            .increment(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        self.exhausted.increment(u64::from(in_vain));
    }
}

impl MemoryObserver for PoolMeters {
    fn used(&self, bytes: isize) {
        self.available.decrement(bytes as f64);
    }

    fn waiting(&self, callers: isize) {
        self.waiting.increment(callers as f64);
    }
}
