//! The encoding of one record inside a v2 record batch.

use std::sync::Arc;

use bytes::{BufMut, Bytes};

use super::varint;

/// A header of a record. The same key may stand several times in a record; order is kept.
///
/// ```
/// use forebay::Header;
///
/// let header = Header::new("trace", "4bf92f35");
/// assert_eq!(header.key(), "trace");
/// assert_eq!(header.value().map(|value| &value[..]), Some(&b"4bf92f35"[..]));
/// ```
// Its fields are private because how a key is held may change: a static one need not be counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    pub(crate) key: Arc<str>,
    pub(crate) value: Option<Bytes>,
}

impl Header {
    /// A header with a value.
    pub fn new(key: impl Into<Arc<str>>, value: impl Into<Bytes>) -> Self {
        Self {
            key: key.into(),
            value: Some(value.into()),
        }
    }

    /// A header with a null value.
    pub fn null(key: impl Into<Arc<str>>) -> Self {
        Self {
            key: key.into(),
            value: None,
        }
    }

    /// The header's name.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The header's value; `None` is Kafka's null.
    pub fn value(&self) -> Option<&Bytes> {
        self.value.as_ref()
    }
}

/// What is written of a record, borrowed from the caller.
#[derive(Debug, Clone, Copy)]
pub struct RecordRef<'a> {
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: &'a [Header],
    /// Milliseconds since the Unix epoch.
    pub timestamp: i64,
}

/// The most bytes that a record takes beside its key, value and headers: length 5, attributes 1,
/// timestamp delta 10, offset delta 5, key length 5, value length 5, header count 5.
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
    /// Bytes of the record after its own length field.
    fn body_len(&self, offset_delta: i32, timestamp_delta: i64) -> usize {
        1 + varint::len(timestamp_delta)
            + varint::len(i64::from(offset_delta))
            + optional_len(self.key)
            + optional_len(self.value)
            + headers_len(self.headers)
    }

    /// An upper bound of the encoded length, for any timestamp delta and offset delta.
    #[inline]
    pub fn upper_bound(&self) -> usize {
        let headers = if self.headers.is_empty() {
            0
        } else {
            headers_len(self.headers)
        };
        MAX_OVERHEAD + self.key.map_or(0, <[u8]>::len) + self.value.map_or(0, <[u8]>::len) + headers
    }

    /// Writes the record into `out`, starting at `at`, and returns where it ends. If it would end
    /// after `limit`, returns `None`. Then the bytes from `at` on have no meaning.
    #[inline(never)]
    pub fn encode(
        &self,
        out: &mut [u8],
        at: usize,
        limit: usize,
        offset_delta: i32,
        timestamp_delta: i64,
    ) -> Option<usize> {
        let early = (timestamp_delta as u64) < 64;
        let (Some(value), true) = (self.value, early && self.headers.is_empty()) else {
            return self.encode_seldom(out, at, limit, offset_delta, timestamp_delta);
        };
        let plain = Plain {
            key: self.key,
            value,
            timestamp: timestamp_delta as u64,
            offset: offset_delta as u64,
        };
        match plain.encode::<1, false>(out, at, limit) {
            Some(end) => Some(end),
            None => self.encode_any(out, at, limit, offset_delta, timestamp_delta),
        }
    }

    /// The slower path for records that are rare: a timestamp 64 ms or more after the batch's first
    /// record, or before it (another thread may have opened the batch in between), headers, or a
    /// null value.
    #[inline(never)]
    fn encode_seldom(
        &self,
        out: &mut [u8],
        at: usize,
        limit: usize,
        offset_delta: i32,
        timestamp_delta: i64,
    ) -> Option<usize> {
        if let Some(value) = self.value
            && self.headers.is_empty()
        {
            let plain = |timestamp| Plain {
                key: self.key,
                value,
                timestamp,
                offset: offset_delta as u64,
            };
            let end = match varint::zigzag(timestamp_delta) {
                zigzag @ ..0x80 => plain(zigzag).encode::<1, true>(out, at, limit),
                zigzag @ ..0x4000 => plain(varint::two(zigzag)).encode::<2, true>(out, at, limit),
                _ => None,
            };
            if end.is_some() {
                return end;
            }
        }
        self.encode_any(out, at, limit, offset_delta, timestamp_delta)
    }

    #[inline(never)]
    fn encode_any(
        &self,
        out: &mut [u8],
        at: usize,
        limit: usize,
        offset_delta: i32,
        timestamp_delta: i64,
    ) -> Option<usize> {
        let body = self.body_len(offset_delta, timestamp_delta);
        let end = at + varint::len(body as i64) + body;
        if end > limit {
            return None;
        }
        let out = &mut out.get_mut(at..end)?;
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
        Some(end)
    }
}

