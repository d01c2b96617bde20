//! The files of the spool: when they are made, indexed and given back.
//!
//! An index goes before its segment does. A segment without one is read instead, and an index without a
//! segment is removed at the next start. So a process may end between any two of these orders.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use rand::Rng;

use super::aside::aside;
use super::{SpoolActor, journal_bytes};
use crate::actors::guard;
use crate::core::spool::{
    EmptySegment, Entry, FileHeader, Index, JournalWriter, Kind, PAGE, Source, highest,
};
use crate::disk::{DiskError, FileOrder, SegmentFile, StoredFile, file_name, parse_name};

/// How long somebody may still read a segment that is to be given back, before that is looked at again.
const READ_AGAIN: Duration = Duration::from_millis(10);

/// When it is tried again to make a file.
const MAKE_AGAIN: Duration = Duration::from_secs(1);

impl SpoolActor {
    /// Has a segment made if none is ready, and there may be one more.
    pub(super) fn make_segment(&mut self) {
        self.set_reserve();
        let making = self.making.values().any(|(kind, _)| *kind == Kind::Segment);
        let may_be = !self.is_full() || self.may_exceed();
        if self.space.ready() == 0 && !making && may_be {
            self.make(Kind::Segment, self.segment_bytes);
        }
    }

    /// Whether there may be no more segments.
    pub(super) fn is_full(&self) -> bool {
        self.on_disk() + self.segment_bytes > self.max_bytes
    }

    /// Bytes of all segments, with those that nobody needs and that are still there.
    pub(super) fn on_disk(&self) -> u64 {
        self.catalog.total_bytes() + self.leaving.values().sum::<u64>()
    }

    /// Whether there has to be one more than there may be. A process that ended had begun the last one, and
    /// without any nothing can be moved.
    fn may_exceed(&self) -> bool {
        let most = self.max_bytes.max(self.found_bytes);
        self.cramped && self.on_disk() <= most
    }

    /// The last segment that there may be is for moves, which make space.
    fn set_reserve(&self) {
        self.space.reserve(usize::from(self.is_full()));
    }

    /// Has the next journal made, if it is time for it.
    pub(super) fn see_to_journal(&mut self) {
        let making = self.making.values().any(|(kind, _)| *kind == Kind::Journal);
        if (self.overflowed || self.journal.is_half_full()) && !making {
            self.make_journal(journal_bytes(self.segment_bytes));
        }
    }

    /// Has the next journal made, with so many bytes at least.
    fn make_journal(&mut self, least: u64) {
        let len = JournalWriter::len_for(self.journal.state(), least);
        self.make(Kind::Journal, len);
    }

    fn make(&mut self, kind: Kind, len: u64) {
        let number = self.next_number;
        self.next_number += 1;
        self.making.insert(number, (kind, self.rng.random()));
        let name = file_name(kind, number);
        self.order(FileOrder::Make { name, len });
    }

    /// Whether files that are being made are told of is not known any more. So they go, and others are made.
    /// An index may be missing.
    pub(super) fn unmake(&mut self) {
        let making = std::mem::take(&mut self.making);
        for (number, (kind, salt)) in making {
            if kind == Kind::Index {
                self.making.insert(number, (kind, salt));
            } else {
                let name = file_name(kind, number);
                self.order(FileOrder::Remove { name });
            }
        }
    }

    /// Nothing is written to these any more, unless a chunk of them is being filled: they get an index when
    /// all of it is on the disk.
    pub(super) fn close_segments(&mut self, mut left: Vec<u64>, ctx: &mut Context<Self>) {
        left.sort_unstable();
        left.dedup();
        left.retain(|segment| self.catalog.is_closed(*segment));
        if left.is_empty() {
            return;
        }
        self.when_synced(ctx, move |actor, _| {
            for number in left {
                actor.written.remove(number);
                actor.make_index(number);
            }
        });
    }

    /// Segments that were read because they had no index get one.
    pub(super) fn index_found(&mut self, ctx: &mut Context<Self>) {
        let without = self.without_index();
        for number in &without {
            // The machine may not have what the former process wrote to it.
            if let Some(segment) = self.segments.get(number) {
                let file = Arc::clone(&segment.file);
                self.watch(*number, &file_name(Kind::Segment, *number), &file);
            }
        }
        self.close_segments(without, ctx);
    }

    pub(super) fn without_index(&self) -> Vec<u64> {
        let without = self.segments.iter().filter(|(_, it)| !it.indexed);
        without.map(|(number, _)| *number).collect()
    }

