//! Tests of what all codecs have in common.

use proptest::prelude::*;

use super::*;

/// Every codec of this build, at the levels worth testing.
fn every_codec() -> Vec<Compression> {
    let mut all = vec![Compression::None];
    if cfg!(feature = "gzip") {
        all.extend([-1, 1, 2, 3, 4, 5, 6, 7, 8, 9].map(|level| Compression::Gzip { level }));
    }
    if cfg!(feature = "snappy") {
        all.push(Compression::Snappy);
    }
    if cfg!(feature = "lz4") {
        all.extend([1, 9, 17].map(|level| Compression::Lz4 { level }));
    }
    if cfg!(feature = "zstd") {
        let levels = [-131_072, -7, -1, 0, 1, 3, 9, 15, 19, 22];
        all.extend(levels.map(|level| Compression::Zstd { level }));
    }
    all
}

fn at_default_level() -> impl Iterator<Item = Compression> {
    ["none", "gzip", "snappy", "lz4", "zstd"]
        .into_iter()
        .filter_map(Compression::from_name)
        .filter(|codec| codec.check().is_ok())
}

/// Bytes that no codec can make smaller.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    })
    .take(len)
    .collect()
}

fn text(len: usize) -> Vec<u8> {
    let phrase = b"the quick brown fox jumps over the lazy dog; ";
    phrase.iter().copied().cycle().take(len).collect()
}

fn packed(codec: Compression, input: &[u8]) -> Vec<u8> {
    Compressor::new(codec).compress(input).unwrap().to_vec()
}

#[test]
fn every_codec_and_level_comes_back() {
    for codec in every_codec() {
        let mut compressor = Compressor::new(codec);
        // Sizes grow and shrink again, so that bytes left from an earlier batch would show.
        for size in [0, 1, 100, 16 << 10, 1 << 20, 16 << 10, 65_535, 65_536, 1, 0] {
            for input in [noise(size), text(size)] {
                let out = compressor.compress(&input).unwrap();
                let back = decompress(codec.attribute_bits(), out, size).unwrap();
                assert!(back == input, "{codec:?}, {size} bytes");
            }
        }
        // zstd's most negative level finds no matches at all.
        let idle = [Compression::None, Compression::Zstd { level: -131_072 }];
        if !idle.contains(&codec) {
            let shrunk = compressor.compress(&text(16 << 10)).unwrap().len();
            assert!(shrunk < 2_000, "{codec:?}: {shrunk}");
        }
    }
}

#[test]
fn what_java_wrote_is_read() {
    // Written by the clients of Kafka 4.3.1 at their default levels. The second of each pair was
    // flushed after 50 bytes, which makes a second chunk or block.
    let streams = [
        (
            "gzip",
            "1f8b08000000000000ff4b5448cb2f4a4d4aac54c8c94c2d5648cc484d4c51c84f5328c9485528292d4acacc4b2db65648a4a22a00e25a0f8872000000",
        ),
        (
            "snappy",
            "82534e415050590000000001000000010000003072a06120666f7265626179206c696573206168656164206f66207468652074757262696e65733b20612066fe26001526",
        ),
        (
            "snappy",
            "82534e415050590000000001000000010000003432c46120666f7265626179206c696573206168656164206f66207468652074757262696e65733b206120666f7265626179206c690000002c40986573206168656164206f66207468652074757262696e65733b206120666f7265626179206c6965622600",
        ),
        (
            "lz4",
            "04224d1860408231000000ff176120666f7265626179206c696573206168656164206f66207468652074757262696e65733b20260034506e65733b2000000000",
        ),
        (
            "lz4",
            "04224d1860408230000000f3176120666f7265626179206c696573206168656164206f66207468652074757262696e65733b202600506179206c6931000000ff176573206168656164206f66207468652074757262696e65733b206120666f7265626179206c69260002506e65733b2000000000",
        ),
        (
            "zstd",
            "28b52ffd005874010064026120666f7265626179206c696573206168656164206f66207468652074757262696e65733b200100ce84aa27010000",
        ),
        (
            "zstd",
            "28b52ffd005874010064026120666f7265626179206c696573206168656164206f66207468652074757262696e65733b2001004e9c7a023c000008650100948010010000",
        ),
    ];
    let empty = [
        ("gzip", "1f8b08000000000000ff03000000000000000000"),
        ("snappy", "82534e41505059000000000100000001"),
        ("lz4", "04224d1860408200000000"),
        ("zstd", "28b52ffd2000010000"),
    ];
    let text = "a forebay lies ahead of the turbines; ".repeat(3);
    let cases = streams.map(|(name, hex)| (name, hex, text.as_str()));
    for (name, hex, expected) in cases.into_iter().chain(empty.map(|(n, h)| (n, h, ""))) {
        let codec = Compression::from_name(name).unwrap();
        if codec.check().is_ok() {
            let back = decompress(codec.attribute_bits(), &unhex(hex), 1000).unwrap();
            assert_eq!(back, expected.as_bytes(), "{name}");
        }
    }
}

