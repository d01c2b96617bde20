//! The PartitionActor: one per TopicPartition, owner of its batch deque.

mod flush;
mod leader;
mod lending;
mod notify;
mod send_record;

use std::cell::{OnceCell, RefCell, RefMut};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use actix::prelude::*;
use uuid::Uuid;

use super::clock::Alarm;
use super::guard::{Guard, Guarded, On, guarded};
use super::messages::*;
use super::now;
use super::services::SharedServices;
use crate::core::batch::OpenBatch;
use crate::core::figures::PartitionFigures;
use crate::core::ledger::{Effects, Ledger, Readiness, Report};
use crate::core::outcome::Reason;
use crate::core::record::TopicPartition;
use crate::core::stage::Stage;
use crate::core::supervision::Component;
use crate::intake::Intake;
use crate::intake::topics::Gauge;
use crate::meters::TopicMeters;

use notify::SenderNotifier;
pub use send_record::SendRecord;

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
        let (open, _) = self.stage.collect(|_| true, &mut full);
        drop((full, open)); // which settles them
    }
}

/// Owns what the rules of one partition need: its stage (shared with callers), its ledger, and
/// who leads it.
///
/// Applications meet it through its address, to send it [`SendRecord`]; see
/// [`Producer::partition_actor`](crate::Producer::partition_actor).
pub struct PartitionActor {
    guard: Guard,
    topic_partition: TopicPartition,
    topic_id: Uuid,
    shared: Shared,
    services: Rc<SharedServices>,
    meters: Rc<TopicMeters>,
    intake: Arc<Intake>,
    /// Its own address, from the first look on.
    me: OnceCell<Arc<Addr<Self>>>,
    /// On their way from the stage to the ledger; empty between two calls.
    full: VecDeque<OpenBatch>,
    /// When the batch that was open at the last look at the stage took its first record.
    open_since: Option<Instant>,
    leader: Option<LeaderLink>,
    /// Its place with the leader's sender.
    notifier: Option<Arc<SenderNotifier>>,
    /// The leader's sender knows that there is something to take.
    announced: bool,
    /// The incarnation of the sender that holds loans, if any are out.
    lender: u64,
    asked_identity: bool,
    /// What stands in the way of batches that have not been tried; a time-out carries it.
    blocked_by: Option<Arc<str>>,
    alarm: Alarm,
}

impl PartitionActor {
    pub(crate) fn new(
        topic_partition: TopicPartition,
        shared: Shared,
        services: Rc<SharedServices>,
        meters: Rc<TopicMeters>,
        intake: Arc<Intake>,
        guard: Guard,
    ) -> Self {
        Self {
            guard,
            topic_partition,
            topic_id: Uuid::nil(),
            shared,
            services,
            meters,
            intake,
            me: OnceCell::new(),
            full: VecDeque::new(),
            open_since: None,
            leader: None,
            notifier: None,
            announced: false,
            lender: 0,
            asked_identity: false,
            blocked_by: None,
            alarm: Alarm::default(),
        }
    }

    fn ledger(&self) -> RefMut<'_, Ledger> {
        self.shared.ledger.borrow_mut()
    }

    fn me(&self, ctx: &Context<Self>) -> Arc<Addr<Self>> {
        Arc::clone(self.me.get_or_init(|| Arc::new(ctx.address())))
    }

    /// Moves what is sealed from the stage to the deque, and the open batch if it `leaves`, which is
    /// asked with the time when it was opened.
    fn collect(&mut self, leaves: impl FnOnce(Instant) -> bool) {
        let (stage, full) = (&self.shared.stage, &mut self.full);
        let (open, stays_since) = stage.collect(leaves, full);
        self.open_since = stays_since;
        let mut ledger = self.shared.ledger.borrow_mut();
        let mut keep = |batch: OpenBatch| {
            let batch = batch.seal();
            self.meters.sealed(&batch);
            ledger.push(batch);
        };
        self.full.drain(..).for_each(&mut keep);
        open.into_iter().for_each(keep);
    }

    /// Looks at everything, the stage too, and does what follows.
    fn look(&mut self, now: Instant, ctx: &mut Context<Self>) {
        self.collect(|_| false);
        self.act(now, ctx);
    }

    fn set_alarm(&mut self, at: Instant, ctx: &Context<Self>) {
        let me = self.me.get_or_init(|| Arc::new(ctx.address()));
        let who = || Arc::clone(me) as Arc<dyn Sleeper>;
        self.alarm.set(&self.services.clock, at, who);
    }

    /// Lends or announces what is ready, asks for what is missing, sets the alarm for what is to
    /// come. Of the stage it knows what was seen last.
    fn act(&mut self, now: Instant, ctx: &mut Context<Self>) {
        self.expire(now, ctx);
        while self.offers_unasked(now, ctx) {}
        self.announce(now);

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
            self.services.identity.do_send(WantIdentity {
                partition: self.topic_partition.clone(),
                who: self.me(ctx),
                left,
            });
        }
        self.shared.gauge.queued(batches);

        let later = match readiness {
            Readiness::At(at) => Some(at),
            _ => None,
        };
        let lingering = self.open_since.filter(|_| !self.is_due(now));
        let lingers_until = lingering.filter(|since| !self.entrust(*since));
        let lingers_until = lingers_until.map(|since| since + self.services.linger);
        let outlived = self
            .open_since
            .map(|since| since + self.services.rules.delivery_timeout);
        if let Some(at) = [later, lingers_until, expiry, outlived]
            .into_iter()
            .flatten()
            .min()
        {
            self.set_alarm(at, ctx);
        }
    }

    /// Settles what has run out of time, staged or not.
    fn expire(&mut self, now: Instant, ctx: &mut Context<Self>) {
        let outlived = |since| since + self.services.rules.delivery_timeout <= now;
        if self.open_since.is_some_and(outlived) {
            self.collect(|_| true);
        }
        if self.ledger().next_expiry().is_some_and(|at| at <= now) {
            self.note_blocked();
        }
        let expired = self.ledger().expire(now);
        self.apply(expired, ctx);
    }

    /// Batches that were never tried are about to expire: they are to say why they were not.
    fn note_blocked(&self) {
        let no_leader = || "no leader of the partition is known".into();
        let blocked_by = match (&self.blocked_by, &self.leader) {
            (Some(blocked_by), _) => Some(Arc::clone(blocked_by)),
            (None, None) => Some(no_leader()),
            (None, Some(_)) => None,
        };
        if let Some(blocked_by) = blocked_by {
            self.ledger().note(&blocked_by);
        }
    }

    /// Takes nothing for granted that others were told.
    fn resync(&mut self, ctx: &mut Context<Self>) {
        self.set_announced(None);
        self.asked_identity = false;
        self.alarm = Alarm::default();
        self.look(now(), ctx);
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
                self.services.delivery.do_send(Deliver {
                    topic_partition,
                    settled,
                });
            }
        }
        if let Some(seen) = bump {
            tracing::info!(partition = %self.topic_partition, ?seen, "the epoch is to be bumped");
            self.services.identity.do_send(BumpEpoch {
                seen,
                partition: self.topic_partition.clone(),
                who: self.me(ctx),
            });
        }
        if refresh_metadata {
            self.services.metadata.do_send(RefreshMetadata);
        }
    }
}

