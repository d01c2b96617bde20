//! Reads a response without trusting any length or count in it.
//!
//! As in Java's client, bytes behind what a version has are no error here, and text that is not
//! UTF-8 is mended: some brokers send such answers.

use std::borrow::Cow;
use std::time::Duration;

use uuid::Uuid;

use super::WireError;
use crate::core::shown::Shown;

/// The longest throttle time that is accepted. A broker's quota windows last seconds, and a
/// throttle of days would look like a dead producer.
const MAX_THROTTLE: Duration = Duration::from_secs(300);

/// Characters of a broker's words that are kept.
const MOST_WORDS: usize = 500;

pub(super) struct Reader<'a> {
    message: &'static str,
    bytes: &'a [u8],
    at: usize,
    flexible: bool,
}

impl<'a> Reader<'a> {
    pub fn new(message: &'static str, bytes: &'a [u8], flexible: bool) -> Self {
        Self {
            message,
            bytes,
            at: 0,
            flexible,
        }
    }

    pub fn at(&self) -> usize {
        self.at
    }

    /// Bytes that are not read yet.
    pub fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    #[cold]
    fn truncated(&self, needed: usize) -> WireError {
        WireError::Truncated {
            message: self.message,
            at: self.at,
            needed,
            left: self.left(),
        }
    }

