//! The cluster: who leads, who follows, who is in sync, and what dies with whom.
//!
//! The controller's word is [`Partition::leader`] and its neighbours; every broker has a [`View`] of
//! it that is older, and acts on that. So a deposed leader goes on for a while, and a frozen one
//! still thinks that it leads when it wakes. One that is cut off from the controller goes on for as
//! long as that lasts.

use rand::Rng;
use uuid::Uuid;

use crate::kafka::{FIRST_PORT, Settings};
use crate::log::{Log, ReplicaState};

/// Indexes of a topic and of a partition in it.
pub type At = (usize, usize);

pub struct Broker {
    pub alive: bool,
    pub frozen: bool,
    /// Neither hears the controller nor is heard by it, and goes on answering clients.
    ///
    /// A Kafka 4.3.1 broker whose connections to the controller were cut for 45 s was fenced after
    /// `broker.session.timeout.ms`, and saw nothing of it: it answered metadata requests with its last
    /// image, itself as the leader and all brokers as there; produce requests with `acks=1` with
    /// success; those with `acks=all` with REQUEST_TIMED_OUT, each after the request's own time, since
    /// its followers follow another leader, and it cannot take them out of the in-sync replicas without
    /// the controller (`Partition.maybeShrinkIsr`). What it had appended it cut off when it was back,
    /// and answered NOT_LEADER_OR_FOLLOWER to who still waited. One whose heartbeats alone were cut
    /// answers that as soon as it is fenced, since it goes on reading the metadata log: clients find
    /// the new leader by it.
    pub cut_off: bool,
    /// Other brokers do not reach it either.
    pub alone: bool,
    /// The controller counts it among the brokers: it has not fenced it.
    pub heard: bool,
    /// Counts its lives: what was under way in an earlier one is gone.
    pub life: u32,
    pub port: u16,
    /// Of every partition, by topic.
    pub views: Vec<Vec<View>>,
    /// How many partitions each topic has, as far as the broker knows; none where there is no such
    /// topic.
    pub known: Vec<usize>,
    /// Which brokers there are, as far as it knows.
    pub peers: Vec<bool>,
}

impl Broker {
    pub fn works(&self) -> bool {
        self.alive && !self.frozen
    }

    /// Whether the controller hears it.
    pub fn reports(&self) -> bool {
        self.works() && !self.cut_off
    }
}

/// What a broker believes of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    pub leader: Option<usize>,
    pub epoch: i32,
    pub in_sync: Vec<usize>,
}

/// A topic from its creation to its deletion. One of the same name that is created later is another.
pub struct Topic {
    /// It is named `topic-{number}`.
    pub number: usize,
    pub name: String,
    pub id: Uuid,
    pub partitions: Vec<Partition>,
    /// How many of them the cluster has told of so far.
    pub visible: usize,
    /// The controller has not deleted it. A deleted topic stays in the list: brokers go on with it until
    /// they hear of it, and somebody may want to look at its logs.
    pub exists: bool,
}

pub struct Partition {
    /// The controller's word.
    pub now: View,
    /// One on every broker.
    pub replicas: Vec<Replica>,
    /// What every replica in sync had at some time: some of it may be acked.
    counted_on: i64,
}

#[derive(Clone, Default)]
pub struct Replica {
    pub log: Log,
    /// What every replica in sync had, as far as this one knows.
    pub high_watermark: i64,
    /// As leader: what each follower has fetched in this epoch.
    fetched: Vec<i64>,
    /// Where its last reign as a leader began.
    pub(crate) began_at: i64,
}

pub struct Cluster {
    pub brokers: Vec<Broker>,
    pub topics: Vec<Topic>,
}

impl Partition {
    /// A broker's replica loses what nobody can count on: acked records have reached all in sync.
    pub(crate) fn forget(&mut self, broker: usize) {
        let log = &mut self.replicas[broker].log;
        log.lose_from(self.counted_on);
        let end = log.end();
        for replica in &mut self.replicas {
            replica.fetched[broker] = replica.fetched[broker].min(end);
        }
    }
}

