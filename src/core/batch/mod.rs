//! Record batches: open while records are appended, sealed until their outcome is known.
//!
//! The format is Kafka's v2 (magic 2, KIP-98). Each record is written once, in its final form, into
//! leased memory. The header is written when the batch is taken for sending, because its producer
//! id, epoch and sequence are known only then.

mod crc;
mod header;
pub(crate) mod logged;
mod open;
mod read;
mod record;
mod run;
mod sealed;
mod varint;

pub use header::HEADER_LEN;
pub use header::Stamp;
pub use open::OpenBatch;
pub(crate) use read::ReadRecord;
pub use record::Header;
pub use record::RecordRef;
pub(crate) use record::renumber;
pub(crate) use run::Run;
pub use sealed::{SealedBatch, Settled, Token};
