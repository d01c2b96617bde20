//! Asks a token endpoint for a token, over HTTP: one connection, one request, one answer.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Bytes};
use hyper::client::conn::http1;
use hyper::header::{self, HeaderValue};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout_at};

use super::assertion;
use super::blocking::{blocking, since_epoch};
use super::dial::{SocketOptions, dial};
use super::error::Attempts;
#[cfg(feature = "tls")]
use super::tls::Tls;
use super::transport::Transport;
use super::{NetError, Observer};
use crate::core::dial::Learned;
#[cfg(feature = "tls")]
use crate::core::security::SecurityError;
use crate::core::security::bearer::TokenEndpoint;
use crate::core::security::grant::{self, GrantAnswer, GrantRequest};
use crate::core::security::{Token, TokenError};

/// Longer answers are no tokens.
const LONGEST_ANSWER: usize = 1 << 20;
/// Bytes of an answer's header, at most.
const LONGEST_HEADER: usize = 64 << 10;

trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Stream for T {}

#[derive(Debug, thiserror::Error)]
#[error("the answer is too long")]
struct TooLong;

struct Answered {
    status: StatusCode,
    location: Option<String>,
    body: Bytes,
}

/// Asks for a token.
pub(super) async fn fetch(
    endpoint: &TokenEndpoint,
    #[cfg(feature = "tls")] tls: Option<&Arc<Tls>>,
) -> Result<Token, TokenError> {
    let name: Arc<str> = endpoint.url.to_string().into();
    #[cfg(feature = "tls")]
    let connecting = connect(endpoint, &name, tls);
    #[cfg(not(feature = "tls"))]
    let connecting = connect(endpoint, &name);
    let assertion = match endpoint.grant.assertion() {
        Some(assertion) => {
            let assertion = assertion.clone();
            Some(blocking(move || assertion::make(&assertion, since_epoch())).await??)
        }
        None => None,
    };
    let stream = connecting.await?;
    let request = grant::request(endpoint, assertion.as_ref());
    let limit = endpoint.read_timeout;
    let exchange = timeout_at(Instant::now() + limit, exchange(endpoint, &request, stream)).await;
    let Ok(exchanged) = exchange else {
        let why = format!("does not answer within {limit:?}; raise sasl.login.read.timeout.ms?");
        return Err(silent(&name, why));
    };
    let answered = exchanged.map_err(|error| unreachable(&name, words(&*error)))?;
    let answer = GrantAnswer {
        status: answered.status.as_u16(),
        location: answered.location.as_deref(),
        body: &answered.body,
    };
    request.token(&name, &answer)
}

