//! Reading the logs of partitions from their leaders, as batches in doubt are going to be looked up.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use forebay::config::ConfigBuilder;
use forebay::internals::batch::{Control, LoggedBatch, LoggedBatches};
use forebay::internals::log_client;
use forebay::internals::net::{
    Endpoint, Follows, LeaderOf, LogClient, LogOf, Nodes, ReadError, Refusal, Refused,
};
use forebay::{Config, Producer, Record, TransactionalProducer};
use forebay_kafka_cluster::{self as kafka, Cluster, ClusterOptions};
use krafka::admin::{ClientQuotaAlteration, DescribeTopicsOptions};
use uuid::Uuid;

const SOON: Duration = Duration::from_millis(500);
const LIMIT: Duration = Duration::from_secs(30);

fn config(cluster: &Cluster) -> ConfigBuilder {
    Config::builder().bootstrap_servers(cluster.bootstrap())
}

fn client(config: ConfigBuilder) -> LogClient {
    log_client(&config.build().unwrap()).unwrap()
}

/// The first partition of the topic as it is now.
fn log_of(cluster: &Cluster, topic: &str) -> LogOf {
    let described = cluster.admin("describe a topic", async |admin| {
        let options = DescribeTopicsOptions::default();
        let mut described = admin.describe_topics([topic], options).await?;
        described.remove(topic).expect("an answer")
    });
    LogOf {
        topic: topic.into(),
        topic_id: Uuid::from_bytes(described.unwrap().topic_id),
        partition: 0,
    }
}

fn broker_at(cluster: &Cluster, node: i32, epoch: i32) -> LeaderOf {
    let address = cluster.broker(node).address();
    LeaderOf {
        node,
        endpoint: Endpoint::new(address.ip().to_string(), address.port()),
        epoch,
    }
}

/// Its leader, once there is one.
fn leader_of(cluster: &Cluster, topic: &str) -> LeaderOf {
    cluster.leader_of(topic, 0).unwrap();
    let partition = cluster.partitions(topic).unwrap().remove(0);
    let node = partition.leader.expect("a leader");
    broker_at(cluster, node, partition.leader_epoch)
}

/// Sends this many records, and returns the offset of each.
async fn send(producer: &Producer, topic: &str, count: usize) -> Vec<i64> {
    let mut receipts = Vec::new();
    for number in 0..count {
        let value = format!("{number} {}", "x".repeat(100));
        let record = Record::to(topic).partition(0).value(value);
        receipts.push(producer.send(record).await.unwrap());
    }
    let mut offsets = Vec::new();
    for receipt in receipts {
        offsets.push(receipt.await.unwrap().offset.expect("an offset"));
    }
    offsets
}

async fn close(producer: Producer) {
    producer.close(LIMIT).await.unwrap();
}

/// The batches from an offset to the end, and how many answers it took.
async fn read_to_end(
    client: &mut LogClient,
    (log, leader): (&LogOf, &LeaderOf),
    from: i64,
    max_bytes: i32,
) -> (Vec<LoggedBatch>, usize) {
    let end = client.end(log, leader).await.unwrap();
    let (mut batches, mut next, mut answers) = (Vec::<LoggedBatch>::new(), from, 0);
    while next < end {
        let read = client.read(log, leader, next, max_bytes, SOON).await;
        let read = read.unwrap();
        assert_eq!((read.high_watermark, read.log_start), (end, 0));
        for batch in LoggedBatches::new(&read.records) {
            let batch = batch.unwrap();
            assert!(batch.base_offset >= next || batches.is_empty());
            next = batch.last_offset() + 1;
            batches.push(batch);
        }
        answers += 1;
    }
    (batches, answers)
}

/// What the header of each batch on a broker's disk says, by Kafka's own tool.
fn on_disk(cluster: &Cluster, broker: i32, topic: &str) -> Vec<[i64; 5]> {
    let dump = cluster.dump_batches(broker, topic).unwrap();
    let lines = dump.text.lines();
    let batches = lines.filter(|line| line.starts_with("baseOffset: "));
    let fields = batches.map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        let pairs = words.chunks_exact(2);
        let fields: BTreeMap<_, _> = pairs.map(|pair| (pair[0], pair[1])).collect();
        [
            "baseOffset:",
            "lastOffset:",
            "producerId:",
            "producerEpoch:",
            "baseSequence:",
        ]
        .map(|name| fields[name].parse().unwrap())
    });
    fields.collect()
}

