//! When no broker takes anything, memory stays within its bound, and senders are told in time.
//!
//! The producer runs in a process of its own, this test binary once more, so that nothing but the
//! producer is measured. The two talk in lines.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use forebay::{Config, Producer, Record, SendError};
use forebay_kafka_cluster::{self as kafka, Cluster, ClusterOptions};

const PRODUCER: &str = "FOREBAY_TEST_PRODUCER";
const TOPIC: &str = "stream";
const PARTITIONS: i32 = 100;
const SENDERS: u64 = 8;
const BUFFER_MEMORY: u64 = 1 << 20;
const MAX_BLOCK: Duration = Duration::from_secs(3);
/// What the process may take beside `buffer.memory`, in KiB.
const ALLOWANCE: u64 = 16 << 10;

#[test]
fn memory_is_bounded_while_all_brokers_hang() {
    if !kafka::require_or_skip("memory_is_bounded_while_all_brokers_hang") {
        return;
    }
    let _turn = kafka::one_at_a_time();
    let cluster = Cluster::start(ClusterOptions::default()).unwrap();
    cluster.create_topic(TOPIC, PARTITIONS, 3, &[]).unwrap();
    let mut producer = Other::start(&cluster.bootstrap());
    let idle: u64 = producer.hear("idle");
    let warm: u64 = producer.hear("warm");

    for broker in cluster.brokers() {
        broker.freeze().unwrap();
    }
    producer.say("go");
    let blocked: u64 = producer.hear("blocked");
    let busy: u64 = producer.hear("busy");
    let accepted: usize = producer.hear("accepted");
    for broker in cluster.brokers() {
        broker.thaw().unwrap();
    }
    producer.say("go on");
    let acked: usize = producer.hear("acked");
    let most: u64 = producer.hear("most");
    producer.end();

    println!("{busy} ms of processor time while blocked");
    println!(
        "KiB: idle {idle}, warm {warm}, blocked {blocked}, most {most}; {accepted} records of 100 \
         bytes accepted, {acked} acked"
    );
    assert_eq!(acked, accepted, "everything accepted arrives");
    // 1 MiB in batches of 16 KiB, each with a record or more.
    assert!(accepted > 5_000, "{accepted}");
    let bound = idle + BUFFER_MEMORY / 1024 + ALLOWANCE;
    assert!(most <= bound, "{most} KiB, more than {bound}");
    cluster.wait_in_sync(TOPIC).unwrap();
    let seen = cluster.seen(TOPIC);
    assert_eq!(seen.records(), accepted + PARTITIONS as usize);
    assert_eq!(seen.duplicated(), [0; 0]);
    assert_eq!(seen.reordered(|counter| counter / STREAM), [(0, 0, 0); 0]);
}

/// The other process.
struct Other {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Other {
    fn start(bootstrap: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "memory::the_producing_process", "--nocapture"])
            .env(PRODUCER, bootstrap)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self {
            child,
            stdin,
            stdout,
        }
    }

    fn say(&mut self, line: &str) {
        writeln!(self.stdin, "{line}").unwrap();
    }

    /// The number in the line that begins with `what`; the test harness has lines of its own.
    fn hear<T: std::str::FromStr>(&mut self, what: &str) -> T {
        let mut line = String::new();
        loop {
            line.clear();
            let length = self.stdout.read_line(&mut line).unwrap();
            assert_ne!(length, 0, "the process ended before it told {what:?}");
            if let Some(number) = line.trim().strip_prefix(what)
                && let Ok(number) = number.trim().parse()
            {
                return number;
            }
        }
    }

    fn end(mut self) {
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
    }
}

/// Counters of one sender and partition: the sender's number, the partition's, the place.
const STREAM: i64 = 1_000_000;

fn counter(sender: u64, partition: i32, place: u64) -> String {
    let stream = sender as i64 * 1000 + i64::from(partition) + 1;
    let text = format!("{} ", stream * STREAM + place as i64);
    format!("{text:x<100}")
}

