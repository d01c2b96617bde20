//! Who has which source, and how far each has come.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tokio::sync::watch;

use crate::core::spool::{Progress, Source, State, highest};
use crate::intake::lease::Lease;

/// The sources that the journal has names of.
pub(super) struct Sources {
    numbers: HashMap<Arc<str>, u32>,
    /// A name's number is never used for another one, though the entry of that name is lost.
    next: u32,
    /// The highest positions that were found in segments.
    found: BTreeMap<u32, u64>,
    /// Those that were lent by this process. A holder who is gone has dropped the other end.
    lent: BTreeMap<u32, watch::Receiver<Progress>>,
}

impl Sources {
    /// `found`: positions in segments. The journal says nothing of them: the machine may not have them on its
    /// disk yet, and whoever stopped it now would find a journal that has.
    pub fn new(state: &State, found: impl Iterator<Item = Source>) -> Self {
        let named = state.sources.iter();
        let named = named.filter_map(|(number, it)| Some((Arc::clone(it.name.as_ref()?), *number)));
        let last = state.sources.last_key_value();
        Self {
            numbers: named.collect(),
            next: last.map_or(0, |(number, _)| number.saturating_add(1)),
            found: highest(found),
            lent: BTreeMap::new(),
        }
    }

    /// The highest position of a source that was found in segments.
    pub fn found(&self, number: u32) -> Option<u64> {
        self.found.get(&number).copied()
    }

    /// The number of this name.
    pub fn number_of(&self, name: &str) -> Option<u32> {
        self.numbers.get(name).copied()
    }

    /// Gives a new name a number, which the journal has to hear of.
    pub fn add(&mut self, name: Arc<str>) -> u32 {
        let number = self.next;
        self.next = number.saturating_add(1);
        self.numbers.insert(name, number);
        number
    }

    /// How far a source has come that was lent.
    pub fn progress(&self, number: u32) -> Option<Progress> {
        let progress = self.lent.get(&number)?;
        Some(*progress.borrow())
    }

    /// Lends a source that has come so far, unless somebody has it.
    pub fn lend(&mut self, number: u32, progress: Progress) -> Option<Lease> {
        let lent = self.lent.get(&number);
        if lent.is_some_and(|progress| progress.has_changed().is_ok()) {
            return None;
        }
        let (progress, seen) = watch::channel(progress);
        self.lent.insert(number, seen);
        Some(Lease { number, progress })
    }
}
