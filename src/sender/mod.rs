//! What a sender keeps in mind: which requests are unanswered, and which batches go next.

mod gather;
mod in_flight;

pub(crate) use gather::{Parcel, gather};
pub(crate) use in_flight::{InFlight, Request};
