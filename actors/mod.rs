//! The actors: one file each. An actor owns a piece of state from `src/`, turns messages into
//! calls and calls into messages, and decides nothing itself.
//!
//! ```text
//!  callers ──▶ stage ──▶ bell ─ WakeSender, Tick ─▶ SenderActor ──▶ socket
//!                │                            │  ▲  │
//!                │ Wake                  Take │  │  │ LoanReturned
//!                │                            ▼  │  ▼
//!                └──────────────────────▶ PartitionActor
//!                                      (Offer(loan), or Ready)
//! ```

mod clock;
mod delivery;
mod guard;
mod identity;
pub(crate) mod lifecycle;
mod loan;
mod metadata;
mod partition;
mod pool;
mod runtime;
mod sender;

pub(crate) use delivery::ToRecipient;
#[cfg(feature = "internals")]
pub(crate) use guard::faults;
pub(crate) use metadata::{MetadataActor, RefreshMetadata, WantTopic};
pub(crate) use partition::WakePartition;
pub use partition::{PartitionActor, SendRecord};
pub(crate) use pool::{LeaseMemory, PoolActor, Refusal};
pub(crate) use runtime::{
    Close, Flush, GetFigures, LastHandleDropped, Runtime, RuntimeActor, Subscribe,
};

use std::time::Instant;

/// The time as the runtime's arbiter has it: tokio's, so that tests may pause it.
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
