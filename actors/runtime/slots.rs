//! The spool as the RuntimeActor knows it, and the numbers of topic partitions in it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use uuid::Uuid;

use crate::actors::messages::{OpenSlot, SpoolPlace};
use crate::actors::now;
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
    /// An id was told that is taken for old news.
    pub doubts_id: bool,
    /// Brokers are asked again when it would be believed.
    pub asks_again: bool,
    /// Memory is used up, and what waits is looked at.
    pub spilling: bool,
}

impl Spooling {
    /// Tells the SpoolActor of all slots again.
    pub fn open_slots(&self) {
        for ((topic, partition), known) in &self.slots.known {
            self.open_slot(topic, *partition, known.place);
        }
    }

    fn open_slot(&self, topic: &Arc<str>, partition: i32, place: SpoolPlace) {
        self.spool.do_send(OpenSlot {
            place,
            topic_partition: TopicPartition::new(Arc::clone(topic), partition),
        });
    }

    /// The place of a topic partition. `id`: of the topic, if the partition is in it.
    pub fn place(&mut self, topic: &Arc<str>, id: Option<Uuid>, partition: i32) -> SpoolPlace {
        let space = &self.space;
        let end = |slot| space.next_position(slot);
        let (place, is_new) = self.slots.of(topic, id, (partition, now()), end);
        if is_new {
            self.open_slot(topic, partition, place);
        }
        place
    }
}

/// Positions between the slot of a topic and that of one that was created anew under its name. More than a
/// chunk that is being filled can have.
const BETWEEN: u64 = 1 << 32;

/// What is known of a topic partition.
pub(crate) struct Known {
    pub place: SpoolPlace,
    /// The ids of former topics of this name, and their slots.
    pub former: Vec<(Uuid, u32)>,
    /// When the present id was learned, or when this process began.
    since: Instant,
}

/// For so long an id that was left is taken for that of a broker that has not heard of the present topic.
/// Then it is believed: the other one may have been old news, which nobody can tell by an id.
pub(super) const OLD_NEWS: Duration = Duration::from_secs(10);

impl Known {
    fn is_old_news(&self, id: Uuid, now: Instant) -> bool {
        let is_former = || self.former.iter().any(|(former, _)| *former == id);
        self.place.is_of_another(id) && now < self.since + OLD_NEWS && is_former()
    }
}

/// The numbers of topic partitions in the spool.
#[derive(Default)]
pub(crate) struct Slots {
    pub known: BTreeMap<(Arc<str>, i32), Known>,
    /// What former producers left.
    pub resumed: BTreeMap<u32, Resume>,
    next: u32,
}

impl Slots {
    /// As the journal has them. Of several of a topic partition the last one is that of the present topic.
    pub fn new(mut resumed: Vec<Resume>, now: Instant) -> Self {
        let mut slots = Self::default();
        resumed.sort_unstable_by_key(|resume| resume.slot);
        for resume in resumed {
            slots.next = slots.next.max(resume.slot + 1);
            if let Some(topic) = &resume.topic {
                let topic_id = Uuid::from_bytes(topic.topic_id);
                slots.add(
                    (Arc::clone(&topic.topic), topic.partition),
                    SpoolPlace {
                        slot: resume.slot,
                        from: 0,
                        topic_id,
                    },
                    now,
                );
            }
            slots.resumed.insert(resume.slot, resume);
        }
        slots
    }

    fn add(&mut self, key: (Arc<str>, i32), place: SpoolPlace, since: Instant) {
        match self.known.get_mut(&key) {
            Some(known) => {
                known.former.push((known.place.topic_id, known.place.slot));
                (known.place, known.since) = (place, since);
            }
            None => {
                let former = Vec::new();
                let known = Known {
                    place,
                    former,
                    since,
                };
                self.known.insert(key, known);
            }
        }
    }

