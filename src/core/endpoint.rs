//! A broker's address as it stands in a configuration.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use super::shown::Shown;

/// Characters of a host that are shown, more than any host name has.
const LONGEST_SHOWN: usize = 300;

/// A host and a port: `broker-1:9092`, `10.0.0.1:9092` or `[::1]:9092`.
///
/// The host is not resolved, and is kept in lower case so that two spellings of one name compare
/// equal.
///
/// ```
/// use forebay::config::Endpoint;
///
/// let endpoint: Endpoint = "Broker-1:9092".parse()?;
/// assert_eq!(endpoint, Endpoint::new("broker-1", 9092));
/// # Ok::<(), forebay::config::EndpointError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Endpoint {
    /// A name or an IP address; an IPv6 address stands here without its brackets.
    pub host: String,
    /// 1 to 65535.
    pub port: u16,
}

/// Why a text is no [`Endpoint`].
///
/// ```
/// use forebay::config::{Endpoint, EndpointError};
///
/// assert_eq!("broker-1".parse::<Endpoint>(), Err(EndpointError::PortMissing));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// `PLAINTEXT://broker:9092`
    #[error("a protocol stands before the host; write host:port and set security.protocol")]
    Protocol,
    /// `:9092`
    #[error("the host is missing; write host:port")]
    HostMissing,
    /// `bro ker:9092`
    #[error("the host has a character that no host name has; write host:port")]
    BadHost,
    /// `[::g]:9092`
    #[error("between the brackets stands no IPv6 address")]
    BadIpv6,
    /// `::1:9092`
    #[error("an IPv6 address needs brackets; write [address]:port")]
    BracketsMissing,
    /// `broker`
    #[error("the port is missing; write host:port, brokers usually listen on 9092")]
    PortMissing,
    /// `broker:kafka`
    #[error("the port is not a number from 1 to 65535, which is all that TCP has")]
    BadPort,
}

impl Endpoint {
    /// A host, taken as it stands, and a port. Nothing is checked; [`parse`](str::parse) does.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        let host = host.into();
        Self { host, port }
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if text.contains("://") {
            return Err(EndpointError::Protocol);
        }
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']').ok_or(EndpointError::BadIpv6)?;
                // What follows '%' names a network interface, which only the resolver can judge.
                let address = host.split('%').next().unwrap_or(host);
                if address.parse::<Ipv6Addr>().is_err() || !host.chars().all(is_host_char) {
                    return Err(EndpointError::BadIpv6);
                }
                let port = rest.strip_prefix(':').ok_or(EndpointError::PortMissing)?;
                (host, port)
            }
            None => {
                let (host, port) = text.rsplit_once(':').ok_or(EndpointError::PortMissing)?;
                if host.contains(':') {
                    return Err(EndpointError::BracketsMissing);
                }
                (host, port)
            }
        };
        if host.is_empty() {
            return Err(EndpointError::HostMissing);
        }
        if !host.chars().all(is_host_char) {
            return Err(EndpointError::BadHost);
        }
        let digits = port.bytes().all(|b| b.is_ascii_digit());
        match port.parse() {
            _ if port.is_empty() => Err(EndpointError::PortMissing),
            Ok(port) if digits && port != 0 => Ok(Self {
                host: host.to_ascii_lowercase(),
                port,
            }),
            _ => Err(EndpointError::BadPort),
        }
    }
}

/// Letters of other scripts are left to the resolver.
fn is_host_char(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%')
}

/// As in a configuration; but a host from elsewhere may be anything, so it is escaped and cut.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = Shown {
            text: &self.host,
            most: LONGEST_SHOWN,
        };
        if self.host.contains(':') {
            write!(f, "[{host}]:{}", self.port)
        } else {
            write!(f, "{host}:{}", self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<String, EndpointError> {
        text.parse::<Endpoint>().map(|it| it.to_string())
    }

    #[test]
    fn reads_names_and_addresses() {
        for (text, printed) in [
            ("localhost:9092", "localhost:9092"),
            (" Broker-1.Example.COM:1 ", "broker-1.example.com:1"),
            ("10.0.0.1:65535", "10.0.0.1:65535"),
            ("[::1]:9092", "[::1]:9092"),
            ("[FE80::1%eth0]:9092", "[fe80::1%eth0]:9092"),
        ] {
            assert_eq!(parse(text).as_deref(), Ok(printed));
        }
    }

    #[test]
    fn says_what_is_wrong() {
        for (text, error) in [
            ("", EndpointError::PortMissing),
            ("broker", EndpointError::PortMissing),
            ("broker:", EndpointError::PortMissing),
            ("[::1]", EndpointError::PortMissing),
            ("broker:0", EndpointError::BadPort),
            ("broker:65536", EndpointError::BadPort),
            ("broker:+1", EndpointError::BadPort),
            ("broker:kafka", EndpointError::BadPort),
            (":9092", EndpointError::HostMissing),
            ("bro ker:9092", EndpointError::BadHost),
            ("a/b:9092", EndpointError::BadHost),
            ("::1:9092", EndpointError::BracketsMissing),
            ("[::g]:9092", EndpointError::BadIpv6),
            ("[::1:9092", EndpointError::BadIpv6),
            ("[]:9092", EndpointError::BadIpv6),
            ("PLAINTEXT://broker:9092", EndpointError::Protocol),
        ] {
            assert_eq!(parse(text), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn printing_and_reading_is_identity(text in "\\PC{0,12}(:[0-9]{1,6})?") {
            if let Ok(read) = text.parse::<Endpoint>() {
                prop_assert_eq!(Ok(read.clone()), read.to_string().parse());
            }
        }
    }
}
