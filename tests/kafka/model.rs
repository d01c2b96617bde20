//! The simulation's model of a partition against a real broker: the same produce requests go to
//! both, and both have to answer with the same codes and offsets.

mod sides;
mod transactions;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use forebay_kafka_cluster as kafka;
use forebay_model_cluster::{Log, ReplicaState, code, raw};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{ApiKey, ProduceRequest, ProduceResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

pub(crate) use sides::over_a_socket;

use crate::millis;

const MAX_MESSAGE: usize = 2_000;

/// Of most batches here. It is older than a broker remembers a producer.
const LONG_AGO: i64 = 1_700_000_000_000;

/// A batch of `count` records under a stamp, with values of so many bytes.
fn batch(stamp: (i64, i16, i32), count: i32, size: usize) -> Vec<u8> {
    dated((stamp, LONG_AGO), count, size)
}

/// A batch whose records have this timestamp.
fn dated((stamp, timestamp): ((i64, i16, i32), i64), count: i32, size: usize) -> Vec<u8> {
    encoded(stamp, (timestamp, 0), count, size)
}

/// A batch of now with these attributes.
fn attributed((stamp, attributes): ((i64, i16, i32), i16), count: i32, size: usize) -> Vec<u8> {
    encoded(stamp, (millis(), attributes), count, size)
}

pub(crate) fn encoded(
    stamp: (i64, i16, i32),
    (timestamp, attributes): (i64, i16),
    count: i32,
    size: usize,
) -> Vec<u8> {
    let varint = |out: &mut BytesMut, value: i64| {
        let mut zigzag = ((value << 1) ^ (value >> 63)) as u64;
        while zigzag >= 0x80 {
            out.put_u8(zigzag as u8 | 0x80);
            zigzag >>= 7;
        }
        out.put_u8(zigzag as u8);
    };
    let mut records = BytesMut::new();
    for number in 0..count {
        let mut body = BytesMut::new();
        body.put_u8(0);
        varint(&mut body, 0);
        varint(&mut body, i64::from(number));
        varint(&mut body, -1);
        varint(&mut body, size as i64);
        body.put_bytes(b'x', size);
        varint(&mut body, 0);
        varint(&mut records, body.len() as i64);
        records.put_slice(&body);
    }
    let mut from_attributes = BytesMut::new();
    from_attributes.put_i16(attributes);
    from_attributes.put_i32(count - 1);
    from_attributes.put_i64(timestamp);
    from_attributes.put_i64(timestamp);
    from_attributes.put_i64(stamp.0);
    from_attributes.put_i16(stamp.1);
    from_attributes.put_i32(stamp.2);
    from_attributes.put_i32(count);
    from_attributes.put_slice(&records);
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &from_attributes);
    let mut batch = BytesMut::new();
    batch.put_i64(0);
    batch.put_i32(from_attributes.len() as i32 + 9);
    batch.put_i32(-1);
    batch.put_u8(2);
    batch.put_u32(crc as u32);
    batch.put_slice(&from_attributes);
    batch.to_vec()
}

struct Scenario {
    name: &'static str,
    batches: Vec<Vec<u8>>,
}

fn hurt(mut bytes: Vec<u8>, at: usize) -> Vec<u8> {
    bytes[at] ^= 1;
    bytes
}

