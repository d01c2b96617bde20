//! The lane: a handle for one task that sends a great many records.

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

/// A handle for one task that sends a great many records. If they are small, a send costs four to
/// nine tenths of what [`Producer::send`] costs.
///
/// Unlike a [`Producer`], a lane is used by one task at a time. It takes borrowed bytes, copies
/// them once, into the batch, and remembers topics and batches for the next record. In everything
/// else both handles are alike: guarantees, outcomes, errors and interceptors. They also share the
/// open batch of each partition. So records of an idle lane are sent when `linger.ms` is over, and
/// [`Producer::flush`] includes them.
///
/// Records that one lane sends to one partition are written in the order in which its `send` calls
/// returned. Make one lane for each task that sends. A lane may be moved to any thread. It keeps
/// the producer open, as every handle does.
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
    /// There are no interceptors and no listeners. So only receipts tell the outcomes of records.
    plain: bool,
    routes: Routes,
    /// The state of the lane when it is used as a sink.
    sunk: sink_state::SinkState,
}

/// The topics that the lane has sent to.
#[derive(Default)]
struct Routes {
    all: Vec<Route>,
    /// The index of the last record's topic in `all`.
    last: usize,
    by_name: HashMap<Arc<str>, usize>,
    /// From this many on, those that were let go of are looked for.
    tidy_at: usize,
}

/// A topic, and the last record to each of its partitions.
struct Route {
    topic: Arc<Topic>,
    /// One for each of the topic's partitions. If nothing was sent to a partition, it has no batch.
    latest: Vec<Latest>,
}

impl Producer {
    /// Makes a handle for one task that sends a great many records.
    pub fn lane(&self) -> Lane {
        Lane::new(self.clone())
    }
}

/// Where a lane keeps the last record that it has sent: indices into [`Routes`].
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

    /// Sends a record. It waits and fails in the same cases as [`Producer::send`].
    ///
    /// If there are interceptors, the record is copied for them.
    #[inline]
    pub fn send<'a>(
        &'a mut self,
        record: BorrowedRecord<'a>,
    ) -> impl Future<Output = Result<BorrowedReceipt<'a>, SendError>> + Send {
        self.sending(record, false)
    }

    /// With `synced_later` the caller waits himself until the spool has it on the disk.
    #[inline]
    fn sending<'a>(&'a mut self, record: BorrowedRecord<'a>, synced_later: bool) -> Sending<'a> {
        Sending {
            lane: Some(self),
            record,
            synced_later,
            later: None,
        }
    }

    /// Sends a record if it goes to the topic of the last one and the open batch has room for it.
    /// That is enough for nearly every record. Otherwise returns `None` and sends nothing.
    #[inline]
    fn send_at_once(&mut self, record: &mut BorrowedRecord<'_>) -> Option<Slot> {
        let intake = self.producer.intake();
        if !self.plain || self.sunk.is_waiting() || intake.is_closed() || intake.syncs {
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

    /// Sends a record, or returns the future to wait for.
    fn send_or_wait<'a>(
        &'a mut self,
        mut record: BorrowedRecord<'a>,
        synced_later: bool,
    ) -> Result<Result<BorrowedReceipt<'a>, SendError>, Later<'a, BorrowedReceipt<'a>>> {
        if self.sunk.is_waiting() || !self.producer.intake().interceptors.is_empty() {
            return Err(Box::pin(self.send_when_clear(record)));
        }
        let failed = self.producer.intake().before_sync();
        match self.admit_now(&mut record) {
            Ok(Admission::Accepted(slot)) if synced_later || !self.producer.intake().syncs => {
                Ok(Ok(self.routes.receipt(slot)))
            }
            Ok(Admission::Accepted(slot)) => Err(Box::pin(async move {
                self.producer.intake().synced_since(failed).await?;
                Ok(self.routes.receipt(slot))
            })),
            Ok(Admission::Missing(missing)) => Err(Box::pin(async move {
                let Self {
                    producer, routes, ..
                } = self;
                let mut options = AppendOptions {
                    synced_later,
                    ..AppendOptions::for_listeners(producer.listeners())
                };
                let intake = producer.intake();
                let admitted = intake.admit_later(routes, record, &mut options, missing);
                let slot = admitted.await?;
                Ok(routes.receipt(slot))
            })),
            Err(error) => Ok(Err(error)),
        }
    }

    /// Waits until the record before this one is accepted, then sends this one.
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

