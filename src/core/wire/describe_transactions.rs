//! DescribeTransactions: what a coordinator knows of a transactional id (KIP-664). It changes nothing.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::{DescribeTransactionsRequest, TransactionalId};
use kafka_protocol::protocol::StrBytes;

use super::header::request_frame;
use super::reader::Reader;
use super::{Api, WireError};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribeTransactionsResponse {
    pub throttle: Duration,
    /// What is told of each transactional id that was asked for.
    pub states: Vec<TransactionState>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionState {
    pub error_code: i16,
    /// Kafka's name of it, such as `CompleteAbort`.
    pub state: String,
    /// The producer id and epoch that may go on.
    pub identity: (i64, i16),
}

/// A request to describe this id.
pub fn encode(
    version: i16,
    correlation_id: i32,
    client_id: &str,
    transactional_id: &str,
) -> Result<Bytes, WireError> {
    let id = StrBytes::from_string(transactional_id.to_owned());
    let request =
        DescribeTransactionsRequest::default().with_transactional_ids(vec![TransactionalId(id)]);
    let api = Api::DescribeTransactions;
    request_frame(api, version, correlation_id, client_id, &request)
}

impl DescribeTransactionsResponse {
    pub fn decode(version: i16, body: &Bytes) -> Result<Self, WireError> {
        let api = Api::DescribeTransactions;
        api.check(version)?;
        let mut reader = Reader::new(
            "DescribeTransactions answer",
            body,
            api.is_flexible(version),
        );
        let throttle = reader.throttle()?;
        let mut states = Vec::new();
        for _ in 0..reader.count(28)? {
            let error_code = reader.i16()?;
            reader.text()?;
            let state = reader.text()?.into_owned();
            let (_timeout, _began) = (reader.i32()?, reader.i64()?);
            let identity = (reader.i64()?, reader.i16()?);
            for _ in 0..reader.count(3)? {
                reader.text()?;
                reader.skip_i32s()?;
                reader.skip_tags()?;
            }
            reader.skip_tags()?;
            states.push(TransactionState {
                error_code,
                state,
                identity,
            });
        }
        reader.skip_tags()?;
        Ok(Self { throttle, states })
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::describe_transactions_response::{self, TopicData};
    use kafka_protocol::messages::{self, ProducerId, TopicName};
    use proptest::prelude::*;

    use super::super::hostile::{encoded, mangle, read};
    use super::*;

    #[test]
    fn another_implementation_reads_the_request() {
        let frame = encode(0, 5, "client", "orders-1").expect("a request");
        let request: DescribeTransactionsRequest = read(Api::DescribeTransactions, 0, frame);
        let ids: Vec<_> = request.transactional_ids.iter().map(|it| &***it).collect();
        assert_eq!(ids, ["orders-1"]);
        assert!(encode(1, 5, "client", "orders-1").is_err());
    }

    fn response() -> messages::DescribeTransactionsResponse {
        let topic = TopicData::default()
            .with_topic(TopicName(StrBytes::from_static_str("größen")))
            .with_partitions(vec![3, 1]);
        let id = StrBytes::from_static_str("orders-1");
        let state = describe_transactions_response::TransactionState::default()
            .with_transactional_id(TransactionalId(id))
            .with_transaction_state(StrBytes::from_static_str("Ongoing"))
            .with_transaction_timeout_ms(60_000)
            .with_transaction_start_time_ms(7)
            .with_producer_id(ProducerId(1 << 40))
            .with_producer_epoch(3)
            .with_topics(vec![topic]);
        let unknown =
            describe_transactions_response::TransactionState::default().with_error_code(105);
        messages::DescribeTransactionsResponse::default()
            .with_throttle_time_ms(7)
            .with_transaction_states(vec![state, unknown])
    }

    #[test]
    fn the_answer_is_understood() {
        let told = DescribeTransactionsResponse::decode(0, &encoded(&response(), 0));
        let told = told.expect("an answer");
        assert_eq!(told.throttle, Duration::from_millis(7));
        let [state, unknown] = &*told.states else {
            panic!("{told:?}");
        };
        assert_eq!((state.error_code, &*state.state), (0, "Ongoing"));
        assert_eq!(state.identity, (1 << 40, 3));
        assert_eq!(unknown.error_code, 105);
    }

    #[test]
    fn broken_answers_are_refused() {
        mangle(&encoded(&response(), 0), |body| {
            DescribeTransactionsResponse::decode(0, body)
        });
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(
            version in -1i16..=1,
            bytes in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            let _ = DescribeTransactionsResponse::decode(version, &bytes.into());
        }
    }
}
