//! Several threads and runtimes with handles of one producer.

use std::collections::HashMap;

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
