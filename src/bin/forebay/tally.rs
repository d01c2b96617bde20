//! Counts the outcomes of records, and their reasons.

use std::collections::BTreeMap;
use std::fmt;

use forebay::{Outcome, Reason, SendError, Unconfirmed};

use crate::text::Grouped;

/// Counts of the three outcomes. A record that `send` refused was not written.
#[derive(Debug, Default)]
pub struct Tally {
    pub acked: u64,
    pub not_written: u64,
    pub unknown: u64,
    /// The next producer on the spool delivers these.
    pub kept: u64,
    /// Those of `unknown` with `acks=0`, where no ack was requested.
    not_requested: u64,
    reasons: BTreeMap<String, u64>,
}

/// How many different reasons are kept. A broker may put any text into them.
const MAX_REASONS: usize = 20;

impl Tally {
    pub fn outcome(&mut self, outcome: &Outcome) {
        match outcome {
            Ok(_) => self.acked += 1,
            Err(undelivered) => {
                match undelivered {
                    Unconfirmed::NotWritten(_) => self.not_written += 1,
                    Unconfirmed::Kept(_) => self.kept += 1,
                    Unconfirmed::Unknown(Reason::NotRequested) => {
                        self.unknown += 1;
                        self.not_requested += 1;
                    }
                    _ => self.unknown += 1,
                }
                self.because(undelivered.to_string());
            }
        }
    }

    pub fn refused(&mut self, error: &SendError) {
        self.not_written(1, error);
    }

    pub fn not_written(&mut self, count: u64, why: impl fmt::Display) {
        if count > 0 {
            self.not_written += count;
            *self.reason(format!("not written: {why}")) += count;
        }
    }

    /// Counts records of a transaction that was aborted: for a reader of what is committed they are not
    /// written.
    pub fn aborted(&mut self, count: u64, why: impl fmt::Display) {
        if count > 0 {
            self.not_written += count;
            *self.reason(format!("aborted: {why}")) += count;
        }
    }

    /// Counts records of which nobody can say whether they are written.
    pub fn unknown(&mut self, count: u64, why: impl fmt::Display) {
        if count > 0 {
            self.unknown += count;
            *self.reason(format!("may or may not be written: {why}")) += count;
        }
    }

    fn because(&mut self, reason: String) {
        *self.reason(reason) += 1;
    }

    fn reason(&mut self, reason: String) -> &mut u64 {
        let known = self.reasons.contains_key(&reason);
        let reason = match known || self.reasons.len() < MAX_REASONS {
            true => reason,
            false => String::from("other reasons"),
        };
        self.reasons.entry(reason).or_default()
    }

    pub fn add(&mut self, other: Self) {
        self.acked += other.acked;
        self.not_written += other.not_written;
        self.unknown += other.unknown;
        self.kept += other.kept;
        self.not_requested += other.not_requested;
        for (reason, count) in other.reasons {
            *self.reason(reason) += count;
        }
    }

    /// Whether every record is acked, or not acked because of `acks=0`.
    pub fn is_good(&self) -> bool {
        self.not_written == 0 && self.kept == 0 && self.unknown == self.not_requested
    }

    /// The reasons, the most frequent first.
    pub fn reasons(&self) -> Vec<(&str, u64)> {
        let mut reasons: Vec<_> = self.reasons.iter().map(|(why, n)| (&**why, *n)).collect();
        reasons.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        reasons
    }
}

/// One line with the counts, and one for each reason.
impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            acked,
            not_written,
            unknown,
            ..
        } = self;
        let [acked, not_written, unknown] = [acked, not_written, unknown].map(|n| Grouped(*n));
        write!(
            f,
            "{acked} acked, {not_written} not written, {unknown} unknown"
        )?;
        if self.kept > 0 {
            let kept = Grouped(self.kept);
            write!(f, ", {kept} kept in the spool")?;
        }
        for (reason, count) in self.reasons() {
            write!(f, "\n  {} x {reason}", Grouped(count))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acks_0_is_no_failure_and_no_ack() {
        let mut tally = Tally::default();
        tally.outcome(&Err(Unconfirmed::Unknown(Reason::NotRequested)));
        assert_eq!((tally.acked, tally.unknown), (0, 1));
        assert!(tally.is_good());
        tally.outcome(&Err(Unconfirmed::Unknown(Reason::RuntimeGone)));
        assert!(!tally.is_good());
    }

    #[test]
    fn reasons_are_counted_the_most_frequent_first() {
        let mut tally = Tally::default();
        tally.refused(&SendError::Closed);
        tally.not_written(3, "interrupted");
        tally.not_written(0, "never");
        let mut sum = Tally::default();
        sum.outcome(&Err(Unconfirmed::NotWritten(Reason::RuntimeGone)));
        sum.add(tally);
        assert_eq!(sum.not_written, 5);
        let reasons = sum.reasons();
        assert_eq!(reasons[0], ("not written: interrupted", 3));
        assert_eq!(reasons.len(), 3);
        assert_eq!(sum.to_string().lines().count(), 4);
    }

    #[test]
    fn the_number_of_reasons_is_bounded() {
        let mut tally = Tally::default();
        for i in 0..1000 {
            tally.not_written(1, i);
        }
        assert_eq!(tally.reasons().len(), MAX_REASONS + 1);
        assert_eq!(tally.not_written, 1000);
    }
}
