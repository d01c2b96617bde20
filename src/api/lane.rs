//! The exclusive handle: for one task that sends a great many records.

mod sink;
mod sink_state;
mod slice;

use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

pub use sink_state::SinkError;

use crate::api::producer::Producer;
use crate::core::ack::{BorrowedReceipt, Latest};
use crate::core::record::BorrowedRecord;
use crate::core::stage::AppendOptions;
use crate::intake::error::SendError;
use crate::intake::topics::{Topic, Topics};
use crate::intake::wall_clock;
use crate::intake::{Accepted, Admission, Entry, Later};

/// Sends records from one place, for four to nine tenths of what [`Producer::send`] costs where
/// records are small.
///
/// A lane is a [`Producer`] that knows that nobody else uses it: it takes borrowed bytes, copies
/// them once, into the batch, and keeps what it knows of topics and batches at hand. In everything
/// else both handles are alike: guarantees, outcomes, errors, interceptors, and the open batch of a
/// partition, which they share. So records in an idle lane go out at `linger.ms`, and
/// [`Producer::flush`] covers them.
///
/// Records that one lane sends to one partition are written in the order in which its `send` calls
/// returned. Make as many lanes as there are tasks that send; each may be moved to any thread. A
/// lane keeps the producer open, as any handle does.
///
/// ```no_run
/// # async fn example(producer: forebay::Producer) -> Result<(), Box<dyn std::error::Error>> {
/// use forebay::{BorrowedRecord, Receipts};
///
/// let mut lane = producer.lane();
/// let mut receipts = Receipts::default();
/// for line in ["one", "two", "three"] {
///     receipts.push(lane.send(BorrowedRecord::to("lines").value(line)).await?);
/// }
/// while let Some(outcome) = receipts.next().await {
///     println!("written at {:?}", outcome?.offset);
/// }
/// # Ok(())
/// # }
/// ```
pub struct Lane {
    producer: Producer,
    /// Nobody is to see the records beside the holders of their receipts.
    plain: bool,
    routes: Routes,
    sunk: sink_state::SinkState,
}

#[derive(Default)]
struct Routes {
    all: Vec<Route>,
    /// Where the last record went.
    last: usize,
    by_name: HashMap<Arc<str>, usize>,
}

/// A topic, and the last record to each of its partitions.
struct Route {
    topic: Arc<Topic>,
    /// One for each of the topic's partitions; of no batch where nothing has been sent.
    latest: Vec<Latest>,
}

impl Producer {
    /// An exclusive handle, for a task that sends a great many records.
    pub fn lane(&self) -> Lane {
        Lane::new(self.clone())
    }
}

/// Where a lane keeps what it knows of a record it has sent.
struct Slot {
    route: usize,
    partition: usize,
}

impl Lane {
    pub(crate) fn new(producer: Producer) -> Self {
        let intake = producer.intake();
        Self {
            plain: intake.interceptors.is_empty() && producer.listeners().is_empty(),
            producer,
            routes: Routes::default(),
            sunk: sink_state::SinkState::default(),
        }
    }

    /// Sends a record. What [`Producer::send`] says of waits and errors holds here too.
    ///
    /// Where there are interceptors the record is copied for them.
    #[inline]
    pub fn send<'a>(
        &'a mut self,
        record: BorrowedRecord<'a>,
    ) -> impl Future<Output = Result<BorrowedReceipt<'a>, SendError>> + Send {
        Sending {
            lane: Some(self),
            record,
            later: None,
        }
    }

    /// Sends a record to the topic of the last one, if its batch is open: what nearly every record
    /// needs. `None`, and nothing is done, if it takes more than that.
    #[inline]
    fn send_at_once(&mut self, record: &mut BorrowedRecord<'_>) -> Option<Slot> {
        let intake = self.producer.intake();
        if !self.plain || self.sunk.is_waiting() || intake.is_closed() {
            return None;
        }
        record.resolve_timestamp(wall_clock::millis).ok()?;
        let route = self.routes.last;
        let Route { topic, latest } = self.routes.all.get_mut(route)?;
        if !topic.is(record.topic) {
            return None;
        }
        let timestamp = record.fields.timestamp;
        let (partition, _former) = intake.append_at_once(topic, record, |at, ack, index| {
            (at, latest[at].follow(ack, index, timestamp))
        })?;
        Some(Slot { route, partition })
    }

    /// Sends a record, or returns what has to be waited for.
    fn send_or_wait<'a>(
        &'a mut self,
        mut record: BorrowedRecord<'a>,
    ) -> Result<Result<BorrowedReceipt<'a>, SendError>, Later<'a, BorrowedReceipt<'a>>> {
        if self.sunk.is_waiting() || !self.producer.intake().interceptors.is_empty() {
            return Err(Box::pin(self.send_when_clear(record)));
        }
        match self.admit_now(&mut record) {
            Ok(Admission::Accepted(slot)) => Ok(Ok(self.routes.receipt(slot))),
            Ok(Admission::Missing(missing)) => Err(Box::pin(async move {
                let Self {
                    producer, routes, ..
                } = self;
                let mut options = AppendOptions::for_listeners(producer.listeners());
                let intake = producer.intake();
                let admitted = intake.admit_later(routes, record, &mut options, missing);
                let slot = admitted.await?;
                Ok(routes.receipt(slot))
            })),
            Err(error) => Ok(Err(error)),
        }
    }

    async fn send_when_clear(
        &mut self,
        record: BorrowedRecord<'_>,
    ) -> Result<BorrowedReceipt<'_>, SendError> {
        self.sunk.accepted().await?;
        let Self {
            producer, routes, ..
        } = self;
        let intake = producer.intake();
        let record = intake.intercepted(record.into_owned())?;
        let mut options = AppendOptions::for_listeners(producer.listeners());
        let admitted = intake.admit(routes, record.borrowed(), &mut options);
        let slot = admitted.await?;
        Ok(routes.receipt(slot))
    }

    fn admit_now(&mut self, record: &mut BorrowedRecord<'_>) -> Result<Admission<Slot>, SendError> {
        let mut options = AppendOptions::for_listeners(self.producer.listeners());
        let intake = self.producer.intake();
        intake.admit_now(&mut self.routes, record, &mut options)
    }
}

