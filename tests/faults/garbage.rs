//! Answers that no broker should give. Whatever comes, nothing panics, nothing hangs, no count is
//! believed beyond its bytes, and the records are delivered once the broker is in its right mind.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Once};

use forebay::SendError;
use futures_util::StreamExt;
use futures_util::stream;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{ApiKey, MetadataResponse, ProduceResponse};
use uuid::Uuid;

use crate::scripted::{Answer, Reply, Scripted, Twist, node};
use crate::*;

/// The requests a producer makes before its first record is acked.
const ASKED: [ApiKey; 4] = [
    ApiKey::ApiVersions,
    ApiKey::Metadata,
    ApiKey::InitProducerId,
    ApiKey::Produce,
];

/// The last version that names topics, and the first that knows them by their ids.
const PRODUCE: [i16; 2] = [11, 13];

/// Runs so many producers side by side: the time goes into waiting for the next attempt.
const ABREAST: usize = 16;

const CLIENT: &str = "fed with garbage";

static PANICS: AtomicUsize = AtomicUsize::new(0);

/// Counts the panics of the producers of this file, whose threads have the name of their client.
fn count_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let told = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let thread = std::thread::current();
            if thread.name().is_some_and(|name| name == CLIENT) {
                PANICS.fetch_add(1, Ordering::Relaxed);
            }
            told(panic);
        }));
    });
}

/// The most address space the process ever had, in GiB.
fn most_memory() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmPeak:"));
    let kib = peak.and_then(|peak| peak.trim().strip_suffix(" kB")?.trim().parse::<f64>().ok());
    kib.unwrap_or_default() / f64::from(1 << 20)
}

fn start(broker: &Scripted) -> Producer {
    start_with(broker, "300")
}

/// Asks for nothing a second time only because the machine is slow.
fn start_patiently(broker: &Scripted) -> Producer {
    start_with(broker, "30000")
}

fn start_with(broker: &Scripted, request_timeout: &str) -> Producer {
    count_panics();
    let keys = [
        ("client.id", CLIENT),
        ("request.timeout.ms", request_timeout),
        ("metadata.max.age.ms", "1000"),
    ];
    Producer::start(config(&broker.servers(), &keys)).expect("a producer")
}

/// A producer meets the twist, and gets its records through all the same: each once, in order.
async fn survives(what: String, produce: i16, twist: Twist) -> Vec<Outcome> {
    let before = most_memory();
    let broker = Scripted::start(produce, twist).await;
    let producer = start(&broker);
    let mut outcomes = Vec::new();
    for value in 0..3 {
        let deadline = tokio::time::timeout(PATIENCE, producer.send(to(value)));
        let sent = deadline
            .await
            .unwrap_or_else(|_| panic!("{what}: send hangs"));
        let receipt = match sent {
            Ok(receipt) => receipt,
            // As good as the broker said: the topic is not legal, or not allowed.
            Err(SendError::TopicRefused { .. }) => continue,
            Err(refused) => panic!("{what}: {refused}"),
        };
        let deadline = tokio::time::timeout(PATIENCE, receipt).await;
        outcomes.push(deadline.unwrap_or_else(|_| panic!("{what}: record {value} hangs")));
        let figures = producer.figures().await.expect("figures");
        if figures.brokers.iter().any(|broker| broker.throttled) {
            break; // for five minutes at most: that is not waited for
        }
    }
    let log = broker.values(0);
    assert!(
        log.is_sorted() && log.windows(2).all(|two| two[0] != two[1]),
        "{what}: {log:?}"
    );
    for (value, outcome) in outcomes.iter().enumerate() {
        let there = log.contains(&value.to_string());
        match outcome {
            Ok(_) => assert!(there, "{what}: record {value} was acked"),
            Err(Unconfirmed::NotWritten(why)) => assert!(!there, "{what}: {value}: {why}"),
            Err(_) => {}
        }
    }
    let _ = producer.close(Duration::from_millis(50)).await;
    assert_eq!(PANICS.load(Ordering::Relaxed), 0, "{what}: a panic");
    assert!(
        most_memory() - before < 20.0,
        "{what}: memory for what a count claims"
    );
    outcomes
}

