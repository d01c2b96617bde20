//! Calls code of the application, and knows what that code must not wait for meanwhile.
//!
//! Code that waits for the runtime, on a thread that the runtime needs for the answer, would wait for
//! ever. So what forebay's own futures would wait for is refused while such code runs.

use std::cell::Cell;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Waker;

use crate::core::panics;

/// What a thread does while code of the application runs on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeldUp {
    /// Nothing of the runtime.
    Nothing,
    /// It tells outcomes, and nothing else of the runtime.
    Delivery,
    /// It runs the actors.
    Runtime,
}

thread_local! {
    static HELD_UP: Cell<HeldUp> = const { Cell::new(HeldUp::Nothing) };
}

/// What the code that runs on this thread holds up.
pub fn held_up() -> HeldUp {
    HELD_UP.get()
}

/// Whether this thread calls code of the application, and must not wait.
pub fn must_not_wait() -> bool {
    held_up() != HeldUp::Nothing
}

/// Whether no record can get its outcome until the code that runs on this thread returns.
pub fn holds_up_runtime() -> bool {
    held_up() == HeldUp::Runtime
}

/// Puts back what stood there before, also after a panic.
struct Restore(HeldUp);

impl Drop for Restore {
    fn drop(&mut self) {
        HELD_UP.set(self.0);
    }
}

/// Runs `code` as one that holds up `held_up`.
pub fn holding_up<R>(held_up: HeldUp, code: impl FnOnce() -> R) -> R {
    let _restore = Restore(HELD_UP.replace(held_up));
    code()
}

/// Calls code of the application. A panic in it is logged.
pub fn shielded(what: &'static str, code: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(code)) {
        tracing::error!(what, panic = panics::message(&*panic), "user code panicked");
    }
}

/// Wakes. The waker may be anybody's, so who waits behind it is woken all the same. If it polls at once,
/// that is a task of its own, which may wait.
pub fn wake(waker: Waker) {
    shielded("a waker", || holding_up(HeldUp::Nothing, || waker.wake()));
}

/// Polls a future as code that holds up `held_up`. One that holds up nothing may wait.
pub async fn polled<F: Future>(held_up: HeldUp, future: F) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|context| holding_up(held_up, || future.as_mut().poll(context))).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behind_a_panic_a_thread_may_wait_again() {
        let panics = || holding_up(HeldUp::Delivery, || panic!("expected"));
        shielded("a test", || holding_up(HeldUp::Runtime, panics));
        assert!(!must_not_wait());
    }

    #[test]
    fn code_within_code_holds_up_what_it_is_said_to() {
        holding_up(HeldUp::Runtime, || {
            assert!(must_not_wait() && holds_up_runtime());
            holding_up(HeldUp::Delivery, || {
                assert!(must_not_wait() && !holds_up_runtime());
            });
            assert!(holds_up_runtime());
        });
    }
}
