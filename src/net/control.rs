//! Requests metadata and producer ids, on a connection of its own.
//!
//! These requests must not wait behind the Produce requests to a broker that hangs. So this
//! connection carries nothing else. If its broker fails, another one is used.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout};

use super::live::Live;
use super::{ConnectOptions, NetError};
use crate::core::cluster::{BrokerRotation, Nodes};
use crate::core::dial::Learned;
use crate::core::endpoint::Endpoint;
use crate::core::wire::{self, Api, InitProducerIdResponse, MetadataResponse, Versions, WireError};

/// Error code: the broker no longer belongs to the cluster that this client knows (KIP-1102).
const REBOOTSTRAP_REQUIRED: i16 = 129;

pub struct ControlClient {
    rotation: BrokerRotation,
    options: ConnectOptions,
    live: Option<Live>,
    learned: BTreeMap<Endpoint, Learned>,
    /// Whether a broker has let this client log in.
    logged_in: bool,
    /// The nodes that are asked, and whom a connection to them is meant for.
    nodes: Nodes,
    /// How long another broker than the connected one is waited for at first.
    patience: Duration,
    /// Those that did not answer in that time.
    slow: BTreeMap<Endpoint, Slow>,
}

/// A broker that hangs, or is far away. So it is passed over for a while, and then waited for longer.
struct Slow {
    waited: Duration,
    until: Instant,
}

/// [`ControlClient::patience`]. Callers wait meanwhile, though the connected broker could answer them.
const PATIENCE: Duration = Duration::from_secs(1);

