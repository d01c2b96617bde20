//! The PartitionActor: one per TopicPartition, owner of its batch deque.

use std::cell::{OnceCell, RefCell, RefMut};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use actix::prelude::*;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::clock::{Alarm, ClockActor, Sleeper, Stop, Tick};
use super::delivery::{Deliver, DeliveryActor};
use super::guard::{Guard, Guarded, On, Revisit, guarded};
use super::identity::{Bump, Identified, IdentityActor, WantIdentity};
use super::loan::{Home, Loan, LoanBack};
use super::metadata::{MetadataActor, RefreshMetadata};
use super::now;
use super::sender::{NotReady, Offer, Ready, SenderActor, Take};
use crate::ack::Receipt;
use crate::batch::{OpenBatch, Token};
use crate::compress::Compressor;
use crate::delivery::Listener;
use crate::error::SendError;
use crate::figures::PartitionFigures;
use crate::intake::Intake;
use crate::meters::TopicMeters;
use crate::outcome::Reason;
use crate::partition::{Effects, Extras, Ledger, Readiness, Report, Stage};
use crate::pool::Shelf;
use crate::producer::Producer;
use crate::record::{Record, TopicName, TopicPartition};
use crate::sender::{Appetite, Parcel};
use crate::topics::{Gauge, Recent};

/// The stage has something new.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Wake;

/// Who leads the partition now. An older leader epoch has been sorted out before.
#[derive(Message, Clone, PartialEq)]
#[rtype(result = "()")]
pub(crate) struct Lead {
    pub topic_id: Uuid,
    /// `None` while nobody leads.
    pub leader: Option<Led>,
}

/// A leader, and the sender that talks to it.
#[derive(Clone, PartialEq)]
pub(crate) struct Led {
    pub node: i32,
    /// The leader epoch; -1 where brokers are too old to say.
    pub epoch: i32,
    pub sender: Arc<Addr<SenderActor>>,
    /// A new value means that the sender knows nothing of what its predecessor was told.
    pub incarnation: u64,
    /// While it is any, batches are lent unasked.
    pub appetite: Appetite,
}

/// Everything accepted so far is to go out. The barrier's last clone goes when it has its outcome.
/// A message that is lost before it was done says so.
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

/// Dropped with its last clone, it tells that all batches it was tied to have their outcome. If
/// somebody missed it, it is silent: who waits has to ask again.
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

/// Something stands in the way of every partition; a later time-out carries it.
#[derive(Message, Clone)]
#[rtype(result = "()")]
pub(crate) struct Trouble(pub Arc<str>);

/// What a partition works with.
#[derive(Clone)]
pub(crate) struct PartitionParts {
    pub shelf: Arc<Shelf>,
    pub compressor: Rc<RefCell<Compressor>>,
    pub linger: Duration,
    pub delivery_timeout: Duration,
    pub clock: Addr<ClockActor>,
    pub identity: Addr<IdentityActor>,
    pub metadata: Addr<MetadataActor>,
    pub delivery: Addr<DeliveryActor>,
}

/// What a partition's actor shares: with callers, and with whoever comes after it.
pub(crate) struct Shared {
    pub stage: Arc<Stage>,
    /// Outside the actor's value, so that a panic cannot take it along.
    pub ledger: Rc<RefCell<Ledger>>,
    pub gauge: Arc<Gauge>,
}

impl Drop for Shared {
    /// However the actor ended, nobody looks at the stage from here on: its arbiter may be gone.
    fn drop(&mut self) {
        self.stage.close();
        let mut full = VecDeque::new();
        self.stage.collect(true, false, &mut full);
        full.into_iter().for_each(|batch| drop(batch.seal()));
    }
}

/// Owns what the rules of one partition need: its stage (shared with callers), its ledger, and
/// who leads it.
///
/// Applications meet it through its address, [`Producer::partition`](crate::Producer::partition),
/// to send it [`Produce`].
pub struct PartitionActor {
    guard: Guard,
    topic_partition: TopicPartition,
    topic_id: Uuid,
    shared: Shared,
    parts: PartitionParts,
    meters: TopicMeters,
    intake: Arc<Intake>,
    /// Its own address, from the first look on.
    me: OnceCell<Home>,
    /// On their way from the stage to the ledger; empty between two calls.
    full: VecDeque<OpenBatch>,
    /// When the batch that was open at the last look at the stage took its first record.
    open_since: Option<Instant>,
    leader: Option<Led>,
    /// The leader's sender knows that there is something to take.
    announced: bool,
    /// The incarnation of the sender that holds loans, if any are out.
    lender: u64,
    asked_identity: bool,
    /// What stands in the way of batches that have not been tried; a time-out carries it.
    trouble: Option<Arc<str>>,
    alarm: Alarm,
}

