//! The books of transactions: what was told of each, and whether its records agree.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::books::Books;
use crate::stream::Fate;
use crate::verdicts::{Seen, Verdicts};

/// What is known of a transaction's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Told {
    /// It has not ended.
    Nothing,
    Committed,
    /// It was to be committed, and was aborted.
    NotCommitted,
    /// An abort was asked for.
    Aborted,
    Dropped,
    /// Nobody waited for the end of its commit.
    Left,
    Unknown,
}

struct Transaction {
    /// The transactional id with the number of its instance, for whoever looks into a violation.
    by: Arc<str>,
    told: Told,
    in_doubt: bool,
    /// The accepted records: stream and number.
    records: Vec<(u32, u64)>,
}

#[derive(Default)]
pub struct Transactions {
    all: Mutex<Vec<Transaction>>,
    pub instances: AtomicU64,
    pub fenced: AtomicU64,
    /// Instances that were fenced though no other one was started.
    pub expelled: AtomicU64,
}

impl Transactions {
    /// Notes that one has begun. Returns its number.
    pub fn begin(&self, by: &Arc<str>) -> usize {
        let mut all = self.all();
        all.push(Transaction {
            by: Arc::clone(by),
            told: Told::Nothing,
            in_doubt: false,
            records: Vec::new(),
        });
        all.len() - 1
    }

    /// Notes a record that was accepted.
    pub fn holds(&self, number: usize, record: (u32, u64)) {
        self.all()[number].records.push(record);
    }

    pub fn in_doubt(&self, number: usize) {
        self.all()[number].in_doubt = true;
    }

    pub fn told(&self, number: usize, told: Told) {
        self.all()[number].told = told;
    }

    /// Bytes that they take.
    pub fn memory(&self) -> usize {
        let all = self.all();
        let records = all.iter().map(|it| it.records.capacity()).sum::<usize>();
        all.len() * size_of::<Transaction>() + records * size_of::<(u32, u64)>()
    }

    /// How many have ended.
    pub fn ended(&self) -> u64 {
        let all = self.all();
        all.iter().filter(|it| it.told != Told::Nothing).count() as u64
    }

    /// Compares what was told of each with what a reader sees of it, by stream. What was told of each
    /// record is compared already.
    pub fn check(&self, books: &Books, seen: &BTreeMap<u32, Seen>, verdicts: &mut Verdicts) {
        let streams = books.streams();
        for (number, it) in self.all().iter().enumerate() {
            let (told, by) = (it.told, &it.by);
            let name = format_args!("transaction {number} of {by}, {told:?}");
            let sees = |(stream, number): &(u32, u64)| {
                seen.get(stream).is_some_and(|seen| seen.has(*number))
            };
            let fate = |(stream, number): &(u32, u64)| {
                let stream = streams.get(*stream as usize);
                stream.and_then(|stream| stream.fate(*number))
            };
            let acked = |record: &_| matches!(fate(record), Some(Fate::Acked(_)));
            let (there, missing): (Vec<_>, Vec<_>) = it.records.iter().partition(|it| sees(it));
            let torn = !there.is_empty() && !missing.is_empty();
            verdicts.partial.add(torn.into(), || {
                format!("{name}: {there:?} are seen, and {missing:?} are not")
            });
            let differs = match told {
                Told::Committed => it.records.iter().find(|it| !acked(it)),
                Told::NotCommitted | Told::Aborted | Told::Dropped => {
                    it.records.iter().find(|it| acked(it))
                }
                Told::Nothing | Told::Left | Told::Unknown => None,
            };
            let differs = differs.filter(|_| !torn);
            verdicts.partial.add(differs.is_some().into(), || {
                let fate = differs.map(fate);
                format!("{name}: of {differs:?} was told {fate:?}")
            });
            match told {
                Told::Nothing => verdicts.unresolved.add(1, || format!("{name}")),
                // Those that were acked count already.
                Told::Committed => {
                    let lost = missing.iter().filter(|it| !acked(it)).count() as u64;
                    verdicts.lost.add(lost, || format!("{name}: {missing:?}"));
                }
                Told::NotCommitted | Told::Aborted | Told::Dropped => {
                    let told = |it: &&(u32, u64)| fate(it) == Some(Fate::Aborted);
                    let seen = there.iter().filter(|it| !told(it)).count() as u64;
                    verdicts.aborted.add(seen, || format!("{name}: {there:?}"));
                }
                Told::Left | Told::Unknown => {}
            }
        }
    }

