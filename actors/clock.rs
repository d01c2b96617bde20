//! Every deadline of the runtime, in one heap.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Instant;

use actix::prelude::*;

use super::guard::{Guard, Guarded, On, guarded, watch_over};
use super::identity::IdentityActor;
use super::loan::PartitionAddr;
use super::sender::{SenderActor, WakeSender};
use super::{MetadataActor, PoolActor, WakePartition, now};

/// A deadline that was asked for has passed. It may be late, and it may have lost its reason
/// meanwhile: whoever gets it looks at his own state.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Tick;

/// Who is to get a [`Tick`].
#[derive(Clone)]
pub(crate) enum Sleeper {
    Partition(PartitionAddr),
    Sender(Addr<SenderActor>),
    Pool(Addr<PoolActor>),
    Metadata(Addr<MetadataActor>),
    Identity(Addr<IdentityActor>),
    #[cfg(test)]
    Test(Recipient<Tick>),
}

impl Sleeper {
    fn wake(self) {
        match self {
            Self::Partition(addr) => addr.do_send(Tick),
            Self::Sender(addr) => addr.do_send(Tick),
            Self::Pool(addr) => addr.do_send(Tick),
            Self::Metadata(addr) => addr.do_send(Tick),
            Self::Identity(addr) => addr.do_send(Tick),
            #[cfg(test)]
            Self::Test(recipient) => recipient.do_send(Tick),
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

/// Memory is used up, and somebody waits: partitions need not wait for their linger any more.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Pressure;

/// The ticks that an actor has asked for and not yet got, the latest first. It asks for no second
/// one at the same time or later, also when an earlier one has come meanwhile: else every linger
/// would leave a deadline behind in the clock.
#[derive(Debug, Default)]
pub(crate) struct Alarm(Vec<Instant>);

impl Alarm {
    /// Asks the clock for a tick, unless one comes by then anyway.
    pub fn set(&mut self, clock: &Addr<ClockActor>, at: Instant, who: impl FnOnce() -> Sleeper) {
        if self.0.last().is_none_or(|next| at < *next) {
            self.0.push(at);
            clock.do_send(WakeAt { at, who: who() });
        }
    }

    /// A tick has come: the earliest, since the clock rings in order.
    pub fn rang(&mut self) {
        self.0.pop();
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
pub(crate) struct ClockActor {
    guard: Guard,
    heap: BinaryHeap<Reverse<Entry>>,
    timer: Option<(Instant, SpawnHandle)>,
}

impl Actor for ClockActor {
    type Context = Context<Self>;
}

guarded!(ClockActor: WakeAt, Pressure);

impl Guarded for ClockActor {
    fn guard(&mut self) -> &mut Guard {
        &mut self.guard
    }

    /// Everybody is told to set his alarms anew, so nothing here has to be kept.
    fn restart(&mut self, ctx: &mut Context<Self>) -> usize {
        self.heap.clear();
        if let Some((_, handle)) = self.timer.take() {
            ctx.cancel_future(handle);
        }
        0
    }

    fn fail(&mut self, _: &Arc<str>, ctx: &mut Context<Self>) {
        self.restart(ctx);
    }
}

impl ClockActor {
    pub fn new(guard: Guard) -> Self {
        let (heap, timer) = (BinaryHeap::new(), None);
        Self { guard, heap, timer }
    }

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
            watch_over(clock, ctx, |clock, ctx| {
                clock.timer = None;
                #[cfg(feature = "internals")]
                super::guard::faults::strike::<Self, super::guard::faults::Timer>();
                clock.ring(ctx);
            });
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

impl On<WakeAt> for ClockActor {
    fn on(&mut self, WakeAt { at, who }: WakeAt, ctx: &mut Context<Self>) {
        self.heap.push(Reverse(Entry { at, who }));
        self.rearm(ctx);
    }
}

impl On<Pressure> for ClockActor {
    fn on(&mut self, _: Pressure, _: &mut Context<Self>) {
        // Whoever waits for the linger of an open batch has an alarm here.
        for Reverse(entry) in &self.heap {
            match &entry.who {
                Sleeper::Partition(partition) => partition.do_send(WakePartition),
                Sleeper::Sender(sender) => sender.do_send(WakeSender),
                _ => {}
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::actors::guard::Watch;
    use crate::core::supervision::Component;

    impl Handler<Deadlines> for ClockActor {
        type Result = usize;

        fn handle(&mut self, _: Deadlines, _: &mut Context<Self>) -> usize {
            self.heap.len()
        }
    }

    #[derive(Message)]
    #[rtype(result = "usize")]
    struct Deadlines;

    struct Nobody;

    impl Actor for Nobody {
        type Context = Context<Self>;
    }

    impl Handler<Tick> for Nobody {
        type Result = ();

        fn handle(&mut self, _: Tick, _: &mut Context<Self>) {}
    }

    #[actix::test]
    async fn a_later_deadline_is_not_asked_for_again_with_every_earlier_one() {
        let guard = Watch::new(0, Duration::ZERO).guard(Component::Clock);
        let clock = ClockActor::new(guard).start();
        let nobody = Nobody.start();
        let mut alarm = Alarm::default();
        let start = now() + Duration::from_secs(60);
        for batch in 0..100 {
            let opened = start + Duration::from_millis(10 * batch);
            let who = || Sleeper::Test(nobody.clone().recipient());
            alarm.set(&clock, opened + Duration::from_millis(5), who);
            // The linger's tick comes; what is left is the delivery timeout.
            alarm.rang();
            alarm.set(&clock, opened + Duration::from_secs(120), who);
        }
        let lingers = 100;
        assert_eq!(clock.send(Deadlines).await.expect("alive"), lingers + 1);
    }
}
