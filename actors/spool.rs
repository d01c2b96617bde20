//! The SpoolActor: owns the journal and the catalog of the spool. It says what may be deleted, has space
//! made, and reads back. It is there with `forebay.spool.dir`.

mod aging;
mod aside;
mod chunks;
mod counting;
mod counts;
mod doubting;
mod files;
mod lending;
mod moving;
mod outcomes;
mod plan;
mod reading;
mod rejected;
mod rejecting;
mod resumed;
mod resumption;
mod sources;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use rand::rngs::SmallRng;

use super::clock::{Alarm, ClockActor};
use super::guard::{self, Guard, Guarded, On, guarded};
use super::messages::*;
use super::now;
use crate::core::spool::{
    AgeClock, Catalog, ChunkUse, Entry, Former, JournalWriter, Kind, Resumed, Space,
};
use crate::disk::{DiskEvent, Maker, SegmentFile, Syncer, Written};
use crate::intake::wall_clock;
use aside::aside;
use counts::Counts;
use rejected::Rejections;
use resumption::Resumption;
use sources::Sources;

/// Acked records are noted so late at most. What a crash keeps the journal from hearing is found in the log.
const NOTE_ACKED: Duration = Duration::from_millis(100);

/// When a sync is tried again that failed.
pub(crate) const SYNC_AGAIN: Duration = Duration::from_millis(100);

/// How long the end of a producer waits for a sync.
pub(crate) const LAST_SYNC: Duration = Duration::from_secs(5);

/// Bytes of a journal, unless segments are smaller, or what it has to say takes more.
const JOURNAL: u64 = 4 << 20;

/// Bytes that a journal has at least, beside segments of so many.
pub(crate) fn journal_bytes(segment_bytes: u64) -> u64 {
    JOURNAL.min(segment_bytes)
}

/// What the SpoolActor goes on with.
pub(crate) struct SpoolStart {
    pub maker: Maker,
    pub syncer: Syncer,
    pub written: Arc<Written>,
    pub space: Arc<Space>,
    pub catalog: Catalog,
    pub journal: JournalWriter,
    pub segments: BTreeMap<u64, SegmentFile>,
    /// A file's number is never used twice.
    pub next_number: u64,
    pub segment_bytes: u64,
    pub max_bytes: u64,
    /// How long records wait at most.
    pub max_age: Duration,
    /// Outcomes are told when they are on the disk.
    pub machine: bool,
    pub rng: SmallRng,
    pub client_id: Arc<str>,
    pub former: Former,
    /// Who hears of what former producers left.
    pub resumed_to: Option<Recipient<Resumed>>,
}

/// A chunk that is being filled.
struct OpenChunk {
    segment: u64,
    offset: u32,
    length: u32,
    position: u64,
    /// Milliseconds since 1970; not before it was begun.
    begun: i64,
}

/// What is done when all is on the disk.
type Then = Box<dyn FnOnce(&mut SpoolActor, &mut Context<SpoolActor>)>;

