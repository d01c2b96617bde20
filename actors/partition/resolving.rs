//! Has the log looked into: with `forebay.unknown=resolve` for batches in doubt and for the fence before the
//! next ones, with transactions for the marker of one whose end nobody else can tell.

use std::rc::Rc;
use std::sync::Arc;

use actix::prelude::*;

use super::PartitionActor;
use crate::actors::guard::On;
use crate::actors::messages::{
    FenceSeen, FindMarker, ForgetLookUp, LeaveProducer, LogNews, LookUp, MarkerTold,
    RefreshMetadata,
};
use crate::actors::now;
use crate::core::ledger::{Appended, Effects, Ledger};
use crate::core::lookup::{Fence, Log, Look, Looked, MarkerNews, News, Wish, Witness};

impl PartitionActor {
    /// Asks for what the ledger wants to know of the log, if that is not what was asked for last.
    pub(super) fn look(&mut self, has_batches: bool, ctx: &Context<Self>) {
        let services = Rc::clone(&self.services);
        let Some(lookups) = &services.lookups else {
            return;
        };
        let wish = self.wish(has_batches);
        let looking = wish.zip(self.leader.as_ref()).map(|(wish, leader)| {
            let log = Log {
                partition: self.topic_partition.clone(),
                topic_id: self.topic_id,
                node: leader.node,
                leader_epoch: leader.epoch,
            };
            (wish, log)
        });
        if looking == self.looking {
            return;
        }
        match &looking {
            Some((wish, log)) => lookups.do_send(LookUp {
                log: log.clone(),
                wish: wish.clone(),
                who: self.me(ctx),
            }),
            None => {
                let partition = self.topic_partition.clone();
                lookups.do_send(ForgetLookUp(partition));
            }
        }
        self.looking = looking;
    }

    /// What is to be known of the log.
    fn wish(&mut self, has_batches: bool) -> Option<Wish> {
        self.seeking.take_if(|(scope, _)| scope.end().is_some());
        let witness = self.seeking.as_ref().and_then(|it| it.0.witness().cloned());
        if let Some(witness) = witness {
            let (former, present) = (witness.topic_id, self.topic_id);
            if former == present || former.is_nil() || present.is_nil() {
                return Some(Wish::Marker(witness));
            }
            let why = "the topic was deleted and created anew".into();
            self.tell_of_marker(MarkerNews::Unknown(why));
        }
        let ledger = self.ledger();
        match ledger.wants_floor() {
            true => has_batches.then_some(Wish::End),
            false => ledger.look().map(Wish::Look),
        }
    }

    /// A batch bears witness of its transaction.
    pub(super) fn bear(&self, appended: Appended) {
        let Appended {
            scope,
            base_offset,
            producer_id,
            epoch,
        } = appended;
        scope.bear(Witness {
            partition: self.topic_partition.clone(),
            topic_id: self.topic_id,
            base_offset,
            producer_id,
            epoch,
        });
    }

    /// Tells what has come of the look for a marker.
    fn tell_of_marker(&mut self, news: MarkerNews) {
        let Some((scope, who)) = &self.seeking else {
            return;
        };
        let is_over = matches!(news, MarkerNews::Found(_) | MarkerNews::Unknown(_));
        let scope = Arc::clone(scope);
        who.do_send(MarkerTold { scope, news });
        if is_over {
            self.seeking = None;
        }
    }

    fn looked(&mut self, look: &Look, looked: Looked) -> Effects {
        let fenced = looked.fenced_at.is_some();
        let effects = self.ledger().looked(look, looked);
        if let (true, Some(Fence::Marker { producer_id, .. })) = (fenced, look.fence) {
            self.has_seen(producer_id);
        }
        effects
    }

    /// Has no more markers of this producer written to the partition.
    fn has_seen(&self, producer_id: i64) {
        if let Some(fences) = &self.services.fences {
            let partition = self.topic_partition.clone();
            fences.do_send(FenceSeen {
                partition,
                producer_id,
            });
        }
    }

    /// A `FenceSeen` may have been lost.
    pub(super) fn repeat_what_was_seen(&self) {
        let fenced_by = self.ledger().fenced_by();
        if let Some(producer_id) = fenced_by {
            self.has_seen(producer_id);
        }
    }

    /// No marker is to be written to the partition any more: it ends.
    pub(super) fn waits_no_more(&self) {
        let wanted = {
            let ledger = self.ledger();
            let left = ledger.left().map(|it| it.producer_id);
            ledger.awaited_producer().or(left)
        };
        if let Some(producer_id) = wanted {
            self.has_seen(producer_id);
        }
    }

    /// Has the ledger give up a look, and with it the marker that it waits for.
    pub(super) fn stop_looking(&mut self, stop: impl FnOnce(&mut Ledger) -> Effects) -> Effects {
        let (awaited, effects, awaits) = {
            let mut ledger = self.ledger();
            let awaited = ledger.awaited_producer();
            let effects = stop(&mut ledger);
            (awaited, effects, ledger.awaited_producer())
        };
        if let Some(producer_id) = awaited.filter(|_| awaits.is_none()) {
            self.has_seen(producer_id);
        }
        effects
    }
}

impl On<LogNews> for PartitionActor {
    fn on(&mut self, LogNews(news): LogNews, ctx: &mut Context<Self>) {
        if news.is_last() {
            self.looking = None;
        }
        let effects = match news {
            News::End(end) => {
                self.ledger().set_floor(end);
                Effects::default()
            }
            News::Looked(look, looked) => self.looked(&look, looked),
            News::Unreadable(look, why) => {
                self.stop_looking(|ledger| ledger.unreadable(&look, &why))
            }
            News::Trouble { why, refresh } => {
                if refresh {
                    self.services.metadata.do_send(RefreshMetadata);
                }
                self.ledger().note_trouble(Arc::clone(&why));
                self.tell_of_marker(MarkerNews::Trouble(why));
                Effects::default()
            }
            News::Marker(news) => {
                if matches!(news, MarkerNews::NotYet { refresh: true }) {
                    self.services.metadata.do_send(RefreshMetadata);
                }
                self.tell_of_marker(news);
                Effects::default()
            }
            News::Nothing => return,
        };
        self.apply(effects);
        self.identified();
        self.collect_and_act(now(), ctx);
    }
}

impl On<FindMarker> for PartitionActor {
    fn on(&mut self, FindMarker { scope, who }: FindMarker, ctx: &mut Context<Self>) {
        self.seeking = Some((scope, who));
        if self.leader.is_none() {
            let why = "no leader of the partition is known".into();
            self.tell_of_marker(MarkerNews::Trouble(why));
        }
        self.act(now(), ctx);
    }
}

impl On<LeaveProducer> for PartitionActor {
    fn on(&mut self, LeaveProducer(producer_id): LeaveProducer, ctx: &mut Context<Self>) {
        self.ledger().leave_producer(producer_id);
        self.collect_and_act(now(), ctx);
    }
}
