//! What a sender keeps in mind: which batches go next, and which requests are unanswered.

mod answer;
mod appetite;
mod bell;
mod gather;
mod in_flight;
mod parcel;
mod portions;
mod request;

pub(crate) use answer::match_answers;
pub(crate) use appetite::Appetite;
pub(crate) use bell::{Bell, Seat};
pub(crate) use gather::gather;
pub(crate) use in_flight::{InFlight, Request};
pub(crate) use parcel::Parcel;
pub(crate) use portions::Portions;
pub(crate) use request::{arrange, encode};
