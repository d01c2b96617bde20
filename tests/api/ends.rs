//! How a producer ends, with its System and without: in bounded time, and nobody is left waiting.
//!
//! What ends a process is played by children of this one: the test `child`, told by its
//! environment what to do.

use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use actix::System;
use forebay::{CloseError, Config, Placement, Producer, Receipt, Record, SendError, Unconfirmed};
use krafka::testing::{ApiKey, Control, FakeBroker};

/// Longer than anything takes that works.
const PATIENCE: Duration = Duration::from_secs(30);

const PLAY: &str = "FOREBAY_TEST_PLAY";
const SERVERS: &str = "FOREBAY_TEST_SERVERS";

fn start(servers: &str, placement: Placement) -> Producer {
    // Nothing leaves by itself.
    let config = Config::builder()
        .bootstrap_servers(servers)
        .set("linger.ms", 100_000)
        .set("delivery.timeout.ms", 200_000)
        .set("reconnect.backoff.ms", 5)
        .build()
        .expect("a configuration");
    let builder = Producer::builder().placement(placement);
    builder.start(config).expect("a producer")
}

async fn send(producer: &Producer, value: impl ToString) -> Receipt {
    let record = Record::to("t").partition(0).value(value.to_string());
    producer.send(record).await.expect("accepted")
}

async fn broker() -> FakeBroker {
    let broker = FakeBroker::start().await.expect("a broker");
    assert!(broker.create_topic("t", 1));
    broker
}

fn log(broker: &FakeBroker) -> Vec<String> {
    let records = broker.all_records("t").expect("a log").into_iter();
    let text = |value: bytes::Bytes| String::from_utf8(value.to_vec()).expect("text");
    records
        .map(|record| text(record.value.expect("a value")))
        .collect()
}

async fn within<F: Future>(future: F) -> F::Output {
    let waited = tokio::time::timeout(PATIENCE, future).await;
    waited.expect("it hangs")
}

/// Runs a play in a process of its own. Returns what it wrote to standard error.
async fn play(name: &'static str, broker: &FakeBroker) -> String {
    let servers = broker.bootstrap_servers();
    let running = tokio::process::Command::from({
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args(["--exact", "ends::child", "--nocapture", "--ignored"]);
        command.env(PLAY, name).env(SERVERS, servers);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        command
    })
    .kill_on_drop(true)
    .output();
    let output = within(running).await.expect("it ran");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{name}: {}: {told}", output.status);
    told
}

#[test]
#[ignore = "what the other tests have their child processes do"]
fn child() {
    let Ok(play) = std::env::var(PLAY) else {
        return;
    };
    let servers = std::env::var(SERVERS).expect("servers");
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    let placement = match play.contains("shared") {
        true => Placement::CurrentArbiter,
        false => Placement::OwnThread,
    };
    let system = System::new();
    system.block_on(async move {
        let producer = start(&servers, placement);
        let receipt = send(&producer, &play).await;
        match &*play {
            "close" | "close shared" => {
                producer.close(PATIENCE).await.expect("closed");
                assert!(matches!(receipt.outcome(), Some(Ok(_))));
            }
            "dropped" | "dropped shared" => {
                drop(producer);
                receipt.await.expect("acked");
            }
            "slow callback" => {
                let slow = |_| std::thread::sleep(Duration::from_millis(1_200));
                let record = Record::to("t").partition(0).value("slow");
                drop(producer.send_with(record, slow).await.expect("accepted"));
                producer.close(PATIENCE).await.expect("closed");
            }
            "stop" | "stop shared" => {
                // As an actor of the application has it.
                actix::spawn(async move {
                    std::future::pending::<()>().await;
                    drop(producer);
                });
            }
            other => panic!("{other}"),
        }
        System::current().stop();
    });
    system.run().expect("an orderly stop");
}

/// What tells of a producer that was not closed.
const WARNING: &str = "without a close";

