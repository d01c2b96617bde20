//! The life of topics: their names, and how they come, go and grow under a producer that goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use forebay::{BorrowedRecord, SendError, SendRecord, WaitsFor};
use krafka::testing::ApiKey;

use crate::scripted::{Answer, Scripted, Twist, node};
use crate::*;

/// Whatever way a name that is not legal comes in, it is refused before any broker hears of it: one
/// of more than 32,767 bytes would have it drop the connection that other new topics wait for.
#[tokio::test]
async fn a_name_that_is_not_legal_is_refused_at_once_and_harms_no_other() {
    let broker = broker().await;
    let producer = producer(&broker, &[("max.block.ms", "20000")]);
    let long = "x".repeat(32_768);
    for name in [
        "",
        ".",
        "..",
        "topic abc",
        "größen",
        "a/b",
        &long[..250],
        &long,
    ] {
        let record = || Record::to(name).value("x");
        let illegal = |refused: SendError| {
            let SendError::IllegalTopicName { topic, .. } = &refused else {
                panic!("{refused:.200}");
            };
            assert_eq!(&**topic, name);
            assert!(refused.to_string().len() < 400, "{refused}");
        };
        let other = producer.clone();
        let other = async move { other.send(to("x")).await };
        let (refused, other) =
            within(futures_util::future::join(producer.send(record()), other)).await;
        acked(other.expect("accepted")).await;
        illegal(refused.expect_err("refused"));
        illegal(producer.try_send(record()).expect_err("refused").into());
        let mut receipts = Receipts::default();
        let slice = [to("y"), record()];
        let refused = within(producer.send_slice(&slice, &mut receipts)).await;
        let refused = refused.expect_err("refused");
        assert_eq!((refused.at, receipts.len()), (1, 1));
        illegal(refused.error);
        let mut lane = producer.lane();
        let refused = within(lane.send(BorrowedRecord::to(name).value("x"))).await;
        illegal(refused.map(|_| ()).expect_err("refused"));
        illegal(
            within(producer.partitions_for(name))
                .await
                .expect_err("refused"),
        );
        let refused = within(producer.partition_actor(name, 0)).await;
        illegal(refused.map(|_| ()).expect_err("refused"));
    }
    // The message's own topic is that of its actor.
    let actor = within(producer.partition_actor("t", 0))
        .await
        .expect("an address");
    let sent = within(actor.send(SendRecord::new(Record::to(long).value("z")))).await;
    acked(sent.expect("an answer").expect("accepted")).await;
    let longest = "x".repeat(249);
    broker.create_topic(&longest, 1);
    let sent = within(producer.send(Record::to(longest.as_str()).value("x"))).await;
    acked(sent.expect("accepted")).await;
    assert!(
        broker.request_count(ApiKey::Metadata) <= 3,
        "nobody asked for the others"
    );
    close(producer).await;
}

