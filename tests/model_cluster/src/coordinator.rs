//! Coordinators: which broker is the one of a key, what it does when it becomes that, and what it answers
//! about transactional ids.
//!
//! What a coordinator writes is replicated and read by the next one, so it is kept in one place. A broker
//! that is no coordinator any more cannot have anything replicated: all it can do is to say so.

use std::collections::BTreeMap;
use std::rc::Rc;

use tokio::time::{Instant, sleep};

use crate::broker::Life;
use crate::cluster::At;
use crate::kafka::{Kafka, Misdeed};
use crate::log::{Stored, code};
use crate::network::spawn;
use crate::transaction::{Identity, Participant, State, Transaction, V1, V2, Version};

/// What a coordinator is for: the `key_type` of FindCoordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Group = 0,
    Transaction = 1,
}

/// Something that no client should do, though a broker may put up with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Breach {
    /// It asked as transaction version 2 has it, which the cluster has not finalized.
    TooEarly { api: i16, version: i16 },
    /// A version of a request that brokers keep to themselves.
    NotForClients { api: i16, version: i16 },
    /// One transaction, spoken in both ways.
    MixedProtocols { transactional_id: String },
}

/// Partitions of `__transaction_state` and of `__consumer_offsets`.
const SLOTS: usize = 5;

/// One of them.
#[derive(Debug, Clone)]
struct Slot {
    /// Its leader, by the controller's word.
    broker: Option<usize>,
    /// Counts its leaders.
    epoch: i32,
    /// The leader has read it.
    loaded: bool,
    /// Somebody has asked for a key of it.
    used: bool,
    /// What every broker believes of its leader.
    believed: Vec<Option<usize>>,
}

/// All that coordinators have written, and who they are.
pub(crate) struct Coordinators {
    pub transactions: BTreeMap<String, Transaction>,
    slots: [Vec<Slot>; 2],
    /// The finalized feature `transaction.version`, and how often it has changed.
    pub version: (Version, i64),
    /// What every broker knows of it.
    pub versions: Vec<(Version, i64)>,
    pub breaches: Vec<Breach>,
    /// Markers that ended what they were not written for, and where.
    pub strays: Vec<(At, Rc<Stored>)>,
    /// Until when no marker can be written there.
    pub blocked: BTreeMap<Participant, Instant>,
    sweeps: bool,
}

impl Coordinators {
    pub fn new(brokers: usize, version: Version) -> Self {
        let slots = |first: usize| {
            let leader = |number| Some((first + number) % brokers.max(1));
            let slot = |number| Slot {
                broker: leader(number),
                epoch: 0,
                loaded: true,
                used: false,
                believed: vec![leader(number); brokers],
            };
            (0..SLOTS).map(slot).collect()
        };
        Self {
            transactions: BTreeMap::new(),
            slots: [slots(0), slots(1)],
            version: (version, 1),
            versions: vec![(version, 1); brokers],
            breaches: Vec::new(),
            strays: Vec::new(),
            blocked: BTreeMap::new(),
            sweeps: false,
        }
    }

    fn slot(&mut self, kind: Kind, key: &str) -> &mut Slot {
        &mut self.slots[kind as usize][number(key)]
    }

    /// The broker that coordinates a key by the controller's word, once it has read what there is; and
    /// its epoch.
    pub fn of(&self, kind: Kind, key: &str) -> Option<(usize, i32)> {
        let slot = &self.slots[kind as usize][number(key)];
        Some((slot.broker.filter(|_| slot.loaded)?, slot.epoch))
    }

    /// Whether the coordinator of this epoch still has to write markers for an end of the id, which is told
    /// by its identity and its number.
    pub fn is_ending(&self, id: &str, end: (Identity, u32), epoch: i32) -> bool {
        let now = self.of(Kind::Transaction, id).map(|it| it.1);
        now == Some(epoch) && self.transactions.get(id).is_some_and(|it| it.is_at(end))
    }

