use std::sync::Arc;

use super::super::chunk::ChunkUse;
use super::super::file_header::PAGE;
use super::super::region::{Memory, Region};
use super::super::sample::Sample;
use super::super::space::{EmptySegment, SpaceEvent};
use super::super::{Reader, Spooled};
use super::*;

const SALT: u64 = 77;

struct Target {
    space: Arc<Space>,
    memory: Arc<Memory>,
}

impl Target {
    fn new(length: usize) -> Self {
        let (space, memory) = (Space::new(), Arc::new(Memory::new(length)));
        space.add(EmptySegment {
            number: 9,
            salt: SALT,
            region: Arc::clone(&memory) as Arc<dyn Region>,
        });
        Self { space, memory }
    }

    fn copies(&self) -> Vec<ChunkUse> {
        let events = self.space.events().into_iter();
        let copied = events.filter_map(|event| match event {
            SpaceEvent::Copied { used, .. } => Some(used),
            _ => None,
        });
        copied.collect()
    }
}

/// The batches of a slot in these chunks.
fn read(bytes: &[u8], salt: u64, chunks: &[ChunkUse], positions: Range<u64>) -> Vec<Spooled> {
    let (mut reader, mut batches) = (Reader::new(positions.start), Vec::new());
    for used in chunks {
        let (from, to) = (
            used.position.max(positions.start),
            used.end().min(positions.end),
        );
        if from < to {
            let end = (used.offset + used.bytes) as usize;
            let chunk = &bytes[used.offset as usize..end];
            let chunk = ReadChunk::new(chunk, salt, used.offset.into(), bytes.len() as u64);
            let missing = reader.read(&chunk.expect("a chunk"), from..to, &mut batches);
            assert_eq!(missing, Vec::new());
        }
    }
    batches.extend(reader.finish());
    batches
}

/// Every stretch of the sample's records, copied, is read as it was before.
#[test]
fn copies_are_read_as_the_records_were() {
    let sample = Sample::usual();
    let bytes = sample.bytes();
    for slot in [1, 2] {
        let chunks: Vec<_> = sample
            .used()
            .into_iter()
            .filter(|it| it.slot == slot)
            .collect();
        let end = chunks.iter().map(ChunkUse::end).max().expect("chunks");
        for from in 0..end {
            for to in from + 1..=end {
                let target = Target::new(PAGE + (32 << 10));
                for used in &chunks {
                    let positions = used.position.max(from)..used.end().min(to);
                    if positions.is_empty() {
                        continue;
                    }
                    let chunk = &bytes[used.offset as usize..(used.offset + used.bytes) as usize];
                    let (salt, at) = (sample.header.salt, used.offset.into());
                    let chunk = ReadChunk::new(chunk, salt, at, bytes.len() as u64);
                    let copied = copy(&target.space, &chunk.expect("a chunk"), positions);
                    assert_eq!(copied, Copied::All);
                }
                let copies = target.copies();
                let mut copied = read(&target.memory.bytes(), SALT, &copies, from..to);
                let before = read(&bytes, sample.header.salt, &chunks, from..to);
                for (copy, before) in copied.iter_mut().zip(&before) {
                    // That of the part alone, and not of the whole append.
                    assert!(copy.newest <= before.newest);
                    copy.newest = before.newest;
                }
                assert_eq!(copied, before, "slot {slot}, {from}..{to}");
            }
        }
    }
}

#[test]
fn what_is_damaged_is_left_out_and_told() {
    let sample = Sample::usual();
    let mut bytes = sample.bytes();
    let used = sample.closed[0];
    let (begin, _) = sample.frames[&(used.slot, used.position)];
    bytes[begin + 20] ^= 1;
    let chunk = &bytes[used.offset as usize..(used.offset + used.bytes) as usize];
    let chunk = ReadChunk::new(
        chunk,
        sample.header.salt,
        used.offset.into(),
        bytes.len() as u64,
    );
    let target = Target::new(PAGE + (32 << 10));
    let chunk = chunk.expect("its header is whole");
    let positions = used.position..used.end();
    assert_eq!(copy(&target.space, &chunk, positions), Copied::Part);
    let copies = target.copies();
    assert!(
        copies.iter().all(|copy| copy.position > used.position),
        "{copies:?}"
    );
}

#[test]
fn without_space_nothing_is_lost() {
    let sample = Sample::usual();
    let bytes = sample.bytes();
    let used = sample.closed[0];
    let chunk = &bytes[used.offset as usize..(used.offset + used.bytes) as usize];
    let chunk = ReadChunk::new(
        chunk,
        sample.header.salt,
        used.offset.into(),
        bytes.len() as u64,
    );
    let chunk = chunk.expect("its header is whole");
    let positions = used.position..used.end();
    let space = Space::new();
    assert_eq!(copy(&space, &chunk, positions), Copied::NoSpace);
    assert_eq!(space.events(), Vec::new());
}
