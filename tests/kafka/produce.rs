//! Everything sent to a healthy cluster is in its log: once, in order, byte for byte.

use forebay::{Config, Producer, Receipt, Record, Unconfirmed};
use forebay_kafka_cluster::{self as kafka, Cluster, Consumed, Isolation, Load, scaled};
use std::time::Duration;

pub fn configured(cluster: &Cluster, settings: &[(&str, &str)]) -> Config {
    let builder = Config::builder().bootstrap_servers(cluster.bootstrap());
    let set = |builder: forebay::config::ConfigBuilder, (key, value): &(&str, &str)| {
        builder.set(*key, value)
    };
    let config = settings.iter().fold(builder, set).build();
    config.expect("a configuration")
}

async fn close(producer: Producer) {
    let closed = producer.close(Duration::from_secs(30)).await;
    closed.expect("closed in time");
}

#[test]
fn a_stream_of_keyed_records_arrives_once_and_in_order() {
    if !kafka::require_or_skip("a_stream_of_keyed_records_arrives_once_and_in_order") {
        return;
    }
    let cluster = &*kafka::shared();
    cluster.create_topic("stream", 12, 3, &[]).unwrap();
    let outcomes = Load::new("stream", scaled(500_000)).run(configured(cluster, &[]));
    outcomes.all_acked_in(&cluster.seen("stream"));
    assert!(
        outcomes
            .acked
            .iter()
            .all(|(_, acked)| acked.offset.is_some()),
        "no attempt failed, so every offset is known"
    );
    cluster.check_log("stream");
}

#[test]
fn one_replica_and_no_idempotence_will_do() {
    if !kafka::require_or_skip("one_replica_and_no_idempotence_will_do") {
        return;
    }
    let cluster = &*kafka::shared();
    cluster.create_topic("acks-1", 3, 3, &[]).unwrap();
    let settings = [("acks", "1"), ("enable.idempotence", "false")];
    let outcomes = Load::new("acks-1", scaled(50_000)).run(configured(cluster, &settings));
    outcomes.all_acked_in(&cluster.seen("acks-1"));
}

#[test]
fn with_acks_0_everything_is_written_and_nothing_confirmed() {
    if !kafka::require_or_skip("with_acks_0_everything_is_written_and_nothing_confirmed") {
        return;
    }
    let cluster = &*kafka::shared();
    cluster.create_topic("acks-0", 3, 3, &[]).unwrap();
    let settings = [("acks", "0"), ("enable.idempotence", "false")];
    let count = scaled(50_000);
    let outcomes = Load::new("acks-0", count).run(configured(cluster, &settings));
    let seen = cluster.seen("acks-0");
    outcomes.agree_with(&seen);
    assert_eq!(outcomes.unknown.len(), count as usize);
    assert_eq!(seen.records(), count as usize, "no connection was lost");
}

#[tokio::test]
async fn the_brokers_time_is_told_where_the_topic_asks_for_it() {
    if !kafka::require_or_skip("the_brokers_time_is_told_where_the_topic_asks_for_it") {
        return;
    }
    let cluster = &*kafka::shared();
    let append_time = [("message.timestamp.type", "LogAppendTime")];
    cluster
        .create_topic("append-time", 1, 3, &append_time)
        .unwrap();
    let producer = Producer::start(configured(cluster, &[])).unwrap();
    let mut acked = Vec::new();
    for i in 0..100 {
        let record = Record::to("append-time").value(format!("{i}")).timestamp(7);
        acked.push(producer.send(record).await.unwrap().await.unwrap());
    }
    close(producer).await;
    let records = cluster.dump("append-time", Isolation::default()).unwrap();
    assert_eq!(records.len(), 100);
    for (record, acked) in records.iter().zip(acked) {
        assert_eq!(record.timestamp_type, "LogAppendTime");
        assert_eq!(Some(record.offset), acked.offset);
        assert_eq!(record.timestamp, acked.timestamp);
    }
}

