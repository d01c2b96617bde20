//! A commit in doubt whose coordinator does not say what became of it: the log says so.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::error::{Cause, TransactionError};
use super::scope::{End, Scope};
use crate::core::lookup::{Marker, MarkerNews};

/// Whoever looks is asked again when the log was not read for so long: the message may have been lost, or the
/// topic be out of use.
const SILENCE: Duration = Duration::from_secs(1);

/// A look for the marker of a transaction.
#[derive(Debug)]
pub struct Search {
    scope: Arc<Scope>,
    /// What the coordinator has said instead.
    refused: TransactionError,
    /// How long a log is tried that cannot be read.
    patience: Duration,
    /// When somebody is to be asked for it, if the log is not read before.
    ask_at: Instant,
    /// When the log was last read, or the search began.
    read_at: Instant,
    /// Why it was not since.
    trouble: Option<Arc<str>>,
}

impl Search {
    pub fn new(
        scope: Arc<Scope>,
        refused: TransactionError,
        patience: Duration,
        now: Instant,
    ) -> Self {
        Self {
            scope,
            refused,
            patience,
            ask_at: now,
            read_at: now,
            trouble: None,
        }
    }

    pub fn scope(&self) -> &Arc<Scope> {
        &self.scope
    }

    /// The coordinator was at a later epoch.
    pub fn was_passed_by(&self) -> bool {
        self.refused.is_of_later_epoch()
    }

    /// The transaction whose marker somebody is to be asked for now.
    pub fn ask(&mut self, now: Instant) -> Option<Arc<Scope>> {
        if self.ask_at > now {
            return None;
        }
        self.ask_at = now + SILENCE;
        Some(Arc::clone(&self.scope))
    }

    /// Messages may have been lost.
    pub fn ask_anew(&mut self, now: Instant) {
        self.ask_at = now;
    }

    /// When somebody is to be asked again, or the search is given up.
    pub fn next_at(&self) -> Instant {
        self.ask_at.min(self.read_at + self.patience)
    }

    /// What has come of the look. Returns how the transaction has ended, if that is known now or never will
    /// be.
    pub fn heard(&mut self, news: MarkerNews, now: Instant) -> Option<End> {
        match news {
            MarkerNews::NotYet { .. } => {
                self.ask_at = now + SILENCE;
                self.read_at = now;
                self.trouble = None;
                None
            }
            MarkerNews::Trouble(why) => {
                self.trouble = Some(why);
                None
            }
            MarkerNews::Found(Marker::Committed) => Some(End::Committed),
            MarkerNews::Found(Marker::Aborted { .. }) => {
                Some(End::Aborted(Cause::Refused(self.refused.clone()).into()))
            }
            MarkerNews::Unknown(why) => Some(self.untold(why)),
        }
    }

    /// How it ends if the log could not be read for too long, or has no record of it. While it can be read
    /// the marker is waited for: the coordinator tries to write it until it is there.
    pub fn vain(&self, now: Instant) -> Option<End> {
        if self.scope.witness().is_none() {
            let why = "no record of it is known to be in one";
            return Some(self.untold(why.into()));
        }
        if now < self.read_at + self.patience {
            return None;
        }
        let why = self.trouble.as_deref();
        let why = why.unwrap_or("its partition is not known any more, or fell");
        let why = format!("it could not be read for {:?}: {why}", self.patience);
        Some(self.untold(why.into()))
    }

    fn untold(&self, why: Arc<str>) -> End {
        let refused = self.refused.clone();
        End::Unknown(Cause::Untold { refused, why }.into())
    }
}
