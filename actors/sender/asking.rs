//! Whom a sender asks for batches: the ring, and those whose open batches have lingered.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;

use super::{SenderActor, Take};
use crate::actors::partition::{Standing, Wake};
use crate::core::dispatch::Parcel;
use crate::core::stage::ripe;

/// So long a partition whose open batch has lingered waits for its turn without having to know: then it
/// has to see to it that nothing is late to expire.
const PATIENCE: Duration = Duration::from_millis(100);

impl SenderActor {
    /// Puts those whose open batches have lingered into the ring, and sets the alarm for the next ones.
    pub(super) fn ripen(&mut self, now: Instant, ctx: &Context<Self>) {
        let (linger, pressure) = (self.parts.linger, self.parts.shelf.pressure());
        let (lingered, next) = self.bell.lingered(ripe(linger, pressure, now));
        let soon = self.is_up() && self.throttled_until.is_none() && self.given_up.is_none();
        if soon && !lingered.is_empty() {
            let patience = PATIENCE.min(self.rules.request_timeout);
            self.unaware.get_or_insert(now + patience);
            self.ring.extend(lingered);
        } else {
            lingered
                .iter()
                .for_each(|seat| seat.partition.do_send(Wake));
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
            .retain(|seat| seat.is_taken() && seen.insert(Arc::as_ptr(seat)));
    }

    fn tell_the_ring(&mut self, in_ring: bool) {
        self.tidy_ring();
        for seat in &self.ring {
            seat.partition.do_send(Standing {
                incarnation: self.incarnation,
                in_ring,
            });
        }
    }

    /// Asks partitions in the ring for as many batches as are likely to make a portion for each
    /// request that could go, with what is there. Returns how many.
    pub(super) fn ask(&mut self) -> usize {
        let slots = self.in_flight.slots();
        let wanted = self.portions.batches(slots, self.taken.len());
        let asked = wanted.min(self.ring.len());
        if asked == 0 {
            return 0;
        }
        // A request takes one batch of a partition.
        let (incarnation, batches) = (self.incarnation, (wanted / asked).clamp(1, slots));
        for seat in self.ring.drain(..asked) {
            seat.partition.do_send(Take {
                incarnation,
                batches,
                open: false,
            });
        }
        asked * batches
    }

    /// Asks for open batches, to go along with what goes now.
    pub(super) fn ask_for_company(&self, asked: usize) {
        if !self.is_free() {
            return;
        }
        let gathered: usize = self.taken.iter().map(Parcel::len).sum();
        let under_way = gathered + self.in_flight.bytes();
        let company = self.portions.company(under_way, asked);
        for seat in self.bell.company(company) {
            seat.partition.do_send(Take {
                incarnation: self.incarnation,
                batches: 1,
                open: true,
            });
        }
    }
}
