//! What must hold at the end of a seed.

use std::collections::BTreeMap;

use super::application::{Application, Known};
use super::resumed;
use super::sources::{self, Followed, SOURCES};
use crate::check::records;
use crate::load::{Name, Tag};
use crate::tally::Invariant;

/// Looks for everything that is wrong.
pub(super) fn check(application: &Application) {
    let mut wrong = Vec::new();
    let all = read(application, &mut wrong);
    wrong.extend(sources::check(application, &all));
    wrong.extend(resumed::check(
        &application.journal.borrow().heard,
        application.plan.machine,
        &all,
    ));
    let offsets =
        |places: Vec<(usize, i64)>| places.into_iter().map(|(_, offset)| offset).collect();
    let others = all.into_iter().filter(|(name, _)| name.0 < SOURCES);
    let found: BTreeMap<Name, Vec<i64>> = others
        .map(|(name, places)| (name, offsets(places)))
        .collect();
    let mut broken = |what: Invariant, text: String| wrong.push((what, text));
    let mut journal = application.journal.borrow_mut();
    // What was in memory alone is lost with its process, or ends with its producer.
    let spills = application.plan.spill;
    for (name, known) in &journal.sent {
        let places = found.get(name).map_or(&[][..], Vec::as_slice);
        let text = || format!("{name:?}, {known:?}, is at {places:?}");
        if places.len() > 1 {
            broken(Invariant::Duplicated, text());
        }
        match known {
            Known::Tried => {}
            Known::Refused | Known::NotWritten(_) if !places.is_empty() => {
                broken(Invariant::Phantom, text());
            }
            Known::Accepted if spills => {}
            Known::Accepted | Known::Kept | Known::Acked(None) if places.is_empty() => {
                broken(Invariant::Lost, text());
            }
            Known::Acked(Some(offset)) if !places.contains(offset) => {
                broken(Invariant::Lost, text());
            }
            _ => {}
        }
        // It waits on the disk, whatever happens to brokers.
        if let Known::NotWritten(why) | Known::Unknown(why) = known
            && !(spills && why.starts_with("the producer was closed first"))
        {
            broken(Invariant::Unconfirmed, text());
        }
    }
    let mut line: BTreeMap<u32, (i64, Name)> = BTreeMap::new();
    for (name, places) in &found {
        for place in places {
            let former = line.insert(name.0, (*place, *name));
            // Nothing keeps out what a former process may have had on its way, and had in memory alone.
            let is_same = |former: &Name| journal.processes[former] == journal.processes[name];
            let counts =
                |(before, former): &(i64, Name)| before >= place && (!spills || is_same(former));
            if let Some((_, former)) = former.filter(counts) {
                broken(Invariant::Reordered, format!("{name:?} before {former:?}"));
            }
        }
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

/// The partitions and offsets of each record.
fn read(
    application: &Application,
    wrong: &mut Vec<(Invariant, String)>,
) -> BTreeMap<Name, Vec<(usize, i64)>> {
    let cluster = application.world.kafka.cluster.borrow();
    let mut found: BTreeMap<Name, Vec<(usize, i64)>> = BTreeMap::new();
    for partition in 0..cluster.topics[0].partitions.len() {
        let Some(log) = cluster.log((0, partition)) else {
            continue;
        };
        for (offset, value) in records(log.batches()) {
            let tag = Tag::decode(&value);
            let own = |tag: &Tag| {
                tag.seed == application.world.seed && tag.partition as usize == partition
            };
            match tag.filter(own) {
                Some(tag) => found.entry(tag.name).or_default().push((partition, offset)),
                None => wrong.push((
                    Invariant::Misrouted,
                    format!("{tag:?} at {offset} of partition {partition}"),
                )),
            }
        }
    }
    found
}
