//! The stage of a partition: the batch that callers append to, and the sealed batches that the
//! partition's actor has not collected yet.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::ptr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use crate::core::ack::{Ack, Filling};
use crate::core::batch::{OpenBatch, RecordRef};
use crate::core::delivery::{Callback, Listener};
use crate::core::memory::{Buffer, Sizes};
use crate::core::spool::{Appending, Seat, Source};
use crate::core::sync::{AtomicUsize, Claim, ClaimGuard};
use crate::core::transaction::Scope;

/// What a caller wants in addition to the append.
#[derive(Default)]
pub struct AppendOptions<'a> {
    pub callback: Option<Callback>,
    pub listeners: &'a [Arc<dyn Listener>],
    /// The transaction that the record is part of, if it is of one.
    pub scope: Option<Arc<Scope>>,
    /// The sticky partitioner chose the partition. It has to learn how many bytes went there.
    pub sticky: bool,
    /// That the spool has it on the disk is waited for later, with others.
    pub synced_later: bool,
    /// The source that the record is of, with its position there. It is in the spool, or it is refused.
    pub source: Option<&'a Source>,
}

impl<'a> AppendOptions<'a> {
    pub fn for_listeners(listeners: &'a [Arc<dyn Listener>]) -> Self {
        Self {
            listeners,
            ..Self::default()
        }
    }

    /// Whether nothing is to be told apart from the receipt.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.listeners.is_empty() && self.callback.is_none()
    }

    /// Registers the listeners and the callback with the batch.
    fn leave(&mut self, open: &mut OpenBatch, index: u32, timestamp: i64) {
        for listener in self.listeners {
            open.listen(listener);
        }
        if let Some(callback) = self.callback.take() {
            open.call_back(index, timestamp, callback);
        }
    }
}

/// An accepted record.
#[derive(Debug)]
pub struct Appended {
    pub index: u32,
    pub ack: Arc<Ack>,
}

/// The result of an append.
#[derive(Debug)]
pub enum Append {
    Done(Appended),
    /// The record needs a buffer of at least `size` bytes, and the caller brought none. It has to
    /// try again with one.
    NeedsMemory {
        size: usize,
        /// `Some` if the buffer is for a new batch, and `None` if it is for the open one to grow.
        /// The number is the bytes of sticky records in the batches since the partitioner was last
        /// told. They are reported once.
        begins: Option<usize>,
    },
    /// The spool has no space for the record now.
    NeedsSpace,
    /// The record is of a source, and the partition is not in the spool.
    NotSpooled,
    /// The stage takes no more records.
    Closed,
    /// The record's transaction takes no more records.
    Ended,
}

/// Bytes appended under one claim before it is released. They take about a microsecond.
const RUN: usize = 4096;

/// Decides whether a batch is due, from the time when it was opened: its linger is over, or memory
/// is used up. A due batch does not wait for more records.
pub(crate) fn due(linger: Duration, pressure: bool, now: Instant) -> impl Fn(Instant) -> bool {
    move |opened| pressure || opened + linger <= now
}

/// Tells the leader's sender of a partition's batches, on the thread that fills them.
pub trait BatchObserver: Send + Sync {
    /// Another `bytes` are in sealed batches. With `ask`, the sender has to ask the partition for
    /// them. Without it, the sender was already told to, and has not asked yet.
    fn full(&self, bytes: usize, ask: bool);
    /// A batch took its first record at this time.
    fn opened(&self, at: Instant);
    /// The open batch, which took its first record at this time, is waited for. It may be told before
    /// [`opened`](Self::opened) is, by another thread.
    fn awaited(&self, at: Instant);
}

/// What is known of an open batch that stays on the stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lingering {
    /// When it took its first record.
    pub since: Instant,
    /// It is waited for.
    pub awaited: bool,
}

/// Whether an open batch of so many records, with so many of them `awaited`, is waited for: it may go before
/// its linger is over, when nothing is in flight to its broker.
///
/// Whoever awaits one record among many that nobody awaits would have all of them go in small batches. So
/// the others count as much.
fn is_awaited(awaited: u32, records: u32) -> bool {
    awaited >= records - awaited.min(records)
}

