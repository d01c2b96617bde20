//! Markers: how a decided end reaches the partitions, and what is left open where it does not.
//!
//! `TransactionMarkerChannelManager` and `TransactionMarkerRequestCompletionHandler`.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::batch::Marker;
use crate::cluster::At;
use crate::coordinator::Kind;
use crate::kafka::{Kafka, Misdeed};
use crate::log::{Log, Stored, code};
use crate::network::spawn;
use crate::producers::Open;
use crate::transaction::{Identity, Participant, State, V2, Version};

/// The end of one transaction, while it is being written.
struct End {
    id: String,
    identity: Identity,
    /// Which of the id's ends it is.
    number: u32,
    committed: bool,
    /// The transaction's: it decides how strict partitions are about the epoch.
    version: Version,
    coordinator: usize,
    coordinator_epoch: i32,
    /// To how many it has still to be written.
    left: Cell<usize>,
}

impl End {
    fn marker(&self, now: i64) -> Marker {
        Marker {
            producer_id: self.identity.0,
            epoch: self.identity.1,
            committed: self.committed,
            coordinator_epoch: self.coordinator_epoch,
            timestamp: now,
        }
    }
}

/// How long a coordinator waits for a marker to be replicated before it sends it again.
const PATIENCE: Duration = Duration::from_secs(2);

impl Kafka {
    /// No marker can be written to this partition, or to this group's offsets, for so long.
    pub fn block_markers(&self, of: Participant, time: Duration) {
        let until = Instant::now() + time;
        self.coordinators.borrow_mut().blocked.insert(of, until);
    }

    /// Markers can be written everywhere again.
    pub fn unblock_markers(&self) {
        // Those that wait for their time look again then.
        self.coordinators.borrow_mut().blocked.clear();
        self.changed.notify_waiters();
    }

    /// A coordinator has decided the end of a transaction, or found it in what it has read.
    pub(crate) fn send_markers(self: &Rc<Self>, id: &str, coordinator_epoch: i32) {
        let (end, participants) = {
            let coordinators = self.coordinators.borrow();
            let it = &coordinators.transactions[id];
            let Some((coordinator, epoch)) = coordinators.of(Kind::Transaction, id) else {
                return;
            };
            if epoch != coordinator_epoch {
                return;
            }
            let end = End {
                id: id.to_owned(),
                identity: it.identity(),
                number: it.ends,
                committed: it.state == State::PrepareCommit,
                version: it.version,
                coordinator,
                coordinator_epoch,
                left: Cell::new(it.participants.len()),
            };
            (Rc::new(end), it.participants.clone())
        };
        if participants.is_empty() {
            return self.complete(&end);
        }
        for participant in participants {
            let delay = self.between(0, self.conditions.get().markers);
            let (kafka, end) = (Rc::clone(self), Rc::clone(&end));
            spawn(async move {
                sleep(delay).await;
                if kafka.write_marker(&end, &participant).await {
                    end.left.set(end.left.get() - 1);
                    if end.left.get() == 0 {
                        kafka.complete(&end);
                    }
                }
            });
        }
    }

    fn goes_on(&self, end: &End) -> bool {
        let coordinators = self.coordinators.borrow();
        let which = (end.identity, end.number);
        coordinators.is_ending(&end.id, which, end.coordinator_epoch)
    }

    fn complete(&self, end: &End) {
        if !self.goes_on(end) {
            return;
        }
        let now = self.wall_clock();
        if let Some(it) = self.coordinators.borrow_mut().transactions.get_mut(&end.id) {
            it.complete(now);
        }
        let (producer, epoch) = end.identity;
        self.note(
            "complete",
            &[producer, i64::from(epoch), i64::from(end.committed)],
        );
        self.changed.notify_waiters();
    }

    fn blocked_until(&self, participant: &Participant) -> Option<Instant> {
        let until = self.coordinators.borrow().blocked.get(participant).copied();
        until.filter(|it| *it > Instant::now())
    }

