//! The actors, one file each. An actor owns a piece of state from `src/core`. It turns messages
//! into calls of that state, and the results into messages. The decisions are made in `src/core`.
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
//! `messages.rs` has all messages between them.

mod backend;
mod clock;
mod delivery;
mod fence;
mod guard;
mod identity;
pub(crate) mod lifecycle;
mod lookup;
mod messages;
mod metadata;
mod partition;
mod pool;
mod runtime;
pub(crate) mod security;
mod sender;
mod services;
mod spool;
mod transaction;

pub(crate) use delivery::{DeliveryActor, DeliveryElsewhere, ToRecipient};
#[cfg(feature = "internals")]
pub(crate) use guard::faults;
pub(crate) use messages::{
    BeginTransaction, Close, Closed, Flush, GetFigures, LastHandleDropped, OpenTransaction,
    SendOffsets, Subscribe, WaitForResumed, WaitsForEnd,
};
pub(crate) use metadata::MetadataActor;
pub use partition::{PartitionActor, SendInTransaction, SendRecord};
pub(crate) use pool::PoolActor;
#[cfg(any(feature = "cli", feature = "internals"))]
pub(crate) use runtime::connect_options;
pub(crate) use runtime::{GetPartition, Runtime, RuntimeActor, RuntimeSpec, open_spool};
pub(crate) use transaction::TransactionActor;

use std::time::Instant;

/// The present time by tokio's clock, which tests can pause.
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
