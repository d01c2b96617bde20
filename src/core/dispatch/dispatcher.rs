//! Decides what a sender sends, and when. `asking.rs` decides which partitions it asks for batches.

mod asking;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use uuid::Uuid;

use super::link_state::{Connect, Ended, LinkRules, LinkState};
use super::{
    Demand, Gate, InFlight, Loan, LoanHome, OutgoingBatch, OutgoingRequest, ReadyHandle,
    ReadyQueue, Request, RequestSizing, UnsaidLimit, arrange, encode, gather, match_responses,
    tells_of_all,
};
use crate::core::acks::Acks;
use crate::core::ledger::{Attempt, Report};
use crate::core::memory::Shelf;
use crate::core::record::TopicPartition;
use crate::core::wire::{self, Api, LeaderHint, Node, ProduceResponse, Versions, WireError};

/// The configuration that applies to senders.
#[derive(Debug, Clone)]
pub(crate) struct DispatchRules {
    pub client_id: String,
    /// Whom brokers take this client for, if that is known.
    pub principal: Option<Arc<str>>,
    pub acks: Acks,
    /// The oldest version of Produce that can carry the records.
    pub oldest_produce: i16,
    /// Whose transactions the batches are part of, if they are of any.
    pub transactional_id: Option<Arc<str>>,
    pub max_in_flight: usize,
    pub max_request_size: usize,
    pub batch_size: usize,
    pub linger: Duration,
    pub request_timeout: Duration,
    pub link: LinkRules,
}

/// When a connection is checked again whose idle time is over but that still has something to do.
const IDLE_CHECK: Duration = Duration::from_secs(1);

/// When an open batch may be lent before it is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BeforeDue {
    Never,
    /// If it is still waited for.
    Awaited,
    /// As piggyback: it goes along in a request that is sent anyway.
    Always,
}

/// What the sender's actor has to do. The order of actions matters.
pub(crate) enum Action<P> {
    /// Asks a partition for batches, at most this many.
    Take {
        partition: Arc<ReadyHandle<P>>,
        batches: usize,
        open: BeforeDue,
    },
    /// Wakes the partition: its open batch is due, but the sender cannot ask for it soon.
    Wake(Arc<ReadyHandle<P>>),
    /// Tells the partition whether it is in the ready queue.
    TellQueued(Arc<ReadyHandle<P>>, bool),
    /// Tells the partition what keeps its batches from being sent.
    TellBlocked(Arc<ReadyHandle<P>>, Arc<str>),
    /// Tells the partition that the broker cannot take its batches, and that it is not in the ready
    /// queue any more.
    Refuse(Arc<ReadyHandle<P>>, Arc<str>),
    /// Lets the other actors run once, then calls [`Dispatcher::turn_over`].
    Yield,
    Connect(Connect),
    Disconnect,
    Write(OutgoingRequest),
    /// Calls [`Dispatcher::tick`] at this time.
    Alarm(Instant),
    /// A response names a new leader (KIP-951).
    LeaderMoved {
        topic_partition: TopicPartition,
        topic_id: Uuid,
        leader: LeaderHint,
        nodes: Vec<Node>,
    },
    /// The view of the cluster may be out of date.
    RefreshMetadata,
}

/// Why a connection cannot be trusted any more.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Wire(WireError),
    /// A response is not for the oldest request.
    Correlation {
        expected: Option<i32>,
        got: i32,
    },
    RequestTimeout,
}

impl From<WireError> for Fault {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

/// What is measured of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Response {
    pub latency: Duration,
    pub throttle: Duration,
}

