//! forebay: an actor-based Kafka producer runtime for actix.
//!
//! An application starts a [`Producer`], sends [`Record`]s to it from wherever it likes, and gets
//! one truthful [`Outcome`] for every record: [`Acked`], or
//! [`NotWritten`](Unconfirmed::NotWritten), or [`Unknown`](Unconfirmed::Unknown), or in a transaction
//! [`Aborted`](Unconfirmed::Aborted).
//!
//! ```no_run
//! use forebay::{Config, Producer, Record};
//!
//! #[actix::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let producer = Producer::start(Config::from_file("config.toml")?)?;
//!     let acked = producer.send(Record::to("greetings").value("hello")).await?.await?;
//!     println!("written at offset {:?}", acked.offset);
//!     producer.close(std::time::Duration::from_secs(10)).await?;
//!     Ok(())
//! }
//! ```
//!
//! # Where to find what
//!
//! - **Send a record**: [`Producer::send`], [`send_with`](Producer::send_with) a callback,
//!   [`try_send`](Producer::try_send) without waiting.
//! - **Send many records**: [`Producer::send_slice`]; a [`Lane`], where one task sends them alone;
//!   [`Receipts`] for their outcomes.
//! - **Send values of your own types**: [`TypedProducer`], with a [`Serializer`] each for keys and values.
//! - **Send from actors, and be told by messages**: [`SendRecord`], [`Producer::outcomes_to`],
//!   [`BatchOutcome`].
//! - **Send in transactions**: [`TransactionalProducer`], [`Transaction`].
//! - **Hear what became of what a process left in its spool**: [`ProducerBuilder::resumed_to`],
//!   [`Producer::resumed`].
//! - **Go on where a crash has ended it**: [`Source`].
//! - **Configure**: [`config`], under Kafka's own key names; [`ProducerBuilder`] for what is code.
//! - **Choose partitions**: [`partitioner`].
//! - **See and change records on their way**: [`Interceptor`].
//! - **See how it goes**: [`Producer::figures`], [`Producer::subscribe`]; the crates `metrics` and
//!   `tracing` are told, too.
//! - **Restart or retire a partition or a sender**: [`Producer::restart`], [`Producer::retire`],
//!   [`Supervise`].
//!
//! # Errors
//!
//! The text of an error says all of it, its cause included, and `source()` is `None`: so neither a log
//! line nor a printed chain of errors says anything twice. Causes are there as values, too, such as
//! [`SliceError::error`] or [`Unconfirmed::reason`].
//!
//! Types that may grow are `#[non_exhaustive]`: a `match` needs an arm for what later versions add.

// A test may unwrap, panic, read a clock and tell a long story; the library may not.
#![cfg_attr(
    not(test),
    warn(
        clippy::disallowed_methods,
        clippy::expect_used,
        clippy::panic,
        clippy::todo,
        clippy::too_many_lines,
        clippy::unreachable,
        clippy::unwrap_used
    )
)]
// Without the feature, as applications have it, the library is held to these.
#![cfg_attr(
    feature = "internals",
    allow(
        clippy::len_without_is_empty,
        missing_docs,
        unnameable_types,
        reason = "what is public for tests alone has no pages"
    )
)]

#[path = "../actors/mod.rs"]
mod actors;
mod api;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod check;
pub mod config;
mod core;
#[cfg_attr(
    not(any(test, feature = "internals")),
    allow(
        dead_code,
        unused_imports,
        reason = "tests and the model of a disk use all of it"
    )
)]
mod disk;
mod intake;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod internals;
mod meters;
mod net;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod spool;

pub mod partitioner {
    //! Who chooses the partition of a record that names none.

    pub use crate::core::partitioner::{
        Partitioner, RoundRobin, TopicPartitions, murmur2, partition_for_key,
    };
}

pub mod transaction {
    //! Sending in transactions: records that are all there for a `read_committed` reader, or none.
    //!
    //! [`TransactionalProducer`](crate::TransactionalProducer) begins a
    //! [`Transaction`](crate::Transaction). What is here is for one: its handles, its receipts, and how it
    //! ended. The names are those of sending without transactions where they mean the same.

    pub use crate::actors::SendInTransaction;
    pub use crate::api::transaction::{Handle, InDoubt, Lane, NotCommitted};
    pub use crate::core::transaction::{
        Appended, BorrowedReceipt, Cause, GroupMetadata, ReadUpTo, Receipt, Receipts,
        TransactionError,
    };
}

pub use crate::core::ack::{BorrowedReceipt, Receipt, RecordId};
pub use crate::core::batch::Header;
pub use crate::core::broker_error::BrokerError;
pub use crate::core::delivery::BatchOutcome;
pub use crate::core::figures::{
    BrokerFigures, CertificateFigures, Figures, LookupFigures, PartitionFigures, PoolFigures,
    SpoolFigures,
};
pub use crate::core::outcome::{Acked, Outcome, Reason, Unconfirmed};
pub use crate::core::receipts::Receipts;
pub use crate::core::record::{AsRecord, BorrowedRecord, Record, TopicPartition};
pub use crate::core::security::{
    AwsCredentialSource, AwsCredentials, KeyMaterialError, LoginRefusal, SecurityError, Token,
    TokenError, TokenSource,
};
pub use crate::core::spool::{FromSource, Resumed, ResumedOutcome};
pub use crate::core::supervision::Component;
pub use crate::core::tally::Outcomes;
pub use actors::lifecycle::{CloseError, Lifecycle, LifecycleEvent, Supervise};
pub use actors::{PartitionActor, SendRecord};
pub use api::builder::ProducerBuilder;
pub use api::error::StartError;
pub use api::lane::{Lane, SinkError};
pub use api::placement::Placement;
pub use api::producer::Producer;
pub use api::serializer::{BigEndian, FromFn, SerializeError, Serializer, Utf8};
pub use api::source::Source;
pub use api::transaction::{Transaction, TransactionalProducer};
pub use api::typed_producer::TypedProducer;
pub use config::{Config, ConfigError};
pub use intake::error::{RecordPart, SendError, TrySendError, WaitsFor};
pub use intake::interceptor::Interceptor;
pub use intake::source_error::SourceError;
pub use intake::{SliceError, check_topic_name};

/// The TLS library, in the version that [`ProducerBuilder::tls`] takes.
#[cfg(feature = "tls")]
pub use rustls;

/// The examples in the README compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// So do those of transactions.
#[cfg(doctest)]
#[doc = include_str!("../docs/transactions.md")]
struct Transactions;

/// So do those of looking for what is in doubt.
#[cfg(doctest)]
#[doc = include_str!("../docs/unknown.md")]
struct Unknown;

/// So do those of the spool.
#[cfg(doctest)]
#[doc = include_str!("../docs/spool.md")]
struct Spool;

/// So do those of the other ways to send.
#[cfg(doctest)]
#[doc = include_str!("../docs/sending.md")]
struct Sending;
