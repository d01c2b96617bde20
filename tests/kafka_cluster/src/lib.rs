//! A real Kafka cluster for tests, without Docker: Apache Kafka's own jars,
//! each broker a child process on loopback that can be killed, frozen and
//! started again.
//!
//! Everything here is synchronous and may be called from any thread, also from
//! one that drives an async runtime.

mod admin;
mod broker;
mod certificates;
mod cluster;
mod libs;
mod lie;
mod load;
mod log_segments;
mod metadata;
mod ports;
mod printed;
mod properties;
mod proxy;
mod read_back;
mod relays;
mod release;
mod token_server;
mod transactions;
mod watchdog;
mod zookeeper;

pub use broker::{Broker, State};
pub use certificates::Signer;
pub use cluster::{Cluster, ClusterOptions, Listener};
pub use libs::{Libs, available};
pub use lie::Lie;
pub use load::{Load, Outcomes, Running, scaled};
pub use log_segments::LogSegments;
pub use metadata::PartitionView;
pub use printed::Printed;
pub use proxy::{Proxies, Proxy, Rules};
pub use read_back::{Consumed, Isolation, Partitioning, Seen};
pub use release::Release;
pub use token_server::{TokenServer, TokenServerOptions};
pub use transactions::Table;

use std::fmt;
use std::io::Write;
use std::ops::Deref;
use std::sync::{OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, as text for whoever reads the failed test. `Debug` prints
/// the text as it is, so that `unwrap` shows a broker's log line by line.
pub struct Error(String);

impl Error {
    fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// For `map_err`: puts what was attempted before the cause.
    fn at<E: fmt::Display>(what: impl fmt::Display) -> impl FnOnce(E) -> Self {
        move |cause| Self(format!("{what}: {cause}"))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

/// The first line of a test that needs Kafka:
/// `if !kafka::require_or_skip("name") { return; }`.
///
/// In CI nothing is skipped: there a missing Java or Maven is a failure.
pub fn require_or_skip(test: &str) -> bool {
    let Err(reason) = available() else {
        return true;
    };
    if std::env::var_os("CI").is_some() {
        panic!("{test} must not be skipped in CI: {reason}");
    }
    // Not `eprintln!`: the test harness would swallow it.
    let line = format!("SKIPPED (no Java 17 / Maven): {test}: {reason}\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
    false
}

static TURN: RwLock<()> = RwLock::new(());

/// The cluster that healthy tests share, side by side. Do not hurt its brokers: a test that kills
/// has a cluster of its own.
pub struct Shared(
    &'static Cluster,
    #[expect(dead_code, reason = "held until the test is over")] RwLockReadGuard<'static, ()>,
);

impl Deref for Shared {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        self.0
    }
}

/// The shared cluster, while nobody has the turn.
pub fn shared() -> Shared {
    static SHARED: OnceLock<Cluster> = OnceLock::new();
    // A test that panicked has broken nothing for the next.
    let guard = TURN.read().unwrap_or_else(PoisonError::into_inner);
    let start = || Cluster::start(ClusterOptions::default()).expect("start shared cluster");
    Shared(SHARED.get_or_init(start), guard)
}

/// Held by tests that have their own cluster, so that a small machine runs one such test at a time,
/// and no other beside it.
pub fn one_at_a_time() -> RwLockWriteGuard<'static, ()> {
    TURN.write().unwrap_or_else(PoisonError::into_inner)
}

/// Asks until the answer is `Some`, at most for `limit`; the error names `what`
/// and the last thing that was in the way.
fn poll<T>(
    what: impl fmt::Display,
    limit: Duration,
    mut ask: impl FnMut() -> Result<std::result::Result<T, String>>,
) -> Result<T> {
    let end = Instant::now() + limit;
    loop {
        match ask()? {
            Ok(answer) => return Ok(answer),
            Err(obstacle) if Instant::now() >= end => {
                return Err(Error::new(format!(
                    "{what}: not within {limit:?}: {obstacle}"
                )));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}
