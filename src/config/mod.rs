//! The configuration of a producer, under Kafka's own key names.
//!
//! ```
//! use std::time::Duration;
//! use forebay::config::Config;
//!
//! let config = Config::builder()
//!     .toml("linger.ms = 20")
//!     .bootstrap_servers("localhost:9092")
//!     .set("batch.size", 65_536)
//!     .build()?;
//! assert_eq!(config.linger, Duration::from_millis(20));
//! # Ok::<(), forebay::config::ConfigError>(())
//! ```
//!
//! Every key is in one table, [`KEYS`], with its default, its bounds and what goes wrong at its
//! edges. A key that forebay does not serve yet is an error, and so are values that exclude each
//! other: nothing is turned off quietly. [`ConfigError`] tells all problems at once.

mod builder;
mod check;
mod conflicts;
mod env;
mod error;
mod foreign;
mod jaas;
mod key;
mod keys;
mod nearest;
mod origin;
mod properties;
mod providers;
mod security;
mod source;
mod toml_text;
mod types;
mod values;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub use crate::core::acks::Acks;
pub use crate::core::compress::Compression;
pub use crate::core::endpoint::{Endpoint, EndpointError};
pub use crate::core::security::SecurityProtocol;
pub use builder::ConfigBuilder;
pub use error::{ConfigError, Problem, ProblemKind};
pub use key::{Bounds, Key, Kind, Status, Unit};
pub use keys::KEYS;
pub use origin::Origin;
pub use types::{
    DnsLookup, Durability, InDoubt, MetadataRecovery, OnUnknown, PartitionerKind, SerializerKind,
};

pub(crate) use security::Security;
use values::Values;

