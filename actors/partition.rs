//! The PartitionActor: one per topic partition. It owns the partition's deque of batches, from
//! their sealing to their outcome, and lends them in order to the sender of the partition's leader.
//!
//! The deque is its [`Ledger`]. `lending.rs` answers `Take`, `leader.rs` follows `SetLeader`, `notify.rs`
//! tells the sender of batches, `flush.rs` flushes.

mod flush;
mod leader;
mod lending;
mod notify;
mod resolving;
mod send_record;
mod spool;
mod spool_slot;
mod turns;

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
use crate::core::identity::Wanted;
use crate::core::ledger::{Effects, Ledger, Readiness, Report};
use crate::core::lookup::{Log, Wish};
use crate::core::outcome::Reason;
use crate::core::record::TopicPartition;
use crate::core::spool::Seat;
use crate::core::stage::{Lingering, Stage};
use crate::core::supervision::Component;
use crate::core::transaction::Scope;
use crate::intake::Intake;
use crate::intake::topics::Gauge;
use crate::intake::wall_clock;
use crate::meters::TopicMeters;

use notify::SenderNotifier;
pub use send_record::{SendInTransaction, SendRecord};
pub(crate) use spool_slot::SpoolSlot;
use turns::Turns;

/// The batches of a partition. Callers share the stage and the gauge. When this is dropped, the
/// stage is closed.
pub(crate) struct Shared {
    pub stage: Arc<Stage>,
    /// Sealed batches without an outcome. It stays usable when a handler of the actor panics.
    pub ledger: RefCell<Ledger>,
    pub gauge: Arc<Gauge>,
}

impl Drop for Shared {
    /// However the actor ended, no actor collects batches from the stage any more, and the arbiter
    /// may be gone. So the stage is closed, and its batches are settled here.
    fn drop(&mut self) {
        self.stage.close();
        let mut full = VecDeque::new();
        let (open, _) = self.stage.collect(|_| true, &mut full);
        drop((full, open)); // this settles them
    }
}

/// The actor of one partition. It owns the ledger, which has the sealed batches, and knows the
/// partition's leader. It shares the stage, where batches are filled, with the callers.
///
/// [`Producer::partition_actor`](crate::Producer::partition_actor) gives its address to applications,
/// which can send it a [`SendRecord`].
pub struct PartitionActor {
    guard: Guard,
    topic_partition: TopicPartition,
    topic_id: Uuid,
    shared: Shared,
    services: Rc<SharedServices>,
    meters: Rc<TopicMeters>,
    intake: Arc<Intake>,
    /// Its own address, set when it is first needed.
    me: OnceCell<Arc<Addr<Self>>>,
    /// Batches that move from the stage to the ledger. Empty between two calls.
    full: VecDeque<OpenBatch>,
    /// The open batch. `None` if no batch was open when the stage was last checked.
    open: Option<Lingering>,
    leader: Option<LeaderLink>,
    /// Whether a view of the cluster has come, so that no leader means that none is known.
    leader_told: bool,
    /// Tells the leader's sender of the partition's batches.
    notifier: Option<Arc<SenderNotifier>>,
    /// The leader's sender knows that there is a batch to take.
    announced: bool,
    /// The incarnation of the sender that has the lent batches, if there are any.
    lent_to: u64,
    /// How often partitions had been freed when this one was made: see [`Wanted::freed`].
    freed: u64,
    /// What identity was asked for and has not come yet.
    asked_identity: Option<Wanted>,
    /// What was asked for of the log.
    looking: Option<(Wish, Log)>,
    /// The transaction whose marker is to be found in the log, and who wants to know.
    seeking: Option<(Arc<Scope>, Recipient<MarkerTold>)>,
    /// There are batches and no leader, and the MetadataActor was told so.
    waits_for_leader: bool,
    /// What keeps batches from being sent. If they expire meanwhile, this is given as the cause.
    blocked_by: Option<BlockedBy>,
    /// Records that came as messages.
    turns: Turns,
    /// Its place in the spool, if its records are there.
    spooled: Option<SpoolSlot>,
    alarm: Alarm,
}

