//! Flush, close, and handles that are dropped.

use forebay::{CloseError, Reason, SendError};
use krafka::testing::{ApiKey, Control};

use crate::*;

/// Nothing leaves by itself.
const PATIENT: &[(&str, &str)] = &[("linger.ms", "100000"), ("delivery.timeout.ms", "200000")];

#[tokio::test]
async fn flush_leaves_nothing_without_an_outcome() {
    let broker = broker().await;
    let producer = producer(&broker, PATIENT);
    for round in 0..3 {
        let receipts = send_all(&producer, 10 * round..10 * (round + 1)).await;
        assert!(receipts.iter().all(|receipt| receipt.outcome().is_none()));
        within(producer.flush()).await.expect("flushed");
        assert!(receipts.iter().all(|receipt| receipt.outcome().is_some()));
    }
    within(producer.flush()).await.expect("nothing to flush");
    assert_eq!(log(&broker), numbers(30));
    close(producer).await;
}

#[tokio::test]
async fn flush_ends_when_the_delivery_timeout_does() {
    let (_broker, producer, receipts) = ten_that_expire().await;
    within(producer.flush()).await.expect("flushed");
    assert!(receipts.iter().all(|receipt| receipt.outcome().is_some()));
    close(producer).await;
}

#[tokio::test]
async fn close_delivers_what_was_accepted() {
    let broker = broker().await;
    let producer = producer(&broker, PATIENT);
    let receipts = send_all(&producer, 0..100).await;
    close(producer).await;
    let acked = |receipt: &Receipt| matches!(receipt.outcome(), Some(Ok(_)));
    assert!(receipts.iter().all(acked), "before close returns");
    assert_eq!(log(&broker), numbers(100));
}

/// A record that a broker has which does not answer any more.
async fn lent(broker: &FakeBroker, producer: &Producer) -> Receipt {
    acked(send(producer, 0).await).await;
    broker.on(ApiKey::Produce, |_| Control::Silence);
    let lent = send(producer, 1).await;
    assert!(broker.wait_for_requests(ApiKey::Produce, 2, PATIENCE).await);
    lent
}

#[tokio::test]
async fn close_with_a_dead_broker_settles_everything_in_time() {
    let broker = broker().await;
    let producer = producer(&broker, &[]);
    let lent = lent(&broker, &producer).await;
    let waiting = send_all(&producer, 2..5).await;
    let closed = within(producer.close(Duration::from_millis(100))).await;
    let Err(CloseError::TimedOut(outcomes)) = closed else {
        panic!("{closed:?}");
    };
    assert_eq!((outcomes.acked, outcomes.total()), (0, 4));
    assert!(outcomes.unknown >= 1, "{outcomes}");
    assert!(is_unknown(&lent.outcome().expect("an outcome")));
    for receipt in waiting {
        match receipt.outcome() {
            Some(Err(Unconfirmed::NotWritten(Reason::Closed { .. }))) => {}
            // It was behind the first one in the same window.
            Some(outcome) => assert!(is_unknown(&outcome), "{outcome:?}"),
            None => panic!("no outcome"),
        }
    }
}

#[tokio::test]
async fn close_refuses_those_who_wait_for_a_topic_or_for_memory() {
    let broker = broker().await;
    broker.create_topic("small", 1);
    let keys = [("batch.size", "1024"), ("buffer.memory", "8192")];
    let producer = producer(&broker, &keys);
    acked(send(&producer, 0).await).await;
    broker.on(ApiKey::Produce, |_| Control::Silence);
    broker.on(ApiKey::Metadata, |_| Control::Silence);
    let for_a_topic = tokio::spawn({
        let producer = producer.clone();
        async move { producer.send(Record::to("small").value("x")).await }
    });
    let filling = tokio::spawn({
        let producer = producer.clone();
        async move {
            loop {
                if let Err(refused) = producer.send(to("x".repeat(900))).await {
                    return refused;
                }
            }
        }
    });
    let waiting = async {
        while producer.figures().await.expect("figures").pool.waiting == 0 {
            tokio::task::yield_now().await;
        }
    };
    within(waiting).await;
    let closed = within(producer.close(Duration::from_millis(50))).await;
    assert!(matches!(closed, Err(CloseError::TimedOut(_))), "{closed:?}");
    let refused = within(for_a_topic).await.expect("no panic");
    assert!(matches!(refused, Err(SendError::Closed)), "{refused:?}");
    let refused = within(filling).await.expect("no panic");
    assert!(matches!(refused, SendError::Closed), "{refused:?}");
}

#[tokio::test]
async fn what_other_threads_had_accepted_before_the_close_has_its_outcome() {
    for _ in 0..10 {
        let broker = broker().await;
        let producer = producer(&broker, &[]);
        producer.partitions_for("t").await.expect("a topic");
        let senders: Vec<_> = (0..3)
            .map(|_| {
                let producer = producer.clone();
                std::thread::spawn(move || {
                    let sending = async {
                        let mut accepted = Vec::new();
                        while let Ok(receipt) = producer.send(to("x")).await {
                            accepted.push(receipt);
                        }
                        accepted
                    };
                    block_on(sending)
                })
            })
            .collect();
        assert!(broker.wait_for_requests(ApiKey::Produce, 3, PATIENCE).await);
        close(producer).await;
        let mut accepted = 0;
        for sender in senders {
            for receipt in sender.join().expect("no panic") {
                assert!(matches!(receipt.outcome(), Some(Ok(_))));
                accepted += 1;
            }
        }
        assert_eq!(log(&broker).len(), accepted);
    }
}

#[tokio::test]
async fn the_last_handle_drains() {
    let broker = broker().await;
    let producer = producer(&broker, PATIENT);
    let receipts = send_all(&producer, 0..20).await;
    let clone = producer.clone();
    drop(producer);
    acked({
        let receipt = send(&clone, 20).await;
        drop(clone);
        receipt
    })
    .await;
    all_acked(receipts).await;
    assert_eq!(log(&broker), numbers(21));
}

/// Its broker hangs, and who closed it first has much time.
#[tokio::test]
async fn a_second_close_that_has_less_time_ends_the_first_one_too() {
    let broker = broker().await;
    let producer = producer(&broker, &[]);
    let lent = lent(&broker, &producer).await;
    let first = tokio::spawn({
        let producer = producer.clone();
        async move { producer.close(10 * PATIENCE).await }
    });
    while producer.try_send(to(2)).is_ok() {
        tokio::task::yield_now().await;
    }
    // One that leaves, one that has even more time, and one that has less.
    let left = tokio::time::timeout(Duration::from_millis(10), producer.close(Duration::MAX));
    assert!(left.await.is_err());
    let closed = within(producer.close(Duration::ZERO)).await;
    assert!(matches!(closed, Err(CloseError::TimedOut(_))), "{closed:?}");
    assert!(lent.outcome().is_some());
    assert_eq!(within(first).await.expect("no panic"), closed);
}

#[tokio::test]
async fn closing_from_several_tasks_closes_once() {
    let broker = broker().await;
    let producer = producer(&broker, &[]);
    let receipt = send(&producer, 0).await;
    let closes = (0..4).map(|_| {
        let producer = producer.clone();
        async move { producer.close(PATIENCE).await }
    });
    for closed in within(futures_util::future::join_all(closes)).await {
        assert!(closed.expect("closed").all_acked());
    }
    acked(receipt).await;
}
