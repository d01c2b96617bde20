//! What stands between a panic and the rest: the component restarts alone, within a budget.
//!
//! actix drops an actor whose handler panics, with its mailbox, and tells nobody. So handlers run
//! under `catch_unwind`: the same value goes on with the same mailbox, after it has brought its
//! derived state in order. What a panic can break lies outside the value (a partition's ledger) or
//! settles itself when it is dropped (a loan, an ack, a buffer).

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::fut::wrap_future;
use actix::prelude::*;
use futures_util::FutureExt;

use super::lifecycle::{Lifecycle, LifecycleEvent};
use super::messages::ComponentFell;
use super::now;
use crate::core::panics;
use crate::core::supervision::{Component, Restarts};

/// What every component's guard shares.
pub(crate) struct Watch {
    max: u32,
    window: Duration,
    /// Who sees to what follows a fall.
    runtime: Option<Recipient<ComponentFell>>,
    /// A component has failed without which the producer cannot go on.
    lost: Cell<bool>,
    subscribers: RefCell<Vec<Recipient<Lifecycle>>>,
}

impl Watch {
    pub fn new(max: u32, window: Duration, runtime: Option<Recipient<ComponentFell>>) -> Rc<Self> {
        Rc::new(Self {
            max,
            window,
            runtime,
            lost: Cell::new(false),
            subscribers: RefCell::default(),
        })
    }

    /// Whether a component has failed without which the producer cannot go on.
    pub fn is_lost(&self) -> bool {
        self.lost.get()
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

    /// A guard for one component, which starts with it.
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
    /// Given up, and everybody knows.
    failed: bool,
    watch: Rc<Watch>,
}

impl Guard {
    /// The component is restarted by hand.
    pub fn recovered(&mut self) {
        tracing::info!(component = %self.component, "restarted by hand");
        self.restarts.forgive();
        self.failed = false;
        self.watch.tell(&self.component, LifecycleEvent::Recovered);
    }

    /// The component is retired by hand.
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
        #[cfg(test)]
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
    #[cfg(test)]
    let future = future.inspect(|_| faults::strike::<A, faults::Spawned>());
    let caught = AssertUnwindSafe(future).catch_unwind();
    ctx.spawn(wrap_future(caught).map(|caught, actor: &mut A, ctx| {
        watch_over(actor, ctx, |actor, ctx| {
            let output = caught.unwrap_or_else(|panic| resume_unwind(panic));
            #[cfg(test)]
            faults::strike::<A, faults::Finished>();
            then(actor, output, ctx);
        });
    }))
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
    // If even that panics, drop guards are what is left, and they hold.
    let _ = catch_unwind(AssertUnwindSafe(|| actor.fail(why, ctx)));
    let guard = actor.guard();
    if std::mem::replace(&mut guard.failed, true) {
        // Said again it would have everybody revisit again, and this component panic again, for ever.
        return;
    }
    if !matches!(component, Component::Partition(_) | Component::Sender(_)) {
        guard.watch.lost.set(true);
    }
    guard.watch.tell(
        &component,
        LifecycleEvent::Failed {
            why: Arc::clone(why),
        },
    );
    guard.report(Some(Arc::clone(why)));
}

#[cfg(test)]
pub(crate) mod faults;
#[cfg(test)]
mod tests;