impl PartitionActor {
    pub(crate) fn new(
        topic_partition: TopicPartition,
        shared: Shared,
        parts: PartitionParts,
        meters: TopicMeters,
        intake: Arc<Intake>,
        guard: Guard,
    ) -> Self {
        Self {
            guard,
            topic_partition,
            topic_id: Uuid::nil(),
            shared,
            parts,
            meters,
            intake,
            me: OnceCell::new(),
            full: VecDeque::new(),
            open_since: None,
            leader: None,
            announced: false,
            lender: 0,
            asked_identity: false,
            trouble: None,
            alarm: Alarm::default(),
        }
    }

    fn ledger(&self) -> RefMut<'_, Ledger> {
        self.shared.ledger.borrow_mut()
    }

    fn me(&self, ctx: &Context<Self>) -> Home {
        Arc::clone(self.me.get_or_init(|| Arc::new(ctx.address())))
    }

    /// Moves what is sealed from the stage to the deque, with `open` the open batch too. With `watched`
    /// a batch that is opened later needs no [`Wake`].
    fn collect(&mut self, open: bool, watched: bool) {
        let (stage, full) = (&self.shared.stage, &mut self.full);
        self.open_since = stage.collect(open, watched, full);
        for batch in self.full.drain(..) {
            let batch = batch.seal();
            self.meters.sealed(&batch);
            self.shared.ledger.borrow_mut().push(batch);
        }
    }

    /// Looks at everything, the stage too, and does what follows.
    fn look(&mut self, now: Instant, ctx: &mut Context<Self>) {
        self.collect(false, self.watches(now));
        self.act(now, ctx);
    }

    /// Whether a tick comes before a batch that is opened from now on has lingered.
    fn watches(&self, now: Instant) -> bool {
        let next = self.alarm.next();
        next.is_some_and(|at| at <= now + self.parts.linger)
    }

    fn set_alarm(&mut self, at: Instant, ctx: &Context<Self>) {
        let me = self.me.get_or_init(|| Arc::new(ctx.address()));
        let who = || Sleeper::Partition(Arc::clone(me));
        self.alarm.set(&self.parts.clock, at, who);
    }

    /// Lends or announces what is ready, asks for what is missing, sets the alarm for what is to
    /// come. Of the stage it knows what was seen last: a [`Wake`] tells of anything new.
    fn act(&mut self, now: Instant, ctx: &mut Context<Self>) {
        self.expire(now, ctx);
        while self.offers_unasked(now, ctx) {}
        self.announce(now, ctx);

        let (readiness, wants_identity, batches, expiry) = {
            let ledger = self.ledger();
            (
                ledger.readiness(now),
                ledger.wants_identity(),
                ledger.len(),
                ledger.next_expiry(),
            )
        };
        let something = batches > 0 || self.open_since.is_some();
        if wants_identity && something && !std::mem::replace(&mut self.asked_identity, true) {
            let left = self.ledger().left();
            self.parts.identity.do_send(WantIdentity {
                partition: self.topic_partition.clone(),
                who: ctx.address(),
                left,
            });
        }
        self.shared.gauge.queued(batches);

        let later = match readiness {
            Readiness::At(at) => Some(at),
            _ => None,
        };
        let after = |wait| self.open_since.map(|since| since + wait);
        let ripening =
            after(self.parts.linger).filter(|at| *at > now && !self.parts.shelf.pressure());
        let outlived = after(self.parts.delivery_timeout);
        if let Some(at) = [later, ripening, expiry, outlived]
            .into_iter()
            .flatten()
            .min()
        {
            self.set_alarm(at, ctx);
        }
    }

    /// Settles what has run out of time, staged or not.
    fn expire(&mut self, now: Instant, ctx: &mut Context<Self>) {
        let outlived = |since| since + self.parts.delivery_timeout <= now;
        if self.open_since.is_some_and(outlived) {
            self.collect(true, false);
        }
        if self.ledger().next_expiry().is_some_and(|at| at <= now) {
            self.note_trouble();
        }
        let expired = self.ledger().expire(now);
        self.apply(expired, ctx);
    }

    /// Whether the open batch need not wait for more records.
    fn is_ripe(&self, now: Instant) -> bool {
        self.open_since
            .is_some_and(|since| since + self.parts.linger <= now || self.parts.shelf.pressure())
    }

    /// Whether there is a batch to lend, or an open one that can be sealed and lent.
    fn is_ready(&self, now: Instant) -> bool {
        let ledger = self.ledger();
        ledger.readiness(now) == Readiness::Now
            || (ledger.all_lent()
                && ledger.has_room()
                && !ledger.wants_identity()
                && self.is_ripe(now))
    }

    /// Whether nothing is lent to another sender than this one.
    fn may_lend_to(&self, incarnation: u64) -> bool {
        self.lender == incarnation || !self.ledger().is_lent()
    }

    /// Hands a batch to a sender that would send it at once.
    fn offers_unasked(&mut self, now: Instant, ctx: &Context<Self>) -> bool {
        let Some(leader) = &self.leader else {
            return false;
        };
        if self.announced || !leader.appetite.is_any() || !self.may_lend_to(leader.incarnation) {
            return false;
        }
        let (sender, appetite) = (Arc::clone(&leader.sender), leader.appetite.clone());
        let Some(loan) = self.lend(leader.incarnation, now, ctx) else {
            return false;
        };
        appetite.lessen(loan.len());
        sender.do_send(Offer {
            from: self.me(ctx),
            loan: Some(loan),
            more: false,
        });
        true
    }

    /// Tells the sender once that there is something to take.
    fn announce(&mut self, now: Instant, ctx: &Context<Self>) {
        if self.announced || !self.is_ready(now) {
            return;
        }
        let me = self.me(ctx);
        if let Some(leader) = &self.leader
            && self.may_lend_to(leader.incarnation)
        {
            self.announced = true;
            self.shared.gauge.ready_since(now);
            leader.sender.do_send(Ready(me));
        }
    }

    /// Batches that were never tried are about to expire: they are to say why they were not.
    fn note_trouble(&self) {
        let no_leader = || "no leader of the partition is known".into();
        let trouble = match (&self.trouble, &self.leader) {
            (Some(trouble), _) => Some(Arc::clone(trouble)),
            (None, None) => Some(no_leader()),
            (None, Some(_)) => None,
        };
        if let Some(trouble) = trouble {
            self.ledger().note(&trouble);
        }
    }

    /// Takes nothing for granted that others were told.
    fn revisit(&mut self, ctx: &mut Context<Self>) {
        self.announced = false;
        self.asked_identity = false;
        self.alarm = Alarm::default();
        self.look(now(), ctx);
    }

    /// A batch for the sender of that incarnation, if there is one.
    fn lend(&mut self, lender: u64, now: Instant, ctx: &Context<Self>) -> Option<Loan> {
        let compressor = Rc::clone(&self.parts.compressor);
        let mut compressor = compressor.borrow_mut();
        let mut lent = self.ledger().take(now, &mut compressor);
        if lent.is_none() && self.is_ready(now) {
            // Where one batch has lingered, another is likely to follow.
            if !self.parts.linger.is_zero() {
                self.set_alarm(now + self.parts.linger, ctx);
            }
            self.collect(true, self.watches(now));
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

    fn apply(&mut self, effects: Effects, ctx: &mut Context<Self>) {
        let Effects {
            settled,
            bump,
            refresh_metadata,
        } = effects;
        for settled in settled {
            self.meters.settled(&settled);
            if !settled.listeners.is_empty() {
                let topic_partition = self.topic_partition.clone();
                self.parts.delivery.do_send(Deliver {
                    topic_partition,
                    settled,
                });
            }
        }
        if let Some(seen) = bump {
            tracing::info!(partition = %self.topic_partition, ?seen, "the epoch is to be bumped");
            self.parts.identity.do_send(Bump {
                seen,
                partition: self.topic_partition.clone(),
                who: ctx.address(),
            });
        }
        if refresh_metadata {
            self.parts.metadata.do_send(RefreshMetadata);
        }
    }
}

impl Actor for PartitionActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.look(now(), ctx);
    }
}

