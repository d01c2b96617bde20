//! What a sender decides: which batches go into the next request, and which requests wait for a
//! response.

mod demand;
mod dispatcher;
mod gate;
mod gather;
mod in_flight;
mod link_state;
mod loan;
mod outgoing_batch;
mod ready_queue;
mod request;
mod request_sizing;
mod response;
mod unsaid_limit;

pub(crate) use demand::Demand;
pub(crate) use dispatcher::{Action, BeforeDue, DispatchRules, Dispatcher, Fault};
pub(crate) use gate::Gate;
pub use gather::gather;
pub(crate) use in_flight::{InFlight, Request};
pub(crate) use link_state::{Connect, LinkRules};
pub(crate) use loan::{Loan, LoanHome};
pub use outgoing_batch::OutgoingBatch;
pub(crate) use ready_queue::{ReadyHandle, ReadyQueue};
pub(crate) use request::{OutgoingRequest, arrange, encode};
pub(crate) use request_sizing::RequestSizing;
pub(crate) use response::{match_responses, tells_of_all};
pub(crate) use unsaid_limit::UnsaidLimit;
