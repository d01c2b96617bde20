//! What the coordinator of transactions is asked, and when.

mod ending;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::answer::{Answer, Refusal, Request};
use super::error::{Cause, TransactionError};
use super::offsets::GroupOffsets;
use super::scope::Scope;
use super::search::Search;
use crate::core::backoff::Backoff;
use crate::core::broker_error::BrokerError;
use crate::core::identity::Identity;
use crate::core::ledger::Joining;
use crate::core::record::TopicPartition;
use crate::core::wire::TransactionProtocol;

/// The second wait after CONCURRENT_TRANSACTIONS, which is over when some markers are written. Where brokers
/// are idle and near, that takes no longer than their answer, so the first time is asked again at once.
const BUSY: Duration = Duration::from_millis(1);

/// The longest wait after it. Java always waits as long.
const BUSY_MAX: Duration = Duration::from_millis(20);

/// How long after the end of a transaction markers of it may well not be written yet. Brokers that are asked
/// to add a partition meanwhile try it again after 20 ms (`add.partitions.to.txn.retry.backoff.ms`), and
/// whatever else is sent to them waits as long. Later than this that would be no great loss any more.
const SETTLING: Duration = Duration::from_millis(20);

/// The transactions of one producer, one after the other, as its TransactionActor keeps them.
///
/// Invariants:
/// - one request is on its way at a time, and one transaction is there at a time;
/// - a transaction is ended when every batch of it is back, and no sooner. So nothing of it can follow
///   its end, and none of its epochs are used by the next one before every partition asks for its own;
/// - one that failed, or whose records are not all acked, is never asked to be committed;
/// - in protocol 1 no partition gets the identity before the coordinator knows of it;
/// - a partition that has forgotten which sequence numbers it used gets no identity that it had before.
#[derive(Debug)]
pub struct Coordination {
    transactional_id: Arc<str>,
    /// Whom brokers take this client for, if that is known.
    principal: Option<Arc<str>>,
    phase: Phase,
    /// What the present transaction speaks; the next one, until it has begun, what is `offered`.
    protocol: TransactionProtocol,
    /// What the coordinator that is connected would speak.
    offered: TransactionProtocol,
    identity: Option<Identity>,
    /// Whose next epoch is to be asked for while there is no identity.
    bumps: Option<Identity>,
    /// Somebody waits for a transaction to begin.
    wanted: bool,
    /// Partitions that the coordinator is to be told of.
    pending: BTreeSet<TopicPartition>,
    /// Those of them that its broker has not heard of yet, and when they are asked for again. The others are
    /// asked for without them: the broker does nothing of a request with one that it does not know.
    absent: BTreeMap<TopicPartition, Instant>,
    /// Partitions that it knows, of this transaction.
    added: BTreeSet<TopicPartition>,
    /// Partitions that have the present identity, each with how often partitions had been freed when it was
    /// made: by that it is told apart from one that was freed.
    numbered: BTreeMap<TopicPartition, u64>,
    /// One of them has forgotten what it numbered under it.
    forgotten: bool,
    /// Offsets to be sent, the first ones next. Of those the group is known to the coordinator.
    offsets: Vec<Arc<GroupOffsets>>,
    groups: BTreeSet<Arc<str>>,
    /// In protocol 2, when the coordinator was asked to end the transaction before, until its markers are
    /// known to be written.
    settles_since: Option<Instant>,
    /// Something of the transaction may be known to the coordinator.
    touched: bool,
    /// A request of it may have been carried out unheard, or may still be on its way.
    unheard: bool,
    asking: bool,
    not_before: Option<Instant>,
    backoff: Backoff,
    /// How often in a row the answer was CONCURRENT_TRANSACTIONS.
    busy: u32,
    max_block: Duration,
    /// How long a log is tried that cannot be read.
    patience: Duration,
    /// Why the last request did not succeed.
    trouble: Option<Arc<str>>,
    /// What whoever waits to begin is told.
    refusal: Option<TransactionError>,
    /// Whether time or another instance has ended the transaction is being asked, at the next epoch.
    looks_behind: bool,
    /// Nothing more can be done with this transactional id.
    fenced: bool,
}

/// Where the present transaction is.
#[derive(Debug)]
enum Phase {
    /// There is none.
    Idle,
    /// It takes records.
    Open(Arc<Scope>),
    /// It takes no more, and its batches are on their way until they are flushed.
    Flushing {
        scope: Arc<Scope>,
        commit: bool,
        flushed: Option<Instant>,
    },
    /// The coordinator is to end it. `in_doubt`: it may have done so.
    Ending {
        scope: Arc<Scope>,
        commit: bool,
        in_doubt: bool,
    },
    /// The coordinator does not say whether it was committed. Its marker is looked for.
    Searching(Search),
}

