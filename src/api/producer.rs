//! The handle that an application holds.

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use actix::prelude::*;
use tokio::sync::{oneshot, watch};

use crate::actors::lifecycle::{CloseError, Lifecycle, Supervise};
use crate::actors::{
    Close, Closed, Flush, GetFigures, GetPartition, LastHandleDropped, PartitionActor, Runtime,
    RuntimeActor, SendRecord, Subscribe, ToRecipient, WaitForResumed, now,
};
use crate::api::placement::RuntimeThread;
use crate::config::Config;
use crate::core::ack::Receipt;
use crate::core::delivery::{BatchOutcome, Listener};
use crate::core::figures::Figures;
use crate::core::outcome::Outcome;
use crate::core::receipts::Receipts;
use crate::core::record::{AsRecord, Record, TopicPartition};
use crate::core::stage::AppendOptions;
use crate::core::supervision::Component;
use crate::core::tally::{OutcomeCounts, Outcomes};
use crate::core::transaction::Scope;
use crate::core::user_code;
use crate::intake::deadline::{GRACE, NoAnswer, answer_by};
use crate::intake::error::{SendError, TrySendError};
use crate::intake::topics::TopicCache;
use crate::intake::{Intake, SliceError};

/// Sends records to Kafka.
///
/// A cheap handle: clone it, move it to any thread, use it on any tokio runtime. It is made with
/// [`Producer::start`] or [`Producer::builder`].
///
/// Records that one clone sends to one partition are written in the order in which its `send` calls
/// returned.
///
/// # How it ends
///
/// - [`close`](Self::close) delivers what was accepted, for as long as it is told, and settles the
///   rest. Afterwards every outcome is there, and no actor and no thread is left.
/// - When the last clone is dropped the runtime delivers what it holds, for `delivery.timeout.ms` at
///   most, and ends. Nobody is told when; a process that ends earlier takes the rest with it.
/// - When the actix `System` it was started in stops first, a warning is logged. A runtime on a
///   thread of its own goes on while the process lives. One that shares the arbiter is gone: what it
///   held is settled, and every handle refuses from then on.
///
/// Several producers in one `System`, or in several, know nothing of each other.
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

impl Producer {
    /// Sends a record.
    ///
    /// Waits until the record is accepted. That takes no time as a rule, a moment where the caller is
    /// far ahead of the brokers, and up to `max.block.ms` where the topic or the partition is not known yet
    /// or memory is short. The returned [`Receipt`] is a future of the record's one outcome; it may be
    /// dropped.
    ///
    /// If this future is dropped before it is ready, the record was never accepted.
    ///
    /// # Errors
    ///
    /// [`SendError`] if the record is refused. It is certainly not in the log then.
    #[inline]
    pub fn send(&self, record: Record) -> impl Future<Output = Result<Receipt, SendError>> + Send {
        let options = AppendOptions::for_listeners(&self.listeners);
        self.intake.send(&self.recent, record, options)
    }

    /// Sends a record and has `callback` called with its outcome.
    ///
    /// Callbacks run on a thread for them, in the order of a partition's records, and one holds up the
    /// outcomes behind it that are told by callbacks, interceptors or messages. Under
    /// [`Placement::CurrentArbiter`](crate::Placement::CurrentArbiter) they run on that arbiter, and one
    /// holds up all that runs there, deliveries too. So a callback should be brief; one that takes a second
    /// is told of by a warning. A panic in it is caught and logged.
    ///
    /// A callback may send what needs no wait. What would have to wait is refused at once with
    /// [`SendError::InCallback`] or [`CloseError::InCallback`], for it could wait for the callback itself.
    /// A task that the callback spawns may wait; it ends with the producer unless it is spawned on
    /// another runtime, by a `tokio::runtime::Handle`.
    ///
    /// ```no_run
    /// # async fn example(producer: forebay::Producer) -> Result<(), Box<dyn std::error::Error>> {
    /// use forebay::Record;
    ///
    /// let record = Record::to("orders").value("shoes");
    /// let callback = |outcome: forebay::Outcome| match outcome {
    ///     Ok(acked) => println!("written at offset {:?}", acked.offset),
    ///     Err(unconfirmed) => println!("{unconfirmed}"),
    /// };
    /// let _receipt = producer.send_with(record, callback).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send). The callback of a refused record is dropped and not called.
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