impl Cluster {
    pub fn new(brokers: usize, topics: &[usize], rng: &mut impl Rng) -> Self {
        let brokers = (0..brokers)
            .map(|_| Broker {
                alive: true,
                frozen: false,
                cut_off: false,
                alone: false,
                heard: true,
                life: 0,
                port: FIRST_PORT,
                views: Vec::new(),
                known: Vec::new(),
                peers: vec![true; brokers],
            })
            .collect();
        let mut cluster = Self {
            brokers,
            topics: Vec::new(),
        };
        for (number, &partitions) in topics.iter().enumerate() {
            let topic = cluster.create(number, partitions, rng);
            cluster.topics[topic].visible = rng.random_range(1..=partitions);
            for broker in 0..cluster.brokers.len() {
                let partitions = &cluster.topics[topic].partitions;
                let views = partitions.iter().map(|it| it.now.clone()).collect();
                cluster.brokers[broker].views[topic] = views;
                cluster.brokers[broker].known[topic] = cluster.topics[topic].visible;
            }
        }
        cluster
    }

    /// Creates a topic of which no broker knows yet.
    pub(crate) fn create(&mut self, number: usize, partitions: usize, rng: &mut impl Rng) -> usize {
        let brokers = self.brokers.len();
        let there: Vec<usize> = (0..brokers)
            .filter(|broker| self.brokers[*broker].reports())
            .collect();
        // As many replicas as there are brokers; those that are away are not in sync.
        let mut partition = || Partition {
            now: View {
                leader: (!there.is_empty()).then(|| there[rng.random_range(0..there.len())]),
                epoch: 0,
                in_sync: match there.is_empty() {
                    true => (0..brokers).collect(),
                    false => there.clone(),
                },
            },
            replicas: vec![
                Replica {
                    fetched: vec![0; brokers],
                    ..Replica::default()
                };
                brokers
            ],
            counted_on: 0,
        };
        let topic = self.topics.len();
        self.topics.push(Topic {
            number,
            name: format!("topic-{number}"),
            id: Uuid::from_u128(0xf0_0000 + topic as u128),
            partitions: (0..partitions).map(|_| partition()).collect(),
            visible: partitions,
            exists: true,
        });
        for broker in &mut self.brokers {
            let nothing = View {
                leader: None,
                epoch: -1,
                in_sync: Vec::new(),
            };
            broker.views.push(vec![nothing; partitions]);
            broker.known.push(0);
        }
        topic
    }

    /// Whether `to` works and hears `from`; each hears itself.
    pub(crate) fn reaches(&self, from: usize, to: usize) -> bool {
        let [mine, theirs] = [from, to].map(|it| &self.brokers[it]);
        let apart = from != to && (mine.alone || theirs.alone);
        !apart && theirs.works()
    }

    /// The newest topic of that number, even if it is deleted.
    pub fn newest(&self, number: usize) -> Option<usize> {
        self.topics.iter().rposition(|it| it.number == number)
    }

    /// The topic that a broker knows under this name.
    pub(crate) fn known_as(&self, broker: usize, name: &str) -> Option<usize> {
        let known = &self.brokers[broker].known;
        let named = |(topic, known): (&Topic, &usize)| *known > 0 && topic.name == name;
        let mut topics = self.topics.iter().zip(known);
        topics.rposition(named)
    }

    /// Every partition of the topics that exist.
    pub fn everywhere(&self) -> Vec<At> {
        let topics = self.topics.iter().enumerate();
        topics
            .filter(|(_, topic)| topic.exists)
            .flat_map(|(t, topic)| (0..topic.partitions.len()).map(move |p| (t, p)))
            .collect()
    }

