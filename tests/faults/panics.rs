//! A panic in every handler, again and again, and nothing is lost.

use std::collections::HashMap;
use std::sync::Once;
use std::time::Duration;

use actix::prelude::*;
use krafka::error::ErrorCode;
use krafka::testing::{ApiKey, Control, FakeBroker};

use forebay::config::ConfigBuilder;
use forebay::internals::faults;
use forebay::{
    BatchOutcome, CloseError, Component, Config, Lifecycle, LifecycleEvent, Outcome, Placement,
    Producer, Reason, Record, SendError, SourceError, Supervise, TopicPartition, Unconfirmed,
};

/// Everything that runs under a guard and that `deliver` can get to.
const REACHED: [&str; 46] = [
    "ClockActor:Timer",
    "ClockActor:WakeAt",
    "DeliveryActor:AllTold",
    "DeliveryActor:Deliver",
    "IdentityActor:Finished",
    "IdentityActor:SetNodes",
    "IdentityActor:Resync",
    "IdentityActor:Spawned",
    "IdentityActor:Tick",
    "IdentityActor:WantIdentity",
    "MetadataActor:Finished",
    "MetadataActor:RefreshMetadata",
    "MetadataActor:Resync",
    "MetadataActor:Spawned",
    "MetadataActor:Tick",
    "MetadataActor:WantTopic",
    "PartitionActor:FlushPartition",
    "PartitionActor:SetIdentity",
    "PartitionActor:SetLeader",
    "PartitionActor:LoanReturned",
    "PartitionActor:Retire",
    "PartitionActor:Resync",
    "PartitionActor:Restart",
    "PartitionActor:Take",
    "PartitionActor:Tick",
    "PartitionActor:BlockedBy",
    "PartitionActor:WakePartition",
    "PoolActor:LeaseMemory",
    "PoolActor:Restock",
    "PoolActor:Resync",
    "RuntimeActor:Close",
    "RuntimeActor:Finished",
    "RuntimeActor:Flush",
    "RuntimeActor:InstallMetadata",
    "RuntimeActor:Pressure",
    "RuntimeActor:ComponentFell",
    "RuntimeActor:Spawned",
    "RuntimeActor:Supervise",
    "SenderActor:Finished",
    "SenderActor:FromLink",
    "SenderActor:Link",
    "SenderActor:Offer",
    "SenderActor:Ready",
    "SenderActor:Resync",
    "SenderActor:WakeSender",
    "SenderActor:Tick",
];

