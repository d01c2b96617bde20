//! The handle an application holds.

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use actix::prelude::*;
use tokio::sync::oneshot;
use tokio::task::LocalSet;

use crate::actors::lifecycle::CloseError;
use crate::actors::lifecycle::{Lifecycle, Supervise};
use crate::actors::{
    Close, Flush, GetFigures, GetPartition, LastHandleDropped, PartitionActor, Runtime,
    RuntimeActor, RuntimeSpec, SendRecord, Subscribe, ToRecipient,
};
use crate::api::error::StartError;
use crate::config::Config;
use crate::core::ack::Receipt;
use crate::core::delivery::{BatchOutcome, Listener};
use crate::core::figures::Figures;
use crate::core::outcome::Outcome;
use crate::core::partitioner::Partitioner;
use crate::core::receipts::Receipts;
use crate::core::record::{AsRecord, Record, TopicPartition};
use crate::core::stage::AppendOptions;
use crate::core::supervision::Component;
use crate::intake::error::{SendError, TrySendError};
use crate::intake::interceptor::Interceptor;
use crate::intake::topics::TopicCache;
use crate::intake::{Intake, SliceError};

/// Where the runtime's actors run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Placement {
    /// On a thread of the runtime's own, which ends when the producer is closed. The default.
    #[default]
    OwnThread,
    /// On the arbiter (or tokio `LocalSet`) that `start` is called on. Awaited sends from there
    /// are quickest, and share its time with everything else that runs there. When its `System`
    /// stops first, what was not delivered is lost.
    CurrentArbiter,
}

/// Sends records to Kafka.
///
/// A cheap handle: clone it, move it to any thread, use it on any tokio runtime. Records that one
/// clone sends to one partition are written in the order in which its `send` calls returned.
///
/// # How it ends
///
/// - [`close`](Self::close) delivers what was accepted, for as long as it is told, and settles the
///   rest. Afterwards every outcome is there, and no actor and no thread is left.
/// - When the last clone is dropped the runtime delivers what it holds, for `delivery.timeout.ms` at
///   most, and ends. Nobody is told when; a process that ends earlier takes the rest with it.
/// - When the actix `System` it was started in stops first, a warning is logged. A runtime on a
///   thread of its own goes on while the process lives; one that shares the arbiter is gone: what it
///   held is settled, and every handle refuses from then on.
/// - Several producers in one `System`, or in several, know nothing of each other.
/// - Built with `panic = "abort"` it does not start: [`StartError::PanicAbort`].
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use forebay::{Config, Producer, Record};
///
/// let producer = Producer::start(Config::new("localhost:9092")?)?;
/// let receipt = producer.send(Record::to("orders").key("7").value("shoes")).await?;
/// let acked = receipt.await?;
/// println!("partition {} offset {:?}", acked.partition, acked.offset);
/// producer.close(std::time::Duration::from_secs(10)).await?;
/// # Ok(())
/// # }
/// ```
pub struct Producer {
    intake: Arc<Intake>,
    listeners: Arc<[Arc<dyn Listener>]>,
    last: Arc<LastHandle>,
    pub(crate) recent: TopicCache,
}

impl Clone for Producer {
    fn clone(&self) -> Self {
        Self {
            intake: Arc::clone(&self.intake),
            listeners: Arc::clone(&self.listeners),
            last: Arc::clone(&self.last),
            recent: TopicCache::default(),
        }
    }
}

/// Tells the runtime when no handle is left.
struct LastHandle {
    runtime: Addr<RuntimeActor>,
    handles: Option<Arc<()>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    _alive: oneshot::Sender<()>,
}

/// Left with the System that a producer was started in: when that stops, nobody is told otherwise
/// that the producer was not closed.
struct CloseReminder {
    intake: Weak<Intake>,
    last: Weak<LastHandle>,
}

impl Drop for CloseReminder {
    fn drop(&mut self) {
        let (Some(intake), Some(_last)) = (self.intake.upgrade(), self.last.upgrade()) else {
            return;
        };
        if !intake.closed.load(Ordering::Relaxed) {
            tracing::warn!(
                client_id = intake.config.client_id,
                "the System stopped without a close of its producer: records that were not \
                 delivered may be lost; await Producer::close before System::stop"
            );
        }
    }
}

impl Drop for LastHandle {
    fn drop(&mut self) {
        self.handles = None;
        self.runtime.do_send(LastHandleDropped);
    }
}