/// Makes the decisions of one sender. Its methods queue [`Action`]s, which the sender's actor takes
/// by [`next_action`](Self::next_action).
///
/// Invariants:
/// - a partition that announced itself is in `ready`, is asked, or is told that it is no longer in
///   the queue;
/// - a batch that was lent is in `taken`, in a request in flight, or back at its partition. A loan
///   goes back when it is dropped;
/// - while `yielding`, no partition is asked and nothing is sent. So a request waits for one turn
///   of the other actors at most.
pub(crate) struct Dispatcher<P: LoanHome> {
    rules: DispatchRules,
    link: LinkState,
    /// Why nothing is sent, if the sender was given up or retired. The application can restart it.
    stopped: Option<Arc<str>>,
    /// It tells whether memory is used up.
    shelf: Arc<Shelf>,
    /// Where callers and partitions list the partitions that have batches.
    queue: Arc<ReadyQueue<P>>,
    demand: Demand,
    /// The sender's own end of the ready queue: partitions that have a batch to take, in the order
    /// in which they will be asked.
    ready: VecDeque<Arc<ReadyHandle<P>>>,
    /// At this time the partitions in `ready` have to be told that they are in it.
    unaware_until: Option<Instant>,
    /// Lent batches that are not in a request yet.
    taken: VecDeque<Box<Loan<P>>>,
    /// The other actors run once before anything more is done.
    yielding: bool,
    sizing: RequestSizing,
    unsaid_limit: UnsaidLimit,
    in_flight: InFlight<Box<Loan<P>>>,
    actions: VecDeque<Action<P>>,
}

impl<P: LoanHome> Dispatcher<P> {
    pub fn new(
        rules: DispatchRules,
        shelf: Arc<Shelf>,
        (queue, demand): (Arc<ReadyQueue<P>>, Demand),
        now: Instant,
    ) -> Self {
        Self {
            link: LinkState::new(&rules.link, now),
            stopped: None,
            shelf,
            queue,
            demand,
            ready: VecDeque::new(),
            unaware_until: None,
            taken: VecDeque::new(),
            yielding: false,
            sizing: RequestSizing::new(
                rules.max_request_size,
                rules.batch_size,
                !rules.linger.is_zero(),
            ),
            unsaid_limit: UnsaidLimit::default(),
            in_flight: InFlight::new(rules.max_in_flight),
            actions: VecDeque::new(),
            rules,
        }
    }

    /// Takes the next action.
    pub fn next_action(&mut self) -> Option<Action<P>> {
        self.actions.pop_front()
    }

    /// A partition has announced that it has a batch to take.
    pub fn ready(&mut self, partition: Arc<ReadyHandle<P>>, now: Instant) {
        self.ready.push_back(partition);
        self.dispatch(now);
    }

    /// A partition has lent a batch. With `more`, it has more batches and goes back into the ready
    /// queue.
    pub fn offered(&mut self, loan: Box<Loan<P>>, more: Option<Arc<ReadyHandle<P>>>, now: Instant) {
        self.ready.extend(more);
        if !self.link.is_up() {
            loan.give_back(&"the connection was lost before the batch was sent".into());
            // With `more`, the partition is in the ready queue now. No other event may follow that
            // would take it from there.
            return self.dispatch(now);
        }
        self.sizing.lent(loan.len());
        self.taken.push_back(loan);
        // Other partitions may lend batches in the same turn.
        self.yield_once(0);
    }

    /// The other actors have run once. What they have lent is sent before others are asked.
    pub fn turn_over(&mut self, now: Instant) {
        self.yielding = false;
        self.work(true, now);
        self.dispatch(now);
    }

    /// Does what can be done now: connects, asks partitions, sends requests. Then sets the demand:
    /// how many bytes it could send besides.
    pub fn dispatch(&mut self, now: Instant) {
        self.link.throttled(now);
        // This comes first, in whatever state the connection is. The partition may not know of its
        // open batch, which also has to expire in time.
        self.queue_lingered(now);
        loop {
            self.queue.drain_into(&mut self.ready);
            if !self.yielding {
                self.work(false, now);
            }
            let heeds_awaited = self.is_at_rest() || self.may_connect();
            if !self.queue.park(self.worth_waking(), heeds_awaited) {
                break;
            }
        }
        self.tell_unaware(now);
        if !self.is_free() {
            self.demand.set(0);
        } else if !self.yielding {
            let slots = self.in_flight.slots();
            self.demand.set(self.sizing.requests(slots));
        }
    }

