//! The SenderActor: one per broker. Gathers ready batches of many partitions into requests.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use bytes::Bytes;
use futures_util::FutureExt;
use tokio::sync::mpsc::{self, UnboundedSender};

use super::clock::{Alarm, ClockActor, Sleeper, Stop, Tick};
use super::guard::{self, Guard, Guarded, On, Revisit, guarded};
use super::loan::{Home, Loan};
use super::metadata::{Hint, MetadataActor, RefreshMetadata};
use super::now;
use super::partition::{Retire, Revive, Trouble};
use crate::config::Acks;
use crate::figures::BrokerFigures;
use crate::meters::NodeMeters;
use crate::net::{self, Backoff, ConnectOptions, Endpoint, Gate, LinkEvent, NetError, Outbound};
use crate::panics;
use crate::partition::Report;
use crate::sender::{Appetite, InFlight, Parcel, Request, arrange, encode, gather, match_answers};
use crate::wire::{self, Api, ProduceAnswer, Versions};

/// A partition has a batch to take. Said once, on the edge; the sender takes when it can send.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Ready(pub Home);

/// A partition that was ready is led by another broker now.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct NotReady(pub Home);

/// Asks a partition for one batch.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Take {
    /// A partition that knows another incarnation as its leader's gives nothing.
    pub incarnation: u64,
}

/// A partition's answer to [`Take`], or a batch lent unasked, since the sender has an [`Appetite`].
/// With `more` the partition stays in the ring.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Offer {
    pub from: Home,
    pub loan: Option<Loan>,
    pub more: bool,
}

/// The broker has moved to another address.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct MoveTo(pub Endpoint);

/// The connection of this number says something.
#[derive(Message)]
#[rtype(result = "()")]
struct FromLink {
    number: u64,
    event: LinkEvent,
}

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
    clock: Addr<ClockActor>,
    metadata: Addr<MetadataActor>,
    meters: NodeMeters,

    /// Partitions with something to take, in the order of their turns.
    ring: VecDeque<Home>,
    /// Batches taken and not yet in a request.
    taken: VecDeque<Loan>,
    /// The length of the batches taken lately.
    typical: usize,
    /// Whoever has something gets a turn of the arbiter to lend it.
    turn: bool,
    appetite: Appetite,

    link: Link,
    number: u64,
    outbox: Option<UnboundedSender<Outbound>>,
    task: Option<SpawnHandle>,
    in_flight: InFlight<Loan>,
    backoff: Backoff,
    setup_timeout: Backoff,
    not_before: Option<Instant>,
    throttled_until: Option<Instant>,
    last_used: Instant,
    last_error: Option<Arc<str>>,
    alarm: Alarm,
}

/// Partitions asked at once, at most: a bound on the work between two looks at the mailbox.
const MAX_ASKED: usize = 256;

/// Bytes gathered for a request while others can follow it. With less in flight, less memory is in
/// use at a time, and more of it stays in the processor's caches; the last request that the broker
/// has not answered may be as large as it gets, so that a distant one gets no less.
const PORTION: usize = 128 << 10;

/// A connection that is past its idle time and yet has something to do is looked at again later.
const IDLE_LOOK: Duration = Duration::from_secs(1);

