//! The application: several clones of a handle that send, by every door.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use forebay::{Lane, Outcome, Producer, Receipt, Receipts, Record, SendRecord};
use futures_util::FutureExt;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::tally::Fault;
use super::world::World;

/// Names a record: the clone that sent it, and its number there.
pub(super) type Name = (u32, u32);

/// What a record's value says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tag {
    pub seed: u64,
    pub name: Name,
    pub topic: u32,
    /// -1 if the producer chose.
    pub partition: i32,
}

impl Tag {
    const LENGTH: usize = 24;

    pub fn encode(&self, filler: usize) -> Bytes {
        let mut value = BytesMut::with_capacity(Self::LENGTH + filler + 4);
        value.put_u64(self.seed);
        value.put_u32(self.name.0);
        value.put_u32(self.name.1);
        value.put_u32(self.topic);
        value.put_i32(self.partition);
        value.put_bytes(self.name.1 as u8, filler);
        value.put_u32(checksum(&value));
        value.freeze()
    }

    /// `None` if a byte has changed.
    pub fn decode(value: &[u8]) -> Option<Self> {
        let (body, sum) = value.split_at_checked(value.len().checked_sub(4)?)?;
        if checksum(body).to_be_bytes() != sum || body.len() < Self::LENGTH {
            return None;
        }
        let four = |at: usize| u32::from_be_bytes(body[at..at + 4].try_into().expect("four"));
        Some(Self {
            seed: u64::from_be_bytes(body[..8].try_into().expect("eight")),
            name: (four(8), four(12)),
            topic: four(16),
            partition: four(20) as i32,
        })
    }
}

fn checksum(bytes: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32IsoHdlc, bytes) as u32
}

/// A record that was accepted.
pub(super) struct Sent {
    pub topic: usize,
    pub partition: i32,
    /// In which `send` calls returned, over all clones.
    pub order: usize,
    pub told: Told,
    /// How often the callback was called, if there is one.
    pub called: Option<Arc<AtomicU32>>,
    /// When it has to have its outcome.
    pub due: Instant,
    /// Had none by then.
    pub late: bool,
}

/// By what a record's outcome is told.
pub(super) enum Told {
    By(Receipt),
    /// At this place of a slice.
    WithOthers(Rc<RefCell<Slice>>, usize),
}

/// The outcomes of a slice's records, as far as they are known.
pub(super) struct Slice {
    receipts: Receipts,
    outcomes: Vec<Outcome>,
}

impl Told {
    pub fn outcome(&self) -> Option<Outcome> {
        match self {
            Self::By(receipt) => receipt.outcome(),
            Self::WithOthers(slice, at) => {
                let Slice { receipts, outcomes } = &mut *slice.borrow_mut();
                outcomes.extend(std::iter::from_fn(|| receipts.try_next()));
                outcomes.get(*at).cloned()
            }
        }
    }
}

/// What the application did.
#[derive(Default)]
pub(super) struct Journal {
    pub sent: BTreeMap<Name, Sent>,
    pub order: usize,
    pub refused: u64,
}

pub(super) struct Load {
    pub world: Rc<World>,
    pub journal: RefCell<Journal>,
    pub delivery_timeout: Duration,
    /// `forebay.unknown.resolve.timeout.ms`, if that counts.
    pub resolve_timeout: Duration,
    /// An actor may be given up.
    pub fragile: bool,
    pub records: u32,
    /// Mean pause between two records, in milliseconds.
    pub pace: u64,
    /// Longest value, in bytes beside the tag.
    pub filler: u64,
    /// How many topics were made that are used for a moment.
    pub passing: Cell<usize>,
}

/// What is conceded to schedules: after `delivery.timeout.ms`, the time to look for it and this, a record has
/// its outcome.
pub(super) const EPSILON: Duration = Duration::from_millis(60);

/// So many topics are used for a moment.
const PASSING_MOST: usize = 8;