    /// An alarm is over. Its reason may be gone, so every deadline is checked. An error means that
    /// the connection has to end.
    pub fn tick(&mut self, now: Instant) -> Result<(), Fault> {
        if let Some(at) = self.in_flight.deadline(self.rules.request_timeout) {
            // With `acks=0`, only requests that are not written yet are kept. Then it is the socket
            // that takes too long.
            if at <= now {
                return Err(Fault::RequestTimeout);
            }
            self.alarm(at);
        } else if let Some(at) = self.link.idle_at() {
            if at <= now && self.taken.is_empty() && !self.yielding && self.ready.is_empty() {
                self.link.disconnect();
                self.actions.push_back(Action::Disconnect);
            } else {
                self.alarm(at.max(now + IDLE_CHECK));
            }
        }
        self.dispatch(now);
        Ok(())
    }

    /// The connection is up. An error means that the broker and this client have no version of
    /// Produce in common.
    pub fn connected(&mut self, versions: &Versions, now: Instant) -> Result<(), Fault> {
        let (_, newest) = Api::Produce.ours();
        let version = versions.choose(Api::Produce, self.rules.oldest_produce, newest);
        let version = version.inspect_err(|_| self.link.unusable())?;
        if let Some(idle) = self.link.connected(version, now) {
            self.alarm(idle);
        }
        self.dispatch(now);
        Ok(())
    }

    /// The kernel has taken `count` more requests, oldest first. With `acks=0` they are done,
    /// because no response will come.
    pub fn wrote(&mut self, count: usize, now: Instant) {
        self.in_flight.wrote(count);
        if self.rules.acks == Acks::None {
            while let Some(request) = self.in_flight.pop_written() {
                let loans = request.loans.into_iter();
                loans.for_each(|loan| loan.settle(Report::Unasked));
            }
        }
        self.dispatch(now);
    }

    /// Whether requests wait for responses.
    pub fn wants_responses(&self) -> bool {
        self.rules.acks != Acks::None
    }

    /// A response has arrived that nobody asked for. Some brokers respond even with `acks=0`.
    pub fn response_unasked(&mut self, frame: &Bytes) -> Result<(), Fault> {
        let got = wire::correlation_id(frame)?;
        let known = self.in_flight.answered_unasked(got);
        known.map_err(|unexpected| Fault::Correlation {
            expected: unexpected.expected,
            got,
        })
    }

    /// A response has arrived. Its batches go back to their partitions with their results.
    pub fn response(&mut self, frame: Bytes, now: Instant) -> Result<Response, Fault> {
        let got = wire::correlation_id(&frame)?;
        let request = self.in_flight.answered(got);
        let request = request.map_err(|unexpected| Fault::Correlation {
            expected: unexpected.expected,
            got,
        })?;
        // Any error from here on drops the loans. They go back as written, without a response.
        let version = request.version;
        let (_, body) = wire::split_response(Api::Produce, version, frame)?;
        let response = ProduceResponse::decode(version, &body)?;
        // An answer that was misread could take a batch for written.
        if response.left > 0 && !tells_of_all(&request.loans, &response.partitions) {
            return Err(Fault::Wire(WireError::LeftOver {
                message: "Produce answer",
                left: response.left,
            }));
        }
        self.unsaid_limit.answered(request.bytes);
        let times = Response {
            latency: now.saturating_duration_since(request.sent_at),
            throttle: response.throttle,
        };
        if let Some(until) = self.link.responded(response.throttle, now) {
            self.in_flight.postpone(response.throttle);
            self.alarm(until);
        }
        self.settle(request, response);
        Ok(times)
    }

    /// Gives the batches of a request back with the results in its response.
    fn settle(&mut self, request: Request<Box<Loan<P>>>, response: ProduceResponse) {
        let ProduceResponse {
            partitions, nodes, ..
        } = response;
        for (loan, result) in match_responses(request.loans, partitions) {
            let Some(result) = result else {
                let partition = &loan.topic_partition;
                tracing::warn!(%partition, "the response leaves a batch out");
                loan.give_back(&"the broker's response left the batch out".into());
                continue;
            };
            if let Some(leader) = result.leader {
                self.actions.push_back(Action::LeaderMoved {
                    topic_partition: loan.topic_partition.clone(),
                    topic_id: loan.topic_id(),
                    leader,
                    nodes: nodes.clone(),
                });
            }
            let mut attempt = Attempt::from(result);
            attempt.error = attempt.error.of(&self.rules.principal);
            loan.settle(Report::Answered(attempt));
        }
    }

