//! The command `forebay`, run as people run it, against somebody else's broker.
#![cfg(feature = "cli")]

use std::net::TcpListener;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use forebay::{Config, Producer, Record};
use krafka::consumer::ConsumerRecord;
use krafka::testing::{ApiKey, Control, FakeBroker};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};

/// Beyond this a command hangs.
const PATIENCE: Duration = Duration::from_secs(120);

fn forebay(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    command.args(args).kill_on_drop(true);
    command.stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("KAFKA_") {
            command.env_remove(name);
        }
    }
    command
}

async fn run(args: &[&str], input: &[u8]) -> Output {
    let mut child = forebay(args).spawn().expect("the command starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    let input = input.to_vec();
    let feed = tokio::spawn(async move {
        // A command that ends early does not read it.
        let _ = stdin.write_all(&input).await;
    });
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output())
        .await
        .expect("the command ends")
        .expect("an output");
    feed.await.expect("fed");
    output
}

async fn start(topic: &str, partitions: i32) -> (FakeBroker, String) {
    let broker = FakeBroker::start_cluster(2).await.expect("brokers");
    broker.create_topic(topic, partitions);
    let servers = broker.bootstrap_servers();
    (broker, servers)
}

fn summary(output: &Output) -> Value {
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert_eq!(stdout.lines().count(), 1, "{output:?}");
    serde_json::from_str(&stdout).expect("JSON")
}

