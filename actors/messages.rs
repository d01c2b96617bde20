//! Every message that one actor sends to another.
//!
//! An actor knows those that are started before it by their addresses. Where that would close a
//! circle of imports, it knows the other one by the messages that it accepts: as a [`Recipient`],
//! or as one of the peers below. So all imports run one way. `DESIGN.md` has a table of all
//! messages: who sends it to whom, when, and what happens if it is lost.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use actix::prelude::*;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::lifecycle::{CloseError, Lifecycle};
use crate::core::batch::Settled;
use crate::core::cluster::TopicView;
use crate::core::dispatch::{self, Demand, LoanHome};
use crate::core::endpoint::Endpoint;
use crate::core::figures::{BrokerFigures, Figures, PartitionFigures};
use crate::core::identity::Identity;
use crate::core::ledger::Report;
use crate::core::memory::{Buffer, Refusal};
use crate::core::record::TopicPartition;
use crate::core::supervision::Component;
use crate::core::wire::{LeaderHint, Node};
use crate::intake::backend::TopicReply;

/// An address that is known only by a message that it accepts.
pub(crate) trait Accepts<M>: Send + Sync {
    /// Puts the message into the actor's mailbox. The message is lost if the actor is gone.
    fn do_send(&self, message: M);
}

impl<A, M> Accepts<M> for Addr<A>
where
    A: Actor<Context = Context<A>> + Handler<M>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    fn do_send(&self, message: M) {
        Self::do_send(self, message);
    }
}

/// A partition's actor, as the senders and the IdentityActor know it.
pub(crate) trait PartitionPeer:
    Accepts<WakePartition>
    + Accepts<Take>
    + Accepts<QueueState>
    + Accepts<BlockedBy>
    + Accepts<LoanReturned>
    + Accepts<SetIdentity>
{
    /// Whether the actor still runs.
    fn is_running(&self) -> bool;
}

/// A sender's actor, as the partitions know it.
pub(crate) trait SenderPeer: Accepts<WakeSender> + Accepts<Ready> + Accepts<Offer> {}

/// An actor that can ask the clock for a [`Tick`].
pub(crate) trait Sleeper: Accepts<Tick> {
    /// Called when memory is used up and a request for memory waits. Then lingering batches should
    /// be sent now.
    fn pressure(&self) {}
}

/// A partition's address. It is shared, because a clone of an `Addr` allocates twice.
pub(crate) type PartitionAddr = Arc<dyn PartitionPeer>;
/// A sender's address, shared for the same reason.
pub(crate) type SenderAddr = Arc<dyn SenderPeer>;
/// A batch that a partition has lent to a sender.
pub(crate) type Loan = dispatch::Loan<PartitionAddr>;
/// A partition's entry in the ready queue of a sender.
pub(crate) type ReadyHandle = dispatch::ReadyHandle<PartitionAddr>;
/// The partitions that have batches for one sender.
pub(crate) type ReadyQueue = dispatch::ReadyQueue<PartitionAddr>;

// To a partition and its sender: there are batches.

/// The partition has to check its stage. Sent by the caller's thread that fills or opens a batch,
/// if no sender is told of it; by a sender that cannot ask soon for a batch that is due; and by the
/// clock when memory is used up.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct WakePartition;

/// The sender has to check its [`ReadyQueue`]. Sent by the caller's thread that fills or opens a
/// batch, by a partition that lists its open batch, and by the clock when memory is used up.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct WakeSender;

// Between a partition and the sender of its leader.

/// The partition has a batch to take. Sent once by the partition to its leader's sender, which asks
/// for the batch when it can send.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Ready(pub Arc<ReadyHandle>);

/// Asks a partition for batches. Sent by a sender that has room for a request.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Take {
    /// The sender's incarnation. A partition whose leader has another sender lends nothing.
    pub incarnation: u64,
    /// How many batches at most.
    pub batches: usize,
    /// The open batch may be lent before it is due, as piggyback: it goes along in a request that
    /// is sent anyway.
    pub open: bool,
}

/// A batch that the partition lends to its leader's sender. Sent by the partition as the reply to
/// [`Take`], or without being asked while the sender has a [`Demand`].
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Offer {
    pub loan: Box<Loan>,
    /// Set if the partition has more batches to take. The sender puts the handle back into its
    /// queue.
    pub more: Option<Arc<ReadyHandle>>,
}

/// A loan is back. Sent by the loan itself to its partition, at the latest when it is dropped. So
/// it cannot be forgotten.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct LoanReturned {
    pub id: u64,
    pub report: Report,
    /// While this exists, the ledger knows that the news of the loan is not lost.
    pub alive: Arc<()>,
}

/// Whether the partition is in the sender's ready queue. Sent by a sender when the partition may
/// not know: its lingered batch has waited in the queue for some time, or the queue was cleared.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct QueueState {
    /// The sender's incarnation. The partition of another sender ignores the message.
    pub incarnation: u64,
    pub queued: bool,
}

