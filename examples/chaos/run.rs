//! A run: faults while something is sent, and then the verdicts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use forebay::Config;
use rand::SeedableRng;
use rand::rngs::SmallRng;

use crate::books::{Books, Timing};
use crate::doubts::Doubts;
use crate::faults::{Faults, PARTITIONS, STREAM, say};
use crate::ids;
use crate::kafka::{self, Cluster, Isolation, Proxies};
use crate::kinds::{Kind, Tally};
use crate::load::Load;
use crate::report::{Memory, OfTransactions, Report};
use crate::topics::Topics;
use crate::transactions::Transactions;
use crate::verdicts::Verdicts;
use crate::workload::Workload;
use crate::{clients, connections, hanging, report};

/// The name of the listener that is behind the proxies.
pub const PROXIED: &str = "PROXIED";

/// What there must have been before the faults end.
pub struct Wants {
    pub least: Duration,
    pub records: u64,
    pub deaths: u64,
    /// Ends of transactions.
    pub ends: u64,
}

pub struct Run<'a> {
    cluster: &'a Cluster,
    config: Config,
    tally: Tally,
    seed: u64,
    rate: f64,
    proxies: Proxies,
    books: Arc<Books>,
    doubts: Doubts,
    memory: Memory,
    begin: Instant,
}

/// What the faults have left.
struct Hurt {
    /// Whether all of them could be done.
    ran: kafka::Result<()>,
    took: Duration,
    timing: Timing,
    topics: Vec<&'static str>,
    recoveries: BTreeMap<Kind, Duration>,
    verdicts: Verdicts,
}

impl<'a> Run<'a> {
    pub fn new(
        cluster: &'a Cluster,
        config: Config,
        tally: Tally,
        (seed, rate): (u64, f64),
    ) -> Result<Self, Box<dyn std::error::Error>> {
        Ok(Self {
            cluster,
            config,
            tally,
            seed,
            rate,
            proxies: Proxies::start(cluster, PROXIED)?,
            memory: Memory::begin(),
            books: Arc::new(Books::new()),
            doubts: Doubts::install()?,
            begin: Instant::now(),
        })
    }

    /// Returns whether all verdicts hold.
    pub fn of_records(&self, wants: &Wants) -> Result<bool, Box<dyn std::error::Error>> {
        let load = Load::start(self.config.clone(), Arc::clone(&self.books));
        let mut topics = Topics::new(&load, &self.books, self.rate);
        let bootstrap = self.cluster.bootstrap_through(PROXIED);
        let clients = |stop: &AtomicBool| {
            let (to, seed) = ((STREAM, PARTITIONS), self.seed ^ 3);
            clients::come_and_go(&bootstrap, to, &self.books, &self.tally, seed, stop)
        };
        let mut hurt = self.hurt(&mut topics, clients, wants, None)?;
        say(self.begin, "quiet; waiting for the last outcomes");
        hurt.verdicts.merge(load.finish());
        self.judge(hurt, None)
    }

    /// Returns whether all verdicts hold.
    pub fn of_transactions(&self, wants: &Wants) -> Result<bool, Box<dyn std::error::Error>> {
        let transactions = Arc::new(Transactions::default());
        let books = (Arc::clone(&self.books), Arc::clone(&transactions));
        let load = ids::Load::start(self.config.clone(), books, self.rate, self.seed ^ 4);
        let mut ids = load.ids.clone();
        let taken = ids.clone();
        let clients = |stop: &AtomicBool| taken.are_taken_over(&self.tally, self.seed ^ 3, stop);
        let mut hurt = self.hurt(&mut ids, clients, wants, Some(&transactions))?;
        say(self.begin, "quiet; waiting for the last transactions");
        hurt.verdicts.merge(load.finish());
        let quiet = Instant::now();
        hanging::wait_for_ends(self.cluster, &mut hurt.verdicts)?;
        self.judge(hurt, Some((&transactions, quiet)))
    }

