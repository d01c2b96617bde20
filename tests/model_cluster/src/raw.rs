//! Requests and answers as bytes, without the length before them.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable};

/// A request. It answers to correlation id 7.
pub fn request(api: ApiKey, version: i16, body: &impl Encodable) -> Bytes {
    let header = RequestHeader::default()
        .with_request_api_key(api as i16)
        .with_request_api_version(version)
        .with_correlation_id(7);
    let mut bytes = BytesMut::new();
    let of_header = api.request_header_version(version);
    header.encode(&mut bytes, of_header).expect("a header");
    body.encode(&mut bytes, version).expect("a valid request");
    bytes.freeze()
}

/// What was answered to it.
pub fn response<R: Decodable>(api: ApiKey, version: i16, mut bytes: Bytes) -> R {
    let of_header = api.response_header_version(version);
    let header = ResponseHeader::decode(&mut bytes, of_header).expect("a header");
    assert_eq!(header.correlation_id, 7);
    R::decode(&mut bytes, version).expect("a valid answer")
}
