//! The socket work: connect, write, read, time out. Tokio stays in here.
//!
//! A connection comes apart into a reader and a writer, so that two tasks can own them. Whoever
//! writes requests bounds the wait for their answers; only [`connect`] and [`ControlClient`] have
//! deadlines of their own.

mod connection;
mod control;
mod error;
#[cfg(test)]
mod fake;
mod frames;
mod link;
#[cfg(feature = "internals")]
pub(crate) mod simulated;
mod transport;

use crate::core::endpoint::Endpoint;
pub use connection::{ConnectOptions, Connection, connect};
pub use control::ControlClient;
pub use error::NetError;
#[cfg(feature = "internals")]
pub use frames::split_frame;
pub use frames::{FrameReader, FrameWriter};
pub(crate) use link::{Gate, LinkEvent, Outbound, run as run_link};