    /// Causes faults until there was everything that is wanted. Others hurt by what they do themselves.
    fn hurt<'w>(
        &'w self,
        workload: &'w mut (dyn Workload + 'w),
        others: impl FnOnce(&AtomicBool) -> Verdicts + Send,
        wants: &Wants,
        transactions: Option<&Transactions>,
    ) -> Result<Hurt, Box<dyn std::error::Error>> {
        let request_timeout = self.config.request_timeout;
        let random = SmallRng::seed_from_u64(self.seed ^ 1);
        let (tally, begin) = (&self.tally, self.begin);
        let through = (self.cluster, workload, tally);
        let mut faults = Faults::new(through, (request_timeout, self.rate), random, begin);
        faults.begin()?;
        self.books.begin();

        let interrupted = on_interrupt()?;
        let done = || {
            let enough = begin.elapsed() >= wants.least
                && tally.all_met()
                && self.books.acked.load(Relaxed) >= wants.records
                && self.proxies.deaths() >= wants.deaths
                && transactions.is_none_or(|it| it.ended() >= wants.ends);
            enough || interrupted.load(Relaxed)
        };
        let stop = AtomicBool::new(false);
        let (ran, by_others) = std::thread::scope(|scope| {
            let stop = &stop;
            let seed = self.seed ^ 2;
            scope.spawn(move || {
                connections::hurt(&self.proxies, tally, request_timeout, seed, stop);
            });
            let others = scope.spawn(move || others(stop));
            let (books, memory) = ((&*self.books, transactions), &self.memory);
            scope.spawn(move || report::tell_progress(begin, books, &self.proxies, memory, stop));
            let ran = faults.run(done).and_then(|()| {
                stop.store(true, Relaxed);
                faults.make_whole()
            });
            stop.store(true, Relaxed);
            (ran, others.join())
        });
        let took = begin.elapsed();
        // The outcomes of the records are checked even if the faults ended with an error.
        if let Err(error) = &ran {
            say(begin, format_args!("faults ended early: {error}"));
            faults.make_whole()?;
        }
        let (topics, recoveries) = (faults.topics(), faults.recoveries);
        let mut verdicts = faults.verdicts;
        verdicts.merge(by_others.map_err(|_| "the clients panicked")?);
        Ok(Hurt {
            ran,
            took,
            timing: self.books.timing(),
            topics,
            recoveries,
            verdicts,
        })
    }

    /// Reads everything back and reports. Returns whether all verdicts hold.
    fn judge(
        &self,
        mut hurt: Hurt,
        transactions: Option<(&Transactions, Instant)>,
    ) -> Result<bool, Box<dyn std::error::Error>> {
        let of_transactions = transactions.map_or(0, |(it, _)| it.memory());
        self.memory.look(self.books.memory() + of_transactions);
        say(self.begin, "reading everything back");
        let (reading, verdicts) = (Instant::now(), &mut hurt.verdicts);
        let isolation = match transactions {
            Some(_) => Isolation::ReadCommitted,
            None => Isolation::ReadUncommitted,
        };
        let (mut read, mut unknown_there) = (0, 0);
        let mut seen = BTreeMap::new();
        for topic in hurt.topics {
            let of_topic = verdicts.read(self.cluster, (topic, isolation), &self.books)?;
            read += of_topic.records;
            unknown_there += of_topic.unknown;
            seen.extend(of_topic.seen);
        }
        let reading = reading.elapsed();
        let transactions = match transactions {
            Some((transactions, quiet)) => {
                transactions.check(&self.books, &seen, verdicts);
                say(self.begin, "asking for hanging transactions");
                let found = hanging::find(self.cluster, quiet, verdicts)?;
                Some(OfTransactions {
                    transactions,
                    found,
                })
            }
            None => None,
        };
        let report = Report {
            seed: self.seed,
            took: hurt.took,
            books: &self.books,
            transactions,
            timing: hurt.timing,
            doubts: &self.doubts,
            tally: &self.tally,
            recoveries: &hurt.recoveries,
            deaths: self.proxies.deaths(),
            memory: &self.memory,
            read,
            unknown_there,
            reading,
            verdicts: &hurt.verdicts,
        };
        println!("\n{report}");
        hurt.ran?;
        Ok(hurt.verdicts.hold())
    }
}

/// Returns a flag that the first Ctrl-C sets, to end the faults early. The second one ends the
/// process.
fn on_interrupt() -> std::io::Result<Arc<AtomicBool>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let set = Arc::clone(&interrupted);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            if tokio::signal::ctrl_c().await.is_ok() {
                set.store(true, Relaxed);
            }
            if tokio::signal::ctrl_c().await.is_ok() {
                std::process::exit(130);
            }
        });
    });
    Ok(interrupted)
}
