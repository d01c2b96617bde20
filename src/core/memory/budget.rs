//! Decides which caller gets memory and which one waits.

use std::time::Instant;

use super::pace::Pace;
use super::shelf::blank;
use super::sizes::{Kept, Sizes};
use crate::core::line::Line;

/// The result of a request for memory.
#[derive(Debug)]
pub enum Lease<T> {
    /// Memory of the requested size, and the request's ticket.
    Granted(Box<[u8]>, T),
    /// The request waits. The budget keeps its ticket.
    Parked,
    /// The request is larger than the whole budget.
    TooLarge(T),
    /// The producer is closed.
    Closed(T),
}

/// Why a caller gets no memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    TimedOut,
    TooLarge,
    Closed,
}

struct Waiter<T> {
    size: usize,
    ticket: T,
}

/// The budget of `buffer.memory`, and the requests that wait for a part of it.
///
/// `T` is a ticket: what the caller left to receive its memory.
///
/// Invariants:
/// - granted bytes and bytes kept for reuse together never exceed `total`, but by what is charged;
/// - while a request waits, no later one is granted. So small requests do not starve a large one.
pub struct Budget<T> {
    total: usize,
    sizes: Sizes,
    granted: usize,
    /// Buffers that came back.
    free: Kept,
    waiters: Line<Waiter<T>>,
    pace: Pace,
    closed: bool,
}

impl<T> Budget<T> {
    /// A budget of `total` bytes. Buffers of `pooled` bytes, and of their halves, are kept for reuse. Up to
    /// `shelf` bytes of the largest ones are granted in advance.
    pub fn new(total: usize, pooled: usize, shelf: usize) -> Self {
        let sizes = Sizes::new(pooled);
        Self {
            total,
            sizes,
            granted: 0,
            free: Kept::new(sizes),
            waiters: Line::new(),
            pace: Pace::new(total, shelf),
            closed: false,
        }
    }

    /// Decides again how fast memory is granted. `waiting` is the bytes of full batches that wait
    /// to be sent.
    pub fn look(&mut self, waiting: usize, now: Instant) {
        self.pace.look(waiting, now);
    }

    /// Asks for `size` bytes. `ticket` comes back with the memory, now or from
    /// [`next_grant`](Self::next_grant).
    pub fn lease(&mut self, size: usize, deadline: Instant, ticket: T) -> Lease<T> {
        if self.closed {
            Lease::Closed(ticket)
        } else if size > self.total {
            Lease::TooLarge(ticket)
        } else if self.waiters.is_empty() && self.may_grant(size) {
            Lease::Granted(self.grant(size), ticket)
        } else {
            self.waiters.push(deadline, Waiter { size, ticket });
            Lease::Parked
        }
    }

    /// Grants a buffer of the largest size in advance, unless a request waits or memory is short.
    pub fn ahead(&mut self) -> Option<Box<[u8]>> {
        let free = !self.closed && self.waiters.is_empty() && self.may_grant(self.sizes.largest());
        free.then(|| self.grant(self.sizes.largest()))
    }

    /// Grants up to `bytes` in advance for smaller buffers, and returns how many. Of these it gives those
    /// that it has, and allocates none. They come back through [`reclaim`](Self::reclaim), in pieces of any
    /// size.
    pub fn credit(&mut self, bytes: usize) -> (usize, Vec<Box<[u8]>>) {
        let free = match self.closed || !self.waiters.is_empty() {
            true => 0,
            false => bytes.min(self.available()),
        };
        let small = self.free.take_small(free);
        self.make_room(free);
        (free, small)
    }

    /// Counts `bytes` that are used already, and perhaps more than there are.
    pub fn charge(&mut self, bytes: usize) {
        self.make_room(bytes);
    }

    /// Takes back memory that was granted or charged as `size` bytes.
    pub fn reclaim(&mut self, bytes: Box<[u8]>, size: usize) {
        self.granted = self.granted.saturating_sub(size);
        self.pace.came_back(size);
        if !self.closed {
            self.free.push(bytes);
        }
    }

    /// Frees the buffers that were kept for nothing since this was last called: after a backlog they are more
    /// than are needed.
    pub fn trim(&mut self) {
        self.free.trim();
    }

    /// Whether there may be something to free later. `ahead`: bytes that were granted in advance, and that
    /// nobody uses.
    pub fn trims_later(&self, ahead: usize) -> bool {
        self.granted > ahead || self.free.bytes() > 0
    }

