//! `forebay perf` in transactions.

use std::process::Command;

use forebay_kafka_cluster::{self as kafka, Isolation};

const RECORDS: usize = 3_000;

/// The number before `word`.
fn number(line: &str, word: &str) -> usize {
    let (before, _) = line.split_once(word).expect(line);
    let number = before.rsplit([' ', '(']).next();
    number.and_then(|it| it.parse().ok()).expect(line)
}

#[test]
fn perf_commits_what_it_says() {
    if !kafka::require_or_skip("perf_commits_what_it_says") {
        return;
    }
    let cluster = &*kafka::shared();
    let topic = "perf-in-transactions";
    cluster.create_topic(topic, 1, 3, &[]).unwrap();
    let records = RECORDS.to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_forebay"))
        .args(["perf", "--topic", topic, "--num-records", &records])
        .args(["--record-size", "100", "--throughput", "2000"])
        .args(["--transaction-duration-ms", "200"])
        .args(["--bootstrap-server", &cluster.bootstrap()])
        .output()
        .expect("it runs");
    let stdout = String::from_utf8_lossy(&output.stdout);
    println!("{stdout}");
    assert!(output.status.success(), "{output:?}");
    let last = stdout.lines().last().expect("a line");
    let committed = number(last, " transactions committed (");
    assert!((2..=8).contains(&committed), "{last}");
    assert_eq!(number(last, " records, "), RECORDS);
    assert_eq!(number(last, " aborted ("), 0);

    let read = cluster.dump(topic, Isolation::ReadCommitted).unwrap();
    assert_eq!(read.len(), RECORDS);
    let of_size = |it: &kafka::Consumed| it.value.as_ref().map(Vec::len) == Some(100);
    assert!(read.iter().all(of_size));
    // Each transaction but the last one has left its marker between the records.
    let last = read.iter().map(|it| it.offset).max().expect("records");
    assert_eq!(last as usize + 1 - RECORDS, committed - 1);
}
