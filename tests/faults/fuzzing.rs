//! The fuzzers' functions on stable Rust: whatever is kept in `fuzz/corpus`, and random bytes.

#[path = "../../fuzz/src/lib.rs"]
mod targets;

use std::fs;
use std::path::Path;

use proptest::prelude::*;

use targets::{
    TARGETS, Target, handshake_response, logged_batches, metadata_response, produce_response,
    transaction_response,
};

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
    for target in [
        produce_response,
        metadata_response,
        handshake_response,
        transaction_response,
        logged_batches,
    ] {
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

/// The targets that read text and files, each beside its own corpus.
const OF_TEXTS: [&str; 5] = ["login", "scram", "jaas", "providers", "key_material"];

fn named(name: &str) -> Target {
    let found = TARGETS.iter().find(|(target, _)| *target == name);
    found.expect("a target").1
}

#[test]
fn nothing_near_a_login_or_a_store_hurts() {
    for name in OF_TEXTS {
        let target = named(name);
        for input in corpus(name) {
            for at in (0..input.len()).step_by(input.len().div_ceil(60)) {
                target(&input[..at]);
                for byte in [0, 0x7f, 0xff] {
                    let mut changed = input.clone();
                    changed[at] = byte;
                    target(&changed);
                }
            }
        }
    }
}

/// As a fuzzer does it, without one: changes of what is in the corpus, one upon the other, for as many
/// seconds as `FOREBAY_SECONDS` says, for each target.
#[test]
#[ignore = "it takes as long as it is told to"]
fn what_comes_of_the_corpus_by_chance_hurts_nobody() {
    use rand::seq::IndexedRandom;
    let seconds = std::env::var("FOREBAY_SECONDS").ok();
    let seconds: u64 = seconds.and_then(|it| it.parse().ok()).unwrap_or(10);
    for name in OF_TEXTS {
        let (target, mut inputs, mut tries) = (named(name), corpus(name), 0_u64);
        let (begin, mut slowest) = (std::time::Instant::now(), std::time::Duration::ZERO);
        let known = inputs.len();
        while begin.elapsed().as_secs() < seconds {
            let mut input = inputs.choose(&mut rand::rng()).expect("inputs").clone();
            for _ in 0..rand::random_range(1..4) {
                let at = rand::random_range(0..=input.len());
                match rand::random_range(0..5) {
                    0 => input.truncate(at),
                    1 => input.insert(at, rand::random()),
                    2 => {
                        let other = inputs.choose(&mut rand::rng()).expect("inputs");
                        let from = rand::random_range(0..=other.len());
                        input.splice(at..at, other[from..].iter().take(40).copied());
                    }
                    _ if at < input.len() => input[at] ^= 1 << rand::random_range(0..8),
                    _ => input.extend([0, 0xff]),
                }
            }
            input.truncate(4096);
            let one = std::time::Instant::now();
            target(&input);
            slowest = slowest.max(one.elapsed());
            tries += 1;
            // Some go on from where they came.
            match inputs.len() - known {
                ..500 => inputs.push(input),
                more => inputs[known + rand::random_range(0..more)] = input,
            }
        }
        println!("{name}: {tries} inputs, the slowest in {slowest:?}");
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
