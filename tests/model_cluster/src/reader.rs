//! What consumers see of a log.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::log::{Log, Stored};

impl Log {
    /// The aborted transactions with something between the two offsets: producer id and first offset,
    /// as a fetch response lists them (`TransactionIndex.collectAbortedTxns`).
    pub fn aborted(&self, from: i64, to: i64) -> Vec<(i64, i64)> {
        let aborted = self.ended().iter().filter(|it| !it.committed);
        aborted
            .filter(|it| it.last_offset >= from && it.first_offset < to)
            .map(|it| (it.producer_id, it.first_offset))
            .collect()
    }

    /// The batches that a consumer with `read_committed` takes records from, in order, if it has read up
    /// to this offset, which no such consumer goes beyond the last stable offset with. It decides by the
    /// list of aborted transactions and by markers, as consumers do (`CompletedFetch.nextFetchedRecord`).
    pub fn committed(&self, high_watermark: i64) -> Vec<Rc<Stored>> {
        let end = self.last_stable_offset(high_watermark);
        let mut aborted: BTreeMap<i64, BTreeSet<i64>> = BTreeMap::new();
        for (producer, first) in self.aborted(0, end) {
            aborted.entry(producer).or_default().insert(first);
        }
        let mut skipped = BTreeSet::new();
        let mut seen = Vec::new();
        for batch in self.batches().iter().take_while(|it| it.base_offset < end) {
            let producer = batch.header.producer_id;
            let begins = |first: &i64| *first <= batch.base_offset;
            if let Some(firsts) = aborted.get_mut(&producer)
                && firsts.first().is_some_and(begins)
            {
                firsts.pop_first();
                skipped.insert(producer);
            }
            match batch.marker() {
                Some(marker) if !marker.committed => drop(skipped.remove(&producer)),
                Some(_) => {}
                None if batch.header.is_transactional() && skipped.contains(&producer) => {}
                None => seen.push(Rc::clone(batch)),
            }
        }
        seen
    }

