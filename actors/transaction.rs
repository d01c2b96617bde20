//! The TransactionActor: begins and ends the transactions of a producer, one after the other. It takes the
//! IdentityActor's place, since a transaction decides under which epoch partitions number their batches.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use tokio::sync::oneshot;

use super::clock::{Alarm, ClockActor};
use super::delivery::DeliveryActor;
use super::guard::{self, Guard, Guarded, On, guarded};
use super::messages::*;
use super::now;
use crate::core::cluster::Nodes;
use crate::core::ledger::Joining;
use crate::core::record::TopicPartition;
use crate::core::transaction::{
    Answer, Begin, Cause, Coordination, GroupOffsets, Membership, Request, Scope, TransactionError,
};
use crate::core::troubles::{Told, Troubles};
use crate::net::TransactionClient;

/// Owns the state of the transactions, and the connections to their coordinators.
pub(crate) struct TransactionActor {
    guard: Guard,
    coordination: Coordination,
    dial: Box<dyn Fn() -> TransactionClient>,
    /// `None` while a request is on its way.
    client: Option<TransactionClient>,
    /// The request on its way.
    asking: Option<SpawnHandle>,
    nodes: Arc<Nodes>,
    /// The client was told the nodes.
    nodes_told: bool,
    /// Those who wait for a transaction to begin.
    beginners: VecDeque<BeginTransaction>,
    /// Partitions that wait for an identity.
    joining: BTreeMap<TopicPartition, (PartitionAddr, Joining)>,
    /// Those who wait for offsets to be sent.
    offsets: Vec<SendOffsets>,
    /// Those who wait for a transaction to end.
    enders: Vec<WaitsForEnd>,
    /// The present transaction, until everybody has been told of its end.
    present: Option<Arc<Scope>>,
    /// The producer closes: no other transaction begins.
    closing: bool,
    /// Told when no transaction is there any more.
    closers: Vec<oneshot::Sender<()>>,
    /// How long somebody waits for a transaction to begin.
    max_block: Duration,
    troubles: Troubles,
    clock: Addr<ClockActor>,
    delivery: Addr<DeliveryActor>,
    runtime: Recipient<Flush>,
    markers: Recipient<FindMarker>,
    alarm: Alarm,
}

/// Whom the TransactionActor needs.
pub(crate) struct Around {
    pub clock: Addr<ClockActor>,
    pub delivery: Addr<DeliveryActor>,
    pub runtime: Recipient<Flush>,
    /// Who has the marker of a transaction found.
    pub markers: Recipient<FindMarker>,
}

impl TransactionActor {
    pub fn new(
        coordination: Coordination,
        dial: impl Fn() -> TransactionClient + 'static,
        max_block: Duration,
        around: Around,
        guard: Guard,
    ) -> Self {
        let Around {
            clock,
            delivery,
            runtime,
            markers,
        } = around;
        Self {
            guard,
            coordination,
            client: Some(dial()),
            dial: Box::new(dial),
            asking: None,
            nodes: Arc::default(),
            nodes_told: false,
            beginners: VecDeque::new(),
            joining: BTreeMap::new(),
            offsets: Vec::new(),
            enders: Vec::new(),
            present: None,
            closing: false,
            closers: Vec::new(),
            max_block,
            troubles: Troubles::default(),
            clock,
            delivery,
            runtime,
            markers,
            alarm: Alarm::default(),
        }
    }

    /// Answers whoever can be answered now, and asks the coordinator for what is missing.
    fn serve(&mut self, ctx: &mut Context<Self>) {
        let now = now();
        self.end(ctx);
        self.coordination.expire(now);
        if let Some(scope) = self.coordination.seeks(now) {
            let who = ctx.address().recipient();
            self.markers.do_send(FindMarker { scope, who });
        }
        if self.present.as_ref().is_some_and(|it| it.end().is_some()) {
            self.present = None;
            self.delivery.do_send(TransactionEnded);
        }
        self.begin(now, ctx);
        let coordination = &mut self.coordination;
        self.joining.retain(|partition, (who, joining)| {
            !give_identity(coordination, partition, who, joining, now)
        });
        self.ask_and_answer(now, ctx);
    }

