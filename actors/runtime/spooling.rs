//! Gives partitions their place in the spool, and has what a former producer left delivered.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use uuid::Uuid;

use super::RuntimeActor;
use super::slots::OLD_NEWS;
use crate::actors::guard::{self, On};
use crate::actors::messages::{RefreshMetadata, Spill, SpoolPlace, WaitForResumed};
use crate::actors::now;
use crate::actors::partition::SpoolSlot;
use crate::core::cluster::{Leader, TopicView};
use crate::core::ledger::{Backlog, Ledger, Spools};
use crate::core::record::TopicPartition;
use crate::core::stage::Stage;

/// How often what waits is looked at while memory is used up.
const SPILL: Duration = Duration::from_millis(250);

/// How often topics are asked for whose records wait in the spool.
const ASK_AGAIN: Duration = Duration::from_secs(5);

impl RuntimeActor {
    /// Has the partition's records in the spool, if they are to be there. `id`: of the topic, if the
    /// partition is in it.
    pub(super) fn seat(
        &mut self,
        topic_partition: &TopicPartition,
        id: Option<Uuid>,
        stage: &Stage,
        ledger: &mut Ledger,
    ) -> Option<SpoolSlot> {
        let spooling = self.spooling.as_mut()?;
        let TopicPartition { topic, partition } = topic_partition;
        let is_asked_for = spooling.topics.is_empty() || spooling.topics.contains(&**topic);
        // What is left goes before what comes, so that has to wait in the spool, too.
        if !is_asked_for && !spooling.slots.are_left(topic, *partition) {
            return None;
        }
        let place = spooling.place(topic, id, *partition);
        let (resume, left) = spooling.slots.take_left(topic, *partition);
        let unsettled = resume.iter().flat_map(|resume| &resume.unsettled);
        let unsettled = unsettled.map(|part| (part.start, part.end - part.start));
        let backlog = Backlog::resumed(unsettled, &[]);
        let (written, spools) = (spooling.written.clone(), spooling.spools);
        let space = Arc::clone(&spooling.space);
        let mut slot = SpoolSlot::new(
            spooling.spool.clone(),
            space,
            place,
            written,
            (resume, left),
        );
        let seat = slot.new_seat();
        ledger.spool(*partition, seat.next_position(), backlog, spools);
        match spools {
            Spools::Spilled(_) => slot.seat = Some(seat),
            Spools::Accepted | Spools::Synced => stage.set_seat(seat),
        }
        Some(slot)
    }

    /// What a partition is told of its place in the spool, if it is there: of the one for the topic with this
    /// id, if the partition is in it. `Err`: the view is old, and names a topic that is gone.
    pub(super) fn spool_place(
        &mut self,
        topic: &Arc<str>,
        id: Uuid,
        (partition, is_in_it): (usize, bool),
    ) -> Result<Option<SpoolPlace>, SpoolPlace> {
        let Some(spooling) = &mut self.spooling else {
            return Ok(None);
        };
        let partition = partition as i32;
        let place = spooling.place(topic, is_in_it.then_some(id), partition);
        match spooling.slots.is_old_news(topic, id, (partition, now())) {
            true => {
                spooling.doubts_id = true;
                Err(place)
            }
            false => Ok(Some(place)),
        }
    }

    /// Has brokers asked again for topics of which the last id was taken for old news, when it would be
    /// believed.
    pub(super) fn ask_for_ids(&mut self, ctx: &mut Context<Self>) {
        let Some(spooling) = &mut self.spooling else {
            return;
        };
        if std::mem::take(&mut spooling.doubts_id) && !spooling.asks_again {
            spooling.asks_again = true;
            guard::later(ctx, OLD_NEWS, |actor: &mut Self, _| {
                if let Some(spooling) = &mut actor.spooling {
                    spooling.asks_again = false;
                }
                actor.services.metadata.do_send(RefreshMetadata);
            });
        }
    }

    /// Routes the topics that the spool remembers, so that records are accepted though no broker is there. To
    /// be called before anybody can send.
    pub(super) fn route_remembered(&mut self) {
        let Some(spooling) = &self.spooling else {
            return;
        };
        for (name, (id, partitions)) in spooling.slots.topics() {
            let leader = Leader {
                node: None,
                epoch: -1,
            };
            self.install_topic(&TopicView {
                name,
                id,
                leaders: vec![leader; partitions as usize],
            });
        }
    }

    /// Has brokers asked for the topics that the spool remembers.
    pub(super) fn begin_with_spool(&mut self, ctx: &mut Context<Self>) {
        if self.spooling.is_some() {
            let remembered: Vec<_> = self.partitions.keys().cloned().collect();
            self.want_remembered(remembered, ctx);
        }
    }

    /// Has brokers asked for topics that the spool remembers, again and again while any of their partitions
    /// has records and no leader.
    fn want_remembered(&mut self, mut topics: Vec<Arc<str>>, ctx: &mut Context<Self>) {
        topics.iter().for_each(|topic| self.want(topic));
        guard::later(ctx, ASK_AGAIN, move |actor: &mut Self, ctx| {
            topics.retain(|topic| {
                let mut entries = actor.partitions.get(topic).into_iter().flatten();
                entries.any(|it| !it.has_leader() && it.route.holds_records())
            });
            if !topics.is_empty() {
                actor.want_remembered(topics, ctx);
            }
        });
    }

    /// Memory is used up: what waits for long is to be on the disk alone.
    pub(super) fn spill(&mut self, ctx: &mut Context<Self>) {
        let pressure = self.shelf.pressure();
        let Some(spooling) = &mut self.spooling else {
            return;
        };
        if !pressure {
            spooling.spilling = false;
            return;
        }
        if !std::mem::replace(&mut spooling.spilling, true) {
            guard::later(ctx, SPILL, |actor: &mut Self, ctx| actor.spill_again(ctx));
        }
    }

    fn spill_again(&mut self, ctx: &mut Context<Self>) {
        if let Some(spooling) = &mut self.spooling {
            spooling.spilling = false;
        }
        for entry in self.partitions.values().flatten() {
            entry.addr.do_send(Spill);
        }
        self.spill(ctx);
    }
}

impl On<WaitForResumed> for RuntimeActor {
    fn on(&mut self, WaitForResumed(reply): WaitForResumed, _: &mut Context<Self>) {
        match &self.spooling {
            Some(spooling) => spooling.spool.do_send(WaitForResumed(reply)),
            None => {
                let _ = reply.send(());
            }
        }
    }
}
