//! What is to be read of segments, and how.

use std::ops::Range;
use std::sync::Arc;

use crate::core::spool::{ReadChunk, Reader, Source, Spooled};
use crate::disk::{StoredFile, read_chunk};

/// A chunk that is read, or a part of one.
#[derive(Clone)]
pub(super) struct Part {
    pub file: Arc<dyn StoredFile>,
    pub salt: u64,
    pub offset: u32,
    /// Bytes of the chunk that are read.
    pub length: u32,
    pub positions: Range<u64>,
}

impl Part {
    pub fn read<'a>(&self, bytes: &'a mut Vec<u8>) -> Result<ReadChunk<'a>, String> {
        read_chunk(&*self.file, self.salt, (self.offset, self.length), bytes)
    }
}

/// What is read.
#[derive(Clone)]
pub(super) struct Plan {
    pub from: u64,
    /// It ends when so many bytes of records were read.
    pub most: usize,
    pub parts: Vec<Part>,
}

/// What was read.
#[derive(Default)]
pub(super) struct ReadBackBatches {
    pub batches: Vec<Spooled>,
    /// Records that should be there, and are damaged.
    pub missing: Vec<Range<u64>>,
}

pub(super) fn read(plan: Plan) -> ReadBackBatches {
    let mut read = ReadBackBatches::default();
    let mut reader = Reader::new(plan.from);
    let mut chunk = Vec::new();
    for part in plan.parts {
        let bytes: usize = read.batches.iter().map(|batch| batch.records.len()).sum();
        if bytes >= plan.most {
            return read;
        }
        match part.read(&mut chunk) {
            Ok(chunk) => {
                let missing = reader.read(&chunk, part.positions, &mut read.batches);
                read.missing.extend(missing);
            }
            Err(why) => {
                tracing::error!(why, "records of the spool cannot be read back");
                read.missing.push(part.positions);
            }
        }
    }
    // The last batch may go on where nothing was read yet: it is read again then.
    read.batches.extend(reader.finish());
    read
}

/// Reads of which sources the records are: how many come before each, and its source. Memory holds a chunk
/// at a time. What cannot be read has none.
pub(super) fn read_sources(plan: Plan) -> Vec<(u32, Source)> {
    let mut reader = Reader::new(plan.from);
    let (mut batches, mut sources) = (Vec::new(), Vec::new());
    let mut take = |batch: Spooled| {
        let before = u32::try_from(batch.position - plan.from).unwrap_or(u32::MAX);
        let placed = batch.sources.into_iter();
        sources.extend(placed.map(|(at, source)| (before.saturating_add(at), source)));
    };
    let mut chunk = Vec::new();
    for part in plan.parts {
        if let Ok(chunk) = part.read(&mut chunk) {
            let _missing = reader.read(&chunk, part.positions, &mut batches);
        }
        batches.drain(..).for_each(&mut take);
    }
    reader.finish().into_iter().for_each(take);
    sources
}