/// The usual record: without headers, and with small numbers.
///
/// How many bytes each number takes is decided by branches, not computed. Processors predict these
/// branches well, and within each branch the shifts are constants.
struct Plain<'a> {
    key: Option<&'a [u8]>,
    value: &'a [u8],
    timestamp: u64,
    offset: u64,
}

/// Bytes that may be overwritten after the end of a record, because numbers are written as whole
/// words.
const SPILL: usize = size_of::<u64>();

impl Plain<'_> {
    /// Returns `None` if there is no room or a number is too large for this path.
    ///
    /// `T` is the number of bytes of the timestamp delta. With `Z`, `timestamp` is already encoded,
    /// since the delta may be negative. Without `Z`, it is encoded here. `Z` is a type parameter so
    /// that the usual version has a single caller and is inlined there.
    #[inline]
    fn encode<const T: usize, const Z: bool>(
        &self,
        out: &mut [u8],
        at: usize,
        limit: usize,
    ) -> Option<usize> {
        match (self.offset, self.value.len() < 64) {
            (..64, false) => self.write::<T, Z, 1, 2>(out, at, limit),
            (..64, true) => self.write::<T, Z, 1, 1>(out, at, limit),
            (..8_192, false) => self.write::<T, Z, 2, 2>(out, at, limit),
            (..8_192, true) => self.write::<T, Z, 2, 1>(out, at, limit),
            (..1_048_576, false) => self.write::<T, Z, 3, 2>(out, at, limit),
            (..1_048_576, true) => self.write::<T, Z, 3, 1>(out, at, limit),
            _ => None,
        }
    }

    /// `O` and `V` are the number of bytes of the offset delta and of the value's length.
    #[inline]
    fn write<const T: usize, const Z: bool, const O: usize, const V: usize>(
        &self,
        out: &mut [u8],
        at: usize,
        limit: usize,
    ) -> Option<usize> {
        let key_len = self.key.map_or(0, <[u8]>::len);
        let body = 1 + T + O + 1 + key_len + V + self.value.len() + 1;
        if key_len >= 64 || body >= 8_192 {
            return None;
        }
        let long = V == 2 || body >= 64;
        let end = at + body + if long { 2 } else { 1 };
        if end > limit {
            return None;
        }
        let out = out.get_mut(at..end + SPILL)?;
        let timestamp = match Z {
            true => self.timestamp,
            false => varint::short::<T>(self.timestamp),
        };
        let times = timestamp | varint::short::<O>(self.offset) << (8 * T);
        // The byte between the length and the timestamp delta holds the attributes. It is 0, as
        // Kafka defines none.
        let at = if long {
            put(out, 0, varint::short::<2>(body as u64) | times << 24)?;
            3 + T + O
        } else {
            put(out, 0, varint::short::<1>(body as u64) | times << 16)?;
            2 + T + O
        };
        let value_len = varint::short::<V>(self.value.len() as u64);
        let at = match self.key {
            None => {
                put(out, at, varint::NULL | value_len << 8)?;
                at + 1 + V
            }
            Some(key) => {
                *out.get_mut(at)? = varint::short::<1>(key_len as u64) as u8;
                let at = at + 1;
                out.get_mut(at..at + key.len())?.copy_from_slice(key);
                put(out, at + key.len(), value_len)?;
                at + key.len() + V
            }
        };
        let behind = at + self.value.len();
        out.get_mut(at..behind)?.copy_from_slice(self.value);
        *out.get_mut(behind)? = 0; // no headers
        Some(end)
    }
}

