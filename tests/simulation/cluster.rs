//! The cluster: who leads, who follows, who is in sync, and what dies with whom.
//!
//! The controller's word is [`Partition::leader`] and its neighbours; every broker has a [`View`] of
//! it that is older, and acts on that. So a deposed leader goes on for a while, and a frozen one
//! still thinks that it leads when it wakes.

use std::rc::Rc;
use std::time::Duration;

use rand::Rng;
use tokio::task::spawn_local;
use tokio::time::sleep;
use uuid::Uuid;

use super::log::{Log, QueueState};
use super::world::{Plan, World};

/// Indexes of a topic and of a partition in it.
pub(super) type At = (usize, usize);

pub(super) struct Broker {
    pub alive: bool,
    pub frozen: bool,
    /// Counts its lives: what was under way in an earlier one is gone.
    pub life: u32,
    pub port: u16,
    /// Of every partition, by topic.
    pub views: Vec<Vec<View>>,
}

impl Broker {
    pub fn works(&self) -> bool {
        self.alive && !self.frozen
    }
}

/// What a broker believes of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct View {
    pub leader: Option<usize>,
    pub epoch: i32,
    pub in_sync: Vec<usize>,
}

pub(super) struct Topic {
    pub name: String,
    pub id: Uuid,
    pub partitions: Vec<Partition>,
    /// How many of them the cluster has told of so far.
    pub visible: usize,
}

pub(super) struct Partition {
    /// The controller's word.
    pub now: View,
    /// One on every broker.
    pub replicas: Vec<Replica>,
}

#[derive(Clone, Default)]
pub(super) struct Replica {
    pub log: Log,
    /// What every replica in sync had, as far as this one knows.
    pub high_watermark: i64,
    /// As leader: what each follower has fetched in this epoch.
    fetched: Vec<i64>,
}

pub(super) struct Cluster {
    pub brokers: Vec<Broker>,
    pub topics: Vec<Topic>,
}

impl Partition {
    /// A broker's replica loses what nobody can count on: acked records have reached all in sync.
    fn forget(&mut self, broker: usize) {
        let marks = self.replicas.iter().map(|replica| replica.high_watermark);
        let counted_on = marks.max().unwrap_or(0);
        let log = &mut self.replicas[broker].log;
        log.lose_from(counted_on);
        let end = log.end();
        for replica in &mut self.replicas {
            replica.fetched[broker] = replica.fetched[broker].min(end);
        }
    }
}

impl Cluster {
    pub fn new(brokers: usize, topics: &[usize], rng: &mut impl Rng) -> Self {
        let topics: Vec<_> = topics
            .iter()
            .enumerate()
            .map(|(at, &partitions)| Topic {
                name: format!("topic-{at}"),
                id: Uuid::from_u128(0xf0_0000 + at as u128),
                partitions: (0..partitions)
                    .map(|_| Partition {
                        now: View {
                            leader: Some(rng.random_range(0..brokers)),
                            epoch: 0,
                            in_sync: (0..brokers).collect(),
                        },
                        replicas: vec![
                            Replica {
                                fetched: vec![0; brokers],
                                ..Replica::default()
                            };
                            brokers
                        ],
                    })
                    .collect(),
                visible: rng.random_range(1..=partitions),
            })
            .collect();
        let views: Vec<Vec<View>> = topics
            .iter()
            .map(|topic| topic.partitions.iter().map(|p| p.now.clone()).collect())
            .collect();
        let brokers = (0..brokers)
            .map(|_| Broker {
                alive: true,
                frozen: false,
                life: 0,
                port: FIRST_PORT,
                views: views.clone(),
            })
            .collect();
        Self { brokers, topics }
    }

    pub fn everywhere(&self) -> Vec<At> {
        let topics = self.topics.iter().enumerate();
        topics
            .flat_map(|(t, topic)| (0..topic.partitions.len()).map(move |p| (t, p)))
            .collect()
    }

    pub fn partition(&mut self, (topic, partition): At) -> &mut Partition {
        &mut self.topics[topic].partitions[partition]
    }

    pub fn view(&self, broker: usize, (topic, partition): At) -> &View {
        &self.brokers[broker].views[topic][partition]
    }

