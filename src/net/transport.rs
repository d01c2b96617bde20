//! The byte stream of a connection: a socket, or TLS over one.

use std::io::{self, IoSlice};

use bytes::BytesMut;
#[cfg(feature = "internals")]
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
#[cfg(feature = "tls")]
use tokio_rustls::client::TlsStream;

#[cfg(feature = "internals")]
use super::simulated::Halves;

pub(super) enum Transport {
    Plain(TcpStream),
    #[cfg(feature = "tls")]
    Tls(Box<TlsStream<TcpStream>>),
    /// The pipe from the broker, and the pipe to it.
    #[cfg(feature = "internals")]
    Simulated(Halves),
}

pub(super) enum ReadHalf {
    Plain(OwnedReadHalf),
    /// Both halves share one state. As one task has both, neither waits for the other.
    #[cfg(feature = "tls")]
    Tls(tokio::io::ReadHalf<Box<TlsStream<TcpStream>>>),
    #[cfg(feature = "internals")]
    Simulated(Box<dyn AsyncRead + Unpin>),
}

pub(super) enum WriteHalf {
    Plain(OwnedWriteHalf),
    #[cfg(feature = "tls")]
    Tls(tokio::io::WriteHalf<Box<TlsStream<TcpStream>>>),
    #[cfg(feature = "internals")]
    Simulated(Box<dyn AsyncWrite + Unpin>),
}

impl Transport {
    pub fn split(self) -> (ReadHalf, WriteHalf) {
        match self {
            Transport::Plain(stream) => {
                let (read, write) = stream.into_split();
                (ReadHalf::Plain(read), WriteHalf::Plain(write))
            }
            #[cfg(feature = "tls")]
            Transport::Tls(stream) => {
                let (read, write) = tokio::io::split(stream);
                (ReadHalf::Tls(read), WriteHalf::Tls(write))
            }
            #[cfg(feature = "internals")]
            Transport::Simulated((read, write)) => {
                (ReadHalf::Simulated(read), WriteHalf::Simulated(write))
            }
        }
    }
}

impl ReadHalf {
    /// Reads into the spare capacity of `buffer`. Cancelling it loses no bytes.
    pub async fn read(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        match self {
            ReadHalf::Plain(half) => half.read_buf(buffer).await,
            #[cfg(feature = "tls")]
            ReadHalf::Tls(half) => half.read_buf(buffer).await,
            #[cfg(feature = "internals")]
            ReadHalf::Simulated(half) => half.read_buf(buffer).await,
        }
    }
}

impl ReadHalf {
    #[cfg(feature = "tls")]
    pub fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }
}

impl WriteHalf {
    pub async fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            WriteHalf::Plain(half) => half.write_vectored(slices).await,
            // TLS copies the slices into its records, once, and encrypts them there.
            #[cfg(feature = "tls")]
            WriteHalf::Tls(half) => half.write_vectored(slices).await,
            #[cfg(feature = "internals")]
            WriteHalf::Simulated(half) => half.write_vectored(slices).await,
        }
    }

    /// Hands what was encrypted and did not fit into the socket to the kernel.
    #[cfg(feature = "tls")]
    pub async fn flush(&mut self) -> io::Result<()> {
        match self {
            WriteHalf::Tls(half) => half.flush().await,
            // A socket keeps nothing back.
            _ => Ok(()),
        }
    }
}
