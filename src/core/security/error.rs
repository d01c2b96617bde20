//! Why a connection cannot be secured, or a broker does not let this client in.

use std::sync::Arc;

use super::token::TokenError;
use crate::core::endpoint::Endpoint;

/// Why a broker cannot be talked to, whatever is tried again: certificates, credentials, protocols.
///
/// ```no_run
/// # async fn example(producer: forebay::Producer) -> Result<(), Box<dyn std::error::Error>> {
/// use forebay::{Record, SecurityError, SendError};
///
/// match producer.send(Record::to("orders").value("shoes")).await {
///     Err(SendError::Security(error)) => match &*error {
///         SecurityError::Login { user, why, .. } => println!("{user} may not log in: {why}"),
///         other => println!("{other}"),
///     },
///     sent => println!("{sent:?}"),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SecurityError {
    /// The login failed.
    #[error("{broker} does not let {user:?} log in by {mechanism}: {why}")]
    #[non_exhaustive]
    Login {
        /// The broker.
        broker: Endpoint,
        /// `sasl.mechanism`.
        mechanism: Arc<str>,
        /// Who was to be logged in.
        user: Arc<str>,
        /// Why it failed.
        why: LoginRefusal,
    },
    /// User and password cannot be had, so that no broker could be asked.
    #[error("there are no credentials for {broker}: {why}")]
    #[non_exhaustive]
    NoCredentials {
        /// The broker.
        broker: Endpoint,
        /// What is wrong, and what to change.
        why: Arc<str>,
    },
    /// There is no token to log in with, so that no broker could be asked.
    #[error("there is no token for {broker}: {error}")]
    #[non_exhaustive]
    NoToken {
        /// The broker.
        broker: Endpoint,
        /// Why there is none.
        error: TokenError,
    },
    /// The broker's certificate is not accepted.
    #[error("the certificate of {broker} is not accepted: {why}")]
    #[non_exhaustive]
    BrokerCertificate {
        /// The broker.
        broker: Endpoint,
        /// What is wrong, and what to change.
        why: Arc<str>,
    },
    /// The broker broke off the TLS handshake with an alert. Often it asks for a certificate of this
    /// client, or does not accept it.
    #[error("{broker} refuses the TLS connection: {why}")]
    #[non_exhaustive]
    RefusedByBroker {
        /// The broker.
        broker: Endpoint,
        /// What it said, and what to change.
        why: Arc<str>,
    },
    /// Something else is wrong with TLS: no common version or cipher suite, or a host that no
    /// certificate can be for.
    #[error("no TLS connection to {broker}: {why}")]
    #[non_exhaustive]
    Tls {
        /// The broker.
        broker: Endpoint,
        /// What is wrong, and what to change.
        why: Arc<str>,
    },
    /// The listener speaks another protocol than `security.protocol` says.
    #[error("{broker} {why}")]
    #[non_exhaustive]
    Protocol {
        /// The broker.
        broker: Endpoint,
        /// What was seen, and what to change.
        why: Arc<str>,
    },
}

impl SecurityError {
    /// Whether it is about who this client is, and so the same at every broker.
    pub(crate) fn is_of_credentials(&self) -> bool {
        matches!(
            self,
            Self::Login { .. } | Self::NoCredentials { .. } | Self::NoToken { .. }
        )
    }
}

/// Why a login failed; see [`SecurityError::Login`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LoginRefusal {
    /// The broker refuses user and password.
    #[error("{words}; check user and password")]
    #[non_exhaustive]
    Credentials {
        /// The broker's words.
        words: Arc<str>,
    },
    /// The broker refuses the token.
    #[error("{words}; check the token's issuer, audience and expiry, and the broker's log")]
    #[non_exhaustive]
    Token {
        /// The broker's words.
        words: Arc<str>,
    },
    /// Amazon MSK refuses what credentials of AWS have signed.
    #[error(
        "{words}; check what the policy of these credentials allows (kafka-cluster:Connect), their \
         expiry, and this machine's clock"
    )]
    #[non_exhaustive]
    Iam {
        /// The broker's words.
        words: Arc<str>,
    },
    /// The broker's listener does not have the mechanism.
    #[error(
        "the listener has only {}; set sasl.mechanism to one of them",
        list(enabled)
    )]
    #[non_exhaustive]
    Mechanism {
        /// The mechanisms that it has.
        enabled: Vec<String>,
    },
    /// The broker could not prove that it knows the password.
    #[error("the broker could not prove that it knows the password; it may be an impostor")]
    BrokerNotProven,
    /// The broker does not follow the mechanism's rules.
    #[error("{what}")]
    #[non_exhaustive]
    Exchange {
        /// What it did.
        what: Arc<str>,
    },
}

fn list(enabled: &[String]) -> String {
    match enabled {
        [] => "no mechanism at all".to_owned(),
        some => some.join(", "),
    }
}

/// Why nothing can be encrypted: what is wrong with a certificate, a key, a store, or with the settings
/// and the code that say how to use them; see [`StartError::KeyMaterial`].
///
/// [`StartError::KeyMaterial`]: crate::StartError::KeyMaterial
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyMaterialError {
    /// A file cannot be read.
    #[error("{from} cannot be read: {why}")]
    #[non_exhaustive]
    Unreadable {
        /// The key of the configuration, and the file.
        from: Arc<str>,
        /// What the system says.
        why: Arc<str>,
    },
    /// A file has another form than the configuration says.
    #[error("{from} is {found}; {advice}")]
    #[non_exhaustive]
    OtherForm {
        /// The key of the configuration, and the file.
        from: Arc<str>,
        /// What it is.
        found: Arc<str>,
        /// What to change.
        advice: Arc<str>,
    },
    /// A password is wrong, or there is none and one is needed.
    #[error("{from} does not open with {key}: {why}")]
    #[non_exhaustive]
    Password {
        /// The key of the configuration, and the file.
        from: Arc<str>,
        /// The key with the password.
        key: Arc<str>,
        /// What is wrong with it.
        why: Arc<str>,
    },
    /// The store opens, and what is needed is not in it.
    #[error("{from} has no {what}; {advice}")]
    #[non_exhaustive]
    Missing {
        /// The key of the configuration, and the file.
        from: Arc<str>,
        /// What is missing.
        what: Arc<str>,
        /// What to change.
        advice: Arc<str>,
    },
    /// A certificate or a key cannot be understood, or the two do not belong together.
    #[error("{from}: {why}")]
    #[non_exhaustive]
    Unusable {
        /// The key of the configuration, and the file.
        from: Arc<str>,
        /// What is wrong, and what to change.
        why: Arc<str>,
    },
    /// Nothing in this build can encrypt, or not here.
    #[error("{why}")]
    #[non_exhaustive]
    NoProvider {
        /// What is missing, and what to build or install.
        why: Arc<str>,
    },
}
