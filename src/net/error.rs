//! What can go wrong between the producer and a broker. Each message says what the user can do.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::Endpoint;
use crate::core::wire::{Api, WireError};

#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum NetError {
    #[error(
        "{endpoint} cannot be resolved: {source}; \
         check bootstrap.servers, or the broker's advertised.listeners"
    )]
    Resolve {
        endpoint: Endpoint,
        source: Arc<io::Error>,
    },

    #[error(
        "no connection to {endpoint}{}; is a broker listening there?",
        Attempts(attempts)
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
         security.protocol is PLAINTEXT"
    )]
    ClosedBeforeFirstResponse { endpoint: Endpoint },

    #[error(
        "{endpoint} closed the connection after the handshake instead of answering; \
         does the listener ask for SASL? security.protocol is PLAINTEXT"
    )]
    ClosedAfterHandshake { endpoint: Endpoint },

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

    #[error("{endpoint} expects TLS, but security.protocol is PLAINTEXT")]
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

    #[error("{endpoint} did not answer the {api} request within {after:?}")]
    RequestTimeout {
        endpoint: Endpoint,
        api: Api,
        after: Duration,
    },

    #[error("{endpoint} cannot be used: {source}")]
    Unsupported {
        endpoint: Endpoint,
        source: WireError,
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

    pub(super) fn io(endpoint: &Endpoint, doing: &'static str, source: io::Error) -> Self {
        NetError::Io {
            endpoint: endpoint.clone(),
            doing,
            source: Arc::new(source),
        }
    }

    /// Whether the broker closed the connection, and nothing else was wrong.
    pub fn is_closed(&self) -> bool {
        match self {
            NetError::Closed { .. }
            | NetError::ClosedBeforeFirstResponse { .. }
            | NetError::ClosedAfterHandshake { .. } => true,
            NetError::Io { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::ConnectionReset
                    | io::ErrorKind::ConnectionAborted
                    | io::ErrorKind::BrokenPipe
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

struct Attempts<'a>(&'a [(SocketAddr, Arc<io::Error>)]);

impl std::fmt::Display for Attempts<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, (address, error)) in self.0.iter().enumerate() {
            let lead = if index == 0 { ": " } else { ", " };
            write!(f, "{lead}{address}: {error}")?;
        }
        Ok(())
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
