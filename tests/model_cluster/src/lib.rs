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
mod kafka;
mod log;
mod network;

pub use batch::{HEADER, Header, values};
pub use cluster::{At, Broker, Cluster, Partition, Topic, View};
pub use kafka::{Conditions, Kafka, Misdeed, Observer, Settings, rng};
pub use log::{Appended, Log, ReplicaState, Stored, code};
pub use network::{Cut, Listener, listen, virtual_time};