fn all_acked(what: &str, outcomes: &[Outcome]) {
    assert_eq!(outcomes.len(), 3, "{what}");
    assert!(outcomes.iter().all(Result::is_ok), "{what}: {outcomes:?}");
}

/// Instead of the first `times` answers of this API comes what `spoil` makes of them.
fn spoiled(
    api: ApiKey,
    times: usize,
    spoil: impl Fn(Vec<u8>) -> Reply + Send + Sync + 'static,
) -> Twist {
    let frame = move |key, before, frame| match key == api && before < times {
        true => spoil(frame),
        false => Reply::Bytes(frame),
    };
    Twist {
        frame: Some(Box::new(frame)),
        ..Twist::default()
    }
}

/// The first answers of each API, whole, as a broker gives them.
async fn honest(produce: i16) -> Vec<(ApiKey, Vec<u8>)> {
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let tell = Arc::clone(&seen);
    let frame = move |key, before, frame: Vec<u8>| {
        if before == 0 {
            tell.lock().expect("no panic").push((key, frame.clone()));
        }
        Reply::Bytes(frame)
    };
    let twist = Twist {
        frame: Some(Box::new(frame)),
        ..Twist::default()
    };
    let outcomes = survives("nothing wrong".to_owned(), produce, twist).await;
    all_acked("nothing wrong", &outcomes);
    let seen = seen.lock().expect("no panic").clone();
    assert_eq!(seen.len(), ASKED.len());
    seen
}

/// Runs all of it, some side by side; each is to end with everything acked.
async fn all_survive(cases: Vec<(String, i16, Twist)>) {
    let cases = cases.into_iter().map(|(what, produce, twist)| async move {
        let outcomes = survives(what.clone(), produce, twist).await;
        all_acked(&what, &outcomes);
    });
    stream::iter(cases)
        .buffer_unordered(ABREAST)
        .collect::<()>()
        .await;
}

#[tokio::test]
async fn a_connection_may_end_at_any_byte_of_any_answer() {
    let mut cases = Vec::new();
    for produce in PRODUCE {
        for (api, frame) in honest(produce).await {
            for end in 0..frame.len() {
                let what = format!("{api:?} closed at byte {end} of {}", frame.len());
                let cut = move |frame: Vec<u8>| Reply::Last(frame[..end].to_vec());
                cases.push((what, produce, spoiled(api, 1, cut)));
            }
        }
    }
    assert!(cases.len() > 300, "{}", cases.len());
    all_survive(cases).await;
}

/// The frame says that it ends there, so its body is too short; or it goes on behind the body.
#[tokio::test]
async fn an_answer_may_be_as_short_or_as_long_as_it_likes() {
    let mut cases = Vec::new();
    for produce in PRODUCE {
        for (api, frame) in honest(produce).await {
            for length in (0..frame.len() - 4).chain([frame.len(), frame.len() + 60_000]) {
                let what = format!("{api:?} of {length} instead of {}", frame.len() - 4);
                let resize = move |mut frame: Vec<u8>| {
                    frame.resize(4 + length, 0);
                    frame[..4].copy_from_slice(&(length as u32).to_be_bytes());
                    Reply::Bytes(frame)
                };
                cases.push((what, produce, spoiled(api, 1, resize)));
            }
        }
    }
    all_survive(cases).await;
}

/// As Java's client does: some brokers append to an answer what its version does not have.
#[tokio::test]
async fn bytes_behind_an_answer_cost_nothing() {
    for produce in PRODUCE {
        let append = |_, _, mut frame: Vec<u8>| {
            frame.extend([0, 7]);
            let length = frame.len() as u32 - 4;
            frame[..4].copy_from_slice(&length.to_be_bytes());
            Reply::Bytes(frame)
        };
        let twist = Twist {
            frame: Some(Box::new(append)),
            ..Twist::default()
        };
        let broker = Scripted::start(produce, twist).await;
        let producer = start_patiently(&broker);
        for value in 0..3 {
            acked(send(&producer, value).await).await;
        }
        assert_eq!(broker.values(0), numbers(3));
        for (api, least) in [(ApiKey::InitProducerId, 1), (ApiKey::Produce, 3)] {
            assert_eq!(broker.requests(api), least, "{api:?} again");
        }
        close(producer).await;
    }
}

