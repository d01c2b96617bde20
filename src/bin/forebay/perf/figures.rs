//! What `forebay perf` counts, and the lines that it prints.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use forebay::{Outcome, Reason, Unconfirmed};
use hdrhistogram::Histogram;

use crate::Failure;
use crate::follow::{Observer, Receipt, Sent};
use crate::tally::Tally;
use crate::text::{MB, per_second};

pub fn print(line: &str) {
    // A closed standard output is no error.
    let _ = writeln!(io::stdout(), "{line}");
}

/// Sums over a period.
#[derive(Default)]
pub struct Sums {
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

pub fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

pub struct Stats {
    total: Sums,
    window: Sums,
    window_start: Instant,
    interval: Duration,
    /// In microseconds.
    latencies: Histogram<u64>,
    pub tally: Tally,
}

impl Stats {
    pub fn new(interval: Duration) -> Result<Self, Failure> {
        Ok(Self {
            total: Sums::default(),
            window: Sums::default(),
            window_start: Instant::now(),
            interval,
            latencies: histogram()?,
            tally: Tally::default(),
        })
    }

    /// The last line, as Kafka's tool writes it.
    pub fn line(&self, time: Duration) -> String {
        self.total.line(time, &self.latencies)
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

impl<R: Receipt> Observer<usize, R> for Stats {
    fn settled(&mut self, sent: &Sent<usize, R>, outcome: Outcome, now: Instant) {
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
}
