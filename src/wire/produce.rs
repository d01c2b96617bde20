//! The Produce request, written by hand so that record bytes are never copied.

use bytes::{BufMut, BytesMut};
use uuid::Uuid;

use super::header::set_length;
use super::{Api, WireError, request_header};

/// The length of a v2 batch's header, from base offset to record count.
pub const BATCH_HEADER: usize = 61;

/// One partition's batch in a request.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    pub partition: i32,
    pub header: &'a [u8; BATCH_HEADER],
    /// How many bytes follow the header: the records, compressed or not.
    pub records_len: usize,
}

/// The batches of one topic; `batches` is anything that yields [`Batch`] and knows how many.
#[derive(Debug, Clone)]
pub struct TopicBatches<'a, B> {
    pub topic: &'a str,
    /// Used in place of the name from version 13 on.
    pub topic_id: Uuid,
    pub batches: B,
}

/// A whole request frame except the record bytes.
#[derive(Debug, Clone)]
pub struct Envelope {
    /// Length prefix, header and body, batch headers included.
    pub bytes: BytesMut,
    /// `cuts[i]` is the position in `bytes` where the records of the i-th batch go.
    pub cuts: Vec<usize>,
}

/// Encodes a Produce request. `transactional_id` is null.
pub fn encode<'a, T, B>(
    version: i16,
    correlation_id: i32,
    client_id: &str,
    acks: i16,
    timeout_ms: i32,
    topics: T,
) -> Result<Envelope, WireError>
where
    T: IntoIterator<Item = TopicBatches<'a, B>>,
    T::IntoIter: ExactSizeIterator,
    B: IntoIterator<Item = Batch<'a>>,
    B::IntoIter: ExactSizeIterator,
{
    Api::Produce.check(version)?;
    let flexible = Api::Produce.is_flexible(version);
    let mut out = BytesMut::with_capacity(256);
    let mut cuts = Vec::new();
    let mut elsewhere = 0usize;

    out.put_i32(0);
    request_header(Api::Produce, version, correlation_id, client_id, &mut out)?;
    if flexible {
        out.put_u8(0);
    } else {
        out.put_i16(-1);
    }
    out.put_i16(acks);
    out.put_i32(timeout_ms);

    let topics = topics.into_iter();
    put_count(flexible, topics.len(), &mut out)?;
    for topic in topics {
        if version >= 13 {
            out.put_slice(topic.topic_id.as_bytes());
        } else {
            put_name(flexible, topic.topic, &mut out)?;
        }
        let batches = topic.batches.into_iter();
        put_count(flexible, batches.len(), &mut out)?;
        out.reserve(batches.len() * (BATCH_HEADER + 10));
        cuts.reserve(batches.len());
        for batch in batches {
            out.put_i32(batch.partition);
            let length = BATCH_HEADER.saturating_add(batch.records_len);
            put_count(flexible, length, &mut out)?;
            out.put_slice(batch.header);
            cuts.push(out.len());
            elsewhere = elsewhere.saturating_add(batch.records_len);
            put_no_tags(flexible, &mut out);
        }
        put_no_tags(flexible, &mut out);
    }
    put_no_tags(flexible, &mut out);
    set_length(&mut out, elsewhere)?;
    Ok(Envelope { bytes: out, cuts })
}

fn put_no_tags(flexible: bool, out: &mut BytesMut) {
    if flexible {
        out.put_u8(0);
    }
}

/// The length of an array or of a run of bytes.
fn put_count(flexible: bool, count: usize, out: &mut BytesMut) -> Result<(), WireError> {
    let length = i32::try_from(count).map_err(|_| WireError::TooLong {
        what: "an array or a batch",
        length: count,
        most: i32::MAX as usize,
    })?;
    if flexible {
        put_uvarint(length as u32 + 1, out);
    } else {
        out.put_i32(length);
    }
    Ok(())
}

fn put_name(flexible: bool, name: &str, out: &mut BytesMut) -> Result<(), WireError> {
    let length = i16::try_from(name.len()).map_err(|_| WireError::TooLong {
        what: "a topic name",
        length: name.len(),
        most: i16::MAX as usize,
    })?;
    if flexible {
        put_uvarint(length as u32 + 1, out);
    } else {
        out.put_i16(length);
    }
    out.put_slice(name.as_bytes());
    Ok(())
}

fn put_uvarint(mut value: u32, out: &mut BytesMut) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}