#[tokio::test]
async fn what_is_closed_before_the_system_stops_is_delivered() {
    for name in ["close", "close shared"] {
        let broker = broker().await;
        let told = play(name, &broker).await;
        assert_eq!(log(&broker), [name]);
        assert!(!told.contains(WARNING), "{told}");
    }
}

#[tokio::test]
async fn the_last_handle_drains_in_a_system_too() {
    for name in ["dropped", "dropped shared"] {
        let broker = broker().await;
        play(name, &broker).await;
        assert_eq!(log(&broker), [name]);
    }
}

#[tokio::test]
async fn a_system_that_stops_without_a_close_ends_and_is_warned_of() {
    for name in ["stop", "stop shared"] {
        let broker = broker().await;
        let told = play(name, &broker).await;
        assert!(told.contains(WARNING), "{name}: {told}");
        // The last handle goes with the System. A runtime on a thread of its own then drains for as
        // long as the process lives, which may or may not be long enough.
        let delivered = log(&broker);
        let drained = name == "stop" && delivered == [name];
        assert!(delivered.is_empty() || drained, "{name}: {delivered:?}");
    }
}

/// Runs `work` in a System on a thread of its own; the System stops when it is done.
fn in_a_system<T: Send + 'static, F: Future<Output = T> + 'static>(
    work: impl FnOnce() -> F + Send + 'static,
) -> std::thread::JoinHandle<T> {
    std::thread::spawn(move || {
        let system = System::new();
        let done = system.block_on(async move {
            let done = work().await;
            System::current().stop();
            done
        });
        system.run().expect("an orderly stop");
        done
    })
}

async fn joined<T: Send + 'static>(thread: std::thread::JoinHandle<T>) -> T {
    let joining = tokio::task::spawn_blocking(move || thread.join());
    within(joining).await.expect("no panic").expect("no panic")
}

/// Its arbiter is gone, and with it every actor; handles elsewhere find that out.
#[tokio::test]
async fn behind_the_end_of_its_system_nothing_is_waited_for() {
    let broker = broker().await;
    broker.on(ApiKey::Produce, |_| Control::Silence);
    let servers = broker.bootstrap_servers();
    let system = in_a_system(move || async move {
        let producer = start(&servers, Placement::CurrentArbiter);
        let staged = send(&producer, 0).await;
        (producer, staged)
    });
    let (producer, staged) = joined(system).await;
    let outcome = within(staged)
        .await
        .expect_err("nobody is left to deliver it");
    assert!(matches!(outcome, Unconfirmed::NotWritten(_)), "{outcome:?}");
    for _ in 0..3 {
        let record = Record::to("t").partition(0).value("x");
        let refused = within(producer.send(record)).await.expect_err("refused");
        assert!(matches!(refused, SendError::Closed), "{refused:?}");
    }
    let elsewhere = within(producer.send(Record::to("elsewhere").value("x"))).await;
    assert!(matches!(elsewhere, Err(SendError::Closed)));
    assert_eq!(within(producer.flush()).await, Err(CloseError::Gone));
    assert!(within(producer.figures()).await.is_err());
    for _ in 0..2 {
        let closed = within(producer.close(PATIENCE)).await;
        assert_eq!(closed, Err(CloseError::Gone));
    }
}

#[tokio::test]
async fn two_systems_in_one_process_end_apart() {
    let broker = broker().await;
    for placement in [Placement::OwnThread, Placement::CurrentArbiter] {
        let before = log(&broker).len();
        let servers = broker.bootstrap_servers();
        let (first, second) = (servers.clone(), servers);
        let (ended, go_on) = mpsc::channel::<()>();
        let first = in_a_system(move || async move {
            let producer = start(&first, placement);
            let receipt = send(&producer, "first").await;
            producer.close(PATIENCE).await.expect("closed");
            receipt.await.expect("acked");
        });
        let second = in_a_system(move || async move {
            let producer = start(&second, placement);
            let early = send(&producer, "early").await;
            go_on.recv().expect("the first has ended");
            let late = send(&producer, "late").await;
            producer.close(PATIENCE).await.expect("closed");
            early.await.expect("acked");
            late.await.expect("acked");
        });
        joined(first).await;
        ended.send(()).expect("it waits");
        joined(second).await;
        let log = log(&broker);
        assert_eq!(log[before..], ["first", "early", "late"]);
    }
}