    /// Whether it is written. It is not if another coordinator has taken over, or if the partition knows
    /// better.
    async fn write_marker(self: &Rc<Self>, end: &Rc<End>, participant: &Participant) -> bool {
        if self.happens(self.conditions.get().markers_skipped) {
            self.count(Misdeed::MarkerSkipped);
            return true;
        }
        loop {
            while let Some(until) = self.blocked_until(participant) {
                let _ = timeout_at(until, self.changed.notified()).await;
            }
            if !self.goes_on(end) {
                return false;
            }
            let works = self.cluster.borrow().brokers[end.coordinator].works();
            let written = match (works, participant) {
                (false, _) => Err(code::COORDINATOR_NOT_AVAILABLE),
                (true, Participant::Partition(at)) if self.is_deleted(end.coordinator, *at) => {
                    return true;
                }
                (true, Participant::Partition(at)) => self.mark(end, *at).await,
                (true, Participant::Group(group)) => self.mark_group(end, group),
            };
            match written {
                Ok(()) => {
                    self.mark_again(end, participant);
                    return true;
                }
                Err(code::INVALID_PRODUCER_EPOCH | code::TRANSACTION_COORDINATOR_FENCED) => {
                    self.note(
                        "marker refused",
                        &[end.identity.0, i64::from(end.identity.1)],
                    );
                    return false;
                }
                Err(_) => sleep(self.between(5, 60)).await,
            }
        }
    }

    /// The network delivers it once more, later: a coordinator that had no answer sends it again, and the
    /// first request may be carried out behind the second one. In version 1 it ends whatever is open then.
    fn mark_again(self: &Rc<Self>, end: &Rc<End>, participant: &Participant) {
        let Participant::Partition(at) = *participant else {
            return;
        };
        if !self.happens(self.conditions.get().markers_again) {
            return;
        }
        self.count(Misdeed::MarkerAgain);
        let delay = self.between(1, 3_000);
        let (kafka, end) = (Rc::clone(self), Rc::clone(end));
        spawn(async move {
            sleep(delay).await;
            let _ = kafka.mark(&end, at).await;
        });
    }

    /// Coordinators take a partition that they do not know any more to be deleted.
    fn is_deleted(&self, broker: usize, at: At) -> bool {
        let cluster = self.cluster.borrow();
        !cluster.topics[at.0].exists && cluster.brokers[broker].known[at.0] == 0
    }

    /// Writes a marker to a partition and waits until it is replicated.
    async fn mark(self: &Rc<Self>, end: &End, at: At) -> Result<(), i16> {
        sleep(self.latency()).await;
        let marker = end.marker(self.wall_clock());
        let (leader, reign, appended) = {
            let is_stray = self.is_stray(end);
            let mut cluster = self.cluster.borrow_mut();
            let leader = cluster.view(end.coordinator, at).leader;
            let leader = leader.ok_or(code::NOT_LEADER_OR_FOLLOWER)?;
            let reached = cluster.reaches(end.coordinator, leader);
            if !reached || cluster.brokers[leader].known[at.0] <= at.1 {
                return Err(code::UNKNOWN_TOPIC_OR_PARTITION);
            }
            let reign = cluster.leads(leader, at);
            let (replica, state) = cluster.replica_state(leader, at, &self.settings);
            let appended = replica.log.mark(state, &marker, end.version)?;
            if is_stray {
                self.went_astray(at, &replica.log);
            }
            (leader, reign, appended)
        };
        let place = [leader, at.0, at.1].map(|it| it as i64);
        let [broker, topic, partition] = place;
        let (producer, epoch) = end.identity;
        let what = [broker, topic, partition, appended.base_offset, producer];
        self.note("marker", &what);
        self.note("marker of", &[i64::from(epoch), i64::from(end.committed)]);
        self.replicate(at);
        let replicated = async {
            loop {
                let changed = self.changed.notified();
                {
                    let mut cluster = self.cluster.borrow_mut();
                    if cluster.leads(leader, at) != reign || !cluster.brokers[leader].alive {
                        return Err(code::NOT_LEADER_OR_FOLLOWER);
                    }
                    let works = cluster.brokers[leader].works();
                    let replica = &cluster.partition(at).replicas[leader];
                    if works && replica.high_watermark >= appended.end {
                        return Ok(());
                    }
                }
                changed.await;
            }
        };
        let replicated = timeout(PATIENCE, replicated).await;
        replicated.unwrap_or(Err(code::REQUEST_TIMED_OUT))
    }

