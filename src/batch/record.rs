//! One record in the form it has inside a v2 record batch.

use bytes::BufMut;

use super::varint::{self, Word, zigzag};
use crate::record::Header;

/// The parts of a record that reach the wire, borrowed from whoever sends it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RecordRef<'a> {
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: &'a [Header],
    /// Milliseconds since the epoch.
    pub timestamp: i64,
}

/// What a record takes at most beside key, value and headers: length 5, attributes 1, timestamp
/// delta 10, offset delta 5, key length 5, value length 5, header count 5.
const MAX_OVERHEAD: usize = 36;

fn optional_len(bytes: Option<&[u8]>) -> usize {
    match bytes {
        Some(bytes) => varint::len(bytes.len() as i64) + bytes.len(),
        None => 1,
    }
}

fn headers_len(headers: &[Header]) -> usize {
    let each = |h: &Header| {
        varint::len(h.key.len() as i64) + h.key.len() + optional_len(h.value.as_deref())
    };
    varint::len(headers.len() as i64) + headers.iter().map(each).sum::<usize>()
}

fn put_optional(out: &mut impl BufMut, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => {
            varint::put(out, bytes.len() as i64);
            out.put_slice(bytes);
        }
        None => varint::put(out, -1),
    }
}

impl RecordRef<'_> {
    /// Length of everything behind the record's own length field.
    fn body_len(&self, offset_delta: i32, timestamp_delta: i64) -> usize {
        1 + varint::len(timestamp_delta)
            + varint::len(i64::from(offset_delta))
            + optional_len(self.key)
            + optional_len(self.value)
            + headers_len(self.headers)
    }

    /// An upper bound of the encoded length, whatever the deltas turn out to be.
    #[inline]
    pub fn upper_bound(&self) -> usize {
        let headers = if self.headers.is_empty() {
            0
        } else {
            headers_len(self.headers)
        };
        MAX_OVERHEAD + self.key.map_or(0, <[u8]>::len) + self.value.map_or(0, <[u8]>::len) + headers
    }

    /// Writes the record at the front of `out` and returns its length, or `None`, and nothing that
    /// counts is written, if that is more than `room`.
    #[inline]
    pub fn encode(
        &self,
        out: &mut [u8],
        room: usize,
        offset_delta: i32,
        timestamp_delta: i64,
    ) -> Option<usize> {
        let (key, value) = (self.key.unwrap_or_default(), self.value.unwrap_or_default());
        let timestamp = zigzag(timestamp_delta);
        let offset = zigzag(i64::from(offset_delta));
        let key_len = zigzag(self.key.map_or(-1, |key| key.len() as i64));
        let value_len = zigzag(self.value.map_or(-1, |value| value.len() as i64));
        // Nearly every record has numbers of one or two bytes only.
        if timestamp | offset | key_len | value_len >= Word::SHORT || !self.headers.is_empty() {
            return self.encode_any(out, room, offset_delta, timestamp_delta);
        }
        let times = Word::short(timestamp).and(Word::short(offset));
        let (key_len, value_len) = (Word::short(key_len), Word::short(value_len));
        let body = 1 + times.len + key_len.len + key.len() + value_len.len + value.len() + 1;
        let length = zigzag(body as i64);
        if length >= Word::SHORT {
            return self.encode_any(out, room, offset_delta, timestamp_delta);
        }
        let length = Word::short(length);
        let total = length.len + body;
        // A word is written whole, so there has to be room for that.
        if total > room || out.len() < total + size_of::<u64>() {
            return self.encode_any(out, room, offset_delta, timestamp_delta);
        }
        let attributes = Word::short(0); // none are defined
        let rest = length.and(attributes).and(times).put(out)?;
        let rest = match key.is_empty() {
            true => key_len.and(value_len).put(rest)?,
            false => {
                let (place, rest) = key_len.put(rest)?.split_at_mut_checked(key.len())?;
                place.copy_from_slice(key);
                value_len.put(rest)?
            }
        };
        let (place, rest) = rest.split_at_mut_checked(value.len())?;
        place.copy_from_slice(value);
        *rest.first_mut()? = 0; // no headers
        Some(total)
    }

    #[cold]
    fn encode_any(
        &self,
        mut out: &mut [u8],
        room: usize,
        offset_delta: i32,
        timestamp_delta: i64,
    ) -> Option<usize> {
        let body = self.body_len(offset_delta, timestamp_delta);
        let total = varint::len(body as i64) + body;
        if total > room.min(out.len()) {
            return None;
        }
        let out = &mut out;
        varint::put(out, body as i64);
        out.put_u8(0); // attributes: none are defined
        varint::put(out, timestamp_delta);
        varint::put(out, i64::from(offset_delta));
        put_optional(out, self.key);
        put_optional(out, self.value);
        varint::put(out, self.headers.len() as i64);
        for header in self.headers {
            varint::put(out, header.key.len() as i64);
            out.put_slice(header.key.as_bytes());
            put_optional(out, header.value.as_deref());
        }
        Some(total)
    }
}

