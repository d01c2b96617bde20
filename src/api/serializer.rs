//! Values to bytes.

use bytes::Bytes;

use crate::core::batch::Header;

/// Turns keys or values of one type into bytes; Java's `Serializer`. For
/// [`TypedProducer`](crate::TypedProducer).
///
/// Runs on the caller. An error or a panic refuses the record with
/// [`SendError::Serialize`](crate::SendError::Serialize).
///
/// ```
/// use bytes::Bytes;
/// use forebay::{Header, SerializeError, Serializer};
///
/// struct Order {
///     number: u64,
/// }
///
/// struct Json;
///
/// impl Serializer<Order> for Json {
///     fn serialize(
///         &self,
///         _topic: &str,
///         headers: &mut Vec<Header>,
///         order: &Order,
///     ) -> Result<Option<Bytes>, SerializeError> {
///         headers.push(Header::new("content-type", "application/json"));
///         Ok(Some(format!(r#"{{"number":{}}}"#, order.number).into()))
///     }
/// }
/// ```
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

/// What a serializer has to say when it cannot: any error, or a text.
pub type SerializeError = Box<dyn std::error::Error + Send + Sync>;

/// UTF-8 text as it stands, as Java's `StringSerializer` does. [`TypedProducer`](crate::TypedProducer)
/// has an example.
// A unit: it is its own constructor, and has nothing to set.
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

/// Numbers, big-endian, as Java's `IntegerSerializer` and its siblings do: `i16`, `i32`, `i64`, `f32`
/// and `f64`. [`TypedProducer`](crate::TypedProducer) has an example.
// A unit: it is its own constructor, and has nothing to set.
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

/// A closure as a serializer.
///
/// ```no_run
/// # fn example(producer: forebay::Producer) {
/// use forebay::{FromFn, TypedProducer, Utf8};
///
/// let json = FromFn(|order: &serde_json::Value| serde_json::to_vec(order));
/// let orders = TypedProducer::<str, serde_json::Value>::new(producer, Utf8, json);
/// # }
/// ```
// Its field is public so that it can be written around a closure.
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
