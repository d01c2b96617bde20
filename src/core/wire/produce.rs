//! The Produce request, encoded by hand so that the bytes of the records are not copied.

use bytes::{BufMut, BytesMut};
use uuid::Uuid;

use super::header::{put_uvarint, set_length};
use super::{Api, WireError, request_header};

/// Bytes of the header of a v2 batch, from the base offset to the record count.
pub const BATCH_HEADER: usize = 61;

/// One partition's batch in a request.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    pub partition: i32,
    pub header: &'a [u8; BATCH_HEADER],
    /// Bytes of the records after the header, compressed or not.
    pub records_len: usize,
}

/// The batches of one topic. `batches` yields each [`Batch`] and knows their number.
#[derive(Debug, Clone)]
pub struct TopicBatches<'a, B> {
    pub topic: &'a str,
    /// Used instead of the name from version 13 on.
    pub topic_id: Uuid,
    pub batches: B,
}

/// A whole request frame without the records.
#[derive(Debug, Clone)]
pub struct Envelope {
    /// Length prefix, header and body, including the headers of the batches.
    pub bytes: BytesMut,
    /// `cuts[i]` is the position in `bytes` where the records of the i-th batch belong.
    pub cuts: Vec<usize>,
}

/// Encodes a Produce request. The transactional id is of the transaction that all batches belong to.
pub fn encode<'a, T, B>(
    version: i16,
    correlation_id: i32,
    client_id: &str,
    transactional_id: Option<&str>,
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
    match transactional_id {
        Some(id) => put_text(flexible, "a transactional.id", id, &mut out)?,
        None if flexible => out.put_u8(0),
        None => out.put_i16(-1),
    }
    out.put_i16(acks);
    out.put_i32(timeout_ms);

    let topics = topics.into_iter();
    put_count(flexible, topics.len(), &mut out)?;
    for topic in topics {
        if version >= 13 {
            out.put_slice(topic.topic_id.as_bytes());
        } else {
            put_text(flexible, "a topic name", topic.topic, &mut out)?;
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

/// Writes the length of an array or of bytes.
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

fn put_text(
    flexible: bool,
    what: &'static str,
    text: &str,
    out: &mut BytesMut,
) -> Result<(), WireError> {
    let length = i16::try_from(text.len()).map_err(|_| WireError::TooLong {
        what,
        length: text.len(),
        most: i16::MAX as usize,
    })?;
    if flexible {
        put_uvarint(length as u32 + 1, out);
    } else {
        out.put_i16(length);
    }
    out.put_slice(text.as_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::{Buf, Bytes};
    use kafka_protocol::messages::{ProduceRequest, RequestHeader};
    use kafka_protocol::protocol::Decodable;

    use super::*;

    struct OwnedBatch {
        partition: i32,
        header: [u8; BATCH_HEADER],
        records: Vec<u8>,
    }

    impl OwnedBatch {
        fn new(partition: i32, fill: u8, length: usize) -> Self {
            Self {
                partition,
                header: [fill; BATCH_HEADER],
                records: vec![fill ^ 0xff; length],
            }
        }

        fn batch(&self) -> Batch<'_> {
            Batch {
                partition: self.partition,
                header: &self.header,
                records_len: self.records.len(),
            }
        }
    }

    fn topics() -> Vec<(&'static str, Uuid, Vec<OwnedBatch>)> {
        vec![
            (
                "orders",
                Uuid::from_u128(1),
                // Lengths at which the compact form gets longer.
                vec![
                    OwnedBatch::new(0, 1, 0),
                    OwnedBatch::new(7, 2, 65),
                    OwnedBatch::new(i32::MAX, 3, 66),
                    OwnedBatch::new(3, 4, 70_000),
                ],
            ),
            (
                "größen",
                Uuid::from_u128(u128::MAX),
                vec![OwnedBatch::new(2, 5, 9)],
            ),
            ("empty", Uuid::nil(), vec![]),
        ]
    }

    fn glue(envelope: &Envelope, topics: &[(&str, Uuid, Vec<OwnedBatch>)]) -> Bytes {
        let batches = topics.iter().flat_map(|(_, _, batches)| batches);
        let mut out = BytesMut::new();
        let mut from = 0;
        for (batch, &cut) in batches.zip(&envelope.cuts) {
            out.put_slice(&envelope.bytes[from..cut]);
            out.put_slice(&batch.records);
            from = cut;
        }
        out.put_slice(&envelope.bytes[from..]);
        out.freeze()
    }

    #[test]
    fn another_implementation_reads_every_version() {
        let topics = topics();
        let ids = [None, Some("orders-1"), Some("größe")];
        for (version, id) in (3..=13).flat_map(|version| ids.map(|id| (version, id))) {
            let envelope = encode(
                version,
                77,
                "client",
                id,
                -1,
                30_000,
                topics.iter().map(|(topic, id, batches)| TopicBatches {
                    topic,
                    topic_id: *id,
                    batches: batches.iter().map(OwnedBatch::batch),
                }),
            )
            .expect("a request that fits");
            assert_eq!(envelope.cuts.len(), 5);

            let mut frame = glue(&envelope, &topics);
            assert_eq!(frame.get_i32() as usize, frame.len(), "version {version}");
            let header_version = if version >= 9 { 2 } else { 1 };
            let header = RequestHeader::decode(&mut frame, header_version).expect("a header");
            assert_eq!(header.correlation_id, 77);
            let request = ProduceRequest::decode(&mut frame, version).expect("a request");
            assert!(!frame.has_remaining(), "version {version}");
            assert_eq!(request.transactional_id.as_deref().map(|it| &**it), id);
            assert_eq!((request.acks, request.timeout_ms), (-1, 30_000));
            assert_eq!(request.topic_data.len(), topics.len());
            for (sent, (name, id, batches)) in request.topic_data.iter().zip(&topics) {
                if version >= 13 {
                    assert_eq!(sent.topic_id, *id);
                } else {
                    assert_eq!(&**sent.name, *name);
                }
                assert_eq!(sent.partition_data.len(), batches.len());
                for (sent, batch) in sent.partition_data.iter().zip(batches) {
                    assert_eq!(sent.index, batch.partition);
                    let bytes = [&batch.header[..], &batch.records].concat();
                    assert_eq!(sent.records.as_deref(), Some(&bytes[..]));
                }
            }
        }
    }

    fn single(version: i16, topic: &str, records_len: usize) -> Result<Envelope, WireError> {
        of_transaction(version, None, topic, records_len)
    }

    fn of_transaction(
        version: i16,
        id: Option<&str>,
        topic: &str,
        records_len: usize,
    ) -> Result<Envelope, WireError> {
        let header = [0; BATCH_HEADER];
        let batch = Batch {
            partition: 0,
            header: &header,
            records_len,
        };
        let topics = [TopicBatches {
            topic,
            topic_id: Uuid::nil(),
            batches: [batch],
        }];
        encode(version, 1, "client", id, 1, 1_000, topics)
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for version in [3, 9, 12] {
            let name = "x".repeat(40_000);
            assert!(matches!(
                single(version, &name, 1),
                Err(WireError::TooLong { length: 40_000, .. })
            ));
            assert!(matches!(
                of_transaction(version, Some(&name), "t", 1),
                Err(WireError::TooLong { length: 40_000, .. })
            ));
        }
        for records in [i32::MAX as usize - 100, usize::MAX] {
            assert!(matches!(
                single(13, "t", records),
                Err(WireError::TooLong { .. })
            ));
        }
        for version in [-1, 0, 2, 14] {
            assert_eq!(
                single(version, "t", 1).map(|envelope| envelope.cuts),
                Err(WireError::UnknownVersion {
                    api: Api::Produce,
                    version
                })
            );
        }
    }
}