impl Load {
    /// One clone of the handle sends its records.
    pub async fn run(self: Rc<Self>, producer: Producer, clone: u32) {
        let world = &self.world;
        let mut lane = (world.below(4) == 0).then(|| producer.lane());
        let mut number = 0;
        while number < self.records {
            if !world.plan.silence.is_zero() && number >= self.records / 2 {
                sleep_until(world.silent_until()).await;
            }
            if world.below(3) == 0 {
                sleep(world.between(0, 2 * self.pace)).await;
            }
            let (lane, name) = (lane.as_mut(), (clone, number));
            if world.below(16) == 0 {
                let count = (2 + world.below(6) as u32).min(self.records - number);
                self.send_slice(&producer, lane, name, count).await;
                number += count;
            } else {
                self.send(&producer, lane, name, None).await;
                number += 1;
            }
            if world.plan.passing && world.below(8) == 0 && number < self.records {
                self.in_passing(&producer, (clone, number)).await;
                number += 1;
            }
            if world.plan.pauses && world.below(15) == 0 {
                world.count(Fault::Pause);
                sleep(world.between(3_000, 9_000)).await;
            }
            if world.below(60) == 0 {
                let _ = timeout(world.between(0, 500), producer.flush()).await;
            }
        }
    }

    /// Sends one record to a topic that is there for a moment, or was, and is perhaps still.
    async fn in_passing(self: &Rc<Self>, producer: &Producer, name: Name) {
        let world = &self.world;
        let first = world.plan.topics;
        let made = self.passing.get();
        let number = match made {
            PASSING_MOST => first + world.below(made as u64) as usize,
            _ if made > 0 && world.below(3) == 0 => first + world.below(made as u64) as usize,
            _ => {
                self.passing.set(made + 1);
                first + made
            }
        };
        world.count(Fault::Passing);
        world
            .kafka
            .create_topic(number, 1 + world.below(2) as usize);
        sleep(world.between(0, 100)).await;
        let partition = world.below(world.partitions(number)) as usize;
        self.send(producer, None, name, Some((number, partition)))
            .await;
        if world.below(3) == 0 {
            let world = Rc::clone(world);
            tokio::task::spawn_local(async move {
                sleep(world.between(0, 1_800)).await;
                let topic = world.kafka.cluster.borrow().newest(number);
                topic
                    .into_iter()
                    .for_each(|it| world.kafka.delete_topic(it));
            });
        }
    }

    /// Sends one record, through the lane if there is one, else by any other door. Returns whether
    /// it was accepted.
    pub async fn send(
        self: &Rc<Self>,
        producer: &Producer,
        lane: Option<&mut Lane>,
        name: Name,
        to: Option<(usize, usize)>,
    ) -> bool {
        let world = &self.world;
        let topic = world.below(world.plan.topics as u64) as usize;
        let fixed = world.below(10) < 7;
        let visible = world.partitions(topic);
        let (topic, partition) = match to {
            Some((topic, partition)) => (topic, partition as i32),
            None if fixed => (topic, world.below(visible) as i32),
            None => (topic, -1),
        };
        let record = self.record(name, topic, partition);
        let record = match (partition >= 0, world.below(2)) {
            (true, _) => record.partition(partition),
            (false, 0) => record.key(name.1.to_be_bytes().to_vec()),
            (false, _) => record,
        };
        let door = match to.is_some() {
            true => 0,
            false => world.below(20),
        };
        let mut called = None;
        let accepted = match (door, lane) {
            (_, Some(lane)) => {
                let sent = lane.send(record.borrowed()).await;
                sent.ok().map(|sent| sent.receipt())
            }
            (0..10, _) => producer.send(record).await.ok(),
            (10..14, _) => {
                let counter = Arc::new(AtomicU32::new(0));
                called = Some(Arc::clone(&counter));
                let callback = move |_: Outcome| {
                    counter.fetch_add(1, Ordering::Relaxed);
                };
                producer.send_with(record, callback).await.ok()
            }
            (14..17, _) => producer.try_send(record).ok(),
            // Given up half-way, perhaps: then it was never accepted.
            (17..19, _) => {
                let patience = world.between(0, 20);
                let sent = timeout(patience, producer.send(record)).await;
                sent.ok().and_then(Result::ok)
            }
            _ if partition >= 0 => match producer
                .partition_actor(&format!("topic-{topic}"), partition)
                .await
            {
                Ok(partition) => partition
                    .send(SendRecord::new(record))
                    .await
                    .ok()
                    .and_then(Result::ok),
                Err(_) => None,
            },
            _ => producer.send(record).await.ok(),
        };
        let Some(receipt) = accepted else {
            self.journal.borrow_mut().refused += 1;
            return false;
        };
        // In every fourth seed most records are waited for, so that their batches need not linger. Nothing is
        // drawn for it: the other seeds are what they would be without.
        if world.seed % 4 == 3 && !name.1.is_multiple_of(4) {
            let _ = receipt.clone().now_or_never();
        }
        let partition = receipt.partition();
        self.accepted(name, (topic, partition), Told::By(receipt), called);
        true
    }

