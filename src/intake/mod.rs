//! The intake: what happens to a record on the caller's thread until it is accepted. Interceptors
//! see it, its topic and partition are found, its size is checked, and it is appended to a batch.

mod admission;
pub(crate) mod backend;
pub(crate) mod error;
pub(crate) mod interceptor;
mod shared;
mod slice;
pub(crate) mod topics;
mod waiting;
pub(crate) mod wall_clock;

pub(crate) use admission::{Accepted, Admission, Entry, Later, Missing, Target};
pub use slice::SliceError;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tokio::sync::oneshot;

use crate::config::{Config, PartitionerKind};
use crate::core::ack::Ack;
use crate::core::batch::{HEADER_LEN, RecordRef};
use crate::core::delivery::Listener;
use crate::core::memory::{Buffer, Refusal, Shelf};
use crate::core::panics;
use crate::core::partitioner::{Partitioner, TopicPartitions, partition_for_key};
use crate::core::record::{BorrowedRecord, Record};
use crate::core::stage::{Append, AppendOptions, Appended};
use crate::intake::backend::{Backend, TopicReply};
use crate::intake::error::SendError;
use crate::intake::interceptor::{Acknowledge, Interceptor};
use crate::intake::topics::{Topic, Topics};

/// What all handles of a producer share. Unlike a handle, it does not keep the producer open.
pub(crate) struct Intake {
    pub config: Arc<Config>,
    pub topics: Arc<Topics>,
    pub shelf: Arc<Shelf>,
    pub backend: Box<dyn Backend>,
    pub interceptors: Arc<[Arc<dyn Interceptor>]>,
    pub choice: PartitionChoice,
    /// The listeners for the records of every handle: the interceptors.
    pub listeners: Arc<[Arc<dyn Listener>]>,
    /// A handle has closed the producer.
    pub closed: AtomicBool,
    /// The largest size of a batch with a single record: the lesser of `max.request.size` and
    /// `buffer.memory`.
    pub largest: usize,
}

/// How the partition is chosen for a record that names none.
pub(crate) enum PartitionChoice {
    /// By a partitioner of the application.
    Own(Arc<dyn Partitioner>),
    RoundRobin,
    /// By the sticky partitioner. With `keys`, records with a key go by the hash of their key
    /// instead.
    Sticky {
        keys: bool,
    },
}

impl PartitionChoice {
    pub fn new(config: &Config, own: Option<Arc<dyn Partitioner>>) -> Self {
        match (own, config.partitioner) {
            (Some(own), _) => Self::Own(own),
            (None, PartitionerKind::RoundRobin) => Self::RoundRobin,
            (None, kind) => Self::Sticky {
                keys: kind == PartitionerKind::Default && !config.partitioner_ignore_keys,
            },
        }
    }
}

impl Intake {
    pub fn new(
        config: Arc<Config>,
        (topics, shelf): (Arc<Topics>, Arc<Shelf>),
        backend: Box<dyn Backend>,
        interceptors: Arc<[Arc<dyn Interceptor>]>,
        partitioner: Option<Arc<dyn Partitioner>>,
    ) -> Self {
        let mut listeners: Vec<Arc<dyn Listener>> = Vec::new();
        if !interceptors.is_empty() {
            listeners.push(Arc::new(Acknowledge(Arc::clone(&interceptors))));
        }
        Self {
            choice: PartitionChoice::new(&config, partitioner),
            largest: config.max_request_size.min(config.buffer_memory),
            config,
            topics,
            shelf,
            backend,
            interceptors,
            listeners: listeners.into(),
            closed: AtomicBool::new(false),
        }
    }

    /// The record after all interceptors have seen it. Each of them may change it.
    pub fn intercepted(&self, mut record: Record) -> Result<Record, SendError> {
        for interceptor in self.interceptors.iter() {
            let name = record.topic.clone();
            let call = AssertUnwindSafe(|| interceptor.on_send(record));
            record = catch_unwind(call).map_err(|panic| {
                let error = SendError::Panicked {
                    what: "an interceptor's on_send",
                    why: panics::message(&*panic).into(),
                };
                self.refused(&name, &error);
                error
            })?;
        }
        Ok(record)
    }

    /// Tells the interceptors that a record was refused.
    pub fn refused(&self, topic: &str, error: &SendError) {
        for interceptor in self.interceptors.iter() {
            let call = AssertUnwindSafe(|| interceptor.on_error(topic, error));
            if let Err(panic) = catch_unwind(call) {
                let panic = panics::message(&*panic);
                tracing::error!(panic, "an interceptor's on_error panicked");
            }
        }
    }

