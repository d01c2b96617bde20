//! Every deadline of the runtime, in one heap.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::time::Instant;

use actix::prelude::*;

use super::identity::IdentityActor;
use super::{MetadataActor, PartitionActor, PoolActor, now, sender::SenderActor};

/// A deadline that was asked for has passed. It may be late, and it may have lost its reason
/// meanwhile: whoever gets it looks at his own state.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Tick;

/// Who is to get a [`Tick`].
#[derive(Clone)]
pub(crate) enum Sleeper {
    Partition(Addr<PartitionActor>),
    Sender(Addr<SenderActor>),
    Pool(Addr<PoolActor>),
    Metadata(Addr<MetadataActor>),
    Identity(Addr<IdentityActor>),
}

impl Sleeper {
    fn wake(self) {
        match self {
            Self::Partition(addr) => addr.do_send(Tick),
            Self::Sender(addr) => addr.do_send(Tick),
            Self::Pool(addr) => addr.do_send(Tick),
            Self::Metadata(addr) => addr.do_send(Tick),
            Self::Identity(addr) => addr.do_send(Tick),
        }
    }
}

/// Asks for a [`Tick`] at a time. Never cancelled: a tick too many costs a look.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct WakeAt {
    pub at: Instant,
    pub who: Sleeper,
}

/// Somebody waits for memory: partitions need not wait for their linger any more.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Pressure;

/// The ticks an actor has asked for, so that it asks for none that one coming earlier makes
/// needless: few stand here at any time, a near one for the linger, a far one for a time-out.
#[derive(Debug, Default)]
pub(crate) struct Alarm(Vec<Instant>);

impl Alarm {
    /// Asks the clock for a tick, unless one comes by then anyway.
    pub fn set(&mut self, clock: &Addr<ClockActor>, at: Instant, who: impl FnOnce() -> Sleeper) {
        if self.0.iter().all(|set| at < *set) {
            self.0.push(at);
            clock.do_send(WakeAt { at, who: who() });
        }
    }

    /// A tick has come.
    pub fn rang(&mut self) {
        let now = now();
        self.0.retain(|set| *set > now);
    }
}

struct Entry {
    at: Instant,
    who: Sleeper,
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        self.at.cmp(&other.at)
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Entry {}

/// Owns the heap of deadlines and one timer.
#[derive(Default)]
pub(crate) struct ClockActor {
    heap: BinaryHeap<Reverse<Entry>>,
    timer: Option<(Instant, SpawnHandle)>,
}

impl Actor for ClockActor {
    type Context = Context<Self>;
}

impl ClockActor {
    fn rearm(&mut self, ctx: &mut Context<Self>) {
        let Some(Reverse(next)) = self.heap.peek() else {
            return;
        };
        if self.timer.as_ref().is_some_and(|(at, _)| *at <= next.at) {
            return;
        }
        if let Some((_, handle)) = self.timer.take() {
            ctx.cancel_future(handle);
        }
        let at = next.at;
        let wait = at.saturating_duration_since(now());
        let handle = ctx.run_later(wait, |clock, ctx| {
            clock.timer = None;
            clock.ring(ctx);
        });
        self.timer = Some((at, handle));
    }

    fn ring(&mut self, ctx: &mut Context<Self>) {
        let now = now();
        while self.heap.peek().is_some_and(|Reverse(next)| next.at <= now) {
            if let Some(Reverse(entry)) = self.heap.pop() {
                entry.who.wake();
            }
        }
        self.rearm(ctx);
    }
}

impl Handler<WakeAt> for ClockActor {
    type Result = ();

    fn handle(&mut self, WakeAt { at, who }: WakeAt, ctx: &mut Context<Self>) {
        self.heap.push(Reverse(Entry { at, who }));
        self.rearm(ctx);
    }
}

impl Handler<Pressure> for ClockActor {
    type Result = ();

    fn handle(&mut self, _: Pressure, _: &mut Context<Self>) {
        // Every partition with an open batch has an alarm here.
        for Reverse(entry) in &self.heap {
            if let Sleeper::Partition(partition) = &entry.who {
                partition.do_send(Tick);
            }
        }
    }
}

/// The producer ends.
#[derive(Message, Clone, Copy)]
#[rtype(result = "()")]
pub(crate) struct Stop;

impl Handler<Stop> for ClockActor {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}
