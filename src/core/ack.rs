//! One shared ack per batch; a record's receipt is an index into it.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use crate::core::broker_error::BrokerError;
use crate::core::outcome::{Acked, Outcome, Reason, Unconfirmed};
use crate::core::sync::{Mutex, MutexGuard, OnceLock};
use crate::core::transaction::{Cause, End, Scope, aborted, in_doubt, never_committed};
use crate::core::user_code;
use crate::core::wakers::{Place, Wakers};

/// A future of the one [`Outcome`] of an accepted record.
///
/// It costs nothing until it is polled, and may be dropped: the record is delivered all the same. A record
/// that is waited for does not wait for `linger.ms` where nothing is in flight to its broker.
/// It resolves within `delivery.timeout.ms` of the record's acceptance, give or take a scheduling
/// delay.
///
/// ```no_run
/// # async fn example(producer: forebay::Producer) -> Result<(), Box<dyn std::error::Error>> {
/// use forebay::Record;
///
/// let receipt = producer.send(Record::to("orders").value("shoes")).await?;
/// println!("goes to partition {}", receipt.partition());
/// println!("written at offset {:?}", receipt.await?.offset);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a receipt holds the record's outcome; drop it only if nobody needs to know"]
pub struct Receipt {
    ack: Arc<Ack>,
    index: u32,
    /// Where the waker of whoever polled it last is.
    place: Place,
    timestamp: i64,
}

impl Clone for Receipt {
    /// The clone may wait elsewhere, so it has no waker yet.
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.ack), self.index, self.timestamp)
    }
}

impl Receipt {
    #[inline]
    pub(crate) fn new(ack: Arc<Ack>, index: u32, timestamp: i64) -> Self {
        Self {
            ack,
            index,
            place: Place::NONE,
            timestamp,
        }
    }

    /// The outcome, if it is known by now.
    pub fn outcome(&self) -> Option<Outcome> {
        self.ack.outcome(self.index, self.timestamp)
    }

    /// What the record's outcome is, once its transaction has ended, if it is part of one.
    pub(crate) fn final_outcome(&self) -> Option<Outcome> {
        let settled = self.outcome()?;
        match self.ack.scope() {
            Some(scope) => scope.outcome(settled),
            None => Some(settled),
        }
    }

    /// The transaction that the record is part of.
    pub(crate) fn scope(&self) -> Option<&Arc<Scope>> {
        self.ack.scope()
    }

    /// The partition the record went to.
    pub fn partition(&self) -> i32 {
        self.ack.partition
    }

    /// The record's timestamp in milliseconds since 1970-01-01 UTC, as it was sent.
    pub fn timestamp(&self) -> i64 {
        self.timestamp
    }

    /// Names the record in [`BatchOutcome`](crate::BatchOutcome) messages.
    pub fn id(&self) -> RecordId {
        self.ack.record(self.index)
    }

    pub(crate) fn into_latest(self) -> Latest {
        let Self {
            ack,
            index,
            timestamp,
            ..
        } = self;
        Latest {
            partition: ack.partition,
            ack,
            index,
            timestamp,
        }
    }
}

impl Future for Receipt {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        if let Some(outcome) = self.outcome() {
            return Poll::Ready(outcome);
        }
        if user_code::holds_up_runtime() {
            return Poll::Ready(Err(Unconfirmed::Unknown(Reason::InCallback)));
        }
        let Self {
            ack, index, place, ..
        } = &mut *self;
        ack.register(*index, place, context.waker(), 1);
        Poll::Pending
    }
}

/// A record that a [`Lane`](crate::Lane) has sent: accepted, its outcome to come. The lane has an
/// example.
///
/// It may be dropped, and costs nothing unless a [`Receipt`] is made of it, or it is kept in
/// [`Receipts`](crate::Receipts).
#[derive(Debug, Clone, Copy)]
pub struct BorrowedReceipt<'a>(pub(crate) &'a Latest);

