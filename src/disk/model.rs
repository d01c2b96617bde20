//! A disk in memory that forgets and fails as real ones do, all by a seed.
//!
//! Modelled: what was written survives the process, and the machine only once it is synced. Of the rest the
//! machine keeps, for each page, what was synced last, or what was written, or some sectors of each; the
//! kernel writes pages back when it likes. A change of a name is there or not if the machine stops in it.
//! A sync that fails drops pages, and the next one says that all is well. Not modelled: a file that is
//! shortened, sectors that are torn within, and a sync that lies without having failed before.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{fmt, io, mem};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::error::{DiskError, Operation};
use super::names::path_of;
use super::store::{Store, StoredFile};
use crate::core::spool::Region;

const PAGE: usize = 4096;
const SECTOR: usize = 512;
/// One write in so many has the kernel write a page back.
const WRITES_PER_WRITE_BACK: u32 = 8;

/// The machine and its disk. Clones are the same one.
#[derive(Clone)]
pub struct ModelDisk(Arc<Mutex<State>>);

/// The disk as one process sees it, until a crash.
pub struct ModelStore {
    disk: ModelDisk,
    life: u64,
}

struct ModelFile {
    disk: ModelDisk,
    life: u64,
    number: u64,
    path: PathBuf,
    len: usize,
}

struct State {
    rng: SmallRng,
    /// Counts crashes, so that what is left of former processes reaches nothing.
    life: u64,
    in_use: bool,
    contents: BTreeMap<u64, Contents>,
    next: u64,
    names: Names,
    /// The names that outlive the machine.
    durable: Names,
    limit: u64,
    /// The process stops in this operation, counted down.
    stops_in: Option<u64>,
    stopped: bool,
}

type Names = BTreeMap<String, u64>;

#[derive(Default)]
struct Contents {
    bytes: Vec<u8>,
    /// Pages that are not on the disk as they are in memory.
    unsynced: BTreeMap<usize, Page>,
    next_sync_fails: bool,
    reads_fail: bool,
}

/// A page as it is on the disk.
struct Page {
    on_disk: Vec<u8>,
    /// The kernel takes it for written, and does not write it any more.
    dropped: bool,
}

/// How an operation goes.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Whole,
    /// The process stops in it.
    Partly,
}

