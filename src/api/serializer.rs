//! Values to bytes.

use bytes::Bytes;

use crate::core::batch::Header;

/// Turns keys or values of one type into bytes.
///
/// Runs on the caller. An error or a panic refuses the record with
/// [`SendError::Serialize`](crate::SendError::Serialize).
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
