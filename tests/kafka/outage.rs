//! A broker is away for long while records come at a rate: they wait on the disk, memory stays as it was, and
//! afterwards they go out beside what still comes.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use actix::prelude::*;
use forebay::{BatchOutcome, Config, Producer, Record};
use forebay_kafka_cluster::{self as kafka, Cluster, ClusterOptions};

use crate::memory::memory;
use crate::spooling::assert_numbers;

const TOPIC: &str = "away";
const PARTITIONS: u64 = 12;
const RATE: u64 = 50_000;
/// Records that are sent at once.
const BURST: u64 = 250;
/// What may be allocated beside `buffer.memory`, in KiB.
const ALLOWANCE: u64 = 64 << 10;
const BUFFER_MEMORY: u64 = 32 << 20;

/// Counts records by their outcome.
struct Counts {
    acked: Arc<AtomicU64>,
    others: Arc<AtomicU64>,
}

impl Actor for Counts {
    type Context = Context<Self>;
}

impl Handler<BatchOutcome> for Counts {
    type Result = ();

    fn handle(&mut self, batch: BatchOutcome, _: &mut Context<Self>) {
        let counter = if batch.result.is_ok() {
            &self.acked
        } else {
            &self.others
        };
        counter.fetch_add(batch.count.into(), Ordering::Relaxed);
    }
}

/// Samples what is allocated, until it is told to end.
struct Most {
    ends: Arc<AtomicBool>,
    thread: thread::JoinHandle<u64>,
}

impl Most {
    fn start() -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&ends);
        let thread = thread::spawn(move || {
            let mut most = 0;
            while !is_over.load(Ordering::Relaxed) {
                most = memory().max(most);
                thread::sleep(Duration::from_millis(20));
            }
            most
        });
        Self { ends, thread }
    }

    fn end(self) -> u64 {
        self.ends.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

fn start(dir: &Path, servers: &str, durability: &str) -> Producer {
    let config = Config::builder()
        .bootstrap_servers(servers)
        .set("buffer.memory", BUFFER_MEMORY)
        .set("forebay.spool.dir", dir.to_string_lossy())
        .set("forebay.spool.durability", durability)
        .set("forebay.spool.max.bytes", 30_u64 << 30);
    Producer::start(config.build().unwrap()).unwrap()
}

/// Sends at the rate while `goes_on`. Returns how long some of the records waited for their outcome.
async fn send(
    producer: &Producer,
    next: &mut u64,
    mut goes_on: impl FnMut(u64) -> bool,
) -> Latencies {
    let latencies = Latencies::default();
    let (began, first) = (Instant::now(), *next);
    while goes_on(*next) {
        for at in 0..BURST {
            let record = Record::to_static(TOPIC)
                .partition((*next % PARTITIONS) as i32)
                .value(format!("{next:0100}"));
            let sent = Instant::now();
            let receipt = producer.send(record).await.expect("nothing is refused");
            *next += 1;
            if at == 0 && *next % (RATE / 10) == 1 {
                let latencies = Rc::clone(&latencies);
                actix::spawn(async move {
                    receipt.await.expect("acked");
                    latencies.borrow_mut().push(sent.elapsed());
                });
            }
        }
        let due = began + Duration::from_secs(1) * (*next - first) as u32 / RATE as u32;
        actix::clock::sleep_until(due.into()).await;
    }
    latencies
}

type Latencies = Rc<RefCell<Vec<Duration>>>;

#[test]
fn an_outage_leaves_memory_flat_and_is_drained_beside_what_comes() {
    if kafka::require_or_skip("an_outage_leaves_memory_flat_and_is_drained_beside_what_comes") {
        an_outage("process");
    }
}

#[test]
fn an_outage_is_waited_out_by_what_memory_has_no_room_for() {
    if kafka::require_or_skip("an_outage_is_waited_out_by_what_memory_has_no_room_for") {
        an_outage("spill");
    }
}

/// `FOREBAY_OUTAGE=600` has it last ten minutes.
fn an_outage(durability: &str) {
    let _turn = kafka::one_at_a_time();
    let outage = std::env::var("FOREBAY_OUTAGE").map_or(8, |it| it.parse().expect("seconds"));
    let outage = Duration::from_secs(outage);
    let cluster = &Cluster::start(ClusterOptions::default().brokers(1)).unwrap();
    cluster
        .create_topic(TOPIC, PARTITIONS as i32, 1, &[])
        .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (acked, others) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut next = 0;
    let counts = Counts {
        acked: Arc::clone(&acked),
        others: Arc::clone(&others),
    };
    System::new().block_on(async {
        let producer = start(&dir.path().join("spool"), &cluster.bootstrap(), durability);
        let producer = producer.outcomes_to(counts.start().recipient());
        let until = Instant::now() + Duration::from_secs(3);
        send(&producer, &mut next, |_| Instant::now() < until).await;
        producer.flush().await.unwrap();
        let warm = memory();

        cluster.brokers()[0].kill().unwrap();
        let (most, until) = (Most::start(), Instant::now() + outage);
        send(&producer, &mut next, |_| Instant::now() < until).await;
        let most_away = most.end();
        let left = next - acked.load(Ordering::Relaxed);

        cluster.brokers()[0].restart().unwrap();
        let most = Most::start();
        // It takes a moment until there is a leader.
        let before = acked.load(Ordering::Relaxed);
        send(&producer, &mut next, |_| acked.load(Ordering::Relaxed) == before).await;
        let (began, first, before) = (Instant::now(), next, acked.load(Ordering::Relaxed));
        let during = send(&producer, &mut next, |next| {
            assert!(
                began.elapsed() < 4 * outage + Duration::from_secs(60),
                "it goes out more slowly than it comes"
            );
            acked.load(Ordering::Relaxed) + RATE / 10 < next
        })
        .await;
        let (took, came) = (began.elapsed().as_secs_f64(), next - first);
        let drained = (acked.load(Ordering::Relaxed) - before) as f64 / took;
        let most_draining = most.end();

        producer.flush().await.unwrap();
        let (mut during, after) = (during.take(), {
            let until = Instant::now() + Duration::from_secs(2);
            send(&producer, &mut next, |_| Instant::now() < until).await
        });
        producer.flush().await.unwrap();
        actix::clock::sleep(Duration::from_millis(100)).await;
        let mut after = after.take();
        during.sort_unstable();
        after.sort_unstable();
        println!(
            "{durability}, away for {outage:?}: {left} records waited; then {drained:.0} a second were acked for \
             {took:.1} s while {came} came, which waited {:?} (p50), {:?} (most); afterwards {:?} (p50), \
             {:?} (most); KiB: warm {warm}, most while away {most_away}, while draining {most_draining}",
            during.get(during.len() / 2),
            during.last(),
            after.get(after.len() / 2),
            after.last(),
        );
        producer.close(Duration::from_secs(60)).await.unwrap();
        let bound = warm + BUFFER_MEMORY / 1024 + ALLOWANCE;
        assert!(most_away <= bound, "{most_away} KiB, more than {bound}");
        assert!(most_draining <= bound, "{most_draining} KiB, more than {bound}");
    });
    assert_eq!(others.load(Ordering::Relaxed), 0);
    assert_numbers(cluster, TOPIC, PARTITIONS as i32, next);
}
