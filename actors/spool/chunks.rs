//! Takes note of chunks that are begun and filled, and of what they make of their segments.

use actix::prelude::*;

use super::{OpenChunk, SpoolActor};
use crate::core::spool::{ChunkUse, Source, SpaceEvent};

impl SpoolActor {
    /// Takes note of what happened to chunks, and has a segment made if none is ready.
    pub(super) fn look(&mut self, ctx: &mut Context<Self>) {
        let (mut free, mut left) = (Vec::new(), Vec::new());
        for event in self.space.events() {
            match event {
                SpaceEvent::Opened {
                    segment,
                    offset,
                    length,
                    slot,
                    position,
                } => {
                    self.catalog.chunk_opened(segment, offset);
                    let open = OpenChunk {
                        segment,
                        offset,
                        length,
                        position,
                        begun: self.space.time(),
                    };
                    self.open.insert(slot, open);
                }
                SpaceEvent::Closed {
                    segment,
                    used,
                    accepted,
                } => {
                    self.closed(segment, used, accepted);
                    left.push(segment);
                    if self.catalog.chunk_closed(segment, used) {
                        free.push(segment);
                    }
                }
                SpaceEvent::Copying { segment, offset } => {
                    self.catalog.chunk_opened(segment, offset);
                }
                SpaceEvent::Copied {
                    segment,
                    used,
                    accepted,
                } => {
                    self.has_chunk(segment, used, accepted);
                    self.copies.push_back((segment, used));
                    self.copied += 1;
                }
                SpaceEvent::Left(segment) => {
                    self.settled = true;
                    left.push(segment);
                    if self.catalog.segment_full(segment) {
                        free.push(segment);
                    }
                }
            }
        }
        self.close_segments(left, ctx);
        self.free(free, ctx);
        self.make_segment();
        self.see_to_journal();
        self.counts.bytes(self.on_disk());
        self.move_soon(ctx);
        self.serve();
    }

    /// A partition has left its chunk.
    fn closed(&mut self, segment: u64, used: ChunkUse, accepted: Vec<Source>) {
        let is_it = |open: &OpenChunk| (open.segment, open.offset) == (segment, used.offset);
        if self.open.get(&used.slot).is_some_and(is_it) {
            self.open.remove(&used.slot);
        }
        self.settled = true;
        self.closed_at.insert(used.slot, self.space.time());
        if self.segments.get(&segment).is_some_and(|it| it.failed) {
            self.doubt(used.slot, used.position..used.end());
        }
        self.has_chunk(segment, used, accepted);
    }

    /// Keeps what the segment's index is to have.
    fn has_chunk(&mut self, segment: u64, used: ChunkUse, accepted: Vec<Source>) {
        if let Some(file) = self.segments.get_mut(&segment) {
            file.chunks.push(used);
            file.accepted.extend(accepted);
        }
    }
}
