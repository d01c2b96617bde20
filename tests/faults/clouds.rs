//! Brokers that behave as those of clouds do. docs/clouds.md says who is like that.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use forebay::{Reason, SendError};
use kafka_protocol::messages::ApiKey;

use crate::scripted::{Answer, Scripted, Twist, node};
use crate::*;

async fn start(produce: i16, twist: Twist, keys: &[(&str, &str)]) -> (Scripted, Producer) {
    let broker = Scripted::start(produce, twist).await;
    let producer = Producer::start(config(&broker.servers(), keys)).expect("a producer");
    (broker, producer)
}

fn changed(change: impl Fn(&mut Answer) + Send + Sync + 'static) -> Twist {
    Twist::answering(move |_, answer| change(answer))
}

/// Has ApiVersions tell another range for an API, or none.
fn range(answer: &mut Answer, key: i16, range: Option<(i16, i16)>) {
    let Answer::ApiVersions(answer) = answer else {
        return;
    };
    match range {
        None => answer.api_keys.retain(|api| api.api_key != key),
        Some((min, max)) => {
            for api in answer.api_keys.iter_mut().filter(|api| api.api_key == key) {
                (api.min_version, api.max_version) = (min, max);
            }
        }
    }
}

/// The numbers of codecs in a batch.
const NONE: u8 = 0;
const GZIP: u8 = 1;

const NOT_IDEMPOTENT: (&str, &str) = ("enable.idempotence", "false");

/// Freight clusters of Confluent Cloud have no idempotence. `delivery.timeout.ms` is two minutes.
#[tokio::test]
async fn without_init_producer_id_it_is_said_at_once_what_to_set() {
    let lacks = || changed(|answer| range(answer, 22, None));
    let (broker, producer) = start(11, lacks(), &[]).await;
    let began = Instant::now();
    let failed = outcome(send(&producer, "x").await).await;
    let Err(Unconfirmed::NotWritten(Reason::NoProducerId { why, .. })) = failed else {
        panic!("{failed:?}");
    };
    assert!(why.contains("set enable.idempotence=false"), "{why}");
    assert!(why.contains("InitProducerId"), "{why}");
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    close(producer).await;
    assert!(broker.values(0).is_empty());

    let (broker, producer) = start(11, lacks(), &[NOT_IDEMPOTENT]).await;
    all_acked(send_all(&producer, 0..100).await).await;
    close(producer).await;
    assert_eq!(broker.values(0), numbers(100));
    assert_eq!(
        broker.requests(ApiKey::InitProducerId),
        0,
        "it is not asked"
    );
}

/// Event Hubs answer what nobody asked for.
#[tokio::test]
async fn answers_to_acks_0_are_let_go() {
    let keys = [("acks", "0"), NOT_IDEMPOTENT];
    let (broker, producer) = start(7, Twist::default(), &keys).await;
    for value in 0..20 {
        let told = outcome(send(&producer, value).await).await;
        assert!(
            matches!(told, Err(Unconfirmed::Unknown(Reason::NotRequested))),
            "{told:?}"
        );
    }
    let arrived = async {
        while broker.values(0).len() < 20 {
            tokio::task::yield_now().await;
        }
    };
    within(arrived).await;
    close(producer).await;
    assert_eq!(broker.values(0), numbers(20));
    // One for metadata, one for records.
    assert_eq!(broker.connections(), 2, "no answer ends a connection");
}