/// Whether a transaction may begin.
#[derive(Debug)]
pub enum Begin {
    Begun(Arc<Scope>),
    Wait,
    Refused(TransactionError),
}

/// What a partition gets that asks for the identity of a transaction.
#[derive(Debug, PartialEq, Eq)]
pub enum Membership {
    Use(Identity),
    /// The coordinator has to be told first.
    Wait,
    /// The transaction takes nothing more: what the partition has of it is given up.
    Over,
}

impl Coordination {
    /// `max_block` is how long offsets are waited for once everything else is ready to be committed, and
    /// `patience` how long a log is tried that cannot be read.
    pub fn new(
        transactional_id: Arc<str>,
        principal: Option<Arc<str>>,
        backoff: Backoff,
        max_block: Duration,
        patience: Duration,
    ) -> Self {
        Self {
            max_block,
            patience,
            transactional_id,
            principal,
            phase: Phase::Idle,
            protocol: TransactionProtocol::V1,
            offered: TransactionProtocol::V1,
            identity: None,
            bumps: None,
            wanted: false,
            pending: BTreeSet::new(),
            absent: BTreeMap::new(),
            added: BTreeSet::new(),
            numbered: BTreeMap::new(),
            forgotten: false,
            offsets: Vec::new(),
            groups: BTreeSet::new(),
            settles_since: None,
            touched: false,
            unheard: false,
            asking: false,
            not_before: None,
            backoff,
            busy: 0,
            trouble: None,
            refusal: None,
            looks_behind: false,
            fenced: false,
        }
    }

    /// The coordinator that is connected now speaks this. A transaction that has begun goes on as it did.
    pub fn offers(&mut self, protocol: TransactionProtocol) {
        self.offered = protocol;
    }

    pub fn identity(&self) -> Option<Identity> {
        self.identity
    }

    /// What the present transaction speaks.
    pub fn protocol(&self) -> TransactionProtocol {
        self.protocol
    }

    /// Why the last request did not succeed.
    pub fn trouble(&self) -> Option<&Arc<str>> {
        self.trouble.as_ref()
    }

    /// Begins a transaction if the one before has ended and there is an identity. To be asked again
    /// after each answer.
    pub fn begin(&mut self) -> Begin {
        if self.fenced {
            return Begin::Refused(self.fenced_by_another());
        }
        if let Some(refusal) = self.refusal.take() {
            self.wanted = false;
            return Begin::Refused(refusal);
        }
        self.wanted = true;
        if !matches!(self.phase, Phase::Idle) || self.asking {
            return Begin::Wait;
        }
        // Records of both protocols under one epoch could not be told apart (KIP-890).
        if self.identity.is_some() && self.offered != self.protocol {
            self.leave_identity();
        }
        if self.identity.is_none() {
            return Begin::Wait;
        }
        self.wanted = false;
        self.touched = false;
        self.unheard = false;
        self.looks_behind = false;
        self.added.clear();
        self.groups.clear();
        let scope = Scope::open(self.protocol);
        self.phase = Phase::Open(Arc::clone(&scope));
        Begin::Begun(scope)
    }

    /// Nobody waits for a transaction to begin any more.
    pub fn nobody_waits(&mut self) {
        self.wanted = false;
        self.refusal = None;
    }

    /// A partition has records of a transaction.
    pub fn join(
        &mut self,
        partition: &TopicPartition,
        joining: &Joining,
        now: Instant,
    ) -> Membership {
        let Joining { scope, wanted } = joining;
        let (Phase::Open(present) | Phase::Flushing { scope: present, .. }) = &self.phase else {
            return Membership::Over;
        };
        if !Arc::ptr_eq(present, scope) || scope.failed().is_some() {
            return Membership::Over;
        }
        let Some(identity) = self.identity else {
            return Membership::Over;
        };
        let has_numbers = self.numbered.get(partition);
        let forgot = has_numbers.is_some_and(|freed| *freed != wanted.freed);
        if forgot || wanted.left == Some(identity) {
            // Its numbers would begin at 0 again, and the broker take records for others that it has.
            scope.fail(Cause::runtime(format!(
                "{partition} was let go of meanwhile"
            )));
            self.forgotten = true;
            return Membership::Over;
        }
        if self.is_told_first(now) && !self.added.contains(partition) {
            self.pending.insert(partition.clone());
            return Membership::Wait;
        }
        self.touched = true;
        self.numbered.insert(partition.clone(), wanted.freed);
        Membership::Use(identity)
    }

