//! The ClockActor: keeps all deadlines of the runtime in one heap, and wakes the actors that wait
//! for them.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Instant;

use actix::prelude::*;

use super::guard::{self, Guard, Guarded, On, guarded};
use super::messages::{Sleeper, Stop, Tick, WakeAt};
use super::now;

/// The ticks that one actor has asked for and not received yet, the latest first. It asks for
/// another tick only if that is earlier than all of them. Otherwise every linger would leave one
/// more deadline in the clock.
#[derive(Debug, Default)]
pub(crate) struct Alarm(Vec<Instant>);

impl Alarm {
    /// Asks the clock for a tick at `at`, unless another one arrives by then anyway.
    pub fn set(
        &mut self,
        clock: &Addr<ClockActor>,
        at: Instant,
        who: impl FnOnce() -> Arc<dyn Sleeper>,
    ) {
        if self.0.last().is_none_or(|next| at < *next) {
            self.0.push(at);
            clock.do_send(WakeAt { at, who: who() });
        }
    }

    /// Notes that a tick arrived. It is the earliest, since the clock sends them in order.
    pub fn rang(&mut self) {
        self.0.pop();
    }
}

struct Entry {
    at: Instant,
    who: Arc<dyn Sleeper>,
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

guarded!(ClockActor: WakeAt);

impl Guarded for ClockActor {
    fn guard(&mut self) -> &mut Guard {
        &mut self.guard
    }

    /// Nothing has to be kept: all actors are told to set their alarms again.
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
        let handle = guard::later(ctx, wait, |clock: &mut Self, ctx| {
            clock.timer = None;
            clock.send_due_ticks(ctx);
        });
        self.timer = Some((at, handle));
    }

    fn send_due_ticks(&mut self, ctx: &mut Context<Self>) {
        let now = now();
        while self.heap.peek().is_some_and(|Reverse(next)| next.at <= now) {
            if let Some(Reverse(entry)) = self.heap.pop() {
                entry.who.do_send(Tick);
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

    struct Idle;

    impl Actor for Idle {
        type Context = Context<Self>;
    }

    impl Handler<Tick> for Idle {
        type Result = ();

        fn handle(&mut self, _: Tick, _: &mut Context<Self>) {}
    }

    impl Sleeper for Addr<Idle> {}

    #[actix::test]
    async fn a_later_deadline_is_not_asked_for_again_with_every_earlier_one() {
        let guard = Watch::new(0, Duration::ZERO, None).guard(Component::Clock);
        let clock = ClockActor::new(guard).start();
        let idle = Idle.start();
        let mut alarm = Alarm::default();
        let start = now() + Duration::from_secs(60);
        for batch in 0..100 {
            let opened = start + Duration::from_millis(10 * batch);
            let who = || Arc::new(idle.clone()) as Arc<dyn Sleeper>;
            alarm.set(&clock, opened + Duration::from_millis(5), who);
            // The tick for the linger arrives. The one for the delivery timeout remains.
            alarm.rang();
            alarm.set(&clock, opened + Duration::from_secs(120), who);
        }
        let lingers = 100;
        assert_eq!(clock.send(Deadlines).await.expect("alive"), lingers + 1);
    }
}
