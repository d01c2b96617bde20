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
/// Open batches that are waited for: a sender with nothing in flight asks for them at once. While
/// something is in flight they go on filling until that is answered. So those who wait share
/// requests by themselves, however many they are and however distant the broker is.
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
    /// Partitions with an open batch, ordered by when it was opened. Each partition is listed once.
    open: VecDeque<Listed<P>>,
    /// How many of them are waited for.
    awaited: usize,
    /// The sender has an alarm for the end of the linger of a batch that was opened at this time.
    alarm_for: Option<Instant>,
    /// Bytes of full batches since the sender last took them.
    bytes: usize,
    /// The sender is woken when `bytes` reaches this.
    wake_at: usize,
    /// The sender is woken by an open batch that is waited for.
    heeds_awaited: bool,
    /// The sender was woken and has not looked yet.
    woken: bool,
}

/// A partition with an open batch.
#[derive(Debug)]
struct Listed<P> {
    /// When the batch was opened.
    at: Instant,
    handle: Arc<ReadyHandle<P>>,
    /// Somebody waits for it.
    awaited: bool,
}

impl<P> Default for ReadyQueue<P> {
    fn default() -> Self {
        Self(Mutex::new(Waiting {
            full: Vec::new(),
            open: VecDeque::new(),
            awaited: 0,
            alarm_for: None,
            bytes: 0,
            wake_at: 1,
            heeds_awaited: false,
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
        waiting.list(at, handle, false)
    }

    /// Notes that somebody waits for the partition's open batch, which was opened at this time. Returns
    /// whether the sender has to be woken to ask for it.
    pub fn batch_awaited(&self, at: Instant, handle: &Arc<ReadyHandle<P>>) -> bool {
        let mut waiting = self.waiting();
        let mut wakes = false;
        if handle.listed.swap(true, Ordering::Relaxed) {
            // It was opened a moment ago, most likely.
            let mut open = waiting.open.iter_mut().rev();
            let listed = open.find(|listed| Arc::ptr_eq(&listed.handle, handle));
            let more = listed.is_some_and(|it| !std::mem::replace(&mut it.awaited, true));
            waiting.awaited += usize::from(more);
        } else {
            wakes = waiting.list(at, handle, true);
        }
        wakes | (waiting.heeds_awaited && !std::mem::replace(&mut waiting.woken, true))
    }

    /// Takes the partitions whose open batch is waited for.
    pub fn take_awaited(&self) -> Vec<Arc<ReadyHandle<P>>> {
        self.waiting().take_awaited(usize::MAX)
    }

    /// Whether a partition is listed with an open batch.
    pub fn any_open(&self) -> bool {
        !self.waiting().open.is_empty()
    }

    /// Takes up to `most` partitions with an open batch, those that are waited for and then those opened
    /// first.
    pub fn take_piggyback(&self, most: usize) -> Vec<Arc<ReadyHandle<P>>> {
        if most == 0 {
            return Vec::new();
        }
        let mut waiting = self.waiting();
        let mut taken = waiting.take_awaited(most);
        let more = most - taken.len();
        taken.extend(std::iter::from_fn(|| waiting.first_open(|_| true)).take(more));
        taken
    }

    /// Takes the partitions whose open batch is `due`, judged by the time when it was opened. Also
    /// returns when the first of the remaining ones was opened: the sender has to set its alarm for
    /// it. If none remains, an alarm that was set stays: it is soon enough for those that are opened
    /// before it rings, which need not wake the sender then.
    pub fn take_due(
        &self,
        due: impl Fn(Instant) -> bool,
    ) -> (Vec<Arc<ReadyHandle<P>>>, Option<Instant>) {
        let mut waiting = self.waiting();
        let lingered = std::iter::from_fn(|| waiting.first_open(&due)).collect();
        let first = waiting.open.front().map(|listed| listed.at);
        let still_set = || waiting.alarm_for.filter(|at| !due(*at));
        waiting.alarm_for = first.or_else(still_set);
        (lingered, waiting.alarm_for)
    }

    /// Moves the partitions with full batches to the end of `queue`.
    pub fn drain_into(&self, queue: &mut VecDeque<Arc<ReadyHandle<P>>>) {
        let mut waiting = self.waiting();
        waiting.woken = false;
        waiting.bytes = 0;
        queue.extend(waiting.full.drain(..).filter(|handle| handle.is_attached()));
    }

    /// Sets how many bytes of full batches wake the sender, and whether an open batch that is waited for
    /// does, too. Returns whether there is that much already. Then no wake-up follows, and the sender
    /// has to look again.
    pub fn park(&self, wake_at: usize, heeds_awaited: bool) -> bool {
        let mut waiting = self.waiting();
        waiting.wake_at = wake_at;
        waiting.heeds_awaited = heeds_awaited;
        let enough = waiting.bytes >= wake_at || heeds_awaited && waiting.awaited > 0;
        enough && !waiting.woken
    }
}

impl<P> Waiting<P> {
    /// Takes the first partition with an open batch, if that batch is `due`.
    fn first_open(&mut self, due: impl Fn(Instant) -> bool) -> Option<Arc<ReadyHandle<P>>> {
        loop {
            if !due(self.open.front()?.at) {
                return None;
            }
            let taken = self.take(0);
            if taken.is_some() {
                return taken;
            }
        }
    }

    /// Takes up to `most` partitions whose open batch is waited for.
    fn take_awaited(&mut self, most: usize) -> Vec<Arc<ReadyHandle<P>>> {
        let mut taken = Vec::with_capacity(self.awaited.min(most));
        let mut place = self.open.len();
        // They are opened and waited for at once, so most of them stand at the end.
        while self.awaited > 0 && place > 0 && taken.len() < most {
            place -= 1;
            if self.open[place].awaited {
                taken.extend(self.take(place));
            }
        }
        taken.reverse();
        taken
    }

    /// Takes the partition at this place from the list. If it has left, returns `None`.
    fn take(&mut self, place: usize) -> Option<Arc<ReadyHandle<P>>> {
        let listed = self.open.remove(place)?;
        self.awaited -= usize::from(listed.awaited);
        listed.handle.listed.store(false, Ordering::Relaxed);
        Some(listed.handle).filter(|handle| handle.is_attached())
    }

    /// Lists a partition. Returns whether the sender has to be woken to set its alarm.
    fn list(&mut self, at: Instant, handle: &Arc<ReadyHandle<P>>, awaited: bool) -> bool {
        let place = self.open.partition_point(|earlier| earlier.at <= at);
        let handle = Arc::clone(handle);
        let listed = Listed {
            at,
            handle,
            awaited,
        };
        self.open.insert(place, listed);
        self.awaited += usize::from(awaited);
        let wakes = self.alarm_for.is_none_or(|known| at < known);
        if wakes {
            self.alarm_for = Some(at);
        }
        wakes
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
        assert!(!ready_queue.park(30, false));
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
        assert!(taken(&ready_queue).is_empty() && !ready_queue.park(1, false));
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
    fn a_batch_that_is_waited_for_wakes_a_sender_at_rest() {
        let ready_queue = ReadyQueue::default();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let handles = ['a', 'b', 'c'].map(ReadyHandle::new);
        let awaited = || partitions(ready_queue.take_awaited());
        for (handle, ms) in handles.iter().zip([1, 2, 3]) {
            ready_queue.batch_opened(at(ms), handle);
        }
        assert!(!ready_queue.park(1, false));
        assert!(
            !ready_queue.batch_awaited(at(2), &handles[1]),
            "something is in flight"
        );
        assert!(ready_queue.park(1, true), "it has to look");
        assert_eq!(awaited(), ['b']);
        assert!(!ready_queue.park(1, true));
        assert!(ready_queue.batch_awaited(at(1), &handles[0]));
        assert!(
            !ready_queue.batch_awaited(at(3), &handles[2]),
            "it was woken already"
        );
        assert!(
            !ready_queue.batch_awaited(at(1), &handles[0]),
            "it is known"
        );
        assert_eq!(awaited(), ['a', 'c']);
        assert!(awaited().is_empty());
        assert_eq!(ready_queue.take_due(|_| true).0.len(), 0);
    }

    #[test]
    fn a_batch_that_is_waited_for_lingers_as_long_as_others() {
        let ready_queue = ReadyQueue::default();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let handles = ['a', 'b', 'c'].map(ReadyHandle::new);
        assert!(!ready_queue.park(1, false));
        assert!(
            ready_queue.batch_awaited(at(1), &handles[0]),
            "its alarm has to be set: nobody was told that it was opened"
        );
        assert!(
            !ready_queue.batch_opened(at(1), &handles[0]),
            "it is listed"
        );
        assert!(!ready_queue.batch_opened(at(0) + Duration::from_micros(1), &handles[0]));
        assert!(!ready_queue.batch_opened(at(2), &handles[1]));
        let (due, next) = ready_queue.take_due(|opened| opened <= at(1));
        assert_eq!((partitions(due), next), (vec!['a'], Some(at(2))));
        assert!(!ready_queue.park(1, true), "it is not waited for any more");
        // It goes along before those that were opened earlier.
        ready_queue.batch_opened(at(3), &handles[2]);
        ready_queue.batch_awaited(at(3), &handles[2]);
        assert_eq!(partitions(ready_queue.take_piggyback(1)), ['c']);
        assert_eq!(partitions(ready_queue.take_piggyback(2)), ['b']);
        handles[1].detach();
        ready_queue.batch_awaited(at(4), &handles[1]);
        assert!(ready_queue.take_awaited().is_empty());
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
        assert!(!ready_queue.park(usize::MAX, false));
        assert!(!ready_queue.batch_full(10, Some(ReadyHandle::new('a'))));
        assert!(ready_queue.park(1, false), "it has to look again");
        assert_eq!(taken(&ready_queue), ['a']);
        assert!(!ready_queue.park(1, false));
        assert!(ready_queue.batch_full(1, Some(ReadyHandle::new('a'))));
        assert!(!ready_queue.park(1, false), "it was woken already");
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
                        if !ready_queue.park([1, 1, 3][round % 3], false) {
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
