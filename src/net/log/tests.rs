use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Buf, BytesMut};
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::fetch_response::{
    FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint, PartitionData,
};
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::{self, BrokerId, FetchRequest, ListOffsetsRequest};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::super::fake::{
    Request, closed_port, flexible, frame, listen, logged_in, login, mechanisms, options,
    read_request, shake_hands,
};
use super::super::term::Term;
use super::*;

const SOON: Duration = Duration::from_millis(5);

fn client() -> LogClient {
    LogClient::new(options())
}

fn log() -> LogOf {
    LogOf {
        topic: "orders".into(),
        topic_id: Uuid::from_u128(7),
        partition: 4,
    }
}

fn at(node: i32, endpoint: &Endpoint) -> LeaderOf {
    LeaderOf {
        node,
        endpoint: endpoint.clone(),
        epoch: 9,
    }
}

fn nodes(by_id: &[(i32, &Endpoint)]) -> Nodes {
    Nodes {
        cluster_id: Some("cluster".into()),
        by_id: by_id.iter().map(|(id, at)| (*id, (*at).clone())).collect(),
    }
}

/// Reads a request's body.
fn asked<R: Decodable>(request: &Request) -> R {
    let mut rest = &request.rest[..];
    // The client id, and the header's tags.
    rest.advance(2 + "test".len() + 1);
    R::decode(&mut rest, request.version).expect("a request")
}

/// What is said of the partition.
#[derive(Clone, Copy, Default)]
struct Told {
    error_code: i16,
    throttle: i32,
    /// The end of the log, or what is replicated of it.
    end: i64,
    /// A new leader, and its port.
    leader: Option<(i32, u16)>,
}

/// The answer to a Fetch or a ListOffsets request.
fn told(request: &Request, told: Told) -> Vec<u8> {
    let (id, version) = (request.correlation_id, request.version);
    if request.api_key == 2 {
        let partition = ListOffsetsPartitionResponse::default()
            .with_partition_index(4)
            .with_error_code(told.error_code)
            .with_offset(told.end);
        let topic = ListOffsetsTopicResponse::default().with_partitions(vec![partition]);
        let answer = messages::ListOffsetsResponse::default()
            .with_throttle_time_ms(told.throttle)
            .with_topics(vec![topic]);
        return flexible(id, version, &answer);
    }
    assert_eq!(request.api_key, 1);
    let mut partition = PartitionData::default()
        .with_partition_index(4)
        .with_error_code(told.error_code)
        .with_high_watermark(told.end)
        .with_log_start_offset(2)
        .with_records(Some(Bytes::from_static(b"batches")));
    let mut answer = messages::FetchResponse::default().with_throttle_time_ms(told.throttle);
    if let Some((node, port)) = told.leader {
        partition = partition.with_current_leader(
            LeaderIdAndEpoch::default()
                .with_leader_id(BrokerId(node))
                .with_leader_epoch(10),
        );
        answer = answer.with_node_endpoints(vec![
            NodeEndpoint::default()
                .with_node_id(BrokerId(node))
                .with_host(StrBytes::from_static_str("127.0.0.1"))
                .with_port(port.into()),
        ]);
    }
    let topic = FetchableTopicResponse::default().with_partitions(vec![partition]);
    flexible(id, version, &answer.with_responses(vec![topic]))
}

/// Answers every request so.
async fn serve(mut stream: TcpStream, it: Told) {
    shake_hands(&mut stream).await;
    while let Some(request) = read_request(&mut stream).await {
        let answer = told(&request, it);
        stream.write_all(&answer).await.expect("open");
    }
}

/// A broker that answers every request so.
async fn broker(it: Told) -> Endpoint {
    listen(move |_, stream| serve(stream, it)).await
}

/// The same, which counts its connections.
async fn counting(it: Told) -> (Endpoint, Arc<AtomicUsize>) {
    let connections = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&connections);
    let endpoint = listen(move |_, stream| {
        counter.fetch_add(1, Ordering::Relaxed);
        serve(stream, it)
    });
    (endpoint.await, connections)
}

/// At the first offset, as much as there is.
async fn read(client: &mut LogClient, leader: &LeaderOf) -> Result<Read, ReadError> {
    client.read(&log(), leader, 0, 1 << 20, SOON).await
}

