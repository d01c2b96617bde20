//! Chooses the partition of a record.
//!
//! A record that names its partition keeps it. Otherwise, as in Java, a record
//! with a key goes where the key's hash says ([`partition_for_key`]), and one
//! without goes where the topic's [`Sticky`] points just now. An application
//! that wants it otherwise brings a [`Partitioner`]; [`RoundRobin`] is one.

mod murmur2;
mod round_robin;
mod sticky;

pub use murmur2::{murmur2, partition_for_key};
pub use round_robin::RoundRobin;
pub use sticky::{Load, Sticky};

/// What is known of a topic's partitions when a record is sent. [`Partitioner`] has an example.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicPartitions<'a> {
    /// How many the topic has, more than 0: they are `0..total`.
    pub total: i32,
    /// Those that have a leader, in no particular order. There may be none. Leaders come and go: it is
    /// not for a choice that has to last, such as a key's.
    pub available: &'a [i32],
}

impl<'a> TopicPartitions<'a> {
    /// Partitions `0..total`, of which `available` have a leader.
    pub fn new(total: i32, available: &'a [i32]) -> Self {
        Self { total, available }
    }

    /// Counts through the partitions that have a leader, or through all if none has.
    fn pick(&self, nth: u64) -> i32 {
        match self.available.len() as u64 {
            0 => (nth % u64::from(self.total.max(1).unsigned_abs())) as i32,
            len => self.available[(nth % len) as usize],
        }
    }
}

/// An application's own choice of partition; Java's `Partitioner`. Set by
/// [`ProducerBuilder::partitioner`](crate::ProducerBuilder::partitioner).
///
/// It runs on the thread that sends, for every record that names no partition,
/// so it should be quick and must not block. A panic in it refuses the record with
/// [`SendError::Panicked`](crate::SendError::Panicked).
///
/// ```
/// use forebay::partitioner::{Partitioner, TopicPartitions, partition_for_key};
///
/// /// Keeps the last partition for what is urgent, and hashes the rest over the others.
/// struct UrgentApart;
///
/// impl Partitioner for UrgentApart {
///     fn partition(
///         &self,
///         _topic: &str,
///         key: Option<&[u8]>,
///         _value: Option<&[u8]>,
///         cluster: &TopicPartitions<'_>,
///     ) -> i32 {
///         match key {
///             _ if cluster.total == 1 => 0,
///             Some(key) if key.starts_with(b"urgent") => cluster.total - 1,
///             key => partition_for_key(key.unwrap_or_default(), cluster.total - 1),
///         }
///     }
/// }
///
/// let cluster = TopicPartitions::new(6, &[0, 1, 2, 3, 4, 5]);
/// let pick = |key: &str| UrgentApart.partition("orders", Some(key.as_bytes()), None, &cluster);
/// assert_eq!(pick("urgent-17"), 5);
/// assert!((0..5).contains(&pick("order-17")));
/// assert_eq!(pick("order-17"), pick("order-17"));
/// ```
pub trait Partitioner: Send + Sync + 'static {
    /// The partition for one record, in `0..cluster.total`. Any other answer refuses the record at once,
    /// with [`SendError::PartitionOutOfRange`](crate::SendError::PartitionOutOfRange). Asked once per record.
    fn partition(
        &self,
        topic: &str,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        cluster: &TopicPartitions<'_>,
    ) -> i32;
}
