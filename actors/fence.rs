//! The FenceActor: has markers written that keep late batches out of partitions, and gives partitions
//! identities behind them. With `forebay.unknown=resolve` it stands before the IdentityActor.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use actix::prelude::*;

use super::clock::{Alarm, ClockActor};
use super::guard::{self, Guard, Guarded, On, guarded};
use super::identity::IdentityActor;
use super::messages::*;
use super::now;
use crate::core::cluster::Nodes;
use crate::core::fence::{Fences, Given, Heard, ToAsk};
use crate::core::identity::Wanted;
use crate::core::record::TopicPartition;
use crate::core::transaction::{Answer, Request};
use crate::core::troubles::{Told, Troubles};
use crate::net::TransactionClient;

/// Makes the client for the coordinator of a transactional id.
pub(super) type DialFence = Box<dyn Fn(&Arc<str>) -> TransactionClient>;

/// Owns the fences, and a connection to the coordinator of each of its transactional ids.
pub(crate) struct FenceActor {
    guard: Guard,
    fences: Fences,
    dial: DialFence,
    /// By the number of the id. One that has been asked is not here.
    clients: BTreeMap<usize, TransactionClient>,
    /// The requests on their way.
    asking: BTreeMap<usize, SpawnHandle>,
    nodes: Arc<Nodes>,
    /// The clients that know of these nodes. They are told once: what has gone back to the bootstrap
    /// servers since stays there.
    nodes_told: BTreeSet<usize>,
    /// Partitions that wait for an identity, or for the fence before it.
    waiting: BTreeMap<TopicPartition, Waiting>,
    /// Who gives identities that no marker can fence.
    plain: Addr<IdentityActor>,
    runtime: Recipient<LeaveProducer>,
    spool: Option<SpoolPeers>,
    troubles: Troubles,
    clock: Addr<ClockActor>,
    alarm: Alarm,
}

/// With a spool, whom its fences matter to.
pub(crate) struct SpoolPeers {
    /// Who has to know of producer ids before they are used.
    pub journal: Recipient<RecordId>,
    /// Who ends the producer, if another has taken it over.
    pub runtime: Recipient<Taken>,
}

/// A partition that waits.
struct Waiting {
    who: PartitionAddr,
    wanted: Wanted,
    /// What it was told.
    given: Given,
}

impl FenceActor {
    pub fn new(
        fences: Fences,
        dial: DialFence,
        plain: Addr<IdentityActor>,
        (clock, runtime): (Addr<ClockActor>, Recipient<LeaveProducer>),
        spool: Option<SpoolPeers>,
        guard: Guard,
    ) -> Self {
        Self {
            guard,
            fences,
            dial,
            clients: BTreeMap::new(),
            asking: BTreeMap::new(),
            nodes: Arc::default(),
            nodes_told: BTreeSet::new(),
            waiting: BTreeMap::new(),
            plain,
            runtime,
            spool,
            troubles: Troubles::default(),
            clock,
            alarm: Alarm::default(),
        }
    }

    /// Answers each partition that can be answered now, and asks coordinators for what is missing.
    fn serve(&mut self, ctx: &mut Context<Self>) {
        let now = now();
        if let Some((producer_id, why)) = self.fences.leave(now) {
            tracing::warn!(
                producer_id,
                why,
                "partitions that have nothing in doubt go on under another producer id"
            );
            self.runtime.do_send(LeaveProducer(producer_id));
        }
        let (fences, plain) = (&mut self.fences, &self.plain);
        self.waiting
            .retain(|partition, waiting| waits(fences, plain, partition, waiting));
        for ask in self.fences.ask(now) {
            self.ask(ask, ctx);
        }
        if let Some(at) = self.fences.next_at(now) {
            self.alarm.set(&self.clock, at, || Arc::new(ctx.address()));
        }
    }

    fn ask(&mut self, ask: ToAsk, ctx: &mut Context<Self>) {
        let ToAsk {
            id,
            request,
            protocol,
            identity,
        } = ask;
        let Some(name) = self.fences.name_of(id) else {
            return;
        };
        let client = self.clients.remove(&id);
        let mut client = client.unwrap_or_else(|| (self.dial)(name));
        if self.nodes_told.insert(id) {
            client.set_nodes(&self.nodes);
        }
        let asking = async move {
            let answer = client.ask(&request, protocol, identity).await;
            (client, request, answer)
        };
        let answered =
            move |actor: &mut Self, (client, request, answer), ctx: &mut Context<Self>| {
                actor.answered(id, client, &request, answer, ctx);
            };
        self.asking.insert(id, guard::spawn(ctx, asking, answered));
    }

    fn answered(
        &mut self,
        id: usize,
        client: TransactionClient,
        request: &Request,
        answer: Answer,
        ctx: &mut Context<Self>,
    ) {
        self.asking.remove(&id);
        if let Some(protocol) = client.protocol() {
            self.fences.offers(id, protocol);
        }
        self.clients.insert(id, client);
        self.note(request, &answer);
        let heard = self.fences.answered(id, request, answer, now());
        if let Some(spool) = &self.spool {
            for (name, producer_id) in self.fences.obtained() {
                spool.journal.do_send(RecordId { name, producer_id });
            }
        }
        match heard {
            Heard::Nothing => {}
            Heard::Denied(why) if self.spool.is_some() => tracing::warn!(
                %why,
                "no transactional id can be used, so nothing of the spool is sent; grant WRITE on \
                 transactional ids with forebay.unknown.transactional.id.prefix"
            ),
            Heard::Denied(why) => tracing::warn!(
                %why,
                "no transactional id can be used for fences, so what is in doubt waits for the next \
                 record of its partition; grant WRITE on transactional ids with \
                 forebay.unknown.transactional.id.prefix"
            ),
            Heard::Taken(why) => self.tell_taken(why),
            Heard::Refused(partition, why) => {
                tracing::warn!(%partition, %why, "no marker can be written to the partition");
                let left = self.waiting.get(&partition).and_then(|it| it.wanted.left);
                if self.fences.insists_on(&partition, left, now()) {
                    // It waits alone.
                } else if let Some(mut waiting) = self.waiting.remove(&partition) {
                    waiting.wanted.plain = true;
                    waits(&mut self.fences, &self.plain, &partition, &mut waiting);
                }
            }
        }
        self.serve(ctx);
    }

