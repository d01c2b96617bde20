//! Compares the log with the outcome of each record.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use crate::books::Books;
use crate::kafka::{self, Cluster, Isolation};
use crate::kinds::Sending;
use crate::stream::{Fate, Stream, named};

/// Violations of one kind.
#[derive(Debug, Default)]
pub struct Found {
    pub count: u64,
    pub examples: Vec<String>,
}

impl Found {
    pub fn add(&mut self, count: u64, example: impl FnOnce() -> String) {
        const EXAMPLES: usize = 5;
        self.count += count;
        if count > 0 && self.examples.len() < EXAMPLES {
            self.examples.push(example());
        }
    }
}

/// The numbers of violations. Each must be 0.
#[derive(Debug, Default)]
pub struct Verdicts {
    /// Acked, but not in the log.
    pub lost: Found,
    pub duplicated: Found,
    /// After a record of its stream that was sent later.
    pub reordered: Found,
    /// In the log although its outcome was "not written", or never sent.
    pub phantom: Found,
    /// In another topic or partition than its value names, at another offset than its ack, or
    /// changed.
    pub misrouted: Found,
    /// Accepted, but without an outcome in time. Also a flush or close that did not end.
    pub unresolved: Found,
    /// Bytes of memory that were not back at the end.
    pub leaked: Found,
    /// A partition or a transactional id did not deliver again after a fault.
    pub stalled: Found,
    /// Transactions of which readers see a part, or of whose records different ends were told.
    pub partial: Found,
    /// Seen by readers although its transaction was aborted.
    pub aborted: Found,
    /// Transactions that hold readers up, and that no coordinator will end.
    pub hanging: Found,
}

/// What was read of a topic.
pub struct Read {
    pub records: u64,
    /// How many of them had an unknown outcome.
    pub unknown: u64,
    /// By the id of the stream.
    pub seen: BTreeMap<u32, Seen>,
}

impl Verdicts {
    /// Of every record, whether it was sent in a transaction or not.
    fn of_records(&self) -> [(&'static str, &Found); 8] {
        [
            ("lost", &self.lost),
            ("duplicated", &self.duplicated),
            ("reordered", &self.reordered),
            ("phantom", &self.phantom),
            ("misrouted", &self.misrouted),
            ("unresolved", &self.unresolved),
            ("leaked", &self.leaked),
            ("stalled", &self.stalled),
        ]
    }

    fn of_transactions(&self) -> [(&'static str, &Found); 3] {
        [
            ("partial", &self.partial),
            ("aborted", &self.aborted),
            ("hanging", &self.hanging),
        ]
    }

    /// What a run judges.
    pub fn of(&self, sending: Sending) -> Vec<(&'static str, &Found)> {
        let mut all = self.of_records().to_vec();
        if sending == Sending::Transactions {
            all.extend(self.of_transactions());
        }
        all
    }

    fn all(&self) -> Vec<(&'static str, &Found)> {
        self.of(Sending::Transactions)
    }

    pub fn hold(&self) -> bool {
        self.all().iter().all(|(_, found)| found.count == 0)
    }

    pub fn merge(&mut self, other: Self) {
        let pairs = [
            (&mut self.lost, other.lost),
            (&mut self.duplicated, other.duplicated),
            (&mut self.reordered, other.reordered),
            (&mut self.phantom, other.phantom),
            (&mut self.misrouted, other.misrouted),
            (&mut self.unresolved, other.unresolved),
            (&mut self.leaked, other.leaked),
            (&mut self.stalled, other.stalled),
            (&mut self.partial, other.partial),
            (&mut self.aborted, other.aborted),
            (&mut self.hanging, other.hanging),
        ];
        for (to, from) in pairs {
            to.count += from.count;
            to.examples.extend(from.examples);
        }
    }

    /// Reads a topic to its end and judges every stream that went there.
    pub fn read(
        &mut self,
        cluster: &Cluster,
        (topic, isolation): (&str, Isolation),
        books: &Books,
    ) -> kafka::Result<Read> {
        let mut check = Check::new(topic, books, self);
        cluster.read_values(topic, isolation, |partition, offset, value| {
            check.take(partition, offset, value);
        })?;
        Ok(check.end())
    }
}

struct Check<'a> {
    topic: &'a str,
    streams: Vec<Arc<Stream>>,
    seen: BTreeMap<u32, Seen>,
    /// Streams behind which another one has begun.
    over: BTreeSet<u32>,
    read: u64,
    unknown: u64,
    verdicts: &'a mut Verdicts,
}

/// Which numbers of a stream were found: a bit for each.
#[derive(Default)]
pub struct Seen {
    bits: Vec<u64>,
    behind_last: u64,
}

impl Seen {
    pub fn has(&self, number: u64) -> bool {
        let word = self.bits.get((number / 64) as usize);
        word.is_some_and(|word| word >> (number % 64) & 1 == 1)
    }