    /// Sends records at once, most of them to one partition. Given up half-way, perhaps: then some are
    /// accepted, and the rest was never.
    async fn send_slice(
        self: &Rc<Self>,
        producer: &Producer,
        lane: Option<&mut Lane>,
        first: Name,
        count: u32,
    ) {
        let world = &self.world;
        let mut to = Vec::new();
        let mut records = Vec::new();
        for number in first.1..first.1 + count {
            let same = to.last().copied().filter(|_| world.below(4) > 0);
            let (topic, partition) = same.unwrap_or_else(|| {
                let topic = world.below(world.plan.topics as u64) as usize;
                (topic, world.below(world.partitions(topic)) as i32)
            });
            to.push((topic, partition));
            let record = self.record((first.0, number), topic, partition);
            records.push(record.partition(partition));
        }
        let mut receipts = Receipts::default();
        let given_up = world.below(3) == 0;
        let patience = world.between(0, 20);
        let sending = async {
            match lane {
                Some(lane) => lane.send_slice(&records, &mut receipts).await,
                None => producer.send_slice(&records, &mut receipts).await,
            }
        };
        let _ = match given_up {
            true => timeout(patience, sending).await.map_err(drop),
            false => Ok(sending.await),
        };
        let accepted = receipts.len();
        self.journal.borrow_mut().refused += (records.len() - accepted) as u64;
        let slice = Rc::new(RefCell::new(Slice {
            receipts,
            outcomes: Vec::new(),
        }));
        for (at, (number, to)) in (first.1..).zip(to).enumerate().take(accepted) {
            let told = Told::WithOthers(Rc::clone(&slice), at);
            self.accepted((first.0, number), to, told, None);
        }
    }

    fn record(&self, name: Name, topic: usize, partition: i32) -> Record {
        let world = &self.world;
        let tag = Tag {
            seed: world.seed,
            name,
            topic: topic as u32,
            partition,
        };
        let value = tag.encode(world.below(self.filler) as usize);
        const HOUR: i64 = 60 * 60 * 1_000;
        // Once all is well each record has to be acked, whatever became of its first attempt.
        let old = world.plan.backfills && !world.healed.get() && world.below(4) > 0;
        let age = match old {
            true => [2, 20, 25, 80][world.below(4) as usize] * HOUR,
            false => 0,
        };
        Record::to(format!("topic-{topic}"))
            .value(value)
            .timestamp(world.kafka.wall_clock() - age)
    }

    fn accepted(
        self: &Rc<Self>,
        name: Name,
        (topic, partition): (usize, i32),
        told: Told,
        called: Option<Arc<AtomicU32>>,
    ) {
        let what = [name.0.into(), name.1.into(), i64::from(partition)];
        self.world.note("accepted", &what);
        let mut journal = self.journal.borrow_mut();
        journal.order += 1;
        let order = journal.order;
        let sent = Sent {
            topic,
            partition,
            order,
            told,
            called,
            due: Instant::now() + self.delivery_timeout + self.resolve_timeout,
            late: false,
        };
        journal.sent.insert(name, sent);
        drop(journal);
        self.watch(name);
    }

    /// Looks whether the record has its outcome when it is due.
    fn watch(self: &Rc<Self>, name: Name) {
        let load = Rc::clone(self);
        let due = self.journal.borrow().sent[&name].due + EPSILON / 3;
        tokio::task::spawn_local(async move {
            sleep_until(due).await;
            // Time stands still while anybody has something to do, except where it creeps or
            // stalls: then others may have to catch up first.
            for _ in 0..2 {
                if load.has_outcome(name) {
                    return;
                }
                sleep(EPSILON / 3).await;
            }
            if !load.has_outcome(name) {
                let mut journal = load.journal.borrow_mut();
                journal.sent.get_mut(&name).expect("it was sent").late = true;
            }
        });
    }

    fn has_outcome(&self, name: Name) -> bool {
        let journal = self.journal.borrow();
        journal.sent[&name].told.outcome().is_some()
    }
}