impl SenderActor {
    pub fn new(
        (node, endpoint): (i32, Endpoint),
        (incarnation, appetite): (u64, Appetite),
        rules: SenderRules,
        clock: Addr<ClockActor>,
        metadata: Addr<MetadataActor>,
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
            clock,
            metadata,
            meters,
            ring: VecDeque::new(),
            taken: VecDeque::new(),
            typical: rules.batch_size,
            turn: false,
            appetite,
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
        }
    }

    fn set_alarm(&mut self, at: Instant, ctx: &Context<Self>) {
        self.alarm
            .set(&self.clock, at, || Sleeper::Sender(ctx.address()));
    }

    /// Does whatever can be done now: connect, ask partitions, send. Then says what it would send
    /// besides.
    fn pump(&mut self, ctx: &mut Context<Self>) {
        self.throttled_until.take_if(|until| *until <= now());
        if !self.turn {
            self.work(false, ctx);
        }
        let free = self.is_up() && self.throttled_until.is_none() && self.in_flight.has_room();
        if !free {
            self.appetite.set(0);
        } else if !self.turn {
            self.appetite.set(self.portion());
        }
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
            for partition in self.ring.drain(..) {
                partition.do_send(Trouble(Arc::clone(why)));
            }
            return;
        }
        match (&self.link, self.throttled_until) {
            (Link::Connecting, _) => return,
            (Link::Down, _) => return self.connect(now(), ctx),
            (Link::Up { .. }, Some(until)) => return self.set_alarm(until, ctx),
            (Link::Up { .. }, None) => {}
        }
        while self.is_up() && self.in_flight.has_room() {
            let gathered = std::mem::take(&mut heard) && !self.taken.is_empty();
            if !gathered && self.ask() {
                return self.wait_a_turn(ctx);
            }
            if self.taken.is_empty() {
                return;
            }
            self.send(ctx);
        }
    }

    /// How many bytes to gather for one request.
    fn portion(&self) -> usize {
        match self.in_flight.slots() {
            0 | 1 => self.rules.max_request_size,
            _ => self.rules.max_request_size.min(PORTION),
        }
    }

    /// Asks partitions in the ring for as many batches as are likely to make a portion with what is
    /// there.
    fn ask(&mut self) -> bool {
        // What comes too much waits for the next request.
        let fitting = (self.portion() / self.typical.max(1)).clamp(1, MAX_ASKED);
        let ask = fitting
            .saturating_sub(self.taken.len())
            .min(self.ring.len());
        let incarnation = self.incarnation;
        for partition in self.ring.drain(..ask) {
            partition.do_send(Take { incarnation });
        }
        ask > 0
    }

    /// A gather never waits for a partition: yielding once gives each that is alive its turn.
    fn wait_a_turn(&mut self, ctx: &mut Context<Self>) {
        if !std::mem::replace(&mut self.turn, true) {
            let turn = tokio::task::yield_now();
            guard::spawn(ctx, turn, |sender: &mut Self, (), ctx| {
                sender.turn = false;
                sender.work(true, ctx);
                sender.pump(ctx);
            });
        }
    }

    fn connect(&mut self, now: Instant, ctx: &mut Context<Self>) {
        if let Some(at) = self.not_before.filter(|at| *at > now) {
            return self.set_alarm(at, ctx);
        }
        self.number += 1;
        let (number, me) = (self.number, ctx.address());
        let (outbox, inbox) = mpsc::unbounded_channel();
        let tell = {
            let me = me.clone();
            move |event| me.do_send(FromLink { number, event })
        };
        let setup_timeout = self.setup_timeout.next();
        let options = ConnectOptions {
            setup_timeout,
            ..self.rules.connect.clone()
        };
        let endpoint = self.endpoint.clone();
        let link = async move {
            #[cfg(test)]
            guard::faults::strike::<Self, guard::faults::Link>();
            net::run_link(endpoint, options, inbox, tell).await;
        };
        let endpoint = self.endpoint.clone();
        let task = AssertUnwindSafe(link).catch_unwind().map(move |ended| {
            if let Err(panic) = ended {
                let why = panics::message(&*panic).into();
                let event = LinkEvent::Lost(NetError::Panicked { endpoint, why });
                me.do_send(FromLink { number, event });
            }
        });
        self.task = Some(ctx.spawn(task.into_actor(self)));
        self.outbox = Some(outbox);
        self.link = Link::Connecting;
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
        let mut loans = gather(&mut self.taken, self.rules.max_request_size);
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
        let bytes = loans.iter().map(Parcel::len).sum();
        let records = loans
            .iter()
            .map(|loan| Arc::clone(loan.records()))
            .collect();
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

    fn answer(&mut self, frame: Bytes, ctx: &mut Context<Self>) {
        let error = match self.settle(frame, ctx) {
            Ok(()) => return self.pump(ctx),
            Err(error) => error,
        };
        tracing::error!(%error, node = self.node, "the connection is not to be trusted any more");
        self.lost(&error, ctx);
    }

    fn settle(&mut self, frame: Bytes, ctx: &mut Context<Self>) -> Result<(), NetError> {
        let endpoint = &self.endpoint;
        let wire_error = |error| NetError::wire(endpoint, error);
        let got = wire::correlation_id(&frame).map_err(wire_error)?;
        let request = self
            .in_flight
            .answered(got)
            .map_err(|unexpected| NetError::Correlation {
                endpoint: endpoint.clone(),
                expected: unexpected.expected.unwrap_or(-1),
                got,
            })?;
        let version = request.version;
        // Whatever goes wrong from here on drops the loans: they go back as written, unanswered.
        let (_, body) = wire::split_answer(Api::Produce, version, frame).map_err(wire_error)?;
        let answer = ProduceAnswer::decode(version, &body).map_err(wire_error)?;
        let now = now();
        self.last_used = now;
        self.backoff.reset();
        self.last_error = None;
        self.meters.answered(
            now.saturating_duration_since(request.sent_at),
            answer.throttle,
        );
        if !answer.throttle.is_zero() {
            self.throttled_until = Some(now + answer.throttle);
            self.in_flight.postpone(answer.throttle);
            self.set_alarm(now + answer.throttle, ctx);
        }
        self.settle_each(request, answer);
        Ok(())
    }

    fn settle_each(&self, request: Request<Loan>, answer: ProduceAnswer) {
        let ProduceAnswer {
            partitions, nodes, ..
        } = answer;
        for (loan, answer) in match_answers(request.loans, partitions) {
            let Some(answer) = answer else {
                tracing::warn!(partition = %loan.topic_partition, "the answer leaves a batch out");
                loan.give_back(&"the broker's answer left the batch out".into());
                continue;
            };
            if let Some(leader) = answer.leader {
                self.metadata.do_send(Hint {
                    topic_partition: loan.topic_partition.clone(),
                    leader,
                    nodes: nodes.clone(),
                });
            }
            loan.settle(Report::Answered(answer.into()));
        }
    }

    /// The connection is gone: what was on it goes back, in the order of its batches.
    fn lost(&mut self, error: &NetError, ctx: &mut Context<Self>) {
        if let Some(task) = self.task.take() {
            ctx.cancel_future(task);
        }
        self.outbox = None;
        let was_up = matches!(self.link, Link::Up { .. });
        self.link = Link::Down;
        self.number += 1; // what the old connection still says is not heard
        let idle = self.in_flight.is_empty() && self.taken.is_empty();
        let text: Arc<str> = error.to_string().into();
        if was_up && idle && error.is_closed() {
            tracing::debug!(node = self.node, %error, "an idle connection ended");
        } else {
            if self.last_error.as_ref() != Some(&text) {
                tracing::warn!(node = self.node, %error, "the connection to a broker failed");
            }
            self.not_before = Some(now() + self.backoff.next());
            self.last_error = Some(Arc::clone(&text));
        }
        self.meters.lost(self.in_flight.len());
        for partition in &self.ring {
            partition.do_send(Trouble(Arc::clone(&text)));
        }
        for request in self.in_flight.drain() {
            request
                .loans
                .into_iter()
                .for_each(|loan| loan.give_back(&text));
        }
        for loan in self.taken.drain(..) {
            loan.give_back(&text);
        }
        if !idle || !was_up {
            self.metadata.do_send(RefreshMetadata);
        }
        self.pump(ctx);
    }
}