    fn breach(&mut self, breach: Breach) {
        if !self.breaches.contains(&breach) {
            self.breaches.push(breach);
        }
    }
}

fn number(key: &str) -> usize {
    let hash = key
        .bytes()
        .fold(0u32, |hash, byte| hash.wrapping_mul(31) + u32::from(byte));
    hash as usize % SLOTS
}

/// Who coordinates, over time.
impl Kafka {
    /// Another broker becomes the coordinator of a key. Returns whether there was one.
    pub fn move_coordinator(self: &Rc<Self>, kind: Kind, key: &str) -> bool {
        let now = self.coordinators.borrow_mut().slot(kind, key).broker;
        let others: Vec<usize> = {
            let cluster = self.cluster.borrow();
            let brokers = 0..cluster.brokers.len();
            brokers
                .filter(|it| Some(*it) != now && cluster.brokers[*it].reports())
                .collect()
        };
        if others.is_empty() {
            return false;
        }
        let to = others[self.below(others.len() as u64) as usize];
        self.elect(kind, number(key), Some(to));
        true
    }

    fn elect(self: &Rc<Self>, kind: Kind, number: usize, to: Option<usize>) {
        let (epoch, used) = {
            let mut coordinators = self.coordinators.borrow_mut();
            let slot = &mut coordinators.slots[kind as usize][number];
            slot.broker = to;
            slot.epoch += 1;
            slot.loaded = !slot.used;
            if !slot.used {
                // Nobody can tell when who has heard of it.
                slot.believed.fill(to);
            }
            (slot.epoch, slot.used)
        };
        if !used {
            return;
        }
        let to = to.map_or(-1, |to| to as i64);
        self.note(
            "coordinator",
            &[kind as i64, number as i64, to, i64::from(epoch)],
        );
        for broker in 0..self.brokers() {
            let delay = self.between(1, 60);
            let kafka = Rc::clone(self);
            spawn(async move {
                sleep(delay).await;
                kafka.learn_coordinator(kind, number, broker, epoch);
            });
        }
    }

    /// A broker hears who leads a slot in an epoch, and reads it if that is the broker itself.
    fn learn_coordinator(self: &Rc<Self>, kind: Kind, number: usize, broker: usize, epoch: i32) {
        if !self.cluster.borrow().brokers[broker].reports() {
            return;
        }
        {
            let mut coordinators = self.coordinators.borrow_mut();
            let slot = &mut coordinators.slots[kind as usize][number];
            if slot.epoch != epoch {
                return;
            }
            slot.believed[broker] = slot.broker;
            if slot.broker != Some(broker) || slot.loaded {
                return;
            }
        }
        let delay = self.between(0, self.conditions.get().loading);
        let kafka = Rc::clone(self);
        spawn(async move {
            sleep(delay).await;
            let ending: Vec<String> = {
                let mut coordinators = kafka.coordinators.borrow_mut();
                let slot = &mut coordinators.slots[kind as usize][number];
                if slot.epoch != epoch {
                    return;
                }
                slot.loaded = true;
                let all = coordinators.transactions.iter();
                all.filter(|(id, it)| it.is_ending() && self::number(id) == number)
                    .map(|(id, _)| id.clone())
                    .collect()
            };
            kafka.note("loaded", &[kind as i64, number as i64, broker as i64]);
            kafka.changed.notify_waiters();
            if kind == Kind::Transaction {
                ending.iter().for_each(|id| kafka.send_markers(id, epoch));
            }
        });
    }

    fn each_slot(&self, what: impl Fn(&Slot) -> bool) -> Vec<(Kind, usize)> {
        let coordinators = self.coordinators.borrow();
        let kinds = [Kind::Group, Kind::Transaction].into_iter();
        let all = kinds.flat_map(|kind| (0..SLOTS).map(move |number| (kind, number)));
        all.filter(|(kind, number)| what(&coordinators.slots[*kind as usize][*number]))
            .collect()
    }

