//! The PoolActor: grants memory, takes it back, and keeps the queue of waiting requests.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use tokio::sync::oneshot;

use super::clock::{Alarm, ClockActor};
use super::guard::{Guard, Guarded, On, guarded};
use super::messages::*;
use super::now;
use crate::core::memory::{Budget, Buffer, Collected, Lease, Refusal, Shelf};
use crate::meters::PoolMeters;

type Ticket = (oneshot::Sender<Result<Buffer, Refusal>>, Instant);

fn has_left((reply, ..): &Ticket) -> bool {
    reply.is_closed()
}

/// Owns the budget.
pub(crate) struct PoolActor {
    guard: Guard,
    budget: Budget<Ticket>,
    shelf: Arc<Shelf>,
    clock: Addr<ClockActor>,
    runtime: Recipient<Pressure>,
    alarm: Alarm,
    /// When memory is looked at next that is kept for nothing.
    trims_at: Option<Instant>,
    meters: Arc<PoolMeters>,
}

/// After so long memory that was kept for nothing is freed.
const TRIM: Duration = Duration::from_secs(1);

impl PoolActor {
    pub fn new(
        total: usize,
        pooled: usize,
        shelf: Arc<Shelf>,
        (clock, runtime): (Addr<ClockActor>, Recipient<Pressure>),
        meters: Arc<PoolMeters>,
        guard: Guard,
    ) -> Self {
        let budget = Budget::new(total, pooled, shelf.size());
        Self {
            guard,
            budget,
            shelf,
            clock,
            runtime,
            alarm: Alarm::default(),
            trims_at: None,
            meters,
        }
    }

    fn resync(&mut self, ctx: &mut Context<Self>) {
        self.alarm = Alarm::default();
        self.trims_at = None;
        self.serve(now(), ctx);
    }

    fn close(&mut self) {
        self.shelf.close();
        for (reply, ..) in self.budget.close() {
            let _ = reply.send(Err(Refusal::Closed));
        }
    }

    fn waited(&self, asked: Instant, in_vain: bool) {
        let time = now().saturating_duration_since(asked);
        self.shelf.count_wait(time, in_vain);
        self.meters.waited(time, in_vain);
    }

    /// Takes back the buffers that have come back.
    fn collect(&mut self, now: Instant) {
        let Collected { returned, charged } = self.shelf.collect();
        self.budget.charge(charged);
        for (bytes, size) in returned {
            self.budget.reclaim(bytes, size);
        }
        self.budget.look(self.shelf.waiting(), now);
    }

    /// Takes back what has come back, and grants what can be granted.
    fn serve(&mut self, now: Instant, ctx: &mut Context<Self>) {
        self.collect(now);
        self.grant(now, ctx);
    }

    /// Frees memory that was kept for nothing, if it is time to, and looks again later if there may be more.
    fn trim(&mut self, now: Instant, ctx: &Context<Self>) {
        if self.trims_at.take_if(|at| *at <= now).is_some() {
            self.budget.trim();
        }
        if self.trims_at.is_none() && self.budget.trims_later(self.shelf.idle_bytes()) {
            let at = now + TRIM;
            self.trims_at = Some(at);
            self.alarm.set(&self.clock, at, || Arc::new(ctx.address()));
        }
    }

