//! Decides which partitions a sender asks for batches: those in its ready queue, and those whose
//! open batch is due or can go along as piggyback.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Action, BeforeDue, Dispatcher};
use crate::core::dispatch::{LoanHome, OutgoingBatch};
use crate::core::stage::due;

/// How long a partition may wait in the ready queue without being told, after the linger of its
/// open batch is over. Then it is told, since it has to settle the batch if its time runs out.
pub(super) const UNAWARE: Duration = Duration::from_millis(100);

impl<P: LoanHome> Dispatcher<P> {
    /// Asks partitions in the ready queue for as many batches as are likely to fill all requests
    /// that may be sent. Returns how many batches it asked for.
    pub(super) fn ask(&mut self) -> usize {
        let slots = self.in_flight.slots();
        let wanted = self.sizing.batches(slots, self.taken.len());
        let asked = wanted.min(self.ready.len());
        if asked == 0 {
            return 0;
        }
        // A request carries one batch of a partition. So a partition is asked for one batch for
        // each request at most.
        let batches = (wanted / asked).clamp(1, slots);
        for partition in self.ready.drain(..asked) {
            self.actions.push_back(Action::Take {
                partition,
                batches,
                open: BeforeDue::Never,
            });
        }
        asked * batches
    }

    /// Asks for the open batches that are waited for. Returns whether there are any.
    pub(super) fn ask_awaited(&mut self) -> bool {
        let awaited = self.queue.take_awaited();
        let any = !awaited.is_empty();
        let taken = awaited.into_iter().map(|partition| Action::Take {
            partition,
            batches: 1,
            open: BeforeDue::Awaited,
        });
        self.actions.extend(taken);
        any
    }

    /// Moves the partitions whose open batch is waited for to the ready queue, so that a connection is made
    /// for them. They are asked when it is there, and list such a batch again.
    pub(super) fn queue_awaited(&mut self, now: Instant) {
        let awaited = self.queue.take_awaited();
        if !awaited.is_empty() {
            self.tell_later(now);
            self.ready.extend(awaited);
        }
    }

    /// Has the partitions that are in the ready queue told so if they are there for long.
    fn tell_later(&mut self, now: Instant) {
        let unaware = UNAWARE.min(self.rules.request_timeout);
        self.unaware_until.get_or_insert(now + unaware);
    }

    /// Asks for open batches as piggyback: they go along in the request that is sent next. `asked`
    /// is how many other batches were asked for.
    pub(super) fn ask_for_piggyback(&mut self, asked: usize) {
        if !self.is_free() {
            return;
        }
        let gathered: usize = self.taken.iter().map(|loan| loan.len()).sum();
        let bytes = gathered + self.in_flight.bytes();
        let most = self.sizing.piggyback(bytes, asked);
        for partition in self.queue.take_piggyback(most) {
            self.actions.push_back(Action::Take {
                partition,
                batches: 1,
                open: BeforeDue::Always,
            });
        }
    }

    /// Moves the partitions whose open batch is due to the ready queue, and sets an alarm for the
    /// next ones. If the sender cannot ask them soon, wakes these partitions instead.
    pub(super) fn queue_lingered(&mut self, now: Instant) {
        let (linger, pressure) = (self.rules.linger, self.shelf.pressure());
        let (lingered, next) = self.queue.take_due(due(linger, pressure, now));
        let soon =
            self.link.is_up() && self.link.throttled_until().is_none() && self.stopped.is_none();
        if soon && !lingered.is_empty() {
            self.tell_later(now);
            self.ready.extend(lingered);
        } else {
            self.actions.extend(lingered.into_iter().map(Action::Wake));
        }
        let next = next.map(|opened| opened + linger);
        if let Some(at) = next.into_iter().chain(self.unaware_until).min() {
            self.alarm(at);
        }
    }

    /// Tells the partitions in the ready queue that they are in it, if they have waited there for
    /// [`UNAWARE`] without being told.
    pub(super) fn tell_unaware(&mut self, now: Instant) {
        if self.ready.is_empty() {
            self.unaware_until = None;
        } else if self.unaware_until.take_if(|until| *until <= now).is_some() {
            self.tell_queued(true);
        }
    }

    /// Clears the ready queue, and tells its partitions. They announce themselves again.
    pub(super) fn clear_ready(&mut self) {
        self.unaware_until = None;
        self.tell_queued(false);
        self.ready.clear();
    }

    /// Tells all partitions in the ready queue whether they are in it from now on.
    fn tell_queued(&mut self, queued: bool) {
        self.tidy_ready();
        let told = self.ready.iter().map(Arc::clone);
        let told = told.map(|partition| Action::TellQueued(partition, queued));
        self.actions.extend(told);
    }

    /// Removes partitions that are in the queue twice or have detached. Both can happen while they
    /// wait there.
    pub(super) fn tidy_ready(&mut self) {
        let mut seen = HashSet::new();
        self.ready
            .retain(|partition| partition.is_attached() && seen.insert(Arc::as_ptr(partition)));
    }
}