/// The stage of one partition.
///
/// Its claim is a spin lock. It is held to copy one record or a few kilobytes of them, or to move
/// the sealed batches to the actor. No user code runs and no thread waits under it. A thread that
/// finds it taken yields the processor. Releasing a spin lock is a plain store, where a mutex needs
/// a second atomic exchange.
///
/// An append that panics half way has not raised the batch's count: see `OpenBatch`.
///
/// Batches leave in the order in which they were filled: sealed batches wait here, under the same
/// claim. In messages they could overtake each other.
pub struct Stage {
    partition: i32,
    /// Of buffers. The largest one is `batch.size`.
    sizes: Sizes,
    /// Batches will be sent uncompressed.
    plain: bool,
    /// Wakes the partition's actor.
    wake: OnceLock<Box<dyn Fn() + Send + Sync>>,
    /// This stage, if batches may go sooner because they are waited for.
    hears: OnceLock<Weak<Self>>,
    /// The number of sealed batches, readable without the claim.
    queued: AtomicUsize,
    inner: Claim<Inner>,
}

#[derive(Default)]
struct Inner {
    open: Option<OpenBatch>,
    sealed: VecDeque<OpenBatch>,
    /// The actor or the observer was told of the open batch.
    known: bool,
    /// So many records of the open batch are waited for, and less than twice as many.
    awaited: u32,
    /// The actor or the observer was told to ask for sealed batches, and the partition has not
    /// collected them yet.
    signalled: bool,
    /// Bytes of sealed batches that were not reported yet.
    untold: usize,
    /// The next append has to check whether there is something to report.
    unreported: bool,
    /// The observer that is told of batches instead of the actor.
    observer: Option<Arc<dyn BatchObserver>>,
    closed: bool,
    /// Bytes of sticky records in sealed batches since the partitioner was last told.
    sticky_bytes: usize,
    /// Bytes of records in the open batch that are not sticky.
    other_bytes: usize,
    /// About what the next batch will need, as the last one did.
    expected: usize,
    /// Where records are copied to as they are appended, if the partition is in the spool.
    seat: Option<Box<Seat>>,
}

impl Stage {
    /// `plain`: batches will be sent uncompressed.
    pub fn new(partition: i32, batch_size: usize, plain: bool) -> Self {
        Self {
            partition,
            sizes: Sizes::new(batch_size),
            plain,
            wake: OnceLock::new(),
            hears: OnceLock::new(),
            queued: AtomicUsize::new(0),
            inner: Claim::new(Inner {
                unreported: true,
                ..Inner::default()
            }),
        }
    }

    /// Sets how the partition's actor is woken. Only the first call counts.
    pub fn wake_with(&self, wake: impl Fn() + Send + Sync + 'static) {
        let _ = self.wake.set(Box::new(wake));
    }

    /// Has the observer told when somebody waits for the outcome of records in the open batch. Only of use
    /// where batches linger.
    pub fn hear_who_waits(self: &Arc<Self>) {
        let _ = self.hears.set(Arc::downgrade(self));
    }

    /// Sets the observer that is told of batches from now on. With `None`, the partition's actor is
    /// told instead.
    pub fn set_observer(&self, observer: Option<Arc<dyn BatchObserver>>) {
        self.claim().observer = observer;
    }

    /// Copies what is appended from now on to the spool.
    pub fn set_seat(&self, seat: Seat) {
        self.claim().seat = Some(Box::new(seat));
    }

    /// Has what comes be in another place of the spool. All that came before is moved to the end of `full`.
    pub fn move_to(&self, seat: Option<Seat>, full: &mut VecDeque<OpenBatch>) {
        let mut inner = self.claim();
        self.seal_open(&mut inner, false);
        self.hand_over(&mut inner, full);
        inner.seat = seat.map(Box::new);
    }

