//! forebay: an actor-based Kafka producer runtime for actix.

pub mod compress;
pub mod config;
mod net;
pub mod partitioner;
mod wire;