/// A producer that has not started yet.
#[derive(Default)]
#[must_use = "nothing runs until `start`"]
pub struct ProducerBuilder {
    placement: Placement,
    interceptors: Vec<Arc<dyn Interceptor>>,
    partitioner: Option<Arc<dyn Partitioner>>,
    /// Of everything the runtime leaves to chance.
    seed: Option<u64>,
}

impl ProducerBuilder {
    /// Has chance repeat itself.
    #[cfg(feature = "internals")]
    #[doc(hidden)]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Where the actors run. Default: a thread of their own.
    pub fn placement(mut self, placement: Placement) -> Self {
        self.placement = placement;
        self
    }

    /// Adds an interceptor behind those already there.
    pub fn interceptor(mut self, interceptor: impl Interceptor) -> Self {
        self.interceptors.push(Arc::new(interceptor));
        self
    }

    /// Chooses the partition of every record that names none, in place of `partitioner.class`.
    pub fn partitioner(mut self, partitioner: impl Partitioner) -> Self {
        self.partitioner = Some(Arc::new(partitioner));
        self
    }

    /// Starts the runtime. No broker is contacted before the first record.
    pub fn start(self, config: Config) -> Result<Producer, StartError> {
        if cfg!(panic = "abort") {
            return Err(StartError::PanicAbort);
        }
        let spec = RuntimeSpec {
            config: Arc::new(config),
            interceptors: self.interceptors.into(),
            partitioner: self.partitioner,
            seed: self.seed.unwrap_or_else(rand::random),
        };
        let (runtime, thread) = match self.placement {
            Placement::OwnThread => {
                let (runtime, thread) = on_own_thread(spec)?;
                (runtime, Some(thread))
            }
            Placement::CurrentArbiter => (on_current_arbiter(spec)?, None),
        };
        let intake = runtime.intake;
        let (alive, gone) = oneshot::channel();
        let last = Arc::new(LastHandle {
            runtime: runtime.runtime,
            handles: Some(runtime.handles),
            thread: Mutex::new(thread),
            _alive: alive,
        });
        if let Some(system) = System::try_current() {
            let unclosed = CloseReminder {
                intake: Arc::downgrade(&intake),
                last: Arc::downgrade(&last),
            };
            // Dropped with the arbiter, or with the last handle.
            system.arbiter().spawn(async move {
                let _unclosed = unclosed;
                let _ = gone.await;
            });
        }
        let listeners = Arc::clone(&intake.listeners);
        Ok(Producer {
            intake,
            listeners,
            last,
            recent: TopicCache::default(),
        })
    }
}

fn on_own_thread(spec: RuntimeSpec) -> Result<(Runtime, JoinHandle<()>), StartError> {
    let arbiter = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (started, runtime) = std::sync::mpsc::channel();
    let thread = std::thread::Builder::new()
        .name(spec.config.client_id.clone())
        .spawn(move || {
            LocalSet::new().block_on(&arbiter, async move {
                let mut runtime = spec.start();
                let (_keep, never) = oneshot::channel();
                let ended = std::mem::replace(&mut runtime.ended, never);
                // The receiver is there: `start` waits for this.
                let _ = started.send(runtime);
                // An error means that the RuntimeActor is gone, and then so is everything.
                let _ = ended.await;
            });
            // A name lookup that hangs has a thread of its own, which dropping would wait for.
            arbiter.shutdown_background();
        })?;
    let gone = || std::io::Error::other("the runtime's thread ended at once");
    Ok((runtime.recv().map_err(|_| gone())?, thread))
}

fn on_current_arbiter(spec: RuntimeSpec) -> Result<Runtime, StartError> {
    // Outside a System there may still be a LocalSet. Without one `spawn_local` panics, and tokio
    // has no way to ask before.
    if System::try_current().is_none() {
        let probe = std::panic::catch_unwind(|| drop(actix_rt::spawn(async {})));
        probe.map_err(|_| StartError::NoArbiter)?;
    }
    Ok(spec.start())
}

impl Producer {
    /// Starts a producer with the runtime on a thread of its own. Takes as long as it takes to
    /// start a thread; no broker is contacted before the first record.
    pub fn start(config: Config) -> Result<Self, StartError> {
        Self::builder().start(config)
    }

    /// For a producer with interceptors, a partitioner, or another placement.
    pub fn builder() -> ProducerBuilder {
        ProducerBuilder::default()
    }

