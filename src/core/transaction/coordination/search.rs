//! A commit in doubt whose coordinator does not say what became of it: the log says so.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Coordination, Phase};
use crate::core::lookup::{Marker, MarkerNews};
use crate::core::transaction::error::{Cause, TransactionError};
use crate::core::transaction::scope::{End, Scope, Why};

/// Whoever looks is asked again after such a silence: the message may have been lost.
const SILENCE: Duration = Duration::from_secs(1);

/// A look for the marker of a transaction.
#[derive(Debug)]
pub(super) struct Search {
    pub scope: Arc<Scope>,
    /// What the coordinator has said instead.
    refused: TransactionError,
    /// When somebody is to be asked for it, if nothing is heard before.
    ask_at: Instant,
    /// When the log was last read, or the search began.
    read_at: Instant,
    /// Why it was not since.
    trouble: Option<Arc<str>>,
}

impl Search {
    fn ends(&self, why: Arc<str>) -> End {
        let refused = self.refused.clone();
        End::Unknown(Cause::Untold { refused, why }.into())
    }
}

impl Coordination {
    /// Has the marker of the transaction looked for: whether it was committed is not known otherwise. The
    /// coordinator is asked no more.
    pub(super) fn search(&mut self, scope: Arc<Scope>, refused: TransactionError, now: Instant) {
        self.fenced |= matches!(
            &refused,
            TransactionError::Refused { error, .. } if matches!(error.code, 47 | 90)
        );
        self.phase = Phase::Idle;
        self.leave_identity();
        let search = Search {
            scope,
            refused,
            ask_at: now,
            read_at: now,
            trouble: None,
        };
        if search.scope.witness().is_none() {
            let why = "no record of it is known to be in one";
            return search.scope.has_ended(search.ends(why.into()));
        }
        self.phase = Phase::Searching(search);
    }

    /// The transaction whose marker somebody is to be asked for now. The same may be asked twice.
    pub fn seeks(&mut self, now: Instant) -> Option<Arc<Scope>> {
        let Phase::Searching(search) = &mut self.phase else {
            return None;
        };
        if search.ask_at > now {
            return None;
        }
        search.ask_at = now + SILENCE;
        Some(Arc::clone(&search.scope))
    }

    /// Whoever looks for a marker may not have heard of it, or may not have been heard.
    pub fn seek_anew(&mut self, now: Instant) {
        if let Phase::Searching(search) = &mut self.phase {
            search.ask_at = now;
        }
    }

    /// What has come of the look for the marker of a transaction.
    pub fn sought(&mut self, of: &Arc<Scope>, news: MarkerNews, now: Instant) {
        let Phase::Searching(search) = &mut self.phase else {
            return;
        };
        if !Arc::ptr_eq(of, &search.scope) {
            return;
        }
        search.ask_at = now + SILENCE;
        let end = match news {
            MarkerNews::NotYet { .. } => {
                search.read_at = now;
                search.trouble = None;
                return;
            }
            MarkerNews::Trouble(why) => {
                search.trouble = Some(why);
                return;
            }
            MarkerNews::Found(Marker::Committed) => End::Committed,
            MarkerNews::Found(Marker::Aborted) => {
                End::Aborted(Why::from(Cause::Refused(search.refused.clone())))
            }
            MarkerNews::Unknown(why) => search.ends(why),
        };
        search.scope.has_ended(end);
        self.phase = Phase::Idle;
    }

    /// When somebody is to be asked again, or the search is given up.
    pub(super) fn search_at(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Searching(search) => Some(search.ask_at.min(search.read_at + self.patience)),
            _ => None,
        }
    }

    /// Gives the search up if the log could not be read for too long. While it can, the marker is waited
    /// for: the coordinator writes it until it is there.
    pub(super) fn give_up_search(&mut self, now: Instant) {
        let Phase::Searching(search) = &self.phase else {
            return;
        };
        if now < search.read_at + self.patience {
            return;
        }
        let why = search.trouble.clone();
        let why = why.unwrap_or_else(|| "its partition is not known any more, or fell".into());
        let why = format!("it could not be read for {:?}: {why}", self.patience);
        search.scope.has_ended(search.ends(why.into()));
        self.phase = Phase::Idle;
    }
}