impl PartitionActor {
    pub(crate) fn new(
        topic_partition: TopicPartition,
        shared: Shared,
        services: Rc<SharedServices>,
        meters: Rc<TopicMeters>,
        intake: Arc<Intake>,
        spooled: Option<SpoolSlot>,
        guard: Guard,
    ) -> Self {
        let freed = services.freed.get();
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
            open: None,
            leader: None,
            leader_told: false,
            notifier: None,
            announced: false,
            lent_to: 0,
            freed,
            asked_identity: None,
            looking: None,
            seeking: None,
            waits_for_leader: false,
            blocked_by: None,
            turns: Turns::default(),
            spooled,
            alarm: Alarm::default(),
        }
    }

    fn ledger(&self) -> RefMut<'_, Ledger> {
        self.shared.ledger.borrow_mut()
    }

    fn me(&self, ctx: &Context<Self>) -> Arc<Addr<Self>> {
        Arc::clone(self.me.get_or_init(|| Arc::new(ctx.address())))
    }

    /// Moves the full batches from the stage to the ledger. The open batch moves too if `leaves`
    /// returns true for what is known of it.
    fn collect(&mut self, leaves: impl FnOnce(Lingering) -> bool) {
        let (stage, full) = (&self.shared.stage, &mut self.full);
        let (open, stays) = stage.collect(leaves, full);
        self.open = stays;
        self.push_collected(open);
    }

    /// Moves all that came before the stage has this seat to the ledger.
    fn collect_before(&mut self, seat: Option<Seat>) {
        self.shared.stage.move_to(seat, &mut self.full);
        self.open = None;
        self.push_collected(None);
    }

    fn push_collected(&mut self, open: Option<OpenBatch>) {
        let mut ledger = self.shared.ledger.borrow_mut();
        ledger.wall_clock(wall_clock::millis());
        let mut keep = |batch: OpenBatch| {
            let batch = batch.seal();
            self.meters.sealed(&batch);
            ledger.push(batch);
        };
        self.full.drain(..).for_each(&mut keep);
        open.into_iter().for_each(keep);
    }

    /// Collects the full batches from the stage, and acts on all that is there.
    fn collect_and_act(&mut self, now: Instant, ctx: &mut Context<Self>) {
        self.collect(|_| false);
        self.act(now, ctx);
    }

    fn set_alarm(&mut self, at: Instant, ctx: &Context<Self>) {
        let me = self.me.get_or_init(|| Arc::new(ctx.address()));
        let who = || Arc::clone(me) as Arc<dyn Sleeper>;
        self.alarm.set(&self.services.clock, at, who);
    }

    /// Lends or announces what is ready, asks for an identity if one is missing, and sets the alarm
    /// for the next deadline. It does not check the stage: it knows what was last collected from
    /// it.
    fn act(&mut self, now: Instant, ctx: &mut Context<Self>) {
        self.expire(now);
        self.give_up_failed();
        self.end_gone();
        {
            let mut ledger = self.ledger();
            ledger.leave_fenced();
            ledger.take_held();
            ledger.note_doubts(now);
        }
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
        let has_batches = batches > 0 || self.open.is_some();
        if wants_identity && has_batches {
            self.ask_identity(ctx);
        }
        self.look(has_batches, ctx);
        self.ask_spool(ctx);
        // While its log is looked into, the topic is in use.
        let seeks = self.seeking.is_some();
        self.shared.gauge.queued(batches + usize::from(seeks));
        let needs_leader = has_batches || seeks;
        self.wait_for_leader(needs_leader && self.leader_told && self.leader.is_none());

        let later = match readiness {
            Readiness::At(at) => Some(at),
            _ => None,
        };
        let lingering = self.open.filter(|_| !self.is_due(now));
        let lingers_until = lingering.filter(|open| !self.leave_linger_to_sender(*open, now));
        let lingers_until = lingers_until.map(|open| open.since + self.services.linger);
        let open_expiry = self
            .open
            .map(|open| open.since + self.services.rules.delivery_timeout);
        if let Some(at) = [later, lingers_until, expiry, open_expiry]
            .into_iter()
            .flatten()
            .min()
        {
            self.set_alarm(at, ctx);
        }
    }

    /// Asks for an identity, unless it has been asked for already.
    fn ask_identity(&mut self, ctx: &Context<Self>) {
        let wanted = {
            let ledger = self.ledger();
            Wanted {
                left: ledger.left(),
                freed: self.freed,
                fresh: ledger.wants_fresh(),
                plain: ledger.wants_plain(),
            }
        };
        if self.asked_identity == Some(wanted) {
            return;
        }
        let scope = match self.services.rules.transactional {
            false => None,
            true => match self.ledger().joins(|| self.shared.stage.open_scope()) {
                // The batch has left the stage meanwhile, and asks when it is collected.
                None => return,
                scope => scope,
            },
        };
        self.asked_identity = Some(wanted);
        if let Some(left) = wanted.left {
            let partition = &self.topic_partition;
            tracing::info!(%partition, ?left, "the partition begins anew under another epoch");
        }
        self.services.identity.do_send(WantIdentity {
            partition: self.topic_partition.clone(),
            who: self.me(ctx),
            wanted,
            scope,
        });
    }

    /// Settles what waits of a transaction that failed.
    fn give_up_failed(&mut self) {
        if !self.services.rules.transactional {
            return;
        }
        let open = self.shared.stage.open_scope();
        if open.is_some_and(|scope| scope.is_over().is_some()) {
            self.collect(|_| true);
        }
        let effects = self.ledger().give_up_failed();
        self.apply(effects);
    }

    /// Settles all batches whose `delivery.timeout.ms` is over, also the open one.
    fn expire(&mut self, now: Instant) {
        let is_over = |open: Lingering| open.since + self.services.rules.delivery_timeout <= now;
        if self.open.is_some_and(is_over) {
            self.collect(|_| true);
        }
        if self.ledger().next_expiry().is_some_and(|at| at <= now) {
            self.note_blocked(Some(now));
        }
        let expired = self.ledger().expire(now);
        self.apply(expired);
        self.expire_doubts();
    }

    /// Settles doubtful batches that brokers may have forgotten. To be called before any is lent.
    fn expire_doubts(&mut self) {
        if self.ledger().is_in_doubt() {
            let expired = self.ledger().expire_doubts(wall_clock::millis());
            self.apply(expired);
        }
    }

    /// Notes why batches are not sent. Called when batches are about to fail that wait: those that
    /// have `expired`, or all.
    fn note_blocked(&self, expired: Option<Instant>) {
        let no_leader = || BlockedBy::from(Arc::from("no leader of the partition is known"));
        let blocked_by = match (&self.blocked_by, &self.leader) {
            (Some(blocked_by), _) => blocked_by.clone(),
            (None, None) => no_leader(),
            (None, Some(_)) => return,
        };
        let BlockedBy { why, security } = blocked_by;
        self.ledger().note(&why, security.as_ref(), expired);
    }

    /// Settles all batches, also the open one, for the reason that `why` makes of a batch's last error.
    fn abandon(&mut self, why: impl Fn(Option<Arc<str>>) -> Reason) {
        self.collect(|_| true);
        let effects = self.ledger().abandon(why);
        self.shared.gauge.queued(0);
        self.apply(effects);
    }

    /// Announces and asks everything again, because any message may have been lost.
    fn resync(&mut self, ctx: &mut Context<Self>) {
        self.set_announced(None);
        self.asked_identity = None;
        self.looking = None;
        self.forget_asked();
        self.record(self.ledger().unrecorded(), 0);
        self.alarm = Alarm::default();
        self.repeat_what_was_seen();
        self.collect_and_act(now(), ctx);
    }

    fn apply(&mut self, effects: Effects) {
        let Effects {
            settled,
            refresh_metadata,
            witness,
            resolved,
            records,
            resent,
            unknown,
            lost,
        } = effects;
        self.record(records, lost);
        self.tell_of_damage(resent.as_ref().map(|(why, _)| &**why), unknown, lost);
        self.tell_resent(resent);
        if let Some(appended) = witness {
            self.bear(appended);
        }
        for since in resolved {
            self.meters.resolved(now().saturating_duration_since(since));
        }
        for mut settled in settled {
            self.meters.settled(&settled);
            Barrier::count(&settled);
            settled.tokens.retain(Barrier::waits_for_calls);
            if !settled.listeners.is_empty() {
                let topic_partition = self.topic_partition.clone();
                self.services.delivery.do_send(Deliver {
                    topic_partition,
                    settled,
                });
            }
        }
        if refresh_metadata {
            self.services.metadata.do_send(RefreshMetadata);
        }
    }
}

