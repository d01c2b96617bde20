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
use crate::actors::now;
use crate::actors::spool::{LAST_SYNC, SYNC_AGAIN};
use crate::core::tally::Outcomes;
use crate::core::user_code::{HeldUp, polled};
use crate::intake::deadline::GRACE;

impl RuntimeActor {
    /// Flushes every partition. `done` is sent when all of them are flushed and, if that is waited for, the
    /// outcomes were told. It is dropped if one partition missed the flush.
    fn barrier(&self, flush: Flush) {
        let Flush {
            done,
            counts,
            waits_for_calls,
        } = flush;
        let delivery = waits_for_calls.then(|| self.services.delivery.clone().recipient());
        let barrier = Barrier::new(done, counts, delivery);
        let addrs = self.partitions.values().flatten().map(|entry| &entry.addr);
        for addr in addrs.filter(|addr| addr.connected()) {
            addr.do_send(FlushPartition(Some(Arc::clone(&barrier))));
        }
    }

    /// Waits until all records have their outcome, then ends the producer. If a partition missed
    /// the flush, it is repeated.
    pub(super) fn deliver_and_end(&mut self, ctx: &mut Context<Self>) {
        let Some(closing) = &self.closing else {
            return;
        };
        if let Some(transactions) = self.transactions.take() {
            // What is open is aborted first, so that its records do not count as acked.
            let (reply, none) = oneshot::channel();
            transactions.do_send(CloseTransactions(reply));
            guard::spawn(ctx, none, |actor: &mut Self, _, ctx| {
                actor.deliver_and_end(ctx)
            });
            return;
        }
        let (done, delivered) = oneshot::channel();
        self.barrier(Flush {
            done,
            counts: Arc::clone(&closing.counts),
            waits_for_calls: true,
        });
        guard::spawn(
            ctx,
            delivered,
            |actor: &mut Self, delivered, ctx| match delivered {
                Ok(()) => actor.end(None, ctx),
                Err(_) => actor.deliver_and_end(ctx),
            },
        );
    }

    /// Accepts no more records, and ends the producer when the accepted ones have their outcome, or
    /// when the time is over.
    fn close(&mut self, close: Close, gone: Option<CloseError>, ctx: &mut Context<Self>) {
        let Close { within, reply } = close;
        let until = now().checked_add(within);
        if let Some(closing) = &mut self.closing {
            closing.replies.extend(reply);
            // Whoever has less time is not to wait for the other's.
            if until.is_some_and(|sooner| closing.until.is_none_or(|until| sooner < until)) {
                closing.until = until;
                let former = std::mem::replace(&mut closing.timer, Self::limit(within, ctx));
                ctx.cancel_future(former);
            }
            return;
        }
        self.topics.end();
        for entry in self.partitions.values().flatten() {
            entry.route.stage.close();
        }
        self.pool.do_send(Stop);
        self.closing = Some(Closing {
            replies: reply.into_iter().collect(),
            timer: Self::limit(within, ctx),
            until,
            counts: Arc::default(),
            gone,
        });
        self.deliver_and_end(ctx);
    }

    fn limit(within: Duration, ctx: &mut Context<Self>) -> SpawnHandle {
        ctx.run_later(within, |actor, ctx| {
            actor.end(Some(CloseError::TimedOut), ctx);
        })
    }

    /// Ends the producer when all accepted records have their outcome.
    pub(super) fn drain(&mut self, ctx: &mut Context<Self>) {
        let resolve = self.services.rules.resolve.unwrap_or_default();
        let (within, reply) = (self.config.delivery_timeout + resolve, None);
        self.close(Close { within, reply }, None, ctx);
    }

    /// Ends the producer at once. All accepted records get their outcome, even if they were not
    /// sent.
    pub(super) fn give_up(&mut self, why: CloseError, ctx: &mut Context<Self>) {
        if let Some(closing) = &mut self.closing {
            // The flush that the close waits for may never end.
            closing.gone = Some(why);
            return self.end(None, ctx);
        }
        let (within, reply) = (Duration::ZERO, None);
        self.close(Close { within, reply }, Some(why), ctx);
    }

    /// Stops all actors. The partitions stop first, so that the outcomes of their last batches are
    /// still delivered. `in_vain` says what is wrong if those who wait did so in vain.
    fn end(&mut self, in_vain: Option<fn(Outcomes) -> CloseError>, ctx: &mut Context<Self>) {
        let Some(closing) = self.closing.take() else {
            return;
        };
        ctx.cancel_future(closing.timer);
        let entries = std::mem::take(&mut self.partitions);
        let partitions: Vec<_> = entries
            .into_values()
            .flatten()
            .map(|entry| entry.addr)
            .collect();
        let senders = std::mem::take(&mut self.senders).into_values();
        let released = std::mem::take(&mut self.released);
        let released = released.into_iter().filter_map(|sender| sender.upgrade());
        let senders: Vec<_> = senders.map(|sender| sender.addr).chain(released).collect();
        let services = Rc::clone(&self.services);
        let spool = self.spooling.take().map(|spooling| spooling.spool);
        let ended = self.ended.take();
        let stopping = async move {
            if let Some(spool) = &spool {
                // What is told to be kept has to be there.
                let synced = async {
                    while let Ok(false) = spool.send(SyncAll).await {
                        // Another file takes the place of the one that failed.
                        tokio::time::sleep(SYNC_AGAIN).await;
                    }
                };
                if tokio::time::timeout(LAST_SYNC, synced).await.is_err() {
                    tracing::error!(
                        "the disk is slow: what was written last to the spool may not be there"
                    );
                }
            }
            join_all(partitions.iter().map(|partition| partition.send(Stop))).await;
            for sender in senders {
                sender.do_send(Stop);
            }
            if let Some(spool) = spool {
                // Behind the partitions: it has all outcomes.
                let _ = spool.send(Stop).await;
            }
            services.identity.do_send(Stop);
            if let Some(lookups) = &services.lookups {
                lookups.do_send(Stop);
            }
            let told = tokio::time::timeout(GRACE, services.delivery.send(Stop)).await;
            if told.is_err() {
                tracing::warn!(
                    "callbacks or interceptors have not returned: outcomes are told after the close"
                );
            }
            services.metadata.do_send(Stop);
            let _ = services.clock.send(Stop).await;
            let outcomes = closing.counts.so_far();
            let closed = match (closing.gone, in_vain) {
                (Some(gone), _) => Err(gone),
                (None, Some(in_vain)) => Err(in_vain(outcomes)),
                (None, None) => Ok(outcomes),
            };
            for reply in closing.replies {
                let _ = reply.send(closed);
            }
            if let Some(ended) = ended {
                ended.send_replace(Some(closed));
            }
        };
        // This actor stops too. A future of its own would be dropped with it.
        actix_rt::spawn(polled(HeldUp::Runtime, stopping));
        ctx.stop();
    }
}

impl On<Flush> for RuntimeActor {
    fn on(&mut self, flush: Flush, _: &mut Context<Self>) {
        self.barrier(flush);
    }
}

impl On<Close> for RuntimeActor {
    fn on(&mut self, close: Close, ctx: &mut Context<Self>) {
        self.close(close, None, ctx);
    }
}

impl On<LastHandleDropped> for RuntimeActor {
    fn on(&mut self, _: LastHandleDropped, ctx: &mut Context<Self>) {
        self.drain(ctx);
    }
}
