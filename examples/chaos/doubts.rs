//! How long batches were in doubt until the log told of them, as the producers' metric `doubt-time` says.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use metrics::{
    Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};

/// The times of all batches, in milliseconds.
#[derive(Clone, Default)]
pub struct Doubts(Arc<Mutex<Vec<f64>>>);

impl Doubts {
    /// Keeps them from now on: for producers that start later.
    pub fn install() -> Result<Self, Box<dyn std::error::Error>> {
        let doubts = Self::default();
        metrics::set_global_recorder(doubts.clone())?;
        Ok(doubts)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<f64>> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl HistogramFn for Doubts {
    fn record(&self, millis: f64) {
        self.lock().push(millis);
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

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        match key.name() {
            "doubt-time" => Histogram::from_arc(Arc::new(self.clone())),
            _ => Histogram::noop(),
        }
    }
}

impl fmt::Display for Doubts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut millis = self.lock().clone();
        millis.sort_by(f64::total_cmp);
        let Some(longest) = millis.last() else {
            return f.write_str("none that the log told of");
        };
        let part = |part: f64| millis[(millis.len() as f64 * part) as usize];
        let [p50, p99, longest] =
            [part(0.5), part(0.99), *longest].map(|it| Duration::from_secs_f64(it / 1e3));
        let count = millis.len();
        write!(
            f,
            "{count} batches, p50 {p50:.1?}, p99 {p99:.1?}, longest {longest:.1?}"
        )
    }
}