    /// All replicas on all brokers.
    pub(crate) fn replicas(&mut self) -> impl Iterator<Item = &mut Replica> {
        let partitions = self.topics.iter_mut().flat_map(|it| &mut it.partitions);
        partitions.flat_map(|it| &mut it.replicas)
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

    /// The log that counts in the end. A topic may have been deleted while a partition had no leader:
    /// then whoever was in sync has it.
    pub fn log(&self, (topic, partition): At) -> Option<&Log> {
        let topic = &self.topics[topic];
        let partition = &topic.partitions[partition];
        let View {
            leader, in_sync, ..
        } = &partition.now;
        let last = in_sync.first().filter(|_| !topic.exists);
        Some(&partition.replicas[leader.or(last.copied())?].log)
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
        let partition = self.partition(at);
        let replica = &mut partition.replicas[leader];
        let end = replica.log.end();
        let has = |broker: &usize| match *broker == leader {
            true => end,
            false => replica.fetched[*broker],
        };
        let common = in_sync.iter().map(has).min().unwrap_or(end);
        replica.high_watermark = replica.high_watermark.max(common);
        // A new leader may know less of it than the one before.
        partition.counted_on = partition.counted_on.max(replica.high_watermark);
    }

    /// A follower fetches what its leader has. Returns whether it could.
    pub(crate) fn fetch(&mut self, follower: usize, at: At) -> bool {
        let View { leader, epoch, .. } = *self.view(follower, at);
        if self.brokers.len() == 1 && leader == Some(follower) {
            self.advance(follower, at);
            return true;
        }
        let Some(leader) = leader.filter(|leader| *leader != follower) else {
            return false;
        };
        let [mine, theirs] = [follower, leader].map(|it| &self.brokers[it]);
        let exists = mine.known[at.0] > 0 && theirs.known[at.0] > 0;
        if !exists
            || !mine.works()
            || !self.reaches(follower, leader)
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
        // It has all that counts: it is in sync again, if the leader is the one the controller knows,
        // and the controller hears both.
        let heard = self.brokers[follower].reports() && self.brokers[leader].reports();
        let partition = self.partition(at);
        if heard && partition.now.epoch == epoch && !partition.now.in_sync.contains(&follower) {
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
            && self.brokers[leader].reports()
            && self.leads(leader, at) == Some(now.epoch)
        {
            self.brokers[leader].views[at.0][at.1] = now;
            self.advance(leader, at);
        }
    }

    /// The broker learns what the controller says of a partition.
    pub(crate) fn learn(&mut self, broker: usize, at: At) {
        if !self.brokers[broker].reports() {
            return;
        }
        self.learn_topic(broker, at.0);
        let now = self.partition(at).now.clone();
        let before = self.view(broker, at).clone();
        if now.leader == Some(broker) && before.epoch != now.epoch {
            let brokers = self.brokers.len();
            let replica = &mut self.partition(at).replicas[broker];
            replica.fetched = vec![0; brokers];
            replica.began_at = replica.log.end();
        }
        self.brokers[broker].views[at.0][at.1] = now;
        if self.leads(broker, at).is_some() {
            self.advance(broker, at);
        }
    }

    /// The broker learns whether there is such a topic, and which brokers there are.
    pub(crate) fn learn_topic(&mut self, broker: usize, topic: usize) {
        if !self.brokers[broker].reports() {
            return;
        }
        let Topic { name, .. } = &self.topics[topic];
        // What it hears comes in one order: a topic of the same name was deleted before.
        for (older, it) in self.topics[..topic].iter().enumerate() {
            if it.name == *name {
                self.brokers[broker].known[older] = 0;
            }
        }
        let Topic {
            exists, visible, ..
        } = self.topics[topic];
        self.brokers[broker].known[topic] = if exists { visible } else { 0 };
        self.brokers[broker].peers = self.brokers.iter().map(|it| it.heard).collect();
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
            .filter(|b| self.brokers[*b].reports())
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
        let works: Vec<bool> = self.brokers.iter().map(Broker::reports).collect();
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
