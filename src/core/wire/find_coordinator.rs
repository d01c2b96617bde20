//! FindCoordinator: which broker keeps a transactional id, or a group.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::FindCoordinatorRequest;
use kafka_protocol::protocol::StrBytes;

use super::header::request_frame;
use super::reader::Reader;
use super::{Api, Node, WireError};

/// What a coordinator is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CoordinatorKey {
    /// A consumer group's id.
    Group(Arc<str>),
    /// A transactional id. Brokers know of those from version 1 on.
    Transaction(Arc<str>),
}

impl fmt::Display for CoordinatorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Group(id) => write!(f, "group {id:?}"),
            Self::Transaction(id) => write!(f, "transactional.id {id:?}"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FindCoordinatorResponse {
    pub throttle: Duration,
    pub error_code: i16,
    /// The broker's words.
    pub error_message: Option<String>,
    /// The coordinator. `None` with an error, and where its number or address is impossible.
    pub node: Option<Node>,
}

/// A request for the coordinator of one key.
pub fn encode(
    version: i16,
    correlation_id: i32,
    client_id: &str,
    key: &CoordinatorKey,
) -> Result<Bytes, WireError> {
    let (key_type, key) = match key {
        CoordinatorKey::Group(id) => (0, id),
        CoordinatorKey::Transaction(id) => (1, id),
    };
    let key = StrBytes::from_string(String::from(&**key));
    let request = FindCoordinatorRequest::default().with_key_type(key_type);
    let request = match version {
        4.. => request.with_coordinator_keys(vec![key]),
        _ => request.with_key(key),
    };
    let api = Api::FindCoordinator;
    request_frame(api, version, correlation_id, client_id, &request)
}

impl FindCoordinatorResponse {
    /// Reads the answer about the one key that was asked for.
    pub fn decode(version: i16, body: &Bytes) -> Result<Self, WireError> {
        const MESSAGE: &str = "FindCoordinator answer";
        let api = Api::FindCoordinator;
        api.check(version)?;
        let mut reader = Reader::new(MESSAGE, body, api.is_flexible(version));
        let throttle = match version {
            1.. => reader.throttle()?,
            _ => Duration::ZERO,
        };
        let mut answer = None;
        if version >= 4 {
            for _ in 0..reader.count(13)? {
                let _key = reader.text()?;
                let node = read_node(&mut reader)?;
                let error_code = reader.i16()?;
                let error_message = reader.words()?;
                reader.skip_tags()?;
                answer = Some((error_code, error_message, node));
            }
        } else {
            let error_code = reader.i16()?;
            let error_message = if version >= 1 { reader.words()? } else { None };
            answer = Some((error_code, error_message, read_node(&mut reader)?));
        }
        reader.skip_tags()?;
        let (error_code, error_message, node) =
            answer.ok_or(WireError::Unanswered { message: MESSAGE })?;
        Ok(Self {
            throttle,
            error_code,
            error_message,
            node: node.filter(|_| error_code == 0),
        })
    }
}

fn read_node(reader: &mut Reader<'_>) -> Result<Option<Node>, WireError> {
    let id = reader.i32()?;
    // Some brokers write null beside an error.
    let host = reader
        .nullable_text()?
        .map_or_else(String::new, Cow::into_owned);
    let port = reader.i32()?;
    Ok(Node::possible(id, host, port, None))
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages;
    use kafka_protocol::messages::BrokerId;
    use kafka_protocol::messages::find_coordinator_response::Coordinator;
    use proptest::prelude::*;

    use super::super::hostile::{encoded, mangle, read};
    use super::*;

    #[test]
    fn another_implementation_reads_the_request() {
        for version in 0..=6 {
            for (key, key_type) in [
                (CoordinatorKey::Group("größe".into()), 0),
                (CoordinatorKey::Transaction("größe".into()), 1),
            ] {
                let frame = match encode(version, 5, "client", &key) {
                    Ok(frame) => frame,
                    Err(error) if (version, key_type) == (0, 1) => {
                        assert!(matches!(error, WireError::Encode { .. }), "{error:?}");
                        continue;
                    }
                    Err(error) => panic!("{error}"),
                };
                let request: FindCoordinatorRequest = read(Api::FindCoordinator, version, frame);
                assert_eq!(request.key_type, key_type);
                let keys: Vec<_> = match version {
                    4.. => request.coordinator_keys.iter().map(|it| &**it).collect(),
                    _ => vec![&*request.key],
                };
                assert_eq!(keys, ["größe"]);
            }
        }
        assert!(encode(7, 5, "client", &CoordinatorKey::Group("g".into())).is_err());
    }

    fn response(version: i16, error_code: i16, port: i32) -> messages::FindCoordinatorResponse {
        let text = StrBytes::from_static_str;
        let response = messages::FindCoordinatorResponse::default();
        let response = match version {
            1.. => response.with_throttle_time_ms(7),
            _ => response,
        };
        if version >= 4 {
            let coordinator = Coordinator::default()
                .with_key(text("orders-1"))
                .with_node_id(BrokerId(3))
                .with_host(text("three"))
                .with_port(port)
                .with_error_code(error_code)
                .with_error_message(Some(text("words\n")));
            return response.with_coordinators(vec![coordinator]);
        }
        let response = response
            .with_error_code(error_code)
            .with_node_id(BrokerId(3))
            .with_host(text("three"))
            .with_port(port);
        match version {
            1.. => response.with_error_message(Some(text("words\n"))),
            _ => response,
        }
    }

    #[test]
    fn every_version_is_understood() {
        for version in 0..=6 {
            for (error_code, port, found) in [
                (0, 9092, true),
                (15, -1, false),
                (15, 9092, false),
                (0, 65_536, false),
            ] {
                let body = encoded(&response(version, error_code, port), version);
                let node = Node {
                    id: 3,
                    host: "three".to_owned(),
                    port: 9092,
                    rack: None,
                };
                let expected = FindCoordinatorResponse {
                    throttle: Duration::from_millis(if version >= 1 { 7 } else { 0 }),
                    error_code,
                    error_message: (version >= 1).then(|| "words\\n".to_owned()),
                    node: found.then_some(node),
                };
                let answer = FindCoordinatorResponse::decode(version, &body);
                assert_eq!(answer, Ok(expected), "version {version}");
            }
        }
    }

    #[test]
    fn an_answer_about_no_key_is_refused() {
        let silent = messages::FindCoordinatorResponse::default();
        for version in 4..=6 {
            assert!(matches!(
                FindCoordinatorResponse::decode(version, &encoded(&silent, version)),
                Err(WireError::Unanswered { .. })
            ));
        }
    }

    #[test]
    fn broken_answers_are_refused() {
        for version in 0..=6 {
            mangle(&encoded(&response(version, 0, 9092), version), |body| {
                FindCoordinatorResponse::decode(version, body)
            });
        }
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(
            version in -1i16..=7,
            bytes in prop::collection::vec(any::<u8>(), 0..100),
        ) {
            let _ = FindCoordinatorResponse::decode(version, &bytes.into());
        }
    }
}
