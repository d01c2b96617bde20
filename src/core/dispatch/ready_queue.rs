//! How a sender learns which partitions have batches for it, and when it is woken for them.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use crate::core::sync::{AtomicBool, Mutex, MutexGuard};

/// One partition's entry in the ready queue of one sender.
#[derive(Debug)]
pub(crate) struct ReadyHandle<P> {
    pub partition: P,
    left: AtomicBool,
    /// The handle is in `open`. Changed under the queue's lock.
    listed: AtomicBool,
}

impl<P> ReadyHandle<P> {
    pub fn new(partition: P) -> Arc<Self> {
        let (left, listed) = (AtomicBool::new(false), AtomicBool::new(false));
        Arc::new(Self {
            partition,
            left,
            listed,
        })
    }

    /// Detaches the partition, which sends its batches to another sender from now on. A handle that
    /// is found in a list later is skipped. That includes a handle that a caller lists after this
    /// call because it has not seen it yet. If the sender asks the partition anyway, the partition
    /// lends nothing.
    pub fn detach(&self) {
        self.left.store(true, Ordering::Relaxed);
    }

    /// Whether the handle is in the list of partitions with an open batch.
    pub fn is_listed(&self) -> bool {
        self.listed.load(Ordering::Relaxed)
    }

    pub fn is_attached(&self) -> bool {
        !self.left.load(Ordering::Relaxed)
    }
}

/// The partitions that have batches for one sender. Callers on any thread add to it when they fill
/// or open a batch, and the sender takes from it.
///
/// Full batches: a sender that can send at once is woken by the first full batch. While it waits
/// for responses, it looks at the queue by itself when one arrives. So until then it is woken only
/// when the full batches have enough bytes for a request: one large request costs less than many
/// small ones, and so does one wake-up. This delays no batch beyond its linger.
///
/// Open batches: partitions that have opened a batch are in another list, ordered by time. The
/// sender keeps one alarm for the first of them, instead of one alarm for each. While little is in
/// flight, open batches go along in a request that is sent anyway, before their linger is over, as
/// in Kafka's `RecordAccumulator.drain`. This saves a request, and the records wait less. The list
/// also spares the sender from looking at partitions without an open batch.
///
/// Invariants:
/// - a partition with a full batch stays in `full` until the sender takes it. A sender that is not
///   to be woken takes `full` before it rests;
/// - a partition that is taken from `open` is asked for its batch or told to look at it. If a batch
///   is open then and lingers, possibly a later one, the partition is listed again or watches the
///   batch itself.
#[derive(Debug)]
pub(crate) struct ReadyQueue<P>(Mutex<Waiting<P>>);

#[derive(Debug)]
struct Waiting<P> {
    /// Partitions with full batches.
    full: Vec<Arc<ReadyHandle<P>>>,
    /// Partitions with an open batch, and when it was opened. Each partition is listed once.
    open: VecDeque<(Instant, Arc<ReadyHandle<P>>)>,
    /// The sender has an alarm for the end of the linger of a batch that was opened at this time.
    alarm_for: Option<Instant>,
    /// Bytes of full batches since the sender last took them.
    bytes: usize,
    /// The sender is woken when `bytes` reaches this.
    wake_at: usize,
    /// The sender was woken and has not looked yet.
    woken: bool,
}

impl<P> Default for ReadyQueue<P> {
    fn default() -> Self {
        Self(Mutex::new(Waiting {
            full: Vec::new(),
            open: VecDeque::new(),
            alarm_for: None,
            bytes: 0,
            wake_at: 1,
            woken: false,
        }))
    }
}

