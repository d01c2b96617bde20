//! InitProducerId: an identity for an idempotent producer.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::{InitProducerIdRequest, ProducerId};

use super::header::request_frame;
use super::reader::Reader;
use super::{Api, WireError};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InitProducerIdAnswer {
    pub throttle: Duration,
    pub error_code: i16,
    pub producer_id: i64,
    pub epoch: i16,
}

/// Asks for a new producer id without a transactional id.
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

impl InitProducerIdAnswer {
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
        reader.finish()?;
        Ok(answer)
    }
}
