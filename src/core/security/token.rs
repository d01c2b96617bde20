//! Bearer tokens, and where an application's own come from.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::Secret;

/// A token that says who this client is, for `sasl.mechanism=OAUTHBEARER`; made by a [`TokenSource`].
///
/// ```
/// use std::time::Duration;
/// use forebay::Token;
///
/// let token = Token::new("eyJhbGciOi…").expires_in(Duration::from_secs(3600));
/// assert_eq!(format!("{token:?}"), "Token { .. }", "it is a secret");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    value: Secret,
    lifetime: Option<Duration>,
    principal: Option<Arc<str>>,
    /// Whose it is, if neither the application nor the token says so.
    fallback: Option<Arc<str>>,
    extensions: Vec<(String, String)>,
}

/// Where tokens come from, if the application has its own way to get them; given to
/// [`ProducerBuilder::token_source`]. [`Token`] is what it returns.
///
/// A token is asked for when the first connection is made, then ahead of its expiry, as
/// `sasl.login.refresh.*` say, and when a broker has refused the last one. All connections share it. A
/// token without a known expiry is asked for anew for each login.
///
/// ```
/// use std::error::Error;
/// use forebay::{Producer, Token, TokenSource};
///
/// struct Sidecar;
///
/// impl TokenSource for Sidecar {
///     fn token(&self) -> Result<Token, Box<dyn Error + Send + Sync>> {
///         Ok(Token::new(std::fs::read_to_string("/run/token")?.trim()))
///     }
/// }
///
/// let builder = Producer::builder().token_source(Sidecar);
/// # let _ = builder;
/// ```
///
/// [`ProducerBuilder::token_source`]: crate::ProducerBuilder::token_source
pub trait TokenSource: Send + Sync + 'static {
    /// The next token. It is called on a thread that may wait, one call at a time. On that thread
    /// `tokio::runtime::Handle::current().block_on` runs what is asynchronous.
    ///
    /// # Errors
    ///
    /// Why there is none. It is told to whoever waits for the login, and this is called again after
    /// `sasl.login.retry.backoff.ms`. Until the last token expires that one goes on being used.
    fn token(&self) -> Result<Token, Box<dyn Error + Send + Sync>>;
}

impl Token {
    /// A token, without the word `Bearer`. If it is a JWT, its claims say when it expires and whose it is.
    pub fn new(value: impl Into<String>) -> Self {
        Self {
            value: value.into().into(),
            lifetime: None,
            principal: None,
            fallback: None,
            extensions: Vec::new(),
        }
    }

    /// How long it is good for, from now on. Default: until the claim `exp`, if the token is a JWT.
    pub fn expires_in(mut self, lifetime: Duration) -> Self {
        self.lifetime = Some(lifetime);
        self
    }

    /// Whose token it is, for errors and logs. Default: the claim `sub`, if the token is a JWT.
    pub fn principal(mut self, principal: impl Into<Arc<str>>) -> Self {
        self.principal = Some(principal.into());
        self
    }

    /// Something else to tell the broker with the token (KIP-342): a name of letters alone, and a value
    /// of printable ASCII.
    pub fn extension(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.extensions.push((name.into(), value.into()));
        self
    }

    pub(crate) fn value(&self) -> &Secret {
        &self.value
    }

    pub(crate) fn lifetime(&self) -> Option<Duration> {
        self.lifetime
    }

    /// Whose it is, if the token itself does not say it.
    #[cfg(feature = "http")]
    pub(crate) fn or_principal(mut self, principal: &Arc<str>) -> Self {
        self.fallback = Some(Arc::clone(principal));
        self
    }

    /// Whose it is, as errors say it.
    pub(crate) fn user(&self) -> Arc<str> {
        let unknown = || "the bearer of a token".into();
        let principal = self.principal.clone().or_else(|| self.fallback.clone());
        principal.unwrap_or_else(unknown)
    }

    pub(crate) fn extensions(&self) -> &[(String, String)] {
        &self.extensions
    }

    /// Fills in what the application has not said: from the token itself, if it is a JWT.
    /// `since_epoch` is the time by the clock on the wall.
    pub(crate) fn completed(mut self, subject_claim: &str, since_epoch: Duration) -> Self {
        let Some(claims) = super::jwt::Claims::of(self.value.reveal(), subject_claim) else {
            return self;
        };
        let left = |expires: Duration| expires.saturating_sub(since_epoch);
        self.lifetime = self.lifetime.or(claims.expires.map(left));
        self.principal = self.principal.or(claims.subject);
        self
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").finish_non_exhaustive()
    }
}

/// Why there is no token to log in with; see [`SecurityError::NoToken`].
///
/// [`SecurityError::NoToken`]: crate::SecurityError::NoToken
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The token endpoint cannot be reached. It may pass.
    #[error("the token endpoint {endpoint} {why}")]
    #[non_exhaustive]
    Unreachable {
        /// `sasl.oauthbearer.token.endpoint.url`.
        endpoint: Arc<str>,
        /// What was seen, and what to change.
        why: Arc<str>,
    },
    /// The token endpoint has let the time pass in which it had to answer.
    #[error("the token endpoint {endpoint} {why}")]
    #[non_exhaustive]
    Silent {
        /// `sasl.oauthbearer.token.endpoint.url`.
        endpoint: Arc<str>,
        /// What was waited for, and what to change.
        why: Arc<str>,
    },
    /// TLS to the token endpoint cannot be.
    #[error("the token endpoint {endpoint} is not trusted: {why}")]
    #[non_exhaustive]
    Untrusted {
        /// `sasl.oauthbearer.token.endpoint.url`.
        endpoint: Arc<str>,
        /// What is wrong, and what to change.
        why: Arc<str>,
    },
    /// The token endpoint answers with an error.
    #[error("the token endpoint {endpoint} answers {status}: {words}{}", advice(*status, words))]
    #[non_exhaustive]
    Refused {
        /// `sasl.oauthbearer.token.endpoint.url`.
        endpoint: Arc<str>,
        /// The status of HTTP.
        status: u16,
        /// The server's words.
        words: Arc<str>,
    },
    /// The token endpoint answers something else than a token.
    #[error("the token endpoint {endpoint} answers without a token: {why}")]
    #[non_exhaustive]
    Unusable {
        /// `sasl.oauthbearer.token.endpoint.url`.
        endpoint: Arc<str>,
        /// What is wrong, and what to change.
        why: Arc<str>,
    },
    /// Settings, or files that they name, make no token.
    #[error("{0}")]
    Settings(Arc<str>),
    /// The application's [`TokenSource`] has failed.
    #[error("the application's token source has failed: {0}")]
    Application(Arc<str>),
}

/// What to look at when a token endpoint answers so.
fn advice(status: u16, words: &str) -> &'static str {
    match status {
        401 => "; check client id and secret",
        400 if words.contains("invalid_client") => "; check client id and secret",
        400 if words.contains("invalid_grant") => "; check the assertion's key and claims",
        400 if words.contains("invalid_scope") => "; check sasl.oauthbearer.scope",
        404 | 405 => "; check sasl.oauthbearer.token.endpoint.url",
        300..400 => "; set sasl.oauthbearer.token.endpoint.url to where it leads",
        _ => "",
    }
}

impl TokenError {
    /// Whether trying again may help, without anything being changed.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Silent { .. } | Self::Application(_) => true,
            // Those that Java tries again, too.
            Self::Refused { status, .. } => matches!(status, 408 | 425 | 429 | 500 | 502..=504),
            Self::Untrusted { .. } | Self::Unusable { .. } | Self::Settings(_) => false,
        }
    }
}
