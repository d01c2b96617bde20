//! What must hold at the end of a seed.

use std::collections::BTreeMap;

use super::application::{Application, Known};
use super::rejected::{self, is_recreated};
use super::resumed;
use super::sources::{self, Followed, SOURCES};
use crate::check::records;
use crate::load::{Name, Tag};
use crate::tally::Invariant;

/// Where a record is: the topic, of those that had the name one after the other, the partition, the offset.
pub(super) type Place = (usize, usize, i64);

/// Looks for everything that is wrong.
pub(super) fn check(application: &Application) {
    let mut wrong = Vec::new();
    let all = read(application, &mut wrong);
    let rejected = rejected::read(application, &mut wrong);
    if !rejected.records.is_empty() && !application.is_recreated() {
        wrong.push((
            Invariant::Unconfirmed,
            "records are rejected for nothing".to_owned(),
        ));
    }
    wrong.extend(sources::check(application, &all, &rejected));
    wrong.extend(resumed::check(application, &all, &rejected));
    let found: BTreeMap<Name, Vec<Place>> = all
        .into_iter()
        .filter(|(name, _)| name.0 < SOURCES)
        .collect();
    let mut broken = |what: Invariant, text: String| wrong.push((what, text));
    let mut journal = application.journal.borrow_mut();
    let by_id = application.names_by_id();
    // What was in memory alone is lost with its process, or ends with its producer.
    let spills = application.plan.spill;
    for (name, known) in &journal.sent {
        let places = found.get(name).map_or(&[][..], Vec::as_slice);
        let line = rejected.records.get(name);
        let text = || format!("{name:?}, {known:?}, is at {places:?}, and rejected: {line:?}");
        if is_twice(places, by_id) {
            broken(Invariant::Duplicated, text());
        }
        if line == Some(&true) && !places.is_empty() {
            broken(Invariant::Phantom, text());
        }
        match known {
            Known::Tried => {}
            Known::Refused | Known::NotWritten(_) if !places.is_empty() => {
                broken(Invariant::Phantom, text());
            }
            Known::Accepted if spills => {}
            Known::NotWritten(why) | Known::Unknown(why)
                if spills
                    && (is_recreated(why) || why.starts_with("the producer was closed first")) => {}
            Known::Refused if line.is_some() => broken(Invariant::Phantom, text()),
            Known::Accepted | Known::Kept if places.is_empty() && line.is_none() => {
                broken(Invariant::Lost, text());
            }
            Known::Acked(None) if places.is_empty() => broken(Invariant::Lost, text()),
            Known::Acked(Some(offset)) if !places.iter().any(|place| place.2 == *offset) => {
                broken(Invariant::Lost, text());
            }
            // The journal had not heard of it when the process ended.
            Known::Acked(_) if line == Some(&true) => broken(Invariant::Phantom, text()),
            // It waits on the disk, whatever happens to brokers.
            Known::NotWritten(why) | Known::Unknown(why) if !is_recreated(why) => {
                broken(Invariant::Unconfirmed, text());
            }
            Known::NotWritten(_) if line != Some(&true) => broken(Invariant::Lost, text()),
            Known::Unknown(_) if line.is_none() => broken(Invariant::Lost, text()),
            _ => {}
        }
    }
    // Nothing keeps out what a former process may have had on its way, and had in memory alone.
    let is_same = |one: &Name, other: &Name| journal.processes[one] == journal.processes[other];
    for (former, name) in out_of_order(&found, by_id) {
        if spills && !is_same(&former, &name) {
            continue;
        }
        broken(Invariant::Reordered, format!("{name:?} before {former:?}"));
    }
    let known: Vec<_> = journal.sent.values().cloned().collect();
    let positions: u64 = journal.sources.values().map(Followed::count).sum();
    let tally = &mut journal.tally;
    tally.positions += positions;
    for known in known {
        match known {
            Known::Tried => tally.in_doubt += 1,
            Known::Refused => tally.refused += 1,
            _ => tally.accepted += 1,
        }
        match known {
            Known::Acked(_) => tally.acked += 1,
            Known::NotWritten(_) => tally.not_written += 1,
            Known::Unknown(_) => tally.unknown += 1,
            Known::Kept => tally.kept += 1,
            Known::Tried | Known::Refused | Known::Accepted => {}
        }
    }
    drop(journal);
    for (what, text) in wrong {
        application.wrong(what, &text);
    }
}

/// Whether a record is there twice. What was sent by name, and whose answer was lost, may be in two topics.
pub(super) fn is_twice(places: &[Place], by_id: bool) -> bool {
    let twice = |pair: &[Place]| by_id || pair[0].0 == pair[1].0;
    places.windows(2).any(twice)
}

/// Whether order is asked there. What was sent by name may come late, and be in a topic that was created
/// meanwhile, which knows no producer.
pub(super) fn is_asked(place: &Place, by_id: bool) -> bool {
    by_id || place.0 == 0
}

/// Pairs of records of one partition that are the wrong way round: what was sent later is in an earlier
/// place, or in an earlier topic.
fn out_of_order(found: &BTreeMap<Name, Vec<Place>>, by_id: bool) -> Vec<(Name, Name)> {
    let mut wrong = Vec::new();
    let mut line: BTreeMap<u32, (Place, Name)> = BTreeMap::new();
    for (name, places) in found {
        for place in places.iter().filter(|place| is_asked(place, by_id)) {
            let former = line.insert(name.0, (*place, *name));
            if let Some((_, former)) = former.filter(|(before, _)| before >= place) {
                wrong.push((former, *name));
            }
        }
    }
    wrong
}

/// The places of each record, in order.
fn read(
    application: &Application,
    wrong: &mut Vec<(Invariant, String)>,
) -> BTreeMap<Name, Vec<Place>> {
    let cluster = application.world.kafka.cluster.borrow();
    let mut found: BTreeMap<Name, Vec<Place>> = BTreeMap::new();
    let topics = (0..).zip(&cluster.topics);
    let everywhere = topics.flat_map(|(topic, it)| {
        let partitions = 0..it.partitions.len();
        partitions.map(move |partition| (topic, partition))
    });
    for (topic, partition) in everywhere {
        let Some(log) = cluster.log((topic, partition)) else {
            continue;
        };
        for (offset, value) in records(log.batches()) {
            let tag = Tag::decode(&value);
            let own = |tag: &Tag| {
                tag.seed == application.world.seed && tag.partition as usize == partition
            };
            match tag.filter(own) {
                Some(tag) => {
                    let places = found.entry(tag.name).or_default();
                    places.push((topic, partition, offset));
                }
                None => wrong.push((
                    Invariant::Misrouted,
                    format!("{tag:?} at {offset} of partition {partition}"),
                )),
            }
        }
    }
    found
}
