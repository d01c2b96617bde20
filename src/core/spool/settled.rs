//! Which positions of a slot are settled: all up to one, and ranges beyond it.

use std::collections::BTreeMap;
use std::ops::Range;

/// The settled positions of one slot.
///
/// Each settled range brings a *floor* with it: an offset before which nothing of what comes later in the
/// slot can be in the log. 0 says nothing. Batches of a partition are appended in the order of their
/// positions. So the offset behind a batch that was acked is the floor of whatever is not settled yet, once
/// all before that batch is settled.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settled {
    up_to: u64,
    floor: i64,
    /// Ranges beyond `up_to`, by where they begin: where they end, and the floor behind them. They do not
    /// touch.
    ranges: BTreeMap<u64, (u64, i64)>,
}

impl Settled {
    /// Everything before this position is settled.
    pub fn up_to(&self) -> u64 {
        self.up_to
    }

    /// Nothing that is not settled is before this offset in the log, of what the outcomes tell.
    pub fn floor(&self) -> i64 {
        self.floor
    }

    /// The end of the last settled range.
    pub fn end(&self) -> u64 {
        let last = self.ranges.last_key_value();
        last.map_or(self.up_to, |(_, (end, _))| *end)
    }

    /// Settles these positions. Some or all of them may be settled already.
    pub fn add(&mut self, positions: Range<u64>, floor: i64) {
        let Range { mut start, mut end } = positions;
        if start >= end {
            return;
        }
        let mut floor = floor;
        // Joins all that overlap or touch.
        while let Some((from, (to, known))) = self.last_before(end) {
            if to < start {
                break;
            }
            self.ranges.remove(&from);
            (start, end, floor) = (start.min(from), end.max(to), floor.max(known));
        }
        match start <= self.up_to {
            true => {
                self.up_to = self.up_to.max(end);
                self.floor = self.floor.max(floor);
            }
            false => {
                self.ranges.insert(start, (end, floor));
            }
        }
    }

    /// The last range that begins at this position or before.
    fn last_before(&self, position: u64) -> Option<(u64, (u64, i64))> {
        let (from, range) = self.ranges.range(..=position).next_back()?;
        Some((*from, *range))
    }

    pub fn contains(&self, position: u64) -> bool {
        let within = |(_, (end, _))| position < end;
        position < self.up_to || self.last_before(position).is_some_and(within)
    }

    /// The first position from this one on that is not settled.
    pub fn unsettled_from(&self, position: u64) -> u64 {
        let position = position.max(self.up_to);
        match self.last_before(position) {
            Some((_, (end, _))) if position < end => end,
            _ => position,
        }
    }

    /// Ranges of these positions that are not settled, in order.
    pub fn unsettled(&self, within: Range<u64>) -> impl Iterator<Item = Range<u64>> {
        let mut next = within.start;
        std::iter::from_fn(move || {
            let from = self.unsettled_from(next);
            if from >= within.end {
                return None;
            }
            let behind = self.ranges.range(from..).next();
            let to = behind.map_or(within.end, |(begin, _)| *begin);
            next = to.min(within.end);
            Some(from..next)
        })
    }

    /// How many of these positions are not settled.
    pub fn count_unsettled(&self, within: Range<u64>) -> u64 {
        self.unsettled(within).map(|it| it.end - it.start).sum()
    }

    /// The settled ranges with the floor behind each. The first one begins at 0.
    pub fn iter(&self) -> impl Iterator<Item = (Range<u64>, i64)> {
        let first = (self.up_to > 0).then_some((0..self.up_to, self.floor));
        let beyond = self.ranges.iter();
        first
            .into_iter()
            .chain(beyond.map(|(from, (to, floor))| (*from..*to, *floor)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_floor_counts_once_all_before_is_settled() {
        let mut settled = Settled::default();
        settled.add(10..20, 120);
        assert_eq!(
            (settled.up_to(), settled.floor(), settled.end()),
            (0, 0, 20)
        );
        settled.add(20..30, 0);
        assert_eq!(settled.iter().collect::<Vec<_>>(), [(10..30, 120)]);
        settled.add(0..10, 0);
        assert_eq!((settled.up_to(), settled.floor()), (30, 120));
        settled.add(5..6, 7);
        assert_eq!((settled.up_to(), settled.floor()), (30, 120));
    }

    proptest! {
        /// Beside a row of marks.
        #[test]
        fn it_says_what_was_added(added in prop::collection::vec((0..60_u64, 0..9_u64), 0..40)) {
            let (mut settled, mut marks) = (Settled::default(), [false; 80]);
            for (from, count) in added {
                settled.add(from..from + count, 0);
                marks[from as usize..(from + count) as usize].fill(true);
                for at in 0..80 {
                    prop_assert_eq!(settled.contains(at), marks[at as usize]);
                    let next = (at as usize..80).find(|at| !marks[*at]).unwrap_or(80);
                    prop_assert_eq!(settled.unsettled_from(at), next as u64);
                }
                let open: Vec<_> = settled.unsettled(3..77).flatten().collect();
                let expected = (3..77).filter(|at| !marks[*at as usize]);
                prop_assert_eq!(&open, &expected.collect::<Vec<_>>());
                prop_assert_eq!(settled.count_unsettled(3..77), open.len() as u64);
                let end = (0..80).rev().find(|at| marks[*at]).map_or(0, |at| at + 1);
                prop_assert_eq!(settled.end(), end as u64);
                let ranges: Vec<_> = settled.iter().map(|it| it.0).collect();
                for pair in ranges.windows(2) {
                    prop_assert!(pair[0].end < pair[1].start, "{:?} touch", pair);
                }
            }
        }
    }
}
