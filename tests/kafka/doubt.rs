//! Batches that are appended while their answer is lost, and brokers that forget the producer.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use forebay::config::ConfigBuilder;
use forebay::{Config, Outcome, Producer, Reason, Receipt, Record, Unconfirmed};
use forebay_kafka_cluster::{
    self as kafka, Broker, Cluster, ClusterOptions, Isolation, Listener, Proxies, Rules,
};

use crate::millis;

pub const PROXIED: &str = "PROXIED";

pub const LOST_ANSWERS: Rules = Rules {
    refuse: false,
    hold_requests: false,
    hold_answers: true,
    bytes_per_second: None,
    lie: None,
};

/// `producer.id.expiration.ms` of the broker.
pub const EXPIRATION: i64 = 60_000;

pub fn one_broker() -> ClusterOptions {
    let listener = Listener {
        name: PROXIED.into(),
        proxied: true,
        security_protocol: "PLAINTEXT".into(),
        properties: Vec::new(),
    };
    ClusterOptions::default().brokers(1).listener(listener)
}

/// It forgets a producer soon, by the timestamps of its records.
pub fn forgetful_broker() -> ClusterOptions {
    one_broker()
        .property("producer.id.expiration.ms", EXPIRATION.to_string())
        .property("producer.id.expiration.check.interval.ms", "1000")
}

pub fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap()
}

/// One record, and then a batch of three at these times, which is held up on its way there or back. The
/// connection is cut when the broker has had time to forget the producer.
pub async fn outcomes(
    cluster: &Cluster,
    topic: &str,
    set: impl FnOnce(ConfigBuilder) -> ConfigBuilder,
    times: [i64; 3],
    held: Rules,
) -> Vec<Outcome> {
    cluster.create_topic(topic, 1, 1, &[]).unwrap();
    let proxies = Proxies::start(cluster, PROXIED).unwrap();
    let config = Config::builder()
        .bootstrap_servers(cluster.bootstrap_through(PROXIED))
        .set("linger.ms", 50);
    let producer = Producer::start(set(config).build().unwrap()).unwrap();
    let first = Record::to(topic).value("first").timestamp(times[0]);
    producer.send(first).await.unwrap().await.unwrap();
    let [proxy] = proxies.all() else {
        panic!("one broker");
    };
    proxy.set(held);
    let mut receipts = Vec::new();
    for time in times {
        let record = Record::to(topic).value("x").timestamp(time);
        receipts.push(producer.send(record).await.unwrap());
    }
    tokio::time::sleep(Duration::from_secs(4)).await;
    proxy.cut();
    // What is held back goes on as soon as the rules allow it, so the cut has to be over by then.
    tokio::time::sleep(Duration::from_secs(1)).await;
    proxy.set(Rules::default());
    let mut outcomes = Vec::new();
    for receipt in receipts {
        outcomes.push(receipt.await);
    }
    producer.close(Duration::from_secs(30)).await.unwrap();
    outcomes
}

pub fn written(cluster: &Cluster, topic: &str) -> usize {
    let mut count = 0;
    cluster
        .read_values(topic, Isolation::default(), |_, _, _| count += 1)
        .unwrap();
    count
}

#[test]
fn a_lost_answer_makes_neither_a_wrong_time_nor_a_duplicate() {
    if !kafka::require_or_skip("a_lost_answer_makes_neither_a_wrong_time_nor_a_duplicate") {
        return;
    }
    let _turn = kafka::one_at_a_time();
    let cluster = &Cluster::start(forgetful_broker()).unwrap();
    let runtime = runtime();
    let expires = |after: i64| {
        move |config: ConfigBuilder| config.set("forebay.producer.id.expiration.ms", after)
    };
    let outcomes = |topic: &'static str, expiration, times| {
        outcomes(cluster, topic, expires(expiration), times, LOST_ANSWERS)
    };

    // The broker takes the retry for a duplicate, and gives it the batch's largest time.
    let now = millis();
    let times = [now - 2_000, now, now - 1_000];
    let told = runtime.block_on(outcomes("new", EXPIRATION, times));
    let told: Vec<_> = told.into_iter().map(Result::unwrap).collect();
    let offsets: Vec<_> = told.iter().map(|acked| acked.offset).collect();
    assert_eq!(offsets, [Some(1), Some(2), Some(3)]);
    let told: Vec<_> = told.iter().map(|acked| acked.timestamp).collect();
    assert_eq!(told, times);
    assert_eq!(written(cluster, "new"), 4);

    // It has forgotten a producer of old records, and takes the retry for something new.
    let times = [now - 2 * EXPIRATION; 3];
    let told = runtime.block_on(outcomes("doubled", 24 * 60 * EXPIRATION, times));
    assert!(told.iter().all(Result::is_ok), "{told:?}");
    assert_eq!(written(cluster, "doubled"), 7, "the broker does so");

    let told = runtime.block_on(outcomes("once", EXPIRATION, times));
    for told in told {
        let reason = matches!(told, Err(Unconfirmed::Unknown(Reason::Forgotten { .. })));
        assert!(reason, "{told:?}");
    }
    assert_eq!(written(cluster, "once"), 4);
}

