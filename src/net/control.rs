//! Requests metadata and producer ids, on a connection of its own.
//!
//! These requests must not wait behind the Produce requests to a broker that hangs. So this
//! connection carries nothing else. If its broker fails, another one is used.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use super::connection::{Call, Connection, connect, exchange};
use super::{ConnectOptions, NetError};
use crate::core::cluster::BrokerRotation;
use crate::core::endpoint::Endpoint;
use crate::core::wire::{self, Api, InitProducerIdResponse, MetadataResponse, WireError};

/// Error code: the broker no longer belongs to the cluster that this client knows (KIP-1102).
const REBOOTSTRAP_REQUIRED: i16 = 129;

pub struct ControlClient {
    rotation: BrokerRotation,
    options: ConnectOptions,
    live: Option<Live>,
    correlation_id: i32,
}

struct Live {
    connection: Connection,
    /// Whether any request after the handshake got a response.
    proven: bool,
}

impl ControlClient {
    /// `backoff` is the shortest and the longest wait after failed attempts.
    pub fn new(
        bootstrap: Vec<Endpoint>,
        options: ConnectOptions,
        backoff: (Duration, Duration),
        seed: u64,
    ) -> Self {
        Self {
            rotation: BrokerRotation::new(bootstrap, backoff, seed),
            options,
            live: None,
            correlation_id: 0,
        }
    }

    /// Sets the brokers of the cluster, from the newest metadata.
    pub fn set_nodes(&mut self, nodes: Vec<(i32, Endpoint)>) {
        let endpoints = nodes.into_iter().map(|(_, endpoint)| endpoint);
        self.rotation.set_nodes(endpoints);
    }

    /// Sets whether to return to the bootstrap list when all known nodes have failed. Default: yes.
    pub fn rebootstraps(mut self, rebootstraps: bool) -> Self {
        self.rotation.set_rebootstraps(rebootstraps);
        self
    }

    /// How long to wait before the next attempt. There is no wait while some brokers were not tried
    /// since the last one failed. After that the wait gets longer with each round. A success starts
    /// it from the shortest again. Call this once for each failure.
    pub fn next_delay(&mut self) -> Duration {
        // A broker that responds, even with a refusal, is asked again after a wait.
        self.rotation.next_delay(self.live.is_some())
    }

    /// Makes one attempt, on the live connection or with the next broker.
    pub async fn metadata(&mut self, topics: &[String]) -> Result<MetadataResponse, NetError> {
        let answer = self
            .attempt(
                Api::Metadata,
                |version, correlation_id, client_id| {
                    wire::encode_metadata(version, correlation_id, client_id, topics)
                },
                MetadataResponse::decode,
            )
            .await?;
        if answer.error_code == REBOOTSTRAP_REQUIRED {
            return Err(self.rebootstrap());
        }
        Ok(answer)
    }

    /// Makes one attempt, on the live connection or with the next broker.
    pub async fn init_producer_id(&mut self) -> Result<InitProducerIdResponse, NetError> {
        self.attempt(
            Api::InitProducerId,
            wire::encode_init_producer_id,
            InitProducerIdResponse::decode,
        )
        .await
    }

    async fn attempt<A>(
        &mut self,
        api: Api,
        encode: impl Fn(i16, i32, &str) -> Result<Bytes, WireError>,
        decode: impl Fn(i16, &Bytes) -> Result<A, WireError>,
    ) -> Result<A, NetError> {
        let outcome = self.try_attempt(api, encode, decode).await;
        if outcome.is_ok() {
            self.rotation.answered();
        }
        outcome
    }

    async fn try_attempt<A>(
        &mut self,
        api: Api,
        encode: impl Fn(i16, i32, &str) -> Result<Bytes, WireError>,
        decode: impl Fn(i16, &Bytes) -> Result<A, WireError>,
    ) -> Result<A, NetError> {
        // The connection is put back only after a success. An attempt that fails or is cancelled
        // closes it. Otherwise the late response could be taken for that of the next request.
        if let Some(live) = self.live.take() {
            let (proven, endpoint) = (live.proven, live.connection.reader.endpoint().clone());
            match self.call(live, api, &encode, &decode).await {
                // Brokers close connections that were idle for long. This says nothing about the
                // request.
                Err(error) if proven && error.is_closed_unsaid() => {}
                outcome => {
                    if outcome.is_err() {
                        self.rotation.lost(&endpoint);
                    }
                    return outcome;
                }
            }
        }
        let endpoint = self.rotation.next().ok_or(NetError::NoBrokers)?;
        let connection = connect(&endpoint, &self.options).await?;
        let live = Live {
            connection,
            proven: false,
        };
        self.call(live, api, &encode, &decode).await
    }

