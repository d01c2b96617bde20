//! Transactions (KIP-98, KIP-890): what may be sent in one, how it ends, and who learns of it.
//!
//! [`Scope`] is one transaction, as its handles, batches and receipts share it. [`Coordination`] decides
//! what the coordinator is asked, and what follows from its answers.

mod answer;
mod coordination;
mod error;
mod offsets;
mod receipt;
mod scope;
mod search;

pub(crate) use answer::{Answer, Refusal, Request, is_not_coordinator, passes};
pub(crate) use coordination::{Begin, Coordination, Membership};
pub use error::{Cause, TransactionError};
pub(crate) use offsets::GroupOffsets;
pub use offsets::{GroupMetadata, ReadUpTo};
pub use receipt::{Appended, BorrowedReceipt, Receipt, Receipts};
pub(crate) use scope::{End, Scope, aborted, in_doubt, never_committed};
