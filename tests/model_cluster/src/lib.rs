//! A model of a Kafka cluster, in memory and in virtual time: what a producer can see of it, and
//! everything that it may do wrong.
//!
//! Leaders, replicas, and brokers that believe what was true a moment ago; logs with Kafka 4's rules
//! for idempotent producers; connections that are pipes and can be cut at any byte. All chance is
//! drawn from one generator, so that whoever seeds it can repeat what happened.
//!
//! ```no_run
//! # use forebay_model_cluster::{Cluster, Kafka, Settings, rng, virtual_time};
//! virtual_time(async {
//!     let mut rng = rng(7);
//!     let cluster = Cluster::new(3, &[1], &mut rng);
//!     let kafka = Kafka::start(Settings::FAIR, cluster, rng, ());
//!     kafka.kill(0, false);
//! });
//! ```

mod batch;
mod broker;
mod cluster;
mod coordinator;
mod fetch;
mod group;
mod kafka;
mod log;
mod markers;
mod metadata;
mod network;
mod produce;
mod producers;
pub mod raw;
mod reader;
mod requests;
#[cfg(test)]
mod tests;
mod transaction;

pub use batch::{HEADER, Header, Marker, values};
pub use cluster::{At, Broker, Cluster, Partition, Topic, View};
pub use coordinator::{Breach, Kind};
pub use group::{Group, Member, Place};
pub use kafka::{Conditions, Kafka, Misdeed, Observer, Settings, Transactions, rng};
pub use log::{Appended, Log, ReplicaState, Stored, code};
pub use network::{Cut, Listener, listen, virtual_time};
pub use producers::{Ended, Guard, Open};
pub use transaction::{Identity, LAST_EPOCH, Participant, State, Transaction, V1, V2, Version};
