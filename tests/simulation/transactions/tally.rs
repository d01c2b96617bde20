//! What is counted of transactions.

use std::fmt;
use std::ops::AddAssign;

use crate::tally::{Fault, Trouble};

counted! {
    /// What must not be.
    Invariant:
    Torn "torn: a reader sees a part of a transaction",
    Vanished "vanished: a transaction that was told as committed is not there",
    Haunting "haunting: a transaction that was told as aborted, or never committed, is there",
    Twice "twice: a reader sees a record twice",
    Disordered "disordered: a reader does not see the order of sending",
    Foreign "foreign: a record that nobody sent, or in another partition than its own",
    Contradicted "contradicted: a record's outcome does not agree with its transaction's end",
    Untold "untold: a receipt or a callback without its one outcome",
    Unsure "unsure: nobody knows whether it was committed, though its log tells, or nothing was in the way",
    Fenced "fenced: it calls itself fenced, and nobody has done that",
    Hanging "hanging: a transaction that nobody ends",
    Mixed "mixed: it spoke with brokers as it should not",
    Misplaced "misplaced: a group's offsets are not those that were committed",
    Blocked "blocked: it does not go on though everything works again, or takes too long",
    Spilled "spilled: memory that did not come back",
}

/// Sums over seeds.
#[derive(Debug, Clone)]
pub(crate) struct Tally {
    pub seeds: u64,
    /// Of virtual time.
    pub seconds: u64,
    pub events: u64,
    pub records: u64,
    pub refused: u64,
    /// Records, by their outcomes: acked, not written, aborted, unknown.
    pub outcomes: [u64; 4],
    pub ends: [u64; Ended::COUNT],
    pub faults: [u64; Fault::COUNT],
    pub troubles: [u64; Trouble::COUNT],
    pub broken: [u64; Invariant::COUNT],
}

counted! {
    /// How transactions end, as their application sees it.
    Ended:
    Committed "committed",
    Aborted "to be committed, and aborted",
    Unknown "to be committed, and nobody knows",
    AbortAsked "aborted by the application",
    Dropped "dropped",
    CommitLeft "to be committed, and nobody waited for it",
    InDoubt "in doubt for a while",
    OffsetsSent "offsets sent",
    OffsetsRefused "offsets refused",
    FencedOff "instances fenced",
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            seeds: 0,
            seconds: 0,
            events: 0,
            records: 0,
            refused: 0,
            outcomes: [0; 4],
            ends: [0; Ended::COUNT],
            faults: [0; Fault::COUNT],
            troubles: [0; Trouble::COUNT],
            broken: [0; Invariant::COUNT],
        }
    }
}

impl Tally {
    pub fn ended(&mut self, how: Ended) {
        self.ends[how as usize] += 1;
    }
}

fn add<const N: usize>(mine: &mut [u64; N], theirs: &[u64; N]) {
    for (mine, theirs) in mine.iter_mut().zip(theirs) {
        *mine += theirs;
    }
}

impl AddAssign<&Self> for Tally {
    fn add_assign(&mut self, other: &Self) {
        self.seeds += other.seeds;
        self.seconds += other.seconds;
        self.events += other.events;
        self.records += other.records;
        self.refused += other.refused;
        add(&mut self.outcomes, &other.outcomes);
        add(&mut self.ends, &other.ends);
        add(&mut self.faults, &other.faults);
        add(&mut self.troubles, &other.troubles);
        add(&mut self.broken, &other.broken);
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [acked, not_written, aborted, unknown] = self.outcomes;
        writeln!(
            f,
            "{} seeds, {} s of virtual time, {} events",
            self.seeds, self.seconds, self.events
        )?;
        writeln!(
            f,
            "records: {} accepted, of these {acked} acked, {not_written} NotWritten, {aborted} Aborted, \
             {unknown} Unknown; {} refused",
            self.records, self.refused
        )?;
        let mut lines = |title: &str, lines: &[(&str, u64)]| {
            writeln!(f, "{title}:")?;
            let mut lines = lines.iter();
            lines.try_for_each(|(label, count)| writeln!(f, "  {count:>12} {label}"))
        };
        let of = |label: &'static str, count: u64| (label, count);
        let ends = Ended::ALL.iter();
        let ends: Vec<_> = ends
            .map(|it| of(it.label(), self.ends[*it as usize]))
            .collect();
        lines("transactions", &ends)?;
        let faults = Fault::ALL.iter();
        let faults = faults.map(|it| of(it.label(), self.faults[*it as usize]));
        let faults: Vec<_> = faults.filter(|it| it.1 > 0).collect();
        lines("faults", &faults)?;
        let troubles = Trouble::ALL.iter();
        let troubles: Vec<_> = troubles
            .map(|it| of(it.label(), self.troubles[*it as usize]))
            .collect();
        lines("troubles", &troubles)?;
        let broken = Invariant::ALL.iter();
        let broken: Vec<_> = broken
            .map(|it| of(it.label(), self.broken[*it as usize]))
            .collect();
        lines("invariants", &broken)
    }
}