fn fields(batch: &LoggedBatch) -> [i64; 5] {
    [
        batch.base_offset,
        batch.last_offset(),
        batch.producer_id,
        batch.epoch.into(),
        batch.base_sequence.into(),
    ]
}

fn refused<T>(outcome: Result<T, ReadError>) -> Box<Refused> {
    match outcome {
        Err(ReadError::Refused(refused)) => refused,
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("it was told"),
    }
}

fn assert_leads(present: &LeaderOf, refused: &Refused) {
    let hint = refused.leader.expect("a leader");
    assert_eq!((hint.node_id, hint.epoch), (present.node, present.epoch));
    let node = refused.nodes.iter().find(|it| it.id == present.node);
    let node = node.expect("its address");
    let endpoint = Endpoint::new(node.host.clone(), node.port);
    assert_eq!(endpoint, present.endpoint);
}

#[tokio::test]
async fn each_batch_is_found_by_its_producer_its_sequence_and_its_offset() {
    if !kafka::require_or_skip("each_batch_is_found_by_its_producer_its_sequence_and_its_offset") {
        return;
    }
    const TOPIC: &str = "log-of-two-producers";
    let cluster = &*kafka::shared();
    cluster.create_topic(TOPIC, 1, 3, &[]).unwrap();
    let config = || config(cluster).set("batch.size", 1_000);
    let producers = [(); 2].map(|()| Producer::start(config().build().unwrap()).unwrap());
    let [a, b] = &producers;
    let (a, b) = tokio::join!(send(a, TOPIC, 300), send(b, TOPIC, 300));
    for producer in producers {
        close(producer).await;
    }

    let (log, leader) = (log_of(cluster, TOPIC), leader_of(cluster, TOPIC));
    let mut client = client(config());
    assert_eq!(client.end(&log, &leader).await.unwrap(), 600);
    let (all, answers) = read_to_end(&mut client, (&log, &leader), 0, 1 << 20).await;
    assert_eq!(answers, 1);
    // Batches come whole, however little is asked for.
    let (by_ones, answers) = read_to_end(&mut client, (&log, &leader), 0, 1).await;
    assert_eq!((&by_ones, answers), (&all, all.len()));
    let (by_some, answers) = read_to_end(&mut client, (&log, &leader), 0, 10_000).await;
    assert_eq!(by_some, all);
    assert!((2..all.len()).contains(&answers), "{answers} answers");
    let told: Vec<_> = all.iter().map(fields).collect();
    assert_eq!(told, on_disk(cluster, leader.node, TOPIC));

    // The record of a producer that is its nth has the nth sequence.
    for offsets in [a, b] {
        let of = |offset| {
            let mut within = all.iter();
            within.find(|batch| (batch.base_offset..=batch.last_offset()).contains(&offset))
        };
        let (id, epoch) = of(offsets[0]).map(|it| (it.producer_id, it.epoch)).unwrap();
        for (sequence, offset) in (0..).zip(offsets) {
            let batch = of(offset).unwrap();
            assert_eq!((batch.producer_id, batch.epoch), (id, epoch));
            let in_batch = offset - batch.base_offset;
            assert_eq!(i64::from(batch.base_sequence) + in_batch, sequence);
        }
    }
    println!("{} batches", all.len());

    // From the middle of a batch on, that batch comes, too.
    let third = &all[2];
    assert!(third.last_offset_delta > 0);
    let (from_third, _) = read_to_end(&mut client, (&log, &leader), third.last_offset(), 1).await;
    assert_eq!(from_third, all[2..]);
}

