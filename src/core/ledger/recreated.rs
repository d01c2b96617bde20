//! A topic that was deleted and created anew while its records were in the spool. They were accepted for the
//! former one, and never go to the other: what was not sent is kept aside, and so is what may be in the log
//! that is gone.

use std::ops::Range;

use super::parked::pieces;
use super::spooled::Record;
use super::{Effects, Entry, Ledger, Report};
use crate::core::ack::Settlement;
use crate::core::broker_error::{Class, asks_for_metadata, class_of};
use crate::core::outcome::{Reason, Unconfirmed};
use crate::core::spool::{Fate, Resume, Settled, Survey};

/// It was never sent.
fn unsent() -> Settlement {
    Settlement::Failed(Unconfirmed::NotWritten(Reason::TopicRecreated))
}

/// It may be in the log of the former topic.
pub(super) fn in_former() -> Settlement {
    Settlement::Failed(Unconfirmed::Unknown(Reason::TopicRecreated))
}

impl Ledger {
    /// All that is here was accepted for a topic that is gone. What is lent ends when it is back. What comes
    /// has positions from `next` on, in another slot; without it, in the same one, and is too late as well.
    pub fn topic_recreated(&mut self, next: Option<u64>) -> Effects {
        let mut effects = Effects::default();
        self.leave_survey(&mut effects);
        let Some(spooled) = &mut self.spooled else {
            return effects;
        };
        spooled.next = next.unwrap_or(spooled.next).max(spooled.next);
        (spooled.former, spooled.written) = (spooled.next, spooled.next);
        spooled.line = None;
        self.end_doubts(|_| in_former(), &mut effects);
        let any_sent = self.entries.iter().any(|entry| entry.stamp.is_some());
        while let Some(at) = self.entries.iter().position(|entry| !entry.lent) {
            if let Some(entry) = self.entries.remove(at) {
                self.end_former(entry, &mut effects);
            }
        }
        if any_sent {
            // What comes begins under another identity: nothing late of the former log can be taken for it.
            self.break_line();
        }
        self.end_backlog(&mut effects);
        self.leave_broken_line(&mut effects);
        effects
    }

    /// Ends what a former producer left of a topic that is gone.
    pub fn leave_former(&mut self, resume: &Resume) -> Effects {
        let mut effects = Effects::default();
        let (mut sent, mut unsent_parts) = (Settled::default(), Settled::default());
        for part in Survey::new(resume).absent_under_lines() {
            sent.add(part, 0);
        }
        for part in &resume.unsettled {
            for never in sent.unsettled(part.clone()) {
                unsent_parts.add(never.clone(), 0);
                self.end_left(never, &unsent(), &mut effects);
            }
            for maybe in unsent_parts.unsettled(part.clone()) {
                self.end_left(maybe, &in_former(), &mut effects);
            }
        }
        for lost in &resume.missing {
            let is_never = sent.count_unsettled(lost.clone()) == lost.end - lost.start;
            let fate = if is_never {
                Fate::NotWritten
            } else {
                Fate::Unknown
            };
            effects.lost += lost.end - lost.start;
            for part in pieces(lost.clone()) {
                let count = (part.end - part.start) as i32;
                effects.records.push(Record::new(part.start, count, fate));
            }
        }
        effects
    }

    /// Ends records that were never in the backlog.
    fn end_left(&mut self, part: Range<u64>, settlement: &Settlement, effects: &mut Effects) {
        for part in pieces(part) {
            self.end_part(part, Vec::new(), settlement, effects);
        }
    }

    /// Whether anything is here that is neither lent nor on its way to its outcome.
    pub fn is_any_open(&self) -> bool {
        let spooled = self.spooled.as_deref();
        let waits =
            spooled.is_some_and(|it| !it.backlog.is_empty() || !it.resuming.left.is_empty());
        waits || self.has_doubts() || self.entries.iter().any(|entry| !self.is_of_former(entry))
    }

    /// Whether the batch was accepted for a topic that is gone.
    pub(super) fn is_of_former(&self, entry: &Entry) -> bool {
        let former = self.spooled.as_deref().map_or(0, |spooled| spooled.former);
        entry.position < former
    }

    /// A batch that was lent comes back, and its topic is gone.
    pub(super) fn report_former(&mut self, at: usize, report: Report, effects: &mut Effects) {
        let Some(mut entry) = self.entries.remove(at) else {
            return;
        };
        match report {
            Report::Answered(attempt) => {
                effects.refresh_metadata = asks_for_metadata(attempt.error.code);
                match class_of(attempt.error.code) {
                    Class::Duplicate if !entry.unresolved => entry.doubt(),
                    Class::Success | Class::Duplicate => {
                        let acked = Settlement::Acked {
                            base_offset: attempt.base_offset.filter(|offset| *offset >= 0),
                            log_append_time: attempt.log_append_time,
                        };
                        return self.end_entry(entry, acked, effects);
                    }
                    Class::Doubtful | Class::DoubtfulForNow => entry.doubt(),
                    _ => {}
                }
            }
            Report::Returned { written, .. } if written => entry.doubt(),
            Report::Returned { .. } => {}
            Report::Unasked => entry.doubt(),
        }
        self.end_former(entry, effects);
    }

    fn end_former(&mut self, entry: Entry, effects: &mut Effects) {
        let settlement = match entry.unresolved {
            true => in_former(),
            false => unsent(),
        };
        self.end_entry(entry, settlement, effects);
    }

    /// Ends all that is on the disk alone: it was never sent.
    fn end_backlog(&mut self, effects: &mut Effects) {
        let unsent = unsent();
        self.end_batches(u64::MAX, &unsent, effects);
        // What nobody has a receipt of is in front now.
        while let Some(spooled) = &self.spooled
            && let Some((first, count)) = spooled.backlog.next()
        {
            self.end_parked(first..first + count, &unsent, effects);
            self.end_batches(u64::MAX, &unsent, effects);
        }
    }
}
