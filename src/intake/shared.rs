//! Sends owned records for a handle that several threads may share. Each record gets a receipt.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::sync::oneshot;

use super::{Accepted, Admission, Entry, Intake, Later, Missing};
use crate::core::ack::{Ack, Receipt};
use crate::core::cluster::Denial;
use crate::core::record::{BorrowedRecord, Record};
use crate::core::stage::AppendOptions;
use crate::intake::error::{SendError, TrySendError, WaitsFor};
use crate::intake::topics::{Topic, TopicCache, Topics};
use crate::intake::wall_clock;

impl Intake {
    /// Sends a record; see [`Producer::send`](crate::Producer::send).
    #[inline]
    pub fn send<'a>(
        &'a self,
        recent: &'a TopicCache,
        record: Record,
        options: AppendOptions<'a>,
    ) -> Sending<'a> {
        Sending {
            intake: self,
            recent,
            record: Some(record),
            options,
            later: None,
        }
    }

    /// Sends a record that came as a message, and has waited for others since it was `asked` for.
    pub async fn send_since(
        &self,
        asked: Instant,
        record: Record,
        mut options: AppendOptions<'_>,
    ) -> Result<Receipt, SendError> {
        let record = self.intercepted(record)?;
        let recent = TopicCache::default();
        self.admit_since(|| asked, &mut &recent, record.borrowed(), &mut options)
            .await
    }

    /// Sends a borrowed record. If there are interceptors, it is copied for them.
    pub async fn send_borrowed(
        &self,
        recent: &TopicCache,
        record: BorrowedRecord<'_>,
        options: AppendOptions<'_>,
    ) -> Result<Receipt, SendError> {
        let (mut entry, mut options) = (recent, options);
        if self.interceptors.is_empty() {
            return self.admit(&mut entry, record, &mut options).await;
        }
        let record = self.intercepted(record.into_owned())?;
        self.admit(&mut entry, record.borrowed(), &mut options)
            .await
    }

    /// Sends a record if that is possible without waiting.
    #[inline]
    pub fn try_send(
        &self,
        recent: &TopicCache,
        record: Record,
        options: AppendOptions<'_>,
    ) -> Result<Receipt, TrySendError> {
        if options.is_empty()
            && let Some(receipt) = self.send_at_once(recent, &record)
        {
            return Ok(receipt);
        }
        self.try_slowly(recent, record, options)
    }

    #[inline(never)]
    fn try_slowly(
        &self,
        recent: &TopicCache,
        record: Record,
        mut options: AppendOptions<'_>,
    ) -> Result<Receipt, TrySendError> {
        let sent = match self.interceptors.is_empty() {
            true => self.try_now(recent, &record, &mut options),
            // The interceptors get a copy. If the record is refused, the caller gets the original
            // back, so it is not intercepted twice.
            false => self.intercepted(record.clone()).and_then(|seen| {
                let sent = self.try_now(recent, &seen, &mut options);
                sent.inspect_err(|error| self.refused(seen.topic(), error))
            }),
        };
        sent.map_err(|error| TrySendError::new(record, error))
    }

    fn try_now(
        &self,
        mut recent: &TopicCache,
        record: &Record,
        options: &mut AppendOptions<'_>,
    ) -> Result<Receipt, SendError> {
        match self.admit_now(&mut recent, &mut record.borrowed(), options)? {
            Admission::Accepted(receipt) => Ok(receipt),
            Admission::Missing(missing) => Err(self.would_block(record, &missing)),
        }
    }

    /// Starts what the record would have to wait for, so that it can succeed when the caller tries
    /// it again.
    fn would_block(&self, record: &Record, missing: &Missing) -> SendError {
        match missing {
            Missing::Topic => {
                let (now, partition) = (self.backend.now(), record.borrowed().partition);
                let topic = || Arc::from(record.topic());
                match (self.topics.denied(record.topic(), now), partition) {
                    (Some(Denial::Topic(error)), _) => {
                        let topic = topic();
                        return SendError::TopicRefused { topic, error };
                    }
                    (Some(Denial::TooManyPartitions { partitions, limit }), _) => {
                        let topic = topic();
                        return SendError::TooManyPartitions {
                            topic,
                            partitions,
                            limit,
                        };
                    }
                    (Some(Denial::Partitions(count)), Some(partition))
                        if partition as usize >= count =>
                    {
                        let topic = topic();
                        return SendError::PartitionOutOfRange {
                            topic,
                            partition,
                            count,
                        };
                    }
                    _ => {}
                }
                // Nothing waits for the reply, and that has to be so before it is asked for: whether
                // a caller waits is decided when the question arrives.
                let (reply, answer) = oneshot::channel();
                drop(answer);
                self.want_topic(&topic(), partition, now, reply);
                SendError::WouldBlock(WaitsFor::Topic)
            }
            Missing::Space(..) => {
                // It is seen to, though nobody waits for the answer.
                drop(self.backend.wait_for_space(self.backend.now()));
                SendError::WouldBlock(WaitsFor::Spool)
            }
            Missing::Memory(..) => {
                self.shelf.ask();
                SendError::WouldBlock(WaitsFor::Memory)
            }
        }
    }

    /// Sends a record if its topic is cached and the open batch has room for it. That is enough for
    /// nearly every record. Otherwise returns `None` and sends nothing.
    #[inline]
    fn send_at_once(&self, recent: &TopicCache, record: &Record) -> Option<Receipt> {
        let timestamp = record.borrowed().time(wall_clock::millis).ok()?;
        // The receipt is made in its final place. A copy right after would have to wait until all
        // its parts are in the cache.
        let (ack, index) = self.append_to_cached(recent, record, timestamp)?;
        Some(Receipt::new(ack, index, timestamp))
    }

    /// Appends a record to the open batch of a cached topic. Returns the batch's ack and the
    /// record's index, which fit in registers.
    #[inline(never)]
    fn append_to_cached(
        &self,
        recent: &TopicCache,
        record: &Record,
        timestamp: i64,
    ) -> Option<(Arc<Ack>, u32)> {
        if !self.interceptors.is_empty() || self.is_closed() || self.syncs {
            return None;
        }
        let mut record = record.borrowed();
        record.fields.timestamp = timestamp;
        recent.with(record.topic, |topic| {
            self.append_at_once(topic, &record, |_, ack, index| (Arc::clone(ack), index))
        })
    }

    /// Sends a record, or returns the future to wait for.
    #[inline(never)]
    fn send_or_wait<'a>(
        &'a self,
        mut recent: &'a TopicCache,
        record: Record,
        mut options: AppendOptions<'a>,
    ) -> Result<Result<Receipt, SendError>, Later<'a, Receipt>> {
        if !self.interceptors.is_empty() {
            return Err(Box::pin(async move {
                let record = self.intercepted(record)?;
                self.admit(&mut recent, record.borrowed(), &mut options)
                    .await
            }));
        }
        let failed = self.before_sync();
        match self.admit_now(&mut recent, &mut record.borrowed(), &mut options) {
            Ok(Admission::Accepted(receipt)) if !self.syncs => Ok(Ok(receipt)),
            Ok(Admission::Accepted(receipt)) => Err(Box::pin(async move {
                let synced = self.synced_since(failed).await;
                synced.map(|()| receipt)
            })),
            Ok(Admission::Missing(missing)) => Err(Box::pin(async move {
                self.admit_later(&mut recent, record.borrowed(), &mut options, missing)
                    .await
            })),
            Err(error) => Ok(Err(error)),
        }
    }
}

