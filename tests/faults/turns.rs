//! Records that are sent by messages to a partition's actor.

use forebay::{Component, SendError, SendRecord, TopicPartition};
use futures_util::future::join_all;
use krafka::testing::{ApiKey, Control};

use crate::*;

/// A large one has to ask for memory, and a small one finds it on the shelf.
#[tokio::test]
async fn records_sent_by_messages_keep_the_order_of_the_mailbox() {
    let broker = broker().await;
    let producer = producer(&broker, &[("batch.size", "1024")]);
    let partition = producer.partition_actor("t", 0).await.expect("an actor");
    let (mut answers, mut expected) = (Vec::new(), Vec::new());
    for i in 0..20 {
        let value = format!("{i:<width$}", width = [3_000, 5][i % 2]);
        answers.push(partition.send(SendRecord::new(to(&value))));
        expected.push(i.to_string());
    }
    for receipt in within(join_all(answers)).await {
        acked(receipt.expect("alive").expect("accepted")).await;
    }
    let log = log(&broker);
    let log: Vec<_> = log.iter().map(|value| value.trim_end()).collect();
    assert_eq!(log, expected);
    close(producer).await;
}

const KEYS: &[(&str, &str)] = &[
    ("batch.size", "1024"),
    ("buffer.memory", "16384"),
    ("delivery.timeout.ms", "200000"),
];

/// A producer whose broker answers no produce request, and whose memory is used up.
async fn full(max_block: &str) -> (FakeBroker, Producer) {
    let broker = broker().await;
    let keys = [KEYS, &[("max.block.ms", max_block)]].concat();
    let producer = producer(&broker, &keys);
    producer.partitions_for("t").await.expect("a topic");
    broker.on(ApiKey::Produce, |_| Control::Silence);
    let size = 15_000;
    drop(send(&producer, "x".repeat(size)).await);
    (broker, producer)
}

fn large(value: char) -> SendRecord {
    SendRecord::new(to(value.to_string().repeat(5_000)))
}

fn small(value: char) -> SendRecord {
    SendRecord::new(to(value))
}

/// What waits behind a record that is refused goes on, and each waits for `max.block.ms` from when
/// it came, not from when its turn came.
#[tokio::test]
async fn a_record_that_is_refused_holds_up_none_behind_it() {
    let (_broker, producer) = full("1000").await;
    let partition = producer.partition_actor("t", 0).await.expect("an actor");
    let began = tokio::time::Instant::now();
    let waiting =
        ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'].map(|value| partition.send(large(value)));
    let last = partition.send(small('z'));
    for refused in within(join_all(waiting)).await {
        let refused = refused.expect("alive");
        assert!(
            matches!(refused, Err(SendError::NoMemory { .. })),
            "{refused:?}"
        );
    }
    assert!(
        began.elapsed() < Duration::from_secs(6),
        "{:?}",
        began.elapsed()
    );
    let accepted = within(last).await.expect("alive");
    assert!(accepted.is_ok(), "{accepted:?}");
    let _ = within(producer.close(Duration::ZERO)).await;
}

#[tokio::test]
async fn whoever_retires_a_partition_has_all_that_wait_answered() {
    let (_broker, producer) = full("100000").await;
    let partition = producer.partition_actor("t", 0).await.expect("an actor");
    let waiting = ['a', 'b', 'c'].map(|value| partition.send(large(value)));
    producer.retire(Component::Partition(TopicPartition::new("t", 0)));
    for refused in within(join_all(waiting)).await {
        let refused = refused.expect("alive");
        assert!(
            matches!(refused, Err(SendError::PartitionDown { .. })),
            "{refused:?}"
        );
    }
    // It works again, in order.
    producer.restart(Component::Partition(TopicPartition::new("t", 0)));
    let accepted = within(partition.send(small('d'))).await.expect("alive");
    assert!(accepted.is_ok(), "{accepted:?}");
    let _ = within(producer.close(Duration::ZERO)).await;
}

#[tokio::test]
async fn closing_answers_all_that_wait() {
    let (_broker, producer) = full("100000").await;
    let partition = producer.partition_actor("t", 0).await.expect("an actor");
    let waiting = ['a', 'b', 'c'].map(|value| partition.send(large(value)));
    producer.figures().await.expect("asked behind them");
    let waiting = tokio::spawn(join_all(waiting));
    let _ = within(producer.close(Duration::ZERO)).await;
    for refused in within(waiting).await.expect("no panic") {
        let refused = refused.expect("answered");
        assert!(matches!(refused, Err(SendError::Closed)), "{refused:?}");
    }
}