    /// Sends a record, or refuses it at once if it would have to wait.
    ///
    /// For single records this is the cheapest way: try first, and await [`send`](Self::send) for what
    /// would have to wait. It is for callers that must not wait, too.
    ///
    /// # Errors
    ///
    /// [`TrySendError`] has the record, to be sent again, and the [`SendError`].
    /// [`SendError::WouldBlock`] is that of a record that would have to wait:
    ///
    /// - one of the first for its topic, or for a partition it names that may have been added, while the
    ///   topic's metadata is on its way;
    /// - one larger than `batch.size`, whose memory has to be asked for;
    /// - one whose caller is far ahead of the brokers, for about a millisecond.
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

    /// Sends records one behind the other, as [`send`](Self::send) would.
    ///
    /// Where records are small this costs a part of what single sends cost, because what is the same
    /// for all of them is looked at once. The records are [`Record`]s or
    /// [`BorrowedRecord`](crate::BorrowedRecord)s. Records without a time of their own may share one,
    /// the time of the call. Where there are interceptors the records are copied for them.
    ///
    /// Receipts go into `receipts` as the records are accepted. So their number tells how many were,
    /// also after an error, or when the future is dropped.
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
    ///
    /// # Errors
    ///
    /// [`SliceError`] for the first record that is refused. Those behind it were not tried.
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

    /// A handle whose records' outcomes go to `recipient`, one [`BatchOutcome`] per batch, beside their
    /// receipts. Which records a batch has is found with [`Receipt::id`].
    ///
    /// The recipient gets a message when it has handled the one before. What waits for it keeps the memory
    /// of its batch, so that a recipient that is too slow slows down those who send. It should not wait for
    /// a send itself before it has handled a message. One that is gone is not waited for.
    ///
    /// The example `examples/actor.rs` shows an actor that is told so.
    pub fn outcomes_to(&self, recipient: Recipient<BatchOutcome>) -> Self {
        let to: Arc<dyn Listener> = Arc::new(ToRecipient::new(recipient));
        let listeners = self.intake.listeners.iter().cloned().chain([to]).collect();
        Self {
            listeners,
            ..self.clone()
        }
    }

    /// The numbers of a topic's partitions, as Java's `partitionsFor`.
    ///
    /// Waits up to `max.block.ms` for a topic that is not known yet.
    ///
    /// # Errors
    ///
    /// [`SendError::IllegalTopicName`], [`SendError::TopicUnknown`], [`SendError::TopicRefused`],
    /// [`SendError::TooManyPartitions`] or [`SendError::Closed`]; [`SendError::InCallback`] where it would
    /// have to wait in a callback.
    pub async fn partitions_for(&self, topic: &str) -> Result<Vec<i32>, SendError> {
        let name = Arc::from(topic);
        let topic = self.intake.known_topic(&name, None).await?;
        Ok((0i32..)
            .zip(&topic.partitions)
            .map(|(partition, _)| partition)
            .collect())
    }

    /// The address of a partition's actor, for [`SendRecord`] messages. It is good until the producer
    /// is closed.
    ///
    /// Waits up to `max.block.ms` for a topic that is not known yet, or not with this partition.
    ///
    /// # Errors
    ///
    /// As [`partitions_for`](Self::partitions_for), and [`SendError::PartitionOutOfRange`].
    pub async fn partition_actor(
        &self,
        topic: &str,
        partition: i32,
    ) -> Result<Addr<PartitionActor>, SendError> {
        let name: Arc<str> = Arc::from(topic);
        let asked = now();
        loop {
            let _known = self.intake.known_topic(&name, Some(partition)).await?;
            let named = TopicPartition::new(Arc::clone(&name), partition);
            let found = self.last.runtime.send(GetPartition(named));
            match self.intake.answer(found, asked).await {
                Ok(Ok(Some(found))) => return Ok(found),
                // It was let go of meanwhile, and has to be looked up again.
                Ok(_) if !self.intake.has_ended() => {}
                Ok(_) => return Err(SendError::Closed),
                Err(no_answer) => return Err(self.intake.topic_unanswered(&name, no_answer)),
            }
        }
    }

    /// Has everything accepted so far go out now, and waits until all of it has its outcome. Returns how
    /// many records were acked, and how many were not.
    ///
    /// It waits for callbacks and interceptors, too, but not for actors that are told of outcomes. All of
    /// it takes `delivery.timeout.ms` at most, and half a second; with `forebay.unknown=resolve`
    /// `forebay.unknown.resolve.timeout.ms` more. What is in a spool has as long as it takes, so with
    /// `forebay.spool.dir` a flush does, too.
    ///
    /// # Errors
    ///
    /// [`CloseError::TimedOut`] if callbacks or interceptors take longer, [`CloseError::Gone`] if the
    /// runtime ends first, [`CloseError::InCallback`] if it would wait in a callback.
    pub async fn flush(&self) -> Result<Outcomes, CloseError> {
        let counts = Arc::<OutcomeCounts>::default();
        let within = self.config().outcome_within();
        let deadline = within.and_then(|within| now().checked_add(within + GRACE));
        let ask = |done| {
            let counts = Arc::clone(&counts);
            self.last.runtime.do_send(Flush {
                done,
                counts,
                waits_for_calls: true,
            });
        };
        match self.asked(ask, deadline).await {
            Ok(()) => Ok(counts.so_far()),
            Err(None) => Err(CloseError::Gone),
            Err(Some(NoAnswer::TimedOut)) => Err(CloseError::TimedOut(counts.so_far())),
            Err(Some(NoAnswer::InCallback)) => Err(CloseError::InCallback),
        }
    }