/// Brokers come and go, and each has another number.
#[tokio::test]
async fn the_sender_of_a_broker_that_left_is_let_go_of() {
    let leaves = Scripted::start(13, Twist::default()).await;
    let (port, gone) = (leaves.port, Arc::new(AtomicBool::new(false)));
    let left = Arc::clone(&gone);
    let leads_at_first = move |_, answer: &mut Answer| {
        if let Answer::Metadata(metadata) = answer
            && !left.load(Ordering::Relaxed)
        {
            metadata.brokers.push(node(1, port));
            for topic in &mut metadata.topics {
                topic.partitions[1].leader_id = 1.into();
            }
        }
    };
    let broker = Scripted::start(13, Twist::answering(leads_at_first)).await;
    // A sender that is let go of ends with its connection, and that when it is idle.
    let keys = [
        ("metadata.max.age.ms", "50"),
        ("connections.max.idle.ms", "300"),
    ];
    let producer = Producer::start(config(&broker.servers(), &keys)).expect("a producer");
    let send = |value| within(producer.send(to(value).partition(1)));
    let senders = |count| {
        let producer = producer.clone();
        within(async move {
            while producer.figures().await.expect("figures").brokers.len() != count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
    };
    within(producer.partitions_for("t")).await.expect("known");
    for round in 0..2 {
        gone.store(false, Ordering::Relaxed);
        senders(2).await;
        acked(send(2 * round).await.expect("accepted")).await;
        assert_eq!(leaves.values(1).len(), round + 1, "it leads");
        gone.store(true, Ordering::Relaxed);
        senders(1).await;
        let closed = async {
            while leaves.producing() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        within(closed).await;
        acked(send(2 * round + 1).await.expect("accepted")).await;
    }
    assert_eq!(leaves.values(1), ["0", "2"]);
    assert_eq!(broker.values(1), ["1", "3"]);
    close(producer).await;
}

/// As `kafka-topics --alter` adds it while the producer runs: whatever way a record goes, the first
/// that names it is taken.
#[tokio::test]
async fn a_partition_that_was_added_a_moment_ago_takes_the_first_record_that_names_it() {
    let broker = broker().await;
    let producer = producer(&broker, &[]);
    acked(send(&producer, 0).await).await;
    let record = |partition| to("x").partition(partition);

    broker.add_partitions("t", 2);
    let sent = within(producer.send(record(1))).await;
    acked(sent.expect("accepted")).await;

    broker.add_partitions("t", 3);
    let mut lane = producer.lane();
    let borrowed = BorrowedRecord::to("t").partition(2).value("x");
    let sent = within(lane.send(borrowed)).await.expect("accepted");
    acked(sent.receipt()).await;

    broker.add_partitions("t", 4);
    let mut receipts = Receipts::default();
    let slice = [record(2), record(3)];
    let sent = within(producer.send_slice(&slice, &mut receipts)).await;
    sent.expect("accepted");

    broker.add_partitions("t", 5);
    let actor = within(producer.partition_actor("t", 4)).await;
    let sent = actor.expect("an address").send(SendRecord::new(to("x")));
    acked(within(sent).await.expect("an answer").expect("accepted")).await;

    broker.add_partitions("t", 6);
    let refused = producer.try_send(record(5)).expect_err("it does not wait");
    let asked_for = SendError::WouldBlock(WaitsFor::Topic);
    assert_eq!(refused.error().to_string(), asked_for.to_string());
    let tried = async {
        loop {
            match producer.try_send(record(5)) {
                Ok(receipt) => break acked(receipt).await,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    within(tried).await;
    close(producer).await;
    assert_eq!(log(&broker).len(), 7);
}

/// One broker's word is enough, and one question for all who ask.
#[tokio::test]
async fn a_partition_that_is_not_there_is_refused_by_one_answer_for_all_who_name_it() {
    let broker = broker().await;
    let producer = producer(&broker, &[("max.block.ms", "600000")]);
    acked(send(&producer, 0).await).await;
    let asked = broker.request_count(ApiKey::Metadata);
    let refused = |refused: SendError, named: i32| {
        let SendError::PartitionOutOfRange {
            partition, count, ..
        } = &refused
        else {
            panic!("{refused}");
        };
        assert_eq!((*partition, *count), (named, 1));
    };
    let sends = (1..=100).map(|partition| producer.send(to("x").partition(partition)));
    let all = within(futures_util::future::join_all(sends)).await;
    for (sent, partition) in all.into_iter().zip(1..) {
        refused(sent.expect_err("refused"), partition);
    }
    // The one that was on its way when most of them asked, and the one that they share.
    let asked = broker.request_count(ApiKey::Metadata) - asked;
    assert!((1..=2).contains(&asked), "{asked} requests");
    refused(
        within(producer.partition_actor("t", 7))
            .await
            .map(|_| ())
            .expect_err("refused"),
        7,
    );
    // A caller that does not wait hears of it when it tries again.
    let tried = async {
        loop {
            let error = SendError::from(
                producer
                    .try_send(to("x").partition(9))
                    .expect_err("refused"),
            );
            match error {
                SendError::WouldBlock(WaitsFor::Topic) => tokio::task::yield_now().await,
                denied => break denied,
            }
        }
    };
    refused(within(tried).await, 9);
    close(producer).await;
}

/// No topic will ever have it, so no broker is asked.
#[tokio::test]
async fn a_negative_partition_is_refused_before_a_broker_is_asked() {
    let broker = broker().await;
    let producer = producer(&broker, &[("max.block.ms", "600000")]);
    let negative = |refused: SendError| {
        let SendError::PartitionOutOfRange { partition: -1, .. } = &refused else {
            panic!("{refused}");
        };
    };
    for known in [false, true] {
        let asked = broker.request_count(ApiKey::Metadata);
        assert_eq!(asked > 0, known);
        let record = || to("x").partition(-1);
        let sent = within(producer.send(record())).await;
        negative(sent.expect_err("refused"));
        negative(producer.try_send(record()).expect_err("refused").into());
        let actor = within(producer.partition_actor("t", -1)).await;
        negative(actor.map(|_| ()).expect_err("refused"));
        assert_eq!(broker.request_count(ApiKey::Metadata), asked);
        acked(send(&producer, 0).await).await;
    }
    close(producer).await;
}