    /// The offset and the bytes of the batches from the one that has this offset, up to an offset. There
    /// is at least one, if there is any; then no more than so many bytes.
    pub(crate) fn read(&self, from: i64, to: i64, most: usize) -> Vec<Rc<Stored>> {
        let first = self.batches().partition_point(|it| it.end() <= from);
        let mut bytes = 0;
        let there = self.batches()[first..].iter();
        there
            .take_while(|it| it.end() <= to)
            .take_while(|it| {
                let fits = bytes == 0 || bytes + it.bytes.len() <= most;
                bytes += it.bytes.len();
                fits
            })
            .cloned()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Marker;
    use crate::batch::testing::data;
    use crate::log::{ReplicaState, code};

    const LEADER: ReplicaState = ReplicaState {
        leads: true,
        replicas: 1,
        in_sync: 1,
        min_in_sync: 1,
        max_message: 1_000,
    };

    /// A batch of one record. The coordinator would say that it belongs to a transaction.
    fn append(log: &mut Log, stamp: (i64, i16, i32)) -> Result<i64, i16> {
        let bytes = data(stamp, 1, true);
        let header = crate::batch::Header::read(&bytes).expect("a batch");
        let guard = log.verify(LEADER, &header, true)?;
        let appended = log.produce_verified(LEADER, -1, &bytes, guard);
        appended.map(|it| it.base_offset)
    }

    fn plain(log: &mut Log, stamp: (i64, i16, i32)) -> Result<i64, i16> {
        let appended = log.produce(LEADER, -1, &data(stamp, 1, false));
        appended.map(|it| it.base_offset)
    }

    fn end(log: &mut Log, id: i64, epoch: i16, committed: bool) -> Result<i64, i16> {
        let marker = Marker {
            producer_id: id,
            epoch,
            committed,
            coordinator_epoch: 0,
            timestamp: 1_000,
        };
        log.mark(LEADER, &marker, 2).map(|it| it.base_offset)
    }

    fn seen(log: &Log, high_watermark: i64) -> Vec<i64> {
        let seen = log.committed(high_watermark).into_iter();
        seen.map(|it| it.base_offset).collect()
    }

    #[test]
    fn a_reader_sees_all_or_nothing_of_a_transaction() {
        let mut log = Log::default();
        assert_eq!(append(&mut log, (1, 0, 0)), Ok(0));
        assert_eq!(append(&mut log, (2, 0, 0)), Ok(1));
        assert_eq!(plain(&mut log, (3, 0, 0)), Ok(2));
        assert!(seen(&log, 3).is_empty());
        assert_eq!(end(&mut log, 2, 1, true), Ok(3));
        // The first is open, and nobody reads beyond its begin.
        assert_eq!((log.last_stable_offset(4), seen(&log, 4)), (0, vec![]));
        assert_eq!(append(&mut log, (1, 0, 1)), Ok(4));
        assert_eq!(end(&mut log, 1, 1, false), Ok(5));
        assert_eq!(append(&mut log, (1, 1, 0)), Ok(6));
        assert_eq!(log.last_stable_offset(7), 6);
        assert_eq!(seen(&log, 7), [1, 2]);
        assert_eq!(end(&mut log, 1, 2, true), Ok(7));
        assert_eq!(seen(&log, 8), [1, 2, 6]);
        assert_eq!(log.aborted(0, 8), [(1, 0)]);
        assert_eq!(
            (log.aborted(6, 8), log.aborted(5, 6)),
            (vec![], vec![(1, 0)])
        );
        assert!(log.open().is_empty());
    }

    #[test]
    fn an_end_that_is_not_replicated_is_not_stable() {
        let mut log = Log::default();
        append(&mut log, (1, 0, 0)).expect("appended");
        end(&mut log, 1, 1, true).expect("marked");
        plain(&mut log, (3, 0, 0)).expect("appended");
        assert_eq!(
            [1, 2, 3].map(|mark| log.last_stable_offset(mark)),
            [0, 2, 3]
        );
        assert_eq!(
            [1, 2, 3].map(|mark| seen(&log, mark)),
            [vec![], vec![0], vec![0, 2]]
        );
        // A follower that has less knows what is open in it.
        let mut less = log.clone();
        less.lose_from(1);
        assert_eq!((less.last_stable_offset(1), less.open().len()), (0, 1));
        less.follow(&log);
        assert_eq!((less.last_stable_offset(3), less.open().len()), (3, 0));
    }

    #[test]
    fn a_marker_fences_what_came_before_it() {
        let mut log = Log::default();
        append(&mut log, (1, 0, 0)).expect("appended");
        end(&mut log, 1, 1, true).expect("marked");
        assert_eq!(
            append(&mut log, (1, 0, 1)),
            Err(code::INVALID_PRODUCER_EPOCH)
        );
        assert_eq!(
            plain(&mut log, (1, 0, 0)),
            Err(code::INVALID_PRODUCER_EPOCH)
        );
        let behind = plain(&mut log, (1, 1, 5));
        assert_eq!(behind, Err(code::OUT_OF_ORDER_SEQUENCE_NUMBER));
        // The same marker again is legal, until the next transaction is there.
        assert_eq!(end(&mut log, 1, 1, true), Ok(2));
        assert_eq!(append(&mut log, (1, 1, 0)), Ok(3));
        assert_eq!(end(&mut log, 1, 1, true), Err(code::INVALID_PRODUCER_EPOCH));
        assert_eq!(plain(&mut log, (1, 1, 1)), Err(code::INVALID_TXN_STATE));
        assert_eq!(log.open().len(), 1);
    }

    #[test]
    fn a_word_of_the_coordinator_is_good_for_one_transaction() {
        let mut log = Log::default();
        let bytes = data((1, 0, 0), 1, true);
        let header = crate::batch::Header::read(&bytes).expect("a batch");
        let unasked = log.produce(LEADER, -1, &bytes);
        assert_eq!(unasked, Err(code::INVALID_TXN_STATE));
        let guard = log.verify(LEADER, &header, false).expect("a guard");
        assert!(guard.is_some());
        // Under version 1 the marker has the same epoch: without the guard this would hang for ever.
        let marker = Marker {
            producer_id: 1,
            epoch: 0,
            committed: false,
            coordinator_epoch: 0,
            timestamp: 0,
        };
        log.mark(LEADER, &marker, 0).expect("marked");
        let late = log.produce_verified(LEADER, -1, &bytes, guard);
        assert_eq!(late, Err(code::INVALID_TXN_STATE));
        assert!(log.open().is_empty());
    }

    #[test]
    fn an_open_transaction_is_not_forgotten() {
        let mut log = Log::default();
        append(&mut log, (1, 0, 0)).expect("appended");
        plain(&mut log, (2, 0, 0)).expect("appended");
        log.reload(1_000_000, 1_000);
        assert_eq!(plain(&mut log, (2, 0, 7)), Ok(2));
        assert_eq!(
            append(&mut log, (1, 0, 7)),
            Err(code::OUT_OF_ORDER_SEQUENCE_NUMBER)
        );
        end(&mut log, 1, 1, true).expect("marked");
        log.forget_producers(1_000_000, 1_000);
        assert_eq!(plain(&mut log, (1, 0, 7)), Ok(4), "the fence is forgotten");
    }
}
