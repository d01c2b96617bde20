//! The application: tasks that begin transactions, send in them, and end them in every way there is.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use forebay::transaction::{GroupMetadata, NotCommitted, ReadUpTo, TransactionError};
use forebay::{TopicPartition, Transaction, TransactionalProducer};
use forebay_model_cluster::{LAST_EPOCH, Transaction as State};
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep, timeout};

use super::journal::{Journal, Told};
use super::plan::{ID, Plan};
use super::sending::Task;
use super::tally::{Ended, Invariant};
use super::troubles::GROUPS;
use crate::weather::STALL_MS;
use crate::world::World;

pub(super) struct Application {
    pub world: Rc<World>,
    pub plan: Plan,
    pub journal: RefCell<Journal>,
    /// How many tasks have sent.
    pub tasks: Cell<u32>,
}

/// The place whose offset is committed.
pub(super) const PLACE: (&str, i32) = ("topic-0", 0);

/// What is conceded to `max.block.ms`: the grace for a runtime that is busy, and stalls.
const LATE: Duration = Duration::from_millis(1_000 + 8 * STALL_MS);

impl Application {
    pub fn wrong(&self, what: Invariant, text: &str) {
        let mut journal = self.journal.borrow_mut();
        journal.tally.broken[what as usize] += 1;
        journal.wrong.push(format!("{}: {text}", what.label()));
    }

    /// One task begins transactions.
    pub async fn work(self: Rc<Self>, producer: TransactionalProducer, instance: usize) {
        let world = &self.world;
        for _ in 0..self.plan.transactions {
            sleep(world.between(0, self.plan.idle.as_millis() as u64)).await;
            let Some((transaction, number)) = self.begin(&producer, instance, 200).await else {
                return;
            };
            self.fill(&transaction, number).await;
            self.end(transaction, number).await;
        }
    }

