//! The load of transactions: transactional ids, and the instances that have them one after the other.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use forebay::Config;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::timeout;

use crate::books::Books;
use crate::faults::{STREAM, TRANSACTION_STATE, pause};
use crate::instance::{self, End, Id, OTHER, OTHERS, Surroundings};
use crate::kafka::{self, Cluster};
use crate::kinds::{Kind, Tally, Where};
use crate::load::GRACE;
use crate::transactions::Transactions;
use crate::verdicts::Verdicts;
use crate::workload::Workload;

const IDS: usize = 16;
/// How long it may take until an instance whose id was taken hears of that, and the new one begins.
const LIMIT: Duration = Duration::from_secs(90);

enum Order {
    /// Starts an instance of an id, with this number.
    Start(usize, u32),
    End,
}

/// All transactional ids. A cheap handle.
#[derive(Clone)]
pub struct Ids {
    all: Arc<Vec<Id>>,
    orders: UnboundedSender<Order>,
}

pub struct Load {
    pub ids: Ids,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Verdicts>,
}

impl Load {
    /// Sends about this many records a second, in all.
    pub fn start(
        config: Config,
        (books, transactions): (Arc<Books>, Arc<Transactions>),
        rate: f64,
        seed: u64,
    ) -> Self {
        let (orders, ordered) = unbounded_channel();
        let all: Arc<Vec<_>> = Arc::new((0..IDS).map(Id::new).collect());
        let stop = Arc::new(AtomicBool::new(false));
        let (ids, stopped) = (Arc::clone(&all), Arc::clone(&stop));
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            let surroundings = Surroundings {
                config,
                books,
                transactions,
                rate: rate / IDS as f64,
                stop: stopped,
            };
            let drive = drive(ids, Rc::new(surroundings), seed, ordered);
            LocalSet::new().block_on(&runtime, drive)
        };
        let thread = std::thread::spawn(run);
        let ids = Ids { all, orders };
        Self { ids, stop, thread }
    }

    /// Ends the load. The verdicts say which transactions and records have no end, and how much memory is
    /// missing.
    pub fn finish(self) -> Verdicts {
        self.stop.store(true, Relaxed);
        self.ids.order(Order::End);
        self.thread.join().expect("the load does not panic")
    }
}

async fn drive(
    ids: Arc<Vec<Id>>,
    surroundings: Rc<Surroundings>,
    seed: u64,
    mut orders: UnboundedReceiver<Order>,
) -> Verdicts {
    let mut lives = JoinSet::new();
    let former: Vec<_> = ids.iter().map(|_| instance::Former::default()).collect();
    while let Some(Order::Start(at, number)) = orders.recv().await {
        let (ids, former) = (Arc::clone(&ids), Rc::clone(&former[at]));
        let surroundings = Rc::clone(&surroundings);
        let seed = seed ^ (at as u64) << 32 ^ u64::from(number);
        let mut random = SmallRng::seed_from_u64(seed);
        lives.spawn_local(async move {
            live(&ids[at], number, &surroundings, &former, &mut random).await
        });
    }
    let mut verdicts = Verdicts::default();
    let config = &surroundings.config;
    let limit = config.max_block + config.delivery_timeout + config.transaction_timeout + 2 * GRACE;
    let all = async {
        while let Some(life) = lives.join_next().await {
            verdicts.merge(life.expect("an instance does not panic"));
        }
    };
    if timeout(limit, all).await.is_err() {
        let overdue = || format!("transactional ids did not come to rest within {limit:?}");
        verdicts.unresolved.add(1, overdue);
    }
    verdicts
}

/// One instance, and those behind it where it is fenced though nobody has taken the id: with the first
/// protocol coordinators say so of transactions whose time was over, too.
async fn live(
    id: &Id,
    mut number: u32,
    surroundings: &Surroundings,
    former: &instance::Former,
    random: &mut SmallRng,
) -> Verdicts {
    let mut verdicts = Verdicts::default();
    loop {
        let end = instance::run(id, number, surroundings, former, random, &mut verdicts).await;
        if end == End::Stopped {
            return verdicts;
        }
        tracing::debug!(id.name, number, "is fenced");
        let transactions = &surroundings.transactions;
        transactions.fenced.fetch_add(1, Relaxed);
        id.fenced.fetch_max(number, Relaxed);
        match id.follow(number) {
            Some(next) => number = next,
            None => return verdicts,
        }
        transactions.expelled.fetch_add(1, Relaxed);
    }
}

impl Ids {
    fn order(&self, order: Order) {
        assert!(self.orders.send(order).is_ok(), "the load has ended");
    }

    /// Has second instances take ids, one after another, until `stop`.
    pub fn are_taken_over(&self, tally: &Tally, seed: u64, stop: &AtomicBool) -> Verdicts {
        let mut verdicts = Verdicts::default();
        if tally.kinds_at(Where::Clients).is_empty() {
            return verdicts;
        }
        let mut random = SmallRng::seed_from_u64(seed);
        while !stop.load(Relaxed) {
            pause(&mut random, 100..3000);
            let at = random.random_range(0..self.all.len());
            let id = &self.all[at];
            let older = id.newest.load(Relaxed);
            // One that has not begun yet could still fence the one behind it.
            if id.began.load(Relaxed) < older {
                continue;
            }
            let Some(newer) = id.follow(older) else {
                continue;
            };
            tracing::debug!(id.name, newer, "takes the id over");
            self.order(Order::Start(at, newer));
            let begin = Instant::now();
            let is_over = || id.fenced.load(Relaxed) >= older && id.began.load(Relaxed) >= newer;
            while !is_over() && begin.elapsed() < LIMIT && !stop.load(Relaxed) {
                std::thread::sleep(Duration::from_millis(10));
            }
            if is_over() {
                tally.count(Kind::TakeOver);
            } else if begin.elapsed() >= LIMIT {
                let (began, fenced) = (id.began.load(Relaxed), id.fenced.load(Relaxed));
                verdicts.unresolved.add(1, || {
                    let name = &id.name;
                    format!(
                        "{name}: instance {newer} took it, {LIMIT:?} later {began} was the newest that \
                         had begun, and {fenced} the newest that was fenced"
                    )
                });
            }
        }
        verdicts
    }
}

impl Workload for Ids {
    fn begin(&mut self, cluster: &Cluster, _: &[Kind]) -> kafka::Result<()> {
        cluster.create_topic(OTHER, OTHERS, 3, &[])?;
        (0..self.all.len()).for_each(|at| self.order(Order::Start(at, 1)));
        Ok(())
    }

    fn topics(&self) -> Vec<&'static str> {
        vec![STREAM, OTHER]
    }

    fn internal_topics(&self) -> &'static [&'static str] {
        &[TRANSACTION_STATE]
    }

    fn sent(&self) -> Vec<u64> {
        self.all.iter().map(|id| id.begun.load(Relaxed)).collect()
    }

    fn delivered_to(&self, part: usize) -> u64 {
        self.all[part].committed_to.load(Relaxed)
    }

    fn name(&self, part: usize) -> String {
        self.all[part].name.clone()
    }

    fn once(&mut self, _: Kind, _: &Cluster, _: &mut SmallRng) -> kafka::Result<Option<String>> {
        Ok(None)
    }
}
