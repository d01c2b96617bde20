//! The place of a partition in the spool.

use std::sync::Arc;

use actix::prelude::*;

use crate::actors::messages::SpoolPlace;
use crate::actors::spool::SpoolActor;
use crate::core::spool::{Line, Resume, Seat, Space};
use crate::disk::Written;

/// The partition's place in the spool.
pub(crate) struct SpoolSlot {
    pub spool: Addr<SpoolActor>,
    space: Arc<Space>,
    pub place: SpoolPlace,
    /// The slots of former topics of the same name, with the position behind all that is left there. The
    /// positions of each are behind those of the one before.
    pub former: Vec<(u32, u64)>,
    /// The topic is another than the slot's, and this partition is not in it.
    pub gone: bool,
    /// The line that the journal was asked to have.
    pub asked_line: Option<Line>,
    /// Where batches are written when memory is used up, if they are not in the spool before.
    pub seat: Option<Seat>,
    /// Where what is read back begins, while it is on its way.
    pub reading: Option<u64>,
    /// Set where records are sent when they are on the disk.
    pub written: Option<Arc<Written>>,
    /// It is waited for that they are.
    pub syncing: bool,
    /// What a former producer left.
    pub resume: Option<Resume>,
    /// What it left of former topics.
    pub left: Vec<Resume>,
}

impl SpoolSlot {
    pub fn new(
        spool: Addr<SpoolActor>,
        space: Arc<Space>,
        place: SpoolPlace,
        written: Option<Arc<Written>>,
        (resume, left): (Option<Resume>, Vec<Resume>),
    ) -> Self {
        let ends = left.iter().map(|it| (it.slot, it.end_of_open()));
        Self {
            spool,
            space,
            place,
            former: ends.collect(),
            gone: false,
            seat: None,
            asked_line: None,
            reading: None,
            written,
            syncing: false,
            resume,
            left,
        }
    }

    /// Where the partition's records are copied to from now on.
    pub fn new_seat(&self) -> Seat {
        let SpoolPlace { slot, from, .. } = self.place;
        Seat::from(Arc::clone(&self.space), slot, from)
    }

    /// The slot of the record at a position.
    pub fn slot_of(&self, position: u64) -> u32 {
        let former = self.former.iter().find(|(_, end)| position < *end);
        former.map_or(self.place.slot, |(slot, _)| *slot)
    }

    /// Goes on in another place. What was asked for in the former one is not wanted any more.
    pub fn move_to(&mut self, place: SpoolPlace) {
        self.former.push((self.place.slot, place.from));
        self.place = place;
        self.asked_line = None;
        self.reading = None;
    }
}
