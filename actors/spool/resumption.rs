//! What former producers left, on its way to whom the application names.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use actix::prelude::*;
use tokio::sync::oneshot;

use super::plan::Plan;
use crate::core::spool::{Former, FromSource, Resumed, SourceState, Spooled};

impl Message for Resumed {
    type Result = ();
}

/// What former producers left, and who hears of it.
pub(super) struct Resumption {
    pub former: Former,
    pub to: Option<Recipient<Resumed>>,
    /// What is not told yet. The first one is being told.
    pub untold: VecDeque<Untold>,
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

/// The sources of the records of these batches.
pub(super) fn sources_of(
    batches: &[Spooled],
    names: &BTreeMap<u32, SourceState>,
) -> Vec<FromSource> {
    let (mut sources, mut before) = (Vec::new(), 0);
    for batch in batches {
        let of_batch = batch.sources.iter().filter_map(|(index, source)| {
            let name = names.get(&source.source)?.name.as_ref()?;
            Some(FromSource {
                index: before + index,
                source: Arc::clone(name),
                position: source.position,
            })
        });
        sources.extend(of_batch);
        before += batch.count;
    }
    sources
}