/// A record on its way into a lane. Written out, because an `async fn` would move the record twice
/// before it looks at it, and that costs as much as the rest of a send that need not wait.
struct Sending<'a> {
    lane: Option<&'a mut Lane>,
    record: BorrowedRecord<'a>,
    /// It has to wait.
    later: Option<Later<'a, BorrowedReceipt<'a>>>,
}

impl<'a> Future for Sending<'a> {
    type Output = Result<BorrowedReceipt<'a>, SendError>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(lane) = self.lane.take() {
            match lane.send_at_once(&mut self.record) {
                Some(slot) => return Poll::Ready(Ok(lane.routes.receipt(slot))),
                None => self.lane = Some(lane),
            }
        }
        self.poll_slowly(context).map_err(|error| *error)
    }
}

impl<'a> Sending<'a> {
    /// Boxes its errors, so that what is inlined into the sender moves a pointer or two and not an
    /// error's worth of memory.
    #[inline(never)]
    fn poll_slowly(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<BorrowedReceipt<'a>, Box<SendError>>> {
        if let Some(lane) = self.lane.take() {
            match lane.send_or_wait(self.record) {
                Ok(sent) => return Poll::Ready(sent.map_err(Box::new)),
                Err(waits) => self.later = Some(waits),
            }
        }
        match &mut self.later {
            Some(later) => later.as_mut().poll(context).map_err(Box::new),
            None => Poll::Pending, // it has been ready before
        }
    }
}

impl Routes {
    fn find(&mut self, name: &str, topics: &Topics) -> Option<usize> {
        match self.by_name.get(name) {
            Some(&at) if self.all[at].topic.is(name) => {
                self.last = at;
                Some(at)
            }
            _ => topics.get(name).map(|topic| self.learn(topic)),
        }
    }

    fn learn(&mut self, topic: Arc<Topic>) -> usize {
        let next = self.all.len();
        let at = *self.by_name.entry(Arc::clone(&topic.name)).or_insert(next);
        let partitions = topic.partitions.len();
        match self.all.get_mut(at) {
            Some(route) => route.topic = topic,
            None => {
                let latest = Vec::new();
                self.all.push(Route { topic, latest });
            }
        }
        self.all[at].latest.resize_with(partitions, Latest::none);
        self.last = at;
        at
    }

    #[inline]
    fn receipt(&self, slot: Slot) -> BorrowedReceipt<'_> {
        BorrowedReceipt(&self.all[slot.route].latest[slot.partition])
    }
}

impl Entry for Routes {
    type Kept = Slot;

    fn topic(&mut self, name: &str, topics: &Topics) -> Option<Arc<Topic>> {
        let at = self.find(name, topics)?;
        Some(Arc::clone(&self.all[at].topic))
    }

    fn keep(&mut self, topic: Arc<Topic>, accepted: Accepted, timestamp: i64) -> Slot {
        let at_hand = self.all.get(self.last);
        let route = match at_hand.is_some_and(|route| Arc::ptr_eq(&route.topic, &topic)) {
            true => self.last,
            false => self.learn(topic),
        };
        let partition = accepted.partition;
        let latest = &mut self.all[route].latest[partition];
        latest.follow(&accepted.ack, accepted.index, timestamp);
        Slot { route, partition }
    }
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lane")
            .field("producer", &self.producer)
            .finish_non_exhaustive()
    }
}
