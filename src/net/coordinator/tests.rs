use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Buf;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{self, BrokerId, FindCoordinatorRequest};
use kafka_protocol::protocol::{Decodable, StrBytes};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::super::fake::{
    Request, closed_port, flexible, frame, listen, logged_in, login, mechanisms, options,
    read_request, shake_hands, shake_hands_at,
};
use super::super::term::Term;
use super::*;
use crate::core::wire::Transactor;
use crate::core::wire::end_txn::{self, EndTxnResponse};

const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

fn client(bootstrap: &Endpoint) -> CoordinatorClient {
    let key = CoordinatorKey::Transaction("orders-1".into());
    CoordinatorClient::new(key, vec![bootstrap.clone()], options(), BACKOFF, 1)
}

/// Commits, in this protocol.
async fn commit(
    client: &mut CoordinatorClient,
    protocol: TransactionProtocol,
) -> Result<EndTxnResponse, CoordinatorError> {
    let transactor = Transactor {
        transactional_id: "orders-1",
        producer_id: 7,
        epoch: 3,
    };
    let encode = |version, correlation_id, client_id: &str| {
        end_txn::encode(version, correlation_id, client_id, transactor, true)
    };
    let decode = EndTxnResponse::decode;
    client.ask(protocol, Api::EndTxn, encode, decode).await
}

async fn commit_v1(client: &mut CoordinatorClient) -> Result<i16, CoordinatorError> {
    let answer = commit(client, TransactionProtocol::V1).await?;
    Ok(answer.error_code)
}

/// A FindCoordinator response with this error, and this coordinator.
fn coordinator(request: &Request, error_code: i16, at: &Endpoint) -> Vec<u8> {
    let mut rest = &request.rest[..];
    // The client id, and the header's tags.
    rest.advance(2 + "test".len() + 1);
    let asked = FindCoordinatorRequest::decode(&mut rest, request.version).expect("a request");
    assert_eq!(request.api_key, 10);
    assert_eq!(asked.key_type, 1);
    assert_eq!(&*asked.coordinator_keys[0], "orders-1");
    let found = Coordinator::default()
        .with_key(asked.coordinator_keys[0].clone())
        .with_error_code(error_code)
        .with_error_message(Some(StrBytes::from_static_str("so it is")))
        .with_node_id(BrokerId(3))
        .with_host(StrBytes::from_string(at.host.clone()))
        .with_port(i32::from(at.port));
    let answer = messages::FindCoordinatorResponse::default().with_coordinators(vec![found]);
    flexible(request.correlation_id, request.version, &answer)
}

/// Answers one FindCoordinator request of each connection, with each of these by turns.
async fn finder(found: Vec<(i16, Endpoint)>) -> (Endpoint, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let endpoint = listen(move |number, mut stream| {
        let (found, counter) = (found.clone(), Arc::clone(&counter));
        async move {
            shake_hands(&mut stream).await;
            let Some(request) = read_request(&mut stream).await else {
                return;
            };
            counter.fetch_add(1, Ordering::Relaxed);
            let (error_code, at) = &found[number % found.len()];
            let answer = coordinator(&request, *error_code, at);
            stream.write_all(&answer).await.expect("open");
            assert!(read_request(&mut stream).await.is_none(), "let go of");
        }
    });
    (endpoint.await, asked)
}

/// An EndTxn response.
fn ended(request: &Request, error_code: i16) -> Vec<u8> {
    assert_eq!(request.api_key, 26);
    let mut answer = messages::EndTxnResponse::default().with_error_code(error_code);
    if request.version >= 5 {
        answer = answer.with_producer_id(7.into()).with_producer_epoch(4);
    }
    flexible(request.correlation_id, request.version, &answer)
}

/// Answers each EndTxn request with this error.
async fn serve(mut stream: TcpStream, error_code: i16) {
    shake_hands(&mut stream).await;
    while let Some(request) = read_request(&mut stream).await {
        let answer = ended(&request, error_code);
        stream.write_all(&answer).await.expect("open");
    }
}

#[tokio::test]
async fn the_coordinator_is_found_and_keeps_one_connection() {
    let connections = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&connections);
    let keeper = listen(move |_, stream| {
        counter.fetch_add(1, Ordering::Relaxed);
        serve(stream, 0)
    });
    let keeper = keeper.await;
    let (bootstrap, asked) = finder(vec![(0, keeper.clone())]).await;
    let mut client = client(&bootstrap);
    assert!(client.broker().is_none() && client.versions().is_none());
    for _ in 0..5 {
        assert_eq!(commit_v1(&mut client).await.expect("an answer"), 0);
        assert_eq!(client.broker(), Some(&keeper));
    }
    let counts = [&connections, &asked].map(|it| it.load(Ordering::Relaxed));
    assert_eq!(counts, [1, 1]);
}

