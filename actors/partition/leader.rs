//! Who leads the partition, and what its sender is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use actix::prelude::*;

use super::PartitionActor;
use super::notify::SenderNotifier;
use crate::actors::guard::On;
use crate::actors::messages::*;
use crate::actors::now;
use crate::core::stage::BatchObserver;

impl PartitionActor {
    /// Leaves the former leader's sender for that of the present one.
    pub(super) fn change_sender(&mut self, ctx: &Context<Self>) {
        if let Some(former) = self.notifier.take() {
            // It may have rung there, announced or not: a broker that is gone would be dialled for ever
            // on behalf of those that left it.
            former.handle.detach();
        }
        self.set_announced(None);
        let looks = self.looks_at_each();
        self.notifier = self.leader.as_ref().map(|leader| {
            Arc::new(SenderNotifier {
                ready_queue: Arc::clone(&leader.ready_queue),
                sender: Arc::clone(&leader.sender),
                handle: ReadyHandle::new(self.me(ctx)),
                shelf: Arc::clone(&self.services.shelf),
                looks: AtomicBool::new(looks),
            })
        });
        let observer = self
            .notifier
            .clone()
            .map(|notifier| notifier as Arc<dyn BatchObserver>);
        self.shared.stage.set_observer(observer);
    }

    fn looks_at_each(&self) -> bool {
        self.services.linger.is_zero() || self.ledger().wants_identity()
    }

    /// It has got an identity.
    pub(super) fn identified(&self) {
        if let Some(notifier) = &self.notifier {
            notifier
                .looks
                .store(self.looks_at_each(), Ordering::Relaxed);
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
        let Some(notifier) = &self.notifier else {
            return false;
        };
        let leader = self.leader.as_ref();
        let lends = || leader.is_some_and(|it| self.may_lend_to(it.incarnation));
        if !notifier.handle.is_listed() && self.would_lend_open() && lends() {
            notifier.list(opened);
        }
        notifier.handle.is_listed()
    }
}

impl On<QueueState> for PartitionActor {
    fn on(&mut self, state: QueueState, ctx: &mut Context<Self>) {
        let now = now();
        let leader = self.leader.as_ref().map(|leader| leader.incarnation);
        if leader == Some(state.incarnation) {
            self.set_announced(state.queued.then_some(now));
        }
        self.look(now, ctx);
    }
}

impl On<SetLeader> for PartitionActor {
    fn on(&mut self, SetLeader { topic_id, leader }: SetLeader, ctx: &mut Context<Self>) {
        if leader != self.leader || topic_id != self.topic_id {
            self.ledger().leader_changed();
            self.topic_id = topic_id;
            let sender =
                |leader: &Option<LeaderLink>| leader.as_ref().map(|leader| leader.incarnation);
            let stays = sender(&leader) == sender(&self.leader);
            self.leader = leader;
            if !stays {
                self.change_sender(ctx);
            }
        }
        self.look(now(), ctx);
    }
}
