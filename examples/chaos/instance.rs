//! One instance of a transactional id: it begins transactions, fills them, and ends them in every way.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use forebay::transaction::{InDoubt, NotCommitted, TransactionError};
use forebay::{Config, Outcome, Transaction, TransactionalProducer};
use rand::Rng;
use rand::rngs::SmallRng;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::books::{Books, Sent};
use crate::faults::{PARTITIONS, STREAM};
use crate::load::{GRACE, look_for_leaks, send_one};
use crate::stream::Stream;
use crate::transactions::{Told, Transactions};
use crate::verdicts::Verdicts;

/// The other topic that transactions have records for.
pub const OTHER: &str = "other";
pub const OTHERS: i32 = 3;

/// A transactional id.
pub struct Id {
    pub name: String,
    /// How many transactions have begun.
    pub begun: AtomicU64,
    /// The last of them that was committed, counted from 1.
    pub committed_to: AtomicU64,
    /// The number of its newest instance, the newest one that has begun a transaction, and the newest one
    /// that was fenced. They count from 1.
    pub newest: AtomicU32,
    pub began: AtomicU32,
    pub fenced: AtomicU32,
}

impl Id {
    pub fn new(at: usize) -> Self {
        Self {
            name: format!("chaos-{at}"),
            begun: AtomicU64::new(0),
            committed_to: AtomicU64::new(0),
            newest: AtomicU32::new(1),
            began: AtomicU32::new(0),
            fenced: AtomicU32::new(0),
        }
    }

    /// Has the next instance follow this one, unless one does already. Returns its number.
    pub fn follow(&self, instance: u32) -> Option<u32> {
        let next = instance + 1;
        let swapped = self
            .newest
            .compare_exchange(instance, next, Relaxed, Relaxed);
        swapped.is_ok().then_some(next)
    }
}

/// What all instances share.
pub struct Surroundings {
    pub config: Config,
    pub books: Arc<Books>,
    pub transactions: Arc<Transactions>,
    /// Records a second of each instance.
    pub rate: f64,
    pub stop: Arc<AtomicBool>,
}

/// The streams of an id's newest instance, one to each partition.
pub type Former = Rc<RefCell<Vec<u32>>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Stopped,
    Fenced,
}

/// An outcome at the end of a transaction.
type Ended = Pin<Box<dyn Future<Output = Outcome>>>;

struct Instance<'a> {
    id: &'a Id,
    number: u32,
    around: &'a Surroundings,
    streams: Vec<(Arc<Stream>, UnboundedSender<Sent<Ended>>)>,
    random: &'a mut SmallRng,
}

/// Runs an instance until the load stops, or it is fenced.
pub async fn run(
    id: &Id,
    number: u32,
    around: &Surroundings,
    former: &Former,
    random: &mut SmallRng,
    verdicts: &mut Verdicts,
) -> End {
    let mut config = around.config.clone();
    config.transactional_id = Some(id.name.clone());
    let producer = TransactionalProducer::start(config).expect("a producer");
    around.transactions.instances.fetch_add(1, Relaxed);
    let (mut streams, mut followers) = (Vec::new(), JoinSet::new());
    for (at, to) in destinations().enumerate() {
        let behind = former.borrow().get(at).copied();
        let stream = around.books.open_behind(behind, to);
        let (sent, settling) = unbounded_channel();
        let (books, follows) = (Arc::clone(&around.books), Arc::clone(&stream));
        followers.spawn_local(async move { books.follow(&follows, settling, true).await });
        streams.push((stream, sent));
    }
    former.replace(streams.iter().map(|(stream, _)| stream.id).collect());
    let mut instance = Instance {
        id,
        number,
        around,
        streams,
        random,
    };
    let end = instance.work(&producer).await;
    let is_closed = end == End::Stopped || instance.random.random_bool(0.5);
    let streams: Vec<_> = instance.streams.into_iter().map(|(it, _)| it).collect();
    let who = format!("{} instance {number}, {end:?}", id.name);

    let all = async { while followers.join_next().await.is_some() {} };
    let _ = timeout(around.config.delivery_timeout + GRACE, all).await;
    for stream in streams {
        let (sent, settled) = (stream.sent(), stream.settled());
        verdicts.unresolved.add(sent - settled, || {
            let (topic, partition) = (&stream.topic, stream.partition);
            format!("{who}: {topic}-{partition} from number {settled} of {sent}")
        });
    }
    let figures = async || producer.figures().await;
    look_for_leaks(figures, around.config.request_timeout, verdicts).await;
    if is_closed {
        let limit = Duration::from_secs(10);
        match timeout(limit + GRACE, producer.close(limit)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => verdicts
                .unresolved
                .add(1, || format!("{who}: close: {error}")),
            Err(_) => verdicts
                .unresolved
                .add(1, || format!("{who}: close did not end")),
        }
    }
    end
}

