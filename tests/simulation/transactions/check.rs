//! What must hold at the end of a seed.

use std::collections::{BTreeMap, BTreeSet};
use std::slice;

use forebay::{Outcome, Unconfirmed};
use forebay_model_cluster::{At, Transactions, V2};

use super::application::{Application, PLACE, offset_of};
use super::journal::{Journal, Name, Sent, Told, Transaction};
use super::plan::Ending;
use super::tally::Invariant;
use super::troubles::GROUPS;
use crate::check::records;
use crate::load::Tag;
use crate::tally::{Fault, Trouble};

/// Where a record is: the partition, and the offset.
type Place = (At, i64);

/// What is in the logs.
#[derive(Default)]
struct Logs {
    /// What a `read_committed` reader sees.
    seen: BTreeMap<Name, Vec<Place>>,
    /// What is there at all.
    there: BTreeMap<Name, Vec<Place>>,
    /// Numbers of topics that were deleted: what was in them is gone.
    deleted: BTreeSet<usize>,
    /// Records that are seen since a late marker of protocol 1 has committed them with the transaction before
    /// theirs, whatever becomes of their own.
    astray: BTreeSet<Name>,
}

impl Logs {
    fn sees(&self, name: &Name) -> bool {
        self.seen.contains_key(name)
    }

    fn judges(&self, name: &Name) -> bool {
        !self.astray.contains(name)
    }

    /// Such a marker is behind a record of this transaction. Whoever looks up how it ended reads of a commit.
    fn misleads(&self, transaction: u32) -> bool {
        let of_it = (transaction, 0)..(transaction + 1, 0);
        self.astray.range(of_it).next().is_some()
    }
}

/// Looks for everything that is wrong.
pub(super) fn check(application: &Application) {
    let logs = read(application);
    let journal = application.journal.borrow();
    let mut wrong = Vec::new();
    let mut broken = |what: Invariant, text: String| wrong.push((what, text));
    whole(&journal, &logs, &mut broken);
    once_and_in_order(application, &journal, &logs, &mut broken);
    outcomes(application, &journal, &logs, &mut broken);
    reasons(application, &journal, &logs, &mut broken);
    if !application.plan.deletes {
        offsets(application, &journal, &logs, &mut broken);
    }
    drop(journal);
    for (what, text) in wrong {
        application.wrong(what, &text);
    }
}

fn read(application: &Application) -> Logs {
    let kafka = &application.world.kafka;
    let mut logs = Logs::default();
    let everywhere: Vec<At> = {
        let cluster = kafka.cluster.borrow();
        for topic in cluster.topics.iter().filter(|it| !it.exists) {
            logs.deleted.insert(topic.number);
        }
        let topics = (0..).zip(&cluster.topics);
        topics
            .flat_map(|(topic, it)| (0..it.partitions.len()).map(move |at| (topic, at)))
            .collect()
    };
    let mut foreign = Vec::new();
    for at in everywhere {
        let number = kafka.cluster.borrow().topics[at.0].number;
        let all = {
            let cluster = kafka.cluster.borrow();
            cluster
                .log(at)
                .map_or_else(Vec::new, |log| records(log.batches()))
        };
        let seen = records(&kafka.committed(at));
        let journal = application.journal.borrow();
        let ours = [(all, &mut logs.there), (seen, &mut logs.seen)];
        for (records, places) in ours {
            for (offset, value) in records {
                let place = (at, offset);
                let Some(tag) = Tag::decode(&value) else {
                    foreign.push(format!("bytes nobody sent at {place:?}"));
                    continue;
                };
                let home = journal.sent.get(&tag.name);
                let home = home.map(|it| (it.topic, it.partition as usize));
                if tag.seed != application.world.seed || home != Some((number, at.1)) {
                    foreign.push(format!("{tag:?} of {home:?} at {place:?}"));
                }
                places.entry(tag.name).or_default().push(place);
            }
        }
    }
    let astray = kafka.led_astray();
    let astray = astray
        .iter()
        .flat_map(|(_, it)| records(slice::from_ref(it)));
    let tags = astray.filter_map(|(_, value)| Tag::decode(&value));
    let names = tags.map(|tag| tag.name).filter(|name| logs.sees(name));
    logs.astray = names.collect();
    for text in foreign {
        application.wrong(Invariant::Foreign, &text);
    }
    logs
}

type Broken<'a> = dyn FnMut(Invariant, String) + 'a;

