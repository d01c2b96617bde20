//! Flush and close: both wait until all accepted records have their outcome.

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
    /// Flushes every partition. `done` is sent when all of them are flushed. It is dropped if one
    /// partition missed the flush.
    fn barrier(&self, done: oneshot::Sender<()>) {
        let barrier = Barrier::new(done);
        let addrs = self.partitions.values().flatten().map(|entry| &entry.addr);
        for addr in addrs.filter(|addr| addr.connected()) {
            addr.do_send(FlushPartition(Some(Arc::clone(&barrier))));
        }
    }

    /// Waits until all records have their outcome, then ends the producer. If a partition missed
    /// the flush, it is repeated.
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

    /// Accepts no more records, and ends the producer when the accepted ones have their outcome, or
    /// when the time is over.
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

    /// Ends the producer when all accepted records have their outcome.
    pub(super) fn drain(&mut self, ctx: &mut Context<Self>) {
        let (within, reply) = (self.config.delivery_timeout, None);
        self.close(Close { within, reply }, ctx);
    }

    /// Ends the producer at once. All accepted records get their outcome, even if they were not
    /// sent.
    pub(super) fn give_up(&mut self, ctx: &mut Context<Self>) {
        if self.closing.is_some() {
            // The flush that the close waits for may never end.
            return self.end(Err(CloseError::Gone), ctx);
        }
        let (within, reply) = (Duration::ZERO, None);
        self.close(Close { within, reply }, ctx);
    }

    /// Stops all actors. The partitions stop first, so that the outcomes of their last batches are
    /// still delivered.
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
        // This actor stops too. A future of its own would be dropped with it.
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
