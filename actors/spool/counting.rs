//! What the spool holds and has done, in figures.

use std::time::Duration;

use actix::prelude::*;

use super::SpoolActor;
use crate::actors::messages::GetSpoolFigures;
use crate::core::figures::SpoolFigures;

impl Handler<GetSpoolFigures> for SpoolActor {
    type Result = MessageResult<GetSpoolFigures>;

    fn handle(&mut self, _: GetSpoolFigures, ctx: &mut Context<Self>) -> Self::Result {
        self.look(ctx);
        let waited = |begun: i64| self.space.time().saturating_sub(begun);
        let oldest = self.catalog.oldest_begun().map(waited);
        MessageResult(SpoolFigures {
            bytes: self.on_disk(),
            segments: self.catalog.segments() + self.leaving.len(),
            unsettled_records: self.catalog.unsettled_records(),
            unsettled_bytes: self.catalog.unsettled_bytes(),
            oldest: oldest.map(|millis| Duration::from_millis(millis.max(0).unsigned_abs())),
            resumed: self.counts.resumed,
            lost: self.counts.lost,
            rejected: self.counts.rejected,
            syncs: self.counts.syncs,
            sync_time: self.counts.sync_time,
        })
    }
}
