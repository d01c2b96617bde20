//! The SenderActor: one per broker. Gathers ready batches of many partitions into requests.

mod asking;
mod connection;

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use tokio::sync::mpsc::UnboundedSender;

use super::clock::Alarm;
use super::guard::{self, Guard, Guarded, On, guarded};
use super::messages::*;
use super::now;
use super::services::SharedServices;
use crate::core::acks::Acks;
use crate::core::backoff::Backoff;
use crate::core::dispatch::{
    Demand, Gate, InFlight, OutgoingBatch, RequestSizing, arrange, encode, gather,
};
use crate::core::endpoint::Endpoint;
use crate::core::figures::BrokerFigures;
use crate::core::wire::{Api, Versions};
use crate::meters::NodeMeters;
use crate::net::{ConnectOptions, LinkEvent, NetError, Outbound};

/// What the configuration says to senders.
#[derive(Clone)]
pub(crate) struct SenderRules {
    pub acks: Acks,
    pub max_in_flight: usize,
    pub max_request_size: usize,
    pub batch_size: usize,
    pub request_timeout: Duration,
    pub max_idle: Option<Duration>,
    pub reconnect_backoff: (Duration, Duration),
    pub connect: ConnectOptions,
    /// `socket.connection.setup.timeout.max.ms`
    pub setup_timeout_max: Duration,
    /// Of the waits' jitter.
    pub seed: u64,
}

/// The connection of this number says something.
#[derive(Message)]
#[rtype(result = "()")]
struct FromLink {
    number: u64,
    event: LinkEvent,
}

enum Link {
    /// Nothing to send, or not yet tried again.
    Down,
    Connecting,
    Up {
        versions: Versions,
    },
}

/// Owns the connection to one broker, the ring of partitions that have something for it, and the
/// requests it has not answered.
pub(crate) struct SenderActor {
    guard: Guard,
    /// Panicked too often, or retired: nothing is sent until it is restarted by hand.
    given_up: Option<Arc<str>>,
    node: i32,
    endpoint: Endpoint,
    incarnation: u64,
    rules: SenderRules,
    services: Rc<SharedServices>,
    meters: NodeMeters,

    /// Partitions with something to take, in the order of their turns.
    ring: VecDeque<Arc<ReadyHandle>>,
    /// Batches taken and not yet in a request.
    taken: VecDeque<Box<Loan>>,
    /// From then on partitions are to know that they stand in the ring.
    unaware: Option<Instant>,
    request_sizing: RequestSizing,
    /// Whoever has something gets a turn of the arbiter to lend it.
    turn: bool,
    demand: Demand,
    ready_queue: Arc<ReadyQueue>,

    link: Link,
    number: u64,
    outbox: Option<UnboundedSender<Outbound>>,
    task: Option<SpawnHandle>,
    in_flight: InFlight<Box<Loan>>,
    backoff: Backoff,
    setup_timeout: Backoff,
    not_before: Option<Instant>,
    throttled_until: Option<Instant>,
    last_used: Instant,
    last_error: Option<Arc<str>>,
    alarm: Alarm,
}

/// A connection that is past its idle time and yet has something to do is looked at again later.
const IDLE_LOOK: Duration = Duration::from_secs(1);

impl SenderActor {
    pub fn new(
        (node, endpoint): (i32, Endpoint),
        (incarnation, demand, ready_queue): (u64, Demand, Arc<ReadyQueue>),
        rules: SenderRules,
        services: Rc<SharedServices>,
        meters: NodeMeters,
        guard: Guard,
    ) -> Self {
        let (min, max) = rules.reconnect_backoff;
        let setup_timeout = rules.connect.setup_timeout;
        Self {
            guard,
            given_up: None,
            node,
            endpoint,
            incarnation,
            meters,
            ring: VecDeque::new(),
            taken: VecDeque::new(),
            unaware: None,
            request_sizing: RequestSizing::new(
                rules.max_request_size,
                rules.batch_size,
                !services.linger.is_zero(),
            ),
            turn: false,
            demand,
            ready_queue,
            link: Link::Down,
            number: 0,
            outbox: None,
            task: None,
            in_flight: InFlight::new(rules.max_in_flight),
            backoff: Backoff::new(min, max, rules.seed),
            setup_timeout: Backoff::new(setup_timeout, rules.setup_timeout_max, rules.seed),
            not_before: None,
            throttled_until: None,
            last_used: now(),
            last_error: None,
            alarm: Alarm::default(),
            rules,
            services,
        }
    }

    fn set_alarm(&mut self, at: Instant, ctx: &Context<Self>) {
        self.alarm
            .set(&self.services.clock, at, || Arc::new(ctx.address()));
    }