impl<P> ReadyQueue<P> {
    fn waiting(&self) -> MutexGuard<'_, Waiting<P>> {
        // The lists are valid at every point where a panic could happen, so a poisoned lock is safe
        // to use.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a full batch of `bytes`. `handle` is the partition to ask for it, or `None` if the
    /// partition is listed already. Returns whether the sender has to be woken.
    pub fn batch_full(&self, bytes: usize, handle: Option<Arc<ReadyHandle<P>>>) -> bool {
        let mut waiting = self.waiting();
        waiting.full.extend(handle);
        waiting.bytes += bytes;
        waiting.bytes >= waiting.wake_at && !std::mem::replace(&mut waiting.woken, true)
    }

    /// Notes that the partition opened a batch. Returns whether the sender has to be woken to set
    /// its alarm.
    pub fn batch_opened(&self, at: Instant, handle: &Arc<ReadyHandle<P>>) -> bool {
        // If the sender is just taking the handle from the list, it makes the partition look at its
        // open batch. So nothing is lost.
        if handle.is_listed() {
            return false;
        }
        let mut waiting = self.waiting();
        if handle.listed.swap(true, Ordering::Relaxed) {
            return false;
        }
        let place = waiting.open.partition_point(|(earlier, _)| *earlier <= at);
        waiting.open.insert(place, (at, Arc::clone(handle)));
        let wakes = waiting.alarm_for.is_none_or(|known| at < known);
        if wakes {
            waiting.alarm_for = Some(at);
        }
        wakes
    }

    /// Whether a partition is listed with an open batch.
    pub fn any_open(&self) -> bool {
        !self.waiting().open.is_empty()
    }

    /// Takes up to `most` partitions with an open batch, those opened first.
    pub fn take_piggyback(&self, most: usize) -> Vec<Arc<ReadyHandle<P>>> {
        if most == 0 {
            return Vec::new();
        }
        let mut waiting = self.waiting();
        std::iter::from_fn(|| waiting.first_open(|_| true))
            .take(most)
            .collect()
    }

    /// Takes the partitions whose open batch is `due`, judged by the time when it was opened. Also
    /// returns when the first of the remaining ones was opened: the sender has to set its alarm for
    /// it.
    pub fn take_due(
        &self,
        due: impl Fn(Instant) -> bool,
    ) -> (Vec<Arc<ReadyHandle<P>>>, Option<Instant>) {
        let mut waiting = self.waiting();
        let lingered = std::iter::from_fn(|| waiting.first_open(&due)).collect();
        waiting.alarm_for = waiting.open.front().map(|(at, _)| *at);
        (lingered, waiting.alarm_for)
    }

    /// Moves the partitions with full batches to the end of `queue`.
    pub fn drain_into(&self, queue: &mut VecDeque<Arc<ReadyHandle<P>>>) {
        let mut waiting = self.waiting();
        waiting.woken = false;
        waiting.bytes = 0;
        queue.extend(waiting.full.drain(..).filter(|handle| handle.is_attached()));
    }

    /// Sets how many bytes of full batches wake the sender. Returns whether there are that many
    /// already. Then no wake-up follows, and the sender has to look again.
    pub fn park(&self, wake_at: usize) -> bool {
        let mut waiting = self.waiting();
        waiting.wake_at = wake_at;
        waiting.bytes >= wake_at && !waiting.woken
    }
}

