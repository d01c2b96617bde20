//! InitProducerId: requests an identity for an idempotent producer.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::{InitProducerIdRequest, ProducerId};

use super::header::request_frame;
use super::reader::Reader;
use super::{Api, WireError};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InitProducerIdResponse {
    pub throttle: Duration,
    pub error_code: i16,
    pub producer_id: i64,
    pub epoch: i16,
}

/// A request for a new producer id, without a transactional id.
pub fn encode(version: i16, correlation_id: i32, client_id: &str) -> Result<Bytes, WireError> {
    let request = InitProducerIdRequest::default()
        .with_transactional_id(None)
        .with_transaction_timeout_ms(i32::MAX)
        .with_producer_id(ProducerId(-1))
        .with_producer_epoch(-1);
    request_frame(
        Api::InitProducerId,
        version,
        correlation_id,
        client_id,
        &request,
    )
}

impl InitProducerIdResponse {
    pub fn decode(version: i16, body: &Bytes) -> Result<Self, WireError> {
        Api::InitProducerId.check(version)?;
        let flexible = Api::InitProducerId.is_flexible(version);
        let mut reader = Reader::new("InitProducerId answer", body, flexible);
        let answer = Self {
            throttle: reader.throttle()?,
            error_code: reader.i16()?,
            producer_id: reader.i64()?,
            epoch: reader.i16()?,
        };
        reader.skip_tags()?;
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Buf;
    use kafka_protocol::messages;
    use kafka_protocol::messages::RequestHeader;
    use kafka_protocol::protocol::Decodable;
    use proptest::prelude::*;

    use super::super::hostile::{encoded, mangle};
    use super::*;

    #[test]
    fn another_implementation_reads_the_request() {
        for version in 0..=5 {
            let mut frame = encode(version, 5, "client").expect("a request");
            assert_eq!(frame.get_i32() as usize, frame.len());
            let header_version = if version >= 2 { 2 } else { 1 };
            RequestHeader::decode(&mut frame, header_version).expect("a header");
            let request = InitProducerIdRequest::decode(&mut frame, version).expect("a request");
            assert!(!frame.has_remaining());
            assert_eq!(request.transactional_id, None);
            assert_eq!(request.transaction_timeout_ms, i32::MAX);
            assert_eq!((*request.producer_id, request.producer_epoch), (-1, -1));
        }
        assert!(encode(6, 5, "client").is_err());
    }

    fn response() -> messages::InitProducerIdResponse {
        messages::InitProducerIdResponse::default()
            .with_throttle_time_ms(7)
            .with_error_code(14)
            .with_producer_id(ProducerId(1 << 40))
            .with_producer_epoch(3)
    }

    #[test]
    fn every_version_is_understood() {
        for version in 0..=5 {
            let body = encoded(&response(), version);
            assert_eq!(
                InitProducerIdResponse::decode(version, &body),
                Ok(InitProducerIdResponse {
                    throttle: Duration::from_millis(7),
                    error_code: 14,
                    producer_id: 1 << 40,
                    epoch: 3,
                })
            );
        }
    }

    #[test]
    fn broken_answers_are_refused() {
        for version in 0..=5 {
            mangle(&encoded(&response(), version), |body| {
                InitProducerIdResponse::decode(version, body)
            });
        }
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(
            version in -1i16..=6,
            bytes in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            let _ = InitProducerIdResponse::decode(version, &bytes.into());
        }
    }
}