    /// Grants memory to the first waiting request, if there is enough, and returns its ticket.
    ///
    /// `gone` says that the caller of a ticket has given up. Such requests are passed over, so that
    /// a large one does not keep later ones waiting. Once the deadline of any waiting request is
    /// reached, the pace does not hold back memory that is available.
    pub fn next_grant(
        &mut self,
        now: Instant,
        gone: impl Fn(&T) -> bool,
    ) -> Option<(T, Box<[u8]>)> {
        while self
            .waiters
            .first()
            .is_some_and(|waiter| gone(&waiter.ticket))
        {
            self.waiters.take_first();
        }
        let size = self.waiters.first()?.size;
        let fits = size <= self.available();
        let hurries = || self.next_deadline().is_some_and(|first| first <= now);
        if !fits || !(self.pace.allows() || hurries()) {
            return None;
        }
        let waiter = self.waiters.take_first()?;
        Some((waiter.ticket, self.grant(size)))
    }

    /// Removes the requests whose deadline has passed, and returns their tickets, the earliest deadline
    /// first.
    pub fn expire(&mut self, now: Instant) -> Vec<T> {
        let late = std::iter::from_fn(|| self.waiters.take_late(now));
        late.map(|waiter| waiter.ticket).collect()
    }

    /// Removes the requests whose caller is `gone`, once they are more than the `callers` that are
    /// left: before, they do no harm, and looking for them costs more.
    pub fn tidy(&mut self, callers: usize, gone: impl Fn(&T) -> bool) {
        if self.waiters.len() > 2 * callers + 16 {
            self.waiters.forget(|waiter| gone(&waiter.ticket));
        }
    }