    /// Does whatever can be done now: connect, ask partitions, send. Then says what it would send
    /// besides.
    fn pump(&mut self, ctx: &mut Context<Self>) {
        let now = now();
        self.throttled_until.take_if(|until| *until <= now);
        // Before anything can fail: records that nobody else knows of have to run out of time, too.
        self.queue_lingered(now, ctx);
        loop {
            self.ready_queue.answer(&mut self.ring);
            if !self.turn {
                self.work(false, ctx);
            }
            if !self.ready_queue.rest(self.enough()) {
                break;
            }
        }
        self.have_patience(now);
        if !self.is_free() {
            self.demand.set(0);
        } else if !self.turn {
            let slots = self.in_flight.slots();
            self.demand.set(self.request_sizing.requests(slots));
        }
    }

    /// Whether a request could go at once.
    fn is_free(&self) -> bool {
        self.is_up() && self.throttled_until.is_none() && self.in_flight.has_room()
    }

    /// How many bytes of full batches are worth waking for.
    fn enough(&self) -> usize {
        let at_work = match self.link {
            _ if self.given_up.is_some() => false,
            // With nobody in the ring nothing is under way; else there is an alarm.
            Link::Down => !self.ring.is_empty(),
            Link::Connecting => true,
            Link::Up { .. } => self.turn || !self.is_free(),
        };
        let in_flight = !self.in_flight.is_empty();
        let slots = self.in_flight.slots();
        self.request_sizing.worth_waking(slots, at_work, in_flight)
    }

    fn is_up(&self) -> bool {
        matches!(self.link, Link::Up { .. })
    }

    /// With `heard`, partitions have had their turn, and what they lent goes before others are asked.
    fn work(&mut self, mut heard: bool, ctx: &mut Context<Self>) {
        if self.ring.is_empty() && self.taken.is_empty() {
            return;
        }
        if let Some(why) = &self.given_up {
            for handle in self.ring.drain(..) {
                handle.partition.do_send(BlockedBy(Arc::clone(why)));
            }
            return;
        }
        match (&self.link, self.throttled_until) {
            (Link::Connecting, _) => return,
            (Link::Down, _) => {
                self.ring.retain(|handle| handle.is_attached());
                if !self.ring.is_empty() {
                    self.connect(now(), ctx);
                }
                return;
            }
            (Link::Up { .. }, Some(until)) => return self.set_alarm(until, ctx),
            (Link::Up { .. }, None) => {}
        }
        while self.is_up() && self.in_flight.has_room() {
            heard &= !self.taken.is_empty();
            let asked = if heard { 0 } else { self.ask() };
            if asked > 0 {
                return self.wait_a_turn(asked, ctx);
            }
            if self.taken.is_empty() {
                return;
            }
            self.send(ctx);
        }
    }

    /// A gather never waits for a partition: yielding once gives each that is alive its turn. So many
    /// batches have been asked for.
    fn wait_a_turn(&mut self, asked: usize, ctx: &mut Context<Self>) {
        if !std::mem::replace(&mut self.turn, true) {
            self.ask_for_piggyback(asked);
            let turn = tokio::task::yield_now();
            guard::spawn(ctx, turn, |sender: &mut Self, (), ctx| {
                sender.turn = false;
                sender.work(true, ctx);
                sender.pump(ctx);
            });
        }
    }

    /// Sends one request with what has been taken.
    fn send(&mut self, ctx: &mut Context<Self>) {
        let Link::Up { versions } = &self.link else {
            return;
        };
        let version = match versions.best(Api::Produce) {
            Ok(version) => version,
            Err(error) => {
                let error = NetError::wire(&self.endpoint, error);
                return self.lost(&error, ctx);
            }
        };
        let portion = self.request_sizing.request(self.in_flight.slots());
        let mut loans = gather(&mut self.taken, portion);
        let version = arrange(&mut loans, version);
        let encoded = encode(
            &loans,
            version,
            self.in_flight.next_correlation_id(),
            &self.rules.connect.client_id,
            self.rules.acks,
            self.rules.request_timeout,
        );
        let envelope = match encoded {
            Ok(envelope) => envelope,
            Err(error) => {
                let error: Arc<str> = error.to_string().into();
                tracing::error!(%error, "a request could not be encoded");
                return loans.into_iter().for_each(|loan| loan.give_back(&error));
            }
        };
        let gate = Arc::new(Gate::default());
        let bytes = loans.iter().map(OutgoingBatch::len).sum();
        let records: Vec<_> = loans
            .iter()
            .map(|loan| Arc::clone(loan.records()))
            .collect();
        records.iter().for_each(|records| records.leaves());
        for loan in &mut loans {
            loan.goes_with(&gate);
        }
        self.meters.sent(loans.len());
        let now = now();
        self.last_used = now;
        self.in_flight.push(version, loans, bytes, now);
        if let Some(outbox) = &self.outbox {
            // A closed outbox says `Lost` in a message of its own; the loans wait for that.
            let _ = outbox.send(Outbound {
                envelope,
                records,
                gate,
            });
        }
        self.set_alarm(now + self.rules.request_timeout, ctx);
    }
}

impl SenderPeer for Addr<SenderActor> {}

