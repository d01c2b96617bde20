//! A handle that serializes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;

use crate::api::producer::Producer;
use crate::api::serializer::Serializer;
use crate::core::ack::Receipt;
use crate::core::panics;
use crate::core::record::Record;
use crate::intake::error::{RecordPart, SendError};

/// A [`Producer`] for keys of type `K` and values of type `V`; made with
/// [`TypedProducer::new`].
///
/// ```no_run
/// # async fn example(producer: forebay::Producer) -> Result<(), Box<dyn std::error::Error>> {
/// use forebay::{BigEndian, Record, TypedProducer, Utf8};
///
/// let orders = TypedProducer::<i64, str>::new(producer, BigEndian, Utf8);
/// orders.send(Record::to("orders"), Some(&7), Some("shoes")).await?.await?;
/// # Ok(())
/// # }
/// ```
pub struct TypedProducer<K: ?Sized + 'static, V: ?Sized + 'static> {
    producer: Producer,
    key: Arc<dyn Serializer<K>>,
    value: Arc<dyn Serializer<V>>,
}

impl<K: ?Sized + 'static, V: ?Sized + 'static> Clone for TypedProducer<K, V> {
    fn clone(&self) -> Self {
        Self {
            producer: self.producer.clone(),
            key: Arc::clone(&self.key),
            value: Arc::clone(&self.value),
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
    /// Serializes what is sent through `producer`.
    pub fn new(producer: Producer, key: impl Serializer<K>, value: impl Serializer<V>) -> Self {
        Self {
            producer,
            key: Arc::new(key),
            value: Arc::new(value),
        }
    }

    /// Serializes and sends. `record` carries everything but key and value: the topic, and if
    /// wanted partition, headers, timestamp. `None` is Kafka's null.
    ///
    /// # Errors
    ///
    /// [`SendError::Serialize`] if a serializer fails or panics, and those of [`Producer::send`].
    pub async fn send(
        &self,
        record: Record,
        key: Option<&K>,
        value: Option<&V>,
    ) -> Result<Receipt, SendError> {
        self.send_by(&self.producer, record, key, value).await
    }

    /// Serializes, and sends through this producer.
    pub(crate) async fn send_by(
        &self,
        producer: &Producer,
        mut record: Record,
        key: Option<&K>,
        value: Option<&V>,
    ) -> Result<Receipt, SendError> {
        let intake = producer.intake();
        record.key = intake.calling(|| serialize(&*self.key, &mut record, RecordPart::Key, key))?;
        record.value =
            intake.calling(|| serialize(&*self.value, &mut record, RecordPart::Value, value))?;
        producer.send(record).await
    }
}

fn serialize<T: ?Sized + 'static>(
    serializer: &dyn Serializer<T>,
    record: &mut Record,
    part: RecordPart,
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
        topic: Arc::from(&**topic),
        part,
        why,
    })
}
