//! Batches that are looked for in the log, and what is known of it.

use std::sync::Arc;
use std::time::Instant;

use super::entry::Entry;
use crate::core::batch::Stamp;
use crate::core::identity::Identity;
use crate::core::lookup::{Fence, Sought};
use crate::core::outcome::Reason;

/// A batch that is looked for.
#[derive(Debug)]
pub struct Doubt {
    pub entry: Entry,
    pub stamp: Stamp,
    pub reason: Reason,
    /// It is sent again if it is absent.
    pub again: bool,
    pub until: Instant,
    /// When it came to be in doubt.
    pub since: Option<Instant>,
}

/// An identity that may be used when its fence has been seen in the log. A batch that came before the
/// marker would have the broker refuse the marker, and the coordinator would try for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Awaited {
    pub identity: Identity,
    pub fence: Fence,
}

/// What is known of the doubts of a partition.
#[derive(Debug, Default)]
pub struct Doubts {
    /// In the order of their records.
    pub list: Vec<Doubt>,
    /// Behind the last batch that was acked, or the end of the log before there was one. What is sent now
    /// is not before it.
    pub floor: Option<i64>,
    pub awaited: Option<Awaited>,
    /// What was acked under an epoch later than that of a doubtful batch, and where.
    pub behind: Option<(Identity, i64)>,
    /// The producer whose marker fences this partition. Brokers would forget it with the first batch of
    /// old records.
    pub fenced: Option<i64>,
    /// Why nothing could be found out last.
    pub trouble: Option<Arc<str>>,
    /// An identity of another producer id is wanted.
    pub wants_fresh: bool,
    /// An identity that needs no look into the log is wanted.
    pub wants_plain: bool,
}

impl Doubts {
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// What is looked for.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.list.iter().map(|doubt| &doubt.entry)
    }

    pub fn entries_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.list.iter_mut().map(|doubt| &mut doubt.entry)
    }
}

impl Doubt {
    pub fn sought(&self) -> Sought {
        Sought {
            id: self.entry.id,
            producer_id: self.stamp.producer_id,
            epoch: self.stamp.epoch,
            sequence: self.stamp.sequence,
            count: self.entry.batch.count(),
        }
    }

    /// It is not sent again: its bytes go home.
    pub fn let_go(&mut self) {
        self.again = false;
        self.entry.batch.let_go();
    }
}