impl PartitionPeer for Addr<PartitionActor> {}

impl Sleeper for Addr<PartitionActor> {}

impl Actor for PartitionActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.resume(ctx);
        self.collect_and_act(now(), ctx);
    }
}

guarded!(
    PartitionActor: WakePartition, QueueState, Tick, SetLeader, Take, LoanReturned, SetIdentity,
    RefuseIdentity, RefuseBatches, FlushPartition, BlockedBy, LogNews, LeaveProducer, FindMarker,
    LineRecorded, OutcomesRecorded, ReadBackDone, ExpireBefore, Doubted, Spill, Resync, Restart,
    Retire
);

impl Guarded for PartitionActor {
    fn guard(&mut self) -> &mut Guard {
        &mut self.guard
    }

    fn restart(&mut self, ctx: &mut Context<Self>) -> usize {
        let effects = self.ledger().recover(now());
        self.apply(effects);
        self.resync(ctx);
        self.ledger().len()
    }

    fn fail(&mut self, why: &Arc<str>, _: &mut Context<Self>) {
        self.shared.stage.close();
        self.turns.refuse();
        let component = Component::Partition(self.topic_partition.clone());
        let failed = |_| Reason::Failed {
            component: component.clone(),
            why: Arc::clone(why),
        };
        self.abandon(failed);
        let effects = self.ledger().abandon_doubts(failed);
        self.apply(effects);
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
        self.turns.refuse();
        self.collect(|_| true);
        self.guard.retired();
        self.collect_and_act(now(), ctx);
    }
}

