//! Chooses the batches of many partitions that go into one request.

use std::collections::{HashSet, VecDeque};

use super::OutgoingBatch;

/// Takes batches from the front of `waiting` for one request of at most `max_bytes`. It takes at
/// least one, and stops at the first that does not fit, as Kafka's `RecordAccumulator.drain` does.
///
/// A request carries one batch of a partition. So a second batch of a partition stays, and with it
/// all later ones of that partition. The batches of a partition therefore leave in their order.
pub fn gather<P: OutgoingBatch>(waiting: &mut VecDeque<P>, max_bytes: usize) -> Vec<P> {
    let mut seen = HashSet::with_capacity(waiting.len());
    let mut bytes = 0;
    let mut goes = Vec::with_capacity(waiting.len());
    for batch in waiting.iter() {
        // Kafka allows one batch of a partition in a request.
        let first_of_its_partition = seen.insert((batch.topic(), batch.partition()));
        if first_of_its_partition {
            if bytes > 0 && bytes + batch.len() > max_bytes {
                break;
            }
            bytes += batch.len();
        }
        goes.push(first_of_its_partition);
    }
    let mut chosen = Vec::with_capacity(goes.len());
    let mut left = Vec::new();
    for (batch, goes) in waiting.drain(..goes.len()).zip(goes) {
        match goes {
            true => chosen.push(batch),
            false => left.push(batch),
        }
    }
    left.into_iter()
        .rev()
        .for_each(|batch| waiting.push_front(batch));
    chosen
}

#[cfg(test)]
mod tests {
    use super::super::outgoing_batch::tests::Batch;
    use super::*;

    #[test]
    fn one_batch_a_partition_and_the_rest_in_order() {
        let mut waiting =
            VecDeque::from([Batch("a", 1), Batch("a", 2), Batch("b", 3), Batch("a", 4)]);
        assert_eq!(gather(&mut waiting, 100), [Batch("a", 1), Batch("b", 3)]);
        assert_eq!(gather(&mut waiting, 100), [Batch("a", 2)]);
        assert_eq!(gather(&mut waiting, 100), [Batch("a", 4)]);
        assert!(gather(&mut waiting, 100).is_empty());
    }

    #[test]
    fn the_request_keeps_its_size_but_an_oversized_batch_goes_alone() {
        let mut waiting = VecDeque::from([
            Batch("a", 500),
            Batch("b", 60),
            Batch("c", 60),
            Batch("d", 40),
        ]);
        assert_eq!(gather(&mut waiting, 100), [Batch("a", 500)]);
        assert_eq!(gather(&mut waiting, 100), [Batch("b", 60)]);
        assert_eq!(gather(&mut waiting, 100), [Batch("c", 60), Batch("d", 40)]);
    }

    #[test]
    fn what_is_left_stays_in_front_of_what_was_not_looked_at() {
        let mut waiting = VecDeque::from([
            Batch("a", 50),
            Batch("a", 30),
            Batch("b", 40),
            Batch("c", 80),
            Batch("a", 5),
        ]);
        assert_eq!(gather(&mut waiting, 100), [Batch("a", 50), Batch("b", 40)]);
        assert_eq!(waiting, [Batch("a", 30), Batch("c", 80), Batch("a", 5)]);
        let mut waiting = VecDeque::from([Batch("a", 60), Batch("a", 60), Batch("b", 30)]);
        assert_eq!(gather(&mut waiting, 100), [Batch("a", 60), Batch("b", 30)]);
        assert_eq!(waiting, [Batch("a", 60)]);
    }

    #[test]
    fn a_batch_left_for_its_size_is_not_overtaken_by_its_own_partition() {
        let mut waiting = VecDeque::from([Batch("a", 90), Batch("b", 20), Batch("b", 5)]);
        assert_eq!(gather(&mut waiting, 100), [Batch("a", 90)]);
        assert_eq!(gather(&mut waiting, 100), [Batch("b", 20)]);
        assert_eq!(gather(&mut waiting, 100), [Batch("b", 5)]);
    }
}