/// Writes a whole word. Only its lowest bytes count.
#[inline]
fn put(out: &mut [u8], at: usize, word: u64) -> Option<()> {
    *out.get_mut(at..)?.first_chunk_mut()? = word.to_le_bytes();
    Some(())
}

/// Copies the first `count` records to `out` with offset deltas that start at 0 again, to split a
/// batch. Timestamps stay relative to the same base.
///
/// Returns the remaining bytes and the largest timestamp delta of the copied records. Returns
/// `None` if the bytes are not valid records, which cannot happen with records that were encoded
/// here.
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

    fn encode(record: &RecordRef<'_>, offset_delta: i32, timestamp_delta: i64) -> Vec<u8> {
        let mut out = vec![0xaa; record.upper_bound() + SPILL];
        let end = record.encode(&mut out, 0, usize::MAX, offset_delta, timestamp_delta);
        let end = end.expect("room enough");
        assert!(end <= record.upper_bound());
        // The bytes are the same with no room to spare and at another start, or nothing is written.
        for before in [0, 7] {
            let mut exact = vec![0xaa; before + end];
            let limit = exact.len();
            let again = record.encode(&mut exact, before, limit, offset_delta, timestamp_delta);
            assert_eq!((again, &exact[before..]), (Some(limit), &out[..end]));
            assert_eq!(exact[..before], vec![0xaa; before]);
        }
        let limit = end - 1;
        let refused = record.encode(&mut out.clone(), 0, limit, offset_delta, timestamp_delta);
        assert_eq!(refused, None);
        out.truncate(end);
        out
    }

    proptest::proptest! {
        #[test]
        fn short_numbers_make_the_same_record(
            key in proptest::option::of(0usize..9_000),
            value in proptest::option::of(0usize..9_000),
            offset_delta in proptest::prop_oneof![0i32..100, 0i32..20_000, 0i32..2_000_000],
            timestamp_delta in proptest::prop_oneof![0i64..100, -20_000i64..20_000],
        ) {
            let (key, value) = (key.map(|n| vec![b'k'; n]), value.map(|n| vec![b'v'; n]));
            let record = RecordRef {
                key: key.as_deref(),
                value: value.as_deref(),
                headers: &[],
                timestamp: 0,
            };
            let mut plain = vec![0; record.upper_bound()];
            let end = record.encode_any(&mut plain, 0, usize::MAX, offset_delta, timestamp_delta);
            plain.truncate(end.expect("room enough"));
            proptest::prop_assert_eq!(encode(&record, offset_delta, timestamp_delta), plain);
        }
    }

    #[test]
    fn every_way_to_write_a_record_ends_where_the_next_one_begins() {
        let edges = |numbers: &[i64]| -> Vec<i64> {
            let each = numbers.iter().flat_map(|n| [n - 1, *n, n + 1]);
            each.collect()
        };
        let timestamps = edges(&[-8_192, -64, 0, 64, 8_192]);
        let offsets = edges(&[1, 64, 8_192, 1_048_576]);
        let sizes = [0, 1, 50, 57, 58, 59, 60, 63, 64, 65, 8_180, 8_192];
        for (timestamp, offset) in timestamps
            .iter()
            .flat_map(|t| offsets.iter().map(move |o| (*t, *o)))
        {
            for value in sizes {
                for key in [None, Some(0), Some(1), Some(63), Some(64)] {
                    let (value, key) = (vec![b'v'; value], key.map(|n| vec![b'k'; n]));
                    let record = RecordRef {
                        key: key.as_deref(),
                        value: Some(&value),
                        headers: &[],
                        timestamp: 0,
                    };
                    let mut any = vec![0; record.upper_bound()];
                    let end = record.encode_any(&mut any, 0, usize::MAX, offset as i32, timestamp);
                    any.truncate(end.expect("room enough"));
                    let bytes = encode(&record, offset as i32, timestamp);
                    assert!(bytes == any, "{timestamp} {offset} {} {key:?}", value.len());
                }
            }
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
        let headers = [Header::new("a", "1"), Header::null("a")];
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
