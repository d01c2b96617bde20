//! Panics at chosen messages, for tests that run all actors on the test's thread.

use std::any::type_name;
use std::cell::RefCell;

thread_local! {
    static PLANS: RefCell<Vec<Plan>> = const { RefCell::new(Vec::new()) };
    static EACH: RefCell<Option<Each>> = const { RefCell::new(None) };
}

/// A function that gets the names of the actor and of the message.
type Each = Box<dyn FnMut(&'static str, &'static str)>;

/// Calls `each` before every message on this thread from now on. It may panic.
pub fn at_each(each: impl FnMut(&'static str, &'static str) + 'static) {
    EACH.set(Some(Box::new(each)));
}

/// Ends [`at_each`].
pub fn at_none() {
    EACH.set(None);
}

/// Names for what is not a message: a future of an actor, the handling of its output, a timer, the
/// connection's task.
pub(crate) struct Spawned;
pub(crate) struct Finished;
pub(crate) struct Timer;
pub(crate) struct Link;

struct Plan {
    at: String,
    every: u32,
    most: u32,
    seen: u32,
    struck: u32,
}

/// Makes every `every`th message named `at` panic in its handler, at most `most` times. Without
/// that limit it could go on for ever, because a restart makes other actors send their messages
/// again. `Actor:*` means all messages of an actor.
pub fn plan(at: &str, every: u32, most: u32) {
    let plan = Plan {
        at: at.to_owned(),
        every,
        most,
        seen: 0,
        struck: 0,
    };
    PLANS.with_borrow_mut(|plans| plans.push(plan));
}

/// Ends all plans. Returns how many panics each of them caused.
pub fn stop() -> Vec<u32> {
    PLANS.take().iter().map(|plan| plan.struck).collect()
}

pub(crate) fn strike<A, M>() {
    let name = |full: &'static str| full.rsplit("::").next().unwrap_or(full);
    let (actor, message) = (name(type_name::<A>()), name(type_name::<M>()));
    EACH.with_borrow_mut(|each| {
        if let Some(each) = each {
            each(actor, message);
        }
    });
    let struck = PLANS.with_borrow_mut(|plans| {
        plans.iter_mut().any(|plan| {
            let at = plan.at.split_once(':');
            if !at.is_some_and(|(a, m)| a == actor && (m == "*" || m == message)) {
                return false;
            }
            plan.seen += 1;
            let strikes = plan.seen.is_multiple_of(plan.every) && plan.struck < plan.most;
            plan.struck += u32::from(strikes);
            strikes
        })
    });
    assert!(!struck, "injected at {actor}:{message}");
}