/// A producer's configuration, complete and without contradictions. The [module](self) has an example.
///
/// Fields are named after Kafka's keys, without their units. Times longer than a century are cut
/// to one, so that they can be added to any clock. [`KEYS`] has more on each. Fields may be set: a
/// producer that starts makes of them what the builder makes of keys, and refuses what it would refuse.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// Brokers to ask first for all the others; at least one; of two that are the same, the
    /// second is dropped.
    pub bootstrap_servers: Vec<Endpoint>,
    /// Name that the brokers log and count this producer under. When not set,
    /// `forebay-producer-N` with `N` counting up in the process.
    pub client_id: String,
    /// How connections are secured: whom to trust, and who to be. Default: not at all.
    pub(crate) security: Security,
    /// What to do with a name that has several addresses. Default: try each.
    pub dns_lookup: DnsLookup,
    /// Whose confirmation makes a record acked. Default all replicas in sync.
    pub acks: Acks,
    /// Whether a retry neither doubles nor reorders records. Default true; then `acks` is all,
    /// `retries` above 0 and `max_in_flight` at most 5.
    pub enable_idempotence: bool,
    /// Requests sent to a broker and not answered yet. Default 5, at least 1.
    pub max_in_flight: usize,
    /// How often a batch is sent again. Default 2147483647: until `delivery_timeout`.
    pub retries: u32,
    /// Wait before the first retry; doubles. Default 100 ms; zero retries in a tight loop.
    pub retry_backoff: Duration,
    /// Longest wait before a retry, at least `retry_backoff`. Default 1 s.
    pub retry_backoff_max: Duration,
    /// Time within which every accepted record has its outcome. Default 2 min; at least `linger` +
    /// `request_timeout`.
    pub delivery_timeout: Duration,
    /// Wait for the answer to a request. Default 30 s; zero times every request out.
    pub request_timeout: Duration,
    /// Longest wait of one send for metadata and memory together. Default 1 min; zero refuses at
    /// once.
    pub max_block: Duration,
    /// Memory for records that wait or are in flight, in bytes. Default 32 MiB, at least
    /// `batch_size`.
    pub buffer_memory: usize,
    /// Upper bound of a partition's batch, in bytes. Default 16 KiB; 0 sends every record alone.
    pub batch_size: usize,
    /// How long a batch waits for more records, at most: one whose outcome is awaited goes as soon as
    /// nothing is in flight to its broker. Default 5 ms; zero sends as soon as it can.
    pub linger: Duration,
    /// Upper bound of a request, and of a record before compression, in bytes. Default 1 MiB. May
    /// be more than `buffer_memory`, which then is the tighter bound.
    pub max_request_size: usize,
    /// Codec of the batches and its level. Default none.
    pub compression: Compression,
    /// Who chooses the partition of a record that names none. Default by key, else adaptive.
    pub partitioner: PartitionerKind,
    /// Whether records with a key are spread like those without. Default false.
    pub partitioner_ignore_keys: bool,
    /// Whether partitions with a shorter queue get more of the records without a key. Default true.
    pub partitioner_adaptive: bool,
    /// How long a broker may take nothing before records without a key avoid it. Default `None`:
    /// never avoided. Has no effect without `partitioner_adaptive`.
    pub partitioner_availability_timeout: Option<Duration>,
    /// The serializer that a configuration made for Java names for keys. Default `None`.
    pub key_serializer: Option<SerializerKind>,
    /// The serializer that a configuration made for Java names for values. Default `None`.
    pub value_serializer: Option<SerializerKind>,
    /// The socket's send buffer in bytes. Default 128 KiB; `None` leaves it to the system.
    pub send_buffer: Option<usize>,
    /// The socket's receive buffer in bytes. Default 32 KiB; `None` leaves it to the system.
    pub receive_buffer: Option<usize>,
    /// Idle time after which a connection is closed. Default 9 min; `None` keeps it, zero closes
    /// it as soon as nothing is in flight.
    pub connections_max_idle: Option<Duration>,
    /// Wait before connecting again to a broker; doubles. Default 50 ms; zero reconnects in a tight
    /// loop.
    pub reconnect_backoff: Duration,
    /// Longest wait before connecting again, at least `reconnect_backoff`. Default 1 s.
    pub reconnect_backoff_max: Duration,
    /// Wait for a connection to stand; doubles with every failure in a row. Default 10 s.
    pub connection_setup_timeout: Duration,
    /// Longest wait for a connection to stand, at least `connection_setup_timeout`. Default 30 s.
    pub connection_setup_timeout_max: Duration,
    /// Age at which metadata are fetched again even if nothing failed. Default 5 min; zero asks
    /// again after each `retry_backoff`.
    pub metadata_max_age: Duration,
    /// Time after which a topic that nobody sends to is forgotten. Default 5 min, at least 5 s.
    pub metadata_max_idle: Duration,
    /// What to do when no known broker answers. Default: start again from `bootstrap_servers`.
    pub metadata_recovery: MetadataRecovery,
    /// Time for which brokers were asked for metadata and none answered, after which to start again
    /// from `bootstrap_servers` though not all known ones were tried. Default 5 min; with zero only the
    /// first attempt goes to a known broker. Has no effect without [`MetadataRecovery::Rebootstrap`].
    pub rebootstrap_trigger: Duration,
    /// Whether brokers are told whom a connection is meant for, so that one at a former broker's address
    /// is noticed (KIP-1242, from Kafka 4.4 on). Default true. Has no effect without
    /// [`MetadataRecovery::Rebootstrap`].
    pub metadata_cluster_check: bool,
    /// Name of a producer that sends in transactions. Default: none, and it sends without.
    pub transactional_id: Option<String>,
    /// Time after which brokers abort a transaction that was not ended. Default 1 min.
    pub transaction_timeout: Duration,
    /// How long brokers remember a producer, by the timestamps of its records.
    pub producer_expiration: Duration,
    /// What becomes of records that may be in the log or not. Default: they are told to be unknown.
    pub unknown: OnUnknown,
    /// How long past `delivery_timeout` records are looked for. Default 1 min. Has no effect without
    /// [`OnUnknown::Resolve`].
    pub unknown_resolve_timeout: Duration,
    /// How much of a partition's log is read for one look, in bytes. Default 1 GiB.
    pub unknown_resolve_max_bytes: u64,
    /// What the transactional ids begin with whose markers are fences. Default `forebay-`.
    pub unknown_transactional_id_prefix: String,
    /// Directory of the spool. Default: none, and there is no spool.
    pub spool_dir: Option<PathBuf>,
    /// Topics whose records are in the spool. Default: empty, which means all.
    pub spool_topics: Vec<String>,
    /// What an accepted record survives. Default: the end of the process.
    pub spool_durability: Durability,
    /// What becomes of records that a former producer may have written where the log cannot tell. Default:
    /// they are sent again.
    pub spool_in_doubt: InDoubt,
    /// Upper bound of the spool on the disk, in bytes. Default 10 GiB.
    pub spool_max_bytes: u64,
    /// How long a record waits in the spool at most. Default 7 days.
    pub spool_max_age: Duration,
    /// Size of the spool's files, in bytes. Default 64 MiB.
    pub spool_segment_bytes: usize,
    /// How often an actor may be restarted within `restart_window` before its part fails for good.
    /// Default 5; 0 makes the first failure final.
    pub restart_max: u32,
    /// The time over which restarts are counted. Default 10 s.
    pub restart_window: Duration,
}

impl Config {
    /// How connections are secured. It can be set by keys alone, since it takes more than a protocol.
    pub fn security_protocol(&self) -> SecurityProtocol {
        self.security.protocol()
    }