fn unhex(hex: &str) -> Vec<u8> {
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}

#[test]
fn a_bomb_stops_at_the_limit() {
    let zeros = vec![0; 4 << 20];
    for codec in at_default_level() {
        let bits = codec.attribute_bits();
        let bomb = packed(codec, &zeros);
        for limit in [0, 1, 1000, 1 << 20, zeros.len() - 1] {
            let error = CompressError::TooLarge { limit };
            assert_eq!(decompress(bits, &bomb, limit), Err(error), "{codec:?}");
        }
        assert_eq!(decompress(bits, &bomb, zeros.len()).unwrap(), zeros);
        assert_eq!(decompress(bits, &bomb, usize::MAX).unwrap(), zeros);
    }
}

#[test]
fn names_and_bits_are_kafkas() {
    let names = ["none", "gzip", "snappy", "lz4", "zstd"];
    for (bits, name) in names.into_iter().enumerate() {
        let codec = Compression::from_name(name).unwrap();
        assert_eq!(codec.name(), name);
        assert_eq!(codec.attribute_bits(), bits as i16);
    }
    assert_eq!(Compression::from_name("GZIP"), None);
}

#[test]
fn levels_are_kafkas() {
    let level_of = |codec: Compression| {
        let taken = |level: &i32| {
            !matches!(
                codec.with_level(*level).check(),
                Err(CompressError::Level { .. })
            )
        };
        (-2..25).filter(taken).collect::<Vec<_>>()
    };
    if cfg!(feature = "gzip") {
        let gzip = level_of(Compression::Gzip { level: 6 });
        assert_eq!(gzip, [-1, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    }
    if cfg!(feature = "lz4") {
        let lz4 = level_of(Compression::Lz4 { level: 9 });
        assert_eq!(lz4, (1..=17).collect::<Vec<_>>());
    }
    if cfg!(feature = "zstd") {
        let zstd = level_of(Compression::Zstd { level: 3 });
        assert_eq!(zstd, (-2..=22).collect::<Vec<_>>());
        assert!(Compression::Zstd { level: -131_072 }.check().is_ok());
        assert!(Compression::Zstd { level: -131_073 }.check().is_err());
    }
    let mut compressor = Compressor::new(Compression::Gzip { level: 10 });
    assert!(compressor.compress(b"x").is_err());
}

#[test]
fn what_is_not_built_in_says_so() {
    let built: Vec<&str> = every_codec().into_iter().map(Compression::name).collect();
    for name in ["gzip", "snappy", "lz4", "zstd"] {
        let codec = Compression::from_name(name).unwrap();
        if !built.contains(&name) {
            let error = Err(not_built(name));
            assert_eq!(Compressor::new(codec).compress(b"x").map(drop), error);
            assert_eq!(decompress(codec.attribute_bits(), b"x", 1).map(drop), error);
        }
    }
}

#[test]
fn only_the_low_three_bits_name_the_codec() {
    // Transactional and control batches have other bits set in the attributes.
    assert_eq!(decompress(0b11_0000, b"abc", 3).unwrap(), b"abc");
    for bits in 5..8 {
        let error = CompressError::UnknownCodec { bits };
        assert_eq!(decompress(bits, b"abc", 3), Err(error));
    }
}

#[test]
fn nothing_is_not_a_stream() {
    for codec in at_default_level().filter(|codec| *codec != Compression::None) {
        let error = decompress(codec.attribute_bits(), b"", 10);
        assert!(
            matches!(error, Err(CompressError::Corrupt { .. })),
            "{codec:?}: {error:?}"
        );
    }
}

proptest! {
    #[test]
    fn garbage_never_panics(
        bits in 0i16..8,
        input in proptest::collection::vec(any::<u8>(), 0..2048),
        limit in 0usize..4096,
    ) {
        if let Ok(out) = decompress(bits, &input, limit) {
            prop_assert!(out.len() <= limit);
        }
    }

    #[test]
    fn a_damaged_stream_never_panics(
        which in 0usize..5,
        input in proptest::collection::vec(0u8..4, 0..3000),
        damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<proptest::sample::Index>(),
        limit in 0usize..4096,
    ) {
        let Some(codec) = at_default_level().nth(which) else { return Ok(()) };
        let mut stream = packed(codec, &input);
        if !stream.is_empty() {
            for (at, byte) in damage {
                let at = at.index(stream.len());
                stream[at] = byte;
            }
        }
        let cut = cut.index(stream.len() + 1);
        for stream in [&stream[..], &stream[..cut]] {
            if let Ok(out) = decompress(codec.attribute_bits(), stream, limit) {
                prop_assert!(out.len() <= limit);
            }
        }
    }

    #[test]
    fn whatever_goes_in_comes_back(
        inputs in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..5000), 1..5),
    ) {
        for codec in at_default_level() {
            let mut compressor = Compressor::new(codec);
            for input in &inputs {
                let out = compressor.compress(input).unwrap();
                prop_assert_eq!(&decompress(codec.attribute_bits(), out, input.len()).unwrap(), input);
            }
        }
    }
}
