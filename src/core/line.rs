//! Those who wait for something, in the order in which they came, each until its deadline.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// A line of those who wait. None of its methods but those that go through everyone looks at more than a
/// few of them, however long it is.
#[derive(Debug)]
pub(crate) struct Line<T, D = Instant> {
    /// By the number of their arrival.
    waiting: BTreeMap<u64, (D, T)>,
    deadlines: BTreeSet<(D, u64)>,
    arrived: u64,
}

impl<T, D: Ord + Copy> Line<T, D> {
    pub fn new() -> Self {
        Self {
            waiting: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            arrived: 0,
        }
    }

    /// Adds one at the end.
    pub fn push(&mut self, deadline: D, who: T) {
        self.arrived += 1;
        self.waiting.insert(self.arrived, (deadline, who));
        self.deadlines.insert((deadline, self.arrived));
    }

    pub fn first(&self) -> Option<&T> {
        self.waiting.first_key_value().map(|(_, (_, who))| who)
    }

    pub fn take_first(&mut self) -> Option<T> {
        let (number, (deadline, who)) = self.waiting.pop_first()?;
        self.deadlines.remove(&(deadline, number));
        Some(who)
    }

    /// The earliest deadline.
    pub fn next_deadline(&self) -> Option<D> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Takes one whose deadline has passed, the earliest first.
    pub fn take_late(&mut self, now: D) -> Option<T> {
        let late = self.next_deadline()? <= now;
        let (_, number) = late.then(|| self.deadlines.pop_first()).flatten()?;
        self.waiting.remove(&number).map(|(_, who)| who)
    }

    /// Removes all that are `gone`. Looks at everyone.
    pub fn forget(&mut self, gone: impl Fn(&T) -> bool) {
        let deadlines = &mut self.deadlines;
        self.waiting.retain(|number, (deadline, who)| {
            let stays = !gone(who);
            if !stays {
                deadlines.remove(&(*deadline, *number));
            }
            stays
        });
    }

    /// Everyone, in order.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.waiting.values_mut().map(|(_, who)| who)
    }

    /// Removes everyone, in order.
    pub fn take_all(&mut self) -> impl Iterator<Item = T> + use<T, D> {
        self.deadlines.clear();
        std::mem::take(&mut self.waiting)
            .into_values()
            .map(|(_, who)| who)
    }

    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::cmp::Ordering;

    use super::*;

    #[test]
    fn whoever_leaves_in_whatever_way_leaves_nothing_behind() {
        let mut line = Line::new();
        for (who, deadline) in [30, 10, 20, 10, 40].into_iter().enumerate() {
            line.push(deadline, who);
        }
        assert_eq!((line.first(), line.next_deadline()), (Some(&0), Some(10)));
        assert_eq!(line.take_late(9), None);
        assert_eq!(line.take_late(15), Some(1));
        assert_eq!(line.take_first(), Some(0));
        assert_eq!((line.first(), line.next_deadline()), (Some(&2), Some(10)));
        line.forget(|who| *who == 3);
        assert_eq!((line.len(), line.next_deadline()), (2, Some(20)));
        assert_eq!(line.take_all().collect::<Vec<_>>(), [2, 4]);
        assert!(line.is_empty() && line.next_deadline().is_none());
        assert_eq!(line.take_late(100), None);
    }

    thread_local! {
        static COMPARED: Cell<usize> = const { Cell::new(0) };
    }

    /// A time that counts how often it is compared.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    struct Time(usize);

    impl Ord for Time {
        fn cmp(&self, other: &Self) -> Ordering {
            COMPARED.set(COMPARED.get() + 1);
            self.0.cmp(&other.0)
        }
    }

    impl PartialOrd for Time {
        fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
            Some(self.cmp(other))
        }
    }

    /// How many times are compared while so many come, the alarm is set for each, and all leave:
    /// every other one late, the rest in turn.
    fn compared(many: usize) -> usize {
        let mut line = Line::new();
        COMPARED.set(0);
        for who in 0..many {
            line.push(Time(who), who);
            assert_eq!(line.next_deadline(), Some(Time(0)));
        }
        for who in (0..many).step_by(2) {
            assert_eq!(line.take_late(Time(who)), Some(who));
            assert_eq!(line.take_late(Time(who)), None);
            assert_eq!(line.take_first(), (who + 1 < many).then_some(who + 1));
        }
        assert!(line.is_empty());
        COMPARED.get()
    }

    #[test]
    fn twice_as_many_who_wait_cost_twice_as_much() {
        let (some, more) = (compared(1_000), compared(4_000));
        assert!(
            more < 6 * some,
            "4 times as many take {more} comparisons instead of {some}"
        );
    }
}
