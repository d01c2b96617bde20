//! Writes the medians as Markdown, and all runs as CSV.

use std::fmt::Write;
use std::process::Command;

use crate::cases::Case;
use crate::clients::{Peer, Program};
use crate::measure::{BROKER_CORE, CLIENT_CORE, Figures};

/// A client that is measured.
pub struct Entrant {
    pub peer: &'static Peer,
    pub program: Program,
    pub version: String,
}

pub struct Report<'a> {
    pub entrants: &'a [Entrant],
    pub cases: &'a [&'a Case],
    command: &'a str,
    /// The runs by case and client.
    runs: Vec<Vec<Vec<Figures>>>,
}

/// If the broker used more than this share of its core, it may have been the limit.
const BUSY: f64 = 0.9;

impl<'a> Report<'a> {
    pub fn new(entrants: &'a [Entrant], cases: &'a [&'a Case], command: &'a str) -> Self {
        let runs = vec![vec![Vec::new(); entrants.len()]; cases.len()];
        Self {
            entrants,
            cases,
            command,
            runs,
        }
    }

    pub fn add(&mut self, case: usize, entrant: usize, figures: Figures) {
        self.runs[case][entrant].push(figures);
    }

    /// The median of one figure over all runs.
    pub fn median(
        &self,
        case: usize,
        entrant: usize,
        figure: impl Fn(&Figures) -> Option<f64>,
    ) -> Option<f64> {
        let mut values: Vec<_> = self.runs[case][entrant].iter().filter_map(figure).collect();
        values.sort_by(f64::total_cmp);
        let (low, high) = (values.len().checked_sub(1)? / 2, values.len() / 2);
        Some((values[low] + values[high]) / 2.0)
    }

    pub fn markdown(&self) -> String {
        let mut text = format!("{}\n\n", self.circumstances());
        let flat = |case: &Case| case.rate == 0 && case.transactions.is_none() && case.tasks == 0;
        let awaited = |case: &Case| case.tasks > 0;
        let committed = |case: &Case| case.transactions.is_some();
        let paced = |case: &Case| case.rate > 0;
        if self.cases.iter().any(|case| flat(case)) {
            text += "As many records as there can be. CPU time of the client's process (user and \
                     system, threads, JIT and collectors included) per acked record, µs:\n\n";
            self.table(
                &mut text,
                flat,
                true,
                |it| Some(it.cpu),
                |n| format!("{n:.2}"),
            );
            text += "\nAcked records a second, in millions, of one core; in brackets where the \
                     broker used more than nine tenths of its own:\n\n";
            let rate = |it: &Figures| Some(it.rate / 1e6);
            self.table(&mut text, flat, false, rate, |n| format!("{n:.2}"));
            text += "\nMost memory resident, MB:\n\n";
            self.table(
                &mut text,
                flat,
                true,
                |it| Some(it.peak),
                |n| format!("{n:.0}"),
            );
        }
        if self.cases.iter().any(|case| paced(case)) {
            text += "\nAt a fixed rate, 12 partitions, 100 B, in bursts of a millisecond whether \
                     or not earlier ones are acked. µs from when a record was due to its ack, \
                     median:\n\n";
            let percentile = |at: usize| move |it: &Figures| it.latency.map(|latency| latency[at]);
            let whole = |n| format!("{n:.0}");
            self.table(&mut text, paced, true, percentile(0), whole);
            text += "\n99th percentile:\n\n";
            self.table(&mut text, paced, true, percentile(1), whole);
            text += "\nCPU time per acked record, µs:\n\n";
            self.table(
                &mut text,
                paced,
                true,
                |it| Some(it.cpu),
                |n| format!("{n:.2}"),
            );
        }
        if self.cases.iter().any(|case| awaited(case)) {
            text += "\nSo many tasks each send a record and await its outcome, over and over. Acked \
                     records a second, in thousands:\n\n";
            let rate = |it: &Figures| Some(it.rate / 1e3);
            self.table(&mut text, awaited, false, rate, |n| format!("{n:.0}"));
            let percentile = |at: usize| move |it: &Figures| it.latency.map(|latency| latency[at]);
            let whole = |n| format!("{n:.0}");
            text += "\nµs from the call to the outcome, median:\n\n";
            self.table(&mut text, awaited, true, percentile(0), whole);
            text += "\n99th percentile:\n\n";
            self.table(&mut text, awaited, true, percentile(1), whole);
            text += "\nCPU time per acked record, µs:\n\n";
            let cpu = |it: &Figures| Some(it.cpu);
            self.table(&mut text, awaited, true, cpu, |n| format!("{n:.2}"));
        }
        if self.cases.iter().any(|case| committed(case)) {
            text += "\nIn transactions, as many records as there can be. CPU time per committed record, \
                     µs:\n\n";
            let cpu = |it: &Figures| Some(it.cpu);
            self.table(&mut text, committed, true, cpu, |n| format!("{n:.2}"));
            text += "\nCommitted records a second, in millions:\n\n";
            let rate = |it: &Figures| Some(it.rate / 1e6);
            self.table(&mut text, committed, false, rate, |n| format!("{n:.3}"));
            let percentile = |at: usize| move |it: &Figures| it.latency.map(|latency| latency[at]);
            let millis = |n| format!("{:.1}", n / 1000.0);
            text += "\nms from when a commit was asked for to its answer, what had to be sent first included, \
                     median:\n\n";
            self.table(&mut text, committed, true, percentile(0), millis);
            text += "\n99th percentile:\n\n";
            self.table(&mut text, committed, true, percentile(1), millis);
        }
        text
    }

    fn table(
        &self,
        text: &mut String,
        wanted: impl Fn(&Case) -> bool,
        bold_least: bool,
        figure: impl Fn(&Figures) -> Option<f64>,
        format: impl Fn(f64) -> String,
    ) {
        text.push_str("| |");
        for entrant in self.entrants {
            let _ = write!(text, " {} |", entrant.peer.title);
        }
        let _ = writeln!(text, "\n|---|{}", "---|".repeat(self.entrants.len()));
        for (row, case) in self
            .cases
            .iter()
            .enumerate()
            .filter(|(_, case)| wanted(case))
        {
            let medians: Vec<_> = (0..self.entrants.len())
                .map(|column| self.median(row, column, &figure))
                .collect();
            let least = medians.iter().flatten().copied().min_by(f64::total_cmp);
            let _ = write!(text, "| {} |", case.title);
            for (column, median) in medians.iter().enumerate() {
                let busy = self.median(row, column, |it| it.broker) > Some(BUSY);
                let cell = match median {
                    None => "void".into(),
                    Some(n) if bold_least && *median == least => format!("**{}**", format(*n)),
                    Some(n) if !bold_least && busy => format!("({})", format(*n)),
                    Some(n) => format(*n),
                };
                let _ = write!(text, " {cell} |");
            }
            text.push('\n');
        }
    }

    /// The machine, the versions, and the command.
    fn circumstances(&self) -> String {
        let versions: Vec<_> = self
            .entrants
            .iter()
            .map(|it| format!("{} {}", it.peer.title, it.version))
            .collect();
        format!(
            "{}; the client on core {CLIENT_CORE}, the broker on core {BROKER_CORE}; commit {}.\n\n\
             {}.\n\n\
             acks=all, idempotent, 5 in flight, linger 5 ms, 64 MiB of buffer; every result \
             consumed, every run void unless all of its records are acked; medians of {} runs. \
             Made with `cargo run --release --manifest-path benches/peers/Cargo.toml -- {}`.",
            machine(),
            said("git", &["describe", "--always", "--dirty"]),
            versions.join(", "),
            self.runs.iter().flatten().map(Vec::len).max().unwrap_or(0),
            self.command,
        )
    }

    pub fn csv(&self) -> String {
        let mut text = String::from(
            "case,client,version,cpu_us_per_record,records_per_second,peak_mb,broker_share,\
             p50_us,p99_us\n",
        );
        let or_empty = |n: Option<f64>| n.map_or(String::new(), |n| format!("{n:.2}"));
        for (row, case) in self.cases.iter().enumerate() {
            for (column, entrant) in self.entrants.iter().enumerate() {
                for it in &self.runs[row][column] {
                    let _ = writeln!(
                        text,
                        "{},{},{},{:.4},{:.0},{:.1},{},{},{}",
                        case.name,
                        entrant.peer.name,
                        entrant.version,
                        it.cpu,
                        it.rate,
                        it.peak,
                        or_empty(it.broker),
                        or_empty(it.latency.map(|latency| latency[0])),
                        or_empty(it.latency.map(|latency| latency[1])),
                    );
                }
            }
        }
        text
    }
}

fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = info.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let cores = info
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    let model = field("model name").unwrap_or_else(|| "an unknown processor".into());
    format!("{cores} cores of {model}, Linux {}", said("uname", &["-r"]))
}

fn said(program: &str, args: &[&str]) -> String {
    let out = Command::new(program).args(args).output();
    let text = out.map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned());
    text.ok()
        .filter(|text| !text.is_empty())
        .unwrap_or_else(|| "?".into())
}
