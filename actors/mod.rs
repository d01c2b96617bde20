//! The actors: one file each. An actor owns a piece of state from `src/core`, turns messages into
//! calls and calls into messages, and decides nothing itself.
//!
//! ```text
//!  callers ──▶ stage ──▶ ready queue ─ WakeSender, Tick ─▶ SenderActor ──▶ socket
//!                │                                           │  ▲  │
//!                │ WakePartition                        Take │  │  │ LoanReturned
//!                │                                           ▼  │  ▼
//!                └───────────────────────────────────────▶ PartitionActor
//!                                                     (Offer(loan), or Ready)
//! ```
//!
//! Their protocol stands on one page: `messages.rs`.

mod backend;
mod clock;
mod delivery;
mod guard;
mod identity;
pub(crate) mod lifecycle;
mod messages;
mod metadata;
mod partition;
mod pool;
mod runtime;
mod sender;
mod services;

pub(crate) use delivery::ToRecipient;
#[cfg(feature = "internals")]
pub(crate) use guard::faults;
pub(crate) use messages::{Close, Flush, GetFigures, LastHandleDropped, Subscribe};
pub(crate) use metadata::MetadataActor;
pub use partition::{PartitionActor, SendRecord};
pub(crate) use pool::PoolActor;
pub(crate) use runtime::{GetPartition, Runtime, RuntimeActor, RuntimeSpec};

use std::time::Instant;

/// The time as the runtime's arbiter has it: tokio's, so that tests may pause it.
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