    /// Sends a record.
    ///
    /// Waits until the record is accepted, which takes up to `max.block.ms` where its topic is
    /// not known yet or memory is short, a moment where the caller is far ahead of the brokers, and no
    /// time otherwise. Every refusal is an error here.
    /// The returned [`Receipt`] is a future of the record's one outcome; it may be dropped.
    ///
    /// Dropped before it is ready, the future leaves nothing behind: the record was never
    /// accepted.
    #[inline]
    pub fn send(&self, record: Record) -> impl Future<Output = Result<Receipt, SendError>> + Send {
        let options = AppendOptions::for_listeners(&self.listeners);
        self.intake.send(&self.recent, record, options)
    }

    /// Sends a record and has `callback` called with its outcome.
    ///
    /// Callbacks run on the runtime's arbiter, in the order of a partition's records, and hold
    /// everything up while they run. A callback may send; it may not wait for a flush.
    pub async fn send_with(
        &self,
        record: Record,
        callback: impl FnOnce(Outcome) + Send + 'static,
    ) -> Result<Receipt, SendError> {
        let options = AppendOptions {
            callback: Some(Box::new(callback)),
            ..AppendOptions::for_listeners(&self.listeners)
        };
        self.intake.send(&self.recent, record, options).await
    }

    /// Sends a record if that needs no waiting, for those who may not: otherwise it is refused
    /// with [`SendError::WouldBlock`].
    ///
    /// The first records for a topic are refused so, while its metadata is on its way; so is a record
    /// larger than `batch.size`, whose memory has to be asked for; and so is one whose sender is far
    /// ahead of the brokers, for about a millisecond.
    ///
    /// A refused record comes back with its error. For single records this is the cheapest way: whoever
    /// sends often tries first, and awaits [`send`](Self::send) for what was refused.
    ///
    /// ```no_run
    /// # async fn example(producer: forebay::Producer) -> Result<(), Box<dyn std::error::Error>> {
    /// use forebay::{Record, SendError};
    ///
    /// let receipt = match producer.try_send(Record::to_static("orders").value("shoes")) {
    ///     Ok(receipt) => receipt,
    ///     Err(refused) => match refused.into_parts() {
    ///         (record, SendError::WouldBlock(_)) => producer.send(record).await?,
    ///         (_, error) => return Err(error.into()),
    ///     },
    /// };
    /// receipt.await?;
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub fn try_send(&self, record: Record) -> Result<Receipt, TrySendError> {
        let options = AppendOptions::for_listeners(&self.listeners);
        self.intake.try_send(&self.recent, record, options)
    }