impl Sleeper for Addr<SenderActor> {
    fn pressure(&self) {
        self.do_send(WakeSender);
    }
}

impl Actor for SenderActor {
    type Context = Context<Self>;
}

impl Drop for SenderActor {
    /// Nothing is to be lent to it any more.
    fn drop(&mut self) {
        self.demand.set(0);
    }
}

guarded!(SenderActor: Ready, WakeSender, Offer, FromLink, MoveTo, Tick, Resync, Restart, Retire);

impl Guarded for SenderActor {
    fn guard(&mut self) -> &mut Guard {
        &mut self.guard
    }

    /// The connection cannot be trusted any more. Every loan goes back, and the partitions, told to
    /// revisit, announce themselves again.
    fn restart(&mut self, ctx: &mut Context<Self>) -> usize {
        let loans = self.in_flight.loans() + self.taken.len();
        self.turn = false;
        self.clear_ring();
        self.alarm = Alarm::default();
        let endpoint = self.endpoint.clone();
        self.lost(&NetError::Restarted { endpoint }, ctx);
        loans
    }

    fn fail(&mut self, why: &Arc<str>, ctx: &mut Context<Self>) {
        let given_up = format!("the sender to broker {} was given up: {why}", self.node);
        self.given_up = Some(given_up.into());
        self.restart(ctx);
    }
}

impl On<Resync> for SenderActor {
    fn on(&mut self, _: Resync, ctx: &mut Context<Self>) {
        self.alarm = Alarm::default();
        self.clear_ring();
        let deadline = self.in_flight.deadline(self.rules.request_timeout);
        for at in deadline.into_iter().chain(self.throttled_until) {
            self.set_alarm(at, ctx);
        }
        self.pump(ctx);
    }
}

impl On<Restart> for SenderActor {
    fn on(&mut self, _: Restart, ctx: &mut Context<Self>) {
        self.guard.recovered();
        self.given_up = None;
        self.pump(ctx);
    }
}

impl On<Retire> for SenderActor {
    fn on(&mut self, _: Retire, ctx: &mut Context<Self>) {
        let retired = format!("the sender to broker {} was retired", self.node);
        self.given_up = Some(retired.into());
        self.guard.retired();
        self.restart(ctx);
    }
}

impl On<Ready> for SenderActor {
    fn on(&mut self, Ready(handle): Ready, ctx: &mut Context<Self>) {
        self.ring.push_back(handle);
        self.pump(ctx);
    }
}

impl On<Offer> for SenderActor {
    fn on(&mut self, Offer { loan, more }: Offer, ctx: &mut Context<Self>) {
        self.ring.extend(more);
        if !self.is_up() {
            loan.give_back(&"the connection was lost before the batch was sent".into());
            // With `more` it stands in the ring, and nobody else may come along.
            return self.pump(ctx);
        }
        self.request_sizing.lent(loan.len());
        self.taken.push_back(loan);
        // More partitions may lend by then.
        self.wait_a_turn(0, ctx);
    }
}

impl On<WakeSender> for SenderActor {
    fn on(&mut self, _: WakeSender, ctx: &mut Context<Self>) {
        self.pump(ctx);
    }
}

impl On<Tick> for SenderActor {
    fn on(&mut self, _: Tick, ctx: &mut Context<Self>) {
        self.alarm.rang();
        let now = now();
        let timeout = self.rules.request_timeout;
        if let Some(at) = self.in_flight.deadline(timeout) {
            // With acks=0 it is the socket that takes too long: what is written is not kept.
            if at <= now {
                let endpoint = self.endpoint.clone();
                let error = NetError::RequestTimeout {
                    endpoint,
                    api: Api::Produce,
                    after: timeout,
                };
                return self.lost(&error, ctx);
            }
            self.set_alarm(at, ctx);
        } else if let (Link::Up { .. }, Some(idle)) = (&self.link, self.rules.max_idle) {
            let at = self.last_used + idle;
            if at <= now && self.taken.is_empty() && !self.turn && self.ring.is_empty() {
                tracing::debug!(node = self.node, "closing an idle connection");
                self.task.take().map(|task| ctx.cancel_future(task));
                self.outbox = None;
                self.link = Link::Down;
                self.number += 1;
            } else {
                self.set_alarm(at.max(now + IDLE_LOOK), ctx);
            }
        }
        self.pump(ctx);
    }
}

impl Handler<Stop> for SenderActor {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}

impl Handler<GetBrokerFigures> for SenderActor {
    type Result = MessageResult<GetBrokerFigures>;

    fn handle(&mut self, _: GetBrokerFigures, _: &mut Context<Self>) -> Self::Result {
        MessageResult(BrokerFigures {
            node: self.node,
            address: self.endpoint.to_string(),
            connected: matches!(self.link, Link::Up { .. }),
            requests_in_flight: self.in_flight.len(),
            throttled: self.throttled_until.is_some_and(|until| until > now()),
            last_error: self.last_error.as_deref().map(str::to_owned),
        })
    }
}
