//! Reads what is in a spool's directory.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use super::error::DiskError;
use super::store::{Store, StoredFile};
use crate::core::spool::{Catalog, FileHeader, HeaderError, Journal, Kind, PAGE, State, scan};

/// A segment that is on the disk.
#[derive(Debug)]
pub struct SegmentFile {
    pub file: Arc<dyn StoredFile>,
    pub salt: u64,
}

/// What a spool's directory holds.
#[derive(Debug)]
pub struct Recovered {
    pub state: State,
    pub catalog: Catalog,
    /// By number.
    pub segments: BTreeMap<u64, SegmentFile>,
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
        journals: Vec::new(),
        next_number: 1,
        damage: Vec::new(),
    };
    let files = store.files()?;
    let named = files
        .iter()
        .filter_map(|(name, _)| Some((name, parse_name(name)?)));
    let (mut journals, mut segments) = (Vec::new(), Vec::new());
    for (name, (kind, number)) in named {
        recovered.next_number = recovered.next_number.max(number.saturating_add(1));
        match kind {
            Kind::Journal => journals.push((number, name)),
            Kind::Segment => segments.push((number, name)),
            Kind::Index => {}
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
    for (number, name) in segments {
        recovered.read_segment(store, number, name)?;
    }
    Ok(recovered)
}

impl Recovered {
    /// The newest journal that is complete says what is known. One that is not was begun when the process
    /// ended.
    fn read_journals(
        &mut self,
        store: &dyn Store,
        journals: &[(u64, &String)],
    ) -> Result<(), DiskError> {
        let mut newest: Option<Journal> = None;
        for (number, name) in journals {
            self.journals.push((*name).clone());
            let file = store.open(name)?;
            let mut bytes = vec![0; file.len()];
            file.read(0, &mut bytes)?;
            match Journal::read(*number, &bytes) {
                Ok(journal) if journal.complete || newest.is_none() => newest = Some(journal),
                Ok(_) => {}
                Err(error @ HeaderError::Newer { .. }) => return Err(refused(name, error)),
                Err(error) => self.damage.push(format!("{name}: {error}")),
            }
        }
        if let Some(journal) = newest {
            let told = journal.damage.iter().map(ToString::to_string);
            self.damage.extend(told);
            self.state = journal.state;
        }
        Ok(())
    }

    fn read_segment(
        &mut self,
        store: &dyn Store,
        number: u64,
        name: &str,
    ) -> Result<(), DiskError> {
        let file = store.open(name)?;
        let mut page = [0; PAGE];
        let read = file.read(0, &mut page);
        let header = match FileHeader::decode_page(Kind::Segment, number, &page) {
            Ok(header) => header,
            Err(error @ HeaderError::Newer { .. }) => return Err(refused(name, error)),
            // It was made, and nothing was begun in it.
            Err(_) if read.is_ok() && page.iter().all(|byte| *byte == 0) => {
                drop(file);
                return store.remove(name);
            }
            Err(error) => {
                self.damage.push(format!("{name}: {error}"));
                drop(file);
                return store.rename(name, &format!("damaged/{name}"));
            }
        };
        let mut read = |at: u64, into: &mut [u8]| {
            file.read(at, into)
                .map_err(|error| io::Error::other(error.to_string()))
        };
        let scanned = scan(&header, file.len() as u64, &mut read);
        let told = scanned
            .damage
            .iter()
            .map(|damage| format!("{name}: {damage}"));
        self.damage.extend(told);
        self.catalog.segment(number, file.len() as u64, true);
        for used in &scanned.chunks {
            self.catalog.chunk_closed(number, *used);
        }
        for source in &scanned.accepted {
            self.state.accept(source.source, source.position);
        }
        let salt = header.salt;
        self.segments.insert(number, SegmentFile { file, salt });
        Ok(())
    }
}

fn refused(name: &str, error: HeaderError) -> DiskError {
    DiskError::Refused {
        name: name.to_owned(),
        why: error.to_string(),
    }
}