    /// Whether the broker believes that it leads, and in which epoch.
    pub fn leads(&self, broker: usize, at: At) -> Option<i32> {
        let view = self.view(broker, at);
        (view.leader == Some(broker)).then_some(view.epoch)
    }

    /// The log that counts in the end.
    pub fn log(&self, (topic, partition): At) -> Option<&Log> {
        let partition = &self.topics[topic].partitions[partition];
        Some(&partition.replicas[partition.now.leader?].log)
    }

    /// The broker's replica, and what it believes of its part.
    pub fn standing(&mut self, broker: usize, at: At, plan: &Plan) -> (&mut Replica, QueueState) {
        let standing = QueueState {
            leads: self.leads(broker, at).is_some(),
            replicas: self.brokers.len(),
            in_sync: self.view(broker, at).in_sync.len(),
            min_in_sync: plan.min_in_sync,
            max_message: plan.max_message,
        };
        (&mut self.partition(at).replicas[broker], standing)
    }

    /// What the replicas in sync have in common, as their leader sees it.
    fn advance(&mut self, leader: usize, at: At) {
        let in_sync = self.view(leader, at).in_sync.clone();
        let replica = &mut self.partition(at).replicas[leader];
        let end = replica.log.end();
        let has = |broker: &usize| match *broker == leader {
            true => end,
            false => replica.fetched[*broker],
        };
        let common = in_sync.iter().map(has).min().unwrap_or(end);
        replica.high_watermark = replica.high_watermark.max(common);
    }

    /// A follower fetches what its leader has. Returns whether it could.
    fn fetch(&mut self, follower: usize, at: At) -> bool {
        let View { leader, epoch, .. } = *self.view(follower, at);
        let Some(leader) = leader.filter(|leader| *leader != follower) else {
            return false;
        };
        if !self.brokers[follower].works()
            || !self.brokers[leader].works()
            || self.leads(leader, at) != Some(epoch)
        {
            return false;
        }
        let partition = self.partition(at);
        let log = std::mem::take(&mut partition.replicas[leader].log);
        partition.replicas[follower].log.follow(&log);
        partition.replicas[leader].fetched[follower] = log.end();
        partition.replicas[leader].log = log;
        self.advance(leader, at);
        let partition = self.partition(at);
        let mark = partition.replicas[leader].high_watermark;
        partition.replicas[follower].high_watermark = mark;
        // It has all that counts: it is in sync again, if the leader is the one the controller knows.
        if partition.now.epoch == epoch && !partition.now.in_sync.contains(&follower) {
            partition.now.in_sync.push(follower);
            partition.now.in_sync.sort_unstable();
            self.inform_leader(at);
        }
        true
    }

    /// The leader changes the list of those in sync together with the controller.
    fn inform_leader(&mut self, at: At) {
        let now = self.partition(at).now.clone();
        if let Some(leader) = now.leader
            && self.brokers[leader].works()
            && self.leads(leader, at) == Some(now.epoch)
        {
            self.brokers[leader].views[at.0][at.1] = now;
            self.advance(leader, at);
        }
    }

    /// The broker learns what the controller says of a partition.
    fn learn(&mut self, broker: usize, at: At) {
        if !self.brokers[broker].works() {
            return;
        }
        let now = self.partition(at).now.clone();
        let before = self.view(broker, at).clone();
        if now.leader == Some(broker) && before.epoch != now.epoch {
            let brokers = self.brokers.len();
            self.partition(at).replicas[broker].fetched = vec![0; brokers];
        }
        self.brokers[broker].views[at.0][at.1] = now;
        if self.leads(broker, at).is_some() {
            self.advance(broker, at);
        }
    }

    /// A broker that starts again leads nothing before it has heard so.
    fn know_nothing(&mut self, broker: usize) {
        for view in self.brokers[broker].views.iter_mut().flatten() {
            view.leader = None;
            view.epoch = -1;
        }
    }

    /// The controller has not heard of a broker for too long.
    fn give_up(&mut self, broker: usize, at: At) {
        let alive: Vec<usize> = (0..self.brokers.len())
            .filter(|b| self.brokers[*b].works())
            .collect();
        let partition = self.partition(at);
        let others: Vec<usize> = partition
            .now
            .in_sync
            .iter()
            .copied()
            .filter(|b| *b != broker)
            .collect();
        // The last one in sync stays so: nobody else has everything.
        let leader = others.iter().copied().find(|b| alive.contains(b));
        if partition.now.leader == Some(broker) {
            partition.now.leader = leader;
            partition.now.epoch += 1;
        }
        if leader.is_some() || partition.now.leader.is_some() {
            partition.now.in_sync = others;
        }
        self.inform_leader(at);
    }

