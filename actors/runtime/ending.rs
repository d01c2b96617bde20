//! Flush, close, and the end: what waits until everything has its outcome.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use futures_util::future::join_all;
use tokio::sync::oneshot;

use super::{Closing, RuntimeActor};
use crate::actors::guard::{self, On};
use crate::actors::lifecycle::CloseError;
use crate::actors::messages::*;

impl RuntimeActor {
    /// Has every partition flush; `done` hears when all have, and is dropped if one has missed it.
    fn barrier(&self, done: oneshot::Sender<()>) {
        let barrier = Barrier::new(done);
        let addrs = self.partitions.values().flatten().map(|entry| &entry.addr);
        for addr in addrs.filter(|addr| addr.connected()) {
            addr.do_send(FlushPartition(Some(Arc::clone(&barrier))));
        }
    }

    /// Waits until everything has its outcome, and ends.
    pub(super) fn deliver_and_end(&mut self, ctx: &mut Context<Self>) {
        let (done, delivered) = oneshot::channel();
        self.barrier(done);
        guard::spawn(
            ctx,
            delivered,
            |actor: &mut Self, delivered, ctx| match delivered {
                Ok(()) => actor.end(Ok(()), ctx),
                Err(_) => actor.deliver_and_end(ctx),
            },
        );
    }

    fn close(&mut self, close: Close, ctx: &mut Context<Self>) {
        let Close { within, reply } = close;
        if let Some(closing) = &mut self.closing {
            closing.replies.extend(reply);
            return;
        }
        self.topics.clear();
        for entry in self.partitions.values().flatten() {
            entry.route.stage.close();
        }
        self.pool.do_send(Stop);
        let timer = ctx.run_later(within, |actor, ctx| {
            actor.end(Err(CloseError::TimedOut), ctx)
        });
        self.closing = Some(Closing {
            replies: reply.into_iter().collect(),
            timer,
        });
        self.deliver_and_end(ctx);
    }

    /// Ends the producer when what it holds has its outcome.
    pub(super) fn drain(&mut self, ctx: &mut Context<Self>) {
        let (within, reply) = (self.config.delivery_timeout, None);
        self.close(Close { within, reply }, ctx);
    }

    /// Ends the producer at once: everything that is accepted has its outcome.
    pub(super) fn give_up(&mut self, ctx: &mut Context<Self>) {
        if self.closing.is_some() {
            // What is still waited for may never come.
            return self.end(Err(CloseError::Gone), ctx);
        }
        let (within, reply) = (Duration::ZERO, None);
        self.close(Close { within, reply }, ctx);
    }

    /// Stops everything: partitions first, so that what they settle is still told.
    fn end(&mut self, outcome: Result<(), CloseError>, ctx: &mut Context<Self>) {
        let Some(Closing { replies, timer }) = self.closing.take() else {
            return;
        };
        ctx.cancel_future(timer);
        let entries = std::mem::take(&mut self.partitions);
        let partitions: Vec<_> = entries
            .into_values()
            .flatten()
            .map(|entry| entry.addr)
            .collect();
        let senders = std::mem::take(&mut self.senders);
        let services = Rc::clone(&self.services);
        let ended = self.ended.take();
        let stopping = async move {
            join_all(partitions.iter().map(|partition| partition.send(Stop))).await;
            for sender in senders.into_values() {
                sender.addr.do_send(Stop);
            }
            let _ = services.delivery.send(Stop).await;
            services.metadata.do_send(Stop);
            services.identity.do_send(Stop);
            let _ = services.clock.send(Stop).await;
            for reply in replies {
                let _ = reply.send(outcome);
            }
            if let Some(ended) = ended {
                let _ = ended.send(());
            }
        };
        // Not a future of this actor: it stops too, and that would drop it.
        actix_rt::spawn(stopping);
        ctx.stop();
    }
}

impl On<Flush> for RuntimeActor {
    fn on(&mut self, Flush(done): Flush, _: &mut Context<Self>) {
        self.barrier(done);
    }
}

impl On<Close> for RuntimeActor {
    fn on(&mut self, close: Close, ctx: &mut Context<Self>) {
        self.close(close, ctx);
    }
}

impl On<LastHandleDropped> for RuntimeActor {
    fn on(&mut self, _: LastHandleDropped, ctx: &mut Context<Self>) {
        self.drain(ctx);
    }
}
