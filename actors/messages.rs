//! The protocol on one page: every message that one actor sends to another.
//!
//! An actor knows another by what it accepts, not by its type: a [`Recipient`], or one of the peers
//! below. So no actor's file imports the file of an actor it talks to, and the imports run one way.
//! `DESIGN.md` has the table of who sends what to whom, when, and what happens if it is lost.

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

/// An address, known only by a message that it accepts.
pub(crate) trait Accepts<M>: Send + Sync {
    /// Queues the message. It is lost if the actor is gone.
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

/// A partition, as senders and the identity see it.
pub(crate) trait PartitionPeer:
    Accepts<WakePartition>
    + Accepts<Take>
    + Accepts<QueueState>
    + Accepts<BlockedBy>
    + Accepts<LoanReturned>
    + Accepts<SetIdentity>
{
    /// Whether its actor is there.
    fn is_running(&self) -> bool;
}

/// A sender, as partitions see it.
pub(crate) trait SenderPeer: Accepts<WakeSender> + Accepts<Ready> + Accepts<Offer> {}

/// Whoever asks the clock for a [`Tick`].
pub(crate) trait Sleeper: Accepts<Tick> {
    /// Memory is used up, and somebody waits for it: lingering batches are to leave now.
    fn pressure(&self) {}
}

/// A partition's address, shared: a clone of an `Addr` allocates twice.
pub(crate) type PartitionAddr = Arc<dyn PartitionPeer>;
/// A sender's address, shared.
pub(crate) type SenderAddr = Arc<dyn SenderPeer>;
/// A batch that a partition has lent to a sender.
pub(crate) type Loan = dispatch::Loan<PartitionAddr>;
/// A partition's place in the ready queue of a sender.
pub(crate) type ReadyHandle = dispatch::ReadyHandle<PartitionAddr>;
/// Where callers and partitions meet a sender.
pub(crate) type ReadyQueue = dispatch::ReadyQueue<PartitionAddr>;

// From callers to a partition and its sender.

/// There is a reason to look at the stage.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct WakePartition;

/// There is a reason to look at the [`ReadyQueue`].
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct WakeSender;

// Between a partition and the sender of its leader.

/// A partition has a batch to take. Said once, on the edge; the sender takes when it can send.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Ready(pub Arc<ReadyHandle>);

/// Asks a partition for batches.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Take {
    /// A partition whose leader has another incarnation gives nothing.
    pub incarnation: u64,
    /// How many, at most.
    pub batches: usize,
    /// The open batch, too: it goes along with others.
    pub open: bool,
}

/// A partition's answer to [`Take`], or a batch that it lends unasked because the sender has a
/// [`Demand`].
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Offer {
    pub loan: Box<Loan>,
    /// There is more to take: the partition stays in the ready queue.
    pub more: Option<Arc<ReadyHandle>>,
}

/// What became of a loan. Sent by dropping it, so it cannot be forgotten.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct LoanReturned {
    pub id: u64,
    pub report: Report,
    /// As long as this lives, the ledger knows that the loan is somewhere.
    pub alive: Arc<()>,
}

/// Whether the partition stands in the ready queue of the sender of that incarnation. It may not know:
/// its batch has lingered and cannot be asked for soon, or the queue was cleared.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct QueueState {
    pub incarnation: u64,
    pub queued: bool,
}

/// What keeps batches from being sent. A batch that expires carries it as its last error.
#[derive(Message, Clone)]
#[rtype(result = "()")]
pub(crate) struct BlockedBy(pub Arc<str>);

// Who leads, and under which identity.

/// Who leads the partition now. An older leader epoch has been sorted out before.
#[derive(Message, Clone, PartialEq)]
#[rtype(result = "()")]
pub(crate) struct SetLeader {
    pub topic_id: Uuid,
    /// `None` while nobody leads.
    pub leader: Option<LeaderLink>,
}

/// A leader, and the sender that talks to it.
#[derive(Clone)]
pub(crate) struct LeaderLink {
    pub node: i32,
    /// The leader epoch; -1 where brokers are too old to say.
    pub epoch: i32,
    pub sender: SenderAddr,
    /// A new value means that the sender knows nothing of what its predecessor was told.
    pub incarnation: u64,
    /// While there is some, batches are lent unasked.
    pub demand: Demand,
    pub ready_queue: Arc<ReadyQueue>,
}

impl PartialEq for LeaderLink {
    /// Whether it is the same leader, by the same sender.
    fn eq(&self, other: &Self) -> bool {
        let told = |leader: &Self| (leader.node, leader.epoch, leader.incarnation);
        told(self) == told(other)
    }
}

/// The broker has moved to another address.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct MoveTo(pub Endpoint);