    /// The place of a topic partition, and whether the journal has to hear of it. `id`: of the topic, if the
    /// partition is in it; `end`: the position behind all that a slot has in chunks that are filled.
    ///
    /// A topic that was created anew gets another slot, whose positions are behind those of the former one.
    fn of(
        &mut self,
        topic: &Arc<str>,
        id: Option<Uuid>,
        (partition, now): (i32, Instant),
        end: impl Fn(u32) -> u64,
    ) -> (SpoolPlace, bool) {
        let key = (Arc::clone(topic), partition);
        let id_known = id.unwrap_or_default();
        let mut from = 0;
        if let Some(known) = self.known.get_mut(&key) {
            let is_old = known.is_old_news(id_known, now);
            let place = &mut known.place;
            if place.topic_id.is_nil() && !id_known.is_nil() {
                place.topic_id = id_known;
                return (*place, true);
            }
            if is_old || !place.is_of_another(id_known) {
                return (*place, false);
            }
            from = end(place.slot).max(place.from) + BETWEEN;
        }
        let place = SpoolPlace {
            slot: self.next,
            from,
            topic_id: id_known,
        };
        self.next += 1;
        self.add(key, place, now);
        (place, true)
    }

    /// Whether a topic had this id before it was created anew, as somebody has it who has not heard of that.
    pub fn is_old_news(
        &self,
        topic: &Arc<str>,
        id: Uuid,
        (partition, now): (i32, Instant),
    ) -> bool {
        let known = self.known.get(&(Arc::clone(topic), partition));
        known.is_some_and(|known| known.is_old_news(id, now))
    }

    /// What former producers have left of a topic partition, and of former topics of that name.
    pub fn take_left(&mut self, topic: &Arc<str>, partition: i32) -> (Option<Resume>, Vec<Resume>) {
        let Some(known) = self.known.get(&(Arc::clone(topic), partition)) else {
            return (None, Vec::new());
        };
        let resumed = &mut self.resumed;
        let former = known.former.iter();
        let former = former.filter_map(|(_, slot)| resumed.remove(slot));
        let former = former.filter(|it| it.end_of_open() > 0).collect();
        (resumed.remove(&known.place.slot), former)
    }

    /// Whether former producers have left records of this topic partition.
    pub fn are_left(&self, topic: &Arc<str>, partition: i32) -> bool {
        let known = self.known.get(&(Arc::clone(topic), partition));
        known.is_some_and(|known| self.has_left(known))
    }

    fn has_left(&self, known: &Known) -> bool {
        let former = known.former.iter().map(|(_, slot)| slot);
        let mut slots = former.chain([&known.place.slot]);
        slots.any(|slot| {
            let resume = self.resumed.get(slot);
            resume.is_some_and(|resume| resume.end_of_open() > 0)
        })
    }

    /// How many partitions of a topic there are up to the last one of which records are left.
    pub fn count_left(&self, topic: &Arc<str>) -> usize {
        if self.resumed.is_empty() {
            return 0;
        }
        let from = (Arc::clone(topic), 0);
        let known = self
            .known
            .range(from..)
            .take_while(|(key, _)| key.0 == *topic);
        let left = known.filter(|(_, known)| self.has_left(known));
        let last = left
            .last()
            .and_then(|((_, partition), _)| usize::try_from(*partition).ok());
        last.map_or(0, |last| last + 1)
    }

    /// The topics that are known, with their present ids and numbers of partitions.
    pub fn topics(&self) -> BTreeMap<Arc<str>, (Uuid, i32)> {
        let mut newest: BTreeMap<Arc<str>, SpoolPlace> = BTreeMap::new();
        for ((topic, _), Known { place, .. }) in &self.known {
            let known = newest.entry(Arc::clone(topic)).or_insert(*place);
            if known.slot < place.slot {
                *known = *place;
            }
        }
        let ids = newest
            .into_iter()
            .map(|(topic, place)| (topic, (place.topic_id, 0)));
        let mut topics: BTreeMap<_, _> = ids.collect();
        for ((topic, partition), Known { place, .. }) in &self.known {
            if let Some((id, partitions)) = topics.get_mut(topic)
                && !place.is_of_another(*id)
            {
                *partitions = partition.saturating_add(1).max(*partitions);
            }
        }
        topics
    }
}

#[cfg(test)]
mod tests {
    use std::iter;
    use std::ops::Range;

