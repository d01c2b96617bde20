//! Buffers that callers can take without asking the PoolActor, and the way back for used ones.

use std::fmt;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use super::sizes::{Kept, Sizes};
use crate::core::figures::PoolFigures;
use crate::core::prefetch::prefetch;

/// Sends the PoolActor a message that it has something to do.
type WakePool = Box<dyn Fn() + Send + Sync>;

/// Is told on any thread, as it happens, what is used and who waits. No lock is held.
pub(crate) trait MemoryObserver: Send + Sync {
    /// So many bytes more are used, or fewer.
    fn used(&self, bytes: isize);
    /// So many callers more wait for memory, or fewer.
    fn waiting(&self, callers: isize);
}

/// Buffers in front of the PoolActor, shared by the callers and the PoolActor. The lock is held for
/// a push or a pop, once per batch.
///
/// Invariants:
/// - a buffer comes back when its last owner drops it, and in no other way;
/// - a buffer can come back without a living PoolActor: until it collects them, buffers stay in
///   `returned`, and after the end they are freed;
/// - what is charged is never refused. The budget may be overdrawn by it, and then nothing is
///   granted until enough has come back;
/// - while a request waits in the budget, nothing is taken off the shelf, and what comes back goes
///   to the budget. If memory is used up, the buffers on the shelf go to the budget too.
pub struct Shelf {
    stock: Mutex<Stock>,
    sizes: Sizes,
    /// How many buffers of the largest size the shelf may hold: an eighth of the budget, from 1 to 32
    /// buffers.
    capacity: usize,
    /// Bytes that may be granted in advance for smaller buffers: a 32nd of the budget, at most 64
    /// buffers' worth. Whoever wants larger ones and does not wait has no use of it.
    credit_capacity: usize,
    wake: OnceLock<WakePool>,
    observer: OnceLock<Arc<dyn MemoryObserver>>,
    /// A request waits and memory is used up, so open batches should be sent as they are.
    pressure: AtomicBool,
    /// Batches should take no more than they need.
    scarce: AtomicBool,
    /// Bytes of records in full batches that wait to be sent.
    waiting: AtomicUsize,
    figures: Waits,
}

struct Stock {
    /// Buffers of the largest size, granted in advance.
    ready: Vec<Box<[u8]>>,
    /// Bytes granted in advance for smaller buffers. Those that are not kept are allocated when they are
    /// taken.
    credit: usize,
    /// Smaller buffers that came back. They have no more bytes than the credit.
    kept: Kept,
    /// Buffers that came back and that the PoolActor has not collected yet, with the size of their
    /// grant.
    returned: Vec<(Box<[u8]>, usize)>,
    /// Bytes of the buffers in `returned`.
    back: usize,
    /// Bytes that were charged and that the PoolActor does not know of yet.
    charged: usize,
    /// If a request waits: the PoolActor is woken when this many bytes have come back, and
    /// everything that comes back goes to it.
    awaited: Option<usize>,
    /// The PoolActor was woken and has not collected yet.
    signalled: bool,
    closed: bool,
}

/// How many callers wait, how long callers have waited, and how often in vain.
#[derive(Debug, Default)]
struct Waits {
    callers: AtomicUsize,
    nanos: AtomicU64,
    in_vain: AtomicU64,
}

/// What has come to the shelf for the PoolActor.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    /// What came back, with the size of its grant.
    pub returned: Vec<(Box<[u8]>, usize)>,
    /// Bytes that were charged.
    pub charged: usize,
}

impl Shelf {
    pub fn new(total: usize, pooled: usize) -> Arc<Self> {
        let sizes = Sizes::new(pooled);
        Arc::new(Self {
            stock: Mutex::new(Stock::new(sizes, false)),
            sizes,
            capacity: (total / 8 / pooled.max(1)).clamp(1, 32),
            credit_capacity: match sizes.smallest() < pooled {
                true => (total / 32).min(64 * pooled),
                false => 0,
            },
            wake: OnceLock::new(),
            observer: OnceLock::new(),
            pressure: AtomicBool::new(false),
            scarce: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
            figures: Waits::default(),
        })
    }