    /// A broker is back: partitions that waited for it have a leader again.
    fn welcome(&mut self, broker: usize, at: At) {
        let partition = self.partition(at);
        if partition.now.leader.is_none() && partition.now.in_sync.contains(&broker) {
            partition.now.leader = Some(broker);
            partition.now.epoch += 1;
        }
    }

    /// The controller names another leader of those in sync. Returns whether it could.
    fn move_leader(&mut self, at: At, rng: &mut impl Rng) -> bool {
        let works: Vec<bool> = self.brokers.iter().map(Broker::works).collect();
        let partition = self.partition(at);
        let leader = partition.now.leader;
        let in_sync = partition.now.in_sync.iter().copied();
        let others: Vec<usize> = in_sync
            .filter(|b| Some(*b) != leader && works[*b])
            .collect();
        if others.is_empty() {
            return false;
        }
        partition.now.leader = Some(others[rng.random_range(0..others.len())]);
        partition.now.epoch += 1;
        true
    }
}

pub(super) const FIRST_PORT: u16 = 9092;

/// What happens to brokers, over time.
impl World {
    /// Followers fetch after a while, again and again as there is something.
    pub fn replicate(self: &Rc<Self>, at: At) {
        for follower in 0..self.brokers() {
            let delay = self.replication_delay();
            let world = Rc::clone(self);
            spawn_local(async move {
                sleep(delay).await;
                let fetched = world.cluster.borrow_mut().fetch(follower, at);
                if fetched {
                    world.changed.notify_waiters();
                }
            });
        }
    }

    /// Every broker learns of the controller's decision, each in its own time.
    pub fn publish(self: &Rc<Self>, at: At) {
        for broker in 0..self.brokers() {
            let delay = self.between(1, 60);
            let world = Rc::clone(self);
            spawn_local(async move {
                sleep(delay).await;
                world.cluster.borrow_mut().learn(broker, at);
                let view = world.cluster.borrow().view(broker, at).clone();
                let leader = view.leader.map_or(-1, |leader| leader as i64);
                let what = [broker, at.0, at.1].map(|n| n as i64);
                world.note(
                    "learns",
                    &[what[0], what[1], what[2], leader, i64::from(view.epoch)],
                );
                world.changed.notify_waiters();
                world.replicate(at);
            });
        }
    }

    pub fn publish_all(self: &Rc<Self>) {
        let everywhere = self.cluster.borrow().everywhere();
        everywhere.into_iter().for_each(|at| self.publish(at));
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
        let world = Rc::clone(self);
        let life = self.cluster.borrow().brokers[broker].life;
        spawn_local(async move {
            sleep(after).await;
            let everywhere = {
                let cluster = world.cluster.borrow();
                let it = &cluster.brokers[broker];
                if it.works() || it.life != life {
                    return;
                }
                cluster.everywhere()
            };
            for at in everywhere {
                world.cluster.borrow_mut().give_up(broker, at);
                world.publish(at);
            }
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
        self.cut_all(broker);
        self.changed.notify_waiters();
        self.notice(broker, self.between(50, 600));
    }

    pub fn restart(self: &Rc<Self>, broker: usize, moves: bool) {
        self.note("restart", &[broker as i64, i64::from(moves)]);
        {
            let mut cluster = self.cluster.borrow_mut();
            let it = &mut cluster.brokers[broker];
            it.alive = true;
            it.frozen = false;
            if moves {
                it.port = FIRST_PORT + (it.port - FIRST_PORT + 1) % PORTS;
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

    fn is_back(self: &Rc<Self>, broker: usize) {
        let everywhere = self.cluster.borrow().everywhere();
        for at in everywhere {
            self.cluster.borrow_mut().welcome(broker, at);
        }
        self.publish_all();
        // Whoever is away may be waited for by a leader that has just become one.
        for other in 0..self.brokers() {
            self.notice(other, self.between(50, 600));
        }
    }
}

pub(super) const PORTS: u16 = 4;
