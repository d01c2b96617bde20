//! Every message that one actor sends to another.
//!
//! An actor knows those that are started before it by their addresses. Where that would close a
//! circle of imports, it knows the other one by the messages that it accepts: as a [`Recipient`],
//! or as one of the peers below. So all imports run one way. `DESIGN.md` has a table of all
//! messages: who sends it to whom, when, and what happens if it is lost.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use actix::prelude::*;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::lifecycle::{CloseError, Lifecycle};
use crate::core::batch::{Settled, Token};
use crate::core::cluster::{Nodes, TopicView};
use crate::core::dispatch::{self, BeforeDue, Demand, LoanHome};
use crate::core::endpoint::Endpoint;
use crate::core::figures::{BrokerFigures, Figures, LookupFigures, PartitionFigures, SpoolFigures};
use crate::core::identity::{Identity, Wanted};
use crate::core::ledger::{self, Report};
use crate::core::lookup::{Fence, Log, MarkerNews, News, Wish};
use crate::core::memory::{Buffer, Refusal};
use crate::core::record::TopicPartition;
use crate::core::security::{Certificate, SecurityError};
use crate::core::spool::{Line, Progress, Spooled};
use crate::core::supervision::Component;
use crate::core::tally::{OutcomeCounts, Outcomes};
use crate::core::transaction::{GroupOffsets, Scope, TransactionError};
use crate::core::wire::{LeaderHint, Node};
use crate::disk::DiskEvent;
use crate::intake::backend::TopicReply;
use crate::intake::lease::Lease;

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
    + Accepts<RefuseIdentity>
    + Accepts<RefuseBatches>
    + Accepts<LogNews>
    + Accepts<LineRecorded>
    + Accepts<OutcomesRecorded>
    + Accepts<ReadBackDone>
    + Accepts<ExpireBefore>
    + Accepts<Doubted>
{
}

/// Who gives partitions their identity, as they know it: the IdentityActor, or the TransactionActor.
pub(crate) trait IdentityPeer:
    Accepts<WantIdentity> + Accepts<Resync> + Accepts<Stop>
{
}

/// A sender's actor, as the partitions know it.
pub(crate) trait SenderPeer: Accepts<WakeSender> + Accepts<Ready> + Accepts<Offer> {}

/// An actor that can ask the clock for a [`Tick`].
pub(crate) trait Sleeper: Accepts<Tick> {}

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
/// if no sender is told of it, and by a sender that cannot ask soon for a batch that is due.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct WakePartition;

/// The sender has to check its [`ReadyQueue`]. Sent by the caller's thread that fills or opens a
/// batch, by a partition that lists its open batch, and by the RuntimeActor when memory is used up
/// and open batches are listed.
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
    /// Whether the open batch may be lent before it is due.
    pub open: BeforeDue,
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
/// by the IdentityActor. If a batch expires while it waits, this is given as the cause.
#[derive(Message, Debug, Clone)]
#[rtype(result = "()")]
pub(crate) struct BlockedBy {
    pub why: Arc<str>,
    /// The broker does not let this client in.
    pub security: Option<Arc<SecurityError>>,
}

impl From<Arc<str>> for BlockedBy {
    fn from(why: Arc<str>) -> Self {
        let security = None;
        Self { why, security }
    }
}

/// The leader's broker cannot take batches until something is changed, and why. Sent by its sender,
/// which does not have the partition in its ready queue any more.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct RefuseBatches {
    /// The sender's incarnation. The partition of another sender ignores the message.
    pub incarnation: u64,
    pub why: Arc<str>,
}

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
    /// Its place in the spool, if its records are there.
    pub place: Option<SpoolPlace>,
}

/// The place of a topic partition in the spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SpoolPlace {
    pub slot: u32,
    /// No record of the slot has a position before it.
    pub from: u64,
    /// Of the topic that the slot is of. A topic that is created anew has another one, and another slot.
    pub topic_id: Uuid,
}

impl SpoolPlace {
    /// Whether a topic with this id is another one. Old brokers give none.
    pub fn is_of_another(&self, topic_id: Uuid) -> bool {
        !topic_id.is_nil() && !self.topic_id.is_nil() && topic_id != self.topic_id
    }
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

/// The broker has another address now, or its cluster another id. Sent by the RuntimeActor to the
/// broker's sender.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct MoveTo {
    pub endpoint: Endpoint,
    pub cluster_id: Option<Arc<str>>,
}

