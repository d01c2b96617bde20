//! One transaction, as its handles, its batches and its receipts share it.

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll};

use super::error::Cause;
use crate::core::lookup::Witness;
use crate::core::outcome::{Outcome, Reason, Unconfirmed};
use crate::core::sync::{AtomicBool, Mutex, MutexGuard, OnceLock};
use crate::core::wakers::{Place, Wakers};
use crate::core::wire::TransactionProtocol;

/// Why a transaction is not committed, and the same as text, which each of its records tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Why {
    pub cause: Arc<Cause>,
    pub text: Arc<str>,
}

impl From<Cause> for Why {
    fn from(cause: Cause) -> Self {
        Self {
            text: cause.to_string().into(),
            cause: Arc::new(cause),
        }
    }
}

/// How a transaction ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Its records are there for every reader.
    Committed,
    /// No `read_committed` reader will ever see its records.
    Aborted(Why),
    /// It was to be committed, and nobody can say what became of it.
    Unknown(Why),
}

/// One transaction. Whoever sends in it, every batch of it, and every receipt of such a batch have the
/// same one, and are compared by that.
///
/// Invariants:
/// - it is closed before it ends, and never opened again;
/// - the end is written once, and wakes all who wait for it;
/// - one that has failed is never committed.
pub struct Scope {
    protocol: TransactionProtocol,
    closed: AtomicBool,
    /// Whether it is to be committed or aborted, once somebody has said so.
    wish: OnceLock<bool>,
    failed: OnceLock<Why>,
    /// The first batch of it whose place in a log is known. Behind that its marker will be.
    witness: OnceLock<Witness>,
    end: OnceLock<End>,
    wakers: Mutex<Wakers>,
}

impl Scope {
    /// A transaction that speaks `protocol` from its begin to its end.
    pub fn open(protocol: TransactionProtocol) -> Arc<Self> {
        Arc::new(Self {
            protocol,
            closed: AtomicBool::new(false),
            wish: OnceLock::new(),
            failed: OnceLock::new(),
            witness: OnceLock::new(),
            end: OnceLock::new(),
            wakers: Mutex::default(),
        })
    }

    pub fn protocol(&self) -> TransactionProtocol {
        self.protocol
    }

    /// Whether batches may be opened for it. To be looked at under the claim of the stage where one
    /// would be: so none is opened behind the flush that follows the close.
    pub fn is_open(&self) -> bool {
        !self.closed.load(Ordering::SeqCst)
    }

    /// From here on no batch is opened for it.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    /// It is to be committed, or aborted: the first call counts. It takes no more records. Whoever ends it
    /// is told by a message, and finds the wish here though that is lost.
    pub fn wish(&self, commit: bool) {
        let _ = self.wish.set(commit);
        self.close();
    }

    /// Whether it is to be committed, if it is to be ended.
    pub fn wished(&self) -> Option<bool> {
        self.wish.get().copied()
    }

    /// A record failed, or something else keeps it from being committed. It takes no more records. The
    /// first reason counts.
    pub fn fail(&self, why: impl Into<Why>) {
        let _ = self.failed.set(why.into());
        self.close();
    }

    /// Why it cannot be committed, if it cannot.
    pub fn failed(&self) -> Option<&Why> {
        self.failed.get()
    }

    /// A batch of it was acked. The first one counts.
    pub fn bear(&self, witness: Witness) {
        let _ = self.witness.set(witness);
    }

    /// A batch of it that was acked, if the place of any is known.
    pub fn witness(&self) -> Option<&Witness> {
        self.witness.get()
    }

    /// Why nothing more of it is to be sent, if that is so: it failed, or has ended.
    pub fn is_over(&self) -> Option<Arc<str>> {
        let ended = || self.end().map(|_| Arc::from("it has ended"));
        let failed = self.failed().map(|why| Arc::clone(&why.text));
        failed.or_else(ended)
    }

    pub fn end(&self) -> Option<&End> {
        self.end.get()
    }

    /// It has ended. Only the first call counts.
    pub fn has_ended(&self, end: End) {
        self.close();
        if self.end.set(end).is_ok() {
            let wakers = std::mem::take(&mut *self.wakers());
            wakers.wake();
        }
    }

    /// Ready when it has ended. `place` tells where the waker of whoever asks is.
    pub(crate) fn poll_end(&self, place: &mut Place, context: &Context<'_>) -> Poll<End> {
        if let Some(end) = self.end() {
            return Poll::Ready(end.clone());
        }
        let mut wakers = self.wakers();
        // The end is written first and the list taken second, so whoever registers looks again.
        if let Some(end) = self.end() {
            return Poll::Ready(end.clone());
        }
        let former = wakers.put(0, place, context.waker());
        drop(wakers);
        drop(former); // it may be anybody's
        Poll::Pending
    }