/// Event Hubs end the connection on a request of 1,046,528 bytes or more.
#[tokio::test]
async fn a_limit_on_requests_that_only_ends_the_connection_is_named() {
    const MOST: usize = 100_000;
    let limited = || Twist {
        most: Some(MOST),
        ..Twist::default()
    };
    let timeouts = [
        ("request.timeout.ms", "500"),
        ("delivery.timeout.ms", "1000"),
        ("batch.size", "400000"),
        ("linger.ms", "50"),
    ];
    let (broker, producer) = start(7, limited(), &timeouts).await;
    acked(send(&producer, "small").await).await;
    let large = send_all(&producer, std::iter::repeat_n("x".repeat(30_000), 6)).await;
    for receipt in large {
        let failed = outcome(receipt).await;
        let Err(reason) = failed else {
            panic!("{failed:?}");
        };
        let said = reason.to_string();
        assert!(
            said.contains("lower max.request.size and batch.size"),
            "{said}"
        );
    }
    // What is small goes on.
    acked(send(&producer, "small").await).await;
    close(producer).await;
    assert_eq!(broker.values(0), ["small", "small"]);

    // With the limit set, nothing is lost, and each request keeps to it.
    let keys = [("max.request.size", "96000"), ("batch.size", "64000")];
    let (broker, producer) = start(7, limited(), &keys).await;
    let mut receipts = Vec::new();
    for i in 0..200 {
        let record = Record::to("t").partition(i % 2).value("x".repeat(10_000));
        receipts.push(within(producer.send(record)).await.expect("accepted"));
    }
    all_acked(receipts).await;
    let too_large = within(producer.send(to("x".repeat(97_000)))).await;
    let refused = too_large.expect_err("more than max.request.size");
    assert!(matches!(refused, SendError::TooLarge { .. }), "{refused:?}");
    close(producer).await;
    let largest = broker.sizes().into_iter().max().expect("requests");
    assert!(largest <= 96_000, "{largest}");
    assert!(largest > 60_000, "several batches go together: {largest}");
}

/// Event Hubs take gzip, and say of another codec that the format is not supported; Kafka calls it an
/// unsupported compression type.
#[tokio::test]
async fn a_codec_that_is_not_taken_is_refused_with_what_to_set() {
    let only_gzip = |code| Twist {
        judge: Some(Box::new(move |_, codec| match codec {
            NONE | GZIP => 0,
            _ => code,
        })),
        ..Twist::default()
    };
    for (code, name) in [
        (43, "UNSUPPORTED_FOR_MESSAGE_FORMAT"),
        (76, "UNSUPPORTED_COMPRESSION_TYPE"),
    ] {
        let value = || "x".repeat(1000);
        let (broker, producer) = start(7, only_gzip(code), &[("compression.type", "lz4")]).await;
        let failed = outcome(send(&producer, value()).await).await;
        let Err(Unconfirmed::NotWritten(Reason::Broker(error))) = &failed else {
            panic!("{failed:?}");
        };
        assert_eq!(error.name().as_deref(), Some(name));
        let said = failed.expect_err("refused").to_string();
        assert!(
            said.contains("set compression.type to gzip or none"),
            "{said}"
        );
        close(producer).await;
        assert!(broker.values(0).is_empty());
        for codec in ["gzip", "none"] {
            let (_, producer) = start(7, only_gzip(code), &[("compression.type", codec)]).await;
            acked(send(&producer, value()).await).await;
            close(producer).await;
        }
    }
}

/// Event Hubs have no ids of topics: Metadata end at version 7, Produce too.
#[tokio::test]
async fn brokers_without_ids_of_topics() {
    for metadata in [4, 7, 9] {
        let old = changed(move |answer| range(answer, 3, Some((0, metadata))));
        let (broker, producer) = start(7, old, &[]).await;
        all_acked(send_all(&producer, 0..50).await).await;
        close(producer).await;
        assert_eq!(broker.values(0), numbers(50), "Metadata {metadata}");
    }
}

/// Redpanda may name a leader that it does not list among the brokers.
#[tokio::test]
async fn a_leader_that_is_not_among_the_brokers_is_waited_for() {
    let hidden = std::sync::Arc::new(AtomicBool::new(true));
    let still = std::sync::Arc::clone(&hidden);
    let twist = changed(move |answer| {
        if let Answer::Metadata(answer) = answer
            && still.load(Ordering::Relaxed)
        {
            for partition in answer.topics.iter_mut().flat_map(|it| &mut it.partitions) {
                partition.leader_id = 5.into();
            }
        }
    });
    let (broker, producer) = start(11, twist, &[]).await;
    let receipts = send_all(&producer, 0..10).await;
    let asked = async {
        while broker.requests(ApiKey::Metadata) < 4 {
            tokio::task::yield_now().await;
        }
    };
    within(asked).await;
    hidden.store(false, Ordering::Relaxed);
    all_acked(receipts).await;
    close(producer).await;
    assert_eq!(broker.values(0), numbers(10));
}

