//! What can go wrong between the producer and a broker. Each message says what the user can do.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{Endpoint, advice};
use crate::core::security::{SecurityError, SecurityProtocol, TokenError};
use crate::core::shown::Shown;
use crate::core::wire::{Addressee, Api, WireError};

#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum NetError {
    #[error(
        "{endpoint} cannot be resolved: {source}; {}",
        advice::resolving(source)
    )]
    Resolve {
        endpoint: Endpoint,
        source: Arc<io::Error>,
    },

    #[error("{endpoint} has no address; check the name's entries in DNS")]
    NoAddress { endpoint: Endpoint },

    #[error(
        "no connection to {endpoint}{}; {}",
        Attempts(attempts),
        advice::connecting(attempts)
    )]
    Connect {
        endpoint: Endpoint,
        /// Each address that was tried, and its error.
        attempts: Vec<(SocketAddr, Arc<io::Error>)>,
    },

    #[error(
        "no connection to {endpoint} within {after:?}{}; check the network and firewalls, \
         or raise socket.connection.setup.timeout.ms",
        Attempts(attempts)
    )]
    ConnectTimeout {
        endpoint: Endpoint,
        after: Duration,
        attempts: Vec<(SocketAddr, Arc<io::Error>)>,
    },

    #[error(
        "{endpoint} closed the connection before its first answer; is the listener TLS or SASL? \
         security.protocol is {protocol} (the newest and the oldest ApiVersions are tried by turns)"
    )]
    ClosedBeforeFirstResponse {
        endpoint: Endpoint,
        protocol: SecurityProtocol,
    },

    #[error(
        "{endpoint} closed the connection after the handshake instead of answering; \
         does the listener ask for SASL? security.protocol is {protocol}"
    )]
    ClosedAfterHandshake {
        endpoint: Endpoint,
        protocol: SecurityProtocol,
    },

    #[cfg(feature = "tls")]
    #[error(
        "{endpoint} closed the connection in the TLS handshake; is the listener PLAINTEXT or \
         SASL_PLAINTEXT? security.protocol asks for TLS"
    )]
    ClosedInTlsHandshake { endpoint: Endpoint },

    #[cfg(feature = "tls")]
    #[error(
        "{endpoint} does not answer in TLS; is the listener PLAINTEXT or SASL_PLAINTEXT? \
         security.protocol asks for TLS"
    )]
    SpeaksNoTls { endpoint: Endpoint },

    #[cfg(feature = "tls")]
    #[error("{endpoint} did not finish the TLS handshake within {after:?}; is the listener TLS?")]
    TlsTimeout { endpoint: Endpoint, after: Duration },

    #[error("{0}")]
    Security(Box<SecurityError>),

    /// That is all that some brokers say of a refusal. One that is being stopped does so, too.
    #[error("{0}")]
    ClosedInLogin(Box<SecurityError>),

    #[error("{endpoint} puts the login off: {words}")]
    LoginPutOff { endpoint: Endpoint, words: Arc<str> },

    #[error("{endpoint} does not accept the login (error code {code}): {words}")]
    LoginFailed {
        endpoint: Endpoint,
        code: i16,
        words: Arc<str>,
    },

    #[error(
        "the login at {endpoint} changes from {from:?} to {to:?}, which takes a new connection"
    )]
    UserChanged {
        endpoint: Endpoint,
        from: Arc<str>,
        to: Arc<str>,
    },

    #[error("{endpoint} closed the connection{}", Unfinished(*partial))]
    Closed {
        endpoint: Endpoint,
        /// Bytes that had arrived of an unfinished response.
        partial: usize,
    },

    #[error("{doing} {endpoint} failed: {source}")]
    Io {
        endpoint: Endpoint,
        doing: &'static str,
        source: Arc<io::Error>,
    },

    #[error(
        "{endpoint} announces an answer of {size} bytes, the most taken is {cap}; \
         is this a Kafka broker?"
    )]
    FrameTooLarge {
        endpoint: Endpoint,
        size: usize,
        cap: usize,
    },

    #[error("{endpoint} announces an answer of {size} bytes; is this a Kafka broker?")]
    NegativeFrame { endpoint: Endpoint, size: i32 },

    #[error("{endpoint} answers HTTP; give the port of a Kafka listener")]
    SpeaksHttp { endpoint: Endpoint },

    #[error("{endpoint} expects TLS; set security.protocol to SSL or SASL_SSL")]
    SpeaksTls { endpoint: Endpoint },

    #[error("{endpoint} sent something unreadable: {source}")]
    Wire {
        endpoint: Endpoint,
        source: WireError,
    },

    #[error("{endpoint} answered request {got} when {expected} was due")]
    Correlation {
        endpoint: Endpoint,
        expected: i32,
        got: i32,
    },

    #[error("the connection to {endpoint} was given up because its sender restarted")]
    Restarted { endpoint: Endpoint },

    #[error("the connection to {endpoint} panicked: {why}; please report this")]
    Panicked { endpoint: Endpoint, why: Arc<str> },

    #[error("the broker at {from} has moved to {to}")]
    Moved { from: Endpoint, to: Endpoint },

    #[error(
        "the cluster at {endpoint} is {} now, and was {}",
        cluster(to),
        cluster(from)
    )]
    ClusterChanged {
        endpoint: Endpoint,
        from: Arc<str>,
        to: Arc<str>,
    },

    #[error("{endpoint} did not answer the {api} request within {after:?}")]
    RequestTimeout {
        endpoint: Endpoint,
        api: Api,
        after: Duration,
    },

    #[error("{endpoint} cannot be used: {source}{}", advice::versions(source))]
    Unsupported {
        endpoint: Endpoint,
        source: WireError,
    },

    #[error(
        "{endpoint} is not {} any more; the brokers are looked up again by bootstrap.servers (if a \
         proxy there leads to different brokers by turns, set metadata.cluster.check.enable=false)",
        Meant(addressee.as_ref())
    )]
    NotAddressed {
        endpoint: Endpoint,
        addressee: Option<Addressee>,
    },

    #[error("{endpoint} asks to start again from bootstrap.servers")]
    RebootstrapRequired { endpoint: Endpoint },

    #[error("there is no broker to connect to; bootstrap.servers is empty")]
    NoBrokers,
}

