//! Whom to tell of a batch's outcome beside the receipts.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use crate::core::ack::{Receipt, RecordId, Settlement};
use crate::core::outcome::{Outcome, Reason, Unconfirmed};
use crate::core::record::TopicPartition;
use crate::core::user_code;

/// A run of records of one partition has its outcome: one message per batch.
///
/// It goes to whom [`Producer::outcomes_to`](crate::Producer::outcomes_to) names, and to interceptors. A
/// batch may hold records of other senders too; look up your own by [`Receipt::id`].
///
/// ```
/// use actix::prelude::*;
/// use forebay::BatchOutcome;
///
/// struct Shop;
///
/// impl Actor for Shop {
///     type Context = Context<Self>;
/// }
///
/// impl Handler<BatchOutcome> for Shop {
///     type Result = ();
///
///     fn handle(&mut self, batch: BatchOutcome, _: &mut Context<Self>) {
///         match &batch.result {
///             Ok(offset) => println!("{}: written from {offset:?} on", batch.topic_partition),
///             Err(unconfirmed) => println!("{}: {unconfirmed}", batch.topic_partition),
///         }
///     }
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BatchOutcome {
    /// Where the records went.
    pub topic_partition: TopicPartition,
    /// The first record of the run.
    pub first: RecordId,
    /// How many records the run has.
    pub count: u32,
    /// The first record's offset, or why the records were not confirmed. The offset is `None`
    /// when the broker confirmed the batch without saying where it is.
    pub result: Result<Option<i64>, Unconfirmed>,
}

impl BatchOutcome {
    /// Whether the run holds this record.
    pub fn contains(&self, id: RecordId) -> bool {
        id.batch == self.first.batch
            && id
                .index
                .checked_sub(self.first.index)
                .is_some_and(|at| at < self.count)
    }

    /// The records of the run, in order.
    pub fn ids(&self) -> impl Iterator<Item = RecordId> + use<> {
        let first = self.first;
        (0..self.count).map(move |at| RecordId {
            index: first.index + at,
            ..first
        })
    }

    /// The offset of a record of this run, where the broker named one.
    pub fn offset_of(&self, id: RecordId) -> Option<i64> {
        let base = self.result.as_ref().ok().copied().flatten()?;
        self.contains(id)
            .then(|| base + i64::from(id.index - self.first.index))
    }

    pub(crate) fn new(
        topic_partition: TopicPartition,
        first: RecordId,
        count: i32,
        settlement: &Settlement,
    ) -> Option<Self> {
        let result = match settlement {
            Settlement::Acked { base_offset, .. } => Ok(*base_offset),
            Settlement::Failed(undelivered) => Err(undelivered.clone()),
            Settlement::Invalid { error, .. } => {
                Err(Unconfirmed::NotWritten(Reason::Broker(error.clone())))
            }
            Settlement::Split(_) => return None, // the parts will tell
        };
        Some(Self {
            topic_partition,
            first,
            count: count.unsigned_abs(),
            result,
        })
    }
}

/// Called with a record's outcome.
pub type Callback = Box<dyn FnOnce(Outcome) + Send>;

/// What is told of whole batches.
pub trait Listener: Send + Sync {
    /// `delivered` has its outcome. Called in partition order.
    fn delivered(&self, delivered: &BatchOutcome);

    /// Whether it takes messages, one after the other, instead of calls.
    fn is_recipient(&self) -> bool {
        false
    }

    /// Whether nobody is left to tell.
    fn is_gone(&self) -> bool {
        false
    }

    /// Gives a message to a recipient. The future is ready when it has handled it, or is gone.
    fn hand_over(&self, delivered: BatchOutcome) -> Handled {
        self.delivered(&delivered);
        Box::pin(std::future::ready(()))
    }
}

/// Ready when a message was handled.
pub type Handled = Pin<Box<dyn Future<Output = ()>>>;

/// Gives out one item at a time: the next one when the one before is done with.
#[derive(Debug)]
pub struct InTurn<T> {
    busy: bool,
    waiting: VecDeque<T>,
}

impl<T> Default for InTurn<T> {
    fn default() -> Self {
        Self {
            busy: false,
            waiting: VecDeque::new(),
        }
    }
}

impl<T> InTurn<T> {
    /// Gives the item back if it is its turn at once.
    pub fn offer(&mut self, item: T) -> Option<T> {
        if std::mem::replace(&mut self.busy, true) {
            self.waiting.push_back(item);
            return None;
        }
        Some(item)
    }

    /// The one given out last is done with. Gives out the next, if there is one.
    pub fn next(&mut self) -> Option<T> {
        let next = self.waiting.pop_front();
        self.busy = next.is_some();
        next
    }
}

