//! The Kafka protocol: encodes requests and decodes responses.
//!
//! Everything here is synchronous and without side effects. Responses are decoded by hand:
//! generated decoders reserve memory for any count that a response claims, and a count of
//! `i32::MAX` would abort the process. Here a count is accepted only if enough bytes follow for
//! that many elements.

pub(crate) mod add_offsets_to_txn;
pub(crate) mod add_partitions_to_txn;
mod api;
#[cfg(any(test, feature = "cli"))]
pub(crate) mod describe_configs;
pub(crate) mod describe_transactions;
pub(crate) mod end_txn;
mod error;
pub(crate) mod fetch;
pub(crate) mod find_coordinator;
mod header;
#[cfg(test)]
mod hostile;
pub(crate) mod init_producer_id;
pub(crate) mod list_offsets;
pub(crate) mod metadata;
mod node;
mod produce;
mod produce_response;
mod reader;
pub(crate) mod sasl;
mod transaction;
pub(crate) mod txn_offset_commit;
mod versions;

pub use api::Api;
pub use error::WireError;
pub use header::{correlation_id, request_header, split_response};
pub use init_producer_id::{InitProducerIdResponse, encode as encode_init_producer_id};
pub use metadata::{MetadataResponse, TopicMetadata, encode as encode_metadata};
pub use node::Node;
pub use produce::{Batch, Envelope, TopicBatches, encode as encode_produce};
pub use produce_response::{LeaderHint, PartitionResponse, ProduceResponse, TopicKey};
pub use transaction::{Isolation, PartitionResult, TransactionProtocol, Transactor};
pub use versions::{Addressee, Versions, VersionsResponse, encode as encode_api_versions};