    /// Sets how the PoolActor is woken. Only the first call counts.
    pub fn wake_with(&self, wake: impl Fn() + Send + Sync + 'static) {
        let _ = self.wake.set(Box::new(wake));
    }

    /// Sets who is told of all that is used. Only the first call counts.
    pub(crate) fn observe_with(&self, observer: Arc<dyn MemoryObserver>) {
        let _ = self.observer.set(observer);
    }

    fn tell_used(&self, bytes: isize) {
        if let Some(observer) = self.observer.get() {
            observer.used(bytes);
        }
    }

    fn stock(&self) -> MutexGuard<'_, Stock> {
        // No code under the lock can leave the lists half changed, so a poisoned lock is safe to
        // use.
        self.stock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn signal(&self) {
        if let Some(wake) = self.wake.get() {
            wake();
        }
    }

    /// Takes a buffer of one of the sizes. Returns `None` if there is none. Then the caller has to ask the
    /// PoolActor.
    pub fn take(self: &Arc<Self>, size: usize) -> Option<Buffer> {
        if self.pressure() {
            return None;
        }
        let bytes = self.take_bytes(size)?;
        self.tell_used(bytes.len() as isize);
        Some(self.wrap(bytes))
    }

    fn take_bytes(&self, size: usize) -> Option<Box<[u8]>> {
        let mut stock = self.stock();
        if stock.awaited.is_some() {
            return None;
        }
        let (ready, granted, low) = if size == self.sizes.largest() {
            let ready = stock.ready.pop();
            (ready, false, stock.ready.len() == self.capacity / 4)
        } else if self.sizes.has(size) {
            let granted = stock.credit >= size;
            let kept = granted.then(|| stock.spend(size)).flatten();
            (kept, granted, stock.credit <= self.credit_capacity / 4)
        } else {
            return None;
        };
        let signal = low && !std::mem::replace(&mut stock.signalled, true);
        drop(stock);
        if signal {
            self.signal();
        }
        ready.or_else(|| granted.then(|| blank(size)))
    }

    /// Wakes the PoolActor to fill the shelf, for a caller that found nothing and does not wait,
    /// but may try again.
    pub fn ask(&self) {
        let signal = !std::mem::replace(&mut self.stock().signalled, true);
        if signal {
            self.signal();
        }
    }

    /// Wraps granted memory into a buffer that comes back to this shelf.
    pub fn buffer(self: &Arc<Self>, bytes: Box<[u8]>) -> Buffer {
        self.tell_used(bytes.len() as isize);
        self.wrap(bytes)
    }

    fn wrap(self: &Arc<Self>, bytes: Box<[u8]>) -> Buffer {
        Buffer {
            bytes,
            len: 0,
            waits: AtomicUsize::new(0),
            shelf: Arc::clone(self),
        }
    }

    /// Makes a buffer of `bytes`, which are charged: they count whether there is memory for them or
    /// not. No message is sent: the PoolActor learns of it before it grants anything more.
    pub fn charged(self: &Arc<Self>, bytes: Vec<u8>) -> Buffer {
        let (len, bytes) = (bytes.len(), bytes.into_boxed_slice());
        self.stock().charged += len;
        self.tell_used(len as isize);
        let mut buffer = self.wrap(bytes);
        buffer.len = len;
        buffer
    }