impl ModelDisk {
    /// An empty disk without a limit.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            rng: SmallRng::seed_from_u64(seed),
            life: 0,
            in_use: false,
            contents: BTreeMap::new(),
            next: 0,
            names: Names::new(),
            durable: Names::new(),
            limit: u64::MAX,
            stops_in: None,
            stopped: false,
        })))
    }

    /// Takes the disk for a process; refused while another has it.
    pub fn store(&self) -> Result<ModelStore, DiskError> {
        let mut state = self.state();
        if mem::replace(&mut state.in_use, true) {
            return Err(DiskError::InUse {
                directory: PathBuf::new(),
                process: None,
            });
        }
        Ok(ModelStore {
            disk: self.clone(),
            life: state.life,
        })
    }

    /// The process ends at once. All that it wrote is there.
    pub fn crash_process(&self) {
        self.state().end_of_life();
    }

    /// The machine ends at once. What was not synced is there by chance.
    pub fn crash_machine(&self) {
        let mut state = self.state();
        let state = &mut *state;
        if state.rng.random() {
            state.durable = state.names.clone();
        }
        state.names = state.durable.clone();
        for contents in state.contents.values_mut() {
            contents.crash(&mut state.rng);
        }
        state.end_of_life();
    }

    /// The process stops in the operation behind so many more: a write, a sync, or a change of names. What
    /// it calls then has no effect. It is the test's to see that with [`has_stopped`](Self::has_stopped),
    /// and to crash process or machine.
    pub fn stop_behind(&self, operations: u64) {
        self.state().stops_in = Some(operations);
    }

    /// Whether the process has stopped.
    pub fn has_stopped(&self) -> bool {
        self.state().stopped
    }

    /// Lets all files together have so many bytes. Those that are there stay.
    pub fn limit(&self, bytes: u64) {
        self.state().limit = bytes;
    }

    /// The names of all files, in order.
    pub fn names(&self) -> Vec<String> {
        self.state().names.keys().cloned().collect()
    }

    /// Has the next sync of a file fail. False if there is none of this name.
    pub fn fail_sync(&self, name: &str) -> bool {
        let failing = |contents: &mut Contents| contents.next_sync_fails = true;
        self.state().of(name).map(failing).is_some()
    }

    /// Has reads of a file fail, or go well again. False if there is none of this name.
    pub fn fail_reads(&self, name: &str, fail: bool) -> bool {
        let failing = |contents: &mut Contents| contents.reads_fail = fail;
        self.state().of(name).map(failing).is_some()
    }

    /// Flips bits of the byte at `at`, on the disk and in memory. False if there is none.
    pub fn flip(&self, name: &str, at: usize, bits: u8) -> bool {
        let mut state = self.state();
        let contents = state.of(name);
        let flipped = contents.and_then(|contents| {
            *contents.bytes.get_mut(at)? ^= bits;
            if let Some(page) = contents.unsynced.get_mut(&(at / PAGE)) {
                page.on_disk[at % PAGE] ^= bits;
            }
            Some(())
        });
        flipped.is_some()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn end_of_life(&mut self) {
        self.life += 1;
        (self.in_use, self.stopped, self.stops_in) = (false, false, None);
        // Whatever the machine had in mind for names, a process that comes sees one state of them.
        self.durable = self.names.clone();
        let names = &self.names;
        let named = |number: &u64, _: &mut Contents| names.values().any(|of| of == number);
        self.contents.retain(named);
    }

    fn of(&mut self, name: &str) -> Option<&mut Contents> {
        self.contents.get_mut(self.names.get(name)?)
    }

    /// Begins an operation of a process, unless that has come to its end.
    fn begin(&mut self, life: u64) -> Result<Step, DiskError> {
        if life != self.life || self.stopped {
            return Err(DiskError::Ended);
        }
        match &mut self.stops_in {
            Some(0) => {
                self.stopped = true;
                return Ok(Step::Partly);
            }
            Some(left) => *left -= 1,
            None => {}
        }
        Ok(Step::Whole)
    }

    /// Whether a process is alive, for what changes nothing.
    fn look(&self, life: u64) -> Result<(), DiskError> {
        match life == self.life && !self.stopped {
            true => Ok(()),
            false => Err(DiskError::Ended),
        }
    }

    /// Changes names. Where the process stops in it, it may have been done or not.
    fn change(&mut self, step: &Step, change: impl FnOnce(&mut Names)) -> Result<(), DiskError> {
        match step {
            Step::Whole => {
                change(&mut self.names);
                self.durable = self.names.clone();
                Ok(())
            }
            Step::Partly => {
                if self.rng.random() {
                    change(&mut self.names);
                }
                Err(DiskError::Ended)
            }
        }
    }

    fn used(&self) -> u64 {
        let of = |number| self.contents.get(number).map_or(0, |it| it.bytes.len());
        self.names.values().map(|number| of(number) as u64).sum()
    }
}

impl Contents {
    fn write(&mut self, at: usize, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        for page in at / PAGE..=(at + bytes.len() - 1) / PAGE {
            let from = page * PAGE;
            let to = self.bytes.len().min(from + PAGE);
            let on_disk = self.bytes[from..to].to_vec();
            let dropped = false;
            let page = self.unsynced.entry(page);
            page.or_insert(Page { on_disk, dropped }).dropped = false;
        }
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// The kernel writes one page, whichever.
    fn write_back(&mut self, rng: &mut SmallRng) {
        let waiting = self.unsynced.iter().filter(|(_, page)| !page.dropped);
        let waiting: Vec<usize> = waiting.map(|(number, _)| *number).collect();
        if !waiting.is_empty() {
            self.unsynced
                .remove(&waiting[rng.random_range(0..waiting.len())]);
        }
    }

    /// Writes all pages, or those that chance has it.
    fn sync(&mut self, mut is_written: impl FnMut() -> bool) {
        self.unsynced
            .retain(|_, page| page.dropped || !is_written());
    }

    fn crash(&mut self, rng: &mut SmallRng) {
        for (number, page) in mem::take(&mut self.unsynced) {
            let from = number * PAGE;
            let in_memory = &mut self.bytes[from..from + page.on_disk.len()];
            let sectors = in_memory
                .chunks_mut(SECTOR)
                .zip(page.on_disk.chunks(SECTOR));
            let way = rng.random_range(0..3);
            for (sector, on_disk) in sectors {
                let is_old = match way {
                    _ if page.dropped => true,
                    0 => true,
                    1 => false,
                    _ => rng.random(),
                };
                if is_old {
                    sector.copy_from_slice(on_disk);
                }
            }
        }
        (self.next_sync_fails, self.reads_fail) = (false, false);
    }
}

impl ModelStore {
    fn file(&self, number: u64, name: &str, len: usize) -> Arc<dyn StoredFile> {
        Arc::new(ModelFile {
            disk: self.disk.clone(),
            life: self.life,
            number,
            path: name.into(),
            len,
        })
    }
}

/// As the real one: the directory is free for the next.
impl Drop for ModelStore {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.life == self.life {
            state.in_use = false;
        }
    }
}

