//! Sends the records of a source, one after the other.
//!
//! A record is appended only when the disk has the one before. They may be in different files, of which a
//! machine that stops may have kept the later one alone.

use std::sync::Arc;

use super::Intake;
use super::backend::Asking;
use super::deadline::NoAnswer;
use super::error::{SendError, WaitsFor};
use super::lease::Lease;
use super::source_error::SourceError;
use super::topics::TopicCache;
use crate::core::ack::Receipt;
use crate::core::delivery::Listener;
use crate::core::record::Record;
use crate::core::spool::{Open, Progress, Source};
use crate::core::stage::AppendOptions;

/// The longest name of a source, in bytes.
const LONGEST_NAME: usize = 1_000;

impl Intake {
    /// Has a source lent, and waits until the disk has all that is known of it.
    pub async fn lend_source(&self, name: &Arc<str>) -> Result<Lease, SourceError> {
        let ask = || self.backend.open_source(name);
        let lease = self.asked_of_spool(name, ask).await?;
        let lease = lease.ok_or_else(|| SourceError::InUse {
            name: Arc::clone(name),
        })?;
        self.decide(&lease).await?;
        Ok(lease)
    }

    /// Up to where a source is accepted, whoever has it.
    pub async fn accepted_up_to(&self, name: &Arc<str>) -> Result<Option<u64>, SourceError> {
        let ask = || self.backend.progress_of(name);
        let progress: Progress = self.asked_of_spool(name, ask).await?;
        match progress.open() {
            Some(open) => self.await_open(open).await.map(Some),
            None => Ok(progress.accepted()),
        }
    }

    /// Sends a record of a source. The position counts as soon as the record is appended, though this future
    /// is dropped then.
    pub async fn send_of_source(
        &self,
        mut recent: &TopicCache,
        listeners: &[Arc<dyn Listener>],
        lease: &Lease,
        (record, position): (Record, u64),
    ) -> Result<Receipt, SourceError> {
        self.decide(lease).await?;
        let progress = *lease.progress.borrow();
        if let (false, Some(accepted)) = (progress.may_follow(position), progress.seen()) {
            return Err(SourceError::NotRising { position, accepted });
        }
        let source = Source {
            source: lease.number,
            position,
        };
        let mut options = AppendOptions {
            synced_later: true,
            source: Some(&source),
            ..AppendOptions::for_listeners(listeners)
        };
        let record = self.intercepted(record)?;
        let failed = self.before_sync();
        let receipt = self
            .admit(&mut recent, record.borrowed(), &mut options)
            .await?;
        // Nothing is waited for since it was appended.
        let appended = |progress: &mut Progress| progress.appended(position, failed);
        lease.progress.send_modify(appended);
        self.decide(lease).await?;
        Ok(receipt)
    }

    /// Waits until it is known that all is accepted that was appended.
    pub async fn decide(&self, lease: &Lease) -> Result<(), SourceError> {
        let open = lease.progress.borrow().open();
        if let Some(open) = open {
            let position = self.await_open(open).await?;
            let synced = |progress: &mut Progress| progress.synced(position);
            lease.progress.send_modify(synced);
        }
        Ok(())
    }

    /// Waits until the disk has what was appended. Returns up to where the source is accepted then.
    async fn await_open(&self, Open { position, failed }: Open) -> Result<u64, SourceError> {
        match self.synced_since(failed).await {
            Ok(()) => Ok(position),
            Err(SendError::InDoubt { why }) => Err(SourceError::InDoubt { position, why }),
            Err(other) => Err(other.into()),
        }
    }

    /// Asks the spool, again if the question is lost.
    async fn asked_of_spool<T>(
        &self,
        name: &str,
        ask: impl Fn() -> Option<Asking<T>>,
    ) -> Result<T, SourceError> {
        let (length, limit) = (name.len(), LONGEST_NAME);
        if !(1..=limit).contains(&length) {
            return Err(SourceError::IllegalName { length, limit });
        }
        let asked = self.backend.now();
        loop {
            self.check_open()?;
            let answer = ask().ok_or(SourceError::NoSpool)?;
            match self.answer(answer, asked).await {
                Ok(Ok(answer)) => return Ok(answer),
                // The request was lost when an actor restarted. It is repeated.
                Ok(Err(_)) if self.backend.is_running() => {}
                Ok(Err(_)) => return Err(SendError::Closed.into()),
                Err(NoAnswer::InCallback) => {
                    return Err(SendError::InCallback(WaitsFor::Spool).into());
                }
                Err(NoAnswer::TimedOut) => {
                    let waited = self.config.max_block;
                    return Err(SourceError::Unanswered { waited });
                }
            }
        }
    }
}
