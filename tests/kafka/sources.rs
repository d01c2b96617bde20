//! Sources: whoever is killed goes on where it was accepted, and each position is in the log once.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use forebay::{Config, Producer, Record, Source};
use forebay_kafka_cluster::{self as kafka, Cluster, Isolation};

use crate::doubt::runtime;

const PARTITIONS: i32 = 3;
const DIR: &str = "FOREBAY_TEST_SOURCE";
const SERVERS: &str = "FOREBAY_TEST_SOURCE_SERVERS";
const TOPIC: &str = "FOREBAY_TEST_SOURCE_TOPIC";
const MACHINE: &str = "FOREBAY_TEST_SOURCE_MACHINE";

fn producer(dir: &Path, servers: &str, machine: bool) -> Producer {
    let config = Config::builder()
        .bootstrap_servers(servers)
        .set("forebay.spool.dir", dir.join("spool").to_string_lossy())
        .set("forebay.spool.segment.bytes", 4 << 20)
        .set("max.request.size", 100_000)
        .set(
            "forebay.spool.durability",
            if machine { "machine" } else { "process" },
        );
    Producer::start(config.build().unwrap()).unwrap()
}

/// Goes on with the source, for so many records.
async fn go_on(source: &mut Source, topic: &str, records: u64) {
    let next = source.accepted_up_to().map_or(0, |last| last + 1);
    for position in next..next.saturating_add(records) {
        let record = Record::to(topic.to_owned())
            .partition((position % PARTITIONS as u64) as i32)
            .value(position.to_string());
        drop(source.send(record, position).await.expect("accepted"));
        if position.is_multiple_of(64) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// Not a test by itself: what the test below kills.
#[test]
fn the_process_with_a_source() {
    let var = |name| std::env::var(name).ok();
    let (Some(dir), Some(servers), Some(topic)) = (var(DIR), var(SERVERS), var(TOPIC)) else {
        return;
    };
    let machine = var(MACHINE).is_some();
    runtime().block_on(async {
        let producer = producer(&PathBuf::from(dir), &servers, machine);
        let mut source = producer.source("numbers").await.expect("nobody has it");
        go_on(&mut source, &topic, u64::MAX).await;
    });
}

/// Starts a command, and kills it after a while.
fn killed(mut command: Command, lives: Duration) {
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut child = child.expect("a process");
    std::thread::sleep(lives);
    let _ = child.kill();
    let _ = child.wait();
}

/// The numbers of each partition, in their order; how many there are of them all.
fn assert_each_once(cluster: &Cluster, topic: &str, count: u64) {
    let mut found: BTreeMap<i32, Vec<u64>> = BTreeMap::new();
    let take = |partition, _, value: &[u8]| {
        let number = String::from_utf8_lossy(value).parse().expect("a number");
        found.entry(partition).or_default().push(number);
    };
    let isolation = Isolation::default();
    cluster.read_values(topic, isolation, take).unwrap();
    let partitions = found.len() as u64;
    for (partition, numbers) in found {
        let expected = (0..count).filter(|it| it % partitions == partition as u64);
        let wrong = numbers
            .iter()
            .zip(expected.clone())
            .find(|(a, b)| **a != *b);
        assert_eq!(
            wrong, None,
            "in partition {partition}, with what should be there"
        );
        assert_eq!(numbers.len(), expected.count(), "in partition {partition}");
    }
}

fn directory(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("forebay-{name}-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    dir
}

#[test]
fn each_position_is_there_once_though_the_process_is_killed() {
    if !kafka::require_or_skip("each_position_is_there_once_though_the_process_is_killed") {
        return;
    }
    let cluster = &*kafka::shared();
    for (topic, machine) in [("source", false), ("source-machine", true)] {
        cluster.create_topic(topic, PARTITIONS, 3, &[]).unwrap();
        let (dir, servers) = (directory(topic), cluster.bootstrap());
        for kill in 0..8 {
            let mut command = Command::new(std::env::current_exe().expect("this binary"));
            command
                .args(["--exact", "sources::the_process_with_a_source"])
                .env(DIR, &dir)
                .env(SERVERS, &servers)
                .env(TOPIC, topic);
            if machine {
                command.env(MACHINE, "");
            }
            killed(command, Duration::from_millis(1200 + 317 * (kill % 4)));
        }
        let count = runtime().block_on(async {
            let producer = producer(&dir, &servers, machine);
            let mut source = producer.source("numbers").await.expect("nobody has it");
            println!("{topic}: 8 kills, accepted {:?}", source.accepted_up_to());
            go_on(&mut source, topic, 300).await;
            let flushed = tokio::time::timeout(Duration::from_secs(120), producer.flush()).await;
            flushed.expect("it is delivered in time").unwrap();
            producer.close(Duration::from_secs(30)).await.unwrap();
            source.accepted_up_to().map_or(0, |last| last + 1)
        });
        assert!(count > 1_000, "only {count}");
        assert_each_once(cluster, topic, count);
        fs::remove_dir_all(&dir).unwrap();
    }
}

#[test]
fn each_line_is_there_once_though_forebay_produce_is_killed() {
    if !kafka::require_or_skip("each_line_is_there_once_though_forebay_produce_is_killed") {
        return;
    }
    let (topic, lines) = ("produced-by-spool", 200_000);
    let cluster = &*kafka::shared();
    cluster.create_topic(topic, 1, 3, &[]).unwrap();
    let dir = directory(topic);
    let file = dir.join("lines");
    let text: String = (0..lines).map(|number| format!("{number}\n")).collect();
    fs::write(&file, text).unwrap();
    let produce = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
        command
            .args(["produce", "--topic", topic, "--json"])
            .args(["--bootstrap-server", &cluster.bootstrap()])
            .arg("--spool")
            .arg(dir.join("spool"))
            .arg("--file")
            .arg(&file);
        command
    };
    for kill in 0..8 {
        killed(produce(), Duration::from_millis(700 + 117 * (kill % 5)));
    }
    let output = produce().output().expect("it runs");
    println!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "{output:?}");
    assert_each_once(cluster, topic, lines);
    fs::remove_dir_all(&dir).unwrap();
}