impl BorrowedReceipt<'_> {
    #[inline]
    pub(crate) fn latest(&self) -> &Latest {
        self.0
    }

    /// A future of the record's outcome.
    pub fn receipt(&self) -> Receipt {
        Receipt::new(Arc::clone(&self.0.ack), self.0.index, self.0.timestamp)
    }

    /// The partition the record went to.
    pub fn partition(&self) -> i32 {
        self.0.partition
    }

    /// The record's timestamp in milliseconds since 1970-01-01 UTC, as it was sent.
    pub fn timestamp(&self) -> i64 {
        self.0.timestamp
    }

    /// Names the record in [`BatchOutcome`](crate::BatchOutcome) messages.
    pub fn id(&self) -> RecordId {
        self.0.ack.record(self.0.index)
    }
}

/// Names a record among all those a process has sent; see [`Receipt::id`].
///
/// What it is made of is nobody's business: it can be compared, and be the key of a map. The example
/// `examples/actor.rs` has such a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordId {
    /// The batch the record was appended to.
    pub(crate) batch: u64,
    /// Its place in that batch, from 0.
    pub(crate) index: u32,
}

/// How a batch ended, for all its records at once.
#[derive(Debug, Clone)]
pub enum Settlement {
    /// The broker has it. No base offset when the broker named none.
    Acked {
        base_offset: Option<i64>,
        log_append_time: Option<i64>,
    },
    /// One fate for every record.
    Failed(Unconfirmed),
    /// The broker named the records it objects to; the others went down with them.
    Invalid {
        error: BrokerError,
        records: Arc<[(u32, Arc<str>)]>,
    },
    /// The batch was cut in parts: (index of the first record, the part's ack), in order.
    Split(Vec<(u32, Arc<Ack>)>),
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl Settlement {
    /// What it is now that the batch's transaction has ended.
    pub fn at_the_end_of(self, scope: &Scope) -> Self {
        match (self, scope.end()) {
            (Self::Acked { .. }, Some(End::Aborted(why))) => Self::Failed(aborted(why)),
            (Self::Acked { .. }, Some(End::Unknown(why))) => Self::Failed(in_doubt(why)),
            (Self::Failed(unconfirmed), _) => Self::Failed(never_committed(unconfirmed)),
            (settlement, _) => settlement,
        }
    }

    /// Has the transaction fail if records of the batch are not in the log, or may not be.
    fn fail(&self, scope: &Scope, partition: i32) {
        let fail = |unconfirmed| {
            scope.fail(Cause::Record {
                partition,
                unconfirmed,
            });
        };
        match self {
            Self::Acked { .. } | Self::Split(_) => {}
            Self::Failed(unconfirmed) => fail(unconfirmed.clone()),
            Self::Invalid { error, .. } => {
                fail(Unconfirmed::NotWritten(Reason::Broker(error.clone())));
            }
        }
    }
}

/// Where a batch is filled.
pub(crate) trait Filling: Send + Sync {
    /// The outcomes of so many records of the batch with this ack are waited for.
    fn awaited(&self, ack: &Ack, records: u32);
}

/// Who waits for a batch.
#[derive(Debug, Default)]
struct Waiting {
    wakers: Wakers,
    /// Records whose outcomes were asked for, while it was not known.
    records: u32,
    /// Where the batch is filled is told when there are so many. They double each time, so that it is told
    /// a few times per batch, and knows of more than half of them.
    tell_at: u32,
}

impl Waiting {
    /// Counts `more` records that are waited for. Returns how many there are, if that has to be told.
    fn count(&mut self, more: u32) -> Option<u32> {
        self.records = self.records.saturating_add(more);
        if more == 0 || self.records < self.tell_at {
            return None;
        }
        self.tell_at = self.records.saturating_mul(2);
        Some(self.records)
    }
}

/// The outcome of one batch, written once, read by as many receipts as it has records.
#[derive(Debug)]
pub struct Ack {
    id: u64,
    partition: i32,
    /// The transaction of the batch, if it is part of one.
    scope: Option<Arc<Scope>>,
    settlement: OnceLock<Settlement>,
    waiting: Mutex<Waiting>,
    /// Where the batch is filled, if that has to know who waits.
    filling: Option<Weak<dyn Filling>>,
}

impl Ack {
    /// Stands where there is no batch; nobody ever waits for it.
    pub fn nobodys() -> Arc<Self> {
        static NOBODYS: LazyLock<Arc<Ack>> = LazyLock::new(|| Arc::new(Ack::new(0, -1, None)));
        Arc::clone(&NOBODYS)
    }

