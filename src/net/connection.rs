//! Connecting to a broker, up to the point where it has said what it speaks.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time::{Instant, timeout_at};

use super::transport::Transport;
use super::{Endpoint, FrameReader, FrameWriter, NetError};
use crate::wire::{self, Api, Versions, VersionsAnswer, WireError};

#[derive(Debug, Clone)]
pub struct ConnectOptions {
    pub client_id: String,
    /// For resolving and connecting, all addresses of the endpoint together.
    pub setup_timeout: Duration,
    /// For the handshake, and for each request of a [`super::ControlClient`].
    pub request_timeout: Duration,
    /// `None` leaves it to the operating system.
    pub send_buffer: Option<usize>,
    /// `None` leaves it to the operating system.
    pub receive_buffer: Option<usize>,
}

/// A connection whose broker has said what it speaks.
pub struct Connection {
    pub reader: FrameReader,
    pub writer: FrameWriter,
    pub versions: Versions,
}

/// Resolves the endpoint, connects to the first of its addresses that answers, and asks the
/// broker what it speaks.
pub async fn connect(
    endpoint: &Endpoint,
    options: &ConnectOptions,
) -> Result<Connection, NetError> {
    let stream = dial(endpoint, options).await?;
    let (read, write) = Transport::Plain(stream).split();
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
            true => NetError::ClosedBeforeFirstAnswer {
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

async fn dial(endpoint: &Endpoint, options: &ConnectOptions) -> Result<TcpStream, NetError> {
    let deadline = Instant::now() + options.setup_timeout;
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
        // An address that swallows packets leaves the others their share of the time.
        let share = deadline.saturating_duration_since(Instant::now())
            / u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
        let error = match timeout_at(Instant::now() + share, open(address, options)).await {
            Ok(Ok(stream)) => return Ok(stream),
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
    // Before connecting, for the receive buffer decides which window scale is agreed on.
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
            VersionsAnswer::Versions(versions) => return Ok(versions),
            VersionsAnswer::AskVersion0 => {}
        }
    }
    // Version 0 never answers that it should be asked in version 0.
    Err(wire_error(WireError::NoVersions))
}

/// A request that is the only one in flight on its connection.
pub(super) struct Call {
    pub api: Api,
    pub version: i16,
    pub correlation_id: i32,
    pub request: Bytes,
}

/// Writes a request and waits for its answer, without a deadline.
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
    let (got, body) = wire::split_answer(call.api, call.version, frame)
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
