//! A consumer group's offsets, as far as producers commit them in transactions.

use std::collections::BTreeMap;

use crate::batch::Marker;
use crate::log::code;
use crate::transaction::Identity;

/// Topic and partition.
pub type Place = (String, i32);

/// What a group's coordinator has.
#[derive(Debug, Clone, Default)]
pub struct Group {
    /// 0 if nobody has ever joined: then offsets are committed without a generation.
    pub generation: i32,
    /// By member id, with `group.instance.id`.
    pub members: BTreeMap<String, Option<String>>,
    pub committed: BTreeMap<Place, i64>,
    /// By producer id: what its open transaction commits.
    pending: BTreeMap<i64, BTreeMap<Place, i64>>,
    /// The highest epoch of each producer, and its coordinator's.
    epochs: BTreeMap<i64, (i16, i32)>,
}

/// Whom a producer commits offsets for.
#[derive(Debug, Clone)]
pub struct Member<'a> {
    pub generation: i32,
    pub id: &'a str,
    pub instance: Option<&'a str>,
}

impl Group {
    /// Whether the producer's transaction is known here already.
    pub fn is_open(&self, (producer, epoch): Identity) -> bool {
        let same = self.epochs.get(&producer).is_some_and(|it| it.0 == epoch);
        same && self.pending.contains_key(&producer)
    }

    /// The members take turns: there is a new generation of these.
    pub fn rebalance(&mut self, members: impl IntoIterator<Item = (String, Option<String>)>) {
        self.generation += 1;
        self.members = members.into_iter().collect();
    }

    /// `ConsumerGroup.validateOffsetCommit` of a classic group (KIP-447).
    fn validate(&self, member: &Member<'_>) -> Result<(), i16> {
        if member.generation < 0 && member.id.is_empty() && member.instance.is_none() {
            return Ok(());
        }
        if self.generation == 0 {
            return match member.generation < 0 {
                true => Ok(()),
                false => Err(code::ILLEGAL_GENERATION),
            };
        }
        if let Some(instance) = member.instance {
            let of = |(_, it): &(&String, &Option<String>)| it.as_deref() == Some(instance);
            let known = self.members.iter().find(of);
            let (owner, _) = known.ok_or(code::UNKNOWN_MEMBER_ID)?;
            if owner != member.id {
                return Err(code::FENCED_INSTANCE_ID);
            }
        }
        if !member.id.is_empty() && !self.members.contains_key(member.id) {
            return Err(code::UNKNOWN_MEMBER_ID);
        }
        match member.generation == self.generation {
            true => Ok(()),
            false => Err(code::ILLEGAL_GENERATION),
        }
    }

    /// TxnOffsetCommit. The offsets count once the transaction is committed.
    pub fn commit(
        &mut self,
        (producer, epoch): Identity,
        member: &Member<'_>,
        offsets: impl IntoIterator<Item = (Place, i64)>,
    ) -> Result<(), i16> {
        self.validate(member)?;
        let known = self.epochs.entry(producer).or_insert((epoch, -1));
        if epoch < known.0 {
            return Err(code::INVALID_PRODUCER_EPOCH);
        }
        known.0 = epoch;
        let pending = self.pending.entry(producer).or_default();
        pending.extend(offsets);
        Ok(())
    }

    pub(crate) fn mark(&mut self, marker: &Marker, version: i16) -> Result<(), i16> {
        let id = marker.producer_id;
        let open = self.pending.contains_key(&id);
        if let Some((epoch, coordinator)) = self.epochs.get(&id) {
            let again = marker.epoch == *epoch && !open;
            let old = match version >= 2 {
                true => marker.epoch <= *epoch && !again,
                false => marker.epoch < *epoch,
            };
            if old {
                return Err(code::INVALID_PRODUCER_EPOCH);
            }
            if *coordinator > marker.coordinator_epoch {
                return Err(code::TRANSACTION_COORDINATOR_FENCED);
            }
        }
        self.epochs
            .insert(id, (marker.epoch, marker.coordinator_epoch));
        let pending = self.pending.remove(&id).unwrap_or_default();
        if marker.committed {
            self.committed.extend(pending);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOBODY: Member<'static> = Member {
        generation: -1,
        id: "",
        instance: None,
    };

    fn place(partition: i32) -> Place {
        ("topic".to_owned(), partition)
    }

    fn marker(epoch: i16, committed: bool) -> Marker {
        Marker {
            producer_id: 7,
            epoch,
            committed,
            coordinator_epoch: 0,
            timestamp: 0,
        }
    }

    #[test]
    fn offsets_count_when_their_transaction_is_committed() {
        let mut group = Group::default();
        group
            .commit((7, 0), &NOBODY, [(place(0), 5)])
            .expect("pending");
        assert!(group.is_open((7, 0)) && !group.is_open((7, 1)));
        assert!(group.committed.is_empty());
        group.mark(&marker(1, false), 2).expect("aborted");
        assert!(group.committed.is_empty());
        let old = group.commit((7, 0), &NOBODY, [(place(0), 6)]);
        assert_eq!(old, Err(code::INVALID_PRODUCER_EPOCH));
        group
            .commit((7, 1), &NOBODY, [(place(0), 7)])
            .expect("pending");
        assert_eq!(
            group.mark(&marker(1, true), 2),
            Err(code::INVALID_PRODUCER_EPOCH)
        );
        group.mark(&marker(2, true), 2).expect("committed");
        group.mark(&marker(2, true), 2).expect("again");
        assert_eq!(group.committed, BTreeMap::from([(place(0), 7)]));
    }

    #[test]
    fn a_member_of_another_generation_commits_nothing() {
        let mut group = Group::default();
        let member = |generation, id, instance| Member {
            generation,
            id,
            instance,
        };
        let ask = |group: &mut Group, it| group.commit((7, 0), &it, []);
        assert_eq!(
            ask(&mut group, member(1, "a", None)),
            Err(code::ILLEGAL_GENERATION)
        );
        group.rebalance([("a".to_owned(), Some("x".to_owned()))]);
        assert_eq!(ask(&mut group, member(1, "a", Some("x"))), Ok(()));
        assert_eq!(
            ask(&mut group, member(1, "b", None)),
            Err(code::UNKNOWN_MEMBER_ID)
        );
        assert_eq!(
            ask(&mut group, member(1, "b", Some("x"))),
            Err(code::FENCED_INSTANCE_ID)
        );
        group.rebalance([("a".to_owned(), None)]);
        assert_eq!(
            ask(&mut group, member(1, "a", None)),
            Err(code::ILLEGAL_GENERATION)
        );
        assert_eq!(ask(&mut group, NOBODY), Ok(()));
    }
}
