//! The DeliveryActor: tells the application the outcomes of its records.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use actix::prelude::*;

use super::guard::{Guard, Guarded, On, guarded};
use super::messages::{Deliver, Stop};
use crate::core::batch::Settled;
use crate::core::delivery::{BatchOutcome, Listener};
use crate::core::panics;

impl Message for BatchOutcome {
    type Result = ();
}

/// Runs listeners and callbacks of the application, each under `catch_unwind`. The batches of a
/// partition keep their order.
pub(crate) struct DeliveryActor {
    guard: Guard,
}

impl DeliveryActor {
    pub fn new(guard: Guard) -> Self {
        Self { guard }
    }
}

impl Actor for DeliveryActor {
    type Context = Context<Self>;
}

guarded!(DeliveryActor: Deliver);

impl Guarded for DeliveryActor {
    fn guard(&mut self) -> &mut Guard {
        &mut self.guard
    }

    /// Each call of user code is guarded by itself, and there is no other state.
    fn restart(&mut self, _: &mut Context<Self>) -> usize {
        0
    }

    fn fail(&mut self, _: &Arc<str>, _: &mut Context<Self>) {}
}

impl On<Deliver> for DeliveryActor {
    fn on(&mut self, message: Deliver, _: &mut Context<Self>) {
        let Deliver {
            topic_partition,
            settled,
        } = message;
        let Settled {
            first,
            count,
            settlement,
            listeners,
            tokens,
        } = settled;
        if let Some(delivered) = BatchOutcome::new(topic_partition, first, count, &settlement) {
            for listener in listeners.listeners() {
                shielded("a delivery listener", || listener.delivered(&delivered));
            }
        }
        for (receipt, callback) in listeners.into_callbacks() {
            if let Some(outcome) = receipt.outcome() {
                shielded("a callback", || callback(outcome));
            }
        }
        drop(tokens); // a flush may have waited for these calls
    }
}

fn shielded(what: &'static str, call: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(call)) {
        tracing::error!(what, panic = panics::message(&*panic), "user code panicked");
    }
}

impl Handler<Stop> for DeliveryActor {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}

/// Sends each [`BatchOutcome`] to an actor of the application.
pub(crate) struct ToRecipient(Recipient<BatchOutcome>);

impl ToRecipient {
    pub fn new(recipient: Recipient<BatchOutcome>) -> Self {
        Self(recipient)
    }
}

impl Listener for ToRecipient {
    fn delivered(&self, delivered: &BatchOutcome) {
        self.0.do_send(delivered.clone());
    }
}
