//! How far a source has come: what of it is accepted, and what may be.

use std::collections::BTreeMap;

use super::frame::Source;

/// How far a source has come, as whoever sends its records knows it.
///
/// Invariant: while the disk may not have the last record, no other one is appended. So after a crash nothing
/// is missing at or below the highest position that is found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    accepted: Option<u64>,
    open: Option<Open>,
}

/// The last record that was appended, if it is not known whether it is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Open {
    pub position: u64,
    /// How many files of the spool had failed when it was appended. If it was a former process that did so,
    /// none had.
    pub failed: u64,
}

impl Progress {
    /// What a start has found. The machine may not have all of that on its disk: the former process was
    /// killed before it could see to it.
    pub fn found(position: Option<u64>) -> Self {
        Self {
            accepted: None,
            open: position.map(|position| Open {
                position,
                failed: 0,
            }),
        }
    }

    /// The highest position of which it is known that it is accepted.
    pub fn accepted(&self) -> Option<u64> {
        self.accepted
    }

    /// What has to be on the disk before anything else is appended.
    pub fn open(&self) -> Option<Open> {
        self.open
    }

    /// The highest position that was appended.
    pub fn seen(&self) -> Option<u64> {
        self.open.map(|open| open.position).max(self.accepted)
    }

    /// Whether a record with this position may come next.
    pub fn may_follow(&self, position: u64) -> bool {
        self.open.is_none() && self.accepted.is_none_or(|accepted| accepted < position)
    }

    /// A record was appended.
    pub fn appended(&mut self, position: u64, failed: u64) {
        self.open = Some(Open { position, failed });
    }

    /// The disk has what was appended up to this position.
    pub fn synced(&mut self, position: u64) {
        self.open.take_if(|open| open.position <= position);
        self.accepted = self.accepted.max(Some(position));
    }
}

/// The highest position of each source.
pub fn highest(accepted: impl Iterator<Item = Source>) -> BTreeMap<u32, u64> {
    let mut highest: BTreeMap<u32, u64> = BTreeMap::new();
    for Source { source, position } in accepted {
        let known = highest.entry(source).or_insert(position);
        *known = (*known).max(position);
    }
    highest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_follows_what_the_disk_may_not_have() {
        let mut progress = Progress::default();
        assert!(progress.may_follow(0));
        progress.appended(4, 2);
        assert!(!progress.may_follow(5), "the disk may not have 4");
        assert_eq!((progress.accepted(), progress.seen()), (None, Some(4)));
        progress.synced(4);
        assert_eq!((progress.accepted(), progress.open()), (Some(4), None));
        assert!(!progress.may_follow(4) && progress.may_follow(5));
    }

    #[test]
    fn what_a_former_process_wrote_counts_once_the_disk_has_it() {
        let mut progress = Progress::found(Some(9));
        assert_eq!((progress.accepted(), progress.seen()), (None, Some(9)));
        assert_eq!(progress.open().map(|open| open.failed), Some(0));
        progress.synced(9);
        assert_eq!(progress.accepted(), Some(9));
        assert_eq!(Progress::found(None), Progress::default());
    }
}