#[tokio::test]
async fn batches_the_broker_finds_too_large_are_split() {
    if !kafka::require_or_skip("batches_the_broker_finds_too_large_are_split") {
        return;
    }
    let cluster = &*kafka::shared();
    let small = [("max.message.bytes", "5000")];
    cluster.create_topic("small", 3, 3, &small).unwrap();
    let settings = [("batch.size", "65536"), ("linger.ms", "20")];
    // A broker that does not lead a new partition yet leaves its first batch in doubt, and what is in
    // doubt is not split: so each is to say first that it finds this too large.
    let producer = Producer::start(configured(cluster, &settings)).unwrap();
    for partition in 0..3 {
        let large = Record::to("small")
            .partition(partition)
            .value(vec![b'y'; 6000]);
        while !matches!(
            producer.send(large.clone()).await.unwrap().await,
            Err(Unconfirmed::NotWritten(_))
        ) {}
    }
    close(producer).await;
    let outcomes = Load::new("small", 20_000).run(configured(cluster, &settings));
    outcomes.all_acked_in(&cluster.seen("small"));
    assert!(outcomes.splits > 0);
    cluster.check_segments("small");

    // A record that is too large by itself is refused, and takes no other along.
    let producer = Producer::start(configured(cluster, &settings)).unwrap();
    let mut receipts = Vec::new();
    for i in 0..9 {
        let size = if i == 4 { 6000 } else { 100 };
        let record = Record::to("small").partition(0).value(vec![b'y'; size]);
        receipts.push(producer.send(record).await.unwrap());
    }
    for (i, receipt) in receipts.into_iter().enumerate() {
        match receipt.await {
            Ok(_) => assert_ne!(i, 4),
            Err(Unconfirmed::NotWritten(why)) => {
                assert_eq!(i, 4, "{why}");
                assert!(why.to_string().contains("MESSAGE_TOO_LARGE"), "{why}");
            }
            Err(unknown) => panic!("{i}: {unknown}"),
        }
    }
    close(producer).await;
}

/// What a record can be, at its edges.
fn odd_records(topic: &str, largest: usize) -> Vec<Record> {
    let at = |partition| Record::to(topic).partition(partition);
    // Bytes that no codec makes much smaller, and that are the same in every run.
    let noise = |len: usize| {
        let mut state = len as u64 | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        };
        (0..len).map(|_| next()).collect::<Vec<u8>>()
    };
    let mut records = vec![
        at(0),
        at(0).key("").value(""),
        at(0).key("key").value(""),
        at(0).key("key"),
        at(0).value("value"),
        at(0)
            .value("h")
            .header("a", "1")
            .header("a", "2")
            .header("b", "3")
            .header("a", "1"),
        at(0)
            .value("h")
            .null_header("null")
            .header("empty", "")
            .header("", "no name"),
        at(0)
            .value("h")
            .header("ключ", "значение")
            .header("bytes", vec![0, 255, 128]),
        at(0).value("h").header("long", noise(3000)),
        at(1).value("now").timestamp(1_753_000_000_000),
        at(1).value("long ago").timestamp(0),
        at(1).value("in the year 2255").timestamp(9_000_000_000_000),
        at(1).value("a day before").timestamp(1_752_900_000_000),
        at(1).value("now").timestamp(1_753_000_000_000),
        at(2).value(noise(16_000)),
        at(2).value(noise(16_384)),
        at(2).value(noise(100_000)),
        at(2).value(vec![0; 300_000]),
        at(2).value(noise(largest)),
        at(2).value(vec![b'z'; largest]),
    ];
    for i in 0..500 {
        let many = at(2).key(format!("{}", i % 7)).value(noise(i));
        records.push(many.header("n", format!("{i}")));
    }
    records
}

