//! ApiVersions: which requests, in which versions, a broker supports.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use super::header::{put_uvarint, request_header, set_length};
use super::reader::Reader;
use super::{Api, TransactionProtocol, WireError};

const UNSUPPORTED_VERSION: i16 = 35;

/// The request is meant for another broker (KIP-1242).
const REBOOTSTRAP_REQUIRED: i16 = 129;

/// Whom a connection is meant for. An address may belong to another broker by now, or to another
/// cluster. Brokers from Kafka 4.4 on notice that (KIP-1242).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addressee {
    pub cluster_id: Arc<str>,
    pub node: i32,
}

/// The tags of finalized features and of their epoch (KIP-584).
const FEATURES_EPOCH: u32 = 1;
const FINALIZED_FEATURES: u32 = 2;

/// The versions that one broker supports.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Versions {
    /// From the API key to the lowest and the highest version, as the broker says. Some give an API
    /// that they do not serve more as the lowest than as the highest.
    ranges: HashMap<i16, (i16, i16)>,
    transaction_version: i16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VersionsResponse {
    Versions(Versions),
    /// The broker does not support the version of the request: ask again in this one, which is lower.
    AskAgain(i16),
    /// The broker is not the one that the connection is meant for.
    NotAddressed,
}

/// A request for the versions that the broker supports. It names this client (KIP-511), and from
/// version 5 on whom it is meant for.
pub fn encode(
    version: i16,
    correlation_id: i32,
    client_id: &str,
    addressee: Option<&Addressee>,
) -> Result<Bytes, WireError> {
    Api::Versions.check(version)?;
    let mut out = BytesMut::with_capacity(128);
    out.put_i32(0);
    request_header(Api::Versions, version, correlation_id, client_id, &mut out)?;
    if version >= 3 {
        put_text(env!("CARGO_PKG_NAME"), &mut out);
        put_text(env!("CARGO_PKG_VERSION"), &mut out);
        if version >= 5 {
            match addressee {
                Some(addressee) => put_text(&addressee.cluster_id, &mut out),
                None => out.put_u8(0),
            }
            out.put_i32(addressee.map_or(-1, |addressee| addressee.node));
        }
        out.put_u8(0);
    }
    set_length(&mut out, 0)?;
    Ok(out.freeze())
}

/// Appends a compact string.
fn put_text(text: &str, out: &mut BytesMut) {
    put_uvarint(text.len() as u32 + 1, out);
    out.put_slice(text.as_bytes());
}

impl Versions {
    pub fn decode(version: i16, body: &Bytes) -> Result<VersionsResponse, WireError> {
        Api::Versions.check(version)?;
        let flexible = Api::Versions.is_flexible(version);
        let mut reader = Reader::new("ApiVersions answer", body, flexible);
        match reader.i16()? {
            0 => {}
            UNSUPPORTED_VERSION if version > 0 => {
                return Ok(VersionsResponse::AskAgain(newest_below(version, body)));
            }
            REBOOTSTRAP_REQUIRED => return Ok(VersionsResponse::NotAddressed),
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
            versions.ranges.insert(api_key, (min, max));
        }
        if version >= 1 {
            let _throttle = reader.throttle()?;
        }
        versions.transaction_version = read_transaction_version(&mut reader)?;
        if versions.ranges.is_empty() {
            return Err(WireError::NoVersions);
        }
        Ok(VersionsResponse::Versions(versions))
    }

    /// The highest version that both sides support.
    pub fn choose(&self, api: Api, ours_min: i16, ours_max: i16) -> Result<i16, WireError> {
        let theirs = self.range(api);
        match theirs {
            Some((min, max)) if min.max(ours_min) <= max.min(ours_max) => Ok(max.min(ours_max)),
            _ => Err(WireError::NoCommonVersion {
                api,
                theirs,
                ours_min,
                ours_max,
            }),
        }
    }

    /// The highest version that the broker and this crate support, for all but transactions. It never
    /// makes a request of a transaction mean what it means in the second protocol alone.
    pub fn best(&self, api: Api) -> Result<i16, WireError> {
        let (min, max) = match api {
            // Only in a transaction have its versions another meaning.
            Api::Produce => api.ours(),
            _ => TransactionProtocol::V1.versions(api),
        };
        self.choose(api, min, max)
    }

    /// The highest version of a transactional producer's request in this protocol.
    pub fn best_in(&self, protocol: TransactionProtocol, api: Api) -> Result<i16, WireError> {
        let (min, max) = protocol.versions(api);
        self.choose(api, min, max)
    }

    /// The level of the feature `transaction.version` that the cluster has finalized, as this broker knew
    /// it when it was connected to; 0 where it is not finalized.
    pub fn transaction_version(&self) -> i16 {
        self.transaction_version
    }

