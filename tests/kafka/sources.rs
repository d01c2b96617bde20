//! Sources: whoever is killed goes on where it was accepted, and each position is in the log once.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use forebay::{Record, Source};
use forebay_kafka_cluster as kafka;

use crate::doubt::runtime;
use crate::spooling::{assert_numbers, directory, producer};

const PARTITIONS: i32 = 3;
const DIR: &str = "FOREBAY_TEST_SOURCE";
const SERVERS: &str = "FOREBAY_TEST_SOURCE_SERVERS";
const TOPIC: &str = "FOREBAY_TEST_SOURCE_TOPIC";
const MACHINE: &str = "FOREBAY_TEST_SOURCE_MACHINE";

/// What is set for the spool.
fn settings(machine: bool) -> &'static str {
    match machine {
        true => "forebay.spool.durability=machine",
        false => "forebay.spool.durability=process",
    }
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
        let producer = producer(&PathBuf::from(dir), &servers, settings(machine));
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
            let producer = producer(&dir, &servers, settings(machine));
            let mut source = producer.source("numbers").await.expect("nobody has it");
            println!("{topic}: 8 kills, accepted {:?}", source.accepted_up_to());
            go_on(&mut source, topic, 300).await;
            let flushed = tokio::time::timeout(Duration::from_secs(120), producer.flush()).await;
            flushed.expect("it is delivered in time").unwrap();
            producer.close(Duration::from_secs(30)).await.unwrap();
            source.accepted_up_to().map_or(0, |last| last + 1)
        });
        assert!(count > 1_000, "only {count}");
        assert_numbers(cluster, topic, PARTITIONS, count);
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
    assert_numbers(cluster, topic, 1, lines);
    fs::remove_dir_all(&dir).unwrap();
}