    #[inline]
    fn claim(&self) -> ClaimGuard<'_, Inner> {
        self.inner.lock()
    }

    /// Appends a record to the open batch. If no batch is open, or one of another transaction, or the
    /// record does not fit, returns `None` and changes nothing. `receipt` makes the return value from
    /// the batch's ack and the record's index.
    #[inline]
    pub fn append_to_open<R>(
        &self,
        record: &RecordRef<'_>,
        scope: &Option<Arc<Scope>>,
        sticky: bool,
        receipt: impl FnOnce(&Arc<Ack>, u32) -> R,
    ) -> Option<R> {
        let mut inner = self.claim();
        // A closed stage has no open batch.
        let (index, open) = inner.add(record, scope, sticky, None)?;
        let receipt = receipt(open.ack(), index);
        if inner.unreported {
            let events = inner.appended();
            drop(inner);
            self.tell(events);
        }
        Some(receipt)
    }

    /// Appends records to the open batch, as long as they fit and for no longer than other threads
    /// can wait for the claim. Returns what `receipt` makes of the batch's ack and the first
    /// record's index, and the indices of all appended records. If none was appended, returns
    /// `None`.
    #[inline]
    pub fn append_run<'a, R>(
        &self,
        records: impl Iterator<Item = RecordRef<'a>>,
        scope: &Option<Arc<Scope>>,
        sticky: bool,
        receipt: impl FnOnce(&Arc<Ack>, u32) -> R,
    ) -> Option<(R, Range<u32>)> {
        let mut inner = self.claim();
        let Inner {
            open,
            other_bytes,
            seat,
            ..
        } = &mut *inner;
        let open = open.as_mut().filter(|open| open.is_of(scope))?;
        let (before, first) = (open.len(), open.count() as u32);
        let room = seat.as_ref().map_or(usize::MAX, |seat| seat.room());
        for record in records {
            let length = open.len() - before;
            let is_full =
                length >= RUN || room < usize::MAX && length + record.upper_bound() > room;
            if is_full || open.append(&record).is_none() {
                break;
            }
        }
        let indices = first..open.count() as u32;
        if indices.is_empty() {
            return None;
        }
        if let Some(seat) = seat {
            seat.append(&open.appended(before, first));
        }
        if !sticky {
            *other_bytes += open.len() - before;
        }
        let receipt = receipt(open.ack(), first);
        if inner.unreported {
            let events = inner.appended();
            drop(inner);
            self.tell(events);
        }
        Some((receipt, indices))
    }

    /// Appends a record. `memory` is taken only for a new batch or for the open one to grow.
    pub fn append(
        &self,
        record: &RecordRef<'_>,
        memory: &mut Option<Buffer>,
        options: &mut AppendOptions<'_>,
        now: impl FnOnce() -> Instant,
    ) -> Append {
        let mut inner = self.claim();
        let appended = self.append_under(&mut inner, record, memory, options, now);
        let events = match &appended {
            Append::Done(_) => inner.appended(),
            _ => inner.sealed(),
        };
        drop(inner);
        self.tell(events);
        appended
    }

    fn append_under(
        &self,
        inner: &mut Inner,
        record: &RecordRef<'_>,
        memory: &mut Option<Buffer>,
        options: &mut AppendOptions<'_>,
        now: impl FnOnce() -> Instant,
    ) -> Append {
        if inner.closed {
            return Append::Closed;
        }
        if options.source.is_some() && inner.seat.is_none() {
            return Append::NotSpooled;
        }
        if let Some(appended) = inner.append(record, options) {
            return Append::Done(appended);
        }
        if let Some(seat) = &mut inner.seat
            && !seat.make_room(record.upper_bound())
        {
            return Append::NeedsSpace;
        }
        if inner.seat.is_some()
            && let Some(appended) = inner.append(record, options)
        {
            return Append::Done(appended);
        }
        // Looked at under the claim. A flush that follows the end of a transaction finds all of its
        // batches, and none is opened behind it.
        if options.scope.as_ref().is_some_and(|scope| !scope.is_open()) {
            return Append::Ended;
        }
        if let Some(open) = &mut inner.open
            && open.is_of(&options.scope)
            && open.could_grow(record, self.sizes.largest())
        {
            let size = self.sizes.fit(open.size_with(record));
            let Some(larger) = memory.take_if(|buffer| buffer.capacity() >= size) else {
                let begins = None;
                return Append::NeedsMemory { size, begins };
            };
            open.grow(larger);
        } else {
            if inner.open.is_some() {
                self.seal_open(inner, true);
                if inner.sticky_bytes > 0 {
                    // A full batch counts as `batch.size`, even if its end stays unused.
                    inner.sticky_bytes = inner.sticky_bytes.max(self.sizes.largest());
                }
            }
            // A record too large for any gets a buffer of its own size.
            let needed = OpenBatch::buffer_size(record, inner.expected.min(self.sizes.largest()));
            let size = self.sizes.fit(needed).max(needed);
            let Some(buffer) = memory.take_if(|buffer| buffer.capacity() >= size) else {
                return inner.needs(size);
            };
            let (scope, partition) = (options.scope.clone(), self.partition);
            let mut open = OpenBatch::within(scope, buffer, partition, now(), self.plain);
            if inner.seat.is_some() {
                open.set_spooled();
            }
            if let Some(stage) = self.hears.get() {
                open.filled_by(Weak::clone(stage) as Weak<dyn Filling>);
            }
            inner.open = Some(open);
        }
        match inner.append(record, options) {
            Some(appended) => Append::Done(appended),
            // This cannot happen, because the sizes are upper bounds. Asking for memory again would
            // be right.
            None => inner.needs(self.sizes.largest()),
        }
    }

    /// When the open batch took its first record.
    pub fn open_since(&self) -> Option<Instant> {
        self.claim().open.as_ref().map(OpenBatch::opened_at)
    }

    /// The transaction of the open batch, if there is one that is part of one.
    pub fn open_scope(&self) -> Option<Arc<Scope>> {
        self.claim().open.as_ref()?.ack().scope().cloned()
    }

    /// The number of records and their bytes, in the open batch and the sealed ones.
    pub fn load(&self) -> (usize, usize) {
        let inner = self.claim();
        let batches = inner.sealed.iter().chain(&inner.open);
        batches.fold((0, 0), |(records, bytes), batch| {
            (
                records + batch.count().unsigned_abs() as usize,
                bytes + batch.len(),
            )
        })
    }

    /// Moves all sealed batches to the end of `full`. The open batch comes after them. `leaves`
    /// decides by what is known of it whether it leaves too. Returns the open batch if it
    /// leaves, and what is known of it if it stays. Then the caller has to watch it, since nothing else
    /// is told of it, but for who waits.
    pub fn collect(
        &self,
        leaves: impl FnOnce(Lingering) -> bool,
        full: &mut VecDeque<OpenBatch>,
    ) -> (Option<OpenBatch>, Option<Lingering>) {
        let mut inner = self.claim();
        let lingering = inner.open.as_ref().map(|open| Lingering {
            since: open.opened_at(),
            // Others may have come since it was told who waits.
            awaited: is_awaited(inner.most_awaited(), open.count() as u32),
        });
        let leaves = lingering.is_some_and(leaves);
        let open = if leaves { inner.seal(false) } else { None };
        self.hand_over(&mut inner, full);
        (open, lingering.filter(|_| !leaves))
    }

    /// Takes records again.
    pub fn reopen(&self) {
        self.claim().closed = false;
    }

    /// Whether there are no records, neither in the open batch nor in sealed ones.
    pub fn is_empty(&self) -> bool {
        self.claim().is_empty()
    }

    /// Takes no more records, unless it has some. Returns whether it takes none now, and whether this
    /// closed it.
    pub fn close_if_empty(&self) -> (bool, bool) {
        let mut inner = self.claim();
        let was_closed = inner.closed;
        inner.closed |= inner.is_empty();
        (inner.closed, inner.closed && !was_closed)
    }

    /// The next record goes to another chunk of the spool.
    pub fn leave_chunk(&self) {
        if let Some(seat) = &mut self.claim().seat {
            seat.leave();
        }
    }

    /// Takes no more records.
    pub fn close(&self) {
        let mut inner = self.claim();
        inner.closed = true;
        self.seal_open(&mut inner, false);
        if let Some(seat) = &mut inner.seat {
            seat.leave();
        }
    }

    /// Sealed batches that the actor has not collected.
    pub fn queued(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
    }

    /// Moves all sealed batches to the end of `full`. The caller knows of the open one, if there is one.
    fn hand_over(&self, inner: &mut Inner, full: &mut VecDeque<OpenBatch>) {
        full.append(&mut inner.sealed);
        self.queued.store(0, Ordering::Relaxed);
        inner.signalled = false;
        inner.untold = 0;
        inner.known = inner.open.is_some();
        inner.unreported = !inner.known;
    }

    fn seal_open(&self, inner: &mut Inner, full: bool) {
        if let Some(open) = inner.seal(full) {
            inner.sealed.push_back(open);
            self.queued.store(inner.sealed.len(), Ordering::Relaxed);
        }
    }

    /// Reports the events. Not under the claim, which the receiver may need.
    fn tell(&self, events: StageEvents) {
        if let Some(observer) = events.observer {
            if let Some((bytes, ask)) = events.full {
                observer.full(bytes, ask);
            }
            if let Some(at) = events.opened {
                observer.opened(at);
            }
        } else if let Some(wake) = self.wake.get()
            && (events.opened.is_some() || events.full.is_some_and(|(_, ask)| ask))
        {
            wake();
        }
    }
}