    fn make_index(&mut self, number: u64) {
        if self.catalog.is_free(number) || self.making.contains_key(&number) {
            return;
        }
        let Some(segment) = self.segments.get(&number) else {
            return;
        };
        if segment.failed || segment.indexed {
            return;
        }
        let mut chunks = segment.chunks.clone();
        chunks.sort_unstable_by_key(|chunk| chunk.offset);
        let index = Index {
            number,
            salt: segment.salt,
            chunks,
            accepted: sources(highest(segment.accepted.iter().copied())),
        };
        let bytes = index.encode();
        let len = bytes.len().next_multiple_of(PAGE) as u64;
        self.making.insert(number, (Kind::Index, segment.salt));
        self.indexes.insert(number, bytes);
        let name = file_name(Kind::Index, number);
        self.order(FileOrder::Make { name, len });
    }

    /// Writes the index, off this thread. It does not matter what a former use has left in its file.
    fn write_index(
        &mut self,
        number: u64,
        name: String,
        file: Arc<dyn StoredFile>,
        ctx: &mut Context<Self>,
    ) {
        let bytes = self.indexes.remove(&number);
        let (Some(bytes), true) = (bytes, self.segments.contains_key(&number)) else {
            return self.order(FileOrder::Remove { name });
        };
        let writing = aside(move || match file.write(0, &bytes) {
            true => file.sync().map_err(|error| error.to_string()),
            false => Err("it is too short".to_owned()),
        });
        guard::spawn(ctx, writing, move |actor: &mut Self, written, _| {
            let written = written.unwrap_or_else(|| Err("that panicked".to_owned()));
            match (actor.segments.get_mut(&number), written) {
                (Some(segment), Ok(())) => {
                    segment.indexed = true;
                    segment.chunks = Vec::new();
                }
                (Some(_), Err(why)) => {
                    tracing::warn!(why, name, "an index of the spool cannot be written");
                    actor.order(FileOrder::Remove { name });
                }
                // The segment was given back meanwhile.
                (None, _) => actor.order(FileOrder::Remove { name }),
            }
        });
    }

    /// Gives segments back that nobody needs, once the disk has what says so.
    ///
    /// The journal hears of positions of sources only when the disk has the records, too. Another segment may
    /// hold them, and a machine that stops could lose that one, and keep the journal.
    pub(super) fn free(&mut self, segments: Vec<u64>, ctx: &mut Context<Self>) {
        if segments.is_empty() {
            return;
        }
        self.note_acked();
        self.when_synced(ctx, move |actor, ctx| actor.free_synced(segments, ctx));
    }

    fn free_synced(&mut self, segments: Vec<u64>, ctx: &mut Context<Self>) {
        let mut told = false;
        for number in &segments {
            let Some(segment) = self.segments.get(number) else {
                continue;
            };
            let accepted = sources(highest(segment.accepted.iter().copied()));
            for Source { source, position } in self.known_of(*number, accepted) {
                told = true;
                self.write(&Entry::Accepted { source, position });
            }
        }
        match told {
            true => self.when_synced(ctx, move |actor, ctx| actor.remove_free(segments, ctx)),
            false => self.remove_free(segments, ctx),
        }
    }

    /// Of these positions in a segment those that may be told. The others are in a segment that failed, too:
    /// the record may be a copy from there, and its position is known for as long as that one is there.
    fn known_of(&self, number: u64, mut accepted: Vec<Source>) -> Vec<Source> {
        let others = self.segments.iter();
        let stays = |other: u64| other != number && !self.catalog.is_free(other);
        for (_, failed) in others.filter(|(other, it)| it.failed && stays(**other)) {
            let there = highest(failed.accepted.iter().copied());
            accepted.retain(|it| there.get(&it.source) != Some(&it.position));
        }
        accepted
    }

    fn remove_free(&mut self, segments: Vec<u64>, ctx: &mut Context<Self>) {
        for number in segments {
            if self.catalog.is_free(number) {
                self.catalog.removed(number);
                self.written.remove(number);
                if let Some(segment) = self.segments.remove(&number) {
                    let bytes = segment.file.len() as u64;
                    self.leaving.insert(number, bytes);
                    self.give_back(number, segment, ctx);
                }
            }
        }
        self.look(ctx);
    }

    /// Nobody needs the segment. Its file is used again, so whoever still reads it is waited for: it would
    /// find other records in it.
    fn give_back(&mut self, number: u64, segment: SegmentFile, ctx: &mut Context<Self>) {
        if Arc::strong_count(&segment.file) > 1 {
            guard::later(ctx, READ_AGAIN, move |actor: &mut Self, ctx| {
                actor.give_back(number, segment, ctx);
            });
            return;
        }
        if segment.indexed {
            let name = file_name(Kind::Index, number);
            self.order(FileOrder::Remove { name });
        }
        let name = file_name(Kind::Segment, number);
        match segment.failed {
            true => {
                drop(segment);
                self.order(FileOrder::Remove { name });
            }
            false => {
                let file = segment.file;
                self.order(FileOrder::Free { name, file });
            }
        }
    }

