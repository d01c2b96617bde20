//! Whom a sender asks for batches: the partitions in its ready queue, and those whose open batch is due.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Action, Dispatcher};
use crate::core::dispatch::{LoanHome, OutgoingBatch};
use crate::core::stage::due;

/// A batch whose linger is over may wait this long for the sender to ask for it. After that its
/// partition has to know, since it is the partition that settles what runs out of time.
pub(super) const UNAWARE: Duration = Duration::from_millis(100);

impl<P: LoanHome> Dispatcher<P> {
    /// Asks partitions in the ready queue for as many batches as are likely to fill each request that
    /// could go. Returns how many.
    pub(super) fn ask(&mut self) -> usize {
        let slots = self.in_flight.slots();
        let wanted = self.sizing.batches(slots, self.taken.len());
        let asked = wanted.min(self.ready.len());
        if asked == 0 {
            return 0;
        }
        // A request takes one batch of a partition.
        let batches = (wanted / asked).clamp(1, slots);
        for partition in self.ready.drain(..asked) {
            self.actions.push_back(Action::Take {
                partition,
                batches,
                open: false,
            });
        }
        asked * batches
    }

    /// Asks for open batches, to go along in the request that goes now.
    pub(super) fn ask_for_piggyback(&mut self, asked: usize) {
        if !self.is_free() {
            return;
        }
        let gathered: usize = self.taken.iter().map(|loan| loan.len()).sum();
        let under_way = gathered + self.in_flight.bytes();
        let most = self.sizing.piggyback(under_way, asked);
        for partition in self.queue.take_piggyback(most) {
            self.actions.push_back(Action::Take {
                partition,
                batches: 1,
                open: true,
            });
        }
    }

    /// Queues the partitions whose open batches are due, and asks for an alarm for the next ones.
    pub(super) fn queue_lingered(&mut self, now: Instant) {
        let (linger, pressure) = (self.rules.linger, self.shelf.pressure());
        let (lingered, next) = self.queue.take_due(due(linger, pressure, now));
        let soon =
            self.link.is_up() && self.link.throttled_until().is_none() && self.stopped.is_none();
        if soon && !lingered.is_empty() {
            let unaware = UNAWARE.min(self.rules.request_timeout);
            self.unaware_until.get_or_insert(now + unaware);
            self.ready.extend(lingered);
        } else {
            self.actions.extend(lingered.into_iter().map(Action::Wake));
        }
        let next = next.map(|opened| opened + linger);
        if let Some(at) = next.into_iter().chain(self.unaware_until).min() {
            self.alarm(at);
        }
    }

    /// Tells partitions that they stand in the ready queue, if they have done so for long without
    /// having to know.
    pub(super) fn tell_unaware(&mut self, now: Instant) {
        if self.ready.is_empty() {
            self.unaware_until = None;
        } else if self.unaware_until.take_if(|until| *until <= now).is_some() {
            self.tell_queued(true);
        }
    }

    /// Forgets the ready queue; partitions announce themselves again.
    pub(super) fn clear_ready(&mut self) {
        self.unaware_until = None;
        self.tell_queued(false);
        self.ready.clear();
    }

    fn tell_queued(&mut self, queued: bool) {
        self.tidy_ready();
        let told = self.ready.iter().map(Arc::clone);
        let told = told.map(|partition| Action::TellQueued(partition, queued));
        self.actions.extend(told);
    }

    /// A partition that was not asked for long may stand in the queue twice, or have left.
    pub(super) fn tidy_ready(&mut self) {
        let mut seen = HashSet::new();
        self.ready
            .retain(|partition| partition.is_attached() && seen.insert(Arc::as_ptr(partition)));
    }
}
