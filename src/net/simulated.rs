//! Connections that tests make in place of a socket.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite};

use super::Endpoint;

/// What comes from the broker, and what goes to it.
pub type Halves = (Box<dyn AsyncRead + Unpin>, Box<dyn AsyncWrite + Unpin>);

/// A connection that is being made.
pub type Dialling = Pin<Box<dyn Future<Output = io::Result<Halves>>>>;

/// Makes connections to a host and a port.
pub type Dialler = Box<dyn Fn(&str, u16) -> Dialling>;

thread_local! {
    static DIALLER: RefCell<Option<Dialler>> = const { RefCell::new(None) };
}

/// From now on this thread's connections are made by `dialler`, and by sockets without one.
pub fn dial_with(dialler: Option<Dialler>) {
    DIALLER.set(dialler);
}

pub(super) fn dial(to: &Endpoint) -> Option<Dialling> {
    DIALLER.with_borrow(|dialler| Some(dialler.as_ref()?(&to.host, to.port)))
}
