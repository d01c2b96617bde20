//! The cluster as it runs: what it is set to, what it does wrong, and what happens to its brokers.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use crate::broker::listen;
use crate::cluster::{At, Cluster};
use crate::coordinator::Coordinators;
use crate::group::Group;
use crate::network::{Cut, spawn};

pub(crate) const FIRST_PORT: u16 = 9092;

/// A broker that moves goes round these.
pub(crate) const PORTS: u16 = 4;

/// What a cluster is like from beginning to end.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `min.insync.replicas`
    pub min_in_sync: usize,
    /// `max.message.bytes`
    pub max_message: usize,
    /// Answers a duplicate with DUPLICATE_SEQUENCE_NUMBER, as others than Kafka 4 do.
    pub names_duplicates: bool,
    pub newest_produce: i16,
    /// Tells who leads, with the error that somebody else does.
    pub hints: bool,
    /// Bytes that a socket takes before somebody reads.
    pub socket: usize,
    /// Producer ids start at this epoch.
    pub first_epoch: i16,
    /// `producer.id.expiration.ms`: how old a producer's newest record may be.
    pub producer_expiration: Duration,
    /// How often brokers forget the producers that are older.
    pub expiration_check: Duration,
    /// Without this there are no requests of transactions.
    pub transactions: Option<Transactions>,
    /// There are requests that read, also where there are none of transactions.
    pub reads: bool,
    /// Clients may read topics.
    pub readable: bool,
}

/// What the coordinators of transactions are like.
#[derive(Debug, Clone, Copy)]
pub struct Transactions {
    /// The finalized feature `transaction.version`, at first: 0, 1 or 2.
    pub version: i16,
    /// There are requests of version 2, whatever is finalized: since Kafka 4.0.
    pub knows_v2: bool,
    /// `transaction.max.timeout.ms`
    pub max_timeout: Duration,
    /// `transaction.abort.timed.out.transaction.cleanup.interval.ms`
    pub sweep: Duration,
    /// `transactional.id.expiration.ms`
    pub expiration: Duration,
    /// Clients may use transactional ids.
    pub permitted: bool,
}

impl Transactions {
    /// As Kafka 4 has them.
    pub const FAIR: Self = Self {
        version: 2,
        knows_v2: true,
        max_timeout: Duration::from_secs(15 * 60),
        sweep: Duration::from_secs(10),
        expiration: Duration::from_secs(7 * 24 * 60 * 60),
        permitted: true,
    };
}

impl Settings {
    /// As Kafka 4 has them.
    pub const FAIR: Self = Self {
        min_in_sync: 2,
        max_message: 1 << 20,
        names_duplicates: false,
        newest_produce: 13,
        hints: true,
        socket: 100_000,
        first_epoch: 0,
        producer_expiration: Duration::from_secs(24 * 60 * 60),
        expiration_check: Duration::from_secs(10 * 60),
        transactions: None,
        reads: false,
        readable: true,
    };
}

/// What things are like at the moment.
#[derive(Debug, Clone, Copy)]
pub struct Conditions {
    /// Milliseconds, at most.
    pub latency: u64,
    pub replication: u64,
    /// Of 1,000 answers.
    pub answers_lost: u32,
    pub answers_late: u32,
    /// All answers that name a new leader take long.
    pub hints_late: bool,
    pub errors_before: u32,
    pub errors_after: u32,
    pub throttles: u32,
    pub topic_unknown: bool,
    pub metadata_stale: bool,
    pub metadata_empty: bool,
    /// Nonsense among what is true: topics nobody asked for, or twice; too many partitions, or too few;
    /// ids that do not exist.
    pub metadata_hostile: bool,
    pub no_producer_ids: bool,
    /// Milliseconds, at most, until a marker is on its way to a partition.
    pub markers: u64,
    /// Of 1,000 markers: those that are delivered once more, later.
    pub markers_again: u32,
    /// Of 1,000 markers: those that are never written, though the end is complete. The coordinator knows of
    /// no such partition, or not yet, and takes it to be deleted.
    pub markers_skipped: u32,
    /// Of 1,000 answers of EndTxn.
    pub ends_lost: u32,
    /// Of 1,000 requests of EndTxn: they are lost on their way.
    pub ends_dropped: u32,
    /// Of 1,000 requests to a coordinator: it says that it cannot, and does nothing.
    pub coordinator_errors: u32,
    /// It says so when it has done it.
    pub coordinator_errors_after: u32,
    pub no_coordinators: bool,
    /// Milliseconds, at most, until a new coordinator has read what there is.
    pub loading: u64,
}

