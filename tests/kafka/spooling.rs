//! The spool: what was accepted is delivered once and in order, whenever the process is killed.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use forebay::{Config, Producer, Record};
use forebay_kafka_cluster::{self as kafka, Cluster, ClusterOptions, Isolation};

use crate::doubt::runtime;
use crate::millis;

const PARTITIONS: i32 = 3;
const DIR: &str = "FOREBAY_TEST_SPOOL";
const SERVERS: &str = "FOREBAY_TEST_SPOOL_SERVERS";
const TOPIC: &str = "FOREBAY_TEST_SPOOL_TOPIC";
const FROM: &str = "FOREBAY_TEST_SPOOL_FROM";
const AGE: &str = "FOREBAY_TEST_SPOOL_AGE";
const MORE: &str = "FOREBAY_TEST_SPOOL_MORE";

pub fn producer(dir: &Path, servers: &str, more: &str) -> Producer {
    // `FOREBAY_LOG=forebay=debug` shows what it was doing.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_env("FOREBAY_LOG"))
        .with_writer(std::io::stderr)
        .try_init();
    let mut config = Config::builder()
        .bootstrap_servers(servers)
        .set("forebay.spool.dir", dir.join("spool").to_string_lossy())
        .set("forebay.spool.segment.bytes", 4 << 20)
        .set("max.request.size", 100_000);
    for setting in more.split_whitespace() {
        let (key, value) = setting.split_once('=').expect("a setting");
        config = config.set(key, value);
    }
    Producer::start(config.build().unwrap()).unwrap()
}

