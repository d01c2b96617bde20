//! What a sender keeps in mind: which batches go next, and which requests are unanswered.

mod demand;
mod gather;
mod in_flight;
mod outgoing_batch;
mod ready_queue;
mod request;
mod request_sizing;
mod response;

pub(crate) use demand::Demand;
pub use gather::gather;
pub(crate) use in_flight::{InFlight, Request};
pub use outgoing_batch::OutgoingBatch;
pub(crate) use ready_queue::{ReadyHandle, ReadyQueue};
pub(crate) use request::{arrange, encode};
pub(crate) use request_sizing::RequestSizing;
pub(crate) use response::match_responses;
