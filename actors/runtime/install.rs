//! Applies a new view of the cluster: starts senders and partitions, tells partitions their
//! leaders, and updates the table of topics.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use actix::prelude::*;
use rand::Rng;
use uuid::Uuid;

use super::start::dispatch_rules;
use super::{PartitionEntry, RuntimeActor, SenderEntry};
use crate::actors::guard::On;
use crate::actors::messages::{
    InstallMetadata, LeaderLink, MoveTo, ReadyQueue, SetLeader, WakePartition,
};
use crate::actors::partition::{PartitionActor, Shared};
use crate::actors::sender::SenderActor;
use crate::core::cluster::TopicView;
use crate::core::compress::Compression;
use crate::core::dispatch::Demand;
use crate::core::endpoint::Endpoint;
use crate::core::ledger::Ledger;
use crate::core::partitioner::{RoundRobin, Sticky};
use crate::core::record::TopicPartition;
use crate::core::stage::Stage;
use crate::core::supervision::Component;
use crate::intake::error::SendError;
use crate::intake::topics::{Gauge, PartitionRoute, Topic};
use crate::meters::{NodeMeters, TopicMeters};

impl RuntimeActor {
    /// Starts the sender of a broker, or tells it the broker's new address.
    fn install_sender(&mut self, node: i32, endpoint: &Endpoint, cluster_id: &Option<Arc<str>>) {
        if let Some(sender) = self.senders.get_mut(&node) {
            if sender.endpoint != *endpoint || sender.cluster_id != *cluster_id {
                sender.endpoint = endpoint.clone();
                sender.cluster_id.clone_from(cluster_id);
                sender.addr.do_send(MoveTo {
                    endpoint: endpoint.clone(),
                    cluster_id: cluster_id.clone(),
                });
            }
            return;
        }
        let incarnation = self.next_incarnation;
        self.next_incarnation += 1;
        let config = &self.config;
        let rules = (
            dispatch_rules(config, &self.connect.security, self.rng.random()),
            self.connect.clone(),
        );
        let (demand, ready_queue) = (Demand::default(), Arc::<ReadyQueue>::default());
        let addr = SenderActor::new(
            (node, endpoint.clone(), cluster_id.clone()),
            (incarnation, demand.clone(), Arc::clone(&ready_queue)),
            rules,
            Rc::clone(&self.services),
            NodeMeters::new(&self.client_id, node),
            self.watch.guard(Component::Sender(node)),
        )
        .start();
        self.senders.insert(
            node,
            SenderEntry {
                shared: Arc::new(addr.clone()),
                addr,
                endpoint: endpoint.clone(),
                cluster_id: cluster_id.clone(),
                incarnation,
                demand,
                ready_queue,
            },
        );
    }

    /// Starts a partition's actor.
    fn start_partition(
        &mut self,
        (topic, id): (&Arc<str>, Option<Uuid>),
        partition: i32,
        meters: &Rc<TopicMeters>,
    ) -> PartitionEntry {
        let plain = self.config.compression == Compression::None;
        let stage = Arc::new(Stage::new(partition, self.config.batch_size, plain));
        if !self.config.linger.is_zero() {
            stage.hear_who_waits();
        }
        let mut ledger = Ledger::new(Rc::clone(&self.services.rules));
        let topic_partition = TopicPartition::new(Arc::clone(topic), partition);
        let slot = self.seat(&topic_partition, id, &stage, &mut ledger);
        let spooled = slot.is_some();
        let ledger = RefCell::new(ledger);
        let gauge = Arc::new(Gauge::new(self.started));
        let shared = Shared {
            stage: Arc::clone(&stage),
            ledger,
            gauge: Arc::clone(&gauge),
        };
        let addr = PartitionActor::new(
            topic_partition.clone(),
            shared,
            Rc::clone(&self.services),
            Rc::clone(meters),
            Arc::clone(&self.intake),
            slot,
            self.watch.guard(Component::Partition(topic_partition)),
        )
        .start();
        let actor = addr.clone();
        stage.wake_with(move || actor.do_send(WakePartition));
        PartitionEntry {
            addr,
            route: PartitionRoute { stage, gauge },
            told: None,
            spooled,
            asleep: false,
            addressed: false,
        }
    }

