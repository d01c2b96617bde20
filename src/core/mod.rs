//! The rules of the producer, as plain synchronous structs. They take the time as an argument and
//! return what has to be done.
//!
//! Invariant: nothing in here uses actix, tokio, a clock, a thread or an actor. So a test can call
//! each rule in a simple loop. `tests/structure` checks all imports for this.

pub(crate) mod ack;
pub(crate) mod acks;
pub(crate) mod backoff;
pub(crate) mod batch;
pub(crate) mod broker_error;
pub(crate) mod calendar;
pub(crate) mod cluster;
pub(crate) mod compress;
pub(crate) mod delivery;
pub(crate) mod dial;
pub(crate) mod dispatch;
pub(crate) mod endpoint;
pub(crate) mod fence;
pub(crate) mod figures;
pub(crate) mod identity;
pub(crate) mod ledger;
pub(crate) mod line;
pub(crate) mod lookup;
pub(crate) mod memory;
pub(crate) mod outcome;
pub(crate) mod panics;
pub(crate) mod partitioner;
pub(crate) mod prefetch;
pub(crate) mod receipts;
pub(crate) mod record;
pub(crate) mod security;
pub(crate) mod shown;
#[cfg_attr(
    not(any(test, feature = "internals")),
    allow(dead_code, unused_imports, reason = "tests and fuzzers use all of it")
)]
pub(crate) mod spool;
pub(crate) mod stage;
pub(crate) mod supervision;
pub(crate) mod sync;
pub(crate) mod tally;
pub(crate) mod topic_name;
pub(crate) mod transaction;
pub(crate) mod troubles;
pub(crate) mod user_code;
pub(crate) mod wakers;
pub(crate) mod wire;