/// What keeps batches from being sent. Sent by a sender that has no connection or was stopped, and
/// by the IdentityActor. If a batch expires before it was tried, this is given as the cause.
#[derive(Message, Clone)]
#[rtype(result = "()")]
pub(crate) struct BlockedBy(pub Arc<str>);

// The leader of a partition, and the identity of the producer.

/// The partition's present leader. Sent by the RuntimeActor when the leader, its sender or the
/// topic id has changed. Leaders of an older leader epoch were already ignored by the
/// MetadataActor.
#[derive(Message, Clone, PartialEq)]
#[rtype(result = "()")]
pub(crate) struct SetLeader {
    pub topic_id: Uuid,
    /// `None` while the partition has no leader.
    pub leader: Option<LeaderLink>,
}

/// A leader, and the sender that sends to it.
#[derive(Clone)]
pub(crate) struct LeaderLink {
    pub node: i32,
    /// The leader epoch, or -1 if the brokers are too old to report it.
    pub epoch: i32,
    pub sender: SenderAddr,
    /// The number of the sender's actor. Another number means another actor, which knows nothing of
    /// what this one was told.
    pub incarnation: u64,
    /// While the sender has a demand, batches are lent to it without being asked for.
    pub demand: Demand,
    pub ready_queue: Arc<ReadyQueue>,
}

impl PartialEq for LeaderLink {
    /// Whether both are the same leader with the same sender.
    fn eq(&self, other: &Self) -> bool {
        let told = |leader: &Self| (leader.node, leader.epoch, leader.incarnation);
        told(self) == told(other)
    }
}

/// The broker has another address now. Sent by the RuntimeActor to the broker's sender.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct MoveTo(pub Endpoint);

/// A partition has batches and no identity to stamp them with. Sent by the partition to the
/// IdentityActor.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct WantIdentity {
    pub partition: TopicPartition,
    pub who: PartitionAddr,
    /// The identity that the partition left and cannot use again, if there is one.
    pub left: Option<Identity>,
}

/// A partition can no longer use the identity that it has `seen`. Sent by the partition to the
/// IdentityActor.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct BumpEpoch {
    pub seen: Identity,
    pub partition: TopicPartition,
    pub who: PartitionAddr,
}

/// The identity to use from now on. Sent by the IdentityActor to all partitions that have asked for
/// one.
#[derive(Message, Clone, Copy)]
#[rtype(result = "()")]
pub(crate) struct SetIdentity(pub Identity);

/// The brokers of the cluster. Sent by the MetadataActor to the IdentityActor, which asks one of
/// them for a producer id.
#[derive(Message, Clone)]
#[rtype(result = "()")]
pub(crate) struct SetNodes(pub Arc<[(i32, Endpoint)]>);

// The view of the cluster.

/// A caller needs a topic that is not known yet. Sent on the caller's thread to the MetadataActor.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct WantTopic {
    pub topic: Arc<str>,
    pub asked: Instant,
    pub deadline: Instant,
    pub reply: TopicReply,
}

/// The view of the cluster may be out of date. Sent to the MetadataActor by a partition or a sender
/// after an error, and by a caller that names an unknown partition. One request then asks for all
/// topics: to note which of them are out of date would cost more.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct RefreshMetadata;

/// A produce response names the new leader of a partition (KIP-951). Sent by a sender to the
/// MetadataActor.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct LeaderMoved {
    pub topic_partition: TopicPartition,
    pub leader: LeaderHint,
    pub nodes: Vec<Node>,
}

/// The view of the cluster has changed, or callers wait for a topic in it. Sent by the
/// MetadataActor to the RuntimeActor.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct InstallMetadata {
    pub nodes: BTreeMap<i32, Endpoint>,
    pub topics: Vec<TopicView>,
    /// The callers that wait for a topic, with its name. They get a reply once it is installed.
    pub ready: Vec<(Arc<str>, TopicReply)>,
}

// Memory.

/// Asks for memory. Sent on a caller's thread to the PoolActor. A caller that drops the receiver
/// leaves the queue of waiting requests. If the grant is on its way at that moment, the buffer is
/// dropped, and a dropped buffer goes back by itself.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct LeaseMemory {
    pub size: usize,
    pub deadline: Instant,
    pub reply: oneshot::Sender<Result<Buffer, Refusal>>,
}

/// Memory came back while a request waits, or the shelf runs low. Sent by the shelf to the
/// PoolActor, on any thread.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Restock;

/// Memory is used up and a request waits for it, so lingering batches should be sent now. Sent by
/// the PoolActor to the clock, which knows all actors that wait for a linger.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Pressure;

// Time.

/// Asks the clock for a [`Tick`] at a time. Sent by any actor with a deadline. It is never
/// cancelled: a tick without a reason only makes the actor check its state.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct WakeAt {
    pub at: Instant,
    pub who: Arc<dyn Sleeper>,
}

