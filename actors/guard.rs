//! Keeps a panic in one component from the others: that component restarts alone, a limited number
//! of times.
//!
//! If a handler panics, actix drops the actor with its mailbox and notifies no other actor. So
//! handlers run under `catch_unwind`. After a panic the same value continues with the same mailbox,
//! once it has repaired its derived state: a partition's ledger, for example, counts its loans anew.
//! What is dropped settles itself: a loan, an ack, a buffer.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use actix::fut::wrap_future;
use actix::prelude::*;
use futures_util::FutureExt;

use super::lifecycle::{Lifecycle, LifecycleEvent};
use super::messages::ComponentFell;
use super::now;
use crate::core::panics;
use crate::core::supervision::{Component, Restarts};
use crate::core::user_code::{HeldUp, held_up, holding_up, polled};

/// What the guards of all components on a thread share.
pub(crate) struct Watch {
    max: u32,
    window: Duration,
    /// The RuntimeActor, which handles the consequences of a panic.
    runtime: Option<Recipient<ComponentFell>>,
    /// What waits while a component on this thread works. A `tracing` subscriber may do anything then.
    held_up: HeldUp,
    /// A component that the producer cannot work without has failed.
    lost: Arc<AtomicBool>,
    subscribers: RefCell<Vec<Recipient<Lifecycle>>>,
}

impl Watch {
    pub fn new(max: u32, window: Duration, runtime: Option<Recipient<ComponentFell>>) -> Rc<Self> {
        Rc::new(Self {
            max,
            window,
            runtime,
            held_up: HeldUp::Runtime,
            lost: Arc::default(),
            subscribers: RefCell::default(),
        })
    }

    /// For the DeliveryActor's own thread, with the mark of the watch on the RuntimeActor's.
    pub fn of_delivery(
        (max, window): (u32, Duration),
        runtime: Recipient<ComponentFell>,
        lost: Arc<AtomicBool>,
    ) -> Rc<Self> {
        Rc::new(Self {
            max,
            window,
            runtime: Some(runtime),
            held_up: HeldUp::Delivery,
            lost,
            subscribers: RefCell::default(),
        })
    }

    /// The mark of a component that the producer cannot work without.
    pub fn lost(&self) -> &Arc<AtomicBool> {
        &self.lost
    }

    /// Whether a component that the producer cannot work without has failed.
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    pub fn subscribe(&self, recipient: Recipient<Lifecycle>) {
        self.subscribers.borrow_mut().push(recipient);
    }

    pub fn tell(&self, component: &Component, event: LifecycleEvent) {
        let mut subscribers = self.subscribers.borrow_mut();
        subscribers.retain(Recipient::connected);
        for subscriber in subscribers.iter() {
            subscriber.do_send(Lifecycle {
                component: component.clone(),
                event: event.clone(),
            });
        }
    }

    /// Makes the guard of one component, and announces that the component has started.
    pub fn guard(self: &Rc<Self>, component: Component) -> Guard {
        self.tell(&component, LifecycleEvent::Started);
        let restarts = Restarts::new(self.max, self.window);
        Guard {
            component,
            restarts,
            failed: false,
            watch: Rc::clone(self),
        }
    }
}

/// Guards one component.
pub(crate) struct Guard {
    component: Component,
    restarts: Restarts,
    /// The component was given up, and this was announced.
    failed: bool,
    watch: Rc<Watch>,
}

impl Guard {
    /// Notes that the application restarted the component.
    pub fn recovered(&mut self) {
        tracing::info!(component = %self.component, "restarted by hand");
        self.restarts.forgive();
        self.failed = false;
        self.watch.tell(&self.component, LifecycleEvent::Recovered);
    }

    /// Notes that the application retired the component.
    pub fn retired(&self) {
        tracing::info!(component = %self.component, "retired by hand");
        self.watch.tell(&self.component, LifecycleEvent::Retired);
    }

    fn report(&self, failed: Option<Arc<str>>) {
        if let Some(runtime) = &self.watch.runtime {
            let component = self.component.clone();
            runtime.do_send(ComponentFell { component, failed });
        }
    }
}

