//! Connections that end, brokers that hang, leaders that move.

use krafka::testing::{ApiKey, Control};

use crate::*;

#[tokio::test]
async fn a_lost_answer_is_asked_for_again() {
    let broker = broker().await;
    let producer = producer(&broker, &[]);
    for at in 0..6 {
        let lost = match at % 2 {
            0 => Control::Disconnect,
            _ => Control::ApplyThen(Box::new(Control::Disconnect)),
        };
        broker.on_once(ApiKey::Produce, move |_| lost.clone());
        let acked = acked(send(&producer, at).await).await;
        assert_eq!(acked.offset, Some(at));
    }
    assert_eq!(log(&broker), numbers(6));
    close(producer).await;
}

#[tokio::test]
async fn connections_that_end_all_the_time_lose_and_repeat_nothing() {
    let broker = broker().await;
    let producer = producer(&broker, &[]);
    broker.on(ApiKey::Produce, |request| {
        match request.api_call_index % 5 {
            1 => Control::Disconnect,
            3 => Control::ApplyThen(Box::new(Control::Disconnect)),
            _ => Control::Pass,
        }
    });
    let receipts = send_all(&producer, 0..300).await;
    all_acked(receipts).await;
    assert_eq!(log(&broker), numbers(300));
    close(producer).await;
}

#[tokio::test]
async fn leaders_may_move_at_any_time() {
    let broker = cluster(3).await;
    let producer = producer(&broker, &[]);
    let mut receipts = Vec::new();
    for i in 0..300 {
        receipts.push(send(&producer, i).await);
        if i % 20 == 0 {
            broker.set_leader("t", 0, (i / 20) % 3);
            tokio::task::yield_now().await;
        }
        if i % 50 == 0 {
            acked(receipts[i as usize].clone()).await;
        }
    }
    all_acked(receipts).await;
    assert_eq!(log(&broker), numbers(300));
    let mut nodes = broker.request_nodes(ApiKey::Produce);
    nodes.sort_unstable();
    nodes.dedup();
    assert_eq!(nodes, [0, 1, 2]);
    close(producer).await;
}

#[tokio::test]
async fn a_partition_that_left_a_dead_broker_is_chosen_again() {
    let broker = cluster(2).await;
    broker.create_topic("wide", 2);
    broker.set_leader("wide", 0, 0);
    broker.set_leader("wide", 1, 1);
    let keys = [
        ("batch.size", "200"),
        ("partitioner.availability.timeout.ms", "50"),
    ];
    let producer = producer(&broker, &keys);
    let value = Record::to("wide").value("x".repeat(100));
    let send = |record| within(producer.send(record));
    for partition in [0, 1] {
        let sent = send(value.clone().partition(partition)).await;
        acked(sent.expect("accepted")).await;
    }
    broker.crash(0);
    let waits = send(value.clone().partition(0)).await.expect("accepted");
    tokio::time::sleep(Duration::from_millis(100)).await;
    broker.set_leader("wide", 0, 1);
    acked(waits).await;
    let mut chosen = [0, 0];
    for _ in 0..400 {
        let sent = send(value.clone()).await.expect("accepted");
        chosen[acked(sent).await.partition as usize] += 1;
    }
    assert!(chosen.into_iter().all(|times| times > 50), "{chosen:?}");
    close(producer).await;
}