    /// Whether the coordinator is told of a partition before that has the identity. In protocol 2 brokers do
    /// that by themselves, but take their time over it while markers are being written.
    fn is_told_first(&self, now: Instant) -> bool {
        let settles = |since: Instant| now.saturating_duration_since(since) < SETTLING;
        self.protocol == TransactionProtocol::V1
            || !self.pending.is_empty()
            || self.settles_since.is_some_and(settles)
    }

    /// Offsets are to be committed with the transaction. Returns whether they can be.
    pub fn send_offsets(&mut self, scope: &Arc<Scope>, offsets: Arc<GroupOffsets>) -> bool {
        let open = matches!(&self.phase, Phase::Open(present) if Arc::ptr_eq(present, scope));
        if open && scope.failed().is_none() {
            self.offsets.push(offsets);
            return true;
        }
        false
    }

    /// Whether these offsets are still to be sent.
    pub fn is_sending(&self, offsets: &Arc<GroupOffsets>) -> bool {
        self.offsets.iter().any(|it| Arc::ptr_eq(it, offsets))
    }

    /// The request that is due now; it leaves.
    pub fn ask(&mut self, now: Instant) -> Option<Request> {
        if self.asking || self.not_before.is_some_and(|at| at > now) {
            return None;
        }
        let request = self.wants(now)?;
        self.asking = true;
        if matches!(request, Request::End { .. }) && self.protocol == TransactionProtocol::V2 {
            self.settles_since = Some(now);
        }
        self.touched |= !matches!(request, Request::Init { .. } | Request::End { .. });
        Some(request)
    }

    /// When the next request is due, if one waits for its time.
    pub fn next_at(&self) -> Option<Instant> {
        let asks = |at: &Instant| !self.asking && self.wants(*at).is_some();
        let after_wait = self.not_before.filter(asks);
        let absent = self.absent.values().min().copied().max(self.not_before);
        let search = self.search().map(Search::next_at);
        let next = [
            after_wait,
            absent.filter(asks),
            self.offsets_until(),
            search,
        ];
        next.into_iter().flatten().min()
    }

    /// What is to be asked at this time, if no answer is waited for.
    fn wants(&self, now: Instant) -> Option<Request> {
        match &self.phase {
            // It would abort what another instance has open, if there is one.
            Phase::Searching(search) if search.was_passed_by() => None,
            // What is open there is ended by that, too.
            Phase::Idle | Phase::Searching(_) => {
                (self.wanted && self.identity.is_none() && !self.fenced)
                    .then_some(Request::Init { bumps: self.bumps })
            }
            Phase::Open(scope) | Phase::Flushing { scope, .. } => {
                if scope.failed().is_some() {
                    return None;
                }
                let waits = |it: &&TopicPartition| self.absent.get(it).is_some_and(|at| *at > now);
                let due = self.pending.iter().filter(|it| !waits(it)).cloned();
                let due: Vec<_> = due.collect();
                if !due.is_empty() {
                    return Some(Request::AddPartitions(due));
                }
                let next = self.offsets.first()?;
                let group = &next.group.group;
                Some(match self.protocol {
                    TransactionProtocol::V1 if !self.groups.contains(group) => {
                        Request::AddOffsets(Arc::clone(group))
                    }
                    _ => Request::CommitOffsets(Arc::clone(next)),
                })
            }
            Phase::Ending { commit, .. } => Some(Request::End { commit: *commit }),
        }
    }

    /// The answer to the request that was on its way.
    pub fn answered(&mut self, request: &Request, answer: Answer, now: Instant) {
        self.asking = false;
        self.not_before = None;
        let is_busy = matches!(&answer, Answer::Refused { error, .. }
            if Refusal::of(request, error.code) == Refusal::Busy);
        if !is_busy {
            self.busy = 0;
        }
        let adds = matches!(request, Request::AddPartitions(_));
        if adds && self.protocol == TransactionProtocol::V2 && !is_busy {
            return self.settled();
        }
        match answer {
            Answer::Done(identity) => {
                self.backoff.reset();
                self.trouble = None;
                self.done(request, identity);
            }
            // It is not asked for: whoever is fenced here asks for nothing more.
            Answer::Described { .. } => {}
            Answer::Unsent(why) => self.again(why, now),
            Answer::Unanswered(why) => {
                self.doubt();
                self.again(why, now);
            }
            Answer::NotServed(why) => {
                self.refused_for_good(request, TransactionError::NotServed(why), now);
            }
            Answer::Absent { partitions, why } => {
                self.trouble = Some(why);
                let until = now + self.backoff.next();
                let until = partitions.into_iter().map(|it| (it, until));
                self.absent.extend(until);
            }
            Answer::Refused { error, part } => self.refused(request, error, part, now),
        }
    }

