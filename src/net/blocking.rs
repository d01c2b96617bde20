//! What connections and tokens take from outside: threads that may wait, and the clock on the wall.

use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Endpoint, NetError};
use crate::core::security::TokenError;

/// Runs what takes long, or waits for files, where it holds nobody up. `doing`: for the error if it panics.
pub(super) async fn off_the_arbiter<T: Send + 'static>(
    endpoint: &Endpoint,
    doing: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, NetError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|panic| NetError::io(endpoint, doing, io::Error::other(panic.to_string())))
}

/// The same for a token.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, TokenError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|panic| TokenError::Application(panic.to_string().into()))
}

#[expect(
    clippy::disallowed_methods,
    reason = "tokens expire by the clock on the wall"
)]
pub(super) fn since_epoch() -> Duration {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default()
}
