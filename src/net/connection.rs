//! Connects to a broker and learns which API versions it supports.

#[cfg(feature = "tls")]
use std::io;
use std::io::IoSlice;
use std::sync::Arc;

use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use super::dial::dial;
use super::login::{Ask, LoginCall, log_in, prove};
use super::term::Term;
#[cfg(feature = "tls")]
use super::transport::Transport;
use super::{ConnectOptions, Endpoint, FrameReader, FrameWriter, NetError, Seen};
use crate::core::dial::Learned;
use crate::core::wire::{self, Addressee, Api, Versions, VersionsResponse};

/// A connection to a broker that has sent its API versions.
pub struct Connection {
    pub reader: FrameReader,
    pub writer: FrameWriter,
    pub versions: Versions,
    /// There if a login ends.
    pub term: Option<Term>,
}

/// Resolves the endpoint, connects to the first of its addresses that accepts, asks the broker for
/// its API versions, and logs in. `addressee` is whom the connection is meant for, where that is known.
/// `learned` is of earlier connections to the endpoint, and for the next ones.
pub async fn connect(
    endpoint: &Endpoint,
    addressee: Option<&Addressee>,
    options: &ConnectOptions,
    learned: &mut Learned,
) -> Result<Connection, NetError> {
    let addressee = addressee.filter(|_| options.names_addressee);
    let transport = dial(endpoint, &options.sockets(), learned).await?;
    #[cfg(feature = "tls")]
    let transport = encrypted(transport, endpoint, options).await?;
    let (read, write) = transport.split();
    let mut reader = FrameReader::new(read, endpoint.clone());
    let mut writer = FrameWriter::new(write, endpoint.clone());
    let deadline = Instant::now() + options.request_timeout;
    let first = learned.first_version(addressee.is_some());
    let handshake = handshake(
        &mut reader,
        &mut writer,
        &options.client_id,
        (first, addressee),
    );
    let versions = timeout_at(deadline, handshake)
        .await
        .unwrap_or_else(|_| {
            Err(NetError::RequestTimeout {
                endpoint: endpoint.clone(),
                api: Api::Versions,
                after: options.request_timeout,
            })
        })
        .map_err(|error| match error.is_closed_unsaid() {
            true => {
                learned.closed_unsaid();
                NetError::ClosedBeforeFirstResponse {
                    endpoint: endpoint.clone(),
                    protocol: options.security.protocol(),
                }
            }
            false => error,
        })?;
    options
        .observer
        .tell(endpoint, || Seen::Versions(versions.clone()));
    let mut connection = Connection {
        reader,
        writer,
        versions,
        term: None,
    };
    connection.log_in(options).await?;
    connection.reader.let_in();
    Ok(connection)
}

/// Puts TLS over a socket, if it is configured.
#[cfg(feature = "tls")]
async fn encrypted(
    transport: Transport,
    endpoint: &Endpoint,
    options: &ConnectOptions,
) -> Result<Transport, NetError> {
    let (tls, stream) = match (&options.security.tls, transport) {
        (None, transport) => return Ok(transport),
        (Some(tls), Transport::Plain(stream)) => (tls, stream),
        (Some(_), _) => {
            let error = io::Error::other("only sockets can be encrypted");
            return Err(NetError::io(
                endpoint,
                "encrypting the connection to",
                error,
            ));
        }
    };
    let deadline = Instant::now() + options.setup_timeout;
    let connecting = timeout_at(deadline, tls.connect(stream, endpoint, &options.observer)).await;
    let stream = connecting.unwrap_or_else(|_| {
        Err(NetError::TlsTimeout {
            endpoint: endpoint.clone(),
            after: options.setup_timeout,
        })
    })?;
    Ok(Transport::Tls(Box::new(stream)))
}

impl Connection {
    /// Logs in, if a login is configured; or again, while nothing else is in flight.
    pub(super) async fn log_in(&mut self, options: &ConnectOptions) -> Result<(), NetError> {
        let Some(login) = &options.security.login else {
            return Ok(());
        };
        let endpoint = self.reader.endpoint().clone();
        let limit = options.request_timeout;
        let is_renewal = self.term.is_some();
        let proof = match &mut self.term {
            None => prove(login, &endpoint, limit).await?,
            Some(term) => match term.prove_again(login, &endpoint, limit).await? {
                Some(proof) => proof,
                None => return Ok(()),
            },
        };
        let asked = Instant::now();
        let mut way = Alone(&mut self.reader, &mut self.writer);
        let with = (login, &proof, is_renewal);
        let limits = (options.client_id.as_str(), limit);
        let logged_in = log_in(with, &endpoint, limits, &self.versions, &mut way).await?;
        options.observer.tell(&endpoint, || Seen::LoggedIn {
            mechanism: login.mechanism.to_string(),
            user: Arc::clone(&logged_in.user),
            lifetime: logged_in.lifetime,
        });
        self.term = Term::new(asked, &logged_in);
        Ok(())
    }
}

