//! Reads a response without trusting any length or count in it.

use std::time::Duration;

use uuid::Uuid;

use super::WireError;

/// The longest throttle time that is accepted. A broker's quota windows last seconds, and a
/// throttle of days would look like a dead producer.
const MAX_THROTTLE: Duration = Duration::from_secs(300);

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

    fn left(&self) -> usize {
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

    pub fn nullable_text(&mut self) -> Result<Option<&'a str>, WireError> {
        let Some(length) = self.length(|reader| reader.i16().map(i64::from))? else {
            return Ok(None);
        };
        let at = self.at;
        let text = std::str::from_utf8(self.take(length)?).map_err(|_| WireError::NotUtf8 {
            message: self.message,
            at,
        })?;
        Ok(Some(text))
    }

    pub fn text(&mut self) -> Result<&'a str, WireError> {
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

    /// Skips an array of 32-bit integers.
    pub fn skip_i32s(&mut self) -> Result<(), WireError> {
        let count = self.count(4)?;
        self.take(count * 4).map(drop)
    }

    pub fn skip_tags(&mut self) -> Result<(), WireError> {
        self.tags(|_, _| Ok(false))
    }

    /// Reads the tagged fields of a flexible version. `known` returns whether it knows the tag. If
    /// it does, it must read the whole field. Fields with other tags are skipped.
    pub fn tags(
        &mut self,
        mut known: impl FnMut(u32, &mut Reader<'a>) -> Result<bool, WireError>,
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
            if known(tag, &mut field)? {
                field.finish()?;
            }
        }
        Ok(())
    }

    pub fn finish(self) -> Result<(), WireError> {
        match self.left() {
            0 => Ok(()),
            left => Err(WireError::LeftOver {
                message: self.message,
                at: self.at,
                left,
            }),
        }
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
    fn text_is_utf8() {
        assert_eq!(classic(b"\0\x02ok").text(), Ok("ok"));
        assert!(matches!(
            classic(b"\0\x02\xff\xfe").text(),
            Err(WireError::NotUtf8 { at: 2, .. })
        ));
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
                Ok(true)
            })
            .expect("well formed");
        assert_eq!(seen, Some((7, 9)));
        reader.finish().expect("all was read");

        let unread = flexible(&bytes).tags(|_, field| field.bool().map(|_| true));
        assert!(matches!(unread, Err(WireError::LeftOver { left: 1, .. })));
        let overread = flexible(&bytes).tags(|_, field| field.i32().map(|_| true));
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