#[tokio::test]
async fn an_api_that_is_not_used_may_have_any_versions() {
    let twist = Twist::answering(|_, answer| {
        if let Answer::ApiVersions(answer) = answer {
            for (key, min, max) in [(17, 1, 0), (1, i16::MAX, i16::MIN), (-9, -1, -3)] {
                let senseless = ApiVersion::default()
                    .with_api_key(key)
                    .with_min_version(min)
                    .with_max_version(max);
                answer.api_keys.insert(0, senseless);
            }
        }
    });
    let broker = Scripted::start(13, twist).await;
    let producer = start(&broker);
    acked(send(&producer, 0).await).await;
    close(producer).await;
}

#[tokio::test]
async fn a_broker_without_a_sensible_number_is_none() {
    let twist = Twist::answering(|before, answer| match answer {
        Answer::Metadata(answer) if before < 2 => {
            let port = answer.brokers[0].port;
            answer.brokers = vec![node(-1, 1).with_port(port)];
            for partition in &mut answer.topics[0].partitions {
                partition.leader_id = (-1).into();
            }
        }
        _ => {}
    });
    let broker = Scripted::start(13, twist).await;
    let producer = start(&broker);
    acked(send(&producer, 0).await).await;
    let figures = producer.figures().await.expect("figures");
    let nodes: Vec<_> = figures.brokers.iter().map(|broker| broker.node).collect();
    assert_eq!(nodes, [0], "-1 stands for no broker");
    close(producer).await;
}

#[tokio::test]
async fn an_answer_may_stop_in_the_middle_and_say_nothing_more() {
    let mut cases = Vec::new();
    for (api, frame) in honest(13).await {
        for end in [0, 3, 4, 7, 8, frame.len() / 2, frame.len() - 1] {
            let stop = move |frame: Vec<u8>| Reply::Bytes(frame[..end].to_vec());
            let what = format!("{api:?} stops at byte {end}");
            cases.push((what, 13, spoiled(api, 1, stop)));
        }
    }
    all_survive(cases).await;
}

#[tokio::test]
async fn what_is_no_answer_at_all_is_survived() {
    let senseless: [&[u8]; 9] = [
        b"\xff\xff\xff\xff",
        b"\x80\0\0\0",
        b"\x7f\xff\xff\xff",
        &[4, 0, 0, 1],
        &[0, 0, 0, 0],
        &[0, 0, 0, 2, 7, 7],
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        &[0x15, 3, 1, 0, 2, 2, 22], // a TLS alert
        &[0x16, 3, 3, 0, 40, 2, 0, 0, 36],
    ];
    let mut cases = Vec::new();
    for api in ASKED {
        for bytes in senseless {
            let say = move |_| Reply::Bytes(bytes.to_vec());
            let what = format!("{bytes:?} for {api:?}");
            cases.push((what, 13, spoiled(api, 2, say)));
        }
    }
    all_survive(cases).await;
}

#[tokio::test]
async fn correlation_ids_may_be_wrong_repeated_or_unasked_for() {
    let other = |by: i32| {
        move |mut frame: Vec<u8>| {
            let id = i32::from_be_bytes(frame[4..8].try_into().expect("four bytes"));
            frame[4..8].copy_from_slice(&id.wrapping_add(by).to_be_bytes());
            Reply::Bytes(frame)
        }
    };
    let mut cases = Vec::new();
    for api in ASKED {
        for by in [1, -1, i32::MAX, i32::MIN] {
            let what = format!("{api:?} with a correlation id {by} off");
            cases.push((what, 13, spoiled(api, 2, other(by))));
        }
        let twice = |frame: Vec<u8>| Reply::Bytes([&frame[..], &frame].concat());
        cases.push((format!("{api:?} twice"), 13, spoiled(api, 2, twice)));
    }
    all_survive(cases).await;
}