/// Owns what the spool holds, and what its journal says.
pub(crate) struct SpoolActor {
    guard: Guard,
    /// None once it has stopped.
    threads: Option<(Maker, Syncer)>,
    /// What is waited for where all is to be on the disk.
    written: Arc<Written>,
    space: Arc<Space>,
    catalog: Catalog,
    journal: JournalWriter,
    /// The journal has no room for all that was written. The next one has it, and what is to be done when the
    /// disk has it waits for that one.
    overflowed: bool,
    delayed: Vec<Then>,
    segments: BTreeMap<u64, SegmentFile>,
    /// Those that nobody needs and that are still on the disk, with their bytes.
    leaving: BTreeMap<u64, u64>,
    /// By slot.
    open: BTreeMap<u32, OpenChunk>,
    next_number: u64,
    segment_bytes: u64,
    max_bytes: u64,
    max_age: Duration,
    /// Those who have slots.
    partitions: BTreeMap<u32, PartitionAddr>,
    /// When the last chunk of a slot was left: milliseconds since 1970.
    closed_at: BTreeMap<u32, i64>,
    age: AgeClock,
    /// When this actor was started: milliseconds since 1970.
    started_at: i64,
    machine: bool,
    rng: SmallRng,
    counts: Counts,
    /// Files that are being made, by their numbers, and their salts.
    making: BTreeMap<u64, (Kind, u64)>,
    /// What indexes that are being made are to hold, by the numbers of their segments.
    indexes: BTreeMap<u64, Vec<u8>>,
    /// It is looked for what to move, or something is being moved.
    moving: bool,
    /// Records were settled or segments filled since it was looked for the last time.
    settled: bool,
    /// Copies that the disk may not have yet, and their segments.
    copies: VecDeque<(u64, ChunkUse)>,
    /// How many copies there were, and how many of them count where they are now.
    copied: u64,
    handed_over: u64,
    /// Segments with records that cannot be read.
    unmovable: BTreeSet<u64>,
    /// Records that are rejected, and not told of yet.
    rejections: Rejections,
    resumption: Resumption,
    /// Acked records that the journal does not have yet: the positions, and the offset behind them.
    acked: BTreeMap<u32, (Range<u64>, i64)>,
    sources: Sources,
    /// Callers who wait for space.
    waiting: VecDeque<WaitForSpace>,
    /// How often this actor has restarted. What began before and is not waited for ends.
    round: u64,
    /// What is wrong with the disk.
    trouble: Option<Arc<str>>,
    /// There was no space for what is to be moved.
    cramped: bool,
    /// Bytes of the segments that former processes left.
    found_bytes: u64,
    clock: Addr<ClockActor>,
    alarm: Alarm,
}

impl SpoolActor {
    pub fn new(start: SpoolStart, clock: Addr<ClockActor>, guard: Guard) -> Self {
        let SpoolStart {
            maker,
            syncer,
            written,
            space,
            catalog,
            journal,
            segments,
            next_number,
            segment_bytes,
            max_bytes,
            max_age,
            machine,
            rng,
            client_id,
            former,
            resumed_to,
        } = start;
        let found_bytes = catalog.total_bytes();
        let found = segments.values().flat_map(|segment| &segment.accepted);
        let sources = Sources::new(journal.state(), found.copied());
        let age = AgeClock::new(now(), wall_clock::millis());
        space.time_with(move || age.accepts(now(), wall_clock::millis()));
        Self {
            guard,
            threads: Some((maker, syncer)),
            written,
            space,
            catalog,
            journal,
            overflowed: false,
            delayed: Vec::new(),
            segments,
            leaving: BTreeMap::new(),
            open: BTreeMap::new(),
            next_number,
            segment_bytes,
            max_bytes,
            max_age,
            partitions: BTreeMap::new(),
            closed_at: BTreeMap::new(),
            started_at: age.passed(now()),
            age,
            machine,
            rng,
            counts: Counts::new(&client_id, former.all()),
            making: BTreeMap::new(),
            indexes: BTreeMap::new(),
            moving: false,
            settled: true,
            copies: VecDeque::new(),
            copied: 0,
            handed_over: 0,
            unmovable: BTreeSet::new(),
            rejections: Rejections::default(),
            resumption: Resumption::new(former, resumed_to),
            acked: BTreeMap::new(),
            sources,
            waiting: VecDeque::new(),
            round: 0,
            trouble: None,
            cramped: false,
            found_bytes,
            clock,
            alarm: Alarm::default(),
        }
    }

    /// Answers those who wait for space.
    fn serve(&mut self) {
        let now = now();
        while let Some(waiting) = self.waiting.pop_front() {
            if self.space.has_any() {
                let _ = waiting.reply.send(Ok(()));
            } else if waiting.deadline <= now {
                let _ = waiting.reply.send(Err(self.why_no_space()));
            } else if !waiting.reply.is_closed() {
                self.waiting.push_front(waiting);
                break;
            }
        }
    }

    fn why_no_space(&self) -> Arc<str> {
        match &self.trouble {
            Some(why) => Arc::clone(why),
            None if self.is_full() => {
                format!("forebay.spool.max.bytes ({}) is reached", self.max_bytes).into()
            }
            None => "the disk is too slow".into(),
        }
    }

