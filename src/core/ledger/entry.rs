//! A sealed batch in its ledger.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::core::ack::{RecordId, Settlement};
use crate::core::batch::{SealedBatch, Settled, Stamp, Token};
use crate::core::outcome::{Reason, Unconfirmed};
use crate::core::security::SecurityError;
use crate::core::transaction::Scope;

/// A batch of a transaction is in the log.
#[derive(Debug)]
pub struct Appended {
    pub scope: Arc<Scope>,
    pub base_offset: i64,
    pub producer_id: i64,
    pub epoch: i16,
}

/// A batch without an outcome, and what has been tried.
#[derive(Debug)]
pub struct Entry {
    pub id: u64,
    /// The position of its first record in the spool; 0 without one.
    pub position: u64,
    pub batch: SealedBatch,
    pub lent: bool,
    /// Alive while the loan or the report on it exists.
    pub loan: Weak<()>,
    /// How often its bytes may have been written to a socket.
    pub attempts: u32,
    /// The age of its newest record when it came.
    pub age: Duration,
    /// After some attempt it is unknown whether the batch is in the log. Never reset.
    pub unresolved: bool,
    pub stamp: Option<Stamp>,
    /// The ledger's leader generation when the batch was last lent.
    pub leader_generation: u32,
    pub not_before: Option<Instant>,
    /// It is not before this offset of the log, if it is there. Fixed at the first attempt under its stamp:
    /// what is acked later may lie behind it.
    pub floor: Option<i64>,
    /// Its time is over while it is lent. What its loan comes back with decides.
    pub overdue: Option<Box<Reason>>,
    pub last_error: Option<Arc<str>>,
    /// What `last_error` says, if a broker does not let this client in.
    pub security: Option<Arc<SecurityError>>,
    pub tokens: Vec<Token>,
}

impl Entry {
    pub fn settle(&mut self, settlement: Settlement) -> Option<Settled> {
        let mut settled = self.batch.settle(settlement)?;
        settled.tokens = std::mem::take(&mut self.tokens);
        Some(settled)
    }

    /// The position behind its last record.
    pub fn end(&self) -> u64 {
        self.position + u64::from(self.batch.count().unsigned_abs())
    }

    /// The order of a partition's batches.
    pub fn order(&self) -> (u64, RecordId) {
        (self.position, self.batch.first())
    }

    /// Why it has no time left.
    pub fn expired(&self, timeout: Duration, now: Instant) -> Reason {
        Reason::Expired {
            timeout,
            age: in_millis(now.duration_since(self.batch.created_at())),
            last: self.last_error.clone(),
            security: self.security.clone(),
        }
    }

    /// What becomes of it if it is not waited for any more.
    pub fn abandoned(&mut self, why: impl Fn(Option<Arc<str>>) -> Reason) -> Settlement {
        let reason = why(self.last_error.take());
        Settlement::Failed(match self.lent || self.unresolved {
            true => Unconfirmed::Unknown(reason),
            false => Unconfirmed::NotWritten(reason),
        })
    }

    /// Whether nobody waits for another attempt: it has its outcome, or its time is over.
    pub fn is_over(&self) -> bool {
        self.batch.is_settled() || self.overdue.is_some()
    }

    /// What is known of a transaction by the place of this batch, unless it is known already.
    pub fn appended(&self, base_offset: Option<i64>) -> Option<Appended> {
        let scope = self.batch.scope().filter(|it| it.witness().is_none())?;
        let (stamp, base_offset) = (self.stamp?, base_offset.filter(|it| *it >= 0)?);
        Some(Appended {
            scope: Arc::clone(scope),
            base_offset,
            producer_id: stamp.producer_id,
            epoch: stamp.epoch,
        })
    }

    pub fn doubt(&mut self) {
        self.unresolved = true;
        self.batch.set_unresolved();
    }
}

/// The age of a record with this timestamp; 0 if that is in the future. Both are in milliseconds.
pub fn age(wall: i64, timestamp: i64) -> Duration {
    let age = wall.saturating_sub(timestamp);
    Duration::from_millis(age.try_into().unwrap_or_default())
}

/// Without what is too fine for a reader.
fn in_millis(time: Duration) -> Duration {
    Duration::from_millis(time.as_millis().try_into().unwrap_or(u64::MAX))
}
