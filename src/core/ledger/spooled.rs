//! What a ledger knows of its batches in the spool.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::backlog::Backlog;
use super::entry::Entry;
use crate::core::ack::Settlement;
use crate::core::batch::{Settled, Token};
use crate::core::delivery::Listener;
use crate::core::identity::Identity;
use crate::core::spool::{Fate, Line, Resume, SentUnder, Settled as Positions, Survey};

/// An outcome that the journal is to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub position: u64,
    pub count: i32,
    pub fate: Fate,
    /// Why it is rejected: whoever finds the record later is told. Without it nothing of it is kept aside.
    pub why: Option<Arc<str>>,
}

impl Record {
    pub fn new(position: u64, count: i32, fate: Fate) -> Self {
        Self {
            position,
            count,
            fate,
            why: None,
        }
    }

    pub fn positions(&self) -> Range<u64> {
        self.position..self.position + u64::from(self.count.unsigned_abs())
    }
}

/// Records with an outcome that nobody has a receipt of.
pub struct EndedPart {
    pub position: u64,
    pub count: i32,
    pub listeners: Vec<Arc<dyn Listener>>,
    pub settlement: Settlement,
}

impl fmt::Debug for EndedPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndedPart")
            .field("position", &self.position)
            .field("count", &self.count)
            .finish_non_exhaustive()
    }
}

/// When records are in the spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spools {
    /// As they are accepted.
    Accepted,
    /// The same, and they are sent when the disk has them.
    Synced,
    /// Where memory is used up. Those that are not end after this time, if they were never sent.
    Spilled(Duration),
}

/// The ledger's part of the spool.
#[derive(Debug)]
pub struct Spooled {
    pub partition: i32,
    pub spools: Spools,
    /// The position of the next batch that comes from the stage.
    pub next: u64,
    /// The last line that the journal has for sure.
    pub line: Option<Line>,
    /// The position behind all that had a sequence number.
    pub sent: u64,
    /// The position behind the last record that was written where memory was used up.
    pub written: u64,
    /// What is before this position is on the disk, as far as it has to be.
    pub durable: u64,
    /// Nobody knows whether a later producer finds these on the disk.
    pub doubted: Positions,
    pub backlog: Backlog,
    pub resuming: Resuming,
    /// Batches whose outcome is told when the journal has it.
    pub ended: Vec<(Entry, Settlement)>,
    /// The same for records of which nobody has a receipt.
    pub ended_parts: Vec<EndedPart>,
    /// Records before this position are of a topic that was deleted and created anew.
    pub former: u64,
    /// What flushes wait for: all records before this position.
    pub tied: Vec<(u64, Token)>,
}

impl Spooled {
    /// Whether records are in the spool only where memory is used up.
    pub fn spills(&self) -> bool {
        matches!(self.spools, Spools::Spilled(_))
    }

    /// Those who wait for records before a position wait until these are told.
    pub fn tie_to(&self, position: u64, settled: &mut Settled) {
        let waits = self.tied.iter().filter(|(end, _)| position < *end);
        settled
            .tokens
            .extend(waits.map(|(_, token)| Arc::clone(token)));
    }
}

/// What is not known yet of a former producer's records.
#[derive(Debug, Default)]
pub struct Resuming {
    /// The identities that they were sent under, the newest of each producer id. Each has to be fenced, the
    /// first one now.
    pub left: VecDeque<Identity>,
    /// None of them is before this offset of the log.
    pub floor: i64,
    pub survey: Option<Box<Survey>>,
    /// Records that the disk has lost. They may be in the log, and cannot be sent.
    pub lost: Vec<Range<u64>>,
    /// The producer id has changed, and no marker can fence the former one: the log is looked at up to where
    /// it ended then.
    pub unfenced: bool,
    /// Why the log cannot tell of all of them.
    pub hole: Option<Arc<str>>,
}

impl Resuming {
    pub fn new(resume: &Resume) -> Self {
        let mut left: VecDeque<Identity> = VecDeque::new();
        for SentUnder { line, .. } in &resume.lines {
            let known = left.iter_mut();
            let identity = line.identity;
            match known
                .into_iter()
                .find(|it| it.producer_id == identity.producer_id)
            {
                Some(known) => known.epoch = known.epoch.max(identity.epoch),
                None => left.push_back(identity),
            }
        }
        Self {
            left,
            floor: resume.floor().unwrap_or_default(),
            survey: Some(Box::new(Survey::new(resume))),
            lost: resume.missing.clone(),
            unfenced: false,
            hole: None,
        }
    }
}