    /// Another producer has the ids now: this one ends.
    fn tell_taken(&self, why: Arc<str>) {
        if let Some(spool) = &self.spool {
            spool.runtime.do_send(Taken(why));
        }
    }

    /// Tells of troubles, and those who wait what they wait for.
    fn note(&mut self, request: &Request, answer: &Answer) {
        let why = match answer {
            Answer::Done(_) | Answer::Described { .. } => return self.troubles.over(),
            Answer::Refused { error, .. } => error.to_string().into(),
            Answer::Absent { why, .. }
            | Answer::Unanswered(why)
            | Answer::Unsent(why)
            | Answer::NotServed(why) => Arc::clone(why),
        };
        for waiting in self.waiting.values() {
            waiting.who.do_send(BlockedBy::from(Arc::clone(&why)));
        }
        if let Some(Told { times, within }) = self.troubles.failed(&why, now()) {
            let request = request.name();
            tracing::warn!(%why, request, times, ?within, "the coordinator of a fence does not do as asked");
        }
    }
}

/// Tells a partition what it can be told, or has the IdentityActor do so. Returns whether it still waits, be
/// it for the fence alone.
fn waits(
    fences: &mut Fences,
    plain: &Addr<IdentityActor>,
    partition: &TopicPartition,
    waiting: &mut Waiting,
) -> bool {
    let Waiting { who, wanted, given } = waiting;
    let former = std::mem::replace(given, fences.want(partition, *wanted, now()));
    match *given {
        Given::Use(..) if *given == former => {}
        Given::Use(identity, fence) => who.do_send(SetIdentity {
            identity,
            scope: None,
            fence,
        }),
        Given::Wait => {}
        Given::Plain => plain.do_send(WantIdentity {
            partition: partition.clone(),
            who: Arc::clone(who),
            wanted: *wanted,
            scope: None,
        }),
    }
    matches!(given, Given::Wait | Given::Use(_, Some(_)))
}

impl Sleeper for Addr<FenceActor> {}

impl IdentityPeer for Addr<FenceActor> {}

impl Actor for FenceActor {
    type Context = Context<Self>;
}

guarded!(FenceActor: WantIdentity, FenceSeen, Tick, SetNodes, Resync);

impl Guarded for FenceActor {
    fn guard(&mut self) -> &mut Guard {
        &mut self.guard
    }

    /// What was given out stays given out. Requests on their way are cancelled, and asked anew. A partition
    /// whose request was lost asks again.
    fn restart(&mut self, ctx: &mut Context<Self>) -> usize {
        for asking in std::mem::take(&mut self.asking).into_values() {
            ctx.cancel_future(asking);
        }
        self.clients.clear();
        self.nodes_told.clear();
        self.fences.lost();
        self.alarm = Alarm::default();
        self.serve(ctx);
        0
    }

    fn fail(&mut self, _: &Arc<str>, _: &mut Context<Self>) {}
}

impl On<Resync> for FenceActor {
    fn on(&mut self, _: Resync, ctx: &mut Context<Self>) {
        self.plain.do_send(Resync);
        if let Some(spool) = &self.spool {
            for (name, producer_id) in self.fences.producers() {
                spool.journal.do_send(RecordId { name, producer_id });
            }
        }
        if let Some(why) = self.fences.taken() {
            self.tell_taken(why);
        }
        self.alarm = Alarm::default();
        self.serve(ctx);
    }
}

impl On<WantIdentity> for FenceActor {
    fn on(&mut self, message: WantIdentity, ctx: &mut Context<Self>) {
        let WantIdentity {
            partition,
            who,
            wanted,
            scope: _,
        } = message;
        // The others that wait are not looked at: with many partitions each of them asks.
        let given = Given::Wait;
        let mut waiting = Waiting { who, wanted, given };
        if waits(&mut self.fences, &self.plain, &partition, &mut waiting) {
            self.waiting.insert(partition, waiting);
            for ask in self.fences.ask(now()) {
                self.ask(ask, ctx);
            }
        } else {
            self.waiting.remove(&partition);
        }
    }
}

impl On<FenceSeen> for FenceActor {
    fn on(&mut self, seen: FenceSeen, _: &mut Context<Self>) {
        self.waiting.remove(&seen.partition);
        self.fences.seen(&seen.partition, seen.producer_id);
    }
}

impl On<Tick> for FenceActor {
    fn on(&mut self, _: Tick, ctx: &mut Context<Self>) {
        self.alarm.rang();
        self.serve(ctx);
    }
}

impl On<SetNodes> for FenceActor {
    fn on(&mut self, SetNodes(nodes): SetNodes, _: &mut Context<Self>) {
        if self.nodes != nodes {
            self.nodes = nodes;
            self.nodes_told.clear();
        }
    }
}

impl Handler<Stop> for FenceActor {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Context<Self>) {
        self.plain.do_send(Stop);
        ctx.stop();
    }
}
