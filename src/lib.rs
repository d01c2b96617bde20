//! forebay: an actor-based Kafka producer runtime for actix.
//!
//! An application starts a [`Producer`], sends [`Record`]s to it from wherever it likes, and gets
//! one truthful outcome for every record: [`Acked`], or
//! [`NotWritten`](Unconfirmed::NotWritten), or [`Unknown`](Unconfirmed::Unknown).
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

#[path = "../actors/mod.rs"]
mod actors;
mod api;
pub mod config;
mod core;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod intake;
mod meters;
mod net;
#[cfg(feature = "bench")]
#[doc(hidden)]
#[path = "../benches/micro/rooms.rs"]
pub mod rooms;
#[cfg(test)]
#[path = "../tests/simulation/mod.rs"]
mod simulation;

pub mod partitioner {
    //! Who chooses the partition of a record that names none.

    pub use crate::core::partitioner::{
        Partitioner, RoundRobin, TopicPartitions, murmur2, partition_for_key, to_positive,
    };
}

pub use crate::core::ack::{BorrowedReceipt, Receipt, RecordId};
pub use crate::core::batch::Header;
pub use crate::core::broker_error::BrokerError;
pub use crate::core::delivery::BatchOutcome;
pub use crate::core::figures::{BrokerFigures, Figures, PartitionFigures, PoolFigures};
pub use crate::core::outcome::{Acked, Outcome, Reason, Unconfirmed};
pub use crate::core::receipts::Receipts;
pub use crate::core::record::{AsRecord, BorrowedRecord, Record, TopicPartition};
pub use crate::core::supervision::Component;
pub use actors::lifecycle::{CloseError, Lifecycle, LifecycleEvent, Supervise};
pub use actors::{PartitionActor, SendRecord};
pub use api::error::StartError;
pub use api::lane::{Lane, SinkError};
pub use api::producer::{Placement, Producer, ProducerBuilder};
pub use api::serializer::{BigEndian, FromFn, SerializeError, Serializer, Utf8};
pub use api::typed_producer::TypedProducer;
pub use config::{Config, ConfigError};
pub use intake::SliceError;
pub use intake::error::{SendError, TrySendError};
pub use intake::interceptor::Interceptor;

/// The examples in the README compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