impl Conditions {
    /// Nothing goes wrong by itself.
    pub const FAIR: Self = Self {
        latency: 3,
        replication: 3,
        answers_lost: 0,
        answers_late: 0,
        hints_late: false,
        errors_before: 0,
        errors_after: 0,
        throttles: 0,
        topic_unknown: false,
        metadata_stale: false,
        metadata_empty: false,
        metadata_hostile: false,
        no_producer_ids: false,
        markers: 3,
        markers_again: 0,
        markers_skipped: 0,
        ends_lost: 0,
        ends_dropped: 0,
        coordinator_errors: 0,
        coordinator_errors_after: 0,
        no_coordinators: false,
        loading: 20,
    };
}

/// What a broker did wrong, because of the conditions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misdeed {
    AnswerLost,
    AnswerLate,
    ErrorBefore,
    ErrorAfter,
    Throttle,
    MetadataStale,
    MetadataEmpty,
    MetadataHostile,
    MarkerAgain,
    /// One of them came so late that it ended the next transaction.
    MarkerStray,
    MarkerSkipped,
    CoordinatorError,
    /// A transaction was open for longer than its producer wanted.
    TimedOut,
    /// A producer asked for its next epoch, and a transaction was open: a request that came late had begun it
    /// behind the end of the last one. It is aborted under an epoch that the producer does not know.
    Reopened,
}

/// Whoever wants to know what happens.
pub trait Observer {
    fn happened(&self, _what: &str, _numbers: &[i64]) {}
    fn misbehaved(&self, _how: Misdeed) {}
}

impl Observer for () {}

/// A cluster whose brokers listen on this thread's network as `broker-0`, `broker-1` and so on.
pub struct Kafka {
    pub settings: Settings,
    pub conditions: Cell<Conditions>,
    pub cluster: RefCell<Cluster>,
    pub connections: RefCell<Vec<(usize, Cut)>>,
    /// All chance comes from here.
    pub rng: RefCell<SmallRng>,
    /// Something in the cluster has changed: whoever waits looks again.
    pub(crate) changed: Notify,
    pub(crate) next_producer_id: Cell<i64>,
    pub(crate) coordinators: RefCell<Coordinators>,
    /// Consumer groups, by name.
    pub groups: RefCell<BTreeMap<String, Group>>,
    started: Instant,
    /// What the brokers' wall clocks showed then.
    first_millis: i64,
    observer: Box<dyn Observer>,
}

/// The producer has the real wall clock, of which it sees no more than whether a record is older than a
/// day, so that a second more or less makes no difference.
#[expect(clippy::disallowed_methods, reason = "virtual time has no wall clock")]
fn real_millis() -> i64 {
    let now = std::time::SystemTime::now();
    let since = now.duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as i64)
}

/// A generator whose draws are the same every time.
pub fn rng(seed: u64) -> SmallRng {
    SmallRng::seed_from_u64(seed)
}