    /// Sends records one behind the other, as [`send`](Self::send) would, for a part of what that costs
    /// its caller where they are small: what is the same for all of them is looked at once.
    ///
    /// The records are [`Record`]s or [`BorrowedRecord`](crate::BorrowedRecord)s. Their receipts go into
    /// `receipts` as the records are accepted. So they tell how many were, also after an error, or when
    /// the future is dropped. Records without a time of their own may share one, the time of the call.
    /// Where there are interceptors the records are copied for them.
    ///
    /// ```no_run
    /// # async fn example(producer: forebay::Producer) -> Result<(), Box<dyn std::error::Error>> {
    /// use forebay::{Receipts, Record};
    ///
    /// let record = |i: u32| Record::to_static("numbers").value(i.to_string());
    /// let records: Vec<_> = (0..1000).map(record).collect();
    /// let mut receipts = Receipts::default();
    /// producer.send_slice(&records, &mut receipts).await?;
    /// while let Some(outcome) = receipts.next().await {
    ///     outcome?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn send_slice(
        &self,
        records: &[impl AsRecord],
        receipts: &mut Receipts,
    ) -> Result<(), SliceError> {
        let (recent, listeners) = (&self.recent, &self.listeners);
        self.intake
            .send_slice(recent, listeners, records, receipts)
            .await
    }

    /// A handle whose records' outcomes go to `recipient`: one [`BatchOutcome`] per batch. Which
    /// records are in it is found with [`Receipt::id`].
    pub fn outcomes_to(&self, recipient: Recipient<BatchOutcome>) -> Self {
        let to: Arc<dyn Listener> = Arc::new(ToRecipient::new(recipient));
        let listeners = self.intake.listeners.iter().cloned().chain([to]).collect();
        Self {
            listeners,
            ..self.clone()
        }
    }

    pub(crate) fn listeners(&self) -> &Arc<[Arc<dyn Listener>]> {
        &self.listeners
    }

    pub(crate) fn intake(&self) -> &Intake {
        &self.intake
    }

    /// The numbers of a topic's partitions. Waits up to `max.block.ms` for a topic that is not
    /// known yet.
    pub async fn partitions_for(&self, topic: &str) -> Result<Vec<i32>, SendError> {
        let name = Arc::from(topic);
        let topic = self.intake.known_topic(&name).await?;
        Ok((0i32..)
            .zip(&topic.partitions)
            .map(|(partition, _)| partition)
            .collect())
    }

    /// The address of a partition's actor, for [`SendRecord`](crate::SendRecord) messages.
    ///
    /// Waits up to `max.block.ms` for a topic that is not known yet.
    pub async fn partition_actor(
        &self,
        topic: &str,
        partition: i32,
    ) -> Result<Addr<PartitionActor>, SendError> {
        let name: Arc<str> = Arc::from(topic);
        let topic = self.intake.known_topic(&name).await?;
        let asked = TopicPartition::new(Arc::clone(&name), partition);
        let found = self.last.runtime.send(GetPartition(asked)).await;
        found.map_err(|_| SendError::Closed)?.ok_or_else(|| {
            let count = topic.partitions.len();
            SendError::PartitionOutOfRange {
                topic: name,
                partition,
                count,
            }
        })
    }

    /// Has everything accepted so far go out now, and waits until all of it has its outcome:
    /// `delivery.timeout.ms` at most.
    pub async fn flush(&self) -> Result<(), CloseError> {
        // A request is lost only with a restart, and then made again.
        for _ in 0..=self.config().restart_max {
            let (done, flushed) = oneshot::channel();
            self.last.runtime.do_send(Flush(done));
            if flushed.await.is_ok() {
                return Ok(());
            }
            if !self.last.runtime.connected() {
                break;
            }
        }
        Err(CloseError::Gone)
    }

    /// Ends the producer: refuses new records, delivers what is accepted for as long as `within`,
    /// settles the rest, stops every actor and the runtime's thread.
    ///
    /// Await it before the actix `System` stops. All clones are closed with it; closing twice is
    /// no error.
    pub async fn close(&self, within: Duration) -> Result<(), CloseError> {
        self.intake.closed.store(true, Ordering::Relaxed);
        let outcome = loop {
            let (reply, closed) = oneshot::channel();
            self.last.runtime.do_send(Close {
                within,
                reply: Some(reply),
            });
            match closed.await {
                Ok(outcome) => break outcome,
                // The request was lost in a restart; it is made again.
                Err(_) if self.last.runtime.connected() => {}
                // A runtime that has been closed before is as closed as one can be.
                Err(_) => break Ok(()),
            }
        };
        let mut thread = self
            .last
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // Closed on the runtime's own thread, it ends when this returns to it.
        let elsewhere = |it: &mut JoinHandle<()>| it.thread().id() != std::thread::current().id();
        if let Some(thread) = thread.take_if(elsewhere) {
            // All that is left for it is to return.
            let _ = thread.join();
        }
        outcome
    }

    /// What the producer holds and has done.
    pub async fn figures(&self) -> Result<Figures, CloseError> {
        self.last
            .runtime
            .send(GetFigures)
            .await
            .map_err(|_| CloseError::Gone)
    }

    /// Tells `recipient` what befalls the parts of the runtime from now on.
    pub fn subscribe(&self, recipient: Recipient<Lifecycle>) {
        self.last.runtime.do_send(Subscribe(recipient));
    }

    /// Restarts a partition or a sender that failed or was retired; see [`Supervise::Restart`].
    pub fn restart(&self, component: Component) {
        self.last.runtime.do_send(Supervise::Restart(component));
    }

    /// Retires a partition or a sender; see [`Supervise::Retire`].
    pub fn retire(&self, component: Component) {
        self.last.runtime.do_send(Supervise::Retire(component));
    }

    /// Where an actor of the application sends [`Supervise`] to, without holding the producer.
    pub fn supervision(&self) -> Recipient<Supervise> {
        self.last.runtime.clone().recipient()
    }

    /// The configuration it was started with.
    pub fn config(&self) -> &Config {
        &self.intake.config
    }
}

impl SendRecord {
    /// Has the outcome told to whomever `producer` tells of its records; see
    /// [`Producer::outcomes_to`](crate::Producer::outcomes_to).
    #[must_use]
    pub fn outcomes_like(mut self, producer: &Producer) -> Self {
        self.listeners = Some(Arc::clone(producer.listeners()));
        self
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer")
            .field("client_id", &self.intake.config.client_id)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ProducerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProducerBuilder")
            .field("placement", &self.placement)
            .finish_non_exhaustive()
    }
}