/// The way to a broker on a connection that carries nothing else meanwhile.
struct Alone<'a>(&'a mut FrameReader, &'a mut FrameWriter);

impl Ask for Alone<'_> {
    async fn ask_bare(&mut self, message: &[u8]) -> Result<Option<Bytes>, NetError> {
        let length = u32::try_from(message.len())
            .unwrap_or(u32::MAX)
            .to_be_bytes();
        let mut parts = [IoSlice::new(&length), IoSlice::new(message)];
        self.1.write(&mut parts).await?;
        match self.0.next().await {
            Err(error) if error.is_closed_unsaid() => Ok(None),
            answer => answer,
        }
    }

    async fn ask(&mut self, call: LoginCall<'_>) -> Result<Bytes, NetError> {
        self.1.write(&mut call.parts.map(IoSlice::new)).await?;
        let (api, version) = (call.api, call.version);
        response(self.0, api, version, call.correlation_id).await
    }
}

async fn handshake(
    reader: &mut FrameReader,
    writer: &mut FrameWriter,
    client_id: &str,
    (first_version, addressee): (i16, Option<&Addressee>),
) -> Result<Versions, NetError> {
    let endpoint = reader.endpoint().clone();
    let wire_error = |error| NetError::wire(&endpoint, error);
    let (mut version, mut correlation_id) = (first_version, 0);
    loop {
        let request = wire::encode_api_versions(version, correlation_id, client_id, addressee)
            .map_err(wire_error)?;
        let call = Call {
            api: Api::Versions,
            version,
            correlation_id,
            request,
        };
        let body = exchange(reader, writer, &call).await?;
        match Versions::decode(version, &body).map_err(wire_error)? {
            VersionsResponse::Versions(versions) => return Ok(versions),
            // A lower one each time, so this comes to an end.
            VersionsResponse::AskAgain(lower) => version = lower,
            VersionsResponse::NotAddressed => {
                return Err(NetError::NotAddressed {
                    endpoint,
                    addressee: addressee.cloned(),
                });
            }
        }
        correlation_id += 1;
    }
}

/// A request that is alone in flight on its connection.
pub(super) struct Call {
    pub api: Api,
    pub version: i16,
    pub correlation_id: i32,
    pub request: Bytes,
}

/// Writes a request and waits for its response, without a deadline.
pub(super) async fn exchange(
    reader: &mut FrameReader,
    writer: &mut FrameWriter,
    call: &Call,
) -> Result<Bytes, NetError> {
    if let Err(error) = writer.write_all(&call.request).await {
        return Err(reader.last_words(error).await);
    }
    response(reader, call.api, call.version, call.correlation_id).await
}