impl Entry for &TopicCache {
    type Found = Arc<Topic>;
    type Kept = Receipt;

    fn find_topic(&mut self, name: &str, topics: &Topics) -> Option<Arc<Topic>> {
        self.find(name, topics)
    }

    fn topic<'a>(&'a self, found: &'a Arc<Topic>) -> &'a Arc<Topic> {
        found
    }

    fn learn_topic(&mut self, topic: Arc<Topic>) -> Arc<Topic> {
        topic
    }

    fn keep(&mut self, _: Arc<Topic>, accepted: Accepted, timestamp: i64) -> Receipt {
        Receipt::new(accepted.ack, accepted.index, timestamp)
    }
}

/// The future of a send. It is not an `async fn`, because that would move the record twice before
/// it reads it. The moves cost as much as the rest of a send that does not wait.
pub(crate) struct Sending<'a> {
    intake: &'a Intake,
    recent: &'a TopicCache,
    record: Option<Record>,
    options: AppendOptions<'a>,
    /// Set if the record has to wait.
    later: Option<Later<'a, Receipt>>,
}

impl Future for Sending<'_> {
    type Output = Result<Receipt, SendError>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self {
            intake,
            recent,
            record,
            options,
            later,
        } = &mut *self;
        let (intake, recent) = (*intake, *recent);
        if let Some(later) = later {
            return later.as_mut().poll(context);
        }
        if let Some(held) = record
            && options.is_empty()
            && let Some(receipt) = intake.send_at_once(recent, held)
        {
            *record = None;
            return Poll::Ready(Ok(receipt));
        }
        let Some(record) = record.take() else {
            return Poll::Pending; // polled again after it was ready
        };
        match intake.send_or_wait(recent, record, std::mem::take(options)) {
            Ok(sent) => Poll::Ready(sent),
            Err(waiting) => later.insert(waiting).as_mut().poll(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intake::backend::tests::Asked;

    #[tokio::test]
    async fn a_caller_that_does_not_wait_is_known_as_such_when_its_question_arrives() {
        let asked = Arc::<Asked>::default();
        let waits = || asked.waits.lock().expect("no panic").clone();
        let (shelf, _) = Asked::shelf();
        let intake = asked.intake(Topics::new(), shelf);
        let recent = TopicCache::default();
        let refused = intake.try_send(&recent, Record::to("t"), AppendOptions::default());
        let refused = refused.expect_err("the topic is not known");
        assert!(matches!(
            refused.error(),
            SendError::WouldBlock(WaitsFor::Topic)
        ));
        assert_eq!(waits(), [false]);
        let refused = intake.send(&recent, Record::to("t"), AppendOptions::default());
        assert!(matches!(refused.await, Err(SendError::Closed)));
        assert_eq!(waits(), [false, true]);
    }
}