    /// Appends a record to its partition's open batch. That is enough for nearly every record, and
    /// it is all that is inlined into the caller. If it is not enough or the record is refused,
    /// returns `None` and appends nothing. Then [`step`](Self::step) finds out what is needed.
    /// `receipt` makes the return value from the partition, the batch's ack and the record's index.
    #[inline]
    pub fn append_at_once<R>(
        &self,
        topic: &Topic,
        record: &BorrowedRecord<'_>,
        receipt: impl FnOnce(usize, &Arc<Ack>, u32) -> R,
    ) -> Option<R> {
        let (at, sticky) = self.target_at_once(topic, record)?;
        let route = topic.partitions.get(at)?;
        if !self.fits(record) {
            return None;
        }
        let receipt = |ack: &Arc<Ack>, index| receipt(at, ack, index);
        route.stage.append_to_open(&record.fields, sticky, receipt)
    }

    /// The partition of a record, and whether the sticky partitioner chose it. `None` if the fast
    /// path cannot tell.
    #[inline]
    pub fn target_at_once(
        &self,
        topic: &Topic,
        record: &BorrowedRecord<'_>,
    ) -> Option<(usize, bool)> {
        topic.mark_used();
        let (partition, sticky) = match (record.partition, &self.choice) {
            (Some(partition), _) => (partition, false),
            (None, PartitionChoice::Sticky { keys }) => match &record.fields.key {
                Some(key) if *keys => {
                    (partition_for_key(key, topic.partitions.len() as i32), false)
                }
                _ => (topic.sticky.current(), true),
            },
            (None, _) => return None,
        };
        let at = usize::try_from(partition).ok()?;
        (at < topic.partitions.len()).then_some((at, sticky))
    }

    /// Whether the record is small enough to be sent.
    #[inline]
    pub fn fits(&self, record: &BorrowedRecord<'_>) -> bool {
        HEADER_LEN + record.fields.upper_bound() <= self.largest
    }

    /// Appends a record if that is possible without waiting.
    #[inline(never)]
    pub fn step(
        &self,
        topic: &Arc<Topic>,
        record: &BorrowedRecord<'_>,
        options: &mut AppendOptions<'_>,
    ) -> Result<Admission<Accepted>, SendError> {
        let target = self.target(topic, record)?;
        self.append(topic, record, target, options, None)
    }

    /// The topic with this name. Waits for it if it is not known yet.
    pub async fn known_topic(&self, name: &Arc<str>) -> Result<Arc<Topic>, SendError> {
        match self.topics.get(name) {
            Some(topic) => Ok(topic),
            None => self.topic(name, self.backend.now()).await,
        }
    }

    /// Asks for a topic and waits until it is known.
    async fn topic(&self, name: &Arc<str>, asked: Instant) -> Result<Arc<Topic>, SendError> {
        loop {
            let (reply, answer) = oneshot::channel();
            self.want_topic(name, asked, reply);
            match answer.await {
                Ok(topic) => return topic,
                // The request was lost when an actor restarted. It is repeated.
                Err(_) if self.backend.is_running() && !self.is_closed() => {}
                Err(_) => return Err(SendError::Closed),
            }
        }
    }

    fn want_topic(&self, name: &Arc<str>, asked: Instant, reply: TopicReply) {
        let deadline = asked + self.config.max_block;
        self.backend.want_topic(name, asked, deadline, reply);
    }

    pub fn check_open(&self) -> Result<(), SendError> {
        match self.is_closed() {
            true => Err(SendError::Closed),
            false => Ok(()),
        }
    }

    #[inline]
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Asks for memory and waits until it is granted.
    async fn memory(&self, size: usize, asked: Instant) -> Result<Buffer, SendError> {
        let deadline = asked + self.config.max_block;
        let granted = loop {
            match self.backend.lease_memory(size, deadline).await {
                // The request was lost when an actor restarted. It is repeated.
                Err(_) if self.backend.is_running() && !self.is_closed() => {}
                granted => break granted,
            }
        };
        match granted {
            Ok(Ok(buffer)) => Ok(buffer),
            Ok(Err(Refusal::TimedOut)) => Err(SendError::NoMemory {
                waited: self.config.max_block,
                total: self.config.buffer_memory,
                why: self.topics.last_error(),
            }),
            Ok(Err(Refusal::TooLarge)) => Err(self.too_large(size)),
            Ok(Err(Refusal::Closed)) | Err(_) => Err(SendError::Closed),
        }
    }

    /// Why a partition's stage is closed: the producer ended, or only the partition failed or was
    /// retired. When the producer ends, its topics are removed.
    fn closed_stage(&self, topic: &Topic, partition: usize) -> SendError {
        let ends = self.is_closed() || !self.backend.is_running();
        match ends || self.topics.get(&topic.name).is_none() {
            true => SendError::Closed,
            false => SendError::PartitionDown {
                topic: Arc::clone(&topic.name),
                partition: partition as i32,
            },
        }
    }