    /// Takes back what was granted or charged.
    fn put_back(&self, bytes: Box<[u8]>) {
        let size = bytes.len();
        self.tell_used(-(size as isize));
        let mut stock = self.stock();
        if stock.closed {
            drop(stock);
            return drop(bytes);
        }
        let is_granted = self.sizes.has(size);
        let is_full = size == self.sizes.largest();
        if !is_granted && stock.charged >= size {
            // The PoolActor does not know of it, and need not. It may not look for long, and all that is read
            // back from a spool would be kept until then.
            stock.charged -= size;
            drop(stock);
            return drop(bytes);
        }
        // Read under the lock: the PoolActor empties the shelf for a waiting request under the same
        // lock. A buffer put on the shelf after that would stay there while the request waits.
        let keeps = !self.pressure() && stock.awaited.is_none();
        let signal = if keeps && is_full && stock.ready.len() < self.capacity {
            stock.ready.push(bytes);
            false
        } else if keeps && is_granted && !is_full && stock.credit + size <= self.credit_capacity {
            stock.credit += size;
            stock.kept.push(bytes);
            false
        } else {
            // What is of no size that is granted again is not kept.
            let kept = if is_granted { bytes } else { Box::default() };
            stock.returned.push((kept, size));
            stock.back += size;
            let enough = stock.awaited.is_some_and(|enough| stock.back >= enough);
            enough && !std::mem::replace(&mut stock.signalled, true)
        };
        drop(stock);
        if signal {
            self.signal();
        }
    }

    /// Counts a caller that waits for memory until the result is dropped.
    pub(crate) fn wait(self: &Arc<Self>) -> Wait {
        self.count_callers(1);
        let shelf = Arc::clone(self);
        Wait {
            shelf,
            answered: false,
        }
    }

    /// How many callers wait for memory.
    pub fn callers(&self) -> usize {
        self.figures.callers.load(Ordering::Relaxed)
    }

    fn count_callers(&self, more: isize) {
        self.figures
            .callers
            .fetch_add(more as usize, Ordering::Relaxed);
        if let Some(observer) = self.observer.get() {
            observer.waiting(more);
        }
    }

    /// The size of a buffer for a batch that needs one of `size`. While memory is not scarce, a batch that
    /// has outgrown the smallest buffer gets the largest one, and is not moved again.
    pub fn size_for(&self, size: usize) -> usize {
        match size <= self.sizes.smallest() || self.is_scarce() {
            true => size,
            false => size.max(self.sizes.largest()),
        }
    }

    /// Whether batches should take no more memory than they need.
    pub fn is_scarce(&self) -> bool {
        self.scarce.load(Ordering::Relaxed)
    }

    /// For the PoolActor: sets whether batches should take no more than they need.
    pub fn set_scarce(&self, scarce: bool) {
        self.scarce.store(scarce, Ordering::Relaxed);
    }

    /// Whether a request waits and memory is used up.
    pub fn pressure(&self) -> bool {
        self.pressure.load(Ordering::Acquire)
    }

    /// For the PoolActor: sets whether memory is used up.
    pub fn set_pressure(&self, pressure: bool) {
        let _stock = self.stock();
        self.pressure.store(pressure, Ordering::Release);
    }

    /// For the PoolActor: sets how many bytes have to come back before it is woken, or `None` if no
    /// request waits. Returns whether that many are here already: then no wake-up follows, and the
    /// PoolActor has to collect by itself.
    pub fn set_awaited(&self, awaited: Option<usize>) -> bool {
        let mut stock = self.stock();
        stock.awaited = awaited;
        let enough = awaited.is_some_and(|enough| stock.back >= enough);
        enough && !std::mem::replace(&mut stock.signalled, true)
    }

    /// Bytes of records in full batches that wait to be sent.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Bytes of buffers of the largest size that the shelf may hold.
    pub fn size(&self) -> usize {
        self.capacity * self.sizes.largest()
    }

