//! The table of known topics, and the routes to their partitions.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use spin::mutex::SpinMutex;

use crate::core::partitioner::{Load, RoundRobin, Sticky};
use crate::core::record::same;
use crate::core::stage::Stage;

/// All known topics. A send reads the table unless its handle has cached the topic. It is written
/// when a topic's partitions change, and when a topic is no longer used.
#[derive(Debug)]
pub(crate) struct Topics {
    by_name: DashMap<Arc<str>, Arc<Topic>>,
    /// Why the last metadata request failed. Callers that wait in vain get it with their error.
    last_error: Mutex<Option<Arc<str>>>,
}

/// One topic with its partitions. It does not change: when partitions are added or leaders come or
/// go, a newer version takes its place.
#[derive(Debug)]
pub(crate) struct Topic {
    pub name: Arc<str>,
    pub partitions: Vec<PartitionRoute>,
    /// The partitions that have a leader.
    pub available: Vec<i32>,
    pub sticky: Arc<Sticky>,
    pub round_robin: Arc<RoundRobin>,
    /// A record was sent to the topic since [`was_used`](Self::was_used) was last called.
    used: AtomicBool,
    /// No newer version has taken its place.
    current: AtomicBool,
    /// How often [`batch_full`](Self::batch_full) was called.
    full_batches: AtomicU32,
}

/// The topics that a handle has sent to. To find one here takes no look-up in the table and does
/// not change a reference count.
#[derive(Default)]
pub(crate) struct TopicCache {
    /// The first topic that was found. Most handles send to one topic and use one version of it. It
    /// is read without a lock and never replaced: a newer version goes to `last`.
    first: OnceLock<Arc<Topic>>,
    /// The last of the other topics. No thread waits for the lock: if it is taken, the thread uses
    /// the table.
    last: SpinMutex<Option<Arc<Topic>>>,
}

impl TopicCache {
    /// Calls `work` with the topic, if it is cached.
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

    /// Finds a topic in the table, and caches it.
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

/// How a caller reaches a partition.
#[derive(Debug, Clone)]
pub(crate) struct PartitionRoute {
    pub stage: Arc<Stage>,
    pub gauge: Arc<Gauge>,
}

/// What the partitioner needs to know of a partition. The partition's actor writes it. If batches
/// wait for a sender that cannot take them, the actor knows of it at the latest 100 ms after their
/// linger would be over.
#[derive(Debug)]
pub(crate) struct Gauge {
    started: Instant,
    batches: AtomicU32,
    /// Since when batches have been ready and not taken: milliseconds since `started`, plus one. 0
    /// if none are ready.
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

    /// Notes the number of batches without an outcome.
    pub fn queued(&self, batches: usize) {
        self.batches.store(
            u32::try_from(batches).unwrap_or(u32::MAX),
            Ordering::Relaxed,
        );
    }

    /// Notes since when batches have been ready for the sender.
    pub fn ready_since(&self, now: Instant) {
        let since = now.saturating_duration_since(self.started).as_millis() as u64 + 1;
        self.ready_since.store(since, Ordering::Relaxed);
    }

    /// Notes that the sender knows of no batch that is ready.
    pub fn not_ready(&self) {
        self.ready_since.store(0, Ordering::Relaxed);
    }

    /// Whether batches have been ready for longer than `timeout` and the sender took none.
    fn is_stuck(&self, now: Instant, timeout: Duration) -> bool {
        let since = self.ready_since.load(Ordering::Relaxed);
        let now = now.saturating_duration_since(self.started);
        since > 0 && now.saturating_sub(Duration::from_millis(since)) > timeout
    }
}

/// After this many full batches of a topic, the queues of its partitions are checked again.
const CHECK_EVERY: u32 = 32;

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
            full_batches: AtomicU32::new(0),
        }
    }

    /// Whether this is the topic with that name, in its newest version.
    #[inline]
    pub fn is(&self, name: &str) -> bool {
        same(&self.name, name) && self.current.load(Ordering::Relaxed)
    }

    /// Notes that a newer version took its place, or that the topic was removed.
    fn retire(&self) {
        self.current.store(false, Ordering::Relaxed);
    }

    /// Notes that a record is sent to the topic. If that was noted before, it is only a plain read.
    #[inline]
    pub fn mark_used(&self) {
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
    }

    /// Whether a record was sent to the topic since the last call.
    pub fn was_used(&self) -> bool {
        self.used.swap(false, Ordering::Relaxed)
    }

    /// Notes that a batch of the topic is full. From time to time the partitioner then gets the
    /// lengths of all queues.
    pub fn batch_full(&self, now: Instant, availability_timeout: Option<Duration>) {
        if self
            .full_batches
            .fetch_add(1, Ordering::Relaxed)
            .is_multiple_of(CHECK_EVERY)
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
