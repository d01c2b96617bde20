//! The spool as the RuntimeActor knows it, and the numbers of topic partitions in it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use actix::prelude::*;
use uuid::Uuid;

use crate::actors::messages::OpenSlot;
use crate::actors::spool::SpoolActor;
use crate::core::ledger::Spools;
use crate::core::record::TopicPartition;
use crate::core::spool::{Resume, Space};
use crate::disk::Written;

/// The spool as the RuntimeActor knows it.
pub(crate) struct Spooling {
    pub spool: Addr<SpoolActor>,
    pub space: Arc<Space>,
    /// The topics whose records are in the spool; all if there is none.
    pub topics: BTreeSet<String>,
    /// Set where a record is accepted when it is on the disk.
    pub written: Option<Arc<Written>>,
    /// When records are in the spool.
    pub spools: Spools,
    pub slots: Slots,
    /// Memory is used up, and what waits is looked at.
    pub spilling: bool,
}

impl Spooling {
    /// Tells the SpoolActor of all slots again.
    pub fn open_slots(&self) {
        for ((topic, topic_id, partition), slot) in &self.slots.known {
            self.spool.do_send(OpenSlot {
                slot: *slot,
                topic_partition: TopicPartition::new(Arc::clone(topic), *partition),
                topic_id: *topic_id,
            });
        }
    }
}

/// The numbers of topic partitions in the spool.
#[derive(Default)]
pub(crate) struct Slots {
    pub known: BTreeMap<(Arc<str>, Uuid, i32), u32>,
    /// What former producers left.
    pub resumed: BTreeMap<u32, Resume>,
    next: u32,
}

impl Slots {
    /// As the journal has them.
    pub fn new(resumed: Vec<Resume>) -> Self {
        let mut slots = Self::default();
        for resume in resumed {
            slots.next = slots.next.max(resume.slot + 1);
            if let Some(topic) = &resume.topic {
                let id = Uuid::from_bytes(topic.topic_id);
                let key = (Arc::clone(&topic.topic), id, topic.partition);
                slots.known.insert(key, resume.slot);
            }
            slots.resumed.insert(resume.slot, resume);
        }
        slots
    }

    /// The slot of a topic partition, and whether the journal has to hear of it.
    ///
    /// A topic that was deleted and created anew goes on with the slots of the former one. What was sent
    /// there is gone with its log.
    pub fn of(&mut self, topic: &Arc<str>, id: Uuid, partition: i32) -> (u32, bool) {
        let key = (Arc::clone(topic), id, partition);
        if let Some(slot) = self.known.get(&key) {
            return (*slot, false);
        }
        let is_former = |known: &&(Arc<str>, Uuid, i32)| known.0 == *topic && known.2 == partition;
        let former = self.known.keys().find(is_former).cloned();
        let slot = match former.and_then(|former| self.known.remove(&former)) {
            Some(slot) => {
                if let Some(resume) = self.resumed.get_mut(&slot) {
                    resume.lines.clear();
                }
                slot
            }
            None => {
                self.next += 1;
                self.next - 1
            }
        };
        self.known.insert(key, slot);
        (slot, true)
    }

    /// Whether a former producer has left records of this topic partition.
    pub fn are_left(&self, topic: &Arc<str>, partition: i32) -> bool {
        let mut known = self.known.iter();
        let slot = known.find(|((name, _, number), _)| name == topic && *number == partition);
        let resume = slot.and_then(|(_, slot)| self.resumed.get(slot));
        resume.is_some_and(|resume| !resume.unsettled.is_empty())
    }

    /// The topics that are known, with their ids and numbers of partitions.
    pub fn topics(&self) -> BTreeMap<(Arc<str>, Uuid), i32> {
        let mut topics = BTreeMap::new();
        for (topic, id, partition) in self.known.keys() {
            let partitions = topics.entry((Arc::clone(topic), *id)).or_insert(0);
            *partitions = partition.saturating_add(1).max(*partitions);
        }
        topics
    }
}
