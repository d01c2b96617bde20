//! The cluster: who leads, who follows, who is in sync, and what dies with whom.
//!
//! The controller's word is [`Partition::leader`] and its neighbours; every broker has a [`View`] of
//! it that is older, and acts on that. So a deposed leader goes on for a while, and a frozen one
//! still thinks that it leads when it wakes.

use rand::Rng;
use uuid::Uuid;

use crate::kafka::{FIRST_PORT, Settings};
use crate::log::{Log, ReplicaState};

/// Indexes of a topic and of a partition in it.
pub type At = (usize, usize);

pub struct Broker {
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
pub struct View {
    pub leader: Option<usize>,
    pub epoch: i32,
    pub in_sync: Vec<usize>,
}

pub struct Topic {
    pub name: String,
    pub id: Uuid,
    pub partitions: Vec<Partition>,
    /// How many of them the cluster has told of so far.
    pub visible: usize,
}

pub struct Partition {
    /// The controller's word.
    pub now: View,
    /// One on every broker.
    pub replicas: Vec<Replica>,
}

#[derive(Clone, Default)]
pub struct Replica {
    pub log: Log,
    /// What every replica in sync had, as far as this one knows.
    pub high_watermark: i64,
    /// As leader: what each follower has fetched in this epoch.
    fetched: Vec<i64>,
}

pub struct Cluster {
    pub brokers: Vec<Broker>,
    pub topics: Vec<Topic>,
}

impl Partition {
    /// A broker's replica loses what nobody can count on: acked records have reached all in sync.
    pub(crate) fn forget(&mut self, broker: usize) {
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
    pub fn replica_state(
        &mut self,
        broker: usize,
        at: At,
        settings: &Settings,
    ) -> (&mut Replica, ReplicaState) {
        let state = ReplicaState {
            leads: self.leads(broker, at).is_some(),
            replicas: self.brokers.len(),
            in_sync: self.view(broker, at).in_sync.len(),
            min_in_sync: settings.min_in_sync,
            max_message: settings.max_message,
        };
        (&mut self.partition(at).replicas[broker], state)
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
    pub(crate) fn fetch(&mut self, follower: usize, at: At) -> bool {
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
    pub(crate) fn learn(&mut self, broker: usize, at: At) {
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
    pub(crate) fn know_nothing(&mut self, broker: usize) {
        for view in self.brokers[broker].views.iter_mut().flatten() {
            view.leader = None;
            view.epoch = -1;
        }
    }

    /// The controller has not heard of a broker for too long.
    pub(crate) fn give_up(&mut self, broker: usize, at: At) {
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
    pub(crate) fn welcome(&mut self, broker: usize, at: At) {
        let partition = self.partition(at);
        if partition.now.leader.is_none() && partition.now.in_sync.contains(&broker) {
            partition.now.leader = Some(broker);
            partition.now.epoch += 1;
        }
    }

    /// The controller names another leader of those in sync. Returns whether it could.
    pub(crate) fn move_leader(&mut self, at: At, rng: &mut impl Rng) -> bool {
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
