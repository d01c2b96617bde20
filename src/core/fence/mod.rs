//! Fences: what keeps late copies of a batch out of a partition's log.
//!
//! A broker refuses a batch of an epoch below the newest that the partition has seen of its producer. A
//! marker shows it one, and readers of the log see nothing of it. So producer ids come from transactional
//! ids of the producer's own, though no record is part of a transaction.
//!
//! Brokers do not ask where a producer id is from. Nothing documents that, so where it does not work, or is
//! not allowed, the fence is what the partition sends next under an epoch of its own making.

mod id;
mod takeover;

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
    /// The last one is what partitions begin under. Those before have a marker that cannot be written, have
    /// fenced partitions that went on to a fresh one, or are worn.
    ids: Vec<FencingId>,
    backoff: Backoff,
    /// Why there are no markers, and producer ids have to be plain.
    denied: Option<Arc<str>>,
    /// Why nothing more is asked for: another producer has one of the ids.
    taken: Option<Arc<str>>,
    /// What partitions send is in a spool: it waits for a fence, and never goes without.
    insists: bool,
    /// The number of the next id.
    next: usize,
    /// Producer ids that were obtained, and that the spool has to know of before they are used.
    obtained: Vec<(Arc<str>, i64)>,
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
            taken: None,
            insists: false,
            next: 0,
            obtained: Vec::new(),
        }
    }

    /// For partitions whose records are in a spool. `ids` are those of former producers that have to be
    /// fenced, with the producer ids that they had.
    pub fn of_spool(
        name: Arc<str>,
        ids: Vec<(Arc<str>, Vec<i64>)>,
        backoff: Backoff,
        now: Instant,
    ) -> Self {
        let resumed = ids
            .into_iter()
            .map(|(id, producers)| FencingId::resumed(id, producers, backoff.clone(), now));
        Self {
            ids: resumed.collect(),
            insists: true,
            ..Self::new(name, backoff)
        }
    }

    /// The present producer id of each transactional id.
    pub fn producers(&self) -> Vec<(Arc<str>, i64)> {
        let present = |id: &FencingId| Some((Arc::clone(&id.name), id.identity()?.producer_id));
        self.ids.iter().filter_map(present).collect()
    }

    /// Producer ids that were obtained since the last call, with their transactional ids.
    pub fn obtained(&mut self) -> Vec<(Arc<str>, i64)> {
        std::mem::take(&mut self.obtained)
    }

    /// A partition wants an identity. The same request leads to the same answer, so one that was lost can
    /// be repeated.
    pub fn want(&mut self, partition: &TopicPartition, wanted: Wanted, now: Instant) -> Given {
        if wanted.plain {
            // It waits for no marker any more.
            self.ids.iter_mut().for_each(|id| id.forget(partition));
        }
        if !self.insists && (wanted.plain || self.denied.is_some()) {
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
            return match self.insists {
                true => begin(self.present(now)),
                false => Given::Plain,
            };
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
            // The rest of its epochs is for those that are in doubt under it.
            Some((fence, _)) if id.is_worn() => match begin(self.present(now)) {
                Given::Use(identity, _) => Given::Use(identity, Some(fence)),
                waits => waits,
            },
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
        let name = format!("{}-{}", self.name, self.next).into();
        self.next += 1;
        self.ids.push(FencingId::new(
            name,
            self.insists,
            self.backoff.clone(),
            now,
        ));
    }

    /// Has partitions leave a producer whose markers do not come, or will not for all of them. Returns its
    /// producer id, and why.
    pub fn leave(&mut self, now: Instant) -> Option<(i64, &'static str)> {
        let last = self.ids.last()?;
        let why = match last.is_stuck(now) {
            true => "a marker is not written",
            false if last.is_worn() => "half of its epochs are used up",
            false => return None,
        };
        let producer_id = last.identity()?.producer_id;
        self.add(now);
        Some((producer_id, why))
    }

    /// What is to be asked now.
    pub fn ask(&mut self, now: Instant) -> Vec<ToAsk> {
        if self.denied.is_some() || self.taken.is_some() {
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

    /// Why this producer has to end, if another has taken one of its ids.
    pub fn taken(&self) -> Option<Arc<str>> {
        self.taken.clone()
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
        let former = id.identity().map(|it| it.producer_id);
        let heard = id.answered(request, answer, now);
        let present = id.identity().map(|it| it.producer_id);
        if let Some(producer_id) = present.filter(|_| self.insists && present != former) {
            self.obtained.push((Arc::clone(&id.name), producer_id));
        }
        match &heard {
            Heard::Denied(_) if self.insists => id.insist(now),
            Heard::Denied(why) => self.denied = Some(Arc::clone(why)),
            Heard::Taken(why) => self.taken = Some(Arc::clone(why)),
            Heard::Refused(..) | Heard::Nothing => {}
        }
        heard
    }

    /// The fence of a partition was refused. Whether it waits for one all the same, as nothing goes without.
    pub fn insists_on(
        &mut self,
        partition: &TopicPartition,
        left: Option<Identity>,
        now: Instant,
    ) -> bool {
        let of = |left: Identity| self.ids.iter().position(|id| id.has_been(left.producer_id));
        if let (true, Some(left)) = (self.insists, left)
            && let Some(at) = of(left)
        {
            self.ids[at].insist_on(partition, left, now);
        }
        self.insists
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
