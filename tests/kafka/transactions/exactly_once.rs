//! From a topic to a topic, by a process that is killed again and again.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use forebay_kafka_cluster::{self as kafka, Isolation, Load};

use crate::produce::configured;

#[path = "../../../examples/exactly_once/worker.rs"]
#[expect(dead_code, reason = "this one is killed, and never closed")]
mod worker;

use worker::{Job, Worker};

const PARTITIONS: i32 = 3;
const RECORDS: u64 = 6_000;
const FROM: &str = "exactly-once-from";
const TO: &str = "exactly-once-to";
/// Has this binary run as the worker, with what to call itself.
const WORKER: &str = "FOREBAY_TEST_WORKER";
const SERVERS: &str = "FOREBAY_TEST_SERVERS";

/// Not a test by itself: what `what_is_killed_anywhere_writes_each_record_once` kills.
#[tokio::test(flavor = "multi_thread")]
async fn the_working_process() {
    let (Ok(id), Ok(servers)) = (std::env::var(WORKER), std::env::var(SERVERS)) else {
        return;
    };
    let job = Job {
        servers,
        from: FROM.into(),
        to: TO.into(),
        group: "exactly-once".into(),
        transactional_id: id,
    };
    let worker = Worker::start(job).await.expect("it starts");
    loop {
        worker.step().await.expect("it works");
    }
}

struct Process(Child);

impl Process {
    fn start(id: &str, servers: &str) -> Self {
        let worker = Command::new(std::env::current_exe().expect("this binary"))
            .args(["--exact", "transactions::exactly_once::the_working_process"])
            .env(WORKER, id)
            .env(SERVERS, servers)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(worker.expect("a process"))
    }
}

impl Drop for Process {
    /// Without a word, as a power cut.
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn what_is_killed_anywhere_writes_each_record_once() {
    if !kafka::require_or_skip("what_is_killed_anywhere_writes_each_record_once") {
        return;
    }
    let cluster = &*kafka::shared();
    for topic in [FROM, TO] {
        cluster.create_topic(topic, PARTITIONS, 3, &[]).unwrap();
    }
    let sent = Load::new(FROM, RECORDS).run(configured(cluster, &[]));
    sent.all_acked_in(&cluster.seen(FROM));
    let servers = cluster.bootstrap();
    let began = Instant::now();
    let mut kills = 0;
    let copied = loop {
        let process = Process::start("exactly-once", &servers);
        // Anywhere: while it joins its group, between its reads, in the middle of a commit.
        std::thread::sleep(Duration::from_millis(1_200 + 377 * (kills % 8)));
        if kills >= 12 {
            // It is left alone to come to the end.
            std::thread::sleep(Duration::from_secs(20));
        }
        drop(process);
        kills += 1;
        let copied = cluster.read_counters(TO, Isolation::ReadCommitted).unwrap();
        if copied.records() as u64 >= RECORDS || began.elapsed() > Duration::from_secs(300) {
            break copied;
        }
    };
    println!("{kills} kills, {:.0?}", began.elapsed());
    assert!(kills > 2, "it was hardly killed");
    let mut times = BTreeMap::<i64, usize>::new();
    for log in copied.partitions.values() {
        for (_, counter) in log {
            *times.entry(*counter).or_default() += 1;
        }
    }
    let twice: Vec<_> = times.iter().filter(|(_, count)| **count > 1).collect();
    assert_eq!(twice, [], "written twice");
    assert_eq!(times.len() as u64, RECORDS, "written at all");
    assert_eq!(copied.reordered(|_| 0i64).len(), 0, "order by partition");
}
