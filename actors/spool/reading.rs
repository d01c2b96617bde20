//! Reads batches back from segments, on a thread that may wait for the disk.

use std::ops::Range;
use std::sync::Arc;

use actix::prelude::*;

use super::SpoolActor;
use super::aside::aside;
use super::plan::{Part, Plan, read};
use crate::actors::guard::{self, On};
use crate::actors::messages::{ReadBackDone, ReadBackFrom};

/// Bytes of records that are read back at a time.
const READ_BACK: usize = 256 << 10;

impl SpoolActor {
    /// Where records of a slot are, from a position on.
    pub(super) fn plan(&self, slot: u32, from: u64, most: u64) -> Plan {
        self.plan_bytes(slot, from, most, READ_BACK)
    }

    /// The same with a limit of bytes.
    pub(super) fn plan_bytes(&self, slot: u32, from: u64, most: u64, limit: usize) -> Plan {
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
            if bytes >= limit || held.from >= end {
                break;
            }
            bytes += held.used.bytes as usize;
            let positions = held.from.max(from)..held.to.min(end);
            add(held.segment, held.used.offset, held.used.bytes, positions);
        }
        if let Some(open) = self.open.get(&slot)
            && bytes < limit
            && open.position < end
        {
            let positions = open.position.max(from)..end;
            add(open.segment, open.offset, open.length, positions);
        }
        Plan {
            from,
            most: limit,
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
