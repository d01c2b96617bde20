//! Zigzag varints of Kafka's record format (protocol guide, "Protocol Primitive Types").

use bytes::BufMut;

/// Maps signed numbers to unsigned ones, so that numbers near zero stay small.
#[inline]
pub(crate) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// Bytes that `value` takes as a zigzag varlong: 1 to 10.
#[inline]
pub(crate) fn len(value: i64) -> usize {
    let zigzag = zigzag(value);
    // Each byte holds seven bits: ceil(significant bits / 7). Zero takes one byte.
    let bits = 64 - (zigzag | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Appends `value` as a zigzag varlong. As a varint, the same number has the same bytes.
pub(crate) fn put(out: &mut impl BufMut, value: i64) {
    let mut zigzag = zigzag(value);
    while zigzag >= 0x80 {
        out.put_u8((zigzag as u8) | 0x80);
        zigzag >>= 7;
    }
    out.put_u8(zigzag as u8);
}

/// The encoding of -1, which as a length means null.
pub(crate) const NULL: u64 = 1;

/// Encodes `value` into the lowest `N` bytes of a word. One byte holds up to 63, two up to 8,191,
/// three up to 1,048,575.
#[inline]
pub(crate) fn short<const N: usize>(value: u64) -> u64 {
    const { assert!(1 <= N && N <= 3) };
    let zigzag = value << 1;
    match N {
        1 => zigzag,
        2 => two(zigzag),
        _ => zigzag & 0x7f | 0x8080 | (zigzag >> 7 & 0x7f) << 8 | zigzag >> 14 << 16,
    }
}

/// Encodes a zigzag number of 8 to 14 bits into two bytes.
#[inline]
pub(crate) fn two(zigzag: u64) -> u64 {
    zigzag & 0x7f | 0x80 | zigzag >> 7 << 8
}

/// Removes a varlong from the front of `bytes`. Returns `None` if it is cut short or longer than
/// ten bytes.
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
        for value in 0..1 << 20 {
            let mut bytes = Vec::new();
            put(&mut bytes, value);
            let word = match bytes.len() {
                1 => short::<1>(value as u64),
                2 => short::<2>(value as u64),
                _ => short::<3>(value as u64),
            };
            assert_eq!(word.to_le_bytes()[..bytes.len()], bytes);
            assert_eq!(word >> (8 * bytes.len()), 0);
        }
        assert_eq!(NULL, zigzag(-1));
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
