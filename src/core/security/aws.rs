//! Credentials of AWS, and where an application's own come from.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use super::Secret;

/// Credentials of AWS, for logins at Amazon MSK; made by an [`AwsCredentialSource`].
///
/// ```
/// use forebay::AwsCredentials;
///
/// let credentials = AwsCredentials::new("AKIDEXAMPLE", "the secret key").with_session_token("a token");
/// assert_eq!(format!("{credentials:?}"), "AwsCredentials { access_key_id: \"AKIDEXAMPLE\", .. }");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct AwsCredentials {
    access_key_id: Arc<str>,
    secret_access_key: Secret,
    session_token: Option<Secret>,
}

/// Where credentials of AWS come from, if the application has its own way to get them: a role to be
/// assumed, or a whole chain of AWS's SDK. It is given to [`ProducerBuilder::aws_credentials`].
///
/// It is asked for each login, so that what expires should be kept by the source itself. SDKs do so.
///
/// ```
/// use std::error::Error;
/// use forebay::{AwsCredentialSource, AwsCredentials, Producer};
///
/// struct FromVault;
///
/// impl AwsCredentialSource for FromVault {
///     fn credentials(&self) -> Result<AwsCredentials, Box<dyn Error + Send + Sync>> {
///         let text = std::fs::read_to_string("/run/aws")?;
///         let (id, secret) = text.trim().split_once(':').ok_or("no colon in /run/aws")?;
///         Ok(AwsCredentials::new(id, secret))
///     }
/// }
///
/// let builder = Producer::builder().aws_credentials(FromVault);
/// # let _ = builder;
/// ```
///
/// [`ProducerBuilder::aws_credentials`]: crate::ProducerBuilder::aws_credentials
pub trait AwsCredentialSource: Send + Sync + 'static {
    /// The credentials for the next login. It is called on a thread that may wait. On that thread
    /// `tokio::runtime::Handle::current().block_on` runs what is asynchronous.
    ///
    /// # Errors
    ///
    /// Why there are none. It is told to whoever waits for the login, and this is called again for the
    /// next one.
    fn credentials(&self) -> Result<AwsCredentials, Box<dyn Error + Send + Sync>>;
}

/// How credentials of AWS are found, where the application gives none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct AwsSettings {
    /// A profile in AWS's files, which is asked before the environment.
    pub profile: Option<String>,
}

impl AwsCredentials {
    /// Credentials that are good for long. Temporary ones have a session token, too.
    pub fn new(access_key_id: impl Into<Arc<str>>, secret_access_key: impl Into<String>) -> Self {
        Self {
            access_key_id: access_key_id.into(),
            secret_access_key: secret_access_key.into().into(),
            session_token: None,
        }
    }

    /// Makes them temporary ones.
    pub fn with_session_token(mut self, token: impl Into<String>) -> Self {
        self.session_token = Some(token.into().into());
        self
    }

    pub(crate) fn access_key_id(&self) -> &Arc<str> {
        &self.access_key_id
    }

    pub(crate) fn secret_access_key(&self) -> &Secret {
        &self.secret_access_key
    }

    pub(crate) fn session_token(&self) -> Option<&Secret> {
        self.session_token.as_ref()
    }
}

impl fmt::Debug for AwsCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AwsCredentials")
            .field("access_key_id", &self.access_key_id)
            .finish_non_exhaustive()
    }
}
