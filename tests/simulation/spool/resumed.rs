//! What the application hears of what former processes left.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use actix::prelude::*;
use forebay::{Resumed, ResumedOutcome};

use super::application::Application;
use super::check::Place;
use super::rejected::{Rejected, is_recreated};
use super::sources::SOURCES;
use crate::load::Name;
use crate::tally::Invariant;

/// What all processes heard: by partition and position.
pub(super) type Heard = BTreeMap<(i32, u64), Resumed>;

/// The application's actor in one process.
pub(super) struct Ear(pub Rc<Application>);

impl Actor for Ear {
    type Context = Context<Self>;
}

impl Handler<Resumed> for Ear {
    type Result = ();

    fn handle(&mut self, resumed: Resumed, _: &mut Context<Self>) {
        let (partition, position) = (resumed.topic_partition.partition, resumed.position);
        let told = [partition.into(), position as i64, resumed.count.into()];
        self.0.world.note("resumed", &told);
        let former = {
            let mut journal = self.0.journal.borrow_mut();
            journal.tally.resumed += u64::from(resumed.count);
            journal.heard.insert((partition, position), resumed.clone())
        };
        // It may be told again after a panic or a crash, and says the same then.
        if former.as_ref().is_some_and(|former| *former != resumed) {
            let text = format!("{resumed:?} was {former:?} before");
            self.0.wrong(Invariant::Phantom, &text);
        }
    }
}

/// What was told to be acked is where it was told to be, and what was rejected has its lines.
pub(super) fn check(
    application: &Application,
    all: &BTreeMap<Name, Vec<Place>>,
    rejected: &Rejected,
) -> Vec<(Invariant, String)> {
    let (machine, recreated) = (application.plan.machine, application.is_recreated());
    let places = all.values().flatten();
    let there: BTreeSet<_> = places.map(|place| (place.1, place.2)).collect();
    let mut wrong = Vec::new();
    for resumed in application.journal.borrow().heard.values() {
        let partition = resumed.topic_partition.partition as usize;
        let mut positions = resumed.position..resumed.position + u64::from(resumed.count);
        let has_line = |position| {
            let place = (resumed.topic_partition.partition, position);
            rejected.positions.contains_key(&place)
        };
        let offset = match &resumed.outcome {
            ResumedOutcome::Acked { offset, .. } => *offset,
            // The machine has kept a part of what nobody was told to be accepted.
            ResumedOutcome::NotWritten if machine => None,
            ResumedOutcome::Rejected { why, .. } if recreated && is_recreated(why) => {
                if !positions.all(has_line) {
                    wrong.push((Invariant::Lost, format!("{resumed:?} without lines")));
                }
                None
            }
            ResumedOutcome::Unknown if recreated && (machine || positions.all(has_line)) => None,
            _ => {
                wrong.push((Invariant::Unconfirmed, format!("{resumed:?}")));
                None
            }
        };
        let Some(offset) = offset else { continue };
        let mut offsets = offset..offset + i64::from(resumed.count);
        if !offsets.all(|offset| there.contains(&(partition, offset))) {
            wrong.push((Invariant::Lost, format!("{resumed:?}")));
        }
        for from in &resumed.sources {
            let number = from.source.strip_prefix("source-");
            let number: u32 = number
                .and_then(|it| it.parse().ok())
                .unwrap_or(u32::MAX >> 1);
            let places = all.get(&(SOURCES + number, from.position as u32));
            let place = (partition, offset + i64::from(from.index));
            let is_it = |it: &Place| (it.1, it.2) == place;
            if !places.is_some_and(|places| places.iter().any(is_it)) {
                wrong.push((
                    Invariant::Misrouted,
                    format!("{resumed:?}, is at {places:?}"),
                ));
            }
        }
    }
    wrong
}
