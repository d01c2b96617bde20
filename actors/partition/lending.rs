//! What a partition lends to its leader's sender, and when.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use actix::prelude::*;

use super::PartitionActor;
use crate::actors::guard::On;
use crate::actors::messages::{LeaderLink, Loan, Offer, Ready, Take};
use crate::actors::now;

use crate::core::dispatch::OutgoingBatch;
use crate::core::ledger::Readiness;
use crate::core::stage::due;

impl PartitionActor {
    fn due(&self, now: Instant) -> impl Fn(Instant) -> bool + use<> {
        due(self.services.linger, self.services.shelf.pressure(), now)
    }

    /// Whether the open batch need not wait for more records.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.open_since.is_some_and(self.due(now))
    }

    /// Whether there is a batch to lend, or an open one that can be sealed and lent.
    fn is_ready(&self, now: Instant) -> bool {
        self.ledger().readiness(now) == Readiness::Now
            || (self.would_lend_open() && self.is_due(now))
    }

    /// Whether the open batch would be lent if it were sealed.
    pub(super) fn would_lend_open(&self) -> bool {
        let ledger = self.ledger();
        ledger.all_lent() && ledger.has_room() && !ledger.wants_identity()
    }

    /// Whether nothing is lent to another sender than this one.
    pub(super) fn may_lend_to(&self, incarnation: u64) -> bool {
        self.lender == incarnation || !self.ledger().is_lent()
    }

    /// Hands a batch to a sender that would send it at once.
    pub(super) fn offers_unasked(&mut self, now: Instant, ctx: &Context<Self>) -> bool {
        let hungry = self.leader.as_ref().filter(|it| it.demand.is_some());
        let Some(incarnation) = hungry.map(|leader| leader.incarnation) else {
            return false;
        };
        if self.announced || !self.may_lend_to(incarnation) {
            return false;
        }
        let (Some(loan), Some(leader)) = (self.lend(incarnation, now, ctx), &self.leader) else {
            return false;
        };
        leader.demand.consume(loan.len());
        leader.sender.do_send(Offer { loan, more: None });
        true
    }

    /// Tells the sender once that there is something to take.
    pub(super) fn announce(&mut self, now: Instant) {
        if self.announced || !self.is_ready(now) {
            return;
        }
        if let (Some(leader), Some(notifier)) = (&self.leader, &self.notifier)
            && self.may_lend_to(leader.incarnation)
        {
            leader.sender.do_send(Ready(Arc::clone(&notifier.handle)));
            self.set_announced(Some(now));
        }
    }

    /// A batch for the sender of that incarnation, if there is one.
    fn lend(&mut self, lender: u64, now: Instant, ctx: &Context<Self>) -> Option<Box<Loan>> {
        let compressor = Rc::clone(&self.services.compressor);
        let mut compressor = compressor.borrow_mut();
        let mut lent = self.ledger().take(now, &mut compressor);
        if lent.is_none() && self.is_ready(now) {
            self.collect(|_| true);
            lent = self.ledger().take(now, &mut compressor);
        }
        let lent = lent?;
        self.lender = lender;
        self.meters.taken(&lent);
        let home = self.me(ctx);
        Some(Loan::new(
            self.topic_partition.clone(),
            self.topic_id,
            lent,
            home,
        ))
    }
}

impl On<Take> for PartitionActor {
    fn on(&mut self, take: Take, ctx: &mut Context<Self>) {
        let leads = |leader: &&LeaderLink| leader.incarnation == take.incarnation;
        let Some(leader) = self.leader.as_ref().filter(leads) else {
            // A sender that no longer leads, or not yet again: it gets nothing.
            return;
        };
        let sender = Arc::clone(&leader.sender);
        let now = now();
        if !take.open {
            self.set_announced(None);
        }
        let lends = self.may_lend_to(take.incarnation);
        // An open batch comes by itself, or not at all.
        let open = lends && self.would_lend_open() && self.shared.stage.queued() == 0;
        let due = self.due(now);
        self.collect(|opened| open && (take.open || due(opened)));
        for left in (0..take.batches).rev() {
            let Some(loan) = lends
                .then(|| self.lend(take.incarnation, now, ctx))
                .flatten()
            else {
                break;
            };
            // It stays in the ring if there is more than was asked for.
            let mut more = None;
            if left == 0 && !self.announced && self.ledger().readiness(now) == Readiness::Now {
                self.set_announced(Some(now));
                more = self
                    .notifier
                    .as_ref()
                    .map(|notifier| Arc::clone(&notifier.handle));
            }
            sender.do_send(Offer { loan, more });
        }
        self.act(now, ctx);
    }
}
