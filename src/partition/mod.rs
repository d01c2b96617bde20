//! What belongs to one partition: the stage callers append to, and the ledger of its batches.

mod ledger;
mod stage;

pub(crate) use ledger::{Attempt, Effects, Ledger, Lent, Readiness, Report, Rules};
pub(crate) use stage::{Append, Appended, Courier, Extras, Stage, ripe};
