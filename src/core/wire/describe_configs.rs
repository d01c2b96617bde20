//! DescribeConfigs: what is configured for a topic.

use bytes::Bytes;
use kafka_protocol::messages::DescribeConfigsRequest;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::protocol::StrBytes;

use super::header::request_frame;
use super::reader::Reader;
use super::{Api, WireError};

const TOPIC: i8 = 2;

/// What is configured for one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicConfigs {
    pub error_code: i16,
    /// Keys, and their values where they have any.
    pub values: Vec<(String, Option<String>)>,
}

/// A request for these keys of a topic.
pub fn encode(
    version: i16,
    correlation_id: i32,
    client_id: &str,
    (topic, keys): (&str, &[&'static str]),
) -> Result<Bytes, WireError> {
    let keys = keys.iter().map(|key| StrBytes::from_static_str(key));
    let resource = DescribeConfigsResource::default()
        .with_resource_type(TOPIC)
        .with_resource_name(StrBytes::from_string(topic.to_owned()))
        .with_configuration_keys(Some(keys.collect()));
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
    let api = Api::DescribeConfigs;
    request_frame(api, version, correlation_id, client_id, &request)
}

impl TopicConfigs {
    /// Reads the answer about the one topic that was asked for.
    pub fn decode(version: i16, body: &Bytes) -> Result<Self, WireError> {
        Api::DescribeConfigs.check(version)?;
        let mut reader = Reader::new("DescribeConfigs answer", body, false);
        let _throttle = reader.throttle()?;
        let mut configs = Self {
            error_code: 0,
            values: Vec::new(),
        };
        for _ in 0..reader.count(11)? {
            configs.error_code = reader.i16()?;
            let _words = reader.nullable_text()?;
            let _kind = reader.i8()?;
            let _topic = reader.text()?;
            for _ in 0..reader.count(11)? {
                let key = reader.text()?.into_owned();
                let value = reader.nullable_text()?.map(|it| it.into_owned());
                let _read_only = reader.bool()?;
                let _source = reader.i8()?;
                let _is_sensitive = reader.bool()?;
                for _ in 0..reader.count(5)? {
                    let _name = reader.text()?;
                    let _value = reader.nullable_text()?;
                    let _source = reader.i8()?;
                }
                configs.values.push((key, value));
            }
        }
        Ok(configs)
    }

    /// The value of a key that is a number.
    pub fn number(&self, key: &str) -> Option<u64> {
        let found = self.values.iter().find(|(name, _)| name == key);
        found?.1.as_deref()?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Buf;
    use kafka_protocol::messages::describe_configs_response::{
        DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
    };
    use kafka_protocol::messages::{DescribeConfigsResponse, RequestHeader};
    use kafka_protocol::protocol::Decodable;
    use proptest::prelude::*;

    use super::super::hostile::{encoded, mangle};
    use super::*;

    #[test]
    fn another_implementation_reads_the_request() {
        let keys = ["max.message.bytes"];
        let mut frame = encode(1, 5, "client", ("orders", &keys)).expect("a request");
        assert_eq!(frame.get_i32() as usize, frame.len());
        RequestHeader::decode(&mut frame, 1).expect("a header");
        let request = DescribeConfigsRequest::decode(&mut frame, 1).expect("a request");
        assert!(!frame.has_remaining());
        let [resource] = request.resources.as_slice() else {
            panic!("{request:?}");
        };
        assert_eq!(resource.resource_type, 2);
        assert_eq!(&*resource.resource_name, "orders");
        let asked = resource.configuration_keys.as_deref().expect("keys");
        assert_eq!(asked.iter().map(|it| &**it).collect::<Vec<_>>(), keys);
    }

    fn response() -> DescribeConfigsResponse {
        let text = StrBytes::from_static_str;
        let config = |name, value| {
            DescribeConfigsResourceResult::default()
                .with_name(text(name))
                .with_value(value)
        };
        let synonym = DescribeConfigsSynonym::default()
            .with_name(text("message.max.bytes"))
            .with_value(Some(text("7")));
        let largest = config("max.message.bytes", Some(text("1048588")));
        let result = DescribeConfigsResult::default()
            .with_resource_type(TOPIC)
            .with_resource_name(text("orders"))
            .with_configs(vec![
                largest.with_synonyms(vec![synonym]),
                config("min.insync.replicas", Some(text("x"))),
                config("other", None),
            ]);
        DescribeConfigsResponse::default().with_results(vec![result])
    }

    #[test]
    fn the_answer_is_understood() {
        let configs = TopicConfigs::decode(1, &encoded(&response(), 1)).expect("an answer");
        assert_eq!(configs.error_code, 0);
        assert_eq!(configs.values.len(), 3);
        assert_eq!(configs.number("max.message.bytes"), Some(1_048_588));
        for key in ["min.insync.replicas", "other", "unknown"] {
            assert_eq!(configs.number(key), None);
        }
    }

    #[test]
    fn broken_answers_are_refused() {
        mangle(&encoded(&response(), 1), |body| {
            TopicConfigs::decode(1, body)
        });
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(
            version in 0i16..=2,
            bytes in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let _ = TopicConfigs::decode(version, &bytes.into());
        }
    }
}