/// A deadline of the actor has passed. Sent by the clock. It may be late, and its reason may be
/// gone, so the actor checks its own state.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Tick;

// Outcomes, flush and close.

/// A batch has its outcome, and listeners or callbacks have to be told. Sent by the partition to
/// the DeliveryActor.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Deliver {
    pub topic_partition: TopicPartition,
    pub settled: Settled,
}

/// Everything accepted so far has to be sent now. Sent by a handle to the RuntimeActor, which
/// replies when all of it has its outcome. If the reply is dropped, a partition missed the flush,
/// and the handle asks again.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Flush(pub oneshot::Sender<()>);

/// Everything that the partition accepted so far has to be sent now. Sent by the RuntimeActor to
/// each partition. When all of it has its outcome, the last clone of the barrier is dropped. A
/// message that is dropped before it was handled still holds its barrier, and marks it as missed.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct FlushPartition(pub Option<Arc<Barrier>>);

impl Drop for FlushPartition {
    fn drop(&mut self) {
        if let Some(barrier) = &self.0 {
            barrier.missed.store(true, Ordering::Relaxed);
        }
    }
}

/// Attached to batches, to learn when all of them have their outcome: then the last clone is
/// dropped, and `done` is sent. If a partition missed the flush, `done` is dropped instead, and the
/// caller has to ask again.
pub(crate) struct Barrier {
    done: Option<oneshot::Sender<()>>,
    missed: AtomicBool,
}

impl Barrier {
    pub fn new(done: oneshot::Sender<()>) -> Arc<Self> {
        let (done, missed) = (Some(done), AtomicBool::new(false));
        Arc::new(Self { done, missed })
    }
}

impl Drop for Barrier {
    fn drop(&mut self) {
        if let Some(done) = self.done.take().filter(|_| !*self.missed.get_mut()) {
            let _ = done.send(());
        }
    }
}

/// The producer has to end. Sent by a handle to the RuntimeActor. Accepted records are delivered if
/// that takes no longer than `within`. Then all of them have their outcome, and all actors stop.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Close {
    pub within: Duration,
    pub reply: Option<oneshot::Sender<Result<(), CloseError>>>,
}

/// The last handle (`Producer` or `Lane`) was dropped. Sent by its drop to the RuntimeActor.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct LastHandleDropped;

/// The actor has to stop, because the producer ends. Sent by the RuntimeActor to all other actors.
#[derive(Message, Clone, Copy)]
#[rtype(result = "()")]
pub(crate) struct Stop;

// Supervision.

/// A component has restarted or failed after a panic. Sent by its guard to the RuntimeActor, which
/// handles the consequences for the other components.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct ComponentFell {
    pub component: Component,
    /// The reason, if the component restarted too often and was given up.
    pub failed: Option<Arc<str>>,
}

/// Another component may have lost a message. Sent by the RuntimeActor to the other actors. The
/// receiver no longer relies on what it told others: it announces itself and sets its alarms again.
#[derive(Message, Clone, Copy)]
#[rtype(result = "()")]
pub(crate) struct Resync;

/// A partition or sender that was given up or retired has to work again. Sent by the RuntimeActor
/// when the application asks for it.
#[derive(Message, Clone, Copy)]
#[rtype(result = "()")]
pub(crate) struct Restart;

/// A partition or sender has to accept nothing more. Sent by the RuntimeActor when the application
/// asks for it.
#[derive(Message, Clone, Copy)]
#[rtype(result = "()")]
pub(crate) struct Retire;

/// The recipient wants to know of restarts and failures. Sent by a handle to the RuntimeActor.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Subscribe(pub Recipient<Lifecycle>);

// Figures.

/// Asks for the figures of the whole producer. Sent by a handle to the RuntimeActor.
#[derive(Message)]
#[rtype(result = "Figures")]
pub(crate) struct GetFigures;

/// Asks a partition for its figures. Sent by the RuntimeActor.
#[derive(Message)]
#[rtype(result = "PartitionFigures")]
pub(crate) struct GetPartitionFigures;

/// Asks a sender for its figures. Sent by the RuntimeActor.
#[derive(Message)]
#[rtype(result = "BrokerFigures")]
pub(crate) struct GetBrokerFigures;

/// Asks the PoolActor how much memory it has. Sent by the RuntimeActor.
#[derive(Message)]
#[rtype(result = "PoolState")]
pub(crate) struct GetPoolState;

/// The PoolActor's part of the [`Figures`]: free bytes, and waiting requests.
#[derive(Debug, Clone, Copy, MessageResponse)]
pub(crate) struct PoolState {
    pub available: usize,
    pub waiting: usize,
}

impl LoanHome for PartitionAddr {
    fn loan_returned(&self, id: u64, report: Report, alive: Arc<()>) {
        self.do_send(LoanReturned { id, report, alive });
    }
}