    /// The protocol of transactions that the cluster speaks, as far as this broker knows.
    pub fn transaction_protocol(&self) -> TransactionProtocol {
        TransactionProtocol::of(self.transaction_version())
    }

    pub fn range(&self, api: Api) -> Option<(i16, i16)> {
        self.ranges.get(&api.key()).copied()
    }
}

/// The level of `transaction.version`. Features without an epoch are not known to be finalized: a broker
/// says so while it starts.
fn read_transaction_version(reader: &mut Reader<'_>) -> Result<i16, WireError> {
    let (mut epoch, mut finalized) = (-1, 0);
    reader.tags(|tag, field| {
        match tag {
            FEATURES_EPOCH => epoch = field.i64()?,
            FINALIZED_FEATURES => {
                for _ in 0..field.count(6)? {
                    let name = field.text()?;
                    let (max_level, _min_level) = (field.i16()?, field.i16()?);
                    field.skip_tags()?;
                    if name == "transaction.version" {
                        finalized = max_level;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok(if epoch < 0 { 0 } else { finalized })
}

/// The newest version below `version` that a broker supports, as it says when it refuses that one
/// (KIP-511); 0 where it does not say. Its answer has the form of version 0, whatever the version of
/// the request.
fn newest_below(version: i16, refusal: &Bytes) -> i16 {
    let newest = || {
        let mut reader = Reader::new("ApiVersions answer", refusal, false);
        let _code = reader.i16()?;
        for _ in 0..reader.count(6)? {
            let (api_key, _min, max) = (reader.i16()?, reader.i16()?, reader.i16()?);
            if api_key == Api::Versions.key() {
                return Ok(max);
            }
        }
        Ok::<_, WireError>(0)
    };
    newest().unwrap_or(0).clamp(0, version - 1)
}

#[cfg(test)]
mod tests {
    use bytes::Buf;
    use kafka_protocol::messages::api_versions_response::{
        ApiVersion, FinalizedFeatureKey, SupportedFeatureKey,
    };
    use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse, RequestHeader};
    use kafka_protocol::protocol::{Decodable, StrBytes};
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

    #[test]
    fn a_feature_counts_once_it_is_finalized() {
        let said = |epoch, features: &[(&'static str, i16)]| {
            let features = features.iter().map(|(name, level)| {
                FinalizedFeatureKey::default()
                    .with_name(StrBytes::from_static_str(name))
                    .with_max_version_level(*level)
            });
            let answer = response(4, &[(0, 0, 13)])
                .with_finalized_features_epoch(epoch)
                .with_finalized_features(features.collect());
            match Versions::decode(4, &encoded(&answer, 4)) {
                Ok(VersionsResponse::Versions(versions)) => versions.transaction_version(),
                other => panic!("{other:?}"),
            }
        };
        let both = [("metadata.version", 29), ("transaction.version", 2)];
        assert_eq!(said(0, &both), 2);
        assert_eq!(said(7, &[both[1], ("group.version", 1)]), 2);
        assert_eq!(said(7, &both[..1]), 0);
        assert_eq!(said(7, &[]), 0);
        // The level that it supports, which is 9, says nothing.
        assert_eq!(said(-1, &both), 0);
        for version in 0..3 {
            assert_eq!(versions(version, &[(0, 0, 13)]).transaction_version(), 0);
        }
    }

    #[test]
    fn the_second_protocol_is_never_chosen_by_versions() {
        let all = [(0, 0, 20), (24, 0, 20), (26, 0, 20), (28, 0, 20)];
        let (apis, all) = (
            [
                Api::Produce,
                Api::AddPartitionsToTxn,
                Api::EndTxn,
                Api::TxnOffsetCommit,
            ],
            versions(2, &all),
        );
        assert_eq!(all.transaction_protocol(), TransactionProtocol::V1);
        let within = |protocol| apis.map(|api| all.best_in(protocol, api).expect("a version"));
        assert_eq!(within(TransactionProtocol::V1), [11, 3, 4, 4]);
        assert_eq!(within(TransactionProtocol::V2), [13, 3, 5, 5]);
        let plain = apis.map(|api| all.best(api).expect("a version"));
        assert_eq!(plain, [13, 3, 4, 4]);
        let older = versions(4, &[(0, 0, 11), (24, 0, 3), (26, 0, 4), (28, 0, 4)]);
        assert_eq!(older.transaction_protocol(), TransactionProtocol::V2);
        for api in [Api::Produce, Api::EndTxn, Api::TxnOffsetCommit] {
            older
                .best_in(TransactionProtocol::V2, api)
                .expect_err("a version of the first protocol");
        }
    }

    fn decode(version: i16, ranges: &[(i16, i16, i16)]) -> Result<VersionsResponse, WireError> {
        Versions::decode(version, &encoded(&response(version, ranges), version))
    }

    fn versions(version: i16, ranges: &[(i16, i16, i16)]) -> Versions {
        match decode(version, ranges).expect("a good answer") {
            VersionsResponse::Versions(versions) => versions,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn another_implementation_reads_the_request() {
        for version in 0..=4 {
            let mut frame = encode(version, 5, "client", None).expect("a request");
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

    /// By the schema of Kafka 4.4: no implementation here knows version 5.
    #[test]
    fn version_5_says_whom_it_is_meant_for() {
        let addressee = |cluster_id: &str| Addressee {
            cluster_id: cluster_id.into(),
            node: 0x0102,
        };
        let body = |addressee: Option<&Addressee>, version| {
            let frame = encode(version, 5, "", addressee).expect("a request");
            // Length, key, version, correlation id, an empty client id and the header's tags.
            let body = frame.slice(4 + 11..);
            let names = [&body[1..8], &body[9..9 + env!("CARGO_PKG_VERSION").len()]];
            assert_eq!(
                names,
                [&b"forebay"[..], env!("CARGO_PKG_VERSION").as_bytes()]
            );
            body[9 + env!("CARGO_PKG_VERSION").len()..].to_vec()
        };
        assert_eq!(body(Some(&addressee("xY")), 4), [0]);
        assert_eq!(body(Some(&addressee("xY")), 5), *b"\x03xY\0\0\x01\x02\0");
        assert_eq!(body(None, 5), [0, 0xff, 0xff, 0xff, 0xff, 0]);
        let long = body(Some(&addressee(&"x".repeat(200))), 5);
        assert_eq!((&long[..2], long.len()), (&[0xc9, 1][..], 2 + 200 + 5));
    }

    #[test]
    fn a_broker_that_is_not_the_addressee_says_so() {
        let body = encoded(&response(4, &[]).with_error_code(REBOOTSTRAP_REQUIRED), 4);
        for version in 3..=5 {
            assert_eq!(
                Versions::decode(version, &body),
                Ok(VersionsResponse::NotAddressed)
            );
        }
    }

    #[test]
    fn version_5_is_answered_as_version_4() {
        let body = encoded(&response(4, &[(0, 3, 13), (18, 0, 5)]), 4);
        match Versions::decode(5, &body) {
            Ok(VersionsResponse::Versions(versions)) => {
                assert_eq!(versions.best(Api::Versions), Ok(5));
            }
            other => panic!("{other:?}"),
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
    fn a_reversed_range_offers_nothing() {
        for (min, max) in [(9, 3), (1, 0), (i16::MAX, i16::MIN), (-1, -2)] {
            let versions = versions(4, &[(0, min, max), (3, 4, 9)]);
            let error = versions.best(Api::Produce).expect_err("no version");
            let theirs = format!("the broker speaks {min} to {max}");
            assert!(error.to_string().contains(&theirs), "{error}");
            assert_eq!(versions.best(Api::Metadata), Ok(9));
        }
        let from_below = versions(4, &[(0, -1, 4)]);
        assert_eq!(from_below.best(Api::Produce), Ok(4));
    }

    #[test]
    fn an_older_broker_is_asked_again_in_the_newest_version_it_has() {
        let refusal = |newest: &[i16]| {
            let ranges: Vec<_> = newest.iter().map(|newest| (18, 0, *newest)).collect();
            let answer = response(0, &[&[(0, 0, 9)][..], &ranges].concat());
            encoded(&answer.with_error_code(UNSUPPORTED_VERSION), 0)
        };
        for version in 1..=5 {
            for (newest, again) in [
                (&[2][..], 2.min(version - 1)),
                (&[4], 4.min(version - 1)),
                (&[], 0),
                (&[-3], 0),
                (&[9], version - 1),
            ] {
                assert_eq!(
                    Versions::decode(version, &refusal(newest)),
                    Ok(VersionsResponse::AskAgain(again)),
                    "{version} to {newest:?}"
                );
            }
            let says_no_more = Bytes::from_static(&[0, 35]);
            assert_eq!(
                Versions::decode(version, &says_no_more),
                Ok(VersionsResponse::AskAgain(0))
            );
        }
        assert_eq!(
            Versions::decode(0, &refusal(&[])),
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
            version in -1i16..=6,
            bytes in prop::collection::vec(any::<u8>(), 0..100),
        ) {
            let _ = Versions::decode(version, &bytes.into());
        }
    }
}