    /// Serves the waiting requests. If none wait, fills the shelf.
    fn grant(&mut self, now: Instant, ctx: &mut Context<Self>) {
        while let Some(((reply, asked), bytes)) = self.budget.next_grant(now, has_left) {
            self.waited(asked, false);
            // If the caller gives up at this very moment, the buffer is dropped. It comes back to
            // the shelf and is collected in the next round.
            let _ = reply.send(Ok(self.shelf.buffer(bytes)));
        }
        self.budget.tidy(self.shelf.callers(), has_left);
        let waiting = self.budget.waiting() > 0;
        let scarce = self.budget.is_scarce(self.shelf.is_scarce());
        self.shelf.set_scarce(scarce);
        let exhausted = self.budget.is_exhausted();
        if exhausted != self.shelf.pressure() {
            self.shelf.set_pressure(exhausted);
            if exhausted {
                self.runtime.do_send(Pressure);
                // The buffers on the shelf now belong to the waiting requests. Collect them.
                ctx.notify(Restock);
            }
        }
        if waiting {
            let (deadline, quantum) = (self.budget.next_deadline(), self.budget.next_quantum());
            if let Some(at) = deadline.into_iter().chain(quantum).min() {
                self.alarm.set(&self.clock, at, || Arc::new(ctx.address()));
            }
        } else {
            for _ in 0..self.shelf.room() {
                match self.budget.ahead() {
                    Some(bytes) => self.shelf.stock_up(bytes),
                    None => break,
                }
            }
            let (credit, small) = self.budget.credit(self.shelf.credit_room());
            self.shelf.add_credit(credit, small);
        }
        if self.shelf.set_awaited(self.budget.awaited()) {
            ctx.notify(Restock);
        }
        self.trim(now, ctx);
    }
}

impl Sleeper for Addr<PoolActor> {}

impl Drop for PoolActor {
    fn drop(&mut self) {
        self.meters.ended();
    }
}

impl Actor for PoolActor {
    type Context = Context<Self>;
}

guarded!(PoolActor: LeaseMemory, Restock, Tick, Resync);

impl Guarded for PoolActor {
    fn guard(&mut self) -> &mut Guard {
        &mut self.guard
    }

    /// The counts are still right: each grant and each reclaim is a single step. A request that was
    /// lost in the panic is repeated by its caller.
    fn restart(&mut self, ctx: &mut Context<Self>) -> usize {
        self.resync(ctx);
        0
    }

    fn fail(&mut self, _: &Arc<str>, _: &mut Context<Self>) {
        self.close();
    }
}

impl On<Resync> for PoolActor {
    fn on(&mut self, _: Resync, ctx: &mut Context<Self>) {
        self.resync(ctx);
    }
}

impl On<LeaseMemory> for PoolActor {
    fn on(&mut self, message: LeaseMemory, ctx: &mut Context<Self>) {
        let LeaseMemory {
            size,
            deadline,
            reply,
        } = message;
        let now = now();
        self.collect(now);
        match self.budget.lease(size, deadline, (reply, now)) {
            Lease::Granted(bytes, (reply, ..)) => {
                let _ = reply.send(Ok(self.shelf.buffer(bytes)));
            }
            Lease::Parked => {}
            Lease::TooLarge((reply, ..)) => drop(reply.send(Err(Refusal::TooLarge))),
            Lease::Closed((reply, ..)) => drop(reply.send(Err(Refusal::Closed))),
        }
        self.grant(now, ctx);
    }
}

impl On<Restock> for PoolActor {
    fn on(&mut self, _: Restock, ctx: &mut Context<Self>) {
        self.serve(now(), ctx);
    }
}

impl On<Tick> for PoolActor {
    fn on(&mut self, _: Tick, ctx: &mut Context<Self>) {
        self.alarm.rang();
        // Grant what is available before any request is refused.
        let now = now();
        self.serve(now, ctx);
        let expired = self.budget.expire(now);
        let any = !expired.is_empty();
        for (reply, asked) in expired {
            let in_vain = reply.send(Err(Refusal::TimedOut)).is_ok();
            self.waited(asked, in_vain);
        }
        if any {
            self.serve(now, ctx); // the requests after them
        }
    }
}

impl Handler<GetPoolState> for PoolActor {
    type Result = PoolState;

    fn handle(&mut self, _: GetPoolState, ctx: &mut Context<Self>) -> PoolState {
        self.serve(now(), ctx);
        PoolState {
            available: self.budget.available() + self.shelf.idle_bytes(),
        }
    }
}

impl Handler<Stop> for PoolActor {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Context<Self>) {
        self.close();
        ctx.stop();
    }
}
