//! The table of known topics, and the routes to their partitions.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use spin::mutex::SpinMutex;

use crate::core::cluster::Denial;
use crate::core::partitioner::{Load, RoundRobin, Sticky};
use crate::core::record::same;
use crate::core::stage::Stage;

/// All known topics. A send reads the table unless its handle has cached the topic. It has one
/// writer, the RuntimeActor: when a topic's partitions change, and when a topic is no longer used or
/// is deleted.
#[derive(Debug)]
pub(crate) struct Topics {
    by_name: DashMap<Arc<str>, Arc<Topic>>,
    /// What brokers deny, and until when callers that do not wait hear so without asking again.
    denied: DashMap<Arc<str>, (Denial, Instant)>,
    /// The producer ends: no topic comes back.
    ended: AtomicBool,
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

impl PartitionRoute {
    /// Whether some of its records have no outcome yet. The RuntimeActor and the MetadataActor may
    /// ask: on the arbiter of the partition's actor no batch is between the stage and the ledger.
    pub fn holds_records(&self) -> bool {
        self.gauge.batches.load(Ordering::Relaxed) > 0 || !self.stage.is_empty()
    }
}

/// What the partitioner and the MetadataActor need to know of a partition, whose actor writes it. If batches
/// wait for a sender that cannot take them, the actor knows of it at the latest 100 ms after their
/// linger would be over.
#[derive(Debug)]
pub(crate) struct Gauge {
    started: Instant,
    batches: AtomicU32,
    /// Since when batches have been ready and not taken: milliseconds since `started`, plus one. 0
    /// if none are ready.
    ready_since: AtomicU64,
    /// There are batches, and no leader.
    waits_for_leader: AtomicBool,
}

impl Gauge {
    pub fn new(started: Instant) -> Self {
        Self {
            started,
            batches: AtomicU32::new(0),
            ready_since: AtomicU64::new(0),
            waits_for_leader: AtomicBool::new(false),
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

    /// Notes whether batches wait for a leader to be known.
    pub fn set_waits_for_leader(&self, waits: bool) {
        self.waits_for_leader.store(waits, Ordering::Relaxed);
    }

    /// Whether batches wait for a leader to be known. The MetadataActor asks brokers often while they
    /// do.
    pub fn waits_for_leader(&self) -> bool {
        self.waits_for_leader.load(Ordering::Relaxed)
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
            denied: DashMap::new(),
            ended: AtomicBool::new(false),
            last_error: Mutex::default(),
        })
    }

    pub fn get(&self, name: &str) -> Option<Arc<Topic>> {
        self.by_name.get(name).map(|topic| Arc::clone(&topic))
    }

    pub fn insert(&self, topic: Topic) -> Arc<Topic> {
        let topic = Arc::new(topic);
        self.denied.remove(&topic.name);
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

    /// The names of all topics.
    pub fn names(&self) -> Vec<Arc<str>> {
        let names = self.by_name.iter();
        names.map(|topic| Arc::clone(topic.key())).collect()
    }

    /// Whether the topic is in use: a record was sent to it since the last call, or some of its
    /// records have no outcome yet.
    pub fn is_used(&self, name: &str) -> bool {
        let topic = self.get(name);
        topic.is_some_and(|topic| {
            let holds = |route: &PartitionRoute| route.holds_records();
            topic.was_used() || topic.partitions.iter().any(holds)
        })
    }

    /// Removes all topics, because the producer ends.
    pub fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
        self.by_name.retain(|_, topic| {
            topic.retire();
            false
        });
    }

    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// Notes what brokers deny, and forgets what is over. Callers that do not wait ask again after
    /// `until`, when access may have been granted, or partitions added.
    pub fn deny(
        &self,
        denied: impl IntoIterator<Item = (Arc<str>, Denial)>,
        now: Instant,
        until: Instant,
    ) {
        self.denied.retain(|_, (_, until)| now < *until);
        for (name, denial) in denied {
            self.denied.insert(name, (denial, until));
        }
    }

    /// What brokers denied of a topic a short time ago.
    pub fn denied(&self, name: &str, now: Instant) -> Option<Denial> {
        let denied = self.denied.get(name)?;
        let (denial, until) = &*denied;
        (now < *until).then(|| denial.clone())
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
        same(&self.name, name) && self.is_current()
    }

    /// The place of a partition, if the topic has it.
    pub fn place(&self, partition: i32) -> Option<usize> {
        let at = usize::try_from(partition).ok()?;
        (at < self.partitions.len()).then_some(at)
    }

    /// Whether this is the topic's newest version, and the topic is in the table.
    pub fn is_current(&self) -> bool {
        self.current.load(Ordering::Relaxed)
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
    fn what_was_denied_is_forgotten() {
        let (topics, start) = (Topics::new(), Instant::now());
        let at = |millis| start + Duration::from_millis(millis);
        let denied = |names: &[&str]| {
            let all = names
                .iter()
                .map(|name| (Arc::from(*name), Denial::Partitions(1)));
            all.collect::<Vec<_>>()
        };
        topics.deny(denied(&["a", "b"]), at(0), at(1000));
        assert_eq!(topics.denied("a", at(999)), Some(Denial::Partitions(1)));
        assert_eq!(topics.denied("a", at(1000)), None);
        topics.deny(denied(&["b"]), at(500), at(1500));
        topics.deny(denied(&[]), at(1000), at(2000));
        assert_eq!(topics.denied.len(), 1);
        topics.deny(denied(&[]), at(1500), at(2500));
        assert!(topics.denied.is_empty());
    }

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
