//! What is told of memory: gauges, and who is woken when it is used up.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use forebay::Placement;
use forebay::internals::faults;
use futures_util::future::join_all;
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, SharedString, Unit};

use crate::*;

/// The gauges that the producers of this thread have made, by name.
#[derive(Default)]
struct Gauges(Mutex<BTreeMap<String, Arc<AtomicU64>>>);

impl Gauges {
    fn get(&self, name: &str) -> f64 {
        let gauges = self.0.lock().expect("no panic");
        f64::from_bits(gauges[name].load(Ordering::Relaxed))
    }
}

impl metrics::Recorder for Gauges {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::noop()
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        let mut gauges = self.0.lock().expect("no panic");
        Gauge::from_arc(Arc::clone(gauges.entry(key.name().to_owned()).or_default()))
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

const MEMORY: usize = 1 << 20;

#[actix::test]
async fn the_gauges_of_memory_are_true_while_nothing_happens_and_after_the_end() {
    let gauges = Gauges::default();
    let _recorder = metrics::set_default_local_recorder(&gauges);
    let broker = broker().await;
    let memory = MEMORY.to_string();
    let keys = [
        ("linger.ms", "100000"),
        ("delivery.timeout.ms", "200000"),
        ("buffer.memory", &memory),
    ];
    let start = || {
        Producer::builder()
            .placement(Placement::CurrentArbiter)
            .start(config(&broker.bootstrap_servers(), &keys))
            .expect("a producer")
    };
    let gauge = |name| gauges.get(name) as usize;
    // They have one client id, and share the gauges.
    let producers = [start(), start()];
    for producer in &producers {
        // More than the shelf holds, so that not all of it comes back there.
        let held = send_all(producer, (0..60).map(|_| "x".repeat(15_000))).await;
        assert!(gauge("buffer-available-bytes") <= 2 * MEMORY - 15_000);
        producer.flush().await.expect("flushed");
        all_acked(held).await;
        assert_eq!(gauge("buffer-available-bytes"), 2 * MEMORY);
        // One batch that no actor of the pool hears of.
        let held = send(producer, "small").await;
        let available = gauge("buffer-available-bytes");
        assert!(
            (2 * MEMORY - 16_384..2 * MEMORY).contains(&available),
            "{available}"
        );
        producer.flush().await.expect("flushed");
        acked(held).await;
        assert_eq!(gauge("buffer-available-bytes"), 2 * MEMORY);
    }
    assert_eq!(gauge("buffer-total-bytes"), 2 * MEMORY);
    for producer in producers {
        close(producer).await;
    }
    let left = [
        "buffer-total-bytes",
        "buffer-available-bytes",
        "waiting-threads",
    ]
    .map(gauge);
    assert_eq!(left, [0; 3]);
    assert_eq!(gauge("requests-in-flight"), 0);
}

/// Partitions that had a record once.
const IDLE: i32 = 300;

fn at(partition: i32, value: impl ToString) -> Record {
    let record = Record::to("many").partition(partition);
    record.value(value.to_string())
}

#[actix::test]
async fn idle_partitions_are_left_alone_when_memory_is_used_up() {
    let broker = broker().await;
    broker.create_topic("many", IDLE + 1);
    let keys = [("batch.size", "1024"), ("buffer.memory", "16384")];
    let producer = Producer::builder()
        .placement(Placement::CurrentArbiter)
        .start(config(&broker.bootstrap_servers(), &keys))
        .expect("a producer");
    for partition in 0..IDLE {
        acked(
            within(producer.send(at(partition, "once")))
                .await
                .expect("accepted"),
        )
        .await;
    }
    let counts: Rc<RefCell<BTreeMap<String, usize>>> = Rc::default();
    let counting = Rc::clone(&counts);
    faults::at_each(move |actor, message| {
        let name = format!("{actor}:{message}");
        *counting.borrow_mut().entry(name).or_default() += 1;
    });
    let (bursts, each) = (20, 20);
    let large = "x".repeat(900);
    for _ in 0..bursts {
        // Each record takes a batch, and there is memory for sixteen.
        let sends = (0..each).map(|_| producer.send(at(IDLE, &large)));
        let sent = within(join_all(sends)).await;
        all_acked(sent.into_iter().map(|it| it.expect("accepted")).collect()).await;
    }
    let records = bursts * each;
    faults::at_none();
    let counts = counts.take();
    let pressures = counts
        .iter()
        .filter(|(name, _)| name.ends_with(":Pressure"));
    let pressures: usize = pressures.map(|(_, count)| count).sum();
    assert!(pressures > 10, "memory was used up {pressures} times");
    let woken = counts
        .get("PartitionActor:WakePartition")
        .copied()
        .unwrap_or_default();
    assert!(
        woken <= 2 * records,
        "{records} batches and {pressures} times no memory: {counts:?}"
    );
    close(producer).await;
}