/// One partition each, so that no scenario sees another's producers.
fn scenarios() -> Vec<Scenario> {
    let one = |stamp| batch(stamp, 2, 10);
    let line = |ids: &[(i64, i16, i32)]| ids.iter().map(|stamp| one(*stamp)).collect::<Vec<_>>();
    let six: Vec<_> = (0..7).map(|n| (70_001, 0, 2 * n)).collect();
    let again = |range: std::ops::Range<usize>| {
        let mut all = six.clone();
        all.extend_from_slice(&six[range]);
        all
    };
    let max = i32::MAX;
    let scenario = |name, batches| Scenario { name, batches };
    vec![
        scenario("in a row", line(&six)),
        scenario("each of the last five again", line(&again(2..7))),
        scenario("the sixth from the end again", line(&again(1..2))),
        scenario(
            "a gap",
            line(&[(70_002, 0, 0), (70_002, 0, 4), (70_002, 0, 2)]),
        ),
        scenario(
            "an old epoch",
            line(&[
                (70_003, 3, 0),
                (70_003, 2, 2),
                (70_003, 2, 0),
                (70_003, 3, 2),
            ]),
        ),
        scenario(
            "an old epoch's duplicate",
            line(&[(70_003, 3, 0), (70_003, 4, 0), (70_003, 3, 0)]),
        ),
        scenario(
            "a new epoch that does not begin at 0",
            line(&[
                (70_004, 0, 0),
                (70_004, 1, 2),
                (70_004, 1, 0),
                (70_004, 1, 2),
                (70_004, 0, 2),
            ]),
        ),
        scenario(
            "an unknown producer with sequence 5",
            line(&[(70_005, 0, 5), (70_005, 0, 7), (70_005, 0, 5)]),
        ),
        scenario(
            "an unknown producer with epoch 7",
            line(&[(70_006, 7, 3), (70_006, 8, 3), (70_006, 8, 0)]),
        ),
        scenario(
            "the sequence wraps",
            line(&[
                (70_007, 0, max - 1),
                (70_007, 0, 0),
                (70_007, 0, max - 1),
                (70_007, 0, 2),
            ]),
        ),
        scenario(
            "the sequence wraps inside a batch",
            line(&[
                (70_008, 0, max),
                (70_008, 0, 1),
                (70_008, 0, max),
                (70_008, 0, 3),
            ]),
        ),
        scenario(
            "the same range cut differently",
            vec![
                one((70_009, 0, 0)),
                batch((70_009, 0, 0), 1, 10),
                batch((70_009, 0, 1), 1, 10),
                batch((70_009, 0, 0), 4, 10),
                batch((70_009, 0, 1), 2, 10),
                one((70_009, 0, 2)),
            ],
        ),
        scenario(
            "the same stamp with other bytes",
            vec![one((70_010, 0, 0)), batch((70_010, 0, 0), 2, 11)],
        ),
        scenario(
            "no producer at all",
            vec![one((-1, -1, -1)), one((-1, -1, -1))],
        ),
        scenario(
            "a wrong checksum",
            vec![
                hurt(one((70_011, 0, 0)), 17),
                hurt(one((70_011, 0, 0)), 70),
                one((70_011, 0, 0)),
            ],
        ),
        scenario(
            "too large",
            vec![
                batch((70_012, 0, 0), 2, 2_000),
                one((70_012, 0, 0)),
                batch((70_012, 0, 2), 2, 2_000),
            ],
        ),
        scenario(
            "too large and a wrong checksum",
            vec![hurt(batch((70_013, 0, 0), 2, 2_000), 70)],
        ),
        scenario(
            "a base offset that is not 0",
            vec![hurt(one((70_014, 0, 0)), 7)],
        ),
        scenario(
            "two batches in one",
            vec![[one((70_015, 0, 0)), one((70_015, 0, 2))].concat()],
        ),
        scenario(
            "two producers in turns",
            line(&[
                (70_016, 0, 0),
                (70_017, 0, 0),
                (70_016, 0, 2),
                (70_017, 0, 2),
                (70_016, 0, 0),
            ]),
        ),
    ]
}

/// Error code and base offset.
type Answer = (i16, i64);

const VERSION: i16 = 12;

fn ask(broker: SocketAddr, topic: &str, partition: i32, acks: i16, batch: &[u8]) -> Answer {
    let data = PartitionProduceData::default()
        .with_index(partition)
        .with_records(Some(Bytes::copy_from_slice(batch)));
    let topic = TopicProduceData::default()
        .with_name(TopicName(StrBytes::from_string(topic.to_owned())))
        .with_partition_data(vec![data]);
    let request = ProduceRequest::default()
        .with_acks(acks)
        .with_timeout_ms(5_000)
        .with_topic_data(vec![topic]);
    let bytes = raw::request(ApiKey::Produce, VERSION, &request);
    let answer = over_a_socket(broker, &bytes);
    let answer: ProduceResponse = raw::response(ApiKey::Produce, VERSION, answer);
    let answer = &answer.responses[0].partition_responses[0];
    (answer.error_code, answer.base_offset)
}

fn answer(log: &mut Log, standing: ReplicaState, acks: i16, batch: &[u8]) -> Answer {
    match log.produce(standing, acks, &Bytes::copy_from_slice(batch)) {
        Ok(appended) => (0, appended.base_offset),
        Err(code) => (code, -1),
    }
}

