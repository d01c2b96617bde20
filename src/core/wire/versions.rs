//! ApiVersions: which requests, in which versions, a broker supports.

use std::collections::HashMap;

use bytes::Bytes;
use kafka_protocol::messages::ApiVersionsRequest;
use kafka_protocol::protocol::StrBytes;

use super::header::request_frame;
use super::reader::Reader;
use super::{Api, WireError};

const UNSUPPORTED_VERSION: i16 = 35;

/// The versions that one broker supports.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Versions {
    /// From the API key to the lowest and the highest version.
    ranges: HashMap<i16, (i16, i16)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VersionsResponse {
    Versions(Versions),
    /// The broker does not support the version of the request: ask again in version 0.
    AskVersion0,
}

/// A request for the versions that the broker supports. It names this client (KIP-511).
pub fn encode(version: i16, correlation_id: i32, client_id: &str) -> Result<Bytes, WireError> {
    let request = ApiVersionsRequest::default()
        .with_client_software_name(StrBytes::from_static_str(env!("CARGO_PKG_NAME")))
        .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
    request_frame(Api::Versions, version, correlation_id, client_id, &request)
}

impl Versions {
    pub fn decode(version: i16, body: &Bytes) -> Result<VersionsResponse, WireError> {
        Api::Versions.check(version)?;
        let flexible = Api::Versions.is_flexible(version);
        let mut reader = Reader::new("ApiVersions answer", body, flexible);
        match reader.i16()? {
            0 => {}
            // The rest has the form of version 0, whatever the version of the request.
            UNSUPPORTED_VERSION if version > 0 => return Ok(VersionsResponse::AskVersion0),
            code => {
                let api = Api::Versions;
                return Err(WireError::Refused { api, code });
            }
        }
        let mut versions = Versions::default();
        for _ in 0..reader.count(6)? {
            let api_key = reader.i16()?;
            let (min, max) = (reader.i16()?, reader.i16()?);
            reader.skip_tags()?;
            if min > max || min < 0 {
                return Err(WireError::FlippedVersions { api_key, min, max });
            }
            versions.ranges.insert(api_key, (min, max));
        }
        if version >= 1 {
            let _throttle = reader.throttle()?;
        }
        // One of them is the finalized features, which only transactions need.
        reader.skip_tags()?;
        reader.finish()?;
        if versions.ranges.is_empty() {
            return Err(WireError::NoVersions);
        }
        Ok(VersionsResponse::Versions(versions))
    }

    /// The highest version that both sides support.
    pub fn choose(&self, api: Api, ours_min: i16, ours_max: i16) -> Result<i16, WireError> {
        let theirs = self.range(api);
        match theirs {
            Some((min, max)) if min <= ours_max && max >= ours_min => Ok(max.min(ours_max)),
            _ => Err(WireError::NoCommonVersion {
                api,
                theirs,
                ours_min,
                ours_max,
            }),
        }
    }

    /// The highest version that the broker and this crate support.
    pub fn best(&self, api: Api) -> Result<i16, WireError> {
        let (min, max) = api.ours();
        self.choose(api, min, max)
    }