impl<P> Waiting<P> {
    /// Takes the first partition with an open batch, if that batch is `due`.
    fn first_open(&mut self, due: impl Fn(Instant) -> bool) -> Option<Arc<ReadyHandle<P>>> {
        loop {
            if !due(self.open.front()?.0) {
                return None;
            }
            let (_, handle) = self.open.pop_front()?;
            handle.listed.store(false, Ordering::Relaxed);
            if handle.is_attached() {
                return Some(handle);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::AtomicBool;
    use std::time::Duration;

    use super::*;

    fn taken(ready_queue: &ReadyQueue<char>) -> Vec<char> {
        let mut queue = VecDeque::new();
        ready_queue.drain_into(&mut queue);
        partitions(queue)
    }

    fn partitions(handles: impl IntoIterator<Item = Arc<ReadyHandle<char>>>) -> Vec<char> {
        handles.into_iter().map(|handle| handle.partition).collect()
    }

    #[test]
    fn the_sender_is_woken_once_and_when_the_bytes_suffice() {
        let ready_queue = ReadyQueue::default();
        let handle = |partition| Some(ReadyHandle::new(partition));
        assert!(
            ready_queue.batch_full(10, handle('a')),
            "a sender at rest is woken by any batch"
        );
        assert!(
            !ready_queue.batch_full(10, handle('b')),
            "it was woken already"
        );
        assert_eq!(taken(&ready_queue), ['a', 'b']);
        assert!(!ready_queue.park(30));
        assert!(!ready_queue.batch_full(10, handle('a')));
        assert!(!ready_queue.batch_full(10, None), "it is listed");
        assert!(ready_queue.batch_full(10, handle('c')));
        assert!(!ready_queue.batch_full(10, None));
        assert_eq!(taken(&ready_queue), ['a', 'c']);
    }

    #[test]
    fn an_open_batch_goes_along_and_wakes_the_sender_for_its_alarm() {
        let ready_queue = ReadyQueue::default();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let handles = ['a', 'b', 'c', 'd'].map(ReadyHandle::new);
        let opened = handles.iter().zip([1, 2, 3, 4]);
        let wakes: Vec<_> = opened
            .map(|(handle, ms)| ready_queue.batch_opened(at(ms), handle))
            .collect();
        assert_eq!(wakes, [true, false, false, false]);
        assert!(
            !ready_queue.batch_opened(at(5), &handles[0]),
            "it is listed"
        );
        assert!(taken(&ready_queue).is_empty() && !ready_queue.park(1));
        assert!(ready_queue.take_piggyback(0).is_empty());
        assert_eq!(partitions(ready_queue.take_piggyback(2)), ['a', 'b']);
        handles[2].detach();
        assert_eq!(partitions(ready_queue.take_piggyback(1)), ['d']);
        assert!(ready_queue.take_piggyback(2).is_empty());
        // The sender's alarm is still set for the first batch.
        assert!(!ready_queue.batch_opened(at(6), &handles[0]));
        assert_eq!(partitions(ready_queue.take_piggyback(1)), ['a']);
    }

    #[test]
    fn due_batches_are_taken_in_the_order_of_time() {
        let ready_queue = ReadyQueue::default();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let lingered = |until| {
            let (handles, next) = ready_queue.take_due(|opened| opened <= at(until));
            (partitions(handles), next)
        };
        assert_eq!(lingered(9), (vec![], None));
        let handles = ['a', 'b', 'c'].map(ReadyHandle::new);
        assert!(ready_queue.batch_opened(at(2), &handles[0]));
        assert!(!ready_queue.batch_opened(at(4), &handles[1]));
        assert!(
            ready_queue.batch_opened(at(1), &handles[2]),
            "earlier than known"
        );
        assert_eq!(lingered(0), (vec![], Some(at(1))));
        assert_eq!(lingered(2), (vec!['c', 'a'], Some(at(4))));
        // A batch opened now is later than that of `b`, for which the alarm is set.
        assert!(!ready_queue.batch_opened(at(5), &handles[0]));
        assert_eq!(lingered(4), (vec!['b'], Some(at(5))));
        handles[0].detach();
        assert_eq!(lingered(5), (vec![], None));
        assert!(
            ready_queue.batch_opened(at(6), &handles[1]),
            "no alarm is set"
        );
    }

    #[test]
    fn a_detached_handle_is_skipped_whenever_it_was_listed() {
        let ready_queue = ReadyQueue::default();
        let [early, late, new] = ['a', 'a', 'a'].map(ReadyHandle::new);
        ready_queue.batch_full(1, Some(Arc::clone(&early)));
        early.detach();
        late.detach();
        ready_queue.batch_full(1, Some(late));
        // The partition may have come back to the same sender.
        ready_queue.batch_full(1, Some(Arc::clone(&new)));
        let mut queue = VecDeque::new();
        ready_queue.drain_into(&mut queue);
        assert!(queue.len() == 1 && Arc::ptr_eq(&queue[0], &new));
    }

    #[test]
    fn a_batch_that_fills_before_the_sender_rests_is_noticed() {
        let ready_queue = ReadyQueue::default();
        assert!(!ready_queue.park(usize::MAX));
        assert!(!ready_queue.batch_full(10, Some(ReadyHandle::new('a'))));
        assert!(ready_queue.park(1), "it has to look again");
        assert_eq!(taken(&ready_queue), ['a']);
        assert!(!ready_queue.park(1));
        assert!(ready_queue.batch_full(1, Some(ReadyHandle::new('a'))));
        assert!(!ready_queue.park(1), "it was woken already");
    }

    /// Threads open batches while a sender takes them. In the end no batch is open that is not
    /// listed.
    #[test]
    fn no_batch_is_opened_unseen() {
        const THREADS: usize = 3;
        let ready_queue = &ReadyQueue::default();
        let open: [Mutex<bool>; THREADS] = [const { Mutex::new(false) }; THREADS];
        let (open, done) = (&open, AtomicBool::new(false));
        let take = || {
            let (handles, _): (Vec<Arc<ReadyHandle<usize>>>, _) = ready_queue.take_due(|_| true);
            for handle in handles {
                *open[handle.partition].lock().expect("no panic") = false;
            }
        };
        std::thread::scope(|scope| {
            let openers: Vec<_> = (0..THREADS)
                .map(|partition| {
                    scope.spawn(move || {
                        let handle = ReadyHandle::new(partition);
                        for _ in 0..100_000 {
                            *open[partition].lock().expect("no panic") = true;
                            ready_queue.batch_opened(Instant::now(), &handle);
                        }
                    })
                })
                .collect();
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    take();
                }
            });
            for opener in openers {
                opener.join().expect("no panic");
            }
            done.store(true, Ordering::Relaxed);
        });
        take();
        let left = open.iter().filter(|open| *open.lock().expect("no panic"));
        assert_eq!(left.count(), 0);
    }