    #[inline]
    fn take(&mut self, needed: usize) -> Result<&'a [u8], WireError> {
        match self.bytes[self.at..].get(..needed) {
            Some(taken) => {
                self.at += needed;
                Ok(taken)
            }
            None => Err(self.truncated(needed)),
        }
    }

    #[inline]
    fn array_of<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        match self.bytes[self.at..].first_chunk() {
            Some(&taken) => {
                self.at += N;
                Ok(taken)
            }
            None => Err(self.truncated(N)),
        }
    }

    #[inline]
    pub fn bool(&mut self) -> Result<bool, WireError> {
        Ok(self.take(1)?[0] != 0)
    }

    #[cfg(any(test, feature = "cli"))]
    pub fn i8(&mut self) -> Result<i8, WireError> {
        self.array_of().map(i8::from_be_bytes)
    }

    #[inline]
    pub fn i16(&mut self) -> Result<i16, WireError> {
        self.array_of().map(i16::from_be_bytes)
    }

    #[inline]
    pub fn i32(&mut self) -> Result<i32, WireError> {
        self.array_of().map(i32::from_be_bytes)
    }

    #[inline]
    pub fn i64(&mut self) -> Result<i64, WireError> {
        self.array_of().map(i64::from_be_bytes)
    }

    /// The offset of a batch's first record, or -1. A batch has at most 2^31-1 records, and their
    /// offsets have to be numbers, too.
    pub fn base_offset(&mut self) -> Result<i64, WireError> {
        const MAX: i64 = i64::MAX - i32::MAX as i64;
        let message = self.message;
        match self.i64()? {
            offset @ -1..=MAX => Ok(offset),
            offset => Err(WireError::Offset { message, offset }),
        }
    }

    pub fn uuid(&mut self) -> Result<Uuid, WireError> {
        self.array_of().map(Uuid::from_bytes)
    }

    pub fn throttle(&mut self) -> Result<Duration, WireError> {
        let millis = u64::try_from(self.i32()?).unwrap_or(0);
        Ok(Duration::from_millis(millis).min(MAX_THROTTLE))
    }

    #[inline]
    fn uvarint(&mut self) -> Result<u32, WireError> {
        let at = self.at;
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.take(1)?[0];
            // The fifth byte holds the last four bits, and no byte follows it.
            if shift == 28 && byte > 0x0f {
                break;
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(WireError::VarInt {
            message: self.message,
            at,
        })
    }

    /// Reads the length of something nullable: a compact varint, or what `classic` reads.
    fn length(&mut self, classic: impl Fn(&mut Self) -> Result<i64, WireError>) -> Length {
        let at = self.at;
        let length = if self.flexible {
            i64::from(self.uvarint()?) - 1
        } else {
            classic(self)?
        };
        match usize::try_from(length) {
            Ok(length) => Ok(Some(length)),
            Err(_) if length == -1 => Ok(None),
            Err(_) => Err(WireError::NegativeLength {
                message: self.message,
                at,
                length,
            }),
        }
    }

    pub fn nullable_text(&mut self) -> Result<Option<Cow<'a, str>>, WireError> {
        let Some(length) = self.length(|reader| reader.i16().map(i64::from))? else {
            return Ok(None);
        };
        Ok(Some(String::from_utf8_lossy(self.take(length)?)))
    }

    /// Reads bytes. Null counts as none.
    pub fn bytes(&mut self) -> Result<&'a [u8], WireError> {
        let length = self.length(|reader| reader.i32().map(i64::from))?;
        self.take(length.unwrap_or(0))
    }

    /// Reads text that is for people only, as logs and errors may show it.
    pub fn words(&mut self) -> Result<Option<String>, WireError> {
        let most = MOST_WORDS;
        let words = self.nullable_text()?;
        Ok(words.map(|text| Shown { text: &text, most }.to_string()))
    }

    pub fn text(&mut self) -> Result<Cow<'a, str>, WireError> {
        let at = self.at;
        self.nullable_text()?.ok_or(WireError::Null {
            message: self.message,
            at,
        })
    }

    /// Reads the number of elements of an array. Each takes at least `least` bytes. Null counts as
    /// an empty array, because some brokers write it that way.
    pub fn count(&mut self, least: usize) -> Result<usize, WireError> {
        let at = self.at;
        let count = self
            .length(|reader| reader.i32().map(i64::from))?
            .unwrap_or(0);
        let left = self.left();
        if count > left / least {
            return Err(WireError::Count {
                message: self.message,
                at,
                count,
                least,
                left,
            });
        }
        Ok(count)
    }

    /// Skips an array of 32-bit integers, and says how many there were.
    pub fn skip_i32s(&mut self) -> Result<usize, WireError> {
        let count = self.count(4)?;
        self.take(count * 4)?;
        Ok(count)
    }

    pub fn skip_tags(&mut self) -> Result<(), WireError> {
        self.tags(|_, _| Ok(()))
    }

    /// Reads the tagged fields of a flexible version. `known` reads those whose tags it knows.
    pub fn tags(
        &mut self,
        mut known: impl FnMut(u32, &mut Reader<'a>) -> Result<(), WireError>,
    ) -> Result<(), WireError> {
        if !self.flexible {
            return Ok(());
        }
        for _ in 0..self.uvarint()? {
            let tag = self.uvarint()?;
            let size = self.uvarint()? as usize;
            let start = self.at;
            self.take(size)?;
            let mut field = Reader {
                message: self.message,
                bytes: &self.bytes[..self.at],
                at: start,
                flexible: true,
            };
            known(tag, &mut field)?;
        }
        Ok(())
    }
}

type Length = Result<Option<usize>, WireError>;

#[cfg(test)]
mod tests {
    use super::*;

