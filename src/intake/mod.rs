//! The intake: what happens to a record on the caller's thread until it is accepted. Interceptors
//! see it, its topic and partition are found, its size is checked, and it is appended to a batch.

mod admission;
pub(crate) mod backend;
pub(crate) mod deadline;
pub(crate) mod error;
pub(crate) mod interceptor;
pub(crate) mod lease;
mod shared;
mod slice;
mod source;
pub(crate) mod source_error;
pub(crate) mod topics;
mod waiting;
pub(crate) mod wall_clock;

pub(crate) use admission::{Accepted, Admission, Entry, Later, Missing, Target};
pub use slice::SliceError;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, ThreadId};
use std::time::Instant;

use tokio::sync::oneshot;

use crate::config::{Config, Durability, PartitionerKind};
use crate::core::ack::Ack;
use crate::core::batch::{HEADER_LEN, RecordRef};
use crate::core::delivery::Listener;
use crate::core::memory::{Buffer, Refusal, Shelf};
use crate::core::panics;
use crate::core::partitioner::{Partitioner, TopicPartitions, partition_for_key};
use crate::core::record::{BorrowedRecord, Record};
use crate::core::stage::{Append, AppendOptions, Appended};
use crate::core::topic_name;
use crate::core::transaction::Scope;
use crate::core::user_code::{self, HeldUp};
use crate::intake::backend::{Backend, TopicReply};
use crate::intake::deadline::{GRACE, NoAnswer, answer_by};
use crate::intake::error::{SendError, WaitsFor};
use crate::intake::interceptor::{Acknowledge, Interceptor};
use crate::intake::topics::{Topic, Topics};

/// The thread that this runs on. The standard library takes a reference to the thread for each answer.
fn this_thread() -> ThreadId {
    thread_local! {
        static HERE: ThreadId = thread::current().id();
    }
    HERE.with(|here| *here)
}

/// What a caller is told whose question the runtime does not even look at.
pub(crate) const UNANSWERED: &str =
    "the runtime does not answer: something else keeps its thread busy";