impl On<WakePartition> for PartitionActor {
    fn on(&mut self, _: WakePartition, ctx: &mut Context<Self>) {
        self.collect_and_act(now(), ctx);
    }
}

impl On<Tick> for PartitionActor {
    fn on(&mut self, _: Tick, ctx: &mut Context<Self>) {
        self.alarm.rang();
        self.collect_and_act(now(), ctx);
    }
}

impl On<LoanReturned> for PartitionActor {
    fn on(&mut self, back: LoanReturned, ctx: &mut Context<Self>) {
        let LoanReturned { id, report, alive } = back;
        // What delays one batch delays those behind it.
        self.blocked_by = match &report {
            Report::Answered(attempt) if attempt.error.code == 0 => None,
            Report::Answered(attempt) => {
                let why: Arc<str> = attempt.error.to_string().into();
                Some(why.into())
            }
            Report::Returned { error, .. } => Some(Arc::clone(error).into()),
            Report::Unasked => None,
        };
        let now = now();
        let effects = self.ledger().report(id, report, now);
        drop(alive);
        self.apply(effects);
        self.act(now, ctx);
    }
}

impl On<SetIdentity> for PartitionActor {
    fn on(&mut self, given: SetIdentity, ctx: &mut Context<Self>) {
        let SetIdentity {
            identity,
            scope,
            fence,
        } = given;
        self.asked_identity = None;
        match scope {
            Some(scope) => self.ledger().adopt_for(&scope, identity),
            None => self.ledger().adopt_behind(identity, fence),
        }
        self.identified();
        self.collect_and_act(now(), ctx);
    }
}

impl On<RefuseIdentity> for PartitionActor {
    /// What waits was never sent, or certainly not appended: unresolved batches ended when the ledger
    /// left its identity.
    fn on(&mut self, RefuseIdentity(why): RefuseIdentity, ctx: &mut Context<Self>) {
        self.asked_identity = None;
        let waits = self.services.rules.transactional || self.spooled.is_some();
        if self.ledger().wants_identity() && !waits {
            self.abandon(|_| Reason::NoProducerId {
                why: Arc::clone(&why),
            });
        }
        self.act(now(), ctx);
    }
}

impl On<RefuseBatches> for PartitionActor {
    /// A batch that is lent, or in doubt, was taken by a leader before. It waits for a leader that
    /// knows what became of it, and those behind it wait, too.
    fn on(&mut self, RefuseBatches { incarnation, why }: RefuseBatches, ctx: &mut Context<Self>) {
        if self.leader.as_ref().map(|leader| leader.incarnation) != Some(incarnation) {
            return;
        }
        self.set_announced(None);
        let settled_later =
            self.spooled.is_some() || self.ledger().is_lent() || self.ledger().is_in_doubt();
        if settled_later {
            self.blocked_by = Some(why.into());
        } else {
            self.abandon(|_| Reason::NoCommonVersion {
                why: Arc::clone(&why),
            });
        }
        self.act(now(), ctx);
    }
}

impl On<BlockedBy> for PartitionActor {
    fn on(&mut self, blocked_by: BlockedBy, _: &mut Context<Self>) {
        self.blocked_by = Some(blocked_by);
    }
}

impl Handler<Stop> for PartitionActor {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Context<Self>) {
        // The handle may be in a sender's queue, and the callers may keep the stage: neither is to
        // keep a sender that nothing else needs.
        if let Some(notifier) = self.notifier.take() {
            notifier.handle.detach();
        }
        self.shared.stage.set_observer(None);
        self.shared.stage.close();
        self.collect(|_| true);
        self.note_blocked(None);
        self.waits_no_more();
        let services = Rc::clone(&self.services);
        let why = |last| match services.taken.get() {
            Some(why) => Reason::Fenced {
                why: Arc::clone(why),
            },
            None => Reason::Closed { last },
        };
        self.abandon(why);
        let effects = self.ledger().abandon_doubts(why);
        self.apply(effects);
        if let Some(spooled) = &mut self.spooled {
            // The spool stops behind this.
            spooled.seat = None;
        }
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
