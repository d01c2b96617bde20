//! Transactions on real brokers: a `read_committed` reader sees all of one, or nothing.

mod bounces;
mod doubts;
mod exactly_once;
mod fences;
mod hanging;
mod perf;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use forebay::transaction::{Cause, NotCommitted, Receipts, TransactionError};
use forebay::{
    BorrowedRecord, Outcome, Reason, Record, SendError, Transaction, TransactionalProducer,
    Unconfirmed,
};
use forebay_kafka_cluster::{self as kafka, Cluster, ClusterOptions, Isolation, Release};

use crate::produce::configured;

const PARTITIONS: i32 = 6;

fn producer(cluster: &Cluster, id: &str) -> TransactionalProducer {
    let settings = [("transactional.id", id), ("linger.ms", "1")];
    TransactionalProducer::start(configured(cluster, &settings)).expect("it starts")
}

async fn close(producer: TransactionalProducer) {
    let closed = producer.close(Duration::from_secs(30)).await;
    closed.expect("closed in time");
}

/// What a reader sees of a topic, in words.
fn seen(cluster: &Cluster, topic: &str, isolation: Isolation) -> Vec<String> {
    let records = cluster.dump(topic, isolation).expect("read");
    let values = records.into_iter().filter_map(|it| it.value);
    values
        .map(|it| String::from_utf8(it).expect("text"))
        .collect()
}

fn sorted(values: impl IntoIterator<Item = String>) -> Vec<String> {
    let values: BTreeSet<_> = values.into_iter().collect();
    values.into_iter().collect()
}

/// Sends so many records through every door of a transaction. Returns their values.
async fn send_by_every_door(
    transaction: &Transaction,
    topic: &str,
    name: &str,
    told: &Arc<Mutex<Vec<Outcome>>>,
) -> Vec<String> {
    let value = |door: &str, at: i32| format!("{name} {door} {at}");
    let record = |door: &str, at: i32| {
        Record::to(topic)
            .partition(at % PARTITIONS)
            .value(value(door, at))
    };
    let mut values = Vec::new();
    for at in 0..20 {
        let receipt = transaction
            .send(record("send", at))
            .await
            .expect("accepted");
        if at % 7 == 0 {
            receipt.await.expect("appended before the commit");
        }
        let refused = transaction.try_send(record("try", at));
        match refused {
            Ok(_receipt) => values.push(value("try", at)),
            Err(refused) => assert!(matches!(refused.error(), SendError::WouldBlock(_))),
        }
        let told = Arc::clone(told);
        let callback = move |outcome| told.lock().expect("no panic").push(outcome);
        let _receipt = transaction
            .send_with(record("callback", at), callback)
            .await
            .expect("accepted");
        values.extend(["send", "callback"].map(|door| value(door, at)));
    }
    let mut receipts = Receipts::default();
    let slice: Vec<_> = (0..50).map(|at| record("slice", at)).collect();
    transaction
        .send_slice(&slice, &mut receipts)
        .await
        .expect("accepted");
    let mut lane = transaction.lane();
    for at in 0..50 {
        let text = value("lane", at);
        let record = BorrowedRecord::to(topic)
            .partition(at % PARTITIONS)
            .value(&text);
        receipts.push(lane.send(record).await.expect("accepted"));
        let actor = transaction.handle().partition_actor(topic, 3).await;
        let message = transaction
            .handle()
            .message(Record::to("any").value(value("message", at)));
        let sent = actor.expect("known").send(message).await.expect("alive");
        let _receipt = sent.expect("accepted");
    }
    for door in ["slice", "lane", "message"] {
        values.extend((0..50).map(|at| value(door, at)));
    }
    assert!(transaction.flush().await.expect("flushed").all_acked());
    while let Some(appended) = receipts.next().await {
        appended.expect("appended");
    }
    values
}

