//! The seat of a partition in the spool: where its stage copies what it appends, or where its batches are
//! copied to when memory is used up.

use std::sync::Arc;

use super::chunk::{Appending, Batch, Chunk};
use super::frame::{ALIGN, LONGEST_HEAD};
use super::space::Space;
use crate::core::batch::ReadRecord;

/// Bytes of a partition's first chunk. Each chunk that was filled is followed by one of twice its size.
const FIRST: usize = 4 << 10;
/// Bytes of the largest chunk, unless a single record needs more.
const LARGEST: usize = 256 << 10;

/// Divides the records of a batch among frames, each of which counts no more than 16 bits do.
fn frames(mut records: &[u8], mut count: u32) -> Option<Vec<(&[u8], u16)>> {
    let mut frames = Vec::with_capacity(1);
    while count > u32::from(u16::MAX) {
        let mut rest = records;
        for _ in 0..u16::MAX {
            ReadRecord::take(&mut rest)?;
        }
        frames.push((records.get(..records.len() - rest.len())?, u16::MAX));
        count -= u32::from(u16::MAX);
        records = rest;
    }
    frames.push((records, u16::try_from(count).ok()?));
    Some(frames)
}

/// The place in the spool where one partition's records are copied to. Its stage owns it, under its claim, or
/// its actor.
#[derive(Debug)]
pub struct Seat {
    space: Arc<Space>,
    slot: u32,
    /// The position of the next record.
    next: u64,
    chunk: Option<(u64, Chunk)>,
    /// How often segments had been given up when the chunk was begun.
    given_up: u64,
    /// Bytes of the next chunk, if the present one is filled.
    size: usize,
    /// The batch that goes on behind the last chunk.
    batch: Option<Batch>,
}

impl Seat {
    pub fn new(space: Arc<Space>, slot: u32) -> Self {
        Self::from(space, slot, 0)
    }

    /// The same, and no position is before `first`.
    pub fn from(space: Arc<Space>, slot: u32, first: u64) -> Self {
        Self {
            next: space.next_position(slot).max(first),
            space,
            slot,
            chunk: None,
            given_up: 0,
            size: FIRST,
            batch: None,
        }
    }

    /// The position of the next record.
    pub fn next_position(&self) -> u64 {
        self.next
    }

    /// Whether so many bytes of records fit into the present chunk.
    #[inline]
    pub fn has_room(&self, bytes: usize) -> bool {
        self.room() >= bytes
    }

    /// Bytes of records that fit into the present chunk.
    #[inline]
    pub fn room(&self) -> usize {
        match &self.chunk {
            Some((_, chunk)) if self.given_up == self.space.given_up() => chunk.room(),
            _ => 0,
        }
    }

    /// Sees to it that so many bytes fit. `false` if there is no space now.
    pub fn make_room(&mut self, bytes: usize) -> bool {
        if self.has_room(bytes) {
            return true;
        }
        // Before the next chunk: if its segment is given up meanwhile, it is left, too.
        let given_up = self.space.given_up();
        let least = Chunk::length_for(bytes);
        // A chunk that was left had room: this partition gets little.
        let size = if self.chunk.is_some() {
            self.size
        } else {
            FIRST
        };
        let wanted = size.max(least);
        let Some(next) = self
            .space
            .begin((wanted, least), self.slot, self.next, self.batch)
        else {
            return false;
        };
        self.leave();
        self.given_up = given_up;
        self.size = (2 * size).min(LARGEST);
        self.chunk = Some(next);
        true
    }

    /// Copies records that were just appended to a batch. Room was made for them before.
    #[inline]
    pub fn append(&mut self, appending: &Appending<'_>) -> bool {
        self.next += u64::from(appending.count);
        if let Some((_, chunk)) = &mut self.chunk
            && chunk.append(appending)
        {
            self.batch = chunk.batch();
            return true;
        }
        self.missed()
    }

    /// Copies all records of a batch, the first of which has this position. Returns false if there is no
    /// space now. Positions that are passed over are nobody's.
    pub fn append_all(
        &mut self,
        position: u64,
        (records, count): (&[u8], u32),
        (base_timestamp, newest): (i64, i64),
    ) -> bool {
        if position != self.next {
            self.leave();
            self.batch = None;
            self.next = position;
        }
        let Some(frames) = frames(records, count) else {
            return false;
        };
        let more = frames.len() - 1;
        if !self.make_room(records.len() + more * (LONGEST_HEAD + ALIGN)) {
            return false;
        }
        let begins = std::iter::once(Some(base_timestamp)).chain(std::iter::repeat(None));
        frames.into_iter().zip(begins).all(|(frame, begins)| {
            let (records, count) = frame;
            self.append(&Appending {
                records,
                count,
                newest,
                begins,
                source: None,
            })
        })
    }

    /// Records are in a batch, and not in the spool. Those behind them have their positions all the same.
    #[cold]
    fn missed(&mut self) -> bool {
        tracing::error!(slot = self.slot, "records could not be copied to the spool");
        self.leave();
        false
    }

    /// Ends the present chunk.
    pub fn leave(&mut self) {
        if let Some((segment, chunk)) = self.chunk.take() {
            self.space.end(segment, &chunk);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests;