    /// What follows from what the partitions want, too.
    fn ask_and_answer(&mut self, now: Instant, ctx: &mut Context<Self>) {
        self.answer_offsets(now);
        self.ask(now, ctx);
        self.answer_enders(now);
        if self.coordination.is_idle() {
            for closer in std::mem::take(&mut self.closers) {
                let _ = closer.send(());
            }
        }
        if let Some(at) = self.next_at() {
            self.alarm.set(&self.clock, at, || Arc::new(ctx.address()));
        }
    }

    /// When somebody has waited long enough, or a request is due.
    fn next_at(&self) -> Option<Instant> {
        let begin = self.beginners.front().map(|it| it.deadline);
        let ends = self.enders.iter().map(|it| it.deadline);
        let offsets = self.offsets.iter().map(|it| it.deadline);
        let due = [begin, self.coordination.next_at()];
        ends.chain(offsets).chain(due.into_iter().flatten()).min()
    }

    fn answer_enders(&mut self, now: Instant) {
        for ender in std::mem::take(&mut self.enders) {
            if ender.deadline <= now || ender.scope.end().is_some() {
                let _ = ender.reply.send(());
            } else if !ender.reply.is_closed() {
                self.enders.push(ender);
            }
        }
    }

    /// Begins a transaction for the first who waits for one.
    fn begin(&mut self, now: Instant, ctx: &Context<Self>) {
        self.beginners.retain(|it| !it.reply.is_closed());
        while let Some(first) = self.beginners.pop_front() {
            let answer = match self.coordination.begin() {
                Begin::Begun(scope) => {
                    self.present = Some(Arc::clone(&scope));
                    let me = ctx.address();
                    let (ends, offsets) = (me.clone().recipient(), me.recipient());
                    Ok(OpenTransaction::new(scope, ends, offsets))
                }
                Begin::Refused(why) => Err(why),
                Begin::Wait if first.deadline <= now => {
                    Err(self.timed_out("the transaction before has not ended"))
                }
                Begin::Wait => {
                    self.beginners.push_front(first);
                    break;
                }
            };
            // If nobody is there to take it, it aborts itself.
            drop(first.reply.send(answer));
        }
        if self.beginners.is_empty() {
            self.coordination.nobody_waits();
        }
    }

    /// Somebody has waited for `max.block.ms`: for what the coordinator refuses or, if it does not, for this.
    fn timed_out(&self, otherwise: &str) -> TransactionError {
        let why = self.coordination.trouble().cloned();
        TransactionError::TimedOut {
            waited: self.max_block,
            why: why.unwrap_or_else(|| otherwise.into()),
        }
    }

    fn answer_offsets(&mut self, now: Instant) {
        for waiting in std::mem::take(&mut self.offsets) {
            let answer = match waiting.scope.failed() {
                Some(why) => Err(TransactionError::Failed(Arc::clone(&why.cause))),
                None if self.coordination.is_sending(&waiting.offsets) => {
                    if waiting.deadline > now {
                        self.offsets.push(waiting);
                        continue;
                    }
                    Err(self.timed_out("the coordinator of the group has not answered"))
                }
                None => Ok(()),
            };
            let _ = waiting.reply.send(answer);
        }
    }

