//! forebay: an actor-based Kafka producer runtime for actix.
//!
//! An application starts a [`Producer`], sends [`Record`]s to it from wherever it likes, and gets
//! one truthful outcome for every record: [`Acked`], or
//! [`NotWritten`](Undelivered::NotWritten), or [`Unknown`](Undelivered::Unknown).
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

// A test may unwrap, panic and read a clock; the library may not.
#![cfg_attr(
    not(test),
    warn(
        clippy::disallowed_methods,
        clippy::expect_used,
        clippy::panic,
        clippy::todo,
        clippy::unreachable,
        clippy::unwrap_used
    )
)]

mod ack;
#[path = "../actors/mod.rs"]
pub mod actors;
mod batch;
mod broker_error;
pub mod compress;
pub mod config;
mod delivery;
mod error;
mod figures;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod identity;
mod intake;
mod interceptor;
mod lane;
mod lifecycle;
mod metadata;
mod meters;
mod net;
mod outcome;
mod panics;
mod partition;
pub mod partitioner;
mod pool;
mod prefetch;
mod producer;
mod receipts;
mod record;
#[cfg(feature = "bench")]
#[doc(hidden)]
#[path = "../benches/micro/rooms.rs"]
pub mod rooms;
mod sender;
mod serializer;
#[cfg(test)]
#[path = "../tests/simulation/mod.rs"]
mod simulation;
mod supervision;
mod topics;
mod typed_producer;
mod wall_clock;
mod wire;

pub use ack::{Receipt, RecordId};
pub use actors::{PartitionActor, Produce};
pub use broker_error::BrokerError;
pub use config::{Config, ConfigError};
pub use delivery::Delivered;
pub use error::{CloseError, SendError, StartError, TrySendError};
pub use figures::{BrokerFigures, Figures, PartitionFigures, PoolFigures};
pub use intake::SliceError;
pub use interceptor::Interceptor;
pub use lane::{Lane, Sent, SinkError};
pub use lifecycle::{Lifecycle, LifecycleEvent, Supervise};
pub use outcome::{Acked, Outcome, Reason, Undelivered};
pub use producer::{Placement, Producer, ProducerBuilder};
pub use receipts::Receipts;
pub use record::{AsRecord, BorrowedRecord, Header, Record, TopicPartition};
pub use serializer::{BigEndian, FromFn, SerializeError, Serializer, Utf8};
pub use supervision::Part;
pub use typed_producer::TypedProducer;

/// The examples in the README compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