#[actix::test]
async fn a_second_producer_in_a_system_does_not_notice_the_end_of_the_first() {
    let broker = broker().await;
    for placement in [Placement::OwnThread, Placement::CurrentArbiter] {
        let servers = broker.bootstrap_servers();
        let (first, second) = (start(&servers, placement), start(&servers, placement));
        let (one, two) = (send(&first, 1).await, send(&second, 2).await);
        within(first.close(PATIENCE)).await.expect("closed");
        within(one).await.expect("acked");
        assert!(two.outcome().is_none(), "it lingers on");
        let three = send(&second, 3).await;
        within(second.flush()).await.expect("flushed");
        within(two).await.expect("acked");
        within(three).await.expect("acked");
        within(second.close(PATIENCE)).await.expect("closed");
    }
}

/// Built so, no part could outlive the panic of another.
#[test]
fn a_build_that_aborts_at_a_panic_is_refused_with_the_reason() {
    let told = forebay::StartError::PanicAbort.to_string();
    assert!(
        told.contains("panic=\"abort\"") && told.contains("panic=\"unwind\""),
        "{told}"
    );
}

#[tokio::test]
async fn a_callback_that_takes_long_is_warned_of_with_its_time() {
    let broker = broker().await;
    let told = play("slow callback", &broker).await;
    let warning = told.lines().find(|line| line.contains("callbacks"));
    let warning = warning.expect("a warning");
    assert!(
        warning.contains("WARN") && warning.contains("took=1."),
        "{warning}"
    );
}

/// As in a web worker: its arbiter ends before anybody closes.
#[actix::test]
async fn a_close_behind_the_end_of_its_arbiter_says_so() {
    let broker = broker().await;
    broker.on(ApiKey::Produce, |_| Control::Silence);
    let servers = broker.bootstrap_servers();
    let worker = actix::Arbiter::new();
    let (tell, told) = tokio::sync::oneshot::channel();
    worker.spawn(async move {
        let producer = start(&servers, Placement::CurrentArbiter);
        let receipt = send(&producer, 0).await;
        let _ = tell.send((producer, receipt));
    });
    let (producer, receipt) = within(told).await.expect("it runs");
    worker.stop();
    worker.join().expect("no panic");
    for _ in 0..2 {
        let closed = within(producer.close(PATIENCE)).await;
        assert_eq!(closed, Err(CloseError::Gone));
    }
    assert!(receipt.outcome().expect("an outcome").is_err());
}

/// Nothing panics, so no hook of the application is called.
#[test]
fn an_arbiter_that_does_not_run_is_refused_without_a_panic() {
    let here = std::thread::current().id();
    let (tell, told) = mpsc::channel();
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if std::thread::current().id() == here {
            let _ = tell.send(panic.to_string());
        }
        before(panic);
    }));
    let start = || {
        let config = Config::new("localhost:1").expect("a configuration");
        let builder = Producer::builder().placement(Placement::CurrentArbiter);
        builder.start(config).map(drop)
    };
    let refused = |started| matches!(started, Err(forebay::StartError::NoArbiter));
    assert!(refused(start()), "no System");
    let system = System::new();
    assert!(refused(start()), "it does not run");
    assert!(system.block_on(async { start() }).is_ok());
    assert!(refused(start()), "it does not run any more");
    drop(system);
    assert!(refused(start()), "it is gone");
    assert_eq!(told.try_iter().collect::<Vec<_>>(), Vec::<String>::new());
    let _system = System::new();
    let other = tokio::runtime::Builder::new_current_thread().build();
    let started = other.expect("a runtime").block_on(async { start() });
    assert!(refused(started), "another runtime runs");
}