    /// Begins a transaction, and asks again so often.
    pub async fn begin(
        &self,
        producer: &TransactionalProducer,
        instance: usize,
        tries: usize,
    ) -> Option<(Transaction, u32)> {
        for _ in 0..tries {
            let began = Instant::now();
            let begun = producer.begin().await;
            self.in_time("begin", began);
            match begun {
                Ok(transaction) => {
                    let number = self.journal.borrow_mut().began(instance);
                    self.world
                        .note("began", &[instance as i64, i64::from(number)]);
                    return Some((transaction, number));
                }
                Err(TransactionError::Fenced { .. }) => {
                    let mut journal = self.journal.borrow_mut();
                    if !journal.fenced.contains(&instance) {
                        journal.fenced.push(instance);
                        journal.tally.ended(Ended::FencedOff);
                    }
                    return None;
                }
                Err(TransactionError::Closed) => return None,
                Err(TransactionError::TimedOut { .. }) if self.is_spent() => return None,
                Err(why) => {
                    if !matches!(why, TransactionError::TimedOut { .. }) {
                        self.world.note("not begun", &[instance as i64]);
                    }
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
        None
    }

    /// Whether the coordinator has no epoch left. If an answer was missed at the last one, or it took too
    /// long under it, it has none to tell: it answers UNKNOWN_SERVER_ERROR from then on, as Kafka's does, and
    /// only another instance gets another producer id.
    pub fn is_spent(&self) -> bool {
        let spent = |it: State| it.epoch >= LAST_EPOCH;
        self.world.kafka.transaction(ID).is_some_and(spent)
    }

    fn in_time(&self, what: &str, began: Instant) {
        if began.elapsed() > self.plan.max_block + LATE {
            let took = began.elapsed();
            self.wrong(Invariant::Blocked, &format!("a {what} took {took:?}"));
        }
    }

    pub fn task(&self, transaction: &Transaction, number: u32) -> Task {
        self.tasks.set(self.tasks.get() + 1);
        let lane = self.world.below(4) == 0;
        Task {
            handle: transaction.handle(),
            lane: lane.then(|| transaction.lane()),
            transaction: number,
            number: self.tasks.get(),
        }
    }

    /// Sends records and offsets.
    async fn fill(self: &Rc<Self>, transaction: &Transaction, number: u32) {
        let world = &self.world;
        let count = world.below(self.plan.records + 1) as u32;
        // Somebody else sends in it, too, perhaps until it has ended.
        if world.below(4) == 0 {
            let (task, application) = (self.task(transaction, number), Rc::clone(self));
            let some = 1 + world.below(5) as u32;
            spawn_local(async move { application.send_all(task, 1_000, some).await });
        }
        let task = self.task(transaction, number);
        self.send_all(task, 0, count).await;
        if world.below(16) < self.plan.offsets {
            for group in GROUPS {
                if world.below(3) > 0 {
                    self.send_offsets(transaction, number, group).await;
                }
            }
        }
    }

    async fn send_offsets(&self, transaction: &Transaction, number: u32, group: &'static str) {
        let world = &self.world;
        let generation = {
            let groups = world.kafka.groups.borrow();
            groups.get(group).map_or(0, |it| it.generation)
        };
        let of = GroupMetadata::new(group);
        let of = match generation > 0 && world.below(2) == 0 {
            true => of.member("member", generation),
            false => of,
        };
        sleep(world.between(0, 2 * self.plan.pace)).await;
        let read = ReadUpTo::new(TopicPartition::new(PLACE.0, PLACE.1), offset_of(number));
        let began = Instant::now();
        let sent = transaction.send_offsets(&of, [read]).await;
        self.in_time("send_offsets", began);
        let mut journal = self.journal.borrow_mut();
        journal.tally.ended(match sent {
            Ok(()) => Ended::OffsetsSent,
            Err(_) => Ended::OffsetsRefused,
        });
        let it = journal.transaction(number);
        match sent {
            Ok(()) => drop(it.offsets.insert(group, true)),
            // It is tried on.
            Err(TransactionError::TimedOut { .. }) => drop(it.offsets.insert(group, false)),
            Err(_) => it.failed = true,
        }
    }

    /// Ends it in some way.
    async fn end(self: &Rc<Self>, transaction: Transaction, number: u32) {
        let world = &self.world;
        let patience = world.between(0, 100);
        match world.below(20) {
            0..2 => {
                self.told(number, Told::NotWanted, Ended::AbortAsked);
                let began = Instant::now();
                transaction.abort().await;
                self.in_time("abort", began);
            }
            2 => {
                self.told(number, Told::NotWanted, Ended::AbortAsked);
                let _ = timeout(patience, transaction.abort()).await;
            }
            3..5 => {
                self.told(number, Told::NotWanted, Ended::Dropped);
                drop(transaction);
            }
            5 => {
                self.told(number, Told::Left, Ended::CommitLeft);
                let _ = timeout(patience, transaction.commit()).await;
            }
            6 if self.plan.timeout < Duration::from_secs(5) => {
                sleep(self.plan.timeout + world.between(0, 2_000)).await;
                self.commit(transaction, number).await;
            }
            _ => self.commit(transaction, number).await,
        }
    }

    /// Commits it, and waits until it is known what became of it.
    pub async fn commit(&self, transaction: Transaction, number: u32) {
        let mut began = Instant::now();
        let mut committed = transaction.commit().await;
        self.in_time("commit", began);
        let mut doubts = 0;
        while let Err(NotCommitted::InDoubt(in_doubt)) = committed {
            doubts += 1;
            began = Instant::now();
            committed = in_doubt.resolve().await;
            self.in_time("resolve", began);
            if began.elapsed().is_zero() {
                sleep(Duration::from_millis(10)).await;
            }
        }
        if doubts > 0 {
            self.journal.borrow_mut().tally.ended(Ended::InDoubt);
        }
        let (told, how) = match committed {
            Ok(()) => (Told::Committed, Ended::Committed),
            Err(NotCommitted::Aborted(why)) => (Told::Aborted(why.to_string()), Ended::Aborted),
            Err(NotCommitted::Unknown(why)) => (Told::Unknown(why.to_string()), Ended::Unknown),
            Err(other) => unreachable!("no such end is known here: {other}"),
        };
        self.told(number, told, how);
    }

    fn told(&self, number: u32, told: Told, how: Ended) {
        self.world.note("ended", &[i64::from(number), how as i64]);
        let mut journal = self.journal.borrow_mut();
        journal.transaction(number).told = told;
        journal.tally.ended(how);
    }
}

/// What a transaction commits of the group's place: no two the same.
pub(super) fn offset_of(number: u32) -> i64 {
    i64::from(number) + 1
}
