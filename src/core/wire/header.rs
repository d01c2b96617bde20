//! Request and response headers, and the length prefix of a request.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::protocol::Encodable;

use super::reader::Reader;
use super::{Api, WireError};

impl Api {
    pub(super) fn check(self, version: i16) -> Result<(), WireError> {
        let (min, max) = self.ours();
        if (min..=max).contains(&version) {
            Ok(())
        } else {
            Err(WireError::UnknownVersion { api: self, version })
        }
    }
}

/// Appends request header v1, or v2 for flexible versions.
pub fn request_header(
    api: Api,
    version: i16,
    correlation_id: i32,
    client_id: &str,
    out: &mut BytesMut,
) -> Result<(), WireError> {
    let length = i16::try_from(client_id.len()).map_err(|_| WireError::TooLong {
        what: "a client.id",
        length: client_id.len(),
        most: i16::MAX as usize,
    })?;
    out.put_i16(api.key());
    out.put_i16(version);
    out.put_i32(correlation_id);
    // Header v2 also has the client id with a 16-bit length.
    out.put_i16(length);
    out.put_slice(client_id.as_bytes());
    if api.is_flexible(version) {
        out.put_u8(0);
    }
    Ok(())
}

/// Appends a varint: a length in a flexible version.
pub(super) fn put_uvarint(mut value: u32, out: &mut BytesMut) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// The correlation id of a response. It is at the same place in every header version.
pub fn correlation_id(frame: &[u8]) -> Result<i32, WireError> {
    Reader::new("response header", frame, false).i32()
}

/// Removes the response header from a frame. Returns the correlation id and the body.
pub fn split_response(api: Api, version: i16, mut frame: Bytes) -> Result<(i32, Bytes), WireError> {
    // The response to ApiVersions never has a flexible header, because the client does not know yet
    // which versions the broker has.
    let flexible = api.is_flexible(version) && api != Api::Versions;
    let mut header = Reader::new("response header", &frame, flexible);
    let correlation_id = header.i32()?;
    header.skip_tags()?;
    let length = header.at();
    Ok((correlation_id, frame.split_off(length)))
}

/// Encodes a whole request frame from a generated message.
pub(super) fn request_frame(
    api: Api,
    version: i16,
    correlation_id: i32,
    client_id: &str,
    body: &impl Encodable,
) -> Result<Bytes, WireError> {
    api.check(version)?;
    let mut out = BytesMut::with_capacity(128);
    out.put_i32(0);
    request_header(api, version, correlation_id, client_id, &mut out)?;
    body.encode(&mut out, version)
        .map_err(|error| WireError::Encode {
            api,
            reason: error.to_string(),
        })?;
    set_length(&mut out, 0)?;
    Ok(out.freeze())
}

/// Writes the length prefix of a frame. `elsewhere` bytes of the frame are not in `out`.
pub(super) fn set_length(out: &mut BytesMut, elsewhere: usize) -> Result<(), WireError> {
    let length = out.len().saturating_sub(4).saturating_add(elsewhere);
    let prefix = i32::try_from(length).map_err(|_| WireError::TooLong {
        what: "a request",
        length,
        most: i32::MAX as usize,
    })?;
    out[..4].copy_from_slice(&prefix.to_be_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::Buf;
    use kafka_protocol::messages::RequestHeader;
    use kafka_protocol::protocol::Decodable;

    use super::*;

    const ALL: [Api; 15] = [
        Api::Produce,
        Api::Metadata,
        Api::Versions,
        Api::InitProducerId,
        Api::SaslHandshake,
        Api::SaslAuthenticate,
        Api::FindCoordinator,
        Api::AddPartitionsToTxn,
        Api::AddOffsetsToTxn,
        Api::EndTxn,
        Api::TxnOffsetCommit,
        Api::ListOffsets,
        Api::Fetch,
        Api::DescribeTransactions,
        Api::DescribeConfigs,
    ];

    #[test]
    fn request_headers_are_read_by_another_implementation() {
        for api in ALL {
            let (min, max) = api.ours();
            for version in min..=max {
                let mut out = BytesMut::new();
                request_header(api, version, -7, "lärm", &mut out).expect("a short client id");
                let mut bytes = out.freeze();
                let header_version = kafka_protocol::messages::ApiKey::try_from(api.key())
                    .expect("a known key")
                    .request_header_version(version);
                let header = RequestHeader::decode(&mut bytes, header_version).expect("a header");
                assert_eq!(header.request_api_key, api.key());
                assert_eq!(header.request_api_version, version);
                assert_eq!(header.correlation_id, -7);
                assert_eq!(header.client_id.as_deref(), Some("lärm"));
                assert!(!bytes.has_remaining());
            }
        }
    }

    #[test]
    fn response_headers_are_as_long_as_their_version_says() {
        for api in ALL {
            let (min, max) = api.ours();
            for version in min..=max {
                let header_version = kafka_protocol::messages::ApiKey::try_from(api.key())
                    .expect("a known key")
                    .response_header_version(version);
                let mut frame = 42i32.to_be_bytes().to_vec();
                if header_version == 1 {
                    // One unknown tagged field of two bytes.
                    frame.extend([1, 9, 2, 0xaa, 0xbb]);
                }
                frame.extend(b"body");
                assert_eq!(correlation_id(&frame), Ok(42));
                assert_eq!(
                    split_response(api, version, frame.into()),
                    Ok((42, Bytes::from_static(b"body")))
                );
            }
        }
    }

    #[test]
    fn frames_too_short_for_a_header_are_refused() {
        for length in 0..4 {
            let frame = vec![0; length];
            assert!(correlation_id(&frame).is_err());
            assert!(split_response(Api::Versions, 3, frame.into()).is_err());
        }
        assert!(split_response(Api::Produce, 9, vec![0; 4].into()).is_err());
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let long = "x".repeat(40_000);
        let mut out = BytesMut::new();
        assert!(matches!(
            request_header(Api::Produce, 9, 1, &long, &mut out),
            Err(WireError::TooLong { length: 40_000, .. })
        ));
        let mut out = BytesMut::from(&[0; 4][..]);
        assert!(set_length(&mut out, i32::MAX as usize).is_ok());
        assert!(set_length(&mut out, i32::MAX as usize + 1).is_err());
    }
}
