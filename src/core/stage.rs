//! Where callers and a partition's actor meet: one leased batch, filled under a short claim.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use spin::mutex::{SpinMutex, SpinMutexGuard};
use spin::relax::Yield;

use crate::core::ack::Ack;
use crate::core::batch::{OpenBatch, RecordRef};
use crate::core::delivery::{Callback, Listener};
use crate::core::memory::{Buffer, first_size};

/// What a caller wants beside the append.
#[derive(Default)]
pub struct AppendOptions<'a> {
    pub callback: Option<Callback>,
    pub listeners: &'a [Arc<dyn Listener>],
    /// The partition was chosen by the sticky partitioner, which wants to know its bytes.
    pub sticky: bool,
}

impl<'a> AppendOptions<'a> {
    pub fn for_listeners(listeners: &'a [Arc<dyn Listener>]) -> Self {
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
pub struct Appended {
    pub index: u32,
    pub ack: Arc<Ack>,
}

/// What became of an append.
#[derive(Debug)]
pub enum Append {
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

/// Tells of the time when a batch was opened whether it need not wait for more records: it has
/// lingered, or memory is used up.
pub(crate) fn due(linger: Duration, pressure: bool, now: Instant) -> impl Fn(Instant) -> bool {
    move |opened| pressure || opened + linger <= now
}

/// Who tells a leader's sender of a partition's batches, as the stage sees him.
pub trait BatchObserver: Send + Sync {
    /// So many bytes more are sealed. With `ask` the partition is to be asked for them: nobody was
    /// told since it was asked last.
    fn full(&self, bytes: usize, ask: bool);
    /// A batch took its first record then.
    fn opened(&self, at: Instant);
}

/// The stage of one partition.
///
/// The claim is held for the copy of one record, or of a few kilobytes of them, or to move what is
/// sealed to the actor; no user code runs under it, and nobody waits under it. So it is a spin lock,
/// which yields the processor while another thread has it: letting go of it is a plain store, where a
/// mutex pays for a second atomic exchange. An append that panics half way has not raised the batch's
/// count: see `OpenBatch`. Batches leave in the order in which they were filled, since the sealed ones
/// wait here, under the same claim, rather than in messages that could be overtaken.
pub struct Stage {
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
    /// The actor or the courier was told of the open batch.
    known: bool,
    /// Somebody was told that something is sealed, and will ask for it.
    signalled: bool,
    /// Bytes sealed since then.
    untold: usize,
    /// With the next append there may be something that nobody was told.
    news: bool,
    /// Who is told of batches instead of the actor.
    observer: Option<Arc<dyn BatchObserver>>,
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

    /// Says who is told of batches from now on; with `None` it is the partition's actor.
    pub fn set_observer(&self, observer: Option<Arc<dyn BatchObserver>>) {
        self.claim().observer = observer;
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
    /// the claim. If any did, `receipt` is handed the batch's ack and the index of the first one, and
    /// what it makes of them is returned with the indices of all; otherwise `None`.
    #[inline]
    pub fn append_run<'a, R>(
        &self,
        records: impl Iterator<Item = RecordRef<'a>>,
        sticky: bool,
        receipt: impl FnOnce(&Arc<Ack>, u32) -> R,
    ) -> Option<(R, Range<u32>)> {
        let mut inner = self.claim();
        let Inner { open, chosen, .. } = &mut *inner;
        let open = open.as_mut()?;
        let (before, first) = (open.len(), open.count() as u32);
        for record in records {
            if open.len() - before >= RUN || open.append(&record).is_none() {
                break;
            }
        }
        let indices = first..open.count() as u32;
        if indices.is_empty() {
            return None;
        }
        if !sticky {
            *chosen += open.len() - before;
        }
        let receipt = receipt(open.ack(), first);
        if inner.news {
            let news = inner.appended();
            drop(inner);
            self.tell(news);
        }
        Some((receipt, indices))
    }

    /// Appends a record. `memory` is taken only if a new batch has to be opened.
    pub fn append(
        &self,
        record: &RecordRef<'_>,
        memory: &mut Option<Buffer>,
        options: &mut AppendOptions<'_>,
        now: impl FnOnce() -> Instant,
    ) -> Append {
        let mut inner = self.claim();
        let appended = self.append_under(&mut inner, record, memory, options, now);
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
        options: &mut AppendOptions<'_>,
        now: impl FnOnce() -> Instant,
    ) -> Append {
        if inner.closed {
            return Append::Closed;
        }
        if let Some(appended) = inner.append(record, options) {
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
        match inner.append(record, options) {
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

    /// Moves everything sealed to the end of `full`. The open batch, which comes behind it, `leaves`
    /// too or not: that is asked with the time when it took its first record. Returns it if it does,
    /// and that time if it stays: nobody else is told of it.
    pub fn collect(
        &self,
        leaves: impl FnOnce(Instant) -> bool,
        full: &mut VecDeque<OpenBatch>,
    ) -> (Option<OpenBatch>, Option<Instant>) {
        let mut inner = self.claim();
        full.append(&mut inner.sealed);
        self.queued.store(0, Ordering::Relaxed);
        let opened = inner.open.as_ref().map(OpenBatch::opened_at);
        let leaves = opened.is_some_and(leaves);
        let open = if leaves {
            inner.seal(self.first, false)
        } else {
            None
        };
        inner.signalled = false;
        inner.untold = 0;
        inner.known = inner.open.is_some();
        inner.news = !inner.known;
        (open, opened.filter(|_| !leaves))
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
        if let Some(open) = inner.seal(self.first, full) {
            inner.sealed.push_back(open);
            self.queued.store(inner.sealed.len(), Ordering::Relaxed);
        }
    }

    /// Not under the claim: whoever is told may want it.
    fn tell(&self, news: StageEvents) {
        if let Some(observer) = news.observer {
            if let Some((bytes, ask)) = news.full {
                observer.full(bytes, ask);
            }
            if let Some(at) = news.opened {
                observer.opened(at);
            }
        } else if let Some(wake) = self.wake.get()
            && (news.opened.is_some() || news.full.is_some_and(|(_, ask)| ask))
        {
            wake();
        }
    }
}

/// What others have to be told.
#[derive(Default)]
struct StageEvents {
    /// Who is told; else it is the actor, who then looks by himself.
    observer: Option<Arc<dyn BatchObserver>>,
    /// So many bytes more are sealed, and whether to ask for them.
    full: Option<(usize, bool)>,
    /// When the batch was opened that nobody knows of.
    opened: Option<Instant>,
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

    /// Ends the open batch. It was busy if it outgrew `first` bytes.
    fn seal(&mut self, first: usize, full: bool) -> Option<OpenBatch> {
        let open = self.open.as_mut()?;
        open.finish(full);
        self.busy = open.wire_len() > first;
        self.run += open.len() - std::mem::take(&mut self.chosen);
        self.untold += open.wire_len();
        // An actor that was told looks at whatever is open then.
        self.known &= self.observer.is_none();
        self.news = true;
        self.open.take()
    }

    fn append(
        &mut self,
        record: &RecordRef<'_>,
        options: &mut AppendOptions<'_>,
    ) -> Option<Appended> {
        let (index, open) = self.add(record, options.sticky)?;
        options.leave(open, index, record.timestamp);
        let ack = Arc::clone(open.ack());
        Some(Appended { index, ack })
    }

    /// A record was added: what is to be told.
    #[cold]
    fn appended(&mut self) -> StageEvents {
        let mut news = self.sealed();
        self.news = false;
        if !std::mem::replace(&mut self.known, true) {
            news.opened = self.open.as_ref().map(OpenBatch::opened_at);
            news.observer = news.observer.or_else(|| self.observer.clone());
        }
        news
    }

    /// What is to be told of sealed batches.
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
