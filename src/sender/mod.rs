//! What a sender keeps in mind: which batches go next, and which requests are unanswered.

mod answer;
mod appetite;
mod gather;
mod in_flight;
mod parcel;
mod request;

pub(crate) use answer::match_answers;
pub(crate) use appetite::Appetite;
pub(crate) use gather::gather;
pub(crate) use in_flight::{InFlight, Request};
pub(crate) use parcel::Parcel;
pub(crate) use request::{arrange, encode};