    /// When each record has its outcome after it was accepted. `None`: what is in a spool waits for as
    /// long as it takes.
    pub(crate) fn outcome_within(&self) -> Option<Duration> {
        let looked_for = match self.unknown {
            OnUnknown::Resolve => self.unknown_resolve_timeout,
            OnUnknown::Tell => Duration::ZERO,
        };
        let within = self.delivery_timeout + looked_for;
        self.spool_dir.is_none().then_some(within)
    }

    fn of(values: &Values<'_>, bootstrap_servers: Vec<Endpoint>, security: Security) -> Self {
        let above_0 = |time: Duration| (!time.is_zero()).then_some(time);
        let buffer = |name| usize::try_from(values.number(name)).ok();
        let idle = "connections.max.idle.ms";
        let sticky = values.text("partitioner.class") == Some(keys::UNIFORM_STICKY);
        Self {
            bootstrap_servers,
            client_id: match values.text("client.id") {
                Some(id) => id.to_owned(),
                None => next_client_id(),
            },
            security,
            dns_lookup: values.word("client.dns.lookup").unwrap_or_default(),
            acks: values.word("acks").unwrap_or_default(),
            enable_idempotence: values.flag("enable.idempotence"),
            max_in_flight: values.sized("max.in.flight.requests.per.connection"),
            retries: values.sized("retries"),
            retry_backoff: values.time("retry.backoff.ms"),
            retry_backoff_max: values.time("retry.backoff.max.ms"),
            delivery_timeout: values.time("delivery.timeout.ms"),
            request_timeout: values.time("request.timeout.ms"),
            max_block: values.time("max.block.ms"),
            buffer_memory: values.sized("buffer.memory"),
            batch_size: values.sized("batch.size"),
            linger: values.time("linger.ms"),
            max_request_size: values.sized("max.request.size"),
            compression: conflicts::compression(values),
            partitioner: values.word("partitioner.class").unwrap_or_default(),
            partitioner_ignore_keys: sticky || values.flag("partitioner.ignore.keys"),
            partitioner_adaptive: values.flag("partitioner.adaptive.partitioning.enable"),
            partitioner_availability_timeout: above_0(
                values.time("partitioner.availability.timeout.ms"),
            ),
            key_serializer: values.word("key.serializer"),
            value_serializer: values.word("value.serializer"),
            send_buffer: buffer("send.buffer.bytes"),
            receive_buffer: buffer("receive.buffer.bytes"),
            connections_max_idle: (values.number(idle) >= 0).then(|| values.time(idle)),
            reconnect_backoff: values.time("reconnect.backoff.ms"),
            reconnect_backoff_max: values.time("reconnect.backoff.max.ms"),
            connection_setup_timeout: values.time("socket.connection.setup.timeout.ms"),
            connection_setup_timeout_max: values.time("socket.connection.setup.timeout.max.ms"),
            metadata_max_age: values.time("metadata.max.age.ms"),
            metadata_max_idle: values.time("metadata.max.idle.ms"),
            metadata_recovery: values
                .word("metadata.recovery.strategy")
                .unwrap_or_default(),
            rebootstrap_trigger: values.time("metadata.recovery.rebootstrap.trigger.ms"),
            metadata_cluster_check: values.flag("metadata.cluster.check.enable"),
            transactional_id: conflicts::transactional_id(values).map(str::to_owned),
            transaction_timeout: values.time("transaction.timeout.ms"),
            producer_expiration: values.time("forebay.producer.id.expiration.ms"),
            unknown: values.word("forebay.unknown").unwrap_or_default(),
            unknown_resolve_timeout: values.time("forebay.unknown.resolve.timeout.ms"),
            unknown_resolve_max_bytes: values.sized("forebay.unknown.resolve.max.bytes"),
            unknown_transactional_id_prefix: values
                .text("forebay.unknown.transactional.id.prefix")
                .unwrap_or_default()
                .to_owned(),
            spool_dir: conflicts::spool_dir(values).map(PathBuf::from),
            spool_topics: conflicts::spool_topics(values),
            spool_durability: values.word("forebay.spool.durability").unwrap_or_default(),
            spool_in_doubt: values.word("forebay.spool.in.doubt").unwrap_or_default(),
            spool_max_bytes: values.sized("forebay.spool.max.bytes"),
            spool_max_age: values.time("forebay.spool.max.age.ms"),
            spool_segment_bytes: values.sized("forebay.spool.segment.bytes"),
            restart_max: values.sized("forebay.restart.max"),
            restart_window: values.time("forebay.restart.window.ms"),
        }
    }
}

fn next_client_id() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("forebay-producer-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}
