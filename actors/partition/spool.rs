//! The partition's part of the spool: its lines and outcomes go into the journal, its backlog is read back.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use uuid::Uuid;

use super::PartitionActor;
use crate::actors::guard::{self, On};
use crate::actors::messages::{
    Doubted, ExpireBefore, LineRecorded, OutcomesRecorded, PassedOver, ReadBackDone, ReadBackFrom,
    RecordLine, RecordOutcomes, Resent, SlotTaken, Spill, SpoolPlace,
};
use crate::actors::now;
use crate::core::ledger::{ReadBack, Record, Resuming};
use crate::intake::wall_clock;

/// Memory being used up, what has waited for so long is on the disk alone.
const SPILLS_AFTER: Duration = Duration::from_secs(1);

impl PartitionActor {
    /// Begins with what a former producer left.
    pub(super) fn resume(&mut self, ctx: &Context<Self>) {
        self.tell_of_slots(&self.me(ctx));
        let left = self.spooled.as_mut().map(|it| std::mem::take(&mut it.left));
        for resume in left.into_iter().flatten() {
            let effects = self.ledger().leave_former(&resume);
            self.apply(effects);
        }
        let Some(resume) = self.spooled.as_mut().and_then(|it| it.resume.take()) else {
            return;
        };
        tracing::debug!(partition = %self.topic_partition, ?resume, "goes on with the spool");
        let effects = self.ledger().resume(Resuming::new(&resume));
        self.apply(effects);
    }

    /// Says aloud what a damaged disk or log has cost.
    pub(super) fn tell_of_damage(
        &self,
        resent: Option<&str>,
        unknown: Option<(u64, Arc<str>)>,
        lost: u64,
    ) {
        let partition = &self.topic_partition;
        if let Some(why) = resent {
            tracing::warn!(
                %partition, why,
                "records of the spool may be in the log already, and are sent again"
            );
        }
        if let Some((records, why)) = unknown {
            tracing::error!(
                %partition, records, %why,
                "nobody knows whether records of the spool are in the log, and they are not sent again"
            );
        }
        if lost > 0 {
            tracing::error!(%partition, lost, "records of the spool are lost: their files are damaged");
        }
    }

    /// Whoever hears of these records is to know that they may be there twice.
    pub(super) fn tell_resent(&self, resent: Option<(Arc<str>, Vec<Range<u64>>)>) {
        let Some((_, positions)) = resent else { return };
        let (Some(spooled), Some(first)) = (&self.spooled, positions.first()) else {
            return;
        };
        spooled.spool.do_send(Resent {
            slot: spooled.slot_of(first.start),
            positions,
        });
    }

    /// Has the journal have these outcomes.
    pub(super) fn record(&self, mut records: Vec<Record>, mut lost: u64) {
        let (Some(spooled), Some(me)) = (&self.spooled, self.me.get()) else {
            return;
        };
        while let Some(first) = records.first() {
            let slot = spooled.slot_of(first.position);
            let others = records.extract_if(.., |it| spooled.slot_of(it.position) != slot);
            let others = others.collect();
            spooled.spool.do_send(RecordOutcomes {
                slot,
                records: std::mem::replace(&mut records, others),
                lost: std::mem::take(&mut lost),
                who: Arc::clone(me) as _,
            });
        }
    }

    /// Follows the topic in the spool. One that was created anew has another slot, and what is here does not
    /// go to it.
    pub(super) fn follow_topic(&mut self, topic_id: Uuid, place: SpoolPlace) {
        let Some(spooled) = &mut self.spooled else {
            return;
        };
        if spooled.place.slot != place.slot {
            spooled.move_to(place);
            let seat = spooled.new_seat();
            let seat = match &mut spooled.seat {
                // The stage copies nothing.
                Some(own) => {
                    *own = seat;
                    None
                }
                None => Some(seat),
            };
            self.collect_before(seat);
            let effects = self.stop_looking(|ledger| ledger.topic_recreated(Some(place.from)));
            self.apply(effects);
        }
        if let Some(spooled) = &mut self.spooled {
            spooled.place = place;
            spooled.gone = place.is_of_another(topic_id);
        }
        self.end_gone();
    }

    /// Ends what comes for a topic that is gone, and is not in the one that was created anew.
    pub(super) fn end_gone(&mut self) {
        if !self.spooled.as_ref().is_some_and(|spooled| spooled.gone) {
            return;
        }
        self.collect(|_| true);
        if self.ledger().is_any_open() {
            let effects = self.stop_looking(|ledger| ledger.topic_recreated(None));
            self.apply(effects);
        }
    }

    /// Asks for what the ledger needs of the spool: a line in the journal, or batches of the backlog.
    pub(super) fn ask_spool(&mut self, ctx: &mut Context<Self>) {
        if self.spooled.is_none() {
            return;
        }
        self.sync(ctx);
        let me = self.me(ctx);
        let (line, back) = {
            let ledger = self.ledger();
            (ledger.wants_line(), ledger.wants_back())
        };
        let has_leader = self.leader.is_some();
        let Some(spooled) = &mut self.spooled else {
            return;
        };
        if line.is_some() && line != spooled.asked_line {
            spooled.asked_line = line;
            if let Some(line) = line {
                spooled.spool.do_send(RecordLine {
                    slot: spooled.place.slot,
                    line,
                    who: Arc::clone(&me) as _,
                });
            }
        }
        if let (Some((position, records)), true) = (back, has_leader)
            && spooled.reading.is_none()
        {
            spooled.reading = Some(position);
            spooled.spool.do_send(ReadBackFrom {
                slot: spooled.place.slot,
                position,
                records,
                who: me as _,
            });
        }
    }