/// An actor that survives a panic in its handlers.
pub(crate) trait Guarded: Actor<Context = Context<Self>> {
    fn guard(&mut self) -> &mut Guard;

    /// Repairs derived state, and drops what cannot be trusted. The message that panicked is lost.
    /// Returns how many batches were kept.
    fn restart(&mut self, ctx: &mut Context<Self>) -> usize;

    /// Called after too many restarts. Gives every batch in its care an outcome, and does nothing
    /// more.
    fn fail(&mut self, why: &Arc<str>, ctx: &mut Context<Self>);
}

/// A message whose handler is guarded: see [`guarded`](macro@guarded).
pub(crate) trait On<M>: Guarded {
    fn on(&mut self, message: M, ctx: &mut Context<Self>);
}

/// Lists the messages that an actor handles under its guard.
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

/// Runs `work` for an actor. A panic in it restarts the actor.
pub(crate) fn watch_over<A: Guarded>(
    actor: &mut A,
    ctx: &mut Context<A>,
    work: impl FnOnce(&mut A, &mut Context<A>),
) {
    let held_up = actor.guard().watch.held_up;
    holding_up(held_up, || caught(actor, ctx, work));
}

fn caught<A: Guarded>(
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

/// Runs a future alongside the actor, and calls `then` with its output. A panic in either restarts
/// the actor, like a panic in a handler.
pub(crate) fn spawn<A: Guarded, F: Future + 'static>(
    ctx: &mut Context<A>,
    future: F,
    then: impl FnOnce(&mut A, F::Output, &mut Context<A>) + 'static,
) -> SpawnHandle {
    #[cfg(feature = "internals")]
    let future = future.inspect(|_| faults::strike::<A, faults::Spawned>());
    // It holds up what the handler does that spawns it.
    let caught = polled(held_up(), AssertUnwindSafe(future).catch_unwind());
    ctx.spawn(wrap_future(caught).map(|caught, actor: &mut A, ctx| {
        watch_over(actor, ctx, |actor, ctx| {
            let output = caught.unwrap_or_else(|panic| resume_unwind(panic));
            #[cfg(feature = "internals")]
            faults::strike::<A, faults::Finished>();
            then(actor, output, ctx);
        });
    }))
}

/// Calls `work` with the actor after a while. A panic in it restarts the actor.
pub(crate) fn later<A: Guarded>(
    ctx: &mut Context<A>,
    wait: Duration,
    work: impl FnOnce(&mut A, &mut Context<A>) + 'static,
) -> SpawnHandle {
    ctx.run_later(wait, |actor, ctx| {
        watch_over(actor, ctx, |actor, ctx| {
            #[cfg(feature = "internals")]
            faults::strike::<A, faults::Timer>();
            work(actor, ctx);
        });
    })
}

fn restarted(guard: &Guard, why: Arc<str>, kept: usize, began: Instant) {
    let took = now().saturating_duration_since(began);
    tracing::error!(component = %guard.component, panic = %why, kept, ?took, "a component panicked and restarted");
    guard.watch.tell(
        &guard.component,
        LifecycleEvent::Restarted { why, kept, took },
    );
    guard.report(None);
}

fn give_up<A: Guarded>(actor: &mut A, why: &Arc<str>, ctx: &mut Context<A>) {
    let component = actor.guard().component.clone();
    tracing::error!(%component, panic = %why, "a component panicked too often and is given up");
    // If this panics too, the drop guards of batches and loans still settle them.
    let _ = catch_unwind(AssertUnwindSafe(|| actor.fail(why, ctx)));
    let guard = actor.guard();
    if std::mem::replace(&mut guard.failed, true) {
        // Announced once only. An announcement makes the other actors resync, and their messages
        // could make this component panic again, in an endless loop.
        return;
    }
    if !matches!(component, Component::Partition(_) | Component::Sender(_)) {
        guard.watch.lost.store(true, Ordering::Relaxed);
    }
    guard.watch.tell(
        &component,
        LifecycleEvent::Failed {
            why: Arc::clone(why),
        },
    );
    guard.report(Some(Arc::clone(why)));
}

#[cfg(feature = "internals")]
pub(crate) mod faults;