    fn new(id: u64, partition: i32, scope: Option<Arc<Scope>>) -> Self {
        Self {
            id,
            partition,
            scope,
            settlement: OnceLock::new(),
            waiting: Mutex::default(),
            filling: None,
        }
    }

    /// Names the record at `index`.
    pub fn record(&self, index: u32) -> RecordId {
        let batch = self.id;
        RecordId { batch, index }
    }

    /// How many wakers wait.
    #[cfg(test)]
    pub fn waiting(&self) -> usize {
        self.lock().wakers.len()
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // A waker that panicked leaves a list that is still a list.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The transaction of the batch, if it is part of one.
    #[inline]
    pub fn scope(&self) -> Option<&Arc<Scope>> {
        self.scope.as_ref()
    }

    /// Writes the outcome, and wakes all who wait for it. Only the first call has an effect. A batch that
    /// fails keeps its transaction from being committed.
    fn settle(&self, settlement: Settlement) {
        if self.settlement.set(settlement).is_ok() {
            if let (Some(scope), Some(settlement)) = (&self.scope, self.settlement()) {
                settlement.fail(scope, self.partition);
            }
            let wakers = std::mem::take(&mut self.lock().wakers);
            wakers.wake();
        }
    }

    #[inline]
    pub fn partition(&self) -> i32 {
        self.partition
    }

    /// What became of the batch, once that is known.
    #[inline]
    pub fn settlement(&self) -> Option<&Settlement> {
        self.settlement.get()
    }

    /// The outcome of the record at `index`, once there is one.
    #[inline]
    pub fn outcome(&self, index: u32, timestamp: i64) -> Option<Outcome> {
        match self.settlement()? {
            Settlement::Acked {
                base_offset,
                log_append_time,
            } => Some(Ok(Acked {
                partition: self.partition,
                offset: base_offset.map(|base| base + i64::from(index)),
                timestamp: log_append_time.unwrap_or(timestamp),
            })),
            Settlement::Failed(undelivered) => Some(Err(undelivered.clone())),
            Settlement::Invalid { error, records } => Some(Err(invalid(error, records, index))),
            Settlement::Split(parts) => {
                let (first, part) = part_of(parts, index)?;
                part.outcome(index - first, timestamp)
            }
        }
    }

    /// Finds the ack that has the outcome of the record at `index`: this one, or that of a part if the
    /// batch was split. Also returns the record's index there, and how many records from it on that ack
    /// has.
    #[inline]
    pub fn holder(&self, index: u32) -> (&Self, u32, u32) {
        match self.settlement() {
            Some(Settlement::Split(parts)) => holder_of(parts, index).unwrap_or((self, index, 1)),
            _ => (self, index, u32::MAX - index),
        }
    }

    /// Has `waker` woken when the outcome of the record at `index` is known; at once if it is. It
    /// takes the place of the receipt's former waker, which `place` tells. If there is none, whoever asks
    /// begins to wait for so many `records`.
    pub(crate) fn register(&self, index: u32, place: &mut Place, waker: &Waker, records: u32) {
        let more = match *place {
            Place::NONE => records,
            _ => 0,
        };
        self.register_at(0, index, place, waker, more);
    }

    /// `depth` is how often the batch was split. So many `more` records are waited for.
    fn register_at(&self, depth: u8, index: u32, place: &mut Place, waker: &Waker, more: u32) {
        if let Some(Settlement::Split(parts)) = self.settlement.get() {
            if let Some((first, part)) = part_of(parts, index) {
                let depth = depth.saturating_add(1);
                part.register_at(depth, index - first, place, waker, more);
            }
            return;
        }
        let mut waiting = self.lock();
        // Settling writes first and drains the list second, so whoever registers looks again.
        if self.settlement.get().is_some() {
            drop(waiting);
            return waker.wake_by_ref();
        }
        let former = waiting.wakers.put(depth, place, waker);
        let awaited = waiting.count(more);
        drop(waiting);
        drop(former); // it may be anybody's
        if let (Some(records), Some(filling)) = (awaited, &self.filling)
            && let Some(filling) = filling.upgrade()
        {
            filling.awaited(self, records);
        }
    }
}

/// The part of a split batch that has the record at `index`.
fn part_of(parts: &[(u32, Arc<Ack>)], index: u32) -> Option<(u32, &Ack)> {
    let after = parts.partition_point(|(first, _)| *first <= index);
    let (first, part) = parts.get(after.checked_sub(1)?)?;
    Some((*first, part))
}

#[cold]
fn holder_of(parts: &[(u32, Arc<Ack>)], index: u32) -> Option<(&Ack, u32, u32)> {
    let (first, part) = part_of(parts, index)?;
    let (holder, there, count) = part.holder(index - first);
    let next = parts.iter().find(|(first, _)| *first > index);
    let here = next.map_or(u32::MAX, |(first, _)| first - index);
    Some((holder, there, count.min(here)))
}

#[cold]
fn invalid(error: &BrokerError, records: &[(u32, Arc<str>)], index: u32) -> Unconfirmed {
    Unconfirmed::NotWritten(match records.iter().find(|(at, _)| *at == index) {
        Some((_, message)) => Reason::InvalidRecord {
            error: error.clone(),
            message: Arc::clone(message),
        },
        None => Reason::BatchMate(error.clone()),
    })
}

/// The batch's side of an ack. Dropped without a word, it settles the ack itself, so that no
/// record is ever left without an outcome, whatever happened to the batch.
#[derive(Debug)]
pub struct AckSettler {
    ack: Arc<Ack>,
    /// Whether bytes of the batch may be in a log.
    pub unresolved: bool,
    /// The records are in the spool, where the next producer finds them.
    pub spooled: bool,
}

impl AckSettler {
    #[cfg(test)]
    pub fn new(partition: i32) -> Self {
        Self::within(None, partition)
    }

