//! What is to be read of segments, and how.

use std::ops::Range;
use std::sync::Arc;

use crate::core::spool::{ReadChunk, Reader, Source, Spooled};
use crate::disk::StoredFile;

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
    for part in plan.parts {
        let bytes: usize = read.batches.iter().map(|batch| batch.records.len()).sum();
        if bytes >= plan.most {
            return read;
        }
        let mut chunk = vec![0; part.length as usize];
        let segment = part.file.len() as u64;
        let whole = part.file.read(part.offset.into(), &mut chunk);
        let whole = whole.map_err(|error| error.to_string()).and_then(|()| {
            let chunk = ReadChunk::new(&chunk, part.salt, part.offset.into(), segment);
            chunk.ok_or_else(|| "its header is damaged".to_owned())
        });
        match whole {
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
    for part in plan.parts {
        let mut chunk = vec![0; part.length as usize];
        let segment = part.file.len() as u64;
        if part.file.read(part.offset.into(), &mut chunk).is_err() {
            continue;
        }
        if let Some(chunk) = ReadChunk::new(&chunk, part.salt, part.offset.into(), segment) {
            let _missing = reader.read(&chunk, part.positions, &mut batches);
        }
        batches.drain(..).for_each(&mut take);
    }
    reader.finish().into_iter().for_each(take);
    sources
}
