//! The application: in each process one task for each partition sends records, by every door, where the
//! former process ended.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use forebay::internals::disk::ModelDisk;
use forebay::{Lane, Outcome, Producer, Reason, Receipt, Receipts, Record, SendError, Unconfirmed};
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};

use super::disk::Disk;
use super::plan::Plan;
use super::resumed::Heard;
use super::sources::Followed;
use super::tally::Tally;
use crate::load::{Name, Tag};
use crate::tally::Invariant;
use crate::world::World;

/// What a process knew of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Known {
    /// It does not know whether it was accepted.
    Tried,
    Refused,
    Accepted,
    Acked(Option<i64>),
    NotWritten(String),
    Unknown(String),
    Kept,
}

/// What all processes did.
#[derive(Default)]
pub(super) struct Journal {
    pub sent: BTreeMap<Name, Known>,
    /// The process that sent each record.
    pub processes: BTreeMap<Name, u64>,
    /// By partition.
    pub next: BTreeMap<u32, u32>,
    pub sources: BTreeMap<u32, Followed>,
    pub heard: Heard,
    pub tally: Tally,
    pub wrong: Vec<String>,
}

pub(super) struct Application {
    pub world: Rc<World>,
    pub plan: Plan,
    pub disk: Rc<Disk>,
    pub journal: RefCell<Journal>,
}

/// Most calls of one process for one partition.
const MOST: u32 = 60;

impl Application {
    pub fn new(world: Rc<World>, plan: Plan) -> Rc<Self> {
        let disk = Rc::new(Disk {
            model: ModelDisk::new(world.seed),
            world: Rc::clone(&world),
            slowness: plan.slowness,
        });
        Rc::new(Self {
            world,
            plan,
            disk,
            journal: RefCell::default(),
        })
    }

    /// Whether brokers tell a topic from one that had its name before.
    pub fn names_by_id(&self) -> bool {
        let settings = &self.world.plan.kafka;
        let has_v2 = settings.transactions.is_some_and(|it| it.knows_v2);
        settings.newest_produce >= 13 && has_v2
    }

    /// Something is not as it has to be.
    pub fn wrong(&self, what: Invariant, text: &str) {
        let mut journal = self.journal.borrow_mut();
        journal.tally.broken[what as usize] += 1;
        journal.wrong.push(format!("{}: {text}", what.label()));
    }

    /// Sends records to a partition until the process ends.
    pub async fn work(self: Rc<Self>, producer: Producer, partition: u32) {
        let world = &self.world;
        let mut lane = (world.below(4) == 0).then(|| producer.lane());
        let mut left = MOST;
        while left > 0 {
            left -= 1;
            match world.below(16) {
                0 => self.send_slice(&producer, lane.as_mut(), partition).await,
                _ => drop(self.send(&producer, lane.as_mut(), partition).await),
            }
            // It goes on where it is refused at once, too.
            sleep(world.between(0, 1 + 2 * self.plan.pace)).await;
        }
    }

    fn record(&self, partition: u32) -> (Name, Record) {
        let world = &self.world;
        let name = {
            let mut journal = self.journal.borrow_mut();
            let next = journal.next.entry(partition).or_default();
            let name = (partition, *next);
            *next += 1;
            journal.sent.insert(name, Known::Tried);
            let process = journal.tally.processes();
            journal.processes.insert(name, process);
            name
        };
        let tag = Tag {
            seed: world.seed,
            name,
            topic: 0,
            partition: partition as i32,
        };
        const HOUR: i64 = 60 * 60 * 1_000;
        let age = match world.plan.backfills && world.below(4) > 0 {
            true => [2, 20, 25, 80][world.below(4) as usize] * HOUR,
            false => 0,
        };
        let record = Record::to("topic-0")
            .partition(partition as i32)
            .value(tag.encode(world.below(self.plan.filler) as usize))
            .timestamp(world.kafka.wall_clock() - age);
        (name, record)
    }