impl Filling for Stage {
    fn awaited(&self, ack: &Ack, records: u32) {
        let mut inner = self.claim();
        let Some(open) = &inner.open else { return };
        // One that is sealed goes when it can.
        let is_open = ptr::eq(Arc::as_ptr(open.ack()), ack);
        if !is_open {
            return;
        }
        let (at, count) = (open.opened_at(), open.count() as u32);
        inner.awaited = records;
        if !is_awaited(records, count) {
            return;
        }
        let observer = inner.observer.clone();
        drop(inner);
        if let Some(observer) = observer {
            observer.awaited(at);
        }
    }
}

/// What the observer or the actor has to be told.
#[derive(Default)]
struct StageEvents {
    /// The observer that is told. Without one, the actor is woken and looks at the stage by itself.
    observer: Option<Arc<dyn BatchObserver>>,
    /// Bytes of newly sealed batches, and whether to ask for them.
    full: Option<(usize, bool)>,
    /// When the open batch took its first record, if it was not reported yet.
    opened: Option<Instant>,
}

impl Inner {
    /// As many records of the open batch may be waited for.
    fn most_awaited(&self) -> u32 {
        self.awaited.saturating_mul(2).saturating_sub(1)
    }

    fn is_empty(&self) -> bool {
        self.open.is_none() && self.sealed.is_empty()
    }

