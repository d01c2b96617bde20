//! How brokers are connected to.

use std::time::Duration;

use super::dial::SocketOptions;
use super::{Observer, Security};

#[derive(Debug, Clone)]
pub struct ConnectOptions {
    pub client_id: String,
    /// The limit for resolving the name and connecting, for all addresses of the endpoint together.
    pub setup_timeout: Duration,
    /// The limit for the handshake, and for each request of a [`super::ControlClient`].
    pub request_timeout: Duration,
    /// `None` leaves it to the operating system.
    pub send_buffer: Option<usize>,
    /// `None` leaves it to the operating system.
    pub receive_buffer: Option<usize>,
    pub security: Security,
    /// `metadata.cluster.check.enable`: tells brokers whom a connection is meant for, where that is
    /// known. Never with `metadata.recovery.strategy=none`, since the brokers would have to be looked
    /// up again.
    pub names_addressee: bool,
    pub observer: Observer,
}

impl ConnectOptions {
    pub(super) fn sockets(&self) -> SocketOptions {
        SocketOptions {
            setup_timeout: self.setup_timeout,
            request_timeout: self.request_timeout,
            send_buffer: self.send_buffer,
            receive_buffer: self.receive_buffer,
            observer: self.observer.clone(),
        }
    }
}
