//! Why a producer does not start.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::ConfigError;
use crate::core::security::KeyMaterialError;
use crate::disk::DiskError;

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
    /// Fields of the configuration were set to what [`ConfigBuilder::build`] refuses.
    ///
    /// [`ConfigBuilder::build`]: crate::config::ConfigBuilder::build
    #[error("the configuration is wrong: {0}")]
    Config(ConfigError),
    /// The operating system gave no thread, or no event queue for it.
    #[error("the runtime's thread could not be started: {0}")]
    Thread(io::Error),
    /// `Placement::CurrentArbiter` on a thread on which no actix `System` or arbiter runs.
    #[error(
        "no arbiter is running on this thread; call it inside an actix System that runs, \
         or let the runtime have a thread of its own"
    )]
    NoArbiter,
    /// The configuration has a `transactional.id`, and so makes a
    /// [`TransactionalProducer`](crate::TransactionalProducer).
    #[error(
        "transactional.id makes a producer that sends in transactions alone: use TransactionalProducer, \
         or take the key out"
    )]
    Transactional,
    /// A [`TransactionalProducer`](crate::TransactionalProducer) needs a `transactional.id`.
    #[error("a TransactionalProducer needs a transactional.id: set the key")]
    NoTransactionalId,
    /// A certificate, a key or a store cannot be used.
    #[error("TLS cannot be set up: {0}")]
    KeyMaterial(KeyMaterialError),
    /// Another producer has the spool's directory.
    #[error("the spool cannot be opened: {why}")]
    #[non_exhaustive]
    SpoolInUse {
        /// The directory that `forebay.spool.dir` names.
        directory: PathBuf,
        /// Who has it, and what to do.
        why: Arc<str>,
    },
    /// The spool's directory cannot be used.
    #[error("the spool cannot be opened: {why}")]
    #[non_exhaustive]
    Spool {
        /// The directory that `forebay.spool.dir` names.
        directory: PathBuf,
        /// Which file, what happened to it, and what to change.
        why: Arc<str>,
    },
    /// Built with `panic = "abort"`, where no component can outlive another's panic.
    #[error("built with panic=\"abort\": forebay needs panic=\"unwind\" to keep its promises")]
    PanicAbort,
}

impl StartError {
    pub(crate) fn spool(error: &DiskError, directory: &Path) -> Self {
        let (directory, why) = (directory.to_owned(), error.to_string().into());
        match error {
            DiskError::InUse { .. } => Self::SpoolInUse { directory, why },
            _ => Self::Spool { directory, why },
        }
    }
}

#[cfg(test)]
mod tests;
