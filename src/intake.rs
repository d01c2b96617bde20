//! The first steps of a record's life: everything up to its acceptance.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use actix::Addr;
use tokio::sync::oneshot;

use crate::ack::Receipt;
use crate::actors::{
    LeaseMemory, MetadataActor, PoolActor, RefreshMetadata, Refusal, RuntimeActor, Wake, WantTopic,
    now,
};
use crate::batch::{HEADER_LEN, RecordRef};
use crate::config::{Config, PartitionerKind};
use crate::delivery::{Callback, Listener};
use crate::error::SendError;
use crate::interceptor::Interceptor;
use crate::panics;
use crate::partition::{Append, Extras};
use crate::partitioner::{Partitioner, TopicPartitions, partition_for_key};
use crate::pool::{Buffer, Shelf};
use crate::record::Record;
use crate::topics::{Topic, Topics};
use crate::wall_clock;

/// What every handle shares. Unlike a handle, it does not keep the producer open.
pub(crate) struct Intake {
    pub config: Arc<Config>,
    pub topics: Arc<Topics>,
    pub shelf: Arc<Shelf>,
    pub runtime: Addr<RuntimeActor>,
    pub pool: Addr<PoolActor>,
    pub metadata: Addr<MetadataActor>,
    pub interceptors: Arc<[Arc<dyn Interceptor>]>,
    pub partitioner: Option<Arc<dyn Partitioner>>,
    /// What every handle's records are told to: the interceptors.
    pub listeners: Arc<[Arc<dyn Listener>]>,
    pub closed: AtomicBool,
}

/// A record that has its topic and is on its way to a partition.
struct Placed {
    record: Record,
    timestamp: i64,
    topic: Arc<Topic>,
    partition: usize,
    /// Chosen by the sticky partitioner, which may be asked once more.
    sticky: bool,
    callback: Option<Callback>,
    memory: Option<Buffer>,
}

/// Where a placed record stands.
enum Step {
    Accepted(Receipt),
    /// A new batch is needed, and this much memory for it.
    Memory(usize),
}

impl Intake {
    /// Sends a record; see [`Producer::send`](crate::Producer::send).
    pub async fn send(
        &self,
        record: Record,
        callback: Option<Callback>,
        listeners: &[Arc<dyn Listener>],
    ) -> Result<Receipt, SendError> {
        let name = Arc::clone(&record.topic);
        let sent = self.send_or_refuse(record, callback, listeners).await;
        sent.inspect_err(|error| self.refused(&name, error))
    }

    /// Sends a record if nothing has to be waited for.
    pub fn try_send(
        &self,
        record: Record,
        callback: Option<Callback>,
        listeners: &[Arc<dyn Listener>],
    ) -> Result<Receipt, SendError> {
        let name = Arc::clone(&record.topic);
        let sent = self.try_send_or_refuse(record, callback, listeners);
        sent.inspect_err(|error| self.refused(&name, error))
    }

    async fn send_or_refuse(
        &self,
        record: Record,
        callback: Option<Callback>,
        listeners: &[Arc<dyn Listener>],
    ) -> Result<Receipt, SendError> {
        let record = self.intercepted(record)?;
        // Read when the first wait begins: a record that need not wait reads no clock.
        let mut asked = None;
        let topic = match self.topics.get(&record.topic) {
            Some(topic) => topic,
            None => {
                self.topic(&record.topic, *asked.get_or_insert_with(now))
                    .await?
            }
        };
        let mut placed = self.place(record, topic, callback)?;
        loop {
            match self.step(&mut placed, listeners)? {
                Step::Accepted(receipt) => return Ok(receipt),
                Step::Memory(size) => {
                    placed.memory = match self.shelf.take(size) {
                        Some(buffer) => Some(buffer),
                        None => Some(self.memory(size, *asked.get_or_insert_with(now)).await?),
                    };
                }
            }
        }
    }

