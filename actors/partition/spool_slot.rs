//! The place of a partition in the spool.

use std::sync::Arc;

use actix::prelude::*;

use crate::actors::spool::SpoolActor;
use crate::core::spool::{Line, Resume, Seat};
use crate::disk::Written;

/// The partition's place in the spool.
pub(crate) struct SpoolSlot {
    pub spool: Addr<SpoolActor>,
    pub slot: u32,
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
}

impl SpoolSlot {
    pub fn new(
        spool: Addr<SpoolActor>,
        slot: u32,
        seat: Option<Seat>,
        written: Option<Arc<Written>>,
        resume: Option<Resume>,
    ) -> Self {
        Self {
            spool,
            slot,
            seat,
            asked_line: None,
            reading: None,
            written,
            syncing: false,
            resume,
        }
    }
}
