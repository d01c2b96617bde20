//! Makes the values that `forebay perf` sends, before the clock starts.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::Failure;

/// Random bytes in the buffer of letters, at least.
const LETTERS: usize = 1 << 20;
/// Bytes from the start of one value to the start of the next. It is odd, so that few values start
/// at the same place.
const STEP: usize = 4099;

pub enum Payload {
    /// Pieces of one buffer of random letters.
    Random {
        letters: Bytes,
        size: usize,
        at: usize,
    },
    /// The lines of a file, chosen at random.
    Lines { lines: Vec<Bytes>, random: SmallRng },
}

impl Payload {
    /// Letters from A to Z, as in Kafka's tool, so that both compress equally well.
    pub fn random(size: usize) -> Self {
        let mut random = SmallRng::seed_from_u64(0);
        let letters: Vec<u8> = (0..LETTERS + size)
            .map(|_| random.random_range(b'A'..=b'Z'))
            .collect();
        let letters = letters.into();
        Self::Random {
            letters,
            size,
            at: 0,
        }
    }

    pub fn file(path: &Path) -> Result<Self, Failure> {
        let read = fs::read(path);
        let text = read.map_err(|e| Failure::Usage(format!("{}: {e}", path.display())))?;
        let text = Bytes::from(text);
        let lines: Vec<_> = text
            .strip_suffix(b"\n")
            .unwrap_or(&text)
            .split(|byte| *byte == b'\n')
            .map(|line| text.slice_ref(line))
            .collect();
        if text.is_empty() {
            return Err(Failure::Usage(format!("{} is empty", path.display())));
        }
        let random = SmallRng::seed_from_u64(0);
        Ok(Self::Lines { lines, random })
    }

    pub fn next(&mut self) -> Bytes {
        match self {
            Self::Random { letters, size, at } => {
                let value = letters.slice(*at..*at + *size);
                *at = (*at + STEP) % LETTERS;
                value
            }
            Self::Lines { lines, random } => lines[random.random_range(0..lines.len())].clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_their_size_and_differ() {
        let mut payload = Payload::random(100);
        let first = payload.next();
        assert_eq!(first.len(), 100);
        assert!(first.iter().all(u8::is_ascii_uppercase));
        assert!((0..10_000).all(|_| payload.next().len() == 100));
        assert_ne!(first, payload.next());
        assert_eq!(Payload::random(3 << 20).next().len(), 3 << 20);
    }

    #[test]
    fn a_file_gives_its_lines() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("values");
        fs::write(&path, "one\ntwo\n").expect("written");
        let mut payload = Payload::file(&path).expect("a payload");
        for _ in 0..100 {
            assert!([&b"one"[..], b"two"].contains(&&*payload.next()));
        }
    }
}