    fn all(&self) -> MutexGuard<'_, Vec<Transaction>> {
        self.all.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl fmt::Display for Transactions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut counts: BTreeMap<Told, u64> = BTreeMap::new();
        let (mut begun, mut in_doubt) = (0, 0);
        for it in self.all().iter() {
            *counts.entry(it.told).or_default() += 1;
            begun += 1;
            in_doubt += u64::from(it.in_doubt);
        }
        let of = |told| counts.get(&told).copied().unwrap_or_default();
        let (instances, fenced) = (self.instances.load(Relaxed), self.fenced.load(Relaxed));
        let expelled = self.expelled.load(Relaxed);
        write!(
            f,
            "{begun} begun: {} committed, {} not, {} aborted, {} dropped, {} left, {} unknown, {} open; \
             {in_doubt} were in doubt; {instances} instances, {fenced} fenced, {expelled} of them by none",
            of(Told::Committed),
            of(Told::NotCommitted),
            of(Told::Aborted),
            of(Told::Dropped),
            of(Told::Left),
            of(Told::Unknown),
            of(Told::Nothing),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::Settled;

    /// A transaction of three records in two streams. What is found where these of them are seen.
    fn found(told: Told, fates: [Settled; 3], there: &[(u32, u64)]) -> Vec<(&'static str, u64)> {
        let (books, transactions) = (Books::new(), Transactions::default());
        let streams = [books.open("t", 0), books.open("t", 1)];
        let number = transactions.begin(&"id".into());
        for (fate, at) in fates.into_iter().zip([0, 0, 1]) {
            transactions.holds(number, (streams[at].id, streams[at].next()));
            streams[at].settle(fate);
        }
        transactions.told(number, told);
        let mut seen: BTreeMap<u32, Seen> = BTreeMap::new();
        for (stream, number) in there {
            seen.entry(*stream).or_default().set(*number);
        }
        let mut verdicts = Verdicts::default();
        transactions.check(&books, &seen, &mut verdicts);
        let all = verdicts.of(crate::kinds::Sending::Transactions).into_iter();
        let all = all.map(|(name, found)| (name, found.count));
        all.filter(|(_, count)| *count > 0).collect()
    }

    const ALL: [(u32, u64); 3] = [(0, 0), (0, 1), (1, 0)];

    fn acked() -> [Settled; 3] {
        [(); 3].map(|()| Settled::Acked(None))
    }

    fn aborted() -> [Settled; 3] {
        [(); 3].map(|()| Settled::Aborted)
    }

    fn unknown() -> [Settled; 3] {
        [(); 3].map(|()| Settled::Unknown)
    }

    #[test]
    fn all_or_nothing_is_not_objected_to() {
        assert_eq!(found(Told::Committed, acked(), &ALL), []);
        for told in [Told::NotCommitted, Told::Aborted, Told::Dropped] {
            assert_eq!(found(told, aborted(), &[]), []);
        }
        for told in [Told::Unknown, Told::Left] {
            assert_eq!(found(told, unknown(), &[]), []);
            assert_eq!(found(told, unknown(), &ALL), []);
        }
    }

    #[test]
    fn a_part_is_found_whatever_was_told() {
        let [first, ..] = ALL;
        assert_eq!(found(Told::Unknown, unknown(), &[first]), [("partial", 1)]);
        assert_eq!(found(Told::Left, acked(), &ALL[..2]), [("partial", 1)]);
        assert_eq!(found(Told::Committed, acked(), &ALL[1..]), [("partial", 1)]);
        assert_eq!(found(Told::Aborted, aborted(), &[first]), [("partial", 1)]);
    }

    #[test]
    fn what_was_told_of_its_records_agrees_with_its_end() {
        let one_not = [
            Settled::Acked(None),
            Settled::NotWritten,
            Settled::Acked(None),
        ];
        assert_eq!(found(Told::Committed, one_not, &ALL), [("partial", 1)]);
        let one_acked = [Settled::Aborted, Settled::Acked(None), Settled::Aborted];
        assert_eq!(found(Told::Dropped, one_acked, &[]), [("partial", 1)]);
    }

    #[test]
    fn what_is_committed_is_there_and_what_was_aborted_is_not() {
        let lost = found(Told::Committed, unknown(), &[]);
        assert_eq!(lost, [("lost", 3), ("partial", 1)]);
        assert_eq!(found(Told::Aborted, unknown(), &ALL), [("aborted", 3)]);
        assert_eq!(found(Told::Nothing, unknown(), &[]), [("unresolved", 1)]);
    }
}
