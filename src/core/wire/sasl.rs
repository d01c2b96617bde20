//! SaslHandshake and SaslAuthenticate: a login.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::SaslHandshakeRequest;
use kafka_protocol::protocol::StrBytes;

use super::header::{put_uvarint, request_frame, request_header, set_length};
use super::reader::Reader;
use super::{Api, WireError};

/// Mechanisms of a listener that are kept. There are some ten, and whoever answers may name millions.
const MOST_MECHANISMS: usize = 32;

/// What a broker says of the mechanism that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandshakeResponse {
    pub error_code: i16,
    /// The first of the mechanisms that the listener has.
    pub enabled: Vec<String>,
}

/// What a broker says to a message of the mechanism.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthenticateResponse {
    pub error_code: i16,
    /// The broker's words.
    pub error_message: Option<String>,
    /// Its message.
    pub message: Vec<u8>,
    /// How long the login is good for (KIP-368). `None`: as long as the connection lasts.
    pub lifetime: Option<Duration>,
}

/// A request in two parts. The message of the mechanism goes between them, so that a password is not
/// copied into a buffer that others use again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthenticateRequest {
    pub before: Bytes,
    pub behind: &'static [u8],
}

/// A request to begin a login by this mechanism. After version 0 the messages of the mechanism have no
/// header but their length.
pub fn encode_handshake(
    version: i16,
    correlation_id: i32,
    client_id: &str,
    mechanism: &str,
) -> Result<Bytes, WireError> {
    let mechanism = StrBytes::from_string(mechanism.to_owned());
    let request = SaslHandshakeRequest::default().with_mechanism(mechanism);
    request_frame(
        Api::SaslHandshake,
        version,
        correlation_id,
        client_id,
        &request,
    )
}

/// A request with a message of `length` bytes.
pub fn encode_authenticate(
    version: i16,
    correlation_id: i32,
    client_id: &str,
    length: usize,
) -> Result<AuthenticateRequest, WireError> {
    let api = Api::SaslAuthenticate;
    api.check(version)?;
    let size = |length| {
        i32::try_from(length).map_err(|_| WireError::TooLong {
            what: "a message of a login",
            length,
            most: i32::MAX as usize - 1,
        })
    };
    let mut before = BytesMut::with_capacity(64);
    before.put_i32(0);
    request_header(api, version, correlation_id, client_id, &mut before)?;
    // A tagged field that is not there is behind a flexible message.
    let behind: &[u8] = if api.is_flexible(version) { &[0] } else { &[] };
    if api.is_flexible(version) {
        let length = size(length.saturating_add(1))?.cast_unsigned();
        put_uvarint(length, &mut before);
    } else {
        before.put_i32(size(length)?);
    }
    set_length(&mut before, length.saturating_add(behind.len()))?;
    let before = before.freeze();
    Ok(AuthenticateRequest { before, behind })
}

impl HandshakeResponse {
    pub fn decode(body: &Bytes) -> Result<Self, WireError> {
        let mut reader = Reader::new("SaslHandshake answer", body, false);
        let error_code = reader.i16()?;
        let mut enabled = Vec::new();
        for _ in 0..reader.count(2)? {
            let name = reader.words()?;
            if enabled.len() < MOST_MECHANISMS {
                enabled.extend(name);
            }
        }
        Ok(Self {
            error_code,
            enabled,
        })
    }
}

