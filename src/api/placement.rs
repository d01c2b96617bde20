//! Where the actors run.

use std::thread::JoinHandle;

use actix::prelude::*;
use tokio::sync::oneshot;
use tokio::task::LocalSet;

use crate::actors::{Runtime, RuntimeSpec};
use crate::api::error::StartError;

/// Where the runtime's actors run. Set by [`ProducerBuilder::placement`](crate::ProducerBuilder::placement).
///
/// ```no_run
/// use forebay::{Config, Placement, Producer};
///
/// #[actix::main]
/// async fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let producer = Producer::builder()
///         .placement(Placement::CurrentArbiter)
///         .start(Config::new("localhost:9092")?)?;
///     # Ok(())
/// }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Placement {
    /// On a thread of the runtime's own. The thread is named after `client.id` and ends when the
    /// producer is closed. The default.
    #[default]
    OwnThread,
    /// On the arbiter (or tokio `LocalSet`) that [`start`](crate::ProducerBuilder::start) is called on.
    ///
    /// Awaited sends from there are quickest, because no thread has to be woken. The actors share its
    /// time with everything else that runs there. When its `System` stops first, what was not delivered
    /// is lost.
    CurrentArbiter,
}

impl Placement {
    /// Starts the actors there; with a thread, if they have one of their own.
    pub(super) fn start(
        self,
        spec: RuntimeSpec,
    ) -> Result<(Runtime, Option<JoinHandle<()>>), StartError> {
        match self {
            Self::OwnThread => {
                let (runtime, thread) = on_own_thread(spec)?;
                Ok((runtime, Some(thread)))
            }
            Self::CurrentArbiter => Ok((on_current_arbiter(spec)?, None)),
        }
    }
}

fn on_own_thread(spec: RuntimeSpec) -> Result<(Runtime, JoinHandle<()>), StartError> {
    let arbiter = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(StartError::Thread)?;
    let (started, runtime) = std::sync::mpsc::channel();
    let thread = std::thread::Builder::new()
        .name(spec.config.client_id.clone())
        .spawn(move || {
            LocalSet::new().block_on(&arbiter, async move {
                let mut runtime = spec.start();
                let (_keep, never) = oneshot::channel();
                let ended = std::mem::replace(&mut runtime.ended, never);
                // The receiver is there: `start` waits for this.
                let _ = started.send(runtime);
                // An error means that the RuntimeActor is gone, and then so is everything.
                let _ = ended.await;
            });
            // A name lookup that hangs has a thread of its own, which dropping would wait for.
            arbiter.shutdown_background();
        })
        .map_err(StartError::Thread)?;
    let gone = || std::io::Error::other("the runtime's thread ended at once");
    let runtime = runtime.recv().map_err(|_| StartError::Thread(gone()))?;
    Ok((runtime, thread))
}

fn on_current_arbiter(spec: RuntimeSpec) -> Result<Runtime, StartError> {
    // Outside a System there may still be a LocalSet. Without one `spawn_local` panics, and tokio
    // has no way to ask before.
    if System::try_current().is_none() {
        let probe = std::panic::catch_unwind(|| drop(actix_rt::spawn(async {})));
        probe.map_err(|_| StartError::NoArbiter)?;
    }
    Ok(spec.start())
}
