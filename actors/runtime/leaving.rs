//! Lets go of what is not needed any more: topics that nobody sends to, and the senders of brokers
//! that have left the cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::oneshot;

use super::{PartitionEntry, RuntimeActor};
use crate::actors::messages::*;
use crate::actors::now;
use crate::core::endpoint::Endpoint;

impl PartitionEntry {
    /// Closes the stage, unless there are records without an outcome. Then no caller that still has
    /// the route can have a record accepted that nobody would send. Returns whether nothing is left to
    /// do, however the stage came to be closed.
    fn falls_asleep(&mut self) -> bool {
        if self.route.holds_records() {
            return false;
        }
        let (is_closed, for_this) = self.route.stage.close_if_empty();
        self.asleep |= for_this;
        is_closed
    }
}

impl RuntimeActor {
    /// Takes topics out of the routes.
    pub(super) fn unroute(&mut self, gone: Vec<Arc<str>>) {
        for topic in gone {
            self.topics.remove(&topic);
            if self.partitions.contains_key(&topic) {
                self.unrouted.insert(topic);
            }
        }
    }

    /// Closes the topics that have left the routes and of which nothing is left to do. Has brokers
    /// asked for the others, whose records may need another leader.
    pub(super) fn close_unrouted(&mut self) {
        if self.closing.is_some() {
            return;
        }
        for topic in std::mem::take(&mut self.unrouted) {
            let entries = self.partitions.get_mut(&topic).into_iter().flatten();
            let mut done = true;
            for entry in entries {
                done &= entry.falls_asleep();
            }
            if done {
                self.free(&topic);
            } else {
                self.want(&topic);
                self.unrouted.insert(topic);
            }
        }
    }

    /// Ends the partitions of a topic. Those whose address the application has stay.
    fn free(&mut self, topic: &Arc<str>) {
        let addressed = |entries: &Vec<PartitionEntry>| entries.iter().any(|it| it.addressed);
        if self.partitions.get(topic).is_none_or(addressed) {
            return;
        }
        for entry in self.partitions.remove(topic).into_iter().flatten() {
            entry.addr.do_send(Stop);
        }
        self.partitioners.remove(topic);
        // Partitions that are made from now on begin above every epoch that these may have used.
        let freed = &self.services.freed;
        freed.set(freed.get() + 1);
        tracing::debug!(%topic, "the topic is not used any more");
    }

    /// Has brokers asked for a topic, for as long as its records may wait for their outcome.
    pub(super) fn want(&self, topic: &Arc<str>) {
        let (reply, nobody) = oneshot::channel();
        drop(nobody);
        let asked = now();
        self.services.metadata.do_send(WantTopic {
            topic: Arc::clone(topic),
            partition: None,
            asked,
            deadline: asked + self.config.delivery_timeout,
            reply,
        });
    }

    /// Lets go of the senders of brokers that the cluster does not name any more and that lead no
    /// partition. Such a sender ends by itself when its connection has, since then nobody has its
    /// address.
    pub(super) fn release_senders(&mut self, nodes: &BTreeMap<i32, Endpoint>) {
        let named = |node: &i32| nodes.is_empty() || nodes.contains_key(node);
        if self.senders.keys().all(named) {
            return;
        }
        let told = self.partitions.values().flatten();
        let leaders = told.filter_map(|entry| entry.told.as_ref()?.leader.as_ref());
        let leading: BTreeSet<u64> = leaders.map(|leader| leader.incarnation).collect();
        self.released.retain(|sender| sender.upgrade().is_some());
        let released = &mut self.released;
        self.senders.retain(|node, sender| {
            let stays = named(node) || leading.contains(&sender.incarnation);
            if !stays {
                released.push(sender.addr.downgrade());
            }
            stays
        });
    }
}
