//! Where the actors run.

use std::io;
use std::panic::catch_unwind;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use actix::prelude::*;
use tokio::runtime;
use tokio::sync::oneshot;
use tokio::task::LocalSet;

use crate::actors::{DeliveryActor, DeliveryElsewhere, Runtime, RuntimeSpec};
use crate::api::error::StartError;
use crate::core::user_code::{HeldUp, holding_up};
use crate::intake::deadline::GRACE;

/// Where the runtime's actors run. Set by [`ProducerBuilder::placement`](crate::ProducerBuilder::placement).
///
/// A web service, or anything else with several arbiters, is best served by
/// [`OwnThread`](Self::OwnThread): an arbiter of a web worker ends before a
/// [`close`](crate::Producer::close) behind the server could deliver anything.
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
    /// On a thread of the runtime's own, named after `client.id`. Callbacks and interceptors'
    /// `on_acknowledgement` are called on a second thread: while they run, only outcomes wait that are
    /// told by them. Both threads end when the producer is closed. The default.
    #[default]
    OwnThread,
    /// On the arbiter that [`start`](crate::ProducerBuilder::start) is called on. Its actix `System` has
    /// to run.
    ///
    /// Awaited sends from there are quickest, because no thread has to be woken. The actors share its
    /// time with everything else that runs there: what blocks the arbiter, be it a task or a callback,
    /// holds up all deliveries, and all outcomes. When the arbiter or its `System` stops first, what was
    /// not delivered is lost.
    CurrentArbiter,
}

impl Placement {
    /// Starts the actors there; with a thread, if they have one of their own. `local_set`: without a
    /// `System` there may be a `LocalSet`.
    pub(super) fn start(
        self,
        spec: RuntimeSpec,
        local_set: bool,
    ) -> Result<(Runtime, Option<RuntimeThread>), StartError> {
        match self {
            Self::OwnThread => {
                let (runtime, thread) = on_own_thread(spec)?;
                Ok((runtime, Some(thread)))
            }
            Self::CurrentArbiter if local_set || arbiter_runs() => {
                let runtime = spec.start(None).map_err(StartError::Thread)?;
                Ok((runtime, None))
            }
            Self::CurrentArbiter => Err(StartError::NoArbiter),
        }
    }
}

/// The runtime's thread.
pub(super) struct RuntimeThread {
    pub handle: JoinHandle<()>,
    /// Dropped when the thread has nothing left to do but return.
    pub over: oneshot::Receiver<()>,
}

/// Whether this thread runs an arbiter of an actix `System`, and is in it.
fn arbiter_runs() -> bool {
    // A System and its arbiter are known to their thread before they run, and behind their end.
    let known = System::try_current().and(Arbiter::try_current());
    known.is_some_and(|arbiter| arbiter.spawn(async {}))
        && runtime::Handle::try_current().is_ok()
        // Beside a System that does not run there can be another runtime, and that cannot be asked.
        && catch_unwind(|| drop(actix_rt::spawn(async {}))).is_ok()
}

fn single_threaded() -> io::Result<runtime::Runtime> {
    runtime::Builder::new_current_thread().enable_all().build()
}

fn on_own_thread(spec: RuntimeSpec) -> Result<(Runtime, RuntimeThread), StartError> {
    let arbiter = single_threaded().map_err(StartError::Thread)?;
    // A thread's name cannot have a NUL, and the field may be set in code.
    let name = spec.config.client_id.replace('\0', "");
    let (started, runtime) = mpsc::channel();
    let (alive, over) = oneshot::channel::<()>();
    let handle = thread::Builder::new()
        .name(name.clone())
        .spawn(move || {
            let _alive = alive;
            let (told, all_told) = mpsc::channel();
            let mut delivery = |delivery| on_delivery_thread(&name, delivery, told.clone());
            // Nothing that runs here is to wait for what runs here, be it a `tracing` subscriber.
            holding_up(HeldUp::Runtime, || {
                LocalSet::new().block_on(&arbiter, async {
                    let mut ended = match spec.start(Some(&mut delivery)) {
                        Ok(runtime) => {
                            let ended = runtime.ended.clone();
                            // The receiver is there: `start` waits for this.
                            let _ = started.send(Ok(runtime));
                            ended
                        }
                        Err(error) => return drop(started.send(Err(error))),
                    };
                    // An error means that the RuntimeActor is gone, and then so is everything.
                    let _ = ended.wait_for(Option::is_some).await;
                });
            });
            drop(told);
            // Disconnected when that thread is over. It may be held up by user code.
            let _ = all_told.recv_timeout(GRACE);
            // A name lookup that hangs has a thread of its own, which dropping would wait for.
            arbiter.shutdown_background();
        })
        .map_err(StartError::Thread)?;
    let gone = |_| io::Error::other("the runtime's thread ended at once");
    let runtime = runtime.recv().map_err(gone).and_then(|started| started);
    let thread = RuntimeThread { handle, over };
    Ok((runtime.map_err(StartError::Thread)?, thread))
}

/// Starts the DeliveryActor on a thread of its own. The thread drops `alive` at its end.
fn on_delivery_thread(
    client_id: &str,
    delivery: DeliveryElsewhere,
    alive: mpsc::Sender<()>,
) -> io::Result<Addr<DeliveryActor>> {
    // Callbacks may spawn tasks here.
    let arbiter = single_threaded()?;
    let (started, addr) = mpsc::channel();
    let named = thread::Builder::new().name(format!("{client_id} outcomes"));
    named.spawn(move || {
        let _alive = alive;
        LocalSet::new().block_on(&arbiter, async move {
            let (addr, ended) = delivery.start();
            // The receiver is there: whoever starts the thread waits for this.
            let _ = started.send(addr);
            let _ = ended.await;
        });
        arbiter.shutdown_background();
    })?;
    let gone = |_| io::Error::other("the thread for outcomes ended at once");
    addr.recv().map_err(gone)
}