const LEADER: ReplicaState = ReplicaState {
    leads: true,
    replicas: 1,
    in_sync: 1,
    min_in_sync: 1,
    max_message: MAX_MESSAGE,
};

/// The partition's leader, and a log like its own, once it knows that it leads.
fn ready(cluster: &kafka::Cluster, topic: &str, partition: i32) -> (SocketAddr, Log) {
    let began = Instant::now();
    let leader = cluster.leader_of(topic, partition).expect("a leader");
    let broker = cluster.broker(leader).address();
    let first = batch((-1, -1, -1), 1, 10);
    loop {
        match ask(broker, topic, partition, 1, &first) {
            (0, offset) => {
                // This may have been asked before.
                let mut log = Log::default();
                for _ in 0..=offset {
                    answer(&mut log, LEADER, 1, &first);
                }
                return (broker, log);
            }
            // NOT_LEADER_OR_FOLLOWER, and UNKNOWN_TOPIC_OR_PARTITION
            (3 | 6, _) if began.elapsed() < Duration::from_secs(60) => {
                std::thread::sleep(Duration::from_millis(50));
            }
            other => panic!("the leader of {topic}-{partition} answers {other:?}"),
        }
    }
}

#[test]
fn the_model_answers_as_a_broker_does() {
    if !kafka::require_or_skip("the_model_answers_as_a_broker_does") {
        return;
    }
    let began = Instant::now();
    let _turn = kafka::one_at_a_time();
    let options = kafka::ClusterOptions::default();
    let cluster = kafka::Cluster::start(options).expect("a cluster");
    let scenarios = scenarios();
    let size = MAX_MESSAGE.to_string();
    let config = [("max.message.bytes", &*size), ("min.insync.replicas", "1")];
    let partitions = scenarios.len() as i32;
    cluster
        .create_topic("model", partitions, 1, &config)
        .expect("a topic");
    let mut differences = Vec::new();
    let mut compared = 0;
    let mut compare = |name: &str, step: usize, real: Answer, model: Answer| {
        compared += 1;
        println!("{name}, step {step}: {real:?}");
        if real != model {
            differences.push(format!(
                "{name}, step {step}: Kafka {real:?}, the model {model:?}"
            ));
        }
    };
    for (partition, scenario) in (0..).zip(&scenarios) {
        let (broker, mut log) = ready(&cluster, "model", partition);
        for (step, batch) in scenario.batches.iter().enumerate() {
            let real = ask(broker, "model", partition, -1, batch);
            compare(
                scenario.name,
                step,
                real,
                answer(&mut log, LEADER, -1, batch),
            );
        }
    }

    let some = batch((80_000, 0, 0), 1, 10);
    let (leader, _) = ready(&cluster, "model", 0);
    let other = cluster.brokers().iter().find(|b| b.address() != leader);
    let follower = ReplicaState {
        leads: false,
        ..LEADER
    };
    let real = ask(
        other.expect("three brokers").address(),
        "model",
        0,
        -1,
        &some,
    );
    compare(
        "not the leader",
        0,
        real,
        answer(&mut Log::default(), follower, -1, &some),
    );

    let config = [("min.insync.replicas", "2")];
    cluster
        .create_topic("alone", 1, 1, &config)
        .expect("a topic");
    let (broker, mut log) = ready(&cluster, "alone", 0);
    let alone = ReplicaState {
        min_in_sync: 2,
        ..LEADER
    };
    let real = ask(broker, "alone", 0, -1, &some);
    let model = answer(&mut log, alone, -1, &some);
    compare("no more replicas than in sync", 0, real, model);

    cluster
        .create_topic("lonely", 1, 2, &config)
        .expect("a topic");
    let (broker, mut log) = ready(&cluster, "lonely", 0);
    let replicas = cluster.partitions("lonely").expect("a view");
    let away = replicas[0]
        .replicas
        .iter()
        .find(|id| Some(**id) != replicas[0].leader);
    let away = cluster.broker(*away.expect("two replicas"));
    away.terminate().expect("it ends");
    let lonely = ReplicaState {
        replicas: 2,
        ..alone
    };
    while cluster.partitions("lonely").expect("a view")[0]
        .in_sync
        .len()
        > 1
    {
        assert!(began.elapsed() < Duration::from_secs(300), "still in sync");
        std::thread::sleep(Duration::from_millis(100));
    }
    for (step, acks) in [-1, 1].into_iter().enumerate() {
        let real = ask(broker, "lonely", 0, acks, &some);
        let model = answer(&mut log, lonely, acks, &some);
        compare("too few replicas", step, real, model);
    }

    let unknown = (code::UNKNOWN_TOPIC_OR_PARTITION, -1);
    let anybody = broker;
    compare(
        "an unknown partition",
        0,
        ask(anybody, "model", 999, -1, &some),
        unknown,
    );
    compare(
        "an unknown topic",
        0,
        ask(anybody, "nothing", 0, -1, &some),
        unknown,
    );
    println!("{compared} answers compared in {:?}", began.elapsed());
    assert!(differences.is_empty(), "{differences:#?}");
}

