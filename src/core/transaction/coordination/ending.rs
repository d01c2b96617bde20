//! How a transaction ends.

use std::sync::Arc;
use std::time::Instant;

use super::{Coordination, Phase};
use crate::core::identity::Identity;
use crate::core::lookup::{Marker, MarkerNews};
use crate::core::transaction::error::{Cause, TransactionError};
use crate::core::transaction::scope::{End, Scope, Why};
use crate::core::transaction::search::Search;
use crate::core::wire::TransactionProtocol;

impl Drop for Coordination {
    fn drop(&mut self) {
        self.give_up(Cause::runtime(
            "the part of the runtime that had it is gone",
        ));
    }
}

impl Coordination {
    /// The transaction is to be ended. It takes no more records. Returns whether its batches are to be
    /// flushed now, and [`flushed`](Self::flushed) to be called then. The same may be asked twice.
    pub fn end(&mut self, scope: &Arc<Scope>, commit: bool) -> bool {
        let here = match &self.phase {
            Phase::Open(present) | Phase::Flushing { scope: present, .. } => {
                Arc::ptr_eq(present, scope)
            }
            Phase::Idle | Phase::Ending { .. } | Phase::Searching(_) => false,
        };
        if !here {
            return false;
        }
        scope.close();
        if !commit {
            scope.fail(Cause::Requested);
            self.drop_what_waits();
        }
        self.phase = Phase::Flushing {
            scope: Arc::clone(scope),
            commit,
            flushed: None,
        };
        true
    }

    /// Every batch of the transaction has come back, with its outcome.
    pub fn flushed(&mut self, back: &Arc<Scope>, now: Instant) {
        match &mut self.phase {
            Phase::Flushing { scope, flushed, .. } if Arc::ptr_eq(scope, back) => {
                *flushed = Some(now);
            }
            _ => return,
        }
        self.go_on();
    }