    /// Whether what it would end is not what it was decided for. No partition can tell where the next
    /// transaction has the same epoch: in version 1, which KIP-1228 leaves as it is.
    fn is_stray(&self, end: &End) -> bool {
        let coordinators = self.coordinators.borrow();
        let it = coordinators.transactions.get(&end.id);
        let is_complete = it.is_none_or(|it| !it.is_at((end.identity, end.number)));
        end.version < V2 && is_complete
    }

    /// The last batch of a log is a stray marker.
    fn went_astray(&self, at: At, log: &Log) {
        let Some(marker) = log.batches().last() else {
            return;
        };
        if log.ended_by(marker).is_some() {
            self.count(Misdeed::MarkerStray);
            let stray = (at, Rc::clone(marker));
            self.coordinators.borrow_mut().strays.push(stray);
        }
    }

    fn mark_group(&self, end: &End, group: &str) -> Result<(), i16> {
        let coordinator = self.coordinators.borrow().of(Kind::Group, group);
        let (broker, _) = coordinator.ok_or(code::NOT_LEADER_OR_FOLLOWER)?;
        if !self.cluster.borrow().brokers[broker].works() {
            return Err(code::NOT_LEADER_OR_FOLLOWER);
        }
        let marker = end.marker(self.wall_clock());
        let mut groups = self.groups.borrow_mut();
        groups
            .entry(group.to_owned())
            .or_default()
            .mark(&marker, end.version)
    }
}

/// For whoever judges what producers did.
impl Kafka {
    /// What consumers with `read_committed` see of a partition, in order, if it gets no further.
    pub fn committed(&self, at: At) -> Vec<Rc<Stored>> {
        let cluster = self.cluster.borrow();
        let log = cluster.log(at);
        log.map_or_else(Vec::new, |log| log.committed(log.end()))
    }

    /// Batches of transactions of version 1 that a late marker of the transaction before has ended in their
    /// partition: each with that one's end, whatever becomes of the rest of its own. No client can help it.
    pub fn led_astray(&self) -> Vec<(At, Rc<Stored>)> {
        let cluster = self.cluster.borrow();
        let mut all = Vec::new();
        for (at, marker) in &self.coordinators.borrow().strays {
            let Some(log) = cluster.log(*at) else {
                continue;
            };
            let Some(ended) = log.ended_by(marker) else {
                continue;
            };
            let of_it = log.batches().iter().filter(|it| {
                let range = ended.first_offset..ended.last_offset;
                range.contains(&it.base_offset) && it.header.producer_id == ended.producer_id
            });
            all.extend(of_it.map(|it| (*at, Rc::clone(it))));
        }
        all
    }

    /// The transactions that are open in a partition though no coordinator will ever end them: nobody
    /// who reads with `read_committed` gets beyond one.
    pub fn hanging(&self) -> Vec<(At, Open)> {
        let cluster = self.cluster.borrow();
        let coordinators = self.coordinators.borrow();
        let known = |at: At, open: &Open| {
            coordinators.transactions.values().any(|it| {
                let current = match it.state {
                    State::Ongoing => it.epoch == open.epoch,
                    // The marker has this epoch, or the next.
                    _ => it.is_ending() && it.epoch >= open.epoch,
                };
                current
                    && it.producer_id == open.producer_id
                    && it.participants.contains(&Participant::Partition(at))
            })
        };
        let everywhere = cluster.everywhere().into_iter();
        let logs = everywhere.filter_map(|at| Some((at, cluster.log(at)?)));
        logs.flat_map(|(at, log)| log.open().into_iter().map(move |open| (at, open)))
            .filter(|(at, open)| !known(*at, open))
            .collect()
    }
}
