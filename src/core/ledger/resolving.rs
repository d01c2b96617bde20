//! Batches in doubt: no broker has said whether they are in the log. With `forebay.unknown=resolve` they
//! are looked for there, and nothing is told of them before.
//!
//! What has no time left is told *not written* if it is absent, and its bytes go home at once. What has
//! time left is sent again then: it keeps its bytes, and the partition waits.

use std::sync::Arc;
use std::time::Instant;

use super::doubts::{Awaited, Doubt, Doubts};
use super::entry::Entry;
use super::{Effects, Ledger};
use crate::core::ack::Settlement;
use crate::core::batch::Stamp;
use crate::core::broker_error::{Class, class_of};
use crate::core::identity::Identity;
use crate::core::lookup::{Fence, Look, Looked, Verdict};
use crate::core::outcome::{Reason, Unconfirmed};

impl Ledger {
    /// Whether what would be told *unknown* is looked for first.
    pub(super) fn resolves(&self) -> bool {
        self.rules.resolve.is_some()
    }

    /// Whether nothing can be sent before it is known where the log ends.
    pub fn wants_floor(&self) -> bool {
        self.resolves() && self.doubts.floor.is_none()
    }

    /// The log ends at `end` now.
    pub fn set_floor(&mut self, end: i64) {
        self.doubts.floor.get_or_insert(end);
    }

    /// Whether any batch is looked for.
    pub fn has_doubts(&self) -> bool {
        !self.doubts.list.is_empty()
    }

    /// Whether nothing may be lent before doubts are over, as they may be sent again.
    pub(super) fn waits_for_doubts(&self) -> bool {
        self.doubts.list.iter().any(|doubt| doubt.again)
    }

    /// Whether an identity of another producer id is wanted.
    pub fn wants_fresh(&self) -> bool {
        // Another producer's batches do not fence what is in doubt under this one. What is under one before
        // it is fenced by neither.
        let left = self.left.map(|it| it.producer_id);
        let keeps = |doubt: &Doubt| left.is_none_or(|left| doubt.stamp.producer_id == left);
        self.doubts.wants_fresh && !self.doubts.list.iter().any(keeps)
    }

    /// Whether an identity is wanted that can be used without a look into the log.
    pub fn wants_plain(&self) -> bool {
        self.doubts.wants_plain
    }

    pub(super) fn awaits_fence(&self) -> bool {
        self.doubts.awaited.is_some()
    }

    /// The producer whose marker is waited for.
    pub fn awaited_producer(&self) -> Option<i64> {
        match self.doubts.awaited?.fence {
            Fence::Marker { producer_id, .. } => Some(producer_id),
            Fence::Offset(_) => None,
        }
    }

    /// The producer whose marker was seen last, if none is waited for.
    pub fn fenced_by(&self) -> Option<i64> {
        self.identity.and(self.doubts.fenced)
    }

    /// Whether a new batch could not be lent, whatever else there is: something has to be asked for first,
    /// or looked for.
    pub fn holds_back(&self) -> bool {
        self.wants_identity()
            || self.wants_floor()
            || self.awaits_fence()
            || self.waits_for_doubts()
            || self.surveys()
            || self.wants_line().is_some()
    }

    /// Whether a batch may be numbered and sent now.
    pub(super) fn may_begin(&self, entry: &Entry) -> bool {
        !self.wants_floor()
            && !self.waits_for_doubts()
            && !self.surveys()
            && !self.ends_fence(entry)
            && self.is_durable(entry)
            && (!entry.batch.is_spooled() || self.line_serves(entry.position))
    }

    /// Whether the batch would end the fence before it, as brokers would forget the producer with it.
    pub(super) fn ends_fence(&self, entry: &Entry) -> bool {
        let producer = self.identity.map(|it| it.producer_id);
        self.doubts.fenced.is_some() && self.doubts.fenced == producer && self.is_old(entry)
    }

    /// Leaves an identity whose fence the next batch would end, when nothing is lent any more.
    pub fn leave_fenced(&mut self) {
        let next = self.entries.front().filter(|entry| entry.stamp.is_none());
        if !self.broken && next.is_some_and(|entry| self.ends_fence(entry)) {
            self.doubts.wants_fresh = true;
            self.left = self.identity.take();
        }
    }

