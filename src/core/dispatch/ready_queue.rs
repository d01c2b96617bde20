//! Where those who fill batches meet their sender.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// A partition's place with one sender.
#[derive(Debug)]
pub(crate) struct ReadyHandle<P> {
    pub partition: P,
    left: AtomicBool,
    /// Among those that have a batch open. Changed under the bell's lock.
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

    /// The partition goes to somebody else from now on. Whoever finds the seat in a list passes it
    /// over, also where a caller puts it there later, who has not heard of it yet. Where it is asked
    /// all the same, it gives nothing.
    pub fn detach(&self) {
        self.left.store(true, Ordering::Relaxed);
    }

    /// Whether it stands among those that have a batch open.
    pub fn is_listed(&self) -> bool {
        self.listed.load(Ordering::Relaxed)
    }

    pub fn is_attached(&self) -> bool {
        !self.left.load(Ordering::Relaxed)
    }
}

/// Where those who fill batches, on any thread, and the sender of their broker meet.
///
/// A sender that can send at once is woken by the first full batch. While it waits for answers it
/// will look by itself when one comes, so until then only a request's worth of bytes wakes it: one
/// large request costs less than many small ones, and so does one wake-up. No batch waits for that
/// beyond its linger.
///
/// Who has opened a batch stands in another list, in the order of time, and the sender keeps one
/// alarm for the first of them instead of one for each. While little is under way, an open batch
/// goes before its time in a request that goes anyway, as from Kafka's own
/// `RecordAccumulator.drain`: that is a request less, and its records wait less; and nobody looks at
/// partitions without one.
///
/// Invariants: whoever has rung stands in the list until the sender takes it, and a sender that is
/// not to be woken takes it before it rests. Whoever is taken from the list of the open ones is
/// asked or has to look, and if a batch is open then that lingers, which may be another, it is listed
/// again or watched by its partition.
#[derive(Debug)]
pub(crate) struct ReadyQueue<P>(Mutex<Waiting<P>>);

#[derive(Debug)]
struct Waiting<P> {
    /// Those with full batches.
    rung: Vec<Arc<ReadyHandle<P>>>,
    /// Those that have opened a batch, and when; each once.
    open: VecDeque<(Instant, Arc<ReadyHandle<P>>)>,
    /// The sender looks again when a batch that was opened then has lingered.
    looks_for: Option<Instant>,
    /// Bytes sealed since the sender looked.
    bytes: usize,
    /// From how many bytes on it is woken.
    enough: usize,
    /// It is on its way.
    woken: bool,
}

impl<P> Default for ReadyQueue<P> {
    fn default() -> Self {
        Self(Mutex::new(Waiting {
            rung: Vec::new(),
            open: VecDeque::new(),
            looks_for: None,
            bytes: 0,
            enough: 1,
            woken: false,
        }))
    }
}

impl<P> ReadyQueue<P> {
    fn waiting(&self) -> MutexGuard<'_, Waiting<P>> {
        // Whatever panicked in between left a list that is still a list.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A batch of so many bytes is full; `seat` is to be asked for it, unless it rang already.
    /// Returns whether the sender has to be woken.
    pub fn ring(&self, bytes: usize, handle: Option<Arc<ReadyHandle<P>>>) -> bool {
        let mut waiting = self.waiting();
        waiting.rung.extend(handle);
        waiting.bytes += bytes;
        waiting.bytes >= waiting.enough && !std::mem::replace(&mut waiting.woken, true)
    }

    /// `seat` has opened a batch. Returns whether the sender has to be woken, to set its alarm.
    pub fn opened(&self, at: Instant, handle: &Arc<ReadyHandle<P>>) -> bool {
        // If that is about to change, whoever changes it has the partition look.
        if handle.is_listed() {
            return false;
        }
        let mut waiting = self.waiting();
        if handle.listed.swap(true, Ordering::Relaxed) {
            return false;
        }
        let place = waiting.open.partition_point(|(earlier, _)| *earlier <= at);
        waiting.open.insert(place, (at, Arc::clone(handle)));
        let wakes = waiting.looks_for.is_none_or(|known| at < known);
        if wakes {
            waiting.looks_for = Some(at);
        }
        wakes
    }