async fn all_or_nothing(cluster: &Cluster, topic: &str, id: &str) {
    let producer = producer(cluster, id);
    let mut committed = Vec::new();
    let mut sent = Vec::new();
    for at in 0..12 {
        let transaction = producer.begin().await.expect("begun");
        let told = Arc::default();
        let name = format!("t{at}");
        let values = send_by_every_door(&transaction, topic, &name, &told).await;
        let (handle, commits) = (transaction.handle(), at % 3 != 1);
        let last = Record::to(topic).value(format!("t{at} last"));
        let receipt = transaction.send(last).await.expect("accepted");
        assert_eq!(receipt.outcome(), None, "it has not ended");
        sent.extend(values.iter().cloned().chain([format!("t{at} last")]));
        match commits {
            true => {
                transaction.commit().await.expect("committed");
                committed.extend(values.into_iter().chain([format!("t{at} last")]));
            }
            false => transaction.abort().await,
        }
        let outcome = receipt.ended().await;
        match (&outcome, commits) {
            (Ok(acked), true) => assert!(acked.offset.is_some()),
            (Err(Unconfirmed::Aborted(_) | Unconfirmed::NotWritten(_)), false) => {}
            _ => panic!("{outcome:?} though it commits: {commits}"),
        }
        let refused = handle
            .try_send(Record::to(topic))
            .expect_err("it has ended");
        let ended = matches!(refused.error(), SendError::TransactionEnded { .. });
        assert!(ended, "{:?}", refused.error());
        for _ in 0..100 {
            if told.lock().expect("no panic").len() == 20 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let told = told.lock().expect("no panic");
        assert_eq!(told.len(), 20, "each callback is called at the end");
        assert!(told.iter().all(|it| it.is_ok() == commits), "{told:?}");
    }
    close(producer).await;
    let read = seen(cluster, topic, Isolation::ReadCommitted);
    assert_eq!(read.len(), committed.len(), "nothing twice");
    assert_eq!(sorted(read), sorted(committed));
    let all = seen(cluster, topic, Isolation::ReadUncommitted);
    let known: BTreeSet<_> = sent.into_iter().collect();
    assert!(all.iter().all(|value| known.contains(value)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_of_what_is_committed_sees_all_or_nothing() {
    if !kafka::require_or_skip("a_reader_of_what_is_committed_sees_all_or_nothing") {
        return;
    }
    let cluster = &*kafka::shared();
    let topic = "all-or-nothing";
    cluster.create_topic(topic, PARTITIONS, 3, &[]).unwrap();
    all_or_nothing(cluster, topic, "all-or-nothing").await;
}

/// Kafka 3.9 has not finalized the second protocol.
#[tokio::test(flavor = "multi_thread")]
async fn so_it_does_with_the_first_protocol() {
    if !kafka::require_or_skip("so_it_does_with_the_first_protocol") {
        return;
    }
    let options = ClusterOptions::default().release(Release::of("3.9.1"));
    let cluster = &Cluster::start(options).unwrap();
    let topic = "first-protocol";
    cluster.create_topic(topic, PARTITIONS, 3, &[]).unwrap();
    all_or_nothing(cluster, topic, "first-protocol").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_is_dropped_is_aborted_and_the_next_begins() {
    if !kafka::require_or_skip("a_transaction_that_is_dropped_is_aborted_and_the_next_begins") {
        return;
    }
    let cluster = &*kafka::shared();
    let topic = "dropped";
    cluster.create_topic(topic, PARTITIONS, 3, &[]).unwrap();
    let producer = producer(cluster, topic);
    let transaction = producer.begin().await.expect("begun");
    let receipt = transaction.send(Record::to(topic).value("dropped")).await;
    let receipt = receipt.expect("accepted");
    receipt.clone().await.expect("appended");
    drop(transaction);
    assert!(matches!(
        receipt.ended().await,
        Err(Unconfirmed::Aborted(_))
    ));
    let transaction = producer.begin().await.expect("begun");
    let panics = tokio::spawn(async move {
        let sent = transaction.send(Record::to(topic).value("lost")).await;
        sent.expect("accepted").await.expect("appended");
        panic!("expected");
    });
    panics.await.expect_err("it panicked");
    let transaction = producer.begin().await.expect("begun");
    let _receipt = transaction.send(Record::to(topic).value("kept")).await;
    transaction.commit().await.expect("committed");
    close(producer).await;
    assert_eq!(seen(cluster, topic, Isolation::ReadCommitted), ["kept"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_instance_fences_the_older_one() {
    if !kafka::require_or_skip("a_newer_instance_fences_the_older_one") {
        return;
    }
    let cluster = &*kafka::shared();
    let topic = "fenced";
    cluster.create_topic(topic, PARTITIONS, 3, &[]).unwrap();
    let (older, newer) = (producer(cluster, topic), producer(cluster, topic));
    let open = older.begin().await.expect("begun");
    let receipt = open.send(Record::to(topic).value("older")).await;
    receipt.expect("accepted").await.expect("appended");
    let transaction = newer.begin().await.expect("begun");
    let receipt = transaction.send(Record::to(topic).value("newer")).await;
    let receipt = receipt.expect("accepted");
    let committed = open.commit().await;
    assert!(
        matches!(committed, Err(NotCommitted::Aborted(_))),
        "{committed:?}"
    );
    transaction.commit().await.expect("committed");
    receipt.ended().await.expect("acked");
    let begun = older.begin().await;
    assert!(
        matches!(begun, Err(TransactionError::Fenced { .. })),
        "{begun:?}"
    );
    close(older).await;
    newer.begin().await.expect("begun").abort().await;
    close(newer).await;
    assert_eq!(seen(cluster, topic, Isolation::ReadCommitted), ["newer"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_fails_has_the_whole_transaction_aborted() {
    if !kafka::require_or_skip("a_record_that_fails_has_the_whole_transaction_aborted") {
        return;
    }
    let cluster = &*kafka::shared();
    let (topic, strict) = ("one-fails", "takes-little");
    cluster.create_topic(topic, PARTITIONS, 3, &[]).unwrap();
    cluster
        .create_topic(strict, 1, 3, &[("max.message.bytes", "200")])
        .unwrap();
    let producer = producer(cluster, topic);
    let transaction = producer.begin().await.expect("begun");
    let good = transaction.send(Record::to(topic).value("good")).await;
    let bad = transaction
        .send(Record::to(strict).value("x".repeat(1_000)))
        .await;
    let (good, bad) = (good.expect("accepted"), bad.expect("accepted"));
    let failed = bad.clone().await.expect_err("it is too large");
    assert!(matches!(failed, Unconfirmed::NotWritten(_)), "{failed}");
    let more = transaction.send(Record::to(topic).value("more")).await;
    if let Err(refused) = more {
        assert!(
            refused.to_string().contains("MESSAGE_TOO_LARGE"),
            "{refused}"
        );
    }
    let Err(NotCommitted::Aborted(why)) = transaction.commit().await else {
        panic!("a record failed");
    };
    let Cause::Record { unconfirmed, .. } = &why else {
        panic!("{why}");
    };
    let Reason::Broker(error) = unconfirmed.reason() else {
        panic!("{why}");
    };
    assert_eq!(error.name().as_deref(), Some("MESSAGE_TOO_LARGE"), "{why}");
    assert!(matches!(good.ended().await, Err(Unconfirmed::Aborted(_))));
    let transaction = producer.begin().await.expect("begun");
    let again = transaction.send(Record::to(topic).value("again")).await;
    transaction.commit().await.expect("committed");
    again.expect("accepted").ended().await.expect("acked");
    close(producer).await;
    assert_eq!(seen(cluster, topic, Isolation::ReadCommitted), ["again"]);
}

/// A second begin waits for the end of the first, and a commit can be waited for elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn transactions_of_many_tasks_come_one_after_the_other() {
    if !kafka::require_or_skip("transactions_of_many_tasks_come_one_after_the_other") {
        return;
    }
    let cluster = &*kafka::shared();
    let topic = "many-tasks";
    cluster.create_topic(topic, PARTITIONS, 3, &[]).unwrap();
    let producer = producer(cluster, topic);
    let open = Arc::new(AtomicUsize::new(0));
    let tasks = (0..8).map(|task| {
        let (producer, open) = (producer.clone(), Arc::clone(&open));
        tokio::spawn(async move {
            for at in 0..10 {
                let transaction = producer.begin().await.expect("begun");
                assert_eq!(open.fetch_add(1, Ordering::SeqCst), 0, "two at once");
                let value = format!("{task} {at}");
                let _receipt = transaction.send(Record::to(topic).value(value)).await;
                open.fetch_sub(1, Ordering::SeqCst);
                transaction.commit().await.expect("committed");
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.expect("no panic");
    }
    close(producer).await;
    let read = seen(cluster, topic, Isolation::ReadCommitted);
    assert_eq!(read.len(), 80);
}