/// A partition has batches and no identity to stamp them with. Sent by the partition to the
/// IdentityActor, or where batches are part of transactions, to the TransactionActor.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct WantIdentity {
    pub partition: TopicPartition,
    pub who: PartitionAddr,
    pub wanted: Wanted,
    /// The transaction that the batches are part of.
    pub scope: Option<Arc<Scope>>,
}

/// The identity to use from now on. Sent to the partition that asked for it.
#[derive(Message, Clone)]
#[rtype(result = "()")]
pub(crate) struct SetIdentity {
    pub identity: Identity,
    /// The transaction that it is for.
    pub scope: Option<Arc<Scope>>,
    /// What has to be seen in the log before it is used.
    pub fence: Option<Fence>,
}

impl SetIdentity {
    /// For batches that are part of no transaction.
    pub fn plain(identity: Identity) -> Self {
        Self {
            identity,
            scope: None,
            fence: None,
        }
    }
}

/// No broker gives an identity until something is changed, and why; or the transaction that it was
/// wanted for takes no more. Sent to the partitions that asked for one. They may ask again.
#[derive(Message, Clone)]
#[rtype(result = "()")]
pub(crate) struct RefuseIdentity(pub Arc<str>);

/// The partition has seen the marker of this producer in its log, or waits for none any more. Sent by the
/// partition to the FenceActor.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct FenceSeen {
    pub partition: TopicPartition,
    pub producer_id: i64,
}

/// A marker of this producer is not written somewhere, so no other fence can be had for it before; or its
/// epochs run low. Partitions that have nothing in doubt are to leave it. Sent by the FenceActor to the
/// RuntimeActor, and by that to all partitions.
#[derive(Message, Clone)]
#[rtype(result = "()")]
pub(crate) struct LeaveProducer(pub i64);

/// Another producer has taken a transactional id of the spool: this one has to end. Sent by the FenceActor to
/// the RuntimeActor.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Taken(pub Arc<str>);

/// A topic partition gets a number in the spool. Sent by the RuntimeActor to the SpoolActor, before callers
/// can send to it.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct OpenSlot {
    pub place: SpoolPlace,
    pub topic_partition: TopicPartition,
}

/// A partition has its slot of the spool. Sent by the partition to the SpoolActor.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct SlotTaken {
    pub slot: u32,
    pub who: PartitionAddr,
    /// All records before this position have their outcome.
    pub open_from: u64,
}

/// These records are sent though they may be in the log. Sent by the partition to the SpoolActor.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Resent {
    pub slot: u32,
    pub positions: Vec<Range<u64>>,
}

/// Nothing in the spool has these positions: their records were in memory. Sent by the partition to the
/// SpoolActor.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct PassedOver {
    pub slot: u32,
    pub positions: Range<u64>,
}

/// What is before the position has waited in the spool for too long. Sent by the SpoolActor to the partition.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct ExpireBefore {
    pub position: u64,
    /// Its chunk is to be left, so that more of it can be told to be too old.
    pub leave: bool,
    pub max_age: Duration,
}

/// A file of the spool could not be synced: nobody knows whether a later producer finds these records. Sent
/// by the SpoolActor to the partition.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Doubted(pub Range<u64>);

/// No record is accepted any more: the disk is to have all of them. Answers whether no segment failed. Sent
/// by the RuntimeActor to the SpoolActor.
#[derive(Message)]
#[rtype(result = "bool")]
pub(crate) struct SyncAll;

/// Somebody waits until all that former producers left has its outcome. Sent by a handle to the RuntimeActor,
/// and by that to the SpoolActor.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct WaitForResumed(pub oneshot::Sender<()>);

/// A caller waits for space in the spool.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct WaitForSpace {
    pub deadline: Instant,
    pub reply: oneshot::Sender<Result<(), Arc<str>>>,
}

/// A caller wants to send the records of a source. The answer is `None` while somebody does. Sent by the
/// caller to the SpoolActor.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct OpenSource {
    pub name: Arc<str>,
    pub reply: oneshot::Sender<Option<Lease>>,
}

