//! What full batches ring.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A partition's place with one sender.
#[derive(Debug)]
pub(crate) struct Seat<P> {
    pub partition: P,
    left: AtomicBool,
}

impl<P> Seat<P> {
    pub fn new(partition: P) -> Arc<Self> {
        let left = AtomicBool::new(false);
        Arc::new(Self { partition, left })
    }

    /// The partition goes to somebody else from now on. Whoever finds the seat in a list passes it
    /// over, also where a caller puts it there later, who has not heard of it yet. Where it is asked
    /// all the same, it gives nothing.
    pub fn leave(&self) {
        self.left.store(true, Ordering::Relaxed);
    }

    pub fn is_taken(&self) -> bool {
        !self.left.load(Ordering::Relaxed)
    }
}

/// Where those who fill batches, on any thread, and the sender of their broker meet.
///
/// A sender that can send at once is woken by the first full batch. While it waits for answers it
/// will look by itself when one comes, so until then only a request's worth of bytes wakes it: one
/// large request costs less than many small ones, and so does one wake-up. No batch waits for that
/// beyond its linger, at which its partition looks.
///
/// Who has opened a batch stands in another list, and wakes nobody: while little is under way, an
/// open batch goes in a request that goes anyway, as from Kafka's own `RecordAccumulator.drain`.
/// That is a request less, and its records wait less; and nobody looks at partitions without one.
///
/// Invariant: whoever has rung stands in the list until the sender takes it, and a sender that is
/// not to be woken takes it before it rests.
#[derive(Debug)]
pub(crate) struct Bell<P>(Mutex<Waiting<P>>);

#[derive(Debug)]
struct Waiting<P> {
    /// Those with full batches.
    rung: Vec<Arc<Seat<P>>>,
    /// Those that have opened a batch since they were asked for one.
    open: VecDeque<Arc<Seat<P>>>,
    /// Bytes sealed since the sender looked.
    bytes: usize,
    /// From how many bytes on it is woken.
    enough: usize,
    /// It is on its way.
    woken: bool,
}

impl<P> Default for Bell<P> {
    fn default() -> Self {
        Self(Mutex::new(Waiting {
            rung: Vec::new(),
            open: VecDeque::new(),
            bytes: 0,
            enough: 1,
            woken: false,
        }))
    }
}

impl<P> Bell<P> {
    fn waiting(&self) -> MutexGuard<'_, Waiting<P>> {
        // Whatever panicked in between left a list that is still a list.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A batch of so many bytes is full; `seat` is to be asked for it, unless it rang already.
    /// Returns whether the sender has to be woken.
    pub fn ring(&self, bytes: usize, seat: Option<Arc<Seat<P>>>) -> bool {
        let mut waiting = self.waiting();
        waiting.rung.extend(seat);
        waiting.bytes += bytes;
        waiting.bytes >= waiting.enough && !std::mem::replace(&mut waiting.woken, true)
    }

    /// `seat` has opened a batch. Told once, until it is among the [`company`](Self::company).
    pub fn opened(&self, seat: Arc<Seat<P>>) {
        let open = &mut self.waiting().open;
        while open.pop_front_if(|first| !first.is_taken()).is_some() {}
        open.push_back(seat);
    }

    /// Up to so many of those that have opened a batch, the first ones first.
    pub fn company(&self, most: usize) -> Vec<Arc<Seat<P>>> {
        if most == 0 {
            return Vec::new();
        }
        let open = &mut self.waiting().open;
        let next = std::iter::from_fn(|| open.pop_front());
        next.filter(|seat| seat.is_taken()).take(most).collect()
    }

    /// Moves those who rang to the end of `ring`.
    pub fn answer(&self, ring: &mut VecDeque<Arc<Seat<P>>>) {
        let mut waiting = self.waiting();
        waiting.woken = false;
        waiting.bytes = 0;
        ring.extend(waiting.rung.drain(..).filter(|seat| seat.is_taken()));
    }

