//! A spool's directory that is used twice at once: whoever came first is fenced, and ends.

use std::fs;
use std::path::Path;
use std::time::Duration;

use forebay::{CloseError, Producer, Reason, Receipt, Record, Unconfirmed};
use forebay_kafka_cluster as kafka;

use crate::doubt::runtime;
use crate::spooling::{assert_numbers, directory, producer};

/// What is sent waits for `flush`.
const LATER: &str = "linger.ms=600000 delivery.timeout.ms=700000";

async fn send(producer: &Producer, topic: &str, number: u64) -> Receipt {
    let record = Record::to(topic.to_owned()).value(number.to_string());
    producer.send(record).await.expect("accepted")
}

/// Copies what is in a spool while its producer is alive.
fn copy(from: &Path, to: &Path) {
    let (from, to) = (from.join("spool"), to.join("spool"));
    fs::create_dir_all(&to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        if file.file_type().unwrap().is_file() {
            fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
    }
}

#[test]
fn a_producer_whose_spool_another_took_over_ends_and_takes_nothing_back() {
    if !kafka::require_or_skip("a_producer_whose_spool_another_took_over_ends") {
        return;
    }
    let cluster = &*kafka::shared();
    let topic = "taken-over";
    cluster.create_topic(topic, 1, 3, &[]).unwrap();
    let (first, second, servers) = (
        directory("fenced-first"),
        directory("fenced-second"),
        cluster.bootstrap(),
    );
    runtime().block_on(async {
        let former = producer(&first, &servers, LATER);
        let acked = send(&former, topic, 0).await;
        former.flush().await.expect("flushed");
        acked.await.expect("acked");
        let mut waiting = Vec::new();
        for number in 1..10 {
            waiting.push(send(&former, topic, number).await);
        }
        copy(&first, &second);

        // It is told of what the former one had accepted, and goes on.
        let next = producer(&second, &servers, "");
        next.resumed().await.expect("delivered");
        for number in 10..20 {
            let sent = send(&next, topic, number).await;
            sent.await.expect("acked");
        }
        // The former one finds out, and ends.
        let flushed = former.flush().await;
        assert_eq!(flushed.map(|it| it.kept), Ok(9));
        for receipt in waiting {
            match receipt.await {
                Err(Unconfirmed::Kept(Reason::Fenced { .. })) => {}
                other => panic!("{other:?}"),
            }
        }
        let closed = former.close(Duration::from_secs(30)).await;
        assert_eq!(closed, Err(CloseError::Fenced));
        // It has taken nothing back.
        for number in 20..30 {
            let sent = send(&next, topic, number).await;
            sent.await.expect("acked");
        }
        next.close(Duration::from_secs(30)).await.expect("closed");
    });
    assert_numbers(cluster, topic, 1, 30);
    for dir in [first, second] {
        fs::remove_dir_all(dir).unwrap();
    }
}