    /// The controller has given a broker up.
    pub(crate) fn lose_coordinators(self: &Rc<Self>, broker: usize) {
        let next = {
            let cluster = self.cluster.borrow();
            let brokers = cluster.brokers.len();
            let mut others = (1..brokers).map(|step| (broker + step) % brokers);
            others.find(|it| cluster.brokers[*it].reports())
        };
        for (kind, number) in self.each_slot(|slot| slot.broker == Some(broker)) {
            self.elect(kind, number, next);
        }
    }

    /// The broker's process ends, and with it all it knew.
    pub(crate) fn forget_coordinators(&self, broker: usize) {
        let mut coordinators = self.coordinators.borrow_mut();
        for slot in coordinators.slots.iter_mut().flatten() {
            slot.believed[broker] = None;
            if slot.broker == Some(broker) {
                slot.loaded = false;
            }
        }
    }

    /// The controller hears a broker again, which hears what it has missed.
    pub(crate) fn return_coordinators(self: &Rc<Self>, broker: usize) {
        let all = self.each_slot(|_| true);
        for (kind, number) in all {
            let (now, unread, used, epoch) = {
                let coordinators = self.coordinators.borrow();
                let slot = &coordinators.slots[kind as usize][number];
                (slot.broker, !slot.loaded, slot.used, slot.epoch)
            };
            if now.is_none() || now == Some(broker) && unread {
                self.elect(kind, number, Some(broker));
            } else if used {
                self.learn_coordinator(kind, number, broker, epoch);
            } else {
                let mut coordinators = self.coordinators.borrow_mut();
                coordinators.slots[kind as usize][number].believed[broker] = now;
            }
        }
        self.learn_version(broker);
    }

    fn learn_version(&self, broker: usize) {
        if self.cluster.borrow().brokers[broker].reports() {
            let mut coordinators = self.coordinators.borrow_mut();
            coordinators.versions[broker] = coordinators.version;
        }
    }

    /// The feature `transaction.version` is finalized anew. Every broker tells of it in its own time.
    pub fn finalize(self: &Rc<Self>, version: Version) {
        self.note("finalize", &[i64::from(version)]);
        {
            let mut coordinators = self.coordinators.borrow_mut();
            coordinators.version = (version, coordinators.version.1 + 1);
        }
        for broker in 0..self.brokers() {
            let delay = self.between(1, 60);
            let kafka = Rc::clone(self);
            spawn(async move {
                sleep(delay).await;
                kafka.learn_version(broker);
            });
        }
    }

    /// What clients did that they should not have.
    pub fn breaches(&self) -> Vec<Breach> {
        self.coordinators.borrow().breaches.clone()
    }

    /// Records that a client used a request of version 2 before its time.
    pub(crate) fn spoke_v2(&self, api: i16, version: i16) {
        let mut coordinators = self.coordinators.borrow_mut();
        if coordinators.version.0 < V2 {
            coordinators.breach(Breach::TooEarly { api, version });
        }
    }

    pub(crate) fn not_for_clients(&self, api: i16, version: i16) {
        let breach = Breach::NotForClients { api, version };
        self.coordinators.borrow_mut().breach(breach);
    }

    /// The state of a transactional id, as its coordinators have it.
    pub fn transaction(&self, id: &str) -> Option<Transaction> {
        self.coordinators.borrow().transactions.get(id).cloned()
    }

    /// All transactional ids that anybody has used.
    pub fn transactional_ids(&self) -> Vec<String> {
        let coordinators = self.coordinators.borrow();
        coordinators.transactions.keys().cloned().collect()
    }

    /// Whether clients may use transactional ids, by their ACLs.
    pub(crate) fn permits(&self) -> Result<(), i16> {
        match self.settings.transactions.is_none_or(|it| it.permitted) {
            true => Ok(()),
            false => Err(code::TRANSACTIONAL_ID_AUTHORIZATION_FAILED),
        }
    }

