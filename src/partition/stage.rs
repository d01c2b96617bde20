//! Where callers and a partition's actor meet: one leased batch, filled under a short claim.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use spin::mutex::{SpinMutex, SpinMutexGuard};
use spin::relax::Yield;

use crate::ack::Ack;
use crate::batch::{OpenBatch, RecordRef};
use crate::delivery::{Callback, Listener};
use crate::pool::{Buffer, first_size};

/// What a caller wants beside the append.
#[derive(Default)]
pub(crate) struct Extras<'a> {
    pub callback: Option<Callback>,
    pub listeners: &'a [Arc<dyn Listener>],
    /// The partition was chosen by the sticky partitioner, which wants to know its bytes.
    pub sticky: bool,
}

impl<'a> Extras<'a> {
    pub fn told_to(listeners: &'a [Arc<dyn Listener>]) -> Self {
        Self {
            listeners,
            ..Self::default()
        }
    }

    /// Whether nobody is to be told beside the holder of the receipt.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.listeners.is_empty() && self.callback.is_none()
    }

    /// Leaves with the batch who is to be told.
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
pub(crate) struct Appended {
    pub index: u32,
    pub ack: Arc<Ack>,
}

/// What became of an append.
#[derive(Debug)]
pub(crate) enum Append {
    Done(Appended),
    /// The record needs memory and not enough was brought along: come again with this much.
    NeedsMemory {
        size: usize,
        /// For a new batch, not for one that is to grow: the bytes of sticky records that the last
        /// batches took, told once.
        begins: Option<usize>,
    },
    /// The partition takes no records any more.
    Closed,
}

/// With so many bytes appended under one claim it is let go: after about a microsecond.
const RUN: usize = 4096;

/// Who tells a leader's sender of a partition's batches, as the stage sees him.
pub(crate) trait Courier: Send + Sync {
    /// So many bytes more are sealed. With `ask` the partition is to be asked for them: nobody was
    /// told since it was asked last.
    fn full(&self, bytes: usize, ask: bool);
    /// A batch is open, and may come along with others. Told once, until
    /// [`unlisted`](Stage::unlisted).
    fn open(&self);
}

/// The stage of one partition.
///
/// The claim is held for the copy of one record, or of a few kilobytes of them, or to move what is
/// sealed to the actor; no user code runs under it, and nobody waits under it. So it is a spin lock,
/// which yields the processor while another thread has it: letting go of it is a plain store, where a
/// mutex pays for a second atomic exchange. An append that panics half way has not raised the batch's
/// count: see `OpenBatch`. Batches leave in the order in which they were filled, since the sealed ones
/// wait here, under the same claim, rather than in messages that could be overtaken.
pub(crate) struct Stage {
    partition: i32,
    batch_size: usize,
    /// What a batch begins with where little is sent.
    first: usize,
    plain: bool,
    /// Has the partition's actor look.
    wake: OnceLock<Box<dyn Fn() + Send + Sync>>,
    /// Sealed batches, to be read without the claim.
    queued: AtomicUsize,
    inner: SpinMutex<Inner, Yield>,
}

#[derive(Default)]
struct Inner {
    open: Option<OpenBatch>,
    sealed: VecDeque<OpenBatch>,
    /// The actor knows of the open batch, or of the one to come, and will look at it in time.
    watched: bool,
    /// Somebody was told that something is sealed, and will ask for it.
    signalled: bool,
    /// Bytes sealed since then.
    untold: usize,
    /// With the next append there may be something that nobody was told.
    news: bool,
    /// Who is told of full batches instead of the actor.
    courier: Option<Arc<dyn Courier>>,
    /// He knows that a batch is open, or was.
    listed: bool,
    closed: bool,
    /// Bytes of sticky records in the batches sealed since the partitioner was told.
    run: usize,
    /// Bytes in the open batch of records that are not sticky.
    chosen: usize,
    /// The last batch outgrew a first buffer: the next one begins with a full one.
    busy: bool,
}

impl Stage {
    /// With `plain` batches will go uncompressed.
    pub fn new(partition: i32, batch_size: usize, plain: bool) -> Self {
        Self {
            partition,
            batch_size,
            first: first_size(batch_size),
            plain,
            wake: OnceLock::new(),
            queued: AtomicUsize::new(0),
            inner: SpinMutex::new(Inner {
                news: true,
                ..Inner::default()
            }),
        }
    }

