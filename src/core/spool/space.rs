//! Space for chunks: the segment that is being filled, and those that are ready to follow it.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::chunk::{self, Batch, Chunk, ChunkUse, Place};
use super::file_header::PAGE;
use super::frame::Source;
use super::region::Region;

/// A segment that nothing is in yet.
#[derive(Debug, Clone)]
pub struct EmptySegment {
    pub number: u64,
    pub salt: u64,
    pub region: Arc<dyn Region>,
}

/// What the spool's owner has to know of chunks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpaceEvent {
    /// A partition fills this chunk from now on.
    Opened {
        segment: u64,
        offset: u32,
        length: u32,
        slot: u32,
        position: u64,
    },
    /// A chunk is filled.
    Closed {
        segment: u64,
        used: ChunkUse,
        accepted: Vec<Source>,
    },
    /// Records are copied into a chunk here from now on.
    Copying { segment: u64, offset: u32 },
    /// They are copied.
    Copied {
        segment: u64,
        used: ChunkUse,
        accepted: Vec<Source>,
    },
    /// No more chunks are taken from this segment.
    Left(u64),
}

/// Gives partitions places for their chunks, one behind the other.
///
/// Invariant: chunks of a segment have no gaps between them. A reader that knows the length of one finds the
/// next, so nothing hides behind a chunk whose owner was killed.
pub struct Space {
    inner: Mutex<Inner>,
    /// How often segments were given up. Chunks of before are left.
    given_up: AtomicU64,
    wake: OnceLock<Box<dyn Fn() + Send + Sync>>,
    /// Milliseconds since 1970.
    clock: OnceLock<Box<dyn Fn() -> i64 + Send + Sync>>,
}

/// The segment that is being filled.
struct Active {
    segment: EmptySegment,
    /// Where the next chunk begins.
    at: usize,
    /// It was the last one that was ready, and copies took it. Until another is ready it is for copies alone:
    /// callers would fill it, and what makes space would find none.
    for_copies: bool,
}

#[derive(Default)]
struct Inner {
    active: Option<Active>,
    ready: VecDeque<EmptySegment>,
    events: Vec<SpaceEvent>,
    /// The slots that the journal has, with the position of the next record. Nothing is copied for others.
    slots: HashMap<u32, u64>,
    /// Segments that are ready, and for copies alone.
    reserved: usize,
    closed: bool,
}

impl Space {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            inner: Mutex::default(),
            given_up: AtomicU64::new(0),
            wake: OnceLock::new(),
            clock: OnceLock::new(),
        })
    }

    /// Sets how its owner is woken, when there is an event. Only the first call counts.
    pub fn wake_with(&self, wake: impl Fn() + Send + Sync + 'static) {
        let _ = self.wake.set(Box::new(wake));
    }

    /// Sets what tells the time, in milliseconds since 1970. Only the first call counts.
    pub fn time_with(&self, clock: impl Fn() -> i64 + Send + Sync + 'static) {
        let _ = self.clock.set(Box::new(clock));
    }

    /// Milliseconds since 1970.
    pub fn time(&self) -> i64 {
        self.clock.get().map_or(0, |clock| clock())
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics under it half way.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        if let Some(wake) = self.wake.get() {
            wake();
        }
    }

    /// Another segment is ready.
    pub fn add(&self, segment: EmptySegment) {
        let mut inner = self.inner();
        inner.ready.push_back(segment);
        if let Some(active) = &mut inner.active {
            active.for_copies = false;
        }
    }

    /// Segments that are ready and not begun.
    pub fn ready(&self) -> usize {
        self.inner().ready.len()
    }

    /// Whether a chunk can be begun, unless it is to be very long.
    pub fn has_any(&self) -> bool {
        let inner = self.inner();
        let active = inner.active.as_ref();
        active.map_or(inner.ready.len() > inner.reserved, |it| !it.for_copies)
    }

    /// Keeps so many of the segments that are ready for copies: without any a full spool could not free what
    /// is mostly settled.
    pub fn reserve(&self, segments: usize) {
        self.inner().reserved = segments;
    }

    /// The journal has this slot.
    pub fn register(&self, slot: u32) {
        self.register_from(slot, 0);
    }

    /// The same with a slot whose first record has this position.
    pub fn register_from(&self, slot: u32, first: u64) {
        self.inner().slots.entry(slot).or_insert(first);
    }

    /// A slot whose next record has this position.
    pub fn resume(&self, slot: u32, next: u64) {
        self.inner().slots.insert(slot, next);
    }

    /// The position of the slot's next record.
    pub fn next_position(&self, slot: u32) -> u64 {
        self.inner().slots.get(&slot).copied().unwrap_or_default()
    }

    /// The segment takes no more: its disk has failed. All partitions leave their chunks.
    pub fn give_up(&self, number: u64) {
        let mut inner = self.inner();
        let is_it = |active: &mut Active| active.segment.number == number;
        if inner.active.take_if(is_it).is_some() {
            inner.events.push(SpaceEvent::Left(number));
        }
        if inner.ready.iter().any(|segment| segment.number == number) {
            inner.ready.retain(|segment| segment.number != number);
            inner.events.push(SpaceEvent::Left(number));
        }
        drop(inner);
        self.given_up.fetch_add(1, Ordering::Release);
        self.wake();
    }

    /// How often segments were given up.
    #[inline]
    pub fn given_up(&self) -> u64 {
        self.given_up.load(Ordering::Relaxed)
    }

    /// Gives out nothing any more.
    pub fn close(&self) {
        self.inner().closed = true;
    }

    /// What happened since the last call.
    pub fn events(&self) -> Vec<SpaceEvent> {
        std::mem::take(&mut self.inner().events)
    }

    /// Begins a chunk of `wanted` bytes, or of fewer where the segment has no more, but `least`. `None` if
    /// no segment is ready.
    pub fn begin(
        &self,
        (wanted, least): (usize, usize),
        slot: u32,
        position: u64,
        batch: Option<Batch>,
    ) -> Option<(u64, Chunk)> {
        let time = self.time();
        let mut inner = self.inner();
        let begun = inner.begin((wanted, least), slot, position, (batch, time));
        let any = !inner.events.is_empty();
        drop(inner);
        if any {
            self.wake();
        }
        begun
    }

    /// Begins a chunk of `length` bytes for copies of records that are in another one, which was begun at
    /// `begun`. `None` if there is no space.
    pub fn begin_copy(
        &self,
        length: usize,
        slot: u32,
        position: u64,
        (batch, begun): (Option<Batch>, i64),
    ) -> Option<(u64, Chunk)> {
        let mut inner = self.inner();
        let begun = inner.begin_copy(length, slot, position, (batch, begun));
        drop(inner);
        self.wake();
        begun
    }

    /// All that was to be copied into the chunk is there.
    pub fn end_copy(&self, segment: u64, chunk: &Chunk) {
        let copied = SpaceEvent::Copied {
            segment,
            used: chunk.used(),
            accepted: chunk.accepted().to_vec(),
        };
        self.inner().events.push(copied);
        self.wake();
    }

    /// A chunk takes no more.
    pub fn end(&self, segment: u64, chunk: &Chunk) {
        let closed = SpaceEvent::Closed {
            segment,
            used: chunk.used(),
            accepted: chunk.accepted().to_vec(),
        };
        let mut inner = self.inner();
        let next = inner.slots.entry(chunk.used().slot).or_default();
        *next = chunk.next_position().max(*next);
        inner.events.push(closed);
        drop(inner);
        self.wake();
    }
}

