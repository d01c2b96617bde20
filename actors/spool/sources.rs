//! Lends the sources, and knows how far each has come.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use actix::prelude::*;
use tokio::sync::watch;

use super::SpoolActor;
use crate::actors::guard::On;
use crate::actors::messages::{OpenSource, ProgressOf};
use crate::core::spool::{Entry, Progress, State};
use crate::intake::lease::Lease;

/// The sources that the journal has names of.
pub(super) struct Sources {
    numbers: HashMap<Arc<str>, u32>,
    /// A name's number is never used for another one, though the entry of that name is lost.
    next: u32,
    /// Those that were lent by this process. A holder who is gone has dropped the other end.
    lent: BTreeMap<u32, watch::Receiver<Progress>>,
}

impl Sources {
    pub fn new(state: &State) -> Self {
        let named = state.sources.iter();
        let named = named.filter_map(|(number, it)| Some((Arc::clone(it.name.as_ref()?), *number)));
        let last = state.sources.last_key_value();
        Self {
            numbers: named.collect(),
            next: last.map_or(0, |(number, _)| number.saturating_add(1)),
            lent: BTreeMap::new(),
        }
    }

    fn is_lent(&self, number: u32) -> bool {
        let lent = self.lent.get(&number);
        lent.is_some_and(|progress| progress.has_changed().is_ok())
    }
}

impl SpoolActor {
    /// How far a source has come: as its holder knows it, or as it was found.
    fn progress(&self, number: u32) -> Progress {
        if let Some(progress) = self.sources.lent.get(&number) {
            return *progress.borrow();
        }
        let source = self.journal.state().sources.get(&number);
        Progress::found(source.and_then(|source| source.accepted))
    }

    /// The number of a source. A name that is new is written to the journal.
    fn number_of(&mut self, name: &Arc<str>) -> u32 {
        if let Some(number) = self.sources.numbers.get(name) {
            return *number;
        }
        let number = self.sources.next;
        self.sources.next = number.saturating_add(1);
        self.sources.numbers.insert(Arc::clone(name), number);
        let name = Arc::clone(name);
        self.write(&Entry::Source {
            source: number,
            name,
        });
        number
    }

    /// Answers whoever wants the source. One who does not wait any more drops it at once.
    fn lend(&mut self, number: u32, OpenSource { reply, .. }: OpenSource) {
        if self.sources.is_lent(number) {
            let _ = reply.send(None);
            return;
        }
        let (progress, seen) = watch::channel(self.progress(number));
        self.sources.lent.insert(number, seen);
        let _ = reply.send(Some(Lease { number, progress }));
    }
}

impl On<OpenSource> for SpoolActor {
    fn on(&mut self, message: OpenSource, ctx: &mut Context<Self>) {
        let number = self.number_of(&message.name);
        match self.machine || self.overflowed {
            // Frames may have its number only when the disk has its name.
            true => self.when_synced(ctx, move |actor, _| actor.lend(number, message)),
            false => self.lend(number, message),
        }
    }
}

impl On<ProgressOf> for SpoolActor {
    fn on(&mut self, ProgressOf { name, reply }: ProgressOf, _: &mut Context<Self>) {
        let number = self.sources.numbers.get(&name);
        let progress = number.map(|number| self.progress(*number));
        let _ = reply.send(progress.unwrap_or_default());
    }
}