    /// How long offsets are waited for that are all that is missing.
    pub(super) fn offsets_until(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Flushing {
                flushed: Some(at), ..
            } => Some(*at + self.max_block),
            _ => None,
        }
    }

    /// Gives up a commit whose offsets cannot be sent, or whose log cannot be read.
    pub fn expire(&mut self, now: Instant) {
        if self.offsets_until().is_some_and(|until| until <= now)
            && let Phase::Flushing { scope, .. } = &self.phase
        {
            let why = self.trouble.clone().unwrap_or_else(|| "no answer".into());
            scope.fail(Cause::OffsetsUnsent { why });
            self.go_on();
        }
        if let Some(end) = self.search().and_then(|search| search.vain(now)) {
            self.found(end, None);
        }
    }

    /// Has the coordinator end the transaction once nothing of it is on its way any more.
    pub(super) fn go_on(&mut self) {
        let Phase::Flushing {
            scope,
            commit,
            flushed: Some(_),
        } = &self.phase
        else {
            return;
        };
        let (scope, commit) = (Arc::clone(scope), *commit);
        if let Some(why) = scope.failed() {
            // No commit will ever be asked for, whatever becomes of the rest.
            scope.has_ended(End::Aborted(why.clone()));
            self.drop_what_waits();
        } else if !self.offsets.is_empty() {
            return;
        }
        let commit = commit && scope.failed().is_none();
        if self.touched {
            self.phase = Phase::Ending {
                scope,
                commit,
                in_doubt: false,
            };
            return;
        }
        scope.has_ended(End::Committed);
        self.phase = Phase::Idle;
        if self.forgotten {
            // The next transaction could not have that partition either.
            self.leave_identity();
        }
    }

    /// Nobody ends the transaction any more but the brokers, when its time is over.
    pub fn give_up(&mut self, why: impl Into<Why>) {
        let why = why.into();
        let (scope, may_be_committed) = match &self.phase {
            Phase::Idle => return,
            Phase::Open(scope) | Phase::Flushing { scope, .. } => (scope, false),
            Phase::Ending {
                scope,
                commit,
                in_doubt,
            } => (scope, *commit && (*in_doubt || self.asking)),
            Phase::Searching(search) => (search.scope(), true),
        };
        scope.fail(why.clone());
        scope.has_ended(match may_be_committed {
            true => End::Unknown(why),
            false => End::Aborted(why),
        });
        self.phase = Phase::Idle;
        self.leave_identity();
    }

    /// The request on its way may have been carried out.
    pub(super) fn doubt(&mut self) {
        self.unheard = true;
        if let Phase::Ending { in_doubt, .. } = &mut self.phase {
            *in_doubt = true;
        }
    }

    /// EndTxn was carried out.
    pub(super) fn ended(&mut self, identity: Option<Identity>) {
        if let Phase::Ending { scope, commit, .. } = &self.phase {
            scope.has_ended(match commit {
                true => End::Committed,
                false => End::Aborted(Cause::Requested.into()),
            });
            match (self.protocol, *commit, identity) {
                (TransactionProtocol::V2, _, Some(_)) => {
                    self.identity = identity;
                    self.numbered.clear();
                    self.forgotten = false;
                }
                (TransactionProtocol::V1, true, _) if !self.unheard => {}
                // In protocol 1 the epoch is not raised. Batches that were given up leave gaps in the numbers
                // under it, and a request that comes late would count for the next transaction
                // (KAFKA-17754).
                _ => self.leave_identity(),
            }
            self.phase = Phase::Idle;
        }
    }

    /// The coordinator does not end the transaction, or not as it was asked to.
    ///
    /// A commit whose answers all came was then certainly not carried out, and never will be: no other
    /// instance commits what this one had open. If one answer was missed, only "no such transaction" of
    /// the coordinator itself tells that it was aborted: it knows a commit that it has carried out. Where
    /// that is not told, the log tells, if it is known where the transaction has a record.
    pub(super) fn not_ended(&mut self, why: &TransactionError, now: Instant) {
        let Phase::Ending {
            scope,
            commit,
            in_doubt,
        } = &mut self.phase
        else {
            return;
        };
        const INVALID_TXN_STATE: i16 = 48;
        let told = matches!(
            why,
            TransactionError::Refused { error, .. } if error.code == INVALID_TXN_STATE
        );
        if *commit && *in_doubt && !told {
            let scope = Arc::clone(scope);
            return self.begin_search(scope, why.clone(), now);
        }
        scope.has_ended(End::Aborted(Cause::Refused(why.clone()).into()));
        if why.is_of_later_epoch() {
            self.passed_by();
            return;
        }
        let is_over = matches!(
            why,
            TransactionError::Refused { error, .. } if matches!(error.code, 48 | 49)
        );
        // The coordinator has aborted it. Asked to do so once more, it tells the identity to go on with:
        // InitProducerId has none where the epochs are used up.
        let tells = told && self.protocol == TransactionProtocol::V2;
        if *commit && (tells || !*in_doubt && !is_over) {
            // Or it is open there still, and readers of what is committed wait.
            (*commit, *in_doubt) = (false, false);
            return;
        }
        self.phase = Phase::Idle;
        self.leave_identity();
    }

    /// Has the marker of the transaction looked for: whether it was committed is not known otherwise. The
    /// coordinator is asked no more.
    fn begin_search(&mut self, scope: Arc<Scope>, refused: TransactionError, now: Instant) {
        // In protocol 1 it may be that time was over, which the marker tells.
        self.fenced |= refused.is_of_later_epoch() && self.protocol == TransactionProtocol::V2;
        self.leave_identity();
        let search = Search::new(scope, refused, self.patience, now);
        let vain = search.vain(now);
        self.phase = Phase::Searching(search);
        if let Some(end) = vain {
            self.found(end, None);
        }
    }

    pub(super) fn search(&self) -> Option<&Search> {
        match &self.phase {
            Phase::Searching(search) => Some(search),
            _ => None,
        }
    }

    /// The transaction whose marker somebody is to be asked for now. The same may be asked twice.
    pub fn seeks(&mut self, now: Instant) -> Option<Arc<Scope>> {
        match &mut self.phase {
            Phase::Searching(search) => search.ask(now),
            _ => None,
        }
    }

    /// Whoever looks for a marker may not have heard of it, or may not have been heard.
    pub fn seek_anew(&mut self, now: Instant) {
        if let Phase::Searching(search) = &mut self.phase {
            search.ask_anew(now);
        }
    }

    /// What has come of the look for the marker of a transaction.
    pub fn sought(&mut self, of: &Arc<Scope>, news: MarkerNews, now: Instant) {
        let aborted_under = match news {
            MarkerNews::Found(Marker::Aborted { epoch }) => Some(epoch),
            _ => None,
        };
        let end = match &mut self.phase {
            Phase::Searching(search) if Arc::ptr_eq(of, search.scope()) => search.heard(news, now),
            _ => None,
        };
        if let Some(end) = end {
            self.found(end, aborted_under);
        }
    }

    /// The search is over. The epoch is that of the marker, if it is of an abort.
    fn found(&mut self, end: End, aborted_under: Option<i16>) {
        let Phase::Searching(search) = &self.phase else {
            return;
        };
        let (scope, passed_by) = (Arc::clone(search.scope()), search.was_passed_by());
        scope.has_ended(end);
        self.phase = Phase::Idle;
        // Under the next epoch it is its coordinator's own abort: till then it was open.
        let was_open = |former: &Identity| former.epoch.checked_add(1) == aborted_under;
        match self.bumps.filter(was_open) {
            _ if !passed_by || self.fenced => {}
            Some(former) => self.look_behind(scope, former),
            None => self.has_been_fenced(),
        }
    }

    /// The coordinator refuses the end since it is at a later epoch.
    ///
    /// InitProducerId is no way to ask why. Brokers do not look at the epoch that it names before they
    /// abort what is open under the `transactional.id`: that of the newer instance.
    ///
    /// In protocol 2 another instance has taken the id, as a coordinator that aborted the transaction itself
    /// answers otherwise. In protocol 1 it may have done that under the next epoch, which it then gives to
    /// nobody. So an abort at that epoch is carried out there, and is refused if there is another instance:
    /// that has a still later one. It has the next one itself only where nothing of ours was open. Whether a
    /// commit in doubt was open till then its marker tells.
    fn passed_by(&mut self) {
        let Phase::Ending {
            scope, in_doubt, ..
        } = &self.phase
        else {
            return;
        };
        let is_known = !self.added.is_empty() || !self.groups.is_empty();
        let was_open = !*in_doubt && is_known;
        let may_be_time =
            self.protocol == TransactionProtocol::V1 && was_open && !self.looks_behind;
        let scope = Arc::clone(scope);
        match self.identity {
            Some(identity) if may_be_time => self.look_behind(scope, identity),
            _ => self.has_been_fenced(),
        }
    }

    /// Has the transaction aborted once more at the epoch behind its own: that works if its time was over.
    fn look_behind(&mut self, scope: Arc<Scope>, former: Identity) {
        let Some(epoch) = former.epoch.checked_add(1) else {
            return self.has_been_fenced();
        };
        self.identity = Some(Identity { epoch, ..former });
        self.looks_behind = true;
        self.phase = Phase::Ending {
            scope,
            commit: false,
            in_doubt: false,
        };
    }

    /// Another instance has taken the id.
    fn has_been_fenced(&mut self) {
        self.phase = Phase::Idle;
        self.leave_identity();
        self.fenced = true;
    }
}
