//! Receipts of records in a transaction.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::Stream;

use super::scope::never_committed;
use crate::core::ack;
use crate::core::outcome::{Outcome, Reason, Unconfirmed};
use crate::core::receipts;
use crate::core::user_code;
use crate::core::wakers::Place;

/// The record is in the log, as part of a transaction that has not ended. Only readers with
/// `isolation.level=read_uncommitted` see it yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Appended {
    /// The partition it is in.
    pub partition: i32,
    /// Its offset. `None` when the broker confirmed the record without saying where it is.
    pub offset: Option<i64>,
    /// Its timestamp in milliseconds since 1970-01-01 UTC: the record's own, or the broker's where the
    /// topic has `message.timestamp.type=LogAppendTime`.
    pub timestamp: i64,
}

fn appended(outcome: Outcome) -> Result<Appended, Unconfirmed> {
    match outcome {
        Ok(acked) => Ok(Appended {
            partition: acked.partition,
            offset: acked.offset,
            timestamp: acked.timestamp,
        }),
        Err(unconfirmed) => Err(never_committed(unconfirmed)),
    }
}

/// The receipt of a record in a transaction: first a future of whether it was appended, and then, when
/// the transaction has ended, of its one [`Outcome`].
///
/// So what waits for it before the commit does not wait for the commit. It may be dropped.
///
/// ```no_run
/// # async fn example(producer: forebay::TransactionalProducer) -> Result<(), Box<dyn std::error::Error>> {
/// use forebay::Record;
///
/// let transaction = producer.begin().await?;
/// let mut receipt = transaction.send(Record::to("orders").value("shoes")).await?;
/// println!("appended at {:?}", (&mut receipt).await?.offset);
/// transaction.commit().await?;
/// println!("there for everybody: {:?}", receipt.ended().await);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "a receipt holds the record's outcome; drop it only if nobody needs to know"]
pub struct Receipt(ack::Receipt);

impl Receipt {
    pub(crate) fn new(receipt: ack::Receipt) -> Self {
        Self(receipt)
    }

    /// The record's outcome, once its transaction has ended. One that failed has it sooner: its transaction
    /// can only be aborted.
    pub fn outcome(&self) -> Option<Outcome> {
        self.0.final_outcome()
    }

    /// Waits for the end of the transaction, if the record did not fail. In code that the runtime calls, a
    /// callback for example, no end comes before that code returns, so it is an `Unknown` with
    /// [`Reason::InCallback`].
    pub async fn ended(self) -> Outcome {
        let scope = self.0.scope().cloned();
        let settled = self.0.await;
        let Some(scope) = scope else {
            return settled;
        };
        if let Err(unconfirmed) = settled {
            return Err(never_committed(unconfirmed));
        }
        let mut place = Place::NONE;
        let end = poll_fn(|context| match scope.end() {
            None if user_code::holds_up_runtime() => Poll::Ready(false),
            _ => scope.poll_end(&mut place, context).map(|_| true),
        });
        let known = end.await.then(|| scope.outcome(settled)).flatten();
        known.unwrap_or(Err(Unconfirmed::Unknown(Reason::InCallback)))
    }

    /// The partition the record went to.
    pub fn partition(&self) -> i32 {
        self.0.partition()
    }

    /// The record's timestamp in milliseconds since 1970-01-01 UTC, as it was sent.
    pub fn timestamp(&self) -> i64 {
        self.0.timestamp()
    }

    /// Names the record in [`BatchOutcome`](crate::BatchOutcome) messages.
    pub fn id(&self) -> ack::RecordId {
        self.0.id()
    }
}

impl Future for Receipt {
    /// Whether the record was appended. What was not is [`NotWritten`](Unconfirmed::NotWritten) or
    /// [`Aborted`](Unconfirmed::Aborted) at once: the transaction can only be aborted then.
    type Output = Result<Appended, Unconfirmed>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(appended)
    }
}

/// A record that a [`Lane`](crate::transaction::Lane) has sent in its transaction.
#[derive(Debug, Clone, Copy)]
pub struct BorrowedReceipt<'a>(pub(crate) ack::BorrowedReceipt<'a>);

impl BorrowedReceipt<'_> {
    /// A future of whether the record was appended, and of its outcome.
    pub fn receipt(&self) -> Receipt {
        Receipt(self.0.receipt())
    }

    /// The partition the record went to.
    pub fn partition(&self) -> i32 {
        self.0.partition()
    }

    /// The record's timestamp in milliseconds since 1970-01-01 UTC, as it was sent.
    pub fn timestamp(&self) -> i64 {
        self.0.timestamp()
    }

    /// Names the record in [`BatchOutcome`](crate::BatchOutcome) messages.
    pub fn id(&self) -> ack::RecordId {
        self.0.id()
    }
}

/// The receipts of many records in a transaction: a stream of whether each was appended, in the order in
/// which they were put in.
///
/// All of them have their outcome when the commit returns: acked if it succeeds.
#[derive(Debug, Default)]
pub struct Receipts(pub(crate) receipts::Receipts);

impl Receipts {
    /// Puts a record in, behind those already there.
    pub fn push(&mut self, sent: BorrowedReceipt<'_>) {
        self.0.push(sent.0);
    }

    /// Puts a receipt in, behind those already there.
    pub fn push_receipt(&mut self, receipt: Receipt) {
        self.0.push_receipt(receipt.0);
    }

    /// How many records are left.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no record is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the next record was appended, if that is known by now.
    pub fn try_next(&mut self) -> Option<Result<Appended, Unconfirmed>> {
        self.0.try_next().map(appended)
    }

    /// Waits for the next record to be appended; `None` when none is left.
    pub async fn next(&mut self) -> Option<Result<Appended, Unconfirmed>> {
        self.0.next().await.map(appended)
    }
}

impl Stream for Receipts {
    type Item = Result<Appended, Unconfirmed>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = Pin::new(&mut self.0).poll_next(context);
        next.map(|outcome| outcome.map(appended))
    }
}
