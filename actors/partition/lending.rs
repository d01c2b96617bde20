//! Decides which batches a partition lends to its leader's sender, and when.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use actix::prelude::*;

use super::PartitionActor;
use crate::actors::guard::On;
use crate::actors::messages::{LeaderLink, Loan, Offer, Ready, Take};
use crate::actors::now;
use crate::core::dispatch::{BeforeDue, OutgoingBatch};
use crate::core::ledger::Readiness;
use crate::core::stage::{Lingering, due};

impl PartitionActor {
    /// Decides whether an open batch is due, from the time when it was opened.
    fn due(&self, now: Instant) -> impl Fn(Instant) -> bool + use<> {
        due(self.services.linger, self.services.shelf.pressure(), now)
    }

    /// Whether the open batch is due: it does not wait for more records.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.open.is_some_and(|open| self.due(now)(open.since))
    }

    /// Whether there is a batch to lend, or an open one that can be sealed and lent.
    fn is_ready(&self, now: Instant) -> bool {
        self.ledger().readiness(now) == Readiness::Now
            || (self.would_lend_open(now) && self.is_due(now))
    }

    /// Whether the open batch would be lent if it were sealed.
    pub(super) fn would_lend_open(&self, now: Instant) -> bool {
        let ledger = self.ledger();
        ledger.all_lent() && ledger.has_room(now) && !ledger.holds_back()
    }

    /// Whether no batch is lent to another sender than this one.
    pub(super) fn may_lend_to(&self, incarnation: u64) -> bool {
        self.lent_to == incarnation || !self.ledger().is_lent()
    }

    /// Lends a batch to the leader's sender if that could send it at once. Returns whether it did.
    pub(super) fn offers_unasked(&mut self, now: Instant, ctx: &Context<Self>) -> bool {
        let demanding = self.leader.as_ref().filter(|it| it.demand.is_some());
        let Some(incarnation) = demanding.map(|leader| leader.incarnation) else {
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

    /// Tells the leader's sender once that there is a batch to take.
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

    /// Takes the next batch from the ledger as a loan for the sender of this incarnation, if a
    /// batch is ready.
    fn lend(&mut self, lent_to: u64, now: Instant, ctx: &Context<Self>) -> Option<Box<Loan>> {
        let compressor = Rc::clone(&self.services.compressor);
        let mut compressor = compressor.borrow_mut();
        let mut lent = self.ledger().take(now, &mut compressor);
        if lent.is_none() && self.is_ready(now) {
            self.collect(|_| true);
            lent = self.ledger().take(now, &mut compressor);
        }
        let lent = lent?;
        self.lent_to = lent_to;
        self.meters.taken(&lent);
        let owner = self.me(ctx);
        Some(Loan::new(
            self.topic_partition.clone(),
            self.topic_id,
            lent,
            owner,
        ))
    }
}

impl On<Take> for PartitionActor {
    fn on(&mut self, take: Take, ctx: &mut Context<Self>) {
        let leads = |leader: &&LeaderLink| leader.incarnation == take.incarnation;
        let Some(leader) = self.leader.as_ref().filter(leads) else {
            // The sender's broker does not lead the partition any more, or the partition does not
            // know yet that it does.
            return;
        };
        let sender = Arc::clone(&leader.sender);
        let now = now();
        if take.open == BeforeDue::Never {
            self.set_announced(None);
        }
        self.expire_doubts();
        let lends = self.may_lend_to(take.incarnation);
        // The open batch may only leave if no other batch has to be lent before it.
        let open = lends && self.would_lend_open(now) && self.shared.stage.queued() == 0;
        let due = self.due(now);
        let sooner = |open: Lingering| match take.open {
            BeforeDue::Never => false,
            BeforeDue::Awaited => open.awaited,
            BeforeDue::Always => true,
        };
        self.collect(|it| open && (sooner(it) || due(it.since)));
        for left in (0..take.batches).rev() {
            let Some(loan) = lends
                .then(|| self.lend(take.incarnation, now, ctx))
                .flatten()
            else {
                break;
            };
            // If there is more than was asked for, the partition stays in the sender's ready queue.
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