    /// Asks the coordinator for what is due.
    fn ask(&mut self, now: Instant, ctx: &mut Context<Self>) {
        if self.client.is_none() {
            return;
        }
        let Some(request) = self.coordination.ask(now) else {
            return;
        };
        let Some(mut client) = self.client.take() else {
            return;
        };
        if !std::mem::replace(&mut self.nodes_told, true) {
            client.set_nodes(&self.nodes);
        }
        let (protocol, identity) = (self.coordination.protocol(), self.coordination.identity());
        let asking = async move {
            let answer = client.ask(&request, protocol, identity).await;
            (client, request, answer)
        };
        let answered = |actor: &mut Self, (client, request, answer), ctx: &mut Context<Self>| {
            actor.client = Some(client);
            actor.answered(&request, answer, ctx);
        };
        self.asking = Some(guard::spawn(ctx, asking, answered));
    }

    fn answered(&mut self, request: &Request, answer: Answer, ctx: &mut Context<Self>) {
        if let Some(protocol) = self.client.as_ref().and_then(TransactionClient::protocol) {
            self.coordination.offers(protocol);
        }
        self.coordination.answered(request, answer, now());
        let trouble = self.coordination.trouble().cloned();
        match trouble {
            None => self.troubles.over(),
            Some(why) => {
                if let Some(Told { times, within }) = self.troubles.failed(&why, now()) {
                    let request = request.name();
                    tracing::warn!(%why, request, times, ?within, "a coordinator does not do as asked");
                }
            }
        }
        self.serve(ctx);
    }

    /// Ends the transaction if it is to be ended: its batches are flushed first.
    fn end(&mut self, ctx: &mut Context<Self>) {
        let Some(open) = self.coordination.open() else {
            return;
        };
        if let Some(commit) = open.wished() {
            self.coordination.end(&open, commit);
            self.flush(open, ctx);
        }
    }

    fn flush(&mut self, scope: Arc<Scope>, ctx: &mut Context<Self>) {
        let (done, flushed) = oneshot::channel();
        let flush = Flush {
            done,
            counts: Arc::default(),
            // What is told is told at the end.
            waits_for_calls: false,
        };
        self.runtime.do_send(flush);
        guard::spawn(ctx, flushed, move |actor: &mut Self, flushed, ctx| {
            match flushed {
                Ok(()) => actor.coordination.flushed(&scope, now()),
                // A partition missed it.
                Err(_) if actor.runtime.connected() => actor.flush(scope, ctx),
                Err(_) => actor.coordination.give_up(Cause::Closed),
            }
            actor.serve(ctx);
        });
    }
}

/// Answers a partition that asks for an identity, unless the coordinator has to be told of it first.
fn give_identity(
    coordination: &mut Coordination,
    partition: &TopicPartition,
    who: &PartitionAddr,
    joining: &Joining,
    now: Instant,
) -> bool {
    match coordination.join(partition, joining, now) {
        Membership::Use(identity) => {
            let scope = Some(Arc::clone(&joining.scope));
            who.do_send(SetIdentity {
                identity,
                scope,
                fence: None,
            });
        }
        Membership::Wait => return false,
        Membership::Over => who.do_send(RefuseIdentity("the transaction has ended".into())),
    }
    true
}

impl Sleeper for Addr<TransactionActor> {}

impl IdentityPeer for Addr<TransactionActor> {}

impl Actor for TransactionActor {
    type Context = Context<Self>;
}

guarded!(
    TransactionActor: BeginTransaction, EndTransaction, SendOffsets, CloseTransactions, WantIdentity,
    MarkerTold, Tick, SetNodes, Resync
);

impl Guarded for TransactionActor {
    fn guard(&mut self) -> &mut Guard {
        &mut self.guard
    }

    /// The transaction goes on. A request on its way is cancelled, and asked anew. Whoever sent a message
    /// that was lost sees its reply dropped.
    fn restart(&mut self, ctx: &mut Context<Self>) -> usize {
        if let Some(asking) = self.asking.take() {
            ctx.cancel_future(asking);
        }
        self.client = Some((self.dial)());
        self.nodes_told = false;
        self.alarm = Alarm::default();
        self.coordination.lost(now());
        self.coordination.seek_anew(now());
        if let Some(scope) = self.coordination.flushing() {
            self.flush(scope, ctx);
        }
        self.serve(ctx);
        0
    }