/// A caller wants to know how far a source has come. Sent by the caller to the SpoolActor.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct ProgressOf {
    pub name: Arc<str>,
    pub reply: oneshot::Sender<Progress>,
}

/// Chunks were begun or filled. Sent by whoever does so, on any thread, to the SpoolActor.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct SpaceChanged;

/// A producer id was obtained for a transactional id. Sent by the FenceActor to the SpoolActor, before it
/// gives the producer id to any partition.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct RecordId {
    pub name: Arc<str>,
    pub producer_id: i64,
}

/// The journal is to have a line. Sent by the partition to the SpoolActor.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct RecordLine {
    pub slot: u32,
    pub line: Line,
    pub who: PartitionAddr,
}

/// The disk has the line. Sent by the SpoolActor to the partition.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct LineRecorded(pub Line);

/// The journal is to have outcomes. Sent by the partition to the SpoolActor. What was not acked is told when
/// that is done.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct RecordOutcomes {
    pub slot: u32,
    pub records: Vec<ledger::Record>,
    /// How many of them damage has cost.
    pub lost: u64,
    pub who: PartitionAddr,
}

/// The journal has the outcomes of what begins at these positions. Sent by the SpoolActor to the partition.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct OutcomesRecorded(pub Vec<u64>);

/// Batches are to be read back from the spool. Sent by the partition to the SpoolActor.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct ReadBackFrom {
    pub slot: u32,
    pub position: u64,
    /// At most so many records.
    pub records: u64,
    pub who: PartitionAddr,
}

/// What was read back. Sent by the SpoolActor to the partition.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct ReadBackDone {
    /// Where it was to begin.
    pub position: u64,
    pub batches: Vec<Spooled>,
    /// Records that should be there, and are damaged.
    pub missing: Vec<Range<u64>>,
}

/// What came of an order to the disk. Sent by its thread to the SpoolActor.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct DiskTold(pub DiskEvent);

/// Memory is used up: what waits is to be on the disk alone. Sent by the RuntimeActor to all partitions.
#[derive(Message, Clone, Copy)]
#[rtype(result = "()")]
pub(crate) struct Spill;

/// A partition wants to know something of its log. Sent by the partition to the LookupActor. What it wanted
/// before is over.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct LookUp {
    pub log: Log,
    pub wish: Wish,
    pub who: PartitionAddr,
}

/// A partition wants to know nothing of its log any more. Sent by the partition to the LookupActor.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct ForgetLookUp(pub TopicPartition);

/// What became of a [`LookUp`]. Sent by the LookupActor to the partition.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct LogNews(pub News);

/// Nobody but the log can say whether a transaction was committed: the marker behind its witness is to be
/// found. Sent by the TransactionActor to the RuntimeActor, and by that to the partition of the witness. It
/// is sent again while nothing is heard.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct FindMarker {
    pub scope: Arc<Scope>,
    pub who: Recipient<MarkerTold>,
}

/// What has come of a [`FindMarker`]. Sent by the partition to the TransactionActor.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct MarkerTold {
    pub scope: Arc<Scope>,
    pub news: MarkerNews,
}

/// The brokers of the cluster. Sent by the MetadataActor to the IdentityActor, which asks one of
/// them for a producer id, or to those in its place. It is sent when they change, and when messages may have
/// been lost.
#[derive(Message, Clone)]
#[rtype(result = "()")]
pub(crate) struct SetNodes(pub Arc<Nodes>);

// The view of the cluster.

/// A topic is needed that is not among the routes. Sent on a caller's thread to the MetadataActor,
/// and by the RuntimeActor for a topic that left the routes and of which records wait for their
/// outcome.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct WantTopic {
    pub topic: Arc<str>,
    /// The partition that the caller's record names.
    pub partition: Option<i32>,
    pub asked: Instant,
    pub deadline: Instant,
    pub reply: TopicReply,
}

/// The view of the cluster may be out of date. Sent to the MetadataActor by a partition or a sender
/// after an error, and by a partition whose batches wait for a leader. One request then asks for all
/// topics: to note which of them are out of date would cost more.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct RefreshMetadata;