    /// Threads fill batches while a sender takes them and rests in between. In the end no partition
    /// is listed while the sender is not woken.
    #[test]
    fn no_full_batch_is_missed() {
        const THREADS: usize = 3;
        const EACH: usize = 20_000;
        let ready_queue = &ReadyQueue::default();
        let (wake, woken) = std::sync::mpsc::channel();
        let taken = std::thread::scope(|scope| {
            let sender = scope.spawn(move || {
                let (mut queue, mut taken, mut round) = (VecDeque::new(), 0, 0);
                while woken.recv() == Ok(true) {
                    loop {
                        ready_queue.drain_into(&mut queue);
                        taken += queue.drain(..).count();
                        round += 1;
                        if !ready_queue.park([1, 1, 3][round % 3]) {
                            break;
                        }
                    }
                }
                ready_queue.drain_into(&mut queue);
                taken + queue.len()
            });
            let fillers: Vec<_> = (0..THREADS)
                .map(|partition| {
                    let wake = wake.clone();
                    scope.spawn(move || {
                        for _ in 0..EACH {
                            if ready_queue.batch_full(1, Some(ReadyHandle::new(partition))) {
                                wake.send(true).expect("a sender");
                            }
                        }
                    })
                })
                .collect();
            for filler in fillers {
                filler.join().expect("no panic");
            }
            let left = ready_queue.waiting();
            assert!(
                left.woken || left.bytes < left.wake_at || left.full.is_empty(),
                "{left:?}"
            );
            drop(left);
            wake.send(false).expect("a sender");
            sender.join().expect("no panic")
        });
        assert_eq!(taken, THREADS * EACH);
    }
}
