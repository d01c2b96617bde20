//! What an application hands to the producer.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;

use crate::core::batch::{Header, RecordRef};

/// One partition of one topic.
///
/// ```
/// use forebay::TopicPartition;
///
/// assert_eq!(TopicPartition::new("orders", 3).to_string(), "orders-3");
/// ```
// Exhaustive: it is a name, and these two are all of it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition's number, from 0.
    pub partition: i32,
}

impl TopicPartition {
    /// Names a partition of a topic.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self {
            topic: topic.into(),
            partition,
        }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

impl fmt::Debug for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A record on its way to a topic; Java's `ProducerRecord`.
///
/// ```
/// use forebay::Record;
///
/// let record = Record::to("orders")
///     .key("customer-7")
///     .value("two pairs of shoes")
///     .header("trace", "4bf92f35");
/// assert_eq!(record.topic(), "orders");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub(crate) topic: TopicName,
    pub(crate) partition: Option<i32>,
    pub(crate) key: Option<Bytes>,
    pub(crate) value: Option<Bytes>,
    pub(crate) headers: Vec<Header>,
    pub(crate) timestamp: Option<i64>,
}

impl Record {
    /// A record for `topic`, with a null key and a null value.
    ///
    /// A clone of an `Arc<str>` costs less here than a `&str`, which is copied, and
    /// [`to_static`](Self::to_static) costs nothing.
    pub fn to(topic: impl Into<Arc<str>>) -> Self {
        Self::named(TopicName::Shared(topic.into()))
    }

    /// A record for a topic whose name is part of the program, as [`to`](Self::to) makes it.
    ///
    /// ```
    /// use forebay::Record;
    ///
    /// assert_eq!(Record::to_static("orders"), Record::to("orders"));
    /// ```
    #[inline]
    pub fn to_static(topic: &'static str) -> Self {
        Self::named(TopicName::Static(topic))
    }

    #[inline]
    fn named(topic: TopicName) -> Self {
        Self {
            topic,
            partition: None,
            key: None,
            value: None,
            headers: Vec::new(),
            timestamp: None,
        }
    }

    /// Fixes the partition. Default: the partitioner's choice.
    ///
    /// If the topic is not known to have it, a broker is asked. `send` refuses a number that the broker
    /// does not know either, with
    /// [`SendError::PartitionOutOfRange`](crate::SendError::PartitionOutOfRange).
    #[must_use]
    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// Sets the key. Records of one key go to one partition. Default: null.
    #[must_use]
    #[inline]
    pub fn key(self, key: impl Into<Bytes>) -> Self {
        Self {
            key: Some(key.into()),
            ..self
        }
    }

    /// Sets the value. Default: null.
    #[must_use]
    #[inline]
    pub fn value(self, value: impl Into<Bytes>) -> Self {
        Self {
            value: Some(value.into()),
            ..self
        }
    }

    /// Adds a header behind those already there.
    #[must_use]
    pub fn header(mut self, key: impl Into<Arc<str>>, value: impl Into<Bytes>) -> Self {
        self.headers.push(Header::new(key, value));
        self
    }

    /// Adds a header with a null value.
    #[must_use]
    pub fn null_header(mut self, key: impl Into<Arc<str>>) -> Self {
        self.headers.push(Header::null(key));
        self
    }

    /// Sets the record's time, in milliseconds since 1970-01-01 UTC, not negative.
    ///
    /// Default: the time of `send`, to the resolution of the system's coarse clock (1 to 4 ms on
    /// Linux). `send` refuses a negative one, with
    /// [`SendError::NegativeTimestamp`](crate::SendError::NegativeTimestamp).
    #[must_use]
    pub fn timestamp(mut self, millis: i64) -> Self {
        self.timestamp = Some(millis);
        self
    }

    /// The record, its bytes borrowed: what a [`Lane`](crate::Lane) takes.
    #[inline]
    pub fn borrowed(&self) -> BorrowedRecord<'_> {
        BorrowedRecord {
            topic: &self.topic,
            partition: self.partition,
            timestamp: self.timestamp,
            fields: RecordRef {
                key: self.key.as_deref(),
                value: self.value.as_deref(),
                headers: &self.headers,
                timestamp: 0,
            },
        }
    }

    /// The topic this record goes to.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The partition asked for, if any.
    pub fn requested_partition(&self) -> Option<i32> {
        self.partition
    }

    /// The key's bytes; `None` is Kafka's null.
    pub fn key_bytes(&self) -> Option<&Bytes> {
        self.key.as_ref()
    }

    /// The value's bytes; `None` is Kafka's null.
    pub fn value_bytes(&self) -> Option<&Bytes> {
        self.value.as_ref()
    }

    /// The headers, in order.
    pub fn headers(&self) -> &[Header] {
        &self.headers
    }

    /// The headers, to change them, for instance in an interceptor.
    pub fn headers_mut(&mut self) -> &mut Vec<Header> {
        &mut self.headers
    }
}

/// A record whose bytes belong to somebody else. They are copied once, into the batch.
///
/// ```
/// use forebay::BorrowedRecord;
///
/// let line = String::from("two pairs of shoes");
/// let record = BorrowedRecord::to("orders").key("customer-7").value(&line);
/// assert_eq!(record.into_owned(), forebay::Record::to("orders").key("customer-7").value(line));
/// ```
#[derive(Debug, Clone, Copy)]
pub struct BorrowedRecord<'a> {
    pub(crate) topic: &'a str,
    pub(crate) partition: Option<i32>,
    timestamp: Option<i64>,
    /// What is encoded, its timestamp still to be resolved.
    pub(crate) fields: RecordRef<'a>,
}

