//! Records that can never be sent are written to a file of lines before anybody is told, so that they are not
//! lost with the spool's segment. One after another: then one file is open at a time.
//!
//! A process that ends between the lines and the journal has them written a second time by the next one. So
//! has an actor that restarts.

use std::time::Duration;

use actix::prelude::*;

use super::SpoolActor;
use super::aside::aside;
use super::plan::read;
use super::rejected::{Lines, Rejecting};
use crate::actors::guard;
use crate::actors::messages::PartitionAddr;
use crate::core::ledger::Record;
use crate::core::spool::{self, Note, SlotTopic, Spooled, rejected_file};
use crate::disk::{DiskError, FileOrder};
use crate::intake::wall_clock;

/// When it is tried again to write lines.
const WRITE_AGAIN: Duration = Duration::from_secs(1);

impl SpoolActor {
    pub(super) fn reject(
        &mut self,
        slot: u32,
        record: Record,
        who: PartitionAddr,
        ctx: &mut Context<Self>,
    ) {
        let known = self.journal.state().slots.get(&slot);
        if known.is_some_and(|it| it.settled.count_unsettled(record.positions()) == 0) {
            // It has its lines, and whoever was told of it has not heard.
            return self.end(slot, vec![record], who, ctx);
        }
        if self.rejections.add(slot, record, who) {
            self.reject_next(ctx);
        }
    }

    /// Reads the next records that are rejected.
    pub(super) fn reject_next(&mut self, ctx: &mut Context<Self>) {
        self.look(ctx);
        let Some((step, next)) = self.rejections.next() else {
            return;
        };
        let (slot, from, end) = (next.slot, next.written, next.record.positions().end);
        let why = next.record.why.clone();
        let plan = self.plan(slot, from, end - from);
        let known = self.journal.state().slots.get(&slot);
        let topic = known.and_then(|slot| slot.topic.clone());
        let now = wall_clock::millis();
        let reading = aside(move || {
            let read = read(plan);
            let ends = read.missing.iter().map(|it| it.end);
            let ends = ends.chain(read.batches.iter().map(Spooled::end));
            // What cannot be read at all has no lines.
            let end = ends.max().filter(|it| *it > from).unwrap_or(end).min(end);
            let count: u64 = read.batches.iter().map(|it| u64::from(it.count)).sum();
            Lines {
                file: rejected_file(topic.as_ref(), now),
                bytes: lines(topic.as_ref(), &read.batches, why.as_deref()),
                end,
                lost: (end - from).saturating_sub(count),
            }
        });
        guard::spawn(ctx, reading, move |actor: &mut Self, lines, ctx| {
            if actor.rejections.is_now(step) {
                match lines {
                    Some(lines) => actor.write_lines(lines),
                    None => actor.reject_later(step, ctx),
                }
            }
        });
    }

    fn write_lines(&mut self, lines: Lines) {
        let (name, bytes) = (lines.file.clone(), lines.bytes.clone());
        let number = self.rejections.write(lines);
        self.order(FileOrder::Append {
            name,
            number,
            bytes,
        });
    }

    fn reject_later(&self, step: u64, ctx: &mut Context<Self>) {
        guard::later(ctx, WRITE_AGAIN, move |actor: &mut Self, ctx| {
            if actor.rejections.is_now(step) {
                match actor.rejections.again() {
                    Some(lines) => actor.write_lines(lines),
                    None => actor.reject_next(ctx),
                }
            }
        });
    }

    /// The lines are in their file, or are not.
    pub(super) fn appended(
        &mut self,
        name: &str,
        number: u64,
        done: Result<(), DiskError>,
        ctx: &mut Context<Self>,
    ) {
        if !self.rejections.is_now(number) {
            // Of before a restart.
            return;
        }
        if let Err(error) = done {
            tracing::error!(%error, name, "rejected records cannot be written, and are not told of yet");
            return self.reject_later(number, ctx);
        }
        if let Some(whole) = self.rejections.written() {
            let Rejecting {
                slot,
                record,
                who,
                lost,
                ..
            } = whole;
            let records = u64::from(record.count.unsigned_abs()).saturating_sub(lost);
            let why = record.why.as_deref();
            if lost > 0 {
                tracing::error!(
                    lost,
                    why,
                    "rejected records cannot be read, and are in no file"
                );
            }
            if records > 0 {
                tracing::warn!(
                    records,
                    why,
                    file = name,
                    "records can never be sent, and are in a file now"
                );
            }
            self.counts.lost(lost);
            self.counts.rejected(records);
            self.end(slot, vec![record], who, ctx);
        }
        self.reject_next(ctx);
    }
}

fn lines(topic: Option<&SlotTopic>, batches: &[Spooled], why: Option<&str>) -> Vec<u8> {
    let mut lines = Vec::new();
    for batch in batches {
        let reason = why.unwrap_or_default();
        spool::lines(topic, batch, |_| Note::Rejected { reason }, &mut lines);
    }
    lines
}