    /// For a batch that is part of a transaction, or of none.
    pub fn within(scope: Option<Arc<Scope>>, partition: i32) -> Self {
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        Self {
            ack: Arc::new(Ack::new(id, partition, scope)),
            unresolved: false,
            spooled: false,
        }
    }

    /// For a batch that was read back from the spool. Its records keep their names, if anybody knows them.
    pub fn read_back(name: Option<RecordId>, partition: i32) -> Self {
        let mut settle = Self::within(None, partition);
        if let Some(RecordId { batch, index: 0 }) = name {
            settle.ack = Arc::new(Ack::new(batch, partition, None));
        }
        settle.spooled = true;
        settle
    }

    /// For a part of the batch, which takes some of its records over.
    pub fn part(&self) -> Self {
        let mut part = Self::within(self.ack.scope.clone(), self.partition());
        part.unresolved = self.unresolved;
        part.spooled = self.spooled;
        part
    }

    /// Whether nobody has a receipt of it.
    pub fn is_unheard(&self) -> bool {
        Arc::strong_count(&self.ack) == 1
    }

    /// Names the batch's first record.
    pub fn first(&self) -> RecordId {
        self.ack.record(0)
    }

    pub fn partition(&self) -> i32 {
        self.ack.partition
    }

    pub fn receipt(&self, index: u32, timestamp: i64) -> Receipt {
        Receipt::new(Arc::clone(&self.ack), index, timestamp)
    }

    /// Has `filling` told who waits for the batch. Nobody has a receipt of it yet.
    pub(crate) fn filled_by(&mut self, filling: Weak<dyn Filling>) {
        if let Some(ack) = Arc::get_mut(&mut self.ack) {
            ack.filling = Some(filling);
        }
    }