    /// Does something when all that was written up to now is on the disk.
    fn when_synced(
        &mut self,
        ctx: &mut Context<Self>,
        then: impl FnOnce(&mut Self, &mut Context<Self>) + 'static,
    ) {
        self.when_synced_boxed(ctx, Box::new(then));
    }

    fn when_synced_boxed(&mut self, ctx: &mut Context<Self>, then: Then) {
        if self.overflowed {
            return self.delayed.push(then);
        }
        let (synced, began) = (self.written.synced(), now());
        guard::spawn(ctx, synced, move |actor: &mut Self, synced, ctx| {
            match synced {
                Ok(()) => {
                    let took = now().saturating_duration_since(began);
                    actor.counts.synced(took);
                    then(actor, ctx);
                }
                // Another file takes the place of the one that failed, and is synced instead.
                Err(why) => {
                    tracing::warn!(%why, "the spool could not be synced");
                    guard::later(ctx, SYNC_AGAIN, move |actor: &mut Self, ctx| {
                        actor.when_synced_boxed(ctx, then);
                    });
                }
            }
        });
    }

    fn write(&mut self, entry: &Entry) {
        self.overflowed |= !self.journal.write(entry);
        self.see_to_journal();
    }

    /// Does something after a while, unless this actor restarts meanwhile.
    fn later(
        &self,
        ctx: &mut Context<Self>,
        wait: Duration,
        work: impl FnOnce(&mut Self, &mut Context<Self>) + 'static,
    ) {
        let round = self.round;
        guard::later(ctx, wait, move |actor: &mut Self, ctx| {
            if actor.round == round {
                work(actor, ctx);
            }
        });
    }

    fn set_alarm(&mut self, ctx: &mut Context<Self>) {
        let acked = (!self.acked.is_empty()).then(|| now() + NOTE_ACKED);
        let waiting = self.waiting.front().map(|it| it.deadline);
        if let Some(at) = acked.into_iter().chain(waiting).min() {
            self.alarm.set(&self.clock, at, || Arc::new(ctx.address()));
        }
    }
}

impl Sleeper for Addr<SpoolActor> {}

impl Actor for SpoolActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.index_found(ctx);
        self.free(self.catalog.free(), ctx);
        self.look_for_old(ctx);
        self.look(ctx);
    }
}

guarded!(
    SpoolActor: OpenSlot, SlotTaken, PassedOver, Resent, WaitForSpace, SpaceChanged, RecordId, RecordLine,
    RecordOutcomes, ReadBackFrom, WaitForResumed, OpenSource, ProgressOf, Tick, DiskTold, Resync
);

impl Guarded for SpoolActor {
    fn guard(&mut self) -> &mut Guard {
        &mut self.guard
    }

    /// What was lost with a message is asked for again: by partitions, by those who wait for space, and here.
    fn restart(&mut self, ctx: &mut Context<Self>) -> usize {
        self.alarm = Alarm::default();
        self.round += 1;
        self.unmake();
        for name in self.written.broken() {
            self.give_up(&name);
        }
        self.free(self.catalog.free(), ctx);
        self.close_segments(self.without_index(), ctx);
        self.moving = false;
        self.settled = true;
        self.hand_over(ctx, |_, _| {});
        self.look_for_old(ctx);
        // It looks, too.
        self.reject_next(ctx);
        self.tell_next(ctx);
        self.set_alarm(ctx);
        0
    }

    fn fail(&mut self, why: &Arc<str>, _: &mut Context<Self>) {
        self.space.close();
        self.resumption.give_up();
        for waiting in self.waiting.drain(..) {
            let _ = waiting.reply.send(Err(Arc::clone(why)));
        }
    }
}

impl On<Resync> for SpoolActor {
    fn on(&mut self, _: Resync, ctx: &mut Context<Self>) {
        self.alarm = Alarm::default();
        self.look(ctx);
        self.set_alarm(ctx);
    }
}

impl On<OpenSlot> for SpoolActor {
    fn on(&mut self, message: OpenSlot, _: &mut Context<Self>) {
        let OpenSlot {
            place,
            topic_partition,
        } = message;
        let SpoolPlace {
            slot,
            from,
            topic_id,
        } = place;
        // First: without it those before would be missing.
        if from > 0 {
            self.write(&Entry::past(slot, 0..from, 0));
        }
        self.write(&Entry::Slot {
            slot,
            topic_id: topic_id.into_bytes(),
            partition: topic_partition.partition,
            topic: Arc::clone(&topic_partition.topic),
        });
        self.space.register_from(slot, from);
    }
}