    /// For the PoolActor: returns what was charged and everything that has come back. Under
    /// pressure this includes what was granted in advance. What comes back later wakes the
    /// PoolActor again.
    pub(crate) fn collect(&self) -> Collected {
        let mut stock = self.stock();
        stock.signalled = false;
        stock.back = 0;
        let charged = std::mem::take(&mut stock.charged);
        let mut returned = std::mem::take(&mut stock.returned);
        if self.pressure() {
            let credit = std::mem::take(&mut stock.credit);
            let not_kept = credit - stock.kept.bytes();
            let small = stock.kept.take_small(credit);
            let buffers = small.into_iter().chain(stock.ready.drain(..));
            returned.extend(buffers.map(|bytes| {
                let size = bytes.len();
                (bytes, size)
            }));
            returned.extend((not_kept > 0).then(|| (Box::default(), not_kept)));
        }
        Collected { returned, charged }
    }

    /// For the PoolActor: how many more buffers of the largest size may be granted in advance.
    pub fn room(&self) -> usize {
        self.capacity.saturating_sub(self.stock().ready.len())
    }

    /// For the PoolActor: puts a granted buffer on the shelf.
    pub fn stock_up(&self, bytes: Box<[u8]>) {
        self.stock().ready.push(bytes);
    }

    /// For the PoolActor: how many more bytes may be granted in advance for smaller buffers.
    pub fn credit_room(&self) -> usize {
        self.credit_capacity.saturating_sub(self.stock().credit)
    }

    /// For the PoolActor: adds bytes that are granted for smaller buffers, and some of these.
    pub fn add_credit(&self, bytes: usize, buffers: Vec<Box<[u8]>>) {
        let mut stock = self.stock();
        stock.credit += bytes;
        buffers.into_iter().for_each(|it| stock.kept.push(it));
    }

    /// For the PoolActor: frees what is on the shelf and what comes back from now on, since the
    /// producer is closed.
    pub fn close(&self) {
        let closed = Stock::new(self.sizes, true);
        let left = std::mem::replace(&mut *self.stock(), closed);
        drop(left);
    }

    /// Counts a caller's wait for memory. `in_vain`: it got none.
    pub fn count_wait(&self, time: Duration, in_vain: bool) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.figures.nanos.fetch_add(nanos, Ordering::Relaxed);
        self.figures
            .in_vain
            .fetch_add(u64::from(in_vain), Ordering::Relaxed);
    }

    /// The sum of all waits so far.
    pub fn figures(&self) -> PoolFigures {
        PoolFigures {
            waited: Duration::from_nanos(self.figures.nanos.load(Ordering::Relaxed)),
            exhausted: self.figures.in_vain.load(Ordering::Relaxed),
            waiting: self.callers(),
            ..PoolFigures::default()
        }
    }

    /// Bytes on the shelf that nobody uses.
    pub fn idle_bytes(&self) -> usize {
        let stock = self.stock();
        let ready = stock.ready.len() * self.sizes.largest() + stock.credit;
        let back = stock.returned.iter().map(|(_, size)| size).sum::<usize>();
        (ready + back).saturating_sub(stock.charged)
    }
}

impl Stock {
    fn new(sizes: Sizes, closed: bool) -> Self {
        Self {
            ready: Vec::new(),
            credit: 0,
            kept: Kept::new(sizes),
            returned: Vec::new(),
            back: 0,
            charged: 0,
            awaited: None,
            signalled: false,
            closed,
        }
    }

    /// Takes so many bytes of the credit, and a buffer of that size, if one is kept.
    fn spend(&mut self, size: usize) -> Option<Box<[u8]>> {
        let kept = self.kept.pop(size);
        self.credit -= size;
        self.kept.shrink(self.credit);
        kept
    }
}

/// A caller that waits for memory.
#[must_use = "the caller counts as waiting until this is dropped"]
pub(crate) struct Wait {
    shelf: Arc<Shelf>,
    answered: bool,
}

impl Wait {
    /// The PoolActor has answered.
    pub fn answered(mut self) {
        self.answered = true;
    }
}

impl Drop for Wait {
    /// A caller that leaves without an answer may have kept others waiting, with memory there for
    /// them. So the PoolActor looks.
    fn drop(&mut self) {
        self.shelf.count_callers(-1);
        if !self.answered {
            self.shelf.ask();
        }
    }
}

