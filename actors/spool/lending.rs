//! Lends sources, and answers who asks how far one has come.

use std::sync::Arc;

use actix::prelude::*;

use super::SpoolActor;
use crate::actors::guard::On;
use crate::actors::messages::{OpenSource, ProgressOf};
use crate::core::spool::{Entry, Progress};

impl SpoolActor {
    /// How far a source has come: as its holder knows it, or as it was found.
    fn progress(&self, number: u32) -> Progress {
        self.sources.progress(number).unwrap_or_else(|| {
            let source = self.journal.state().sources.get(&number);
            let told = source.and_then(|source| source.accepted);
            Progress::found(told.max(self.sources.found(number)))
        })
    }

    /// The number of a source. A name that is new is written to the journal.
    fn number_of(&mut self, name: &Arc<str>) -> u32 {
        if let Some(number) = self.sources.number_of(name) {
            return number;
        }
        let source = self.sources.add(Arc::clone(name));
        let name = Arc::clone(name);
        self.write(&Entry::Source { source, name });
        source
    }

    /// Answers whoever wants the source. One who does not wait any more drops it at once.
    fn lend(&mut self, number: u32, OpenSource { reply, .. }: OpenSource) {
        let progress = self.progress(number);
        let _ = reply.send(self.sources.lend(number, progress));
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
        let number = self.sources.number_of(&name);
        let progress = number.map(|number| self.progress(number));
        let _ = reply.send(progress.unwrap_or_default());
    }
}