    /// A file is not there any more under its name, or that could not be done.
    pub(super) fn left(
        &mut self,
        name: &str,
        done: Result<(), DiskError>,
        ctx: &mut Context<Self>,
    ) {
        if let Err(error) = done {
            tracing::error!(%error, name, "a file of the spool is not needed, and stays");
            return;
        }
        if let Some((Kind::Segment, number)) = parse_name(name)
            && self.leaving.remove(&number).is_some()
        {
            self.look(ctx);
        }
    }

    pub(super) fn order(&self, order: FileOrder) {
        if let Some((maker, _)) = &self.threads
            && let Err(error) = maker.order(order)
        {
            tracing::error!(%error, "nothing can be done with files of the spool any more");
        }
    }

    fn watch(&self, number: u64, name: &str, file: &Arc<dyn StoredFile>) {
        if let Some((_, syncer)) = &self.threads {
            let watched = syncer.queue().watch(name, Arc::clone(file));
            self.written.add(number, watched);
        }
    }

    /// Nothing is written to the file any more. What it was for goes to another one.
    pub(super) fn give_up(&mut self, name: &str) {
        let Some((kind, number)) = parse_name(name) else {
            return;
        };
        match kind {
            Kind::Journal => {
                // Of a former journal the next one has all.
                self.written.remove(number);
                if number == self.journal.number() {
                    self.overflowed = true;
                    self.see_to_journal();
                }
            }
            Kind::Segment => {
                self.written.give_up(number);
                if let Some(segment) = self.segments.get_mut(&number) {
                    segment.failed = true;
                    self.space.give_up(number);
                    self.doubt_segment(number);
                }
            }
            Kind::Index => {}
        }
    }

    pub(super) fn made(
        &mut self,
        name: String,
        made: Result<Arc<dyn StoredFile>, DiskError>,
        ctx: &mut Context<Self>,
    ) {
        let Some((_, number)) = parse_name(&name) else {
            return;
        };
        let Some((kind, salt)) = self.making.remove(&number) else {
            return;
        };
        let file = match made {
            Ok(file) => file,
            Err(why) if kind == Kind::Index => {
                self.indexes.remove(&number);
                return tracing::warn!(%why, name, "an index of the spool cannot be made");
            }
            Err(why) => {
                tracing::error!(%why, name, "a file of the spool cannot be made");
                self.trouble = Some(why.to_string().into());
                return self.later(ctx, MAKE_AGAIN, |actor, ctx| actor.look(ctx));
            }
        };
        let header = FileHeader {
            number,
            salt,
            length: file.len() as u64,
        };
        match kind {
            Kind::Journal => self.next_journal(file, header, ctx),
            Kind::Segment => self.next_segment(&name, file, header),
            Kind::Index => self.write_index(number, name, file, ctx),
        }
    }

    fn next_segment(&mut self, name: &str, file: Arc<dyn StoredFile>, header: FileHeader) {
        let FileHeader { number, salt, .. } = header;
        file.write(0, &header.page(Kind::Segment));
        (self.trouble, self.cramped) = (None, false);
        self.watch(number, name, &file);
        self.catalog.segment(number, header.length, false);
        // Before any caller can begin it.
        self.set_reserve();
        let region = Arc::clone(&file) as _;
        self.segments.insert(number, SegmentFile::new(file, salt));
        self.space.add(EmptySegment {
            number,
            salt,
            region,
        });
        self.serve();
    }

    fn next_journal(
        &mut self,
        file: Arc<dyn StoredFile>,
        header: FileHeader,
        ctx: &mut Context<Self>,
    ) {
        let former = self.journal.number();
        let name = file_name(Kind::Journal, header.number);
        self.watch(header.number, &name, &file);
        if !self.journal.go_on(file as _, header) {
            // It is too short, or its disk fails already.
            self.written.remove(header.number);
            self.order(FileOrder::Remove { name });
            return self.make_journal(2 * header.length);
        }
        (self.overflowed, self.trouble) = (false, None);
        for then in std::mem::take(&mut self.delayed) {
            self.when_synced_boxed(ctx, then);
        }
        self.when_synced(ctx, move |actor, _| {
            actor.written.remove(former);
            let name = file_name(Kind::Journal, former);
            actor.order(FileOrder::Remove { name });
        });
    }
}

fn sources(highest: BTreeMap<u32, u64>) -> Vec<Source> {
    let source = |(source, position)| Source { source, position };
    highest.into_iter().map(source).collect()
}
