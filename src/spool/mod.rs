//! What `forebay spool` shows: what is in a spool's directory that no producer has.

use std::convert::Infallible;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use crate::core::spool::{
    FileHeader, Held, Kind, Note, ReadChunk, Reader, Resume, Settled, SlotTopic, Spooled, lines,
    resume,
};
use crate::disk::{
    Directory, DiskError, ReadOnly, Recovered, SegmentFile, Store, file_name, read_chunk, recover,
    scan_file,
};

/// Why it cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(DiskError);

/// What is in a spool. Nothing of it is changed, and no producer can have it meanwhile.
#[derive(Debug)]
pub struct Contents {
    /// It has the lock.
    store: Arc<dyn Store>,
    recovered: Recovered,
    slots: Vec<Resume>,
}

/// What waits for a topic partition.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Waiting {
    /// `None` if the journal that had the name is damaged.
    pub topic: Option<Arc<str>>,
    /// The same.
    pub partition: Option<i32>,
    /// Records without an outcome.
    pub records: u64,
    /// Their bytes, about.
    pub bytes: u64,
    /// So many of them may be in the log already.
    pub sent: u64,
    /// Records without an outcome that are on the disk no more.
    pub lost: u64,
    /// When the oldest one came at the earliest, in milliseconds since 1970.
    pub since: Option<i64>,
}

/// Files of the spool, and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Files {
    /// Those with records.
    pub segments: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files of records that could never be sent.
    pub rejected: u64,
    /// Damaged files that a start has moved out of the way.
    pub damaged: u64,
}

impl Contents {
    /// Reads the directory. It takes as long as a start.
    pub fn read(directory: &Path) -> Result<Self, Unreadable> {
        let directory = Directory::of_spool(directory).map_err(Unreadable)?;
        let store: Arc<dyn Store> = Arc::new(ReadOnly(directory));
        let recovered = recover(&*store).map_err(Unreadable)?;
        let mut slots = resume(&recovered.state, &recovered.catalog, false);
        slots.sort_by(|a, b| named(a).cmp(&named(b)));
        Ok(Self {
            store,
            recovered,
            slots,
        })
    }

    /// What waits, by topic partition. Those of which nothing waits are not among them.
    pub fn waiting(&self) -> Vec<Waiting> {
        let waiting = self.slots.iter().map(|slot| self.waiting_of(slot));
        waiting.filter(|it| it.records + it.lost > 0).collect()
    }

    fn waiting_of(&self, slot: &Resume) -> Waiting {
        let catalog = &self.recovered.catalog;
        let count = |parts: &[Range<u64>]| parts.iter().map(|it| it.end - it.start).sum();
        let since = catalog.held(slot.slot, 0).map(|held| held.used.begun);
        let sent = sent_of(slot);
        let parts = slot.unsettled.iter();
        let sent = parts.map(|it| it.end - it.start - sent.count_unsettled(it.clone()));
        Waiting {
            topic: slot.topic.as_ref().map(|it| Arc::clone(&it.topic)),
            partition: slot.topic.as_ref().map(|it| it.partition),
            records: count(&slot.unsettled),
            bytes: catalog.unsettled_bytes_of(slot.slot),
            sent: sent.sum(),
            lost: count(&slot.missing),
            since: since.min(),
        }
    }

    /// The sources, with the highest position of each that was accepted.
    pub fn sources(&self) -> Vec<(Arc<str>, Option<u64>)> {
        self.recovered.sources()
    }

    /// Its files.
    pub fn files(&self) -> Result<Files, Unreadable> {
        let mut files = Files::default();
        for (name, _) in self.store.files().map_err(Unreadable)? {
            match name.split_once('/') {
                Some(("rejected", _)) => files.rejected += 1,
                Some(("damaged", _)) => files.damaged += 1,
                _ => {}
            }
        }
        for segment in self.recovered.segments.values() {
            files.segments += 1;
            files.bytes += segment.file.len() as u64;
        }
        Ok(files)
    }

    /// What a start would tell to be damaged.
    pub fn damage(&self) -> &[String] {
        &self.recovered.damage
    }

