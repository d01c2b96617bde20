//! CRC-32C over records as they are appended, and joined with the header's CRC later.
//!
//! The CRC of a batch covers the end of its header and its records. The end of the header is known
//! only when the batch is taken for sending. By then the records may have left the processor's
//! nearest caches, and reading them again is slow. So the records are summed while they are
//! appended, the end of the header is summed when it is written, and `joined` computes the CRC of
//! both from the two sums.

use crc_fast::{CrcAlgorithm, Digest};

/// The CRC-32C polynomial, its bits reversed.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// The CRC of `bytes`.
pub(super) fn sum(bytes: &[u8]) -> u32 {
    more(Running::EMPTY, bytes) ^ u32::MAX
}

fn more(state: u32, bytes: &[u8]) -> u32 {
    if state == Running::EMPTY {
        // At the start the plain function is cheaper: a `Digest` carries 272 bytes of parameters.
        return crc_fast::crc32_iscsi(bytes) ^ u32::MAX;
    }
    let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc32Iscsi, u64::from(state));
    digest.update(bytes);
    digest.get_state() as u32
}

/// The CRC of a buffer that grows at its end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Running {
    state: u32,
    summed: usize,
}

impl Running {
    const EMPTY: u32 = u32::MAX;

    pub fn new() -> Self {
        Self {
            state: Self::EMPTY,
            summed: 0,
        }
    }

    /// Adds the bytes that were appended to `bytes` since the last call.
    pub fn catch_up(&mut self, bytes: &[u8]) {
        if self.summed < bytes.len() {
            self.state = more(self.state, &bytes[self.summed..]);
            self.summed = bytes.len();
        }
    }

    /// The CRC of all of `bytes`.
    pub fn finish(mut self, bytes: &[u8]) -> u32 {
        self.catch_up(bytes);
        self.state ^ u32::MAX
    }
}

/// The CRC of two byte strings in a row, computed from the CRC of each. The second one has `length`
/// bytes; a batch is never longer than 4 GiB.
///
/// A CRC is a polynomial over GF(2), and appending a byte multiplies it by x^8. So the first CRC is
/// multiplied by x^8 once for each byte of the second string. What the second string adds does not
/// depend on the first.
pub(super) fn joined(first: u32, second: u32, length: usize) -> u32 {
    let digits = (length as u32).to_le_bytes();
    let factors = digits.iter().zip(&POWERS).filter(|(digit, _)| **digit > 0);
    factors.fold(first, |sum, (digit, powers)| {
        times(powers[usize::from(*digit)], sum)
    }) ^ second
}

/// The factors for `joined`: `[place][value]` is x^(8 * value * 256^place) modulo the polynomial,
/// the factor for `value * 256^place` appended bytes. A batch of up to 64 KiB needs two
/// multiplications.
static POWERS: [[u32; 256]; 4] = {
    let mut powers = [[1 << 31; 256]; 4]; // the highest bit is x^0
    let mut step = 1 << 23; // x^8
    let mut place = 0;
    while place < powers.len() {
        let mut value = 1;
        while value < 256 {
            powers[place][value] = times(powers[place][value - 1], step);
            value += 1;
        }
        step = times(powers[place][255], step);
        place += 1;
    }
    powers
};

/// The product of two polynomials modulo the polynomial.
const fn times(a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    let mut bit = 32;
    while bit > 0 {
        bit -= 1;
        if a >> bit & 1 == 1 {
            product ^= b;
        }
        b = (b >> 1) ^ (POLYNOMIAL & (b & 1).wrapping_neg());
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_sum_is_crc_32c() {
        // RFC 3720, appendix B.4.
        assert_eq!(sum(&[0; 32]), 0x8a91_36aa);
        assert_eq!(sum(b"123456789"), 0xe306_9283);
        assert_eq!(sum(b""), 0);
    }

    #[test]
    fn sums_of_parts_join_at_every_digit() {
        for tail in [0, 1, 255, 256, 65_535, 65_536, (1 << 24) + 3] {
            let bytes: Vec<u8> = (0..tail + 9).map(|i| (i * 31) as u8).collect();
            let (head, tail) = bytes.split_at(9);
            assert_eq!(joined(sum(head), sum(tail), tail.len()), sum(&bytes));
        }
    }

    proptest! {
        #[test]
        fn sums_of_parts_join(
            bytes in proptest::collection::vec(any::<u8>(), 0..20_000),
            at in 0usize..20_000,
        ) {
            let at = at.min(bytes.len());
            let (head, tail) = bytes.split_at(at);
            prop_assert_eq!(joined(sum(head), sum(tail), tail.len()), sum(&bytes));
        }

        #[test]
        fn a_running_sum_is_the_sum(pieces in proptest::collection::vec(0usize..6_000, 0..12)) {
            let (mut bytes, mut running) = (Vec::new(), Running::new());
            for piece in pieces {
                bytes.extend((0..piece).map(|i| (i * 7 + piece) as u8));
                running.catch_up(&bytes);
            }
            prop_assert_eq!(running.finish(&bytes), sum(&bytes));
        }
    }
}
