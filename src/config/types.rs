//! The words among the values, as enums.

use serde::Deserialize;

/// `partitioner.class`: who chooses the partition of a record that names none. See
/// [`Config::partitioner`](super::Config::partitioner).
///
/// ```
/// use forebay::Config;
/// use forebay::config::PartitionerKind;
///
/// let config = Config::builder()
///     .bootstrap_servers("localhost:9092")
///     .set("partitioner.class", "org.apache.kafka.clients.producer.RoundRobinPartitioner")
///     .build()?;
/// assert_eq!(config.partitioner, PartitionerKind::RoundRobin);
/// # Ok::<(), forebay::ConfigError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize)]
#[non_exhaustive]
pub enum PartitionerKind {
    /// The murmur2 hash of the key; without a key, one partition until it has taken
    /// `batch.size` bytes, then another. The default.
    #[default]
    #[serde(
        rename = "org.apache.kafka.clients.producer.internals.DefaultPartitioner",
        alias = "org.apache.kafka.clients.producer.UniformStickyPartitioner"
    )]
    Default,
    /// Each record to the next partition, whatever its key.
    #[serde(rename = "org.apache.kafka.clients.producer.RoundRobinPartitioner")]
    RoundRobin,
}

/// `metadata.recovery.strategy`: what to do when no known broker answers any more. See
/// [`Config::metadata_recovery`](super::Config::metadata_recovery).
///
/// ```
/// use forebay::Config;
/// use forebay::config::MetadataRecovery;
///
/// assert_eq!(Config::new("localhost:9092")?.metadata_recovery, MetadataRecovery::Rebootstrap);
/// # Ok::<(), forebay::ConfigError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize)]
#[non_exhaustive]
#[serde(rename_all = "lowercase")]
pub enum MetadataRecovery {
    /// Go on asking the brokers that were known last.
    None,
    /// Start again from `bootstrap.servers`. The default.
    #[default]
    Rebootstrap,
}

/// `client.dns.lookup`: what to do with a name that has several addresses. See
/// [`Config::dns_lookup`](super::Config::dns_lookup).
///
/// ```
/// use forebay::Config;
/// use forebay::config::DnsLookup;
///
/// assert_eq!(Config::new("localhost:9092")?.dns_lookup, DnsLookup::UseAllDnsIps);
/// # Ok::<(), forebay::ConfigError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize)]
#[non_exhaustive]
#[serde(rename_all = "snake_case")]
pub enum DnsLookup {
    /// Try each address in turn until a connection stands. The default.
    #[default]
    UseAllDnsIps,
    /// Resolve each bootstrap address into a list of canonical names first.
    ResolveCanonicalBootstrapServersOnly,
}

/// `forebay.unknown`: what becomes of records that may be in the log or not; see
/// [`Config::unknown`](super::Config::unknown).
///
/// ```
/// use forebay::Config;
/// use forebay::config::OnUnknown;
///
/// let builder = Config::builder().bootstrap_servers("localhost:9092");
/// let config = builder.set("forebay.unknown", "resolve").build()?;
/// assert_eq!(config.unknown, OnUnknown::Resolve);
/// # Ok::<(), forebay::ConfigError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize)]
#[non_exhaustive]
#[serde(rename_all = "snake_case")]
pub enum OnUnknown {
    /// They are told to be unknown. The default.
    #[default]
    Tell,
    /// They are looked for in the log first.
    Resolve,
}

/// `forebay.spool.durability`: what an accepted record survives; see
/// [`Config::spool_durability`](super::Config::spool_durability).
///
/// ```
/// use forebay::Config;
/// use forebay::config::Durability;
///
/// let builder = Config::builder().bootstrap_servers("localhost:9092");
/// let config = builder.set("forebay.spool.durability", "machine").build()?;
/// assert_eq!(config.spool_durability, Durability::Machine);
/// # Ok::<(), forebay::ConfigError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize)]
#[non_exhaustive]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// The end of the process. The default.
    #[default]
    Process,
    /// The end of the machine: the disk has the record.
    Machine,
    /// An outage of the brokers alone: only what memory has no room for is in the spool.
    Spill,
}

/// `forebay.spool.in.doubt`: what becomes of records that a former producer may have written where the log
/// cannot tell; see [`Config::spool_in_doubt`](super::Config::spool_in_doubt).
///
/// ```
/// use forebay::Config;
/// use forebay::config::InDoubt;
///
/// let builder = Config::builder().bootstrap_servers("localhost:9092");
/// let config = builder.set("forebay.spool.in.doubt", "unknown").build()?;
/// assert_eq!(config.spool_in_doubt, InDoubt::Unknown);
/// # Ok::<(), forebay::ConfigError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize)]
#[non_exhaustive]
#[serde(rename_all = "snake_case")]
pub enum InDoubt {
    /// They are sent again, and may be there twice. The default.
    #[default]
    Resend,
    /// They are not sent again, and may not be there.
    Unknown,
}

/// `key.serializer`, `value.serializer`: Kafka's standard serializers.
///
/// Records are serialized by what is given in code; the names are only read so that a
/// configuration made for Java can be used as it stands.
///
/// ```
/// use forebay::Config;
/// use forebay::config::SerializerKind;
///
/// let config = Config::from_properties(
///     "bootstrap.servers = localhost:9092
///      key.serializer = org.apache.kafka.common.serialization.LongSerializer",
/// )?;
/// assert_eq!(config.key_serializer, Some(SerializerKind::Long));
/// # Ok::<(), forebay::ConfigError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[non_exhaustive]
pub enum SerializerKind {
    /// One byte, 0 or 1.
    #[serde(rename = "org.apache.kafka.common.serialization.BooleanSerializer")]
    Boolean,
    /// The bytes as they are.
    #[serde(rename = "org.apache.kafka.common.serialization.ByteArraySerializer")]
    ByteArray,
    /// The bytes as they are, from a `ByteBuffer`.
    #[serde(rename = "org.apache.kafka.common.serialization.ByteBufferSerializer")]
    ByteBuffer,
    /// The bytes as they are, from Kafka's `Bytes`.
    #[serde(rename = "org.apache.kafka.common.serialization.BytesSerializer")]
    Bytes,
    /// 8 bytes, big endian.
    #[serde(rename = "org.apache.kafka.common.serialization.DoubleSerializer")]
    Double,
    /// 4 bytes, big endian.
    #[serde(rename = "org.apache.kafka.common.serialization.FloatSerializer")]
    Float,
    /// 4 bytes, big endian.
    #[serde(rename = "org.apache.kafka.common.serialization.IntegerSerializer")]
    Integer,
    /// A list of elements that another serializer writes.
    #[serde(rename = "org.apache.kafka.common.serialization.ListSerializer")]
    List,
    /// 8 bytes, big endian.
    #[serde(rename = "org.apache.kafka.common.serialization.LongSerializer")]
    Long,
    /// 2 bytes, big endian.
    #[serde(rename = "org.apache.kafka.common.serialization.ShortSerializer")]
    Short,
    /// UTF-8 text.
    #[serde(rename = "org.apache.kafka.common.serialization.StringSerializer")]
    String,
    /// The text form of a UUID.
    #[serde(rename = "org.apache.kafka.common.serialization.UUIDSerializer")]
    Uuid,
    /// Always null.
    #[serde(rename = "org.apache.kafka.common.serialization.VoidSerializer")]
    Void,
}