    /// Reads all bytes of all segments. Returns what is damaged, in words; that of records which have their
    /// outcome costs nothing.
    pub fn verify(&self) -> Vec<String> {
        let mut damage = self.recovered.damage.clone();
        // The others were read whole before.
        let indexed = self.recovered.segments.iter();
        for (number, segment) in indexed.filter(|(_, segment)| segment.indexed) {
            damage.extend(self.verify_indexed(*number, segment));
        }
        damage
    }

    fn verify_indexed(&self, number: u64, segment: &SegmentFile) -> Vec<String> {
        let name = file_name(Kind::Segment, number);
        let mut found = Vec::new();
        let header = FileHeader {
            number,
            salt: segment.salt,
            length: segment.file.len() as u64,
        };
        scan_file(&name, &header, &*segment.file, &mut found);
        if found.is_empty() {
            // Of damage at the end of a chunk nothing is to be seen in it.
            for (slot, held) in self.recovered.catalog.unsettled_of(number) {
                let ignored = |_| Ok::<_, Infallible>(());
                let Ok(lost) = self.read_part(slot, held.positions(), ignored);
                if lost > 0 {
                    found.push(format!(
                        "{name}: {lost} records of slot {slot} are in its index alone"
                    ));
                }
            }
        }
        found
    }

    /// Gives lines of JSON, one for each record that waits for these topics, all if none is named: by topic
    /// partition, in order. Returns how many there were, and how many cannot be read.
    pub fn export<E>(
        &self,
        topics: &[String],
        mut give: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(u64, u64), E> {
        let (mut written, mut lost) = (0, 0);
        for slot in &self.slots {
            let topic = slot.topic.as_ref();
            let is_wanted = |it: &SlotTopic| topics.iter().any(|name| **name == *it.topic);
            if !topics.is_empty() && !topic.is_some_and(is_wanted) {
                continue;
            }
            let missing = slot.missing.iter().map(|it| it.end - it.start);
            lost += missing.sum::<u64>();
            let sent = sent_of(slot);
            for part in &slot.unsettled {
                lost += self.read_part(slot.slot, part.clone(), |batch| {
                    written += u64::from(batch.count);
                    let note = |position| Note::Waiting {
                        sent: sent.contains(position),
                    };
                    let mut text = Vec::new();
                    lines(topic, &batch, note, &mut text);
                    give(&text)
                })?;
            }
        }
        Ok((written, lost))
    }

    /// Reads records of a slot, a chunk at a time. Returns how many cannot be read.
    fn read_part<E>(
        &self,
        slot: u32,
        part: Range<u64>,
        mut give: impl FnMut(Spooled) -> Result<(), E>,
    ) -> Result<u64, E> {
        let mut reader = Reader::new(part.start);
        let (mut lost, mut bytes) = (0, Vec::new());
        for held in self.recovered.catalog.held(slot, part.start) {
            if held.from >= part.end {
                break;
            }
            let positions = held.from.max(part.start)..held.to.min(part.end);
            let mut batches = Vec::new();
            let missing = match self.chunk(&held, &mut bytes) {
                Some(chunk) => reader.read(&chunk, positions, &mut batches),
                None => vec![positions],
            };
            lost += missing.iter().map(|it| it.end - it.start).sum::<u64>();
            for batch in batches {
                give(batch)?;
            }
        }
        match reader.finish() {
            Some(batch) => give(batch).map(|()| lost),
            None => Ok(lost),
        }
    }

    fn chunk<'a>(&self, held: &Held, bytes: &'a mut Vec<u8>) -> Option<ReadChunk<'a>> {
        let segment = self.recovered.segments.get(&held.segment)?;
        let place = (held.used.offset, held.used.bytes);
        read_chunk(&*segment.file, segment.salt, place, bytes).ok()
    }
}

fn named(slot: &Resume) -> Option<(&str, i32)> {
    slot.topic.as_ref().map(|it| (&*it.topic, it.partition))
}

/// The positions that a former producer may have sent.
fn sent_of(slot: &Resume) -> Settled {
    let mut sent = Settled::default();
    for it in &slot.lines {
        sent.add(it.line.position..it.end, 0);
    }
    sent
}

#[cfg(test)]
mod tests;
