//! Memory for batches: which callers get it, which ones wait, and how it comes back.
//!
//! [`Budget`] holds the rules of `buffer.memory`, with waiters in the order of their requests. It
//! belongs to the PoolActor. [`Shelf`] lets callers avoid the PoolActor in the usual case: they
//! take buffers that were granted in advance, and the last owner of a buffer puts it back, both
//! without a message.

mod budget;
mod pace;
mod shelf;
mod sizes;

pub(crate) use budget::Refusal;
pub use budget::{Budget, Lease};
#[cfg(any(test, feature = "internals"))]
pub use shelf::blank;
pub use shelf::{Buffer, Shelf};
pub(crate) use shelf::{Collected, MemoryObserver};
pub(crate) use sizes::Sizes;