    /// Waits until the runtime has done what it is asked for; with an error if it is gone, or why it has not.
    async fn asked(
        &self,
        ask: impl Fn(oneshot::Sender<()>),
        deadline: Option<Instant>,
    ) -> Result<(), Option<NoAnswer>> {
        // A request is lost only with a restart, and then made again.
        for _ in 0..=self.config().restart_max {
            let (reply, done) = oneshot::channel();
            if user_code::must_not_wait() {
                return Err(Some(NoAnswer::InCallback));
            }
            ask(reply);
            match answer_by(done, deadline, now).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(_)) if self.last.runtime.connected() => {}
                Ok(Err(_)) => break,
                Err(no_answer) => return Err(Some(no_answer)),
            }
        }
        Err(None)
    }

    /// Waits until all records that former producers left in the spool have their outcome, and were told to
    /// whom [`resumed_to`](crate::ProducerBuilder::resumed_to) names. Without a spool, or where nothing was
    /// left, it returns at once.
    ///
    /// It waits for as long as brokers, permissions and topics that are missing do: a [`flush`](Self::flush)
    /// waits for them, too, and for this producer's own.
    ///
    /// # Errors
    ///
    /// [`CloseError::Gone`] if the producer is closed, or its spool's actor was given up;
    /// [`CloseError::InCallback`] if it would wait in a callback.
    pub async fn resumed(&self) -> Result<(), CloseError> {
        let ask = |reply| self.last.runtime.do_send(WaitForResumed(reply));
        let answered = self.asked(ask, None).await;
        answered.map_err(|why| why.map_or(CloseError::Gone, CloseError::from))
    }

    /// Ends the producer. It refuses new records, delivers what is accepted for as long as `within`,
    /// settles the rest, and stops every actor and the runtime's threads. Returns how many of the records
    /// that it waited for were acked, and how many were not.
    ///
    /// Await it before the actix `System` stops. All clones are closed with it. A second close returns
    /// what the first one did. If it has less time left, it ends the first one, too.
    ///
    /// It ends a second after `within` at the latest. A callback that does not return by then runs on, and
    /// so does an actor that has not handled all outcomes: what is left is told later.
    ///
    /// # Errors
    ///
    /// - [`CloseError::TimedOut`] if `within` ran out. Records that ran out of their own time,
    ///   `delivery.timeout.ms`, are no error here: they are among those counted.
    /// - [`CloseError::Gone`] if the runtime ended first. The producer is closed in both cases, and every
    ///   record has its outcome.
    /// - [`CloseError::NoAnswer`] if something blocks the runtime's thread. It ends when it can.
    /// - [`CloseError::InCallback`] in a callback: nothing is closed.
    pub async fn close(&self, within: Duration) -> Result<Outcomes, CloseError> {
        let deadline = now().checked_add(within.saturating_add(2 * GRACE));
        let mut ended = self.last.ended.clone();
        let known = *ended.borrow();
        let closed = match known {
            Some(closed) => closed,
            None if user_code::must_not_wait() => return Err(CloseError::InCallback),
            None => self.ask_to_close(within, deadline, &mut ended).await,
        };
        if !matches!(closed, Err(CloseError::InCallback | CloseError::NoAnswer)) {
            self.last.join(deadline).await;
        }
        closed
    }

    async fn ask_to_close(
        &self,
        within: Duration,
        deadline: Option<Instant>,
        ended: &mut watch::Receiver<Option<Closed>>,
    ) -> Closed {
        self.intake.closed.store(true, Ordering::Relaxed);
        loop {
            let (reply, closed) = oneshot::channel();
            self.last.runtime.do_send(Close {
                within,
                reply: Some(reply),
            });
            match answer_by(closed, deadline, now).await {
                Ok(Ok(closed)) => return closed,
                // The request was lost in a restart; it is made again.
                Ok(Err(_)) if self.last.runtime.connected() => {}
                Ok(Err(_)) => break,
                Err(no_answer) => return Err(no_answer.into()),
            }
        }
        // The runtime has ended, or is about to.
        let closed = ended.wait_for(Option::is_some);
        match answer_by(closed, deadline, now).await {
            Ok(Ok(closed)) => (*closed).unwrap_or(Err(CloseError::Gone)),
            Ok(Err(_)) => {
                tracing::warn!(
                    client_id = self.intake.config.client_id,
                    "the runtime ended before its producer was closed: what was not delivered is settled as \
                     not written or unknown"
                );
                Err(CloseError::Gone)
            }
            Err(no_answer) => Err(no_answer.into()),
        }
    }

    /// What the producer holds and has done. Waits for a moment, as each actor is asked, and for
    /// `max.block.ms` and half a second at most.
    ///
    /// # Errors
    ///
    /// [`CloseError::Gone`] once the producer is closed, [`CloseError::NoAnswer`] if something blocks the
    /// runtime's thread, [`CloseError::InCallback`] in a callback.
    pub async fn figures(&self) -> Result<Figures, CloseError> {
        let figures = self.last.runtime.send(GetFigures);
        match self.intake.answer(figures, now()).await {
            Ok(figures) => figures.map_err(|_| CloseError::Gone),
            Err(no_answer) => Err(no_answer.into()),
        }
    }

    /// Tells `recipient` what befalls the components of the runtime from now on.
    ///
    /// The example `examples/supervisor.rs` shows an actor that is told so.
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

    /// The recipient for [`Supervise`] messages. It does not keep the producer open, as a handle does.
    pub fn supervision(&self) -> Recipient<Supervise> {
        self.last.runtime.clone().recipient()
    }

    /// The configuration it was started with.
    pub fn config(&self) -> &Config {
        &self.intake.config
    }

    /// The first handle of a runtime, which may have a thread of its own.
    pub(super) fn of(runtime: Runtime, thread: Option<RuntimeThread>) -> Self {
        let intake = runtime.intake;
        let (alive, gone) = oneshot::channel();
        let has_thread = thread.is_some();
        let last = Arc::new(LastHandle {
            runtime: runtime.runtime,
            handles: Some(runtime.handles),
            ended: runtime.ended,
            thread: Mutex::new(thread),
            _alive: alive,
        });
        // A runtime that ends with its arbiter tells of it itself.
        if let Some(system) = System::try_current().filter(|_| has_thread) {
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
        Self {
            intake,
            listeners,
            last,
            recent: TopicCache::default(),
        }
    }

    pub(crate) fn listeners(&self) -> &Arc<[Arc<dyn Listener>]> {
        &self.listeners
    }

    pub(crate) fn intake(&self) -> &Intake {
        &self.intake
    }

    pub(super) fn shared_intake(&self) -> Arc<Intake> {
        Arc::clone(&self.intake)
    }

    /// A handle whose records are part of a transaction.
    pub(super) fn within(&self, scope: Arc<Scope>) -> Self {
        Self {
            intake: Arc::new(self.intake.within(scope)),
            ..self.clone()
        }
    }
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

impl SendRecord {
    /// Has the outcome told to whomever `producer` tells of its records; see
    /// [`Producer::outcomes_to`].
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

/// Tells the runtime when no handle is left.
struct LastHandle {
    runtime: Addr<RuntimeActor>,
    handles: Option<Arc<()>>,
    ended: watch::Receiver<Option<Closed>>,
    thread: Mutex<Option<RuntimeThread>>,
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

impl LastHandle {
    /// Joins the runtime's thread, which is about to return. Only the first caller does.
    async fn join(&self, deadline: Option<Instant>) {
        // Nobody waits while the lock is held.
        let thread = {
            let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
            // On the runtime's own thread: it ends when this returns to it.
            let elsewhere =
                |it: &mut RuntimeThread| it.handle.thread().id() != std::thread::current().id();
            thread.take_if(elsewhere)
        };
        let Some(RuntimeThread { handle, over }) = thread else {
            return;
        };
        // Held up by callbacks that do not return, it ends without being waited for.
        let soon = now().checked_add(2 * GRACE);
        let deadline = deadline.into_iter().chain(soon).min();
        if answer_by(over, deadline, now).await.is_ok() {
            let _ = handle.join();
        }
    }
}

impl From<NoAnswer> for CloseError {
    fn from(no_answer: NoAnswer) -> Self {
        match no_answer {
            NoAnswer::InCallback => Self::InCallback,
            NoAnswer::TimedOut => Self::NoAnswer,
        }
    }
}

impl Drop for LastHandle {
    fn drop(&mut self) {
        self.handles = None;
        self.runtime.do_send(LastHandleDropped);
    }
}
