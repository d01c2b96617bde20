//! What is counted: lives of processes, and what became of what they accepted.

use std::fmt;
use std::ops::AddAssign;

use crate::tally::{Fault, Invariant, Trouble};

/// Sums over seeds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    pub seeds: u64,
    /// Processes that were killed, machines that stopped, and producers that were closed.
    pub killed: u64,
    pub stopped: u64,
    pub closed: u64,
    /// Syncs that were to fail.
    pub failed_syncs: u64,
    pub accepted: u64,
    pub refused: u64,
    /// Sends of which nobody knows whether they were accepted.
    pub in_doubt: u64,
    /// What was told of what was accepted.
    pub acked: u64,
    pub not_written: u64,
    pub unknown: u64,
    pub kept: u64,
    /// Records of former processes whose outcome was told.
    pub resumed: u64,
    /// Positions of sources that were accepted.
    pub positions: u64,
    pub events: u64,
    /// Of virtual time.
    pub seconds: u64,
    pub faults: [u64; Fault::COUNT],
    pub troubles: [u64; Trouble::COUNT],
    pub broken: [u64; Invariant::COUNT],
}

impl Tally {
    /// Processes that have ended.
    pub fn processes(&self) -> u64 {
        self.killed + self.stopped + self.closed
    }
}

impl AddAssign<&Self> for Tally {
    fn add_assign(&mut self, other: &Self) {
        self.seeds += other.seeds;
        self.killed += other.killed;
        self.stopped += other.stopped;
        self.closed += other.closed;
        self.failed_syncs += other.failed_syncs;
        self.accepted += other.accepted;
        self.refused += other.refused;
        self.in_doubt += other.in_doubt;
        self.acked += other.acked;
        self.not_written += other.not_written;
        self.unknown += other.unknown;
        self.kept += other.kept;
        self.resumed += other.resumed;
        self.positions += other.positions;
        self.events += other.events;
        self.seconds += other.seconds;
        for (mine, theirs) in self.faults.iter_mut().zip(other.faults) {
            *mine += theirs;
        }
        for (mine, theirs) in self.troubles.iter_mut().zip(other.troubles) {
            *mine += theirs;
        }
        for (mine, theirs) in self.broken.iter_mut().zip(other.broken) {
            *mine += theirs;
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} seeds, {} s of virtual time, {} events",
            self.seeds, self.seconds, self.events
        )?;
        writeln!(
            f,
            "{} processes killed, {} machines stopped, {} producers closed; {} syncs were to fail",
            self.killed, self.stopped, self.closed, self.failed_syncs
        )?;
        writeln!(
            f,
            "records: {} accepted, {} perhaps, {} refused; told {} acked, {} Kept, {} NotWritten, {} Unknown",
            self.accepted,
            self.in_doubt,
            self.refused,
            self.acked,
            self.kept,
            self.not_written,
            self.unknown
        )?;
        writeln!(
            f,
            "sources: {} positions accepted; {} records of former processes told of",
            self.positions, self.resumed
        )?;
        let faults = Fault::ALL.iter().map(|it| it.label()).zip(self.faults);
        let troubles = Trouble::ALL.iter().map(|it| it.label()).zip(self.troubles);
        for (label, times) in faults.chain(troubles).filter(|(_, times)| *times > 0) {
            writeln!(f, "  {times:>12} {label}")?;
        }
        writeln!(f, "invariants:")?;
        for invariant in Invariant::ALL {
            let times = self.broken[*invariant as usize];
            writeln!(f, "  {times:>12} {}", invariant.label())?;
        }
        Ok(())
    }
}
