//! Where callers and a partition's actor meet: one leased batch, filled under a short claim.

use std::collections::VecDeque;
use std::sync::Arc;
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
    /// The partition's actor has to be told.
    pub wake: bool,
}

/// What became of an append.
#[derive(Debug)]
pub(crate) enum Append {
    Done(Appended),
    /// The record needs memory and not enough was brought along: come again with this much.
    NeedsMemory {
        size: usize,
        wake: bool,
        /// For a new batch, not for one that is to grow: the bytes of sticky records that the last
        /// batches took, told once.
        begins: Option<usize>,
    },
    /// The partition takes no records any more.
    Closed,
}

/// The stage of one partition.
///
/// The claim is held for the copy of one record, or to move what is sealed to the actor; no user
/// code runs under it, and nobody waits under it. So it is a spin lock, which yields the processor
/// while another thread has it: letting go of it is a plain store, where a mutex pays for a second
/// atomic exchange. An append that panics half way has not raised the batch's count: see
/// `OpenBatch`. Batches leave in the order in which they were filled, since the sealed ones
/// wait here, under the same claim, rather than in messages that could be overtaken.
#[derive(Debug)]
pub(crate) struct Stage {
    partition: i32,
    batch_size: usize,
    /// What a batch begins with where little is sent.
    first: usize,
    plain: bool,
    inner: SpinMutex<Inner, Yield>,
}

#[derive(Debug, Default)]
struct Inner {
    open: Option<OpenBatch>,
    sealed: VecDeque<OpenBatch>,
    /// The actor knows of the open batch, or of the one to come, and will look at it in time.
    watched: bool,
    /// The actor knows that something is sealed.
    signalled: bool,
    closed: bool,
    /// Bytes of sticky records since the partitioner was told.
    run: usize,
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
            inner: SpinMutex::default(),
        }
    }

    #[inline]
    fn claim(&self) -> SpinMutexGuard<'_, Inner, Yield> {
        self.inner.lock()
    }

    /// Appends a record to the open batch: `None`, and nothing is changed, if there is none or the
    /// record does not fit. `receipt` is handed the batch's ack and the record's index; what it
    /// makes of them is returned, and whether the partition's actor has to be told.
    #[inline]
    pub fn append_to_open<R>(
        &self,
        record: &RecordRef<'_>,
        sticky: bool,
        receipt: impl FnOnce(&Arc<Ack>, u32) -> R,
    ) -> Option<(R, bool)> {
        let mut inner = self.claim();
        if inner.closed {
            return None;
        }
        let index = inner.add(record, sticky)?;
        let receipt = receipt(inner.open.as_ref()?.ack(), index);
        Some((receipt, inner.news()))
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
                let (wake, begins) = (false, None);
                return Append::NeedsMemory { size, wake, begins };
            };
            open.grow(larger);
        } else {
            if inner.open.is_some() {
                inner.seal_open(self.first);
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
            inner.seal_open(self.first);
        }
        inner.signalled = false;
        inner.watched = watched || inner.open.is_some();
        full.append(&mut inner.sealed);
        inner.open.as_ref().map(OpenBatch::opened_at)
    }

    /// Takes records again.
    pub fn reopen(&self) {
        self.claim().closed = false;
    }

    /// Takes no more records from here on.
    pub fn close(&self) {
        self.claim().closed = true;
    }
}

impl Inner {
    #[inline]
    fn add(&mut self, record: &RecordRef<'_>, sticky: bool) -> Option<u32> {
        let open = self.open.as_mut()?;
        let before = open.len();
        let index = open.append(record)?;
        if sticky {
            self.run += open.len() - before;
        }
        Some(index)
    }

    fn append(&mut self, record: &RecordRef<'_>, extras: &mut Extras<'_>) -> Option<Appended> {
        let index = self.add(record, extras.sticky)?;
        let open = self.open.as_mut()?;
        extras.leave(open, index, record.timestamp);
        let ack = Arc::clone(open.ack());
        let wake = self.news();
        Some(Appended { index, ack, wake })
    }

    /// A record was added: whether the actor has to be told of anything.
    #[inline]
    fn news(&mut self) -> bool {
        !std::mem::replace(&mut self.watched, true) | self.signal()
    }

    fn seal_open(&mut self, first: usize) {
        if let Some(mut open) = self.open.take() {
            open.sum_up();
            self.busy = open.wire_len() > first;
            self.sealed.push_back(open);
        }
    }

    fn needs(&mut self, size: usize) -> Append {
        Append::NeedsMemory {
            size,
            wake: self.signal(),
            begins: Some(std::mem::take(&mut self.run)),
        }
    }

    /// Whether the actor has to be told that something is sealed.
    #[inline]
    fn signal(&mut self) -> bool {
        !self.sealed.is_empty() && !std::mem::replace(&mut self.signalled, true)
    }
}

#[cfg(test)]
mod tests;
