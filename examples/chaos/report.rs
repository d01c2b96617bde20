//! Prints the progress during the run, and the report at the end.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::books::{Books, Timing};
use crate::doubts::Doubts;
use crate::faults::say;
use crate::kafka::Proxies;
use crate::kinds::{Kind, Sending, Tally};
use crate::transactions::Transactions;
use crate::verdicts::Verdicts;

/// The resident memory of this process, and the part that the books take, in KiB: at the start of the
/// faults, at each minute, and at the end.
pub struct Memory(Mutex<Vec<(u64, u64)>>);

impl Memory {
    pub fn begin() -> Self {
        let memory = Self(Mutex::default());
        memory.look(0);
        memory
    }

    pub fn look(&self, books: usize) {
        self.lock().push((resident(), books as u64 / 1024));
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(u64, u64)>> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MIB: f64 = 1024.0;
        let all = self.lock();
        for (resident, _) in all.iter() {
            write!(f, "{:.1} ", *resident as f64 / MIB)?;
        }
        let books = all.last().map_or(0, |(_, books)| *books) as f64 / MIB;
        write!(f, "MiB, {books:.1} of the last for the books")?;
        if all.len() < 12 {
            return Ok(());
        }
        // Without the first quarter, in which memory still grows to what is needed.
        let (early, late) = all[all.len() / 4..].split_at(all.len() * 3 / 8);
        let mean = |part: &[(u64, u64)]| {
            let others = part
                .iter()
                .map(|(resident, books)| resident - books.min(resident));
            others.sum::<u64>() as f64 / part.len() as f64 / MIB
        };
        let (early, late) = (mean(early), mean(late));
        let verdict = match late <= early * 1.05 + 1.0 {
            true => "flat",
            false => "not flat",
        };
        write!(
            f,
            "\n             without them {early:.1} MiB early and {late:.1} late: {verdict}"
        )
    }
}

/// The resident memory in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.unwrap_or_default()
}

/// Prints the progress every few seconds, until `stop`.
pub fn tell_progress(
    begin: Instant,
    (books, transactions): (&Books, Option<&Transactions>),
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
            memory.look(books.memory() + transactions.map_or(0, Transactions::memory));
        }
        if now >= next_line {
            next_line += BETWEEN;
            let counts = Counts::of(books);
            let (deaths, mib) = (proxies.deaths(), resident() / 1024);
            say(
                begin,
                format_args!("{counts}; {deaths} connection deaths, {mib} MiB"),
            );
            if let Some(transactions) = transactions {
                say(begin, transactions);
            }
        }
    }
}

struct Counts {
    accepted: u64,
    acked: u64,
    not_written: u64,
    aborted: u64,
    unknown: u64,
    refused: u64,
}

impl Counts {
    fn of(books: &Books) -> Self {
        Self {
            accepted: books.accepted.load(Relaxed),
            acked: books.acked.load(Relaxed),
            not_written: books.not_written.load(Relaxed),
            aborted: books.aborted.load(Relaxed),
            unknown: books.unknown.load(Relaxed),
            refused: books.refused.load(Relaxed),
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} accepted: {} acked, {} not written, {} aborted, {} unknown; {} refused",
            self.accepted, self.acked, self.not_written, self.aborted, self.unknown, self.refused
        )
    }
}

pub struct OfTransactions<'a> {
    pub transactions: &'a Transactions,
    /// What Kafka's tool said about those that hang.
    pub found: String,
}

pub struct Report<'a> {
    pub seed: u64,
    /// The time from the first record until the cluster was complete again.
    pub took: Duration,
    pub books: &'a Books,
    pub transactions: Option<OfTransactions<'a>>,
    pub timing: Timing,
    pub doubts: &'a Doubts,
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
        if let Some(OfTransactions {
            transactions,
            found,
        }) = &self.transactions
        {
            writeln!(f, "transactions {transactions}")?;
            writeln!(f, "find-hanging\n{}", found.trim_end())?;
        }
        let reading = self.reading;
        let (read, unknown) = (self.read, self.unknown_there);
        writeln!(
            f,
            "read back    {read} in {reading:.1?}, {unknown} of the unknown among them"
        )?;
        let [reasons, unknown] = self.books.reasons();
        for (why, count) in reasons.iter().take(8).chain(&unknown) {
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
        writeln!(f, "in doubt     {}", self.doubts)?;
        writeln!(f, "memory       {}", self.memory)?;
        let verdict = if self.verdicts.hold() {
            "all hold"
        } else {
            "VIOLATED"
        };
        writeln!(f, "verdicts     {verdict}")?;
        let sending = match self.transactions {
            Some(_) => Sending::Transactions,
            None => Sending::Records,
        };
        let mut all = self.verdicts.of(sending).into_iter();
        all.try_for_each(|(name, found)| writeln!(f, "  {name:<11} {found}"))
    }
}