    fn wakers(&self) -> MutexGuard<'_, Wakers> {
        // A waker that panicked leaves a list that is still a list.
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a record's outcome is, if by itself it is `settled`: that of one that was appended is known when
    /// the transaction has ended.
    pub fn outcome(&self, settled: Outcome) -> Option<Outcome> {
        let acked = match settled {
            Ok(acked) => acked,
            Err(unconfirmed) => return Some(Err(never_committed(unconfirmed))),
        };
        Some(match self.end()? {
            End::Committed => Ok(acked),
            End::Aborted(why) => Err(aborted(why)),
            End::Unknown(why) => Err(in_doubt(why)),
        })
    }
}

/// A record whose batch failed is in a transaction that is never committed. So its bytes may be in the
/// log, but nobody sees them who reads only what is committed.
pub fn never_committed(unconfirmed: Unconfirmed) -> Unconfirmed {
    match unconfirmed {
        Unconfirmed::Unknown(reason) => Unconfirmed::Aborted(reason),
        known => known,
    }
}

/// What a record is whose transaction was aborted for this reason.
pub fn aborted(why: &Why) -> Unconfirmed {
    let why = Arc::clone(&why.text);
    Unconfirmed::Aborted(Reason::TransactionAborted { why })
}

/// What a record is of whose transaction nobody knows whether it was committed.
pub fn in_doubt(why: &Why) -> Unconfirmed {
    let why = Arc::clone(&why.text);
    Unconfirmed::Unknown(Reason::CommitInDoubt { why })
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope")
            .field("is_open", &self.is_open())
            .field("failed", &self.failed())
            .field("end", &self.end())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Wake, Waker};

    use super::*;
    use crate::core::outcome::Acked;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn its_end_is_told_once_to_all_who_wait() {
        let scope = Scope::open(TransactionProtocol::V2);
        let counts = [Arc::<Count>::default(), Arc::<Count>::default()];
        for count in &counts {
            let waker = Waker::from(Arc::clone(count));
            let (mut place, context) = (Place::NONE, Context::from_waker(&waker));
            for _ in 0..3 {
                assert!(scope.poll_end(&mut place, &context).is_pending());
            }
        }
        scope.has_ended(End::Committed);
        scope.has_ended(End::Aborted(Cause::Closed.into()));
        let woken = counts.each_ref().map(|it| it.0.load(Ordering::Relaxed));
        assert_eq!(woken, [1, 1]);
        let (mut place, context) = (Place::NONE, Context::from_waker(Waker::noop()));
        let ended = scope.poll_end(&mut place, &context);
        assert_eq!(ended, Poll::Ready(End::Committed));
    }

    #[test]
    fn what_has_ended_is_closed_and_the_first_failure_counts() {
        let scope = Scope::open(TransactionProtocol::V2);
        assert!(scope.is_open() && scope.failed().is_none());
        scope.fail(Cause::runtime("first"));
        scope.fail(Cause::Requested);
        let first = Why::from(Cause::runtime("first"));
        assert_eq!(scope.failed(), Some(&first));
        assert_eq!(scope.is_over().as_deref(), Some("first"));
        assert!(!scope.is_open());
        assert!(scope.end().is_none());
        scope.has_ended(End::Aborted(first));
        assert!(!scope.is_open());
    }

    #[test]
    fn a_record_is_acked_only_by_a_commit() {
        let acked = Acked::new(0, Some(7), 0);
        let because = || Reason::NotRequested;
        let why = || Why::from(Cause::Closed);
        let not_written = || Unconfirmed::NotWritten(because());
        for (end, of_acked) in [
            (End::Committed, Ok(acked)),
            (End::Aborted(why()), Err(aborted(&why()))),
            (End::Unknown(why()), Err(in_doubt(&why()))),
        ] {
            let scope = Scope::open(TransactionProtocol::V2);
            assert_eq!(scope.outcome(Ok(acked)), None);
            scope.has_ended(end);
            assert_eq!(scope.outcome(Ok(acked)), Some(of_acked));
            assert_eq!(scope.outcome(Err(not_written())), Some(Err(not_written())));
            let unknown = Unconfirmed::Unknown(because());
            let expected = Unconfirmed::Aborted(because());
            assert_eq!(scope.outcome(Err(unknown)), Some(Err(expected)));
        }
    }
}
