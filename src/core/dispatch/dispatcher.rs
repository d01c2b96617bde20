//! What a sender sends, and when. `asking.rs` has whom it asks for batches.

mod asking;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::link_state::{Connect, Ended, LinkRules, LinkState};
use super::{
    Demand, Gate, InFlight, Loan, LoanHome, OutgoingBatch, OutgoingRequest, ReadyHandle,
    ReadyQueue, Request, RequestSizing, arrange, encode, gather, match_responses,
};
use crate::core::acks::Acks;
use crate::core::ledger::Report;
use crate::core::memory::Shelf;
use crate::core::record::TopicPartition;
use crate::core::wire::{self, Api, LeaderHint, Node, ProduceResponse, Versions, WireError};

/// What the configuration says to senders.
#[derive(Debug, Clone)]
pub(crate) struct DispatchRules {
    pub client_id: String,
    pub acks: Acks,
    pub max_in_flight: usize,
    pub max_request_size: usize,
    pub batch_size: usize,
    pub linger: Duration,
    pub request_timeout: Duration,
    pub link: LinkRules,
}

/// When a connection is looked at again that is past its idle time and yet has something to do.
const IDLE_LOOK: Duration = Duration::from_secs(1);

/// What the sender is to do for its dispatcher, in this order.
pub(crate) enum Action<P> {
    /// Asks a partition for batches, at most this many; `open` asks for the open one, too.
    Take {
        partition: Arc<ReadyHandle<P>>,
        batches: usize,
        open: bool,
    },
    /// The partition's batch is due and cannot be asked for: the partition has to look itself.
    Wake(Arc<ReadyHandle<P>>),
    /// Tells the partition whether it stands in the ready queue.
    TellQueued(Arc<ReadyHandle<P>>, bool),
    /// Tells the partition what keeps its batches from being sent.
    TellBlocked(Arc<ReadyHandle<P>>, Arc<str>),
    /// Gives the other actors a turn, then calls [`Dispatcher::turn_over`].
    Yield,
    Connect(Connect),
    Disconnect,
    Write {
        request: OutgoingRequest,
        batches: usize,
    },
    /// Calls [`Dispatcher::tick`] then.
    Alarm(Instant),
    /// A response names a new leader (KIP-951).
    LeaderMoved {
        topic_partition: TopicPartition,
        leader: LeaderHint,
        nodes: Vec<Node>,
    },
    /// What is known of the cluster may be old.
    RefreshMetadata,
}

/// Why a connection cannot be trusted any more.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Wire(WireError),
    /// A response that is not for the oldest request.
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

/// The times of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Response {
    pub latency: Duration,
    pub throttle: Duration,
}

