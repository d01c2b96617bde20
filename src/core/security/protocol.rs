//! `security.protocol`.

use std::fmt;

use serde::Deserialize;

/// `security.protocol`: how connections are secured. See
/// [`Config::security_protocol`](crate::Config::security_protocol).
///
/// ```
/// use forebay::Config;
/// use forebay::config::SecurityProtocol;
///
/// let config = Config::builder()
///     .bootstrap_servers("localhost:9092")
///     .set("security.protocol", "SASL_PLAINTEXT")
///     .set("sasl.mechanism", "SCRAM-SHA-512")
///     .set("sasl.username", "alice")
///     .set("sasl.password", "alice's secret")
///     .build()?;
/// assert_eq!(config.security_protocol(), SecurityProtocol::SaslPlaintext);
/// # Ok::<(), forebay::ConfigError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize)]
#[non_exhaustive]
pub enum SecurityProtocol {
    /// Neither encrypted nor with a login. The default.
    #[default]
    #[serde(rename = "PLAINTEXT")]
    Plaintext,
    /// Encrypted by TLS.
    #[serde(rename = "SSL")]
    Ssl,
    /// With a login, in the clear.
    #[serde(rename = "SASL_PLAINTEXT")]
    SaslPlaintext,
    /// Encrypted by TLS, with a login.
    #[serde(rename = "SASL_SSL")]
    SaslSsl,
}

impl SecurityProtocol {
    /// That of connections with TLS or not, and with a login or not.
    pub(crate) fn of(tls: bool, login: bool) -> Self {
        match (tls, login) {
            (false, false) => Self::Plaintext,
            (true, false) => Self::Ssl,
            (false, true) => Self::SaslPlaintext,
            (true, true) => Self::SaslSsl,
        }
    }

    /// Whether connections are encrypted.
    pub fn has_tls(self) -> bool {
        matches!(self, Self::Ssl | Self::SaslSsl)
    }

    /// Whether brokers ask who this client is.
    pub fn has_sasl(self) -> bool {
        matches!(self, Self::SaslPlaintext | Self::SaslSsl)
    }
}

impl fmt::Display for SecurityProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plaintext => "PLAINTEXT",
            Self::Ssl => "SSL",
            Self::SaslPlaintext => "SASL_PLAINTEXT",
            Self::SaslSsl => "SASL_SSL",
        })
    }
}