impl Kafka {
    /// Starts the brokers. To be called in [`virtual_time`](crate::virtual_time).
    pub fn start(
        settings: Settings,
        cluster: Cluster,
        rng: SmallRng,
        observer: impl Observer + 'static,
    ) -> Rc<Self> {
        let version = settings.transactions.map_or(0, |it| it.version);
        let coordinators = Coordinators::new(cluster.brokers.len(), version);
        let kafka = Rc::new(Self {
            settings,
            conditions: Cell::new(Conditions::FAIR),
            cluster: RefCell::new(cluster),
            connections: RefCell::default(),
            rng: RefCell::new(rng),
            changed: Notify::new(),
            next_producer_id: Cell::new(1_000),
            coordinators: RefCell::new(coordinators),
            groups: RefCell::default(),
            started: Instant::now(),
            first_millis: real_millis(),
            observer: Box::new(observer),
        });
        listen(&kafka);
        kafka.forget_producers();
        kafka
    }

    /// The brokers' wall clock, in milliseconds since 1970-01-01 UTC.
    pub fn wall_clock(&self) -> i64 {
        self.first_millis + self.started.elapsed().as_millis() as i64
    }

    /// Brokers look now and then for producers that are to be forgotten.
    fn forget_producers(self: &Rc<Self>) {
        let kafka = Rc::downgrade(self);
        let interval = self.settings.expiration_check;
        spawn(async move {
            loop {
                sleep(interval).await;
                let Some(kafka) = kafka.upgrade() else {
                    return;
                };
                let now = kafka.wall_clock();
                let expiration = kafka.settings.producer_expiration.as_millis() as i64;
                let mut cluster = kafka.cluster.borrow_mut();
                for replica in cluster.replicas() {
                    replica.log.forget_producers(now, expiration);
                }
            }
        });
    }

    pub fn brokers(&self) -> usize {
        self.cluster.borrow().brokers.len()
    }

    pub fn below(&self, end: u64) -> u64 {
        self.rng.borrow_mut().random_range(0..end.max(1))
    }

    /// Milliseconds between the two, to the microsecond.
    pub fn between(&self, least: u64, most: u64) -> Duration {
        let micros = self
            .rng
            .borrow_mut()
            .random_range(least * 1_000..=most.max(least) * 1_000);
        Duration::from_micros(micros)
    }

    pub(crate) fn happens(&self, of_1000: u32) -> bool {
        of_1000 > 0 && self.below(1_000) < u64::from(of_1000)
    }

    pub(crate) fn latency(&self) -> Duration {
        self.between(0, self.conditions.get().latency)
    }

    fn replication_delay(&self) -> Duration {
        self.between(0, self.conditions.get().replication)
    }

    pub fn change(&self, change: impl FnOnce(&mut Conditions)) {
        let mut conditions = self.conditions.get();
        change(&mut conditions);
        self.conditions.set(conditions);
    }

    pub(crate) fn count(&self, how: Misdeed) {
        self.observer.misbehaved(how);
    }

    pub(crate) fn note(&self, what: &str, numbers: &[i64]) {
        self.observer.happened(what, numbers);
    }

    /// Ends a broker's connections.
    fn cut_all(&self, broker: usize) {
        self.connections.borrow_mut().retain(|(of, cut)| {
            if *of == broker {
                cut.cut(usize::MAX, true);
            }
            *of != broker && !cut.is_over()
        });
    }
}

/// What happens to brokers, over time.
impl Kafka {
    /// Followers fetch after a while, again and again as there is something.
    pub fn replicate(self: &Rc<Self>, at: At) {
        for follower in 0..self.brokers() {
            let delay = self.replication_delay();
            let kafka = Rc::clone(self);
            spawn(async move {
                sleep(delay).await;
                let fetched = kafka.cluster.borrow_mut().fetch(follower, at);
                if fetched {
                    kafka.changed.notify_waiters();
                }
            });
        }
    }