guarded!(PartitionActor: Wake, Tick, Lead, Take, LoanBack, Identified, FlushPartition, Trouble, Revisit, Revive, Retire);

impl Guarded for PartitionActor {
    fn guard(&mut self) -> &mut Guard {
        &mut self.guard
    }

    fn restart(&mut self, ctx: &mut Context<Self>) -> usize {
        let effects = self.ledger().mend(now());
        self.apply(effects, ctx);
        self.revisit(ctx);
        self.ledger().len()
    }

    fn fail(&mut self, why: &Arc<str>, ctx: &mut Context<Self>) {
        self.shared.stage.close();
        self.collect(true, false);
        let part: Arc<str> = format!("the partition {}", self.topic_partition).into();
        let reason = |_| Reason::Failed {
            part: Arc::clone(&part),
            why: Arc::clone(why),
        };
        let effects = self.ledger().abandon(reason);
        self.apply(effects, ctx);
    }
}

impl On<Revisit> for PartitionActor {
    fn on(&mut self, _: Revisit, ctx: &mut Context<Self>) {
        self.revisit(ctx);
    }
}

/// A part that was given up is to work again.
#[derive(Message, Clone, Copy)]
#[rtype(result = "()")]
pub(crate) struct Revive;

impl On<Revive> for PartitionActor {
    fn on(&mut self, _: Revive, ctx: &mut Context<Self>) {
        self.guard.recovered();
        self.shared.stage.reopen();
        self.revisit(ctx);
    }
}