impl AuthenticateResponse {
    pub fn decode(version: i16, body: &Bytes) -> Result<Self, WireError> {
        Api::SaslAuthenticate.check(version)?;
        let flexible = Api::SaslAuthenticate.is_flexible(version);
        let mut reader = Reader::new("SaslAuthenticate answer", body, flexible);
        let error_code = reader.i16()?;
        let error_message = reader.words()?;
        let message = reader.bytes()?.to_vec();
        let lifetime = if version >= 1 { reader.i64()? } else { 0 };
        reader.skip_tags()?;
        let millis = u64::try_from(lifetime).unwrap_or(0);
        Ok(Self {
            error_code,
            error_message,
            message,
            lifetime: (millis > 0).then(|| Duration::from_millis(millis)),
        })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Buf;
    use kafka_protocol::messages::{
        RequestHeader, SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeResponse,
    };
    use kafka_protocol::protocol::Decodable;
    use proptest::prelude::*;

    use super::super::hostile::{encoded, mangle};
    use super::*;

    #[test]
    fn another_implementation_reads_the_requests() {
        for version in 0..=1 {
            let mut frame = encode_handshake(version, 5, "client", "PLAIN").expect("a request");
            assert_eq!(frame.get_i32() as usize, frame.len());
            let header = RequestHeader::decode(&mut frame, 1).expect("a header");
            assert_eq!(header.request_api_version, version);
            let request = SaslHandshakeRequest::decode(&mut frame, version).expect("a request");
            assert_eq!(&*request.mechanism, "PLAIN");
        }
        for version in 0..=2 {
            for message in [&b""[..], b"\0a\0b", &[7; 126], &[7; 127], &[7; 20_000]] {
                let request = encode_authenticate(version, 5, "client", message.len());
                let AuthenticateRequest { before, behind } = request.expect("a request");
                let mut frame = Bytes::from([&before[..], message, behind].concat());
                assert_eq!(frame.get_i32() as usize, frame.len());
                let header_version = if version >= 2 { 2 } else { 1 };
                RequestHeader::decode(&mut frame, header_version).expect("a header");
                let request = SaslAuthenticateRequest::decode(&mut frame, version);
                assert_eq!(&request.expect("a request").auth_bytes[..], message);
                assert!(!frame.has_remaining());
            }
        }
        assert!(encode_authenticate(3, 5, "client", 1).is_err());
    }

    fn authenticated() -> SaslAuthenticateResponse {
        SaslAuthenticateResponse::default()
            .with_error_code(58)
            .with_error_message(Some(StrBytes::from_static_str("no")))
            .with_auth_bytes(Bytes::from_static(b"v=1"))
    }

    #[test]
    fn every_version_is_understood() {
        for version in 0..=2 {
            let mut response = authenticated();
            if version >= 1 {
                response = response.with_session_lifetime_ms(7);
            }
            let read = AuthenticateResponse::decode(version, &encoded(&response, version));
            let expected = AuthenticateResponse {
                error_code: 58,
                error_message: Some("no".to_owned()),
                message: b"v=1".to_vec(),
                lifetime: (version >= 1).then(|| Duration::from_millis(7)),
            };
            assert_eq!(read, Ok(expected));
        }
        let never = authenticated().with_session_lifetime_ms(-1);
        let read = AuthenticateResponse::decode(1, &encoded(&never, 1)).expect("an answer");
        assert_eq!(read.lifetime, None);
    }

    fn handshake() -> SaslHandshakeResponse {
        let names = ["PLAIN", "SCRAM-SHA-256"].map(StrBytes::from_static_str);
        SaslHandshakeResponse::default()
            .with_error_code(33)
            .with_mechanisms(names.to_vec())
    }

    #[test]
    fn a_broker_tells_its_mechanisms() {
        let read = HandshakeResponse::decode(&encoded(&handshake(), 1)).expect("an answer");
        assert_eq!(read.error_code, 33);
        assert_eq!(read.enabled, ["PLAIN", "SCRAM-SHA-256"]);
    }

    #[test]
    fn broken_answers_are_refused() {
        mangle(&encoded(&handshake(), 1), HandshakeResponse::decode);
        for version in 0..=2 {
            mangle(&encoded(&authenticated(), version), |body| {
                AuthenticateResponse::decode(version, body)
            });
        }
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(
            version in -1i16..=3,
            bytes in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            let bytes = bytes.into();
            let _ = HandshakeResponse::decode(&bytes);
            let _ = AuthenticateResponse::decode(version, &bytes);
        }
    }

    #[test]
    fn of_many_mechanisms_the_first_are_kept() {
        let names =
            (0..100_000_u32).flat_map(|it| [&[0, 6][..], format!("{it:06}").as_bytes()].concat());
        let body = [
            &[0, 33][..],
            &100_000_i32.to_be_bytes(),
            &names.collect::<Vec<_>>(),
        ]
        .concat();
        let response = HandshakeResponse::decode(&body.into()).expect("an answer");
        assert_eq!(response.enabled.len(), MOST_MECHANISMS);
        assert_eq!(response.enabled[31], "000031");
    }
}
