//! The byte stream of a connection. TLS would be another variant here.

use std::io::{self, IoSlice};

use bytes::BytesMut;
#[cfg(feature = "internals")]
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

#[cfg(feature = "internals")]
use super::simulated::Halves;

pub(super) enum Transport {
    Plain(TcpStream),
    /// The pipe from the broker, and the pipe to it.
    #[cfg(feature = "internals")]
    Simulated(Halves),
}

pub(super) enum ReadHalf {
    Plain(OwnedReadHalf),
    #[cfg(feature = "internals")]
    Simulated(Box<dyn AsyncRead + Unpin>),
}

pub(super) enum WriteHalf {
    Plain(OwnedWriteHalf),
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
            #[cfg(feature = "internals")]
            ReadHalf::Simulated(half) => half.read_buf(buffer).await,
        }
    }
}

impl WriteHalf {
    pub async fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            WriteHalf::Plain(half) => half.write_vectored(slices).await,
            #[cfg(feature = "internals")]
            WriteHalf::Simulated(half) => half.write_vectored(slices).await,
        }
    }
}