impl Actor for SenderActor {
    type Context = Context<Self>;
}

impl Drop for SenderActor {
    /// Nothing is to be lent to it any more.
    fn drop(&mut self) {
        self.appetite.set(0);
    }
}

guarded!(SenderActor: Ready, NotReady, Offer, FromLink, MoveTo, Tick, Revisit, Revive, Retire);

impl Guarded for SenderActor {
    fn guard(&mut self) -> &mut Guard {
        &mut self.guard
    }

    /// The connection cannot be trusted any more. Every loan goes back, and the partitions, told to
    /// revisit, announce themselves again.
    fn restart(&mut self, ctx: &mut Context<Self>) -> usize {
        let loans = self.in_flight.loans() + self.taken.len();
        self.turn = false;
        self.ring.clear();
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

impl On<Revisit> for SenderActor {
    fn on(&mut self, _: Revisit, ctx: &mut Context<Self>) {
        self.alarm = Alarm::default();
        // Who is still in the ring announces himself again, and must not stand there twice.
        self.ring.clear();
        if let Some(at) = self.in_flight.deadline(self.rules.request_timeout) {
            self.set_alarm(at, ctx);
        }
        self.pump(ctx);
    }
}

impl On<Revive> for SenderActor {
    fn on(&mut self, _: Revive, ctx: &mut Context<Self>) {
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
    fn on(&mut self, Ready(partition): Ready, ctx: &mut Context<Self>) {
        self.ring.push_back(partition);
        self.pump(ctx);
    }
}

impl On<NotReady> for SenderActor {
    fn on(&mut self, NotReady(partition): NotReady, _: &mut Context<Self>) {
        // Else a broker that is gone would be dialled for ever on behalf of those that left it.
        self.ring.retain(|waiting| *waiting != partition);
    }
}

impl On<Offer> for SenderActor {
    fn on(&mut self, Offer { from, loan, more }: Offer, ctx: &mut Context<Self>) {
        if more {
            self.ring.push_back(from);
        }
        if let Some(loan) = loan {
            if !self.is_up() {
                return loan.give_back(&"the connection was lost before the batch was sent".into());
            }
            self.typical = (7 * self.typical + loan.len()) / 8;
            self.taken.push_back(loan);
            // More partitions may lend by then.
            self.wait_a_turn(ctx);
        }
    }
}

impl On<FromLink> for SenderActor {
    fn on(&mut self, FromLink { number, event }: FromLink, ctx: &mut Context<Self>) {
        if number != self.number {
            return;
        }
        match event {
            LinkEvent::Connected(versions) => {
                tracing::debug!(node = self.node, endpoint = %self.endpoint, "connected");
                self.link = Link::Up { versions };
                self.setup_timeout.reset();
                self.not_before = None;
                self.last_used = now();
                if let Some(idle) = self.rules.max_idle {
                    self.set_alarm(self.last_used + idle, ctx);
                }
                self.pump(ctx);
            }
            LinkEvent::Wrote(count) => {
                self.in_flight.wrote(count);
                if self.rules.acks == Acks::None {
                    while let Some(request) = self.in_flight.pop_written() {
                        self.meters.lost(1);
                        request
                            .loans
                            .into_iter()
                            .for_each(|loan| loan.settle(Report::Unasked));
                    }
                }
                self.pump(ctx);
            }
            // Some brokers answer acks=0 too; nothing waits for that.
            LinkEvent::Answer(_) if self.rules.acks == Acks::None => {}
            LinkEvent::Answer(frame) => self.answer(frame, ctx),
            LinkEvent::Lost(error) => self.lost(&error, ctx),
        }
    }
}

impl On<MoveTo> for SenderActor {
    fn on(&mut self, MoveTo(endpoint): MoveTo, ctx: &mut Context<Self>) {
        if endpoint != self.endpoint {
            tracing::info!(node = self.node, from = %self.endpoint, to = %endpoint, "a broker moved");
            let error = NetError::Moved {
                from: self.endpoint.clone(),
                to: endpoint.clone(),
            };
            self.endpoint = endpoint;
            self.lost(&error, ctx);
            self.not_before = None;
            self.pump(ctx);
        }
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

/// Asks a sender for its figures.
#[derive(Message)]
#[rtype(result = "BrokerFigures")]
pub(crate) struct SenderCensus;

impl Handler<SenderCensus> for SenderActor {
    type Result = MessageResult<SenderCensus>;

    fn handle(&mut self, _: SenderCensus, _: &mut Context<Self>) -> Self::Result {
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
