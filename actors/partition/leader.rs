//! Follows the partition's leader, and keeps the partition's entry in the ready queue of its
//! sender.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use actix::prelude::*;

use super::PartitionActor;
use super::notify::SenderNotifier;
use crate::actors::guard::On;
use crate::actors::messages::*;
use crate::actors::now;
use crate::core::ledger::Ledger;
use crate::core::stage::{BatchObserver, Lingering};

impl PartitionActor {
    /// Detaches from the former leader's sender, and attaches to that of the present one.
    pub(super) fn change_sender(&mut self, ctx: &Context<Self>) {
        if let Some(former) = self.notifier.take() {
            // The handle may be in that sender's queue, even if it was not announced. If it stayed
            // attached, the sender would try for ever to connect to a broker that may be gone.
            former.handle.detach();
        }
        self.set_announced(None);
        let wakes_partition = self.wakes_for_open();
        self.notifier = self.leader.as_ref().map(|leader| {
            Arc::new(SenderNotifier {
                ready_queue: Arc::clone(&leader.ready_queue),
                sender: Arc::clone(&leader.sender),
                handle: ReadyHandle::new(self.me(ctx)),
                shelf: Arc::clone(&self.services.shelf),
                wakes_partition: AtomicBool::new(wakes_partition),
            })
        });
        let observer = self
            .notifier
            .clone()
            .map(|notifier| notifier as Arc<dyn BatchObserver>);
        self.shared.stage.set_observer(observer);
    }

    /// Whether the partition has to be woken for each batch that is opened: there is no linger, or
    /// something has to be asked for first.
    fn wakes_for_open(&self) -> bool {
        self.services.linger.is_zero() || self.ledger().holds_back()
    }

    /// Notes whether batches wait for a leader to be known. Once they do, brokers are asked for it, and
    /// often until one names it.
    pub(super) fn wait_for_leader(&mut self, waits: bool) {
        if std::mem::replace(&mut self.waits_for_leader, waits) != waits {
            self.shared.gauge.set_waits_for_leader(waits);
            if waits {
                self.services.metadata.do_send(RefreshMetadata);
            }
        }
    }

    /// Notes that the partition has received what it had to ask for.
    pub(super) fn identified(&self) {
        if let Some(notifier) = &self.notifier {
            notifier
                .wakes_partition
                .store(self.wakes_for_open(), Ordering::Relaxed);
        }
    }

    /// Notes since when the partition has been announced to its leader's sender. `None`: it is not.
    pub(super) fn set_announced(&mut self, since: Option<Instant>) {
        self.announced = since.is_some();
        match since {
            Some(since) => self.shared.gauge.ready_since(since),
            None => self.shared.gauge.not_ready(),
        }
    }

    /// Leaves it to the leader's sender to ask for the open batch when its linger is over. Returns
    /// whether the sender has it in its list. Only a batch that could be lent at once is listed.
    /// Otherwise a sender that wants it as piggyback would ask in vain.
    pub(super) fn leave_linger_to_sender(&self, open: Lingering, now: Instant) -> bool {
        let Some(notifier) = &self.notifier else {
            return false;
        };
        let leader = self.leader.as_ref();
        let lends = || leader.is_some_and(|it| self.may_lend_to(it.incarnation));
        if !notifier.handle.is_listed() && self.would_lend_open(now) && lends() {
            match open.awaited {
                true => notifier.list_awaited(open.since),
                false => notifier.list(open.since),
            }
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
        self.collect_and_act(now, ctx);
    }
}

impl On<SetLeader> for PartitionActor {
    fn on(&mut self, message: SetLeader, ctx: &mut Context<Self>) {
        let SetLeader {
            topic_id,
            leader,
            place,
        } = message;
        self.leader_told = true;
        if let Some(place) = place {
            self.follow_topic(topic_id, place);
        }
        if leader != self.leader || topic_id != self.topic_id {
            self.ledger().leader_changed();
            if !self.topic_id.is_nil() && topic_id != self.topic_id {
                let effects = self.stop_looking(Ledger::topic_changed);
                self.apply(effects);
            }
            self.topic_id = topic_id;
            let sender =
                |leader: &Option<LeaderLink>| leader.as_ref().map(|leader| leader.incarnation);
            let stays = sender(&leader) == sender(&self.leader);
            self.leader = leader;
            if !stays {
                self.change_sender(ctx);
            }
        }
        self.collect_and_act(now(), ctx);
    }
}