    fn flexible(bytes: &[u8]) -> Reader<'_> {
        Reader::new("test answer", bytes, true)
    }

    fn classic(bytes: &[u8]) -> Reader<'_> {
        Reader::new("test answer", bytes, false)
    }

    #[test]
    fn a_count_is_believed_as_far_as_the_bytes_reach() {
        let mut bytes = 3i32.to_be_bytes().to_vec();
        bytes.extend([0; 12]);
        assert_eq!(classic(&bytes).count(4), Ok(3));
        assert_eq!(
            classic(&bytes).count(5),
            Err(WireError::Count {
                message: "test answer",
                at: 0,
                count: 3,
                least: 5,
                left: 12
            })
        );
        let huge = i32::MAX.to_be_bytes();
        assert!(matches!(
            classic(&huge).count(1),
            Err(WireError::Count {
                count: 0x7fff_ffff,
                left: 0,
                ..
            })
        ));
        let huge = [0xff, 0xff, 0xff, 0xff, 0x0f];
        assert!(matches!(
            flexible(&huge).count(1),
            Err(WireError::Count {
                count: 0xffff_fffe,
                left: 0,
                ..
            })
        ));
    }

    #[test]
    fn null_is_minus_one_and_nothing_else() {
        assert_eq!(classic(&(-1i32).to_be_bytes()).count(1), Ok(0));
        assert_eq!(flexible(&[0]).count(1), Ok(0));
        assert_eq!(classic(&(-1i16).to_be_bytes()).nullable_text(), Ok(None));
        assert_eq!(flexible(&[0]).nullable_text(), Ok(None));
        assert!(matches!(
            flexible(&[0]).text(),
            Err(WireError::Null { at: 0, .. })
        ));
        assert!(matches!(
            classic(&(-2i32).to_be_bytes()).count(1),
            Err(WireError::NegativeLength { length: -2, .. })
        ));
        assert!(matches!(
            classic(&i16::MIN.to_be_bytes()).nullable_text(),
            Err(WireError::NegativeLength { length: -32768, .. })
        ));
    }

    #[test]
    fn a_varint_has_at_most_32_bits() {
        assert_eq!(flexible(&[0xac, 0x02]).uvarint(), Ok(300));
        assert_eq!(
            flexible(&[0xff, 0xff, 0xff, 0xff, 0x0f]).uvarint(),
            Ok(u32::MAX)
        );
        for bad in [[0xff, 0xff, 0xff, 0xff, 0x1f], [0x80; 5]] {
            assert!(matches!(
                flexible(&bad).uvarint(),
                Err(WireError::VarInt { at: 0, .. })
            ));
        }
        assert!(matches!(
            flexible(&[0x80]).uvarint(),
            Err(WireError::Truncated {
                at: 1,
                needed: 1,
                left: 0,
                ..
            })
        ));
    }

    #[test]
    fn text_that_is_not_utf8_is_mended() {
        assert_eq!(classic(b"\0\x02ok").text(), Ok("ok".into()));
        assert_eq!(classic(b"\0\x02\xffk").text(), Ok("\u{fffd}k".into()));
    }

    #[test]
    fn words_are_fit_to_be_shown() {
        assert_eq!(classic(b"\xff\xff").words(), Ok(None));
        assert_eq!(
            classic(b"\0\x05no\x1b\n!").words(),
            Ok(Some("no\\u{1b}\\n!".to_owned()))
        );
        let mut long = i16::MAX.to_be_bytes().to_vec();
        long.resize(2 + i16::MAX as usize, b'x');
        let words = classic(&long).words().expect("text").expect("some");
        assert_eq!(words, "x".repeat(MOST_WORDS) + "…");
    }

    #[test]
    fn a_tagged_field_is_as_long_as_it_says() {
        // One field, tag 7, two bytes.
        let bytes = [1, 7, 2, 0, 9];
        let mut seen = None;
        let mut reader = flexible(&bytes);
        reader
            .tags(|tag, field| {
                seen = Some((tag, field.i16()?));
                Ok(())
            })
            .expect("well formed");
        assert_eq!(seen, Some((7, 9)));
        assert_eq!(reader.left(), 0);

        let mut reader = flexible(&bytes);
        let part = reader.tags(|_, field| field.bool().map(drop));
        assert_eq!((part, reader.left()), (Ok(()), 0), "the rest is skipped");
        let overread = flexible(&bytes).tags(|_, field| field.i32().map(drop));
        assert!(matches!(
            overread,
            Err(WireError::Truncated { left: 2, .. })
        ));
        // A claim of four billion fields, and no bytes after it.
        let bomb = [0xff, 0xff, 0xff, 0xff, 0x0f];
        assert!(matches!(
            flexible(&bomb).skip_tags(),
            Err(WireError::Truncated { .. })
        ));
    }

    #[test]
    fn a_throttle_is_clamped() {
        for (millis, expected) in [
            (-5, Duration::ZERO),
            (250, Duration::from_millis(250)),
            (i32::MAX, MAX_THROTTLE),
        ] {
            assert_eq!(classic(&i32::to_be_bytes(millis)).throttle(), Ok(expected));
        }
    }
}