fn missing(operation: Operation, name: &str) -> DiskError {
    DiskError::io(operation, name.as_ref(), io::ErrorKind::NotFound.into())
}

fn is_free(names: &Names, name: &str) -> Result<(), DiskError> {
    let path = path_of("".as_ref(), name)?;
    match names.contains_key(name) {
        true => Err(DiskError::Exists { path }),
        false => Ok(()),
    }
}

impl Store for ModelStore {
    fn files(&self) -> Result<Vec<(String, u64)>, DiskError> {
        let state = self.disk.state();
        state.look(self.life)?;
        let files = state.names.iter().map(|(name, number)| {
            let contents = state.contents.get(number);
            (name.clone(), contents.map_or(0, |it| it.bytes.len() as u64))
        });
        Ok(files.collect())
    }

    fn create(&self, name: &str, len: u64) -> Result<Arc<dyn StoredFile>, DiskError> {
        let mut state = self.disk.state();
        let step = state.begin(self.life)?;
        is_free(&state.names, name)?;
        let length = usize::try_from(len).ok();
        let length = length.filter(|len| *len > 0 && len % 8 == 0);
        let length = length.ok_or_else(|| DiskError::Length {
            name: name.to_owned(),
            len,
        })?;
        if state.used().saturating_add(len) > state.limit {
            return Err(DiskError::Full {
                path: name.into(),
                wanted: len,
                cause: Arc::new(io::ErrorKind::StorageFull.into()),
            });
        }
        let number = state.next;
        state.next += 1;
        let contents = Contents {
            bytes: vec![0; length],
            ..Contents::default()
        };
        state.contents.insert(number, contents);
        state.change(&step, |names| {
            names.insert(name.to_owned(), number);
        })?;
        Ok(self.file(number, name, length))
    }

    fn open(&self, name: &str) -> Result<Arc<dyn StoredFile>, DiskError> {
        path_of("".as_ref(), name)?;
        let mut state = self.disk.state();
        state.look(self.life)?;
        let number = state.names.get(name).copied();
        let len = state.of(name).map(|contents| contents.bytes.len());
        let (number, len) = number
            .zip(len)
            .ok_or_else(|| missing(Operation::Open, name))?;
        Ok(self.file(number, name, len))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        let mut state = self.disk.state();
        let step = state.begin(self.life)?;
        if !state.names.contains_key(from) {
            return Err(missing(Operation::Rename, from));
        }
        is_free(&state.names, to)?;
        state.change(&step, |names| {
            if let Some(number) = names.remove(from) {
                names.insert(to.to_owned(), number);
            }
        })
    }

    fn remove(&self, name: &str) -> Result<(), DiskError> {
        let mut state = self.disk.state();
        let step = state.begin(self.life)?;
        if !state.names.contains_key(name) {
            return Err(missing(Operation::Remove, name));
        }
        state.change(&step, |names| {
            names.remove(name);
        })
    }

