//! Opens the spool: reads what former producers left, and begins a journal that says so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use actix::prelude::*;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use uuid::Uuid;

use crate::actors::messages::DiskTold;
use crate::actors::spool::{SpoolActor, SpoolStart, journal_bytes};
use crate::config::{Config, Durability};
use crate::core::spool::{
    Entry, FileHeader, Former, JournalWriter, Kind, Line, Resume, Resumed, Space, State,
    forget_former, resume,
};
use crate::disk::{
    self, DiskError, DiskEvent, DiskEvents, Maker, Recovered, Store, StoredFile, Syncer, Written,
    file_name, recover,
};

/// Bytes that are written again at a time.
const PIECE: usize = 256 << 10;

/// Segments that are kept ready.
const AHEAD: usize = 1;

/// An opened spool, before its actor is started.
pub(crate) struct OpenedSpool {
    pub start: SpoolStart,
    pub resumed: Vec<Resume>,
    /// What its transactional ids begin with.
    pub name: Arc<str>,
    /// Those that former producers used, with their producer ids.
    pub ids: Vec<(Arc<str>, Vec<i64>)>,
    pub told: Arc<Told>,
}

/// Tells the SpoolActor what became of files, once it is there.
#[derive(Default)]
pub(crate) struct Told(std::sync::OnceLock<Addr<SpoolActor>>);

impl Told {
    pub fn set(&self, spool: Addr<SpoolActor>) {
        let _ = self.0.set(spool);
    }
}

impl DiskEvents for Told {
    fn told(&self, event: DiskEvent) {
        if let Some(spool) = self.0.get() {
            spool.do_send(DiskTold(event));
        }
    }
}

/// Opens the spool, if there is to be one. It reads and writes files, and takes as long.
pub(crate) fn open(
    config: &Config,
    seed: u64,
    resumed_to: Option<Recipient<Resumed>>,
) -> Result<Option<OpenedSpool>, DiskError> {
    let Some(path) = &config.spool_dir else {
        return Ok(None);
    };
    let mut rng = SmallRng::seed_from_u64(seed);
    let store = disk::open(path)?;
    let Recovered {
        mut state,
        catalog,
        segments,
        seen,
        journals,
        next_number,
        damage,
    } = recover(&*store)?;
    for damage in &damage {
        tracing::error!(directory = %path.display(), damage, "the spool is damaged");
    }
    let machine = config.spool_durability == Durability::Machine;
    for segment in segments.values().filter(|it| machine && !it.indexed) {
        write_again(&*segment.file);
    }
    // What was lost with the machine looks like nothing at all. So positions are left out each time.
    let mut resumed = resume(&state, &catalog, true);
    if config.spool_durability == Durability::Spill {
        pass_over(&mut state, &mut resumed);
    }
    forget_former(&mut state, &mut resumed, &seen);
    let space = leave_gaps(&mut state, &resumed);
    let ids = ids(&mut state, &resumed);
    let told: Arc<Told> = Arc::default();
    let events: Arc<dyn DiskEvents> = Arc::clone(&told) as _;
    let syncer = Syncer::start(Arc::clone(&events))?;
    let written = Arc::new(Written::default());
    let segment_bytes = config.spool_segment_bytes as u64;
    let needed = JournalWriter::len_for(&state, journal_bytes(segment_bytes));
    let header = FileHeader {
        number: next_number,
        salt: rng.random(),
        length: needed,
    };
    let journal = begin_journal(&*store, state, header, (&syncer, &written))?;
    for former in &journals {
        store.remove(former)?;
    }
    let maker = Maker::start(Arc::clone(&store), segment_bytes, AHEAD, events)?;
    let uuid = Uuid::from_u128(rng.random());
    Ok(Some(OpenedSpool {
        start: SpoolStart {
            maker,
            syncer,
            written,
            space,
            catalog,
            journal,
            segments,
            next_number: next_number + 1,
            segment_bytes,
            max_bytes: config.spool_max_bytes,
            max_age: config.spool_max_age,
            machine,
            rng,
            client_id: config.client_id.as_str().into(),
            former: Former::new(&resumed),
            resumed_to,
        },
        resumed,
        name: format!("{}{uuid}", config.unknown_transactional_id_prefix).into(),
        ids,
        told,
    }))
}

/// Writes what is in a file to it once more. A sync may have failed in a former process: then the system has
/// what it could not write for written, and the next sync would succeed without it.
fn write_again(file: &dyn StoredFile) {
    let mut piece = vec![0; PIECE];
    for at in (0..file.len()).step_by(PIECE) {
        let piece = &mut piece[..PIECE.min(file.len() - at)];
        // What cannot be read is told when it is wanted.
        if file.read(at as u64, piece).is_ok() {
            file.write(at, piece);
        }
    }
}

/// Settles what is not there: those records were in memory, and have not lost anything on the disk.
fn pass_over(state: &mut State, resumed: &mut [Resume]) {
    for slot in resumed {
        for missing in std::mem::take(&mut slot.missing) {
            state.apply(&Entry::past(slot.slot, missing, 0));
        }
    }
}

/// Has no position used again that a former process may have used, though the disk does not know of it.
fn leave_gaps(state: &mut State, resumed: &[Resume]) -> Arc<Space> {
    let space = Space::new();
    for slot in resumed {
        if slot.next_position > slot.end {
            state.apply(&Entry::past(slot.slot, slot.end..slot.next_position, 0));
        }
        // The last one may have nothing in doubt. Nothing that comes is sent under it, either.
        let lines = state.slots.get(&slot.slot).map(|it| &it.lines);
        if lines.is_some_and(|lines| lines.last().is_some_and(|line| !line.is_bound())) {
            let line = Line::bound(slot.next_position, slot.end);
            state.apply(&Entry::Line {
                slot: slot.slot,
                line,
            });
        }
        space.resume(slot.slot, slot.next_position);
    }
    space
}

/// The transactional ids that are still needed: of producers under which something may be in a log, and the
/// last one, under which partitions go on.
fn ids(state: &mut State, resumed: &[Resume]) -> Vec<(Arc<str>, Vec<i64>)> {
    let lines = resumed.iter().flat_map(|slot| &slot.lines);
    let needed: BTreeSet<i64> = lines.map(|it| it.line.identity.producer_id).collect();
    let mut ids: BTreeMap<Arc<str>, Vec<i64>> = BTreeMap::new();
    for (name, producer_id) in &state.ids {
        ids.entry(Arc::clone(name)).or_default().push(*producer_id);
    }
    let last = ids.last_key_value().map(|(name, _)| Arc::clone(name));
    ids.retain(|name, producers| {
        Some(name) == last.as_ref() || producers.iter().any(|it| needed.contains(it))
    });
    state.ids.retain(|(name, _)| ids.contains_key(name));
    ids.into_iter().collect()
}

/// Begins a journal, which is on the disk when this returns.
fn begin_journal(
    store: &dyn Store,
    state: State,
    header: FileHeader,
    (syncer, written): (&Syncer, &Written),
) -> Result<JournalWriter, DiskError> {
    let FileHeader { number, length, .. } = header;
    let name = file_name(Kind::Journal, number);
    let file = store.create(&name, length)?;
    let region = Arc::clone(&file) as _;
    let journal = JournalWriter::begin(region, header, state).ok_or(DiskError::Length {
        name: name.clone(),
        len: length,
    })?;
    file.sync()?;
    let watched = syncer.queue().watch(&name, file);
    written.add(number, watched);
    Ok(journal)
}
