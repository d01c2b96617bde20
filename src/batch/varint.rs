//! Zigzag varints, as Kafka's record format has them (protocol guide, "Protocol Primitive Types").

use bytes::BufMut;

/// Small numbers of either sign to small ones without.
#[inline]
pub(crate) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// Bytes that `value` takes as a zigzag varlong, 1 to 10.
#[inline]
pub(crate) fn len(value: i64) -> usize {
    let zigzag = zigzag(value);
    // Seven bits a byte: ceil(significant bits / 7), with zero taking one byte.
    let bits = 64 - (zigzag | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Appends `value` as a zigzag varlong. A varint is the same bytes for the same number.
pub(crate) fn put(out: &mut impl BufMut, value: i64) {
    let mut zigzag = zigzag(value);
    while zigzag >= 0x80 {
        out.put_u8((zigzag as u8) | 0x80);
        zigzag >>= 7;
    }
    out.put_u8(zigzag as u8);
}

/// Numbers of up to eight bytes together, collected in a register and written at once.
#[derive(Clone, Copy, Default)]
pub(crate) struct Word {
    bytes: u64,
    pub len: usize,
}

impl Word {
    /// The zigzag numbers below this take one or two bytes.
    pub const SHORT: u64 = 1 << 14;

    /// A zigzag number below [`SHORT`](Self::SHORT).
    #[inline]
    pub fn short(zigzag: u64) -> Self {
        let high = zigzag >> 7;
        let more = u64::from(high > 0);
        Self {
            bytes: zigzag & 0x7f | more << 7 | high << 8,
            len: 1 + more as usize,
        }
    }

    /// `next` behind it; together they have no more than eight bytes.
    #[inline]
    pub fn and(self, next: Self) -> Self {
        Self {
            bytes: self.bytes | next.bytes << (8 * self.len),
            len: self.len + next.len,
        }
    }

    /// Writes it at the front of `out`, and something or other up to the eighth byte. Returns what
    /// is behind it.
    #[inline]
    pub fn put(self, out: &mut [u8]) -> Option<&mut [u8]> {
        *out.first_chunk_mut()? = self.bytes.to_le_bytes();
        out.get_mut(self.len..)
    }
}

/// Takes a varlong off the front of `bytes`; `None` if it is cut short or longer than ten bytes.
#[inline]
pub(crate) fn take(bytes: &mut &[u8]) -> Option<i64> {
    let mut zigzag = 0u64;
    for (i, &byte) in bytes.iter().take(10).enumerate() {
        zigzag |= u64::from(byte & 0x7f) << (7 * i);
        if byte < 0x80 {
            *bytes = &bytes[i + 1..];
            return Some((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_encodings() {
        for (value, bytes) in [
            (0i64, vec![0x00]),
            (-1, vec![0x01]),
            (1, vec![0x02]),
            (63, vec![0x7e]),
            (-64, vec![0x7f]),
            (64, vec![0x80, 0x01]),
            (8191, vec![0xfe, 0x7f]),
            (8192, vec![0x80, 0x80, 0x01]),
        ] {
            let mut out = Vec::new();
            put(&mut out, value);
            assert_eq!(out, bytes, "{value}");
        }
    }

    #[test]
    fn short_numbers_are_the_same_bytes() {
        for zigzag in 0..Word::SHORT {
            let mut bytes = Vec::new();
            put(&mut bytes, (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64));
            let mut out = [0; 8];
            assert!(Word::short(zigzag).put(&mut out).is_some());
            assert_eq!(out[..bytes.len()], bytes);
            assert_eq!(Word::short(zigzag).len, bytes.len());
        }
    }

    #[test]
    fn a_word_is_one_number_behind_the_other() {
        let word = Word::short(300).and(Word::short(0)).and(Word::short(127));
        let mut out = [9; 10];
        assert_eq!(word.put(&mut out).map(|rest| rest.len()), Some(6));
        assert_eq!(out[..4], [0xac, 0x02, 0x00, 0x7f]);
        assert!(
            word.put(&mut out[..7]).is_none(),
            "it is written at once or not"
        );
    }

    proptest::proptest! {
        #[test]
        fn round_trip_and_length(value: i64) {
            let mut out = Vec::new();
            put(&mut out, value);
            proptest::prop_assert_eq!(out.len(), len(value));
            let mut rest = out.as_slice();
            proptest::prop_assert_eq!(take(&mut rest), Some(value));
            proptest::prop_assert!(rest.is_empty());
        }
    }

    #[test]
    fn cut_short_or_too_long_is_refused() {
        assert_eq!(take(&mut [0x80, 0x80].as_slice()), None);
        assert_eq!(take(&mut [0xff; 12].as_slice()), None);
    }
}