/// Every four bytes of every answer, as a count or a length that cannot be.
#[tokio::test]
async fn no_number_in_an_answer_is_trusted() {
    let mut cases = Vec::new();
    for produce in PRODUCE {
        for (api, frame) in honest(produce).await {
            for at in 8..frame.len() {
                for lie in [-2i32, i32::MAX, i32::MIN, 0x0101_0101] {
                    let what = format!("{api:?} {produce} with {lie} at byte {at}");
                    let tell = move |mut frame: Vec<u8>| {
                        let end = frame.len().min(at + 4);
                        frame[at..end].copy_from_slice(&lie.to_be_bytes()[..end - at]);
                        Reply::Bytes(frame)
                    };
                    cases.push((what, produce, spoiled(api, 1, tell)));
                }
            }
        }
    }
    assert!(cases.len() > 1000, "{}", cases.len());
    let cases = cases
        .into_iter()
        .map(|(what, produce, twist)| survives(what, produce, twist));
    let outcomes: Vec<_> = stream::iter(cases)
        .buffer_unordered(ABREAST)
        .collect()
        .await;
    // Some lies look like the truth: another offset, another error. Most are seen through.
    let well = |outcomes: &&Vec<Outcome>| outcomes.len() == 3 && outcomes.iter().all(Result::is_ok);
    let seen_through = outcomes.iter().filter(well).count();
    assert!(
        seen_through * 10 > outcomes.len() * 7,
        "{seen_through} of {}",
        outcomes.len()
    );
}

#[tokio::test]
async fn a_produce_answer_may_leave_out_repeat_or_invent_partitions() {
    type Change = fn(&mut ProduceResponse);
    let changes: [(&str, Change); 8] = [
        ("no topic", |answer| answer.responses.clear()),
        ("no partition", |answer| {
            answer.responses[0].partition_responses.clear();
        }),
        ("another partition", |answer| {
            answer.responses[0].partition_responses[0].index = 1;
        }),
        ("a partition that cannot be", |answer| {
            answer.responses[0].partition_responses[0].index = -7;
        }),
        ("another topic", |answer| {
            answer.responses[0].topic_id = Uuid::from_u128(1);
        }),
        ("a topic twice", |answer| {
            let again = answer.responses[0].clone();
            answer.responses.push(again);
        }),
        ("a partition twice, refused the second time", |answer| {
            let partitions = &mut answer.responses[0].partition_responses;
            let again = partitions[0].clone().with_error_code(87);
            partitions.push(again);
        }),
        ("a thousand that nobody asked for", |answer| {
            let more = (1..1000).map(|i| PartitionProduceResponse::default().with_index(i));
            answer.responses[0].partition_responses.extend(more);
        }),
    ];
    let mut cases = Vec::new();
    for (what, change) in changes {
        let twist = Twist::answering(move |before, answer| match answer {
            Answer::Produce(answer) if before < 2 => change(answer),
            _ => {}
        });
        cases.push((what.to_owned(), 13, twist));
    }
    all_survive(cases).await;
}

#[tokio::test]
async fn a_success_without_an_offset_is_one() {
    let twist = Twist::answering(|_, answer| {
        if let Answer::Produce(answer) = answer {
            answer.responses[0].partition_responses[0].base_offset = -1;
        }
    });
    let outcomes = survives("no offset".to_owned(), 13, twist).await;
    for outcome in outcomes {
        assert_eq!(outcome.expect("acked").offset, None);
    }
}

