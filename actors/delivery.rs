//! The DeliveryActor: tells the application what became of its records.

use std::panic::{AssertUnwindSafe, catch_unwind};

use actix::prelude::*;

use super::clock::Stop;
use crate::batch::Settled;
use crate::delivery::{Delivered, Listener};
use crate::panics;
use crate::record::TopicPartition;

impl Message for Delivered {
    type Result = ();
}

/// A batch that has its outcome and somebody to be told.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Deliver {
    pub topic_partition: TopicPartition,
    pub settled: Settled,
}

/// Runs user code: each piece under `catch_unwind`, in partition order.
pub(crate) struct DeliveryActor;

impl Actor for DeliveryActor {
    type Context = Context<Self>;
}

impl Handler<Deliver> for DeliveryActor {
    type Result = ();

    fn handle(&mut self, message: Deliver, _: &mut Context<Self>) {
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
        if let Some(delivered) = Delivered::new(topic_partition, first, count, &settlement) {
            for listener in listeners.listeners() {
                guard("a delivery listener", || listener.delivered(&delivered));
            }
        }
        for (receipt, callback) in listeners.into_callbacks() {
            if let Some(outcome) = receipt.outcome() {
                guard("a callback", || callback(outcome));
            }
        }
        drop(tokens); // a flush has waited for all of this
    }
}

fn guard(what: &'static str, call: impl FnOnce()) {
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

/// Sends each [`Delivered`] to an actor of the application.
pub struct ToRecipient(Recipient<Delivered>);

impl ToRecipient {
    pub(crate) fn new(recipient: Recipient<Delivered>) -> Self {
        Self(recipient)
    }
}

impl Listener for ToRecipient {
    fn delivered(&self, delivered: &Delivered) {
        self.0.do_send(delivered.clone());
    }
}