/// All or nothing of each transaction, and what was said of it.
fn whole(journal: &Journal, logs: &Logs, broken: &mut Broken<'_>) {
    let mut all: BTreeMap<u32, Vec<(Name, &Sent)>> = BTreeMap::new();
    for (name, sent) in &journal.sent {
        all.entry(name.0).or_default().push((*name, sent));
    }
    for (number, it) in (0..).zip(&journal.transactions) {
        let records = all.remove(&number).unwrap_or_default();
        let lasting = records
            .iter()
            .filter(|(name, sent)| logs.judges(name) && !logs.deleted.contains(&sent.topic));
        let (seen, missing): (Vec<_>, Vec<_>) = lasting
            .map(|(name, _)| *name)
            .partition(|name| logs.sees(name));
        let told = &it.told;
        if !seen.is_empty() && !missing.is_empty() {
            let (count, first) = (seen.len(), &missing[0]);
            let text = format!("{number}, {told:?}: {count} are there, and {first:?} is not");
            broken(Invariant::Torn, text);
        }
        match told {
            Told::Committed if !missing.is_empty() && !logs.misleads(number) => {
                broken(Invariant::Vanished, format!("{number}: {missing:?}"));
            }
            Told::Aborted(_) | Told::NotWanted => {
                let haunts = |(name, _): &&(Name, _)| logs.judges(name) && logs.sees(name);
                if let Some((name, _)) = records.iter().find(haunts) {
                    broken(Invariant::Haunting, format!("{name:?}, {told:?}"));
                }
            }
            Told::Nothing => {
                broken(Invariant::Blocked, format!("{number} has no end"));
            }
            _ => {}
        }
        if it.failed && *told == Told::Committed {
            let text = format!("{number} is committed, though its offsets failed");
            broken(Invariant::Contradicted, text);
        }
    }
}

fn once_and_in_order(
    application: &Application,
    journal: &Journal,
    logs: &Logs,
    broken: &mut Broken<'_>,
) {
    let mut partitions: BTreeMap<At, Vec<(i64, Name)>> = BTreeMap::new();
    for (name, places) in &logs.seen {
        // A topic that was created anew knows nothing of what was in the old one.
        if places.windows(2).any(|pair| pair[0].0.0 == pair[1].0.0) {
            broken(Invariant::Twice, format!("{name:?} at {places:?}"));
        }
        for (at, offset) in places {
            partitions.entry(*at).or_default().push((*offset, *name));
        }
    }
    if application.plan.deletes {
        return;
    }
    for (at, records) in &mut partitions {
        records.sort_unstable();
        let mut by_task: BTreeMap<u32, (usize, Name)> = BTreeMap::new();
        let mut by_instance: BTreeMap<usize, Name> = BTreeMap::new();
        for (_, name) in records {
            let Some(sent) = journal.sent.get(name) else {
                continue;
            };
            if let Some((order, before)) = by_task.insert(sent.task, (sent.order, *name))
                && order >= sent.order
            {
                broken(
                    Invariant::Disordered,
                    format!("{before:?} before {name:?} in {at:?}"),
                );
            }
            let instance = journal.transactions[name.0 as usize].instance;
            if let Some(before) = by_instance.insert(instance, *name)
                && before.0 > name.0
            {
                broken(
                    Invariant::Disordered,
                    format!("{before:?} before {name:?} in {at:?}"),
                );
            }
        }
    }
}

fn outcomes(application: &Application, journal: &Journal, logs: &Logs, broken: &mut Broken<'_>) {
    let panics = application.world.plan.weights[Fault::Panic as usize] > 0;
    for (name, sent) in &journal.sent {
        let told = &journal.transactions[name.0 as usize].told;
        let outcome = sent.by.outcome();
        let receipt = matches!(sent.by, super::journal::By::Receipt(_));
        let waited = sent.waited.as_ref().map(|it| it.borrow().clone());
        if sent.late || receipt && outcome.is_none() || sent.by.fate().is_none() {
            let late = sent.late;
            broken(
                Invariant::Untold,
                format!("{name:?}, {told:?}, late: {late}"),
            );
        }
        if waited.as_ref().is_some_and(|it| *it != outcome) {
            broken(
                Invariant::Untold,
                format!("{name:?}: {outcome:?}, and {waited:?}"),
            );
        }
        if let Some(called) = &sent.called {
            let called = called.lock().expect("no panic held it");
            if called.len() > 1 || called.is_empty() && !panics {
                broken(
                    Invariant::Untold,
                    format!("{name:?}: called back with {called:?}"),
                );
            }
            if called
                .first()
                .is_some_and(|it| Some(it) != outcome.as_ref())
            {
                let text = format!("{name:?}: called back with {called:?}, not {outcome:?}");
                broken(Invariant::Contradicted, text);
            }
        }
        let Some(outcome) = outcome else {
            continue;
        };
        let places = logs.seen.get(name).map_or(&[][..], Vec::as_slice);
        let lasting = !logs.deleted.contains(&sent.topic) && !logs.misleads(name.0);
        let agrees = match (&outcome, told) {
            (Ok(_), Told::Committed | Told::Left) => true,
            (Ok(_), _) | (Err(_), Told::Committed) => false,
            (Err(Unconfirmed::Unknown(_)), it) => matches!(it, Told::Unknown(_) | Told::Left),
            (Err(_), _) => true,
        };
        let is_there = match &outcome {
            Ok(acked) if lasting => places
                .iter()
                .any(|(_, offset)| acked.offset.is_none_or(|it| it == *offset)),
            Ok(_) | Err(Unconfirmed::Unknown(_)) => true,
            Err(Unconfirmed::NotWritten(_)) => !logs.there.contains_key(name),
            Err(_) if !logs.judges(name) => true,
            Err(_) => places.is_empty(),
        };
        if !agrees || !is_there {
            let text = format!("{name:?}: {outcome:?}, {told:?}, seen at {places:?}");
            broken(Invariant::Contradicted, text);
        }
    }
}