    #[inline]
    pub fn ack(&self) -> &Arc<Ack> {
        &self.ack
    }

    /// Settles every record of the batch.
    pub fn settle(self, settlement: Settlement) {
        // What is settled is not settled again by the drop.
        self.ack.settle(settlement);
    }

    /// Leaves the records without an outcome: nobody waits for it, and the spool has them.
    pub fn forget(self) {
        self.ack
            .settle(Settlement::Failed(Unconfirmed::Kept(Reason::RuntimeGone)));
    }

    /// Hands the records over to parts: (index of the first record, the part).
    pub fn split<'a>(self, parts: impl Iterator<Item = (u32, &'a AckSettler)>) {
        let parts = parts.map(|(first, part)| (first, Arc::clone(&part.ack)));
        let parts = parts.collect();
        self.settle(Settlement::Split(parts));
    }
}

impl Drop for AckSettler {
    fn drop(&mut self) {
        let fate = match (self.spooled, self.unresolved) {
            (true, _) => Unconfirmed::Kept,
            (false, true) => Unconfirmed::Unknown,
            (false, false) => Unconfirmed::NotWritten,
        };
        self.ack
            .settle(Settlement::Failed(fate(Reason::RuntimeGone)));
    }
}

/// The last record that somebody sent to a partition: its batch's ack, and where in it.
#[derive(Debug, Clone)]
pub(crate) struct Latest {
    pub ack: Arc<Ack>,
    /// The ack's partition, at hand without looking at the ack.
    pub partition: i32,
    pub index: u32,
    pub timestamp: i64,
}

impl Latest {
    /// Where nothing has been sent.
    pub fn none() -> Self {
        Self {
            ack: Ack::nobodys(),
            partition: -1,
            index: 0,
            timestamp: 0,
        }
    }

