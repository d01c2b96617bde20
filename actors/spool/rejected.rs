//! Records that are rejected, on their way to a file of lines.

use std::collections::BTreeMap;

use crate::actors::messages::PartitionAddr;
use crate::core::ledger::Record;

/// Records that are rejected.
pub(super) struct Rejecting {
    pub slot: u32,
    pub record: Record,
    pub who: PartitionAddr,
    /// All before this position have their lines.
    pub written: u64,
    /// Records of it that cannot be read.
    pub lost: u64,
}

/// Lines that are on their way to their file.
#[derive(Clone)]
pub(super) struct Lines {
    pub file: String,
    pub bytes: Vec<u8>,
    /// The position behind them.
    pub end: u64,
    /// Records before it that cannot be read.
    pub lost: u64,
}

/// Those that wait for their lines, by slot and position. The lines of one of them are on their way.
#[derive(Default)]
pub(super) struct Rejections {
    waiting: BTreeMap<(u32, u64), Rejecting>,
    now: Option<(u32, u64)>,
    lines: Option<Lines>,
    /// The number of what is being done. What comes late of something else has another one.
    step: u64,
}

impl Rejections {
    /// Adds what is not there. Returns whether nothing is being done.
    pub fn add(&mut self, slot: u32, record: Record, who: PartitionAddr) -> bool {
        let rejecting = Rejecting {
            slot,
            written: record.position,
            record,
            who,
            lost: 0,
        };
        let place = (slot, rejecting.written);
        self.waiting.entry(place).or_insert(rejecting);
        self.now.is_none()
    }

    /// What to get the next lines of, and the number of this step.
    pub fn next(&mut self) -> Option<(u64, &Rejecting)> {
        self.step += 1;
        self.lines = None;
        let (place, next) = match self.now.and_then(|now| self.waiting.get_key_value(&now)) {
            Some(going_on) => going_on,
            None => {
                self.now = None;
                self.waiting.first_key_value()?
            }
        };
        self.now = Some(*place);
        Some((self.step, next))
    }

    pub fn is_now(&self, step: u64) -> bool {
        self.step == step
    }

    /// These lines are being written now. Returns the number of this step.
    pub fn write(&mut self, lines: Lines) -> u64 {
        self.step += 1;
        self.lines = Some(lines);
        self.step
    }

    /// What could not be written.
    pub fn again(&mut self) -> Option<Lines> {
        self.lines.take()
    }

    /// The lines are in their file. Returns what has all of them by that.
    pub fn written(&mut self) -> Option<Rejecting> {
        let (lines, place) = (self.lines.take()?, self.now?);
        let rejecting = self.waiting.get_mut(&place)?;
        rejecting.written = lines.end;
        rejecting.lost += lines.lost;
        if rejecting.written < rejecting.record.positions().end {
            return None;
        }
        self.now = None;
        self.waiting.remove(&place)
    }
}
