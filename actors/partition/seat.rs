//! A partition's place with its leader's sender.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use actix::prelude::*;

use super::{PartitionActor, Wake};
use crate::actors::guard::On;
use crate::actors::now;
use crate::actors::sender::{Rung, SenderActor};
use crate::core::dispatch;
use crate::core::memory::Shelf;
use crate::core::stage::Courier;

/// A partition's place with one sender.
pub(crate) type Seat = dispatch::Seat<Addr<PartitionActor>>;

/// Where callers and partitions meet a sender.
pub(crate) type Bell = dispatch::Bell<Addr<PartitionActor>>;

/// Rings for a partition.
pub(super) struct Ringer {
    bell: Arc<Bell>,
    sender: Arc<Addr<SenderActor>>,
    pub seat: Arc<Seat>,
    shelf: Arc<Shelf>,
    /// The partition is to look at each batch that is opened: nothing lingers, or it has no identity yet,
    /// which takes a while to get.
    looks: AtomicBool,
}

impl Ringer {
    /// Has the sender see to it that a batch opened then goes when it has lingered.
    fn list(&self, opened: Instant) {
        if self.bell.opened(opened, &self.seat) {
            self.sender.do_send(Rung);
        }
    }
}

impl Courier for Ringer {
    fn full(&self, bytes: usize, ask: bool) {
        let seat = ask.then(|| Arc::clone(&self.seat));
        if self.bell.ring(bytes, seat) {
            self.sender.do_send(Rung);
        }
    }

    fn opened(&self, at: Instant) {
        if self.looks.load(Ordering::Relaxed) || self.shelf.pressure() {
            self.seat.partition.do_send(Wake);
        } else {
            self.list(at);
        }
    }
}

/// Whether the partition stands in the ring of the sender of that incarnation, which it may not know: its
/// batch has lingered and cannot be asked for soon, or the ring was cleared.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Standing {
    pub incarnation: u64,
    pub in_ring: bool,
}

impl PartitionActor {
    /// Leaves the former leader's sender for that of the present one.
    pub(super) fn change_seats(&mut self, ctx: &Context<Self>) {
        if let Some(former) = self.ringer.take() {
            // It may have rung there, announced or not: a broker that is gone would be dialled for ever
            // on behalf of those that left it.
            former.seat.leave();
        }
        self.set_announced(None);
        let looks = self.looks_at_each();
        self.ringer = self.leader.as_ref().map(|leader| {
            Arc::new(Ringer {
                bell: Arc::clone(&leader.bell),
                sender: Arc::clone(&leader.sender),
                seat: Seat::new(ctx.address()),
                shelf: Arc::clone(&self.parts.shelf),
                looks: AtomicBool::new(looks),
            })
        });
        let courier = self.ringer.clone().map(|ringer| ringer as Arc<dyn Courier>);
        self.shared.stage.set_courier(courier);
    }

    fn looks_at_each(&self) -> bool {
        self.parts.linger.is_zero() || self.ledger().wants_identity()
    }

    /// It has got an identity.
    pub(super) fn identified(&self) {
        if let Some(ringer) = &self.ringer {
            ringer.looks.store(self.looks_at_each(), Ordering::Relaxed);
        }
    }

    /// Notes since when the partition stands in its sender's ring, and knows it.
    pub(super) fn set_announced(&mut self, since: Option<Instant>) {
        self.announced = since.is_some();
        match since {
            Some(since) => self.shared.gauge.ready_since(since),
            None => self.shared.gauge.not_ready(),
        }
    }

    /// Leaves the open batch's linger to the leader's sender, and returns whether that has it. It is
    /// told of a batch that it could have at once: those that come along should not have to be asked in
    /// vain.
    pub(super) fn entrust(&self, opened: Instant) -> bool {
        let Some(ringer) = &self.ringer else {
            return false;
        };
        let leader = self.leader.as_ref();
        let lends = || leader.is_some_and(|it| self.may_lend_to(it.incarnation));
        if !ringer.seat.is_listed() && self.would_lend_open() && lends() {
            ringer.list(opened);
        }
        ringer.seat.is_listed()
    }
}

impl On<Standing> for PartitionActor {
    fn on(&mut self, standing: Standing, ctx: &mut Context<Self>) {
        let now = now();
        let leader = self.leader.as_ref().map(|leader| leader.incarnation);
        if leader == Some(standing.incarnation) {
            self.set_announced(standing.in_ring.then_some(now));
        }
        self.look(now, ctx);
    }
}
