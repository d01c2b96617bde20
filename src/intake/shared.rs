//! The door that any number of threads may share: owned records, a receipt for each.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::{Accepted, Intake, Missing, Step};
use crate::core::ack::{Ack, Receipt};
use crate::core::record::{BorrowedRecord, Record};
use crate::core::stage::AppendOptions;
use crate::intake::error::{SendError, TrySendError, WaitsFor};
use crate::intake::topics::TopicCache;
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

    /// Sends a record, which is copied for the interceptors where there are any.
    pub async fn send_borrowed(
        &self,
        recent: &TopicCache,
        record: BorrowedRecord<'_>,
        options: AppendOptions<'_>,
    ) -> Result<Receipt, SendError> {
        if self.interceptors.is_empty() {
            return self.deliver(recent, record, options).await;
        }
        let record = self.intercepted(record.into_owned())?;
        self.deliver(recent, record.borrowed(), options).await
    }

    /// Sends a record that the interceptors have seen.
    async fn deliver(
        &self,
        recent: &TopicCache,
        record: BorrowedRecord<'_>,
        mut options: AppendOptions<'_>,
    ) -> Result<Receipt, SendError> {
        let sent = match self.send_now(recent, record, &mut options) {
            Ok(Now::Accepted(receipt)) => return Ok(receipt),
            Ok(Now::Missing(short)) => self.accepted_later(record, &mut options, short).await,
            Err(error) => Err(error),
        };
        sent.inspect_err(|error| self.refused(record.topic, error))
    }

    /// Sends a record if nothing has to be waited for.
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
            // Handed back is what was handed in, so that nobody intercepts it twice.
            false => self.intercepted(record.clone()).and_then(|seen| {
                let sent = self.try_now(recent, &seen, &mut options);
                sent.inspect_err(|error| self.refused(seen.topic(), error))
            }),
        };
        sent.map_err(|error| TrySendError::new(record, error))
    }

    fn try_now(
        &self,
        recent: &TopicCache,
        record: &Record,
        options: &mut AppendOptions<'_>,
    ) -> Result<Receipt, SendError> {
        match self.send_now(recent, record.borrowed(), options)? {
            Now::Accepted(receipt) => Ok(receipt),
            Now::Missing(short) => Err(self.would_block(record, &short)),
        }
    }

    fn would_block(&self, record: &Record, short: &Missing) -> SendError {
        match short {
            Missing::Topic => {
                // Whoever tries again later finds it.
                let (topic, asked) = (Arc::from(record.topic()), self.backend.now());
                let deadline = asked + self.config.max_block;
                drop(self.backend.want_topic(&topic, asked, deadline));
                SendError::WouldBlock(WaitsFor::Topic)
            }
            Missing::Memory(..) => {
                self.shelf.ask();
                SendError::WouldBlock(WaitsFor::Memory)
            }
        }
    }

    /// Sends a record to the topic of the last one, if its batch is open: what nearly every record
    /// needs. `None`, and nothing is done, if it takes more than that.
    #[inline]
    fn send_at_once(&self, recent: &TopicCache, record: &Record) -> Option<Receipt> {
        let timestamp = record.borrowed().time(wall_clock::millis).ok()?;
        // The receipt is made where it goes: a copy would wait until all of it is in the cache.
        let (ack, index) = self.append_one_at_hand(recent, record, timestamp)?;
        Some(Receipt::new(ack, index, timestamp))
    }

    /// The batch that took a record, and its index there: no more than fits in registers.
    #[inline(never)]
    fn append_one_at_hand(
        &self,
        recent: &TopicCache,
        record: &Record,
        timestamp: i64,
    ) -> Option<(Arc<Ack>, u32)> {
        if !self.interceptors.is_empty() || self.is_closed() {
            return None;
        }
        let mut record = record.borrowed();
        record.fields.timestamp = timestamp;
        recent.with(record.topic, |topic| {
            self.append_at_once(topic, &record, |_, ack, index| (Arc::clone(ack), index))
        })
    }

    /// Sends a record, or returns what has to be waited for.
    #[inline(never)]
    fn send_or_wait<'a>(
        &'a self,
        recent: &'a TopicCache,
        record: Record,
        mut options: AppendOptions<'a>,
    ) -> Result<Result<Receipt, SendError>, Later<'a>> {
        if !self.interceptors.is_empty() {
            return Err(Box::pin(async move {
                let record = self.intercepted(record)?;
                self.deliver(recent, record.borrowed(), options).await
            }));
        }
        match self.send_now(recent, record.borrowed(), &mut options) {
            Ok(Now::Accepted(receipt)) => Ok(Ok(receipt)),
            Ok(Now::Missing(short)) => Err(Box::pin(async move {
                let record = record.borrowed();
                self.accepted_later(record, &mut options, short).await
            })),
            Err(error) => Ok(Err(error)),
        }
    }

    fn send_now(
        &self,
        recent: &TopicCache,
        mut record: BorrowedRecord<'_>,
        options: &mut AppendOptions<'_>,
    ) -> Result<Now, SendError> {
        self.check_open()?;
        record.resolve_timestamp(wall_clock::millis)?;
        let Some(topic) = recent.find(record.topic, &self.topics) else {
            return Ok(Now::Missing(Missing::Topic));
        };
        Ok(match self.step(&topic, &record, options)? {
            Step::Accepted(accepted) => Now::Accepted(accepted.receipt(&record)),
            Step::Missing(short) => Now::Missing(short),
        })
    }

    /// Waits for what the record was short of, until it is accepted.
    pub async fn accepted_later(
        &self,
        mut record: BorrowedRecord<'_>,
        options: &mut AppendOptions<'_>,
        short: Missing,
    ) -> Result<Receipt, SendError> {
        record.resolve_timestamp(wall_clock::millis)?;
        let (_, accepted) = self.wait(&record, options, short).await?;
        Ok(accepted.receipt(&record))
    }
}

/// How far a record of the shared door came without waiting.
enum Now {
    Accepted(Receipt),
    Missing(Missing),
}

/// A record on its way in. Written out, because an `async fn` would move the record twice before
/// it looks at it, and that costs as much as the rest of a send that need not wait.
pub(crate) struct Sending<'a> {
    intake: &'a Intake,
    recent: &'a TopicCache,
    record: Option<Record>,
    options: AppendOptions<'a>,
    /// It has to wait.
    later: Option<Later<'a>>,
}

type Later<'a> = Pin<Box<dyn Future<Output = Result<Receipt, SendError>> + Send + 'a>>;

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
            return Poll::Pending; // it has been ready before
        };
        match intake.send_or_wait(recent, record, std::mem::take(options)) {
            Ok(sent) => Poll::Ready(sent),
            Err(waits) => later.insert(waits).as_mut().poll(context),
        }
    }
}

impl Accepted {
    fn receipt(self, record: &BorrowedRecord<'_>) -> Receipt {
        Receipt::new(self.ack, self.index, record.fields.timestamp)
    }
}