    /// The connection is gone. The batches of its requests go back, in their order. `closed`: the
    /// broker closed it.
    pub fn lost(&mut self, error: &Arc<str>, closed: bool, now: Instant) -> Ended {
        self.actions.push_back(Action::Disconnect);
        let idle = self.in_flight.is_empty() && self.taken.is_empty();
        let error = &match closed {
            true => self.unsaid_limit.closed(error, self.in_flight.largest()),
            false => Arc::clone(error),
        };
        let ended = self.link.lost(error, idle, closed, now);
        self.queue.drain_into(&mut self.ready);
        self.tidy_ready();
        if ended.refused {
            // A partition that keeps its batches announces itself again.
            let refused = self.ready.drain(..);
            let refused = refused.map(|partition| Action::Refuse(partition, Arc::clone(error)));
            self.actions.extend(refused);
        }
        for partition in &self.ready {
            let blocked = Action::TellBlocked(Arc::clone(partition), Arc::clone(error));
            self.actions.push_back(blocked);
        }
        for request in self.in_flight.drain() {
            let loans = request.loans.into_iter();
            loans.for_each(|loan| loan.give_back(error));
        }
        for loan in self.taken.drain(..) {
            loan.give_back(error);
        }
        if !idle || !ended.was_up {
            self.actions.push_back(Action::RefreshMetadata);
        }
        self.dispatch(now);
        ended
    }

    /// The broker has another address. The connection to the old one is gone.
    pub fn moved(&mut self, now: Instant) {
        self.link.moved();
        self.dispatch(now);
    }

    /// Sends nothing from now on, because of `why`.
    pub fn stop(&mut self, why: Arc<str>) {
        self.stopped = Some(why);
    }

    /// Sends again after [`stop`](Self::stop).
    pub fn resume(&mut self, now: Instant) {
        self.stopped = None;
        self.dispatch(now);
    }

    /// Called after a panic, which may have interrupted anything. Drops the actions that are not
    /// done, and tells the partitions that they are not in the queue. So they announce themselves
    /// again.
    pub fn reset(&mut self) {
        self.yielding = false;
        self.actions.clear();
        self.clear_ready();
    }

    /// Called when messages may have been lost. Has the partitions announce themselves again, and
    /// asks for its alarms again.
    pub fn resync(&mut self, now: Instant) {
        self.clear_ready();
        let deadline = self.in_flight.deadline(self.rules.request_timeout);
        let throttled = self.link.throttled_until();
        deadline.into_iter().chain(throttled).for_each(|at| {
            self.actions.push_back(Action::Alarm(at));
        });
        self.dispatch(now);
    }

    /// Whether this is the number of the present connection. Events of other connections are
    /// ignored.
    pub fn is_current(&self, number: u64) -> bool {
        self.link.is_current(number)
    }

    /// The state of the connection.
    pub fn link(&self) -> &LinkState {
        &self.link
    }

    /// The number of requests in flight.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// The number of lent batches, in requests or not.
    pub fn loans(&self) -> usize {
        self.in_flight.loans() + self.taken.len()
    }

    /// Whether nothing is under way, so that what is waited for goes at once.
    fn is_at_rest(&self) -> bool {
        let is_idle = self.in_flight.is_empty() && self.taken.is_empty() && !self.yielding;
        is_idle && self.is_free() && self.stopped.is_none()
    }

    /// Whether there is no connection, and nobody to make one for yet.
    fn may_connect(&self) -> bool {
        self.link.is_down() && self.ready.is_empty() && self.stopped.is_none()
    }

    /// Whether a request could be sent at once.
    fn is_free(&self) -> bool {
        self.link.is_up() && self.link.throttled_until().is_none() && self.in_flight.has_room()
    }

    /// How many bytes of full batches are enough to wake the sender.
    fn worth_waking(&self) -> usize {
        // The sender checks for full batches by itself soon.
        let at_work = match self.link.is_up() {
            _ if self.stopped.is_some() => false,
            true => self.yielding || !self.is_free(),
            // While it connects, an event will follow. If the connection is down and partitions are
            // in the queue, an alarm is set for the next attempt. Without partitions, nothing
            // follows.
            false => !self.link.is_down() || !self.ready.is_empty(),
        };
        let in_flight = !self.in_flight.is_empty();
        let slots = self.in_flight.slots();
        self.sizing.worth_waking(slots, at_work, in_flight)
    }

