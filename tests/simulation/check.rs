//! What must hold at the end of a seed.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use forebay::internals::batch::decompress;
use forebay::{Outcome, Unconfirmed};
use forebay_model_cluster::{HEADER, Log, values};

use super::load::{Journal, Name, Tag};
use super::tally::{Invariant, Tally};

/// What the configuration lets one expect.
#[derive(Debug, Clone, Copy)]
pub(super) struct Promise {
    /// Acked records stay: `acks=all`.
    pub kept: bool,
    /// No record is there twice: idempotence.
    pub once: bool,
    /// Records are in the order of sending: idempotence, or one request in flight.
    pub ordered: bool,
    /// A request that arrives late is refused once newer records are there: idempotence, and epochs
    /// enough. Under a new producer id, brokers know nothing of the old one's epochs.
    pub fenced: bool,
    /// Every callback is called: nothing panicked on the way to it.
    pub called: bool,
}

/// Where a record was found.
type Target = (usize, usize, i64);

/// Everything that is wrong, in words.
pub(super) fn check(
    seed: u64,
    promise: Promise,
    journal: &Journal,
    logs: &[((usize, usize), &Log)],
    tally: &mut Tally,
) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut broken = |what: Invariant, text: String| {
        tally.broken[what as usize] += 1;
        wrong.push(format!("{}: {text}", what.label()));
    };
    let mut found: BTreeMap<Name, Vec<Target>> = BTreeMap::new();
    for (at, log) in logs {
        for (offset, value) in records(log) {
            let place = (at.0, at.1, offset);
            let Some(tag) = Tag::decode(&value) else {
                broken(
                    Invariant::Misrouted,
                    format!("bytes nobody sent at {place:?}"),
                );
                continue;
            };
            let meant = tag.partition < 0 || tag.partition as usize == at.1;
            if tag.seed != seed || tag.topic as usize != at.0 || !meant {
                broken(Invariant::Misrouted, format!("{tag:?} at {place:?}"));
            }
            found.entry(tag.name).or_default().push(place);
        }
    }
    for (name, places) in &found {
        if promise.once && places.len() > 1 {
            broken(Invariant::Duplicated, format!("{name:?} at {places:?}"));
        }
        let Some(sent) = journal.sent.get(name) else {
            broken(
                Invariant::Phantom,
                format!("{name:?}, which was refused, at {places:?}"),
            );
            continue;
        };
        if let Some(Err(Unconfirmed::NotWritten(why))) = sent.told.outcome() {
            broken(
                Invariant::Phantom,
                format!("{name:?} ({why}) at {places:?}"),
            );
        }
        let own = |place: &&Target| (place.0, place.1) != (sent.topic, sent.partition as usize);
        if let Some(place) = places.iter().find(own) {
            broken(Invariant::Misrouted, format!("{name:?} at {place:?}"));
        }
    }
    for (name, sent) in &journal.sent {
        let outcome = sent.told.outcome();
        if sent.late || outcome.is_none() {
            broken(
                Invariant::Unresolved,
                format!("{name:?} to {}-{}", sent.topic, sent.partition),
            );
        }
        let calls = sent
            .called
            .as_ref()
            .map(|calls| calls.load(Ordering::Relaxed));
        if calls.is_some_and(|calls| calls > 1 || promise.called && calls == 0) {
            broken(
                Invariant::Unresolved,
                format!("{name:?}: called back {calls:?} times"),
            );
        }
        if let (Some(Ok(acked)), true) = (&outcome, promise.kept) {
            let places = found.get(name).map_or(&[][..], Vec::as_slice);
            let there = match acked.offset {
                Some(offset) => places.iter().any(|place| place.2 == offset),
                None => !places.is_empty(),
            };
            if !there {
                let offset = acked.offset;
                broken(
                    Invariant::Lost,
                    format!("{name:?}, acked at {offset:?}, is at {places:?}"),
                );
            }
        }
        match outcome {
            Some(Ok(_)) => tally.acked += 1,
            Some(Err(Unconfirmed::NotWritten(_))) => tally.not_written += 1,
            Some(Err(Unconfirmed::Unknown(_))) => tally.unknown += 1,
            Some(Err(other)) => unreachable!("no such outcome is known here: {other:?}"),
            None => {}
        }
    }
    if promise.ordered {
        for (earlier, later) in out_of_order(promise, journal, &found) {
            broken(
                Invariant::Reordered,
                format!("{later:?} before {earlier:?}"),
            );
        }
    }
    tally.accepted += journal.sent.len() as u64;
    tally.refused += journal.refused;
    wrong
}

/// Offsets and values.
fn records(log: &Log) -> Vec<(i64, Bytes)> {
    let mut all = Vec::new();
    for batch in log.batches() {
        let bytes = batch.bytes.slice(HEADER..);
        let plain = match batch.header.attributes & 7 {
            0 => bytes,
            _ => {
                let plain = decompress(batch.header.attributes, &bytes, 1 << 20);
                plain.expect("compressed by us").into()
            }
        };
        all.extend((batch.base_offset..).zip(values(&plain, batch.header.count)));
    }
    all
}

/// Pairs of records of one clone and one partition whose places are the wrong way round.
fn out_of_order(
    promise: Promise,
    journal: &Journal,
    found: &BTreeMap<Name, Vec<Target>>,
) -> Vec<(Name, Name)> {
    let mut lines: BTreeMap<_, Vec<(usize, i64, Name)>> = BTreeMap::new();
    for (name, sent) in &journal.sent {
        let acked = matches!(sent.told.outcome(), Some(Outcome::Ok(_)));
        if let (true, Some(places)) = (acked || promise.fenced, found.get(name)) {
            let first = places.iter().map(|place| place.2).min().unwrap_or(-1);
            let line = lines
                .entry((name.0, sent.topic, sent.partition))
                .or_default();
            line.push((sent.order, first, *name));
        }
    }
    let mut wrong = Vec::new();
    for line in lines.values_mut() {
        line.sort_unstable();
        let pairs = line.windows(2).filter(|pair| pair[0].1 >= pair[1].1);
        wrong.extend(pairs.map(|pair| (pair[0].2, pair[1].2)));
    }
    wrong
}