impl PartitionPeer for Addr<PartitionActor> {
    fn is_running(&self) -> bool {
        self.connected()
    }
}

impl Sleeper for Addr<PartitionActor> {
    fn pressure(&self) {
        self.do_send(WakePartition);
    }
}

impl Actor for PartitionActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.look(now(), ctx);
    }
}

guarded!(
    PartitionActor: WakePartition, QueueState, Tick, SetLeader, Take, LoanReturned, SetIdentity,
    FlushPartition, BlockedBy, Resync, Restart, Retire
);

impl Guarded for PartitionActor {
    fn guard(&mut self) -> &mut Guard {
        &mut self.guard
    }

    fn restart(&mut self, ctx: &mut Context<Self>) -> usize {
        let effects = self.ledger().recover(now());
        self.apply(effects, ctx);
        self.resync(ctx);
        self.ledger().len()
    }

    fn fail(&mut self, why: &Arc<str>, ctx: &mut Context<Self>) {
        self.shared.stage.close();
        self.collect(|_| true);
        let component = Component::Partition(self.topic_partition.clone());
        let reason = |_| Reason::Failed {
            component: component.clone(),
            why: Arc::clone(why),
        };
        let effects = self.ledger().abandon(reason);
        self.apply(effects, ctx);
    }
}

impl On<Resync> for PartitionActor {
    fn on(&mut self, _: Resync, ctx: &mut Context<Self>) {
        self.resync(ctx);
    }
}

impl On<Restart> for PartitionActor {
    fn on(&mut self, _: Restart, ctx: &mut Context<Self>) {
        self.guard.recovered();
        self.shared.stage.reopen();
        self.resync(ctx);
    }
}

impl On<Retire> for PartitionActor {
    fn on(&mut self, _: Retire, ctx: &mut Context<Self>) {
        self.shared.stage.close();
        self.collect(|_| true);
        self.guard.retired();
        self.look(now(), ctx);
    }
}

impl On<WakePartition> for PartitionActor {
    fn on(&mut self, _: WakePartition, ctx: &mut Context<Self>) {
        self.look(now(), ctx);
    }
}

impl On<Tick> for PartitionActor {
    fn on(&mut self, _: Tick, ctx: &mut Context<Self>) {
        self.alarm.rang();
        self.look(now(), ctx);
    }
}

impl On<LoanReturned> for PartitionActor {
    fn on(&mut self, back: LoanReturned, ctx: &mut Context<Self>) {
        let LoanReturned { id, report, alive } = back;
        // What holds up one batch holds up those behind it.
        self.blocked_by = match &report {
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

impl On<SetIdentity> for PartitionActor {
    fn on(&mut self, SetIdentity(identity): SetIdentity, ctx: &mut Context<Self>) {
        self.asked_identity = false;
        let effects = self.ledger().adopt(identity);
        self.identified();
        self.apply(effects, ctx);
        self.look(now(), ctx);
    }
}

impl On<BlockedBy> for PartitionActor {
    fn on(&mut self, BlockedBy(error): BlockedBy, _: &mut Context<Self>) {
        self.blocked_by = Some(error);
    }
}

impl Handler<Stop> for PartitionActor {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Context<Self>) {
        self.shared.stage.close();
        self.collect(|_| true);
        self.note_blocked();
        let effects = self.ledger().abandon(|last| Reason::Closed { last });
        self.apply(effects, ctx);
        ctx.stop();
    }
}

impl Handler<GetPartitionFigures> for PartitionActor {
    type Result = MessageResult<GetPartitionFigures>;

    fn handle(&mut self, _: GetPartitionFigures, _: &mut Context<Self>) -> Self::Result {
        let now = now();
        let (staged_records, staged_bytes) = self.shared.stage.load();
        let ledger = self.ledger();
        let load = ledger.load();
        let opened = self.shared.stage.open_since();
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
