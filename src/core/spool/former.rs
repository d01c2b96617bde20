//! What former producers left: how much of it has no outcome yet, and what is told of the rest.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::entry::Fate;
use super::resume::Resume;
use super::settled::Settled;
use crate::core::record::TopicPartition;

/// Records that a former producer left in the spool have their outcome: one message per batch, or part of
/// one.
///
/// It goes to whom [`ProducerBuilder::resumed_to`](crate::ProducerBuilder::resumed_to) names.
///
/// ```
/// use actix::prelude::*;
/// use forebay::{Resumed, ResumedOutcome};
///
/// struct Outbox;
///
/// impl Actor for Outbox {
///     type Context = Context<Self>;
/// }
///
/// impl Handler<Resumed> for Outbox {
///     type Result = ();
///
///     fn handle(&mut self, resumed: Resumed, _: &mut Context<Self>) {
///         for row in &resumed.sources {
///             match &resumed.outcome {
///                 ResumedOutcome::Acked { .. } => println!("row {} is written", row.position),
///                 other => println!("row {}: {other:?}", row.position),
///             }
///         }
///     }
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Resumed {
    /// Where the records go.
    pub topic_partition: TopicPartition,
    /// The number of the first record in its partition's part of the spool. It stays the same over restarts.
    pub position: u64,
    /// How many records there are.
    pub count: u32,
    /// What became of them.
    pub outcome: ResumedOutcome,
    /// The sources of those that were sent with one, and their positions there.
    pub sources: Vec<FromSource>,
}

/// Where a resumed record is from; see [`Resumed::sources`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FromSource {
    /// Which of the records: 0 is the first.
    pub index: u32,
    /// The name of the source.
    pub source: Arc<str>,
    /// The record's position in it.
    pub position: u64,
}

/// What became of records that a former producer left.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResumedOutcome {
    /// They are in the log, from this offset on. `None` where the broker has not said.
    #[non_exhaustive]
    Acked {
        /// Of the first record.
        offset: Option<i64>,
        /// They were sent though the log could not tell whether they were there
        /// (`forebay.spool.in.doubt=resend`).
        may_be_twice: bool,
    },
    /// They are certainly not in the log, and no producer sends them any more.
    NotWritten,
    /// They may be in the log, or not, and no producer sends them any more. If their topic was created anew,
    /// they are lines of a file in the spool's directory `rejected`, too.
    Unknown,
    /// They can never be sent, and are lines of a file in the spool's directory `rejected`.
    #[non_exhaustive]
    Rejected {
        /// Why.
        why: Arc<str>,
    },
}

impl ResumedOutcome {
    /// As the journal has it.
    pub(crate) fn of(fate: Fate, why: Option<&Arc<str>>, may_be_twice: bool) -> Self {
        match fate {
            // Lower than any offset is what has none.
            Fate::Acked(offset) => Self::Acked {
                offset: (offset >= 0).then_some(offset),
                may_be_twice,
            },
            Fate::NotWritten => Self::NotWritten,
            Fate::Unknown => Self::Unknown,
            Fate::Rejected => Self::Rejected {
                why: why.cloned().unwrap_or_default(),
            },
        }
    }
}

/// The records that former producers left, by slot.
#[derive(Debug, Default)]
pub struct Former {
    slots: BTreeMap<u32, Left>,
    all: u64,
    settled: u64,
}

#[derive(Debug)]
struct Left {
    unsettled: Vec<Range<u64>>,
    /// What has its outcome since.
    settled: Settled,
    /// What was sent though it may be in the log.
    resent: Settled,
}

impl Former {
    /// What a start has found. What nobody knows the topic partition of is never sent, and not among it.
    pub fn new(resumed: &[Resume]) -> Self {
        let left = resumed.iter().filter(|slot| slot.topic.is_some());
        let left = left.filter(|slot| !slot.unsettled.is_empty());
        let left = left.map(|slot| {
            let left = Left {
                unsettled: slot.unsettled.clone(),
                settled: Settled::default(),
                resent: Settled::default(),
            };
            (slot.slot, left)
        });
        let slots: BTreeMap<_, _> = left.collect();
        let parts = slots.values().flat_map(|left| &left.unsettled);
        let all = parts.map(|part| part.end - part.start).sum();
        Self {
            slots,
            all,
            settled: 0,
        }
    }

    /// How many records they left.
    pub fn all(&self) -> u64 {
        self.all
    }

    /// Whether all of them have their outcome.
    pub fn is_over(&self) -> bool {
        self.settled == self.all
    }

    /// These are sent though they may be in the log.
    pub fn resent(&mut self, slot: u32, positions: Range<u64>) {
        if let Some(left) = self.slots.get_mut(&slot) {
            left.resent.add(positions, 0);
        }
    }

    /// Whether any of these was sent though it may be in the log.
    pub fn may_be_twice(&self, slot: u32, positions: Range<u64>) -> bool {
        let count = positions.end - positions.start;
        let resent = self.slots.get(&slot).map(|left| &left.resent);
        resent.is_some_and(|resent| resent.count_unsettled(positions) < count)
    }

    /// These have their outcome. Says whether they are of a former producer, and had none before.
    pub fn settle(&mut self, slot: u32, positions: Range<u64>) -> bool {
        let Some(left) = self.slots.get_mut(&slot) else {
            return false;
        };
        let parts = left.unsettled.iter();
        let parts = parts.map(|it| it.start.max(positions.start)..it.end.min(positions.end));
        let parts = parts.filter(|part| part.start < part.end);
        let new = parts
            .map(|part| left.settled.count_unsettled(part))
            .sum::<u64>();
        left.settled.add(positions, 0);
        self.settled += new;
        new > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::spool::SlotTopic;

    fn resume(slot: u32, unsettled: &[Range<u64>]) -> Resume {
        Resume {
            slot,
            topic: (slot != 9).then(|| SlotTopic {
                topic: "t".into(),
                topic_id: [0; 16],
                partition: 0,
            }),
            lines: Vec::new(),
            unsettled: unsettled.to_vec(),
            missing: Vec::new(),
            end: 100,
            next_position: 100,
        }
    }

    #[test]
    fn what_is_told_twice_counts_once_and_what_is_new_not_at_all() {
        let mut former = Former::new(&[
            resume(1, &[3..5, 8..10]),
            resume(2, &[]),
            resume(3, &[0..1]),
        ]);
        assert_eq!((former.all(), former.is_over()), (5, false));
        assert!(former.settle(1, 3..9));
        assert!(!former.settle(1, 3..9), "a partition tells it again");
        assert!(!former.settle(1, 100..110), "this producer's own");
        assert!(!former.settle(2, 0..9));
        assert!(former.settle(3, 0..1));
        assert!(!former.is_over());
        assert!(former.settle(1, 9..10));
        assert!(former.is_over());
    }

    #[test]
    fn what_was_sent_in_doubt_is_told_so() {
        let mut former = Former::new(&[resume(1, &[3..9])]);
        former.resent(1, 4..6);
        former.resent(2, 0..9);
        let told = [3..4, 3..5, 5..9, 6..9].map(|it| former.may_be_twice(1, it));
        assert_eq!(told, [false, true, true, false]);
        assert!(!former.may_be_twice(2, 0..9), "nothing was left there");
    }

    #[test]
    fn where_nothing_was_left_all_is_over_at_once() {
        assert!(Former::new(&[resume(1, &[])]).is_over());
        assert!(Former::new(&[resume(9, &[0..5])]).is_over(), "no topic");
    }
}