    async fn call<A>(
        &mut self,
        mut live: Live,
        api: Api,
        encode: impl Fn(i16, i32, &str) -> Result<Bytes, WireError>,
        decode: impl Fn(i16, &Bytes) -> Result<A, WireError>,
    ) -> Result<A, NetError> {
        let Connection {
            reader,
            writer,
            versions,
        } = &mut live.connection;
        let endpoint = reader.endpoint().clone();
        let wire_error = |error| NetError::wire(&endpoint, error);
        let version = versions.best(api).map_err(wire_error)?;
        self.correlation_id = self.correlation_id.wrapping_add(1);
        let call = Call {
            api,
            version,
            correlation_id: self.correlation_id,
            request: encode(version, self.correlation_id, &self.options.client_id)
                .map_err(wire_error)?,
        };
        let after = self.options.request_timeout;
        let body = match timeout(after, exchange(reader, writer, &call)).await {
            Ok(Ok(body)) => body,
            Ok(Err(error)) if error.is_closed_unsaid() && !live.proven => {
                return Err(NetError::ClosedAfterHandshake { endpoint });
            }
            Ok(Err(error)) => return Err(error),
            Err(_) => {
                return Err(NetError::RequestTimeout {
                    endpoint,
                    api,
                    after,
                });
            }
        };
        let answer = decode(version, &body).map_err(wire_error)?;
        live.proven = true;
        self.live = Some(live);
        Ok(answer)
    }