/// Not a test by itself: what the tests below kill. It notes each number before it sends it, and after it was
/// accepted.
#[test]
fn the_process_with_a_spool() {
    let var = |name| std::env::var(name).ok();
    let (Some(dir), Some(servers), Some(topic)) = (var(DIR), var(SERVERS), var(TOPIC)) else {
        return;
    };
    let mut number: u64 = var(FROM).expect("a number").parse().expect("a number");
    let dir = PathBuf::from(dir);
    let open = |name: &str| {
        let mut options = OpenOptions::new();
        options
            .create(true)
            .append(true)
            .open(dir.join(name))
            .expect("a file")
    };
    let (mut tried, mut accepted) = (open("tried"), open("accepted"));
    runtime().block_on(async {
        let producer = producer(&dir, &servers, &var(MORE).expect("settings"));
        let age: i64 = var(AGE).expect("an age").parse().expect("a number");
        loop {
            tried.write_all(&number.to_le_bytes()).expect("noted");
            let record = Record::to(topic.clone())
                .partition((number % PARTITIONS as u64) as i32)
                .timestamp(millis() - age)
                .value(format!("{number:09}"));
            drop(producer.send(record).await.expect("accepted"));
            accepted.write_all(&number.to_le_bytes()).expect("noted");
            number += 1;
            if number.is_multiple_of(64) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    });
}

struct Process(Child);

impl Process {
    fn start(dir: &Path, servers: &str, topic: &str, (from, age, more): (u64, i64, &str)) -> Self {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(dir.join("log"))
            .unwrap();
        let child = Command::new(std::env::current_exe().expect("this binary"))
            .args([
                "--exact",
                "spooling::the_process_with_a_spool",
                "--nocapture",
            ])
            .env(DIR, dir)
            .env(SERVERS, servers)
            .env(TOPIC, topic)
            .env(FROM, from.to_string())
            .env(AGE, age.to_string())
            .env(MORE, more)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        Self(child.expect("a process"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn noted(dir: &Path, name: &str) -> Vec<u64> {
    let bytes = fs::read(dir.join(name)).unwrap_or_default();
    let numbers = bytes.chunks_exact(8);
    numbers
        .map(|number| u64::from_le_bytes(number.try_into().unwrap()))
        .collect()
}

/// Delivers what is left.
fn drain(dir: &Path, servers: &str, more: &str) {
    runtime().block_on(async {
        let producer = producer(dir, servers, more);
        let flushed = tokio::time::timeout(Duration::from_secs(120), producer.flush()).await;
        let outcomes = flushed.expect("it is delivered in time").unwrap();
        println!("drained: {outcomes}");
        producer.close(Duration::from_secs(30)).await.unwrap();
    });
}

/// Each number that was accepted is there once, and in the order of its partition.
fn assert_once(cluster: &Cluster, topic: &str, dir: &Path) {
    let mut times: BTreeMap<u64, u32> = BTreeMap::new();
    let mut last: BTreeMap<i32, u64> = BTreeMap::new();
    let mut disorder = Vec::new();
    let take = |partition, _, value: &[u8]| {
        let number: u64 = String::from_utf8_lossy(value).parse().unwrap();
        *times.entry(number).or_default() += 1;
        if let Some(before) = last.insert(partition, number)
            && before >= number
        {
            disorder.push((before, number));
        }
    };
    cluster
        .read_values(topic, Isolation::default(), take)
        .unwrap();
    let accepted = noted(dir, "accepted");
    let lost: Vec<_> = accepted
        .iter()
        .filter(|it| !times.contains_key(it))
        .collect();
    let doubled: Vec<_> = times.iter().filter(|(_, times)| **times > 1).collect();
    println!("{} accepted, {} in the log", accepted.len(), times.len());
    assert!(accepted.len() > 100, "{}", accepted.len());
    assert_eq!(
        (lost.len(), doubled.len(), disorder.len()),
        (0, 0, 0),
        "{lost:?} {doubled:?} {disorder:?}"
    );
}

/// Each number below `total` is there once: in the partition that it is dealt to, in order.
pub fn assert_numbers(cluster: &Cluster, topic: &str, partitions: i32, total: u64) {
    let mut next = BTreeMap::new();
    let mut seen = 0;
    let take = |partition, _, value: &[u8]| {
        let number: u64 = String::from_utf8_lossy(value).parse().unwrap();
        let expected = next.entry(partition).or_insert(partition as u64);
        assert_eq!(number, *expected, "partition {partition}");
        assert!(number < total, "partition {partition}");
        *expected += partitions as u64;
        seen += 1;
    };
    cluster
        .read_values(topic, Isolation::default(), take)
        .unwrap();
    assert_eq!(seen, total);
}

/// A directory of a test's own.
pub fn directory(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("forebay-spool-{name}-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    dir
}

/// Kills the process again and again, and a broker in between.
fn killed_again_and_again(topic: &str, age: i64, more: &str) {
    let _turn = kafka::one_at_a_time();
    let cluster = &Cluster::start(ClusterOptions::default()).unwrap();
    cluster.create_topic(topic, PARTITIONS, 3, &[]).unwrap();
    let dir = directory(topic);
    let servers = cluster.bootstrap();
    // `FOREBAY_KILLS=300` takes it further.
    let kills = std::env::var("FOREBAY_KILLS").map_or(12, |kills| kills.parse().unwrap());
    for round in 0..kills {
        let from = noted(&dir, "tried").last().map_or(0, |last| last + 1);
        let process = Process::start(&dir, &servers, topic, (from, age, more));
        std::thread::sleep(Duration::from_millis(1500 + 317 * (round % 5)));
        if round % 6 == 3 {
            let broker = &cluster.brokers()[(round / 6) as usize % 3];
            broker.kill().unwrap();
            std::thread::sleep(Duration::from_millis(700));
            drop(process);
            broker.restart().unwrap();
        }
    }
    cluster.wait_ready().unwrap();
    drain(&dir, &servers, more);
    assert_once(cluster, topic, &dir);
    fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn what_was_accepted_is_delivered_once_though_the_process_is_killed() {
    if !kafka::require_or_skip("what_was_accepted_is_delivered_once_though_the_process_is_killed") {
        return;
    }
    killed_again_and_again("spooled", 0, "");
}

/// Brokers forget a producer by such records, and would append a retry again.
#[test]
fn old_records_are_delivered_once_though_the_process_is_killed() {
    if !kafka::require_or_skip("old_records_are_delivered_once_though_the_process_is_killed") {
        return;
    }
    let year = 365 * 24 * 60 * 60 * 1_000;
    killed_again_and_again("spooled-old", year, "forebay.spool.durability=machine");
}

#[test]
fn an_outage_is_waited_out_on_the_disk() {
    if !kafka::require_or_skip("an_outage_is_waited_out_on_the_disk") {
        return;
    }
    let _turn = kafka::one_at_a_time();
    let cluster = &Cluster::start(ClusterOptions::default().brokers(1)).unwrap();
    let topic = "outage";
    cluster.create_topic(topic, PARTITIONS, 1, &[]).unwrap();
    let dir = directory(topic);
    let servers = cluster.bootstrap();
    let more = "buffer.memory=1048576 max.block.ms=20000";
    let total = 200_000;
    let send = async |producer: &Producer, numbers: std::ops::Range<u64>| {
        for number in numbers {
            let record = Record::to(topic)
                .partition((number % PARTITIONS as u64) as i32)
                .value(format!("{number:0100}"));
            drop(producer.send(record).await.expect("accepted"));
        }
    };
    runtime().block_on(async {
        let producer = producer(&dir, &servers, more);
        send(&producer, 0..1000).await;
        producer.flush().await.unwrap();
        cluster.brokers()[0].kill().unwrap();
        send(&producer, 1000..total / 2).await;
        let closed = producer.close(Duration::ZERO).await;
        println!("closed: {closed:?}");
    });
    runtime().block_on(async {
        // It starts without a broker.
        let producer = producer(&dir, &servers, more);
        send(&producer, total / 2..total).await;
        cluster.brokers()[0].restart().unwrap();
        let flushed = tokio::time::timeout(Duration::from_secs(120), producer.flush()).await;
        println!("{}", flushed.expect("in time").unwrap());
        producer.close(Duration::from_secs(30)).await.unwrap();
    });
    assert_numbers(cluster, topic, PARTITIONS, total);
    fs::remove_dir_all(&dir).unwrap();
}