    fn try_send_or_refuse(
        &self,
        record: Record,
        callback: Option<Callback>,
        listeners: &[Arc<dyn Listener>],
    ) -> Result<Receipt, SendError> {
        let record = self.intercepted(record)?;
        let Some(topic) = self.topics.get(&record.topic) else {
            // Whoever tries again later finds it.
            let (reply, _) = oneshot::channel();
            self.want(&record.topic, now(), reply);
            return Err(SendError::WouldBlock("the topic's metadata"));
        };
        let mut placed = self.place(record, topic, callback)?;
        loop {
            match self.step(&mut placed, listeners)? {
                Step::Accepted(receipt) => return Ok(receipt),
                Step::Memory(size) => {
                    let memory = self
                        .shelf
                        .take(size)
                        .ok_or(SendError::WouldBlock("memory"))?;
                    placed.memory = Some(memory);
                }
            }
        }
    }

    fn refused(&self, topic: &str, error: &SendError) {
        for interceptor in self.interceptors.iter() {
            let call = AssertUnwindSafe(|| interceptor.on_error(topic, error));
            if let Err(panic) = catch_unwind(call) {
                let panic = panics::message(&*panic);
                tracing::error!(panic, "an interceptor's on_error panicked");
            }
        }
    }

    fn intercepted(&self, mut record: Record) -> Result<Record, SendError> {
        if self.is_closed() {
            return Err(SendError::Closed);
        }
        for interceptor in self.interceptors.iter() {
            let call = AssertUnwindSafe(|| interceptor.on_send(record));
            record = catch_unwind(call).map_err(|panic| SendError::Panicked {
                what: "an interceptor's on_send",
                why: panics::message(&*panic).into(),
            })?;
        }
        match record.timestamp {
            Some(timestamp) if timestamp < 0 => Err(SendError::NegativeTimestamp(timestamp)),
            _ => Ok(record),
        }
    }

    fn want(
        &self,
        topic: &Arc<str>,
        asked: Instant,
        reply: oneshot::Sender<Result<Arc<Topic>, SendError>>,
    ) {
        let topic = Arc::clone(topic);
        let deadline = asked + self.config.max_block;
        self.metadata.do_send(WantTopic {
            topic,
            asked,
            deadline,
            reply,
        });
    }

    /// A topic, waited for if it is not known yet.
    pub async fn known_topic(&self, name: &Arc<str>) -> Result<Arc<Topic>, SendError> {
        match self.topics.get(name) {
            Some(topic) => Ok(topic),
            None => self.topic(name, now()).await,
        }
    }