/// A part is to take on nothing more.
#[derive(Message, Clone, Copy)]
#[rtype(result = "()")]
pub(crate) struct Retire;

impl On<Retire> for PartitionActor {
    fn on(&mut self, _: Retire, ctx: &mut Context<Self>) {
        self.shared.stage.close();
        self.collect(true, false);
        self.guard.retired();
        self.look(now(), ctx);
    }
}

impl On<Wake> for PartitionActor {
    fn on(&mut self, _: Wake, ctx: &mut Context<Self>) {
        self.look(now(), ctx);
    }
}

impl On<Tick> for PartitionActor {
    fn on(&mut self, _: Tick, ctx: &mut Context<Self>) {
        self.alarm.rang();
        self.look(now(), ctx);
    }
}

impl On<Lead> for PartitionActor {
    fn on(&mut self, Lead { topic_id, leader }: Lead, ctx: &mut Context<Self>) {
        if leader != self.leader || topic_id != self.topic_id {
            self.ledger().rearm();
            self.topic_id = topic_id;
            if let Some(former) = std::mem::replace(&mut self.leader, leader)
                && std::mem::take(&mut self.announced)
            {
                former.sender.do_send(NotReady(self.me(ctx)));
            }
        }
        self.look(now(), ctx);
    }
}

impl On<Take> for PartitionActor {
    fn on(&mut self, take: Take, ctx: &mut Context<Self>) {
        let leads = |leader: &Led| leader.incarnation == take.incarnation;
        let Some(leader) = self.leader.clone().filter(leads) else {
            // A sender that no longer leads, or not yet again: it gets nothing.
            return;
        };
        let now = now();
        self.collect(false, self.watches(now));
        self.announced = false;
        self.shared.gauge.not_ready();
        let loan = match self.may_lend_to(take.incarnation) {
            true => self.lend(take.incarnation, now, ctx),
            false => None,
        };
        let more = loan.is_some() && self.ledger().readiness(now) == Readiness::Now;
        self.announced = more;
        let from = self.me(ctx);
        leader.sender.do_send(Offer { from, loan, more });
        self.act(now, ctx);
    }
}

impl On<LoanBack> for PartitionActor {
    fn on(&mut self, back: LoanBack, ctx: &mut Context<Self>) {
        let LoanBack { id, report, alive } = back;
        // What holds up one batch holds up those behind it.
        self.trouble = match &report {
            Report::Answered(attempt) if attempt.error.code == 0 => None,
            Report::Answered(attempt) => Some(attempt.error.to_string().into()),
            Report::Returned { error, .. } => Some(Arc::clone(error)),
            Report::Unasked => None,
        };
        let now = now();
        let effects = self.ledger().report(id, report, now);
        drop(alive);
        self.apply(effects, ctx);
        self.act(now, ctx);
    }
}

