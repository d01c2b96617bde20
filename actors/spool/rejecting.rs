//! Records that can never be sent are written to a file of lines before anybody is told, so that they are not
//! lost with the spool's segment. One after another: then one file is open at a time.
//!
//! A process that ends between the lines and the journal has them written a second time by the next one.

use std::time::Duration;

use actix::prelude::*;

use super::SpoolActor;
use super::reading::read;
use super::rejected::{Lines, Rejecting};
use crate::actors::guard;
use crate::actors::messages::PartitionAddr;
use crate::core::ledger::Record;
use crate::core::spool::{SlotTopic, rejected_file, rejected_lines};
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
        let written = record.position;
        self.rejecting.push_back(Rejecting {
            slot,
            record,
            who,
            written,
        });
        if self.rejecting.len() == 1 {
            self.reject_next(ctx);
        }
    }

    /// Reads the next records that are rejected.
    pub(super) fn reject_next(&mut self, ctx: &mut Context<Self>) {
        self.look(ctx);
        let Some(Rejecting {
            slot,
            record,
            written,
            ..
        }) = self.rejecting.front()
        else {
            return;
        };
        let (from, end) = (
            *written,
            record.position + u64::from(record.count.unsigned_abs()),
        );
        let (plan, why) = (self.plan(*slot, from, end - from), record.why.clone());
        let known = self.journal.state().slots.get(slot);
        let topic = known.and_then(|slot| slot.topic.clone());
        let now = wall_clock::millis();
        let reading = tokio::task::spawn_blocking(move || {
            let read = read(plan);
            let ends = read.missing.iter().map(|it| it.end);
            let ends = ends.chain(read.batches.iter().map(|it| it.end()));
            let bytes = lines(topic.as_ref(), &read.batches, why.as_deref());
            Lines {
                file: rejected_file(topic.as_ref(), now),
                bytes,
                // What cannot be read at all has no lines.
                end: ends.max().filter(|it| *it > from).unwrap_or(end).min(end),
            }
        });
        guard::spawn(ctx, reading, |actor: &mut Self, lines, ctx| match lines {
            Ok(lines) => actor.write_lines(lines),
            Err(_) => actor.reject_later(ctx),
        });
    }

    fn write_lines(&mut self, lines: Lines) {
        self.order(FileOrder::Append {
            name: lines.file.clone(),
            bytes: lines.bytes.clone(),
        });
        self.lines = Some(lines);
    }

    fn reject_later(&self, ctx: &mut Context<Self>) {
        ctx.run_later(WRITE_AGAIN, |actor, ctx| match actor.lines.take() {
            Some(lines) => actor.write_lines(lines),
            None => actor.reject_next(ctx),
        });
    }

    /// The lines are in their file, or are not.
    pub(super) fn appended(
        &mut self,
        name: &str,
        done: Result<(), DiskError>,
        ctx: &mut Context<Self>,
    ) {
        if let Err(error) = done {
            tracing::error!(%error, name, "rejected records cannot be written, and are not told of yet");
            return self.reject_later(ctx);
        }
        let (Some(lines), Some(mut front)) = (self.lines.take(), self.rejecting.pop_front()) else {
            return;
        };
        front.written = lines.end;
        let Rejecting {
            slot,
            record,
            who,
            written,
        } = front;
        if written < record.position + u64::from(record.count.unsigned_abs()) {
            self.rejecting.push_front(Rejecting {
                slot,
                record,
                who,
                written,
            });
        } else {
            tracing::warn!(
                records = record.count,
                why = record.why.as_deref(),
                file = name,
                "records can never be sent, and are in a file now"
            );
            self.counts.rejected(u64::from(record.count.unsigned_abs()));
            self.end(slot, vec![record], who, ctx);
        }
        self.reject_next(ctx);
    }
}

fn lines(
    topic: Option<&SlotTopic>,
    batches: &[crate::core::spool::Spooled],
    why: Option<&str>,
) -> Vec<u8> {
    let mut lines = Vec::new();
    for batch in batches {
        rejected_lines(topic, batch, why.unwrap_or_default(), &mut lines);
    }
    lines
}
