//! What a record costs in allocations: nothing, beyond the caller's own bytes.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bytes::Bytes;
use forebay::{BorrowedRecord, Config, Lane, Producer, Receipts, Record};
use krafka::testing::FakeBroker;

/// Counts the allocations of each thread.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: everything is handed on to the system's allocator as it came.
#[allow(unsafe_code, reason = "there is no other way to count allocations")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise, handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const RECORDS: usize = 20_000;
const VALUE: [u8; 100] = [7; 100];

/// A record of 100 bytes takes 107 in its batch: 153 fit.
const BATCHES: usize = RECORDS / 153 + 2;

/// An ack, a message to the partition, and now and then a longer list: per batch, not per record.
const PER_BATCH: usize = 8;

async fn scene() -> (FakeBroker, Producer) {
    let broker = FakeBroker::start().await.expect("a broker");
    broker.create_topic("t", 3);
    broker.create_topic("u", 3);
    let config = Config::builder()
        .bootstrap_servers(broker.bootstrap_servers())
        .set("linger.ms", "5");
    let config = config.build().expect("a configuration");
    let producer = Producer::start(config).expect("a producer");
    // What is done once is done before the count begins.
    for _ in 0..5_000 {
        let sent = producer.send(Record::to("t").value(&VALUE[..])).await;
        drop(sent.expect("accepted"));
    }
    producer.flush().await.expect("flushed");
    (broker, producer)
}

/// The broker has a thread of its own, so that only the sender's allocations count.
fn on_a_thread_of_its_own<F: Future<Output = usize>>(
    send: impl FnOnce(Producer) -> F + Send,
) -> usize {
    let background = tokio::runtime::Builder::new_multi_thread();
    let background = { background }.worker_threads(1).enable_all().build();
    let background = background.expect("a runtime");
    let (broker, producer) = background.block_on(async {
        let started = tokio::spawn(scene()).await;
        started.expect("no panic")
    });
    let sender = tokio::runtime::Builder::new_current_thread();
    let sender = { sender }.enable_all().build().expect("a runtime");
    let allocations = sender.block_on(send(producer));
    drop(broker);
    allocations
}

fn lane(producer: Producer) -> Lane {
    producer.lane()
}

/// What it costs to send so many times, with every outcome told as soon as it is known.
fn told_at_once<D>(
    times: usize,
    door: fn(Producer) -> D,
    send: impl AsyncFn(&mut D, &mut Receipts) + Sync,
) -> usize {
    on_a_thread_of_its_own(async |producer| {
        let mut door = door(producer);
        let mut receipts = Receipts::default();
        let before = ALLOCATIONS.get();
        for _ in 0..times {
            send(&mut door, &mut receipts).await;
            while let Some(outcome) = receipts.try_next() {
                outcome.expect("acked");
            }
        }
        let allocations = ALLOCATIONS.get() - before;
        while let Some(outcome) = receipts.next().await {
            outcome.expect("acked");
        }
        allocations
    })
}

#[test]
fn a_lane_allocates_by_the_batch() {
    let allocations = told_at_once(RECORDS, lane, async |lane, receipts| {
        let record = BorrowedRecord::to("t").value(&VALUE);
        receipts.push(lane.send(record).await.expect("accepted"));
    });
    assert!(allocations <= BATCHES * PER_BATCH, "{allocations}");
}

#[test]
fn a_slice_allocates_by_the_batch() {
    let records = [BorrowedRecord::to("t").value(&VALUE); 200];
    let times = RECORDS / records.len();
    let allocations = told_at_once(times, lane, async |lane, receipts| {
        let sent = lane.send_slice(&records, receipts).await;
        sent.expect("accepted");
    });
    assert!(allocations <= BATCHES * PER_BATCH, "{allocations}");
}

#[test]
fn a_slice_of_owned_records_allocates_by_the_batch() {
    let records = vec![Record::to("t").value(&VALUE[..]); 200];
    let times = RECORDS / records.len();
    let shared = |producer| producer;
    let allocations = told_at_once(times, shared, async |producer, receipts| {
        let sent = producer.send_slice(&records, receipts).await;
        sent.expect("accepted");
    });
    assert!(allocations <= BATCHES * PER_BATCH, "{allocations}");
}

#[test]
fn topics_in_turn_cost_no_allocations() {
    let allocations = on_a_thread_of_its_own(async |producer| {
        let mut lane = producer.lane();
        // Both are known from here on.
        for topic in ["t", "u"] {
            let record = BorrowedRecord::to(topic).value(&VALUE);
            drop(lane.send(record).await.expect("accepted").receipt().await);
        }
        let before = ALLOCATIONS.get();
        for i in 0..RECORDS {
            let record = BorrowedRecord::to(["t", "u"][i % 2]).value(&VALUE);
            lane.send(record).await.expect("accepted");
        }
        ALLOCATIONS.get() - before
    });
    assert!(allocations <= (BATCHES + 2) * PER_BATCH, "{allocations}");
}

#[test]
fn the_shared_door_allocates_by_the_batch() {
    let allocations = on_a_thread_of_its_own(async |producer| {
        let topic: std::sync::Arc<str> = "t".into();
        let value = Bytes::from_static(&VALUE);
        let mut receipts = Vec::with_capacity(RECORDS);
        let before = ALLOCATIONS.get();
        for _ in 0..RECORDS {
            let record = Record::to(std::sync::Arc::clone(&topic)).value(value.clone());
            receipts.push(producer.send(record).await.expect("accepted"));
        }
        let allocations = ALLOCATIONS.get() - before;
        for receipt in receipts {
            receipt.await.expect("acked");
        }
        allocations
    });
    assert!(allocations <= BATCHES * PER_BATCH, "{allocations}");
}