#[tokio::test]
async fn no_throttle_stops_what_is_accepted_for_good() {
    for throttle in [-1, i32::MIN, i32::MAX] {
        let twist = Twist::answering(move |_, answer| match answer {
            Answer::Produce(answer) => answer.throttle_time_ms = throttle,
            Answer::Metadata(answer) => answer.throttle_time_ms = throttle,
            Answer::InitProducerId(answer) => answer.throttle_time_ms = throttle,
            Answer::ApiVersions(answer) => answer.throttle_time_ms = throttle,
            // Logins have no such field.
            Answer::Mechanisms(_) | Answer::Login(_) => {}
        });
        let broker = Scripted::start(13, twist).await;
        let keys = [
            ("request.timeout.ms", "200"),
            ("delivery.timeout.ms", "400"),
        ];
        let producer = Producer::start(config(&broker.servers(), &keys)).expect("a producer");
        acked(send(&producer, 0).await).await;
        // Behind the largest it runs out of its own time, unwritten.
        let next = outcome(send(&producer, 1).await).await;
        match throttle {
            i32::MAX => assert!(is_not_written(&next), "{next:?}"),
            _ => assert!(next.is_ok(), "{next:?}"),
        }
        close(producer).await;
    }
}

#[tokio::test]
async fn what_a_broker_says_it_speaks_may_be_senseless() {
    type Change = fn(&mut Vec<ApiVersion>);
    let changes: [(&str, Change); 5] = [
        ("nothing", Vec::clear),
        ("from more to less", |keys| {
            for key in keys {
                std::mem::swap(&mut key.min_version, &mut key.max_version);
                key.min_version += 1;
            }
        }),
        ("what nobody has yet", |keys| {
            for key in keys {
                (key.min_version, key.max_version) = (1000, i16::MAX);
            }
        }),
        ("what nobody can have", |keys| {
            for key in keys {
                (key.min_version, key.max_version) = (i16::MIN, -1);
            }
        }),
        ("no produce requests", |keys| {
            keys.retain(|key| key.api_key != 0)
        }),
    ];
    let mut cases = Vec::new();
    for (what, change) in changes {
        let twist = Twist::answering(move |before, answer| match answer {
            Answer::ApiVersions(answer) if before < 3 => change(&mut answer.api_keys),
            _ => {}
        });
        cases.push((what.to_owned(), 13, twist));
    }
    // An error beside the versions; UNSUPPORTED_VERSION has it asked in version 0.
    for code in [35, -1, 42, 9999] {
        let twist = Twist::answering(move |before, answer| match answer {
            Answer::ApiVersions(answer) if before < 3 => answer.error_code = code,
            _ => {}
        });
        cases.push((format!("the error {code}"), 13, twist));
    }
    all_survive(cases).await;
}

#[tokio::test]
async fn metadata_may_be_senseless() {
    type Change = fn(&mut MetadataResponse);
    let changes: [(&str, Change); 16] = [
        ("no brokers", |answer| answer.brokers.clear()),
        ("no topics", |answer| answer.topics.clear()),
        ("a broker twice, at another port", |answer| {
            answer.brokers.insert(0, node(0, 1));
        }),
        ("ports that cannot be", |answer| {
            for port in [-1, 0, 65536, i32::MAX] {
                answer.brokers.insert(0, node(9, 1).with_port(port));
            }
        }),
        ("a broker without a name", |answer| {
            answer.brokers[0].host = Default::default();
        }),
        ("a broker at another port", |answer| {
            answer.brokers[0].port = 1
        }),
        ("brokers with negative ids", |answer| {
            answer.brokers.push(node(-1, 1));
            answer.brokers.push(node(i32::MIN, 1));
        }),
        ("a leader nobody knows", |answer| {
            answer.topics[0].partitions[0].leader_id = 77.into();
        }),
        ("no leader", |answer| {
            answer.topics[0].partitions[0].leader_id = (-1).into();
        }),
        ("no partitions", |answer| {
            answer.topics[0].partitions.clear()
        }),
        ("one partition less", |answer| {
            answer.topics[0].partitions.remove(0);
        }),
        ("a partition twice", |answer| {
            let again = answer.topics[0].partitions[0].clone();
            answer.topics[0].partitions.push(again);
        }),
        ("partitions that cannot be", |answer| {
            for (partition, index) in answer.topics[0].partitions.iter_mut().zip([-5, i32::MAX]) {
                partition.partition_index = index;
            }
        }),
        ("another topic id", |answer| {
            answer.topics[0].topic_id = Uuid::from_u128(99);
        }),
        ("another topic", |answer| {
            answer.topics[0].name = Some("u".to_owned().into_name())
        }),
        ("another cluster", |answer| {
            answer.cluster_id = Some(kafka_protocol::protocol::StrBytes::from_static_str("other"));
        }),
    ];
    let mut cases = Vec::new();
    for (what, change) in changes {
        // At the beginning, and when everything was well before.
        for from in [0, 1] {
            let twist = Twist::answering(move |before, answer| match answer {
                Answer::Metadata(answer) if (from..from + 2).contains(&before) => change(answer),
                _ => {}
            });
            cases.push((format!("{what}, from answer {from} on"), 13, twist));
        }
    }
    all_survive(cases).await;
}

