//! The fuzzers' functions on stable Rust: whatever is kept in `fuzz/corpus`, and random bytes.

#[path = "../../fuzz/src/lib.rs"]
mod targets;

use std::fs;
use std::path::Path;

use proptest::prelude::*;

use targets::TARGETS;

/// Inputs that were worth keeping.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(name);
    let files = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let read = |file: std::io::Result<fs::DirEntry>| fs::read(file.expect("a file").path());
    let found: Vec<_> = files.map(|file| read(file).expect("bytes")).collect();
    assert!(!found.is_empty(), "{}", folder.display());
    found
}

#[test]
fn nothing_in_the_corpus_hurts() {
    for (name, target) in TARGETS {
        for input in corpus(name) {
            target(&input);
        }
    }
}

/// Beside the corpus as it is: cut off, doubled, and with single bytes changed.
#[test]
fn nothing_near_the_corpus_hurts() {
    for (_, target) in TARGETS.iter().filter(|(name, _)| name.ends_with("answer")) {
        for (name, _) in TARGETS {
            for input in corpus(name) {
                for at in 0..input.len().min(300) {
                    target(&input[..at]);
                    for byte in [0, 1, 0x7f, 0x80, 0xff] {
                        let mut changed = input.clone();
                        changed[at] = byte;
                        target(&changed);
                    }
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_hurt(data in prop::collection::vec(any::<u8>(), 0..600)) {
        for (_, target) in TARGETS {
            target(&data);
        }
    }
}
