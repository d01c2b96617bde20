//! Counts the outcomes of the records that a flush or a close waits for.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::core::ack::Settlement;
use crate::core::outcome::Unconfirmed;

/// What became of the records that a [`flush`](crate::Producer::flush) or a
/// [`close`](crate::Producer::close) waited for, in numbers of records.
///
/// It waits for every record that was accepted and had no outcome yet when it came to the record's
/// partition. Records that had their outcome before are not counted.
///
/// ```no_run
/// # async fn example(producer: forebay::Producer) -> Result<(), Box<dyn std::error::Error>> {
/// let outcomes = producer.flush().await?;
/// if !outcomes.all_acked() {
///     println!("{outcomes}");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Outcomes {
    /// Records that are in the log.
    pub acked: u64,
    /// Records that are certainly not in the log.
    pub not_written: u64,
    /// Records whose transaction was aborted.
    pub aborted: u64,
    /// Records that may be in the log, or not. With `acks=0` that is every record that was sent.
    pub unknown: u64,
    /// Records that are kept in the spool. The next producer on its directory delivers them.
    pub kept: u64,
}

impl Outcomes {
    /// Whether every record that was waited for is in the log. Also true if there was none.
    pub fn all_acked(&self) -> bool {
        self.acked == self.total()
    }

    /// How many records were waited for.
    pub fn total(&self) -> u64 {
        self.acked + self.not_written + self.aborted + self.unknown + self.kept
    }
}

impl fmt::Display for Outcomes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            acked,
            not_written,
            aborted,
            unknown,
            kept,
        } = self;
        write!(f, "{acked} records acked, {not_written} not written, ")?;
        if *aborted > 0 {
            write!(f, "{aborted} aborted, ")?;
        }
        write!(f, "{unknown} unknown")?;
        if *kept > 0 {
            write!(f, ", {kept} kept")?;
        }
        Ok(())
    }
}

/// Counts outcomes. Partitions add to it, once for each batch.
#[derive(Debug, Default)]
pub struct OutcomeCounts {
    acked: AtomicU64,
    not_written: AtomicU64,
    aborted: AtomicU64,
    unknown: AtomicU64,
    kept: AtomicU64,
}

impl OutcomeCounts {
    /// Counts the records of a batch.
    pub fn add(&self, settlement: &Settlement, records: i32) {
        let counter = match settlement {
            Settlement::Acked { .. } => &self.acked,
            Settlement::Failed(Unconfirmed::NotWritten(_)) | Settlement::Invalid { .. } => {
                &self.not_written
            }
            Settlement::Failed(Unconfirmed::Aborted(_)) => &self.aborted,
            Settlement::Failed(Unconfirmed::Unknown(_)) => &self.unknown,
            Settlement::Failed(Unconfirmed::Kept(_)) => &self.kept,
            Settlement::Split(_) => return, // the parts are counted
        };
        counter.fetch_add(u64::from(records.unsigned_abs()), Ordering::Relaxed);
    }

    /// What has been counted so far.
    pub fn so_far(&self) -> Outcomes {
        Outcomes {
            acked: self.acked.load(Ordering::Relaxed),
            not_written: self.not_written.load(Ordering::Relaxed),
            aborted: self.aborted.load(Ordering::Relaxed),
            unknown: self.unknown.load(Ordering::Relaxed),
            kept: self.kept.load(Ordering::Relaxed),
        }
    }
}
