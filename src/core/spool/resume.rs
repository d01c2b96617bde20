//! What a start finds of each slot: what is not settled, what of it may be in the log, and where positions
//! go on.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use super::catalog::Catalog;
use super::entry::Line;
use super::settled::Settled;
use super::state::{SlotState, SlotTopic, State};

/// Positions that are left out behind damage. What was lost may have had some of them, and may be in the log
/// under a line that counts from before.
///
/// More than can be lost, and no multiple of how many sequence numbers there are: positions behind a gap have
/// other numbers than those before it, so that they take a line of their own.
const LEFT_OUT: u64 = (1 << 32) + 1_000_003;

/// A line, and how far it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SentUnder {
    pub line: Line,
    /// No record at this position or behind it was sent under the line.
    pub end: u64,
}

/// What a slot goes on with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resume {
    pub slot: u32,
    /// `None` if the journal has lost it: then its records cannot be sent.
    pub topic: Option<SlotTopic>,
    /// Lines under which records may be in the log that are not settled, in the order in which they were
    /// begun. Each one's floor is at least that of what is settled.
    pub lines: Vec<SentUnder>,
    /// What is not settled, and on the disk.
    pub unsettled: Vec<Range<u64>>,
    /// What is not settled, and lost. It may be in the log, but cannot be sent.
    pub missing: Vec<Range<u64>>,
    /// The position behind all that were ever accepted, as far as is known.
    pub end: u64,
    /// The position of the next record that is accepted. Above `end` if there was damage: the positions
    /// between are nobody's, and have to be settled as `Past` before that record is.
    pub next_position: u64,
}

impl Resume {
    /// The position behind all that is not settled.
    pub fn end_of_open(&self) -> u64 {
        let open = self.unsettled.iter().chain(&self.missing);
        open.map(|part| part.end).max().unwrap_or_default()
    }

    /// Where to begin with reading the log; `None` if nothing can be there that is not settled.
    pub fn floor(&self) -> Option<i64> {
        self.lines.iter().map(|it| it.line.floor).min()
    }
}

/// What there is to do for each slot. `damaged`: something in the spool is lost, so more may have been there
/// than is known.
pub fn resume(state: &State, catalog: &Catalog, damaged: bool) -> Vec<Resume> {
    let mut slots: Vec<u32> = catalog.slots().chain(state.slots.keys().copied()).collect();
    slots.sort_unstable();
    slots.dedup();
    let unknown = SlotState::default();
    let slot = |slot: &u32| {
        let known = state.slots.get(slot).unwrap_or(&unknown);
        of_slot(*slot, known, catalog, damaged)
    };
    slots.iter().map(slot).collect()
}

fn of_slot(slot: u32, known: &SlotState, catalog: &Catalog, damaged: bool) -> Resume {
    let reached = known.lines.iter().map(|line| line.position.max(line.sent));
    let known_end = known.settled.end().max(catalog.end(slot));
    let end = reached.fold(known_end, u64::max);
    let open: Vec<_> = known.settled.unsettled(0..end).collect();
    let mut there = Settled::default();
    for held in catalog.held(slot, 0) {
        there.add(held.positions(), 0);
    }
    let unsettled = there
        .iter()
        .flat_map(|(part, _)| known.settled.unsettled(part));
    let missing = open.iter().flat_map(|part| there.unsettled(part.clone()));
    Resume {
        slot,
        topic: known.topic.clone(),
        lines: lines(known, &open),
        unsettled: unsettled.collect(),
        missing: missing.collect(),
        end,
        next_position: if damaged { end + LEFT_OUT } else { end },
    }
}

/// Forgets slots of former topics, but for the last one of each topic partition: a broker may still tell its
/// id.
/// `seen`: the slots that segments have something of.
pub fn forget_former(state: &mut State, resumed: &mut Vec<Resume>, seen: &BTreeSet<u32>) {
    let mut later: BTreeMap<(Arc<str>, i32), usize> = BTreeMap::new();
    let mut old = BTreeSet::new();
    for (slot, known) in state.slots.iter().rev() {
        if let Some(SlotTopic {
            topic, partition, ..
        }) = &known.topic
        {
            let later = later.entry((Arc::clone(topic), *partition)).or_default();
            if *later > 1 && !seen.contains(slot) {
                old.insert(*slot);
            }
            *later += 1;
        }
    }
    resumed.retain(|slot| {
        let is_over = old.contains(&slot.slot) && slot.end_of_open() == 0;
        if is_over {
            state.slots.remove(&slot.slot);
        }
        !is_over
    });
}

/// Lines that may have any of these positions.
fn lines(known: &SlotState, open: &[Range<u64>]) -> Vec<SentUnder> {
    let Some(last) = open.last() else {
        return Vec::new();
    };
    let mut kept = Vec::new();
    for (at, line) in known
        .lines
        .iter()
        .enumerate()
        .filter(|(_, line)| !line.is_bound())
    {
        // The next line says how far this one and those before it went.
        let rest = &known.lines[at + 1..];
        let end = rest.iter().map(|next| next.sent).fold(last.end, u64::min);
        if known.settled.unsettled_from(line.position) < end {
            let line = Line {
                floor: line.floor.max(known.settled.floor()),
                ..*line
            };
            kept.push(SentUnder { line, end });
        }
    }
    kept
}

#[cfg(test)]
mod tests;