impl<'a> BorrowedRecord<'a> {
    /// A record for `topic`, with a null key and a null value.
    #[inline]
    pub fn to(topic: &'a str) -> Self {
        Self {
            topic,
            partition: None,
            timestamp: None,
            fields: RecordRef {
                key: None,
                value: None,
                headers: &[],
                timestamp: 0,
            },
        }
    }

    /// Fixes the partition. Default: the partitioner's choice.
    ///
    /// If the topic is not known to have it, a broker is asked. `send` refuses a number that the broker
    /// does not know either, with
    /// [`SendError::PartitionOutOfRange`](crate::SendError::PartitionOutOfRange).
    #[must_use]
    #[inline]
    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// Sets the key. Records of one key go to one partition. Default: null.
    #[must_use]
    #[inline]
    pub fn key(mut self, key: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        self.fields.key = Some(key.as_ref());
        self
    }

    /// Sets the value. Default: null.
    #[must_use]
    #[inline]
    pub fn value(mut self, value: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        self.fields.value = Some(value.as_ref());
        self
    }

    /// Sets the headers. Default: none.
    #[must_use]
    pub fn headers(mut self, headers: &'a [Header]) -> Self {
        self.fields.headers = headers;
        self
    }

    /// Sets the record's time; see [`Record::timestamp`].
    #[must_use]
    pub fn timestamp(mut self, millis: i64) -> Self {
        self.timestamp = Some(millis);
        self
    }

    /// A record with a copy of the bytes.
    pub fn into_owned(self) -> Record {
        Record {
            topic: TopicName::Shared(self.topic.into()),
            partition: self.partition,
            key: self.fields.key.map(Bytes::copy_from_slice),
            value: self.fields.value.map(Bytes::copy_from_slice),
            headers: self.fields.headers.to_vec(),
            timestamp: self.timestamp,
        }
    }

    /// The record's own timestamp, or what `now` says if it has none.
    #[inline]
    pub(crate) fn time(&self, now: impl FnOnce() -> i64) -> Result<i64, NegativeTimestamp> {
        match self.timestamp {
            Some(timestamp) if timestamp < 0 => Err(NegativeTimestamp(timestamp)),
            Some(timestamp) => Ok(timestamp),
            None => Ok(now()),
        }
    }

    /// The fields at a time.
    #[inline]
    pub(crate) fn fields_at(&self, timestamp: i64) -> RecordRef<'a> {
        RecordRef {
            timestamp,
            ..self.fields
        }
    }

    /// Whether it is sure to go where `first` goes, at the same time.
    #[inline]
    pub(crate) fn goes_with(&self, first: &Self) -> bool {
        let no_key = self.fields.key.is_none() && first.fields.key.is_none();
        (std::ptr::eq(self.topic, first.topic) || same(self.topic, first.topic))
            && self.partition == first.partition
            && self.timestamp == first.timestamp
            && (no_key || self.partition.is_some())
    }

    /// Sets the timestamp that will be encoded: the record's own, or what `now` says.
    #[inline]
    pub(crate) fn resolve_timestamp(
        &mut self,
        now: impl FnOnce() -> i64,
    ) -> Result<(), NegativeTimestamp> {
        self.fields.timestamp = self.time(now)?;
        Ok(())
    }
}

/// What `send_slice` takes: [`Record`]s, or [`BorrowedRecord`]s.
///
/// Nobody else can implement it, since it is called while a batch is held. For an example see
/// [`Producer::send_slice`](crate::Producer::send_slice).
pub trait AsRecord: sealed::Sealed {
    /// The record, its bytes borrowed.
    fn as_record(&self) -> BorrowedRecord<'_>;
}

mod sealed {
    #[expect(unnameable_types, reason = "so that nobody else can implement it")]
    pub trait Sealed {}
}

impl sealed::Sealed for Record {}
impl sealed::Sealed for BorrowedRecord<'_> {}

impl AsRecord for Record {
    #[inline]
    fn as_record(&self) -> BorrowedRecord<'_> {
        self.borrowed()
    }
}

impl AsRecord for BorrowedRecord<'_> {
    #[inline]
    fn as_record(&self) -> BorrowedRecord<'_> {
        *self
    }
}

/// A timestamp before 1970, which no record may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NegativeTimestamp(pub i64);

/// The name of a record's topic. A static one is copied without a count of its holders.
#[derive(Clone)]
pub(crate) enum TopicName {
    Static(&'static str),
    Shared(Arc<str>),
}

impl Deref for TopicName {
    type Target = str;

    #[inline]
    fn deref(&self) -> &str {
        match self {
            Self::Static(name) => name,
            Self::Shared(name) => name,
        }
    }
}

impl fmt::Debug for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl PartialEq for TopicName {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for TopicName {}

/// Whether two names are equal: for short ones without the call that `==` is.
#[inline]
pub(crate) fn same(a: &str, b: &str) -> bool {
    fn ends<const N: usize>(name: &[u8]) -> (Option<&[u8; N]>, Option<&[u8; N]>) {
        (name.first_chunk(), name.last_chunk())
    }
    let (a, b) = (a.as_bytes(), b.as_bytes());
    // The first and the last bytes together are all there are.
    a.len() == b.len()
        && match a.len() {
            4..=8 => ends::<4>(a) == ends(b),
            9..=16 => ends::<8>(a) == ends(b),
            _ => a == b,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_any_length_are_compared_to_the_last_byte() {
        for len in 0..40 {
            let name = "abcdefghijklmnopqrstuvwxyzabcdefghijklmnop";
            let name = &name[..len];
            assert!(same(name, &String::from(name)));
            assert!(!same(name, &format!("{name}x")));
            for at in 0..len {
                let mut other = name.to_owned();
                other.replace_range(at..=at, "X");
                assert!(!same(name, &other), "{name} {other}");
            }
        }
    }
}