    /// Says how the partition's actor is woken. Once.
    pub fn wake_with(&self, wake: impl Fn() + Send + Sync + 'static) {
        let _ = self.wake.set(Box::new(wake));
    }

    /// Says who is told of full batches from now on; with `None` it is the partition's actor.
    pub fn set_courier(&self, courier: Option<Arc<dyn Courier>>) {
        let mut inner = self.claim();
        inner.courier = courier;
        inner.listed = false;
        inner.news = true;
    }

    /// The courier is told again of a batch that is open after the next collection.
    pub fn unlisted(&self) {
        self.claim().listed = false;
    }

    #[inline]
    fn claim(&self) -> SpinMutexGuard<'_, Inner, Yield> {
        self.inner.lock()
    }

    /// Appends a record to the open batch: `None`, and nothing is changed, if there is none or the
    /// record does not fit. `receipt` is handed the batch's ack and the record's index, and what it
    /// makes of them is returned.
    #[inline]
    pub fn append_to_open<R>(
        &self,
        record: &RecordRef<'_>,
        sticky: bool,
        receipt: impl FnOnce(&Arc<Ack>, u32) -> R,
    ) -> Option<R> {
        let mut inner = self.claim();
        // None is open on a stage that is closed.
        let (index, open) = inner.add(record, sticky)?;
        let receipt = receipt(open.ack(), index);
        if inner.news {
            let news = inner.appended();
            drop(inner);
            self.tell(news);
        }
        Some(receipt)
    }

    /// Appends records to the open batch, as long as they fit and no longer than others can wait for
    /// the claim. If any did, `last` is handed the batch's ack and the index of the last one. Returns
    /// how many they are.
    pub fn append_run<'a>(
        &self,
        records: impl Iterator<Item = RecordRef<'a>>,
        sticky: bool,
        last: impl FnOnce(&Arc<Ack>, u32),
    ) -> u32 {
        let mut inner = self.claim();
        let Inner { open, chosen, .. } = &mut *inner;
        let Some(open) = open else { return 0 };
        let (before, mut count) = (open.len(), 0);
        for record in records {
            if open.len() - before >= RUN || open.append(&record).is_none() {
                break;
            }
            count += 1;
        }
        if count == 0 {
            return 0;
        }
        if !sticky {
            *chosen += open.len() - before;
        }
        last(open.ack(), open.count() as u32 - 1);
        if inner.news {
            let news = inner.appended();
            drop(inner);
            self.tell(news);
        }
        count
    }

    /// Appends a record. `memory` is taken only if a new batch has to be opened.
    pub fn append(
        &self,
        record: &RecordRef<'_>,
        memory: &mut Option<Buffer>,
        extras: &mut Extras<'_>,
        now: impl FnOnce() -> Instant,
    ) -> Append {
        let mut inner = self.claim();
        let appended = self.append_under(&mut inner, record, memory, extras, now);
        let news = match &appended {
            Append::Done(_) => inner.appended(),
            _ => inner.sealed(),
        };
        drop(inner);
        self.tell(news);
        appended
    }

    fn append_under(
        &self,
        inner: &mut Inner,
        record: &RecordRef<'_>,
        memory: &mut Option<Buffer>,
        extras: &mut Extras<'_>,
        now: impl FnOnce() -> Instant,
    ) -> Append {
        if inner.closed {
            return Append::Closed;
        }
        if let Some(appended) = inner.append(record, extras) {
            return Append::Done(appended);
        }
        if let Some(open) = &mut inner.open
            && open.could_grow(record, self.batch_size)
        {
            let size = self.batch_size;
            let Some(larger) = memory.take_if(|buffer| buffer.capacity() >= size) else {
                let begins = None;
                return Append::NeedsMemory { size, begins };
            };
            open.grow(larger);
        } else {
            if inner.open.is_some() {
                self.seal_open(inner, true);
                if inner.run > 0 {
                    // A full batch is `batch.size`, whatever did not fit at its end.
                    inner.run = inner.run.max(self.batch_size);
                }
            }
            let first = match inner.busy {
                true => self.batch_size,
                false => self.first,
            };
            // A record too large for a first buffer gets a full one, or one of its own.
            let size = match OpenBatch::buffer_size(record, first) {
                size if size == first => size,
                size => size.max(self.batch_size),
            };
            let Some(buffer) = memory.take_if(|buffer| buffer.capacity() >= size) else {
                return inner.needs(size);
            };
            inner.open = Some(OpenBatch::new(buffer, self.partition, now(), self.plain));
        }
        match inner.append(record, extras) {
            Some(appended) => Append::Done(appended),
            // The sizes are upper bounds, so this cannot be; asking again is still truthful.
            None => inner.needs(self.batch_size),
        }
    }

    /// When the open batch took its first record.
    pub fn open_since(&self) -> Option<Instant> {
        self.claim().open.as_ref().map(OpenBatch::opened_at)
    }

    /// Records and their bytes, open and sealed.
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

    /// Moves everything sealed, and with `open` the open batch behind it, to the end of `full`.
    /// Returns when the batch that is still open took its first record. The actor is told of
    /// whatever comes after this, but `watched` says that it will look at an open one in time.
    pub fn collect(
        &self,
        open: bool,
        watched: bool,
        full: &mut VecDeque<OpenBatch>,
    ) -> Option<Instant> {
        let mut inner = self.claim();
        if open {
            self.seal_open(&mut inner, false);
        }
        inner.signalled = false;
        inner.untold = 0;
        inner.watched = watched || inner.open.is_some();
        inner.news = !(inner.watched && inner.listed);
        full.append(&mut inner.sealed);
        self.queued.store(0, Ordering::Relaxed);
        inner.open.as_ref().map(OpenBatch::opened_at)
    }

    /// Takes records again.
    pub fn reopen(&self) {
        self.claim().closed = false;
    }

    /// Takes no more records from here on.
    pub fn close(&self) {
        let mut inner = self.claim();
        inner.closed = true;
        self.seal_open(&mut inner, false);
    }

    /// Sealed batches that the actor does not have yet.
    pub fn queued(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
    }

    fn seal_open(&self, inner: &mut Inner, full: bool) {
        if let Some(mut open) = inner.open.take() {
            open.finish(full);
            inner.busy = open.wire_len() > self.first;
            inner.run += open.len() - std::mem::take(&mut inner.chosen);
            inner.untold += open.wire_len();
            inner.news = true;
            inner.sealed.push_back(open);
            self.queued.store(inner.sealed.len(), Ordering::Relaxed);
        }
    }

    /// Not under the claim: whoever is told may want it.
    fn tell(&self, news: News) {
        if let Some((courier, bytes, ask)) = news.full {
            courier.full(bytes, ask);
        }
        if let Some(courier) = news.open {
            courier.open();
        }
        if news.look
            && let Some(wake) = self.wake.get()
        {
            wake();
        }
    }
}