/// What has a test of its own below, or a reason.
const ELSEWHERE: [&str; 72] = [
    "DeliveryActor:Finished",         // somebody is told by messages
    "DeliveryActor:Spawned",          // as `Finished`
    "DeliveryActor:TransactionEnded", // as `Deliver`: what is held is told at the next end
    "MetadataActor:LeaderMoved", // as `SetLeader`: what it would have published comes with `Resync`
    "MetadataActor:Rebootstrap", // no broker here says that it is another
    "PartitionActor:RefuseIdentity", // brokers give no producer id
    "PartitionActor:RefuseBatches", // no version of Produce in common
    "PartitionActor:QueueState", // who has lingered is not asked for long
    "PoolActor:Tick",            // somebody waits for memory in vain
    "RuntimeActor:CertificatesSeen", // brokers here have no TLS; the next connection tells again
    "RuntimeActor:LastHandleDropped", // nobody calls `close`
    "SenderActor:MoveTo",        // as a lost connection; the endpoint comes with the next view
    "SenderActor:Retire",        // as `Restart`
    "SenderActor:Restart",       // a sender restarted by hand
    "SenderActor:Spawned",       // as `Finished`: the future only yields
    // With `forebay.unknown=resolve`: no broker here writes markers. The simulation has each of them panic.
    "FenceActor:FenceSeen",
    "FenceActor:Finished",
    "FenceActor:Resync",
    "FenceActor:SetNodes",
    "FenceActor:Spawned",
    "FenceActor:Tick",
    "FenceActor:WantIdentity",
    "LookupActor:Finished",
    "LookupActor:ForgetLookUp",
    "LookupActor:LookUp",
    "LookupActor:Resync",
    "LookupActor:SetNodes",
    "LookupActor:Spawned",
    "LookupActor:Tick",
    "PartitionActor:LeaveProducer",
    "PartitionActor:LogNews",
    "RuntimeActor:LeaveProducer",
    "RuntimeActor:Taken", // another producer on a copy of a spool; resync tells it again
    // Of producers with transactions: `transactions.rs` has each of them panic.
    "TransactionActor:BeginTransaction",
    "TransactionActor:CloseTransactions", // the close goes on, and the brokers abort what is open
    "TransactionActor:EndTransaction",
    "TransactionActor:Finished",
    // A commit whose end only the log tells: the simulation has each of these panic.
    "PartitionActor:FindMarker",
    "RuntimeActor:FindMarker",
    "TransactionActor:MarkerTold",
    "TransactionActor:Resync",
    "TransactionActor:SendOffsets",
    "TransactionActor:SetNodes",
    "TransactionActor:Spawned",
    "TransactionActor:Tick",
    "TransactionActor:WantIdentity",
    // With a spool: what is reached without a broker that writes markers.
    "SpoolActor:OpenSlot",
    "SpoolActor:SlotTaken",
    "SpoolActor:WaitForSpace",
    "SpoolActor:SpaceChanged",
    "SpoolActor:OpenSource",
    "SpoolActor:ProgressOf",
    "SpoolActor:Tick",
    "SpoolActor:DiskTold",
    "SpoolActor:Resync",
    "SpoolActor:Finished",
    "SpoolActor:Spawned",
    "SpoolActor:Timer",
    // And what is not. What was lost is asked for again, as after the crash of the process.
    "SpoolActor:RecordId",
    "SpoolActor:RecordLine",
    "SpoolActor:RecordOutcomes",
    "SpoolActor:ReadBackFrom",
    "SpoolActor:PassedOver",
    "SpoolActor:Resent", // the warning stands; that a record may be there twice is not told
    "PartitionActor:LineRecorded",
    "PartitionActor:OutcomesRecorded",
    "PartitionActor:ReadBackDone",
    "PartitionActor:ExpireBefore",
    "PartitionActor:Doubted",
    // Whoever waits asks again.
    "RuntimeActor:WaitForResumed",
    "SpoolActor:WaitForResumed",
    "PartitionActor:Spill",
];

const RECORDS: usize = 400;

async fn broker() -> FakeBroker {
    let broker = FakeBroker::start_cluster(2).await.expect("a cluster");
    assert!(broker.create_topic("t", 3));
    broker
}

fn config(broker: &FakeBroker) -> ConfigBuilder {
    Config::builder()
        .bootstrap_servers(broker.bootstrap_servers())
        .set("batch.size", 256)
        .set("buffer.memory", 4096)
        .set("linger.ms", 1)
        .set("retry.backoff.ms", 1)
        // Long enough that a sender has to be woken to connect again.
        .set("reconnect.backoff.ms", 5)
        .set("reconnect.backoff.max.ms", 10)
        .set("retry.backoff.max.ms", 5)
        .set("forebay.restart.max", 1_000_000)
}

/// Nothing leaves by itself.
fn patient(broker: &FakeBroker) -> ConfigBuilder {
    let config = config(broker).set("linger.ms", 100_000);
    config.set("delivery.timeout.ms", 200_000)
}

fn start(config: ConfigBuilder) -> Producer {
    let config = config.build().expect("a configuration");
    // On this thread, where the faults are planned.
    let builder = Producer::builder().placement(Placement::CurrentArbiter);
    builder.start(config).expect("a producer")
}

/// What is injected and what came of it.
#[derive(Default)]
struct Fall {
    panics: usize,
    restarts: Vec<Duration>,
}