    pub fn set(&mut self, number: u64) {
        let at = (number / 64) as usize;
        if self.bits.len() <= at {
            self.bits.resize(at + 1, 0);
        }
        self.bits[at] |= 1 << (number % 64);
    }
}

impl<'a> Check<'a> {
    fn new(topic: &'a str, books: &Books, verdicts: &'a mut Verdicts) -> Self {
        Self {
            topic,
            streams: books.streams(),
            seen: BTreeMap::new(),
            over: BTreeSet::new(),
            read: 0,
            unknown: 0,
            verdicts,
        }
    }

    /// Takes the next record of the log. The records of a partition come in their order.
    fn take(&mut self, partition: i32, offset: i64, value: &[u8]) {
        self.read += 1;
        let place = format_args!("{}-{partition} offset {offset}", self.topic);
        let verdicts = &mut *self.verdicts;
        let Some(named) = named(value) else {
            return verdicts
                .misrouted
                .add(1, || format!("{place}: not as it was sent: {value:02x?}"));
        };
        let number = named.number;
        let Some(stream) = self.streams.get(named.stream as usize) else {
            return verdicts
                .phantom
                .add(1, || format!("{place}: of no stream: {named:?}"));
        };
        let who = format_args!("stream {} number {number}", named.stream);
        let elsewhere = self.topic.as_bytes() != named.topic || partition != named.partition;
        verdicts.misrouted.add(elsewhere.into(), || {
            let topic = String::from_utf8_lossy(named.topic);
            format!("{place}: {who} belongs to {topic}-{}", named.partition)
        });

        let mut former = stream.behind;
        while let Some(id) = former.filter(|id| self.over.insert(*id)) {
            former = self.streams.get(id as usize).and_then(|it| it.behind);
        }
        let fate = stream.fate(number);
        let seen = self.seen.entry(named.stream).or_default();
        // A broker that has forgotten the producer refuses no request that arrives late.
        let fenced = !stream.backfills || fate != Some(Fate::Unknown);
        if seen.has(number) {
            verdicts.duplicated.add(1, || format!("{place}: {who}"));
        } else if number < seen.behind_last && fenced {
            let after = seen.behind_last - 1;
            verdicts
                .reordered
                .add(1, || format!("{place}: {who} after {after}"));
        } else if self.over.contains(&named.stream) {
            verdicts
                .reordered
                .add(1, || format!("{place}: {who} after a newer instance"));
        }
        let first = !seen.has(number);
        seen.set(number);
        seen.behind_last = seen.behind_last.max(number + 1);

        match fate {
            // A second copy is counted as a duplicate already.
            Some(Fate::Acked(Some(shift))) if first => {
                let told = number as i64 + shift;
                verdicts.misrouted.add((told != offset).into(), || {
                    format!("{place}: {who} was acked at offset {told}")
                });
            }
            Some(Fate::Acked(_)) => {}
            Some(Fate::Unknown) => self.unknown += 1,
            Some(Fate::Aborted) => verdicts
                .aborted
                .add(1, || format!("{place}: {who} was told to be aborted")),
            Some(fate) => verdicts
                .phantom
                .add(1, || format!("{place}: {who} was {fate:?}")),
            None if number >= stream.sent() => verdicts
                .phantom
                .add(1, || format!("{place}: {who} was not sent")),
            // Counted as unresolved already.
            None => {}
        }
    }

