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
    let broker = broker().await;
    let keys = [
        ("request.timeout.ms", "100"),
        ("delivery.timeout.ms", "200"),
    ];
    let producer = producer(&broker, &keys);
    acked(send(&producer, 0).await).await;
    broker.crash(0);
    let receipts = send_all(&producer, 0..10).await;
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

#[tokio::test]
async fn close_with_a_dead_broker_settles_everything_in_time() {
    let broker = broker().await;
    let producer = producer(&broker, &[]);
    acked(send(&producer, 0).await).await;
    broker.on(ApiKey::Produce, |_| Control::Silence);
    let lent = send(&producer, 1).await;
    assert!(broker.wait_for_requests(ApiKey::Produce, 2, PATIENCE).await);
    let waiting = send_all(&producer, 2..5).await;
    let closed = within(producer.close(Duration::from_millis(100))).await;
    assert_eq!(closed, Err(CloseError::TimedOut));
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
    assert_eq!(closed, Err(CloseError::TimedOut));
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
                    futures_executor(sending)
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

/// A thread without any runtime.
fn futures_executor<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = std::sync::Arc::new(Unpark(std::thread::current())).into();
    let mut context = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            std::task::Poll::Ready(output) => return output,
            std::task::Poll::Pending => std::thread::park(),
        }
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
        assert_eq!(closed, Ok(()));
    }
    acked(receipt).await;
}
