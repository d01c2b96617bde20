//! Offsets of a consumer group that are committed with a transaction (KIP-447).

use std::sync::Arc;

use crate::core::record::TopicPartition;

/// Who a consumer is in its group. Any consumer's: its group's name is enough where it assigns its
/// partitions to itself. With what it knows of its membership, a member that was replaced meanwhile
/// is refused (KIP-447).
///
/// ```
/// use forebay::transaction::GroupMetadata;
///
/// let group = GroupMetadata::new("billing").member("consumer-1-4bf9", 7);
/// assert_eq!(group.generation, 7);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupMetadata {
    /// `group.id`.
    pub group: Arc<str>,
    /// The generation, or the member's epoch; -1 if the consumer is not a member.
    pub generation: i32,
    /// The member's id; empty if the consumer is not a member.
    pub member: Arc<str>,
    /// `group.instance.id`, if the consumer has one.
    pub instance: Option<Arc<str>>,
}

impl GroupMetadata {
    /// A group, and nothing of its members.
    pub fn new(group: impl Into<Arc<str>>) -> Self {
        Self {
            group: group.into(),
            generation: -1,
            member: "".into(),
            instance: None,
        }
    }

    /// The consumer is this member, in this generation of the group.
    #[must_use]
    pub fn member(mut self, member: impl Into<Arc<str>>, generation: i32) -> Self {
        (self.member, self.generation) = (member.into(), generation);
        self
    }

    /// The consumer has this `group.instance.id`.
    #[must_use]
    pub fn instance(mut self, instance: impl Into<Arc<str>>) -> Self {
        self.instance = Some(instance.into());
        self
    }
}

/// Up to where a partition has been read.
///
/// ```
/// use forebay::TopicPartition;
/// use forebay::transaction::ReadUpTo;
///
/// // The record at offset 41 was the last one that was worked on.
/// let position = ReadUpTo::new(TopicPartition::new("orders", 0), 42);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReadUpTo {
    /// The partition that was read.
    pub partition: TopicPartition,
    /// The offset of the next record to read: one more than that of the last one.
    pub offset: i64,
    /// The leader epoch of the last record, if it is known.
    pub leader_epoch: Option<i32>,
    /// Words to be kept with the offset.
    pub metadata: Option<Arc<str>>,
}

impl ReadUpTo {
    /// `offset` is that of the next record to read.
    pub fn new(partition: TopicPartition, offset: i64) -> Self {
        Self {
            partition,
            offset,
            leader_epoch: None,
            metadata: None,
        }
    }
}

/// Offsets to be committed for a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupOffsets {
    pub group: GroupMetadata,
    pub offsets: Vec<ReadUpTo>,
}
