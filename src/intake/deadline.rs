//! Deadlines of callers. They hold though the runtime does not answer, and on any executor.
//!
//! As a rule the runtime answers in time, and these timers are dropped unheard. A thread of the process
//! keeps them. It begins with the first wait, and ends once nobody has waited for a while.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use crate::core::user_code::{self, HeldUp, holding_up};

/// How much later than the runtime itself a caller gives up. The runtime knows more of the reasons.
pub(crate) const GRACE: Duration = Duration::from_millis(500);

/// How long the thread stays without any timer.
const IDLE: Duration = Duration::from_secs(10);

/// Why nothing came of a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    /// It was asked for in code that the runtime calls, and such code must not wait.
    InCallback,
    TimedOut,
}

/// Waits for `answer`, and until `deadline` at most. Without a deadline, for as long as it takes.
pub(crate) async fn answer_by<F: Future>(
    answer: F,
    deadline: Option<Instant>,
    now: impl Fn() -> Instant,
) -> Result<F::Output, NoAnswer> {
    let mut answer = pin!(answer);
    let mut timer = Timer::default();
    poll_fn(|context| {
        if let Poll::Ready(answer) = answer.as_mut().poll(context) {
            return Poll::Ready(Ok(answer));
        }
        if user_code::must_not_wait() {
            return Poll::Ready(Err(NoAnswer::InCallback));
        }
        let Some(deadline) = deadline else {
            return Poll::Pending;
        };
        match deadline.checked_duration_since(now()) {
            Some(left) if !left.is_zero() => {
                timer.set(left, context);
                Poll::Pending
            }
            _ => Poll::Ready(Err(NoAnswer::TimedOut)),
        }
    })
    .await
}

/// When, and a number that makes it unique.
type Key = (Instant, u64);

/// Wakes somebody later. It is taken back by its drop.
#[derive(Debug, Default)]
pub(crate) struct Timer(Option<Key>);

impl Timer {
    /// Wakes `waker` once, after `left`.
    pub fn after(left: Duration, waker: Waker) -> Self {
        Self(TIMERS.insert(left, waker))
    }

    fn set(&mut self, left: Duration, context: &Context<'_>) {
        if !self.0.is_some_and(|key| TIMERS.wakes(key, context.waker())) {
            *self = Self::after(left, context.waker().clone());
        }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        if let Some(key) = self.0 {
            // The waker is dropped without the lock.
            let _waker = TIMERS.state().wakers.remove(&key);
        }
    }
}

struct Timers {
    state: Mutex<State>,
    sooner: Condvar,
}

struct State {
    wakers: BTreeMap<Key, Waker>,
    next: u64,
    /// When the thread looks at the timers again by itself. `None`: there is no thread.
    looks_at: Option<Instant>,
}

static TIMERS: Timers = Timers {
    state: Mutex::new(State {
        wakers: BTreeMap::new(),
        next: 0,
        looks_at: None,
    }),
    sooner: Condvar::new(),
};

impl Timers {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic happens under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this timer is still to come, and wakes the same task.
    fn wakes(&self, key: Key, waker: &Waker) -> bool {
        let state = self.state();
        state.wakers.get(&key).is_some_and(|it| it.will_wake(waker))
    }

    fn insert(&'static self, left: Duration, waker: Waker) -> Option<Key> {
        let now = clock();
        let at = now.checked_add(left)?;
        let mut state = self.state();
        let key = (at, state.next);
        state.next += 1;
        state.wakers.insert(key, waker);
        match state.looks_at {
            Some(looks_at) if looks_at <= at => return Some(key),
            Some(_) => self.sooner.notify_one(),
            None => {
                let named = thread::Builder::new().name("forebay deadlines".to_owned());
                // What is logged there may not wait for a deadline.
                match named.spawn(|| holding_up(HeldUp::Runtime, || self.keep())) {
                    Ok(_) => {}
                    // The runtime's own deadlines hold all the same.
                    Err(error) => {
                        drop(state);
                        tracing::warn!(%error, "no thread for callers' deadlines");
                        return Some(key);
                    }
                }
            }
        }
        state.looks_at = Some(at);
        Some(key)
    }

    fn keep(&self) {
        let mut state = self.state();
        loop {
            let now = clock();
            // One by one: to split the map at `now` would count all that stay.
            let mut due = Vec::new();
            while let Some(first) = state.wakers.first_entry()
                && first.key().0 <= now
            {
                due.push(first.remove());
            }
            if !due.is_empty() {
                drop(state);
                for waker in due {
                    user_code::wake(waker);
                }
                state = self.state();
                continue;
            }
            let next = state.wakers.keys().next().map(|(at, _)| *at);
            let wait = next.map_or(IDLE, |at| at.saturating_duration_since(now));
            state.looks_at = Some(now + wait);
            let (waited, timeout) = self
                .sooner
                .wait_timeout(state, wait)
                .unwrap_or_else(PoisonError::into_inner);
            state = waited;
            if timeout.timed_out() && state.wakers.is_empty() {
                state.looks_at = None;
                return;
            }
        }
    }
}

/// The clock of the machine: a paused one would keep a caller waiting whose runtime is stuck.
#[expect(
    clippy::disallowed_methods,
    reason = "a deadline that has to hold without the runtime cannot ask its clock"
)]
fn clock() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::sync::Arc;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::task::Wake;

    use super::*;

    struct Bell(Sender<&'static str>, &'static str);

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            let _ = self.0.send(self.1);
        }
    }

    fn bells() -> (impl Fn(&'static str) -> Waker, Receiver<&'static str>) {
        let (ring, rung) = channel();
        let bell = move |name| Arc::new(Bell(ring.clone(), name)).into();
        (bell, rung)
    }

    #[test]
    fn alarms_ring_in_the_order_of_time_and_not_once_they_are_dropped() {
        let (bell, rung) = bells();
        let millis = Duration::from_millis;
        let last = Timer::after(millis(60), bell("last"));
        let dropped = Timer::after(millis(20), bell("dropped"));
        let first = Timer::after(millis(10), bell("first"));
        let never = Timer::after(Duration::MAX, bell("never"));
        drop(dropped);
        let next = || {
            rung.recv_timeout(Duration::from_secs(30))
                .expect("it rings")
        };
        assert_eq!([next(), next()], ["first", "last"]);
        drop((first, last, never));
        assert!(rung.try_recv().is_err());
    }

    fn poll<F: Future>(waiting: F) -> Poll<F::Output> {
        pin!(waiting).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_wait_ends_at_its_deadline_and_not_before() {
        let start = clock();
        let at = |millis| move || start + Duration::from_millis(millis);
        let deadline = Some(start + Duration::from_millis(100));
        let waits = |now| poll(answer_by(pending::<()>(), deadline, at(now)));
        assert_eq!(waits(99), Poll::Pending);
        assert_eq!(waits(100), Poll::Ready(Err(NoAnswer::TimedOut)));
        let answered = poll(answer_by(ready(1), deadline, at(100)));
        assert_eq!(answered, Poll::Ready(Ok(1)), "what is there counts");
    }

    #[test]
    fn where_nothing_may_wait_only_what_is_there_is_had() {
        holding_up(HeldUp::Delivery, || {
            let waits = poll(answer_by(pending::<()>(), None, clock));
            assert_eq!(waits, Poll::Ready(Err(NoAnswer::InCallback)));
            assert_eq!(poll(answer_by(ready(1), None, clock)), Poll::Ready(Ok(1)));
        });
        assert_eq!(poll(answer_by(pending::<()>(), None, clock)), Poll::Pending);
    }
}
