//! Who is told what is seen while a connection is made.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::Endpoint;
use crate::core::security::Certificate;
use crate::core::wire::Versions;

/// What is seen while a connection is made, in this order.
#[derive(Debug, Clone)]
#[cfg_attr(
    not(any(feature = "cli", feature = "internals")),
    expect(dead_code, reason = "producers only want to know of certificates")
)]
pub enum Seen {
    /// The addresses of the broker's name.
    Addresses(Vec<SocketAddr>),
    /// The address that accepted.
    Connected(SocketAddr),
    Certificates(Certificates),
    /// The TLS handshake is over.
    Encrypted {
        version: String,
        /// IANA's name.
        cipher_suite: String,
    },
    Versions(Versions),
    LoggedIn {
        mechanism: String,
        user: Arc<str>,
        /// How long the login is good for, if not for ever.
        lifetime: Option<Duration>,
    },
}

/// The certificates of a connection.
#[derive(Debug, Clone)]
pub struct Certificates {
    /// What the broker showed, its own first.
    pub broker: Vec<Certificate>,
    /// Whether the broker's own is for the host that was connected to.
    #[cfg_attr(
        not(any(feature = "cli", feature = "internals")),
        expect(dead_code, reason = "a producer's handshake fails if it is not")
    )]
    pub fits: bool,
    /// What this client shows if it is asked, its own first.
    pub own: Arc<[Certificate]>,
}

type Tell = dyn Fn(&Endpoint, Seen) + Send + Sync;

/// Is told, on whatever thread connects. By default nobody is.
#[derive(Clone, Default)]
pub struct Observer {
    tell: Option<Arc<Tell>>,
    /// Whether certificates that are not accepted are wanted, too. TLS sessions are not resumed then.
    #[cfg(feature = "tls")]
    pub(super) sees_refused: bool,
}

impl Observer {
    pub fn new(tell: impl Fn(&Endpoint, Seen) + Send + Sync + 'static) -> Self {
        Self {
            tell: Some(Arc::new(tell)),
            #[cfg(feature = "tls")]
            sees_refused: false,
        }
    }

    /// Also wants the certificates that are not accepted.
    #[cfg(feature = "cli")]
    pub fn of_refused(mut self) -> Self {
        self.sees_refused = true;
        self
    }

    pub(super) fn tell(&self, endpoint: &Endpoint, seen: impl FnOnce() -> Seen) {
        if let Some(tell) = &self.tell {
            tell(endpoint, seen());
        }
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer")
    }
}