#[track_caller]
fn assert_counts(output: &Output, [read, acked, not_written, unknown]: [u64; 4]) {
    let summary = summary(output);
    let counts = ["read", "acked", "not_written", "unknown"].map(|it| summary[it].as_u64());
    let expected = [read, acked, not_written, unknown].map(Some);
    assert_eq!(counts, expected, "{output:?}");
    assert!(summary["seconds"].is_f64());
    assert_eq!(summary.as_object().map(|it| it.len()), Some(5));
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

type KeyValue<'a> = (Option<&'a [u8]>, Option<&'a [u8]>);

fn keys_and_values(records: &[ConsumerRecord]) -> Vec<KeyValue<'_>> {
    let mut pairs = Vec::new();
    for ConsumerRecord { key, value, .. } in records {
        pairs.push((key.as_deref(), value.as_deref()));
    }
    pairs
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_become_records_byte_for_byte() {
    let (broker, servers) = start("lines", 1).await;
    let args = [
        "produce",
        "--topic",
        "lines",
        "--bootstrap-server",
        &servers,
    ];
    let output = run(&args, b"one\n\n\xff\xfe\r\nlast").await;
    assert!(output.status.success(), "{output:?}");
    assert!(output.stdout.is_empty());
    assert!(text(&output.stderr).starts_with("4 lines read: 4 acked, 0 not written, 0 unknown"));
    let records = broker.all_records("lines").expect("records");
    let expected: [&[u8]; 4] = [b"one", b"", b"\xff\xfe\r", b"last"];
    assert_eq!(
        keys_and_values(&records),
        expected.map(|value| (None, Some(value)))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_stand_before_the_separator() {
    let (broker, servers) = start("keyed", 1).await;
    let mut args = vec!["produce", "--topic", "keyed", "--bootstrap-server"];
    args.extend([&*servers, "--key-separator", "::", "--json"]);
    let output = run(&args, b"k::v\nno key\n::empty key\nk::a::b\nk::\n").await;
    assert!(output.status.success(), "{output:?}");
    assert_counts(&output, [5, 5, 0, 0]);
    let records = broker.all_records("keyed").expect("records");
    let expected: [KeyValue<'_>; 5] = [
        (Some(b"k"), Some(b"v")),
        (None, Some(b"no key")),
        (Some(b""), Some(b"empty key")),
        (Some(b"k"), Some(b"a::b")),
        (Some(b"k"), Some(b"")),
    ];
    assert_eq!(keys_and_values(&records), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_and_a_configuration_are_read() {
    let (broker, servers) = start("filed", 4).await;
    let dir = tempfile::tempdir().expect("a directory");
    let at = |name: &str| dir.path().join(name).display().to_string();
    let lines: String = (0..10_000).map(|i| format!("line {i}\n")).collect();
    std::fs::write(at("lines"), lines).expect("written");
    // The command line overrides the file.
    let config = format!("bootstrap.servers={servers}\nbatch.size=100000\nacks=0\n");
    std::fs::write(at("producer.properties"), config).expect("written");
    let (config, lines) = (at("producer.properties"), at("lines"));
    let mut args = vec!["produce", "--topic", "filed", "--config", &config];
    args.extend(["--property", "acks=all", "--file", &lines]);
    args.extend(["--partition", "3", "--json"]);
    let output = run(&args, b"").await;
    assert!(output.status.success(), "{output:?}");
    assert_counts(&output, [10_000, 10_000, 0, 0]);
    let records = broker.all_records("filed").expect("records");
    assert_eq!(records.len(), 10_000);
    for (i, record) in records.iter().enumerate() {
        assert_eq!(record.partition, 3);
        assert_eq!(
            record.value.as_deref(),
            Some(format!("line {i}").as_bytes())
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_acks_nothing_is_known_and_nothing_failed() {
    let (_broker, servers) = start("acks0", 1).await;
    let mut args = vec!["produce", "--topic", "acks0", "--bootstrap-server"];
    args.extend([&*servers, "--property", "acks=0"]);
    args.extend(["--property", "enable.idempotence=false", "--json"]);
    let output = run(&args, b"a\nb\n").await;
    assert_counts(&output, [2, 0, 0, 2]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(text(&output.stderr).contains("2 x "));
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_records_are_not_written() {
    let (broker, servers) = start("mixed", 1).await;
    let mut args = vec!["produce", "--topic", "mixed", "--bootstrap-server"];
    args.extend([&*servers, "--property", "max.request.size=1000", "--json"]);
    // Refused by `send`; and longer than what is read of a line at all.
    let input = format!("a\n{}\n{}\nb\n", "x".repeat(990), "y".repeat(200_000));
    let output = run(&args, input.as_bytes()).await;
    assert_eq!(output.status.code(), Some(1));
    assert_counts(&output, [4, 2, 2, 0]);
    assert!(text(&output.stderr).contains("max.request.size (1000)"));
    assert_eq!(broker.all_records("mixed").expect("records").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_broker_leaves_everything_not_written() {
    // A port that was free a moment ago.
    let address = TcpListener::bind("127.0.0.1:0")
        .and_then(|it| it.local_addr())
        .expect("a port")
        .to_string();
    let mut args = vec!["produce", "--topic", "nowhere", "--bootstrap-server"];
    args.extend([&*address, "--property", "max.block.ms=300", "--json"]);
    let output = run(&args, b"a\nb\n").await;
    assert_eq!(output.status.code(), Some(1));
    assert_counts(&output, [2, 0, 2, 0]);
    assert!(text(&output.stderr).contains("not written: "));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_never_answers_leaves_records_unknown() {
    let (broker, servers) = start("silent", 1).await;
    broker.on(ApiKey::Produce, |_| Control::Silence);
    let mut args = vec!["produce", "--topic", "silent", "--bootstrap-server"];
    args.extend([&*servers, "--json", "--property", "linger.ms=0"]);
    args.extend(["--property", "request.timeout.ms=500"]);
    args.extend(["--property", "delivery.timeout.ms=1000"]);
    let output = run(&args, b"a\nb\nc\n").await;
    assert_eq!(output.status.code(), Some(1));
    let summary = summary(&output);
    assert_eq!(summary["acked"], 0);
    // Lines after the first may wait unsent behind it, and then are certainly not written.
    assert!(summary["unknown"].as_u64() >= Some(1), "{output:?}");
    let rest = [&summary["unknown"], &summary["not_written"]].map(|it| it.as_u64().unwrap_or(0));
    assert_eq!(rest.iter().sum::<u64>(), 3);
    assert!(text(&output.stderr).contains("may or may not be written"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_configuration_is_told_line_by_line() {
    let mut args = vec![
        "produce",
        "--topic",
        "t",
        "--bootstrap-server",
        "localhost:1",
    ];
    args.extend([
        "--property",
        "linger.ms=soon",
        "--property",
        "no.such.key=1",
    ]);
    let output = run(&args, b"a\n").await;
    assert_eq!(output.status.code(), Some(2));
    let stderr = text(&output.stderr);
    assert_eq!(stderr.lines().count(), 2, "{stderr}");
    for key in ["linger.ms", "no.such.key"] {
        assert!(stderr.lines().any(|line| line.starts_with(key)), "{stderr}");
    }
    for args in [
        &["produce", "--topic", "t"][..],
        &["produce", "--bootstrap-server", "localhost:1"],
        &["produce", "--topic", "t", "--property", "linger.ms"],
        &[
            "produce",
            "--topic",
            "t",
            "--bootstrap-server",
            "localhost:1",
            "--file",
            "/no/file",
        ],
        &[
            "produce",
            "--topic",
            "a topic",
            "--bootstrap-server",
            "localhost:1",
        ],
        &["demo", "--records", "0"],
        &["nonsense"],
    ] {
        let output = run(args, b"").await;
        assert_eq!(output.status.code(), Some(2), "{args:?}: {output:?}");
        assert!(!output.stderr.is_empty());
    }
}

fn interrupt(child: &Child) {
    let id = child.id().and_then(|id| i32::try_from(id).ok());
    let pid = id.and_then(Pid::from_raw).expect("it runs");
    kill_process(pid, Signal::INT).expect("a signal");
}

/// Starts `produce` and gives it `lines`. Its input stays open until the pipe is dropped.
async fn produce_on(servers: &str, topic: &str, lines: &[u8]) -> (Child, ChildStdin) {
    let mut args = vec!["produce", "--topic", topic, "--bootstrap-server", servers];
    args.push("--json");
    let mut child = forebay(&args).spawn().expect("the command starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(lines).await.expect("written");
    stdin.flush().await.expect("written");
    (child, stdin)
}

async fn end(child: &mut Child) -> Output {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let ended = async {
        let status = child.wait().await.expect("a status");
        if let Some(pipe) = &mut child.stdout {
            pipe.read_to_end(&mut stdout).await.expect("read");
        }
        if let Some(pipe) = &mut child.stderr {
            pipe.read_to_end(&mut stderr).await.expect("read");
        }
        status
    };
    let status = tokio::time::timeout(PATIENCE, ended).await;
    let status = status.expect("the command ends");
    Output {
        status,
        stdout,
        stderr,
    }
}

async fn wait_for_produce(broker: &FakeBroker) {
    while broker.request_count(ApiKey::Produce) == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_delivers_what_was_read() {
    let (broker, servers) = start("stopped", 3).await;
    // The answers come after the signal.
    broker.on(ApiKey::Produce, |_| Control::Delay(Duration::from_secs(1)));
    let (mut child, _open) = produce_on(&servers, "stopped", b"a\nb\nc\nhalf a li").await;
    wait_for_produce(&broker).await;
    interrupt(&child);
    let output = end(&mut child).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_counts(&output, [3, 3, 0, 0]);
    assert_eq!(broker.all_records("stopped").expect("records").len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_ends_in_bounded_time_and_tells_the_truth() {
    let (broker, servers) = start("stuck", 1).await;
    broker.on(ApiKey::Produce, |_| Control::Silence);
    let (mut child, _open) = produce_on(&servers, "stuck", b"a\nb\n").await;
    wait_for_produce(&broker).await;
    interrupt(&child);
    let output = end(&mut child).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_counts(&output, [2, 0, 0, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_while_no_broker_answers_leaves_the_lines_not_written() {
    // It takes connections and says nothing.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let (mut child, _open) = produce_on(&address, "nowhere", b"a\nb\n").await;
    let listener = tokio::net::TcpListener::from_std({
        listener.set_nonblocking(true).expect("set");
        listener
    });
    let connection = listener.expect("a listener").accept().await;
    interrupt(&child);
    let output = end(&mut child).await;
    drop(connection);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_counts(&output, [2, 0, 2, 0]);
    assert!(text(&output.stderr).contains("2 x not written: interrupted"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_ctrl_c_ends_at_once() {
    let (broker, servers) = start("impatient", 1).await;
    broker.on(ApiKey::Produce, |_| Control::Silence);
    let (mut child, _open) = produce_on(&servers, "impatient", b"a\nb\n").await;
    wait_for_produce(&broker).await;
    interrupt(&child);
    let stderr = child.stderr.take().expect("a pipe");
    let mut stderr = BufReader::new(stderr).lines();
    let line = stderr.next_line().await.expect("read").expect("a line");
    assert!(line.starts_with("interrupted"), "{line}");
    interrupt(&child);
    let output = end(&mut child).await;
    assert_eq!(output.status.code(), Some(130), "{output:?}");
}

/// The numbers of a line of figures, after what follows each of them was compared.
#[track_caller]
fn figures(line: &str, shape: &[&str]) -> Vec<f64> {
    let mut rest = line;
    let mut numbers = Vec::new();
    for after in shape {
        let (number, next) = rest.split_once(after).expect(line);
        numbers.push(number.parse().expect(line));
        rest = next;
    }
    assert_eq!(rest, "", "{line}");
    numbers
}

const WINDOW: [&str; 5] = [
    " records sent, ",
    " records/sec (",
    " MB/sec), ",
    " ms avg latency, ",
    " ms max latency.",
];
const TOTAL: [&str; 9] = [
    " records sent, ",
    " records/sec (",
    " MB/sec), ",
    " ms avg latency, ",
    " ms max latency, ",
    " ms 50th, ",
    " ms 95th, ",
    " ms 99th, ",
    " ms 99.9th.",
];

#[tokio::test(flavor = "multi_thread")]
async fn perf_speaks_as_kafkas_tool_does() {
    let (broker, servers) = start("perf", 4).await;
    let bootstrap = format!("bootstrap.servers={servers}");
    let mut args = vec!["perf", "--topic", "perf", "--num-records", "2000"];
    args.extend(["--record-size", "100", "--throughput", "4000"]);
    args.extend(["--producer-props", &bootstrap, "linger.ms=1"]);
    args.extend(["--reporting-interval", "100"]);
    let output = run(&args, b"").await;
    assert!(output.status.success(), "{output:?}");
    let stdout = text(&output.stdout);
    let lines: Vec<_> = stdout.lines().collect();
    let (last, windows) = lines.split_last().expect("lines");
    assert!(!windows.is_empty(), "{stdout}");
    let in_windows: f64 = windows.iter().map(|line| figures(line, &WINDOW)[0]).sum();
    let total = figures(last, &TOTAL);
    assert_eq!(total[0], 2000.0);
    assert!(in_windows <= 2000.0);
    let records = broker.all_records("perf").expect("records");
    assert_eq!(records.len(), 2000);
    let letters = |it: &ConsumerRecord| it.value.as_ref().map(|it| it.len()) == Some(100);
    assert!(records.iter().all(letters));
}

#[tokio::test(flavor = "multi_thread")]
async fn perf_sends_the_lines_of_a_file() {
    let (broker, servers) = start("payloads", 1).await;
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("payloads");
    std::fs::write(&path, "seven\neight\n").expect("written");
    let path = path.display().to_string();
    let mut args = vec!["perf", "--topic", "payloads", "--num-records", "100"];
    args.extend(["--payload-file", &path, "--throughput", "-1"]);
    args.extend(["--bootstrap-server", &servers]);
    let output = run(&args, b"").await;
    assert!(output.status.success(), "{output:?}");
    let stdout = text(&output.stdout);
    assert_eq!(figures(stdout.trim_end(), &TOTAL)[0], 100.0);
    let records = broker.all_records("payloads").expect("records");
    assert_eq!(records.len(), 100);
    let known =
        |it: &ConsumerRecord| [Some(&b"seven"[..]), Some(b"eight")].contains(&it.value.as_deref());
    assert!(records.iter().all(known));
}

#[tokio::test(flavor = "multi_thread")]
async fn perf_counts_failures_and_says_why() {
    let (broker, servers) = start("failing", 1).await;
    broker.on(ApiKey::Produce, |_| {
        Control::Error(krafka::error::ErrorCode::TopicAuthorizationFailed)
    });
    let mut args = vec!["perf", "--topic", "failing", "--num-records", "10"];
    args.extend(["--record-size", "10", "--throughput", "-1"]);
    args.extend(["--bootstrap-server", &servers]);
    let output = run(&args, b"").await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stdout).starts_with("0 records sent, "));
    assert!(
        text(&output.stderr).contains("10 x not written: "),
        "{output:?}"
    );
}

const TRANSACTIONS: [&str; 11] = [
    " transactions committed (",
    " records, ",
    " records/sec), ",
    " aborted (",
    " records), ",
    " unknown (",
    " records), commits: ",
    " ms avg, ",
    " ms max, ",
    " ms 50th, ",
    " ms 99th.",
];

#[tokio::test(flavor = "multi_thread")]
async fn perf_commits_as_often_as_it_is_told_to() {
    let (broker, servers) = start("committed", 3).await;
    for handle in ["shared", "lane"] {
        let before = broker.request_count(ApiKey::EndTxn);
        let mut args = vec!["perf", "--topic", "committed", "--num-records", "1050"];
        args.extend(["--record-size", "10", "--throughput", "-1"]);
        args.extend(["--bootstrap-server", &servers, "--handle", handle]);
        args.extend(["--transaction-records", "100"]);
        let output = run(&args, b"").await;
        assert!(output.status.success(), "{output:?}");
        let stdout = text(&output.stdout);
        let [total, ends] = stdout.lines().collect::<Vec<_>>()[..] else {
            panic!("{stdout}");
        };
        assert_eq!(figures(total, &TOTAL)[0], 1050.0);
        let ends = figures(ends, &TRANSACTIONS);
        assert_eq!(ends[..2], [11.0, 1050.0], "{stdout}");
        assert_eq!(ends[3..7], [0.0; 4], "{stdout}");
        assert_eq!(broker.request_count(ApiKey::EndTxn) - before, 11);
    }
    let records = broker.all_records("committed").expect("records");
    assert_eq!(records.len(), 2100);
}

#[tokio::test(flavor = "multi_thread")]
async fn perf_commits_when_the_time_is_over() {
    let (broker, servers) = start("timed", 1).await;
    let mut args = vec!["perf", "--topic", "timed", "--num-records", "400"];
    args.extend(["--record-size", "10", "--throughput", "1000"]);
    args.extend(["--bootstrap-server", &servers]);
    args.extend([
        "--transactional-id",
        "timed",
        "--transaction-duration-ms",
        "50",
    ]);
    let output = run(&args, b"").await;
    assert!(output.status.success(), "{output:?}");
    let stdout = text(&output.stdout);
    let ends = figures(stdout.lines().last().expect("a line"), &TRANSACTIONS);
    // As many as fit into 0.4 s, and fewer where the machine is busy.
    assert!((2.0..=8.0).contains(&ends[0]), "{stdout}");
    assert_eq!(ends[1], 400.0, "{stdout}");
    assert_eq!(broker.request_count(ApiKey::EndTxn) as f64, ends[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn perf_tells_what_was_aborted() {
    let (broker, servers) = start("aborted", 1).await;
    broker.on_once(ApiKey::Produce, |_| {
        Control::Error(krafka::error::ErrorCode::TopicAuthorizationFailed)
    });
    let mut args = vec!["perf", "--topic", "aborted", "--num-records", "30"];
    args.extend(["--record-size", "10", "--throughput", "-1"]);
    args.extend([
        "--bootstrap-server",
        &servers,
        "--transaction-records",
        "10",
    ]);
    let output = run(&args, b"").await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let stdout = text(&output.stdout);
    let ends = figures(stdout.lines().last().expect("a line"), &TRANSACTIONS);
    assert_eq!(ends[..2], [2.0, 20.0], "{stdout}");
    assert_eq!(ends[3..7], [1.0, 10.0, 0.0, 0.0], "{stdout}");
    let stderr = text(&output.stderr);
    assert!(
        stderr.contains("20 acked, 10 not written, 0 unknown"),
        "{stderr}"
    );
    assert!(stderr.contains("10 x aborted: "), "{stderr}");
    assert!(stderr.contains("TOPIC_AUTHORIZATION_FAILED"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn perf_in_transactions_refuses_what_makes_none() {
    let perf = [
        "perf",
        "--topic",
        "t",
        "--num-records",
        "1",
        "--record-size",
        "1",
    ];
    let perf = [
        &perf[..],
        &["--throughput", "-1", "--bootstrap-server", "localhost:1"],
    ]
    .concat();
    for (more, says) in [
        (
            &["--transaction-duration-ms", "0"][..],
            "--transaction-duration-ms",
        ),
        (&["--transaction-records", "0"], "--transaction-records"),
        (
            &[
                "--transactional-id",
                "a",
                "--producer-props",
                "enable.idempotence=false",
            ],
            "idempotence",
        ),
    ] {
        let output = run(&[&perf, more].concat(), b"").await;
        let stderr = text(&output.stderr);
        assert!(stderr.contains(says), "{stderr}");
        assert!(!output.status.success(), "{stderr}");
        assert!(output.stdout.is_empty(), "{output:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_ends_well() {
    let output = run(&["demo", "--records", "20000"], b"").await;
    assert!(output.status.success(), "{output:?}");
    let stdout = text(&output.stdout);
    assert!(
        stdout.contains("20,000 acked, 0 not written, 0 unknown"),
        "{stdout}"
    );
    assert!(stdout.contains("12 of 12 partitions in order"), "{stdout}");
    assert!(
        stdout.lines().any(|line| line.starts_with("all right")),
        "{stdout}"
    );
}

/// Each step is told, and nothing is left behind.
#[tokio::test(flavor = "multi_thread")]
async fn a_check_goes_to_each_broker_and_writes_nothing() {
    let (broker, servers) = start("checked", 3).await;
    let first = servers.split(',').next().expect("a broker");
    let args = ["check", "--bootstrap-server", first, "--topic", "checked"];
    let output = run(&args, b"").await;
    let told = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{told}");
    for line in [
        format!("{first} (named by bootstrap.servers)"),
        format!("(named by {first}, as broker "),
        "checked, 3 partitions".to_owned(),
        "User:ANONYMOUS may be idempotent".to_owned(),
        "a producer can send with this".to_owned(),
    ] {
        assert!(told.contains(&line), "{line}: {told}");
    }
    for step in ["resolve", "connect", "versions", "cluster"] {
        assert_eq!(told.matches(&format!("\n  {step} ")).count(), 2, "{told}");
    }
    assert!(broker.all_records("checked").expect("records").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_creates_no_topic() {
    let (_broker, servers) = start("there", 1).await;
    let args = [
        "check",
        "--bootstrap-server",
        &servers,
        "--topic",
        "absent",
        "--json",
    ];
    // Were the first the one to create it, the second would find it.
    for _ in 0..2 {
        let output = run(&args, b"").await;
        let told = text(&output.stdout);
        assert_eq!(output.status.code(), Some(7), "{told}");
        let lines = told
            .lines()
            .map(|it| serde_json::from_str(it).expect("JSON"));
        let lines: Vec<Value> = lines.collect();
        let topic = lines.iter().find(|line| line["step"] == "topic");
        let topic = topic.expect("a step");
        assert_eq!(topic["verdict"], "failed");
        let text = topic["text"].as_str().expect("text");
        assert!(text.starts_with("absent is not there"), "{text}");
        assert!(
            lines
                .iter()
                .all(|line| line["ms"].is_f64() && line["broker"].is_string())
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_says_by_its_status_which_step_failed() {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr());
    let closed = free.expect("a port").to_string();
    let (_broker, servers) = start("there", 1).await;
    let there = servers.split(',').next().expect("a broker");
    let tls = ["--property", "security.protocol=SSL"];
    let plain = [
        "--property",
        "security.protocol=SASL_PLAINTEXT",
        "--property",
        "sasl.mechanism=PLAIN",
        "--property",
        "sasl.username=alice",
        "--property",
        "sasl.password=hunter2",
    ];
    for (server, more, status, phrase) in [
        (closed.as_str(), &[][..], 3, "is a broker listening there?"),
        ("no-such-host.invalid:9092", &[], 3, "cannot be resolved"),
        (there, &tls, 4, "is the listener PLAINTEXT"),
        (there, &plain, 5, "login"),
        (there, &["--property", "acks=0"], 2, "enable.idempotence"),
    ] {
        let mut args = vec!["check", "--bootstrap-server", server];
        args.extend(more);
        let output = run(&args, b"").await;
        let told = text(&output.stdout) + &text(&output.stderr);
        println!("{told}");
        assert_eq!(output.status.code(), Some(status), "{told}");
        assert!(told.contains(phrase), "{told}");
        assert!(!told.contains("hunter2"), "{told}");
    }
}

/// A directory with so many records that no broker has, of a topic that it remembers.
async fn leave_in_spool(directory: &Path, servers: &str, records: usize) {
    let start = |servers: &str| {
        let builder = Config::builder().bootstrap_servers(servers);
        let builder = builder.set("forebay.spool.dir", directory.to_string_lossy());
        let builder = builder.set("forebay.spool.segment.bytes", 2 << 20);
        let builder = builder.set("max.request.size", 100_000);
        Producer::start(builder.build().expect("a configuration")).expect("a producer")
    };
    let producer = start(servers);
    let first = producer.send(Record::to("t").value("0")).await;
    first.expect("accepted").await.expect("acked");
    let closed = producer.close(PATIENCE).await;
    closed.expect("nothing is left");
    let producer = start("127.0.0.1:1");
    for number in 1..=records {
        let record = Record::to("t").value(number.to_string());
        drop(producer.send(record).await.expect("accepted"));
    }
    // All of it is kept.
    let _timed_out = producer.close(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_a_spool_is_shown_written_out_and_delivered() {
    let directory = tempfile::tempdir().expect("a directory");
    let spool = directory.path().join("spool");
    let path = spool.to_str().expect("UTF-8");
    let (broker, servers) = start("t", 1).await;
    leave_in_spool(&spool, &servers, 5).await;

    let shown = run(&["spool", "ls", path], b"").await;
    let waits = text(&shown.stdout);
    assert!(shown.status.success(), "{shown:?}");
    assert!(waits.contains("t-0"), "{waits}");
    let shown = summary(&run(&["spool", "ls", "--json", path], b"").await);
    let left = shown["partitions"][0]["records"].as_u64();
    assert_eq!(left, Some(5), "{shown}");

    let verified = run(&["spool", "verify", path], b"").await;
    assert!(verified.status.success(), "{verified:?}");
    assert_eq!(text(&verified.stdout), "whole: 5 records wait\n");

    let exported = run(&["spool", "export", path], b"").await;
    assert!(exported.status.success(), "{exported:?}");
    let lines = text(&exported.stdout);
    let lines = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let values: Vec<_> = lines
        .map(|line| line["value"].as_str().map(str::to_owned))
        .collect();
    let expected = ["1", "2", "3", "4", "5"].map(|it| Some(it.to_owned()));
    assert_eq!(values, expected);

    let mut drain = vec!["spool", "drain", "--bootstrap-server", &servers, path];
    drain.extend(["--property", "forebay.spool.segment.bytes=2097152"]);
    drain.extend(["--property", "max.request.size=100000"]);
    let drained = run(&drain, b"").await;
    assert!(drained.status.success(), "{drained:?}");
    let told = text(&drained.stderr);
    assert!(told.starts_with("5 records wait\n"), "{told}");
    assert!(
        told.ends_with("0 records wait in the spool now\n"),
        "{told}"
    );
    let records = broker.all_records("t").expect("records");
    let values = keys_and_values(&records);
    let expected: [&[u8]; 6] = [b"0", b"1", b"2", b"3", b"4", b"5"];
    assert_eq!(values, expected.map(|value| (None, Some(value))));
}

/// `produce` with a file and a spool.
fn go_on<'a>(servers: &'a str, spool: &'a str, file: &'a str) -> [&'a str; 10] {
    let fixed = [
        "produce",
        "--topic",
        "t",
        "--bootstrap-server",
        servers,
        "--spool",
        spool,
    ];
    let [a, b, c, d, e, f, g] = fixed;
    [a, b, c, d, e, f, g, "--file", file, "--json"]
}

/// No broker is there while it is killed: those of this test cannot tell what former producers have sent.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_gone_on_with_where_it_was_accepted() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name).to_string_lossy().into_owned();
    let (spool, file) = (path("spool"), path("lines"));
    let (broker, servers) = start("t", 1).await;
    std::fs::write(&file, "0\n1\n2\n").expect("written");
    let first = run(&go_on(&servers, &spool, &file), b"").await;
    assert!(first.status.success(), "{first:?}");
    assert_eq!(summary(&first)["accepted"].as_u64(), Some(3));

    let lines: String = (0..100_000).map(|number| format!("{number}\n")).collect();
    std::fs::write(&file, lines.trim_end()).expect("written");
    for kill in 0..6 {
        let mut child = forebay(&go_on("127.0.0.1:1", &spool, &file));
        let mut child = child.spawn().expect("the command starts");
        tokio::time::sleep(Duration::from_millis(400 + 150 * kill)).await;
        child.kill().await.expect("it runs");
    }
    let last = run(&go_on(&servers, &spool, &file), b"").await;
    assert!(last.status.success(), "{last:?}");
    let told = summary(&last);
    println!("{told}");
    let accepted = ["accepted", "accepted_before"].map(|it| told[it].as_u64().expect("a count"));
    assert_eq!(accepted.iter().sum::<u64>(), 100_000);
    let records = broker.all_records("t").expect("records");
    let values = records
        .iter()
        .map(|it| text(it.value.as_deref().unwrap_or_default()));
    let expected = (0..100_000).map(|number| number.to_string());
    assert!(values.eq(expected), "{} records", records.len());

    let again = run(&go_on(&servers, &spool, &file), b"").await;
    assert!(again.status.success(), "{again:?}");
    assert_eq!(summary(&again)["accepted_before"].as_u64(), Some(100_000));
    for (now, why) in [
        ("0\n", "it has 2 bytes, and"),
        (
            &*lines.replace("77\n", "78\n"),
            "it is another file, or was changed",
        ),
        (
            &*format!("{}9", lines.trim_end()),
            "was the last one, without an end",
        ),
    ] {
        std::fs::write(&file, now).expect("written");
        let refused = run(&go_on(&servers, &spool, &file), b"").await;
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
        let told = text(&refused.stderr);
        assert!(told.contains(why) && told.contains("--source"), "{told}");
    }
    let mut args = go_on(&servers, &spool, &file).to_vec();
    args.extend(["--source", "another"]);
    std::fs::write(&file, "a\n").expect("written");
    let other = run(&args, b"").await;
    assert!(other.status.success(), "{other:?}");
    assert_eq!(summary(&other)["accepted"].as_u64(), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_from_standard_input_is_delivered_from_the_spool() {
    let directory = tempfile::tempdir().expect("a directory");
    let spool = directory.path().join("spool");
    let spool = spool.to_str().expect("UTF-8");
    let (broker, servers) = start("t", 1).await;
    let produce = |servers| {
        let [a, b, c, d, _, f, g, _, _, j] = go_on("", spool, "");
        [a, b, c, d, servers, f, g, j]
    };
    let first = run(&produce(&*servers), b"0\n").await;
    assert!(first.status.success(), "{first:?}");

    let mut child = forebay(&produce("127.0.0.1:1"));
    let mut child = child.spawn().expect("the command starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(b"1\n2\n").await.expect("written");
    // It warns of the brokers once it has started, and the lines are accepted a moment later.
    let mut stderr = BufReader::new(child.stderr.take().expect("a pipe"));
    let mut warning = String::new();
    while !warning.contains("Connection refused") {
        warning.clear();
        stderr.read_line(&mut warning).await.expect("it runs");
    }
    child.stderr = Some(stderr.into_inner());
    tokio::time::sleep(Duration::from_secs(2)).await;
    interrupt(&child);
    let interrupted = end(&mut child).await;
    assert_eq!(
        summary(&interrupted)["kept"].as_u64(),
        Some(2),
        "{interrupted:?}"
    );
    let told = text(&interrupted.stderr);
    assert!(told.contains("2 lines read, 2 accepted: "), "{told}");
    assert!(told.contains("2 kept in the spool"), "{told}");

    let last = run(&produce(&*servers), b"3\n").await;
    assert!(last.status.success(), "{last:?}");
    let told = text(&last.stderr);
    assert!(
        told.contains("2 records of former runs are in the spool"),
        "{told}"
    );
    let records = broker.all_records("t").expect("records");
    let expected: [&[u8]; 4] = [b"0", b"1", b"2", b"3"];
    let values = keys_and_values(&records);
    assert_eq!(values, expected.map(|value| (None, Some(value))));

    let refused = run(
        &[
            "produce",
            "--topic",
            "t",
            "--file",
            "/dev/null",
            "--source",
            "a",
        ],
        b"",
    )
    .await;
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
}