    pub(crate) fn new_producer_id(&self) -> i64 {
        let id = self.next_producer_id.get();
        self.next_producer_id.set(id + 1);
        id
    }

    /// Another instance that has the same transactional id asks for it, once. With
    /// CONCURRENT_TRANSACTIONS the id is not its own yet, but what was open is aborted.
    pub fn take_over(self: &Rc<Self>, id: &str) -> Result<Identity, i16> {
        let (broker, _) = {
            let coordinators = self.coordinators.borrow();
            let now = coordinators.of(Kind::Transaction, id);
            now.ok_or(code::COORDINATOR_NOT_AVAILABLE)?
        };
        self.note("take over", &[broker as i64]);
        self.init(broker, id, None, 60_000)
    }
}

/// What a coordinator does.
impl Kafka {
    /// Which broker another one believes to coordinate a key.
    pub(crate) fn believed(&self, broker: usize, kind: Kind, key: &str) -> Option<usize> {
        let mut coordinators = self.coordinators.borrow_mut();
        let slot = coordinators.slot(kind, key);
        slot.used = true;
        slot.believed[broker]
    }

    /// Whether a broker coordinates a key; the epoch in which it does.
    pub(crate) fn coordinates(&self, broker: usize, kind: Kind, key: &str) -> Result<i32, i16> {
        let conditions = self.conditions.get();
        let unable = [
            code::COORDINATOR_LOAD_IN_PROGRESS,
            code::COORDINATOR_NOT_AVAILABLE,
            code::NOT_COORDINATOR,
        ];
        if self.happens(conditions.coordinator_errors) {
            self.count(Misdeed::CoordinatorError);
            return Err(unable[self.below(3) as usize]);
        }
        if conditions.no_coordinators {
            return Err(unable[self.below(2) as usize]);
        }
        if self.cluster.borrow().brokers[broker].alone {
            return Err(code::COORDINATOR_NOT_AVAILABLE); // none of its replicas hears it
        }
        let mut coordinators = self.coordinators.borrow_mut();
        let slot = coordinators.slot(kind, key);
        slot.used = true;
        match slot.believed[broker] == Some(broker) && slot.broker == Some(broker) {
            false => Err(code::NOT_COORDINATOR),
            true if !slot.loaded => Err(code::COORDINATOR_LOAD_IN_PROGRESS),
            true => Ok(slot.epoch),
        }
    }

    /// Changes a transactional id's state at its coordinator, and begins what follows from that.
    pub(crate) fn transact<T>(
        self: &Rc<Self>,
        broker: usize,
        id: &str,
        change: impl FnOnce(&mut Transaction, i64) -> Result<T, i16>,
    ) -> Result<T, i16> {
        let epoch = self.coordinates(broker, Kind::Transaction, id)?;
        let now = self.wall_clock();
        let (result, ends, state) = {
            let mut coordinators = self.coordinators.borrow_mut();
            let it = coordinators.transactions.get_mut(id);
            let it = it.ok_or(code::INVALID_PRODUCER_ID_MAPPING)?;
            let before = it.is_ending();
            let result = change(it, now);
            (result, !before && it.is_ending(), (it.identity(), it.state))
        };
        let code = result.as_ref().map_or_else(|code| i64::from(*code), |_| 0);
        let ((producer, at), state) = state;
        let what = [broker as i64, producer, i64::from(at), state as i64, code];
        self.note("transaction", &what);
        if ends {
            self.send_markers(id, epoch);
        }
        if result.is_ok() && self.happens(self.conditions.get().coordinator_errors_after) {
            self.count(Misdeed::CoordinatorError);
            let codes = [code::COORDINATOR_NOT_AVAILABLE, code::NOT_COORDINATOR];
            return Err(codes[self.below(2) as usize]);
        }
        result
    }

