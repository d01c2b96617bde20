//! The routes: which topics are known, and where a record for one of their partitions goes.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use spin::mutex::SpinMutex;

use crate::core::partitioner::{Load, RoundRobin, Sticky};
use crate::core::record::same;
use crate::core::stage::Stage;

/// Every topic that is known, read by every send and written when a topic's partitions change.
#[derive(Debug)]
pub(crate) struct Topics {
    by_name: DashMap<Arc<str>, Arc<Topic>>,
    /// What keeps brokers from being asked, for those who wait in vain.
    last_error: Mutex<Option<Arc<str>>>,
}

/// One topic with its partitions: a snapshot that is replaced when partitions are added.
#[derive(Debug)]
pub(crate) struct Topic {
    pub name: Arc<str>,
    pub partitions: Vec<PartitionRoute>,
    /// The partitions that have a leader.
    pub available: Vec<i32>,
    pub sticky: Arc<Sticky>,
    pub round_robin: Arc<RoundRobin>,
    used: AtomicBool,
    /// No newer one has taken its place.
    current: AtomicBool,
    sealed: AtomicU32,
}

/// The topics that a handle has sent to: at hand without the map, and without a count.
#[derive(Default)]
pub(crate) struct TopicCache {
    /// Most handles send to one topic, and see one picture of it. Read without a lock, and never
    /// replaced: the next picture is the `last`.
    first: OnceLock<Arc<Topic>>,
    /// The last of the others. Only ever tried: whoever finds it taken asks the map.
    last: SpinMutex<Option<Arc<Topic>>>,
}

impl TopicCache {
    /// Calls `work` with the topic, if it is at hand.
    #[inline]
    pub fn with<R>(&self, name: &str, work: impl FnOnce(&Arc<Topic>) -> Option<R>) -> Option<R> {
        let last;
        let topic = match self.first.get() {
            Some(first) if first.is(name) => first,
            _ => {
                last = self.last.try_lock()?;
                last.as_ref().filter(|topic| topic.is(name))?
            }
        };
        work(topic)
    }

    /// The topic, if it is known; it is at hand from now on.
    pub fn find(&self, name: &str, topics: &Topics) -> Option<Arc<Topic>> {
        let topic = topics.get(name)?;
        let first = self.first.get_or_init(|| Arc::clone(&topic));
        if !Arc::ptr_eq(first, &topic)
            && let Some(mut last) = self.last.try_lock()
        {
            *last = Some(Arc::clone(&topic));
        }
        Some(topic)
    }
}

/// How to reach a partition.
#[derive(Debug, Clone)]
pub(crate) struct PartitionRoute {
    pub stage: Arc<Stage>,
    pub gauge: Arc<Gauge>,
}

/// What the partitioner wants to know of a partition, written by its actor: which looks at full batches
/// that nobody takes a tenth of a second after they would have lingered, at the latest.
#[derive(Debug)]
pub(crate) struct Gauge {
    started: Instant,
    batches: AtomicU32,
    /// Milliseconds since `started` at which it became ready and was not taken from, plus one.
    ready_since: AtomicU64,
}

impl Gauge {
    pub fn new(started: Instant) -> Self {
        Self {
            started,
            batches: AtomicU32::new(0),
            ready_since: AtomicU64::new(0),
        }
    }

    /// Batches without an outcome.
    pub fn queued(&self, batches: usize) {
        self.batches.store(
            u32::try_from(batches).unwrap_or(u32::MAX),
            Ordering::Relaxed,
        );
    }

    pub fn ready_since(&self, now: Instant) {
        let since = now.saturating_duration_since(self.started).as_millis() as u64 + 1;
        self.ready_since.store(since, Ordering::Relaxed);
    }

    pub fn not_ready(&self) {
        self.ready_since.store(0, Ordering::Relaxed);
    }

    /// Whether its broker has taken nothing for `timeout` although there was something.
    fn is_stuck(&self, now: Instant, timeout: Duration) -> bool {
        let since = self.ready_since.load(Ordering::Relaxed);
        let now = now.saturating_duration_since(self.started);
        since > 0 && now.saturating_sub(Duration::from_millis(since)) > timeout
    }
}

/// Batches of a topic between two looks at its partitions' queues.
const LOOK_EVERY: u32 = 32;

impl Topics {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            by_name: DashMap::new(),
            last_error: Mutex::default(),
        })
    }

    pub fn get(&self, name: &str) -> Option<Arc<Topic>> {
        self.by_name.get(name).map(|topic| Arc::clone(&topic))
    }

    pub fn insert(&self, topic: Topic) -> Arc<Topic> {
        let topic = Arc::new(topic);
        let former = self
            .by_name
            .insert(Arc::clone(&topic.name), Arc::clone(&topic));
        if let Some(former) = former {
            former.retire();
        }
        topic
    }

    pub fn remove(&self, name: &str) {
        if let Some((_, topic)) = self.by_name.remove(name) {
            topic.retire();
        }
    }

    pub fn clear(&self) {
        self.by_name.retain(|_, topic| {
            topic.retire();
            false
        });
    }

    pub fn set_last_error(&self, last_error: Option<Arc<str>>) {
        *self
            .last_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = last_error;
    }

    pub fn last_error(&self) -> Option<Arc<str>> {
        self.last_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Topic {
    pub fn new(
        name: Arc<str>,
        partitions: Vec<PartitionRoute>,
        available: Vec<i32>,
        sticky: Arc<Sticky>,
        round_robin: Arc<RoundRobin>,
    ) -> Self {
        let (used, current) = (AtomicBool::new(true), AtomicBool::new(true));
        Self {
            name,
            partitions,
            available,
            sticky,
            round_robin,
            used,
            current,
            sealed: AtomicU32::new(0),
        }
    }

    /// Whether this is the topic of that name, and the newest picture of it.
    #[inline]
    pub fn is(&self, name: &str) -> bool {
        same(&self.name, name) && self.current.load(Ordering::Relaxed)
    }

    fn retire(&self) {
        self.current.store(false, Ordering::Relaxed);
    }

    /// Marks that somebody sends to it; a plain read once it is marked.
    #[inline]
    pub fn mark_used(&self) {
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
    }

    /// Whether somebody has sent to it since the last call.
    pub fn was_used(&self) -> bool {
        self.used.swap(false, Ordering::Relaxed)
    }

    /// A batch of the topic is full: now and then the partitioner looks at all queues.
    pub fn batch_full(&self, now: Instant, availability_timeout: Option<Duration>) {
        if self
            .sealed
            .fetch_add(1, Ordering::Relaxed)
            .is_multiple_of(LOOK_EVERY)
        {
            let loads = self.partitions.iter().zip(0..).map(|(route, partition)| {
                let stuck = availability_timeout.is_some_and(|t| route.gauge.is_stuck(now, t));
                Load {
                    partition,
                    queue_len: route.gauge.batches.load(Ordering::Relaxed) as usize
                        + route.stage.queued(),
                    available: !stuck && self.available.binary_search(&partition).is_ok(),
                }
            });
            self.sticky.update(&loads.collect::<Vec<_>>());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_nobody_takes_from_is_stuck() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let timeout = Duration::from_millis(100);
        let gauge = Gauge::new(start);
        assert!(!gauge.is_stuck(at(1000), timeout), "nothing waits");
        gauge.ready_since(at(1000));
        assert!(!gauge.is_stuck(at(1101), timeout));
        assert!(gauge.is_stuck(at(1102), timeout), "to the millisecond");
        gauge.not_ready();
        assert!(!gauge.is_stuck(at(5000), timeout), "it was taken from");
    }
}
