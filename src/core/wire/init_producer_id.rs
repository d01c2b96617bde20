//! InitProducerId: requests an identity for an idempotent or a transactional producer.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::{InitProducerIdRequest, ProducerId, TransactionalId};
use kafka_protocol::protocol::StrBytes;

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

/// Who asks for an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker<'a> {
    Idempotent,
    /// The coordinator fences whoever had the id before, and ends its transaction.
    Transactional {
        id: &'a str,
        /// After which time the coordinator aborts a transaction (`transaction.timeout.ms`).
        timeout: Duration,
        /// The producer id and epoch whose next epoch is asked for, in place of taking the id over
        /// (KIP-360). Brokers before Kafka 2.5 (version 3) cannot be asked so.
        bump: Option<(i64, i16)>,
    },
}

/// A request for a new producer id, without a transactional id.
pub fn encode(version: i16, correlation_id: i32, client_id: &str) -> Result<Bytes, WireError> {
    encode_for(version, correlation_id, client_id, Asker::Idempotent)
}

/// A request on behalf of whoever asks.
pub fn encode_for(
    version: i16,
    correlation_id: i32,
    client_id: &str,
    asker: Asker<'_>,
) -> Result<Bytes, WireError> {
    let (id, timeout_ms, bump) = match asker {
        Asker::Idempotent => (None, i32::MAX, None),
        Asker::Transactional { id, timeout, bump } => {
            let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
            let id = TransactionalId(StrBytes::from_string(id.to_owned()));
            (Some(id), timeout_ms, bump)
        }
    };
    let (producer_id, epoch) = bump.unwrap_or((-1, -1));
    let request = InitProducerIdRequest::default()
        .with_transactional_id(id)
        .with_transaction_timeout_ms(timeout_ms)
        .with_producer_id(ProducerId(producer_id))
        .with_producer_epoch(epoch);
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

    use super::super::hostile::{encoded, mangle, read};
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

    #[test]
    fn a_transactional_id_is_named_with_its_timeout() {
        let asker = |bump| Asker::Transactional {
            id: "orders-1",
            timeout: Duration::from_secs(7),
            bump,
        };
        for version in 0..=5 {
            for bump in [None, Some((1 << 40, 6))] {
                let frame = match encode_for(version, 5, "client", asker(bump)) {
                    Ok(frame) => frame,
                    // Before version 3 there is no room for it, and leaving it out would fence.
                    Err(error) if version < 3 && bump.is_some() => {
                        assert!(matches!(error, WireError::Encode { .. }), "{error:?}");
                        continue;
                    }
                    Err(error) => panic!("{error}"),
                };
                assert!(version >= 3 || bump.is_none());
                let request: InitProducerIdRequest = read(Api::InitProducerId, version, frame);
                assert_eq!(
                    request.transactional_id.as_deref().map(|it| &**it),
                    Some("orders-1")
                );
                assert_eq!(request.transaction_timeout_ms, 7_000);
                let from = (*request.producer_id, request.producer_epoch);
                assert_eq!(from, bump.unwrap_or((-1, -1)));
            }
        }
        let long = Asker::Transactional {
            id: "x",
            timeout: Duration::MAX,
            bump: None,
        };
        let frame = encode_for(4, 5, "client", long).expect("a request");
        let request: InitProducerIdRequest = read(Api::InitProducerId, 4, frame);
        assert_eq!(request.transaction_timeout_ms, i32::MAX);
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