    /// Sends one record.
    pub async fn send(
        self: &Rc<Self>,
        producer: &Producer,
        lane: Option<&mut Lane>,
        partition: u32,
    ) -> Name {
        let world = &self.world;
        let (name, record) = self.record(partition);
        let sent = match (world.below(20), lane) {
            (_, Some(lane)) => {
                let sent = lane.send(record.borrowed()).await;
                sent.map(|sent| sent.receipt())
            }
            // Where it does not wait for the disk it promises nothing.
            (0..4, _) if !self.plan.machine => producer
                .try_send(record)
                .map_err(|refused| refused.into_parts().1),
            (4..7, _) => {
                let patience = world.between(0, 20);
                match timeout(patience, producer.send(record)).await {
                    Ok(sent) => sent,
                    Err(_) => return name,
                }
            }
            _ => producer.send(record).await,
        };
        match sent {
            Ok(receipt) => self.accepted(name, receipt),
            Err(why) => self.refused(name, &why),
        }
        name
    }

    async fn send_slice(
        self: &Rc<Self>,
        producer: &Producer,
        lane: Option<&mut Lane>,
        partition: u32,
    ) {
        let count = 2 + self.world.below(6);
        let (names, records): (Vec<_>, Vec<_>) = (0..count).map(|_| self.record(partition)).unzip();
        let mut receipts = Receipts::default();
        let sent = match lane {
            Some(lane) => lane.send_slice(&records, &mut receipts).await,
            None => producer.send_slice(&records, &mut receipts).await,
        };
        let accepted = match &sent {
            Ok(()) => names.len(),
            Err(why) if matches!(why.error, SendError::InDoubt { .. }) => 0,
            Err(why) => {
                for name in &names[why.at..] {
                    self.refused(*name, &why.error);
                }
                why.at
            }
        };
        for name in &names[..accepted] {
            self.note(*name, Known::Accepted);
        }
        let application = Rc::clone(self);
        spawn_local(async move {
            for name in names {
                let Some(outcome) = receipts.next().await else {
                    return;
                };
                application.told(name, outcome);
            }
        });
    }

    fn accepted(self: &Rc<Self>, name: Name, receipt: Receipt) {
        self.note(name, Known::Accepted);
        let application = Rc::clone(self);
        spawn_local(async move {
            let outcome = receipt.await;
            application.told(name, outcome);
        });
    }

    fn refused(&self, name: Name, why: &SendError) {
        self.world
            .note(&why.to_string(), &[name.0.into(), name.1.into()]);
        if !matches!(why, SendError::InDoubt { .. }) {
            self.note(name, Known::Refused);
        }
    }

    fn told(&self, name: Name, outcome: Outcome) {
        if let Err(Unconfirmed::Unknown(Reason::DiskFailed { .. })) = outcome
            && self.plan.machine
            && self.plan.failing_syncs.is_some()
        {
            // As before: what was accepted has to be there, and what was in doubt still is.
            return;
        }
        self.note(
            name,
            match outcome {
                Ok(acked) => Known::Acked(acked.offset),
                Err(Unconfirmed::NotWritten(why)) => Known::NotWritten(why.to_string()),
                Err(Unconfirmed::Unknown(why)) => Known::Unknown(why.to_string()),
                Err(Unconfirmed::Kept(_)) => Known::Kept,
                Err(other) => unreachable!("no such outcome is known here: {other:?}"),
            },
        );
    }

    fn note(&self, name: Name, known: Known) {
        let number = match &known {
            Known::Tried => 0,
            Known::Refused => 1,
            Known::Accepted => 2,
            Known::Acked(offset) => 100 + offset.unwrap_or(-1),
            Known::NotWritten(_) => 4,
            Known::Unknown(_) => 5,
            Known::Kept => 6,
        };
        let what = [name.0.into(), name.1.into(), number];
        self.world.note("known", &what);
        self.journal.borrow_mut().sent.insert(name, known);
    }

    pub fn known(&self, name: Name) -> Known {
        self.journal.borrow().sent[&name].clone()
    }
}

/// How long what is in the spool may take to be delivered once everything works.
pub(super) const ENOUGH: Duration = Duration::from_secs(120);
