//! What connections are secured with.

use std::sync::Arc;

use super::Login;
#[cfg(feature = "tls")]
use super::tls::Tls;
use crate::core::security::SecurityProtocol;

/// How connections are secured. By default they are not.
#[derive(Debug, Clone, Default)]
pub struct Security {
    #[cfg(feature = "tls")]
    pub tls: Option<Arc<Tls>>,
    pub login: Option<Login>,
    /// Whom brokers take this client for, as ACLs name it, if that is known before they are asked.
    pub principal: Option<Arc<str>>,
}

impl Security {
    /// Starts what gets tokens, on the present arbiter.
    pub(crate) fn started(mut self, seed: u64) -> Self {
        if let Some(login) = &mut self.login {
            login.start(seed);
        }
        self
    }

    /// What `security.protocol` says.
    pub(super) fn protocol(&self) -> SecurityProtocol {
        #[cfg(feature = "tls")]
        let tls = self.tls.is_some();
        #[cfg(not(feature = "tls"))]
        let tls = false;
        SecurityProtocol::of(tls, self.login.is_some())
    }
}
