//! Request and response headers, and the frame around a request.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::protocol::Encodable;

use super::WireError;
use super::reader::Reader;

/// The requests this producer sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Api {
    Produce,
    Metadata,
    Versions,
    InitProducerId,
}

impl Api {
    pub const fn key(self) -> i16 {
        match self {
            Api::Produce => 0,
            Api::Metadata => 3,
            Api::Versions => 18,
            Api::InitProducerId => 22,
        }
    }

    /// The versions spoken here, both ends included.
    pub const fn ours(self) -> (i16, i16) {
        match self {
            Api::Produce => (3, 13),
            Api::Metadata => (4, 13),
            Api::Versions => (0, 4),
            Api::InitProducerId => (0, 5),
        }
    }

    /// Flexible versions have compact lengths and tagged fields (KIP-482).
    pub const fn is_flexible(self, version: i16) -> bool {
        let first = match self {
            Api::Produce | Api::Metadata => 9,
            Api::Versions => 3,
            Api::InitProducerId => 2,
        };
        version >= first
    }

    pub(super) fn check(self, version: i16) -> Result<(), WireError> {
        let (min, max) = self.ours();
        if (min..=max).contains(&version) {
            Ok(())
        } else {
            Err(WireError::UnknownVersion { api: self, version })
        }
    }
}

impl fmt::Display for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Api::Produce => "Produce",
            Api::Metadata => "Metadata",
            Api::Versions => "ApiVersions",
            Api::InitProducerId => "InitProducerId",
        })
    }
}

/// Appends request header v1, or v2 for flexible versions.
pub fn request_header(
    api: Api,
    version: i16,
    correlation_id: i32,
    client_id: &str,
    out: &mut BytesMut,
) -> Result<(), WireError> {
    let length = i16::try_from(client_id.len()).map_err(|_| WireError::TooLong {
        what: "a client.id",
        length: client_id.len(),
        most: i16::MAX as usize,
    })?;
    out.put_i16(api.key());
    out.put_i16(version);
    out.put_i32(correlation_id);
    // The client id keeps its classic length in header v2 too.
    out.put_i16(length);
    out.put_slice(client_id.as_bytes());
    if api.is_flexible(version) {
        out.put_u8(0);
    }
    Ok(())
}

/// The correlation id of an answer, which is in the same place in every header version.
pub fn correlation_id(frame: &[u8]) -> Result<i32, WireError> {
    Reader::new("response header", frame, false).i32()
}

/// Takes the response header off a frame: correlation id and body.
pub fn split_answer(api: Api, version: i16, mut frame: Bytes) -> Result<(i32, Bytes), WireError> {
    // The answer to ApiVersions comes before the client knows what the broker speaks, so its
    // header has never become flexible.
    let flexible = api.is_flexible(version) && api != Api::Versions;
    let mut header = Reader::new("response header", &frame, flexible);
    let correlation_id = header.i32()?;
    header.skip_tags()?;
    let length = header.at();
    Ok((correlation_id, frame.split_off(length)))
}

/// A whole request frame around a generated message.
pub(super) fn request_frame(
    api: Api,
    version: i16,
    correlation_id: i32,
    client_id: &str,
    body: &impl Encodable,
) -> Result<Bytes, WireError> {
    api.check(version)?;
    let mut out = BytesMut::with_capacity(128);
    out.put_i32(0);
    request_header(api, version, correlation_id, client_id, &mut out)?;
    body.encode(&mut out, version)
        .map_err(|error| WireError::Encode {
            api,
            reason: error.to_string(),
        })?;
    set_length(&mut out, 0)?;
    Ok(out.freeze())
}

/// Writes the length prefix of a frame of which `elsewhere` bytes are not in `out`.
pub(super) fn set_length(out: &mut BytesMut, elsewhere: usize) -> Result<(), WireError> {
    let length = out.len().saturating_sub(4).saturating_add(elsewhere);
    let prefix = i32::try_from(length).map_err(|_| WireError::TooLong {
        what: "a request",
        length,
        most: i32::MAX as usize,
    })?;
    out[..4].copy_from_slice(&prefix.to_be_bytes());
    Ok(())
}
