//! Fences: what keeps late copies of a batch out of a partition's log.
//!
//! A broker refuses a batch of an epoch below the newest that the partition has seen of its producer. A
//! marker shows it one, and readers of the log see nothing of it. So producer ids come from transactional
//! ids of the producer's own, though no record is part of a transaction.
//!
//! Brokers do not ask where a producer id is from. Nothing documents that, so where it does not work, or is
//! not allowed, the fence is what the partition sends next under an epoch of its own making.

mod id;

use std::sync::Arc;
use std::time::Instant;

use id::FencingId;
pub use id::Heard;

use crate::core::backoff::Backoff;
use crate::core::identity::{Identity, Wanted};
use crate::core::lookup::Fence;
use crate::core::record::TopicPartition;
use crate::core::transaction::{Answer, Request};
use crate::core::wire::TransactionProtocol;

/// The fences of one producer, as the FenceActor keeps them.
#[derive(Debug)]
pub struct Fences {
    /// What the names of its ids begin with. It is different for each start of the producer.
    name: Arc<str>,
    /// The last one is what partitions begin under. Those before have a marker that cannot be written, or
    /// have fenced partitions that went on to a fresh one.
    ids: Vec<FencingId>,
    backoff: Backoff,
    /// Why there are no markers, and producer ids have to be plain.
    denied: Option<Arc<str>>,
}

/// What a partition gets that wants an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Given {
    /// This one, once the fence has been seen.
    Use(Identity, Option<Fence>),
    Wait,
    /// One without a transactional id.
    Plain,
}

/// A request to the coordinator of one of the ids.
#[derive(Debug)]
pub struct ToAsk {
    /// Which of them.
    pub id: usize,
    pub request: Request,
    pub protocol: TransactionProtocol,
    pub identity: Option<Identity>,
}

impl Fences {
    pub fn new(name: Arc<str>, backoff: Backoff) -> Self {
        Self {
            name,
            ids: Vec::new(),
            backoff,
            denied: None,
        }
    }

    /// A partition wants an identity. The same request leads to the same answer, so one that was lost can
    /// be repeated.
    pub fn want(&mut self, partition: &TopicPartition, wanted: Wanted, now: Instant) -> Given {
        if wanted.plain || self.denied.is_some() {
            return Given::Plain;
        }
        let begin = |id: &mut FencingId| match id.first(wanted.freed) {
            Some(identity) => Given::Use(identity, None),
            None => Given::Wait,
        };
        let Some(left) = wanted.left else {
            return begin(self.present(now));
        };
        let Some(at) = self.ids.iter().position(|id| id.has_been(left.producer_id)) else {
            return Given::Plain;
        };
        if wanted.fresh {
            self.ids[at].forget(partition);
            if at + 1 == self.ids.len() {
                self.add(now);
            }
            return begin(self.present(now));
        }
        let id = &mut self.ids[at];
        match id.fence(partition, left) {
            Some((fence, identity)) => Given::Use(identity, Some(fence)),
            // Its epochs were used up meanwhile. What is in doubt can be found, and not ruled out.
            None if id.is_beyond(left) => {
                id.forget(partition);
                begin(self.present(now))
            }
            None => Given::Wait,
        }
    }

    fn present(&mut self, now: Instant) -> &mut FencingId {
        if self.ids.is_empty() {
            self.add(now);
        }
        let last = self.ids.len() - 1;
        &mut self.ids[last]
    }

    fn add(&mut self, now: Instant) {
        let name = format!("{}-{}", self.name, self.ids.len()).into();
        self.ids
            .push(FencingId::new(name, self.backoff.clone(), now));
    }

    /// Has partitions leave a producer whose markers do not come. Returns its producer id.
    pub fn leave_stuck(&mut self, now: Instant) -> Option<i64> {
        let last = self.ids.last().filter(|id| id.is_stuck(now))?;
        let producer_id = last.identity()?.producer_id;
        self.add(now);
        Some(producer_id)
    }

    /// What is to be asked now.
    pub fn ask(&mut self, now: Instant) -> Vec<ToAsk> {
        if self.denied.is_some() {
            return Vec::new();
        }
        let asked = self.ids.iter_mut().enumerate().filter_map(|(at, id)| {
            let request = id.ask(now)?;
            Some(ToAsk {
                id: at,
                request,
                protocol: id.protocol(),
                identity: id.identity(),
            })
        });
        asked.collect()
    }

    /// The transactional id with this number.
    pub fn name_of(&self, id: usize) -> Option<&Arc<str>> {
        self.ids.get(id).map(|id| &id.name)
    }

    /// A coordinator answered, or did not.
    pub fn answered(
        &mut self,
        id: usize,
        request: &Request,
        answer: Answer,
        now: Instant,
    ) -> Heard {
        let Some(id) = self.ids.get_mut(id) else {
            return Heard::Nothing;
        };
        let heard = id.answered(request, answer, now);
        if let Heard::Denied(why) = &heard {
            self.denied = Some(Arc::clone(why));
        }
        heard
    }

    /// The coordinator of this id speaks this protocol.
    pub fn offers(&mut self, id: usize, protocol: TransactionProtocol) {
        if let Some(id) = self.ids.get_mut(id) {
            id.offers(protocol);
        }
    }

    /// The partition has seen the marker of this producer.
    pub fn seen(&mut self, partition: &TopicPartition, producer_id: i64) {
        let it = self.ids.iter_mut().filter(|id| id.has_been(producer_id));
        it.for_each(|id| id.forget(partition));
    }

    /// Answers on their way were lost.
    pub fn lost(&mut self) {
        self.ids.iter_mut().for_each(FencingId::lost);
    }

    /// When something is to be looked at.
    pub fn next_at(&self, now: Instant) -> Option<Instant> {
        self.ids.iter().filter_map(|id| id.next_at(now)).min()
    }
}

#[cfg(test)]
mod tests;