/// A broker says that the connection to it was meant for another (KIP-1242), so no broker is known by a
/// sure address: they are asked for by the bootstrap list. Sent by a sender to the MetadataActor.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Rebootstrap;

/// A produce response names the new leader of a partition (KIP-951). Sent by a sender to the
/// MetadataActor.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct LeaderMoved {
    pub topic_partition: TopicPartition,
    /// The id that the request named.
    pub topic_id: Uuid,
    pub leader: LeaderHint,
    pub nodes: Vec<Node>,
}

/// The view of the cluster has changed, callers wait for a topic in it, or topics are no longer
/// used. Sent by the MetadataActor to the RuntimeActor, which alone writes the routes: so a view
/// that was sent before a topic was given up cannot put the topic back.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct InstallMetadata {
    pub nodes: Nodes,
    pub topics: Vec<TopicView>,
    /// Topics that leave the routes: nobody sends to them any more, or they were deleted.
    pub gone: Vec<Arc<str>>,
    /// The callers that wait for a topic, with its name. They get a reply once it is installed.
    pub ready: Vec<(Arc<str>, TopicReply)>,
}

/// A TLS handshake is over. Sent from wherever one is made, to the RuntimeActor.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct CertificatesSeen {
    pub broker: Endpoint,
    /// What the broker showed.
    pub shown: Vec<Certificate>,
    /// What this client shows if it is asked.
    pub own: Arc<[Certificate]>,
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
/// the PoolActor to the RuntimeActor, which knows the senders with open batches in their queue. A
/// batch that is in none cannot be lent yet, and its partition looks when that changes.
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

/// A transaction is to begin. Sent by a handle to the TransactionActor.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct BeginTransaction {
    pub deadline: Instant,
    pub reply: oneshot::Sender<Result<OpenTransaction, TransactionError>>,
}

/// A transaction, as whoever began it has it. If it is dropped, also on its way there, the transaction is
/// aborted.
pub(crate) struct OpenTransaction {
    scope: Arc<Scope>,
    ends: Recipient<EndTransaction>,
    offsets: Recipient<SendOffsets>,
    left: bool,
}

impl OpenTransaction {
    pub fn new(
        scope: Arc<Scope>,
        ends: Recipient<EndTransaction>,
        offsets: Recipient<SendOffsets>,
    ) -> Self {
        Self {
            scope,
            ends,
            offsets,
            left: false,
        }
    }

    pub fn scope(&self) -> &Arc<Scope> {
        &self.scope
    }

    /// Has it ended as it is wished, and somebody told who waits for that. Returns whether there is an
    /// actor to do it.
    pub fn end(&self, waits: Option<WaitsForEnd>) -> bool {
        self.ends.do_send(EndTransaction(waits));
        self.ends.connected()
    }

    /// Sends the message. Returns whether there is an actor to handle it.
    pub fn send_offsets(&self, offsets: SendOffsets) -> bool {
        self.offsets.do_send(offsets);
        self.offsets.connected()
    }

    /// It is being ended: a drop does not abort it any more.
    pub fn leave(mut self) -> Self {
        self.left = true;
        self
    }
}

impl Drop for OpenTransaction {
    fn drop(&mut self) {
        if !self.left {
            self.scope.wish(false);
            self.end(None);
        }
    }
}

/// A transaction is to be ended as its [`Scope`] says. Sent by whoever has it to the TransactionActor. If
/// it is lost, that looks at the scope when it restarts; whoever waits sees the reply dropped, and sends it
/// again.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct EndTransaction(pub Option<WaitsForEnd>);

/// Somebody who is to be told that a transaction has ended, or that it was waited for long enough.
pub(crate) struct WaitsForEnd {
    pub scope: Arc<Scope>,
    pub deadline: Instant,
    pub reply: oneshot::Sender<()>,
}

/// Offsets of a consumer group are to be committed with a transaction. Sent by whoever has it to the
/// TransactionActor.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct SendOffsets {
    pub scope: Arc<Scope>,
    pub offsets: Arc<GroupOffsets>,
    /// Until when the reply is waited for. The offsets are sent all the same.
    pub deadline: Instant,
    pub reply: oneshot::Sender<Result<(), TransactionError>>,
}

/// The producer is closing. Sent by the RuntimeActor to the TransactionActor, which aborts what is open,
/// and replies when no transaction is there any more.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct CloseTransactions(pub oneshot::Sender<()>);