    /// Waits until what came is on the disk, where it is sent only then.
    fn sync(&mut self, ctx: &mut Context<Self>) {
        let Some(to) = self.ledger().not_durable() else {
            return;
        };
        let Some(spooled) = self.spooled.as_mut().filter(|spooled| !spooled.syncing) else {
            return;
        };
        if let Some(written) = &spooled.written {
            spooled.syncing = true;
            guard::spawn(ctx, written.synced(), move |actor: &mut Self, _, ctx| {
                if let Some(spooled) = &mut actor.spooled {
                    spooled.syncing = false;
                }
                // If nobody knows whether it is there, whoever sent it was told so, and it is sent.
                actor.ledger().set_durable(to);
                actor.act(now(), ctx);
            });
        }
    }

    /// What waits is on the disk alone from now on.
    fn spill(&mut self) {
        let Some(spooled) = &mut self.spooled else {
            return;
        };
        let seat = &mut spooled.seat;
        let passed = self.shared.ledger.borrow_mut().spill(|position, batch| {
            let (Some(seat), Some(records)) = (seat.as_mut(), batch.plain()) else {
                return false;
            };
            let timestamps = (batch.base_timestamp(), batch.max_timestamp());
            seat.append_all(
                position,
                (&records, batch.count().unsigned_abs()),
                timestamps,
            )
        });
        for positions in passed {
            spooled.spool.do_send(PassedOver {
                slot: spooled.place.slot,
                positions,
            });
        }
    }

    /// Has the SpoolActor know who has the slots, and how far each is settled.
    fn tell_of_slots(&self, who: &Arc<Addr<Self>>) {
        let Some(spooled) = &self.spooled else {
            return;
        };
        let ledger = self.ledger();
        let mut from = 0;
        // What is left of former topics is told of when it has its outcome.
        let former = spooled.former.iter().filter(|_| spooled.left.is_empty());
        let ends = former.map(|(slot, end)| (*slot, *end));
        for (slot, end) in ends.chain([(spooled.place.slot, u64::MAX)]) {
            spooled.spool.do_send(SlotTaken {
                slot,
                who: Arc::clone(who) as _,
                open_from: ledger.open_from(from).min(end),
            });
            from = end;
        }
    }

    /// What was asked for may have been lost.
    pub(super) fn forget_asked(&mut self) {
        if let Some(me) = self.me.get() {
            self.tell_of_slots(me);
        }
        if let Some(spooled) = &mut self.spooled {
            spooled.asked_line = None;
            spooled.reading = None;
        }
    }
}

impl On<LineRecorded> for PartitionActor {
    fn on(&mut self, LineRecorded(line): LineRecorded, ctx: &mut Context<Self>) {
        if let Some(spooled) = &mut self.spooled
            && spooled.asked_line == Some(line)
        {
            spooled.asked_line = None;
        }
        self.ledger().set_line(line);
        self.identified();
        self.collect_and_act(now(), ctx);
    }
}

impl On<OutcomesRecorded> for PartitionActor {
    fn on(&mut self, OutcomesRecorded(positions): OutcomesRecorded, ctx: &mut Context<Self>) {
        for position in positions {
            let effects = self.ledger().recorded(position);
            self.apply(effects);
        }
        self.act(now(), ctx);
    }
}

impl On<ReadBackDone> for PartitionActor {
    fn on(&mut self, done: ReadBackDone, ctx: &mut Context<Self>) {
        let ReadBackDone {
            position,
            batches,
            missing,
        } = done;
        let now = now();
        match &mut self.spooled {
            Some(spooled) if spooled.reading == Some(position) => spooled.reading = None,
            _ => return,
        }
        let shelf = Arc::clone(&self.services.shelf);
        self.ledger().wall_clock(wall_clock::millis());
        for batch in batches {
            let read = ReadBack::of(batch, |records| shelf.charged(records));
            if !read.is_some_and(|read| self.ledger().read_back(read, now)) {
                break;
            }
        }
        for lost in missing {
            let effects = self.ledger().lose(lost);
            self.apply(effects);
        }
        self.collect_and_act(now, ctx);
    }
}

impl On<ExpireBefore> for PartitionActor {
    fn on(&mut self, message: ExpireBefore, ctx: &mut Context<Self>) {
        let ExpireBefore {
            position,
            leave,
            max_age,
        } = message;
        if leave {
            self.shared.stage.leave_chunk();
            if let Some(spooled) = &mut self.spooled
                && let Some(seat) = &mut spooled.seat
            {
                seat.leave();
            }
        }
        // What waits on the stage may be as old. Without a leader nothing else takes it from there for long.
        let now = now();
        self.collect(|open| open.since + max_age <= now);
        let effects = self.ledger().expire_spooled(position, max_age);
        self.apply(effects);
        self.act(now, ctx);
    }
}

impl On<Doubted> for PartitionActor {
    fn on(&mut self, Doubted(positions): Doubted, _: &mut Context<Self>) {
        self.ledger().doubt(positions);
    }
}

impl On<Spill> for PartitionActor {
    fn on(&mut self, _: Spill, ctx: &mut Context<Self>) {
        let now = now();
        self.collect(|_| false);
        let waits_since = self.ledger().waits_since();
        let is_long = |since| now >= since + SPILLS_AFTER;
        if self.leader.is_none() || waits_since.is_some_and(is_long) {
            self.spill();
        }
        self.act(now, ctx);
    }
}
