//! The end of a transaction, as whoever has it sees it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::actors::{OpenTransaction, WaitsForEnd, now};
use crate::api::producer::Producer;
use crate::core::transaction::{Cause, End};
use crate::core::user_code;
use crate::intake::deadline::{GRACE, answer_by};

/// Why a commit did not succeed. [`Cause`] can be matched on.
///
/// ```no_run
/// # async fn example(transaction: forebay::Transaction) {
/// use forebay::transaction::NotCommitted;
///
/// let mut committed = transaction.commit().await;
/// // Whether it was committed is not known yet: the coordinator is asked on.
/// while let Err(NotCommitted::InDoubt(in_doubt)) = committed {
///     committed = in_doubt.resolve().await;
/// }
/// match committed {
///     Ok(()) => println!("committed"),
///     Err(NotCommitted::Aborted(why)) => println!("send it again: {why}"),
///     Err(other) => println!("nobody can know: {other}"),
/// }
/// # }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotCommitted {
    /// It was aborted. No `read_committed` reader ever sees a record of it.
    #[error("the transaction was aborted: {0}")]
    Aborted(Cause),
    /// The coordinator has not answered within `max.block.ms`, or not every batch is appended yet. It is
    /// tried on.
    #[error("{0}")]
    InDoubt(InDoubt),
    /// Nobody can say whether it was committed: an answer of the coordinator was missed, it says no more, and
    /// the log of its records does not tell either ([`Cause::Untold`]), or the producer was closed.
    #[error("it is not known whether the transaction was committed: {0}")]
    Unknown(Cause),
}

/// A transaction that is being committed, and may turn out to be committed or aborted. All that can be
/// done about it is to [`resolve`](Self::resolve) it: an abort could come behind the commit.
///
/// If it is dropped, the commit goes on all the same, and receipts tell its end.
#[must_use = "only resolving it tells what became of the transaction"]
pub struct InDoubt {
    open: OpenTransaction,
    /// Keeps the producer open until the transaction has ended.
    _producer: Producer,
    max_block: Duration,
}

impl InDoubt {
    pub(super) fn new(open: OpenTransaction, producer: Producer) -> Self {
        Self {
            open,
            max_block: producer.config().max_block,
            _producer: producer,
        }
    }

    /// Waits for the end for `max.block.ms` once more.
    ///
    /// # Errors
    ///
    /// [`NotCommitted`], which may be this again. In code that the runtime calls, a callback for example,
    /// it is this at once.
    pub async fn resolve(self) -> Result<(), NotCommitted> {
        match self.ended(true).await {
            Some(End::Committed) => Ok(()),
            Some(End::Aborted(why)) => Err(NotCommitted::Aborted(Cause::clone(&why.cause))),
            Some(End::Unknown(why)) => Err(NotCommitted::Unknown(Cause::clone(&why.cause))),
            None => Err(NotCommitted::InDoubt(self)),
        }
    }

    /// Has the transaction ended, and waits for that, for `max.block.ms` at most.
    pub(super) async fn ended(&self, commit: bool) -> Option<End> {
        let scope = self.open.scope();
        scope.wish(commit);
        let deadline = now() + self.max_block;
        // The runtime itself replies at the deadline.
        let patience = Some(deadline + GRACE);
        loop {
            let (reply, heard) = oneshot::channel();
            let scope = Arc::clone(scope);
            let connected = self.open.end(Some(WaitsForEnd {
                scope,
                deadline,
                reply,
            }));
            if user_code::must_not_wait() {
                break;
            }
            match answer_by(heard, patience, now).await {
                // The message was lost in a restart.
                Ok(Err(_)) if connected => {}
                _ => break,
            }
        }
        scope.end().cloned()
    }
}

impl fmt::Display for InDoubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { max_block, .. } = self;
        write!(
            f,
            "the transaction has not ended within {max_block:?} (max.block.ms): it may be committed or \
             aborted"
        )
    }
}

impl fmt::Debug for InDoubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("InDoubt").field(self.open.scope()).finish()
    }
}
