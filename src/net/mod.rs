//! Sockets: connecting to brokers, writing requests, reading responses. Only this module uses
//! tokio's sockets and timers.
//!
//! A connection consists of a reader and a writer, so that two tasks can own them. The code that
//! writes requests limits the wait for their responses. Only [`connect`] and [`ControlClient`] have
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
pub(crate) use link::{LinkEvent, run as run_link};