/// Leased memory, which comes back to the shelf when it is dropped. All code that uses a buffer
/// owns it, including the code that writes to the socket. So the bytes of a batch cannot change
/// while a request still carries them (CVE-2026-35554).
pub struct Buffer {
    bytes: Box<[u8]>,
    /// Bytes in use.
    len: usize,
    /// Bytes counted in the shelf's `waiting`, while a full batch waits to be sent.
    waits: AtomicUsize,
    shelf: Arc<Shelf>,
}

/// Bytes of a cache line.
const LINE: usize = 64;
/// Cache lines after the last written one that are prefetched for the next record.
const AHEAD: usize = 2;

impl Buffer {
    /// The size of the memory in bytes.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.bytes.len()
    }

    /// Lets `write` write after the bytes in use. It is given all the memory and the number of
    /// bytes in use. It returns the new number, or `None` to leave it as it is.
    #[inline]
    pub fn append(
        &mut self,
        write: impl FnOnce(&mut [u8], usize) -> Option<usize>,
    ) -> Option<usize> {
        let end = write(&mut self.bytes, self.len)?;
        debug_assert!((self.len..=self.bytes.len()).contains(&end));
        self.len = end;
        for line in 1..=AHEAD {
            if let Some(next) = self.bytes.get(end + line * LINE) {
                prefetch(next);
            }
        }
        Some(end)
    }

    /// Notes that the batch is full: from now on its bytes count as waiting to be sent.
    pub fn close(&mut self) {
        let waited = std::mem::replace(self.waits.get_mut(), self.len);
        self.shelf
            .waiting
            .fetch_add(self.len - waited, Ordering::Relaxed);
    }

    /// Notes that the batch is being sent or is dropped: its bytes no longer count as waiting.
    pub fn leaves(&self) {
        let waited = self.waits.swap(0, Ordering::Relaxed);
        self.shelf.waiting.fetch_sub(waited, Ordering::Relaxed);
    }

    /// Makes a buffer of `bytes`; see [`Shelf::charged`].
    pub fn beside(&self, bytes: Vec<u8>) -> Self {
        self.shelf.charged(bytes)
    }

    /// Replaces the contents by `bytes`. Returns whether there was room.
    pub fn replace(&mut self, bytes: &[u8]) -> bool {
        let room = self.bytes.get_mut(..bytes.len());
        room.is_some_and(|room| {
            room.copy_from_slice(bytes);
            self.len = bytes.len();
            true
        })
    }
}

impl Deref for Buffer {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer")
            .field("len", &self.len())
            .field("capacity", &self.capacity())
            .finish()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.leaves();
        let mut bytes = std::mem::take(&mut self.bytes);
        poison(&mut bytes);
        self.shelf.put_back(bytes);
    }
}

/// With debug assertions, overwrites memory before it is used again. If a request is written from
/// memory that came back too early, its checksum and contents are then wrong (CVE-2026-35554).
fn poison(bytes: &mut [u8]) {
    if cfg!(debug_assertions) {
        bytes.fill(0xde);
    }
}

