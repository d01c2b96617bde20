use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::super::frame::Claim;
use super::super::region::Memory;
use super::*;

const SALT: u64 = 77;
const BEGUN: i64 = 1_700_000_000_000;

fn place(memory: &Arc<Memory>, at: u32, length: u32) -> Place {
    Place {
        region: Arc::clone(memory) as Arc<dyn Region>,
        salt: SALT,
        at,
        length,
        begun: BEGUN,
    }
}

fn records(bytes: &[u8]) -> Appending<'_> {
    Appending {
        records: bytes,
        count: 1,
        newest: 0,
        begins: None,
        source: None,
    }
}

#[test]
fn what_was_appended_is_in_the_region() {
    let memory = Arc::new(Memory::new(4096));
    let batch = Batch {
        index: 4,
        base_timestamp: 1000,
    };
    let mut chunk = Chunk::begin(place(&memory, 128, 256), 3, 40, Some(batch)).expect("a chunk");
    let header = ChunkHeader::decode(&memory.bytes()[128..], SALT, 128, 4096);
    let expected = ChunkHeader {
        length: 256,
        slot: 3,
        position: 40,
        batch: Some(batch),
        begun: BEGUN,
    };
    assert_eq!(header, Some(expected));
    assert!(chunk.append(&records(b"one")));
    assert!(chunk.append(&Appending {
        count: 2,
        begins: Some(2000),
        newest: 2500,
        ..records(b"two and three")
    }));
    let bytes = memory.bytes();
    let at = 128 + HEADER;
    let frame = |at: usize| {
        let frame = Claim::read(&bytes[at..], SALT)?.check(&bytes[at..], SALT, at as u64)?;
        Some((
            frame.info,
            bytes[at..][frame.records.clone()].to_vec(),
            at + frame.len(),
        ))
    };
    let (first, text, next) = frame(at).expect("a frame");
    assert_eq!((first.first, first.count, text), (0, 1, b"one".to_vec()));
    let (second, text, next) = frame(next).expect("another");
    assert_eq!(
        (second.first, second.count, second.begins),
        (1, 2, Some(2000))
    );
    assert_eq!(text, b"two and three");
    assert_eq!(frame(next), None);
    let used = ChunkUse {
        offset: 128,
        slot: 3,
        position: 40,
        count: 3,
        bytes: (next - 128) as u32,
        newest: 2500,
        begun: BEGUN,
    };
    assert_eq!((chunk.used(), chunk.next_position()), (used, 43));
    let batch = Batch {
        index: 2,
        base_timestamp: 2000,
    };
    assert_eq!(chunk.batch(), Some(batch));
}

#[test]
fn a_full_chunk_refuses_and_keeps_to_its_place() {
    let memory = Arc::new(Memory::new(512));
    let length = Chunk::length_for(100) as u32;
    let mut chunk = Chunk::begin(place(&memory, 128, length), 0, 0, None).expect("a chunk");
    let source = Some(Source {
        source: 1,
        position: 2,
    });
    let largest = Appending {
        begins: Some(0),
        source,
        ..records(&[b'x'; 100])
    };
    assert!(chunk.room() >= 100);
    assert!(chunk.append(&largest));
    let (before, used) = (memory.bytes(), chunk.used());
    assert!(!chunk.append(&largest));
    assert_eq!((memory.bytes(), chunk.used()), (before, used));
    while chunk.append(&records(b"y")) {}
    let bytes = memory.bytes();
    let outside = bytes[..128].iter().chain(&bytes[128 + length as usize..]);
    assert!(outside.into_iter().all(|byte| *byte == 0));
}

#[test]
fn records_of_no_batch_and_no_records_are_refused() {
    let memory = Arc::new(Memory::new(512));
    let mut chunk = Chunk::begin(place(&memory, 0, 512), 0, 0, None).expect("a chunk");
    assert!(!chunk.append(&records(b"of no batch")));
    let begins = Some(0);
    assert!(!chunk.append(&Appending {
        begins,
        ..records(b"")
    }));
    let nothing = Appending {
        count: 0,
        begins,
        ..records(b"x")
    };
    assert!(!chunk.append(&nothing));
    assert_eq!(chunk.used().count, 0);
}

#[test]
fn a_chunk_that_is_not_within_the_region_does_not_begin() {
    let memory = Arc::new(Memory::new(512));
    let begin = |at, length| Chunk::begin(place(&memory, at, length), 0, 0, None).is_some();
    assert!(begin(0, 512));
    for (at, length) in [
        (64, 512),
        (32, 128),
        (0, 100),
        (0, 64),
        (0, 0),
        (u32::MAX, 64),
    ] {
        assert!(!begin(at, length), "{length} bytes at {at}");
    }
}

#[test]
fn a_header_with_any_bit_flipped_is_none() {
    let header = ChunkHeader {
        length: 128,
        slot: 1,
        position: 2,
        batch: None,
        begun: BEGUN,
    };
    let bytes = header.encode(SALT, 64);
    assert_eq!(ChunkHeader::decode(&bytes, SALT, 64, 4096), Some(header));
    assert_eq!(ChunkHeader::decode(&bytes, SALT, 128, 4096), None);
    assert_eq!(ChunkHeader::decode(&bytes, SALT + 1, 64, 4096), None);
    assert_eq!(
        ChunkHeader::decode(&bytes, SALT, 64, 191),
        None,
        "it ends behind its segment"
    );
    for bit in 0..HEADER * 8 {
        let mut bytes = bytes;
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(
            ChunkHeader::decode(&bytes, SALT, 64, 1 << 40),
            None,
            "bit {bit}"
        );
    }
}

#[test]
fn the_highest_position_of_each_source_is_kept() {
    let memory = Arc::new(Memory::new(4096));
    let mut chunk = Chunk::begin(place(&memory, 0, 4096), 0, 0, None).expect("a chunk");
    let of = |source, position| Source { source, position };
    for source in [of(1, 5), of(2, 9), of(1, 7), of(1, 6)] {
        assert!(chunk.append(&Appending {
            begins: Some(0),
            source: Some(source),
            ..records(b"x")
        }));
    }
    assert_eq!(chunk.accepted(), [of(1, 7), of(2, 9)]);
}

/// A process that is killed behind so many writes.
#[derive(Debug)]
struct Killed(Arc<Memory>, AtomicUsize);

impl Region for Killed {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn write(&self, at: usize, bytes: &[u8]) -> bool {
        let left = |left: usize| left.checked_sub(1);
        match self.1.fetch_update(Relaxed, Relaxed, left) {
            Ok(_) => self.0.write(at, bytes),
            Err(_) => true,
        }
    }
}

#[test]
fn a_process_that_is_killed_leaves_all_of_a_frame_or_no_head() {
    for (writes, there) in [(1, false), (2, false), (3, true)] {
        let memory = Arc::new(Memory::new(512));
        let region = Killed(Arc::clone(&memory), AtomicUsize::new(writes));
        let place = Place {
            region: Arc::new(region),
            ..place(&memory, 0, 512)
        };
        let mut chunk = Chunk::begin(place, 0, 0, None).expect("a chunk");
        let begins = Some(0);
        assert!(chunk.append(&Appending {
            begins,
            ..records(b"x")
        }));
        let bytes = memory.bytes();
        let head = &bytes[HEADER..HEADER + frame::HEADER];
        assert_eq!(head.iter().any(|byte| *byte != 0), there, "{writes} writes");
    }
}
