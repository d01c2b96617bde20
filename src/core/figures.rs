//! What a producer holds and has done, as one snapshot.

use std::time::Duration;

use serde::Serialize;

use crate::core::record::TopicPartition;

/// A snapshot of a producer; see [`Producer::figures`](crate::Producer::figures). Serialized, its
/// times are milliseconds.
///
/// ```no_run
/// # async fn example(producer: forebay::Producer) -> Result<(), forebay::CloseError> {
/// let figures = producer.figures().await?;
/// println!("{} records queued", figures.queued_records());
/// println!("{} bytes free", figures.pool.available_bytes);
/// for broker in figures.brokers.iter().filter(|broker| !broker.connected) {
///     println!("{} is not connected: {:?}", broker.address, broker.last_error);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default, Serialize)]
#[non_exhaustive]
pub struct Figures {
    /// The memory for records.
    pub pool: PoolFigures,
    /// Every partition that is known, by topic and number.
    pub partitions: Vec<PartitionFigures>,
    /// Every broker that is known, by its id.
    pub brokers: Vec<BrokerFigures>,
    /// The certificates in use: this client's, then those of brokers.
    pub certificates: Vec<CertificateFigures>,
    /// What was looked up in logs; all 0 without `forebay.unknown=resolve`.
    pub lookups: LookupFigures,
    /// The spool; `None` without `forebay.spool.dir`.
    pub spool: Option<SpoolFigures>,
}

impl Figures {
    /// Records accepted that have no outcome yet.
    pub fn queued_records(&self) -> usize {
        self.partitions
            .iter()
            .map(|partition| partition.queued_records)
            .sum()
    }

    /// Batches sent and not yet answered.
    pub fn in_flight(&self) -> usize {
        self.partitions
            .iter()
            .map(|partition| partition.in_flight)
            .sum()
    }
}

/// The buffer pool of a producer; see [`Figures::pool`].
#[derive(Debug, Clone, Copy, Default, Serialize)]
#[non_exhaustive]
pub struct PoolFigures {
    /// `buffer.memory`, in bytes (Java's `buffer-total-bytes`).
    pub total_bytes: usize,
    /// Bytes that no batch uses (Java's `buffer-available-bytes`).
    pub available_bytes: usize,
    /// Callers that wait for memory (Java's `waiting-threads`).
    pub waiting: usize,
    /// Time that callers have waited, summed (Java's `bufferpool-wait-time-ns-total`).
    #[serde(serialize_with = "as_millis")]
    pub waited: Duration,
    /// Records refused for want of memory (Java's `buffer-exhausted-total`).
    pub exhausted: u64,
}

/// One partition of a producer; see [`Figures::partitions`].
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct PartitionFigures {
    /// Which.
    #[serde(serialize_with = "as_text")]
    pub topic_partition: TopicPartition,
    /// The broker that leads it, if any is known.
    pub leader: Option<i32>,
    /// Records accepted that have no outcome yet.
    pub queued_records: usize,
    /// Their size in bytes.
    pub queued_bytes: usize,
    /// Age of the oldest batch without an outcome; `None` if there is no such batch.
    #[serde(serialize_with = "as_optional_millis")]
    pub oldest: Option<Duration>,
    /// Batches sent and not yet answered.
    pub in_flight: usize,
    /// Attempts after a batch's first.
    pub retries: u64,
    /// Batches split because a broker found them too large.
    pub splits: u64,
}

/// One broker of a producer; see [`Figures::brokers`].
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct BrokerFigures {
    /// Its id.
    pub node: i32,
    /// Where it listens.
    pub address: String,
    /// Whether a connection for produce requests is up.
    pub connected: bool,
    /// Requests sent and not yet answered.
    pub requests_in_flight: usize,
    /// Whether it has asked for a pause that is not over.
    pub throttled: bool,
    /// What went wrong last. `None` again as soon as an answer comes.
    pub last_error: Option<String>,
}

/// What was looked up in the logs of partitions; see [`Figures::lookups`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct LookupFigures {
    /// Partitions whose log is looked into now.
    pub partitions: usize,
    /// Bytes that were read, of other producers' batches, too.
    pub bytes: u64,
    /// Batches in doubt that were found.
    pub found: u64,
    /// Batches in doubt that are certainly not in the log.
    pub absent: u64,
    /// Batches of which the log does not tell.
    pub unknown: u64,
}

/// The spool of a producer; see [`Figures::spool`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct SpoolFigures {
    /// Bytes of its segments on the disk; the journal, indexes and spares are beside them.
    pub bytes: u64,
    /// Its segments.
    pub segments: usize,
    /// Records without an outcome, but for those in chunks that are being filled, which are small where a
    /// partition gets little.
    pub unsettled_records: u64,
    /// Their bytes, about.
    pub unsettled_bytes: u64,
    /// How long the oldest of them has waited at most: it came up to an hour after its chunk was begun.
    #[serde(serialize_with = "as_optional_millis")]
    pub oldest: Option<Duration>,
    /// Records that former producers left, and that had no outcome at the start.
    pub resumed: u64,
    /// Records that damage to the disk has cost.
    pub lost: u64,
    /// Records that can never be sent, and are in the directory `rejected`.
    pub rejected: u64,
    /// Waits until all that was written is on the disk: for the journal, and before anything is removed. A
    /// `send` that waits for the disk is not among them.
    pub syncs: u64,
    /// The time of these, summed.
    #[serde(serialize_with = "as_millis")]
    pub sync_time: Duration,
}

/// When a certificate in use expires; see [`Figures::certificates`]. Of a chain it is the one that
/// expires first.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct CertificateFigures {
    /// The broker that showed it, `host:port`; `None` for this client's own.
    pub broker: Option<String>,
    /// Whose it is, such as `CN=broker-1`.
    pub subject: String,
    /// Its last moment, in milliseconds since 1970 (UTC).
    pub expires_at_ms: i64,
}

fn as_millis<S: serde::Serializer>(it: &Duration, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_f64(it.as_secs_f64() * 1e3)
}

#[allow(clippy::ref_option, reason = "serde passes fields by reference")]
fn as_optional_millis<S: serde::Serializer>(
    it: &Option<Duration>,
    s: S,
) -> Result<S::Ok, S::Error> {
    it.map(|it| it.as_secs_f64() * 1e3).serialize(s)
}

fn as_text<S: serde::Serializer>(it: &TopicPartition, s: S) -> Result<S::Ok, S::Error> {
    s.collect_str(it)
}
