//! For the tests of the decoders: broken responses that each of them must refuse or survive.

use std::fmt::Debug;

use bytes::{Bytes, BytesMut};
use kafka_protocol::protocol::Encodable;

use super::WireError;

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
