//! Memory that runs out.

use forebay::{SendError, WaitsFor};
use futures_util::future::join_all;
use krafka::error::ErrorCode;
use krafka::testing::{ApiKey, Control};

use crate::scripted::{Scripted, Twist};
use crate::*;

const TIGHT: &[(&str, &str)] = &[
    ("batch.size", "1024"),
    ("buffer.memory", "16384"),
    ("max.block.ms", "100"),
    ("request.timeout.ms", "600"),
];

fn large(i: usize) -> String {
    format!("{i:0700}")
}

/// Sends until memory is short; returns what was accepted.
async fn fill(producer: &Producer) -> Vec<Receipt> {
    let mut accepted = Vec::new();
    loop {
        match within(producer.send(to(large(accepted.len())))).await {
            Ok(receipt) => accepted.push(receipt),
            Err(SendError::NoMemory { total: 16384, .. }) => return accepted,
            Err(other) => panic!("{other:?}"),
        }
        assert!(accepted.len() < 100, "memory has no end");
    }
}

#[tokio::test]
async fn what_does_not_fit_is_refused_and_what_was_accepted_arrives() {
    let broker = broker().await;
    let producer = producer(&broker, TIGHT);
    producer.partitions_for("t").await.expect("a topic");
    broker.on_once(ApiKey::Produce, |_| Control::Silence);
    let accepted = fill(&producer).await;
    assert!(!accepted.is_empty());
    let expected: Vec<_> = (0..accepted.len()).map(large).collect();
    all_acked(accepted).await;
    assert_eq!(log(&broker), expected);
    // All of it is there again.
    all_acked(send_all(&producer, (0..40).map(large)).await).await;
    let figures = producer.figures().await.expect("figures");
    assert_eq!(figures.pool.available_bytes, 16384);
    assert!(figures.pool.exhausted > 0);
    close(producer).await;
}

#[tokio::test]
async fn a_send_that_waits_for_memory_may_be_dropped() {
    let broker = broker().await;
    let producer = producer(
        &broker,
        &[
            ("batch.size", "1024"),
            ("buffer.memory", "16384"),
            ("request.timeout.ms", "300"),
        ],
    );
    producer.partitions_for("t").await.expect("a topic");
    broker.on_once(ApiKey::Produce, |_| Control::Silence);
    let mut accepted = Vec::new();
    loop {
        let send = producer.send(to(large(accepted.len())));
        match tokio::time::timeout(Duration::from_millis(50), send).await {
            Ok(sent) => accepted.push(sent.expect("accepted")),
            Err(_) => break, // dropped while it waits
        }
    }
    let expected: Vec<_> = (0..accepted.len()).map(large).collect();
    all_acked(accepted).await;
    assert_eq!(log(&broker), expected, "the dropped one was never accepted");
    acked(send(&producer, "next").await).await;
    close(producer).await;
}

/// A producer with so much memory whose batches linger for longer than a test, and a topic "many"
/// of 12 partitions.
async fn nothing_leaves_by_itself(memory: &str) -> (FakeBroker, Producer) {
    let broker = broker().await;
    broker.create_topic("many", 12);
    let keys = [
        ("batch.size", "1024"),
        ("buffer.memory", memory),
        ("linger.ms", "100000"),
        ("delivery.timeout.ms", "200000"),
    ];
    let producer = producer(&broker, &keys);
    (broker, producer)
}

#[tokio::test]
async fn open_batches_give_way_to_a_large_record() {
    let (_broker, producer) = nothing_leaves_by_itself("16384").await;
    producer.partitions_for("t").await.expect("a topic");
    let mut receipts = Vec::new();
    for partition in 0..12 {
        let record = Record::to("many").partition(partition).value("small");
        receipts.push(within(producer.send(record)).await.expect("accepted"));
    }
    let large = send(&producer, "x".repeat(15_000)).await;
    all_acked(receipts).await;
    producer.flush().await.expect("flushed");
    acked(large).await;
    close(producer).await;
}

#[tokio::test]
async fn while_somebody_waits_no_batch_lingers() {
    let (_broker, producer) = nothing_leaves_by_itself("4096").await;
    // Four batches take all the memory there is, and nobody comes to fill them up.
    let sends = (0..48).map(|i| {
        let producer = producer.clone();
        async move {
            let record = Record::to("many").partition(i % 12).value("small");
            producer.send(record).await
        }
    });
    let sent = within(join_all(sends)).await;
    producer.flush().await.expect("flushed");
    for receipt in sent {
        acked(receipt.expect("accepted")).await;
    }
    close(producer).await;
}

#[tokio::test]
async fn many_that_wait_are_all_served() {
    let broker = broker().await;
    let producer = producer(
        &broker,
        &[("batch.size", "1024"), ("buffer.memory", "4096")],
    );
    let sends = (0..200).map(|i| {
        let producer = producer.clone();
        async move {
            let size = [10, 700, 3000][i % 3];
            let record = to("y".repeat(size));
            acked(within(producer.send(record)).await.expect("accepted")).await
        }
    });
    within(join_all(sends)).await;
    assert_eq!(log(&broker).len(), 200);
    close(producer).await;
}

