//! What everything in a simulation shares.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use actix::Recipient;
use forebay::{Component, Supervise, TopicPartition};
use forebay_model_cluster::{Cluster, Kafka, Misdeed, Observer, Settings};
use rand::rngs::SmallRng;
use tokio::time::Instant;

use super::resolve::Resolves;
use super::tally::{Fault, Tally, Trouble};

pub(super) struct World {
    pub seed: u64,
    /// The line that replays it.
    pub replay: String,
    pub start: Instant,
    pub plan: Plan,
    pub kafka: Rc<Kafka>,
    pub weather: Cell<Weather>,
    /// All brokers are away, and stay so for now.
    pub outage: Cell<bool>,
    /// The storm is over.
    pub healed: Cell<bool>,
    /// Since when everything works again.
    pub healed_at: Cell<Option<Instant>>,
    /// The producer is closed before everything has come to rest.
    pub closes: Cell<bool>,
    /// Retires parts of the producer, and restarts them.
    pub supervision: RefCell<Option<Recipient<Supervise>>>,
    pub chronicle: Rc<Chronicle>,
}

/// What one seed is like from beginning to end.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// Many small batches, a narrow socket, and no time to spare.
    pub congested: bool,
    pub kafka: Settings,
    /// How much of each kind of fault there is, by [`Fault`]; 0 is none.
    pub weights: [u32; Fault::COUNT],
    /// How long faults go on.
    pub storm: Duration,
    /// How long nobody sends anything then, before as much goes wrong once more. Brokers forget the
    /// producer meanwhile.
    pub silence: Duration,
    /// How long all brokers are away at the end.
    pub outage: Duration,
    /// When everything else works again, this one stays cut off from the controller: two brokers are
    /// enough.
    pub stays_cut_off: Option<usize>,
    /// How many topics are always there, or come back.
    pub topics: usize,
    /// Senders pause for longer than `metadata.max.idle.ms`.
    pub pauses: bool,
    /// Topics come and go.
    pub passing: bool,
    /// Some records are older than brokers remember producers, by their timestamps, as when something
    /// is filled in later.
    pub backfills: bool,
    /// What is in doubt is looked for.
    pub resolves: Option<Resolves>,
}

/// What happens to the producer itself at the moment, of 10,000 messages.
#[derive(Debug, Clone, Copy)]
pub(super) struct Weather {
    pub panics: u32,
    pub creep: u32,
    pub stalls: u32,
}

impl Weather {
    pub const FAIR: Self = Self {
        panics: 0,
        creep: 0,
        stalls: 0,
    };
}

/// What has happened so far.
pub(super) struct Chronicle {
    start: Instant,
    pub tally: RefCell<Tally>,
    /// By [`Trouble`].
    pub troubles: RefCell<[u64; Trouble::COUNT]>,
    pub history: RefCell<History>,
}

impl Chronicle {
    fn note(&self, what: &str, numbers: &[i64]) {
        let at = self.start.elapsed().as_micros() as u64;
        self.history.borrow_mut().note(at, what, numbers);
    }

    pub fn trouble(&self, trouble: Trouble) {
        self.troubles.borrow_mut()[trouble as usize] += 1;
    }

    fn count(&self, fault: Fault) {
        self.tally.borrow_mut().faults[fault as usize] += 1;
    }
}

/// The cluster's part of it.
struct OfKafka(Rc<Chronicle>);

impl Observer for OfKafka {
    fn happened(&self, what: &str, numbers: &[i64]) {
        self.0.note(what, numbers);
    }

