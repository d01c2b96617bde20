//! Reads records as they stand in a batch.

use super::varint;

/// A record of a batch, as it was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReadRecord<'a> {
    /// Milliseconds behind the batch's base timestamp.
    pub timestamp_delta: i64,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: Vec<(&'a [u8], Option<&'a [u8]>)>,
}

impl<'a> ReadRecord<'a> {
    /// Takes the first record away. `None` if the bytes do not begin with one.
    pub fn take(records: &mut &'a [u8]) -> Option<Self> {
        let length = usize::try_from(varint::take(records)?).ok()?;
        let (record, rest) = records.split_at_checked(length)?;
        let (_attributes, mut record) = record.split_first()?;
        let timestamp_delta = varint::take(&mut record)?;
        let _index = varint::take(&mut record)?;
        let key = bytes(&mut record)?;
        let value = bytes(&mut record)?;
        let count = varint::take(&mut record)?;
        let mut headers = Vec::new();
        for _ in 0..count {
            headers.push((bytes(&mut record)??, bytes(&mut record)?));
        }
        *records = rest;
        Some(Self {
            timestamp_delta,
            key,
            value,
            headers,
        })
    }
}

/// Bytes behind their length, which is -1 where there are none.
fn bytes<'a>(record: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let length = varint::take(record)?;
    if length < 0 {
        return Some(None);
    }
    let (bytes, rest) = record.split_at_checked(usize::try_from(length).ok()?)?;
    *record = rest;
    Some(Some(bytes))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::core::batch::{Header, RecordRef};

    #[test]
    fn a_record_is_read_as_it_was_encoded() {
        let headers = [
            Header::new("trace", Bytes::from_static(b"7")),
            Header {
                key: "none".into(),
                value: None,
            },
        ];
        let mut memory = [0; 256];
        let mut end = 0;
        for (key, value, headers) in [
            (None, Some(&b"value"[..]), &[][..]),
            (Some(&b"key"[..]), None, &headers[..]),
        ] {
            let record = RecordRef {
                key,
                value,
                headers,
                timestamp: 0,
            };
            end = record.encode(&mut memory, end, 256, 3, -5).expect("room");
        }
        let mut rest = &memory[..end];
        let first = ReadRecord::take(&mut rest).expect("a record");
        assert_eq!((first.key, first.value), (None, Some(&b"value"[..])));
        assert_eq!((first.timestamp_delta, first.headers), (-5, Vec::new()));
        let second = ReadRecord::take(&mut rest).expect("another");
        assert_eq!((second.key, second.value), (Some(&b"key"[..]), None));
        let expected = [(&b"trace"[..], Some(&b"7"[..])), (&b"none"[..], None)];
        assert_eq!(second.headers, expected);
        assert!(rest.is_empty());
        for cut in 0..end / 2 {
            assert_eq!(ReadRecord::take(&mut &memory[..cut.min(8)]), None, "{cut}");
        }
    }
}