    pub fn range(&self, api: Api) -> Option<(i16, i16)> {
        self.ranges.get(&api.key()).copied()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Buf;
    use kafka_protocol::messages::api_versions_response::{
        ApiVersion, FinalizedFeatureKey, SupportedFeatureKey,
    };
    use kafka_protocol::messages::{ApiVersionsResponse, RequestHeader};
    use kafka_protocol::protocol::Decodable;
    use proptest::prelude::*;

    use super::super::hostile::{encoded, mangle};
    use super::*;

    fn response(version: i16, ranges: &[(i16, i16, i16)]) -> ApiVersionsResponse {
        let keys = ranges.iter().map(|&(key, min, max)| {
            ApiVersion::default()
                .with_api_key(key)
                .with_min_version(min)
                .with_max_version(max)
        });
        let response = ApiVersionsResponse::default().with_api_keys(keys.collect());
        if version < 3 {
            return response;
        }
        let name = StrBytes::from_static_str("transaction.version");
        response
            .with_supported_features(vec![
                SupportedFeatureKey::default()
                    .with_name(name.clone())
                    .with_max_version(9),
            ])
            .with_finalized_features_epoch(12)
            .with_finalized_features(vec![
                FinalizedFeatureKey::default()
                    .with_name(name)
                    .with_max_version_level(2)
                    .with_min_version_level(1),
            ])
            .with_zk_migration_ready(true)
            .with_unknown_tagged_field(50, Bytes::from_static(b"later"))
    }

    fn decode(version: i16, ranges: &[(i16, i16, i16)]) -> Result<VersionsResponse, WireError> {
        Versions::decode(version, &encoded(&response(version, ranges), version))
    }

    fn versions(version: i16, ranges: &[(i16, i16, i16)]) -> Versions {
        match decode(version, ranges).expect("a good answer") {
            VersionsResponse::Versions(versions) => versions,
            VersionsResponse::AskVersion0 => panic!("no error code was sent"),
        }
    }

    #[test]
    fn another_implementation_reads_the_request() {
        for version in 0..=4 {
            let mut frame = encode(version, 5, "client").expect("a request");
            assert_eq!(frame.get_i32() as usize, frame.len());
            let header_version = if version >= 3 { 2 } else { 1 };
            RequestHeader::decode(&mut frame, header_version).expect("a header");
            let request = ApiVersionsRequest::decode(&mut frame, version).expect("a request");
            assert!(!frame.has_remaining());
            if version >= 3 {
                assert_eq!(&*request.client_software_name, "forebay");
                assert_eq!(&*request.client_software_version, env!("CARGO_PKG_VERSION"));
            }
        }
    }

    #[test]
    fn every_version_is_understood() {
        for version in 0..=4 {
            let versions = versions(version, &[(0, 3, 13), (3, 0, 20)]);
            assert_eq!(versions.range(Api::Produce), Some((3, 13)));
            assert_eq!(versions.range(Api::InitProducerId), None);
        }
    }

    #[test]
    fn the_highest_common_version_is_chosen() {
        let versions = versions(4, &[(0, 5, 9), (3, 0, 20)]);
        assert_eq!(versions.best(Api::Produce), Ok(9));
        assert_eq!(versions.best(Api::Metadata), Ok(13));
        assert_eq!(versions.choose(Api::Produce, 3, 7), Ok(7));
        assert_eq!(versions.choose(Api::Produce, 9, 13), Ok(9));
        for (ours_min, ours_max) in [(10, 13), (0, 4)] {
            assert_eq!(
                versions.choose(Api::Produce, ours_min, ours_max),
                Err(WireError::NoCommonVersion {
                    api: Api::Produce,
                    theirs: Some((5, 9)),
                    ours_min,
                    ours_max,
                })
            );
        }
        let missing = versions.best(Api::InitProducerId).expect_err("not offered");
        assert_eq!(
            missing.to_string(),
            "no common version of InitProducerId: the broker speaks none, this producer 0 to 5"
        );
    }

    #[test]
    fn an_older_broker_is_asked_again() {
        // The response has the form of version 0, whatever the version of the request.
        let refusal = response(0, &[(18, 0, 2)]).with_error_code(UNSUPPORTED_VERSION);
        let body = encoded(&refusal, 0);
        for version in 1..=4 {
            assert_eq!(
                Versions::decode(version, &body),
                Ok(VersionsResponse::AskVersion0)
            );
        }
        assert_eq!(
            Versions::decode(0, &body),
            Err(WireError::Refused {
                api: Api::Versions,
                code: 35
            })
        );
    }

    #[test]
    fn senseless_answers_are_refused() {
        for version in 0..=4 {
            assert_eq!(decode(version, &[]), Err(WireError::NoVersions));
            for (min, max) in [(9, 3), (-1, 4)] {
                assert_eq!(
                    decode(version, &[(0, min, max)]),
                    Err(WireError::FlippedVersions {
                        api_key: 0,
                        min,
                        max
                    })
                );
            }
        }
        assert!(Versions::decode(0, &Bytes::from_static(b"garbage")).is_err());
    }

    #[test]
    fn broken_answers_are_refused() {
        for version in 0..=4 {
            let body = encoded(&response(version, &[(0, 3, 13), (3, 4, 9)]), version);
            mangle(&body, |body| Versions::decode(version, body));
        }
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(
            version in -1i16..=5,
            bytes in prop::collection::vec(any::<u8>(), 0..100),
        ) {
            let _ = Versions::decode(version, &bytes.into());
        }
    }
}