impl NetError {
    pub(crate) fn wire(endpoint: &Endpoint, source: WireError) -> Self {
        let endpoint = endpoint.clone();
        match source {
            WireError::NoCommonVersion { .. } => NetError::Unsupported { endpoint, source },
            _ => NetError::Wire { endpoint, source },
        }
    }

    /// Whether the broker cannot be asked this at all: it has no version of the request that can say it.
    pub(super) fn is_unsupported(&self) -> bool {
        match self {
            Self::Unsupported { .. } => true,
            Self::Wire { source, .. } => {
                matches!(source, WireError::Encode { .. } | WireError::TooLong { .. })
            }
            _ => false,
        }
    }

    /// The broker, if it does not serve this API in a version that is known here.
    pub(crate) fn not_served(&self, wanted: Api) -> Option<&Endpoint> {
        let Self::Unsupported { endpoint, source } = self else {
            return None;
        };
        let api = matches!(source, WireError::NoCommonVersion { api, .. } if *api == wanted);
        api.then_some(endpoint)
    }

    pub(super) fn io(endpoint: &Endpoint, doing: &'static str, source: io::Error) -> Self {
        NetError::Io {
            endpoint: endpoint.clone(),
            doing,
            source: Arc::new(source),
        }
    }

    /// What is wrong with the security of connections, if it is that; and whether that is certain, so
    /// that trying again would lead to the same. A broker that is starting may close connections, too,
    /// and bytes that look like another protocol may be nonsense.
    ///
    /// A close before the first response says nothing without TLS. Listeners with a login answer that
    /// request, and those with TLS answer in TLS; but a proxy closes so whose broker is away.
    pub fn security(&self) -> Option<(SecurityError, bool)> {
        let endpoint = match self {
            NetError::Security(error) => {
                let may_pass = match &**error {
                    // Who waits has waited long where the endpoint was silent.
                    SecurityError::NoToken { error, .. } => {
                        error.is_transient() && !matches!(error, TokenError::Silent { .. })
                    }
                    _ => false,
                };
                return Some(((**error).clone(), !may_pass));
            }
            NetError::ClosedInLogin(error) => return Some(((**error).clone(), false)),
            NetError::SpeaksTls { endpoint }
            | NetError::SpeaksHttp { endpoint }
            | NetError::ClosedAfterHandshake { endpoint, .. } => endpoint,
            NetError::ClosedBeforeFirstResponse { endpoint, protocol } if protocol.has_tls() => {
                endpoint
            }
            #[cfg(feature = "tls")]
            NetError::ClosedInTlsHandshake { endpoint } | NetError::SpeaksNoTls { endpoint } => {
                endpoint
            }
            _ => return None,
        };
        let text = self.to_string();
        let why = text.strip_prefix(&endpoint.to_string()).unwrap_or(&text);
        let error = SecurityError::Protocol {
            broker: endpoint.clone(),
            why: why.trim_start().into(),
        };
        Some((error, false))
    }

    /// Whether the connection was closed, by the broker or for another user, and nothing else was wrong.
    pub fn is_closed(&self) -> bool {
        match self {
            NetError::Closed { .. }
            | NetError::UserChanged { .. }
            | NetError::ClosedBeforeFirstResponse { .. }
            | NetError::ClosedAfterHandshake { .. } => true,
            #[cfg(feature = "tls")]
            NetError::ClosedInTlsHandshake { .. } => true,
            NetError::Io { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::ConnectionReset
                    | io::ErrorKind::ConnectionAborted
                    | io::ErrorKind::BrokenPipe
                    | io::ErrorKind::UnexpectedEof
                    | io::ErrorKind::WriteZero
            ),
            _ => false,
        }
    }

    /// Whether the broker closed the connection before the first byte of a response.
    pub(super) fn is_closed_unsaid(&self) -> bool {
        self.is_closed() && !matches!(self, NetError::Closed { partial: 1.., .. })
    }
}

impl From<SecurityError> for NetError {
    fn from(error: SecurityError) -> Self {
        NetError::Security(Box::new(error))
    }
}

/// The addresses that were tried, each with its error, behind a colon.
pub(super) struct Attempts<'a>(pub &'a [(SocketAddr, Arc<io::Error>)]);

impl std::fmt::Display for Attempts<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, (address, error)) in self.0.iter().enumerate() {
            let lead = if index == 0 { ": " } else { ", " };
            write!(f, "{lead}{address}: {error}")?;
        }
        Ok(())
    }
}

/// A cluster's id, which may be any text.
fn cluster(id: &str) -> Shown<'_> {
    Shown {
        text: id,
        most: 100,
    }
}

struct Meant<'a>(Option<&'a Addressee>);

impl std::fmt::Display for Meant<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(Addressee { cluster_id, node }) => {
                write!(f, "broker {node} of cluster {}", cluster(cluster_id))
            }
            None => f.write_str("of the cluster that was asked for"),
        }
    }
}

struct Unfinished(usize);

impl std::fmt::Display for Unfinished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            0 => Ok(()),
            partial => write!(f, " in an answer, of which {partial} bytes had arrived"),
        }
    }
}