/// A partition has batches and no identity to stamp them with.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct WantIdentity {
    pub partition: TopicPartition,
    pub who: PartitionAddr,
    /// The identity it has left and cannot use again, if any.
    pub left: Option<Identity>,
}

/// A partition cannot go on under the identity it has `seen`.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct BumpEpoch {
    pub seen: Identity,
    pub partition: TopicPartition,
    pub who: PartitionAddr,
}

/// The identity to use from now on.
#[derive(Message, Clone, Copy)]
#[rtype(result = "()")]
pub(crate) struct SetIdentity(pub Identity);

/// The brokers there are.
#[derive(Message, Clone)]
#[rtype(result = "()")]
pub(crate) struct SetNodes(pub Arc<[(i32, Endpoint)]>);

// What is known of the cluster.

/// A caller needs a topic that is not among the routes.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct WantTopic {
    pub topic: Arc<str>,
    pub asked: Instant,
    pub deadline: Instant,
    pub reply: TopicReply,
}

/// Somebody was told that the view of the cluster is old. One request asks for all topics, which costs
/// less than to keep them apart.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct RefreshMetadata;

/// A produce response names the new leader (KIP-951).
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct LeaderMoved {
    pub topic_partition: TopicPartition,
    pub leader: LeaderHint,
    pub nodes: Vec<Node>,
}

/// The view of the cluster has changed, or somebody waits for a part of it.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct InstallMetadata {
    pub nodes: BTreeMap<i32, Endpoint>,
    pub topics: Vec<TopicView>,
    pub ready: Vec<(Arc<str>, TopicReply)>,
}

// Memory.

/// Asks for memory. Dropping the receiver leaves the line without a trace; a grant that crosses that
/// goes back by itself, because a buffer's drop is its return.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct LeaseMemory {
    pub size: usize,
    pub deadline: Instant,
    pub reply: oneshot::Sender<Result<Buffer, Refusal>>,
}

/// Something came back while somebody waits, or the shelf runs low.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Restock;

/// Memory is used up, and somebody waits: lingering batches are to leave now.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Pressure;

// Time.

/// Asks for a [`Tick`] at a time. It is never cancelled: a tick too many costs a look.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct WakeAt {
    pub at: Instant,
    pub who: Arc<dyn Sleeper>,
}

/// A deadline that was asked for has passed. It may be late, and its reason may be gone: the actor that
/// gets it looks at its own state.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Tick;

// Outcomes, flush and the end.

/// A batch that has its outcome, and somebody to be told.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Deliver {
    pub topic_partition: TopicPartition,
    pub settled: Settled,
}

/// Everything accepted so far is to go out now; answered when all of it has its outcome.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Flush(pub oneshot::Sender<()>);

/// The same, for one partition. The barrier's last clone is dropped when everything has its outcome. A
/// message that is lost before it was handled says so.
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

/// Tells, when its last clone is dropped, that all batches it was attached to have their outcome. If a
/// partition missed it, it is silent: whoever waits has to ask again.
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

/// The producer is to end: what is accepted is delivered if that takes no longer than `within`, then
/// everything has its outcome and every actor stops.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Close {
    pub within: Duration,
    pub reply: Option<oneshot::Sender<Result<(), CloseError>>>,
}

/// The last handle was dropped.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct LastHandleDropped;

/// The producer ends.
#[derive(Message, Clone, Copy)]
#[rtype(result = "()")]
pub(crate) struct Stop;

// Supervision.

/// A component has restarted or failed: the RuntimeActor sees to what follows for the others.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct ComponentFell {
    pub component: Component,
    /// Past its budget, with the reason.
    pub failed: Option<Arc<str>>,
}

/// Another component has lost a message: take nothing for granted that somebody else was told.
#[derive(Message, Clone, Copy)]
#[rtype(result = "()")]
pub(crate) struct Resync;

/// A partition or sender that was given up or retired is to work again.
#[derive(Message, Clone, Copy)]
#[rtype(result = "()")]
pub(crate) struct Restart;

/// A partition or sender is to take on nothing more.
#[derive(Message, Clone, Copy)]
#[rtype(result = "()")]
pub(crate) struct Retire;

/// Somebody wants to hear of restarts and failures.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Subscribe(pub Recipient<Lifecycle>);

// Questions of the application.

/// Asks for the figures of the whole producer.
#[derive(Message)]
#[rtype(result = "Figures")]
pub(crate) struct GetFigures;

/// Asks a partition for its figures.
#[derive(Message)]
#[rtype(result = "PartitionFigures")]
pub(crate) struct GetPartitionFigures;

/// Asks a sender for its figures.
#[derive(Message)]
#[rtype(result = "BrokerFigures")]
pub(crate) struct GetBrokerFigures;

/// Asks the pool for what it holds.
#[derive(Message)]
#[rtype(result = "PoolState")]
pub(crate) struct GetPoolState;

/// See [`Figures`].
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
