//! What former producers left, on its way to whom the application names.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use actix::prelude::*;
use tokio::sync::oneshot;

use super::plan::Plan;
use crate::core::spool::{Former, FromSource, Resumed, Source, SourceState};

impl Message for Resumed {
    type Result = ();
}

/// What former producers left, and who hears of it.
pub(super) struct Resumption {
    pub former: Former,
    pub to: Option<Recipient<Resumed>>,
    /// What is not told yet.
    pub untold: VecDeque<Untold>,
    /// The first one is being told.
    pub is_telling: bool,
    pub waiting: Vec<oneshot::Sender<()>>,
}

pub(super) struct Untold {
    pub resumed: Resumed,
    /// How its sources are read. It keeps the segments.
    pub plan: Option<Plan>,
}

impl Resumption {
    pub fn new(former: Former, to: Option<Recipient<Resumed>>) -> Self {
        Self {
            former,
            to,
            untold: VecDeque::new(),
            is_telling: false,
            waiting: Vec::new(),
        }
    }

    /// The rest never has an outcome here: those who wait hear so.
    pub fn give_up(&mut self) {
        self.waiting.clear();
    }

    pub fn answer(&mut self) {
        if self.former.is_over() && self.untold.is_empty() {
            for waiting in self.waiting.drain(..) {
                let _ = waiting.send(());
            }
        }
    }
}

/// The sources of records, by their names.
pub(super) fn named(
    sources: Vec<(u32, Source)>,
    names: &BTreeMap<u32, SourceState>,
) -> Vec<FromSource> {
    let named = sources.into_iter().filter_map(|(index, source)| {
        let name = names.get(&source.source)?.name.as_ref()?;
        Some(FromSource {
            index,
            source: Arc::clone(name),
            position: source.position,
        })
    });
    named.collect()
}