    /// Up to so many of those that have opened a batch, the first ones first.
    pub fn piggyback(&self, most: usize) -> Vec<Arc<ReadyHandle<P>>> {
        if most == 0 {
            return Vec::new();
        }
        let mut waiting = self.waiting();
        std::iter::from_fn(|| waiting.first_open(|_| true))
            .take(most)
            .collect()
    }

    /// Those whose batches were opened so long ago that they are `ripe`; and when the next one was,
    /// for which the sender is to look again.
    pub fn lingered(
        &self,
        due: impl Fn(Instant) -> bool,
    ) -> (Vec<Arc<ReadyHandle<P>>>, Option<Instant>) {
        let mut waiting = self.waiting();
        let lingered = std::iter::from_fn(|| waiting.first_open(&due)).collect();
        waiting.looks_for = waiting.open.front().map(|(at, _)| *at);
        (lingered, waiting.looks_for)
    }

    /// Moves those who rang to the end of `ring`.
    pub fn answer(&self, ring: &mut VecDeque<Arc<ReadyHandle<P>>>) {
        let mut waiting = self.waiting();
        waiting.woken = false;
        waiting.bytes = 0;
        ring.extend(waiting.rung.drain(..).filter(|handle| handle.is_attached()));
    }

    /// The sender is to be woken from so many bytes on. Returns whether there are as many already:
    /// then it is not, and has to look again.
    pub fn rest(&self, enough: usize) -> bool {
        let mut waiting = self.waiting();
        waiting.enough = enough;
        waiting.bytes >= enough && !waiting.woken
    }
}

impl<P> Waiting<P> {
    /// Takes the first of those that have opened a batch, if that is `ripe`.
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
    use std::time::Duration;

    use super::*;

    fn answered(ready_queue: &ReadyQueue<char>) -> Vec<char> {
        let mut ring = VecDeque::new();
        ready_queue.answer(&mut ring);
        partitions(ring)
    }

    fn partitions(handles: impl IntoIterator<Item = Arc<ReadyHandle<char>>>) -> Vec<char> {
        handles.into_iter().map(|handle| handle.partition).collect()
    }

    #[test]
    fn it_wakes_once_and_for_enough() {
        let ready_queue = ReadyQueue::default();
        let handle = |partition| Some(ReadyHandle::new(partition));
        assert!(
            ready_queue.ring(10, handle('a')),
            "a sender that does nothing is woken by anything"
        );
        assert!(!ready_queue.ring(10, handle('b')), "it is on its way");
        assert_eq!(answered(&ready_queue), ['a', 'b']);
        assert!(!ready_queue.rest(30));
        assert!(!ready_queue.ring(10, handle('a')));
        assert!(!ready_queue.ring(10, None), "it stands in the list");
        assert!(ready_queue.ring(10, handle('c')));
        assert!(!ready_queue.ring(10, None));
        assert_eq!(answered(&ready_queue), ['a', 'c']);
    }

    #[test]
    fn whoever_has_opened_a_batch_comes_along_and_wakes_the_sender_for_its_alarm() {
        let ready_queue = ReadyQueue::default();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let handles = ['a', 'b', 'c', 'd'].map(ReadyHandle::new);
        let opened = handles.iter().zip([1, 2, 3, 4]);
        let wakes: Vec<_> = opened
            .map(|(handle, ms)| ready_queue.opened(at(ms), handle))
            .collect();
        assert_eq!(wakes, [true, false, false, false]);
        assert!(
            !ready_queue.opened(at(5), &handles[0]),
            "it stands in the list"
        );
        assert!(answered(&ready_queue).is_empty() && !ready_queue.rest(1));
        assert!(ready_queue.piggyback(0).is_empty());
        assert_eq!(partitions(ready_queue.piggyback(2)), ['a', 'b']);
        handles[2].detach();
        assert_eq!(partitions(ready_queue.piggyback(1)), ['d']);
        assert!(ready_queue.piggyback(2).is_empty());
        // It looks for the first one still.
        assert!(!ready_queue.opened(at(6), &handles[0]));
        assert_eq!(partitions(ready_queue.piggyback(1)), ['a']);
    }