impl On<SlotTaken> for SpoolActor {
    fn on(&mut self, message: SlotTaken, ctx: &mut Context<Self>) {
        let SlotTaken {
            slot,
            who,
            open_from,
        } = message;
        self.partitions.insert(slot, who);
        // Acked records are told once. That may have been lost.
        self.resumption.former.settle(slot, 0..open_from);
        self.tell_resumed(ctx);
        self.doubt_slot(slot);
    }
}

impl On<PassedOver> for SpoolActor {
    fn on(&mut self, PassedOver { slot, positions }: PassedOver, ctx: &mut Context<Self>) {
        self.note_acked();
        self.write(&Entry::past(slot, positions.clone(), 0));
        let free = self.catalog.settle(slot, positions, 0);
        self.free(free, ctx);
    }
}

impl On<WaitForSpace> for SpoolActor {
    fn on(&mut self, message: WaitForSpace, ctx: &mut Context<Self>) {
        self.waiting.push_back(message);
        self.look(ctx);
        self.set_alarm(ctx);
    }
}

impl On<SpaceChanged> for SpoolActor {
    fn on(&mut self, _: SpaceChanged, ctx: &mut Context<Self>) {
        self.look(ctx);
    }
}

impl On<RecordId> for SpoolActor {
    fn on(&mut self, RecordId { name, producer_id }: RecordId, _: &mut Context<Self>) {
        self.write(&Entry::Id { name, producer_id });
    }
}

impl On<RecordLine> for SpoolActor {
    fn on(&mut self, RecordLine { slot, line, who }: RecordLine, ctx: &mut Context<Self>) {
        self.note_acked();
        self.write(&Entry::Line { slot, line });
        self.when_synced(ctx, move |_, _| who.do_send(LineRecorded(line)));
    }
}

impl On<DiskTold> for SpoolActor {
    fn on(&mut self, DiskTold(event): DiskTold, ctx: &mut Context<Self>) {
        match event {
            DiskEvent::Made { name, file } => self.made(name, file, ctx),
            DiskEvent::Freed { name, done } | DiskEvent::Removed { name, done } => {
                self.left(&name, done, ctx);
            }
            DiskEvent::Renamed { .. } => {}
            DiskEvent::Appended { name, number, done } => self.appended(&name, number, done, ctx),
            DiskEvent::NoSpare { error } => tracing::warn!(%error, "the spool has no spare file"),
            DiskEvent::SyncFailed { name, error } => {
                tracing::error!(%error, name = &*name, "what was written last to the spool is in doubt");
                self.give_up(&name);
            }
        }
    }
}

impl On<Tick> for SpoolActor {
    fn on(&mut self, _: Tick, ctx: &mut Context<Self>) {
        self.alarm.rang();
        self.note_acked();
        self.serve();
        self.set_alarm(ctx);
    }
}

impl Handler<Stop> for SpoolActor {
    type Result = ResponseFuture<()>;

    /// Answers when the directory can be used by the next producer.
    fn handle(&mut self, _: Stop, ctx: &mut Context<Self>) -> Self::Result {
        self.space.close();
        self.look(ctx);
        self.note_acked();
        for waiting in self.waiting.drain(..) {
            let _ = waiting.reply.send(Err("the producer is closed".into()));
        }
        ctx.stop();
        // Partitions that ended have told what is in the journal only now.
        let synced = self.machine.then(|| self.written.synced());
        let threads = self.threads.take();
        let untold = self.tell_rest();
        Box::pin(async move {
            if let Some(synced) = synced
                && let Ok(Err(why)) = tokio::time::timeout(LAST_SYNC, synced).await
            {
                tracing::error!(%why, "what was written last to the spool is in doubt");
            }
            untold.await;
            let _panic = aside(move || {
                if let Some((maker, syncer)) = threads {
                    syncer.join();
                    maker.join();
                }
            })
            .await;
        })
    }
}

#[cfg(test)]
mod tests;