    use super::*;
    use crate::core::spool::SlotTopic;

    const FORMER: Uuid = Uuid::from_u128(1);
    const PRESENT: Uuid = Uuid::from_u128(2);

    fn resume(slot: u32, (id, partition): (Uuid, i32), unsettled: Range<u64>) -> Resume {
        Resume {
            slot,
            topic: Some(SlotTopic {
                topic: "t".into(),
                topic_id: id.into_bytes(),
                partition,
            }),
            lines: Vec::new(),
            unsettled: iter::once(unsettled).filter(|it| !it.is_empty()).collect(),
            missing: Vec::new(),
            end: 100,
            next_position: 100,
        }
    }

    fn of(slots: &mut Slots, id: Uuid, now: Instant) -> (SpoolPlace, bool) {
        slots.of(&"t".into(), Some(id), (0, now), |_| 70)
    }

    #[test]
    fn a_topic_that_is_created_anew_has_a_slot_behind_the_former_one() {
        let (mut slots, now) = (Slots::default(), now());
        let (former, is_new) = of(&mut slots, FORMER, now);
        assert!(is_new);
        assert_eq!((former.slot, former.from), (0, 0));
        assert_eq!(of(&mut slots, FORMER, now), (former, false));
        let (present, is_new) = of(&mut slots, PRESENT, now);
        assert!(is_new);
        assert_eq!((present.slot, present.from), (1, 70 + BETWEEN));
        assert_eq!(of(&mut slots, PRESENT, now), (present, false));
        // A broker has not heard of it.
        assert_eq!(of(&mut slots, FORMER, now), (present, false));
        assert!(slots.is_old_news(&"t".into(), FORMER, (0, now)));
        // It may have been the other one that was old.
        let (again, is_new) = of(&mut slots, FORMER, now + OLD_NEWS);
        assert!(is_new && again.slot == 2 && again.from > present.from);
        assert_eq!(of(&mut slots, FORMER, now + OLD_NEWS), (again, false));
    }

    #[test]
    fn where_brokers_give_no_ids_a_topic_stays_what_it_is() {
        let (mut slots, now) = (Slots::default(), now());
        let (unnamed, _) = of(&mut slots, Uuid::nil(), now);
        assert_eq!(of(&mut slots, Uuid::nil(), now), (unnamed, false));
        // They give some now.
        let (named, is_told) = of(&mut slots, FORMER, now);
        assert_eq!(
            (named.slot, named.topic_id, is_told),
            (unnamed.slot, FORMER, true)
        );
        assert_eq!(of(&mut slots, Uuid::nil(), now), (named, false));
        assert!(!slots.is_old_news(&"t".into(), Uuid::nil(), (0, now)));
    }

    #[test]
    fn at_a_start_the_last_slot_is_of_the_present_topic() {
        let topic = "t".into();
        let now = now();
        let left = vec![
            resume(1, (PRESENT, 0), 80..90),
            resume(0, (FORMER, 0), 3..5),
            resume(2, (FORMER, 3), 7..8),
            resume(3, (FORMER, 4), 0..0),
            resume(4, (PRESENT, 1), 0..0),
        ];
        let mut slots = Slots::new(left, now);
        let expected = BTreeMap::from([(Arc::clone(&topic), (PRESENT, 2))]);
        assert_eq!(slots.topics(), expected);
        assert_eq!(
            slots.count_left(&topic),
            4,
            "the present topic has not so many"
        );
        let (left, former) = slots.take_left(&topic, 0);
        assert_eq!(left.map(|it| it.slot), Some(1));
        assert_eq!(former.iter().map(|it| it.slot).collect::<Vec<_>>(), [0]);
        let (place, is_new) = slots.of(&topic, None, (3, now), |_| 0);
        assert_eq!((place.slot, is_new), (2, false), "it is in no topic");
        assert!(slots.are_left(&topic, 3) && !slots.are_left(&topic, 0));
        let (place, _) = slots.of(&topic, Some(PRESENT), (3, now), |_| 0);
        assert_eq!(place.slot, 5);
    }
}