    /// A later record takes the place of this one. Returns the ack that is not needed any more: a
    /// clone is an atomic count, and one per batch is enough.
    #[inline]
    pub fn follow(&mut self, ack: &Arc<Ack>, index: u32, timestamp: i64) -> Option<Arc<Ack>> {
        self.index = index;
        self.timestamp = timestamp;
        if Arc::ptr_eq(&self.ack, ack) {
            return None;
        }
        self.partition = ack.partition;
        Some(std::mem::replace(&mut self.ack, Arc::clone(ack)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn every_record_of_a_batch_gets_its_own_offset() {
        let settle = AckSettler::new(3);
        let receipts: Vec<_> = (0..3).map(|i| settle.receipt(i, 10)).collect();
        assert!(receipts[0].outcome().is_none());
        settle.settle(Settlement::Acked {
            base_offset: Some(40),
            log_append_time: None,
        });
        for (i, receipt) in receipts.into_iter().enumerate() {
            let acked = receipt.now_or_never().expect("settled").expect("acked");
            assert_eq!(
                acked,
                Acked {
                    partition: 3,
                    offset: Some(40 + i as i64),
                    timestamp: 10
                }
            );
        }
    }

    #[test]
    fn a_dropped_batch_settles_its_records() {
        for (unresolved, unknown) in [(false, false), (true, true)] {
            let mut settle = AckSettler::new(0);
            settle.unresolved = unresolved;
            let receipt = settle.receipt(0, 0);
            drop(settle);
            let outcome = receipt.outcome().expect("settled").expect_err("not acked");
            assert_eq!(matches!(outcome, Unconfirmed::Unknown(_)), unknown);
        }
    }

    #[test]
    fn a_split_batch_answers_from_its_parts() {
        let whole = AckSettler::new(0);
        let receipts: Vec<_> = (0..5).map(|i| whole.receipt(i, 0)).collect();
        let (first, second) = (AckSettler::new(0), AckSettler::new(0));
        whole.split([(0, &first), (2, &second)].into_iter());
        assert!(receipts[4].outcome().is_none());
        second.settle(Settlement::Acked {
            base_offset: Some(70),
            log_append_time: None,
        });
        assert_eq!(
            receipts[4]
                .outcome()
                .expect("settled")
                .expect("acked")
                .offset,
            Some(72)
        );
        assert!(receipts[1].outcome().is_none());
        drop(first);
        assert!(receipts[1].outcome().expect("settled").is_err());
    }

    #[test]
    fn a_waker_that_panics_harms_nobody_else() {
        struct Wakes(AtomicU64);
        impl std::task::Wake for Wakes {
            fn wake(self: Arc<Self>) {
                let before = self.0.fetch_add(1, Ordering::Relaxed);
                assert!(before > 0, "the first one panics");
            }
        }
        let settle = AckSettler::new(0);
        let wakes: [Arc<Wakes>; 2] = [0, 1].map(|times| Arc::new(Wakes(times.into())));
        let mut receipts = [0, 1].map(|index| settle.receipt(index, 0));
        for (receipt, wakes) in receipts.iter_mut().zip(&wakes) {
            let waker = Arc::clone(wakes).into();
            let polled = Pin::new(receipt).poll(&mut Context::from_waker(&waker));
            assert!(polled.is_pending());
        }
        drop(settle);
        assert_eq!(wakes.map(|it| it.0.load(Ordering::Relaxed)), [1, 2]);
    }

    /// A task's waker, which counts how often it is woken.
    #[derive(Default)]
    struct Task(AtomicU64);

    impl std::task::Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn poll(receipt: &mut Receipt, task: &Arc<Task>) -> bool {
        let waker = Arc::clone(task).into();
        let polled = Pin::new(receipt).poll(&mut Context::from_waker(&waker));
        polled.is_ready()
    }

    #[test]
    fn a_receipt_keeps_one_waker_however_often_and_wherever_it_is_polled() {
        let settle = AckSettler::new(0);
        let tasks: [Arc<Task>; 3] = Default::default();
        let mut receipts = [0, 1, 2].map(|index| settle.receipt(index, 0));
        // Each is polled by one task.
        for _ in 0..1_000 {
            for (receipt, task) in receipts.iter_mut().zip(&tasks) {
                assert!(!poll(receipt, task));
            }
        }
        assert_eq!(settle.ack.waiting(), 3);
        // Each is polled by all of them in turn, and stays with the last.
        for round in 0..1_000 {
            for (at, receipt) in receipts.iter_mut().enumerate() {
                assert!(!poll(receipt, &tasks[(round + at) % 3]));
            }
        }
        assert_eq!(settle.ack.waiting(), 3);
        drop(settle);
        assert_eq!(
            tasks.each_ref().map(|task| task.0.load(Ordering::Relaxed)),
            [1; 3]
        );
    }

    /// Notes of how many records it was told that they are waited for.
    #[derive(Default)]
    struct Told(Mutex<Vec<u32>>);

    impl Filling for Told {
        fn awaited(&self, _: &Ack, records: u32) {
            self.0.lock().expect("no panic").push(records);
        }
    }

    #[test]
    fn where_a_batch_is_filled_is_told_a_few_times_who_waits() {
        let told = Arc::new(Told::default());
        let mut settle = AckSettler::new(0);
        settle.filled_by(Arc::downgrade(&told) as Weak<dyn Filling>);
        let task = Arc::<Task>::default();
        let mut receipts: Vec<_> = (0..100).map(|index| settle.receipt(index, 0)).collect();
        for _ in 0..3 {
            for receipt in &mut receipts {
                assert!(!poll(receipt, &task));
            }
        }
        let numbers = || std::mem::take(&mut *told.0.lock().expect("no panic"));
        assert_eq!(numbers(), [1, 2, 4, 8, 16, 32, 64]);
        // What it has its outcome of is not waited for.
        let mut late = settle.receipt(100, 0);
        drop(settle);
        assert!(poll(&mut late, &task));
        assert!(numbers().is_empty());
    }

    #[test]
    fn receipts_that_share_a_waker_part_without_losing_one() {
        let settle = AckSettler::new(0);
        let tasks: [Arc<Task>; 2] = Default::default();
        let mut receipts = [0, 1, 2, 3].map(|index| settle.receipt(index, 0));
        for receipt in &mut receipts {
            poll(receipt, &tasks[0]);
        }
        assert_eq!(settle.ack.waiting(), 1, "one task, one waker");
        for round in 0..1_000 {
            let [first, .., last] = &mut receipts;
            poll(first, &tasks[round % 2]);
            poll(last, &tasks[(round + 1) % 2]);
        }
        assert!(settle.ack.waiting() <= receipts.len());
        drop(settle);
        let woken = tasks.map(|task| task.0.load(Ordering::Relaxed));
        assert!(woken.iter().all(|times| *times > 0), "{woken:?}");
    }

    #[test]
    fn a_clone_has_a_waker_of_its_own() {
        let settle = AckSettler::new(0);
        let tasks: [Arc<Task>; 2] = Default::default();
        let mut receipt = settle.receipt(0, 0);
        poll(&mut receipt, &tasks[0]);
        poll(&mut receipt.clone(), &tasks[1]);
        // Over and over, as a task does that keeps the receipt and waits for a clone for a while.
        for round in 0..1_000 {
            poll(&mut receipt.clone(), &tasks[round % 2]);
        }
        assert_eq!(settle.ack.waiting(), 2);
        drop(settle);
        assert_eq!(tasks.map(|task| task.0.load(Ordering::Relaxed)), [1, 1]);
    }

    /// The place in the list of the whole batch means nothing in those of its parts.
    #[test]
    fn receipts_of_a_batch_that_is_split_wait_for_their_parts() {
        let whole = AckSettler::new(0);
        let tasks: [Arc<Task>; 4] = Default::default();
        let mut receipts = [3, 0, 2, 1].map(|index| whole.receipt(index, 0));
        let wait = |receipts: &mut [Receipt; 4], order: [usize; 4]| {
            for at in order {
                assert!(!poll(&mut receipts[at], &tasks[at]));
            }
        };
        wait(&mut receipts, [0, 1, 2, 3]);
        let (first, second) = (AckSettler::new(0), AckSettler::new(0));
        whole.split([(0, &first), (2, &second)].into_iter());
        // In another order than before.
        for order in [[2, 3, 0, 1], [1, 0, 3, 2]] {
            wait(&mut receipts, order);
        }
        for part in [&first, &second] {
            assert_eq!(part.ack.waiting(), 2);
        }
        let before = tasks.each_ref().map(|task| task.0.load(Ordering::Relaxed));
        assert_eq!(before, [1; 4]);
        drop((first, second));
        assert_eq!(tasks.map(|task| task.0.load(Ordering::Relaxed)), [2; 4]);
    }

    #[test]
    fn a_place_is_one_at_its_depth_alone() {
        for (depth, at) in [(0, 0), (0, 7), (3, 0), (62, (1 << 26) - 1)] {
            let place = Place::new(depth, at);
            assert_eq!(place.at(depth), Some(at));
            assert_eq!(place.at(depth + 1), None);
        }
        let none = [Place::NONE, Place::new(0, 1 << 26), Place::new(63, 0)];
        assert_eq!(none, [Place::NONE; 3]);
        assert_eq!(Place::NONE.at(0), None);
    }

    #[test]
    fn the_broker_names_the_records_it_objects_to() {
        let settle = AckSettler::new(0);
        let receipts: Vec<_> = (0..2).map(|i| settle.receipt(i, 0)).collect();
        let error = BrokerError::new(87);
        let records = Arc::from([(1, Arc::from("no key"))]);
        settle.settle(Settlement::Invalid { error, records });
        let reason = |i: usize| match receipts[i].outcome() {
            Some(Err(Unconfirmed::NotWritten(reason))) => reason,
            other => panic!("{other:?}"),
        };
        assert!(matches!(reason(0), Reason::BatchMate(_)));
        assert!(matches!(reason(1), Reason::InvalidRecord { .. }));
    }
}
