//! Has the log looked into for batches in doubt, and for the fence before the next ones. Only with
//! `forebay.unknown=resolve`.

use actix::prelude::*;

use super::PartitionActor;
use crate::actors::guard::On;
use crate::actors::messages::{
    FenceSeen, ForgetLookUp, LeaveProducer, LogNews, LookUp, RefreshMetadata,
};
use crate::actors::now;
use crate::core::ledger::Effects;
use crate::core::lookup::{Fence, Log, Look, Looked, News, Wish};

impl PartitionActor {
    /// Asks for what the ledger wants to know of the log, if that is not what was asked for last.
    pub(super) fn look(&mut self, has_batches: bool, ctx: &Context<Self>) {
        let Some(resolving) = &self.services.resolving else {
            return;
        };
        let wish = {
            let ledger = self.ledger();
            match ledger.wants_floor() {
                true => has_batches.then_some(Wish::End),
                false => ledger.look().map(Wish::Look),
            }
        };
        let log = self.leader.as_ref().map(|leader| Log {
            partition: self.topic_partition.clone(),
            topic_id: self.topic_id,
            node: leader.node,
            leader_epoch: leader.epoch,
        });
        let looking = wish.zip(log);
        if looking == self.looking {
            return;
        }
        match &looking {
            Some((wish, log)) => resolving.lookups.do_send(LookUp {
                log: log.clone(),
                wish: wish.clone(),
                who: self.me(ctx),
            }),
            None => {
                let partition = self.topic_partition.clone();
                resolving.lookups.do_send(ForgetLookUp(partition));
            }
        }
        self.looking = looking;
    }

    fn looked(&mut self, look: &Look, looked: Looked) -> Effects {
        let fenced = looked.fenced_at.is_some();
        let effects = self.ledger().looked(look, looked);
        if let (true, Some(Fence::Marker { producer_id, .. })) = (fenced, look.fence) {
            let partition = self.topic_partition.clone();
            if let Some(resolving) = &self.services.resolving {
                resolving.fences.do_send(FenceSeen {
                    partition,
                    producer_id,
                });
            }
        }
        effects
    }
}

impl On<LogNews> for PartitionActor {
    fn on(&mut self, LogNews(news): LogNews, ctx: &mut Context<Self>) {
        if !matches!(news, News::Trouble { .. }) {
            self.looking = None;
        }
        let effects = match news {
            News::End(end) => {
                self.ledger().set_floor(end);
                Effects::default()
            }
            News::Looked(look, looked) => self.looked(&look, looked),
            News::Unreadable(look, why) => self.ledger().unreadable(&look, &why),
            News::Trouble { why, refresh } => {
                if refresh {
                    self.services.metadata.do_send(RefreshMetadata);
                }
                self.ledger().note_trouble(why);
                Effects::default()
            }
            News::Nothing => return,
        };
        self.apply(effects);
        self.identified();
        self.collect_and_act(now(), ctx);
    }
}

impl On<LeaveProducer> for PartitionActor {
    fn on(&mut self, LeaveProducer(producer_id): LeaveProducer, ctx: &mut Context<Self>) {
        self.ledger().leave_producer(producer_id);
        self.collect_and_act(now(), ctx);
    }
}
