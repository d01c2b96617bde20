//! A partition's place with its leader's sender.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use actix::prelude::*;

use super::{PartitionActor, WakePartition};
use crate::actors::guard::On;
use crate::actors::now;
use crate::actors::sender::{SenderActor, WakeSender};
use crate::core::dispatch;
use crate::core::memory::Shelf;
use crate::core::stage::BatchObserver;

/// A partition's place with one sender.
pub(crate) type ReadyHandle = dispatch::ReadyHandle<Addr<PartitionActor>>;

/// Where callers and partitions meet a sender.
pub(crate) type ReadyQueue = dispatch::ReadyQueue<Addr<PartitionActor>>;

/// Rings for a partition.
pub(super) struct SenderNotifier {
    ready_queue: Arc<ReadyQueue>,
    sender: Arc<Addr<SenderActor>>,
    pub handle: Arc<ReadyHandle>,
    shelf: Arc<Shelf>,
    /// The partition is to look at each batch that is opened: nothing lingers, or it has no identity yet,
    /// which takes a while to get.
    looks: AtomicBool,
}

impl SenderNotifier {
    /// Has the sender see to it that a batch opened then goes when it has lingered.
    fn list(&self, opened: Instant) {
        if self.ready_queue.opened(opened, &self.handle) {
            self.sender.do_send(WakeSender);
        }
    }
}

impl BatchObserver for SenderNotifier {
    fn full(&self, bytes: usize, ask: bool) {
        let handle = ask.then(|| Arc::clone(&self.handle));
        if self.ready_queue.ring(bytes, handle) {
            self.sender.do_send(WakeSender);
        }
    }

    fn opened(&self, at: Instant) {
        if self.looks.load(Ordering::Relaxed) || self.shelf.pressure() {
            self.handle.partition.do_send(WakePartition);
        } else {
            self.list(at);
        }
    }
}

/// Whether the partition stands in the ring of the sender of that incarnation, which it may not know: its
/// batch has lingered and cannot be asked for soon, or the ring was cleared.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct QueueState {
    pub incarnation: u64,
    pub in_ring: bool,
}

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
                handle: ReadyHandle::new(ctx.address()),
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
    fn on(&mut self, standing: QueueState, ctx: &mut Context<Self>) {
        let now = now();
        let leader = self.leader.as_ref().map(|leader| leader.incarnation);
        if leader == Some(standing.incarnation) {
            self.set_announced(standing.in_ring.then_some(now));
        }
        self.look(now, ctx);
    }
}
