//! The line while it runs, and the report at the end.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::books::{Books, Timing};
use crate::faults::say;
use crate::kafka::Proxies;
use crate::kinds::{Kind, Tally};
use crate::verdicts::Verdicts;

/// The resident memory of this process, in KiB: at the start of the faults, at each minute, at the
/// end.
pub struct Memory(Mutex<Vec<u64>>);

impl Memory {
    pub fn begin() -> Self {
        Self(Mutex::new(vec![resident()]))
    }

    /// When all is quiet again.
    pub fn end(&self) {
        self.lock().push(resident());
    }

    fn lock(&self) -> MutexGuard<'_, Vec<u64>> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.lock();
        for kib in all.iter() {
            write!(f, "{:.1} ", *kib as f64 / 1024.0)?;
        }
        f.write_str("MiB")?;
        // Without the start, as what is needed first of all comes in the first minutes.
        let (early, late) = all[all.len() / 4..].split_at(all.len() * 3 / 8);
        let mean = |part: &[u64]| part.iter().sum::<u64>() as f64 / part.len() as f64 / 1024.0;
        if all.len() >= 12 {
            let (early, late) = (mean(early), mean(late));
            let verdict = if late <= early * 1.05 + 1.0 {
                "flat"
            } else {
                "not flat"
            };
            write!(f, "; {verdict}: {early:.1} MiB early, {late:.1} MiB late")?;
        }
        Ok(())
    }
}

/// In KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.unwrap_or_default()
}

/// Says every few seconds how far it is, until `stop`.
pub fn tell_progress(
    begin: Instant,
    books: &Books,
    proxies: &Proxies,
    memory: &Memory,
    stop: &AtomicBool,
) {
    const BETWEEN: Duration = Duration::from_secs(10);
    let (mut next_line, mut next_minute) =
        (begin + BETWEEN, Instant::now() + Duration::from_secs(60));
    while !stop.load(Relaxed) {
        std::thread::sleep(Duration::from_millis(50));
        let now = Instant::now();
        if now >= next_minute {
            next_minute += Duration::from_secs(60);
            memory.lock().push(resident());
        }
        if now >= next_line {
            next_line += BETWEEN;
            let counts = Counts::of(books);
            let (deaths, mib) = (proxies.deaths(), resident() / 1024);
            say(
                begin,
                format_args!("{counts}; {deaths} connection deaths, {mib} MiB"),
            );
        }
    }
}

struct Counts {
    accepted: u64,
    acked: u64,
    not_written: u64,
    unknown: u64,
    refused: u64,
}

impl Counts {
    fn of(books: &Books) -> Self {
        Self {
            accepted: books.accepted.load(Relaxed),
            acked: books.acked.load(Relaxed),
            not_written: books.not_written.load(Relaxed),
            unknown: books.unknown.load(Relaxed),
            refused: books.refused.load(Relaxed),
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} accepted: {} acked, {} not written, {} unknown; {} refused",
            self.accepted, self.acked, self.not_written, self.unknown, self.refused
        )
    }
}

pub struct Report<'a> {
    pub seed: u64,
    /// From the first record until the cluster was whole again.
    pub took: Duration,
    pub books: &'a Books,
    pub timing: Timing,
    pub tally: &'a Tally,
    pub recoveries: &'a BTreeMap<Kind, Duration>,
    pub deaths: u64,
    pub memory: &'a Memory,
    pub read: u64,
    pub unknown_there: u64,
    pub reading: Duration,
    pub verdicts: &'a Verdicts,
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = Counts::of(self.books);
        let rate = counts.acked as f64 / self.took.as_secs_f64();
        writeln!(f, "seed {}, {:.1?}", self.seed, self.took)?;
        writeln!(f, "records      {counts} ({rate:.0} acked/s)")?;
        let reading = self.reading;
        let (read, unknown) = (self.read, self.unknown_there);
        writeln!(
            f,
            "read back    {read} in {reading:.1?}, {unknown} of the unknown among them"
        )?;
        for (why, count) in self.books.reasons().iter().take(8) {
            writeln!(f, "  {count:>9}  {why}")?;
        }
        writeln!(f, "faults")?;
        for (kind, count) in self.tally.counts() {
            write!(f, "  {kind:<11} {count}")?;
            match self.recoveries.get(&kind) {
                Some(longest) => writeln!(f, ", all delivered again within {longest:.1?}")?,
                None => writeln!(f)?,
            }
        }
        writeln!(f, "deaths       {} connections", self.deaths)?;
        let t = &self.timing;
        let (p50, p99, p999) = (t.p50, t.p99, t.p999);
        writeln!(
            f,
            "ack latency  p50 {p50:.1?}, p99 {p99:.1?}, p99.9 {p999:.1?}"
        )?;
        writeln!(f, "longest      {:.1?} without an ack", t.longest_gap)?;
        writeln!(
            f,
            "             {:.1?} from acceptance to outcome",
            t.longest_outcome
        )?;
        writeln!(f, "memory       {}", self.memory)?;
        let verdict = if self.verdicts.hold() {
            "all hold"
        } else {
            "VIOLATED"
        };
        write!(f, "verdicts     {verdict}\n{}", self.verdicts)
    }
}
