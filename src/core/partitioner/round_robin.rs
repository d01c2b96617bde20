//! One record here, the next record there: Java's `RoundRobinPartitioner`.

use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;

use super::{Partitioner, TopicPartitions};

/// Sends the records of each topic to its available partitions in turn, whatever their keys. Each topic
/// counts for itself, and counts every record once, so that partitions get equally many. (Java asks its
/// partitioner a second time when a record opens a batch, which skips partitions: KAFKA-9965.)
///
/// It keeps a number for each topic for as long as it lives. With `partitioner.class` set to it instead, a
/// producer forgets the numbers of topics that it does not use any more.
///
/// It makes many small batches. For throughput there is the default partitioner, which goes on to
/// another partition with each batch.
///
/// ```
/// use forebay::partitioner::{Partitioner, RoundRobin, TopicPartitions};
///
/// let round = RoundRobin::new();
/// let cluster = TopicPartitions::new(4, &[0, 1, 3]);
/// let dealt = [(); 6].map(|()| round.partition("clicks", None, None, &cluster));
/// assert_eq!(dealt, [0, 1, 3, 0, 1, 3]);
/// ```
#[derive(Debug, Default)]
pub struct RoundRobin {
    dealt: DashMap<Box<str>, AtomicU64>,
}

impl RoundRobin {
    /// Every topic starts at its first partition.
    pub fn new() -> Self {
        Self::default()
    }

    fn count(&self, topic: &str) -> u64 {
        // Looking first spares the name's allocation for all but the first record.
        if let Some(dealt) = self.dealt.get(topic) {
            return dealt.fetch_add(1, Ordering::Relaxed);
        }
        let dealt = self.dealt.entry(topic.into()).or_default();
        dealt.fetch_add(1, Ordering::Relaxed)
    }
}

impl Partitioner for RoundRobin {
    fn partition(
        &self,
        topic: &str,
        _key: Option<&[u8]>,
        _value: Option<&[u8]>,
        cluster: &TopicPartitions<'_>,
    ) -> i32 {
        cluster.pick(self.count(topic))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn deal(round: &RoundRobin, topic: &str, total: i32, available: &[i32]) -> i32 {
        let cluster = TopicPartitions::new(total, available);
        round.partition(topic, Some(b"key"), None, &cluster)
    }

    #[test]
    fn topics_count_for_themselves() {
        let round = RoundRobin::new();
        let all = [0, 1, 2];
        let a = || deal(&round, "a", 3, &all);
        let b = || deal(&round, "b", 3, &all);
        assert_eq!([a(), b(), a(), b(), a(), b()], [0, 0, 1, 1, 2, 2]);
    }

    #[test]
    fn without_a_leader_anywhere_all_partitions_take_turns() {
        let round = RoundRobin::new();
        let dealt = [(); 4].map(|()| deal(&round, "a", 3, &[]));
        assert_eq!(dealt, [0, 1, 2, 0]);
    }

    #[test]
    fn threads_share_one_count() {
        let round = RoundRobin::new();
        let dealt: Vec<i32> = std::thread::scope(|scope| {
            let threads = [(); 4].map(|()| {
                scope.spawn(|| {
                    let one = |_| deal(&round, "a", 4, &[0, 1, 2, 3]);
                    (0..1000).map(one).collect::<Vec<_>>()
                })
            });
            threads
                .into_iter()
                .flat_map(|t| t.join().unwrap())
                .collect()
        });
        for partition in 0..4 {
            let hand = dealt.iter().filter(|&&p| p == partition).count();
            assert_eq!(hand, 1000);
        }
    }

    proptest! {
        #[test]
        fn hands_differ_by_one_at_most(
            available in proptest::collection::hash_set(0i32..100, 0..40),
            records in 0usize..500,
        ) {
            let available: Vec<i32> = available.into_iter().collect();
            let round = RoundRobin::new();
            let mut hands: HashMap<i32, usize> = HashMap::new();
            for _ in 0..records {
                *hands.entry(deal(&round, "a", 100, &available)).or_default() += 1;
            }
            let dealt_to = if available.is_empty() { (0..100).collect() } else { available };
            prop_assert!(hands.keys().all(|p| dealt_to.contains(p)));
            let hand = |p: &i32| hands.get(p).copied().unwrap_or(0);
            let most = dealt_to.iter().map(hand).max().unwrap_or(0);
            let least = dealt_to.iter().map(hand).min().unwrap_or(0);
            prop_assert!(most - least <= 1);
        }
    }
}
