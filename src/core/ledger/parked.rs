//! Ends what is on the disk alone, or was never in memory of this process.

use std::ops::Range;
use std::sync::Arc;

use super::spooled::EndedPart;
use super::spooling::record_of;
use super::{Effects, Ledger};
use crate::core::ack::Settlement;
use crate::core::delivery::Listener;

/// No more records end at a time, so that their number is that of one outcome.
pub(super) const AT_ONCE: u64 = 1 << 30;

impl Ledger {
    /// Ends what is on the disk alone of these records, and that nobody has a receipt of.
    pub(super) fn end_parked(
        &mut self,
        part: Range<u64>,
        settlement: &Settlement,
        effects: &mut Effects,
    ) {
        for Range { start, end } in pieces(part) {
            let Some(spooled) = &mut self.spooled else {
                return;
            };
            for (position, count, listeners) in spooled.backlog.remove(start, end - start) {
                let part = position..position + count;
                self.end_part(part, listeners, settlement, effects);
            }
        }
    }

    /// Ends the batches at the front of the backlog all of whose records are before this position.
    pub(super) fn end_batches(
        &mut self,
        before: u64,
        settlement: &Settlement,
        effects: &mut Effects,
    ) {
        let Some(spooled) = &mut self.spooled else {
            return;
        };
        for (position, batch) in spooled.backlog.take_before(before) {
            let entry = self.entry(batch, None, position);
            self.end_entry(entry, settlement.clone(), effects);
        }
    }

    /// Ends records that nobody has a receipt of, no more than [`AT_ONCE`]. They are told when the journal
    /// has it.
    pub(super) fn end_part(
        &mut self,
        part: Range<u64>,
        listeners: Vec<Arc<dyn Listener>>,
        settlement: &Settlement,
        effects: &mut Effects,
    ) {
        let Some(spooled) = &mut self.spooled else {
            return;
        };
        let count = i32::try_from(part.end - part.start).unwrap_or(i32::MAX);
        let record = record_of(part.start, count, settlement);
        effects.records.extend(record);
        spooled.ended_parts.push(EndedPart {
            position: part.start,
            count,
            listeners,
            settlement: settlement.clone(),
        });
    }
}

/// The same records, in pieces that are not too long.
pub(super) fn pieces(part: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let end = part.end;
    let starts = part.step_by(AT_ONCE as usize);
    starts.map(move |start| start..end.min(start + AT_ONCE))
}
