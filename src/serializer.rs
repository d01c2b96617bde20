//! Values to bytes.

use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;

use crate::ack::Receipt;
use crate::error::SendError;
use crate::panics;
use crate::producer::Producer;
use crate::record::{Header, Record};

/// Turns keys or values of one type into bytes.
///
/// Runs on the caller. An error or a panic refuses the record with [`SendError::Serialize`].
pub trait Serializer<T: ?Sized>: Send + Sync + 'static {
    /// The bytes for `value`, or `None` for Kafka's null. `headers` are those of the record, and
    /// may be added to.
    fn serialize(
        &self,
        topic: &str,
        headers: &mut Vec<Header>,
        value: &T,
    ) -> Result<Option<Bytes>, SerializeError>;
}

/// What a serializer has to say when it cannot.
pub type SerializeError = Box<dyn std::error::Error + Send + Sync>;

/// UTF-8 text as it stands, as Java's `StringSerializer` does.
#[derive(Debug, Clone, Copy, Default)]
pub struct Utf8;

impl<T: AsRef<str> + ?Sized> Serializer<T> for Utf8 {
    fn serialize(
        &self,
        _: &str,
        _: &mut Vec<Header>,
        value: &T,
    ) -> Result<Option<Bytes>, SerializeError> {
        Ok(Some(Bytes::copy_from_slice(value.as_ref().as_bytes())))
    }
}

/// Whole numbers, big-endian, as Java's `IntegerSerializer` and its siblings do.
#[derive(Debug, Clone, Copy, Default)]
pub struct BigEndian;

macro_rules! big_endian {
    ($($number:ty)*) => {$(
        impl Serializer<$number> for BigEndian {
            fn serialize(
                &self,
                _: &str,
                _: &mut Vec<Header>,
                value: &$number,
            ) -> Result<Option<Bytes>, SerializeError> {
                Ok(Some(Bytes::copy_from_slice(&value.to_be_bytes())))
            }
        }
    )*};
}

big_endian!(i16 i32 i64 f32 f64);

/// A closure as a serializer: `FromFn(|order: &Order| serde_json::to_vec(order))`.
#[derive(Debug, Clone, Copy)]
pub struct FromFn<F>(pub F);

impl<T, F, B, E> Serializer<T> for FromFn<F>
where
    F: Fn(&T) -> Result<B, E> + Send + Sync + 'static,
    B: Into<Bytes>,
    E: Into<SerializeError>,
{
    fn serialize(
        &self,
        _: &str,
        _: &mut Vec<Header>,
        value: &T,
    ) -> Result<Option<Bytes>, SerializeError> {
        Ok(Some((self.0)(value).map_err(Into::into)?.into()))
    }
}

/// A [`Producer`] for keys of type `K` and values of type `V`; see
/// [`Producer::typed`].
pub struct TypedProducer<K: ?Sized + 'static, V: ?Sized + 'static> {
    producer: Producer,
    key: Arc<dyn Serializer<K>>,
    value: Arc<dyn Serializer<V>>,
    types: PhantomData<fn(&K, &V)>,
}

impl<K: ?Sized + 'static, V: ?Sized + 'static> Clone for TypedProducer<K, V> {
    fn clone(&self) -> Self {
        Self {
            producer: self.producer.clone(),
            key: Arc::clone(&self.key),
            value: Arc::clone(&self.value),
            types: PhantomData,
        }
    }
}

impl<K: ?Sized + 'static, V: ?Sized + 'static> std::fmt::Debug for TypedProducer<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TypedProducer")
            .field("producer", &self.producer)
            .finish_non_exhaustive()
    }
}

impl<K: ?Sized + 'static, V: ?Sized + 'static> TypedProducer<K, V> {
    pub(crate) fn new(
        producer: Producer,
        key: impl Serializer<K>,
        value: impl Serializer<V>,
    ) -> Self {
        Self {
            producer,
            key: Arc::new(key),
            value: Arc::new(value),
            types: PhantomData,
        }
    }

    /// Serializes and sends. `record` carries everything but key and value: the topic, and if
    /// wanted partition, headers, timestamp.
    pub async fn send(
        &self,
        mut record: Record,
        key: Option<&K>,
        value: Option<&V>,
    ) -> Result<Receipt, SendError> {
        record.key = serialize(&*self.key, &mut record, "key", key)?;
        record.value = serialize(&*self.value, &mut record, "value", value)?;
        self.producer.send(record).await
    }
}

fn serialize<T: ?Sized + 'static>(
    serializer: &dyn Serializer<T>,
    record: &mut Record,
    part: &'static str,
    value: Option<&T>,
) -> Result<Option<Bytes>, SendError> {
    let Some(value) = value else { return Ok(None) };
    let Record { topic, headers, .. } = record;
    let attempt = AssertUnwindSafe(|| serializer.serialize(topic, headers, value));
    let why: Arc<str> = match catch_unwind(attempt) {
        Ok(Ok(bytes)) => return Ok(bytes),
        Ok(Err(error)) => error.to_string().into(),
        Err(panic) => format!("it panicked: {}", panics::message(&*panic)).into(),
    };
    Err(SendError::Serialize {
        topic: Arc::clone(topic),
        part,
        why,
    })
}
