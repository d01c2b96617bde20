//! The SpoolActor: owns the journal and the catalog of the spool. It says what may be deleted, has space
//! made, and reads back. It is there with `forebay.spool.dir`.

mod reading;

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use rand::Rng;
use rand::rngs::SmallRng;

use super::clock::{Alarm, ClockActor};
use super::guard::{self, Guard, Guarded, On, guarded};
use super::messages::*;
use super::now;
use crate::core::spool::{
    Catalog, EmptySegment, Entry, Fate, FileHeader, JournalWriter, Kind, Space, SpaceEvent,
};
use crate::disk::{
    DiskError, DiskEvent, FileOrder, Maker, SegmentFile, StoredFile, Syncer, Written, file_name,
    parse_name,
};
use reading::{Part, Plan, aside, read};

/// Acked records are noted so late at most. What a crash keeps the journal from hearing is found in the log.
const NOTE_ACKED: Duration = Duration::from_millis(100);

/// When a sync is tried again that failed.
const SYNC_AGAIN: Duration = Duration::from_millis(100);

/// Bytes of records that are read back at a time.
const READ_BACK: usize = 256 << 10;

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
    /// Outcomes are told when they are on the disk.
    pub machine: bool,
    pub rng: SmallRng,
}

/// A chunk that is being filled.
struct OpenChunk {
    segment: u64,
    offset: u32,
    length: u32,
    position: u64,
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
    segments: BTreeMap<u64, SegmentFile>,
    /// By slot.
    open: BTreeMap<u32, OpenChunk>,
    next_number: u64,
    segment_bytes: u64,
    max_bytes: u64,
    machine: bool,
    rng: SmallRng,
    /// Files that are being made, by their numbers, and their salts.
    making: BTreeMap<u64, (Kind, u64)>,
    /// Acked records that the journal does not have yet: the positions, and the offset behind them.
    acked: BTreeMap<u32, (Range<u64>, i64)>,
    /// Callers who wait for space.
    waiting: VecDeque<WaitForSpace>,
    /// What is wrong with the disk.
    trouble: Option<Arc<str>>,
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
            machine,
            rng,
        } = start;
        Self {
            guard,
            threads: Some((maker, syncer)),
            written,
            space,
            catalog,
            journal,
            segments,
            open: BTreeMap::new(),
            next_number,
            segment_bytes,
            max_bytes,
            machine,
            rng,
            making: BTreeMap::new(),
            acked: BTreeMap::new(),
            waiting: VecDeque::new(),
            trouble: None,
            clock,
            alarm: Alarm::default(),
        }
    }

    /// Takes note of chunks that were begun and filled, and has a segment made if none is ready.
    fn look(&mut self, ctx: &mut Context<Self>) {
        let (mut free, mut left) = (Vec::new(), Vec::new());
        for event in self.space.events() {
            match event {
                SpaceEvent::Opened {
                    segment,
                    offset,
                    length,
                    slot,
                    position,
                } => {
                    self.catalog.chunk_opened(segment, offset);
                    let open = OpenChunk {
                        segment,
                        offset,
                        length,
                        position,
                    };
                    self.open.insert(slot, open);
                }
                SpaceEvent::Closed { segment, used, .. } => {
                    let is_it =
                        |open: &OpenChunk| (open.segment, open.offset) == (segment, used.offset);
                    if self.open.get(&used.slot).is_some_and(is_it) {
                        self.open.remove(&used.slot);
                    }
                    left.push(segment);
                    if self.catalog.chunk_closed(segment, used) {
                        free.push(segment);
                    }
                }
                SpaceEvent::Left(segment) => {
                    left.push(segment);
                    if self.catalog.segment_full(segment) {
                        free.push(segment);
                    }
                }
            }
        }
        left.sort_unstable();
        left.dedup();
        left.retain(|segment| self.catalog.is_closed(*segment));
        for segment in left {
            self.is_written(segment, ctx);
        }
        self.free(free, ctx);
        self.make_segment();
        self.serve();
    }

    /// Has a segment made if none is ready, and there may be one more.
    fn make_segment(&mut self) {
        let making = self.making.values().any(|(kind, _)| *kind == Kind::Segment);
        if self.space.ready() > 0 || making {
            return;
        }
        let total = self.catalog.total_bytes() + self.segment_bytes;
        if total > self.max_bytes {
            let why = format!("forebay.spool.max.bytes ({}) is reached", self.max_bytes);
            self.trouble = Some(why.into());
            return;
        }
        self.make(Kind::Segment, self.segment_bytes);
    }

    /// Has the next journal made, with so many bytes at least.
    fn make_journal(&mut self, least: u64) {
        let len = JournalWriter::len_for(self.journal.state(), least);
        self.make(Kind::Journal, len);
    }

    fn make(&mut self, kind: Kind, len: u64) {
        let number = self.next_number;
        self.next_number += 1;
        self.making.insert(number, (kind, self.rng.random()));
        let name = file_name(kind, number);
        self.order(FileOrder::Make { name, len });
    }

    /// Answers those who wait for space.
    fn serve(&mut self) {
        let now = now();
        while let Some(waiting) = self.waiting.pop_front() {
            if self.space.has_any() {
                let _ = waiting.reply.send(Ok(()));
            } else if waiting.deadline <= now {
                let why = self.trouble.clone();
                let why = why.unwrap_or_else(|| "the disk is too slow".into());
                let _ = waiting.reply.send(Err(why));
            } else if !waiting.reply.is_closed() {
                self.waiting.push_front(waiting);
                break;
            }
        }
    }

    /// Gives segments back that nobody needs, once the disk has what says so.
    fn free(&mut self, segments: Vec<u64>, ctx: &mut Context<Self>) {
        if segments.is_empty() {
            return;
        }
        self.note_acked();
        self.when_synced(ctx, move |actor, ctx| {
            for number in segments {
                if actor.catalog.is_free(number) {
                    actor.catalog.removed(number);
                    actor.written.remove(number);
                    let name = file_name(Kind::Segment, number);
                    if let Some(SegmentFile { file, .. }) = actor.segments.remove(&number) {
                        actor.order(FileOrder::Free { name, file });
                    }
                }
            }
            actor.look(ctx);
        });
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
        let synced = self.written.synced();
        guard::spawn(ctx, synced, move |actor: &mut Self, synced, ctx| {
            match synced {
                Ok(()) => then(actor, ctx),
                // Another file takes the place of the one that failed, and is synced instead.
                Err(why) => {
                    tracing::warn!(%why, "the spool could not be synced");
                    ctx.run_later(SYNC_AGAIN, move |actor, ctx| {
                        actor.when_synced_boxed(ctx, then);
                    });
                }
            }
        });
    }

    fn write(&mut self, entry: &Entry) {
        let _ = self.journal.write(entry);
        let making = self.making.values().any(|(kind, _)| *kind == Kind::Journal);
        if self.journal.is_half_full() && !making {
            self.make_journal(journal_bytes(self.segment_bytes));
        }
    }

    /// The journal gets what was acked since the last time.
    fn note_acked(&mut self) {
        for (slot, (Range { start, end }, floor)) in std::mem::take(&mut self.acked) {
            self.write(&Entry::Past {
                slot,
                from: start,
                to: end,
                floor,
            });
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

    fn set_alarm(&mut self, ctx: &mut Context<Self>) {
        let acked = (!self.acked.is_empty()).then(|| now() + NOTE_ACKED);
        let waiting = self.waiting.front().map(|it| it.deadline);
        if let Some(at) = acked.into_iter().chain(waiting).min() {
            self.alarm.set(&self.clock, at, || Arc::new(ctx.address()));
        }
    }

    /// Where records of a slot are, from a position on.
    fn plan(&self, slot: u32, from: u64, most: u64) -> Plan {
        let end = from.saturating_add(most);
        let mut parts = Vec::new();
        let mut bytes = 0;
        let mut add = |segment: u64, offset: u32, length: u32, positions: Range<u64>| {
            if let Some(file) = self.segments.get(&segment) {
                parts.push(Part {
                    file: Arc::clone(&file.file),
                    salt: file.salt,
                    offset,
                    length,
                    positions,
                });
            }
        };
        for held in self.catalog.held(slot, from) {
            if bytes >= READ_BACK || held.from >= end {
                break;
            }
            bytes += held.used.bytes as usize;
            let positions = held.from.max(from)..held.to.min(end);
            add(held.segment, held.used.offset, held.used.bytes, positions);
        }
        if let Some(open) = self.open.get(&slot)
            && bytes < READ_BACK
            && open.position < end
        {
            let positions = open.position.max(from)..end;
            add(open.segment, open.offset, open.length, positions);
        }
        Plan {
            from,
            most: READ_BACK,
            parts,
        }
    }

    fn order(&self, order: FileOrder) {
        if let Some((maker, _)) = &self.threads
            && let Err(error) = maker.order(order)
        {
            tracing::error!(%error, "nothing can be done with files of the spool any more");
        }
    }

    fn watch(&self, number: u64, name: &str, file: &Arc<dyn StoredFile>) {
        if let Some((_, syncer)) = &self.threads {
            let watched = syncer.queue().watch(name, Arc::clone(file));
            self.written.add(number, watched);
        }
    }

    /// Nothing is written to the file any more. What it was for goes to another one.
    fn give_up(&mut self, name: &str) {
        match parse_name(name) {
            // Until the next one says all that it does, nothing in it is on the disk: it stays among those
            // that are waited for.
            Some((Kind::Journal, number)) if number == self.journal.number() => {
                self.make_journal(journal_bytes(self.segment_bytes));
            }
            Some((Kind::Segment, number)) if self.segments.contains_key(&number) => {
                self.written.give_up(number);
                self.space.give_up(number);
            }
            _ => {}
        }
    }

    /// All that was written to a segment is on the disk, and nothing more comes.
    fn is_written(&mut self, number: u64, ctx: &mut Context<Self>) {
        self.when_synced(ctx, move |actor, _| actor.written.remove(number));
    }

    fn made(
        &mut self,
        name: String,
        made: Result<Arc<dyn StoredFile>, DiskError>,
        ctx: &mut Context<Self>,
    ) {
        let Some((_, number)) = parse_name(&name) else {
            return;
        };
        let Some((kind, salt)) = self.making.remove(&number) else {
            return;
        };
        let file = match made {
            Ok(file) => file,
            Err(why) => {
                tracing::error!(%why, name, "a file of the spool cannot be made");
                self.trouble = Some(why.to_string().into());
                return self.retry(ctx);
            }
        };
        let header = FileHeader {
            number,
            salt,
            length: file.len() as u64,
        };
        match kind {
            Kind::Journal => self.next_journal(file, header, ctx),
            Kind::Segment | Kind::Index => {
                file.write(0, &header.page(Kind::Segment));
                self.trouble = None;
                self.watch(number, &name, &file);
                self.catalog.segment(number, header.length, false);
                let region = Arc::clone(&file) as _;
                self.segments.insert(number, SegmentFile { file, salt });
                self.space.add(EmptySegment {
                    number,
                    salt,
                    region,
                });
                self.serve();
            }
        }
    }

    fn next_journal(
        &mut self,
        file: Arc<dyn StoredFile>,
        header: FileHeader,
        ctx: &mut Context<Self>,
    ) {
        let former = self.journal.number();
        let name = file_name(Kind::Journal, header.number);
        self.watch(header.number, &name, &file);
        if !self.journal.go_on(file as _, header) {
            return self.make_journal(2 * header.length);
        }
        // The new one says all that it said.
        self.written.remove(former);
        self.when_synced(ctx, move |actor, _| {
            let name = file_name(Kind::Journal, former);
            actor.order(FileOrder::Remove { name });
        });
    }

    /// Tries again in a second what failed.
    fn retry(&mut self, ctx: &mut Context<Self>) {
        ctx.run_later(Duration::from_secs(1), |actor, ctx| actor.look(ctx));
    }
}

impl Sleeper for Addr<SpoolActor> {}

impl Actor for SpoolActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.free(self.catalog.free(), ctx);
        self.look(ctx);
    }
}

