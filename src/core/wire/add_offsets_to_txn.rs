//! AddOffsetsToTxn: names the group whose offsets a transaction is going to commit, in the first
//! protocol.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::{AddOffsetsToTxnRequest, GroupId, ProducerId, TransactionalId};
use kafka_protocol::protocol::StrBytes;

use super::header::request_frame;
use super::reader::Reader;
use super::{Api, Transactor, WireError};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddOffsetsToTxnResponse {
    pub throttle: Duration,
    pub error_code: i16,
}

/// A request to add a group's offsets.
pub fn encode(
    version: i16,
    correlation_id: i32,
    client_id: &str,
    transactor: Transactor<'_>,
    group: &str,
) -> Result<Bytes, WireError> {
    let text = |text: &str| StrBytes::from_string(text.to_owned());
    let request = AddOffsetsToTxnRequest::default()
        .with_transactional_id(TransactionalId(text(transactor.transactional_id)))
        .with_producer_id(ProducerId(transactor.producer_id))
        .with_producer_epoch(transactor.epoch)
        .with_group_id(GroupId(text(group)));
    let api = Api::AddOffsetsToTxn;
    request_frame(api, version, correlation_id, client_id, &request)
}

impl AddOffsetsToTxnResponse {
    pub fn decode(version: i16, body: &Bytes) -> Result<Self, WireError> {
        let api = Api::AddOffsetsToTxn;
        api.check(version)?;
        let mut reader = Reader::new("AddOffsetsToTxn answer", body, api.is_flexible(version));
        let answer = Self {
            throttle: reader.throttle()?,
            error_code: reader.i16()?,
        };
        reader.skip_tags()?;
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages;
    use proptest::prelude::*;

    use super::super::hostile::{TRANSACTOR, encoded, mangle, read};
    use super::*;

    #[test]
    fn another_implementation_reads_the_request() {
        for version in 0..=4 {
            let frame = encode(version, 5, "client", TRANSACTOR, "readers").expect("a request");
            let request: AddOffsetsToTxnRequest = read(Api::AddOffsetsToTxn, version, frame);
            assert_eq!(&**request.transactional_id, "orders-1");
            assert_eq!((*request.producer_id, request.producer_epoch), (1 << 40, 3));
            assert_eq!(&**request.group_id, "readers");
        }
        assert!(encode(5, 5, "client", TRANSACTOR, "readers").is_err());
    }

    fn response() -> messages::AddOffsetsToTxnResponse {
        messages::AddOffsetsToTxnResponse::default()
            .with_throttle_time_ms(7)
            .with_error_code(51)
    }

    #[test]
    fn every_version_is_understood() {
        let expected = AddOffsetsToTxnResponse {
            throttle: Duration::from_millis(7),
            error_code: 51,
        };
        for version in 0..=4 {
            let answer = AddOffsetsToTxnResponse::decode(version, &encoded(&response(), version));
            assert_eq!(answer, Ok(expected));
        }
    }

    #[test]
    fn broken_answers_are_refused() {
        for version in 0..=4 {
            mangle(&encoded(&response(), version), |body| {
                AddOffsetsToTxnResponse::decode(version, body)
            });
        }
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(
            version in -1i16..=5,
            bytes in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            let _ = AddOffsetsToTxnResponse::decode(version, &bytes.into());
        }
    }
}
