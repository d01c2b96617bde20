//! The wire: requests to bytes and answers from bytes, and nothing else.
//!
//! Everything here is synchronous and pure. Answers are decoded by hand, because the generated
//! decoders reserve memory for whatever count an answer claims: a count of `i32::MAX` would abort
//! the process. Here a count is believed only as far as the bytes behind it reach.

mod api;
mod error;
mod header;
#[cfg(test)]
mod hostile;
mod init_producer_id;
pub(crate) mod metadata;
mod node;
mod produce;
mod produce_response;
mod reader;
mod versions;

pub use api::Api;
pub use error::WireError;
pub use header::{correlation_id, request_header, split_response};
pub use init_producer_id::{InitProducerIdResponse, encode as encode_init_producer_id};
pub use metadata::{MetadataResponse, TopicMetadata, encode as encode_metadata};
pub use node::Node;
pub use produce::{Batch, Envelope, TopicBatches, encode as encode_produce};
pub use produce_response::{LeaderHint, PartitionResponse, ProduceResponse, TopicKey};
pub use versions::{Versions, VersionsResponse, encode as encode_api_versions};
