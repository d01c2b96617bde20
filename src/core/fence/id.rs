//! One transactional id whose markers are fences, and what its coordinator is asked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::takeover::is_own;
use crate::core::backoff::Backoff;
use crate::core::broker_error::BrokerError;
use crate::core::identity::Identity;
use crate::core::lookup::Fence;
use crate::core::record::TopicPartition;
use crate::core::transaction::{Answer, Refusal, Request, passes};
use crate::core::wire::TransactionProtocol;

/// The wait while the markers before are being written. That takes some milliseconds.
const BUSY: Duration = Duration::from_millis(20);

/// The coordinator forgets an id of which it has not heard for `transactional.id.expiration.ms`, a week by
/// default.
const SILENCE: Duration = Duration::from_secs(24 * 60 * 60);

/// A marker that was not seen for so long may not come for long: its partition's leader may be dead, and
/// the coordinator ends no other transaction of this id before.
const STUCK: Duration = Duration::from_secs(2);

/// When a marker that was not seen is asked for again.
const OVERDUE: Duration = Duration::from_secs(5);

/// TRANSACTIONAL_ID_NOT_FOUND: the coordinator has forgotten it.
const NOT_FOUND: i16 = 105;

/// A transactional id, under whose producer id partitions send batches that are part of no transaction.
///
/// A transaction that holds nothing is committed: its markers, under the next epoch, are the fences.
///
/// Invariants:
/// - epochs come from the coordinator. One that was made up here could be above that of a marker on its
///   way, which the partition would refuse, and the coordinator would write again for ever;
/// - one request is on its way at a time;
/// - one that other producers may take is taken from none: behind a refusal it is described first.
#[derive(Debug)]
pub struct FencingId {
    pub name: Arc<str>,
    /// Who is next on the spool's directory takes it.
    shared: bool,
    identity: Option<Identity>,
    protocol: TransactionProtocol,
    step: Step,
    /// Partitions that want a fence, each with the identity that they left.
    wanting: BTreeMap<TopicPartition, Wanting>,
    /// Partitions that have one, and have not seen it: what it is, and the identity behind it.
    fenced: BTreeMap<TopicPartition, Fenced>,
    /// Producer ids that it had.
    producers: Vec<i64>,
    /// The first epoch of the present one.
    begun: i16,
    /// As of [`Wanted::freed`](crate::core::identity::Wanted::freed), of the present epoch.
    freed: u64,
    /// The next epoch is asked for, for partitions that were freed so often.
    renews: Option<u64>,
    asking: bool,
    not_before: Option<Instant>,
    heard: Instant,
    backoff: Backoff,
}

#[derive(Debug, Clone, Copy)]
struct Wanting {
    left: Identity,
    /// It was refused together with others, and is asked for alone.
    alone: bool,
    not_before: Option<Instant>,
}