const BUFFER: usize = 2 << 20;

/// A producer whose broker answers nothing, with so much memory, and batches of 1 KiB.
async fn unanswered(max_block: &str, batch: &str) -> (FakeBroker, Producer) {
    let broker = broker().await;
    let memory = BUFFER.to_string();
    let keys = [
        ("batch.size", batch),
        ("buffer.memory", &*memory),
        ("max.block.ms", max_block),
        ("delivery.timeout.ms", "200000"),
    ];
    let producer = producer(&broker, &keys);
    let known = async {
        // Whoever may not wait has the topic looked up all the same.
        while producer.partitions_for("t").await.is_err() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    within(known).await;
    broker.on(ApiKey::Produce, |_| Control::Silence);
    (broker, producer)
}

/// Ends without delivering what nobody answers.
async fn give_up(producer: Producer) {
    let _ = within(producer.close(Duration::ZERO)).await;
}

#[tokio::test]
async fn whoever_is_ahead_is_refused_only_when_memory_is_used_up() {
    for (max_block, batch) in [("0", "1024"), ("20", "1024"), ("1000", "0")] {
        let (_broker, producer) = unanswered(max_block, batch).await;
        let mut accepted = 0;
        // Each takes a batch by itself.
        while within(producer.send(to("x".repeat(900)))).await.is_ok() {
            accepted += 1;
        }
        let most = BUFFER / if batch == "0" { 1_000 } else { 1_024 };
        assert!(
            accepted > most * 9 / 10,
            "max.block.ms={max_block} batch.size={batch}: {accepted} of {most}"
        );
        give_up(producer).await;
    }
}

#[tokio::test]
async fn whoever_only_tries_gets_all_the_memory_there_is() {
    let (_broker, producer) = unanswered("60000", "16384").await;
    let mut accepted = 0;
    let record = to("x".repeat(1_500));
    let trying = async {
        while accepted < BUFFER / 1_700 {
            match producer.try_send(record.clone()) {
                Ok(_) => accepted += 1,
                Err(refused) => {
                    let error = refused.error();
                    assert!(
                        matches!(error, SendError::WouldBlock(WaitsFor::Memory)),
                        "{error}"
                    );
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
        }
    };
    let tried = tokio::time::timeout(Duration::from_secs(10), trying).await;
    assert!(tried.is_ok(), "{accepted} of {}", BUFFER / 1_700);
    give_up(producer).await;
}

const LARGE: usize = 64 << 10;

/// A record that tells where it belongs, in every byte.
fn marked(partition: i32, number: usize) -> Record {
    let mark = format!("{partition} {number:06} ");
    let value = mark.repeat(LARGE * 9 / 10 / mark.len());
    Record::to("t").partition(partition).value(value)
}

/// What made records of one topic turn up in another (CVE-2026-35554): batches that run out of time
/// while the socket still has to write them, and memory so short that the next batch wants theirs.
/// Returns how many ran out, and how many did not.
async fn expire_in_flight(seed: usize, records: usize) -> (usize, usize) {
    // Now it reads, now it does not.
    let stall = move |part: usize| match (part / 8 + seed).is_multiple_of(2) {
        true => Duration::from_millis((part * 7 + seed) as u64 % 90),
        false => Duration::ZERO,
    };
    let twist = Twist {
        stall: Some(Box::new(stall)),
        ..Twist::default()
    };
    let broker = Scripted::start(13, twist).await;
    let (size, memory) = (LARGE.to_string(), (2 * LARGE).to_string());
    let keys = [
        ("batch.size", &*size),
        ("buffer.memory", &*memory),
        ("send.buffer.bytes", "4096"),
        ("request.timeout.ms", "100"),
        ("delivery.timeout.ms", "120"),
    ];
    let producer = Producer::start(config(&broker.servers(), &keys)).expect("a producer");
    let mut receipts = Vec::new();
    for number in 0..records {
        let sent = within(producer.send(marked((number % 2) as i32, number))).await;
        receipts.push(sent.expect("accepted"));
    }
    let mut expired = 0;
    let mut acked = [Vec::new(), Vec::new()];
    for (number, receipt) in receipts.into_iter().enumerate() {
        match outcome(receipt).await {
            Ok(_) => acked[number % 2].push(number),
            Err(_) => expired += 1,
        }
    }
    let figures = producer.figures().await.expect("figures");
    close(producer).await;
    assert_eq!(figures.pool.total_bytes, 2 * LARGE);
    assert_eq!(broker.foul(), Vec::<String>::new());
    for (partition, acked) in acked.iter().enumerate() {
        let mut numbers = Vec::new();
        for value in broker.values(partition) {
            let mark = &value[..9];
            let other = value.as_bytes().chunks(9).find(|it| *it != mark.as_bytes());
            assert_eq!(other, None, "a record of {mark:?} holds something else");
            let (place, number) = mark.trim_end().split_once(' ').expect("two numbers");
            assert_eq!(
                place,
                partition.to_string(),
                "{mark:?} is in the wrong partition"
            );
            numbers.push(number.parse::<usize>().expect("a number"));
        }
        assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
        let lost = acked.iter().find(|number| !numbers.contains(number));
        assert_eq!(lost, None, "acked, and not there");
    }
    (expired, records - expired)
}

/// Producers side by side; most of the time goes into waiting.
const ABREAST: usize = 16;

/// `FOREBAY_EXPIRIES` asks for more of them.
#[tokio::test]
async fn memory_of_what_expires_in_flight_is_not_used_again() {
    let wanted = std::env::var("FOREBAY_EXPIRIES").ok();
    let wanted: usize = wanted.map_or(300, |wanted| wanted.parse().expect("a number"));
    let (mut expired, mut acked, mut seed) = (0, 0, 0);
    while expired < wanted || acked == 0 {
        let some = (0..ABREAST).map(|at| expire_in_flight(seed + at, 30));
        for (more, arrived) in join_all(some).await {
            expired += more;
            acked += arrived;
        }
        seed += ABREAST;
        assert!(
            seed < 100 + wanted,
            "only {expired} of {} ran out of time",
            seed * 30
        );
    }
    println!("{expired} records ran out of time and {acked} arrived, in {seed} runs");
}

/// Many threads, records of all sizes: at the end all memory is where it was.
#[tokio::test]
async fn whatever_threads_do_with_memory_all_of_it_is_back() {
    let broker = broker().await;
    let keys = [("batch.size", "1024"), ("buffer.memory", "16384")];
    let producer = producer(&broker, &keys);
    producer.partitions_for("t").await.expect("a topic");
    let threads = (0..6).map(|thread| {
        let producer = producer.clone();
        tokio::task::spawn_blocking(move || {
            let sending = async {
                for i in 0..300 {
                    let size = (thread * 7919 + i * 104_729) % 5000;
                    let send = producer.send(to("z".repeat(size)));
                    match i % 10 {
                        // Dropped while it waits, if it has to.
                        0 => drop(futures_util::FutureExt::now_or_never(send)),
                        _ => drop(send.await.expect("accepted")),
                    }
                }
            };
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            runtime
                .enable_all()
                .build()
                .expect("a runtime")
                .block_on(sending);
        })
    });
    for ended in within(join_all(threads)).await {
        ended.expect("no panic");
    }
    within(producer.flush()).await.expect("flushed");
    let figures = producer.figures().await.expect("figures");
    assert_eq!(
        (figures.pool.available_bytes, figures.pool.waiting),
        (16384, 0)
    );
    close(producer).await;
}

#[tokio::test]
async fn the_halves_of_a_batch_that_was_split_are_counted() {
    let broker = broker().await;
    let keys = [("linger.ms", "100000"), ("delivery.timeout.ms", "200000")];
    let producer = producer(&broker, &keys);
    broker.on_once(ApiKey::Produce, |_| Control::Error(ErrorCode::from_i16(10)));
    let mut receipts = Vec::new();
    for i in 0..10 {
        receipts.push(send(&producer, large(i)).await);
    }
    let flushing = producer.clone();
    let flushed = tokio::spawn(async move { flushing.flush().await });
    let split = async {
        loop {
            let figures = producer.figures().await.expect("figures");
            if figures.partitions.iter().any(|it| it.splits > 0) {
                return figures;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    broker.on(ApiKey::Produce, |_| Control::Silence);
    let pool = within(split).await.pool;
    let used = pool.total_bytes - pool.available_bytes;
    assert!(used >= 7_000, "{used} bytes for ten records of 700 bytes");
    flushed.abort();
    give_up(producer).await;
}

/// A caller that waits for more than there is keeps the line. When it leaves, those behind it are
/// served, though nothing else happens.
#[tokio::test]
async fn who_leaves_the_line_holds_nobody_up() {
    let (_broker, producer) = unanswered("60000", "1024").await;
    let hold = send_all(&producer, ["x".repeat(900_000), "x".repeat(900_000)]).await;
    let large = producer.send(to("y".repeat(900_000)));
    let mut large = Box::pin(large);
    assert!(futures_util::poll!(&mut large).is_pending());
    // Behind it, so that it waits, too.
    let behind = producer.clone();
    let behind = tokio::spawn(async move { behind.send(to("z".repeat(2_000))).await });
    while within(producer.figures())
        .await
        .expect("figures")
        .pool
        .waiting
        < 2
    {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    drop(large);
    let behind = within(behind).await.expect("no panic");
    assert!(behind.is_ok(), "{behind:?}");
    let pool = within(producer.figures()).await.expect("figures").pool;
    assert_eq!(pool.waiting, 0);
    drop(hold);
    give_up(producer).await;
}