guarded!(
    SpoolActor: OpenSlot, WaitForSpace, SpaceChanged, RecordId, RecordLine, RecordOutcomes,
    ReadBackFrom, Tick, DiskTold, Resync
);

impl Guarded for SpoolActor {
    fn guard(&mut self) -> &mut Guard {
        &mut self.guard
    }

    /// What was lost with a message is asked for again: by partitions, by those who wait for space, and here.
    /// A file that was made for nobody is removed by the next start.
    fn restart(&mut self, ctx: &mut Context<Self>) -> usize {
        self.alarm = Alarm::default();
        self.making.clear();
        self.free(self.catalog.free(), ctx);
        self.look(ctx);
        self.set_alarm(ctx);
        0
    }

    fn fail(&mut self, why: &Arc<str>, _: &mut Context<Self>) {
        self.space.close();
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
            slot,
            topic_partition,
            topic_id,
        } = message;
        self.write(&Entry::Slot {
            slot,
            topic_id: topic_id.into_bytes(),
            partition: topic_partition.partition,
            topic: Arc::clone(&topic_partition.topic),
        });
        self.space.register(slot);
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

impl On<RecordOutcomes> for SpoolActor {
    fn on(&mut self, message: RecordOutcomes, ctx: &mut Context<Self>) {
        let RecordOutcomes { slot, records, who } = message;
        let (mut free, mut told) = (Vec::new(), Vec::new());
        for record in records {
            let (position, count) = (record.position, record.count.unsigned_abs());
            let positions = position..position + u64::from(count);
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
        match (told.is_empty(), self.machine) {
            (true, _) => {}
            (false, false) => who.do_send(OutcomesRecorded(told)),
            (false, true) => self.when_synced(ctx, move |_, _| who.do_send(OutcomesRecorded(told))),
        }
        self.free(free, ctx);
        self.set_alarm(ctx);
    }
}

impl On<ReadBackFrom> for SpoolActor {
    fn on(&mut self, message: ReadBackFrom, ctx: &mut Context<Self>) {
        let ReadBackFrom {
            slot,
            position,
            records,
            who,
        } = message;
        self.look(ctx);
        let plan = self.plan(slot, position, records);
        let reading = aside(move || read(plan));
        guard::spawn(ctx, reading, move |_: &mut Self, read, _| {
            let read = read.unwrap_or_default();
            who.do_send(ReadBackDone {
                position,
                batches: read.batches,
                missing: read.missing,
            });
        });
    }
}

impl On<DiskTold> for SpoolActor {
    fn on(&mut self, DiskTold(event): DiskTold, ctx: &mut Context<Self>) {
        match event {
            DiskEvent::Made { name, file } => self.made(name, file, ctx),
            DiskEvent::Freed { name, done } | DiskEvent::Removed { name, done } => {
                if let Err(error) = done {
                    tracing::error!(%error, name, "a file of the spool is not needed, and stays");
                }
            }
            DiskEvent::Renamed { .. } => {}
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
        let threads = self.threads.take();
        let ending = aside(move || {
            if let Some((maker, syncer)) = threads {
                syncer.join();
                maker.join();
            }
        });
        Box::pin(async move {
            let _panic = ending.await;
        })
    }
}
