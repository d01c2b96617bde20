//! Sending in transactions: the producer, a transaction, and its handles.

mod ending;
mod handle;
mod lane;
mod producer;

pub use ending::{InDoubt, NotCommitted};
pub use handle::Handle;
pub use lane::Lane;
pub use producer::{Transaction, TransactionalProducer};