/// Callbacks and listeners of one batch. Most batches have none, and then this is one null pointer.
#[derive(Default)]
pub struct Listeners(Option<Box<Audience>>);

#[derive(Default)]
struct Audience {
    callbacks: Vec<(Receipt, Callback)>,
    listeners: Vec<Arc<dyn Listener>>,
}

impl Listeners {
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    fn audience(&mut self) -> &mut Audience {
        self.0.get_or_insert_default()
    }

    /// Tells these.
    pub fn of(listeners: &[Arc<dyn Listener>]) -> Self {
        let mut told = Self::default();
        listeners.iter().for_each(|listener| told.add(listener));
        told
    }

    /// Calls `callback` with the outcome of the record of `receipt`.
    pub fn call_back(&mut self, receipt: Receipt, callback: Callback) {
        self.audience().callbacks.push((receipt, callback));
    }

    /// Tells `listener`, once however often it is added.
    pub fn add(&mut self, listener: &Arc<dyn Listener>) {
        let listeners = &mut self.audience().listeners;
        if !listeners.iter().any(|known| Arc::ptr_eq(known, listener)) {
            listeners.push(Arc::clone(listener));
        }
    }

    pub fn listeners(&self) -> &[Arc<dyn Listener>] {
        self.0.as_ref().map_or(&[], |audience| &audience.listeners)
    }

    pub fn has_callbacks(&self) -> bool {
        self.0
            .as_ref()
            .is_some_and(|audience| !audience.callbacks.is_empty())
    }

    /// The listeners, where there are no callbacks.
    pub fn into_listeners(mut self) -> Vec<Arc<dyn Listener>> {
        self.0
            .take()
            .map_or_else(Vec::new, |audience| audience.listeners)
    }

    /// The callbacks, in the order of their records.
    pub fn into_callbacks(mut self) -> Vec<(Receipt, Callback)> {
        let audience = self.0.take();
        audience.map_or_else(Vec::new, |audience| audience.callbacks)
    }

    /// Those of the records before `at`, and those of the rest.
    pub fn split(mut self, at: RecordId) -> (Self, Self) {
        let Some(audience) = self.0.take() else {
            return Default::default();
        };
        let Audience {
            callbacks,
            listeners,
        } = *audience;
        let (head, tail) = callbacks
            .into_iter()
            .partition(|(receipt, _)| receipt.id().index < at.index);
        let part = |callbacks: Vec<_>, listeners: Vec<_>| {
            let anybody = !callbacks.is_empty() || !listeners.is_empty();
            let audience = Audience {
                callbacks,
                listeners,
            };
            Self(anybody.then(|| Box::new(audience)))
        };
        (part(head, listeners.clone()), part(tail, listeners))
    }
}

impl Drop for Listeners {
    /// Callbacks that are not called, because the arbiter is gone, may own anything.
    fn drop(&mut self) {
        for (_, callback) in self.0.take().into_iter().flat_map(|it| it.callbacks) {
            user_code::shielded("the drop of a callback", || drop(callback));
        }
    }
}

impl fmt::Debug for Listeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listeners")
            .field(
                "callbacks",
                &self
                    .0
                    .as_ref()
                    .map_or(0, |audience| audience.callbacks.len()),
            )
            .field("listeners", &self.listeners().len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ack::AckSettler;

    #[test]
    fn a_callback_that_is_not_called_may_panic_in_its_drop() {
        struct Panics;
        impl Drop for Panics {
            fn drop(&mut self) {
                panic!("expected");
            }
        }
        let mut listeners = Listeners::default();
        let owned = Panics;
        let callback = move |_: Outcome| drop(owned);
        let batch = AckSettler::new(0);
        listeners.call_back(batch.receipt(0, 0), Box::new(callback));
        drop(listeners);
    }

    #[test]
    fn each_waits_for_the_one_before() {
        let mut line = InTurn::default();
        assert_eq!(line.offer(1), Some(1));
        assert_eq!([line.offer(2), line.offer(3)], [None, None]);
        assert_eq!(
            [line.next(), line.next(), line.next()],
            [Some(2), Some(3), None]
        );
        assert_eq!(line.offer(4), Some(4));
    }

    #[test]
    fn a_half_in_which_nobody_is_to_be_told_has_no_listeners() {
        let batch = AckSettler::new(0);
        let mut listeners = Listeners::default();
        assert!(listeners.is_empty());
        listeners.call_back(batch.receipt(5, 0), Box::new(drop));
        let middle = RecordId {
            index: 3,
            ..batch.first()
        };
        let (head, tail) = listeners.split(middle);
        assert!(head.is_empty() && !tail.is_empty());
        assert_eq!(tail.into_callbacks().len(), 1);
    }
}