/// A broker that is started again remembers one batch of each producer whose records are new.
#[test]
fn the_model_remembers_of_producers_what_a_broker_does_that_is_started_again() {
    if !kafka::require_or_skip(
        "the_model_remembers_of_producers_what_a_broker_does_that_is_started_again",
    ) {
        return;
    }
    const EXPIRATION: i64 = 24 * 60 * 60 * 1_000;
    let _turn = kafka::one_at_a_time();
    let options = kafka::ClusterOptions::default().brokers(1);
    let cluster = kafka::Cluster::start(options).expect("a cluster");
    cluster.create_topic("again", 3, 1, &[]).expect("a topic");
    let broker = &cluster.brokers()[0];
    let now = millis();
    // Of three partitions: new records, old ones, and both from two producers in turns.
    let times = [[now, now], [LONG_AGO, LONG_AGO], [now, LONG_AGO]];
    let sent = |partition: usize, number: usize| {
        let producer = number % 2;
        let stamp = (90_000 + producer as i64, 0, 2 * (number / 2) as i32);
        dated((stamp, times[partition][producer]), 2, 10)
    };
    let mut logs: Vec<_> = (0..3)
        .map(|partition| ready(&cluster, "again", partition).1)
        .collect();
    let mut differences = Vec::new();
    let mut compared = 0;
    let mut compare = |logs: &mut [Log], numbers: &[usize], when: &str| {
        for (partition, log) in logs.iter_mut().enumerate() {
            for number in numbers {
                let batch = sent(partition, *number);
                let began = Instant::now();
                let real = loop {
                    match ask(broker.address(), "again", partition as i32, -1, &batch) {
                        // It has not heard yet that it leads.
                        (3 | 6, _) if began.elapsed() < Duration::from_secs(60) => {
                            std::thread::sleep(Duration::from_millis(50));
                        }
                        told => break told,
                    }
                };
                let model = answer(log, LEADER, -1, &batch);
                println!("{when}, partition {partition}, batch {number}: {real:?}");
                compared += 1;
                if real != model {
                    differences.push(format!(
                        "{when}, partition {partition}, batch {number}: Kafka {real:?}, the model {model:?}"
                    ));
                }
            }
        }
    };
    // Each producer's batches are every second: the last five, from the oldest on, and the next.
    let again = |behind: usize| -> Vec<usize> {
        let last = behind - 10..behind;
        last.chain([behind, behind + 1]).collect()
    };
    compare(&mut logs, &(0..12).collect::<Vec<_>>(), "before");
    compare(&mut logs, &(2..12).collect::<Vec<_>>(), "still running");
    let start_again = |logs: &mut [Log]| {
        broker.restart().expect("it starts again");
        broker.wait_ready().expect("it is back");
        let now = millis();
        logs.iter_mut().for_each(|log| log.reload(now, EXPIRATION));
    };
    broker.kill().expect("it is killed");
    start_again(&mut logs);
    compare(&mut logs, &again(12), "after a crash");
    start_again(&mut logs);
    compare(&mut logs, &again(14), "after a shutdown");
    compare(&mut logs, &[16, 17, 18, 19], "later");
    broker.kill().expect("it is killed");
    start_again(&mut logs);
    compare(&mut logs, &again(20), "after a crash behind a shutdown");
    println!("{compared} answers compared");
    assert!(differences.is_empty(), "{differences:#?}");
}