/// That nobody knows the end of a transaction, and that an instance is fenced, has a reason: the log, too,
/// must not be able to tell.
fn reasons(application: &Application, journal: &Journal, logs: &Logs, broken: &mut Broken<'_>) {
    let world = &application.world;
    let troubles = *world.chronicle.troubles.borrow();
    let happened = |trouble: Trouble| troubles[trouble as usize] > 0;
    let transactions = world.plan.kafka.transactions.unwrap_or(Transactions::FAIR);
    let taken = happened(Trouble::TakenOver) || happened(Trouble::Second);
    // A coordinator that aborts what took too long fences its producer in the first protocol.
    let timed_out = happened(Trouble::TimedOut) && transactions.version < V2;
    let forgotten = transactions.expiration < Transactions::FAIR.expiration;
    let passed = taken || timed_out || forgotten;
    for instance in &journal.fenced {
        let all = (0..).zip(&journal.transactions);
        let last = all.filter(|(_, it)| it.instance == *instance).last();
        let tells =
            |(number, it): (u32, &Transaction)| tells_time(&it.told) && !logs.misleads(number);
        let tells_end = last.is_some_and(tells);
        let looks_taken = timed_out && !tells_end;
        // It has ended all that it began, and its coordinator has one open and aborts it.
        let by_itself = happened(Trouble::Reopened) && transactions.version < V2 && tells_end;
        if !taken && !forgotten && !looks_taken && !by_itself {
            let told = last.map(|it| &it.1.told);
            broken(Invariant::Fenced, format!("instance {instance}, {told:?}"));
        }
    }
    // Nobody looks for what is not known by then.
    if application.plan.ending == Ending::ClosedEarly || application.plan.fragile {
        return;
    }
    for (number, it) in (0..).zip(&journal.transactions) {
        let records = journal.sent.range((number, 0)..(number + 1, 0));
        let records: Vec<_> = records.map(|(_, sent)| sent).collect();
        let unknown =
            |sent: &&Sent| matches!(sent.by.outcome(), Some(Err(Unconfirmed::Unknown(_))));
        let is_unknown = matches!(it.told, Told::Unknown(_)) || records.iter().any(unknown);
        // Its marker is behind such a record.
        let has_place = |sent: &&Sent| {
            let fate = sent.by.fate();
            fate.is_some_and(|fate| fate.is_ok_and(|it| it.offset.is_some()))
        };
        let is_legible =
            world.plan.kafka.readable && !application.plan.deletes && records.iter().any(has_place);
        if is_unknown && (is_legible || !passed) {
            broken(Invariant::Unsure, format!("{number}: {:?}", it.told));
        }
    }
}

/// Whether a producer can know that the time of this transaction was over, and that nobody has fenced it: by
/// all answers to its commit, or by its marker. An abort whose answer was missed may have been carried out,
/// and no log is read for it.
fn tells_time(told: &Told) -> bool {
    match told {
        Told::Committed => true,
        Told::Aborted(why) => why.starts_with("EndTxn"),
        _ => false,
    }
}

/// A group's offsets are those of the last transaction that was committed.
fn offsets(application: &Application, journal: &Journal, logs: &Logs, broken: &mut Broken<'_>) {
    let groups = application.world.kafka.groups.borrow();
    for group in GROUPS {
        let place = (PLACE.0.to_owned(), PLACE.1);
        let now = groups.get(group).and_then(|it| it.committed.get(&place));
        let mut possible = vec![None];
        for (number, it) in (0..).zip(&journal.transactions) {
            if !it.offsets.contains_key(group) {
                continue;
            }
            match it.told {
                Told::Committed if !logs.misleads(number) => {
                    possible = vec![Some(offset_of(number))];
                }
                Told::Committed | Told::Unknown(_) | Told::Left => {
                    possible.push(Some(offset_of(number)))
                }
                _ => {}
            }
        }
        if !possible.contains(&now.copied()) {
            broken(
                Invariant::Misplaced,
                format!("{group}: {now:?}, not {possible:?}"),
            );
        }
    }
}

/// Counts what became of the records.
pub(super) fn count(journal: &mut Journal) {
    let mut outcomes = [0; 4];
    for sent in journal.sent.values() {
        let told: Option<Outcome> = sent.by.outcome();
        let at = match told {
            Some(Ok(_)) => 0,
            Some(Err(Unconfirmed::NotWritten(_))) => 1,
            Some(Err(Unconfirmed::Aborted(_))) => 2,
            Some(Err(_)) => 3,
            None => continue,
        };
        outcomes[at] += 1;
    }
    journal.tally.outcomes = outcomes;
    journal.tally.records = journal.sent.len() as u64;
}
