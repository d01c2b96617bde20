//! Why a producer does not start.

use std::io;

/// Why a producer did not start.
///
/// ```
/// use forebay::{Config, Placement, Producer, StartError};
///
/// // No actix `System` runs on this thread.
/// let started = Producer::builder()
///     .placement(Placement::CurrentArbiter)
///     .start(Config::new("localhost:9092")?);
/// assert!(matches!(started, Err(StartError::NoArbiter)));
/// # Ok::<(), forebay::ConfigError>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The operating system gave no thread, or no event queue for it.
    #[error("the runtime's thread could not be started: {0}")]
    Thread(io::Error),
    /// `Placement::CurrentArbiter` outside an actix `System` or tokio `LocalSet`.
    #[error(
        "no arbiter is running on this thread; call it inside an actix System, \
         or let the runtime have a thread of its own"
    )]
    NoArbiter,
    /// Built with `panic = "abort"`, where no component can outlive another's panic.
    #[error("built with panic=\"abort\": forebay needs panic=\"unwind\" to keep its promises")]
    PanicAbort,
}

#[cfg(test)]
mod tests;
