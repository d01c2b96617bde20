//! What everything in a simulation shares.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use actix::Recipient;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::cluster::Cluster;
use super::network::Cut;
use super::tally::{Fault, Tally};
use crate::{Component, Supervise, TopicPartition};

pub(super) struct World {
    pub seed: u64,
    pub start: Instant,
    pub plan: Plan,
    pub rng: RefCell<SmallRng>,
    pub cluster: RefCell<Cluster>,
    /// Something in the cluster has changed: whoever waits looks again.
    pub changed: Notify,
    pub connections: RefCell<Vec<(usize, Cut)>>,
    pub weather: Cell<Weather>,
    pub next_producer_id: Cell<i64>,
    /// Retires parts of the producer, and restarts them.
    pub supervision: RefCell<Option<Recipient<Supervise>>>,
    pub tally: RefCell<Tally>,
    pub history: RefCell<History>,
}

/// What one seed is like from beginning to end.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// Many small batches, a narrow socket, and no time to spare.
    pub congested: bool,
    pub min_in_sync: usize,
    pub max_message: usize,
    /// Answers a duplicate with DUPLICATE_SEQUENCE_NUMBER, as others than Kafka 4 do.
    pub names_duplicates: bool,
    pub newest_produce: i16,
    pub hints: bool,
    /// Bytes that a socket takes before somebody reads.
    pub socket: usize,
    /// Producer ids start at this epoch.
    pub first_epoch: i16,
    /// How much of each kind of fault there is, by [`Fault`]; 0 is none.
    pub weights: [u32; Fault::COUNT],
    /// How long faults go on.
    pub storm: Duration,
}

impl Plan {
    /// Nothing goes wrong.
    pub const FAIR: Self = Self {
        congested: false,
        min_in_sync: 2,
        max_message: 1 << 20,
        names_duplicates: false,
        newest_produce: 13,
        hints: true,
        socket: 100_000,
        first_epoch: 0,
        weights: [0; Fault::COUNT],
        storm: Duration::ZERO,
    };
}

/// What things are like at the moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Weather {
    /// Milliseconds, at most.
    pub latency: u64,
    pub replication: u64,
    /// Of 1,000 answers.
    pub answers_lost: u32,
    pub answers_late: u32,
    pub errors_before: u32,
    pub errors_after: u32,
    pub throttles: u32,
    pub topic_unknown: bool,
    pub metadata_stale: bool,
    pub metadata_empty: bool,
    pub no_producer_ids: bool,
    /// Of 10,000 messages.
    pub panics: u32,
    pub creep: u32,
    pub stalls: u32,
}

impl Weather {
    pub const FAIR: Self = Self {
        latency: 3,
        replication: 3,
        answers_lost: 0,
        answers_late: 0,
        errors_before: 0,
        errors_after: 0,
        throttles: 0,
        topic_unknown: false,
        metadata_stale: false,
        metadata_empty: false,
        no_producer_ids: false,
        panics: 0,
        creep: 0,
        stalls: 0,
    };
}

impl World {
    pub fn new(seed: u64, plan: Plan, cluster: Cluster, rng: SmallRng) -> Rc<Self> {
        Rc::new(Self {
            seed,
            start: Instant::now(),
            plan,
            rng: RefCell::new(rng),
            cluster: RefCell::new(cluster),
            changed: Notify::new(),
            connections: RefCell::default(),
            weather: Cell::new(Weather::FAIR),
            next_producer_id: Cell::new(1_000),
            supervision: RefCell::default(),
            tally: RefCell::default(),
            history: RefCell::default(),
        })
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

    pub fn happens(&self, of_1000: u32) -> bool {
        of_1000 > 0 && self.below(1_000) < u64::from(of_1000)
    }

    pub fn latency(&self) -> Duration {
        self.between(0, self.weather.get().latency)
    }

    pub fn replication_delay(&self) -> Duration {
        self.between(0, self.weather.get().replication)
    }

    pub fn change_weather(&self, change: impl FnOnce(&mut Weather)) {
        let mut weather = self.weather.get();
        change(&mut weather);
        self.weather.set(weather);
    }

    pub fn count(&self, fault: Fault) {
        self.tally.borrow_mut().faults[fault as usize] += 1;
    }

    pub fn note(&self, what: &str, numbers: &[i64]) {
        let at = self.start.elapsed().as_micros() as u64;
        self.history.borrow_mut().note(at, what, numbers);
    }

    pub fn supervise(&self, ask: Supervise) {
        if let Some(supervision) = &*self.supervision.borrow() {
            supervision.do_send(ask);
        }
    }

    /// A part of the producer that can be retired.
    pub fn some_part(&self) -> Component {
        let everywhere = self.cluster.borrow().everywhere();
        match self.below(2) {
            0 => Component::Sender(self.below(self.brokers() as u64) as i32),
            _ => part(everywhere[self.below(everywhere.len() as u64) as usize]),
        }
    }

    /// Every part that can be retired.
    pub fn parts(&self) -> Vec<Component> {
        let everywhere = self.cluster.borrow().everywhere();
        let senders = (0..self.brokers()).map(|broker| Component::Sender(broker as i32));
        senders.chain(everywhere.into_iter().map(part)).collect()
    }

    /// Ends a broker's connections.
    pub fn cut_all(&self, broker: usize) {
        self.connections.borrow_mut().retain(|(of, cut)| {
            if *of == broker {
                cut.cut(usize::MAX, true);
            }
            *of != broker && !cut.is_over()
        });
    }
}

fn part((topic, partition): (usize, usize)) -> Component {
    Component::Partition(TopicPartition::new(
        format!("topic-{topic}"),
        partition as i32,
    ))
}

pub(super) fn rng(seed: u64) -> SmallRng {
    SmallRng::seed_from_u64(seed)
}

/// Everything that happened, as a hash; and as text if somebody wants to read it.
pub(super) struct History {
    hash: u64,
    pub events: u64,
    pub text: Option<Vec<String>>,
}

impl Default for History {
    fn default() -> Self {
        let (hash, events, text) = (0xcbf2_9ce4_8422_2325, 0, None);
        Self { hash, events, text }
    }
}

impl History {
    fn mix(&mut self, word: u64) {
        self.hash = (self.hash ^ word)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(29);
    }

    pub fn note(&mut self, at: u64, what: &str, numbers: &[i64]) {
        self.events += 1;
        self.mix(at);
        what.bytes().for_each(|byte| self.mix(u64::from(byte)));
        numbers.iter().for_each(|number| self.mix(*number as u64));
        if let Some(text) = &mut self.text {
            text.push(format!("{:>12} {what} {numbers:?}", at));
        }
    }

    pub fn hash(&self) -> u64 {
        self.hash
    }
}