impl Inner {
    fn begin(
        &mut self,
        (wanted, least): (usize, usize),
        slot: u32,
        position: u64,
        (batch, time): (Option<Batch>, i64),
    ) -> Option<(u64, Chunk)> {
        let for_copies = self.active.as_ref().is_some_and(|active| active.for_copies);
        if self.closed || for_copies || !self.slots.contains_key(&slot) {
            return None;
        }
        let (segment, place) = self.place((wanted, least), self.reserved, time)?;
        let (offset, length) = (place.at, place.length);
        let chunk = Chunk::begin(place, slot, position, batch)?;
        self.take(length);
        self.events.push(SpaceEvent::Opened {
            segment,
            offset,
            length,
            slot,
            position,
        });
        Some((segment, chunk))
    }

    fn begin_copy(
        &mut self,
        wanted: usize,
        slot: u32,
        position: u64,
        (batch, begun): (Option<Batch>, i64),
    ) -> Option<(u64, Chunk)> {
        if self.closed {
            return None;
        }
        let (segment, place) = self.place((wanted, wanted), 0, begun)?;
        let (offset, length) = (place.at, place.length);
        let chunk = Chunk::begin(place, slot, position, batch)?;
        self.take(length);
        self.events.push(SpaceEvent::Copying { segment, offset });
        Some((segment, chunk))
    }

    /// The next place of `wanted` bytes, or of fewer, but `least`. `kept`: so many of the segments that are
    /// ready are not begun.
    fn place(
        &mut self,
        (wanted, least): (usize, usize),
        kept: usize,
        begun: i64,
    ) -> Option<(u64, Place)> {
        let room = |active: &Active| active.segment.region.len().saturating_sub(active.at);
        if let Some(full) = self.active.take_if(|active| room(active) < least) {
            self.events.push(SpaceEvent::Left(full.segment.number));
        }
        if self.active.is_none() {
            if self.ready.len() <= kept {
                return None;
            }
            self.active = Some(Active {
                segment: self.ready.pop_front()?,
                at: PAGE,
                for_copies: self.ready.len() < self.reserved,
            });
        }
        let Active { segment, at, .. } = self.active.as_ref()?;
        let left = segment.region.len().checked_sub(*at)?;
        let length = wanted.max(least).min(left) / chunk::ALIGN * chunk::ALIGN;
        let place = Place {
            region: Arc::clone(&segment.region),
            salt: segment.salt,
            at: u32::try_from(*at).ok()?,
            length: u32::try_from(length).ok()?,
            begun,
        };
        Some((segment.number, place))
    }

    /// A chunk was begun at the place.
    fn take(&mut self, length: u32) {
        if let Some(active) = &mut self.active {
            active.at += length as usize;
        }
    }
}

impl fmt::Debug for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Space")
            .field("ready", &self.ready())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
