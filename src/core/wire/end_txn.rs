//! EndTxn: commits or aborts a transaction.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::{EndTxnRequest, ProducerId, TransactionalId};
use kafka_protocol::protocol::StrBytes;

use super::header::request_frame;
use super::reader::Reader;
use super::{Api, Transactor, WireError};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndTxnResponse {
    pub throttle: Duration,
    pub error_code: i16,
    /// The producer id and epoch of the next transaction, in the second protocol. With the epochs used
    /// up it is another producer id. `None` in the first protocol, and with an error.
    pub next: Option<(i64, i16)>,
}

/// A request to commit, or to abort. Version 5 is of the second protocol alone: with it the epoch counts
/// up.
pub fn encode(
    version: i16,
    correlation_id: i32,
    client_id: &str,
    transactor: Transactor<'_>,
    commits: bool,
) -> Result<Bytes, WireError> {
    let id = StrBytes::from_string(transactor.transactional_id.to_owned());
    let request = EndTxnRequest::default()
        .with_transactional_id(TransactionalId(id))
        .with_producer_id(ProducerId(transactor.producer_id))
        .with_producer_epoch(transactor.epoch)
        .with_committed(commits);
    request_frame(Api::EndTxn, version, correlation_id, client_id, &request)
}

impl EndTxnResponse {
    pub fn decode(version: i16, body: &Bytes) -> Result<Self, WireError> {
        let api = Api::EndTxn;
        api.check(version)?;
        let mut reader = Reader::new("EndTxn answer", body, api.is_flexible(version));
        let mut answer = Self {
            throttle: reader.throttle()?,
            error_code: reader.i16()?,
            next: None,
        };
        if version >= 5 {
            let (producer_id, epoch) = (reader.i64()?, reader.i16()?);
            let told = answer.error_code == 0 && producer_id >= 0 && epoch >= 0;
            answer.next = told.then_some((producer_id, epoch));
        }
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
        for version in 0..=5 {
            for commits in [true, false] {
                let frame = encode(version, 5, "client", TRANSACTOR, commits).expect("a request");
                let request: EndTxnRequest = read(Api::EndTxn, version, frame);
                assert_eq!(&**request.transactional_id, "orders-1");
                assert_eq!((*request.producer_id, request.producer_epoch), (1 << 40, 3));
                assert_eq!(request.committed, commits);
            }
        }
        assert!(encode(6, 5, "client", TRANSACTOR, true).is_err());
    }

    fn response(version: i16, error_code: i16, next: (i64, i16)) -> messages::EndTxnResponse {
        let response = messages::EndTxnResponse::default()
            .with_throttle_time_ms(7)
            .with_error_code(error_code);
        match version {
            5.. => response
                .with_producer_id(ProducerId(next.0))
                .with_producer_epoch(next.1),
            _ => response,
        }
    }

    #[test]
    fn every_version_is_understood() {
        for version in 0..=5 {
            for (error_code, next, told) in [
                (0, (1 << 40, 4), true),
                (0, (0, 0), true),
                (0, (-1, -1), false),
                (0, (7, -1), false),
                (48, (1 << 40, 4), false),
            ] {
                let body = encoded(&response(version, error_code, next), version);
                let expected = EndTxnResponse {
                    throttle: Duration::from_millis(7),
                    error_code,
                    next: (told && version >= 5).then_some(next),
                };
                assert_eq!(EndTxnResponse::decode(version, &body), Ok(expected));
            }
        }
    }

    #[test]
    fn broken_answers_are_refused() {
        for version in 0..=5 {
            mangle(&encoded(&response(version, 0, (9, 4)), version), |body| {
                EndTxnResponse::decode(version, body)
            });
        }
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(
            version in -1i16..=6,
            bytes in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            let _ = EndTxnResponse::decode(version, &bytes.into());
        }
    }
}