fn is_same(sent: &Record, timestamp: i64, found: &Consumed) -> bool {
    let bytes = |bytes: &[u8]| bytes.to_vec();
    let headers: Vec<_> = sent
        .headers()
        .iter()
        .map(|h| (h.key().to_owned(), h.value().map(|value| bytes(value))))
        .collect();
    found.key == sent.key_bytes().map(|k| bytes(k))
        && found.value == sent.value_bytes().map(|v| bytes(v))
        && found.headers == headers
        && found.timestamp == timestamp
        && found.timestamp_type == "CreateTime"
}

/// Java's consumer finds each record as it was sent, at the offset that was told.
pub async fn odd_records_arrive(cluster: &Cluster, codec: &str) {
    let topic = format!("odd-{codec}");
    // Brokers bound the future by an hour; the largest request is somewhat more than a batch.
    let far = i64::MAX.to_string();
    let mut settings = vec![("max.message.bytes", "2097152")];
    if cluster.release().is_from((3, 6)) {
        settings.push(("message.timestamp.after.max.ms", &far));
    }
    cluster.create_topic(&topic, 3, 3, &settings).unwrap();
    let producer = Producer::start(configured(cluster, &[("compression.type", codec)])).unwrap();

    // 61 bytes of a batch's header and at most 36 of a record's own.
    let largest = producer.config().max_request_size - 61 - 36;
    let sent = odd_records(&topic, largest);
    let mut receipts: Vec<Receipt> = Vec::new();
    for record in &sent {
        receipts.push(producer.send(record.clone()).await.unwrap());
    }
    let beyond = Record::to(topic.as_str()).value(vec![0; largest + 1]);
    let refused = producer.send(beyond).await.unwrap_err().to_string();
    assert!(refused.contains("max.request.size"), "{refused}");

    let found = cluster_records(cluster, &topic, &producer).await;
    assert_eq!(found.len(), sent.len());
    for (i, (record, receipt)) in sent.iter().zip(receipts).enumerate() {
        let timestamp = receipt.timestamp();
        let acked = receipt.await.unwrap_or_else(|e| panic!("record {i}: {e}"));
        let at = |c: &&Consumed| c.partition == acked.partition && Some(c.offset) == acked.offset;
        let found = found.iter().find(at).expect("the offset is in the log");
        assert!(is_same(record, timestamp, found), "record {i}: {found:?}");
        assert_eq!(acked.timestamp, timestamp);
    }
    close(producer).await;
    for broker in cluster.brokers() {
        let log = cluster.dump_log_segments(broker.id(), &topic).unwrap();
        assert_eq!((log.records, log.invalid), (sent.len() as u64, 0));
        assert!(log.codecs.contains_key(codec), "{:?}", log.codecs);
    }
}

async fn cluster_records(cluster: &Cluster, topic: &str, producer: &Producer) -> Vec<Consumed> {
    producer.flush().await.unwrap();
    cluster.dump(topic, Isolation::default()).unwrap()
}

async fn odd_records_arrive_through(codec: &str) {
    if kafka::require_or_skip(&format!("every_record_arrives_as_it_is_{codec}")) {
        odd_records_arrive(&kafka::shared(), codec).await;
    }
}

#[tokio::test]
async fn every_record_arrives_as_it_is() {
    odd_records_arrive_through("none").await;
}

#[cfg(feature = "gzip")]
#[tokio::test]
async fn every_record_arrives_as_it_is_through_gzip() {
    odd_records_arrive_through("gzip").await;
}

#[cfg(feature = "snappy")]
#[tokio::test]
async fn every_record_arrives_as_it_is_through_snappy() {
    odd_records_arrive_through("snappy").await;
}

#[cfg(feature = "lz4")]
#[tokio::test]
async fn every_record_arrives_as_it_is_through_lz4() {
    odd_records_arrive_through("lz4").await;
}

#[cfg(feature = "zstd")]
#[tokio::test]
async fn every_record_arrives_as_it_is_through_zstd() {
    odd_records_arrive_through("zstd").await;
}
