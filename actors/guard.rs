//! What stands between a panic and the rest: the part restarts alone, within a budget.
//!
//! actix drops an actor whose handler panics, with its mailbox, and tells nobody. So handlers run
//! under `catch_unwind`: the same value goes on with the same mailbox, after it has brought its
//! derived state in order. What a panic can break lies outside the value (a partition's ledger) or
//! settles itself when it is dropped (a loan, an ack, a buffer).

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use actix::fut::wrap_future;
use actix::prelude::*;
use futures_util::FutureExt;

use super::{RuntimeActor, now};
use crate::actors::lifecycle::{Lifecycle, LifecycleEvent};
use crate::core::panics;
use crate::core::supervision::{Component, Restarts};

/// A part has restarted or failed: the RuntimeActor sees to what follows for the others.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct ComponentFell {
    pub part: Component,
    /// Past its budget, with the reason.
    pub failed: Option<Arc<str>>,
}

/// Another part has lost a message: take nothing for granted that somebody else was told.
#[derive(Message, Clone, Copy)]
#[rtype(result = "()")]
pub(crate) struct Resync;

/// What every part's guard shares.
pub(crate) struct Watch {
    max: u32,
    window: Duration,
    runtime: OnceLock<Addr<RuntimeActor>>,
    /// A part has failed without which the producer cannot go on.
    lost: AtomicBool,
    subscribers: Mutex<Vec<Recipient<Lifecycle>>>,
}

impl Watch {
    pub fn new(max: u32, window: Duration) -> Arc<Self> {
        Arc::new(Self {
            max,
            window,
            runtime: OnceLock::new(),
            lost: AtomicBool::new(false),
            subscribers: Mutex::default(),
        })
    }

    /// Says who sees to what follows a fall. Once.
    pub fn report_to(&self, runtime: Addr<RuntimeActor>) {
        let _ = self.runtime.set(runtime);
    }

    /// Whether a part has failed without which the producer cannot go on.
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    pub fn subscribe(&self, recipient: Recipient<Lifecycle>) {
        self.subscribers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(recipient);
    }

    pub fn tell(&self, part: &Component, event: LifecycleEvent) {
        let mut subscribers = self
            .subscribers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        subscribers.retain(Recipient::connected);
        for subscriber in subscribers.iter() {
            subscriber.do_send(Lifecycle {
                part: part.clone(),
                event: event.clone(),
            });
        }
    }

    /// A guard for one part, which starts with it.
    pub fn guard(self: &Arc<Self>, part: Component) -> Guard {
        self.tell(&part, LifecycleEvent::Started);
        let restarts = Restarts::new(self.max, self.window);
        Guard {
            part,
            restarts,
            failed: false,
            watch: Arc::clone(self),
        }
    }
}

/// Guards one part.
pub(crate) struct Guard {
    part: Component,
    restarts: Restarts,
    /// Given up, and everybody knows.
    failed: bool,
    watch: Arc<Watch>,
}

impl Guard {
    /// The part is restarted by hand.
    pub fn recovered(&mut self) {
        tracing::info!(part = %self.part, "restarted by hand");
        self.restarts.forgive();
        self.failed = false;
        self.watch.tell(&self.part, LifecycleEvent::Recovered);
    }

    /// The part is retired by hand.
    pub fn retired(&self) {
        tracing::info!(part = %self.part, "retired by hand");
        self.watch.tell(&self.part, LifecycleEvent::Retired);
    }

    fn report(&self, failed: Option<Arc<str>>) {
        if let Some(runtime) = self.watch.runtime.get() {
            let part = self.part.clone();
            runtime.do_send(ComponentFell { part, failed });
        }
    }
}

/// An actor that survives a panic in its handlers.
pub(crate) trait Guarded: Actor<Context = Context<Self>> {
    fn guard(&mut self) -> &mut Guard;

    /// Brings what is derived in order, and drops what cannot be trusted. The message that panicked
    /// is lost. Returns how many batches were kept.
    fn restart(&mut self, ctx: &mut Context<Self>) -> usize;