trait IntoName {
    fn into_name(self) -> kafka_protocol::messages::TopicName;
}

impl IntoName for String {
    fn into_name(self) -> kafka_protocol::messages::TopicName {
        kafka_protocol::messages::TopicName(self.into())
    }
}

/// With -1 for its id a producer is not idempotent: retries would be appended twice.
#[tokio::test]
async fn no_identity_is_none() {
    for (producer_id, epoch) in [(-1, 0), (-1, -1), (7, -1), (i64::MIN, i16::MIN)] {
        let twist = Twist::answering(move |before, answer| match answer {
            Answer::InitProducerId(answer) if before < 2 => {
                answer.producer_id = producer_id.into();
                answer.producer_epoch = epoch;
            }
            _ => {}
        });
        let broker = Scripted::start(13, twist).await;
        let producer = start_patiently(&broker);
        acked(send(&producer, 0).await).await;
        assert_eq!(
            broker.requests(ApiKey::InitProducerId),
            3,
            "asked until there is one"
        );
        close(producer).await;
    }
}

/// Behind the last epoch there is no next one: a broker is asked for another producer id.
#[tokio::test]
async fn epochs_end() {
    let bumps = AtomicUsize::new(0);
    let twist = Twist::answering(move |before, answer| match answer {
        Answer::InitProducerId(answer) if before == 0 => answer.producer_epoch = i16::MAX - 1,
        Answer::Produce(answer) if bumps.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) => {
            answer.responses[0].partition_responses[0].error_code = 59; // UNKNOWN_PRODUCER_ID
        }
        _ => {}
    });
    let broker = Scripted::start(13, twist).await;
    let producer = start_patiently(&broker);
    for value in 0..5 {
        acked(send(&producer, value).await).await;
    }
    assert_eq!(broker.requests(ApiKey::InitProducerId), 2);
    close(producer).await;
}

/// Sends with `acks=0`. Returns how many connections there were: one of them for metadata.
async fn connections_of_acks_0(answer: impl Fn(Vec<u8>) -> Reply + Send + Sync + 'static) -> usize {
    let broker = Scripted::start(13, spoiled(ApiKey::Produce, usize::MAX, answer)).await;
    let keys = [("acks", "0"), ("enable.idempotence", "false")];
    let producer = Producer::start(config(&broker.servers(), &keys)).expect("a producer");
    for value in 0..20 {
        assert!(is_unknown(&outcome(send(&producer, value).await).await));
        let arrived = async {
            while broker.requests(ApiKey::Produce) <= value {
                tokio::task::yield_now().await;
            }
        };
        // An answer that nothing was sent for ends the connection, and with it what was on its way.
        let _ = tokio::time::timeout(Duration::from_millis(100), arrived).await;
    }
    close(producer).await;
    broker.requests(ApiKey::ApiVersions)
}

#[tokio::test]
async fn answers_to_acks_0_are_let_go() {
    assert_eq!(connections_of_acks_0(Reply::Bytes).await, 2);
}

#[tokio::test]
async fn with_acks_0_an_answer_to_nothing_ends_the_connection() {
    let stray = [0, 0, 0, 4, 9, 9, 9, 9];
    let connections =
        connections_of_acks_0(move |frame| Reply::Bytes([&frame[..], &stray].concat())).await;
    assert!(connections > 2, "{connections}");
}