    #[cold]
    fn too_large(&self, size: usize) -> SendError {
        let (key, limit) = match self.config.max_request_size.cmp(&self.config.buffer_memory) {
            std::cmp::Ordering::Greater => ("buffer.memory", self.config.buffer_memory),
            _ => ("max.request.size", self.config.max_request_size),
        };
        SendError::TooLarge { size, key, limit }
    }

    /// Chooses the partition of a record and checks its size.
    fn target(&self, topic: &Topic, record: &BorrowedRecord<'_>) -> Result<Target, SendError> {
        topic.mark_used();
        let (partition, sticky) = match record.partition {
            Some(partition) => (partition, false),
            None => self.choose(topic, &record.fields)?,
        };
        let size = HEADER_LEN + record.fields.upper_bound();
        if size > self.largest {
            return Err(self.too_large(size));
        }
        match usize::try_from(partition) {
            Ok(at) if at < topic.partitions.len() => Ok(Target {
                partition: at,
                sticky,
            }),
            _ => Err(self.out_of_range(topic, partition)),
        }
    }

    #[cold]
    fn out_of_range(&self, topic: &Topic, partition: i32) -> SendError {
        // The partition may have been added a short time ago. After a refresh, later records find
        // it.
        self.backend.refresh_metadata();
        SendError::PartitionOutOfRange {
            topic: Arc::clone(&topic.name),
            partition,
            count: topic.partitions.len(),
        }
    }

    /// Chooses the partition of a record that names none. Also returns whether the sticky
    /// partitioner chose it.
    fn choose(&self, topic: &Topic, record: &RecordRef<'_>) -> Result<(i32, bool), SendError> {
        let cluster = TopicPartitions::new(topic.partitions.len() as i32, &topic.available);
        let RecordRef { key, value, .. } = *record;
        match (&self.choice, key) {
            (PartitionChoice::Own(own), _) => {
                let call = || own.partition(&topic.name, key, value, &cluster);
                self.ask(call).map(|partition| (partition, false))
            }
            (PartitionChoice::RoundRobin, _) => {
                let next = topic
                    .round_robin
                    .partition(&topic.name, key, value, &cluster);
                Ok((next, false))
            }
            (PartitionChoice::Sticky { keys: true }, Some(key)) => {
                Ok((partition_for_key(key, cluster.total), false))
            }
            (PartitionChoice::Sticky { .. }, _) => Ok((topic.sticky.next(&cluster), true)),
        }
    }

    /// Calls the application's partitioner, which may panic.
    #[cold]
    fn ask(&self, partitioner: impl FnOnce() -> i32) -> Result<i32, SendError> {
        catch_unwind(AssertUnwindSafe(partitioner)).map_err(|panic| SendError::Panicked {
            what: "the partitioner",
            why: panics::message(&*panic).into(),
        })
    }

    /// Appends a record to its partition. If that takes memory, uses `memory`, which was granted
    /// before, or takes it from the shelf.
    fn append(
        &self,
        topic: &Arc<Topic>,
        record: &BorrowedRecord<'_>,
        mut target: Target,
        options: &mut AppendOptions<'_>,
        mut memory: Option<Buffer>,
    ) -> Result<Admission<Accepted>, SendError> {
        loop {
            let Target { partition, sticky } = target;
            options.sticky = sticky;
            let stage = &topic.partitions[partition].stage;
            let fields = &record.fields;
            let (size, begins) =
                match stage.append(fields, &mut memory, options, || self.backend.now()) {
                    Append::Closed => return Err(self.closed_stage(topic, partition)),
                    Append::Done(Appended { index, ack }) => {
                        return Ok(Admission::Accepted(Accepted {
                            partition,
                            index,
                            ack,
                        }));
                    }
                    Append::NeedsMemory { size, begins } => (size, begins),
                };
            if sticky
                && let Some(run) = begins
                && let Some(next) = self.other_partition(topic, partition, run)
                && memory.is_none()
            {
                target.partition = next;
                continue;
            }
            memory = self.shelf.take(size);
            if memory.is_none() && size < self.config.batch_size {
                memory = self.shelf.take(self.config.batch_size);
            }
            if memory.is_none() {
                let missing = Missing::Memory(Arc::clone(topic), target, size);
                return Ok(Admission::Missing(missing));
            }
        }
    }

    /// Called when a batch begins. Returns the partition that the sticky partitioner switches to,
    /// if it does so now.
    fn other_partition(&self, topic: &Topic, partition: usize, run: usize) -> Option<usize> {
        topic.batch_full(
            self.backend.now(),
            self.config.partitioner_availability_timeout,
        );
        if !topic.sticky.appended(partition as i32, run, false) {
            return None;
        }
        let total = topic.partitions.len() as i32;
        let cluster = TopicPartitions::new(total, &topic.available);
        let next = topic.sticky.next(&cluster) as usize;
        (next != partition && next < topic.partitions.len()).then_some(next)
    }
}