/// Closed, and no answer either.
fn assert_unanswered(error: &ReadError) -> &NetError {
    assert_eq!(error.follows(), Follows::AskMetadata);
    match error {
        ReadError::Unanswered(error) => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_leader_is_asked_on_one_connection() {
    let (broker, connections) = counting(Told {
        end: 30,
        ..Told::default()
    })
    .await;
    let (mut client, leader) = (client(), at(2, &broker));
    for _ in 0..3 {
        assert_eq!(client.end(&log(), &leader).await.expect("an end"), 30);
        let expected = Read {
            records: Bytes::from_static(b"batches"),
            high_watermark: 30,
            log_start: 2,
        };
        assert_eq!(read(&mut client, &leader).await.expect("records"), expected);
    }
    assert_eq!(connections.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn requests_say_what_is_wanted() {
    let broker = listen(|_, mut stream| async move {
        shake_hands(&mut stream).await;
        let request = read_request(&mut stream).await.expect("a request");
        assert_eq!((request.api_key, request.version), (2, 10));
        let wanted: ListOffsetsRequest = asked(&request);
        assert_eq!((wanted.isolation_level, wanted.timeout_ms), (0, 5_000));
        assert_eq!(&**wanted.topics[0].name, "orders");
        let partition = &wanted.topics[0].partitions[0];
        assert_eq!((partition.partition_index, partition.timestamp), (4, -1));
        assert_eq!(partition.current_leader_epoch, 9);
        let answer = told(&request, Told::default());
        stream.write_all(&answer).await.expect("open");

        // A topic whose id is not known goes by its name.
        for version in [17, 12] {
            let request = read_request(&mut stream).await.expect("a request");
            assert_eq!((request.api_key, request.version), (1, version));
            let wanted: FetchRequest = asked(&request);
            assert_eq!((wanted.isolation_level, wanted.max_wait_ms), (0, 5));
            let topic = &wanted.topics[0];
            match version {
                12 => assert_eq!(&**topic.topic, "orders"),
                _ => assert_eq!(topic.topic_id, Uuid::from_u128(7)),
            }
            let partition = &topic.partitions[0];
            assert_eq!((partition.partition, partition.fetch_offset), (4, 20));
            assert_eq!(partition.current_leader_epoch, 9);
            assert_eq!(
                (wanted.max_bytes, partition.partition_max_bytes),
                (300, 300)
            );
            let answer = told(&request, Told::default());
            stream.write_all(&answer).await.expect("open");
        }
    });
    let (mut client, leader) = (client(), at(2, &broker.await));
    client.end(&log(), &leader).await.expect("an end");
    let mut log = log();
    for id in [log.topic_id, Uuid::nil()] {
        log.topic_id = id;
        let reading = client.read(&log, &leader, 20, 300, SOON).await;
        reading.expect("records");
    }
}

#[tokio::test]
async fn each_leader_has_a_connection_of_its_own() {
    let mut client = client();
    let mut brokers = Vec::new();
    for node in 0..3 {
        let end = i64::from(node);
        let it = Told {
            end,
            ..Told::default()
        };
        brokers.push(counting(it).await);
    }
    for _ in 0..2 {
        for (node, (broker, _)) in (0..3).zip(&brokers[..2]) {
            let end = client.end(&log(), &at(node, broker)).await;
            assert_eq!(end.expect("an end"), i64::from(node));
        }
    }
    let counts = brokers.iter().map(|(_, it)| it.load(Ordering::Relaxed));
    assert_eq!(counts.collect::<Vec<_>>(), [1, 1, 0]);
}

#[tokio::test]
async fn a_refusal_says_what_follows() {
    for (code, refusal, follows) in [
        (6, Refusal::NotLeader, Follows::AskMetadata),
        (74, Refusal::NotLeader, Follows::AskMetadata),
        (75, Refusal::NotLeader, Follows::AskMetadata),
        (3, Refusal::NoTopic, Follows::AskMetadata),
        (100, Refusal::NoTopic, Follows::AskMetadata),
        (103, Refusal::NoTopic, Follows::AskMetadata),
        (78, Refusal::Passing, Follows::Retry),
        (1, Refusal::OutOfRange, Follows::AskMetadataFirst),
        (29, Refusal::Denied, Follows::Never),
        (2, Refusal::Final, Follows::Never),
        (999, Refusal::Final, Follows::Never),
    ] {
        let (broker, connections) = counting(Told {
            error_code: code,
            // So it is beside an error.
            end: -1,
            ..Told::default()
        })
        .await;
        let (mut client, leader) = (client(), at(2, &broker));
        let ended = client.end(&log(), &leader).await.map(|_| ());
        let read = read(&mut client, &leader).await.map(|_| ());
        for (outcome, api) in [(ended, Api::ListOffsets), (read, Api::Fetch)] {
            let error = outcome.expect_err("a refusal");
            assert_eq!((error.refusal(), error.follows()), (Some(refusal), follows));
            let ReadError::Refused(refused) = error else {
                panic!("{error:?}");
            };
            assert_eq!((refused.api, refused.node), (api, 2));
            assert_eq!(refused.log, TopicPartition::new("orders", 4));
            assert_eq!(refused.error, BrokerError::new(code));
            assert_eq!((refused.leader, refused.nodes.len()), (None, 0));
        }
        assert_eq!(connections.load(Ordering::Relaxed), 1);
    }
}

/// Whoever may produce to a topic may not therefore read it.
#[tokio::test]
async fn a_refusal_names_the_acl_that_reading_needs() {
    let broker = broker(Told {
        error_code: 29,
        ..Told::default()
    })
    .await;
    let (mut client, leader) = (client(), at(2, &broker));
    client.options.security.principal = Some("User:alice".into());
    let ended = client.end(&log(), &leader).await.expect_err("denied");
    assert_eq!(
        ended.to_string(),
        "broker 2 refuses the ListOffsets request for orders-4: TOPIC_AUTHORIZATION_FAILED (29); \
         User:alice needs the ACL DESCRIBE on the topic"
    );
    let read = read(&mut client, &leader).await.expect_err("denied");
    assert_eq!(
        read.to_string(),
        "broker 2 refuses the Fetch request for orders-4: TOPIC_AUTHORIZATION_FAILED (29); \
         User:alice needs the ACL READ on the topic"
    );
}

/// 76 has advice on codecs for those who produce.
#[tokio::test]
async fn a_refusal_gives_no_advice_on_producing() {
    let it = Told {
        error_code: 76,
        ..Told::default()
    };
    let leader = at(2, &broker(it).await);
    let error = read(&mut client(), &leader).await.expect_err("refused");
    assert_eq!(
        error.to_string(),
        "broker 2 refuses the Fetch request for orders-4: UNSUPPORTED_COMPRESSION_TYPE (76)"
    );
}

#[tokio::test]
async fn a_former_leader_names_the_new_one() {
    let present = broker(Told {
        end: 8,
        ..Told::default()
    })
    .await;
    let former = broker(Told {
        error_code: 6,
        end: -1,
        leader: Some((3, present.port)),
        ..Told::default()
    })
    .await;
    let mut client = client();
    let error = read(&mut client, &at(2, &former)).await.expect_err("moved");
    assert_eq!(error.follows(), Follows::AskMetadata);
    let ReadError::Refused(refused) = error else {
        panic!("{error:?}");
    };
    let hint = refused.leader.expect("a leader");
    assert_eq!((hint.node_id, hint.epoch), (3, 10));
    let [node] = &refused.nodes[..] else {
        panic!("{refused:?}");
    };
    assert_eq!(
        (node.id, &*node.host, node.port),
        (3, "127.0.0.1", present.port)
    );
    let leader = LeaderOf {
        node: hint.node_id,
        endpoint: Endpoint::new(node.host.clone(), node.port),
        epoch: hint.epoch,
    };
    let read = read(&mut client, &leader).await.expect("records");
    assert_eq!(read.high_watermark, 8);
}

#[tokio::test]
async fn what_nobody_can_read_is_no_answer() {
    type Say = fn(&Request) -> Vec<u8>;
    let broken: [Say; 6] = [
        |request| frame(request.correlation_id, b"nonsense, and more of it"),
        |request| frame(request.correlation_id, &[]),
        |request| frame(request.correlation_id + 1, &[0; 20]),
        |_| b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
        // About nothing.
        |request| match request.api_key {
            1 => flexible(
                request.correlation_id,
                request.version,
                &messages::FetchResponse::default(),
            ),
            _ => flexible(
                request.correlation_id,
                request.version,
                &messages::ListOffsetsResponse::default(),
            ),
        },
        // No error, and no end; and one that is cut off.
        |request| {
            let mut answer = told(
                request,
                Told {
                    end: -1,
                    ..Told::default()
                },
            );
            if request.api_key == 1 {
                answer.truncate(answer.len() - 1);
            }
            answer
        },
    ];
    for (number, say) in broken.into_iter().enumerate() {
        for is_read in [false, true] {
            let broker = listen(move |connection, mut stream| async move {
                if connection == 1 {
                    return serve(stream, Told::default()).await;
                }
                shake_hands(&mut stream).await;
                let request = read_request(&mut stream).await.expect("a request");
                stream.write_all(&say(&request)).await.expect("open");
            });
            let (mut client, leader) = (client(), at(2, &broker.await));
            let outcome = match is_read {
                true => read(&mut client, &leader).await.map(|_| ()),
                false => client.end(&log(), &leader).await.map(|_| ()),
            };
            let error = outcome.expect_err("nonsense");
            assert_unanswered(&error);
            assert!(client.brokers[&2].live.is_none(), "{number}: {error}");
            // That connection is gone.
            assert_eq!(client.end(&log(), &leader).await.expect("an end"), 0);
        }
    }
}

#[tokio::test]
async fn a_broker_that_is_not_there_is_no_answer() {
    let (mut client, leader) = (client(), at(2, &closed_port()));
    let error = read(&mut client, &leader).await.expect_err("nobody");
    let error = assert_unanswered(&error);
    assert!(matches!(error, NetError::Connect { .. }), "{error:?}");
}

#[tokio::test]
async fn an_idle_connection_that_was_closed_is_made_anew() {
    let broker = listen(|number, mut stream| async move {
        if number == 1 {
            return serve(stream, Told::default()).await;
        }
        shake_hands(&mut stream).await;
        let request = read_request(&mut stream).await.expect("a request");
        let answer = told(&request, Told::default());
        stream.write_all(&answer).await.expect("open");
    });
    let (mut client, leader) = (client(), at(2, &broker.await));
    for _ in 0..3 {
        client.end(&log(), &leader).await.expect("an end");
    }
}

/// So a broker that closes every connection is not asked again and again.
#[tokio::test]
async fn a_new_connection_that_is_closed_is_an_error() {
    let connections = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&connections);
    let broker = listen(move |number, mut stream| {
        let counter = Arc::clone(&counter);
        async move {
            counter.fetch_add(1, Ordering::Relaxed);
            shake_hands(&mut stream).await;
            let request = read_request(&mut stream).await.expect("a request");
            if number == 0 {
                let answer = told(&request, Told::default());
                stream.write_all(&answer).await.expect("open");
            }
        }
    });
    let (mut client, leader) = (client(), at(2, &broker.await));
    client.end(&log(), &leader).await.expect("an end");
    for expected in [2, 3] {
        let error = client.end(&log(), &leader).await.expect_err("closed");
        let error = assert_unanswered(&error);
        assert!(matches!(error, NetError::ClosedAfterHandshake { .. }));
        assert_eq!(connections.load(Ordering::Relaxed), expected);
    }
}

/// A broker that answers nothing on the first connection.
async fn silent_at_first() -> Endpoint {
    listen(|number, mut stream| async move {
        if number > 0 {
            return serve(stream, Told::default()).await;
        }
        shake_hands(&mut stream).await;
        while read_request(&mut stream).await.is_some() {}
    })
    .await
}

#[tokio::test]
async fn silence_ends_the_connection() {
    let leader = at(2, &silent_at_first().await);
    let mut client = client();
    let limit = Duration::from_millis(300);
    client.options.request_timeout = limit;
    let error = client.end(&log(), &leader).await.expect_err("silence");
    let NetError::RequestTimeout { api, after, .. } = assert_unanswered(&error) else {
        panic!("{error:?}");
    };
    assert_eq!((*api, *after), (Api::ListOffsets, limit));
    client.end(&log(), &leader).await.expect("an end");
}

#[tokio::test]
async fn a_broker_may_wait_for_records_beside_the_time_for_a_request() {
    let broker = listen(|_, mut stream| async move {
        shake_hands(&mut stream).await;
        let request = read_request(&mut stream).await.expect("a request");
        sleep(Duration::from_millis(500)).await;
        let answer = told(&request, Told::default());
        stream.write_all(&answer).await.expect("open");
    });
    let leader = at(2, &broker.await);
    let mut client = client();
    client.options.request_timeout = Duration::from_millis(300);
    let wait = Duration::from_secs(4);
    let reading = client.read(&log(), &leader, 0, 1 << 20, wait).await;
    reading.expect("an answer in time");

    let leader = at(3, &silent_at_first().await);
    let wait = Duration::from_millis(30);
    let reading = client.read(&log(), &leader, 0, 1 << 20, wait).await;
    let error = reading.expect_err("silence");
    let NetError::RequestTimeout { api, after, .. } = assert_unanswered(&error) else {
        panic!("{error:?}");
    };
    assert_eq!((*api, *after), (Api::Fetch, Duration::from_millis(330)));
}

#[tokio::test]
async fn an_attempt_that_is_dropped_closes_its_connection() {
    let leader = at(2, &silent_at_first().await);
    let mut client = client();
    let short = Duration::from_millis(300);
    assert!(timeout(short, read(&mut client, &leader)).await.is_err());
    assert!(client.brokers[&2].live.is_none());
    client.end(&log(), &leader).await.expect("an end");
}

const THROTTLE: Duration = Duration::from_millis(500);

#[tokio::test]
async fn a_broker_that_throttles_is_left_alone_for_that_time() {
    let busy = broker(Told {
        throttle: THROTTLE.as_millis() as i32,
        ..Told::default()
    });
    let (busy, idle) = (at(2, &busy.await), at(3, &broker(Told::default()).await));
    let mut client = client();
    client.end(&log(), &busy).await.expect("an end");
    let answered = Instant::now();
    // Others are not.
    client.end(&log(), &idle).await.expect("an end");
    assert!(client.brokers[&3].throttled_until.is_none());
    // An attempt that is dropped meanwhile changes nothing.
    let short = Duration::from_millis(20);
    assert!(timeout(short, read(&mut client, &busy)).await.is_err());
    assert!(client.brokers[&2].live.is_some());
    read(&mut client, &busy).await.expect("records");
    assert!(answered.elapsed() >= THROTTLE);
    // So does the answer to a Fetch request, and a lost connection does not end it.
    let answered = Instant::now();
    client.brokers.get_mut(&2).expect("connected").live = None;
    client.end(&log(), &busy).await.expect("an end");
    assert!(answered.elapsed() >= THROTTLE);
}

/// Brokers leave out of the answer what was asked for when it exceeds a quota.
#[tokio::test]
async fn an_answer_that_only_throttles_is_asked_for_again() {
    let broker = listen(|_, mut stream| async move {
        shake_hands(&mut stream).await;
        let request = read_request(&mut stream).await.expect("a request");
        let wait = THROTTLE.as_millis() as i32;
        let answer = messages::FetchResponse::default().with_throttle_time_ms(wait);
        let answer = flexible(request.correlation_id, request.version, &answer);
        stream.write_all(&answer).await.expect("open");
        let answered = Instant::now();
        let request = read_request(&mut stream).await.expect("a request");
        assert!(answered.elapsed() >= THROTTLE);
        let answer = told(&request, Told::default());
        stream.write_all(&answer).await.expect("open");
    });
    let (mut client, leader) = (client(), at(2, &broker.await));
    let error = read(&mut client, &leader).await.expect_err("throttled");
    assert_eq!((error.follows(), error.refusal()), (Follows::Retry, None));
    assert_eq!(
        error.to_string(),
        "broker 2 reads nothing for this client for 500ms, since it exceeds a quota"
    );
    read(&mut client, &leader).await.expect("records");
}

#[tokio::test]
async fn brokers_that_leave_or_move_lose_their_connections() {
    let brokers = [(); 3].map(|()| counting(Told::default()));
    let [a, b, c] = brokers;
    let [(a, of_a), (b, _), (c, of_c)] = [a.await, b.await, c.await];
    let mut client = client();
    for (node, broker) in [(1, &a), (2, &b)] {
        client.end(&log(), &at(node, broker)).await.expect("an end");
    }
    client.set_nodes(&nodes(&[(1, &a), (2, &c)]));
    let connected = |client: &LogClient| client.brokers.keys().copied().collect::<Vec<_>>();
    assert_eq!(connected(&client), [1]);
    client.end(&log(), &at(1, &a)).await.expect("an end");
    assert_eq!(of_a.load(Ordering::Relaxed), 1);
    // Whom metadata do not know yet is connected where it is said to be.
    client.end(&log(), &at(3, &b)).await.expect("an end");
    client.end(&log(), &at(3, &c)).await.expect("an end");
    assert_eq!(of_c.load(Ordering::Relaxed), 1);
    client.set_nodes(&nodes(&[(2, &a)]));
    assert_eq!(connected(&client), [0; 0]);
}

#[tokio::test]
async fn the_leader_is_told_whom_the_connection_is_meant_for() {
    let broker = listen(|_, mut stream| async move {
        let request = read_request(&mut stream).await.expect("a request");
        assert_eq!((request.api_key, request.version), (18, 5));
        let refusal = frame(request.correlation_id, &[0, 129, 1, 0, 0, 0, 0, 0]);
        assert!(request.rest.ends_with(b"\x08cluster\0\0\0\x03\0"));
        stream.write_all(&refusal).await.expect("open");
    })
    .await;
    let mut client = client();
    client.set_nodes(&nodes(&[(3, &broker)]));
    let error = read(&mut client, &at(3, &broker)).await;
    let error = error.expect_err("another broker");
    let error = assert_unanswered(&error);
    assert!(matches!(error, NetError::NotAddressed { .. }), "{error:?}");
}

/// Responds to the handshake of a broker that serves Fetch in these versions, and not ListOffsets.
async fn shake_hands_serving(stream: &mut TcpStream, (min, max): (i16, i16)) {
    let request = read_request(stream).await.expect("a handshake");
    let keys = [(18, 0, 4), (1, min, max)].map(|(key, min, max)| {
        ApiVersion::default()
            .with_api_key(key)
            .with_min_version(min)
            .with_max_version(max)
    });
    let answer = messages::ApiVersionsResponse::default().with_api_keys(keys.to_vec());
    let mut body = BytesMut::new();
    answer.encode(&mut body, request.version).expect("valid");
    let answer = frame(request.correlation_id, &body);
    stream.write_all(&answer).await.expect("open");
}

#[tokio::test]
async fn a_request_without_a_common_version_is_not_sent() {
    let broker = listen(|_, mut stream| async move {
        shake_hands_serving(&mut stream, (13, 18)).await;
        // Only what it can be asked arrives.
        if let Some(request) = read_request(&mut stream).await {
            assert_eq!((request.api_key, request.version), (1, 17));
            let answer = told(&request, Told::default());
            stream.write_all(&answer).await.expect("open");
        }
    });
    let (mut client, leader) = (client(), at(2, &broker.await));
    let by_name = LogOf {
        topic_id: Uuid::nil(),
        ..log()
    };
    let ended = client.end(&log(), &leader).await.map(|_| ());
    let read_by_name = client.read(&by_name, &leader, 0, 1 << 20, SOON).await;
    for (outcome, api) in [
        (ended, Api::ListOffsets),
        (read_by_name.map(|_| ()), Api::Fetch),
    ] {
        let error = outcome.expect_err("not served");
        assert_eq!((error.follows(), error.refusal()), (Follows::Never, None));
        let ReadError::NotServed(error) = error else {
            panic!("{error:?}");
        };
        assert!(error.not_served(api).is_some(), "{error}");
    }
    read(&mut client, &leader).await.expect("records");
}

#[tokio::test]
async fn a_login_that_ends_is_renewed_before_a_request() {
    let logins = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&logins);
    let broker = listen(move |_, mut stream| {
        let counter = Arc::clone(&counter);
        async move {
            shake_hands(&mut stream).await;
            while let Some(request) = read_request(&mut stream).await {
                let id = request.correlation_id;
                let answer = match request.api_key {
                    17 => mechanisms(id, 0, &["PLAIN"]),
                    36 => {
                        counter.fetch_add(1, Ordering::Relaxed);
                        logged_in(id, (0, ""), 0)
                    }
                    _ => told(&request, Told::default()),
                };
                stream.write_all(&answer).await.expect("open");
            }
        }
    });
    let (mut client, leader) = (client(), at(2, &broker.await));
    client.options.security.login = Some(login());
    client.end(&log(), &leader).await.expect("an end");
    assert_eq!(logins.load(Ordering::Relaxed), 1);
    let broker = client.brokers.get_mut(&2).expect("asked");
    let (now, live) = (Instant::now(), broker.live.as_mut().expect("a connection"));
    live.connection.term = Some(Term::at("alice", now, now + Duration::from_secs(60)));
    read(&mut client, &leader).await.expect("records");
    assert_eq!(logins.load(Ordering::Relaxed), 2);
}