/// New memory. It is initialized, so that the encoder may write anywhere in it.
pub fn blank(size: usize) -> Box<[u8]> {
    vec![0; size].into_boxed_slice()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicIsize;

    const POOLED: usize = 64;

    fn stocked(buffers: usize) -> (Arc<Shelf>, Arc<AtomicUsize>) {
        let shelf = Shelf::new(8 * 4 * POOLED, POOLED);
        let woken = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&woken);
        shelf.wake_with(move || {
            counter.fetch_add(1, Ordering::Relaxed);
        });
        for _ in 0..buffers {
            shelf.stock_up(blank(POOLED));
        }
        (shelf, woken)
    }

    #[test]
    fn a_dropped_buffer_is_ready_again_without_a_message() {
        let (shelf, woken) = stocked(4);
        let mut buffer = shelf.take(POOLED).expect("stocked");
        assert!(buffer.replace(b"old"));
        drop(buffer);
        assert_eq!((shelf.room(), woken.load(Ordering::Relaxed)), (0, 0));
        assert!(shelf.take(POOLED).expect("back").is_empty());
    }

    /// Nobody may wait for memory for hours, while all of a spool is read back.
    #[test]
    fn what_was_charged_is_not_kept_when_it_comes_back() {
        let (shelf, _) = stocked(0);
        for _ in 0..1000 {
            drop(shelf.charged(vec![0; 50]));
        }
        let stock = shelf.stock();
        assert_eq!((stock.returned.len(), stock.charged), (0, 0));
        drop(stock);
        // The PoolActor knows of it, and has to hear that it is back.
        let known = shelf.charged(vec![0; 50]);
        assert_eq!(shelf.collect().charged, 50);
        drop(known);
        let returned = shelf.collect().returned;
        let returned: Vec<_> = returned
            .iter()
            .map(|(it, size)| (it.len(), *size))
            .collect();
        assert_eq!(returned, [(0, 50)]);
    }

    #[test]
    fn what_comes_back_is_poisoned() {
        let (shelf, _) = stocked(0);
        shelf.set_awaited(Some(1));
        let mut buffer = shelf.buffer(blank(POOLED));
        assert!(buffer.replace(b"old"));
        drop(buffer);
        let (bytes, _) = shelf.collect().returned.remove(0);
        assert_eq!(*bytes, [0xde; POOLED]);
    }

    #[test]
    fn a_low_shelf_asks_once() {
        let (shelf, woken) = stocked(4);
        let held: Vec<_> = (0..5).map(|_| shelf.take(POOLED)).collect();
        assert!(held[3].is_some() && held[4].is_none());
        assert_eq!(woken.load(Ordering::Relaxed), 1);
        shelf.collect();
        assert!(shelf.take(POOLED).is_none());
        assert_eq!(
            woken.load(Ordering::Relaxed),
            1,
            "a caller that waits asks the PoolActor"
        );
        for _ in 0..2 {
            shelf.ask();
        }
        assert_eq!(
            woken.load(Ordering::Relaxed),
            2,
            "for a caller that does not wait"
        );
        shelf.collect();
        for _ in 0..2 {
            shelf.stock_up(blank(POOLED));
        }
        assert!(shelf.take(POOLED).is_some());
        assert_eq!(woken.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn nothing_is_taken_while_requests_wait() {
        let (shelf, woken) = stocked(4);
        assert!(!shelf.set_awaited(Some(1)));
        assert!(shelf.take(POOLED).is_none());
        assert_eq!(
            woken.load(Ordering::Relaxed),
            0,
            "the PoolActor knows of them"
        );
        assert!(!shelf.set_awaited(None));
        assert!(shelf.take(POOLED).is_some());
    }

    #[test]
    fn what_came_back_before_it_was_enough_is_told() {
        let (shelf, woken) = stocked(1);
        let buffer = shelf.take(POOLED);
        shelf.collect();
        let before = woken.load(Ordering::Relaxed);
        assert!(!shelf.set_awaited(Some(2 * POOLED)));
        drop(buffer);
        assert_eq!(woken.load(Ordering::Relaxed), before);
        assert!(shelf.set_awaited(Some(POOLED)), "it is enough now");
        assert!(!shelf.set_awaited(Some(POOLED)), "it was told already");
    }

    #[test]
    fn while_requests_wait_what_comes_back_is_gathered_until_it_is_enough() {
        let (shelf, woken) = stocked(4);
        let held: Vec<_> = (0..3).filter_map(|_| shelf.take(POOLED)).collect();
        shelf.collect();
        let before = woken.load(Ordering::Relaxed);
        shelf.set_awaited(Some(2 * POOLED));
        let told: Vec<_> = held
            .into_iter()
            .map(|buffer| {
                drop(buffer);
                woken.load(Ordering::Relaxed) - before
            })
            .collect();
        assert_eq!(told, [0, 1, 1]);
        assert_eq!(shelf.collect().returned.len(), 3);
    }

    #[test]
    fn the_contents_of_full_batches_are_counted_until_they_are_sent() {
        let (shelf, _) = stocked(3);
        let mut buffers = [(); 3].map(|()| shelf.take(POOLED).expect("stocked"));
        for buffer in &mut buffers {
            assert!(buffer.replace(&[1; 10]));
        }
        assert_eq!(shelf.waiting(), 0, "they are still written to");
        let [mut sent, mut dropped, open] = buffers;
        sent.close();
        sent.close();
        dropped.close();
        assert_eq!(shelf.waiting(), 20);
        drop(open);
        assert_eq!(shelf.waiting(), 20);
        sent.leaves();
        sent.leaves();
        assert_eq!(shelf.waiting(), 10);
        drop((sent, dropped));
        assert_eq!(shelf.waiting(), 0);
    }

    #[test]
    fn under_pressure_everything_goes_back_to_the_budget() {
        let (shelf, woken) = stocked(2);
        let buffer = shelf.take(POOLED).expect("stocked");
        shelf.collect();
        shelf.set_pressure(true);
        shelf.set_awaited(Some(1));
        assert!(shelf.take(POOLED).is_none(), "a waiter goes first");
        let before = woken.load(Ordering::Relaxed);
        drop(buffer);
        assert_eq!(woken.load(Ordering::Relaxed), before + 1);
        assert_eq!(shelf.collect().returned.len(), 2);
    }

    #[test]
    fn smaller_buffers_are_granted_out_of_a_credit() {
        let shelf = Shelf::new(1 << 20, 16_384);
        let first = 1024;
        assert!(shelf.take(first).is_none(), "nothing is granted yet");
        assert_eq!(shelf.credit_room(), (1 << 20) / 32);
        shelf.add_credit(3 * first, vec![blank(first)]);
        let held: Vec<_> = (0..4).filter_map(|_| shelf.take(first)).collect();
        assert_eq!((held.len(), shelf.idle_bytes()), (3, 0));
        assert!(held.iter().all(|buffer| buffer.capacity() == first));
        drop(held);
        assert_eq!(shelf.idle_bytes(), 3 * first);
        // All of it goes back to the budget when a request waits.
        shelf.set_pressure(true);
        let back: usize = shelf
            .collect()
            .returned
            .into_iter()
            .map(|(_, size)| size)
            .sum();
        assert_eq!(back, 3 * first);
        assert!(shelf.take(first).is_none());
    }

    #[test]
    fn what_is_kept_of_smaller_buffers_is_within_the_credit() {
        let shelf = Shelf::new(1 << 20, 16_384);
        let left = || {
            let stock = shelf.stock();
            (stock.credit, stock.kept.bytes())
        };
        shelf.add_credit(4096, vec![blank(2048), blank(2048)]);
        // There is none of this size, and both of the others together would be too much beside it.
        let taken = shelf.take(1024).expect("granted");
        assert_eq!(left(), (3072, 2048));
        let other = shelf.take(2048).expect("granted");
        assert_eq!(left(), (1024, 0));
        drop((taken, other));
        assert_eq!(left(), (4096, 3072));
        shelf.set_pressure(true);
        let returned = shelf.collect().returned;
        let sizes: Vec<_> = returned
            .iter()
            .map(|(bytes, size)| (bytes.len(), *size))
            .collect();
        assert_eq!(sizes, [(2048, 2048), (1024, 1024), (0, 1024)]);
    }

    #[test]
    fn a_batch_gets_no_more_than_it_needs_only_where_memory_is_scarce() {
        let shelf = Shelf::new(1 << 20, 16_384);
        let sizes = [1024, 2048, 16_384, 20_000].map(|size| shelf.size_for(size));
        assert_eq!(sizes, [1024, 16_384, 16_384, 20_000]);
        shelf.set_scarce(true);
        let sizes = [1024, 2048, 16_384, 20_000].map(|size| shelf.size_for(size));
        assert_eq!(sizes, [1024, 2048, 16_384, 20_000]);
    }

    #[test]
    fn what_is_charged_is_told_and_comes_back_by_itself() {
        let (shelf, woken) = stocked(1);
        let other = shelf.buffer(blank(1));
        let beside = other.beside(vec![7; 10 * POOLED]);
        assert_eq!(*beside, [7; 10 * POOLED]);
        let Collected { returned, charged } = shelf.collect();
        assert_eq!((returned.len(), charged), (0, 10 * POOLED));
        assert_eq!(shelf.collect().charged, 0, "it is told once");
        shelf.set_awaited(Some(POOLED));
        drop(beside);
        assert_eq!(woken.load(Ordering::Relaxed), 1, "a request waits for it");
        let returned = shelf.collect().returned;
        assert_eq!(
            returned.iter().map(|(_, size)| size).sum::<usize>(),
            10 * POOLED
        );
        // One that nobody was told of counts for nothing.
        let idle = shelf.idle_bytes();
        drop(other.beside(vec![0; POOLED]));
        assert_eq!(shelf.idle_bytes(), idle);
    }

    #[test]
    fn after_the_end_memory_is_freed() {
        let (shelf, _) = stocked(4);
        let held = [shelf.take(POOLED), shelf.take(POOLED)];
        shelf.close();
        assert_eq!(shelf.idle_bytes(), 0);
        drop(held);
        assert_eq!(shelf.idle_bytes(), 0);
        assert!(shelf.collect().returned.is_empty());
    }

    /// Sums up what it is told.
    #[derive(Default)]
    struct Sums([AtomicIsize; 2]);

    impl MemoryObserver for Sums {
        fn used(&self, bytes: isize) {
            self.0[0].fetch_add(bytes, Ordering::Relaxed);
        }

        fn waiting(&self, callers: isize) {
            self.0[1].fetch_add(callers, Ordering::Relaxed);
        }
    }

    #[test]
    fn what_is_used_and_who_waits_is_told_at_once() {
        let (shelf, woken) = stocked(4);
        let sums = Arc::new(Sums::default());
        shelf.observe_with(Arc::clone(&sums) as Arc<dyn MemoryObserver>);
        let told = || [0, 1].map(|at: usize| sums.0[at].load(Ordering::Relaxed));
        let size = POOLED as isize;
        let taken = shelf.take(POOLED).expect("stocked");
        assert_eq!(told(), [size, 0]);
        let (beside, last) = (taken.beside(vec![1; 5]), taken.beside(vec![1; 7]));
        assert_eq!(told(), [size + 12, 0]);
        let leased = shelf.buffer(blank(100));
        let (first, second) = (shelf.wait(), shelf.wait());
        assert_eq!(told(), [size + 112, 2]);
        let before = woken.load(Ordering::Relaxed);
        first.answered();
        assert_eq!((told()[1], woken.load(Ordering::Relaxed)), (1, before));
        drop(second);
        assert_eq!((told()[1], woken.load(Ordering::Relaxed)), (0, before + 1));
        drop((taken, beside, leased));
        shelf.close();
        assert_eq!(told(), [7, 0]);
        drop(last);
        assert_eq!(told(), [0, 0]);
    }

    #[test]
    fn odd_sizes_are_not_reused() {
        let (shelf, _) = stocked(0);
        drop(shelf.buffer(blank(100)));
        let sizes: Vec<_> = shelf
            .collect()
            .returned
            .into_iter()
            .map(|(_, size)| size)
            .collect();
        assert_eq!(sizes, [100]);
    }
}