/// What an error of HTTP means.
fn words(error: &(dyn Error + 'static)) -> String {
    if error.is::<LengthLimitError>() || error.is::<TooLong>() {
        return format!("answers with more than {LONGEST_ANSWER} bytes; is that its URL?");
    }
    match error.downcast_ref::<hyper::Error>() {
        Some(error) if error.is_parse() => "does not answer in HTTP; is it https?".to_owned(),
        Some(error) if error.is_incomplete_message() => {
            "closes the connection instead of answering; is it https?".to_owned()
        }
        _ => {
            let mut text = format!("does not answer: {error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                text.push_str(&format!(": {error}"));
                cause = error.source();
            }
            text
        }
    }
}

async fn exchange(
    endpoint: &TokenEndpoint,
    asked: &GrantRequest,
    stream: Box<dyn Stream>,
) -> Result<Answered, Box<dyn Error + Send + Sync>> {
    let mut builder = http1::Builder::new();
    builder.max_buf_size(LONGEST_HEADER);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
    let form = Bytes::copy_from_slice(asked.form.as_bytes());
    let mut request = Request::post(&endpoint.url.target)
        .header(header::HOST, &endpoint.url.authority)
        .header(header::ACCEPT, "application/json")
        .header(header::CACHE_CONTROL, "no-cache")
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(header::CONNECTION, "close")
        .header(
            header::USER_AGENT,
            concat!("forebay/", env!("CARGO_PKG_VERSION")),
        )
        .body(Full::new(form))?;
    if let Some(authorization) = &asked.authorization {
        let mut value = HeaderValue::from_str(authorization.reveal())?;
        value.set_sensitive(true);
        request.headers_mut().insert(header::AUTHORIZATION, value);
    }
    let answer = async {
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let location = answer.headers().get(header::LOCATION);
        let location = location.and_then(|it| it.to_str().ok()).map(str::to_owned);
        // Some announce what they never send.
        if answer.body().size_hint().lower() > LONGEST_ANSWER as u64 {
            return Err(TooLong.into());
        }
        let body = Limited::new(answer.into_body(), LONGEST_ANSWER)
            .collect()
            .await?;
        Ok(Answered {
            status,
            location,
            body: body.to_bytes(),
        })
    };
    // What goes wrong with the connection is told by the answer, too.
    let driving = async {
        let _ = connection.await;
        std::future::pending().await
    };
    tokio::select! {
        answer = answer => answer,
        never = driving => never,
    }
}

async fn connect(
    endpoint: &TokenEndpoint,
    name: &Arc<str>,
    #[cfg(feature = "tls")] tls: Option<&Arc<Tls>>,
) -> Result<Box<dyn Stream>, TokenError> {
    let limit = endpoint.connect_timeout;
    let deadline = Instant::now() + limit;
    let options = SocketOptions {
        setup_timeout: limit,
        request_timeout: endpoint.read_timeout,
        send_buffer: None,
        receive_buffer: None,
        observer: Observer::default(),
    };
    let dialled = dial(&endpoint.url.endpoint, &options, &mut Learned::default()).await;
    let transport = dialled.map_err(|error| match is_late(&error) {
        true => silent(name, too_late(limit)),
        false => unreachable(name, connecting(&error)),
    })?;
    let stream = match transport {
        Transport::Plain(stream) => stream,
        #[cfg(feature = "internals")]
        Transport::Simulated((read, write)) => return Ok(Box::new(tokio::io::join(read, write))),
        #[cfg(feature = "tls")]
        Transport::Tls(stream) => return Ok(stream),
    };
    if !endpoint.url.is_encrypted {
        return Ok(Box::new(stream));
    }
    #[cfg(feature = "tls")]
    if let Some(tls) = tls {
        let shaken = timeout_at(
            deadline,
            tls.connect(stream, &endpoint.url.endpoint, &Observer::default()),
        )
        .await;
        let late = |_| {
            let why = format!("does not finish the TLS handshake within {limit:?}; is it http?");
            silent(name, why)
        };
        return match shaken.map_err(late)? {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) => Err(in_tls(&error, name)),
        };
    }
    let _ = deadline;
    let why = "asks for TLS, which this build has not";
    Err(unreachable(name, why.to_owned()))
}

fn unreachable(name: &Arc<str>, why: String) -> TokenError {
    TokenError::Unreachable {
        endpoint: Arc::clone(name),
        why: why.into(),
    }
}

fn silent(name: &Arc<str>, why: String) -> TokenError {
    TokenError::Silent {
        endpoint: Arc::clone(name),
        why: why.into(),
    }
}

fn is_late(error: &NetError) -> bool {
    match error {
        NetError::ConnectTimeout { .. } => true,
        NetError::Io { source, .. } => source.kind() == io::ErrorKind::TimedOut,
        _ => false,
    }
}

fn too_late(limit: Duration) -> String {
    format!(
        "does not accept a connection within {limit:?}; check the network and firewalls, or raise \
         sasl.login.connect.timeout.ms"
    )
}

/// What keeps from connecting.
fn connecting(error: &NetError) -> String {
    match error {
        NetError::Resolve { source, .. } => format!("cannot be resolved: {source}"),
        NetError::NoAddress { .. } => "has no address; check its entries in DNS".to_owned(),
        NetError::Connect { attempts, .. } => {
            let tried = Attempts(attempts);
            format!("cannot be connected to{tried}; is it running?")
        }
        other => format!("cannot be connected to: {other}"),
    }
}

