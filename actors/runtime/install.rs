//! What the picture of the cluster makes: senders, partitions, and the routes to them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use actix::prelude::*;
use rand::Rng;

use super::{RuntimeActor, connect_options};
use crate::actors::guard::On;
use crate::actors::metadata::TopicReply;
use crate::actors::partition::{Bell, Lead, Led, PartitionActor, Shared, Wake};
use crate::actors::sender::{MoveTo, SenderActor, SenderRules};
use crate::core::cluster::TopicView;
use crate::core::compress::Compression;
use crate::core::dispatch::Appetite;
use crate::core::endpoint::Endpoint;
use crate::core::ledger::Ledger;
use crate::core::partitioner::{RoundRobin, Sticky};
use crate::core::record::TopicPartition;
use crate::core::stage::Stage;
use crate::core::supervision::Part;
use crate::intake::error::SendError;
use crate::intake::topics::{Door, Gauge, Topic};
use crate::meters::{NodeMeters, TopicMeters};

/// The picture of the cluster has changed, or somebody waits for a part of it.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Install {
    pub nodes: BTreeMap<i32, Endpoint>,
    pub topics: Vec<TopicView>,
    pub ready: Vec<(Arc<str>, TopicReply)>,
}

pub(super) struct Slot {
    pub door: Door,
    /// What the partition was told last.
    pub told: Option<Lead>,
}

pub(super) struct Sender {
    pub addr: Arc<Addr<SenderActor>>,
    pub endpoint: Endpoint,
    incarnation: u64,
    appetite: Appetite,
    bell: Arc<Bell>,
}

impl RuntimeActor {
    fn sender(&mut self, node: i32, endpoint: &Endpoint) {
        if let Some(sender) = self.senders.get_mut(&node) {
            if sender.endpoint != *endpoint {
                sender.endpoint = endpoint.clone();
                sender.addr.do_send(MoveTo(endpoint.clone()));
            }
            return;
        }
        let incarnation = self.next_incarnation;
        self.next_incarnation += 1;
        let config = &self.config;
        let rules = SenderRules {
            acks: config.acks,
            max_in_flight: config.max_in_flight,
            max_request_size: config.max_request_size,
            batch_size: config.batch_size,
            request_timeout: config.request_timeout,
            max_idle: config.connections_max_idle,
            reconnect_backoff: (config.reconnect_backoff, config.reconnect_backoff_max),
            connect: connect_options(config),
            setup_timeout_max: config.connection_setup_timeout_max,
            seed: self.chance.random(),
        };
        let (appetite, bell) = (Appetite::default(), Arc::<Bell>::default());
        let addr = SenderActor::new(
            (node, endpoint.clone()),
            (incarnation, appetite.clone(), Arc::clone(&bell)),
            rules,
            Rc::clone(&self.parts),
            NodeMeters::new(&self.client_id, node),
            self.watch.guard(Part::Sender(node)),
        )
        .start();
        self.senders.insert(
            node,
            Sender {
                addr: Arc::new(addr),
                endpoint: endpoint.clone(),
                incarnation,
                appetite,
                bell,
            },
        );
    }

    fn slot(&self, topic: &Arc<str>, partition: i32, meters: &Rc<TopicMeters>) -> Option<Slot> {
        let config = &self.config;
        let plain = config.compression == Compression::None;
        let stage = Arc::new(Stage::new(partition, config.batch_size, plain));
        let ledger = Ledger::new(Rc::clone(&self.parts.rules));
        let ledger = Rc::new(RefCell::new(ledger));
        let gauge = Arc::new(Gauge::new(self.started));
        let topic_partition = TopicPartition::new(Arc::clone(topic), partition);
        let shared = Shared {
            stage: Arc::clone(&stage),
            ledger,
            gauge: Arc::clone(&gauge),
        };
        let addr = PartitionActor::new(
            topic_partition.clone(),
            shared,
            Rc::clone(&self.parts),
            Rc::clone(meters),
            self.intake.clone()?,
            self.watch.guard(Part::Partition(topic_partition)),
        )
        .start();
        let actor = addr.clone();
        stage.wake_with(move || actor.do_send(Wake));
        Some(Slot {
            door: Door { stage, addr, gauge },
            told: None,
        })
    }

    fn topic(&mut self, view: &TopicView) {
        let mut slots = self.partitions.remove(&view.name).unwrap_or_default();
        if slots.len() < view.leaders.len() {
            let meters = Rc::new(TopicMeters::new(&self.client_id, &view.name));
            for partition in slots.len()..view.leaders.len() {
                slots.extend(self.slot(&view.name, partition as i32, &meters));
            }
        }
        for (at, slot) in slots.iter_mut().enumerate() {
            let leader = view.leaders.get(at).and_then(|leader| {
                let node = leader.node?;
                let sender = self.senders.get(&node)?;
                Some(Led {
                    node,
                    epoch: leader.epoch,
                    sender: Arc::clone(&sender.addr),
                    incarnation: sender.incarnation,
                    appetite: sender.appetite.clone(),
                    bell: Arc::clone(&sender.bell),
                })
            });
            let topic_id = view.id;
            let lead = Lead { topic_id, leader };
            if slot.told.as_ref() != Some(&lead) {
                slot.told = Some(lead.clone());
                slot.door.addr.do_send(lead);
            }
        }
        if self.closing.is_none() {
            self.route(view, &slots);
        }
        self.partitions.insert(Arc::clone(&view.name), slots);
    }

    /// Makes the topic known to those who send.
    fn route(&mut self, view: &TopicView, slots: &[Slot]) {
        let available: Vec<i32> = (0i32..)
            .zip(&view.leaders)
            .filter(|(_, l)| l.node.is_some())
            .map(|(p, _)| p)
            .collect();
        let count = view.leaders.len().min(slots.len());
        let known = self.topics.get(&view.name);
        if known.is_none_or(|topic| topic.partitions.len() != count || topic.available != available)
        {
            let (sticky, round_robin) = self.choosers(&view.name);
            let doors = slots[..count]
                .iter()
                .map(|slot| slot.door.clone())
                .collect();
            let name = Arc::clone(&view.name);
            self.topics
                .insert(Topic::new(name, doors, available, sticky, round_robin));
        }
    }

    fn choosers(&mut self, topic: &Arc<str>) -> (Arc<Sticky>, Arc<RoundRobin>) {
        let (config, chance) = (&self.config, &mut self.chance);
        let made = || {
            let adaptive = config.partitioner_adaptive;
            (
                Arc::new(Sticky::new(adaptive, config.batch_size, chance.random())),
                Arc::new(RoundRobin::new()),
            )
        };
        self.stickies
            .entry(Arc::clone(topic))
            .or_insert_with(made)
            .clone()
    }
}

impl On<Install> for RuntimeActor {
    fn on(&mut self, install: Install, _: &mut Context<Self>) {
        let Install {
            nodes,
            topics,
            ready,
        } = install;
        for (node, endpoint) in &nodes {
            self.sender(*node, endpoint);
        }
        for view in &topics {
            self.topic(view);
        }
        for (name, reply) in ready {
            let _ = reply.send(self.topics.get(&name).ok_or(SendError::Closed));
        }
    }
}
