//! Reads what is in a spool's directory.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::io;
use std::sync::Arc;

use super::error::DiskError;
use super::store::{Store, StoredFile};
use crate::core::spool::{
    Catalog, ChunkUse, FileHeader, HeaderError, Index, Journal, Kind, PAGE, Source, State, scan,
};

/// A segment that is on the disk.
#[derive(Debug)]
pub struct SegmentFile {
    pub file: Arc<dyn StoredFile>,
    pub salt: u64,
    /// Its closed chunks, until it has an index.
    pub chunks: Vec<ChunkUse>,
    /// The highest positions of sources. The journal is not told of them before the disk has the segment.
    pub accepted: Vec<Source>,
    /// Its index is on the disk.
    pub indexed: bool,
    /// A sync of it has failed.
    pub failed: bool,
}

impl SegmentFile {
    /// One that nothing is in yet.
    pub fn new(file: Arc<dyn StoredFile>, salt: u64) -> Self {
        Self {
            file,
            salt,
            chunks: Vec::new(),
            accepted: Vec::new(),
            indexed: false,
            failed: false,
        }
    }
}

/// What a spool's directory holds.
#[derive(Debug)]
pub struct Recovered {
    pub state: State,
    pub catalog: Catalog,
    /// By number.
    pub segments: BTreeMap<u64, SegmentFile>,
    /// The slots that segments have something of, though it may be settled.
    pub seen: BTreeSet<u32>,
    /// The files of journals that were read. The next one takes their place.
    pub journals: Vec<String>,
    /// The number of the next file.
    pub next_number: u64,
    /// What is damaged, in words.
    pub damage: Vec<String>,
}

/// The name of a file of the spool.
pub fn file_name(kind: Kind, number: u64) -> String {
    match kind {
        Kind::Segment => format!("segment-{number:016x}"),
        Kind::Index => format!("segment-{number:016x}.index"),
        Kind::Journal => format!("journal-{number:016x}"),
    }
}

/// What kind of file of the spool has this name, and its number.
pub fn parse_name(name: &str) -> Option<(Kind, u64)> {
    let (kind, number) = match name.split_once('-')? {
        ("segment", rest) => match rest.strip_suffix(".index") {
            Some(number) => (Kind::Index, number),
            None => (Kind::Segment, rest),
        },
        ("journal", rest) => (Kind::Journal, rest),
        _ => return None,
    };
    Some((kind, u64::from_str_radix(number, 16).ok()?))
}

/// Reads all that is there. What is damaged is passed over, and told.
pub fn recover(store: &dyn Store) -> Result<Recovered, DiskError> {
    let mut recovered = Recovered {
        state: State::default(),
        catalog: Catalog::default(),
        segments: BTreeMap::new(),
        seen: BTreeSet::new(),
        journals: Vec::new(),
        next_number: 1,
        damage: Vec::new(),
    };
    let files = store.files()?;
    let named = files
        .iter()
        .filter_map(|(name, _)| Some((name, parse_name(name)?)));
    let (mut journals, mut segments) = (Vec::new(), Vec::new());
    let mut indexes = BTreeMap::new();
    for (name, (kind, number)) in named {
        recovered.next_number = recovered.next_number.max(number.saturating_add(1));
        match kind {
            Kind::Journal => journals.push((number, name)),
            Kind::Segment => segments.push((number, name)),
            Kind::Index => {
                indexes.insert(number, name);
            }
        }
    }
    journals.sort_unstable();
    segments.sort_unstable();
    recovered.read_journals(store, &journals)?;
    for (slot, known) in &recovered.state.slots {
        for (positions, floor) in known.settled.iter() {
            recovered.catalog.settle(*slot, positions, floor);
        }
    }
    let last = segments.last().map(|(number, _)| *number);
    for (number, name) in segments {
        let index = indexes.remove(&number);
        recovered.read_segment(store, number, name, (index, Some(number) == last))?;
    }
    // Their segments are gone.
    for name in indexes.into_values() {
        store.remove(name)?;
    }
    Ok(recovered)
}

impl Recovered {
    /// The sources, with the highest position of each: what the journal says, or what segments hold. Those
    /// whose name is lost are left out.
    #[cfg(any(test, feature = "cli"))]
    pub fn sources(&self) -> Vec<(Arc<str>, Option<u64>)> {
        let found = self.segments.values().flat_map(|it| &it.accepted);
        let found = crate::core::spool::highest(found.copied());
        let sources = self.state.sources.iter();
        let named = sources.filter_map(|(number, source)| {
            let name = Arc::clone(source.name.as_ref()?);
            Some((name, source.accepted.max(found.get(number).copied())))
        });
        named.collect()
    }

    /// The newest journal that is complete says what is known. One that is not was begun when the process
    /// ended.
    fn read_journals(
        &mut self,
        store: &dyn Store,
        journals: &[(u64, &String)],
    ) -> Result<(), DiskError> {
        let mut newest: Option<Journal> = None;
        for (number, name) in journals {
            let bytes = self.read_all(name, &*store.open(name)?);
            match Journal::read(*number, &bytes) {
                Ok(journal) => {
                    self.journals.push((*name).clone());
                    if journal.complete || newest.is_none() {
                        newest = Some(journal);
                    }
                }
                Err(error @ HeaderError::Newer { .. }) => return Err(refused(name, error)),
                // It was made, and nothing was begun in it.
                Err(_) if is_unused(*number, &bytes) => self.journals.push((*name).clone()),
                Err(error) => self.set_aside(store, name, &error),
            }
        }
        if let Some(journal) = newest {
            let told = journal.damage.iter().map(ToString::to_string);
            self.damage.extend(told);
            self.state = journal.state;
        }
        Ok(())
    }

