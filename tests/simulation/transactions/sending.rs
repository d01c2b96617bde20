//! How the records of a transaction are sent: by every door it has.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use forebay::transaction::{Handle, Lane, Receipt, Receipts};
use forebay::{Outcome, Record};
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::application::Application;
use super::journal::{By, Many, Name, Sent};
use crate::load::{EPSILON, Tag};

/// One task that sends in a transaction.
pub(super) struct Task {
    pub handle: Handle,
    pub lane: Option<Lane>,
    pub transaction: u32,
    pub number: u32,
}

type Called = Option<Arc<Mutex<Vec<Outcome>>>>;

impl Application {
    /// Sends so many records, with numbers from `first` on.
    pub async fn send_all(self: &Rc<Self>, mut task: Task, first: u32, count: u32) {
        let world = &self.world;
        let mut number = first;
        while number < first + count {
            if world.below(3) == 0 {
                sleep(world.between(0, 2 * self.plan.pace)).await;
            }
            if world.below(8) == 0 {
                let some = (2 + world.below(6) as u32).min(first + count - number);
                self.send_slice(&mut task, number, some).await;
                number += some;
            } else {
                self.send(&mut task, number, None).await;
                number += 1;
            }
            if world.below(40) == 0 {
                let _ = timeout(world.between(0, 500), task.handle.flush()).await;
            }
        }
    }

    /// Sends one record. Returns whether it was accepted.
    pub async fn send(
        self: &Rc<Self>,
        task: &mut Task,
        number: u32,
        to: Option<(usize, usize)>,
    ) -> bool {
        let world = &self.world;
        let name = (task.transaction, number);
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
            (false, 0) => record.key(number.to_be_bytes().to_vec()),
            (false, _) => record,
        };
        let (sent, called) = self.by_some_door(task, record, (topic, partition)).await;
        let Some(receipt) = sent else {
            self.journal.borrow_mut().tally.refused += 1;
            return false;
        };
        let (partition, by) = (receipt.partition(), By::Receipt(receipt));
        self.accepted(name, task.number, (topic, partition), by, called);
        true
    }

    async fn by_some_door(
        self: &Rc<Self>,
        task: &mut Task,
        record: Record,
        (topic, partition): (usize, i32),
    ) -> (Option<Receipt>, Called) {
        let world = &self.world;
        let handle = &task.handle;
        if let Some(lane) = &mut task.lane {
            let sent = lane.send(record.borrowed()).await;
            return (sent.ok().map(|sent| sent.receipt()), None);
        }
        let sent = match world.below(20) {
            0..10 => handle.send(record).await.ok(),
            10..14 => {
                let called: Arc<Mutex<Vec<Outcome>>> = Arc::default();
                let list = Arc::clone(&called);
                let callback = move |outcome| {
                    list.lock().expect("no panic holds it").push(outcome);
                };
                let sent = handle.send_with(record, callback).await.ok();
                return (sent, Some(called));
            }
            14..17 => handle.try_send(record).ok(),
            // Given up half-way, perhaps: then it was never accepted.
            17..19 => {
                let patience = world.between(0, 20);
                let sent = timeout(patience, handle.send(record)).await;
                sent.ok().and_then(Result::ok)
            }
            _ if partition >= 0 => {
                let topic = format!("topic-{topic}");
                let actor = handle.partition_actor(&topic, partition).await;
                let sent = match actor {
                    Ok(actor) => actor.send(handle.message(record)).await.ok(),
                    Err(_) => None,
                };
                sent.and_then(Result::ok)
            }
            _ => handle.send(record).await.ok(),
        };
        (sent, None)
    }

    /// Sends records at once, most of them to one partition. Given up half-way, perhaps: then some are
    /// accepted, and the rest was never.
    async fn send_slice(self: &Rc<Self>, task: &mut Task, first: u32, count: u32) {
        let world = &self.world;
        let mut to = Vec::new();
        let mut records = Vec::new();
        for number in first..first + count {
            let same = to.last().copied().filter(|_| world.below(4) > 0);
            let (topic, partition) = same.unwrap_or_else(|| {
                let topic = world.below(world.plan.topics as u64) as usize;
                (topic, world.below(world.partitions(topic)) as i32)
            });
            to.push((topic, partition));
            let record = self.record((task.transaction, number), topic, partition);
            records.push(record.partition(partition));
        }
        let mut receipts = Receipts::default();
        let given_up = world.below(3) == 0;
        let patience = world.between(0, 20);
        let sending = async {
            match &mut task.lane {
                Some(lane) => lane.send_slice(&records, &mut receipts).await,
                None => task.handle.send_slice(&records, &mut receipts).await,
            }
        };
        let _ = match given_up {
            true => timeout(patience, sending).await.map_err(drop),
            false => Ok(sending.await),
        };
        let accepted = receipts.len();
        self.journal.borrow_mut().tally.refused += (records.len() - accepted) as u64;
        let fates = Vec::new();
        let many = Rc::new(RefCell::new(Many { receipts, fates }));
        for (at, (number, to)) in (first..).zip(to).enumerate().take(accepted) {
            let by = By::Receipts(Rc::clone(&many), at);
            self.accepted((task.transaction, number), task.number, to, by, None);
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
        Record::to(format!("topic-{topic}"))
            .value(tag.encode(world.below(self.plan.filler) as usize))
            .timestamp(world.kafka.wall_clock())
    }

    fn accepted(
        self: &Rc<Self>,
        name: Name,
        task: u32,
        (topic, partition): (usize, i32),
        by: By,
        called: Called,
    ) {
        let what = [name.0.into(), name.1.into(), i64::from(partition)];
        self.world.note("accepted", &what);
        let waited = match &by {
            By::Receipt(receipt) if self.world.below(4) == 0 => {
                let (receipt, told) = (receipt.clone(), Rc::new(RefCell::new(None)));
                let tell = Rc::clone(&told);
                spawn_local(async move {
                    let outcome = receipt.ended().await;
                    tell.replace(Some(outcome));
                });
                Some(told)
            }
            _ => None,
        };
        let due = Instant::now() + self.plan.delivery_timeout;
        let mut journal = self.journal.borrow_mut();
        journal.order += 1;
        let order = journal.order;
        let sent = Sent {
            topic,
            partition,
            task,
            order,
            by,
            called,
            waited,
            due,
            late: false,
        };
        journal.sent.insert(name, sent);
        drop(journal);
        self.watch(name);
    }

    /// Looks whether it is known what became of the record when it is due.
    fn watch(self: &Rc<Self>, name: Name) {
        let application = Rc::clone(self);
        let due = self.journal.borrow().sent[&name].due + EPSILON / 3;
        spawn_local(async move {
            sleep_until(due).await;
            // Where time creeps or stalls, others may have to catch up first.
            for _ in 0..2 {
                if application.is_told(name) {
                    return;
                }
                sleep(EPSILON / 3).await;
            }
            if !application.is_told(name) {
                let mut journal = application.journal.borrow_mut();
                journal.sent.get_mut(&name).expect("it was sent").late = true;
            }
        });
    }

    fn is_told(&self, name: Name) -> bool {
        self.journal.borrow().sent[&name].by.fate().is_some()
    }
}
