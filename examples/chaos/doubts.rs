//! How long batches were in doubt until the log told of them, as the producers' metric `doubt-time` says.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use hdrhistogram::Histogram;
use metrics::{Counter, Gauge, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit};

/// The times of all batches, in microseconds.
#[derive(Clone)]
pub struct Doubts(Arc<Mutex<Histogram<u64>>>);

impl Doubts {
    /// Keeps them from now on: for producers that start later.
    pub fn install() -> Result<Self, Box<dyn std::error::Error>> {
        let times = Histogram::new_with_bounds(1, 3_600_000_000, 2)?;
        let doubts = Self(Arc::new(Mutex::new(times)));
        metrics::set_global_recorder(doubts.clone())?;
        Ok(doubts)
    }

    fn lock(&self) -> MutexGuard<'_, Histogram<u64>> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl HistogramFn for Doubts {
    fn record(&self, millis: f64) {
        self.lock().saturating_record((millis * 1e3) as u64);
    }
}

impl Recorder for Doubts {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::noop()
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> metrics::Histogram {
        match key.name() {
            "doubt-time" => metrics::Histogram::from_arc(Arc::new(self.clone())),
            _ => metrics::Histogram::noop(),
        }
    }
}

impl fmt::Display for Doubts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let times = self.lock();
        if times.is_empty() {
            return f.write_str("none that the log told of");
        }
        let [p50, p99, longest] = [0.5, 0.99, 1.0].map(|part| {
            let micros = times.value_at_quantile(part);
            Duration::from_micros(micros)
        });
        let count = times.len();
        write!(
            f,
            "{count} batches, p50 {p50:.1?}, p99 {p99:.1?}, longest {longest:.1?}"
        )
    }
}
