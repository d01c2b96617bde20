//! Says what may be lost when the machine stops, because a sync has failed. No record is told to be kept
//! then.

use std::ops::Range;

use actix::prelude::*;

use super::SpoolActor;
use crate::actors::messages::{Doubted, SyncAll};
use crate::disk::DiskError;

impl SpoolActor {
    /// Tells of all records in segments that failed.
    pub(super) fn doubt_slot(&self, slot: u32) {
        let failed = self.segments.iter().filter(|(_, segment)| segment.failed);
        for (number, _) in failed {
            for (of, held) in self.catalog.unsettled_of(*number) {
                if of == slot {
                    self.doubt(slot, held.positions());
                }
            }
        }
    }

    pub(super) fn doubt_segment(&self, number: u64) {
        for (slot, held) in self.catalog.unsettled_of(number) {
            self.doubt(slot, held.positions());
        }
    }

    pub(super) fn doubt(&self, slot: u32, positions: Range<u64>) {
        // What is only to survive the process does.
        if let (true, Some(who)) = (self.machine, self.partitions.get(&slot)) {
            who.do_send(Doubted(positions));
        }
    }
}

impl Handler<SyncAll> for SpoolActor {
    type Result = ResponseFuture<bool>;

    /// The thread that syncs tells of a file that failed before those who wait hear of it. So whoever asks
    /// again is answered after partitions were told.
    fn handle(&mut self, _: SyncAll, ctx: &mut Context<Self>) -> Self::Result {
        self.look(ctx);
        let segments = |number| self.segments.contains_key(&number);
        let synced = self.machine.then(|| self.written.synced_of(&segments));
        Box::pin(async move {
            match synced {
                // Nothing is synced any more if its thread has ended.
                Some(synced) => matches!(synced.await, Ok(()) | Err(DiskError::Ended)),
                None => true,
            }
        })
    }
}
