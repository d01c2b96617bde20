//! Several threads and runtimes with handles of one producer.

use std::collections::{HashMap, HashSet};

use krafka::error::ErrorCode;
use krafka::testing::{ApiKey, Control};

use crate::*;

const EACH: usize = 500;

#[tokio::test]
async fn each_caller_keeps_its_order() {
    let broker = cluster(2).await;
    broker.create_topic("wide", 3);
    // Small batches, little memory: callers meet and wait.
    let keys = [("batch.size", "512"), ("buffer.memory", "16384")];
    let producer = producer(&broker, &keys);
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            let producer = producer.clone();
            std::thread::spawn(move || {
                let sending = async {
                    let mut receipts = Vec::new();
                    for i in 0..EACH {
                        let record = Record::to("wide")
                            .partition((i % 3) as i32)
                            .value(format!("{thread} {i}"));
                        receipts.push(producer.send(record).await.expect("accepted"));
                    }
                    all_acked(receipts).await;
                };
                let mut runtime = tokio::runtime::Builder::new_current_thread();
                let runtime = runtime.enable_all().build().expect("a runtime");
                runtime.block_on(sending);
            })
        })
        .collect();
    tokio::task::spawn_blocking(move || {
        for thread in threads {
            thread.join().expect("no panic");
        }
    })
    .await
    .expect("no panic");
    close(producer).await;

    let mut last: HashMap<(i32, String), usize> = HashMap::new();
    let records = broker.all_records("wide").expect("a log");
    assert_eq!(records.len(), 4 * EACH);
    for record in records {
        let value = String::from_utf8(record.value.expect("a value").to_vec()).expect("text");
        let (thread, number) = value.split_once(' ').expect("two words");
        let number: usize = number.parse().expect("a number");
        let before = last.insert((record.partition, thread.to_owned()), number);
        assert!(before.is_none_or(|before| before + 3 == number), "{value}");
    }
}

#[tokio::test]
async fn flushes_and_faults_under_load_leave_nothing_behind() {
    let broker = cluster(3).await;
    broker.create_topic("wide", 9);
    broker.on(ApiKey::Produce, |request| {
        match (request.api_call_index * 7) % 41 {
            1 => Control::Disconnect,
            2 => Control::ApplyThen(Box::new(Control::Disconnect)),
            3 => Control::Error(ErrorCode::from_i16(19)),
            4 => Control::ApplyThen(Box::new(Control::Error(ErrorCode::from_i16(20)))),
            5 => Control::Error(ErrorCode::from_i16(45)),
            6 => Control::Error(ErrorCode::from_i16(59)),
            _ => Control::Pass,
        }
    });
    let keys = [
        ("batch.size", "700"),
        ("buffer.memory", "12000"),
        ("linger.ms", "3"),
    ];
    let producer = producer(&broker, &keys);
    let callers = (0..8).map(|caller| {
        let producer = producer.clone();
        async move {
            let mut receipts = Vec::new();
            for i in 0..100 {
                let value = format!("{caller} {i}{}", " ".repeat((i * 37) % 900));
                let record = Record::to("wide").value(value);
                let record = match i % 3 {
                    0 => record,
                    1 => record.key(i.to_string()),
                    _ => record.partition(caller),
                };
                receipts.push(producer.send(record).await.expect("accepted"));
                if i % 25 == caller as usize {
                    producer.flush().await.expect("flushed");
                    let settled = |receipt: &Receipt| receipt.outcome().is_some();
                    assert!(receipts.iter().all(settled));
                }
            }
            receipts
        }
    });
    let receipts = within(futures_util::future::join_all(callers)).await;
    let mut at = HashSet::new();
    let (mut acks, mut unknown) = (0, 0);
    for receipt in receipts.into_iter().flatten() {
        match outcome(receipt).await {
            Ok(acked) => {
                acks += 1;
                let offset = acked.offset.expect("an offset");
                assert!(at.insert((acked.partition, offset)), "two at one place");
            }
            Err(Unconfirmed::Unknown(_)) => unknown += 1,
            Err(other) => panic!("{other}"),
        }
    }
    let written = broker.all_records("wide").expect("a log").len();
    assert!((acks..=acks + unknown).contains(&written));
    let figures = producer.figures().await.expect("figures");
    assert_eq!(figures.pool.available_bytes, 12000);
    assert_eq!((figures.queued_records(), figures.in_flight()), (0, 0));
    close(producer).await;
}