    #[inline]
    fn add(
        &mut self,
        record: &RecordRef<'_>,
        scope: &Option<Arc<Scope>>,
        sticky: bool,
        source: Option<Source>,
    ) -> Option<(u32, &mut OpenBatch)> {
        let Self {
            open,
            seat,
            other_bytes,
            ..
        } = self;
        let open = open.as_mut().filter(|open| open.is_of(scope))?;
        if let Some(seat) = seat
            && !seat.has_room(record.upper_bound())
        {
            return None;
        }
        let before = open.len();
        let index = open.append(record)?;
        if !sticky {
            *other_bytes += open.len() - before;
        }
        if let Some(seat) = seat {
            seat.append(&Appending {
                source,
                ..open.appended(before, index)
            });
        }
        Some((index, open))
    }

    /// Seals the open batch. The next one begins with a buffer that has room for a quarter more.
    fn seal(&mut self, full: bool) -> Option<OpenBatch> {
        let open = self.open.as_mut()?;
        open.finish(full);
        self.expected = open.wire_len() + open.wire_len() / 4;
        self.sticky_bytes += open.len() - std::mem::take(&mut self.other_bytes);
        self.untold += open.wire_len();
        // An actor that was told of the open batch looks at whichever batch is open then. So it
        // need not be told of the next one.
        self.known &= self.observer.is_none();
        self.awaited = 0;
        self.unreported = true;
        self.open.take()
    }

    fn append(
        &mut self,
        record: &RecordRef<'_>,
        options: &mut AppendOptions<'_>,
    ) -> Option<Appended> {
        let source = options.source.copied();
        let (index, open) = self.add(record, &options.scope, options.sticky, source)?;
        options.leave(open, index, record.timestamp);
        let ack = Arc::clone(open.ack());
        Some(Appended { index, ack })
    }

    /// Returns the events to report after a record was added.
    #[cold]
    fn appended(&mut self) -> StageEvents {
        let mut events = self.sealed();
        self.unreported = false;
        if !std::mem::replace(&mut self.known, true) {
            events.opened = self.open.as_ref().map(OpenBatch::opened_at);
            events.observer = events.observer.or_else(|| self.observer.clone());
        }
        events
    }

    /// Returns the events to report about sealed batches.
    fn sealed(&mut self) -> StageEvents {
        let bytes = std::mem::take(&mut self.untold);
        if bytes == 0 {
            return StageEvents::default();
        }
        let ask = !std::mem::replace(&mut self.signalled, true);
        StageEvents {
            observer: self.observer.clone(),
            full: Some((bytes, ask)),
            opened: None,
        }
    }

    fn needs(&mut self, size: usize) -> Append {
        Append::NeedsMemory {
            size,
            begins: Some(std::mem::take(&mut self.sticky_bytes)),
        }
    }
}

impl fmt::Debug for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stage")
            .field("partition", &self.partition)
            .field("queued", &self.queued())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