/// Copies `count` records from the front of `records`, counting their offsets from 0 again.
///
/// Used to split a batch; timestamps stay relative to the same base. Returns what is behind them
/// and their largest timestamp delta, or `None` if the bytes are not records, which those we wrote
/// ourselves always are.
pub(crate) fn renumber<'a>(
    mut records: &'a [u8],
    count: i32,
    out: &mut Vec<u8>,
) -> Option<(&'a [u8], i64)> {
    let mut latest = i64::MIN;
    for offset_delta in 0..i64::from(count) {
        let length = usize::try_from(varint::take(&mut records)?).ok()?;
        let mut body = records.get(..length)?;
        records = &records[length..];
        let (&attributes, rest) = body.split_first()?;
        body = rest;
        let timestamp_delta = varint::take(&mut body)?;
        latest = latest.max(timestamp_delta);
        let old_offset = varint::take(&mut body)?;
        let length = length - varint::len(old_offset) + varint::len(offset_delta);
        varint::put(out, length as i64);
        out.push(attributes);
        varint::put(out, timestamp_delta);
        varint::put(out, offset_delta);
        out.extend_from_slice(body);
    }
    Some((records, latest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn encode(record: &RecordRef<'_>, offset_delta: i32, timestamp_delta: i64) -> Vec<u8> {
        let mut out = vec![0xaa; record.upper_bound() + 8];
        let length = record.encode(&mut out, usize::MAX, offset_delta, timestamp_delta);
        let length = length.expect("room enough");
        assert!(length <= record.upper_bound());
        // However little room there is, the bytes are the same, or there are none.
        let mut exact = vec![0xaa; length];
        let again = record.encode(&mut exact, length, offset_delta, timestamp_delta);
        assert_eq!((again, &*exact), (Some(length), &out[..length]));
        let room = length - 1;
        let refused = record.encode(&mut out.clone(), room, offset_delta, timestamp_delta);
        assert_eq!(refused, None);
        out.truncate(length);
        out
    }

    proptest::proptest! {
        #[test]
        fn short_numbers_make_the_same_record(
            key in proptest::option::of(0usize..9_000),
            value in proptest::option::of(0usize..9_000),
            offset_delta in 0i32..20_000,
            timestamp_delta in -20_000i64..20_000,
        ) {
            let (key, value) = (key.map(|n| vec![b'k'; n]), value.map(|n| vec![b'v'; n]));
            let record = RecordRef {
                key: key.as_deref(),
                value: value.as_deref(),
                headers: &[],
                timestamp: 0,
            };
            let mut plain = vec![0; record.upper_bound()];
            let length = record.encode_any(&mut plain, usize::MAX, offset_delta, timestamp_delta);
            plain.truncate(length.expect("room enough"));
            proptest::prop_assert_eq!(encode(&record, offset_delta, timestamp_delta), plain);
        }
    }

    #[test]
    fn null_key_and_value() {
        let record = RecordRef {
            key: None,
            value: None,
            headers: &[],
            timestamp: 0,
        };
        assert_eq!(encode(&record, 0, 0), [12, 0, 0, 0, 1, 1, 0]);
    }

    #[test]
    fn empty_is_not_null() {
        let record = RecordRef {
            key: Some(b""),
            value: Some(b""),
            headers: &[],
            timestamp: 0,
        };
        assert_eq!(encode(&record, 0, 0), [12, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn duplicate_headers_keep_their_order() {
        let headers = [
            Header {
                key: "a".into(),
                value: Some(Bytes::from_static(b"1")),
            },
            Header {
                key: "a".into(),
                value: None,
            },
        ];
        let record = RecordRef {
            key: None,
            value: None,
            headers: &headers,
            timestamp: 0,
        };
        assert_eq!(
            encode(&record, 0, 0),
            [26, 0, 0, 0, 1, 1, 4, 2, b'a', 2, b'1', 2, b'a', 1]
        );
    }

    #[test]
    fn upper_bound_holds_at_the_extremes() {
        let record = RecordRef {
            key: Some(&[7; 300]),
            value: None,
            headers: &[],
            timestamp: 0,
        };
        encode(&record, i32::MAX, i64::MIN);
    }

    #[test]
    fn renumber_is_the_encoding_from_zero() {
        let value = vec![9u8; 200];
        let record = RecordRef {
            key: Some(b"k"),
            value: Some(&value),
            headers: &[],
            timestamp: 0,
        };
        let mut late = Vec::new();
        let mut early = Vec::new();
        for i in 0..100 {
            late.extend(encode(&record, 8_150 + i, i64::from(i)));
            early.extend(encode(&record, i, i64::from(i)));
        }
        let mut out = Vec::new();
        assert_eq!(renumber(&late, 100, &mut out), Some((&[][..], 99)));
        assert_eq!(out, early);
        assert_eq!(
            renumber(&late[..late.len() - 1], 100, &mut Vec::new()),
            None
        );
    }
}