#[tokio::test]
async fn what_is_not_there_is_told_as_such() {
    if !kafka::require_or_skip("what_is_not_there_is_told_as_such") {
        return;
    }
    const TOPIC: &str = "log-that-ends";
    let cluster = &*kafka::shared();
    cluster.create_topic(TOPIC, 1, 3, &[]).unwrap();
    let (log, leader) = (log_of(cluster, TOPIC), leader_of(cluster, TOPIC));
    let mut client = client(config(cluster));
    assert_eq!(client.end(&log, &leader).await.unwrap(), 0);
    let producer = Producer::start(config(cluster).build().unwrap()).unwrap();
    send(&producer, TOPIC, 1).await;
    assert_eq!(client.end(&log, &leader).await.unwrap(), 1);

    let begun = Instant::now();
    let read = client.read(&log, &leader, 1, 1 << 20, SOON).await.unwrap();
    assert!(begun.elapsed() >= SOON, "{:?}", begun.elapsed());
    assert_eq!((read.records.len(), read.high_watermark), (0, 1));
    // What comes meanwhile is told at once.
    let begun = Instant::now();
    let reading = client.read(&log, &leader, 1, 1 << 20, LIMIT);
    let (read, _) = tokio::join!(reading, send(&producer, TOPIC, 1));
    let read = read.unwrap();
    assert!(begun.elapsed() < LIMIT / 2, "{:?}", begun.elapsed());
    let batch = LoggedBatches::new(&read.records).next().unwrap();
    assert_eq!(batch.unwrap().base_offset, 1);
    close(producer).await;

    for offset in [3, -5, 1 << 40] {
        let refused = refused(client.read(&log, &leader, offset, 1 << 20, SOON).await);
        assert_eq!(refused.error.code, 1, "{offset}: {refused:?}");
        assert_eq!(refused.refusal(), Refusal::OutOfRange);
    }
    let absent = LogOf {
        partition: 1,
        ..log.clone()
    };
    for error in [
        refused(client.end(&absent, &leader).await),
        refused(client.read(&absent, &leader, 0, 1 << 20, SOON).await),
    ] {
        assert_eq!(error.refusal(), Refusal::NoTopic, "{error:?}");
    }
}

