//! For the tests of requests and responses: the `kafka-protocol` crate reads what is encoded here and
//! writes what is decoded here, and broken responses must be refused or survived.

use std::fmt::Debug;

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, RequestHeader};
use kafka_protocol::protocol::{Decodable, Encodable};

use super::{Api, Transactor, WireError};

/// Whose transaction the requests of these tests are of.
pub const TRANSACTOR: Transactor<'_> = Transactor {
    transactional_id: "orders-1",
    producer_id: 1 << 40,
    epoch: 3,
};

/// A whole request as the `kafka-protocol` crate reads it.
pub fn read<R: Decodable>(api: Api, version: i16, mut frame: Bytes) -> R {
    assert_eq!(frame.get_i32() as usize, frame.len());
    let header_version = ApiKey::try_from(api.key())
        .expect("a known key")
        .request_header_version(version);
    let header = RequestHeader::decode(&mut frame, header_version).expect("a header");
    let said = (header.request_api_key, header.request_api_version);
    assert_eq!(said, (api.key(), version));
    let request = R::decode(&mut frame, version).expect("a request");
    assert!(!frame.has_remaining(), "version {version}");
    request
}

/// The bytes of a response as the `kafka-protocol` crate writes them.
pub fn encoded(answer: &impl Encodable, version: i16) -> Bytes {
    let mut out = BytesMut::new();
    answer.encode(&mut out, version).expect("a valid answer");
    out.freeze()
}

/// Breaks a good response in every way that a broken broker might.
pub fn mangle<A: Debug + PartialEq>(good: &Bytes, decode: impl Fn(&Bytes) -> Result<A, WireError>) {
    decode(good).expect("a good answer decodes");
    for cut in 0..good.len() {
        decode(&good.slice(..cut)).expect_err("a cut answer is refused");
    }
    let mut longer = BytesMut::from(&good[..]);
    longer.extend_from_slice(&[0, 7, 0xff]);
    let understood = decode(&longer.freeze()).expect("what is behind the answer is passed over");
    assert_eq!(Ok(understood), decode(good));

    // Wrong lengths, counts and varints at every position.
    let lies: [&[u8]; 6] = [
        &i32::MAX.to_be_bytes(),
        &(-2i32).to_be_bytes(),
        &[0xff, 0xff, 0xff, 0xff, 0x0f],
        &[0xff, 0xff, 0xff, 0xff, 0xff],
        &[0x80, 0x80, 0x80, 0x80, 0x80],
        &[0xff, 0xff],
    ];
    for at in 0..good.len() {
        for lie in lies {
            let mut bytes = good.to_vec();
            let end = (at + lie.len()).min(bytes.len());
            bytes.splice(at..end, lie.iter().copied());
            // Some of them hit a plain number, and the response stays valid. None may panic or
            // reserve memory.
            let _ = decode(&bytes.into());
        }
    }
}
