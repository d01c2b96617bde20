//! Whom a sender asks for batches: the ring, and those whose open batches have lingered.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;

use super::SenderActor;
use crate::actors::messages::{QueueState, Take, WakePartition};
use crate::core::dispatch::OutgoingBatch;
use crate::core::stage::due;

/// So long a partition whose open batch has lingered waits for its turn without having to know: then it
/// has to see to it that nothing is late to expire.
const PATIENCE: Duration = Duration::from_millis(100);

impl SenderActor {
    /// Puts those whose open batches have lingered into the ring, and sets the alarm for the next ones.
    pub(super) fn queue_lingered(&mut self, now: Instant, ctx: &Context<Self>) {
        let (linger, pressure) = (self.services.linger, self.services.shelf.pressure());
        let (lingered, next) = self.ready_queue.lingered(due(linger, pressure, now));
        let soon = self.is_up() && self.throttled_until.is_none() && self.given_up.is_none();
        if soon && !lingered.is_empty() {
            let patience = PATIENCE.min(self.rules.request_timeout);
            self.unaware.get_or_insert(now + patience);
            self.ring.extend(lingered);
        } else {
            lingered
                .iter()
                .for_each(|handle| handle.partition.do_send(WakePartition));
        }
        let next = next.map(|opened| opened + linger);
        if let Some(at) = next.into_iter().chain(self.unaware).min() {
            self.set_alarm(at, ctx);
        }
    }

    /// Tells partitions that they stand in the ring, if some have done so for long and need not know.
    pub(super) fn have_patience(&mut self, now: Instant) {
        if self.ring.is_empty() {
            self.unaware = None;
        } else if self.unaware.take_if(|until| *until <= now).is_some() {
            self.tell_the_ring(true);
        }
    }

    /// Forgets the ring; partitions announce themselves again.
    pub(super) fn clear_ring(&mut self) {
        self.unaware = None;
        self.tell_the_ring(false);
        self.ring.clear();
    }

    /// Whoever was not asked for long may stand in the ring twice, or have left.
    pub(super) fn tidy_ring(&mut self) {
        let mut seen = HashSet::new();
        self.ring
            .retain(|handle| handle.is_attached() && seen.insert(Arc::as_ptr(handle)));
    }

    fn tell_the_ring(&mut self, in_ring: bool) {
        self.tidy_ring();
        for handle in &self.ring {
            handle.partition.do_send(QueueState {
                incarnation: self.incarnation,
                queued: in_ring,
            });
        }
    }

    /// Asks partitions in the ring for as many batches as are likely to make a portion for each
    /// request that could go, with what is there. Returns how many.
    pub(super) fn ask(&mut self) -> usize {
        let slots = self.in_flight.slots();
        let wanted = self.request_sizing.batches(slots, self.taken.len());
        let asked = wanted.min(self.ring.len());
        if asked == 0 {
            return 0;
        }
        // A request takes one batch of a partition.
        let (incarnation, batches) = (self.incarnation, (wanted / asked).clamp(1, slots));
        for handle in self.ring.drain(..asked) {
            handle.partition.do_send(Take {
                incarnation,
                batches,
                open: false,
            });
        }
        asked * batches
    }

    /// Asks for open batches, to go along with what goes now.
    pub(super) fn ask_for_piggyback(&self, asked: usize) {
        if !self.is_free() {
            return;
        }
        let gathered: usize = self.taken.iter().map(OutgoingBatch::len).sum();
        let under_way = gathered + self.in_flight.bytes();
        let piggyback = self.request_sizing.piggyback(under_way, asked);
        for handle in self.ready_queue.piggyback(piggyback) {
            handle.partition.do_send(Take {
                incarnation: self.incarnation,
                batches: 1,
                open: true,
            });
        }
    }
}