/// A marker's epoch is that of its transaction or, in protocol 2, the next one.
#[tokio::test]
async fn the_end_of_a_transaction_is_in_the_log() {
    if !kafka::require_or_skip("the_end_of_a_transaction_is_in_the_log") {
        return;
    }
    const TOPIC: &str = "log-of-transactions";
    let cluster = &*kafka::shared();
    cluster.create_topic(TOPIC, 1, 3, &[]).unwrap();
    let config = || config(cluster).set("transactional.id", "log-of-transactions");
    let producer = TransactionalProducer::start(config().build().unwrap()).unwrap();
    let record = || Record::to(TOPIC).partition(0).value("x");
    for is_committed in [true, false] {
        let transaction = producer.begin().await.unwrap();
        let _receipt = transaction.send(record()).await.unwrap();
        transaction.flush().await.unwrap();
        match is_committed {
            true => transaction.commit().await.unwrap(),
            false => transaction.abort().await,
        }
    }
    producer.close(LIMIT).await.unwrap();

    let (log, leader) = (log_of(cluster, TOPIC), leader_of(cluster, TOPIC));
    let mut client = client(config());
    let begun = Instant::now();
    // Markers are written after the end is told.
    while client.end(&log, &leader).await.unwrap() < 4 {
        assert!(begun.elapsed() < LIMIT, "no markers");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (batches, _) = read_to_end(&mut client, (&log, &leader), 0, 1 << 20).await;
    let controls: Vec<_> = batches.iter().map(|batch| batch.control).collect();
    let expected = [None, Some(Control::Commit), None, Some(Control::Abort)];
    assert_eq!(controls, expected);
    for pair in batches.chunks(2) {
        assert!(pair.iter().all(LoggedBatch::is_transactional));
        assert_eq!(pair[0].producer_id, pair[1].producer_id);
        let epochs = pair[0].epoch..=pair[0].epoch + 1;
        assert!(epochs.contains(&pair[1].epoch), "{pair:?}");
    }
}

#[test]
fn the_log_is_read_on_from_the_next_leader() {
    if !kafka::require_or_skip("the_log_is_read_on_from_the_next_leader") {
        return;
    }
    let _turn = kafka::one_at_a_time();
    let cluster = Cluster::start(ClusterOptions::default()).unwrap();
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().unwrap();
    runtime.block_on(read_from_the_next_leader(&cluster));
}

async fn read_from_the_next_leader(cluster: &Cluster) {
    const TOPIC: &str = "log-that-moves";
    cluster.create_topic(TOPIC, 1, 3, &[]).unwrap();
    let config = || config(cluster).set("batch.size", 1_000);
    let producer = Producer::start(config().build().unwrap()).unwrap();
    send(&producer, TOPIC, 200).await;

    let (log, former) = (log_of(cluster, TOPIC), leader_of(cluster, TOPIC));
    let mut client = client(config().set("request.timeout.ms", 3_000));
    let (before, _) = read_to_end(&mut client, (&log, &former), 0, 10_000).await;
    cluster.broker(former.node).kill().unwrap();
    for outcome in [
        client.end(&log, &former).await.map(|_| ()),
        client
            .read(&log, &former, 0, 10_000, SOON)
            .await
            .map(|_| ()),
    ] {
        let error = outcome.unwrap_err();
        assert!(matches!(error, ReadError::Unanswered(_)), "{error:?}");
        assert_eq!(error.follows(), Follows::AskMetadata);
    }
    cluster.wait_gone(former.node).unwrap();
    let present = leader_of(cluster, TOPIC);
    assert!(present.node != former.node && present.epoch > former.epoch);
    client.set_nodes(&Nodes {
        cluster_id: None,
        by_id: [(present.node, present.endpoint.clone())].into(),
    });

    // It leads in another epoch.
    for (epoch, code) in [(former.epoch, 74), (present.epoch + 1, 75)] {
        let leader = LeaderOf {
            epoch,
            ..present.clone()
        };
        let ended = refused(client.end(&log, &leader).await);
        let read = refused(client.read(&log, &leader, 0, 10_000, SOON).await);
        for refused in [&ended, &read] {
            assert_eq!(refused.error.code, code, "{refused:?}");
            assert_eq!(refused.refusal().follows(), Follows::AskMetadata);
        }
        if code == 74 {
            assert_leads(&present, &read);
        }
    }
    let offsets = send(&producer, TOPIC, 100).await;
    assert_eq!(offsets[0], 200);
    close(producer).await;
    let (after, _) = read_to_end(&mut client, (&log, &present), 0, 10_000).await;
    assert_eq!(after[..before.len()], before);
    assert!(after[before.len()..].iter().all(|it| it.base_offset >= 200));
    let told: Vec<_> = after.iter().map(fields).collect();
    assert_eq!(told, on_disk(cluster, present.node, TOPIC));

    // The former one is back, and has the log as a follower.
    let broker = cluster.broker(former.node);
    broker.restart().unwrap();
    broker.wait_ready().unwrap();
    cluster.wait_in_sync(TOPIC).unwrap();
    assert_eq!(refused(client.end(&log, &former).await).error.code, 74);
    let read = refused(client.read(&log, &former, 0, 10_000, SOON).await);
    assert_eq!(read.error.code, 74);
    assert_leads(&present, &read);
    // In the present epoch followers tell of records (KIP-392), but not of the end.
    let follower = LeaderOf {
        epoch: present.epoch,
        ..former
    };
    assert_eq!(refused(client.end(&log, &follower).await).error.code, 6);
    let read = client.read(&log, &follower, 0, 10_000, SOON).await.unwrap();
    let first = LoggedBatches::new(&read.records).next().unwrap();
    assert_eq!(first.unwrap(), after[0]);
}

#[tokio::test]
async fn a_broker_without_a_copy_names_the_leader() {
    if !kafka::require_or_skip("a_broker_without_a_copy_names_the_leader") {
        return;
    }
    const TOPIC: &str = "log-elsewhere";
    let cluster = &*kafka::shared();
    cluster.create_topic(TOPIC, 1, 1, &[]).unwrap();
    let (log, leader) = (log_of(cluster, TOPIC), leader_of(cluster, TOPIC));
    let mut client = client(config(cluster));
    let others = cluster.brokers().iter().filter(|it| it.id() != leader.node);
    for other in others {
        let other = broker_at(cluster, other.id(), leader.epoch);
        let ended = refused(client.end(&log, &other).await);
        let read = refused(client.read(&log, &other, 0, 10_000, SOON).await);
        for refused in [&ended, &read] {
            assert_eq!(refused.error.code, 6);
            assert_eq!(refused.refusal(), Refusal::NotLeader);
        }
        assert_leads(&leader, &read);
    }
}

#[tokio::test]
async fn a_topic_made_anew_is_not_taken_for_the_former_one() {
    if !kafka::require_or_skip("a_topic_made_anew_is_not_taken_for_the_former_one") {
        return;
    }
    const TOPIC: &str = "log-made-anew";
    let cluster = &*kafka::shared();
    let mut logs = Vec::new();
    let mut client = client(config(cluster));
    for count in [3, 5] {
        cluster.create_topic(TOPIC, 1, 3, &[]).unwrap();
        let (log, leader) = (log_of(cluster, TOPIC), leader_of(cluster, TOPIC));
        let producer = Producer::start(config(cluster).build().unwrap()).unwrap();
        send(&producer, TOPIC, count).await;
        close(producer).await;
        let end = client.end(&log, &leader).await.unwrap();
        assert_eq!(end, count as i64);
        read_to_end(&mut client, (&log, &leader), 0, 1 << 20).await;
        logs.push(log);
        if count == 3 {
            cluster.delete_topic(TOPIC).unwrap();
        }
    }
    let leader = leader_of(cluster, TOPIC);
    assert_ne!(logs[0].topic_id, logs[1].topic_id);
    let refused = refused(client.read(&logs[0], &leader, 0, 1 << 20, SOON).await);
    assert_eq!(
        (refused.error.code, refused.refusal()),
        (100, Refusal::NoTopic)
    );
    // A name says nothing of it, and ListOffsets has only names.
    let by_name = LogOf {
        topic_id: Uuid::nil(),
        ..logs[0].clone()
    };
    let read = client.read(&by_name, &leader, 0, 1 << 20, SOON).await;
    assert_eq!(read.unwrap().high_watermark, 5);
    assert_eq!(client.end(&logs[0], &leader).await.unwrap(), 5);
}

/// Above the quota a broker answers with a wait and nothing else. Who keeps to it is told the rest.
#[tokio::test]
async fn a_reader_above_its_quota_waits_and_reads_on() {
    if !kafka::require_or_skip("a_reader_above_its_quota_waits_and_reads_on") {
        return;
    }
    const TOPIC: &str = "log-under-quota";
    const CLIENT: &str = "reader-under-quota";
    let cluster = &*kafka::shared();
    cluster.create_topic(TOPIC, 1, 3, &[]).unwrap();
    let producer = Producer::start(config(cluster).build().unwrap()).unwrap();
    send(&producer, TOPIC, 100).await;
    close(producer).await;
    // Brokers take the mean of ten seconds.
    let quota = cluster.admin("limit a reader", async |admin| {
        let entity = [("client-id", Some(CLIENT))].into_iter().collect();
        let rate = ("consumer_byte_rate".to_string(), Some(5_000.0));
        let change = vec![ClientQuotaAlteration::new(entity, vec![rate])];
        let results = admin
            .alter_client_quotas(change, Default::default())
            .await?;
        results.into_values().collect::<krafka::Result<()>>()
    });
    quota.unwrap();
    let (log, leader) = (log_of(cluster, TOPIC), leader_of(cluster, TOPIC));
    let mut client = client(config(cluster).set("client.id", CLIENT));
    let (mut waits, mut owed) = (Vec::new(), Duration::ZERO);
    let begun = Instant::now();
    loop {
        assert!(begun.elapsed() < 2 * LIMIT, "throttled for {waits:?}");
        let asked = Instant::now();
        let outcome = client.read(&log, &leader, 0, 1 << 20, SOON).await;
        // They are whole milliseconds.
        assert!(asked.elapsed() + Duration::from_millis(2) >= owed);
        match outcome {
            Ok(_) if waits.is_empty() => {}
            Ok(read) => {
                assert_eq!(read.high_watermark, 100);
                assert!(LoggedBatches::new(&read.records).next().is_some());
                break;
            }
            Err(error) => {
                assert_eq!(error.follows(), Follows::Retry);
                let ReadError::Throttled { wait, .. } = error else {
                    panic!("{error}");
                };
                waits.push(wait);
                owed = wait;
            }
        }
    }
    println!("throttled for {waits:?}");
}
