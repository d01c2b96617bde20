//! Clusters of others, read by the clients of others: franz-go's kfake as old as several releases of
//! Kafka, and librdkafka's mock cluster. A test without Go or Python says that it is skipped.

mod judge;
mod kfake;
mod librdkafka;

use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use forebay::config::Compression;
use forebay::{Acked, Config, Producer, Record};
use forebay_kafka_cluster::Consumed;

use judge::Judge;

const RECORDS: usize = 3000;

const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];

fn built_in() -> impl Iterator<Item = &'static str> {
    let is_built_in = |name: &&str| Compression::from_name(name).is_some_and(|it| it.is_built_in());
    CODECS.into_iter().filter(is_built_in)
}

/// The time of the first record. Old ones are not retried, since brokers forget their producers.
static BEGAN: LazyLock<i64> = LazyLock::new(|| {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.expect("a clock").as_millis() as i64
});

fn start(bootstrap: &str, settings: &[(&str, &str)]) -> Producer {
    let builder = Config::builder().bootstrap_servers(bootstrap);
    let set = |builder: forebay::config::ConfigBuilder, (key, value): &(&str, &str)| {
        builder.set(*key, value)
    };
    let config = settings.iter().fold(builder, set).build();
    Producer::start(config.expect("a configuration")).expect("a producer")
}

async fn close(producer: Producer) {
    let closed = producer.close(Duration::from_secs(10)).await;
    closed.expect("closed in time");
}

/// Keys and values of all sorts, headers, and times of their own.
fn record(topic: &str, number: usize) -> Record {
    let time = *BEGAN + number as i64;
    let record = Record::to(topic).timestamp(time);
    let record = match number % 10 {
        0 => record,
        1 => record.key(""),
        _ => record.key(format!("key-{}", number % 50)),
    };
    let record = match number % 7 {
        0 => record,
        1 => record.value(""),
        2 => record.value(vec![b'z'; number]),
        _ => record.value(format!("{number} of many")),
    };
    match number % 5 {
        0 => record.header("a", "1").null_header("b").header("a", "2"),
        1 => record.header("ключ", vec![0, 255, 128]).header("empty", ""),
        _ => record,
    }
}

/// Sends many records and returns them with what was said of each. `midway` is called in the middle.
async fn send_all(producer: &Producer, topic: &str, midway: impl FnOnce()) -> Vec<(Record, Acked)> {
    let mut receipts = Vec::new();
    let mut midway = Some(midway);
    for number in 0..RECORDS {
        if number == RECORDS / 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            midway.take().expect("called once")();
        }
        let record = record(topic, number);
        let receipt = producer.send(record.clone()).await.expect("accepted");
        receipts.push((record, receipt));
    }
    let mut sent = Vec::new();
    for (record, receipt) in receipts {
        let acked = tokio::time::timeout(Duration::from_secs(60), receipt).await;
        sent.push((record, acked.expect("an outcome").expect("acked")));
    }
    sent
}

/// Sends without idempotence. One request at a time, since a retry may reorder records otherwise.
async fn plain_agrees(judge: &mut Judge) {
    let one = ("max.in.flight.requests.per.connection", "1");
    let producer = start(&judge.bootstrap, &[("enable.idempotence", "false"), one]);
    let sent = send_all(&producer, "plain", || {}).await;
    agree(&sent, judge.dump("plain"));
    close(producer).await;
}

/// The log has each record once, byte for byte at the offset that was told, and in the order in which
/// they were sent.
fn agree(sent: &[(Record, Acked)], mut found: Vec<Consumed>) {
    assert_eq!(found.len(), sent.len(), "records in the log");
    found.sort_by_key(|it| (it.partition, it.offset));
    let mut last = std::collections::BTreeMap::new();
    for (number, (record, acked)) in sent.iter().enumerate() {
        let offset = acked.offset.expect("its offset");
        let at =
            found.binary_search_by_key(&(acked.partition, offset), |it| (it.partition, it.offset));
        let found = &found[at.expect("it is where it was said to be")];
        let bytes = |bytes: &[u8]| bytes.to_vec();
        let headers: Vec<_> = record
            .headers()
            .iter()
            .map(|it| (it.key().to_owned(), it.value().map(|it| bytes(it))))
            .collect();
        assert_eq!(
            found.key,
            record.key_bytes().map(|it| bytes(it)),
            "{number}"
        );
        assert_eq!(
            found.value,
            record.value_bytes().map(|it| bytes(it)),
            "{number}"
        );
        assert_eq!(found.headers, headers, "{number}");
        assert_eq!(found.timestamp, *BEGAN + number as i64);
        assert_eq!(found.timestamp_type, "CreateTime");
        let before = last.insert(acked.partition, offset);
        assert!(before < Some(offset), "{number} is before {before:?}");
    }
}
