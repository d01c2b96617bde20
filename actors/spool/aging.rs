//! Has partitions end what has waited in the spool for too long.

use std::time::Duration;

use actix::prelude::*;

use super::SpoolActor;
use crate::actors::messages::ExpireBefore;
use crate::actors::now;
use crate::core::spool::FILLS;

/// It is looked each eighth of the time that records may wait, but not less often than this.
const SELDOM: Duration = Duration::from_secs(600);

impl SpoolActor {
    pub(super) fn look_for_old(&self, ctx: &mut Context<Self>) {
        let wait = (self.max_age / 8).clamp(Duration::from_millis(100), SELDOM);
        self.later(ctx, wait, |actor, ctx| {
            actor.look(ctx);
            actor.expire();
            actor.look_for_old(ctx);
        });
    }

    fn expire(&self) {
        let (passed, time) = (self.age.passed(now()), self.space.time());
        let millis = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        let latest = |slot: u32| {
            let open = self.open.get(&slot).map(|open| open.begun);
            let closed = open.or_else(|| self.closed_at.get(&slot).copied());
            closed.unwrap_or(self.started_at)
        };
        let before = passed.saturating_sub(millis(self.max_age));
        let old = self.catalog.accepted_before(before, latest);
        // What is in a chunk that is being filled cannot be told to be old.
        let longest = millis(self.max_age).min(FILLS / 2);
        let is_long = |begun: i64| time.saturating_sub(begun) >= longest;
        for (slot, who) in &self.partitions {
            let at = old.binary_search_by_key(slot, |(slot, _)| *slot);
            let position = at
                .ok()
                .and_then(|at| old.get(at))
                .map(|(_, position)| *position);
            let leave = self.open.get(slot).is_some_and(|open| is_long(open.begun));
            if leave || position.is_some() {
                who.do_send(ExpireBefore {
                    position: position.unwrap_or(0),
                    leave,
                    max_age: self.max_age,
                });
            }
        }
    }
}