    /// The sender is to be woken from so many bytes on. Returns whether there are as many already:
    /// then it is not, and has to look again.
    pub fn rest(&self, enough: usize) -> bool {
        let mut waiting = self.waiting();
        waiting.enough = enough;
        waiting.bytes >= enough && !waiting.woken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(bell: &Bell<char>) -> Vec<char> {
        let mut ring = VecDeque::new();
        bell.answer(&mut ring);
        partitions(ring)
    }

    fn partitions(seats: impl IntoIterator<Item = Arc<Seat<char>>>) -> Vec<char> {
        seats.into_iter().map(|seat| seat.partition).collect()
    }

    #[test]
    fn it_wakes_once_and_for_enough() {
        let bell = Bell::default();
        let seat = |partition| Some(Seat::new(partition));
        assert!(
            bell.ring(10, seat('a')),
            "a sender that does nothing is woken by anything"
        );
        assert!(!bell.ring(10, seat('b')), "it is on its way");
        assert_eq!(answered(&bell), ['a', 'b']);
        assert!(!bell.rest(30));
        assert!(!bell.ring(10, seat('a')));
        assert!(!bell.ring(10, None), "it stands in the list");
        assert!(bell.ring(10, seat('c')));
        assert!(!bell.ring(10, None));
        assert_eq!(answered(&bell), ['a', 'c']);
    }

    #[test]
    fn whoever_has_opened_a_batch_comes_along_and_wakes_nobody() {
        let bell = Bell::default();
        let seats = ['a', 'b', 'c', 'd'].map(Seat::new);
        for seat in &seats {
            bell.opened(Arc::clone(seat));
        }
        assert!(answered(&bell).is_empty() && !bell.rest(1));
        assert!(bell.company(0).is_empty());
        assert_eq!(partitions(bell.company(2)), ['a', 'b']);
        seats[2].leave();
        assert_eq!(partitions(bell.company(1)), ['d']);
        assert!(bell.company(2).is_empty());
    }

    #[test]
    fn whoever_has_left_is_passed_over_whenever_he_rang() {
        let bell = Bell::default();
        let [early, late, new] = ['a', 'a', 'a'].map(Seat::new);
        bell.ring(1, Some(Arc::clone(&early)));
        early.leave();
        late.leave();
        bell.ring(1, Some(late));
        // It may have come back to the same sender.
        bell.ring(1, Some(Arc::clone(&new)));
        let mut ring = VecDeque::new();
        bell.answer(&mut ring);
        assert!(ring.len() == 1 && Arc::ptr_eq(&ring[0], &new));
    }

    #[test]
    fn what_rang_before_the_sender_rests_is_not_slept_through() {
        let bell = Bell::default();
        assert!(!bell.rest(usize::MAX));
        assert!(!bell.ring(10, Some(Seat::new('a'))));
        assert!(bell.rest(1), "it has to look again");
        assert_eq!(answered(&bell), ['a']);
        assert!(!bell.rest(1));
        assert!(bell.ring(1, Some(Seat::new('a'))));
        assert!(!bell.rest(1), "it is on its way");
    }

    /// Threads ring while a sender answers and rests as it likes: nobody stays in the list with the
    /// sender asleep.
    #[test]
    fn nobody_rings_in_vain() {
        const THREADS: usize = 3;
        const EACH: usize = 20_000;
        let bell = &Bell::default();
        let (wake, woken) = std::sync::mpsc::channel();
        let answered = std::thread::scope(|scope| {
            let sender = scope.spawn(move || {
                let (mut ring, mut answered, mut round) = (VecDeque::new(), 0, 0);
                while woken.recv() == Ok(true) {
                    loop {
                        bell.answer(&mut ring);
                        answered += ring.drain(..).count();
                        round += 1;
                        if !bell.rest([1, 1, 3][round % 3]) {
                            break;
                        }
                    }
                }
                bell.answer(&mut ring);
                answered + ring.len()
            });
            let ringers: Vec<_> = (0..THREADS)
                .map(|partition| {
                    let wake = wake.clone();
                    scope.spawn(move || {
                        for _ in 0..EACH {
                            if bell.ring(1, Some(Seat::new(partition))) {
                                wake.send(true).expect("a sender");
                            }
                        }
                    })
                })
                .collect();
            for ringer in ringers {
                ringer.join().expect("no panic");
            }
            let left = bell.waiting();
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