    fn rebootstrap(&mut self) -> NetError {
        let endpoint = self
            .live
            .take()
            .map(|live| live.connection.reader.endpoint().clone());
        self.rotation.rebootstrap();
        match endpoint {
            Some(endpoint) => NetError::RebootstrapRequired { endpoint },
            None => NetError::NoBrokers,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use bytes::BytesMut;
    use kafka_protocol::messages::MetadataResponse;
    use kafka_protocol::protocol::Encodable;
    use krafka::testing::FakeBroker;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpStream;

    use super::super::fake::{frame, listen, options, producer_id, read_request, shake_hands};
    use super::*;

    fn client(bootstrap: &[Endpoint]) -> ControlClient {
        let backoff = (Duration::from_millis(50), Duration::from_secs(1));
        ControlClient::new(bootstrap.to_vec(), options(), backoff, 1)
    }

    /// Responds to every InitProducerId request with this id.
    async fn serve(mut stream: TcpStream, id: i64) {
        shake_hands(&mut stream).await;
        while let Some(request) = read_request(&mut stream).await {
            let answer = producer_id(request.correlation_id, id);
            stream.write_all(&answer).await.expect("open");
        }
    }

    /// A port that is closed.
    fn closed_port() -> Endpoint {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        Endpoint::new("127.0.0.1", listener.local_addr().expect("bound").port())
    }

    #[tokio::test]
    async fn a_cluster_answers() {
        let cluster = FakeBroker::start_cluster(3).await.expect("a cluster");
        assert!(cluster.create_topic("orders", 4));
        let bootstrap: Vec<Endpoint> = cluster
            .bootstrap_servers()
            .split(',')
            .map(|server| {
                let (host, port) = server.rsplit_once(':').expect("host and port");
                Endpoint::new(host, port.parse().expect("a port"))
            })
            .collect();
        let mut client = client(&bootstrap);
        let metadata = client
            .metadata(&["orders".to_owned()])
            .await
            .expect("an answer");
        assert_eq!(metadata.nodes.len(), 3);
        let topic = &metadata.topics[0];
        assert_eq!((topic.error_code, topic.name.as_str()), (0, "orders"));
        assert_eq!(
            topic.id.as_bytes(),
            &cluster.topic_id("orders").expect("an id")
        );
        assert_eq!(topic.partitions.len(), 4);
        for partition in &topic.partitions {
            assert_eq!(partition.error_code, 0);
            assert!(
                metadata
                    .nodes
                    .iter()
                    .any(|node| node.id == partition.leader)
            );
            assert!(partition.leader_epoch >= 0);
        }
        let nodes = metadata.nodes.into_iter();
        client.set_nodes(
            nodes
                .map(|n| (n.id, Endpoint::new(n.host, n.port)))
                .collect(),
        );

        let first = client.init_producer_id().await.expect("an answer");
        let second = client.init_producer_id().await.expect("an answer");
        assert_eq!((first.error_code, second.error_code), (0, 0));
        assert_ne!(first.producer_id, second.producer_id);
    }

    #[tokio::test]
    async fn one_connection_serves_many_requests() {
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = connections.clone();
        let broker = listen(move |_, stream| {
            counter.fetch_add(1, Ordering::Relaxed);
            serve(stream, 7)
        })
        .await;
        let mut client = client(&[broker]);
        for _ in 0..5 {
            let answer = client.init_producer_id().await.expect("an answer");
            assert_eq!(answer.producer_id, 7);
        }
        assert_eq!(connections.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn nodes_are_tried_first_and_then_the_bootstrap_list() {
        let bootstrap = listen(|_, stream| serve(stream, 1)).await;
        let node = listen(|_, stream| serve(stream, 2)).await;
        let (dead, deader) = (closed_port(), closed_port());

        let mut client = client(std::slice::from_ref(&bootstrap));
        client.set_nodes(vec![
            (1, dead.clone()),
            (2, deader.clone()),
            (3, deader.clone()),
        ]);
        for _ in 0..2 {
            let error = client.init_producer_id().await.expect_err("a dead node");
            assert!(matches!(error, NetError::Connect { .. }), "{error:?}");
        }
        let answer = client.init_producer_id().await.expect("bootstrap answers");
        assert_eq!(answer.producer_id, 1);

        // The live connection stays. When it is lost, the new nodes are tried first.
        client.set_nodes(vec![(1, node)]);
        let answer = client.init_producer_id().await.expect("an answer");
        assert_eq!(answer.producer_id, 1);
        client.live = None;
        let answer = client.init_producer_id().await.expect("the node answers");
        assert_eq!(answer.producer_id, 2);
    }

    #[tokio::test]
    async fn delays_grow_until_a_success() {
        let broker = listen(|_, stream| serve(stream, 1)).await;
        let mut client = client(&[broker]);
        let first = client.next_delay();
        let third = (client.next_delay(), client.next_delay()).1;
        assert!(third > first * 2);
        client.init_producer_id().await.expect("an answer");
        assert!(client.next_delay() < third);
    }

    #[tokio::test]
    async fn brokers_that_were_not_tried_yet_are_not_waited_for() {
        let mut client = client(&[closed_port(), closed_port(), closed_port()]);
        for _ in 0..2 {
            let mut waits = Vec::new();
            for _ in 0..3 {
                client.init_producer_id().await.expect_err("a dead broker");
                waits.push(client.next_delay().is_zero());
            }
            assert_eq!(waits, [true, true, false]);
        }
    }

    #[tokio::test]
    async fn when_the_live_connection_falls_the_others_are_not_waited_for() {
        let falls = listen(|_, mut stream| async move {
            shake_hands(&mut stream).await;
            let request = read_request(&mut stream).await.expect("a request");
            let answer = producer_id(request.correlation_id, 1);
            stream.write_all(&answer).await.expect("open");
            read_request(&mut stream).await.expect("another request");
            stream.write_all(&[0xff; 4]).await.expect("open");
        });
        let fallen = falls.await;
        let mut client = client(std::slice::from_ref(&fallen));
        client.init_producer_id().await.expect("an answer");
        client.set_nodes(vec![(1, fallen), (2, closed_port())]);
        client.init_producer_id().await.expect_err("nonsense");
        assert!(client.next_delay().is_zero());
        client.init_producer_id().await.expect_err("a dead broker");
        assert!(!client.next_delay().is_zero());
    }

    #[tokio::test]
    async fn a_broker_that_answers_is_not_asked_again_at_once() {
        let brokers = [
            listen(|_, stream| serve(stream, 1)).await,
            listen(|_, stream| serve(stream, 2)).await,
        ];
        let mut client = client(&brokers);
        client.init_producer_id().await.expect("an answer");
        assert!(!client.next_delay().is_zero());
    }

    #[tokio::test]
    async fn a_wrong_correlation_id_ends_the_connection() {
        let broker = listen(|number, mut stream| async move {
            if number > 0 {
                return serve(stream, 9).await;
            }
            shake_hands(&mut stream).await;
            let request = read_request(&mut stream).await.expect("a request");
            let answer = producer_id(request.correlation_id + 1, 8);
            stream.write_all(&answer).await.expect("open");
            assert!(read_request(&mut stream).await.is_none());
        })
        .await;
        let mut client = client(&[broker]);
        let error = client.init_producer_id().await.expect_err("a wrong id");
        assert!(matches!(
            error,
            NetError::Correlation {
                expected: 1,
                got: 2,
                ..
            }
        ));
        let answer = client.init_producer_id().await.expect("a new connection");
        assert_eq!(answer.producer_id, 9);
    }

    #[tokio::test]
    async fn bytes_left_over_end_the_connection() {
        let broker = listen(|_, mut stream| async move {
            shake_hands(&mut stream).await;
            let request = read_request(&mut stream).await.expect("a request");
            let answer = frame(request.correlation_id, &[0; 19]);
            stream.write_all(&answer).await.expect("open");
            assert!(read_request(&mut stream).await.is_none());
        })
        .await;
        let mut client = client(&[broker]);
        let error = client
            .init_producer_id()
            .await
            .expect_err("a byte too many");
        let left_over = WireError::LeftOver {
            message: "InitProducerId answer",
            at: 17,
            left: 1,
        };
        assert!(matches!(error, NetError::Wire { source, .. } if source == left_over));
    }

    #[tokio::test]
    async fn an_idle_connection_that_was_closed_is_replaced() {
        let broker = listen(|number, mut stream| async move {
            if number > 0 {
                return serve(stream, 2).await;
            }
            shake_hands(&mut stream).await;
            let request = read_request(&mut stream).await.expect("a request");
            let answer = producer_id(request.correlation_id, 1);
            stream.write_all(&answer).await.expect("open");
        })
        .await;
        let mut client = client(&[broker]);
        for expected in [1, 2] {
            let answer = client.init_producer_id().await.expect("an answer");
            assert_eq!(answer.producer_id, expected);
        }
    }

    #[tokio::test]
    async fn a_close_after_the_handshake_hints_at_sasl() {
        let broker = listen(|_, mut stream| async move {
            shake_hands(&mut stream).await;
            read_request(&mut stream).await;
        })
        .await;
        let error = client(&[broker]).metadata(&[]).await.expect_err("closed");
        assert!(
            matches!(error, NetError::ClosedAfterHandshake { .. }),
            "{error:?}"
        );
    }

    #[tokio::test]
    async fn a_silent_broker_is_given_up_and_the_next_one_asked() {
        let broker = listen(|number, mut stream| async move {
            if number == 1 {
                return serve(stream, 3).await;
            }
            shake_hands(&mut stream).await;
            while read_request(&mut stream).await.is_some() {}
        })
        .await;
        let mut client = client(&[broker]);
        client.options.request_timeout = Duration::from_millis(300);
        let error = client.init_producer_id().await.expect_err("silence");
        assert!(matches!(
            error,
            NetError::RequestTimeout {
                api: Api::InitProducerId,
                ..
            }
        ));
        let answer = client.init_producer_id().await.expect("an answer");
        assert_eq!(answer.producer_id, 3);
    }

    #[tokio::test]
    async fn an_attempt_that_is_dropped_closes_its_connection() {
        let broker = listen(|number, mut stream| async move {
            if number == 1 {
                return serve(stream, 4).await;
            }
            shake_hands(&mut stream).await;
            while read_request(&mut stream).await.is_some() {}
        })
        .await;
        let mut client = client(&[broker]);
        let short = Duration::from_millis(300);
        assert!(timeout(short, client.init_producer_id()).await.is_err());
        assert!(client.live.is_none());
        let answer = client.init_producer_id().await.expect("an answer");
        assert_eq!(answer.producer_id, 4);
    }

    #[tokio::test]
    async fn a_broker_may_send_the_client_back_to_bootstrap() {
        let sends_back = |_, mut stream: TcpStream| async move {
            shake_hands(&mut stream).await;
            let request = read_request(&mut stream).await.expect("a request");
            let answer = MetadataResponse::default().with_error_code(REBOOTSTRAP_REQUIRED);
            // The response header's tags come first.
            let mut body = BytesMut::from(&[0][..]);
            answer
                .encode(&mut body, request.version)
                .expect("a valid answer");
            let answer = frame(request.correlation_id, &body);
            stream.write_all(&answer).await.expect("open");
            assert!(read_request(&mut stream).await.is_none());
        };
        let bootstrap = listen(|_, stream| serve(stream, 5)).await;
        let mut client = client(&[bootstrap]);
        let nodes = (listen(sends_back).await, listen(sends_back).await);
        client.set_nodes(vec![(1, nodes.0), (2, nodes.1)]);
        let error = client.metadata(&[]).await.expect_err("sent back");
        assert!(
            matches!(error, NetError::RebootstrapRequired { .. }),
            "{error:?}"
        );
        let answer = client.init_producer_id().await.expect("bootstrap answers");
        assert_eq!(answer.producer_id, 5, "the other node is not asked");
    }

    #[tokio::test]
    async fn an_empty_bootstrap_list_is_an_error() {
        let error = client(&[]).metadata(&[]).await.expect_err("no broker");
        assert!(matches!(error, NetError::NoBrokers));
    }
}