    fn fail(&mut self, why: &Arc<str>, _: &mut Context<Self>) {
        self.coordination.give_up(Cause::runtime(Arc::clone(why)));
        self.answer_enders(now());
        self.delivery.do_send(TransactionEnded);
    }
}

impl On<Resync> for TransactionActor {
    fn on(&mut self, _: Resync, ctx: &mut Context<Self>) {
        self.alarm = Alarm::default();
        self.coordination.seek_anew(now());
        self.serve(ctx);
    }
}

impl On<BeginTransaction> for TransactionActor {
    fn on(&mut self, begin: BeginTransaction, ctx: &mut Context<Self>) {
        if self.closing {
            let _ = begin.reply.send(Err(TransactionError::Closed));
            return;
        }
        self.beginners.push_back(begin);
        self.serve(ctx);
    }
}

impl On<CloseTransactions> for TransactionActor {
    fn on(&mut self, CloseTransactions(reply): CloseTransactions, ctx: &mut Context<Self>) {
        self.closing = true;
        for begin in self.beginners.drain(..) {
            let _ = begin.reply.send(Err(TransactionError::Closed));
        }
        if let Some(open) = self.coordination.open() {
            open.wish(false);
        }
        self.closers.push(reply);
        self.serve(ctx);
    }
}

impl On<EndTransaction> for TransactionActor {
    fn on(&mut self, EndTransaction(waits): EndTransaction, ctx: &mut Context<Self>) {
        self.enders.extend(waits);
        self.serve(ctx);
    }
}

impl On<SendOffsets> for TransactionActor {
    fn on(&mut self, message: SendOffsets, ctx: &mut Context<Self>) {
        let offsets: Arc<GroupOffsets> = Arc::clone(&message.offsets);
        match self.coordination.send_offsets(&message.scope, offsets) {
            true => self.offsets.push(message),
            false => {
                let why = message.scope.failed().map(|why| Arc::clone(&why.cause));
                let why = why.unwrap_or_else(|| Arc::new(Cause::runtime("it has ended")));
                let _ = message.reply.send(Err(TransactionError::Failed(why)));
            }
        }
        self.serve(ctx);
    }
}

impl On<WantIdentity> for TransactionActor {
    fn on(&mut self, message: WantIdentity, ctx: &mut Context<Self>) {
        let WantIdentity {
            partition,
            who,
            wanted,
            scope,
        } = message;
        let Some(scope) = scope else { return };
        let joining = Joining { scope, wanted };
        // The others that wait are not looked at: with many partitions each of them asks.
        self.joining.remove(&partition);
        let now = now();
        if !give_identity(&mut self.coordination, &partition, &who, &joining, now) {
            self.joining.insert(partition, (who, joining));
        }
        self.ask_and_answer(now, ctx);
    }
}

impl On<MarkerTold> for TransactionActor {
    fn on(&mut self, MarkerTold { scope, news }: MarkerTold, ctx: &mut Context<Self>) {
        self.coordination.sought(&scope, news, now());
        self.serve(ctx);
    }
}

impl On<Tick> for TransactionActor {
    fn on(&mut self, _: Tick, ctx: &mut Context<Self>) {
        self.alarm.rang();
        self.serve(ctx);
    }
}

impl On<SetNodes> for TransactionActor {
    fn on(&mut self, SetNodes(nodes): SetNodes, _: &mut Context<Self>) {
        if self.nodes != nodes {
            self.nodes = nodes;
            self.nodes_told = false;
        }
    }
}

impl Handler<Stop> for TransactionActor {
    type Result = ();

    /// What is open can only be aborted now, and that the brokers do by themselves.
    fn handle(&mut self, _: Stop, ctx: &mut Context<Self>) {
        self.coordination.give_up(Cause::Closed);
        self.answer_enders(now());
        self.delivery.do_send(TransactionEnded);
        ctx.stop();
    }
}