    /// Leaves the identity of this producer, if nothing of it is in doubt: no fence can be had for it any
    /// more, as a marker elsewhere cannot be written.
    pub fn leave_producer(&mut self, producer_id: i64) {
        let is_it = self
            .identity
            .is_some_and(|it| it.producer_id == producer_id);
        if is_it && !self.is_in_doubt() && !self.broken {
            self.doubts.wants_fresh = true;
            self.break_line();
            let mut none = Effects::default();
            self.leave_broken_line(&mut none);
            debug_assert!(none.settled.is_empty());
        }
    }

    /// The identity was left, and another one is there.
    pub(super) fn identity_changed(&mut self) {
        self.doubts.wants_fresh = false;
        self.doubts.wants_plain = false;
        self.doubts.awaited = None;
    }

    /// Takes the identity that the ledger asked for, once its fence has been seen. Without a fence it is
    /// taken at once, and what comes under it fences what was before.
    pub fn adopt_behind(&mut self, identity: Identity, fence: Option<Fence>) {
        match fence {
            // It was asked for before one was wanted that needs no fence.
            Some(_) if self.wants_fresh() || self.wants_plain() => {}
            // It may take the place of one that does not come.
            Some(fence) if self.identity.is_none() && !self.wants_floor() => {
                self.doubts.awaited = Some(Awaited { identity, fence });
            }
            Some(_) => {}
            None => {
                let left = self.left.map(|it| it.producer_id);
                if left != Some(identity.producer_id) {
                    // No marker of the former producer comes any more.
                    self.doubts.awaited = None;
                }
                self.adopt(identity);
                self.survey_unfenced();
                // Only what comes behind can fence them.
                for doubt in self.doubts.list.iter_mut().filter(|doubt| doubt.again) {
                    doubt.let_go();
                }
            }
        }
    }

    /// Has the batch at `at` looked for, which may be in the log. Returns whether it can be.
    pub(super) fn look_for(&mut self, at: usize, reason: &Reason) -> bool {
        let entry = &self.entries[at];
        let (Some(stamp), Some(timeout)) = (entry.stamp, self.rules.resolve) else {
            return false;
        };
        if entry.floor.is_none() || entry.batch.is_settled() {
            return false;
        }
        let Some(entry) = self.entries.remove(at) else {
            return false;
        };
        let until = entry.batch.created_at() + self.rules.delivery_timeout + timeout;
        let again = self.spooled.is_some() || entry.overdue.is_none() && may_go_again(reason);
        let mut doubt = Doubt {
            entry,
            stamp,
            reason: reason.clone(),
            again,
            until,
            since: None,
        };
        if !again {
            doubt.let_go();
        }
        let order = doubt.entry.order();
        let list = &mut self.doubts.list;
        let place = list.partition_point(|other| other.entry.order() < order);
        list.insert(place, doubt);
        true
    }

    /// Notes the time of batches that have come to be in doubt since it was last called.
    pub fn note_doubts(&mut self, now: Instant) {
        for doubt in &mut self.doubts.list {
            doubt.since.get_or_insert(now);
        }
    }

    /// What is to be looked up now.
    pub fn look(&self) -> Option<Look> {
        let Doubts {
            list,
            awaited,
            behind,
            ..
        } = &self.doubts;
        let unfenced = self.survey_end();
        if list.is_empty() && awaited.is_none() && unfenced.is_none() {
            return None;
        }
        let floors = list.iter().filter_map(|doubt| doubt.entry.floor);
        let floors = floors.chain(self.doubts.floor).chain(self.survey_floor());
        let floor = floors.min()?;
        let sought = list.iter().map(Doubt::sought).collect();
        let behind = behind.map(|(_, at)| Fence::Offset(at));
        let fence = awaited.map(|it| it.fence).or(unfenced).or(behind);
        Some(Look {
            floor,
            fence,
            sought,
            survey: self.surveyed_producer(),
        })
    }

