//! Reads batches back from segments, on a thread that may wait for the disk.

use std::ops::Range;
use std::sync::Arc;

use actix::prelude::*;

use super::SpoolActor;
use super::aside::aside;
use crate::actors::guard::{self, On};
use crate::actors::messages::{ReadBackDone, ReadBackFrom};
use crate::core::spool::{ReadChunk, Reader, Spooled};
use crate::disk::StoredFile;

/// Bytes of records that are read back at a time.
const READ_BACK: usize = 256 << 10;

/// A chunk that is read, or a part of one.
pub(super) struct Part {
    pub file: Arc<dyn StoredFile>,
    pub salt: u64,
    pub offset: u32,
    /// Bytes of the chunk that are read.
    pub length: u32,
    pub positions: Range<u64>,
}

/// What is read.
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

impl SpoolActor {
    /// Where records of a slot are, from a position on.
    pub(super) fn plan(&self, slot: u32, from: u64, most: u64) -> Plan {
        let end = from.saturating_add(most);
        let mut parts = Vec::new();
        let mut bytes = 0;
        let mut add = |segment: u64, offset: u32, length: u32, positions: Range<u64>| {
            if let Some(file) = self.segments.get(&segment) {
                parts.push(Part {
                    file: Arc::clone(&file.file),
                    salt: file.salt,
                    offset,
                    length,
                    positions,
                });
            }
        };
        for held in self.catalog.held(slot, from) {
            if bytes >= READ_BACK || held.from >= end {
                break;
            }
            bytes += held.used.bytes as usize;
            let positions = held.from.max(from)..held.to.min(end);
            add(held.segment, held.used.offset, held.used.bytes, positions);
        }
        if let Some(open) = self.open.get(&slot)
            && bytes < READ_BACK
            && open.position < end
        {
            let positions = open.position.max(from)..end;
            add(open.segment, open.offset, open.length, positions);
        }
        Plan {
            from,
            most: READ_BACK,
            parts,
        }
    }
}

impl On<ReadBackFrom> for SpoolActor {
    fn on(&mut self, message: ReadBackFrom, ctx: &mut Context<Self>) {
        let ReadBackFrom {
            slot,
            position,
            records,
            who,
        } = message;
        self.look(ctx);
        let plan = self.plan(slot, position, records);
        let reading = aside(move || read(plan));
        guard::spawn(ctx, reading, move |_: &mut Self, read, _| {
            let read = read.unwrap_or_default();
            who.do_send(ReadBackDone {
                position,
                batches: read.batches,
                missing: read.missing,
            });
        });
    }
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
