//! Sockets: connecting to brokers, writing requests, reading responses. Only this module uses
//! tokio's sockets.
//!
//! A connection consists of a reader and a writer, so that two tasks can own them. The code that
//! writes requests limits the wait for their responses. Only [`connect`], [`ControlClient`],
//! [`coordinator::CoordinatorClient`] and [`log::LogClient`] have deadlines of their own.

mod advice;
#[cfg(feature = "http")]
mod assertion;
mod aws;
mod blocking;
mod connection;
mod control;
mod coordinator;
mod dial;
mod error;
#[cfg(test)]
mod fake;
mod frames;
mod link;
mod live;
pub(crate) mod log;
mod login;
mod observer;
mod options;
mod renewal;
mod security;
#[cfg(feature = "internals")]
pub(crate) mod simulated;
mod term;
#[cfg(feature = "tls")]
mod tls;
#[cfg(feature = "http")]
mod token_endpoint;
mod tokens;
mod transaction;
mod transport;

use crate::core::endpoint::Endpoint;
pub use connection::{Connection, connect};
pub use control::ControlClient;
pub(crate) use coordinator::CoordinatorClient;
pub use error::NetError;
#[cfg(feature = "internals")]
pub use frames::split_frame;
pub use frames::{FrameReader, FrameWriter};
pub(crate) use link::{LinkEvent, run as run_link};
pub use login::Login;
#[cfg(feature = "cli")]
pub use observer::Certificates;
pub use observer::{Observer, Seen};
pub use options::ConnectOptions;
pub use security::Security;
#[cfg(all(feature = "tls", feature = "internals"))]
pub use tls::open_bytes;
#[cfg(feature = "tls")]
pub(crate) use tls::{OwnTls, Tls};
pub use tokens::TokenGetter;
pub(crate) use transaction::TransactionClient;