    /// A look has come so far.
    pub fn looked(&mut self, look: &Look, looked: Looked) -> Effects {
        let mut effects = Effects::default();
        if self.look().as_ref() != Some(look) {
            return effects;
        }
        for (id, verdict) in looked.verdicts {
            let place = self.doubts.list.iter().position(|it| it.entry.id == id);
            let Some(place) = place else { continue };
            let since = self.doubts.list[place].since;
            let covered = looked.fenced_at.is_some() && self.covers(self.doubts.list[place].stamp);
            match verdict {
                Verdict::At(found) => {
                    let settlement = Settlement::Acked {
                        base_offset: Some(found.base_offset),
                        log_append_time: found.log_append_time,
                    };
                    effects.resolved.extend(since);
                    self.end_doubt(place, |_| settlement, &mut effects);
                }
                Verdict::Absent if covered => {
                    effects.resolved.extend(since);
                    self.is_absent(place, &mut effects);
                }
                Verdict::Absent => {}
                Verdict::Unknown(why) => self.untold(place, &why.to_string().into(), &mut effects),
            }
        }
        if look.survey.is_some() && (looked.fenced_at.is_some() || looked.hole.is_some()) {
            match looked.fenced_at {
                Some(at) => self.fence_seen(at),
                // The fence will not be seen. Another producer needs none.
                None if self.doubts.awaited.take().is_some() => self.doubts.wants_fresh = true,
                None => {}
            }
            self.survey_done(&looked.surveyed, looked.hole, &mut effects);
            return effects;
        }
        if let Some(at) = looked.fenced_at {
            if let Some(Fence::Offset(_)) = look.fence {
                // Whom it fences has an outcome now, or is sent again. The others need another fence.
                self.doubts.behind = None;
            }
            self.fence_seen(at);
        }
        effects
    }

    /// The log cannot be read, and why.
    pub fn unreadable(&mut self, look: &Look, why: &Arc<str>) -> Effects {
        let mut effects = Effects::default();
        if self.look().as_ref() != Some(look) {
            return effects;
        }
        while self.has_doubts() {
            self.untold(0, why, &mut effects);
        }
        // Its fence will not be seen.
        if self.doubts.awaited.take().is_some() {
            self.doubts.wants_plain = true;
        }
        effects
    }

    /// Nothing can be found out for now, and why.
    pub fn note_trouble(&mut self, why: Arc<str>) {
        self.doubts.trouble = Some(why);
    }

    /// The log is another: the topic was created anew. What was sought was in the former one.
    pub fn topic_changed(&mut self) -> Effects {
        let mut effects = Effects::default();
        self.doubts.floor = None;
        self.doubts.behind = None;
        for entry in &mut self.entries {
            entry.floor = None;
        }
        let why: Arc<str> = "the topic was deleted and created anew".into();
        self.end_doubts(|reason| unknown(reason, Arc::clone(&why)), &mut effects);
        // A marker that was asked for is in the former log, or in this one, and before what will be its end.
        self.doubts.awaited = None;
        self.doubts.wants_fresh |= self.identity.is_none() && self.left.is_some();
        effects
    }

    /// Ends all that is looked for.
    pub(super) fn end_doubts(
        &mut self,
        settlement: impl Fn(Reason) -> Settlement,
        effects: &mut Effects,
    ) {
        while self.has_doubts() {
            self.end_doubt(0, &settlement, effects);
        }
    }

    /// The log does not tell of a batch. In a spool it is sent again, if that is wanted.
    fn untold(&mut self, place: usize, why: &Arc<str>, effects: &mut Effects) {
        if self.is_spooled() && self.rules.resends && self.doubts.list[place].again {
            let entry = &self.doubts.list[place].entry;
            let positions = entry.position..entry.end();
            let resent = || (Arc::clone(why), Vec::new());
            effects.resent.get_or_insert_with(resent).1.push(positions);
            return self.is_absent(place, effects);
        }
        self.end_doubt(place, |reason| unknown(reason, Arc::clone(why)), effects);
    }

    /// Whether nothing of this stamp can come behind the fence.
    fn covers(&self, stamp: Stamp) -> bool {
        match (self.doubts.awaited, self.doubts.behind) {
            (Some(Awaited { fence, .. }), _) => fence.keeps_out(stamp.producer_id, stamp.epoch),
            (None, Some((it, _))) => stamp.producer_id == it.producer_id && stamp.epoch < it.epoch,
            (None, None) => false,
        }
    }

    /// A batch is in the log: it is a fence for what was under an earlier epoch, unless brokers may forget
    /// the producer with it.
    pub(super) fn acked_at(&mut self, at: usize, base_offset: Option<i64>) {
        let entry = &self.entries[at];
        let (true, Some(base), Some(stamp)) = (self.resolves(), base_offset, entry.stamp) else {
            return;
        };
        let is_old = self.is_old(entry);
        let end = base + i64::from(entry.batch.count());
        let floor = self.doubts.floor.get_or_insert(end);
        *floor = end.max(*floor);
        if self.doubts.list.is_empty() || is_old {
            return;
        }
        let it = Identity {
            producer_id: stamp.producer_id,
            epoch: stamp.epoch,
        };
        let fences = |doubt: &Doubt| {
            doubt.stamp.producer_id == it.producer_id && doubt.stamp.epoch < it.epoch
        };
        let uncovered = |doubt: &Doubt| !self.covers(doubt.stamp);
        if self
            .doubts
            .list
            .iter()
            .any(|doubt| fences(doubt) && uncovered(doubt))
        {
            self.doubts.behind = Some((it, base));
        }
    }