    /// The earliest deadline of a waiting request.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.waiters.next_deadline()
    }

    /// Refuses all requests from now on. Returns the tickets of those that wait.
    pub fn close(&mut self) -> Vec<T> {
        self.closed = true;
        self.free.shrink(0);
        let waiters = self.waiters.take_all();
        waiters.map(|waiter| waiter.ticket).collect()
    }

    /// How many requests wait, with those of callers that are gone.
    pub fn waiting(&self) -> usize {
        self.waiters.len()
    }

    /// Bytes that are not granted.
    pub fn available(&self) -> usize {
        self.total.saturating_sub(self.granted)
    }

    /// Whether batches should take no more than they need: less than a quarter of the memory is not granted.
    /// Once that is so, it is so until half of it is not.
    pub fn is_scarce(&self, was: bool) -> bool {
        self.available() < self.total / if was { 2 } else { 4 }
    }

    /// Whether a request waits because nearly all memory is in use.
    pub fn is_exhausted(&self) -> bool {
        let first = self.waiters.first();
        first.is_some_and(|first| self.available() < first.size.max(self.pace.quantum()))
    }

    /// How many bytes have to come back before waiting requests should be looked at again. `None`
    /// if no request waits.
    pub fn awaited(&self) -> Option<usize> {
        let first = self.waiters.first()?;
        match first.size <= self.available() {
            true => Some(self.pace.quantum() / 2),
            false => Some(1),
        }
    }

    /// When the first waiting request should be looked at again, even if nothing comes back. `None`
    /// if too little memory is available for it.
    pub fn next_quantum(&self) -> Option<Instant> {
        let first = self.waiters.first()?;
        self.pace.next().filter(|_| first.size <= self.available())
    }

    fn may_grant(&self, size: usize) -> bool {
        size <= self.available() && self.pace.allows()
    }

    fn grant(&mut self, size: usize) -> Box<[u8]> {
        self.pace.handed_out(size);
        if let Some(buffer) = self.free.pop(size) {
            self.granted += size;
            return buffer;
        }
        self.make_room(size);
        blank(size)
    }

    /// Counts a grant that needs new memory. Buffers kept for reuse are memory too, so some are
    /// dropped if the total would be exceeded.
    fn make_room(&mut self, size: usize) {
        self.granted += size;
        self.free.shrink(self.total.saturating_sub(self.granted));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use std::time::Duration;

    const POOLED: usize = 1024;

    fn budget(total: usize) -> (Budget<u32>, Instant) {
        (
            Budget::new(total, POOLED, total),
            Instant::now() + Duration::from_secs(60),
        )
    }

    fn granted(lease: Lease<u32>) -> Box<[u8]> {
        match lease {
            Lease::Granted(bytes, _) => bytes,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_was_kept_for_nothing_is_freed() {
        let (mut budget, later) = budget(8 * POOLED);
        let held: Vec<_> = (0..6)
            .map(|n| granted(budget.lease(POOLED, later, n)))
            .collect();
        budget.trim();
        assert!(budget.trims_later(0), "what is out comes back");
        for buffer in held {
            budget.reclaim(buffer, POOLED);
        }
        budget.trim();
        assert_eq!(budget.free.bytes(), 6 * POOLED, "it has just come back");
        let used = [
            granted(budget.lease(POOLED, later, 6)),
            granted(budget.lease(POOLED, later, 7)),
        ];
        for buffer in used {
            budget.reclaim(buffer, POOLED);
        }
        budget.trim();
        assert_eq!(budget.free.bytes(), 2 * POOLED, "two of them were in use");
        assert!(budget.trims_later(0));
        budget.trim();
        assert_eq!(budget.free.bytes(), 0);
        assert!(!budget.trims_later(0));
    }

    #[test]
    fn memory_is_scarce_from_three_quarters_down_to_half() {
        let (mut budget, later) = budget(8 * POOLED);
        let mut held: Vec<_> = (0..6)
            .map(|n| granted(budget.lease(POOLED, later, n)))
            .collect();
        assert!(!budget.is_scarce(false));
        held.push(granted(budget.lease(POOLED, later, 6)));
        assert!(budget.is_scarce(false));
        for buffer in held.drain(4..) {
            assert!(budget.is_scarce(true));
            budget.reclaim(buffer, POOLED);
        }
        assert!(!budget.is_scarce(true));
    }

    #[test]
    fn a_grant_and_its_reclaim_restore_the_budget() {
        let (mut budget, later) = budget(64 * POOLED);
        for size in [POOLED, 2 * POOLED, 1] {
            let bytes = granted(budget.lease(size, later, 0));
            assert_eq!(bytes.len(), size);
            assert_eq!(budget.available(), 64 * POOLED - size);
            budget.reclaim(bytes, size);
            assert_eq!(budget.available(), 64 * POOLED);
        }
        assert_eq!(
            budget.free.bytes(),
            POOLED,
            "only buffers of its sizes are kept"
        );
    }

    #[test]
    fn more_than_there_will_ever_be_is_refused_at_once() {
        let (mut budget, later) = budget(2 * POOLED);
        assert!(matches!(
            budget.lease(2 * POOLED + 1, later, 7),
            Lease::TooLarge(7)
        ));
        assert_eq!(budget.waiting(), 0);
    }

    #[test]
    fn a_large_waiter_is_not_starved_by_small_ones() {
        let now = Instant::now();
        let (mut budget, later) = budget(4 * POOLED);
        let held: Vec<_> = (0..4)
            .map(|i| granted(budget.lease(POOLED, later, i)))
            .collect();
        assert!(matches!(budget.lease(3 * POOLED, later, 10), Lease::Parked));
        assert!(matches!(budget.lease(1, later, 11), Lease::Parked));
        for (returned, bytes) in held.into_iter().enumerate() {
            assert!(
                budget.next_grant(now, |_| false).is_none(),
                "{returned} returned"
            );
            budget.reclaim(bytes, POOLED);
            if returned == 2 {
                break;
            }
        }
        assert!(budget.ahead().is_none(), "a waiting request comes first");
        let (ticket, bytes) = budget.next_grant(now, |_| false).expect("three are back");
        assert_eq!((ticket, bytes.len()), (10, 3 * POOLED));
        assert!(
            budget.free.bytes() == 0,
            "kept buffers gave way to the large one"
        );
        budget.reclaim(bytes, 3 * POOLED);
        assert_eq!(
            budget.next_grant(now, |_| false).map(|(ticket, _)| ticket),
            Some(11)
        );
    }

    #[test]
    fn waiters_that_time_out_or_leave_are_gone_without_a_trace() {
        let (mut budget, later) = budget(POOLED);
        let now = Instant::now();
        let held = granted(budget.lease(POOLED, later, 0));
        for ticket in 1..=3 {
            let deadline = if ticket == 1 { now } else { later };
            assert!(matches!(
                budget.lease(POOLED, deadline, ticket),
                Lease::Parked
            ));
        }
        assert_eq!(budget.next_deadline(), Some(now));
        assert_eq!(budget.expire(now), [1]);
        budget.reclaim(held, POOLED);
        let next = budget.next_grant(now, |ticket| *ticket == 2);
        assert_eq!(next.map(|(ticket, _)| ticket), Some(3));
        assert_eq!(budget.waiting(), 0);
    }

    #[test]
    fn callers_that_give_up_again_and_again_do_not_pile_up() {
        let (mut budget, later) = budget(POOLED);
        let _held = granted(budget.lease(POOLED, later, 0));
        assert!(matches!(budget.lease(POOLED, later, 1), Lease::Parked));
        for ticket in 2..1_000 {
            assert!(matches!(budget.lease(POOLED, later, ticket), Lease::Parked));
            budget.tidy(1, |ticket| *ticket != 1);
            assert!(budget.waiting() <= 2 + 16);
        }
        assert_eq!(budget.close()[0], 1, "who waits has kept its place");
    }

    #[test]
    fn nothing_is_granted_until_what_was_charged_is_back() {
        let (mut budget, later) = budget(4 * POOLED);
        let held = granted(budget.lease(3 * POOLED, later, 0));
        budget.charge(5 * POOLED);
        assert_eq!(budget.available(), 0);
        assert!(matches!(budget.lease(1, later, 1), Lease::Parked));
        budget.reclaim(held, 3 * POOLED);
        assert!(budget.next_grant(Instant::now(), |_| false).is_none());
        budget.reclaim(Box::default(), 5 * POOLED);
        assert!(budget.next_grant(Instant::now(), |_| false).is_some());
        assert_eq!(budget.available(), 4 * POOLED - 1);
    }

    #[test]
    fn a_large_waiter_that_has_left_does_not_hold_up_later_ones() {
        let now = Instant::now();
        let (mut budget, later) = budget(4 * POOLED);
        let held: Vec<_> = (0..4)
            .map(|i| granted(budget.lease(POOLED, later, i)))
            .collect();
        assert!(matches!(budget.lease(4 * POOLED, later, 10), Lease::Parked));
        assert!(matches!(budget.lease(POOLED, later, 11), Lease::Parked));
        for bytes in held.into_iter().take(1) {
            budget.reclaim(bytes, POOLED);
        }
        let next = budget.next_grant(now, |ticket| *ticket == 10);
        assert_eq!(next.map(|(ticket, _)| ticket), Some(11));
        assert_eq!(budget.waiting(), 0);
    }

    #[test]
    fn the_pace_does_not_hold_back_memory_at_a_deadline() {
        let now = Instant::now();
        let total = 64 * POOLED;
        let mut budget = Budget::new(total, POOLED, POOLED);
        budget.look(total, now);
        let (soon, later) = (
            now + Duration::from_millis(5),
            now + Duration::from_secs(60),
        );
        for (ticket, deadline) in [(1, later), (2, soon), (3, later)] {
            assert!(matches!(
                budget.lease(POOLED, deadline, ticket),
                Lease::Parked
            ));
        }
        assert!(budget.next_grant(now, |_| false).is_none());
        let next =
            |budget: &mut Budget<u32>| budget.next_grant(soon, |_| false).map(|(who, _)| who);
        assert_eq!(next(&mut budget), Some(1), "the order is kept");
        assert_eq!(next(&mut budget), Some(2));
        assert_eq!(next(&mut budget), None, "the third has time");
        assert!(budget.expire(soon).is_empty());
    }

    #[test]
    fn closing_refuses_and_wakes() {
        let (mut budget, later) = budget(POOLED);
        let held = granted(budget.lease(POOLED, later, 0));
        assert!(matches!(budget.lease(POOLED, later, 1), Lease::Parked));
        assert_eq!(budget.close(), [1]);
        assert!(matches!(budget.lease(1, later, 2), Lease::Closed(2)));
        budget.reclaim(held, POOLED);
        assert_eq!(budget.available(), POOLED);
    }

    #[test]
    fn more_than_two_gigabytes_are_counted() {
        let (mut budget, later) = budget(5 << 30);
        assert_eq!(budget.available(), 5 << 30);
        let bytes = granted(budget.lease(POOLED, later, 0));
        budget.reclaim(bytes, POOLED);
        assert_eq!(budget.available(), 5 << 30);
    }

    proptest::proptest! {
        /// For any order of requests and returns: the budget is never exceeded, and no request
        /// overtakes another.
        #[test]
        fn the_budget_holds(steps in proptest::collection::vec((0usize..3, 1usize..5000), 1..200)) {
            let now = Instant::now();
            let (mut budget, later) = budget(8 * POOLED);
            let mut held: Vec<(Box<[u8]>, usize)> = Vec::new();
            let mut parked: VecDeque<(u32, usize)> = VecDeque::new();
            for (ticket, (step, size)) in steps.into_iter().enumerate() {
                let ticket = ticket as u32;
                let size = if size % 2 == 0 { POOLED } else { size };
                match step {
                    0 | 1 => match budget.lease(size, later, ticket) {
                        Lease::Granted(bytes, _) => {
                            proptest::prop_assert!(parked.is_empty());
                            held.push((bytes, size));
                        }
                        Lease::Parked => parked.push_back((ticket, size)),
                        other => panic!("{other:?}"),
                    },
                    _ if held.is_empty() => {}
                    _ => {
                        let (bytes, size) = held.remove(size % held.len());
                        budget.reclaim(bytes, size);
                    }
                }
                while let Some((ticket, bytes)) = budget.next_grant(now, |_| false) {
                    let (first, size) = parked.pop_front().expect("a waiter");
                    proptest::prop_assert_eq!(first, ticket);
                    held.push((bytes, size));
                }
                let out: usize = held.iter().map(|(_, size)| size).sum();
                proptest::prop_assert_eq!(budget.available(), 8 * POOLED - out);
                proptest::prop_assert!(out + budget.free.bytes() <= 8 * POOLED);
            }
        }
    }
}
