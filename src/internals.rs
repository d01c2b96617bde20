//! What forebay's own tests, fuzzers and benches need of the inside.
//!
//! Only there with the feature `internals`, for nobody else, and without a promise: any of it may
//! change or go with any version.

use std::sync::Arc;

/// The time as the runtime has it, which tests may pause.
pub use crate::actors::now;
/// What a panic said.
pub use crate::core::panics::message as panic_message;

/// The receipt of a batch's record.
pub fn receipt(ack: &Arc<batch::Ack>, index: u32, timestamp: i64) -> crate::Receipt {
    crate::Receipt::new(Arc::clone(ack), index, timestamp)
}

/// Which batch a record is in.
pub fn batch_of(id: crate::RecordId) -> u64 {
    id.batch
}

/// What a record says that was not written before the producer closed.
pub fn closed(last: Option<Arc<str>>) -> crate::Reason {
    crate::Reason::Closed { last }
}

/// What reads partitions' logs, on connections as this configuration asks for them.
pub fn log_client(config: &crate::Config) -> Result<net::LogClient, crate::KeyMaterialError> {
    use crate::actors::{connect_options, security};
    let security = security::prepare(config, security::InCode::default())?;
    Ok(net::LogClient::new(connect_options(config, security)))
}

pub mod faults {
    //! Panics at chosen messages.
    pub use crate::actors::faults::{at_each, at_none, plan, stop};
}

pub mod net {
    //! Connections that are not sockets, frames, and what is read of logs.
    pub use crate::core::cluster::Nodes;
    pub use crate::core::endpoint::Endpoint;
    pub use crate::core::lookup::{Follows, Refusal};
    pub use crate::core::wire::{LeaderHint, Node};
    pub use crate::net::log::{LeaderOf, LogClient, LogOf, Read, ReadError, Refused};
    pub use crate::net::simulated::{Dialler, Dialling, Halves, dial_with};
    pub use crate::net::{NetError, split_frame};
}

pub mod wire {
    //! Responses, decoded.
    pub use crate::core::cluster::ClusterView;
    pub use crate::core::wire::add_offsets_to_txn::AddOffsetsToTxnResponse;
    pub use crate::core::wire::add_partitions_to_txn::AddPartitionsToTxnResponse;
    pub use crate::core::wire::describe_transactions::DescribeTransactionsResponse;
    pub use crate::core::wire::end_txn::EndTxnResponse;
    pub use crate::core::wire::fetch::FetchResponse;
    pub use crate::core::wire::find_coordinator::FindCoordinatorResponse;
    pub use crate::core::wire::list_offsets::ListOffsetsResponse;
    pub use crate::core::wire::txn_offset_commit::TxnOffsetCommitResponse;
    pub use crate::core::wire::{
        Api, InitProducerIdResponse, MetadataResponse, ProduceResponse, TransactionProtocol,
        Versions, VersionsResponse, split_response,
    };
}

pub mod security {
    //! Logins as brokers may answer them, and files with certificates and keys as they may be.
    pub use crate::core::security::exchange as scram_exchange;
    pub use crate::core::wire::sasl::{AuthenticateResponse, HandshakeResponse};
    #[cfg(feature = "tls")]
    pub use crate::net::open_bytes as open_key_material;
}

pub mod batch {
    //! Batches, the memory they are made of, and where they are filled.
    pub use crate::core::ack::Ack;
    pub use crate::core::batch::logged::{Control, LogError, LoggedBatch, LoggedBatches};
    pub use crate::core::batch::{HEADER_LEN, OpenBatch, RecordRef, SealedBatch, Stamp};
    pub use crate::core::compress::{Compressor, decompress};
    pub use crate::core::memory::{Budget, Buffer, Lease, Shelf, blank};
    pub use crate::core::stage::{Append, AppendOptions, Appended, Stage};
}

pub mod ledger {
    //! A partition's batches from their sealing to their outcome.
    pub use crate::core::batch::{Settled, Token};
    pub use crate::core::identity::{Identities, Identity, NextIdentity, Wanted};
    pub use crate::core::ledger::{Attempt, Effects, Ledger, Lent, Load, Readiness, Report, Rules};
}

pub mod disk {
    //! Files, their syncs, and a disk that forgets.
    pub use crate::core::spool::Region;
    pub use crate::disk::{
        DiskError, DiskEvent, DiskEvents, FileOrder, Making, ModelDisk, ModelStore, Round,
        Simulation, Store, StoredFile, SyncQueue, Synced, Ticket, Watched, simulate,
    };
}

pub mod dispatch {
    //! Batches on their way into a request.
    pub use crate::core::dispatch::{OutgoingBatch, gather};
    pub use crate::core::partitioner::Sticky;
}

pub mod spool {
    //! What is on disk of records that were accepted, and what it is worth.
    pub use crate::core::spool::*;
}