#[cfg(feature = "tls")]
fn in_tls(error: &NetError, name: &Arc<str>) -> TokenError {
    let untrusted = |why: String| TokenError::Untrusted {
        endpoint: Arc::clone(name),
        why: why.into(),
    };
    match error {
        NetError::Security(error) => match &**error {
            SecurityError::BrokerCertificate { why, .. } => untrusted(format!(
                "{why} (for a token endpoint, ssl. keys are options in sasl.jaas.config)"
            )),
            SecurityError::RefusedByBroker { why, .. } | SecurityError::Tls { why, .. } => {
                untrusted(why.to_string())
            }
            other => untrusted(other.to_string()),
        },
        NetError::SpeaksNoTls { .. } => untrusted("it does not answer in TLS; is it http?".into()),
        NetError::ClosedInTlsHandshake { .. } => {
            let why = "closes the connection in the TLS handshake; is it http?";
            unreachable(name, why.to_owned())
        }
        other => unreachable(name, format!("fails in the TLS handshake: {other}")),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::core::security::bearer::Grant;

    fn endpoint(url: &str) -> TokenEndpoint {
        TokenEndpoint {
            url: url.parse().expect("a URL"),
            grant: Grant::ClientSecret {
                id: "app".to_owned(),
                secret: "s3cret".into(),
                is_url_encoded: false,
            },
            scope: None,
            connect_timeout: Duration::from_secs(20),
            read_timeout: Duration::from_secs(20),
        }
    }

    async fn fetched(endpoint: &TokenEndpoint) -> Result<Token, TokenError> {
        #[cfg(feature = "tls")]
        return fetch(endpoint, None).await;
        #[cfg(not(feature = "tls"))]
        return fetch(endpoint).await;
    }

    async fn read_request(stream: &mut TcpStream) -> String {
        let mut request = Vec::new();
        let mut byte = [0; 512];
        while !request.ends_with(b"client_credentials") {
            let count = stream.read(&mut byte).await.expect("a request");
            assert!(count > 0, "{request:?}");
            request.extend_from_slice(&byte[..count]);
        }
        String::from_utf8(request).expect("text")
    }

    /// A server that answers so, and then holds the connection.
    async fn saying(pieces: &'static [&'static str]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let request = read_request(&mut stream).await;
                assert!(
                    request.starts_with("POST /token?a=b HTTP/1.1\r\n"),
                    "{request}"
                );
                assert!(
                    request.contains(&format!("\r\nhost: 127.0.0.1:{port}\r\n")),
                    "{request}"
                );
                assert!(request.contains("\r\nauthorization: Basic YXBwOnMzY3JldA==\r\n"));
                for piece in pieces {
                    // The client may have heard enough.
                    if stream.write_all(piece.as_bytes()).await.is_err() {
                        break;
                    }
                    tokio::task::yield_now().await;
                }
                if pieces.last() != Some(&"") {
                    held.push(stream);
                }
            }
        });
        format!("http://127.0.0.1:{port}/token?a=b")
    }

    #[tokio::test]
    async fn an_answer_is_read_in_whatever_way_it_comes() {
        for pieces in [
            &["HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n{\"access_token\":\"t\"}"][..],
            &[
                "HTTP/1.1 200 ",
                "OK\r\n\r\n{\"access_",
                "token\":\"t\"}",
                "",
            ],
            &[
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
                "a\r\n{\"access_t\r\n",
                "a\r\noken\":\"t\"}\r\n0\r\n\r\n",
            ],
            &["HTTP/1.0 201 Created\r\n\r\n{\"access_token\":\"t\"}", ""],
        ] {
            let token = fetched(&endpoint(&saying(pieces).await))
                .await
                .expect("a token");
            assert_eq!(token.value().reveal(), "t");
            assert_eq!(&*token.user(), "app");
        }
    }

    #[tokio::test]
    async fn what_is_wrong_with_an_endpoint_is_told() {
        const LONG: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2000000\r\n\r\n";
        for (pieces, expected) in [
            (&[""][..], "closes the connection instead of answering"),
            (
                &["HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{", ""],
                "does not answer",
            ),
            (&["\x15\x03\x03\0\x02\x02\x46", ""], "is it https?"),
            (&["HTTP/1.1 200 OK\r\nx: "], "within 500ms"),
            (
                &["HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n"],
                "within 500ms",
            ),
            (&[LONG, "x"], "more than 1048576 bytes"),
            (
                &["HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nnull"],
                "is no JSON",
            ),
            (
                &["HTTP/1.1 401 No\r\ncontent-length: 0\r\n\r\n"],
                "answers 401",
            ),
            (
                &["HTTP/1.1 302 Found\r\nlocation: /x\r\ncontent-length: 0\r\n\r\n"],
                "redirects to /x",
            ),
        ] {
            let mut endpoint = endpoint(&saying(pieces).await);
            if expected.contains("within") {
                endpoint.read_timeout = Duration::from_millis(500);
            }
            let error = fetched(&endpoint).await;
            let error = error.expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}");
            assert!(error.contains("http://127.0.0.1:"), "{error}");
            assert!(
                !error.contains("s3cret") && !error.contains("a=b"),
                "{error}"
            );
        }
    }

    #[tokio::test]
    async fn an_endpoint_that_is_not_there_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let closed = listener.local_addr().expect("bound");
        drop(listener);
        for (url, expected) in [
            (format!("http://{closed}/"), "refused"),
            (
                "http://no-such-host.invalid/".to_owned(),
                "cannot be resolved",
            ),
        ] {
            let error = fetched(&endpoint(&url)).await.expect_err(&url);
            assert!(error.is_transient(), "{error}");
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
