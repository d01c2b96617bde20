//! Moves what is not settled out of segments that are mostly settled, so that one partition that takes
//! nothing pins no disk.
//!
//! The records are in both segments until the disk has the copies. A process that ends before is followed by
//! one that finds them twice, at the same positions, which is as good as once.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;

use super::SpoolActor;
use super::aside::aside;
use super::plan::Part;
use crate::actors::guard;
use crate::actors::messages::ExpireBefore;
use crate::core::spool::{Copied, Kind, Move, Space, copy};
use crate::disk::file_name;

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
        self.later(ctx, wait, |actor, ctx| actor.move_next(ctx));
    }

    /// Moves the records of one segment. Not more than one is moved at a time.
    fn move_next(&mut self, ctx: &mut Context<Self>) {
        self.settled = false;
        self.close_old();
        let mut moves = self.catalog.moves(NEWEST);
        let Some(next) = moves.find(|next| !self.unmovable.contains(&next.segment)) else {
            self.moving = false;
            return;
        };
        let (segment, round) = (next.segment, self.round);
        let (parts, space) = (self.parts_of(&next), Arc::clone(&self.space));
        let copying = aside(move || copy_parts(&space, parts));
        guard::spawn(ctx, copying, move |actor: &mut Self, copied, ctx| {
            let copied = copied.unwrap_or(Copied::Part);
            if copied == Copied::Part && actor.unmovable.insert(segment) {
                let name = file_name(Kind::Segment, segment);
                tracing::error!(
                    name,
                    "records of the spool cannot be copied, and keep their file"
                );
            }
            actor.hand_over(ctx, move |actor, ctx| {
                if actor.round == round {
                    actor.go_on(copied, ctx);
                }
            });
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

    /// What was copied counts where it is now, once the disk has it. Then something is done.
    pub(super) fn hand_over(
        &mut self,
        ctx: &mut Context<Self>,
        then: impl FnOnce(&mut Self, &mut Context<Self>) + 'static,
    ) {
        self.look(ctx);
        let until = self.copied;
        self.when_synced(ctx, move |actor, ctx| {
            let count = until.saturating_sub(actor.handed_over);
            actor.handed_over += count;
            let count = usize::try_from(count).unwrap_or(usize::MAX);
            let copies: Vec<_> = actor
                .copies
                .drain(..count.min(actor.copies.len()))
                .collect();
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
            let there = &actor.segments;
            actor.unmovable.retain(|number| there.contains_key(number));
            actor.close_segments(to, ctx);
            actor.free(free, ctx);
            then(actor, ctx);
        });
    }

    /// Looks for what to move next.
    fn go_on(&mut self, copied: Copied, ctx: &mut Context<Self>) {
        match copied {
            Copied::All => self.move_next(ctx),
            Copied::NoSpace => {
                self.cramped = true;
                self.make_segment();
                self.later(ctx, LOOK, |actor, ctx| actor.move_next(ctx));
            }
            Copied::Part => {
                (self.moving, self.settled) = (false, true);
                self.move_soon(ctx);
            }
        }
    }
}

/// Copies as much as there is space for.
fn copy_parts(space: &Space, parts: Vec<Part>) -> Copied {
    let (mut all, mut bytes) = (Copied::All, Vec::new());
    for part in parts {
        let copied = match part.read(&mut bytes) {
            Ok(chunk) => copy(space, &chunk, part.positions),
            Err(_) => Copied::Part,
        };
        match copied {
            Copied::All => {}
            Copied::Part => all = Copied::Part,
            Copied::NoSpace => return Copied::NoSpace,
        }
    }
    all
}