    /// Every broker learns of the controller's decision, each in its own time.
    pub fn publish(self: &Rc<Self>, at: At) {
        for broker in 0..self.brokers() {
            let delay = self.between(1, 60);
            let kafka = Rc::clone(self);
            spawn(async move {
                sleep(delay).await;
                kafka.cluster.borrow_mut().learn(broker, at);
                let view = kafka.cluster.borrow().view(broker, at).clone();
                let leader = view.leader.map_or(-1, |leader| leader as i64);
                let what = [broker, at.0, at.1].map(|n| n as i64);
                kafka.note(
                    "learns",
                    &[what[0], what[1], what[2], leader, i64::from(view.epoch)],
                );
                kafka.changed.notify_waiters();
                kafka.replicate(at);
            });
        }
    }

    pub fn publish_all(self: &Rc<Self>) {
        let topics = self.cluster.borrow().topics.len();
        (0..topics).for_each(|topic| self.publish_topic(topic));
    }

    /// Every broker learns that a topic was created, has grown, or was deleted.
    fn publish_topic(self: &Rc<Self>, topic: usize) {
        let (exists, partitions) = {
            let topic = &self.cluster.borrow().topics[topic];
            (topic.exists, topic.partitions.len())
        };
        if exists {
            return (0..partitions).for_each(|partition| self.publish((topic, partition)));
        }
        for broker in 0..self.brokers() {
            let delay = self.between(1, 60);
            let kafka = Rc::clone(self);
            spawn(async move {
                sleep(delay).await;
                kafka.cluster.borrow_mut().learn_topic(broker, topic);
                kafka.note("learns of the end", &[broker as i64, topic as i64]);
                kafka.changed.notify_waiters();
            });
        }
    }

    /// Creates a topic, or one that is deleted anew: with another id, other leaders and empty logs.
    pub fn create_topic(self: &Rc<Self>, number: usize, partitions: usize) {
        let topic = {
            let mut rng = self.rng.borrow_mut();
            let mut cluster = self.cluster.borrow_mut();
            let newest = cluster.newest(number);
            if newest.is_some_and(|topic| cluster.topics[topic].exists) {
                return;
            }
            cluster.create(number, partitions, &mut *rng)
        };
        self.note("create", &[number as i64, topic as i64, partitions as i64]);
        self.publish_topic(topic);
    }

    pub fn delete_topic(self: &Rc<Self>, topic: usize) {
        self.note("delete", &[topic as i64]);
        self.cluster.borrow_mut().topics[topic].exists = false;
        self.publish_topic(topic);
    }

    /// One more of a topic's partitions is told of. Returns whether there was one.
    pub fn grow_topic(self: &Rc<Self>, topic: usize) -> bool {
        {
            let topic = &mut self.cluster.borrow_mut().topics[topic];
            if topic.visible == topic.partitions.len() {
                return false;
            }
            topic.visible += 1;
        }
        self.publish_topic(topic);
        true
    }

    pub fn move_leader(self: &Rc<Self>, at: At) -> bool {
        let moved = {
            let mut rng = self.rng.borrow_mut();
            self.cluster.borrow_mut().move_leader(at, &mut *rng)
        };
        if moved {
            self.publish(at);
        }
        moved
    }

    /// The controller notices that a broker is silent, if it still is after this long.
    fn notice(self: &Rc<Self>, broker: usize, after: Duration) {
        let kafka = Rc::clone(self);
        let life = self.cluster.borrow().brokers[broker].life;
        spawn(async move {
            sleep(after).await;
            let everywhere = {
                let cluster = kafka.cluster.borrow();
                let it = &cluster.brokers[broker];
                if it.reports() || it.life != life {
                    return;
                }
                cluster.everywhere()
            };
            kafka.cluster.borrow_mut().brokers[broker].heard = false;
            for at in everywhere {
                kafka.cluster.borrow_mut().give_up(broker, at);
                kafka.publish(at);
            }
            kafka.lose_coordinators(broker);
        });
    }