impl On<Identified> for PartitionActor {
    fn on(&mut self, Identified(identity): Identified, ctx: &mut Context<Self>) {
        self.asked_identity = false;
        let effects = self.ledger().adopt(identity);
        self.apply(effects, ctx);
        self.look(now(), ctx);
    }
}

impl On<FlushPartition> for PartitionActor {
    fn on(&mut self, mut message: FlushPartition, ctx: &mut Context<Self>) {
        self.collect(true, false);
        if let Some(barrier) = &message.0 {
            let token: Token = Arc::clone(barrier) as Token;
            self.ledger().tie(&token);
        }
        message.0 = None;
        self.look(now(), ctx);
    }
}

impl On<Trouble> for PartitionActor {
    fn on(&mut self, Trouble(error): Trouble, _: &mut Context<Self>) {
        self.trouble = Some(error);
    }
}

impl Handler<Stop> for PartitionActor {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Context<Self>) {
        self.shared.stage.close();
        self.collect(true, false);
        self.note_trouble();
        let effects = self.ledger().abandon(|last| Reason::Closed { last });
        self.apply(effects, ctx);
        ctx.stop();
    }
}

/// Asks a partition for its figures.
#[derive(Message)]
#[rtype(result = "PartitionFigures")]
pub(crate) struct PartitionCensus;

impl Handler<PartitionCensus> for PartitionActor {
    type Result = MessageResult<PartitionCensus>;

    fn handle(&mut self, _: PartitionCensus, _: &mut Context<Self>) -> Self::Result {
        let now = now();
        let (staged_records, staged_bytes) = self.shared.stage.load();
        let ledger = self.ledger();
        let load = ledger.load();
        let opened = self.shared.stage.glance().open_since;
        MessageResult(PartitionFigures {
            topic_partition: self.topic_partition.clone(),
            leader: self.leader.as_ref().map(|leader| leader.node),
            queued_records: load.records + staged_records,
            queued_bytes: load.bytes + staged_bytes,
            oldest: load
                .oldest
                .or(opened)
                .map(|at| now.saturating_duration_since(at)),
            in_flight: load.in_flight,
            retries: ledger.retried,
            splits: ledger.splits,
        })
    }
}

/// A record for this partition, as a message: the door for those who think in actors.
///
/// The answer is that of [`Producer::send`](crate::Producer::send): a [`Receipt`] once the record is accepted. The
/// record's own topic and partition are overridden by the partition's. A message per record costs
/// about ten times what `send` costs; use that where it matters.
#[derive(Message)]
#[rtype(result = "Result<Receipt, SendError>")]
pub struct Produce {
    record: Record,
    listeners: Option<Arc<[Arc<dyn Listener>]>>,
}

impl Produce {
    /// A record whose outcome is known by its receipt.
    pub fn new(record: Record) -> Self {
        let listeners = None;
        Self { record, listeners }
    }

    /// Has the outcome told to whomever `producer` tells of its records; see
    /// [`Producer::delivering_to`](crate::Producer::delivering_to).
    #[must_use]
    pub fn delivering_like(mut self, producer: &Producer) -> Self {
        self.listeners = Some(Arc::clone(producer.listeners()));
        self
    }
}

impl std::fmt::Debug for Produce {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Produce").field(&self.record).finish()
    }
}

impl Handler<Produce> for PartitionActor {
    type Result = ResponseFuture<Result<Receipt, SendError>>;

    fn handle(&mut self, produce: Produce, _: &mut Context<Self>) -> Self::Result {
        let Produce {
            mut record,
            listeners,
        } = produce;
        record.topic = TopicName::Shared(Arc::clone(&self.topic_partition.topic));
        record.partition = Some(self.topic_partition.partition);
        let intake = Arc::clone(&self.intake);
        Box::pin(async move {
            let listeners = listeners.as_ref().unwrap_or(&intake.listeners);
            let extras = Extras::told_to(listeners);
            intake.send(&Recent::default(), record, extras).await
        })
    }
}