/// For how many times as long as it was waited for a slow broker is passed over.
const PASSED_OVER: u32 = 10;

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
            learned: BTreeMap::new(),
            logged_in: false,
            nodes: Nodes::default(),
            patience: PATIENCE,
            slow: BTreeMap::new(),
        }
    }

    /// Sets the brokers of the cluster, from the newest metadata.
    pub fn set_nodes(&mut self, nodes: &Nodes) {
        self.rotation.set_nodes(nodes.by_id.values().cloned());
        self.nodes.clone_from(nodes);
        self.learned
            .retain(|endpoint, _| self.rotation.knows(endpoint));
        self.slow
            .retain(|endpoint, _| self.rotation.knows(endpoint));
    }

    /// Sets after which time without an answer to return to the bootstrap list, although not all known
    /// nodes have failed; `None`: never, even if all of them have. Default: only if all have.
    pub fn rebootstraps_after(mut self, trigger: Option<Duration>) -> Self {
        self.rotation.set_rebootstrap(trigger);
        self
    }

    /// How long to wait before the next attempt. There is no wait while some brokers were not tried
    /// since the last one failed. After that the wait gets longer with each round. A success starts
    /// it from the shortest again. Call this once for each failure.
    pub fn next_delay(&mut self) -> Duration {
        // A broker that responds, even with a refusal, is asked again after a wait.
        self.rotation.next_delay(self.live.is_some())
    }

    /// Whether a broker has let this client log in, whatever became of the request behind.
    pub fn logged_in(&self) -> bool {
        self.logged_in
    }

    /// The broker that is connected: the one that answered last.
    pub fn broker(&self) -> Option<&Endpoint> {
        self.live.as_ref().map(Live::endpoint)
    }

    /// Closes the connection. The next attempt goes to the next broker.
    pub(super) fn let_go(&mut self) {
        self.live = None;
    }

    /// Makes one attempt, on the live connection or with the next broker. `elsewhere`: another broker
    /// than the connected one is tried before. The connection stays until that one has answered.
    pub async fn metadata(
        &mut self,
        topics: &[String],
        elsewhere: bool,
    ) -> Result<MetadataResponse, NetError> {
        let encode = |version, correlation_id, client_id: &str| {
            wire::encode_metadata(version, correlation_id, client_id, topics)
        };
        let (api, decode) = (Api::Metadata, MetadataResponse::decode);
        let other = match elsewhere && self.live.is_some() {
            true => self.ask_another(&[], api, &encode, &decode).await,
            false => None,
        };
        let answer = match other {
            Some((_, Ok(answer))) => answer,
            _ => self.attempt(api, encode, decode).await?,
        };
        if answer.error_code == REBOOTSTRAP_REQUIRED {
            let endpoint = self.broker().cloned();
            self.live = None;
            self.rebootstrap();
            return Err(match endpoint {
                Some(endpoint) => NetError::RebootstrapRequired { endpoint },
                None => NetError::NoBrokers,
            });
        }
        Ok(answer)
    }

    /// Asks for a producer id. Brokers that have `refused` one are asked only if no other answers.
    pub async fn init_producer_id(
        &mut self,
        refused: &[Endpoint],
    ) -> Result<InitProducerIdResponse, NetError> {
        let (api, encode, decode) = (
            Api::InitProducerId,
            wire::encode_init_producer_id,
            InitProducerIdResponse::decode,
        );
        let mut passed_by = refused.to_vec();
        while !passed_by.is_empty()
            && let Some((broker, answer)) =
                self.ask_another(&passed_by, api, &encode, &decode).await
        {
            match answer {
                Err(error) if error.not_served(api).is_none() => passed_by.push(broker),
                // That is an answer, too.
                told => return told,
            }
        }
        self.attempt(api, encode, decode).await
    }

    /// Asks another broker than the connected one and these; `None` if there is none. Unless it answers,
    /// the connection stays, and the other broker is passed over.
    async fn ask_another<A>(
        &mut self,
        passed_by: &[Endpoint],
        api: Api,
        encode: &impl Fn(i16, i32, &str) -> Result<Bytes, WireError>,
        decode: &impl Fn(i16, &Bytes) -> Result<A, WireError>,
    ) -> Option<(Endpoint, Result<A, NetError>)> {
        let now = Instant::now();
        let slow = self.slow.iter().filter(|(_, slow)| slow.until > now);
        let slow = slow.map(|(endpoint, _)| endpoint);
        let passed_by = passed_by.iter().chain(self.broker()).chain(slow);
        let passed_by: Vec<_> = passed_by.cloned().collect();
        let other = self.rotation.other_than(&passed_by)?;
        let working = self.live.take();
        // Requests to the working broker wait meanwhile, so one that hangs is not waited for as long as
        // where there is no other.
        let known = self.slow.get(&other);
        let after = known.map_or(self.patience, |slow| 2 * slow.waited);
        let longest = self.options.setup_timeout.min(self.options.request_timeout);
        let after = after.min(longest);
        let asking = self.ask_new(&other, api, encode, decode);
        let answer = timeout(after, asking).await.unwrap_or_else(|_| {
            let (waited, until) = (after, Instant::now() + PASSED_OVER * after);
            self.slow.insert(other.clone(), Slow { waited, until });
            let endpoint = other.clone();
            Err(NetError::RequestTimeout {
                endpoint,
                api,
                after,
            })
        });
        match &answer {
            Ok(_) => {
                self.slow.remove(&other);
                self.rotation.answered();
            }
            Err(error) => {
                tracing::debug!(%error, "another broker is passed over");
                self.live = working;
            }
        }
        Some((other, answer))
    }

    /// Makes one attempt with any other request.
    pub async fn attempt<A>(
        &mut self,
        api: Api,
        encode: impl Fn(i16, i32, &str) -> Result<Bytes, WireError>,
        decode: impl Fn(i16, &Bytes) -> Result<A, WireError>,
    ) -> Result<A, NetError> {
        self.rotation.attempt(Instant::now().into_std());
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
        if let Some(live) = self.live.take() {
            let (proven, endpoint) = (live.is_proven(), live.endpoint().clone());
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
        self.ask_new(&endpoint, api, &encode, &decode).await
    }

    async fn ask_new<A>(
        &mut self,
        endpoint: &Endpoint,
        api: Api,
        encode: &impl Fn(i16, i32, &str) -> Result<Bytes, WireError>,
        decode: &impl Fn(i16, &Bytes) -> Result<A, WireError>,
    ) -> Result<A, NetError> {
        let learned = self.learned.entry(endpoint.clone()).or_default();
        let addressee = self.nodes.addressee(endpoint);
        let opening = Live::open(endpoint, addressee.as_ref(), &self.options, learned).await;
        let live = opening.inspect_err(|error| {
            if matches!(error, NetError::NotAddressed { .. }) && self.rotation.rebootstrap() {
                self.nodes = Nodes::default();
            }
        })?;
        self.logged_in |= self.options.security.login.is_some();
        self.call(live, api, encode, decode).await
    }

    async fn call<A>(
        &mut self,
        mut live: Live,
        api: Api,
        encode: impl Fn(i16, i32, &str) -> Result<Bytes, WireError>,
        decode: impl Fn(i16, &Bytes) -> Result<A, WireError>,
    ) -> Result<A, NetError> {
        let best = |versions: &Versions| versions.best(api);
        let call = live.prepare(&self.options, api, best, encode).await?;
        let (live, answer) = live.exchange(&self.options, &call, decode).await?;
        self.live = Some(live);
        Ok(answer)
    }

    /// Goes back to the bootstrap list with the next attempt, since the known nodes are not what they
    /// were (KIP-1102, KIP-1242). Does nothing if the configuration does not allow it.
    pub fn rebootstrap(&mut self) {
        if self.rotation.rebootstrap() {
            self.live = None;
            self.nodes = Nodes::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use kafka_protocol::messages::MetadataResponse;
    use krafka::testing::FakeBroker;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpStream;

    use super::super::fake::{
        closed_port, frame, listen, logged_in, login, login_by, mechanisms, metadata, options,
        producer_id, read_request, shake_hands,
    };
    use super::super::term::Term;
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

    /// The brokers of a cluster, numbered from 1.
    fn nodes(endpoints: impl IntoIterator<Item = Endpoint>) -> Nodes {
        Nodes {
            cluster_id: Some("cluster".into()),
            by_id: (1..).zip(endpoints).collect(),
        }
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
            .metadata(&["orders".to_owned()], false)
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
        client.set_nodes(&Nodes::of(metadata.cluster_id, metadata.nodes));

        let first = client.init_producer_id(&[]).await.expect("an answer");
        let second = client.init_producer_id(&[]).await.expect("an answer");
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
            let answer = client.init_producer_id(&[]).await.expect("an answer");
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
        client.set_nodes(&nodes([dead.clone(), deader.clone(), deader.clone()]));
        for _ in 0..2 {
            let error = client.init_producer_id(&[]).await.expect_err("a dead node");
            assert!(matches!(error, NetError::Connect { .. }), "{error:?}");
        }
        let answer = client
            .init_producer_id(&[])
            .await
            .expect("bootstrap answers");
        assert_eq!(answer.producer_id, 1);

        // The live connection stays. When it is lost, the new nodes are tried first.
        client.set_nodes(&nodes([node]));
        let answer = client.init_producer_id(&[]).await.expect("an answer");
        assert_eq!(answer.producer_id, 1);
        client.live = None;
        let answer = client
            .init_producer_id(&[])
            .await
            .expect("the node answers");
        assert_eq!(answer.producer_id, 2);
    }

    #[tokio::test]
    async fn delays_grow_until_a_success() {
        let broker = listen(|_, stream| serve(stream, 1)).await;
        let mut client = client(&[broker]);
        let first = client.next_delay();
        let third = (client.next_delay(), client.next_delay()).1;
        assert!(third > first * 2);
        client.init_producer_id(&[]).await.expect("an answer");
        assert!(client.next_delay() < third);
    }

    #[tokio::test]
    async fn brokers_that_were_not_tried_yet_are_not_waited_for() {
        let mut client = client(&[closed_port(), closed_port(), closed_port()]);
        for _ in 0..2 {
            let mut waits = Vec::new();
            for _ in 0..3 {
                client
                    .init_producer_id(&[])
                    .await
                    .expect_err("a dead broker");
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
        client.init_producer_id(&[]).await.expect("an answer");
        client.set_nodes(&nodes([fallen, closed_port()]));
        client.init_producer_id(&[]).await.expect_err("nonsense");
        assert!(client.next_delay().is_zero());
        client
            .init_producer_id(&[])
            .await
            .expect_err("a dead broker");
        assert!(!client.next_delay().is_zero());
    }

    #[tokio::test]
    async fn a_broker_that_answers_is_not_asked_again_at_once() {
        let brokers = [
            listen(|_, stream| serve(stream, 1)).await,
            listen(|_, stream| serve(stream, 2)).await,
        ];
        let mut client = client(&brokers);
        client.init_producer_id(&[]).await.expect("an answer");
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
        let error = client.init_producer_id(&[]).await.expect_err("a wrong id");
        assert!(matches!(
            error,
            NetError::Correlation {
                expected: 1,
                got: 2,
                ..
            }
        ));
        let answer = client
            .init_producer_id(&[])
            .await
            .expect("a new connection");
        assert_eq!(answer.producer_id, 9);
    }

    #[tokio::test]
    async fn a_byte_too_few_ends_the_connection() {
        let broker = listen(|_, mut stream| async move {
            shake_hands(&mut stream).await;
            let request = read_request(&mut stream).await.expect("a request");
            let answer = frame(request.correlation_id, &[0; 17]);
            stream.write_all(&answer).await.expect("open");
            assert!(read_request(&mut stream).await.is_none());
        })
        .await;
        let mut client = client(&[broker]);
        let error = client
            .init_producer_id(&[])
            .await
            .expect_err("a byte too few");
        let truncated = WireError::Truncated {
            message: "InitProducerId answer",
            at: 16,
            needed: 1,
            left: 0,
        };
        assert!(matches!(error, NetError::Wire { source, .. } if source == truncated));
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
            let answer = client.init_producer_id(&[]).await.expect("an answer");
            assert_eq!(answer.producer_id, expected);
        }
    }

    #[tokio::test]
    async fn another_user_takes_another_connection() {
        let broker = listen(|number, mut stream| async move {
            shake_hands(&mut stream).await;
            while let Some(request) = read_request(&mut stream).await {
                let id = request.correlation_id;
                let answer = match request.api_key {
                    17 => mechanisms(id, 0, &["PLAIN"]),
                    36 => logged_in(id, (0, ""), 0),
                    _ => producer_id(id, number as i64),
                };
                stream.write_all(&answer).await.expect("open");
            }
        })
        .await;
        let times = AtomicUsize::new(0);
        let login = login_by(move || match times.fetch_add(1, Ordering::Relaxed) {
            0 => Ok("alice"),
            1 => Err("the file is being written".to_owned()),
            _ => Ok("bob"),
        });
        let mut client = client(&[broker]);
        client.options.security.login = Some(login);
        for expected in [0, 0, 1] {
            let answer = client.init_producer_id(&[]).await.expect("an answer");
            assert_eq!(answer.producer_id, expected);
            let (now, live) = (Instant::now(), client.live.as_mut().expect("a connection"));
            let term = Term::at("alice", now, now + Duration::from_secs(60));
            live.connection.term = Some(term);
        }
    }

    #[cfg(feature = "tls")]
    #[tokio::test]
    async fn an_idle_connection_over_tls_that_was_closed_is_replaced() {
        use super::super::fake::tls;

        let signer = tls::Signer::new();
        let broker = tls::listen(&signer, |number, mut stream| async move {
            shake_hands(&mut stream).await;
            let request = read_request(&mut stream).await.expect("a request");
            let answer = producer_id(request.correlation_id, number as i64);
            stream.write_all(&answer).await.expect("open");
            stream.flush().await.expect("open");
        })
        .await;
        let mut client = client(&[broker]);
        client.options = tls::options(signer.trusted());
        for expected in [0, 1] {
            let answer = client.init_producer_id(&[]).await.expect("an answer");
            assert_eq!(answer.producer_id, expected);
        }
    }

    #[tokio::test]
    async fn a_close_behind_a_login_is_no_sign_of_a_wrong_protocol() {
        let broker = listen(|_, mut stream| async move {
            shake_hands(&mut stream).await;
            let request = read_request(&mut stream).await.expect("a request");
            let answer = mechanisms(request.correlation_id, 0, &["PLAIN"]);
            stream.write_all(&answer).await.expect("open");
            let request = read_request(&mut stream).await.expect("a request");
            let answer = logged_in(request.correlation_id, (0, ""), 0);
            stream.write_all(&answer).await.expect("open");
            read_request(&mut stream).await;
        })
        .await;
        let mut client = client(&[broker]);
        client.options.security.login = Some(login());
        assert!(!client.logged_in());
        let error = client.metadata(&[], false).await.expect_err("closed");
        assert!(matches!(error, NetError::Closed { .. }), "{error:?}");
        assert_eq!(error.security(), None);
        assert!(client.logged_in());
    }

    #[tokio::test]
    async fn a_close_after_the_handshake_hints_at_sasl() {
        let broker = listen(|_, mut stream| async move {
            shake_hands(&mut stream).await;
            read_request(&mut stream).await;
        })
        .await;
        let error = client(&[broker])
            .metadata(&[], false)
            .await
            .expect_err("closed");
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
        let error = client.init_producer_id(&[]).await.expect_err("silence");
        assert!(matches!(
            error,
            NetError::RequestTimeout {
                api: Api::InitProducerId,
                ..
            }
        ));
        let answer = client.init_producer_id(&[]).await.expect("an answer");
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
        assert!(timeout(short, client.init_producer_id(&[])).await.is_err());
        assert!(client.live.is_none());
        let answer = client.init_producer_id(&[]).await.expect("an answer");
        assert_eq!(answer.producer_id, 4);
    }

    #[tokio::test]
    async fn a_broker_may_send_the_client_back_to_bootstrap() {
        let sends_back = |_, mut stream: TcpStream| async move {
            shake_hands(&mut stream).await;
            let request = read_request(&mut stream).await.expect("a request");
            let answer = MetadataResponse::default().with_error_code(REBOOTSTRAP_REQUIRED);
            let answer = metadata(&request, &answer);
            stream.write_all(&answer).await.expect("open");
            assert!(read_request(&mut stream).await.is_none());
        };
        let bootstrap = listen(|_, stream| serve(stream, 5)).await;
        let mut client = client(&[bootstrap]);
        let both = [listen(sends_back).await, listen(sends_back).await];
        client.set_nodes(&nodes(both));
        let error = client.metadata(&[], false).await.expect_err("sent back");
        assert!(
            matches!(error, NetError::RebootstrapRequired { .. }),
            "{error:?}"
        );
        let answer = client
            .init_producer_id(&[])
            .await
            .expect("bootstrap answers");
        assert_eq!(answer.producer_id, 5, "the other node is not asked");
    }

    /// The broker at the node's address says that it is another.
    #[tokio::test]
    async fn a_broker_that_is_not_the_node_that_was_meant_leads_back_to_bootstrap() {
        for (rebootstraps, then) in [(true, Some(5)), (false, None)] {
            let other = listen(|_, mut stream| async move {
                let request = read_request(&mut stream).await.expect("a request");
                assert_eq!(request.version, 5);
                let refusal = frame(request.correlation_id, &[0, 129, 1, 0, 0, 0, 0, 0]);
                stream.write_all(&refusal).await.expect("open");
            });
            let bootstrap = listen(|_, stream| serve(stream, 5)).await;
            let mut client = client(&[bootstrap]);
            client = client.rebootstraps_after(rebootstraps.then_some(Duration::MAX));
            client.set_nodes(&nodes([other.await]));
            for expected in [None, then] {
                let answer = client.init_producer_id(&[]).await;
                let answer = answer.map(|answer| answer.producer_id);
                match expected {
                    Some(id) => assert_eq!(answer.expect("bootstrap answers"), id),
                    None => {
                        let error = answer.expect_err("not the node");
                        assert!(matches!(error, NetError::NotAddressed { .. }), "{error:?}");
                    }
                }
            }
        }
    }

    #[tokio::test]
    async fn a_connection_that_works_is_kept_until_another_broker_has_answered() {
        let answers = |broker: i32| {
            move |_, mut stream: TcpStream| async move {
                shake_hands(&mut stream).await;
                while let Some(request) = read_request(&mut stream).await {
                    let answer = MetadataResponse::default().with_controller_id(broker.into());
                    let answer = metadata(&request, &answer);
                    stream.write_all(&answer).await.expect("open");
                }
            }
        };
        let (first, second) = (listen(answers(1)).await, listen(answers(2)).await);
        let silent = listen(|_, mut stream: TcpStream| async move {
            shake_hands(&mut stream).await;
            while read_request(&mut stream).await.is_some() {}
        });
        let mut client = client(std::slice::from_ref(&first));
        client.options.request_timeout = Duration::from_millis(100);
        client.set_nodes(&nodes([first.clone()]));
        let mut asked = Vec::new();
        let others = [closed_port(), silent.await, second];
        for others in std::iter::once(&[][..]).chain(others.chunks(1)) {
            client.set_nodes(&nodes(others.iter().cloned()));
            for elsewhere in [false, true] {
                let answer = client.metadata(&[], elsewhere).await.expect("an answer");
                asked.push(answer.controller_id);
            }
        }
        assert_eq!(asked, [1, 1, 1, 1, 1, 1, 1, 2]);
        let answer = client.metadata(&[], false).await.expect("an answer");
        assert_eq!(answer.controller_id, 2, "it stays with that one");
    }

    /// Callers of new topics wait behind the question, though the connected broker could answer them.
    #[tokio::test]
    async fn another_broker_that_hangs_is_not_waited_for_again_and_again() {
        let answers = listen(|_, mut stream: TcpStream| async move {
            shake_hands(&mut stream).await;
            while let Some(request) = read_request(&mut stream).await {
                let answer = metadata(&request, &MetadataResponse::default());
                stream.write_all(&answer).await.expect("open");
            }
        });
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&connections);
        let hangs = listen(move |_, mut stream: TcpStream| {
            counter.fetch_add(1, Ordering::Relaxed);
            async move { while read_request(&mut stream).await.is_some() {} }
        });
        let answers = answers.await;
        let mut client = client(std::slice::from_ref(&answers));
        client.metadata(&[], false).await.expect("an answer");
        client.set_nodes(&nodes([answers, hangs.await]));
        assert!(client.patience <= Duration::from_secs(1));
        client.patience = Duration::from_millis(20);
        for _ in 0..5 {
            client.metadata(&[], true).await.expect("an answer");
        }
        assert_eq!(connections.load(Ordering::Relaxed), 1);
        // It may only be far away.
        let slow = client.slow.values_mut().next().expect("noticed");
        assert_eq!(slow.waited, Duration::from_millis(20));
        slow.until = Instant::now();
        client.metadata(&[], true).await.expect("an answer");
        assert_eq!(connections.load(Ordering::Relaxed), 2);
        let slow = client.slow.values().next().expect("noticed");
        assert_eq!(slow.waited, Duration::from_millis(40));
    }

    #[tokio::test]
    async fn whoever_refused_a_producer_id_is_asked_again_only_if_nobody_else_answers() {
        let refuses = listen(|_, stream| serve(stream, 1)).await;
        let (dead, grants) = (closed_port(), listen(|_, stream| serve(stream, 2)).await);
        for _ in 0..10 {
            let mut client = client(std::slice::from_ref(&refuses));
            client.init_producer_id(&[]).await.expect("an answer");
            client.set_nodes(&nodes([refuses.clone(), dead.clone(), grants.clone()]));
            let refused = std::slice::from_ref(&refuses);
            let answer = client.init_producer_id(refused).await.expect("an answer");
            assert_eq!(answer.producer_id, 2);
            client.set_nodes(&nodes([refuses.clone(), dead.clone()]));
            let refused = [refuses.clone(), grants.clone()];
            client.live = None;
            let mut ids = Vec::new();
            for _ in 0..4 {
                ids.extend(client.init_producer_id(&refused).await.ok());
            }
            assert!(ids.iter().all(|answer| answer.producer_id == 1));
            assert!(!ids.is_empty(), "the only one that can be reached");
        }
    }

    #[tokio::test]
    async fn an_empty_bootstrap_list_is_an_error() {
        let error = client(&[])
            .metadata(&[], false)
            .await
            .expect_err("no broker");
        assert!(matches!(error, NetError::NoBrokers));
    }
}