/// What all handles of a producer share. Unlike a handle, it does not keep the producer open.
pub(crate) struct Intake {
    pub config: Arc<Config>,
    pub topics: Arc<Topics>,
    pub shelf: Arc<Shelf>,
    pub backend: Arc<dyn Backend>,
    pub interceptors: Arc<[Arc<dyn Interceptor>]>,
    pub choice: Arc<PartitionChoice>,
    /// The listeners for the records of every handle: the interceptors.
    pub listeners: Arc<[Arc<dyn Listener>]>,
    /// The transaction that the records are part of, if they are of one.
    pub scope: Option<Arc<Scope>>,
    /// A handle has closed the producer.
    pub closed: AtomicBool,
    /// The thread that the actors run on.
    runtime_thread: ThreadId,
    /// A record is accepted when the spool has it on the disk.
    pub syncs: bool,
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
        backend: Arc<dyn Backend>,
        interceptors: Arc<[Arc<dyn Interceptor>]>,
        partitioner: Option<Arc<dyn Partitioner>>,
    ) -> Self {
        let mut listeners: Vec<Arc<dyn Listener>> = Vec::new();
        if !interceptors.is_empty() {
            listeners.push(Arc::new(Acknowledge(Arc::clone(&interceptors))));
        }
        Self {
            choice: Arc::new(PartitionChoice::new(&config, partitioner)),
            largest: config.max_request_size.min(config.buffer_memory),
            syncs: config.spool_dir.is_some() && config.spool_durability == Durability::Machine,
            config,
            topics,
            shelf,
            backend,
            interceptors,
            listeners: listeners.into(),
            scope: None,
            closed: AtomicBool::new(false),
            // The runtime makes it.
            runtime_thread: this_thread(),
        }
    }

    /// The intake of a transaction: it is closed with it.
    pub fn within(&self, scope: Arc<Scope>) -> Self {
        Self {
            config: Arc::clone(&self.config),
            topics: Arc::clone(&self.topics),
            shelf: Arc::clone(&self.shelf),
            backend: Arc::clone(&self.backend),
            interceptors: Arc::clone(&self.interceptors),
            choice: Arc::clone(&self.choice),
            listeners: Arc::clone(&self.listeners),
            scope: Some(scope),
            closed: AtomicBool::new(false),
            runtime_thread: self.runtime_thread,
            largest: self.largest,
            syncs: self.syncs,
        }
    }

    /// Calls code of the application. It must not wait if it holds up the actors.
    pub fn calling<R>(&self, code: impl FnOnce() -> R) -> R {
        match this_thread() == self.runtime_thread {
            true => user_code::holding_up(HeldUp::Runtime, code),
            false => code(),
        }
    }

    /// The record after all interceptors have seen it. Each of them may change it.
    pub fn intercepted(&self, mut record: Record) -> Result<Record, SendError> {
        for interceptor in self.interceptors.iter() {
            let name = record.topic.clone();
            let call = AssertUnwindSafe(|| self.calling(|| interceptor.on_send(record)));
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
            let call = AssertUnwindSafe(|| self.calling(|| interceptor.on_error(topic, error)));
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
        let (fields, stage) = (&record.fields, &route.stage);
        stage.append_to_open(fields, &self.scope, sticky, receipt)
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
        let (partition, sticky) = match (record.partition, &*self.choice) {
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
        match self.target(topic, record)? {
            Some(target) => self.append(topic, record, target, options, None),
            None => Ok(Admission::Missing(Missing::Topic)),
        }
    }

    /// The topic with this name, and with the partition if one is named. Waits if that is not known yet.
    pub async fn known_topic(
        &self,
        name: &Arc<str>,
        partition: Option<i32>,
    ) -> Result<Arc<Topic>, SendError> {
        let named = |topic: &Arc<Topic>| partition.is_none_or(|named| topic.place(named).is_some());
        match self.topics.get(name).filter(named) {
            Some(topic) => Ok(topic),
            None => {
                check_topic_name(name)?;
                check_partition(name, partition)?;
                self.topic(name, partition, self.backend.now()).await
            }
        }
    }

    /// Asks for a topic and waits until it is known, with the partition if one is named.
    async fn topic(
        &self,
        name: &Arc<str>,
        partition: Option<i32>,
        asked: Instant,
    ) -> Result<Arc<Topic>, SendError> {
        loop {
            let (reply, answer) = oneshot::channel();
            self.want_topic(name, partition, asked, reply);
            match self.answer(answer, asked).await {
                Ok(Ok(topic)) => return topic,
                // The request was lost when an actor restarted. It is repeated.
                Ok(Err(_)) if self.backend.is_running() && !self.is_closed() => {}
                Ok(Err(_)) => return Err(self.ended()),
                Err(no_answer) => return Err(self.topic_unanswered(name, no_answer)),
            }
        }
    }

    /// Waits for an answer of the runtime, for a little longer than the runtime itself waits.
    pub async fn answer<F: Future>(
        &self,
        answer: F,
        asked: Instant,
    ) -> Result<F::Output, NoAnswer> {
        let deadline = asked.checked_add(self.config.max_block + GRACE);
        answer_by(answer, deadline, || self.backend.now()).await
    }

    /// Why there is no answer to a question for a topic.
    #[cold]
    pub fn topic_unanswered(&self, topic: &Arc<str>, no_answer: NoAnswer) -> SendError {
        match no_answer {
            NoAnswer::InCallback => SendError::InCallback(WaitsFor::Topic),
            NoAnswer::TimedOut => SendError::TopicUnknown {
                topic: Arc::clone(topic),
                waited: self.config.max_block,
                why: UNANSWERED.into(),
                error: None,
            },
        }
    }

    fn want_topic(
        &self,
        name: &Arc<str>,
        partition: Option<i32>,
        asked: Instant,
        reply: TopicReply,
    ) {
        let times = (asked, asked + self.config.max_block);
        self.backend.want_topic(name, partition, times, reply);
    }

    pub fn check_open(&self) -> Result<(), SendError> {
        match self.is_closed() {
            true => Err(self.ended()),
            false => Ok(()),
        }
    }

    /// Why no record is taken any more.
    #[cold]
    fn ended(&self) -> SendError {
        let scope = self.scope.as_ref().filter(|_| !self.topics.has_ended());
        scope.map_or(SendError::Closed, |scope| SendError::TransactionEnded {
            why: scope.failed().map(|why| Arc::clone(&why.cause)),
        })
    }

    #[inline]
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Asks for memory and waits until it is granted.
    async fn memory(&self, size: usize, asked: Instant) -> Result<Buffer, SendError> {
        if user_code::must_not_wait() {
            self.shelf.ask();
            return Err(SendError::InCallback(WaitsFor::Memory));
        }
        let deadline = asked + self.config.max_block;
        let wait = self.shelf.wait();
        let granted = loop {
            let answer = self.backend.lease_memory(size, deadline);
            match self.answer(answer, asked).await {
                // The request was lost when an actor restarted. It is repeated.
                Ok(Err(_)) if self.backend.is_running() && !self.is_closed() => {}
                granted => break granted,
            }
        };
        if granted.is_ok() {
            wait.answered();
        }
        match granted {
            Ok(Ok(Ok(buffer))) => Ok(buffer),
            Ok(Ok(Err(Refusal::TimedOut))) => Err(self.no_memory(self.topics.last_error())),
            Ok(Ok(Err(Refusal::TooLarge))) => Err(self.too_large(size)),
            Ok(Ok(Err(Refusal::Closed)) | Err(_)) => Err(SendError::Closed),
            Err(NoAnswer::InCallback) => Err(SendError::InCallback(WaitsFor::Memory)),
            Err(NoAnswer::TimedOut) => Err(self.no_memory(Some(UNANSWERED.into()))),
        }
    }

    /// Waits until the spool has space again.
    async fn space(&self, asked: Instant) -> Result<(), SendError> {
        let waited = self.config.max_block;
        let answer = self.backend.wait_for_space(asked + waited);
        match self.answer(answer, asked).await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(why))) => Err(SendError::NoSpace { waited, why }),
            // The request was lost when an actor restarted.
            Ok(Err(_)) if self.backend.is_running() && !self.is_closed() => Ok(()),
            Ok(Err(_)) => Err(self.ended()),
            Err(NoAnswer::InCallback) => Err(SendError::InCallback(WaitsFor::Spool)),
            Err(NoAnswer::TimedOut) => {
                let why = UNANSWERED.into();
                Err(SendError::NoSpace { waited, why })
            }
        }
    }

    /// To be called before something is appended whose sync is waited for.
    pub fn before_sync(&self) -> u64 {
        match self.syncs {
            true => self.backend.failed_files(),
            false => 0,
        }
    }

    /// Waits until what was appended since [`before_sync`](Self::before_sync) is as durable as
    /// `forebay.spool.durability` says.
    pub async fn synced_since(&self, failed: u64) -> Result<(), SendError> {
        let Some(synced) = self.backend.synced_since(failed) else {
            return Ok(());
        };
        let in_doubt = |why: Arc<str>| SendError::InDoubt { why };
        match self.answer(synced, self.backend.now()).await {
            Ok(synced) => synced.map_err(in_doubt),
            Err(NoAnswer::InCallback) => Err(in_doubt("it was waited for in a callback".into())),
            Err(NoAnswer::TimedOut) => Err(in_doubt("the disk does not answer".into())),
        }
    }

    #[cold]
    fn no_memory(&self, why: Option<Arc<str>>) -> SendError {
        SendError::NoMemory {
            waited: self.config.max_block,
            total: self.config.buffer_memory,
            why,
        }
    }

    /// Whether the producer ends: its topics are removed for good.
    pub fn has_ended(&self) -> bool {
        self.is_closed() || self.topics.has_ended() || !self.backend.is_running()
    }

    /// Why a partition's stage is closed: the producer ended, or only the partition failed or was
    /// retired.
    pub fn closed_stage(&self, topic: &Arc<str>, partition: i32) -> SendError {
        match self.has_ended() {
            true => SendError::Closed,
            false => SendError::PartitionDown {
                topic: Arc::clone(topic),
                partition,
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

    /// Chooses the partition of a record and checks its size. `None` if the record names one that the
    /// topic is not known to have: it may have been added a short time ago.
    fn target(
        &self,
        topic: &Topic,
        record: &BorrowedRecord<'_>,
    ) -> Result<Option<Target>, SendError> {
        topic.mark_used();
        let (partition, sticky) = match record.partition {
            Some(partition) => (partition, false),
            None => self.choose(topic, &record.fields)?,
        };
        let size = HEADER_LEN + record.fields.upper_bound();
        if size > self.largest {
            return Err(self.too_large(size));
        }
        match topic.place(partition) {
            Some(partition) => Ok(Some(Target { partition, sticky })),
            None if record.partition.is_some_and(|named| named >= 0) => Ok(None),
            // No partition has a negative number, and a partitioner was told how many there are.
            None => Err(SendError::PartitionOutOfRange {
                topic: Arc::clone(&topic.name),
                partition,
                count: topic.partitions.len(),
            }),
        }
    }

    /// Chooses the partition of a record that names none. Also returns whether the sticky
    /// partitioner chose it.
    fn choose(&self, topic: &Topic, record: &RecordRef<'_>) -> Result<(i32, bool), SendError> {
        let cluster = TopicPartitions::new(topic.partitions.len() as i32, &topic.available);
        let RecordRef { key, value, .. } = *record;
        match (&*self.choice, key) {
            (PartitionChoice::Own(own), _) => {
                let call = || self.calling(|| own.partition(&topic.name, key, value, &cluster));
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
        options.scope.clone_from(&self.scope);
        loop {
            let Target { partition, sticky } = target;
            options.sticky = sticky;
            let stage = &topic.partitions[partition].stage;
            let fields = &record.fields;
            let (size, begins) =
                match stage.append(fields, &mut memory, options, || self.backend.now()) {
                    Append::Closed if topic.is_current() || self.has_ended() => {
                        return Err(self.closed_stage(&topic.name, partition as i32));
                    }
                    Append::Ended => return Err(self.ended()),
                    // It was let go of meanwhile, and has to be looked up again.
                    Append::Closed => return Ok(Admission::Missing(Missing::Topic)),
                    Append::Done(Appended { index, ack }) => {
                        return Ok(Admission::Accepted(Accepted {
                            partition,
                            index,
                            ack,
                        }));
                    }
                    Append::NotSpooled => {
                        let topic = Arc::clone(&topic.name);
                        return Err(SendError::NotSpooled { topic });
                    }
                    Append::NeedsSpace => {
                        let missing = Missing::Space(Arc::clone(topic), target);
                        return Ok(Admission::Missing(missing));
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
            let size = self.shelf.size_for(size);
            memory = self.shelf.take(size);
            if memory.is_none() && size < self.config.batch_size && !self.shelf.is_scarce() {
                memory = self.shelf.take(self.config.batch_size);
            }
            if memory.is_none() {
                let missing = Missing::Memory(Arc::clone(topic), target, size);
                return Ok(Admission::Missing(missing));
            }
        }
    }

    /// Where a record goes that has waited. The partitioner chose for it before: by now that partition may
    /// have lost its leader, or its broker may hang. What was named, or follows from a key, stays. `None`:
    /// the topic left the routes meanwhile, or the partition did, and is to be looked up again.
    fn chosen_anew(&self, topic: Arc<Topic>, target: Target) -> Option<(Arc<Topic>, Target)> {
        let topic = match topic.is_current() || self.has_ended() {
            true => topic,
            false => self.topics.get(&topic.name)?,
        };
        let Target { partition, sticky } = target;
        let total = topic.partitions.len();
        let partition = match sticky {
            true => {
                let cluster = TopicPartitions::new(total as i32, &topic.available);
                topic.place(topic.sticky.next(&cluster))
            }
            false => Some(partition).filter(|at| *at < total),
        };
        Some((
            topic,
            Target {
                partition: partition?,
                sticky,
            },
        ))
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

/// Refuses a number that no partition can have.
#[cold]
fn check_partition(topic: &str, partition: Option<i32>) -> Result<(), SendError> {
    match partition {
        Some(partition @ ..0) => Err(SendError::PartitionOutOfRange {
            topic: topic.into(),
            partition,
            count: 0,
        }),
        _ => Ok(()),
    }
}

/// Checks whether a topic can have this name. Sends do so by themselves; this is for names that come
/// from people or files, before anything is started with them.
///
/// ```
/// assert!(forebay::check_topic_name("orders").is_ok());
/// assert!(forebay::check_topic_name("all orders").is_err());
/// ```
///
/// # Errors
///
/// [`SendError::IllegalTopicName`] with the rule that it breaks.
#[cold]
pub fn check_topic_name(name: &str) -> Result<(), SendError> {
    topic_name::check(name).map_err(|why| SendError::IllegalTopicName {
        topic: name.into(),
        why: why.to_string().into(),
    })
}