    fn fence_seen(&mut self, at: i64) {
        if let Some(Awaited { identity, fence }) = self.doubts.awaited.take() {
            // The marker has an offset, too.
            self.doubts.floor = self.doubts.floor.max(Some(at + 1));
            if let Fence::Marker { producer_id, .. } = fence {
                self.doubts.fenced = Some(producer_id);
            }
            self.adopt(identity);
        }
    }

    fn is_absent(&mut self, place: usize, effects: &mut Effects) {
        if !self.doubts.list[place].again {
            let not_written = |reason| Settlement::Failed(Unconfirmed::NotWritten(reason));
            return self.end_doubt(place, not_written, effects);
        }
        let Doubt { mut entry, .. } = self.doubts.list.remove(place);
        entry.unresolved = false;
        entry.batch.set_resolved();
        entry.stamp = None;
        entry.floor = None;
        entry.not_before = None;
        let order = entry.order();
        let behind = self.entries.partition_point(|other| other.order() < order);
        self.entries.insert(behind, entry);
    }

    fn end_doubt(
        &mut self,
        place: usize,
        settlement: impl FnOnce(Reason) -> Settlement,
        effects: &mut Effects,
    ) {
        let Doubt { entry, reason, .. } = self.doubts.list.remove(place);
        self.end_entry(entry, settlement(reason), effects);
        if self.doubts.list.is_empty() {
            self.doubts.behind = None;
            self.doubts.trouble = None;
        }
    }

    /// Settles what was looked for long enough, and gives up what has no time left to be sent again.
    pub(super) fn expire_doubtful(&mut self, now: Instant, effects: &mut Effects) {
        let timeout = self.rules.delivery_timeout;
        for doubt in self.doubts.list.iter_mut().filter(|doubt| doubt.again) {
            if now >= doubt.entry.batch.created_at() + timeout {
                doubt.reason = doubt.entry.expired(timeout, now);
                doubt.let_go();
            }
        }
        while let Some(place) = self.doubts.list.iter().position(|it| it.until <= now) {
            let trouble = self.doubts.trouble.clone();
            let why = trouble.unwrap_or_else(|| {
                "nothing has come behind it that would keep a late copy out of the log".into()
            });
            let why = format!("forebay.unknown.resolve.timeout.ms ran out: {why}").into();
            self.end_doubt(place, |reason| unknown(reason, why), effects);
            // No fence came in all this time, and none is needed any more.
            self.doubts.wants_fresh |= self.identity.is_none() && !self.awaits_fence();
        }
    }

    pub(super) fn next_doubt_expiry(&self) -> Option<Instant> {
        let timeout = self.rules.delivery_timeout;
        let expiry = |doubt: &Doubt| match doubt.again {
            true => doubt.entry.batch.created_at() + timeout,
            false => doubt.until,
        };
        self.doubts.list.iter().map(expiry).min()
    }

    /// Settles all that is looked for, since nobody will look any more. `why` makes the reason from a batch's
    /// last error.
    pub fn abandon_doubts(&mut self, why: impl Fn(Option<Arc<str>>) -> Reason) -> Effects {
        let mut effects = Effects::default();
        while self.has_doubts() {
            let last = self.doubts.list[0].entry.last_error.take();
            let fate = Unconfirmed::Unknown(why(last));
            self.end_doubt(0, |_| Settlement::Failed(fate), &mut effects);
        }
        effects
    }
}

/// Whether a batch in doubt for this reason is sent again if it is absent: it has time left, and nobody
/// has refused it.
fn may_go_again(reason: &Reason) -> bool {
    match reason {
        Reason::AfterUnresolved { .. } | Reason::Forgotten { .. } => true,
        Reason::Broker(error) => {
            matches!(
                class_of(error.code),
                Class::OutOfOrder | Class::IdentityLost
            )
        }
        _ => false,
    }
}

fn unknown(reason: Reason, why: Arc<str>) -> Settlement {
    let first = Box::new(reason);
    Settlement::Failed(Unconfirmed::Unknown(Reason::Unresolved { first, why }))
}
