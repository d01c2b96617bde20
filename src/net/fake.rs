//! Fake brokers for the tests of this module. Each does only what its test needs.

use std::future::Future;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use kafka_protocol::messages::ApiVersionsResponse;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::protocol::Encodable;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{ConnectOptions, Endpoint};

pub fn options() -> ConnectOptions {
    ConnectOptions {
        client_id: "test".to_owned(),
        setup_timeout: Duration::from_secs(5),
        request_timeout: Duration::from_secs(5),
        send_buffer: None,
        receive_buffer: None,
    }
}

/// Listens, and runs `script` for one connection after the other. `script` gets the number of the
/// connection.
pub async fn listen<F>(script: impl Fn(usize, TcpStream) -> F + Send + 'static) -> Endpoint
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    tokio::spawn(async move {
        let mut number = 0;
        while let Ok((stream, _)) = listener.accept().await {
            script(number, stream).await;
            number += 1;
        }
    });
    Endpoint::new("127.0.0.1", port)
}

/// Listens, responds to the first request of each connection with `bytes`, and closes it.
pub async fn saying(bytes: Vec<u8>) -> Endpoint {
    listen(move |_, mut stream| {
        let bytes = bytes.clone();
        async move {
            read_request(&mut stream).await;
            stream.write_all(&bytes).await.expect("an open connection");
        }
    })
    .await
}

pub struct Request {
    pub api_key: i16,
    pub version: i16,
    pub correlation_id: i32,
}

/// The next request, or `None` if the client closed the connection.
pub async fn read_request(stream: &mut TcpStream) -> Option<Request> {
    let length = stream.read_i32().await.ok()?;
    let mut body = vec![0; usize::try_from(length).expect("a length")];
    stream.read_exact(&mut body).await.expect("a whole request");
    let mut body = &body[..];
    Some(Request {
        api_key: body.get_i16(),
        version: body.get_i16(),
        correlation_id: body.get_i32(),
    })
}

/// A frame with a correlation id. `body` includes the rest of the response header.
pub fn frame(correlation_id: i32, body: &[u8]) -> Vec<u8> {
    let length = i32::try_from(4 + body.len()).expect("a small body");
    [
        &length.to_be_bytes()[..],
        &correlation_id.to_be_bytes(),
        body,
    ]
    .concat()
}

/// The body of an ApiVersions response: Produce, Metadata, ApiVersions, InitProducerId up to v4.
pub fn versions_body(version: i16) -> Vec<u8> {
    let keys = [(0, 3, 11), (3, 0, 13), (18, 0, 4), (22, 0, 4)].map(|(key, min, max)| {
        ApiVersion::default()
            .with_api_key(key)
            .with_min_version(min)
            .with_max_version(max)
    });
    let answer = ApiVersionsResponse::default().with_api_keys(keys.to_vec());
    let mut body = BytesMut::new();
    answer.encode(&mut body, version).expect("a valid answer");
    body.to_vec()
}

/// Responds to the handshake.
pub async fn shake_hands(stream: &mut TcpStream) {
    let request = read_request(stream).await.expect("a handshake");
    let answer = frame(request.correlation_id, &versions_body(request.version));
    stream.write_all(&answer).await.expect("an open connection");
}

/// An InitProducerId v4 response with this producer id.
pub fn producer_id(correlation_id: i32, id: i64) -> Vec<u8> {
    // Header tags, throttle, error code, id, epoch, tags.
    let body = [&[0; 7][..], &id.to_be_bytes(), &[0, 0, 0]].concat();
    frame(correlation_id, &body)
}