/// Each partition that transactions have records for.
pub fn destinations() -> impl Iterator<Item = (&'static str, i32)> {
    let all = [(STREAM, PARTITIONS), (OTHER, OTHERS)].into_iter();
    all.flat_map(|(topic, count)| (0..count).map(move |partition| (topic, partition)))
}

impl Instance<'_> {
    async fn work(&mut self, producer: &TransactionalProducer) -> End {
        let around = self.around;
        let by = format!("{} instance {}", self.id.name, self.number).into();
        let (begin, mut records) = (Instant::now(), 0);
        while !around.stop.load(Relaxed) {
            let transaction = match producer.begin().await {
                Ok(transaction) => {
                    if self.id.began.fetch_max(self.number, Relaxed) < self.number {
                        tracing::debug!(self.id.name, self.number, "has begun");
                    }
                    transaction
                }
                Err(TransactionError::Fenced { .. }) => return End::Fenced,
                Err(error) => {
                    around.books.note(format!("not begun: {error}"));
                    sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let count = self.id.begun.fetch_add(1, Relaxed) + 1;
            let number = around.transactions.begin(&by);
            records += self.fill(&transaction, number).await;
            let told = self.end(transaction, number).await;
            around.transactions.told(number, told);
            if told == Told::Committed {
                self.id.committed_to.fetch_max(count, Relaxed);
            }
            let due = Duration::from_secs_f64(f64::from(records) / around.rate);
            sleep(due.saturating_sub(begin.elapsed())).await;
        }
        End::Stopped
    }

    /// Sends some records, or none. Returns how many it tried.
    async fn fill(&mut self, transaction: &Transaction, number: usize) -> u32 {
        let around = self.around;
        let count = self.random.random_range(0..7);
        for _ in 0..count {
            let at = self.random.random_range(0..self.streams.len());
            let (stream, sent) = &self.streams[at];
            // Nobody else sends to it.
            let record = (stream.id, stream.sent());
            let send = async |record| {
                let receipt = transaction.send(record).await?;
                let ended: Ended = Box::pin(receipt.ended());
                Ok(ended)
            };
            if send_one(send, stream, &around.books, sent).await {
                around.transactions.holds(number, record);
            }
            // Time for a fault in the middle.
            if self.random.random_bool(0.02) {
                sleep(Duration::from_millis(self.random.random_range(0..500))).await;
            }
        }
        if self.random.random_bool(0.1) {
            let _ = transaction.flush().await;
        }
        count
    }

    async fn end(&mut self, transaction: Transaction, number: usize) -> Told {
        match self.random.random_range(0..40) {
            0..4 => {
                transaction.abort().await;
                Told::Aborted
            }
            4..7 => {
                drop(transaction);
                Told::Dropped
            }
            7 => {
                let patience = Duration::from_millis(self.random.random_range(0..50));
                match timeout(patience, transaction.commit()).await {
                    Ok(committed) => self.resolve(committed, number).await,
                    Err(_) => Told::Left,
                }
            }
            _ => {
                let committed = transaction.commit().await;
                self.resolve(committed, number).await
            }
        }
    }

    async fn resolve(&self, mut committed: Result<(), NotCommitted>, number: usize) -> Told {
        let around = self.around;
        loop {
            committed = match committed {
                Ok(()) => return Told::Committed,
                Err(NotCommitted::InDoubt(it)) => {
                    around.transactions.in_doubt(number);
                    InDoubt::resolve(it).await
                }
                Err(NotCommitted::Aborted(why)) => {
                    around.books.note(format!("not committed: {why}"));
                    return Told::NotCommitted;
                }
                Err(error) => {
                    around.books.note(error.to_string());
                    return Told::Unknown;
                }
            };
        }
    }
}