    fn end(self) -> Read {
        let nothing = Seen::default();
        for stream in self.streams.iter().filter(|it| *it.topic == *self.topic) {
            let seen = self.seen.get(&stream.id).unwrap_or(&nothing);
            for (first, end, fate) in stream.runs() {
                if !matches!(fate, Fate::Acked(_)) {
                    continue;
                }
                for number in first.max(stream.begin())..end {
                    self.verdicts.lost.add((!seen.has(number)).into(), || {
                        let (id, topic, partition) = (stream.id, self.topic, stream.partition);
                        format!("{topic}-{partition}: stream {id} number {number}, {fate:?}")
                    });
                }
            }
        }
        Read {
            records: self.read,
            unknown: self.unknown,
            seen: self.seen,
        }
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.count)?;
        let mut examples = self.examples.iter();
        examples.try_for_each(|example| write!(f, "\n    {example}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::Settled;

    /// A stream of four acked records at offsets from 10, one not written, one unknown, one
    /// refused, one acked without an offset, and one without an outcome.
    fn books() -> Books {
        let books = Books::new();
        let stream = books.open("t", 3);
        let acked = (10..14).map(|offset| Settled::Acked(Some(offset)));
        let others = [
            Settled::NotWritten,
            Settled::Unknown,
            Settled::Refused,
            Settled::Acked(None),
        ];
        acked.chain(others).for_each(|it| stream.settle(it));
        (0..9).for_each(|number| assert_eq!(stream.next(), number));
        books
    }

    /// The violations if the log holds these numbers, from offset 10 on.
    fn found_in(books: &Books, numbers: &[u64]) -> Vec<(&'static str, u64)> {
        let stream = &books.streams()[0];
        let values = numbers.iter().map(|number| stream.value(*number));
        found(
            books,
            (10..).zip(values).map(|(offset, value)| (3, offset, value)),
        )
    }

    fn found(
        books: &Books,
        log: impl Iterator<Item = (i32, i64, Vec<u8>)>,
    ) -> Vec<(&'static str, u64)> {
        let mut verdicts = Verdicts::default();
        let mut check = Check::new("t", books, &mut verdicts);
        log.for_each(|(partition, offset, value)| check.take(partition, offset, &value));
        check.end();
        let all = verdicts.all().into_iter();
        let all = all.map(|(name, found)| (name, found.count));
        all.filter(|(_, count)| *count > 0).collect()
    }

    #[test]
    fn a_log_that_agrees_is_not_objected_to() {
        assert_eq!(found_in(&books(), &[0, 1, 2, 3, 7]), []);
        // No outcome says that these are not in the log.
        assert_eq!(found_in(&books(), &[0, 1, 2, 3, 5, 7, 8]), []);
    }

    #[test]
    fn each_violation_is_found() {
        let books = books();
        assert_eq!(found_in(&books, &[0, 1, 2, 3]), [("lost", 1)]);
        assert_eq!(found_in(&books, &[0, 1, 2, 3, 7, 2]), [("duplicated", 1)]);
        assert_eq!(found_in(&books, &[0, 1, 2, 3, 7, 5]), [("reordered", 1)]);
        for phantom in [4, 6] {
            let log = [0, 1, 2, 3, phantom, 7];
            assert_eq!(found_in(&books, &log), [("phantom", 1)]);
        }
        let never_sent = [0, 1, 2, 3, 7, 9];
        assert_eq!(found_in(&books, &never_sent), [("phantom", 1)]);
        let at_other_offsets = [5, 0, 1, 2, 3, 7];
        assert_eq!(
            found_in(&books, &at_other_offsets),
            [("reordered", 4), ("misrouted", 4)]
        );
    }

    #[test]
    fn of_old_records_only_those_may_come_late_whose_outcome_is_unknown() {
        for (outcome, violations) in [
            (Settled::Unknown, &[][..]),
            (Settled::Acked(None), &[("reordered", 1)]),
        ] {
            let books = Books::new();
            let stream = books.open_backfill("t", 3);
            for it in [outcome, Settled::Acked(None)] {
                stream.next();
                stream.settle(it);
            }
            assert_eq!(found_in(&books, &[1, 0]), violations);
        }
    }

    #[test]
    fn what_was_aborted_is_not_to_be_seen() {
        let books = books();
        let stream = &books.streams()[0];
        stream.settle(Settled::Aborted);
        assert_eq!(found_in(&books, &[0, 1, 2, 3, 7]), []);
        assert_eq!(found_in(&books, &[0, 1, 2, 3, 7, 8]), [("aborted", 1)]);
    }

    #[test]
    fn nothing_of_an_older_instance_comes_behind_a_newer_one() {
        let books = Books::new();
        let first = books.open("t", 3);
        let second = books.open_behind(Some(first.id), ("t", 3));
        let third = books.open_behind(Some(second.id), ("t", 3));
        let all = [&first, &second, &third];
        for stream in all {
            stream.next();
            stream.settle(Settled::Acked(None));
        }
        let read = |order: [usize; 3]| {
            let log = order.map(|at| (3, 0, all[at].value(0)));
            found(&books, log.into_iter())
        };
        assert_eq!(read([0, 1, 2]), []);
        assert_eq!(read([1, 0, 2]), [("reordered", 1)]);
        assert_eq!(read([2, 0, 1]), [("reordered", 2)]);
    }

    #[test]
    fn what_lies_elsewhere_or_is_changed_is_found() {
        let books = books();
        let stream = &books.streams()[0];
        let log = |number: u64, partition: i32, change: u8| {
            let numbers = [0, 1, 2, 3, 7].into_iter();
            let values = (10..).zip(numbers).map(move |(offset, it)| {
                let mut value = stream.value(it);
                let hit = it == number;
                *value.last_mut().expect("not empty") ^= if hit { change } else { 0 };
                (if hit { partition } else { 3 }, offset, value)
            });
            values.collect::<Vec<_>>().into_iter()
        };
        assert_eq!(found(&books, log(2, 4, 0)), [("misrouted", 1)]);
        assert_eq!(found(&books, log(2, 3, 1)), [("lost", 1), ("misrouted", 1)]);
    }

    #[test]
    fn what_a_deleted_topic_held_is_not_missed() {
        let books = books();
        let stream = &books.streams()[0];
        stream.begin_anew();
        assert_eq!(found_in(&books, &[]), []);
        stream.settle(Settled::Unknown);
        stream.next();
        stream.settle(Settled::Acked(Some(0)));
        assert_eq!(found_in(&books, &[]), [("lost", 1)]);
    }
}