    /// Too many restarts: gives everything in its care an outcome, and does no more.
    fn fail(&mut self, why: &Arc<str>, ctx: &mut Context<Self>);
}

/// A message whose handler is guarded: see [`guarded`](macro@guarded).
pub(crate) trait On<M>: Guarded {
    fn on(&mut self, message: M, ctx: &mut Context<Self>);
}

/// Lists the messages an actor handles under its guard.
macro_rules! guarded {
    ($actor:ty: $($message:ty),+ $(,)?) => {$(
        impl Handler<$message> for $actor {
            type Result = ();

            fn handle(&mut self, message: $message, ctx: &mut Context<Self>) {
                $crate::actors::guard::handle(self, message, ctx);
            }
        }
    )+};
}
pub(crate) use guarded;

pub(crate) fn handle<A: On<M>, M>(actor: &mut A, message: M, ctx: &mut Context<A>) {
    watch_over(actor, ctx, |actor, ctx| {
        #[cfg(feature = "internals")]
        faults::strike::<A, M>();
        actor.on(message, ctx);
    });
}

/// Runs a piece of an actor's work; a panic in it restarts the actor.
pub(crate) fn watch_over<A: Guarded>(
    actor: &mut A,
    ctx: &mut Context<A>,
    work: impl FnOnce(&mut A, &mut Context<A>),
) {
    let mut fell = catch_unwind(AssertUnwindSafe(|| work(actor, ctx))).err();
    while let Some(panic) = fell.take() {
        let began = now();
        let why: Arc<str> = panics::message(&*panic).into();
        if !actor.guard().restarts.allow(began) {
            return give_up(actor, &why, ctx);
        }
        match catch_unwind(AssertUnwindSafe(|| actor.restart(ctx))) {
            Ok(kept) => restarted(actor.guard(), why, kept, began),
            Err(again) => fell = Some(again),
        }
    }
}

/// Runs a future beside the actor and hands it what came out; a panic in either restarts the actor,
/// as one in a handler does.
pub(crate) fn spawn<A: Guarded, F: Future + 'static>(
    ctx: &mut Context<A>,
    future: F,
    then: impl FnOnce(&mut A, F::Output, &mut Context<A>) + 'static,
) -> SpawnHandle {
    #[cfg(feature = "internals")]
    let future = future.inspect(|_| faults::strike::<A, faults::Spawned>());
    let caught = AssertUnwindSafe(future).catch_unwind();
    ctx.spawn(wrap_future(caught).map(|caught, actor: &mut A, ctx| {
        watch_over(actor, ctx, |actor, ctx| {
            let output = caught.unwrap_or_else(|panic| resume_unwind(panic));
            #[cfg(feature = "internals")]
            faults::strike::<A, faults::Finished>();
            then(actor, output, ctx);
        });
    }))
}

fn restarted(guard: &Guard, why: Arc<str>, kept: usize, began: Instant) {
    let took = now().saturating_duration_since(began);
    tracing::error!(part = %guard.part, panic = %why, kept, ?took, "a part panicked and restarted");
    guard
        .watch
        .tell(&guard.part, LifecycleEvent::Restarted { why, kept, took });
    guard.report(None);
}

fn give_up<A: Guarded>(actor: &mut A, why: &Arc<str>, ctx: &mut Context<A>) {
    let part = actor.guard().part.clone();
    tracing::error!(%part, panic = %why, "a part panicked too often and is given up");
    // If even that panics, drop guards are what is left, and they hold.
    let _ = catch_unwind(AssertUnwindSafe(|| actor.fail(why, ctx)));
    let guard = actor.guard();
    if std::mem::replace(&mut guard.failed, true) {
        // Said again it would have everybody revisit again, and this part panic again, for ever.
        return;
    }
    if !matches!(part, Component::Partition(_) | Component::Sender(_)) {
        guard.watch.lost.store(true, Ordering::Relaxed);
    }
    guard.watch.tell(
        &part,
        LifecycleEvent::Failed {
            why: Arc::clone(why),
        },
    );
    guard.report(Some(Arc::clone(why)));
}

#[cfg(feature = "internals")]
pub(crate) mod faults;
