//! Why a producer does not start.

/// Why a producer did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The operating system gave no thread, or no event queue for it.
    #[error("the runtime's thread could not be started: {0}")]
    Thread(#[from] std::io::Error),
    /// `Placement::CurrentArbiter` outside an actix `System` or tokio `LocalSet`.
    #[error(
        "no arbiter is running on this thread; call it inside an actix System, \
         or let the runtime have a thread of its own"
    )]
    NoArbiter,
    /// Built with `panic = "abort"`, where no part can outlive another's panic.
    #[error("built with panic=\"abort\": forebay needs panic=\"unwind\" to keep its promises")]
    PanicAbort,
}
