//! What a former producer left in the spool: which of it is in the log has to be found out before any of it
//! is sent.

use std::ops::Range;
use std::sync::Arc;

use super::recreated::in_former;
use super::spooled::{Record, Resuming};
use super::{Effects, Ledger};
use crate::core::ack::Settlement;
use crate::core::batch::Settled;
use crate::core::lookup::{Absence, Fence};
use crate::core::outcome::{Reason, Unconfirmed};
use crate::core::spool::{Fate, Seen, Survey};

impl Ledger {
    /// Whether it is not known yet what a former producer has written.
    pub(super) fn surveys(&self) -> bool {
        self.surveyed_producer().is_some()
    }

    fn resuming(&self) -> Option<&Resuming> {
        Some(&self.spooled.as_deref()?.resuming)
    }

    /// The producer whose batches are looked for.
    pub(super) fn surveyed_producer(&self) -> Option<i64> {
        Some(self.resuming()?.left.front()?.producer_id)
    }

    /// Where to look from.
    pub(super) fn survey_floor(&self) -> Option<i64> {
        let resuming = self.resuming()?;
        (!resuming.left.is_empty()).then_some(resuming.floor)
    }

    /// Where to look to, where no marker can be had.
    pub(super) fn survey_end(&self) -> Option<Fence> {
        let unfenced = self.resuming()?.unfenced && self.surveys();
        unfenced.then_some(Fence::Offset(self.doubts.floor?))
    }

    /// Begins with what a former producer left.
    pub fn resume(&mut self, resuming: Resuming) -> Effects {
        let mut effects = Effects::default();
        if let Some(spooled) = &mut self.spooled {
            spooled.resuming = resuming;
        }
        self.next_survey(&mut effects);
        effects
    }

    /// Wants the fence of the next producer that is to be surveyed, or makes use of what was found.
    fn next_survey(&mut self, effects: &mut Effects) {
        let Some(resuming) = self.resuming() else {
            return;
        };
        match resuming.left.front().copied() {
            Some(identity) => {
                let floor = resuming.floor;
                self.left = Some(identity);
                self.identity = None;
                // Behind a fence the floor is higher.
                self.doubts.floor = self.doubts.floor.max(Some(floor));
            }
            None => self.surveyed(false, effects),
        }
    }

    /// The producer id has changed meanwhile, and another one is used. What was before can be found, and a
    /// late copy cannot be kept out.
    pub(super) fn survey_unfenced(&mut self) {
        if let Some(spooled) = &mut self.spooled
            && !spooled.resuming.left.is_empty()
        {
            spooled.resuming.unfenced = true;
            self.doubts.floor = None;
        }
    }

    /// The log was read up to the fence of the first producer. What was found is in the log, the rest is not,
    /// unless it was in the hole.
    pub(super) fn survey_done(
        &mut self,
        found: &[Seen],
        hole: Option<Absence>,
        effects: &mut Effects,
    ) {
        let Some(spooled) = &mut self.spooled else {
            return;
        };
        let resuming = &mut spooled.resuming;
        tracing::debug!(?found, ?hole, "the log was surveyed");
        resuming.unfenced = false;
        if resuming.left.pop_front().is_none() {
            return;
        }
        if let Some(why) = hole {
            resuming.hole = Some(why.to_string().into());
        }
        for seen in found {
            if let Some(Err(mismatch)) = resuming.survey.as_mut().map(|survey| survey.see(*seen)) {
                tracing::warn!(%mismatch, "the spool and the log do not agree");
            }
        }
        self.next_survey(effects);
    }

    /// The log is gone, with what may be in it.
    pub(super) fn leave_survey(&mut self, effects: &mut Effects) {
        let Some(spooled) = &mut self.spooled else {
            return;
        };
        let resuming = &mut spooled.resuming;
        if resuming.left.is_empty() {
            return;
        }
        resuming.left.clear();
        resuming.unfenced = false;
        let survey = resuming.survey.as_ref();
        let sent = survey.map(|survey| survey.absent_under_lines());
        self.surveyed(true, effects);
        for part in sent.into_iter().flatten() {
            self.end_parked(part, &in_former(), effects);
        }
    }

    /// Settles what was found, and what is lost. `gone`: the log was not read to its end, and never will be.
    fn surveyed(&mut self, gone: bool, effects: &mut Effects) {
        let Some(spooled) = &mut self.spooled else {
            return;
        };
        let Some(survey) = spooled.resuming.survey.take() else {
            return;
        };
        tracing::debug!(found = ?survey.found(), "records of the spool are in the log");
        for found in survey.found() {
            effects.records.push(Record::new(
                found.position,
                found.count as i32,
                Fate::Acked(found.base_offset),
            ));
            let parts = spooled.backlog.remove(found.position, found.count.into());
            for (position, count, listeners) in parts {
                let offset = found.base_offset + (position - found.position) as i64;
                let settlement = Settlement::Acked {
                    base_offset: Some(offset),
                    log_append_time: None,
                };
                let partition = spooled.partition;
                let mut settled = Settled::unheard(partition, count, settlement, &listeners);
                spooled.tie_to(position, &mut settled);
                effects.settled.push(settled);
            }
        }
        let hole = spooled.resuming.hole.take();
        for absent in survey.absent() {
            let lost = spooled.resuming.lost.iter();
            let lost = lost.map(|lost| lost.start.max(absent.start)..lost.end.min(absent.end));
            for lost in lost.filter(|lost| !lost.is_empty()) {
                effects.lost += lost.end - lost.start;
                let fate = match gone || hole.is_some() {
                    true => Fate::Unknown,
                    false => Fate::NotWritten,
                };
                let count = (lost.end - lost.start) as i32;
                effects.records.push(Record::new(lost.start, count, fate));
            }
        }
        match hole.filter(|_| !gone) {
            Some(why) if self.rules.resends => {
                effects.resent = Some((why, survey.absent_under_lines()));
            }
            Some(why) => self.leave_unknown(&survey, &why, effects),
            None => {}
        }
        self.untie();
    }

    /// What was not found may be there, and the log cannot tell: it is not sent again.
    fn leave_unknown(&mut self, survey: &Survey, why: &Arc<str>, effects: &mut Effects) {
        let Some(spooled) = &mut self.spooled else {
            return;
        };
        let mut all = 0;
        for Range { start, end } in survey.absent_under_lines() {
            all += end - start;
            effects
                .records
                .push(Record::new(start, (end - start) as i32, Fate::Unknown));
            for (position, count, listeners) in spooled.backlog.remove(start, end - start) {
                let reason = Reason::Unresolved {
                    first: Box::new(Reason::RuntimeGone),
                    why: Arc::clone(why),
                };
                let fate = Settlement::Failed(Unconfirmed::Unknown(reason));
                let mut settled = Settled::unheard(spooled.partition, count, fate, &listeners);
                spooled.tie_to(position, &mut settled);
                effects.settled.push(settled);
            }
        }
        effects.unknown = (all > 0).then(|| (all, Arc::clone(why)));
    }
}