/// What others have to be told.
#[derive(Default)]
struct News {
    /// The actor has to look.
    look: bool,
    /// Batches are full: who is told, and what.
    full: Option<(Arc<dyn Courier>, usize, bool)>,
    /// Who is told that a batch is open.
    open: Option<Arc<dyn Courier>>,
}

impl Inner {
    #[inline]
    fn add(&mut self, record: &RecordRef<'_>, sticky: bool) -> Option<(u32, &mut OpenBatch)> {
        let open = self.open.as_mut()?;
        let before = open.len();
        let index = open.append(record)?;
        if !sticky {
            self.chosen += open.len() - before;
        }
        Some((index, open))
    }

    fn append(&mut self, record: &RecordRef<'_>, extras: &mut Extras<'_>) -> Option<Appended> {
        let (index, open) = self.add(record, extras.sticky)?;
        extras.leave(open, index, record.timestamp);
        let ack = Arc::clone(open.ack());
        Some(Appended { index, ack })
    }

    /// A record was added: what is to be told.
    #[cold]
    fn appended(&mut self) -> News {
        let mut news = self.sealed();
        self.news = false;
        news.look |= !std::mem::replace(&mut self.watched, true);
        if !std::mem::replace(&mut self.listed, true) {
            news.open = self.courier.clone();
        }
        news
    }

    /// What is to be told of sealed batches.
    fn sealed(&mut self) -> News {
        let bytes = std::mem::take(&mut self.untold);
        let mut news = News::default();
        if bytes > 0 {
            let first = !std::mem::replace(&mut self.signalled, true);
            match &self.courier {
                Some(courier) => news.full = Some((Arc::clone(courier), bytes, first)),
                None => news.look = first,
            }
        }
        news
    }

    fn needs(&mut self, size: usize) -> Append {
        Append::NeedsMemory {
            size,
            begins: Some(std::mem::take(&mut self.run)),
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