/// Decides for one sender. Each method returns nothing but [`Action`]s, which are taken with
/// [`next_action`](Self::next_action).
///
/// Invariants:
/// - a partition that said it is ready stands in `ready`, is asked, or is told otherwise;
/// - a batch that was taken is in `taken`, in a request that is in flight, or has gone back: a loan goes
///   back by being dropped;
/// - while `yielding`, no partition is asked and nothing is sent, so a gather waits for one turn only.
pub(crate) struct Dispatcher<P: LoanHome> {
    rules: DispatchRules,
    link: LinkState,
    /// Given up or retired, and why: nothing is sent until it is restarted by hand.
    stopped: Option<Arc<str>>,
    /// Knows whether memory is used up.
    shelf: Arc<Shelf>,
    queue: Arc<ReadyQueue<P>>,
    demand: Demand,
    /// Partitions with something to take, in the order of their turns.
    ready: VecDeque<Arc<ReadyHandle<P>>>,
    /// From then on partitions are to know that they stand in `ready`.
    unaware_until: Option<Instant>,
    /// Batches taken and not yet in a request.
    taken: VecDeque<Box<Loan<P>>>,
    /// The other actors have their turn.
    yielding: bool,
    sizing: RequestSizing,
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
            in_flight: InFlight::new(rules.max_in_flight),
            actions: VecDeque::new(),
            rules,
        }
    }

    /// What is to be done next.
    pub fn next_action(&mut self) -> Option<Action<P>> {
        self.actions.pop_front()
    }

    /// A partition has something to take.
    pub fn ready(&mut self, partition: Arc<ReadyHandle<P>>, now: Instant) {
        self.ready.push_back(partition);
        self.dispatch(now);
    }

    /// A partition has lent a batch. With `more` it stays in the ready queue.
    pub fn offered(&mut self, loan: Box<Loan<P>>, more: Option<Arc<ReadyHandle<P>>>, now: Instant) {
        self.ready.extend(more);
        if !self.link.is_up() {
            loan.give_back(&"the connection was lost before the batch was sent".into());
            // With `more` the partition stands in the ready queue, and no other may come by.
            return self.dispatch(now);
        }
        self.sizing.lent(loan.len());
        self.taken.push_back(loan);
        // More partitions may lend by the end of the turn.
        self.yield_once(0);
    }

    /// The other actors have had their turn: what they lent goes before others are asked.
    pub fn turn_over(&mut self, now: Instant) {
        self.yielding = false;
        self.work(true, now);
        self.dispatch(now);
    }

    /// Does what can be done now: connect, ask partitions, send. Then sets what it would send besides.
    pub fn dispatch(&mut self, now: Instant) {
        self.link.throttled(now);
        // First of all: records that no other part knows of have to run out of time, too.
        self.queue_lingered(now);
        loop {
            self.queue.drain_into(&mut self.ready);
            if !self.yielding {
                self.work(false, now);
            }
            if !self.queue.park(self.worth_waking()) {
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

    /// A deadline has passed, or none that still counts. An error means that the connection is to end.
    pub fn tick(&mut self, now: Instant) -> Result<(), Fault> {
        if let Some(at) = self.in_flight.deadline(self.rules.request_timeout) {
            // With acks=0 it is the socket that takes too long: what is written is not kept.
            if at <= now {
                return Err(Fault::RequestTimeout);
            }
            self.alarm(at);
        } else if let Some(at) = self.link.idle_at() {
            if at <= now && self.taken.is_empty() && !self.yielding && self.ready.is_empty() {
                self.link.disconnect();
                self.actions.push_back(Action::Disconnect);
            } else {
                self.alarm(at.max(now + IDLE_LOOK));
            }
        }
        self.dispatch(now);
        Ok(())
    }

    /// The connection is up. An error means that the broker does not speak Produce as we do.
    pub fn connected(&mut self, versions: &Versions, now: Instant) -> Result<(), Fault> {
        let version = versions.best(Api::Produce)?;
        if let Some(idle) = self.link.connected(version, now) {
            self.alarm(idle);
        }
        self.dispatch(now);
        Ok(())
    }

    /// So many requests, the oldest that were not yet reported, are with the kernel. With `acks=0`
    /// nothing more will be heard of them.
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

    /// Whether responses are waited for.
    pub fn wants_responses(&self) -> bool {
        self.rules.acks != Acks::None
    }

    /// A response came. Its batches go back with what the broker said of each.
    pub fn response(&mut self, frame: Bytes, now: Instant) -> Result<Response, Fault> {
        let got = wire::correlation_id(&frame)?;
        let request = self.in_flight.answered(got);
        let request = request.map_err(|unexpected| Fault::Correlation {
            expected: unexpected.expected,
            got,
        })?;
        // Whatever goes wrong from here on drops the loans: they go back as written, unanswered.
        let version = request.version;
        let (_, body) = wire::split_response(Api::Produce, version, frame)?;
        let response = ProduceResponse::decode(version, &body)?;
        let times = Response {
            latency: now.saturating_duration_since(request.sent_at),
            throttle: response.throttle,
        };
        if let Some(until) = self.link.answered(response.throttle, now) {
            self.in_flight.postpone(response.throttle);
            self.alarm(until);
        }
        self.settle(request, response);
        Ok(times)
    }

    fn settle(&mut self, request: Request<Box<Loan<P>>>, response: ProduceResponse) {
        let ProduceResponse {
            partitions, nodes, ..
        } = response;
        for (loan, answer) in match_responses(request.loans, partitions) {
            let Some(answer) = answer else {
                tracing::warn!(partition = %loan.topic_partition, "the response leaves a batch out");
                loan.give_back(&"the broker's response left the batch out".into());
                continue;
            };
            if let Some(leader) = answer.leader {
                self.actions.push_back(Action::LeaderMoved {
                    topic_partition: loan.topic_partition.clone(),
                    leader,
                    nodes: nodes.clone(),
                });
            }
            loan.settle(Report::Answered(answer.into()));
        }
    }

    /// The connection is gone: what was on it goes back, in the order of its batches. `closed` says that
    /// the broker closed it.
    pub fn lost(&mut self, error: &Arc<str>, closed: bool, now: Instant) -> Ended {
        self.actions.push_back(Action::Disconnect);
        let idle = self.in_flight.is_empty() && self.taken.is_empty();
        let ended = self.link.lost(error, idle, closed, now);
        self.queue.drain_into(&mut self.ready);
        self.tidy_ready();
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

    /// The broker is somewhere else, and its old connection is gone.
    pub fn moved(&mut self, now: Instant) {
        self.link.moved();
        self.dispatch(now);
    }

    /// Nothing is sent from here on, and why.
    pub fn stop(&mut self, why: Arc<str>) {
        self.stopped = Some(why);
    }

    /// It works again.
    pub fn resume(&mut self, now: Instant) {
        self.stopped = None;
        self.dispatch(now);
    }

    /// A panic may have broken off anything: forgets what was to be done, and has partitions announce
    /// themselves again.
    pub fn reset(&mut self) {
        self.yielding = false;
        self.actions.clear();
        self.clear_ready();
    }

    /// Takes nothing for granted that partitions were told, and asks for its alarms anew.
    pub fn resync(&mut self, now: Instant) {
        self.clear_ready();
        let deadline = self.in_flight.deadline(self.rules.request_timeout);
        let throttled = self.link.throttled_until();
        deadline.into_iter().chain(throttled).for_each(|at| {
            self.actions.push_back(Action::Alarm(at));
        });
        self.dispatch(now);
    }

    /// Whether it is the connection of this number that is heard.
    pub fn is_current(&self, number: u64) -> bool {
        self.link.is_current(number)
    }

    /// The state of the connection.
    pub fn link(&self) -> &LinkState {
        &self.link
    }

    /// Requests without a response.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Batches taken or in flight.
    pub fn loans(&self) -> usize {
        self.in_flight.loans() + self.taken.len()
    }

    /// Whether a request could go at once.
    fn is_free(&self) -> bool {
        self.link.is_up() && self.link.throttled_until().is_none() && self.in_flight.has_room()
    }

    /// How many bytes of full batches are worth waking this sender for.
    fn worth_waking(&self) -> usize {
        let looks_by_itself = match self.link.is_up() {
            _ if self.stopped.is_some() => false,
            true => self.yielding || !self.is_free(),
            // With no partition in the queue nothing is under way; else there is an alarm.
            false => !self.link.is_down() || !self.ready.is_empty(),
        };
        let in_flight = !self.in_flight.is_empty();
        let slots = self.in_flight.slots();
        self.sizing.worth_waking(slots, looks_by_itself, in_flight)
    }

    /// Sends what was lent, and asks for more. With `lent`, what partitions lent goes before others are
    /// asked.
    fn work(&mut self, mut lent: bool, now: Instant) {
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

    /// A gather never waits for a partition: one turn lets each lend that is alive. So many batches have
    /// been asked for.
    fn yield_once(&mut self, asked: usize) {
        if !std::mem::replace(&mut self.yielding, true) {
            self.ask_for_piggyback(asked);
            self.actions.push_back(Action::Yield);
        }
    }

    /// Sends one request with what has been taken.
    fn send(&mut self, now: Instant) {
        let Some(version) = self.link.version() else {
            return;
        };
        let target = self.sizing.request(self.in_flight.slots());
        let mut loans = gather(&mut self.taken, target);
        let version = arrange(&mut loans, version);
        let encoded = encode(
            &loans,
            version,
            self.in_flight.next_correlation_id(),
            &self.rules.client_id,
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
        let batches = loans.len();
        self.link.used(now);
        self.in_flight.push(version, loans, bytes, now);
        let request = OutgoingRequest {
            envelope,
            records,
            gate,
        };
        self.actions.push_back(Action::Write { request, batches });
        self.alarm(now + self.rules.request_timeout);
    }

    fn alarm(&mut self, at: Instant) {
        self.actions.push_back(Action::Alarm(at));
    }
}

impl<P: LoanHome> Drop for Dispatcher<P> {
    /// Nothing is to be lent to it any more.
    fn drop(&mut self) {
        self.demand.set(0);
    }
}

#[cfg(test)]
mod tests;