    /// The broker's process ends. With `forgets` it loses what its followers do not have.
    pub fn kill(self: &Rc<Self>, broker: usize, forgets: bool) {
        self.note("kill", &[broker as i64, i64::from(forgets)]);
        {
            let mut cluster = self.cluster.borrow_mut();
            let it = &mut cluster.brokers[broker];
            it.alive = false;
            it.life += 1;
            cluster.know_nothing(broker);
            if forgets {
                for at in cluster.everywhere() {
                    cluster.partition(at).forget(broker);
                }
            }
        }
        self.forget_coordinators(broker);
        self.cut_all(broker);
        self.changed.notify_waiters();
        self.notice(broker, self.between(50, 600));
    }

    pub fn restart(self: &Rc<Self>, broker: usize, moves: bool) {
        self.note("restart", &[broker as i64, i64::from(moves)]);
        let now = self.wall_clock();
        let expiration = self.settings.producer_expiration.as_millis() as i64;
        {
            let mut cluster = self.cluster.borrow_mut();
            let it = &mut cluster.brokers[broker];
            it.alive = true;
            it.frozen = false;
            // It does not listen before it has heard the controller.
            it.cut_off = false;
            it.alone = false;
            if moves {
                it.port = FIRST_PORT + (it.port - FIRST_PORT + 1) % PORTS;
            }
            for partition in cluster.topics.iter_mut().flat_map(|it| &mut it.partitions) {
                let log = &mut partition.replicas[broker].log;
                log.reload(now, expiration);
            }
        }
        self.is_back(broker);
    }

    pub fn freeze(self: &Rc<Self>, broker: usize) {
        self.note("freeze", &[broker as i64]);
        self.cluster.borrow_mut().brokers[broker].frozen = true;
        self.notice(broker, self.between(50, 1_500));
    }

    pub fn thaw(self: &Rc<Self>, broker: usize) {
        self.note("thaw", &[broker as i64]);
        self.cluster.borrow_mut().brokers[broker].frozen = false;
        self.changed.notify_waiters();
        self.is_back(broker);
    }

    /// The controller and the broker do not hear each other any more; if the broker is `alone`, it does
    /// not hear the other brokers either. Clients reach all of them.
    ///
    /// As seen with Kafka 4.3.1: such a leader goes on calling itself the leader, in the epoch it knew and
    /// without an error, and counts itself among the brokers, until it is back. What it is sent with
    /// acks=all it answers when the request's time is over (REQUEST_TIMED_OUT), since the followers
    /// fetch from the new leader. If only its heartbeats are lost and it still fetches the metadata log, it
    /// learns after `broker.session.timeout.ms` that it is fenced. Then it says what the others say, and
    /// all producers get through: that is no fault to model.
    pub fn cut_off(self: &Rc<Self>, broker: usize, alone: bool) {
        self.note("cut off", &[broker as i64, i64::from(alone)]);
        {
            let it = &mut self.cluster.borrow_mut().brokers[broker];
            it.cut_off = true;
            it.alone = alone;
        }
        self.notice(broker, self.between(50, 600));
    }

    /// The end of [`cut_off`](Self::cut_off).
    pub fn rejoin(self: &Rc<Self>, broker: usize) {
        self.note("rejoin", &[broker as i64]);
        {
            let it = &mut self.cluster.borrow_mut().brokers[broker];
            it.cut_off = false;
            it.alone = false;
        }
        self.is_back(broker);
    }

    fn is_back(self: &Rc<Self>, broker: usize) {
        {
            let it = &mut self.cluster.borrow_mut().brokers[broker];
            if !it.reports() {
                return;
            }
            it.heard = true;
        }
        let everywhere = self.cluster.borrow().everywhere();
        for at in everywhere {
            self.cluster.borrow_mut().welcome(broker, at);
        }
        self.publish_all();
        self.return_coordinators(broker);
        // Whoever is away may be waited for by a leader that has just become one.
        for other in 0..self.brokers() {
            self.notice(other, self.between(50, 600));
        }
    }
}