/// Sends records, has them acked, and looks for each in the log: once, and in order.
async fn deliver(handler: &str, every: u32, most: u32, weather: Weather) -> Fall {
    let within = Duration::from_secs(30);
    let delivered = tokio::time::timeout(within, deliver_all(handler, every, most, weather)).await;
    delivered.unwrap_or_else(|_| panic!("{handler}, every {every}: it hangs"))
}

/// What else goes wrong.
#[derive(Clone, Copy, PartialEq)]
enum Weather {
    Fair,
    /// Answers are lost, leaders move, errors leave things in doubt: a retry mends all of it.
    Rough,
    /// Brokers forget the producer. What was in doubt then stays so.
    Forgetful,
}

fn make(broker: &FakeBroker, weather: Weather) {
    if weather == Weather::Fair {
        return;
    }
    broker.on(ApiKey::Produce, move |request| {
        let error = |code| Control::Error(ErrorCode::from_i16(code));
        match (weather, request.api_call_index % 23) {
            (Weather::Forgetful, 5 | 11) => error(59),
            (Weather::Forgetful, 17) => error(45),
            (Weather::Forgetful, _) => Control::Pass,
            (_, 2) => error(6),
            (_, 5) => error(19),
            (_, 8) => Control::Disconnect,
            (_, 14) => Control::ApplyThen(Box::new(error(20))),
            (_, 17) => Control::ApplyThen(Box::new(Control::Disconnect)),
            (_, 20) => error(3),
            _ => Control::Pass,
        }
    });
    broker.on_times(ApiKey::InitProducerId, 2, |_| {
        Control::Error(ErrorCode::from_i16(14))
    });
}

async fn deliver_all(handler: &str, every: u32, most: u32, weather: Weather) -> Fall {
    let broker = broker().await;
    make(&broker, weather);
    // So little that it is used up time and again.
    let producer = start(config(&broker).set("buffer.memory", 1024));
    let ear = Ear(Vec::new()).start();
    producer.subscribe(ear.clone().recipient());
    faults::plan(handler, every, most);
    // Of these there are none unless something else falls.
    if handler.contains("Resync") || handler.contains("Fell") {
        faults::plan("PartitionActor:LoanReturned", 3, most);
    }
    let part = Component::Partition(TopicPartition::new("t", 0));
    let mut receipts = Vec::new();
    for number in 0..RECORDS {
        let record = Record::to("t")
            .partition((number % 3) as i32)
            .value(number.to_string());
        if number % 100 == 99 {
            if weather == Weather::Rough {
                broker.set_leader("t", 1, (number / 100 % 2) as i32);
            }
            producer.retire(part.clone());
            producer.restart(part.clone());
        }
        let receipt = loop {
            match producer.send_with(record.clone(), drop).await {
                Ok(receipt) => break receipt,
                // The message to restart it was lost; whoever sees to it asks again.
                Err(SendError::PartitionDown { .. }) => producer.restart(part.clone()),
                Err(refused) => panic!("{handler}: {refused}"),
            }
            tokio::task::yield_now().await;
        };
        receipts.push(receipt);
    }
    producer.flush().await.expect("the runtime lives");
    let outcomes = receipts.into_iter().map(|receipt| receipt.outcome());
    let mut in_doubt = Vec::new();
    for (number, outcome) in outcomes.enumerate() {
        match outcome.expect("flushed") {
            Ok(_) => {}
            Err(Unconfirmed::Unknown(_)) if weather == Weather::Forgetful => in_doubt.push(number),
            Err(other) => panic!("{handler}: {other}"),
        }
    }
    let figures = producer.figures().await.expect("the runtime lives");
    assert_eq!(
        (figures.queued_records(), figures.in_flight()),
        (0, 0),
        "{handler}"
    );
    let pool = figures.pool;
    assert_eq!(
        pool.available_bytes, pool.total_bytes,
        "{handler}: memory leaked"
    );
    producer
        .close(Duration::from_secs(5))
        .await
        .expect("closed in time");
    let struck = faults::stop();
    let mut logs: HashMap<i32, Vec<usize>> = HashMap::new();
    for record in broker.all_records("t").expect("records") {
        let value = record.value.expect("a value");
        let number = std::str::from_utf8(&value)
            .expect("text")
            .parse()
            .expect("a number");
        logs.entry(record.partition).or_default().push(number);
    }
    for (partition, numbers) in logs {
        let there = |n: &usize| !in_doubt.contains(n) || numbers.contains(n);
        let sent = (0..RECORDS).filter(|n| (n % 3) as i32 == partition);
        let sent: Vec<_> = sent.filter(there).collect();
        assert_eq!(numbers, sent, "{handler}, partition {partition}");
    }
    let heard = ear.send(Heard).await.expect("alive").into_iter();
    let restarts = heard.filter_map(|heard| match heard.event {
        LifecycleEvent::Restarted { took, .. } => Some(took),
        _ => None,
    });
    Fall {
        panics: struck[0] as usize,
        restarts: restarts.collect(),
    }
}

