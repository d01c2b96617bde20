//! A commit whose answer is missed before another instance takes the `transactional.id`: only the log says
//! what became of it.

use std::time::Duration;

use forebay::transaction::{Cause, NotCommitted, TransactionError};
use forebay::{Config, Reason, Record, TransactionalProducer, Unconfirmed};
use forebay_kafka_cluster::{self as kafka, Cluster, Isolation, Proxies, Release, Rules};
use tokio::time::sleep;

use super::{close, producer, seen};
use crate::doubt::{LOST_ANSWERS, PROXIED, one_broker};

/// The commit never arrives.
const LOST_REQUESTS: Rules = Rules {
    hold_requests: true,
    hold_answers: false,
    ..LOST_ANSWERS
};

/// Has a commit held up on its way there or back until another instance has taken the id.
async fn fenced_in_doubt(cluster: &Cluster, proxies: &Proxies, topic: &str, held: Rules) {
    let arrives = held == LOST_ANSWERS;
    cluster.create_topic(topic, 2, 1, &[]).unwrap();
    let config = Config::builder()
        .bootstrap_servers(cluster.bootstrap_through(PROXIED))
        .set("transactional.id", topic)
        .set("linger.ms", 1)
        .build();
    let first = TransactionalProducer::start(config.unwrap()).expect("it starts");
    let transaction = first.begin().await.expect("begun");
    let mut receipts = Vec::new();
    for partition in 0..2 {
        let record = Record::to(topic).partition(partition);
        let record = record.value(format!("first {partition}"));
        let receipt = transaction.send(record).await.expect("accepted");
        receipt.clone().await.expect("appended");
        receipts.push(receipt);
    }
    let [proxy] = proxies.all() else {
        panic!("one broker");
    };
    proxy.set(held);
    let committing = tokio::spawn(transaction.commit());
    sleep(Duration::from_secs(2)).await;
    let second = producer(cluster, topic);
    let transaction = second.begin().await.expect("begun");
    proxy.cut();
    // What is held back goes on as soon as the rules allow it, so the cut has to be over by then.
    sleep(Duration::from_secs(1)).await;
    let sent = transaction.send(Record::to(topic).partition(0).value("second"));
    sent.await.expect("accepted").await.expect("appended");
    proxy.set(Rules::default());
    let mut committed = committing.await.expect("no panic");
    while let Err(NotCommitted::InDoubt(it)) = committed {
        committed = it.resolve().await;
    }
    match (&committed, arrives) {
        (Ok(()), true) => {}
        (Err(NotCommitted::Aborted(Cause::Refused(TransactionError::Refused { .. }))), false) => {}
        _ => panic!("{committed:?} though it arrives: {arrives}"),
    }
    for receipt in receipts {
        match (receipt.ended().await, arrives) {
            (Ok(_), true) => {}
            (Err(Unconfirmed::Aborted(Reason::TransactionAborted { .. })), false) => {}
            (outcome, _) => panic!("{outcome:?} though it arrives: {arrives}"),
        }
    }
    let begun = first.begin().await;
    let fenced = matches!(begun, Err(TransactionError::Fenced { .. }));
    assert!(fenced, "{begun:?}");
    transaction.commit().await.expect("committed");
    close(first).await;
    close(second).await;
    let mut read = seen(cluster, topic, Isolation::ReadCommitted);
    read.sort();
    match arrives {
        true => assert_eq!(read, ["first 0", "first 1", "second"]),
        false => assert_eq!(read, ["second"]),
    }
}

async fn in_doubt(release: Release) {
    let cluster = &Cluster::start(one_broker().release(release)).expect("a cluster");
    let proxies = &Proxies::start(cluster, PROXIED).expect("a proxy");
    fenced_in_doubt(cluster, proxies, "arrived", LOST_ANSWERS).await;
    fenced_in_doubt(cluster, proxies, "never-arrived", LOST_REQUESTS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_tells_what_became_of_a_commit() {
    if kafka::require_or_skip("the_log_tells_what_became_of_a_commit") {
        in_doubt(Release::default()).await;
    }
}

/// Kafka 3.9 has not finalized the second protocol.
#[tokio::test(flavor = "multi_thread")]
async fn the_log_tells_what_became_of_a_commit_in_the_first_protocol() {
    if kafka::require_or_skip("the_log_tells_what_became_of_a_commit_in_the_first_protocol") {
        in_doubt(Release::of("3.9.1")).await;
    }
}