impl Wanting {
    fn of(left: Identity) -> Self {
        Self {
            left,
            alone: false,
            not_before: None,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Fenced {
    fence: Fence,
    identity: Identity,
    /// Since when the marker is to be seen.
    awaited: Instant,
}

#[derive(Debug)]
enum Step {
    /// An identity is asked for, the next behind this one if there is one.
    Init(Option<Identity>),
    /// It was refused as another producer's, and the coordinator is asked whose it is.
    Describing,
    Idle,
    Adding(Vec<TopicPartition>),
    Ending(Vec<TopicPartition>),
}

/// What an id says to an answer.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    Nothing,
    /// It cannot be used until something is changed, and why.
    Denied(Arc<str>),
    /// This partition can have no fence, and why.
    Refused(TopicPartition, Arc<str>),
    /// Another producer has it, and this one has to end.
    Taken(Arc<str>),
}

impl FencingId {
    pub fn new(name: Arc<str>, shared: bool, backoff: Backoff, now: Instant) -> Self {
        Self {
            name,
            shared,
            identity: None,
            protocol: TransactionProtocol::V1,
            step: Step::Init(None),
            wanting: BTreeMap::new(),
            fenced: BTreeMap::new(),
            producers: Vec::new(),
            begun: 0,
            freed: 0,
            renews: None,
            asking: false,
            not_before: None,
            heard: now,
            backoff,
        }
    }

    /// One that a former producer used, under these producer ids.
    pub fn resumed(name: Arc<str>, producers: Vec<i64>, backoff: Backoff, now: Instant) -> Self {
        Self {
            producers,
            ..Self::new(name, true, backoff, now)
        }
    }

    /// It was denied, and is asked for again: that can change.
    pub fn insist(&mut self, now: Instant) {
        self.wait(Duration::ZERO, now);
    }

    /// The fence of this partition was refused, and is asked for again later, alone.
    pub fn insist_on(&mut self, partition: &TopicPartition, left: Identity, now: Instant) {
        let not_before = Some(now + self.backoff.next());
        let wanting = Wanting {
            left,
            alone: true,
            not_before,
        };
        self.wanting.insert(partition.clone(), wanting);
    }

    /// Whether it has, or had, this producer id.
    pub fn has_been(&self, producer_id: i64) -> bool {
        self.producers.contains(&producer_id)
    }

    /// An identity for a partition that has left none.
    pub fn first(&mut self, freed: u64) -> Option<Identity> {
        let identity = self.identity?;
        if freed <= self.freed {
            return Some(identity);
        }
        // It may have had all epochs until now, without knowing of it.
        self.renews = self.renews.max(Some(freed));
        None
    }

    /// The fence behind what a partition sent under an identity of this id, and the identity behind that.
    pub fn fence(
        &mut self,
        partition: &TopicPartition,
        left: Identity,
    ) -> Option<(Fence, Identity)> {
        let present = self.identity.map(|it| it.producer_id);
        let serves = |fenced: &Fenced| match fenced.fence {
            // The epochs were used up, the marker did not come, and this one was asked for again. It does not
            // fence what is in doubt, and has to be seen before the identity behind it is used.
            Fence::Marker { producer_id, .. } if producer_id != left.producer_id => {
                present == Some(producer_id)
            }
            fence => fence.keeps_out(left.producer_id, left.epoch),
        };
        let fenced = self.fenced.get(partition);
        if let Some(fenced) = fenced.filter(|it| serves(it)) {
            return Some((fenced.fence, fenced.identity));
        }
        let wanting = self.wanting.entry(partition.clone());
        wanting.or_insert(Wanting::of(left)).left = left;
        None
    }

    /// Whether the producer id has changed, so that no marker can fence this identity any more.
    pub fn is_beyond(&self, left: Identity) -> bool {
        self.identity
            .is_some_and(|it| it.producer_id != left.producer_id)
    }

    /// Whether half of its epochs are used up. Once all are, no marker can fence what went under it. So the
    /// other half is for the partitions that are still under it: each takes one, and goes on under another.
    pub fn is_worn(&self) -> bool {
        let half = (i16::MAX - self.begun) / 2;
        self.identity.is_some_and(|it| it.epoch - self.begun > half)
    }

    pub fn identity(&self) -> Option<Identity> {
        self.identity
    }

    pub fn protocol(&self) -> TransactionProtocol {
        self.protocol
    }

    /// The coordinator that is connected speaks this.
    pub fn offers(&mut self, protocol: TransactionProtocol) {
        if !matches!(self.step, Step::Ending(_)) {
            self.protocol = protocol;
        }
    }

    /// The partition waits no more, neither for a fence nor for its marker: it has seen it, or needs none.
    /// What it sends from now on may come behind that marker, which is no fence for it.
    pub fn forget(&mut self, partition: &TopicPartition) {
        self.wanting.remove(partition);
        self.fenced.remove(partition);
    }

    /// Whether a marker has been due for long, so that none may come for others either.
    pub fn is_stuck(&self, now: Instant) -> bool {
        let due = |fenced: &Fenced| now >= fenced.awaited + STUCK;
        self.fenced.values().any(due)
    }

    /// When something is to be looked at, if nothing is asked until then.
    pub fn next_at(&self, now: Instant) -> Option<Instant> {
        let stuck = self.fenced.values().map(|it| it.awaited);
        let stuck = stuck.flat_map(|since| [since + STUCK, since + OVERDUE]);
        let stuck = stuck.filter(|at| *at > now).min();
        let due = self.not_before.filter(|at| !self.asking && *at > now);
        let later = self.wanting.values().filter_map(|it| it.not_before);
        let later = later.filter(|at| *at > now).min();
        let renewal = Some(self.heard + SILENCE);
        [stuck, due, later, renewal].into_iter().flatten().min()
    }

    /// The next request, if one is due.
    pub fn ask(&mut self, now: Instant) -> Option<Request> {
        if self.asking || self.not_before.is_some_and(|at| at > now) {
            return None;
        }
        if let Step::Idle = self.step {
            self.begin(now);
        }
        let request = match &self.step {
            Step::Idle => return None,
            Step::Init(bumps) => Request::Init { bumps: *bumps },
            Step::Describing => Request::Describe,
            Step::Adding(partitions) => Request::AddPartitions(partitions.clone()),
            Step::Ending(_) => Request::End { commit: true },
        };
        self.asking = true;
        self.not_before = None;
        Some(request)
    }

    /// Has those fenced again whose marker is overdue: a coordinator passes over partitions without a leader.
    /// It does not say so. If the marker is still to come, it says that it is busy.
    fn repeat(&mut self, now: Instant) {
        let overdue = |fenced: &Fenced| now >= fenced.awaited + OVERDUE;
        for (partition, fenced) in self.fenced.iter_mut().filter(|(_, it)| overdue(it)) {
            fenced.awaited = now;
            let wanting = Wanting::of(fenced.identity);
            self.wanting.insert(partition.clone(), wanting);
        }
    }

    /// Begins with the next fence, or has the coordinator hear of the id.
    fn begin(&mut self, now: Instant) {
        self.repeat(now);
        let producer_id = self.identity.map(|it| it.producer_id);
        let due = |wanting: &Wanting| {
            let is_of = Some(wanting.left.producer_id) == producer_id;
            is_of && wanting.not_before.is_none_or(|at| at <= now)
        };
        let mut group: Vec<_> = Vec::new();
        for (partition, wanting) in self.wanting.iter().filter(|(_, it)| due(it)) {
            if wanting.alone && !group.is_empty() {
                continue;
            }
            group.push(partition.clone());
            if wanting.alone {
                break;
            }
        }
        let epoch_is_new = |it: Identity| {
            let behind = |wanting: &Wanting| wanting.left.epoch < it.epoch;
            group
                .iter()
                .filter_map(|partition| self.wanting.get(partition))
                .all(behind)
        };
        match (group.is_empty(), self.protocol, self.identity) {
            (true, _, identity) if self.renews.is_some() || now >= self.heard + SILENCE => {
                self.step = Step::Init(identity);
            }
            (true, ..) => {}
            // The marker has the epoch of the transaction, so a new one comes first.
            (false, TransactionProtocol::V1, Some(it)) if !epoch_is_new(it) => {
                self.step = Step::Init(Some(it));
            }
            (false, ..) => self.step = Step::Adding(group),
        }
    }

    /// The answer to the request on its way was lost.
    pub fn lost(&mut self) {
        self.asking = false;
    }

    /// A coordinator answered, or did not.
    pub fn answered(&mut self, request: &Request, answer: Answer, now: Instant) -> Heard {
        self.asking = false;
        match answer {
            Answer::Done(identity) => {
                self.heard = now;
                self.backoff.reset();
                self.done(identity, now);
            }
            Answer::Described { state, identity } => return self.described(&state, identity),
            Answer::NotServed(why) if matches!(request, Request::Describe) => {
                return Heard::Taken(why);
            }
            Answer::NotServed(why) => return Heard::Denied(why),
            Answer::Absent { partitions, .. } => self.postpone(&partitions, now),
            Answer::Unanswered(why) | Answer::Unsent(why) => {
                tracing::debug!(id = &*self.name, %why, "no answer about a fence");
                self.wait(Duration::ZERO, now);
            }
            Answer::Refused { error, part } => return self.refused(request, &error, part, now),
        }
        Heard::Nothing
    }

    /// What comes next is asked after a wait of so long at least.
    fn wait(&mut self, least: Duration, now: Instant) {
        self.not_before = Some(now + self.backoff.next().max(least));
    }

    /// These partitions give way to others.
    fn postpone(&mut self, partitions: &[TopicPartition], now: Instant) {
        let at = now + self.backoff.next();
        for partition in partitions {
            if let Some(wanting) = self.wanting.get_mut(partition) {
                wanting.not_before = Some(at);
            }
        }
        self.step = Step::Idle;
    }

    fn refused(
        &mut self,
        request: &Request,
        error: &BrokerError,
        part: Option<Arc<str>>,
        now: Instant,
    ) -> Heard {
        let why = match part {
            Some(part) => format!("{part}: {error}"),
            None => error.to_string(),
        };
        match (Refusal::of(request, error.code), &self.step) {
            (Refusal::Busy, _) => self.wait(BUSY, now),
            (Refusal::Again { .. }, Step::Adding(partitions))
                if partitions.len() == 1 || passes(error.code) =>
            {
                let partitions = partitions.clone();
                self.postpone(&partitions, now);
            }
            (Refusal::Over, _) => {
                self.step = match self.shared && self.identity.is_some() {
                    true => Step::Describing,
                    // It was ended by the coordinator, as its time was over. What became of it does not
                    // matter: the next identity is above it.
                    false => Step::Init(None),
                };
                self.wait(Duration::ZERO, now);
            }
            (_, Step::Describing) if error.code == NOT_FOUND => self.step = Step::Init(None),
            (_, Step::Describing) => self.wait(Duration::ZERO, now),
            (_, Step::Adding(partitions)) => {
                let partitions = partitions.clone();
                self.step = Step::Idle;
                return self.partitions_refused(partitions, why.into(), now);
            }
            (Refusal::Again { .. }, _) | (_, Step::Ending(_) | Step::Idle) => {
                self.wait(Duration::ZERO, now);
            }
            (_, Step::Init(_)) => return Heard::Denied(why.into()),
        }
        Heard::Nothing
    }

    /// The coordinator says whose the id is.
    fn described(&mut self, state: &str, present: Identity) -> Heard {
        match self.identity {
            Some(own) if !is_own(own, state, present) => {
                let (id, epoch) = (present.producer_id, present.epoch);
                Heard::Taken(format!("it is {state} under producer id {id}, epoch {epoch}").into())
            }
            _ => {
                // If another takes it meanwhile, this is refused.
                self.step = Step::Init(Some(present));
                Heard::Nothing
            }
        }
    }

    /// Partitions were refused. One may be the cause for all, so each is asked for alone.
    fn partitions_refused(
        &mut self,
        partitions: Vec<TopicPartition>,
        why: Arc<str>,
        now: Instant,
    ) -> Heard {
        match <[TopicPartition; 1]>::try_from(partitions) {
            Ok([partition]) => {
                self.wanting.remove(&partition);
                Heard::Refused(partition, why)
            }
            Err(partitions) => {
                for partition in &partitions {
                    if let Some(wanting) = self.wanting.get_mut(partition) {
                        wanting.alone = true;
                    }
                }
                self.not_before = Some(now);
                Heard::Nothing
            }
        }
    }

    fn done(&mut self, told: Option<Identity>, now: Instant) {
        match std::mem::replace(&mut self.step, Step::Idle) {
            Step::Idle | Step::Describing => {}
            Step::Init(_) => {
                self.obtained(told);
                if told.is_some() {
                    self.freed = self.freed.max(self.renews.take().unwrap_or_default());
                }
            }
            Step::Adding(partitions) => self.step = Step::Ending(partitions),
            Step::Ending(partitions) => {
                let Some(former) = self.identity else { return };
                let (above, next) = match self.protocol {
                    // The marker has the next epoch, and so has who comes behind it.
                    TransactionProtocol::V2 => (former.epoch, told),
                    // The marker has this one.
                    TransactionProtocol::V1 => (former.epoch - 1, Some(former)),
                };
                let Some(next) = next else {
                    // The broker has not said which. It has an epoch above those that are out.
                    self.step = Step::Init(None);
                    return;
                };
                // Others wait no more.
                let still = |it: &TopicPartition| self.wanting.remove(it).is_some();
                let partitions: Vec<_> = partitions.into_iter().filter(still).collect();
                self.obtained(Some(next));
                let producer_id = former.producer_id;
                for partition in partitions {
                    let fenced = Fenced {
                        fence: Fence::Marker { producer_id, above },
                        identity: next,
                        awaited: now,
                    };
                    self.fenced.insert(partition, fenced);
                }
            }
        }
    }

    fn obtained(&mut self, identity: Option<Identity>) {
        let Some(identity) = identity else {
            self.step = Step::Init(None);
            return;
        };
        if !self.has_been(identity.producer_id) {
            self.producers.push(identity.producer_id);
            self.begun = identity.epoch;
            // These want a marker of the former one, and some of them a second time.
            for partition in std::mem::take(&mut self.wanting).into_keys() {
                self.fenced.remove(&partition);
            }
        }
        self.identity = Some(identity);
    }
}
