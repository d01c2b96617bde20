//! What a configuration says of logins by OAUTHBEARER, without a file being read or a server being
//! asked.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::assertion::Assertion;
use super::{AwsSettings, Secret, Url};

/// How to log in by OAUTHBEARER.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct BearerSettings {
    pub from: TokenFrom,
    /// What goes to brokers with the token, under names that it has not itself.
    pub extensions: Vec<(String, String)>,
    /// The name of the claim that says whose a token is (`sasl.oauthbearer.sub.claim.name`).
    pub subject_claim: Arc<str>,
}

/// Where tokens are from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum TokenFrom {
    /// They are made here, and nobody signs them.
    Unsecured(Unsecured),
    /// A file with a token, which is read for each login.
    File(PathBuf),
    /// A server that gives them.
    Endpoint(Box<TokenEndpoint>),
    /// They are made here, and signed with credentials of AWS, for Amazon MSK.
    Aws(AwsSettings),
    /// The application's own source.
    Application,
}

/// The claims of tokens that nobody signs.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Unsecured {
    /// All but `iat` and `exp`.
    pub claims: Map<String, Value>,
    pub lifetime: Duration,
}

/// A server that gives tokens.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TokenEndpoint {
    pub url: Url,
    pub grant: Grant,
    pub scope: Option<String>,
    /// The limit for connecting, TLS included.
    pub connect_timeout: Duration,
    /// The limit for the answer.
    pub read_timeout: Duration,
}

/// What a token is given for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Grant {
    /// Client credentials (RFC 6749, section 4.4).
    ClientSecret {
        id: String,
        secret: Secret,
        /// `sasl.oauthbearer.header.urlencode`
        is_url_encoded: bool,
    },
    /// Client credentials with an assertion in place of a secret (RFC 7523, section 2.2).
    ClientAssertion {
        id: Option<String>,
        assertion: Assertion,
    },
    /// An assertion as the grant itself (RFC 7523, section 2.1).
    JwtBearer(Assertion),
}

impl Grant {
    /// What has to be made before a token is asked for.
    #[cfg(feature = "http")]
    pub fn assertion(&self) -> Option<&Assertion> {
        match self {
            Self::ClientSecret { .. } => None,
            Self::ClientAssertion { assertion, .. } | Self::JwtBearer(assertion) => Some(assertion),
        }
    }
}

impl Unsecured {
    /// The claims of a token that is made now.
    pub fn claims_at(&self, since_epoch: Duration) -> Map<String, Value> {
        let mut claims = self.claims.clone();
        let expires = since_epoch.saturating_add(self.lifetime);
        claims.insert("iat".to_owned(), since_epoch.as_secs_f64().into());
        claims.insert("exp".to_owned(), expires.as_secs_f64().into());
        claims
    }
}