async fn response(
    reader: &mut FrameReader,
    api: Api,
    version: i16,
    correlation_id: i32,
) -> Result<Bytes, NetError> {
    let endpoint = reader.endpoint().clone();
    let Some(frame) = reader.next().await? else {
        return Err(NetError::Closed {
            endpoint,
            partial: 0,
        });
    };
    let (got, body) = wire::split_response(api, version, frame)
        .map_err(|error| NetError::wire(&endpoint, error))?;
    if got != correlation_id {
        return Err(NetError::Correlation {
            endpoint,
            expected: correlation_id,
            got,
        });
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::AsyncWriteExt;

    use super::super::fake::{frame, listen, options, read_request, saying, versions_body};
    use super::*;

    async fn refusal(endpoint: &Endpoint, options: &ConnectOptions) -> NetError {
        match connect(endpoint, None, options, &mut Learned::default()).await {
            Ok(_) => panic!("{endpoint} was taken for a broker"),
            Err(error) => error,
        }
    }

    #[tokio::test]
    async fn a_broker_sends_its_versions() {
        let endpoint = saying(frame(0, &versions_body(4))).await;
        let mut options = options();
        options.send_buffer = Some(128 << 10);
        options.receive_buffer = Some(64 << 10);
        let mut learned = Learned::default();
        let connection = connect(&endpoint, None, &options, &mut learned).await;
        let connection = connection.expect("a broker");
        assert_eq!(connection.versions.best(Api::Produce), Ok(11));
        assert_eq!(connection.reader.endpoint(), &endpoint);
    }

    #[tokio::test]
    async fn an_older_broker_is_asked_again_in_version_0() {
        let endpoint = listen(|_, mut stream| async move {
            let first = read_request(&mut stream).await.expect("a request");
            assert_eq!((first.api_key, first.version), (18, 4));
            let unsupported = frame(first.correlation_id, &[0, 35, 0, 0, 0, 0]);
            stream.write_all(&unsupported).await.expect("open");
            let second = read_request(&mut stream).await.expect("a request");
            assert_eq!((second.api_key, second.version), (18, 0));
            let answer = frame(second.correlation_id, &versions_body(0));
            stream.write_all(&answer).await.expect("open");
        })
        .await;
        let mut learned = Learned::default();
        let connection = connect(&endpoint, None, &options(), &mut learned).await;
        connection.expect("a broker");
    }

    fn addressee(node: i32) -> Addressee {
        Addressee {
            cluster_id: "cluster".into(),
            node,
        }
    }

    /// Answers in version 5 for node 1, and refuses it on behalf of all others.
    async fn node_1() -> Endpoint {
        listen(|_, mut stream| async move {
            let request = read_request(&mut stream).await.expect("a request");
            assert_eq!((request.api_key, request.version), (18, 5));
            let to_1 = b"\x08cluster\0\0\0\x01\0";
            let body = match request.rest.ends_with(to_1) {
                true => versions_body(5),
                false => vec![0, 129, 1, 0, 0, 0, 0, 0],
            };
            let answer = frame(request.correlation_id, &body);
            stream.write_all(&answer).await.expect("open");
        })
        .await
    }

    #[tokio::test]
    async fn a_connection_that_reaches_another_broker_is_noticed() {
        let (endpoint, options) = (node_1().await, options());
        let mut learned = Learned::default();
        let meant = addressee(1);
        let connection = connect(&endpoint, Some(&meant), &options, &mut learned).await;
        connection.expect("the addressee");
        let meant = addressee(2);
        let other = connect(&endpoint, Some(&meant), &options, &mut learned).await;
        let error = other.err().expect("not the addressee");
        assert!(matches!(error, NetError::NotAddressed { .. }), "{error:?}");
        let said = error.to_string();
        assert!(
            said.contains("not broker 2 of cluster cluster any more"),
            "{said}"
        );
        assert!(
            said.contains("metadata.cluster.check.enable=false"),
            "{said}"
        );
    }

    #[tokio::test]
    async fn whom_it_is_meant_for_is_told_only_if_that_is_configured() {
        let mut options = options();
        for (names_addressee, version) in [(true, 5), (false, 4)] {
            options.names_addressee = names_addressee;
            let endpoint = listen(move |_, mut stream| async move {
                let request = read_request(&mut stream).await.expect("a request");
                assert_eq!(request.version, version);
                let answer = frame(request.correlation_id, &versions_body(4));
                stream.write_all(&answer).await.expect("open");
            })
            .await;
            let mut learned = Learned::default();
            let meant = addressee(1);
            let connection = connect(&endpoint, Some(&meant), &options, &mut learned).await;
            connection.expect("a broker");
        }
    }

    /// As all before Kafka 4.4 do: they name the version that they have.
    #[tokio::test]
    async fn a_broker_without_version_5_is_asked_in_the_version_it_names() {
        for (newest, asked) in [(4, &[5, 4][..]), (3, &[5, 3]), (9, &[5, 4, 3, 2, 1, 0])] {
            let endpoint = listen(move |_, mut stream| async move {
                for version in asked {
                    let request = read_request(&mut stream).await.expect("a request");
                    assert_eq!((request.api_key, request.version), (18, *version));
                    let body = match asked.last() == Some(version) {
                        true => versions_body(*version),
                        false => [&[0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0][..], &[newest]].concat(),
                    };
                    let answer = frame(request.correlation_id, &body);
                    stream.write_all(&answer).await.expect("open");
                }
            })
            .await;
            let (mut learned, meant) = (Learned::default(), addressee(1));
            let connection = connect(&endpoint, Some(&meant), &options(), &mut learned).await;
            connection.expect("a broker");
        }
    }

    #[tokio::test]
    async fn a_broker_that_closes_on_a_new_version_is_asked_in_version_0_from_then_on() {
        let endpoint = listen(|_, mut stream| async move {
            let request = read_request(&mut stream).await.expect("a request");
            if request.version == 0 {
                let answer = frame(request.correlation_id, &versions_body(0));
                stream.write_all(&answer).await.expect("open");
            }
        })
        .await;
        let (options, mut learned) = (options(), Learned::default());
        let first = connect(&endpoint, None, &options, &mut learned).await;
        match first.err() {
            Some(NetError::ClosedBeforeFirstResponse { .. }) => {}
            other => panic!("{other:?}"),
        }
        for _ in 0..3 {
            let next = connect(&endpoint, None, &options, &mut learned).await;
            next.expect("asked in version 0");
        }
    }

    /// Over TLS a connection that ends without a word of TLS is closed, too.
    #[cfg(feature = "tls")]
    #[tokio::test]
    async fn a_broker_that_closes_over_tls_is_asked_in_version_0_from_then_on() {
        use super::super::fake::tls;

        let signer = tls::Signer::new();
        let endpoint = tls::listen(&signer, |_, mut stream| async move {
            let request = read_request(&mut stream).await.expect("a request");
            if request.version == 0 {
                let answer = frame(request.correlation_id, &versions_body(0));
                stream.write_all(&answer).await.expect("open");
                stream.flush().await.expect("open");
            }
        })
        .await;
        let (options, mut learned) = (tls::options(signer.trusted()), Learned::default());
        let first = connect(&endpoint, None, &options, &mut learned).await;
        match first.err() {
            Some(error @ NetError::ClosedBeforeFirstResponse { .. }) => {
                let (_, certain) = error.security().expect("a doubt");
                assert!(!certain && error.is_closed());
            }
            other => panic!("{other:?}"),
        }
        for _ in 0..3 {
            let next = connect(&endpoint, None, &options, &mut learned).await;
            next.expect("asked in version 0");
        }
    }

    #[tokio::test]
    async fn what_is_no_broker_is_recognised() {
        for (said, expected) in [
            (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], "answers HTTP"),
            (&[0x15, 3, 3, 0, 2, 2, 70], "expects TLS"),
            (b"SSH-2.0-OpenSSH_9.6\r\n", "announces an answer of"),
            (&[0xff; 8], "announces an answer of -1 bytes"),
            (&[0; 4], "ends early"),
            (&frame(5, &versions_body(4)), "answered request 5 when 0"),
            (&frame(0, &[0, 0, 1]), "ends early"),
            (&frame(0, &[0, 0, 1, 0, 0, 0, 0, 0]), "versions is empty"),
            (&frame(0, &[0, 58]), "error code 58"),
        ] {
            let endpoint = saying(said.to_vec()).await;
            let error = refusal(&endpoint, &options()).await.to_string();
            assert!(error.contains(expected), "{error}");
            assert!(error.contains(&endpoint.to_string()), "{error}");
        }
    }

    #[tokio::test]
    async fn a_close_at_any_byte_of_the_handshake_is_an_error() {
        let answer = frame(0, &versions_body(4));
        for sent in 0..answer.len() {
            let endpoint = saying(answer[..sent].to_vec()).await;
            match refusal(&endpoint, &options()).await {
                NetError::ClosedBeforeFirstResponse { .. } if sent == 0 => {}
                NetError::Closed { partial, .. } => assert_eq!(partial, sent),
                other => panic!("{sent} bytes: {other:?}"),
            }
        }
    }

    #[tokio::test]
    async fn a_close_at_once_hints_at_the_security_protocol() {
        let endpoint = listen(|_, stream| async move { drop(stream) }).await;
        let error = refusal(&endpoint, &options()).await;
        assert!(error.to_string().contains("is the listener TLS or SASL?"));
        // A proxy closes so, too, while its broker is away.
        assert_eq!(error.security(), None);
    }

    #[tokio::test]
    async fn silence_ends_with_a_timeout() {
        let endpoint =
            listen(
                |_, mut stream| async move { while read_request(&mut stream).await.is_some() {} },
            )
            .await;
        let mut options = options();
        options.request_timeout = Duration::from_millis(100);
        match refusal(&endpoint, &options).await {
            NetError::RequestTimeout {
                api: Api::Versions, ..
            } => {}
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_closed_port_names_each_address() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        drop(listener);
        match refusal(&Endpoint::new("127.0.0.1", port), &options()).await {
            NetError::Connect { attempts, .. } => assert_eq!(attempts.len(), 1),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_name_that_cannot_be_resolved_is_named() {
        let error = refusal(&Endpoint::new("no such host", 9092), &options()).await;
        assert!(matches!(error, NetError::Resolve { .. }), "{error:?}");
        assert!(error.to_string().contains("no such host:9092"));
    }
}