    pub(crate) fn init(
        self: &Rc<Self>,
        broker: usize,
        id: &str,
        expected: Option<Identity>,
        timeout: i32,
    ) -> Result<Identity, i16> {
        if id.is_empty() {
            return Err(code::INVALID_REQUEST);
        }
        let most = self
            .settings
            .transactions
            .map_or(0, |it| it.max_timeout.as_millis());
        if timeout <= 0 || timeout as u128 > most {
            return Err(code::INVALID_TRANSACTION_TIMEOUT);
        }
        self.coordinates(broker, Kind::Transaction, id)?;
        let version = {
            let now = self.wall_clock();
            let mut coordinators = self.coordinators.borrow_mut();
            if !coordinators.transactions.contains_key(id) {
                let first = self.settings.first_epoch;
                let new = Transaction::new(self.new_producer_id(), first, timeout, now);
                coordinators.transactions.insert(id.to_owned(), new);
            }
            coordinators.versions[broker].0
        };
        self.sweep();
        let new_id = || self.new_producer_id();
        self.transact(broker, id, |it, now| {
            if expected == Some(it.identity()) && it.state == State::Ongoing {
                self.count(Misdeed::Reopened);
            }
            it.init(expected, timeout, version, now, new_id)
        })
    }

    pub(crate) fn add(
        self: &Rc<Self>,
        broker: usize,
        (id, identity): (&str, Identity),
        participants: Vec<Participant>,
        version: Version,
    ) -> Result<(), i16> {
        self.watch_protocol(id, identity, version);
        self.add_ahead(broker, (id, identity), participants, version)
    }

    /// The same for partitions that are named before anything is written. Clients of version 2 need not, but
    /// may: what they write is added all the same.
    pub(crate) fn add_ahead(
        self: &Rc<Self>,
        broker: usize,
        (id, identity): (&str, Identity),
        participants: Vec<Participant>,
        version: Version,
    ) -> Result<(), i16> {
        self.transact(broker, id, |it, now| {
            it.add(identity, participants, version, now)
        })
    }

    /// DescribeTransactions.
    pub(crate) fn describe(&self, broker: usize, id: &str) -> Result<Transaction, i16> {
        self.coordinates(broker, Kind::Transaction, id)?;
        self.transaction(id).ok_or(code::TRANSACTIONAL_ID_NOT_FOUND)
    }

    /// EndTxn. In version 1 the answer names nobody.
    pub(crate) fn end(
        self: &Rc<Self>,
        broker: usize,
        (id, identity): (&str, Identity),
        commit: bool,
        version: Version,
    ) -> Result<Option<Identity>, i16> {
        self.watch_protocol(id, identity, version);
        let new_id = || self.new_producer_id();
        self.transact(broker, id, |it, now| match version {
            V1 => it.end_v1(identity, commit, now).map(|()| None),
            _ => it.end_v2(identity, commit, now, new_id).map(Some),
        })
    }

    fn watch_protocol(&self, id: &str, identity: Identity, version: Version) {
        let mut coordinators = self.coordinators.borrow_mut();
        let Some(it) = coordinators.transactions.get_mut(id) else {
            return;
        };
        let spoken = it.spoken.replace((identity, version));
        let is_other = |(of, spoken): (Identity, Version)| of == identity && spoken != version;
        if it.state == State::Ongoing && it.identity() == identity && spoken.is_some_and(is_other) {
            let transactional_id = id.to_owned();
            coordinators.breach(Breach::MixedProtocols { transactional_id });
        }
    }

    /// From the first transactional id on, coordinators look for what has taken too long.
    fn sweep(self: &Rc<Self>) {
        let first = !std::mem::replace(&mut self.coordinators.borrow_mut().sweeps, true);
        let Some(transactions) = self.settings.transactions.filter(|_| first) else {
            return;
        };
        let kafka = Rc::downgrade(self);
        spawn(async move {
            loop {
                sleep(transactions.sweep).await;
                let Some(kafka) = kafka.upgrade() else {
                    return;
                };
                kafka.abort_overdue(transactions.expiration.as_millis() as i64);
            }
        });
    }