    /// All bytes of a file. Those that cannot be read are 0, and damage.
    fn read_all(&mut self, name: &str, file: &dyn StoredFile) -> Vec<u8> {
        let mut bytes = vec![0; file.len()];
        if file.read(0, &mut bytes).is_ok() {
            return bytes;
        }
        for (at, page) in bytes.chunks_mut(PAGE).enumerate() {
            let offset = at * PAGE;
            if let Err(error) = file.read(offset as u64, page) {
                page.fill(0);
                let told = format!("{name}: {PAGE} bytes at offset {offset}: {error}");
                self.damage.push(told);
            }
        }
        bytes
    }

    /// Tells of a file that cannot be used, and moves it to where nobody looks for it.
    fn set_aside(&mut self, store: &dyn Store, name: &str, why: &dyn Display) {
        let told = match store.rename(name, &format!("damaged/{name}")) {
            Ok(()) => format!("{name}: {why}; it is in damaged/ now"),
            Err(error) => format!("{name}: {why}; it stays where it is ({error})"),
        };
        self.damage.push(told);
    }

    fn read_segment(
        &mut self,
        store: &dyn Store,
        number: u64,
        name: &str,
        (index, is_last): (Option<&String>, bool),
    ) -> Result<(), DiskError> {
        let file = store.open(name)?;
        let mut page = [0; PAGE];
        let read = file.read(0, &mut page);
        let header = match FileHeader::decode_page(Kind::Segment, number, &page) {
            Ok(header) => header,
            Err(error @ HeaderError::Newer { .. }) => return Err(refused(name, error)),
            // It was made, and nothing was begun in it.
            Err(_) if is_last && read.is_ok() && is_unused(number, &page) => {
                drop(file);
                return store.remove(name);
            }
            Err(error) => {
                drop(file);
                match read {
                    Ok(()) => self.set_aside(store, name, &error),
                    Err(error) => self.set_aside(store, name, &error),
                }
                index.inspect(|index| self.set_aside(store, index, &"its segment is damaged"));
                return Ok(());
            }
        };
        let is_whole = file.len() as u64 >= header.length;
        let known = index
            .filter(|_| is_whole)
            .and_then(|it| read_index(store, it, &header));
        let indexed = known.is_some();
        if let (Some(index), false) = (index, indexed) {
            store.remove(index)?;
        }
        let (chunks, accepted) = match known {
            Some(index) => (index.chunks, index.accepted),
            None => {
                let (chunks, accepted) = scan_file(name, &header, &*file, &mut self.damage);
                (chunks, self.sent_some_day(accepted))
            }
        };
        self.catalog.segment(number, file.len() as u64, true);
        for used in &chunks {
            self.catalog.chunk_closed(number, *used);
            self.seen.insert(used.slot);
        }
        for source in &accepted {
            self.state.has_source(source.source);
        }
        let segment = SegmentFile {
            chunks: if indexed { Vec::new() } else { chunks },
            accepted,
            indexed,
            ..SegmentFile::new(file, header.salt)
        };
        self.segments.insert(number, segment);
        Ok(())
    }

    /// Positions of sources by slot, as a segment has them. A machine that stopped may have lost which topic
    /// partition a slot is: what is there is never sent, and its source goes on with it.
    fn sent_some_day(&self, accepted: BTreeMap<(u32, u32), u64>) -> Vec<Source> {
        let slots = &self.state.slots;
        let is_known = |slot: &u32| slots.get(slot).is_some_and(|it| it.topic.is_some());
        let accepted = accepted.into_iter();
        let accepted = accepted.filter(|((slot, _), _)| is_known(slot));
        let accepted = accepted.map(|((_, source), position)| Source { source, position });
        accepted.collect()
    }
}

/// Reads all of a segment: its chunks, and the highest position of each source in each slot. What is damaged
/// is passed over, and told.
pub fn scan_file(
    name: &str,
    header: &FileHeader,
    file: &dyn StoredFile,
    damage: &mut Vec<String>,
) -> (Vec<ChunkUse>, BTreeMap<(u32, u32), u64>) {
    let mut read = |at: u64, into: &mut [u8]| {
        file.read(at, into)
            .map_err(|error| io::Error::other(error.to_string()))
    };
    let scanned = scan(header, file.len() as u64, &mut read);
    let told = scanned.damage.iter();
    damage.extend(told.map(|damage| format!("{name}: {damage}")));
    (scanned.chunks, scanned.accepted)
}

/// Whether nothing was begun in a file with this number. If it was a spare, a former use has left its header.
fn is_unused(number: u64, bytes: &[u8]) -> bool {
    let page = bytes.get(..PAGE).unwrap_or(bytes);
    match FileHeader::decode_page(Kind::Segment, number, page) {
        Err(HeaderError::OtherNumber { number: former }) => former < number,
        _ => page.iter().all(|byte| *byte == 0),
    }
}

/// The index, if it is whole and of this very use of the segment's file.
fn read_index(store: &dyn Store, name: &str, segment: &FileHeader) -> Option<Index> {
    let file = store.open(name).ok()?;
    let mut bytes = vec![0; file.len()];
    file.read(0, &mut bytes).ok()?;
    let index = Index::decode(segment.number, &bytes).ok()?;
    let fits = |used: &ChunkUse| u64::from(used.offset) + u64::from(used.bytes) <= segment.length;
    (index.salt == segment.salt && index.chunks.iter().all(fits)).then_some(index)
}

fn refused(name: &str, error: HeaderError) -> DiskError {
    DiskError::Refused {
        name: name.to_owned(),
        why: error.to_string(),
    }
}

#[cfg(test)]
#[allow(
    clippy::single_range_in_vec_init,
    reason = "one range of positions is meant, not the positions in it"
)]
mod tests;
