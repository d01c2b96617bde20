//! Against real brokers: Apache Kafka as child processes, which need a JDK 17 and Maven.
//!
//! `cargo test --test kafka kills::` runs one part. Without Java or Maven each test says that it is
//! skipped; with `CI` set it fails instead.

mod accepted;
mod doubt;
mod fenced;
mod harness;
mod kills;
mod log;
mod memory;
mod model;
mod outage;
mod produce;
mod recreated;
mod releases;
mod resolve;
mod security;
mod sources;
mod spooling;
mod topics;
mod transactions;

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970.
pub(crate) fn millis() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |since| since.as_millis() as i64)
}
