//! Sources: in each process one task for each goes on behind what the spool says is accepted of it.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use forebay::{Producer, Record, Source, SourceError};
use tokio::time::{sleep, timeout};

use super::application::Application;
use super::check::{Place, is_asked, is_twice};
use super::rejected::Rejected;
use crate::load::{Name, Tag};
use crate::tally::Invariant;

/// Names of records from here on are of sources: the source, and the position.
pub(super) const SOURCES: u32 = 1 << 16;

/// Most calls of one process for one source.
const MOST: u32 = 60;

/// What all processes know of one source.
#[derive(Debug, Default)]
pub(super) struct Followed {
    /// The highest position that was told to be accepted.
    accepted: Option<u64>,
    /// The highest one that was tried.
    tried: Option<u64>,
    /// Those of which no process could tell, as a sync had failed.
    doubted: BTreeSet<u64>,
}

impl Followed {
    /// How many positions are accepted.
    pub fn count(&self) -> u64 {
        self.accepted.map_or(0, |last| last + 1)
    }
}

fn name_of(source: u32) -> String {
    format!("source-{source}")
}

impl Application {
    /// Sends the records of a source until the process ends.
    pub async fn follow(self: Rc<Self>, producer: Producer, source: u32) {
        let mut left = MOST;
        while left > 0 {
            left -= 1;
            match producer.source(&name_of(source)).await {
                Ok(lent) => self.go_on(lent, &producer, source, &mut left).await,
                Err(SourceError::InUse { name, .. }) => {
                    self.wrong(Invariant::Stuck, &format!("{name} was not given back"));
                }
                Err(why) => self.doubt(source, &why),
            }
            sleep(self.world.between(0, 1 + 2 * self.plan.pace)).await;
        }
    }

    /// Goes on with a source for a while.
    async fn go_on(&self, mut lent: Source, producer: &Producer, source: u32, left: &mut u32) {
        let world = &self.world;
        self.found(source, lent.accepted_up_to());
        while *left > 0 && world.below(20) > 0 {
            *left -= 1;
            let position = lent.accepted_up_to().map_or(0, |last| last + 1);
            let record = self.record_of(source, position);
            let patience = match world.below(4) {
                0 => world.between(0, 20),
                _ => Duration::from_secs(600),
            };
            match timeout(patience, lent.send(record, position)).await {
                Ok(Ok(_receipt)) => self.told_accepted(source, position),
                Ok(Err(SourceError::NotRising { accepted, .. })) if accepted >= position => {
                    self.told_accepted(source, accepted);
                }
                Ok(Err(why)) => self.doubt(source, &why),
                // Another call tells what became of it.
                Err(_) if world.below(2) == 0 => match lent.settle().await {
                    Ok(accepted) => self.found(source, accepted),
                    Err(why) => self.doubt(source, &why),
                },
                Err(_) => {}
            }
            if world.below(10) == 0
                && let Ok(accepted) = producer.accepted_up_to(&name_of(source)).await
            {
                self.found(source, accepted);
            }
            sleep(world.between(0, 1 + 2 * self.plan.pace)).await;
        }
    }

    fn record_of(&self, source: u32, position: u64) -> Record {
        let world = &self.world;
        let partition = world.below(world.partitions(0)) as i32;
        let tag = Tag {
            seed: world.seed,
            name: (SOURCES + source, position as u32),
            topic: 0,
            partition,
        };
        {
            let mut journal = self.journal.borrow_mut();
            let followed = journal.sources.entry(source).or_default();
            followed.tried = followed.tried.max(Some(position));
        }
        world.note("tried", &[source.into(), position as i64]);
        Record::to("topic-0")
            .partition(partition)
            .value(tag.encode(world.below(self.plan.filler) as usize))
            .timestamp(world.kafka.wall_clock())
    }

    fn told_accepted(&self, source: u32, position: u64) {
        self.world
            .note("accepted of a source", &[source.into(), position as i64]);
        let mut journal = self.journal.borrow_mut();
        let followed = journal.sources.entry(source).or_default();
        followed.accepted = followed.accepted.max(Some(position));
    }

    fn doubt(&self, source: u32, why: &SourceError) {
        self.world.note(&why.to_string(), &[source.into()]);
        if let SourceError::InDoubt { position, .. } = why {
            let mut journal = self.journal.borrow_mut();
            let followed = journal.sources.entry(source).or_default();
            followed.doubted.insert(*position);
        }
    }

    /// A source is accepted up to here. That is not less than before, and not more than was tried.
    fn found(&self, source: u32, accepted: Option<u64>) {
        let text = {
            let mut journal = self.journal.borrow_mut();
            let followed = journal.sources.entry(source).or_default();
            let wrong = accepted < followed.accepted || accepted > followed.tried;
            let text = wrong.then(|| format!("{accepted:?} of source {source}, and {followed:?}"));
            followed.accepted = followed.accepted.max(accepted);
            text
        };
        if let Some(text) = text {
            self.wrong(Invariant::Lost, &text);
        }
    }

    /// Asks once more up to where each source is accepted. Whether all was told.
    pub async fn ask_all(&self, producer: &Producer, is_last: bool) -> bool {
        let mut told = true;
        for source in 0..self.plan.sources {
            match producer.accepted_up_to(&name_of(source)).await {
                Ok(accepted) => self.found(source, accepted),
                Err(SourceError::InDoubt { .. }) if !is_last => told = false,
                Err(why) => self.wrong(Invariant::Stuck, &format!("source {source}: {why}")),
            }
        }
        told
    }
}

/// What is wrong with the records of sources. `found`: the partitions and offsets of each.
pub(super) fn check(
    application: &Application,
    found: &BTreeMap<Name, Vec<Place>>,
    rejected: &Rejected,
) -> Vec<(Invariant, String)> {
    let mut wrong = Vec::new();
    let by_id = application.names_by_id();
    let journal = application.journal.borrow();
    for (source, followed) in &journal.sources {
        let places = |position| {
            let name = (SOURCES + source, position as u32);
            found.get(&name).map_or(&[][..], Vec::as_slice)
        };
        let end = followed.count();
        for position in 0..followed.tried.map_or(0, |last| last + 1) {
            let places = places(position);
            let line = rejected.records.get(&(SOURCES + source, position as u32));
            let text =
                || format!("{position} of source {source} at {places:?}, {followed:?}, {line:?}");
            if line == Some(&true) && !places.is_empty() && !application.may_forget() {
                wrong.push((Invariant::Phantom, text()));
            }
            match places.len() {
                0 if position < end && line.is_none() => wrong.push((Invariant::Lost, text())),
                // It was sent in doubt, and not there any more after the machine had stopped.
                1.. if application.may_forget() && followed.doubted.contains(&position) => {}
                1 if position >= end => wrong.push((Invariant::Phantom, text())),
                2.. if is_twice(places, by_id) => wrong.push((Invariant::Duplicated, text())),
                _ => {}
            }
        }
        let mut line: BTreeMap<usize, (Place, u64)> = BTreeMap::new();
        for position in 0..end {
            let asked = places(position).iter();
            for place in asked.filter(|place| is_asked(place, by_id)) {
                let former = line.insert(place.1, (*place, position));
                if let Some((_, former)) = former.filter(|(before, _)| before >= place) {
                    let text = format!("{position} of source {source} before {former}");
                    wrong.push((Invariant::Reordered, text));
                }
            }
        }
    }
    wrong
}

impl Application {
    /// Whether a machine may lose what a sync has not brought to its disk.
    fn may_forget(&self) -> bool {
        self.plan.machine && self.plan.failing_syncs.is_some()
    }
}
