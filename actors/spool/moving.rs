//! Moves what is not settled out of segments that are mostly settled, so that one partition that takes
//! nothing pins no disk.
//!
//! The records are in both segments until the disk has the copies. A process that ends before is followed by
//! one that finds them twice, at the same positions, which is as good as once.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;

use super::SpoolActor;
use super::reading::Part;
use crate::actors::guard;
use crate::actors::messages::ExpireBefore;
use crate::core::spool::{Copied, Move, ReadChunk, Space, copy};

/// How often it is looked for what to move.
const LOOK: Duration = Duration::from_secs(1);

/// The same while there is no more disk to be had.
const LOOK_WHEN_FULL: Duration = Duration::from_millis(20);

/// So many of the newest segments stay as they are: the one that is filled, and the one before or behind.
const NEWEST: usize = 2;

impl SpoolActor {
    /// Looks soon whether there is anything to move.
    pub(super) fn move_soon(&mut self, ctx: &mut Context<Self>) {
        if self.moving || !self.settled || self.catalog.segments() <= NEWEST {
            return;
        }
        self.moving = true;
        let wait = if self.is_full() { LOOK_WHEN_FULL } else { LOOK };
        ctx.run_later(wait, |actor, ctx| actor.move_next(ctx));
    }

    /// Moves the records of one segment. Not more than one is moved at a time.
    fn move_next(&mut self, ctx: &mut Context<Self>) {
        self.settled = false;
        self.close_old();
        let moves = self.catalog.moves(NEWEST);
        let next = moves
            .into_iter()
            .find(|next| !self.unmovable.contains(&next.segment));
        let Some(next) = next else {
            self.moving = false;
            return;
        };
        let segment = next.segment;
        let (parts, space) = (self.parts_of(&next), Arc::clone(&self.space));
        let copying = tokio::task::spawn_blocking(move || copy_parts(&space, parts));
        guard::spawn(ctx, copying, move |actor: &mut Self, copied, ctx| {
            actor.copied(segment, copied.unwrap_or(Copied::Part), ctx);
        });
    }

    /// Has partitions leave chunks that keep old segments from being moved out of.
    fn close_old(&self) {
        let old = self.catalog.kept_open(NEWEST);
        for (slot, open) in &self.open {
            if let (true, Some(who)) = (old.contains(&open.segment), self.partitions.get(slot)) {
                who.do_send(ExpireBefore {
                    position: 0,
                    leave: true,
                    max_age: self.max_age,
                });
            }
        }
    }

    fn parts_of(&self, next: &Move) -> Vec<Part> {
        let file = self.segments.get(&next.segment);
        let parts = file.into_iter().flat_map(|file| {
            next.records.iter().map(|(_, held)| Part {
                file: Arc::clone(&file.file),
                salt: file.salt,
                offset: held.used.offset,
                length: held.used.bytes,
                positions: held.positions(),
            })
        });
        parts.collect()
    }

    /// What could be copied is in other chunks, and counts there once the disk has it.
    fn copied(&mut self, segment: u64, copied: Copied, ctx: &mut Context<Self>) {
        if copied == Copied::Part {
            self.unmovable.insert(segment);
        }
        self.look(ctx);
        let copies = std::mem::take(&mut self.copies);
        self.when_synced(ctx, move |actor, ctx| {
            let (mut free, mut to) = (Vec::new(), Vec::new());
            for (segment, used) in copies {
                let file = actor.segments.get(&segment);
                match file.is_some_and(|file| file.failed) {
                    // Nobody knows whether the disk has these. The former ones stay.
                    true if actor.catalog.chunk_closed(segment, used) => free.push(segment),
                    true => {}
                    false => free.extend(actor.catalog.moved(segment, used)),
                }
                to.push(segment);
            }
            free.sort_unstable();
            free.dedup();
            actor
                .unmovable
                .retain(|number| actor.segments.contains_key(number));
            actor.close_segments(to, ctx);
            actor.moving = false;
            actor.free(free, ctx);
            match copied {
                Copied::All => {
                    actor.moving = true;
                    actor.move_next(ctx);
                }
                Copied::NoSpace => {
                    (actor.moving, actor.cramped) = (true, true);
                    actor.make_segment();
                    ctx.run_later(LOOK, |actor, ctx| actor.move_next(ctx));
                }
                Copied::Part => {
                    actor.settled = true;
                    actor.move_soon(ctx);
                }
            }
        });
    }
}

/// Copies as much as there is space for.
fn copy_parts(space: &Space, parts: Vec<Part>) -> Copied {
    let mut all = Copied::All;
    for part in parts {
        let mut bytes = vec![0; part.length as usize];
        let length = part.file.len() as u64;
        let read = part.file.read(part.offset.into(), &mut bytes);
        let chunk = ReadChunk::new(&bytes, part.salt, part.offset.into(), length);
        let copied = match chunk.filter(|_| read.is_ok()) {
            Some(chunk) => copy(space, &chunk, part.positions),
            None => Copied::Part,
        };
        match copied {
            Copied::All => {}
            Copied::Part => all = Copied::Part,
            Copied::NoSpace => return Copied::NoSpace,
        }
    }
    all
}