    fn abort_overdue(self: &Rc<Self>, expiration: i64) {
        let now = self.wall_clock();
        let overdue: Vec<(String, usize)> = {
            let cluster = self.cluster.borrow();
            let mut coordinators = self.coordinators.borrow_mut();
            let all = &mut coordinators.transactions;
            all.retain(|_, it| !it.is_forgotten(now, expiration));
            let all = coordinators.transactions.iter();
            all.filter(|(_, it)| it.is_overdue(now))
                .filter_map(|(id, _)| {
                    let (broker, _) = coordinators.of(Kind::Transaction, id)?;
                    let works = cluster.brokers[broker].works() && !cluster.brokers[broker].alone;
                    works.then(|| (id.clone(), broker))
                })
                .collect()
        };
        for (id, broker) in overdue {
            let version = self.coordinators.borrow().versions[broker].0;
            let new_id = || self.new_producer_id();
            // Whatever the coordinator says of it.
            let _ = self.transact(broker, &id, |it, now| {
                it.fence(version, now, new_id);
                self.count(Misdeed::TimedOut);
                Ok(())
            });
        }
    }
}

impl Life {
    /// Asks a transactional id's coordinator, as the leader of a partition or a group's coordinator does:
    /// with `adds` to add what is about to be written, else whether it has been added. `generic` is
    /// whether the client knows TRANSACTION_ABORTABLE. `None` when this broker has died over it.
    pub(crate) async fn ask_coordinator(
        &self,
        (id, identity): (&str, Identity),
        participants: &[Participant],
        (adds, generic): (bool, bool),
    ) -> Option<Result<(), i16>> {
        // `add.partitions.to.txn.retry.backoff.ms` and its maximum
        const BACKOFF_MS: u64 = 20;
        const TRIES: usize = 5;
        let mut answer = Err(code::CONCURRENT_TRANSACTIONS);
        for attempt in 0..TRIES {
            if attempt > 0 {
                sleep(std::time::Duration::from_millis(BACKOFF_MS)).await;
            }
            sleep(self.kafka.latency()).await;
            self.working().await?;
            answer = self.ask_once(id, identity, participants, adds);
            if !adds || answer != Err(code::CONCURRENT_TRANSACTIONS) {
                break;
            }
        }
        sleep(self.kafka.latency()).await;
        self.working().await?;
        Some(answer.map_err(|code| match code {
            code::PRODUCER_FENCED => code::INVALID_PRODUCER_EPOCH,
            code::TRANSACTION_ABORTABLE if !generic => code::INVALID_TXN_STATE,
            other => other,
        }))
    }

    fn ask_once(
        &self,
        id: &str,
        identity: Identity,
        participants: &[Participant],
        adds: bool,
    ) -> Result<(), i16> {
        let kafka = &self.kafka;
        let coordinator = kafka.believed(self.broker, Kind::Transaction, id);
        let coordinator = coordinator.ok_or(code::COORDINATOR_NOT_AVAILABLE)?;
        {
            let cluster = kafka.cluster.borrow();
            if !cluster.reaches(self.broker, coordinator) {
                return Err(code::COORDINATOR_NOT_AVAILABLE);
            }
            let known = &cluster.brokers[coordinator].known;
            let unknown = |it: &&Participant| match it {
                Participant::Partition(at) => known[at.0] <= at.1,
                Participant::Group(_) => false,
            };
            if participants.iter().any(|it| unknown(&it)) {
                return Err(code::UNKNOWN_TOPIC_OR_PARTITION);
            }
        }
        if adds {
            return kafka.add(coordinator, (id, identity), participants.to_vec(), V2);
        }
        kafka.watch_protocol(id, identity, V1);
        kafka.coordinates(coordinator, Kind::Transaction, id)?;
        let coordinators = kafka.coordinators.borrow();
        let it = coordinators.transactions.get(id);
        let it = it.ok_or(code::INVALID_PRODUCER_ID_MAPPING)?;
        participants
            .iter()
            .try_for_each(|participant| it.verify(identity, participant))
    }
}