/// A transaction has ended. Sent by the TransactionActor to the DeliveryActor, which then tells what
/// became of its records.
#[derive(Message, Clone, Copy)]
#[rtype(result = "()")]
pub(crate) struct TransactionEnded;

/// Everything accepted so far has to be sent now. Sent by a handle to the RuntimeActor, which
/// replies when all of it has its outcome. If the reply is dropped, a partition missed the flush,
/// and the handle asks again.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Flush {
    pub done: oneshot::Sender<()>,
    /// Where the outcomes are counted that the flush waits for.
    pub counts: Arc<OutcomeCounts>,
    /// Whether the reply waits until the application was told of the outcomes.
    pub waits_for_calls: bool,
}

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
    /// To whom `done` goes, so that it arrives behind the outcomes that are being told; `None` if nobody
    /// waits for those.
    delivery: Option<Recipient<AllTold>>,
    missed: AtomicBool,
    counts: Arc<OutcomeCounts>,
}

impl Barrier {
    pub fn new(
        done: oneshot::Sender<()>,
        counts: Arc<OutcomeCounts>,
        delivery: Option<Recipient<AllTold>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            done: Some(done),
            delivery,
            missed: AtomicBool::new(false),
            counts,
        })
    }

    /// Whether the caller of this flush has left.
    pub fn is_over(token: &Token) -> bool {
        let barrier = token.downcast_ref::<Self>();
        let done = barrier.and_then(|barrier| barrier.done.as_ref());
        done.is_some_and(oneshot::Sender::is_closed)
    }

    /// Whether this flush waits until the application was told of the outcomes.
    pub fn waits_for_calls(token: &Token) -> bool {
        let barrier = token.downcast_ref::<Self>();
        barrier.is_none_or(|barrier| barrier.delivery.is_some())
    }

    /// Counts the records of a batch, once for each flush or close that waits for it. Whoever had to
    /// ask again has several barriers, and one count.
    pub fn count(settled: &Settled) {
        let barriers = settled.tokens.iter();
        let counts = barriers.filter_map(|token| Some(&token.downcast_ref::<Self>()?.counts));
        let mut counted = BTreeSet::new();
        for counts in counts {
            if counted.insert(Arc::as_ptr(counts)) {
                counts.add(&settled.settlement, settled.count);
            }
        }
    }
}

impl Drop for Barrier {
    fn drop(&mut self) {
        if let Some(done) = self.done.take().filter(|_| !*self.missed.get_mut()) {
            match &self.delivery {
                Some(delivery) => delivery.do_send(AllTold(done)),
                None => drop(done.send(())),
            }
        }
    }
}

/// Every batch of a flush has its outcome. Sent by its last barrier to the DeliveryActor, which
/// replies when all outcomes before this message were told.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct AllTold(pub oneshot::Sender<()>);

/// What became of a close.
pub(crate) type Closed = Result<Outcomes, CloseError>;

/// The producer has to end. Sent by a handle to the RuntimeActor. Accepted records are delivered if
/// that takes no longer than `within`. Then all of them have their outcome, and all actors stop.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Close {
    pub within: Duration,
    pub reply: Option<oneshot::Sender<Closed>>,
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

/// Asks the LookupActor what it has looked up. Sent by the RuntimeActor.
#[derive(Message)]
#[rtype(result = "LookupFigures")]
pub(crate) struct GetLookupFigures;

/// Asks the SpoolActor for its figures. Sent by the RuntimeActor.
#[derive(Message)]
#[rtype(result = "SpoolFigures")]
pub(crate) struct GetSpoolFigures;

/// Asks the PoolActor how much memory it has. Sent by the RuntimeActor.
#[derive(Message)]
#[rtype(result = "PoolState")]
pub(crate) struct GetPoolState;

/// The PoolActor's part of the [`Figures`]: free bytes.
#[derive(Debug, Clone, Copy, MessageResponse)]
pub(crate) struct PoolState {
    pub available: usize,
}

impl LoanHome for PartitionAddr {
    fn loan_returned(&self, id: u64, report: Report, alive: Arc<()>) {
        self.do_send(LoanReturned { id, report, alive });
    }
}
