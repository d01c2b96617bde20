//! Memory: one budget, pooled buffers of `batch.size`, waiters first in, first out.
//!
//! [`Budget`] holds the rules and belongs to the PoolActor. [`Shelf`] is the counter in front of
//! it: callers take buffers that were granted ahead, and a buffer's last owner puts it back, both
//! without a message.

mod budget;
mod pace;
mod shelf;

pub use budget::{Budget, Lease};
#[cfg(any(test, feature = "internals"))]
pub use shelf::blank;
pub(crate) use shelf::first_size;
pub use shelf::{Buffer, Shelf};
