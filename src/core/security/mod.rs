//! How connections are secured: what was configured for TLS and SASL, what a login says to a broker,
//! and why one fails.

#[cfg_attr(
    not(all(feature = "http", feature = "tls")),
    allow(dead_code, reason = "it is signed for a token's server")
)]
pub(crate) mod assertion;
mod aws;
pub(crate) mod aws_profile;
pub(crate) mod bearer;
mod certificate;
mod error;
mod expiry;
#[cfg(feature = "http")]
pub(crate) mod grant;
pub(crate) mod jwt;
pub(crate) mod msk;
pub(crate) mod oauthbearer;
pub(crate) mod plain;
mod protocol;
pub(crate) mod refresh;
pub(crate) mod scram;
mod secret;
mod settings;
mod sigv4;
mod token;
pub(crate) mod url;

pub(crate) use aws::AwsSettings;
pub use aws::{AwsCredentialSource, AwsCredentials};
pub use certificate::Certificate;
pub use error::{KeyMaterialError, LoginRefusal, SecurityError};
pub(crate) use expiry::{Expiries, Expiring, Whose};
pub use protocol::SecurityProtocol;
#[cfg(feature = "internals")]
pub use scram::exchange;
pub use secret::Secret;
pub(crate) use settings::{
    Credentials, Identity, LoginSettings, LoginSource, Mechanism, Store, StoreFormat, TlsSettings,
    TlsVersion, Trust,
};
pub use token::{Token, TokenError, TokenSource};
pub(crate) use url::Url;