#[tokio::test]
async fn a_broker_that_comes_back_gets_what_waited_for_it() {
    let broker = broker().await;
    let producer = producer(&broker, &[]);
    acked(send(&producer, 0).await).await;
    broker.crash(0);
    let receipts = send_all(&producer, 1..50).await;
    let trouble = async {
        loop {
            let figures = producer.figures().await.expect("figures");
            if figures.brokers[0].last_error.is_some() {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    within(trouble).await;
    broker.restart(0);
    all_acked(receipts).await;
    assert_eq!(log(&broker), numbers(50));
    close(producer).await;
}

#[tokio::test]
async fn a_broker_that_hangs_is_left_after_the_request_timeout() {
    for applied in [false, true] {
        let broker = broker().await;
        let producer = producer(&broker, &[("request.timeout.ms", "200")]);
        acked(send(&producer, 0).await).await;
        broker.on_once(ApiKey::Produce, move |_| match applied {
            true => Control::ApplyThen(Box::new(Control::Silence)),
            false => Control::Silence,
        });
        let receipts = send_all(&producer, 1..20).await;
        all_acked(receipts).await;
        assert_eq!(log(&broker), numbers(20));
        close(producer).await;
    }
}

#[tokio::test]
async fn an_answer_that_comes_too_late_is_not_taken_for_another() {
    let broker = broker().await;
    let producer = producer(&broker, &[("request.timeout.ms", "100")]);
    broker.on_times(ApiKey::Produce, 2, |_| {
        Control::Delay(Duration::from_millis(150))
    });
    let receipts = send_all(&producer, 0..20).await;
    all_acked(receipts).await;
    assert_eq!(log(&broker), numbers(20));
    close(producer).await;
}

#[tokio::test]
async fn a_frozen_broker_does_not_stop_acks_0_for_good() {
    let broker = broker().await;
    let keys = [
        ("acks", "0"),
        ("enable.idempotence", "false"),
        ("request.timeout.ms", "300"),
        ("send.buffer.bytes", "65536"),
        ("batch.size", "262144"),
    ];
    let producer = producer(&broker, &keys);
    drop(send(&producer, "first").await);
    producer.flush().await.expect("flushed");
    // It reads no more, so what is sent fills the sockets and stays.
    broker.on_once(ApiKey::Produce, |_| Control::Silence);
    let value = "x".repeat(200_000);
    let receipts = send_all(&producer, std::iter::repeat_n(value, 100)).await;
    for receipt in receipts {
        assert!(is_unknown(&outcome(receipt).await));
    }
    drop(send(&producer, "last").await);
    let arrived = async {
        while log(&broker).last().is_none_or(|last| last != "last") {
            tokio::task::yield_now().await;
        }
    };
    within(arrived).await;
    // Only now: this broker answers acks=0, too, and stops reading from whom it cannot answer.
    close(producer).await;
}

#[tokio::test]
async fn what_no_broker_takes_expires() {
    let broker = broker().await;
    let keys = [
        ("request.timeout.ms", "200"),
        ("delivery.timeout.ms", "300"),
    ];
    let producer = producer(&broker, &keys);
    acked(send(&producer, 0).await).await;
    broker.crash(0);
    let noticed = async {
        while producer.figures().await.expect("figures").brokers[0].connected {
            tokio::task::yield_now().await;
        }
    };
    within(noticed).await;
    let expired = outcome(send(&producer, 1).await).await;
    assert!(is_not_written(&expired), "{expired:?}");
    broker.restart(0);
    broker.on(ApiKey::Produce, |_| Control::Silence);
    let expired = outcome(send(&producer, 2).await).await;
    assert!(is_unknown(&expired), "{expired:?}");
    broker.clear_hooks();
    // The line goes on under a new epoch.
    acked(send(&producer, 3).await).await;
    assert_eq!(log(&broker), ["0", "3"]);
    close(producer).await;
}

#[tokio::test]
async fn a_topic_that_came_too_late_for_its_record_is_kept_up_to_date() {
    let broker = cluster(2).await;
    broker.set_leader("t", 0, 0);
    broker.on_once(ApiKey::Metadata, |_| {
        Control::Delay(Duration::from_millis(200))
    });
    let producer = producer(&broker, &[("max.block.ms", "50")]);
    assert!(within(producer.send(to("late"))).await.is_err());
    let known = async {
        let figures = || async { producer.figures().await.expect("figures") };
        while figures().await.partitions.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    within(known).await;
    acked(send(&producer, 0).await).await;
    broker.set_leader("t", 0, 1);
    broker.crash(0);
    acked(send(&producer, 1).await).await;
    assert_eq!(log(&broker), numbers(2));
    close(producer).await;
}

#[tokio::test]
async fn a_topic_made_anew_goes_on() {
    let broker = broker().await;
    let producer = producer(&broker, &[]);
    all_acked(send_all(&producer, 0..10).await).await;
    assert!(broker.delete_topic("t"));
    let receipts = send_all(&producer, 0..10).await;
    assert!(broker.create_topic("t", 1));
    all_acked(receipts).await;
    all_acked(send_all(&producer, 10..20).await).await;
    assert_eq!(log(&broker), numbers(20));
    close(producer).await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_made_again() {
    let broker = broker().await;
    let producer = producer(&broker, &[("connections.max.idle.ms", "50")]);
    for i in 0..3 {
        acked(send(&producer, i).await).await;
        let idle = async {
            let figures = || async { producer.figures().await.expect("figures") };
            while figures().await.brokers[0].connected {
                tokio::task::yield_now().await;
            }
        };
        within(idle).await;
    }
    // Sends that meet the end of a connection.
    for i in 3..15 {
        acked(send(&producer, i).await).await;
        tokio::time::sleep(Duration::from_millis(43 + i)).await;
    }
    assert_eq!(log(&broker), numbers(15));
    close(producer).await;
}