    /// The markers of the transaction before are written, or the coordinator does not say. Partitions need
    /// not wait: what else is wrong their brokers tell.
    fn settled(&mut self) {
        self.settles_since = None;
        self.trouble = None;
        self.pending.clear();
        self.go_on();
    }

    /// Whether there is no transaction.
    pub fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Idle)
    }

    /// The transaction that takes records.
    pub fn open(&self) -> Option<Arc<Scope>> {
        match &self.phase {
            Phase::Open(scope) => Some(Arc::clone(scope)),
            _ => None,
        }
    }

    /// The transaction whose batches are being flushed.
    pub fn flushing(&self) -> Option<Arc<Scope>> {
        match &self.phase {
            Phase::Flushing {
                scope,
                flushed: None,
                ..
            } => Some(Arc::clone(scope)),
            _ => None,
        }
    }

    /// The request on its way counts no more: whoever had it has fallen.
    pub fn lost(&mut self, now: Instant) {
        if std::mem::take(&mut self.asking) {
            self.doubt();
            self.again("the answer was lost".into(), now);
        }
    }

    fn again(&mut self, why: Arc<str>, now: Instant) {
        self.trouble = Some(why);
        self.not_before = Some(now + self.backoff.next());
    }

    fn done(&mut self, request: &Request, identity: Option<Identity>) {
        match request {
            Request::Init { .. } => {
                self.identity = identity;
                self.protocol = self.offered;
                self.bumps = None;
                self.settles_since = None;
                self.numbered.clear();
                self.forgotten = false;
            }
            Request::AddPartitions(partitions) => {
                for partition in partitions {
                    self.pending.remove(partition);
                    self.absent.remove(partition);
                    self.added.insert(partition.clone());
                }
            }
            Request::AddOffsets(group) => {
                self.groups.insert(Arc::clone(group));
            }
            Request::CommitOffsets(offsets) => {
                self.offsets.retain(|it| !Arc::ptr_eq(it, offsets));
            }
            Request::End { .. } => self.ended(identity),
            Request::Describe => {}
        }
        self.go_on();
    }

    fn refused(
        &mut self,
        request: &Request,
        error: BrokerError,
        part: Option<Arc<str>>,
        now: Instant,
    ) {
        let error = error.of(&self.principal);
        let refusal = Refusal::of(request, error.code);
        match refusal {
            Refusal::Busy => {
                let wait = BUSY.saturating_mul((1 << self.busy.min(8)) >> 1);
                let wait = wait.min(BUSY_MAX);
                self.busy = self.busy.saturating_add(1);
                self.not_before = Some(now + wait);
                if wait == BUSY_MAX {
                    self.trouble = Some(error.to_string().into());
                }
            }
            Refusal::Again { may_be_done } => {
                if may_be_done {
                    self.doubt();
                }
                self.again(error.to_string().into(), now);
            }
            Refusal::Over if matches!(request, Request::Init { .. }) => {
                self.fenced = true;
                self.refused_for_good(request, self.fenced_by_another(), now);
            }
            Refusal::Over | Refusal::Abort | Refusal::Final => {
                let part = part.unwrap_or_else(|| Arc::clone(&self.transactional_id));
                let refused = TransactionError::Refused {
                    request: request.name(),
                    part,
                    error,
                };
                self.refused_for_good(request, refused, now);
            }
        }
    }

    /// The request will not be carried out.
    fn refused_for_good(&mut self, request: &Request, why: TransactionError, now: Instant) {
        self.trouble = Some(why.to_string().into());
        match (request, &self.phase) {
            (Request::End { .. }, _) => self.not_ended(&why, now),
            (Request::Init { .. }, _) => self.refusal = Some(why),
            (_, Phase::Open(scope) | Phase::Flushing { scope, .. }) => {
                scope.fail(Cause::Refused(why));
                self.drop_what_waits();
                self.go_on();
            }
            _ => {}
        }
    }

    /// What waits to be said of a transaction that is not committed.
    fn drop_what_waits(&mut self) {
        self.pending.clear();
        self.absent.clear();
        self.offsets.clear();
    }

    fn leave_identity(&mut self) {
        self.bumps = self.identity.take().or(self.bumps);
    }

    fn fenced_by_another(&self) -> TransactionError {
        TransactionError::Fenced {
            transactional_id: Arc::clone(&self.transactional_id),
        }
    }
}

#[cfg(test)]
mod tests;