/// As many batches as are in flight at most.
const MOST: i32 = 5;

/// Each larger than `batch.size`, so that it is a batch.
fn large(topic: &str, partition: i32, number: i32) -> Record {
    let value = format!("{number} {}", "x".repeat(2_000));
    Record::to(topic).partition(partition).value(value)
}

/// The numbers in each partition's log, in their order, from offset 0 on.
fn logs(cluster: &Cluster, topic: &str) -> BTreeMap<i32, Vec<i32>> {
    let mut logs = BTreeMap::<i32, Vec<i32>>::new();
    let take = |partition, offset, value: &[u8]| {
        let log = logs.entry(partition).or_default();
        assert_eq!(offset, log.len() as i64, "partition {partition}");
        let text = String::from_utf8_lossy(value);
        let number = text.split(' ').next().unwrap_or_default();
        log.push(number.parse().unwrap());
    };
    cluster
        .read_values(topic, Isolation::default(), take)
        .unwrap();
    logs
}

fn send(producer: &Producer, topic: &str, partition: i32, number: i32) -> Receipt {
    let runtime = runtime();
    let sent = runtime.block_on(producer.send(large(topic, partition, number)));
    sent.unwrap()
}

/// The broker appends one batch to partition 0, two to partition 1 and so on, its answers are lost, and
/// it starts again. Returns what became of the batches of each partition.
fn restarted(
    cluster: &Cluster,
    topic: &str,
    stop: impl Fn(&Broker) -> kafka::Result<()>,
) -> Vec<Vec<Outcome>> {
    cluster.create_topic(topic, MOST, 1, &[]).unwrap();
    let proxies = Proxies::start(cluster, PROXIED).unwrap();
    let [proxy] = proxies.all() else {
        panic!("one broker");
    };
    let start = || {
        let config = Config::builder()
            .bootstrap_servers(cluster.bootstrap_through(PROXIED))
            .set("linger.ms", 0)
            .set("batch.size", 1_000);
        Producer::start(config.build().unwrap()).unwrap()
    };
    let runtime = runtime();
    // Only behind a success is more than one batch in flight.
    let producers: Vec<_> = (0..MOST).map(|_| start()).collect();
    for (partition, producer) in (0..).zip(&producers) {
        let first = send(producer, topic, partition, 0);
        runtime.block_on(first).unwrap();
    }
    proxy.set(Rules {
        hold_answers: true,
        ..Rules::default()
    });
    let doubtful: Vec<Vec<_>> = (0..)
        .zip(&producers)
        .map(|(partition, producer)| {
            let numbers = 1..=partition + 1;
            let sent = numbers.map(|number| send(producer, topic, partition, number));
            sent.collect()
        })
        .collect();
    let whole = |(partition, log): (&i32, &Vec<i32>)| log.len() as i32 == partition + 2;
    let sent = Instant::now();
    while !logs(cluster, topic).iter().all(whole) {
        let waited = sent.elapsed();
        assert!(waited < Duration::from_secs(20), "they are not in flight");
    }
    let broker = &cluster.brokers()[0];
    stop(broker).unwrap();
    proxy.cut();
    std::thread::sleep(Duration::from_secs(1));
    proxy.set(Rules::default());
    broker.restart().unwrap();
    cluster.wait_ready().unwrap();

    let told = doubtful.into_iter().map(|receipts| {
        let told = receipts
            .into_iter()
            .map(|receipt| runtime.block_on(receipt));
        told.collect()
    });
    let told: Vec<Vec<_>> = told.collect();
    for (partition, producer) in (0..).zip(producers) {
        let last = send(&producer, topic, partition, partition + 2);
        let last = runtime.block_on(last).unwrap();
        assert_eq!(last.offset, Some(i64::from(partition + 2)));
        let closed = producer.close(Duration::from_secs(30));
        runtime.block_on(closed).unwrap();
    }
    // Everything is there once and at its place, whatever was told of it.
    let logs = logs(cluster, topic);
    for (partition, log) in logs {
        assert!(log.iter().copied().eq(0..=partition + 2), "{log:?}");
    }
    for told in &told {
        for (at, told) in (1..).zip(told) {
            match told {
                Ok(acked) => assert_eq!(acked.offset, Some(at)),
                Err(Unconfirmed::Unknown(_)) => {}
                other => panic!("it is in the log: {other:?}"),
            }
        }
    }
    told
}

/// A broker that starts, from a clean end or not, remembers the last batch of each producer, not five.
/// So of several doubtful batches it knows the first no more.
#[test]
fn what_is_told_of_doubtful_batches_is_true_after_a_restart() {
    if !kafka::require_or_skip("what_is_told_of_doubtful_batches_is_true_after_a_restart") {
        return;
    }
    let _turn = kafka::one_at_a_time();
    let cluster = &Cluster::start(one_broker()).unwrap();
    let acked = |told: &Vec<Outcome>| told.iter().filter(|it| it.is_ok()).count();
    for told in [
        restarted(cluster, "killed", Broker::kill),
        restarted(cluster, "shut-down", Broker::terminate),
    ] {
        assert!(told.iter().map(acked).eq([1, 0, 0, 0, 0]), "{told:?}");
    }
}