    /// Sends the lent batches, and asks for more. With `lent`, all lent batches are sent before
    /// partitions are asked.
    fn work(&mut self, mut lent: bool, now: Instant) {
        if self.may_connect() {
            self.queue_awaited(now);
        }
        if self.is_at_rest() && self.ask_awaited() {
            return match self.ask() {
                0 => self.yield_to_others(),
                asked => self.yield_once(asked),
            };
        }
        if self.ready.is_empty() && self.taken.is_empty() {
            return;
        }
        if let Some(why) = &self.stopped {
            for partition in self.ready.drain(..) {
                let blocked = Action::TellBlocked(partition, Arc::clone(why));
                self.actions.push_back(blocked);
            }
            return;
        }
        if self.link.is_down() {
            return self.connect(now);
        }
        if !self.link.is_up() {
            return;
        }
        if let Some(until) = self.link.throttled_until() {
            return self.alarm(until);
        }
        while self.in_flight.has_room() {
            lent &= !self.taken.is_empty();
            let asked = if lent { 0 } else { self.ask() };
            if asked > 0 {
                return self.yield_once(asked);
            }
            if self.taken.is_empty() {
                return;
            }
            self.send(now);
        }
    }

    /// Connects, or sets an alarm for when that is allowed. Does neither if no partition waits.
    fn connect(&mut self, now: Instant) {
        self.ready.retain(|partition| partition.is_attached());
        if self.ready.is_empty() {
            return;
        }
        match self.link.connect(now) {
            Ok(connect) => self.actions.push_back(Action::Connect(connect)),
            Err(at) => self.alarm(at),
        }
    }

    /// Lets the other actors run once, before the next request is sent. In this turn, every
    /// partition that is able to can lend its batches. The sender never waits longer for them.
    /// `asked` is how many batches it has asked for.
    fn yield_once(&mut self, asked: usize) {
        if !self.yielding {
            self.ask_for_piggyback(asked);
            self.yield_to_others();
        }
    }

    /// The same, for open batches that are waited for. Others stay: a caller that awaits its records one
    /// after the other would have everybody's batches go with each of them.
    fn yield_to_others(&mut self) {
        self.yielding = true;
        self.actions.push_back(Action::Yield);
    }

    /// Sends one request with lent batches.
    fn send(&mut self, now: Instant) {
        let Some(version) = self.link.version() else {
            return;
        };
        let target = self.sizing.request(self.in_flight.slots());
        let mut loans = gather(&mut self.taken, target);
        // A producer has one transaction at a time, so all of them have the same.
        let protocol = loans.first().and_then(|loan| loan.protocol());
        let newest = protocol.map_or(version, |it| version.min(it.versions(Api::Produce).1));
        let version = arrange(&mut loans, newest);
        let transactional_id = self.rules.transactional_id.as_deref();
        let encoded = encode(
            &loans,
            version,
            self.in_flight.next_correlation_id(),
            &self.rules.client_id,
            transactional_id.filter(|_| protocol.is_some()),
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
        let bytes = loans.iter().map(|loan| loan.len()).sum();
        let records: Vec<_> = loans
            .iter()
            .map(|loan| Arc::clone(loan.records()))
            .collect();
        records.iter().for_each(|records| records.leaves());
        for loan in &mut loans {
            loan.goes_with(&gate);
        }
        self.link.used(now);
        self.in_flight.push(version, loans, bytes, now);
        let request = OutgoingRequest {
            envelope,
            records,
            gate,
            is_answered: self.wants_responses(),
        };
        self.actions.push_back(Action::Write(request));
        self.alarm(now + self.rules.request_timeout);
    }

    fn alarm(&mut self, at: Instant) {
        self.actions.push_back(Action::Alarm(at));
    }
}

impl<P: LoanHome> Drop for Dispatcher<P> {
    /// Without a demand, partitions lend nothing more.
    fn drop(&mut self) {
        self.demand.set(0);
    }
}

#[cfg(test)]
mod tests;