/// MSK Serverless and others create no topics by themselves.
#[tokio::test]
async fn a_topic_has_to_be_there() {
    let (_broker, producer) = start(11, Twist::default(), &[("max.block.ms", "200")]).await;
    let refused = within(producer.send(Record::to("absent").value("x"))).await;
    let refused = refused.expect_err("nobody creates it");
    let SendError::TopicUnknown { topic, .. } = &refused else {
        panic!("{refused:?}");
    };
    assert_eq!(&**topic, "absent");
    assert!(
        refused.to_string().contains("UNKNOWN_TOPIC_OR_PARTITION"),
        "{refused}"
    );
    acked(send(&producer, "x").await).await;
    close(producer).await;
}

/// Load balancers of clouds end what was idle for four minutes. Here it is 60 ms.
#[tokio::test]
async fn connections_that_are_closed_when_idle_cost_nothing() {
    let twist = Twist {
        idle: Some(Duration::from_millis(60)),
        ..Twist::default()
    };
    let (broker, producer) = start(11, twist, &[("metadata.max.age.ms", "150")]).await;
    for value in 0..10 {
        acked(send(&producer, value).await).await;
        tokio::time::sleep(Duration::from_millis(70 + 3 * value)).await;
    }
    let figures = producer.figures().await.expect("figures");
    assert_eq!(figures.brokers[0].last_error, None, "that is no failure");
    assert!(broker.connections() > 10, "they were closed");
    close(producer).await;
    assert_eq!(broker.values(0), numbers(10));
}

/// Stores in object storage answer after a quarter of a second: Redpanda's cloud topics, WarpStream,
/// Bufstream, Freight.
#[tokio::test]
async fn slow_answers_are_waited_for_side_by_side() {
    const DELAY: Duration = Duration::from_millis(250);
    let slow = || Twist {
        delay: DELAY,
        ..Twist::default()
    };
    for (in_flight, idempotent, most) in [("1", "true", 1), ("5", "true", 5), ("30", "false", 30)] {
        let keys = [
            ("max.in.flight.requests.per.connection", in_flight),
            ("enable.idempotence", idempotent),
            ("batch.size", "0"),
            // One record in each request.
            ("max.request.size", "2000"),
        ];
        let (broker, producer) = start(11, slow(), &keys).await;
        // What is proven by the first answer goes on side by side.
        acked(send(&producer, "first").await).await;
        let began = Instant::now();
        all_acked(send_all(&producer, (0..30).map(|_| "x".repeat(1500))).await).await;
        let answers = began.elapsed().as_secs_f64() / DELAY.as_secs_f64();
        println!("{in_flight} in flight: 30 requests in the time of {answers:.1} answers");
        assert!(answers >= 30.0 / f64::from(most), "{answers}");
        close(producer).await;
        assert_eq!(broker.values(0).len(), 31);
        let seen = broker.most_unanswered();
        assert!(seen <= most as usize, "{seen} with {in_flight} in flight");
        assert!(
            seen * 2 > most as usize,
            "{seen} with {in_flight} in flight"
        );
    }
}

/// WarpStream and Bufstream read the zone out of the client's id.
#[tokio::test]
async fn the_client_id_reaches_brokers_as_it_is() {
    let id = "orders,ws_az=us-east-1a;zone=a";
    let (broker, producer) = start(11, Twist::default(), &[("client.id", id)]).await;
    acked(send(&producer, "x").await).await;
    close(producer).await;
    assert_eq!(
        broker.client_ids(),
        [id],
        "metadata, producer id and records"
    );
}

/// Behind some proxies all brokers have a single address.
#[tokio::test]
async fn many_brokers_at_one_address() {
    let broker = std::sync::Arc::new(std::sync::OnceLock::new());
    let port = std::sync::Arc::clone(&broker);
    let twist = changed(move |answer| {
        if let Answer::Metadata(answer) = answer {
            let port = *port.get().expect("started");
            answer.brokers = vec![node(1, port), node(2, port)];
            for topic in &mut answer.topics {
                for (number, partition) in (1..).zip(&mut topic.partitions) {
                    partition.leader_id = number.into();
                }
            }
        }
    });
    let scripted = Scripted::start(11, twist).await;
    broker.set(scripted.port).expect("once");
    let producer = Producer::start(config(&scripted.servers(), &[])).expect("a producer");
    for i in 0..20 {
        let record = Record::to("t").partition(i % 2).value(i.to_string());
        acked(within(producer.send(record)).await.expect("accepted")).await;
    }
    close(producer).await;
    for partition in 0..2 {
        let expected = (partition..20).step_by(2).map(|i| i.to_string());
        assert!(expected.eq(scripted.values(partition)));
    }
}