/// The future of a send. It is not an `async fn`, because that would move the record twice before
/// it reads it. The moves cost as much as the rest of a send that does not wait.
struct Sending<'a> {
    lane: Option<&'a mut Lane>,
    record: BorrowedRecord<'a>,
    synced_later: bool,
    /// Set if the record has to wait.
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
    /// Polls a send that needs more than the fast path. It boxes its errors: so the code that is
    /// inlined into the caller moves a pointer or two, not a whole error.
    #[inline(never)]
    fn poll_slowly(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<BorrowedReceipt<'a>, Box<SendError>>> {
        if let Some(lane) = self.lane.take() {
            match lane.send_or_wait(self.record, self.synced_later) {
                Ok(sent) => return Poll::Ready(sent.map_err(Box::new)),
                Err(waiting) => self.later = Some(waiting),
            }
        }
        match &mut self.later {
            Some(later) => later.as_mut().poll(context).map_err(Box::new),
            None => Poll::Pending, // polled again after it was ready
        }
    }
}

impl Routes {
    /// The index of a topic, if it is known. It becomes the topic of the last record.
    fn find(&mut self, name: &str, topics: &Topics) -> Option<usize> {
        match self.by_name.get(name) {
            Some(&at) if self.all[at].topic.is(name) => {
                self.last = at;
                Some(at)
            }
            _ => topics.get(name).map(|topic| self.learn(topic)),
        }
    }

    /// Adds a topic, or replaces an older version of it. Returns its index.
    fn learn(&mut self, topic: Arc<Topic>) -> usize {
        if self.all.len() >= self.tidy_at && !self.by_name.contains_key(&topic.name) {
            self.tidy();
        }
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

    /// Forgets the topics that left the routes. Else a lane that sends to ever new topics would keep all
    /// of them.
    fn tidy(&mut self) {
        const MANY: usize = 64;
        self.all.retain(|route| route.topic.is_current());
        let names = self.all.iter().map(|route| Arc::clone(&route.topic.name));
        self.by_name = names.zip(0..).collect();
        self.tidy_at = MANY.max(2 * self.all.len());
    }

    #[inline]
    fn receipt(&self, slot: Slot) -> BorrowedReceipt<'_> {
        BorrowedReceipt(&self.all[slot.route].latest[slot.partition])
    }
}

impl Entry for Routes {
    /// The index of a route.
    type Found = usize;
    type Kept = Slot;

    fn find_topic(&mut self, name: &str, topics: &Topics) -> Option<usize> {
        self.find(name, topics)
    }

    fn topic<'a>(&'a self, found: &'a usize) -> &'a Arc<Topic> {
        &self.all[*found].topic
    }

    fn learn_topic(&mut self, topic: Arc<Topic>) -> usize {
        self.learn(topic)
    }

    fn keep(&mut self, route: usize, accepted: Accepted, timestamp: i64) -> Slot {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::partitioner::{RoundRobin, Sticky};

    #[test]
    fn a_lane_forgets_the_topics_that_left_the_routes() {
        let topics = Topics::new();
        let mut routes = Routes::default();
        let topic = |name: &str| {
            let partitioners = (Sticky::new(false, 1, 1), RoundRobin::new());
            let (sticky, round_robin) = (Arc::new(partitioners.0), Arc::new(partitioners.1));
            Topic::new(name.into(), Vec::new(), Vec::new(), sticky, round_robin)
        };
        topics.insert(topic("stays"));
        for number in 0..1000 {
            let name = number.to_string();
            topics.insert(topic(&name));
            for name in [&*name, "stays"] {
                let at = routes.find(name, &topics).expect("known");
                assert_eq!(&*routes.all[at].topic.name, name);
            }
            topics.remove(&name);
        }
        assert!(routes.all.len() < 200, "{}", routes.all.len());
        assert_eq!(routes.by_name.len(), routes.all.len());
    }
}
