//! What became of records goes into the journal: at once if it has to be there before anybody is told, and a
//! little later if a late note only lengthens what a resume has to read of the log.

use std::ops::Range;
use std::sync::Arc;

use actix::prelude::*;

use super::SpoolActor;
use crate::actors::guard::On;
use crate::actors::messages::{OutcomesRecorded, PartitionAddr, RecordOutcomes};
use crate::core::ledger::Record;
use crate::core::spool::{Entry, Fate};

impl SpoolActor {
    /// The journal gets what was acked since the last time.
    pub(super) fn note_acked(&mut self) {
        for (slot, (positions, floor)) in std::mem::take(&mut self.acked) {
            self.write(&Entry::past(slot, positions, floor));
        }
    }

    fn acked(&mut self, slot: u32, positions: Range<u64>, floor: i64) {
        let known = self.acked.get_mut(&slot);
        match known {
            Some((range, behind)) if range.end == positions.start => {
                range.end = positions.end;
                *behind = floor.max(*behind);
            }
            Some(_) => {
                self.note_acked();
                self.acked.insert(slot, (positions, floor));
            }
            None => {
                self.acked.insert(slot, (positions, floor));
            }
        }
    }

    /// The journal gets these outcomes, and what they free is given back.
    pub(super) fn end(
        &mut self,
        slot: u32,
        records: Vec<Record>,
        who: PartitionAddr,
        ctx: &mut Context<Self>,
    ) {
        let (mut free, mut told) = (Vec::new(), Vec::new());
        for record in records {
            let (position, count) = (record.position, record.count.unsigned_abs());
            let positions = record.positions();
            self.resumed(slot, &record);
            let mut floor = 0;
            if let Fate::Acked(offset) = record.fate {
                floor = offset.saturating_add(count.into());
                self.acked(slot, positions.clone(), floor);
            } else {
                self.note_acked();
                self.write(&Entry::Settled {
                    slot,
                    position,
                    count,
                    fate: record.fate,
                });
                told.push(position);
            }
            free.extend(self.catalog.settle(slot, positions, floor));
        }
        match (told.is_empty(), self.machine || self.overflowed) {
            (true, _) => {}
            (false, false) => who.do_send(OutcomesRecorded(told)),
            (false, true) => self.when_synced(ctx, move |_, _| who.do_send(OutcomesRecorded(told))),
        }
        self.settled = true;
        self.tell_resumed(ctx);
        self.free(free, ctx);
        self.move_soon(ctx);
        self.set_alarm(ctx);
    }
}

impl On<RecordOutcomes> for SpoolActor {
    fn on(&mut self, message: RecordOutcomes, ctx: &mut Context<Self>) {
        let RecordOutcomes {
            slot,
            records,
            lost,
            who,
        } = message;
        self.counts.lost(lost);
        let is_rejected = |record: &Record| record.why.is_some();
        let (rejected, others): (Vec<_>, Vec<_>) = records.into_iter().partition(is_rejected);
        for record in rejected {
            self.reject(slot, record, Arc::clone(&who), ctx);
        }
        self.end(slot, others, who, ctx);
    }
}
