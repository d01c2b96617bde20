//! What every decoder must survive, for the tests of each.

use std::fmt::Debug;

use bytes::{Bytes, BytesMut};
use kafka_protocol::protocol::Encodable;

use super::WireError;

/// The bytes of an answer as another implementation writes them.
pub fn encoded(answer: &impl Encodable, version: i16) -> Bytes {
    let mut out = BytesMut::new();
    answer.encode(&mut out, version).expect("a valid answer");
    out.freeze()
}

/// Takes a good answer apart in every way that a broken broker might.
pub fn mangle<A: Debug>(good: &Bytes, decode: impl Fn(&Bytes) -> Result<A, WireError>) {
    decode(good).expect("a good answer decodes");
    for cut in 0..good.len() {
        decode(&good.slice(..cut)).expect_err("a cut answer is refused");
    }
    let mut longer = BytesMut::from(&good[..]);
    longer.extend_from_slice(&[0]);
    let error = decode(&longer.freeze()).expect_err("a longer answer is refused");
    assert!(
        matches!(error, WireError::LeftOver { left: 1, .. }),
        "{error}"
    );

    // Lengths, counts and varints that lie, wherever one might stand.
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
            // Some lies land in a number and are a good answer; none may panic or reserve memory.
            let _ = decode(&bytes.into());
        }
    }
}