#[tokio::test]
async fn requests_go_in_the_protocol_they_are_meant_in() {
    let keeper = listen(|_, mut stream| async move {
        shake_hands_at(&mut stream, 2).await;
        for version in [4, 5, 4] {
            let request = read_request(&mut stream).await.expect("a request");
            assert_eq!(request.version, version);
            let answer = ended(&request, 0);
            stream.write_all(&answer).await.expect("open");
        }
    });
    let (bootstrap, _) = finder(vec![(0, keeper.await)]).await;
    let mut client = client(&bootstrap);
    for (protocol, next) in [
        (TransactionProtocol::V1, None),
        (TransactionProtocol::V2, Some((7, 4))),
        (TransactionProtocol::V1, None),
    ] {
        let answer = commit(&mut client, protocol).await.expect("an answer");
        assert_eq!(answer.next, next);
    }
}

#[tokio::test]
async fn each_connection_learns_the_protocol_anew() {
    let keeper = listen(|number, mut stream| async move {
        shake_hands_at(&mut stream, [0, 1, 2][number]).await;
        let request = read_request(&mut stream).await.expect("a request");
        let answer = ended(&request, 0);
        stream.write_all(&answer).await.expect("open");
    });
    let (bootstrap, asked) = finder(vec![(0, keeper.await)]).await;
    let mut client = client(&bootstrap);
    for (level, protocol) in [
        (0, TransactionProtocol::V1),
        (1, TransactionProtocol::V1),
        (2, TransactionProtocol::V2),
    ] {
        let versions = client.connect().await.expect("a coordinator");
        assert_eq!(versions.transaction_version(), level);
        assert_eq!(versions.transaction_protocol(), protocol);
        commit(&mut client, protocol).await.expect("an answer");
        let versions = client.versions().expect("connected");
        assert_eq!(versions.transaction_version(), level);
        assert_eq!(client.protocol(), Some(protocol));
        client.live = None;
        assert_eq!(client.protocol(), None);
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn another_coordinator_is_looked_for_when_it_is_forgotten() {
    let former = listen(|_, stream| serve(stream, 16)).await;
    let present = listen(|_, stream| serve(stream, 0)).await;
    let (bootstrap, asked) = finder(vec![(0, former.clone()), (0, present.clone())]).await;
    let mut client = client(&bootstrap);
    for _ in 0..2 {
        assert_eq!(commit_v1(&mut client).await.expect("an answer"), 16);
        assert_eq!(client.broker(), Some(&former));
    }
    client.forget();
    assert_eq!(client.broker(), None);
    assert_eq!(commit_v1(&mut client).await.expect("an answer"), 0);
    assert_eq!(client.broker(), Some(&present));
    assert_eq!(asked.load(Ordering::Relaxed), 2);
}

/// The broker closes connections that were idle for long. That leaves no request in doubt.
#[tokio::test]
async fn an_idle_connection_that_was_closed_is_replaced_before_anything_is_sent() {
    let keeper = listen(|number, mut stream| async move {
        if number > 0 {
            return serve(stream, 51).await;
        }
        shake_hands(&mut stream).await;
        let request = read_request(&mut stream).await.expect("a request");
        let answer = ended(&request, 0);
        stream.write_all(&answer).await.expect("open");
    });
    let (bootstrap, asked) = finder(vec![(0, keeper.await)]).await;
    let mut client = client(&bootstrap);
    assert_eq!(commit_v1(&mut client).await.expect("an answer"), 0);
    // Until it is closed.
    while client.live.as_mut().expect("a connection").is_open() {
        tokio::task::yield_now().await;
    }
    assert_eq!(commit_v1(&mut client).await.expect("an answer"), 51);
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_request_that_may_have_arrived_is_in_doubt_and_not_sent_twice() {
    let requests = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&requests);
    let keeper = listen(move |number, mut stream| {
        let counter = Arc::clone(&counter);
        async move {
            if number == 2 {
                return serve(stream, 0).await;
            }
            shake_hands(&mut stream).await;
            if number == 0 {
                let request = read_request(&mut stream).await.expect("a request");
                let answer = ended(&request, 0);
                stream.write_all(&answer).await.expect("open");
            }
            if read_request(&mut stream).await.is_some() {
                counter.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    let (bootstrap, asked) = finder(vec![(0, keeper.await)]).await;
    let mut client = client(&bootstrap);
    assert_eq!(commit_v1(&mut client).await.expect("an answer"), 0);
    for expected in [1, 2] {
        let error = commit_v1(&mut client).await.expect_err("closed");
        assert!(error.is_doubt(), "{error:?}");
        assert_eq!(requests.load(Ordering::Relaxed), expected);
    }
    // It is the same coordinator as long as nobody says otherwise.
    assert_eq!(commit_v1(&mut client).await.expect("an answer"), 0);
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn silence_is_doubt_and_ends_the_connection() {
    let keeper = listen(|number, mut stream| async move {
        if number == 1 {
            return serve(stream, 0).await;
        }
        shake_hands(&mut stream).await;
        while read_request(&mut stream).await.is_some() {}
    });
    let (bootstrap, _) = finder(vec![(0, keeper.await)]).await;
    let mut client = client(&bootstrap);
    client.options.request_timeout = Duration::from_millis(300);
    let error = commit_v1(&mut client).await.expect_err("silence");
    let CoordinatorError::Unanswered(NetError::RequestTimeout { api, .. }) = error else {
        panic!("{error:?}");
    };
    assert_eq!(api, Api::EndTxn);
    assert!(client.versions().is_none());
    assert_eq!(commit_v1(&mut client).await.expect("an answer"), 0);
}

#[tokio::test]
async fn an_attempt_that_is_dropped_closes_its_connection() {
    let keeper = listen(|number, mut stream| async move {
        if number == 1 {
            return serve(stream, 0).await;
        }
        shake_hands(&mut stream).await;
        while read_request(&mut stream).await.is_some() {}
    });
    let (bootstrap, _) = finder(vec![(0, keeper.await)]).await;
    let mut client = client(&bootstrap);
    let short = Duration::from_millis(300);
    assert!(timeout(short, commit_v1(&mut client)).await.is_err());
    assert!(client.live.is_none());
    assert_eq!(commit_v1(&mut client).await.expect("an answer"), 0);
}

#[tokio::test]
async fn what_was_not_sent_is_not_in_doubt() {
    let (bootstrap, asked) = finder(vec![(0, closed_port())]).await;
    for bootstrap in [closed_port(), bootstrap] {
        let mut client = client(&bootstrap);
        for _ in 0..2 {
            let error = commit_v1(&mut client).await.expect_err("not reached");
            let net = matches!(&error, CoordinatorError::NotSent(NetError::Connect { .. }));
            assert!(net && !error.is_doubt(), "{error:?}");
        }
    }
    // The coordinator that is not reached is known.
    assert_eq!(asked.load(Ordering::Relaxed), 1);

    // In the second protocol there is no version of this for it.
    let keeper = listen(|_, stream| serve(stream, 0)).await;
    let (bootstrap, _) = finder(vec![(0, keeper)]).await;
    let mut client = client(&bootstrap);
    let error = client
        .ask(
            TransactionProtocol::V2,
            Api::TxnOffsetCommit,
            |_, _, _| panic!("there is no version to encode"),
            |_, _| Ok(()),
        )
        .await
        .expect_err("not offered");
    let CoordinatorError::NotSent(error) = error else {
        panic!("{error:?}");
    };
    assert!(error.not_served(Api::TxnOffsetCommit).is_some());
}

#[tokio::test]
async fn a_refusal_to_name_the_coordinator_is_told() {
    let nobody = Endpoint::new("", 0);
    let keeper = listen(|_, stream| serve(stream, 0)).await;
    let found = [(15, &nobody), (53, &nobody), (0, &nobody), (0, &keeper)];
    let found = found.map(|(code, at)| (code, at.clone()));
    let (bootstrap, asked) = finder(found.to_vec()).await;
    let mut client = client(&bootstrap);
    for expected in [15, 53, 15] {
        let error = commit_v1(&mut client).await.expect_err("refused");
        let CoordinatorError::Refused { error: told, .. } = &error else {
            panic!("{error:?}");
        };
        assert_eq!(
            (told.code, told.message.as_deref()),
            (expected, Some("so it is"))
        );
        let said = error.to_string();
        assert!(said.contains("transactional.id \"orders-1\""), "{said}");
        assert_eq!(
            said.contains("WRITE on the transactional id"),
            expected == 53
        );
    }
    assert_eq!(commit_v1(&mut client).await.expect("an answer"), 0);
    assert_eq!(asked.load(Ordering::Relaxed), 4);
}

#[tokio::test]
async fn brokers_that_do_not_answer_are_passed_by_for_others() {
    let keeper = listen(|_, stream| serve(stream, 0)).await;
    let (bootstrap, _) = finder(vec![(0, keeper)]).await;
    let mut client = client(&bootstrap).rebootstraps_after(Some(Duration::MAX));
    client.set_nodes(&Nodes {
        cluster_id: None,
        by_id: [(1, closed_port()), (2, closed_port())].into(),
    });
    for _ in 0..2 {
        commit_v1(&mut client).await.expect_err("a dead node");
    }
    assert_eq!(commit_v1(&mut client).await.expect("an answer"), 0);
}

#[tokio::test]
async fn a_coordinator_that_has_moved_is_looked_for_again() {
    let keeper = listen(|_, stream| serve(stream, 0)).await;
    let (bootstrap, asked) = finder(vec![(0, keeper.clone())]).await;
    let mut client = client(&bootstrap);
    commit_v1(&mut client).await.expect("an answer");
    let nodes = |by_id: &[(i32, &Endpoint)]| Nodes {
        cluster_id: Some("cluster".into()),
        by_id: by_id.iter().map(|(id, at)| (*id, (*at).clone())).collect(),
    };
    client.set_nodes(&nodes(&[(2, &bootstrap), (3, &keeper)]));
    client.set_nodes(&nodes(&[(2, &bootstrap)]));
    assert!(client.live.is_some());
    client.set_nodes(&nodes(&[(3, &bootstrap)]));
    assert!(client.live.is_none() && client.broker().is_none());
    commit_v1(&mut client).await.expect("an answer");
    assert_eq!(asked.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn the_coordinator_is_told_whom_the_connection_is_meant_for() {
    let keeper = listen(|_, mut stream| async move {
        let request = read_request(&mut stream).await.expect("a request");
        assert_eq!((request.api_key, request.version), (18, 5));
        let refusal = frame(request.correlation_id, &[0, 129, 1, 0, 0, 0, 0, 0]);
        assert!(request.rest.ends_with(b"\x08cluster\0\0\0\x03\0"));
        stream.write_all(&refusal).await.expect("open");
    });
    let (bootstrap, _) = finder(vec![(0, keeper.await)]).await;
    let mut client = client(&bootstrap);
    client.set_nodes(&Nodes {
        cluster_id: Some("cluster".into()),
        by_id: Default::default(),
    });
    match commit_v1(&mut client).await {
        Err(CoordinatorError::NotSent(NetError::NotAddressed { .. })) => {}
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_login_that_ends_is_renewed_before_a_request() {
    let logins = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&logins);
    let broker = move |at: Option<Endpoint>| {
        let counter = Arc::clone(&counter);
        listen(move |_, mut stream| {
            let (counter, at) = (Arc::clone(&counter), at.clone());
            async move {
                shake_hands(&mut stream).await;
                while let Some(request) = read_request(&mut stream).await {
                    let id = request.correlation_id;
                    let answer = match (request.api_key, &at) {
                        (17, _) => mechanisms(id, 0, &["PLAIN"]),
                        (36, _) => {
                            counter.fetch_add(1, Ordering::Relaxed);
                            logged_in(id, (0, ""), 0)
                        }
                        (_, Some(at)) => coordinator(&request, 0, at),
                        _ => ended(&request, 0),
                    };
                    stream.write_all(&answer).await.expect("open");
                }
            }
        })
    };
    let keeper = broker(None).await;
    let bootstrap = broker(Some(keeper)).await;
    let mut options = options();
    options.security.login = Some(login());
    let key = CoordinatorKey::Transaction("orders-1".into());
    let mut client = CoordinatorClient::new(key, vec![bootstrap], options, BACKOFF, 1);
    commit_v1(&mut client).await.expect("an answer");
    // At the finder, and at the coordinator.
    assert_eq!(logins.load(Ordering::Relaxed), 2);
    let (now, live) = (Instant::now(), client.live.as_mut().expect("a connection"));
    live.connection.term = Some(Term::at("alice", now, now + Duration::from_secs(60)));
    commit_v1(&mut client).await.expect("an answer");
    assert_eq!(logins.load(Ordering::Relaxed), 3);
}
