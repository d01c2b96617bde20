//! What somebody has who sends the records of a source.

use tokio::sync::watch;

use crate::core::spool::Progress;

/// Whoever has it sends the records of a source, and nobody else in the producer does.
///
/// The SpoolActor has the other end: it sees how far the source has come, and that it was given back, however
/// that happens.
#[derive(Debug)]
pub(crate) struct Lease {
    /// The number that the journal has for the source's name.
    pub number: u32,
    pub progress: watch::Sender<Progress>,
}