    /// Waits for a topic to be known.
    async fn topic(&self, name: &Arc<str>, asked: Instant) -> Result<Arc<Topic>, SendError> {
        loop {
            let (reply, answer) = oneshot::channel();
            self.want(name, asked, reply);
            match answer.await {
                Ok(topic) => return topic,
                // The question was lost in a restart; it is asked again.
                Err(_) if self.metadata.connected() && !self.is_closed() => {}
                Err(_) => return Err(SendError::Closed),
            }
        }
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    async fn memory(&self, size: usize, asked: Instant) -> Result<Buffer, SendError> {
        let deadline = asked + self.config.max_block;
        let granted = loop {
            let (reply, granted) = oneshot::channel();
            self.pool.do_send(LeaseMemory {
                size,
                deadline,
                reply,
            });
            match granted.await {
                // The request was lost in a restart; it is made again.
                Err(_) if self.pool.connected() && !self.is_closed() => {}
                granted => break granted,
            }
        };
        match granted {
            Ok(Ok(buffer)) => Ok(buffer),
            Ok(Err(Refusal::TimedOut)) => Err(SendError::NoMemory {
                waited: self.config.max_block,
                total: self.config.buffer_memory,
                why: self.topics.trouble(),
            }),
            Ok(Err(Refusal::TooLarge)) => Err(self.too_large(size)),
            Ok(Err(Refusal::Closed)) | Err(_) => Err(SendError::Closed),
        }
    }

    /// Why a partition's stage takes nothing: with the producer's end the topics go, too.
    fn shut(&self, topic: &Topic, partition: usize) -> SendError {
        match self.is_closed() || self.topics.get(&topic.name).is_none() {
            true => SendError::Closed,
            false => SendError::PartitionDown {
                topic: Arc::clone(&topic.name),
                partition: partition as i32,
            },
        }
    }

    fn too_large(&self, size: usize) -> SendError {
        let (key, limit) = match self.config.max_request_size.cmp(&self.config.buffer_memory) {
            std::cmp::Ordering::Greater => ("buffer.memory", self.config.buffer_memory),
            _ => ("max.request.size", self.config.max_request_size),
        };
        SendError::TooLarge { size, key, limit }
    }

    fn place(
        &self,
        record: Record,
        topic: Arc<Topic>,
        callback: Option<Callback>,
    ) -> Result<Placed, SendError> {
        topic.mark_used();
        let (partition, sticky) = self.partition(&record, &topic)?;
        let count = topic.partitions.len();
        let Some(partition) = usize::try_from(partition).ok().filter(|at| *at < count) else {
            // Partitions may have been added that we do not know of; the next record will see.
            self.metadata.do_send(RefreshMetadata);
            let topic = Arc::clone(&topic.name);
            return Err(SendError::PartitionOutOfRange {
                topic,
                partition,
                count,
            });
        };
        let timestamp = record.timestamp.unwrap_or_else(wall_clock::millis);
        let placed = Placed {
            record,
            timestamp,
            topic,
            partition,
            sticky,
            callback,
            memory: None,
        };
        let size = HEADER_LEN + placed.parts().upper_bound();
        match size > self.config.max_request_size.min(self.config.buffer_memory) {
            true => Err(self.too_large(size)),
            false => Ok(placed),
        }
    }

    fn partition(&self, record: &Record, topic: &Topic) -> Result<(i32, bool), SendError> {
        if let Some(partition) = record.partition {
            return Ok((partition, false));
        }
        let cluster = TopicPartitions::new(topic.partitions.len() as i32, &topic.available);
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        if let Some(partitioner) = &self.partitioner {
            let call = || partitioner.partition(&topic.name, key, value, &cluster);
            let chosen = catch_unwind(AssertUnwindSafe(call));
            return chosen.map(|partition| (partition, false)).map_err(|panic| {
                SendError::Panicked {
                    what: "the partitioner",
                    why: panics::message(&*panic).into(),
                }
            });
        }
        Ok(match (self.config.partitioner, key) {
            (PartitionerKind::RoundRobin, _) => (
                topic
                    .round_robin
                    .partition(&topic.name, key, value, &cluster),
                false,
            ),
            (PartitionerKind::Default, Some(key)) if !self.config.partitioner_ignore_keys => {
                (partition_for_key(key, cluster.total), false)
            }
            _ => (topic.sticky.next(&cluster), true),
        })
    }

    /// Tries to append. Comes back with the amount of memory that is missing, if it is.
    fn step(
        &self,
        placed: &mut Placed,
        listeners: &[Arc<dyn Listener>],
    ) -> Result<Step, SendError> {
        loop {
            let Placed {
                record,
                timestamp,
                topic,
                partition,
                sticky,
                callback,
                memory,
            } = placed;
            let parts = record.parts(*timestamp);
            let door = &topic.partitions[*partition];
            let mut extras = Extras {
                callback: callback.take(),
                listeners,
                sticky: *sticky,
            };
            let appended = door.stage.append(&parts, memory, &mut extras, now);
            *callback = extras.callback.take();
            match appended {
                Append::Closed => return Err(self.shut(topic, *partition)),
                Append::Done { receipt, wake } => {
                    if wake {
                        door.addr.do_send(Wake);
                    }
                    return Ok(Step::Accepted(receipt));
                }
                Append::NeedsMemory { size, wake, run } => {
                    if wake {
                        door.addr.do_send(Wake);
                    }
                    if !*sticky {
                        return Ok(Step::Memory(size));
                    }
                    // A batch begins: the moment to go on to another partition, once.
                    topic.batch_full(now(), self.config.partitioner_availability_timeout);
                    let over = topic.sticky.appended(*partition as i32, run, false);
                    if over && memory.is_none() {
                        let total = topic.partitions.len() as i32;
                        let cluster = TopicPartitions::new(total, &topic.available);
                        let next = topic.sticky.next(&cluster) as usize;
                        if next != *partition && next < topic.partitions.len() {
                            *partition = next;
                            continue;
                        }
                    }
                    return Ok(Step::Memory(size));
                }
            }
        }
    }
}

impl Record {
    fn parts(&self, timestamp: i64) -> RecordRef<'_> {
        let Self {
            key,
            value,
            headers,
            ..
        } = self;
        RecordRef {
            key: key.as_deref(),
            value: value.as_deref(),
            headers,
            timestamp,
        }
    }
}

impl Placed {
    fn parts(&self) -> RecordRef<'_> {
        self.record.parts(self.timestamp)
    }
}