    #[test]
    fn whose_batch_has_lingered_is_taken_in_the_order_of_time() {
        let ready_queue = ReadyQueue::default();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let lingered = |until| {
            let (handles, next) = ready_queue.lingered(|opened| opened <= at(until));
            (partitions(handles), next)
        };
        assert_eq!(lingered(9), (vec![], None));
        let handles = ['a', 'b', 'c'].map(ReadyHandle::new);
        assert!(ready_queue.opened(at(2), &handles[0]));
        assert!(!ready_queue.opened(at(4), &handles[1]));
        assert!(ready_queue.opened(at(1), &handles[2]), "earlier than known");
        assert_eq!(lingered(0), (vec![], Some(at(1))));
        assert_eq!(lingered(2), (vec!['c', 'a'], Some(at(4))));
        // Whoever opens another one now comes later than `b`, whose alarm is set.
        assert!(!ready_queue.opened(at(5), &handles[0]));
        assert_eq!(lingered(4), (vec!['b'], Some(at(5))));
        handles[0].detach();
        assert_eq!(lingered(5), (vec![], None));
        assert!(ready_queue.opened(at(6), &handles[1]), "no alarm is set");
    }

    #[test]
    fn whoever_has_left_is_passed_over_whenever_he_rang() {
        let ready_queue = ReadyQueue::default();
        let [early, late, new] = ['a', 'a', 'a'].map(ReadyHandle::new);
        ready_queue.ring(1, Some(Arc::clone(&early)));
        early.detach();
        late.detach();
        ready_queue.ring(1, Some(late));
        // It may have come back to the same sender.
        ready_queue.ring(1, Some(Arc::clone(&new)));
        let mut ring = VecDeque::new();
        ready_queue.answer(&mut ring);
        assert!(ring.len() == 1 && Arc::ptr_eq(&ring[0], &new));
    }

    #[test]
    fn what_rang_before_the_sender_rests_is_not_slept_through() {
        let ready_queue = ReadyQueue::default();
        assert!(!ready_queue.rest(usize::MAX));
        assert!(!ready_queue.ring(10, Some(ReadyHandle::new('a'))));
        assert!(ready_queue.rest(1), "it has to look again");
        assert_eq!(answered(&ready_queue), ['a']);
        assert!(!ready_queue.rest(1));
        assert!(ready_queue.ring(1, Some(ReadyHandle::new('a'))));
        assert!(!ready_queue.rest(1), "it is on its way");
    }

    /// Threads open batches while a sender takes them: no open batch is left that is not in the list.
    #[test]
    fn nobody_opens_a_batch_unseen() {
        const THREADS: usize = 3;
        let ready_queue = &ReadyQueue::default();
        let open: [Mutex<bool>; THREADS] = [const { Mutex::new(false) }; THREADS];
        let (open, done) = (&open, AtomicBool::new(false));
        let take = || {
            let (handles, _): (Vec<Arc<ReadyHandle<usize>>>, _) = ready_queue.lingered(|_| true);
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
                            ready_queue.opened(Instant::now(), &handle);
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

    /// Threads ring while a sender answers and rests as it likes: nobody stays in the list with the
    /// sender asleep.
    #[test]
    fn nobody_rings_in_vain() {
        const THREADS: usize = 3;
        const EACH: usize = 20_000;
        let ready_queue = &ReadyQueue::default();
        let (wake, woken) = std::sync::mpsc::channel();
        let answered = std::thread::scope(|scope| {
            let sender = scope.spawn(move || {
                let (mut ring, mut answered, mut round) = (VecDeque::new(), 0, 0);
                while woken.recv() == Ok(true) {
                    loop {
                        ready_queue.answer(&mut ring);
                        answered += ring.drain(..).count();
                        round += 1;
                        if !ready_queue.rest([1, 1, 3][round % 3]) {
                            break;
                        }
                    }
                }
                ready_queue.answer(&mut ring);
                answered + ring.len()
            });
            let ringers: Vec<_> = (0..THREADS)
                .map(|partition| {
                    let wake = wake.clone();
                    scope.spawn(move || {
                        for _ in 0..EACH {
                            if ready_queue.ring(1, Some(ReadyHandle::new(partition))) {
                                wake.send(true).expect("a sender");
                            }
                        }
                    })
                })
                .collect();
            for ringer in ringers {
                ringer.join().expect("no panic");
            }
            let left = ready_queue.waiting();
            assert!(
                left.woken || left.bytes < left.enough || left.rung.is_empty(),
                "{left:?}"
            );
            drop(left);
            wake.send(false).expect("a sender");
            sender.join().expect("no panic")
        });
        assert_eq!(answered, THREADS * EACH);
    }
}