/// What this process has allocated, in KiB: pages of files are left out, which are its own code
/// above all, many in a debug build.
pub fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number.unwrap().parse().unwrap()
}

/// The most of it that is seen from now on: the kernel keeps no such mark.
fn watch_memory() -> Arc<AtomicU64> {
    let most = Arc::new(AtomicU64::new(0));
    let seen = most.clone();
    std::thread::spawn(move || {
        loop {
            seen.fetch_max(memory(), Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(10));
        }
    });
    most
}

/// Processor time of this process so far, in milliseconds.
fn busy() -> u64 {
    const TICK: u64 = 10;
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    // Behind the name in brackets, which may hold spaces: user and system time.
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let times = fields.split(' ').skip(11).take(2);
    times
        .map(|ticks| ticks.parse::<u64>().unwrap() * TICK)
        .sum()
}

fn told(what: &str) {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    assert_eq!(line.trim(), what);
}

/// Not a test by itself: what `memory_is_bounded_while_all_brokers_hang` watches.
#[tokio::test]
async fn the_producing_process() {
    let Ok(bootstrap) = std::env::var(PRODUCER) else {
        return;
    };
    println!("\nidle {}", memory());
    let most = watch_memory();
    let config = Config::builder()
        .bootstrap_servers(bootstrap)
        .set("buffer.memory", BUFFER_MEMORY)
        .set("max.block.ms", MAX_BLOCK.as_millis())
        .build()
        .unwrap();
    let producer = Producer::start(config).unwrap();
    let mut receipts = Vec::new();
    for partition in 0..PARTITIONS {
        let record = Record::to(TOPIC).partition(partition);
        let record = record.value(counter(SENDERS, partition, 0));
        receipts.push(producer.send(record).await.unwrap());
    }
    for receipt in receipts {
        receipt.await.unwrap();
    }
    println!("warm {}", memory());

    told("go");
    let before = busy();
    let senders: Vec<_> = (0..SENDERS)
        .map(|sender| tokio::spawn(send_until_refused(producer.clone(), sender)))
        .collect();
    let mut receipts = Vec::new();
    for sender in senders {
        receipts.extend(sender.await.unwrap());
    }
    println!("blocked {}", memory());
    println!("busy {}", busy() - before);
    println!("accepted {}", receipts.len());
    let ids: HashSet<_> = receipts.iter().map(|receipt| receipt.id()).collect();
    assert_eq!(ids.len(), receipts.len());
    told("go on");
    let mut acked = 0;
    for receipt in receipts {
        receipt.await.unwrap();
        acked += 1;
    }
    println!("acked {acked}");
    println!("most {}", most.load(Ordering::Relaxed));
    producer.close(Duration::from_secs(5)).await.unwrap();
}

async fn send_until_refused(producer: Producer, sender: u64) -> Vec<forebay::Receipt> {
    let mut receipts = Vec::new();
    let mut refused = 0;
    for place in 0.. {
        // About a batch for each partition: a batch holds all its memory, full or not.
        let partition = (place / 140 % PARTITIONS as u64) as i32;
        let record = Record::to(TOPIC).partition(partition);
        let record = record.value(counter(sender, partition, place));
        let begin = Instant::now();
        match producer.send(record).await {
            Ok(receipt) => receipts.push(receipt),
            Err(SendError::NoMemory { waited, total, .. }) => {
                assert_eq!((waited, total as u64), (MAX_BLOCK, BUFFER_MEMORY));
                let took = begin.elapsed();
                let limit = MAX_BLOCK..MAX_BLOCK + Duration::from_secs(1);
                assert!(limit.contains(&took), "{took:?}");
                refused += 1;
            }
            Err(other) => panic!("{other}"),
        }
        // Once more, as others may have filled what this one waited for.
        if refused == 2 {
            break;
        }
    }
    receipts
}
