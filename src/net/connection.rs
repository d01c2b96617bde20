//! Connects to a broker and learns which API versions it supports.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time::{Instant, timeout_at};

use super::transport::Transport;
use super::{Endpoint, FrameReader, FrameWriter, NetError};
use crate::core::wire::{self, Api, Versions, VersionsResponse, WireError};

#[derive(Debug, Clone)]
pub struct ConnectOptions {
    pub client_id: String,
    /// The limit for resolving the name and connecting, for all addresses of the endpoint together.
    pub setup_timeout: Duration,
    /// The limit for the handshake, and for each request of a [`super::ControlClient`].
    pub request_timeout: Duration,
    /// `None` leaves it to the operating system.
    pub send_buffer: Option<usize>,
    /// `None` leaves it to the operating system.
    pub receive_buffer: Option<usize>,
}

/// A connection to a broker that has sent its API versions.
pub struct Connection {
    pub reader: FrameReader,
    pub writer: FrameWriter,
    pub versions: Versions,
}

/// Resolves the endpoint, connects to the first of its addresses that accepts, and asks the broker
/// for its API versions.
pub async fn connect(
    endpoint: &Endpoint,
    options: &ConnectOptions,
) -> Result<Connection, NetError> {
    let (read, write) = dial(endpoint, options).await?.split();
    let mut reader = FrameReader::new(read, endpoint.clone());
    let mut writer = FrameWriter::new(write, endpoint.clone());
    let deadline = Instant::now() + options.request_timeout;
    let handshake = handshake(&mut reader, &mut writer, &options.client_id);
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
            true => NetError::ClosedBeforeFirstResponse {
                endpoint: endpoint.clone(),
            },
            false => error,
        })?;
    Ok(Connection {
        reader,
        writer,
        versions,
    })
}

async fn dial(endpoint: &Endpoint, options: &ConnectOptions) -> Result<Transport, NetError> {
    let deadline = Instant::now() + options.setup_timeout;
    #[cfg(feature = "internals")]
    if let Some(dialled) = super::simulated::dial(endpoint) {
        let dialled = timeout_at(deadline, dialled).await;
        let dialled = dialled.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        return match dialled {
            Ok(halves) => Ok(Transport::Simulated(halves)),
            Err(error) => Err(NetError::io(endpoint, "connecting to", error)),
        };
    }
    let timed_out = |attempts| NetError::ConnectTimeout {
        endpoint: endpoint.clone(),
        after: options.setup_timeout,
        attempts,
    };
    let lookup = lookup_host((endpoint.host.as_str(), endpoint.port));
    let addresses: Vec<SocketAddr> = match timeout_at(deadline, lookup).await {
        Err(_) => return Err(timed_out(Vec::new())),
        Ok(found) => found
            .map(Iterator::collect)
            .map_err(|error| NetError::Resolve {
                endpoint: endpoint.clone(),
                source: Arc::new(error),
            })?,
    };

    let mut attempts: Vec<(SocketAddr, Arc<io::Error>)> = Vec::new();
    for (index, &address) in addresses.iter().enumerate() {
        // The remaining time is divided among the remaining addresses, so that one that drops all
        // packets does not use it up.
        let share = deadline.saturating_duration_since(Instant::now())
            / u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
        let error = match timeout_at(Instant::now() + share, open(address, options)).await {
            Ok(Ok(stream)) => return Ok(Transport::Plain(stream)),
            Ok(Err(error)) => error,
            Err(_) => io::ErrorKind::TimedOut.into(),
        };
        attempts.push((address, Arc::new(error)));
    }
    if attempts
        .iter()
        .any(|(_, error)| error.kind() == io::ErrorKind::TimedOut)
    {
        return Err(timed_out(attempts));
    }
    Err(NetError::Connect {
        endpoint: endpoint.clone(),
        attempts,
    })
}

async fn open(address: SocketAddr, options: &ConnectOptions) -> io::Result<TcpStream> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // This must be before connecting, because the size of the receive buffer decides the window
    // scale.
    if let Some(size) = options.send_buffer {
        socket.set_send_buffer_size(u32::try_from(size).unwrap_or(u32::MAX))?;
    }
    if let Some(size) = options.receive_buffer {
        socket.set_recv_buffer_size(u32::try_from(size).unwrap_or(u32::MAX))?;
    }
    socket.set_keepalive(true)?;
    socket.set_nodelay(true)?;
    socket.connect(address).await
}

async fn handshake(
    reader: &mut FrameReader,
    writer: &mut FrameWriter,
    client_id: &str,
) -> Result<Versions, NetError> {
    let endpoint = reader.endpoint().clone();
    let wire_error = |error| NetError::wire(&endpoint, error);
    let (_, newest) = Api::Versions.ours();
    for (correlation_id, version) in [(0, newest), (1, 0)] {
        let request =
            wire::encode_api_versions(version, correlation_id, client_id).map_err(wire_error)?;
        let call = Call {
            api: Api::Versions,
            version,
            correlation_id,
            request,
        };
        let body = exchange(reader, writer, &call).await?;
        match Versions::decode(version, &body).map_err(wire_error)? {
            VersionsResponse::Versions(versions) => return Ok(versions),
            VersionsResponse::AskVersion0 => {}
        }
    }
    // A response in version 0 never asks for version 0.
    Err(wire_error(WireError::NoVersions))
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
    writer.write_all(&call.request).await?;
    let endpoint = reader.endpoint().clone();
    let Some(frame) = reader.next().await? else {
        return Err(NetError::Closed {
            endpoint,
            partial: 0,
        });
    };
    let (got, body) = wire::split_response(call.api, call.version, frame)
        .map_err(|error| NetError::wire(&endpoint, error))?;
    if got != call.correlation_id {
        return Err(NetError::Correlation {
            endpoint,
            expected: call.correlation_id,
            got,
        });
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::super::fake::{frame, listen, options, read_request, saying, versions_body};
    use super::*;

    async fn refusal(endpoint: &Endpoint, options: &ConnectOptions) -> NetError {
        match connect(endpoint, options).await {
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
        let connection = connect(&endpoint, &options).await.expect("a broker");
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
        connect(&endpoint, &options()).await.expect("a broker");
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

    #[tokio::test]
    async fn a_network_that_swallows_packets_ends_with_a_timeout() {
        // With a full accept queue the kernel accepts no more connections.
        let socket = TcpSocket::new_v4().expect("a socket");
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        socket.bind(address).expect("a free port");
        let listener = socket.listen(0).expect("a listener");
        let address = listener.local_addr().expect("bound");
        let mut held = Vec::new();
        let short = Duration::from_millis(100);
        while let Ok(stream) = tokio::time::timeout(short, TcpStream::connect(address)).await {
            held.push(stream.expect("connected"));
        }
        let mut options = options();
        options.setup_timeout = short;
        let error = refusal(&Endpoint::new("127.0.0.1", address.port()), &options).await;
        match &error {
            NetError::ConnectTimeout { attempts, .. } => assert_eq!(attempts.len(), 1),
            other => panic!("{other:?}"),
        }
        assert!(error.to_string().contains("setup.timeout.ms"), "{error}");
    }
}
