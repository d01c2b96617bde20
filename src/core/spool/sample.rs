//! A small spool for tests, and what is in it.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use super::chunk::{Appending, Chunk, ChunkUse, Place};
use super::file_header::{FileHeader, Kind, PAGE};
use super::frame::Source;
use super::pieces::ReadChunk;
use super::reader::{Reader, Spooled};
use super::region::{Memory, Region};
use crate::core::batch::{RecordRef, Run};

/// A record that was appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    pub index: u32,
    pub base_timestamp: i64,
    /// As it stands in its batch.
    pub bytes: Vec<u8>,
}

/// By slot and position.
pub type All = BTreeMap<(u32, u64), Kept>;

/// A segment that is filled.
pub struct Sample {
    pub header: FileHeader,
    memory: Arc<Memory>,
    chunk: u32,
    next: u32,
    open: BTreeMap<u32, Chunk>,
    pub closed: Vec<ChunkUse>,
    pub all: All,
    /// Where the frame of each record is, with its end.
    pub frames: BTreeMap<(u32, u64), (usize, usize)>,
}

impl Sample {
    /// With chunks of so many bytes.
    pub fn new(header: FileHeader, stale: Vec<u8>, chunk: u32) -> Self {
        let memory = Arc::new(Memory::of(stale));
        assert!(memory.write(0, &header.page(Kind::Segment)));
        Self {
            header,
            memory,
            chunk,
            next: PAGE as u32,
            open: BTreeMap::new(),
            closed: Vec::new(),
            all: All::new(),
            frames: BTreeMap::new(),
        }
    }

    /// The one that most tests look at: two slots, batches that go on in the next chunk, sources.
    pub fn usual() -> Self {
        let header = FileHeader {
            number: 3,
            salt: 0x0123_4567_89ab_cdef,
            length: PAGE as u64 + 14 * 256,
        };
        let mut sample = Self::new(header, vec![0; header.length as usize], 256);
        for round in 0..9_i64 {
            let begins = (round % 3 == 0).then_some(1_000_000 + round);
            sample.append(1, &[round, round + 1], begins, None);
            let source = Source {
                source: 7,
                position: round as u64 * 10,
            };
            let begins = (round % 4 == 0).then_some(2_000_000 + round);
            sample.append(2, &[-round], begins, (round % 2 == 0).then_some(source));
        }
        sample
    }

    /// Appends records with these timestamp deltas.
    pub fn append(
        &mut self,
        slot: u32,
        deltas: &[i64],
        begins: Option<i64>,
        source: Option<Source>,
    ) {
        let open = self.open.get(&slot);
        let (position, batch) = open.map_or((0, None), |it| (it.next_position(), it.batch()));
        let base_timestamp = begins.or(batch.map(|batch| batch.base_timestamp));
        let base_timestamp = base_timestamp.expect("a batch");
        let from = batch.filter(|_| begins.is_none()).map_or(0, |it| it.index);
        let mut records = Vec::new();
        for (i, delta) in deltas.iter().enumerate() {
            let bytes = record(slot, position + i as u64, from + i as u32, *delta);
            records.extend_from_slice(&bytes);
            let kept = Kept {
                index: from + i as u32,
                base_timestamp,
                bytes,
            };
            self.all.insert((slot, position + i as u64), kept);
        }
        let newest = deltas
            .iter()
            .max()
            .map_or(0, |delta| base_timestamp + delta);
        let appending = Appending {
            records: &records,
            count: deltas.len() as u16,
            newest,
            begins,
            source,
        };
        if !self
            .open
            .get_mut(&slot)
            .is_some_and(|it| it.append(&appending))
        {
            let place = Place {
                region: Arc::clone(&self.memory) as Arc<dyn Region>,
                salt: self.header.salt,
                at: self.next,
                length: self.chunk,
                begun: 1_000_000 + i64::from(self.next),
            };
            self.next += self.chunk;
            let mut chunk = Chunk::begin(place, slot, position, batch).expect("room for a chunk");
            assert!(chunk.append(&appending));
            let former = self.open.insert(slot, chunk);
            self.closed.extend(former.map(|it| it.used()));
        }
        let used = self.open[&slot].used();
        let end = (used.offset + used.bytes) as usize;
        let head = 16 + begins.map_or(0, |_| 8) + source.map_or(0, |_| 12);
        let length = (records.len() + head).next_multiple_of(4);
        for i in 0..deltas.len() as u64 {
            self.frames
                .insert((slot, position + i), (end - length, end));
        }
    }

    /// What is in the chunks, those that are open included.
    pub fn used(&self) -> Vec<ChunkUse> {
        let open = self.open.values().map(Chunk::used);
        let mut used: Vec<_> = self.closed.iter().copied().chain(open).collect();
        used.sort_by_key(|it| it.offset);
        used
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.memory.bytes()
    }
}

/// A record whose value says where it belongs.
fn record(slot: u32, position: u64, index: u32, delta: i64) -> Vec<u8> {
    let value = format!("{slot}/{position}");
    let record = RecordRef {
        key: None,
        value: Some(value.as_bytes()),
        headers: &[],
        timestamp: 0,
    };
    let mut memory = [0; 64];
    let length = record.encode(&mut memory, 0, 64, index as i32, delta);
    memory[..length.expect("room")].to_vec()
}

/// Reads bytes as a file.
pub fn file(bytes: &[u8]) -> impl FnMut(u64, &mut [u8]) -> io::Result<()> {
    move |at, into| {
        let at = at as usize;
        let part = bytes.get(at..at + into.len());
        let part = part.ok_or(io::ErrorKind::UnexpectedEof)?;
        into.copy_from_slice(part);
        Ok(())
    }
}

/// Reads these chunks of a segment. Returns the batches of each slot, and how many records are missing.
pub fn read_back(
    header: &FileHeader,
    bytes: &[u8],
    chunks: &[ChunkUse],
) -> (Vec<(u32, Spooled)>, u64) {
    let mut slots: BTreeMap<u32, Vec<&ChunkUse>> = BTreeMap::new();
    for chunk in chunks {
        slots.entry(chunk.slot).or_default().push(chunk);
    }
    let (mut found, mut missing) = (Vec::new(), 0);
    for (slot, mut chunks) in slots {
        chunks.sort_by_key(|chunk| chunk.position);
        let (mut reader, mut batches) = (Reader::new(0), Vec::new());
        for used in chunks {
            let (from, to) = (used.offset as usize, (used.offset + used.bytes) as usize);
            let bytes = &bytes[from..to.min(bytes.len())];
            let chunk = ReadChunk::new(bytes, header.salt, from as u64, header.length);
            let gone = match chunk {
                Some(chunk) => reader.read(&chunk, used.position..used.end(), &mut batches),
                None => vec![used.position..used.end()],
            };
            missing += gone.iter().map(|it| it.end - it.start).sum::<u64>();
        }
        batches.extend(reader.finish());
        found.extend(batches.into_iter().map(|batch| (slot, batch)));
    }
    (found, missing)
}

/// Batches, taken apart into their records.
pub fn records(batches: &[(u32, Spooled)]) -> All {
    let mut all = All::new();
    for (slot, batch) in batches {
        for i in 0..batch.count {
            let kept = Kept {
                index: batch.index + i,
                base_timestamp: batch.base_timestamp,
                bytes: Run::part(&batch.records, i, 1).expect("a record").to_vec(),
            };
            let before = all.insert((*slot, batch.position + u64::from(i)), kept);
            assert!(before.is_none(), "read twice");
        }
    }
    all
}
