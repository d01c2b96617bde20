//! Record batches: open while records are appended, sealed until their outcome is known.
//!
//! The form is Kafka's v2 (magic 2, KIP-98). Records are written once, in their final form, into
//! leased memory; the header is made when the batch is taken, since only then its producer id,
//! epoch and sequence are known.

mod crc;
mod header;
mod open;
mod record;
mod sealed;
mod varint;

pub use header::HEADER_LEN;
pub use header::Stamp;
pub use open::OpenBatch;
pub use record::Header;
pub use record::RecordRef;
pub use sealed::{Payload, SealedBatch, Settled, Token};