    fn append(&self, name: &str, bytes: &[u8]) -> Result<(), DiskError> {
        let path = path_of("".as_ref(), name)?;
        let mut state = self.disk.state();
        let step = state.begin(self.life)?;
        if state.used().saturating_add(bytes.len() as u64) > state.limit {
            return Err(DiskError::Full {
                path,
                wanted: bytes.len() as u64,
                cause: Arc::new(io::ErrorKind::StorageFull.into()),
            });
        }
        if !state.names.contains_key(name) {
            let number = state.next;
            state.next += 1;
            state.contents.insert(number, Contents::default());
            state.change(&step, |names| {
                names.insert(name.to_owned(), number);
            })?;
        }
        let partly = match step {
            Step::Whole => None,
            Step::Partly => Some(state.rng.random_range(0..=bytes.len())),
        };
        let contents = state.of(name);
        let contents = contents.ok_or_else(|| missing(Operation::Open, name))?;
        if mem::take(&mut contents.next_sync_fails) {
            return Err(DiskError::SyncFailed {
                path,
                cause: Arc::new(io::Error::other("the model has it fail")),
            });
        }
        let written = partly.unwrap_or(bytes.len());
        if contents.bytes.last().is_some_and(|last| *last != b'\n') {
            contents.bytes.push(b'\n');
        }
        contents.bytes.extend_from_slice(&bytes[..written]);
        match partly {
            None => Ok(()),
            Some(_) => Err(DiskError::Ended),
        }
    }

    fn free(&self) -> Result<u64, DiskError> {
        let state = self.disk.state();
        state.look(self.life)?;
        Ok(state.limit.saturating_sub(state.used()))
    }
}

impl Region for ModelFile {
    fn len(&self) -> usize {
        self.len
    }

    fn write(&self, at: usize, bytes: &[u8]) -> bool {
        if at.checked_add(bytes.len()).is_none_or(|end| end > self.len) {
            return false;
        }
        let mut state = self.disk.state();
        let Ok(step) = state.begin(self.life) else {
            return false;
        };
        let State { rng, contents, .. } = &mut *state;
        // It may have been removed by now: then nobody sees what is written.
        if let Some(contents) = contents.get_mut(&self.number) {
            let written = match step {
                Step::Whole => bytes.len(),
                Step::Partly => rng.random_range(0..=bytes.len()),
            };
            contents.write(at, &bytes[..written]);
            if rng.random_ratio(1, WRITES_PER_WRITE_BACK) {
                contents.write_back(rng);
            }
        }
        step == Step::Whole
    }
}

impl StoredFile for ModelFile {
    fn read(&self, at: u64, into: &mut [u8]) -> Result<(), DiskError> {
        let state = self.disk.state();
        state.look(self.life)?;
        let contents = state.contents.get(&self.number);
        let contents = contents.filter(|contents| !contents.reads_fail);
        let contents = contents.ok_or_else(|| {
            let error = io::Error::other("the model has it fail");
            DiskError::io(Operation::Read, &self.path, error)
        })?;
        let from = usize::try_from(at).ok();
        let found = from.and_then(|at| contents.bytes.get(at..at.checked_add(into.len())?));
        let found = found.ok_or_else(|| DiskError::Short {
            path: self.path.clone(),
            at,
            wanted: into.len(),
        })?;
        into.copy_from_slice(found);
        Ok(())
    }

    fn sync(&self) -> Result<(), DiskError> {
        let mut state = self.disk.state();
        let step = state.begin(self.life)?;
        let State { rng, contents, .. } = &mut *state;
        let Some(contents) = contents.get_mut(&self.number) else {
            return Ok(());
        };
        if step == Step::Partly {
            contents.sync(|| rng.random());
            return Err(DiskError::Ended);
        }
        if !mem::take(&mut contents.next_sync_fails) {
            contents.sync(|| true);
            return Ok(());
        }
        contents.sync(|| rng.random());
        let dropped = contents.unsynced.values_mut();
        dropped.for_each(|page| page.dropped = true);
        Err(DiskError::SyncFailed {
            path: self.path.clone(),
            cause: Arc::new(io::Error::other("the model has it fail")),
        })
    }

    fn prepare(&self) -> Result<(), DiskError> {
        Ok(())
    }
}

impl fmt::Debug for ModelDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("ModelDisk")
            .field("names", &state.names)
            .field("life", &state.life)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ModelStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelStore")
            .field("life", &self.life)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ModelFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelFile")
            .field("path", &self.path)
            .field("life", &self.life)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