/// Thousands of reports of what is meant to be would hide the one that is not.
fn hush() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let told = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            // A `PanicHookInfo` hands out the payload without `Send`.
            let text = panic.payload().downcast_ref::<String>();
            if !text.is_some_and(|text| text.starts_with("injected")) {
                told(panic);
            }
        }));
    });
}

/// So many panics in all, spread over everything that can panic.
async fn fall(panics: usize) {
    hush();
    let each = panics.div_ceil(REACHED.len());
    let mut restarts = Vec::new();
    let mut total = 0;
    println!("{:<34}{:>8}{:>10}", "panics in", "panics", "restarts");
    for handler in REACHED {
        let mut fall = Fall::default();
        for round in 0.. {
            let most = (each - fall.panics).min(RECORDS / 4) as u32;
            let every = [1, 2, 3, 7][round % 4];
            let weather = [Weather::Rough, Weather::Fair, Weather::Forgetful][round % 3];
            let more = deliver(handler, every, most, weather).await;
            fall.panics += more.panics;
            fall.restarts.extend(more.restarts);
            if fall.panics >= each {
                break;
            }
            assert!(
                round < 4 * each + 4,
                "{handler} is not reached: {}",
                fall.panics
            );
        }
        println!("{handler:<34}{:>8}{:>10}", fall.panics, fall.restarts.len());
        total += fall.panics;
        restarts.extend(fall.restarts);
    }
    restarts.sort();
    let at = |share: f64| restarts[((restarts.len() - 1) as f64 * share) as usize];
    println!(
        "{total} panics, {} restarts: p50 {:?}, p99 {:?}, longest {:?}",
        restarts.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
}

#[actix::test]
async fn everything_may_panic_again_and_again() {
    fall(4 * REACHED.len()).await;
}

/// Prints what it did: `cargo test --release --test faults ten_thousand_panics -- --ignored --nocapture`
#[actix::test]
#[ignore = "takes minutes; for the figures"]
async fn ten_thousand_panics() {
    fall(10_000).await;
}

/// Whoever guards another message has it panic here.
#[test]
fn nothing_under_a_guard_is_left_out() {
    let actors = concat!(env!("CARGO_MANIFEST_DIR"), "/actors");
    let mut found = 0;
    for entry in std::fs::read_dir(actors).expect("a folder") {
        let path = entry.expect("an entry").path();
        let Ok(text) = std::fs::read_to_string(path) else {
            continue;
        };
        for list in text.split("\nguarded!(").skip(1) {
            let (list, _) = list.split_once(')').expect("an end");
            let (actor, messages) = list.split_once(':').expect("Actor: Message");
            for message in messages.split(',') {
                let name = format!("{}:{}", actor.trim(), message.trim());
                let known = REACHED.iter().chain(&ELSEWHERE).any(|it| *it == name);
                assert!(known, "{name} never panics here");
                found += 1;
            }
        }
    }
    assert!(found > 40, "{found}");
}

struct Ear(Vec<Lifecycle>);

impl Actor for Ear {
    type Context = Context<Self>;
}

impl Handler<Lifecycle> for Ear {
    type Result = ();

    fn handle(&mut self, heard: Lifecycle, _: &mut Context<Self>) {
        self.0.push(heard);
    }
}

#[derive(Message)]
#[rtype(result = "Vec<Lifecycle>")]
struct Heard;

impl Handler<Heard> for Ear {
    type Result = MessageResult<Heard>;

    fn handle(&mut self, _: Heard, _: &mut Context<Self>) -> Self::Result {
        MessageResult(std::mem::take(&mut self.0))
    }
}

#[actix::test]
async fn past_its_budget_a_partition_fails_alone_and_can_be_restarted_by_hand() {
    let broker = broker().await;
    // Nothing lingers: each batch takes a `WakePartition`.
    let config = config(&broker).set("linger.ms", 0);
    let producer = start(config.set("forebay.restart.max", 2));
    let ear = Ear(Vec::new()).start();
    producer.subscribe(ear.clone().recipient());
    let send = |partition| producer.send(Record::to("t").partition(partition).value("x"));
    send(0).await.expect("accepted").await.expect("acked");

    faults::plan("PartitionActor:WakePartition", 1, u32::MAX);
    let undelivered = loop {
        // Within its budget it restarts, and the record goes out all the same.
        if let Err(undelivered) = send(0).await.expect("accepted").await {
            break undelivered;
        }
    };
    let Unconfirmed::NotWritten(Reason::Failed {
        component: part,
        why,
        ..
    }) = &undelivered
    else {
        panic!("{undelivered:?}");
    };
    assert_eq!(part.to_string(), "the partition t-0");
    assert!(why.contains("injected"), "{why}");
    assert_eq!(faults::stop(), [3]);
    let down = send(0).await.expect_err("refused");
    assert!(matches!(
        down,
        SendError::PartitionDown { partition: 0, .. }
    ));
    send(1)
        .await
        .expect("accepted")
        .await
        .expect("others do not notice");

    let part = Component::Partition(TopicPartition::new("t", 0));
    producer.restart(part.clone());
    producer.figures().await.expect("behind the restart");
    send(0)
        .await
        .expect("accepted")
        .await
        .expect("it works again");
    let heard = ear.send(Heard).await.expect("alive");
    let events: Vec<_> = heard
        .into_iter()
        .filter(|it| it.component == part)
        .map(|it| it.event)
        .collect();
    let restarted = |event: &&LifecycleEvent| matches!(event, LifecycleEvent::Restarted { .. });
    assert_eq!(events.iter().filter(restarted).count(), 2, "{events:?}");
    assert!(
        events
            .iter()
            .any(|event| matches!(event, LifecycleEvent::Failed { .. }))
    );
    assert_eq!(events.last(), Some(&LifecycleEvent::Recovered));
    producer
        .close(Duration::from_secs(5))
        .await
        .expect("closed in time");
}

#[actix::test]
async fn without_its_pool_the_producer_ends_and_says_so() {
    let broker = broker().await;
    let producer = start(config(&broker).set("forebay.restart.max", 0));
    let send = || producer.send(Record::to("t").partition(0).value(vec![0; 200]));
    send().await.expect("accepted").await.expect("acked");
    faults::plan("PoolActor:LeaseMemory", 1, u32::MAX);
    let mut receipts = Vec::new();
    let refused = loop {
        match send().await {
            Ok(receipt) => receipts.push(receipt),
            Err(refused) => break refused,
        }
        assert!(receipts.len() < 100, "it goes on without its pool");
    };
    faults::stop();
    assert!(matches!(refused, SendError::Closed), "{refused:?}");
    for receipt in receipts {
        let _ = receipt.await; // acked or not: it has an outcome
    }
    let closed = producer.close(Duration::from_secs(5)).await;
    assert_eq!(closed, Err(CloseError::Gone));
}

#[actix::test]
async fn a_part_that_cannot_stop_panicking_is_given_up_once() {
    let broker = broker().await;
    let producer = start(config(&broker).set("forebay.restart.max", 1));
    let ear = Ear(Vec::new()).start();
    producer.subscribe(ear.clone().recipient());
    let send = || producer.send(Record::to("t").partition(0).value("x"));
    send().await.expect("accepted").await.expect("acked");
    faults::plan("PartitionActor:*", 1, u32::MAX);
    let undelivered = send().await.expect("accepted").await;
    assert!(undelivered.is_err());
    for _ in 0..10 {
        // All three have fallen for good, and each has been told of once.
        producer.figures().await.expect("the runtime lives");
    }
    let heard = ear.send(Heard).await.expect("alive");
    let failed = |it: &&Lifecycle| matches!(it.event, LifecycleEvent::Failed { .. });
    assert_eq!(heard.iter().filter(failed).count(), 3, "{heard:?}");
    let struck = faults::stop()[0];
    assert!(struck < 100, "{struck} panics");
    // By hand all is well again, with a budget as at the beginning.
    let part = Component::Partition(TopicPartition::new("t", 0));
    producer.restart(part.clone());
    producer.figures().await.expect("behind the restart");
    faults::plan("PartitionActor:Take", 1, 1);
    send().await.expect("accepted").await.expect("acked");
    assert_eq!(faults::stop(), [1]);
    let closed = producer.close(Duration::from_secs(5)).await;
    closed.expect("closed in time");
}

#[actix::test]
async fn who_falls_when_told_that_it_waits_for_its_turn_gets_it() {
    let broker = broker().await;
    let one_batch_at_a_time = config(&broker)
        .set("max.in.flight.requests.per.connection", 1)
        .set("max.request.size", 256);
    let producer = start(one_batch_at_a_time);
    let send_to_each = async || {
        let mut receipts = Vec::new();
        for partition in 0..3 {
            let record = Record::to("t").partition(partition).value(vec![0; 150]);
            receipts.push(producer.send(record).await.expect("accepted"));
        }
        for receipt in receipts {
            receipt.await.expect("acked");
        }
    };
    send_to_each().await;
    faults::plan("PartitionActor:QueueState", 1, 1);
    // Two of the three have one broker.
    broker.on(ApiKey::Produce, |_| Control::Delay(Duration::from_secs(1)));
    send_to_each().await;
    assert_eq!(faults::stop(), [1]);
}

#[actix::test]
async fn who_waits_for_memory_in_vain_is_told_though_the_pool_falls() {
    let broker = broker().await;
    let producer = start(config(&broker).set("max.block.ms", 50));
    let send = || producer.send(Record::to("t").partition(0).value(vec![0; 200]));
    send().await.expect("accepted").await.expect("acked");
    broker.on(ApiKey::Produce, |_| Control::Silence);
    faults::plan("PoolActor:Tick", 1, 3);
    let refused = loop {
        match send().await {
            Ok(receipt) => drop(receipt),
            Err(refused) => break refused,
        }
    };
    assert!(matches!(refused, SendError::NoMemory { .. }), "{refused:?}");
    assert_eq!(faults::stop(), [3]);
    let closed = producer.close(Duration::ZERO).await;
    assert!(matches!(closed, Err(CloseError::TimedOut(_))), "{closed:?}");
}

struct Told(usize);

impl Actor for Told {
    type Context = Context<Self>;
}

impl Handler<BatchOutcome> for Told {
    type Result = ();

    fn handle(&mut self, outcome: BatchOutcome, _: &mut Context<Self>) {
        self.0 += outcome.count as usize;
    }
}

#[derive(Message)]
#[rtype(result = "usize")]
struct HowMany;

impl Handler<HowMany> for Told {
    type Result = usize;

    fn handle(&mut self, _: HowMany, _: &mut Context<Self>) -> usize {
        self.0
    }
}

#[actix::test]
async fn who_is_told_by_messages_is_told_all_though_the_delivery_falls() {
    for fallen in ["DeliveryActor:Spawned", "DeliveryActor:Finished"] {
        let broker = broker().await;
        let producer = start(config(&broker));
        let told = Told(0).start();
        let telling = producer.outcomes_to(told.clone().recipient());
        faults::plan(fallen, 2, 5);
        for i in 0..40 {
            let record = Record::to("t").partition(i % 3).value(vec![0; 200]);
            drop(telling.send(record).await.expect("accepted"));
        }
        telling.flush().await.expect("the runtime lives");
        while told.send(HowMany).await.expect("alive") < 40 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(faults::stop(), [5]);
        drop(telling);
        let closed = producer.close(Duration::from_secs(5)).await;
        closed.expect("closed in time");
    }
}

#[actix::test]
async fn the_last_handle_ends_the_runtime_though_the_news_of_it_is_lost() {
    let broker = broker().await;
    let producer = start(patient(&broker));
    let receipt = producer.send(Record::to("t").partition(0).value("x")).await;
    faults::plan("RuntimeActor:LastHandleDropped", 1, 1);
    drop(producer);
    receipt.expect("accepted").await.expect("acked");
    assert_eq!(faults::stop(), [1]);
}

#[actix::test]
async fn a_flush_that_a_partition_missed_is_made_again() {
    let broker = broker().await;
    let producer = start(patient(&broker));
    for _ in 0..5 {
        let sent = producer.send(Record::to("t").partition(0).value("x")).await;
        faults::plan("PartitionActor:FlushPartition", 1, 3);
        producer.flush().await.expect("the runtime lives");
        assert_eq!(faults::stop(), [3]);
        let outcome = sent.expect("accepted").outcome();
        assert!(matches!(outcome, Some(Ok(_))), "{outcome:?}");
    }
    let closed = producer.close(Duration::from_secs(5)).await;
    closed.expect("closed in time");
}

/// By messages, as an actor of the application does it.
#[actix::test]
async fn parts_are_retired_and_restarted_by_message() {
    let broker = broker().await;
    let producer = start(patient(&broker));
    let ear = Ear(Vec::new()).start();
    producer.subscribe(ear.clone().recipient());
    let supervision = producer.supervision();
    let send = |partition| producer.send(Record::to("t").partition(partition).value("x"));
    let ask = async |asked| {
        supervision.send(asked).await.expect("the runtime lives");
        producer.figures().await.expect("behind it");
    };

    let held = send(0).await.expect("accepted");
    let part = Component::Partition(TopicPartition::new("t", 0));
    ask(Supervise::Retire(part.clone())).await;
    let refused = send(0).await.expect_err("refused");
    assert!(matches!(
        refused,
        SendError::PartitionDown { partition: 0, .. }
    ));
    held.await.expect("what it held is delivered");
    ask(Supervise::Restart(part.clone())).await;
    let again = send(0).await.expect("accepted");
    producer.flush().await.expect("flushed");
    again.await.expect("acked");

    let figures = producer.figures().await.expect("the runtime lives");
    let leader = figures.partitions[1].leader.expect("a leader");
    let sender = Component::Sender(leader);
    ask(Supervise::Retire(sender.clone())).await;
    let waits = send(1).await.expect("accepted");
    ask(Supervise::Restart(sender.clone())).await;
    producer.flush().await.expect("flushed");
    waits.await.expect("acked");

    // Of what there is not, or cannot be done without, nothing comes.
    ask(Supervise::Retire(Component::Partition(
        TopicPartition::new("t", 99),
    )))
    .await;
    ask(Supervise::Retire(Component::Sender(99))).await;
    ask(Supervise::Retire(Component::Pool)).await;
    let heard = ear.send(Heard).await.expect("alive");
    let by_hand = |it: &Lifecycle| {
        matches!(
            it.event,
            LifecycleEvent::Retired | LifecycleEvent::Recovered
        )
    };
    let by_hand = heard.into_iter().filter(by_hand);
    let by_hand: Vec<_> = by_hand.map(|it| (it.component, it.event)).collect();
    let expected = [
        (part.clone(), LifecycleEvent::Retired),
        (part, LifecycleEvent::Recovered),
        (sender.clone(), LifecycleEvent::Retired),
        (sender, LifecycleEvent::Recovered),
    ];
    assert_eq!(by_hand, expected);
    let closed = producer.close(Duration::from_secs(5)).await;
    closed.expect("closed in time");
    ask_after_the_end(&producer);
}

/// A producer that has ended hears nothing, and nothing panics.
fn ask_after_the_end(producer: &Producer) {
    producer.restart(Component::Pool);
    producer.retire(Component::Sender(0));
}

/// No broker here writes markers, so the second producer sends nothing.
#[actix::test]
async fn what_is_accepted_is_in_the_spool_though_its_actor_panics() {
    hush();
    for handler in [
        "OpenSlot",
        "SlotTaken",
        "WaitForSpace",
        "SpaceChanged",
        "Tick",
        "DiskTold",
        "Resync",
        "Finished",
        "Spawned",
        "Timer",
    ] {
        let broker = broker().await;
        let dir = tempfile::tempdir().expect("a directory");
        let spool = dir.path().join("spool");
        let spooled = || {
            config(&broker)
                .set("delivery.timeout.ms", 60_000)
                .set("buffer.memory", 1 << 20)
                .set("forebay.spool.dir", spool.to_string_lossy())
                .set("forebay.spool.segment.bytes", 2 << 20)
        };
        let producer = start(spooled());
        faults::plan(&format!("SpoolActor:{handler}"), 2, 2);
        if handler == "Resync" {
            faults::plan("SpoolActor:SpaceChanged", 2, 1);
        }
        let mut receipts = Vec::new();
        for number in 0..300 {
            let record = Record::to("t").partition(number % 3).value(vec![7; 10_000]);
            let sent = tokio::time::timeout(Duration::from_secs(20), producer.send(record)).await;
            receipts.push(sent.expect("it does not hang").expect("accepted"));
        }
        let _ = faults::stop();
        let _ = producer.close(Duration::ZERO).await;
        let outcomes: Vec<_> = receipts.iter().map(|receipt| receipt.outcome()).collect();
        let acked = outcomes
            .iter()
            .filter(|it| matches!(it, Some(Ok(_))))
            .count();
        let is_kept = |it: &&Option<Outcome>| matches!(it, Some(Err(Unconfirmed::Kept(_))));
        let kept = outcomes.iter().filter(is_kept).count();
        assert_eq!(acked + kept, 300, "{handler}: {outcomes:?}");
        // It can be opened again, and what is not acked is there.
        let producer = start(spooled());
        let closed = producer.close(Duration::ZERO).await;
        let text = format!("{closed:?}");
        assert!(
            text.contains(&format!("kept: {kept}")),
            "{handler}: {kept}, {text}"
        );
    }
}

/// Who asks for a source asks again. It is not lent to one who never got it.
#[actix::test]
async fn a_source_is_lent_though_the_spools_actor_panics() {
    hush();
    let broker = broker().await;
    let handlers = ["OpenSource", "ProgressOf", "Finished", "Spawned"];
    let both = ["process", "machine"].map(|durability| handlers.map(|it| (durability, it)));
    for (durability, handler) in both.into_iter().flatten() {
        let dir = tempfile::tempdir().expect("a directory");
        let producer = start(
            config(&broker)
                .set("forebay.spool.dir", dir.path().to_string_lossy())
                .set("forebay.spool.durability", durability),
        );
        faults::plan(&format!("SpoolActor:{handler}"), 1, 2);
        for position in 0..3 {
            let before = producer.accepted_up_to("a").await.expect("it answers");
            let mut source = producer.source("a").await.expect("nobody has it");
            assert_eq!(source.accepted_up_to(), before, "{durability} {handler}");
            let record = Record::to("t").value("a line");
            drop(source.send(record, position).await.expect("accepted"));
            let used = producer.source("a").await.expect_err("somebody has it");
            assert!(matches!(used, SourceError::InUse { .. }), "{used}");
            let seen = producer.accepted_up_to("a").await.expect("it answers");
            assert_eq!(seen, Some(position));
        }
        let _ = faults::stop();
        let _ = producer.close(Duration::ZERO).await;
    }
}
