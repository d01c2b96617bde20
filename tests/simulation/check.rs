//! What must hold at the end of a seed.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use forebay::internals::batch::decompress;
use forebay::{Outcome, Unconfirmed};
use forebay_model_cluster::{Cluster, HEADER, Stored, values};

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
    /// A request that arrives late is refused once newer records are there: idempotence, epochs enough, and
    /// ids that coordinators do not forget. Under a new producer id, brokers know nothing of the old one's
    /// epochs; nor do they of a producer that they forget by the age of its records.
    pub fenced: bool,
    /// What is in doubt is looked for. Such a request that no broker refuses is found where it arrived, and
    /// told *acked*.
    pub resolved: bool,
    /// Requests name topics by their ids. A producer that names them by name does not see that one was
    /// created anew, which knows no producer: what it sends to it first may be appended behind the next.
    pub by_id: bool,
    /// Every callback is called: nothing panicked on the way to it.
    pub called: bool,
}

/// Where a record was found: the topic, which may have been deleted, the partition, the offset.
type Target = (usize, usize, i64);

/// A producer id and an epoch. Later ones are greater.
type Producer = (i64, i16);

/// Everything that is wrong, in words.
pub(super) fn check(
    seed: u64,
    promise: Promise,
    journal: &Journal,
    cluster: &Cluster,
    tally: &mut Tally,
) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut broken = |what: Invariant, text: String| {
        tally.broken[what as usize] += 1;
        wrong.push(format!("{}: {text}", what.label()));
    };
    let mut found: BTreeMap<Name, Vec<Target>> = BTreeMap::new();
    let mut producers: BTreeMap<Target, Producer> = BTreeMap::new();
    // Logs of deleted topics count, too: what was acked was in them.
    let everywhere = (0..).zip(&cluster.topics).flat_map(|(topic, it)| {
        let partitions = 0..it.partitions.len();
        partitions.map(move |partition| (topic, partition))
    });
    let number = |topic: usize| cluster.topics[topic].number;
    for (at, log) in everywhere.filter_map(|at| Some((at, cluster.log(at)?))) {
        for batch in log.batches() {
            let producer = (batch.header.producer_id, batch.header.epoch);
            let places = (batch.base_offset..batch.end()).map(|offset| (at.0, at.1, offset));
            producers.extend(places.map(|place| (place, producer)));
        }
        for (offset, value) in records(log.batches()) {
            let place = (at.0, at.1, offset);
            let Some(tag) = Tag::decode(&value) else {
                broken(
                    Invariant::Misrouted,
                    format!("bytes nobody sent at {place:?}"),
                );
                continue;
            };
            let meant = tag.partition < 0 || tag.partition as usize == at.1;
            if tag.seed != seed || tag.topic as usize != number(at.0) || !meant {
                broken(Invariant::Misrouted, format!("{tag:?} at {place:?}"));
            }
            found.entry(tag.name).or_default().push(place);
        }
    }
    for (name, places) in &found {
        // A topic that was created anew knows nothing of what was in the old one.
        let twice = |pair: &[Target]| pair[0].0 == pair[1].0;
        if promise.once && places.windows(2).any(twice) {
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
        let own =
            |place: &&Target| (number(place.0), place.1) != (sent.topic, sent.partition as usize);
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
        let anew = |topic: usize| {
            let earlier = &cluster.topics[..topic];
            earlier.iter().any(|it| it.number == number(topic))
        };
        let asked = |topic: usize| promise.by_id || !anew(topic);
        for (earlier, later) in out_of_order(promise, journal, (&found, &producers), asked) {
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

/// Offsets and values, but for markers.
pub(super) fn records(batches: &[Rc<Stored>]) -> Vec<(i64, Bytes)> {
    let mut all = Vec::new();
    for batch in batches.iter().filter(|it| !it.header.is_control()) {
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

/// The first place of a record in a log, and where the record stands in the order of sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Placed {
    order: usize,
    offset: i64,
    producer: Producer,
    name: Name,
}

/// Whether the two are the wrong way round.
fn is_out_of_order(promise: Promise, earlier: &Placed, later: &Placed) -> bool {
    let came_late = earlier.producer < later.producer && promise.resolved && !promise.fenced;
    earlier.offset >= later.offset && !came_late
}

/// Pairs of records of one clone and one partition of a topic, as long as it is there, whose places are
/// the wrong way round. Only some topics are `asked`.
fn out_of_order(
    promise: Promise,
    journal: &Journal,
    (found, producers): (&BTreeMap<Name, Vec<Target>>, &BTreeMap<Target, Producer>),
    asked: impl Fn(usize) -> bool,
) -> Vec<(Name, Name)> {
    let mut lines: BTreeMap<_, Vec<Placed>> = BTreeMap::new();
    for (name, sent) in &journal.sent {
        let acked = matches!(sent.told.outcome(), Some(Outcome::Ok(_)));
        let mut firsts: BTreeMap<usize, Target> = BTreeMap::new();
        if acked || promise.fenced {
            for place in found.get(name).into_iter().flatten() {
                let first = firsts.entry(place.0).or_insert(*place);
                *first = (*first).min(*place);
            }
        }
        for (topic, first) in firsts.into_iter().filter(|(topic, _)| asked(*topic)) {
            let line = lines.entry((name.0, topic, sent.partition)).or_default();
            line.push(Placed {
                order: sent.order,
                offset: first.2,
                producer: producers[&first],
                name: *name,
            });
        }
    }
    let mut wrong = Vec::new();
    for line in lines.values_mut() {
        line.sort_unstable();
        let pairs = line.windows(2);
        let pairs = pairs.filter(|pair| is_out_of_order(promise, &pair[0], &pair[1]));
        wrong.extend(pairs.map(|pair| (pair[0].name, pair[1].name)));
    }
    wrong
}

#[test]
fn only_what_a_former_producer_sent_late_may_be_acked_behind_later_records() {
    let promise = Promise {
        kept: true,
        once: true,
        ordered: true,
        fenced: false,
        resolved: true,
        by_id: true,
        called: true,
    };
    let placed = |order, offset, producer| Placed {
        order,
        offset,
        producer,
        name: (0, order as u32),
    };
    let (former, next) = ((1_000, 32_766), (1_001, 32_766));
    let (late, later) = (placed(0, 13, former), placed(1, 7, next));
    assert!(!is_out_of_order(promise, &late, &later));
    let fenced = Promise {
        fenced: true,
        ..promise
    };
    assert!(is_out_of_order(fenced, &late, &later));
    let told_at_once = Promise {
        resolved: false,
        ..promise
    };
    assert!(is_out_of_order(told_at_once, &late, &later));
    let same = placed(1, 7, former);
    assert!(is_out_of_order(promise, &late, &same));
    let (sent_again, overtaken_by) = (placed(0, 13, next), placed(1, 7, former));
    assert!(is_out_of_order(promise, &sent_again, &overtaken_by));
}
