//! Tells the application what became of what former producers left, one message at a time, and when all of it
//! has its outcome.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use actix::prelude::*;

use super::SpoolActor;
use super::aside::aside;
use super::plan::read_sources;
use super::resumption::{Untold, named};
use crate::actors::guard::{self, On};
use crate::actors::messages::{Resent, WaitForResumed};
use crate::core::ledger::Record;
use crate::core::record::TopicPartition;
use crate::core::spool::{Resumed, ResumedOutcome};

impl SpoolActor {
    /// These records have their outcome. To be called before their segments are given back.
    pub(super) fn resumed(&mut self, slot: u32, record: &Record) {
        if !self.resumption.former.settle(slot, record.positions()) {
            return;
        }
        let to = self.resumption.to.as_ref();
        let topic_partition = self.topic_partition(slot);
        if let (true, Some(topic_partition)) =
            (to.is_some_and(Recipient::connected), topic_partition)
        {
            let may_be_twice = self
                .resumption
                .former
                .may_be_twice(slot, record.positions());
            let Range { start, end } = record.positions();
            let has_sources = !self.journal.state().sources.is_empty();
            let plan = has_sources.then(|| self.plan_bytes(slot, start, end - start, usize::MAX));
            let resumed = Resumed {
                topic_partition,
                position: start,
                count: record.count.unsigned_abs(),
                outcome: ResumedOutcome::of(record.fate, record.why.as_ref(), may_be_twice),
                sources: Vec::new(),
            };
            self.resumption.untold.push_back(Untold { resumed, plan });
        }
    }

    /// Begins to tell, unless it is being told.
    pub(super) fn tell_resumed(&mut self, ctx: &mut Context<Self>) {
        if !self.resumption.is_telling {
            self.tell_next(ctx);
        }
    }

    fn topic_partition(&self, slot: u32) -> Option<TopicPartition> {
        let known = self.journal.state().slots.get(&slot)?;
        let topic = known.topic.as_ref()?;
        Some(TopicPartition {
            topic: Arc::clone(&topic.topic),
            partition: topic.partition,
        })
    }

    /// Tells the first one, once the disk has its outcome: whoever hears of it may forget the record.
    pub(super) fn tell_next(&mut self, ctx: &mut Context<Self>) {
        let next = self.resumption.untold.front();
        self.resumption.is_telling = next.is_some();
        let Some(next) = next else {
            return self.resumption.answer();
        };
        let Some(plan) = next.plan.clone() else {
            return self.tell(ctx);
        };
        let reading = aside(move || read_sources(plan));
        let round = self.round;
        guard::spawn(ctx, reading, move |actor: &mut Self, sources, ctx| {
            if actor.round != round {
                return;
            }
            let names = &actor.journal.state().sources;
            if let Some(next) = actor.resumption.untold.front_mut() {
                next.resumed.sources = named(sources.unwrap_or_default(), names);
                next.plan = None;
            }
            actor.tell(ctx);
        });
    }

    fn tell(&mut self, ctx: &mut Context<Self>) {
        self.note_acked();
        let round = self.round;
        let hand_over = move |actor: &mut Self, ctx: &mut Context<Self>| {
            if actor.round == round {
                actor.hand_over_resumed(ctx);
            }
        };
        match self.machine || self.overflowed {
            true => self.when_synced(ctx, hand_over),
            false => hand_over(self, ctx),
        }
    }

    fn hand_over_resumed(&mut self, ctx: &mut Context<Self>) {
        let resumption = &self.resumption;
        let (Some(next), Some(to)) = (resumption.untold.front(), &resumption.to) else {
            return;
        };
        // An error says that nobody is left to handle it.
        let handled = to.send(next.resumed.clone());
        let round = self.round;
        guard::spawn(ctx, handled, move |actor: &mut Self, _, ctx| {
            if actor.round == round {
                actor.resumption.untold.pop_front();
                actor.tell_next(ctx);
            }
        });
    }

    /// Tells what is not told yet: the actor ends.
    pub(super) fn tell_rest(&mut self) -> impl Future<Output = ()> + use<> {
        let untold = std::mem::take(&mut self.resumption.untold);
        let to = self.resumption.to.take();
        let names = match untold.is_empty() {
            true => BTreeMap::new(),
            false => self.journal.state().sources.clone(),
        };
        async move {
            let Some(to) = to else { return };
            for Untold { mut resumed, plan } in untold {
                if let Some(plan) = plan {
                    let sources = aside(move || read_sources(plan)).await;
                    resumed.sources = named(sources.unwrap_or_default(), &names);
                }
                to.do_send(resumed);
            }
        }
    }
}

impl On<Resent> for SpoolActor {
    fn on(&mut self, Resent { slot, positions }: Resent, _: &mut Context<Self>) {
        for positions in positions {
            self.resumption.former.resent(slot, positions);
        }
    }
}

impl On<WaitForResumed> for SpoolActor {
    fn on(&mut self, WaitForResumed(reply): WaitForResumed, _: &mut Context<Self>) {
        self.resumption.waiting.push(reply);
        self.resumption.answer();
    }
}
