//! What a configuration says of TLS and SASL, without a file being read or a broker being asked.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use super::Secret;
use super::aws::AwsSettings;
use super::bearer::BearerSettings;

/// The form of a file with certificates and keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoreFormat {
    Pem,
    /// JKS or PKCS12. Java reads either under both names.
    Java,
}

/// A file with certificates or keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Store {
    pub path: PathBuf,
    pub format: StoreFormat,
    pub password: Option<Secret>,
}

/// Which certificates of brokers are trusted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Trust {
    /// Those that the system trusts; where it has none, the built-in list of the feature `webpki-roots`.
    #[default]
    System,
    /// `ssl.truststore.location`.
    Store(Store),
    /// `ssl.truststore.certificates`, in PEM.
    Pem(Secret),
}

/// Who this client is to brokers that ask for a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Identity {
    /// `ssl.keystore.location`, `ssl.key.password`.
    Store(Store, Option<Secret>),
    /// `ssl.keystore.key`, `ssl.keystore.certificate.chain`, `ssl.key.password`.
    Pem {
        key: Secret,
        chain: Secret,
        key_password: Option<Secret>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TlsVersion {
    V1_2,
    V1_3,
}

/// What is configured under `ssl.`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TlsSettings {
    pub trust: Trust,
    pub identity: Option<Identity>,
    /// Never empty.
    pub versions: Vec<TlsVersion>,
    /// IANA's names; empty means all.
    pub cipher_suites: Vec<String>,
    /// Whether a certificate must be for the host that was connected to
    /// (`ssl.endpoint.identification.algorithm`).
    pub checks_host: bool,
}

/// How a client says who it is (`sasl.mechanism`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mechanism {
    Plain,
    ScramSha256,
    ScramSha512,
    OauthBearer,
    AwsMskIam,
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
            Self::OauthBearer => "OAUTHBEARER",
            Self::AwsMskIam => "AWS_MSK_IAM",
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub user: Arc<str>,
    pub password: Secret,
}

/// Who logs in, as far as the configuration says it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum LoginSettings {
    Password(Credentials),
    Bearer(BearerSettings),
    Aws(AwsSettings),
}

/// Where a configuration says who logs in. It is asked for each login, so that a changed password serves
/// the next one. It may read files.
pub(crate) trait LoginSource: fmt::Debug + Send + Sync {
    /// The error says in words what is wrong.
    fn read(&self) -> Result<LoginSettings, String>;
}
