//! ApiVersions: what a broker speaks.

use std::collections::HashMap;

use bytes::Bytes;
use kafka_protocol::messages::ApiVersionsRequest;
use kafka_protocol::protocol::StrBytes;

use super::header::request_frame;
use super::reader::Reader;
use super::{Api, WireError};

const UNSUPPORTED_VERSION: i16 = 35;

/// What one broker speaks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Versions {
    /// Api key to lowest and highest version.
    ranges: HashMap<i16, (i16, i16)>,
    /// Finalized feature to its level.
    features: HashMap<String, i16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VersionsAnswer {
    Versions(Versions),
    /// The broker is older than the version asked in: ask again in version 0.
    AskVersion0,
}

/// Asks what the broker speaks, and tells it who asks (KIP-511).
pub fn encode(version: i16, correlation_id: i32, client_id: &str) -> Result<Bytes, WireError> {
    let request = ApiVersionsRequest::default()
        .with_client_software_name(StrBytes::from_static_str(env!("CARGO_PKG_NAME")))
        .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
    request_frame(Api::Versions, version, correlation_id, client_id, &request)
}

impl Versions {
    pub fn decode(version: i16, body: &Bytes) -> Result<VersionsAnswer, WireError> {
        Api::Versions.check(version)?;
        let flexible = Api::Versions.is_flexible(version);
        let mut reader = Reader::new("ApiVersions answer", body, flexible);
        match reader.i16()? {
            0 => {}
            // What follows is in version 0's form, whatever was asked.
            UNSUPPORTED_VERSION if version > 0 => return Ok(VersionsAnswer::AskVersion0),
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
        reader.tags(|tag, field| {
            if tag != 2 {
                return Ok(false);
            }
            for _ in 0..field.count(6)? {
                let name = field.text()?.to_owned();
                let level = field.i16()?;
                let _min_level = field.i16()?;
                field.skip_tags()?;
                versions.features.insert(name, level);
            }
            Ok(true)
        })?;
        reader.finish()?;
        if versions.ranges.is_empty() {
            return Err(WireError::NoVersions);
        }
        Ok(VersionsAnswer::Versions(versions))
    }

    /// The highest version that both sides speak.
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

    /// The highest version that the broker and this crate speak.
    pub fn best(&self, api: Api) -> Result<i16, WireError> {
        let (min, max) = api.ours();
        self.choose(api, min, max)
    }

    pub fn range(&self, api: Api) -> Option<(i16, i16)> {
        self.ranges.get(&api.key()).copied()
    }

    /// The finalized level of a feature, such as `transaction.version`.
    pub fn feature(&self, name: &str) -> Option<i16> {
        self.features.get(name).copied()
    }
}
