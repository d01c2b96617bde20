//! The hash that ties a key to its partition. Every Kafka client has to agree
//! on it, or records of one key end up in two partitions.

const SEED: u32 = 0x9747_b28c;
const M: u32 = 0x5bd1_e995;
const R: u32 = 24;

/// Kafka's murmur2 of `data`: Java's `Utils.murmur2`, bit for bit.
///
/// ```
/// use forebay::partitioner::murmur2;
///
/// assert_eq!(murmur2(b"21"), -973_932_308);
/// ```
pub fn murmur2(data: &[u8]) -> i32 {
    let mut hash = SEED ^ data.len() as u32;
    let (words, tail) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> R;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !tail.is_empty() {
        for (at, byte) in tail.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * at);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^= hash >> 15;
    hash as i32
}

/// Where Java's default partitioner sends `key` in a topic of `partitions` partitions; Java's
/// `BuiltInPartitioner.partitionForKey`. Partitions without a leader count: a key never moves for
/// them. A topic has at least one partition; for less, the answer is 0.
///
/// ```
/// use forebay::partitioner::partition_for_key;
///
/// assert_eq!(partition_for_key(b"user-42", 12), 4);
/// ```
pub fn partition_for_key(key: &[u8], partitions: i32) -> i32 {
    to_positive(murmur2(key)) % partitions.max(1)
}

/// Java's `Utils.toPositive`: clears the sign, which is not the absolute value.
fn to_positive(number: i32) -> i32 {
    number & i32::MAX
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hashes_as_utils_test_says() {
        let cases: [(&str, i32); 6] = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            (
                "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58_897_971,
            ),
            ("abc", 479_470_107),
        ];
        for (key, hash) in cases {
            assert_eq!(murmur2(key.as_bytes()), hash, "{key}");
        }
    }

    /// What Kafka 4.3.1's `Utils.murmur2` makes of [`key`], by length.
    const BY_LENGTH: [i32; 41] = [
        275646681,
        -440344911,
        2073310546,
        -1113843338,
        432456581,
        -1597787327,
        -413864142,
        -1552769401,
        -1767977412,
        -331812157,
        -953675448,
        748953877,
        563199209,
        -1447806596,
        240928510,
        -1576102256,
        1613360711,
        461758084,
        -1360686383,
        984156236,
        -2023674803,
        566111545,
        507128147,
        337358167,
        2136000712,
        67618224,
        1439050708,
        367859605,
        -106462500,
        92586981,
        -893209557,
        -1855006384,
        108518880,
        176645390,
        -2078697359,
        919112815,
        1738395100,
        -2142409282,
        -912102058,
        -1903411522,
        -974739103,
    ];

    /// Bytes above 127 too, where Java's sign gets in the way.
    fn key(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i * 37 + len * 11 + 5) as u8).collect()
    }

    #[test]
    fn hashes_keys_of_every_length_as_java_does() {
        for (len, hash) in BY_LENGTH.into_iter().enumerate() {
            assert_eq!(murmur2(&key(len)), hash, "{len} bytes");
        }
    }

    #[test]
    fn finds_the_partition_java_finds() {
        // Key, hash, and the partition of 12, from the same run.
        let cases: [(&str, i32, i32); 9] = [
            ("", 275646681, 9),
            ("a", -1563381124, 4),
            ("key", -1079937367, 1),
            ("user-1", 1404122828, 8),
            ("user-42", 1459644460, 4),
            ("00000000-0000-0000-0000-000000000000", 713427837, 9),
            ("Жук", 674223843, 3),
            ("日本語", 1431860170, 10),
            ("été", -2101193575, 1),
        ];
        for (key, hash, partition) in cases {
            assert_eq!(murmur2(key.as_bytes()), hash, "{key}");
            assert_eq!(partition_for_key(key.as_bytes(), 12), partition, "{key}");
        }
    }

    #[test]
    fn positive_is_not_absolute() {
        assert_eq!(to_positive(-1), i32::MAX);
        assert_eq!(to_positive(i32::MIN), 0);
        assert_eq!(to_positive(7), 7);
    }

    proptest! {
        #[test]
        fn a_partition_is_always_in_range(key: Vec<u8>, partitions: i32) {
            let partition = partition_for_key(&key, partitions);
            prop_assert!((0..partitions.max(1)).contains(&partition));
        }
    }
}