    fn misbehaved(&self, how: Misdeed) {
        self.0.count(match how {
            Misdeed::AnswerLost => Fault::AnswerLost,
            Misdeed::AnswerLate => Fault::AnswerLate,
            Misdeed::ErrorBefore => Fault::ErrorBefore,
            Misdeed::ErrorAfter => Fault::ErrorAfter,
            Misdeed::Throttle => Fault::Throttle,
            Misdeed::MetadataStale => Fault::MetadataStale,
            Misdeed::MetadataEmpty => Fault::MetadataEmpty,
            Misdeed::MetadataHostile => Fault::MetadataHostile,
            Misdeed::MarkerAgain => return self.0.trouble(Trouble::MarkerAgain),
            Misdeed::MarkerStray => return self.0.trouble(Trouble::MarkerStray),
            Misdeed::MarkerSkipped => return self.0.trouble(Trouble::MarkerSkipped),
            Misdeed::CoordinatorError => return self.0.trouble(Trouble::CoordinatorError),
            Misdeed::TimedOut => return self.0.trouble(Trouble::TimedOut),
            Misdeed::Reopened => return self.0.trouble(Trouble::Reopened),
        });
    }
}

impl World {
    pub fn new(
        (seed, replay): (u64, String),
        plan: Plan,
        cluster: Cluster,
        rng: SmallRng,
    ) -> Rc<Self> {
        let start = Instant::now();
        let chronicle = Rc::new(Chronicle {
            start,
            tally: RefCell::default(),
            troubles: RefCell::default(),
            history: RefCell::default(),
        });
        let observer = OfKafka(Rc::clone(&chronicle));
        let kafka = Kafka::start(plan.kafka.clone(), cluster, rng, observer);
        Rc::new(Self {
            seed,
            replay,
            start,
            plan,
            kafka,
            weather: Cell::new(Weather::FAIR),
            outage: Cell::new(false),
            healed: Cell::new(false),
            healed_at: Cell::new(None),
            closes: Cell::new(false),
            supervision: RefCell::default(),
            chronicle,
        })
    }

    /// One of these, drawn by their weights, of which one is above 0 at least.
    pub fn pick<T: Copy>(&self, all: &[T], weights: &[u32]) -> Option<T> {
        let total: u32 = weights.iter().sum();
        let mut point = self.below(u64::from(total)) as u32;
        let hit = |(_, weight): &(&T, &u32)| {
            let hit = point < **weight;
            point = point.saturating_sub(**weight);
            hit
        };
        all.iter().zip(weights).find(hit).map(|(it, _)| *it)
    }

    pub fn below(&self, end: u64) -> u64 {
        self.kafka.below(end)
    }

    /// Milliseconds between the two, to the microsecond.
    pub fn between(&self, least: u64, most: u64) -> Duration {
        self.kafka.between(least, most)
    }

    pub fn count(&self, fault: Fault) {
        self.chronicle.count(fault);
    }

    pub fn note(&self, what: &str, numbers: &[i64]) {
        self.chronicle.note(what, numbers);
    }

    pub fn supervise(&self, ask: Supervise) {
        if let Some(supervision) = &*self.supervision.borrow() {
            supervision.do_send(ask);
        }
    }

    /// A part of the producer that can be retired.
    pub fn some_part(&self) -> Component {
        let everywhere = self.kafka.cluster.borrow().everywhere();
        match self.below(2) {
            0 => Component::Sender(self.below(self.kafka.brokers() as u64) as i32),
            _ if everywhere.is_empty() => Component::Sender(0),
            _ => self.part(everywhere[self.below(everywhere.len() as u64) as usize]),
        }
    }

    /// Every part that can be retired.
    pub fn parts(&self) -> Vec<Component> {
        let everywhere = self.kafka.cluster.borrow().everywhere();
        let senders = (0..self.kafka.brokers()).map(|broker| Component::Sender(broker as i32));
        let partitions = everywhere.into_iter().map(|at| self.part(at));
        senders.chain(partitions).collect()
    }

    fn part(&self, (topic, partition): (usize, usize)) -> Component {
        let name = self.kafka.cluster.borrow().topics[topic].name.clone();
        Component::Partition(TopicPartition::new(name, partition as i32))
    }

    /// When the silence is over, or would be.
    pub fn silent_until(&self) -> Instant {
        self.start + self.plan.storm + self.plan.silence
    }

    /// How many partitions a topic of that number has, or had.
    pub fn partitions(&self, number: usize) -> u64 {
        let cluster = self.kafka.cluster.borrow();
        let newest = cluster.newest(number);
        newest.map_or(1, |topic| cluster.topics[topic].visible as u64)
    }
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