    /// Starts the partitions of a topic that are new, and tells all of them their leaders.
    pub(super) fn install_topic(&mut self, view: &TopicView) {
        let mut entries = self.partitions.remove(&view.name).unwrap_or_default();
        // Records may be left of partitions that the topic has not, since it was created anew.
        let slots = self.spooling.as_ref().map(|spooling| &spooling.slots);
        let left = slots.map_or(0, |slots| slots.count_left(&view.name));
        let count = view.leaders.len().max(left);
        if entries.len() < count {
            let meters = Rc::new(TopicMeters::new(&self.client_id, &view.name));
            for partition in entries.len()..count {
                let is_in_it = partition < view.leaders.len();
                let topic = (&view.name, is_in_it.then_some(view.id));
                entries.push(self.start_partition(topic, partition as i32, &meters));
            }
        }
        for (at, entry) in entries.iter_mut().enumerate() {
            let place = match entry.spooled {
                true => self.spool_place(&view.name, view.id, (at, at < view.leaders.len())),
                false => Ok(None),
            };
            let leader = view.leaders.get(at).and_then(|leader| {
                let node = leader.node?;
                let sender = self.senders.get(&node)?;
                Some(LeaderLink {
                    node,
                    epoch: leader.epoch,
                    sender: Arc::clone(&sender.shared),
                    incarnation: sender.incarnation,
                    demand: sender.demand.clone(),
                    ready_queue: Arc::clone(&sender.ready_queue),
                })
            });
            let told = match place {
                Ok(place) => SetLeader {
                    topic_id: view.id,
                    leader,
                    place,
                },
                Err(place) => SetLeader {
                    topic_id: place.topic_id,
                    leader: None,
                    place: Some(place),
                },
            };
            if entry.told.as_ref() != Some(&told) {
                entry.told = Some(told.clone());
                entry.addr.do_send(told);
            }
        }
        if self.closing.is_none() {
            for entry in &mut entries {
                if std::mem::take(&mut entry.asleep) {
                    entry.route.stage.reopen();
                }
            }
            self.unrouted.remove(&view.name);
            self.route(view, &entries);
        }
        self.partitions.insert(Arc::clone(&view.name), entries);
    }

    /// Puts the topic into the table that callers read, if it has changed.
    fn route(&mut self, view: &TopicView, entries: &[PartitionEntry]) {
        let available: Vec<i32> = (0i32..)
            .zip(&view.leaders)
            .filter(|(_, l)| l.node.is_some())
            .map(|(p, _)| p)
            .collect();
        let count = view.leaders.len().min(entries.len());
        let known = self.topics.get(&view.name);
        if known.is_none_or(|topic| topic.partitions.len() != count || topic.available != available)
        {
            let (sticky, round_robin) = self.partitioners(&view.name);
            let routes = entries[..count]
                .iter()
                .map(|entry| entry.route.clone())
                .collect();
            let name = Arc::clone(&view.name);
            self.topics
                .insert(Topic::new(name, routes, available, sticky, round_robin));
        }
    }

    /// The partitioners of a topic. They are made when the topic is first seen.
    fn partitioners(&mut self, topic: &Arc<str>) -> (Arc<Sticky>, Arc<RoundRobin>) {
        let (config, rng) = (&self.config, &mut self.rng);
        let made = || {
            let adaptive = config.partitioner_adaptive;
            (
                Arc::new(Sticky::new(adaptive, config.batch_size, rng.random())),
                Arc::new(RoundRobin::new()),
            )
        };
        self.partitioners
            .entry(Arc::clone(topic))
            .or_insert_with(made)
            .clone()
    }
}

impl On<InstallMetadata> for RuntimeActor {
    fn on(&mut self, install: InstallMetadata, ctx: &mut Context<Self>) {
        let InstallMetadata {
            nodes,
            topics,
            gone,
            ready,
        } = install;
        for (node, endpoint) in &nodes.by_id {
            self.install_sender(*node, endpoint, &nodes.cluster_id);
        }
        for view in &topics {
            self.install_topic(view);
        }
        self.ask_for_ids(ctx);
        self.unroute(gone);
        self.close_unrouted();
        self.release_senders(&nodes.by_id);
        self.forget_certificates();
        self.look_at_certificates();
        for (name, reply) in ready {
            let _ = reply.send(self.topics.get(&name).ok_or(SendError::Closed));
        }
    }
}
