//! The byte stream of a connection. TLS would be another variant here.

use std::io::{self, IoSlice};

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

#[cfg(test)]
use crate::simulation::Pipe;

pub(super) enum Transport {
    Plain(TcpStream),
    /// The pipe from the broker, and the pipe to it.
    #[cfg(test)]
    Simulated(Pipe, Pipe),
}

pub(super) enum ReadHalf {
    Plain(OwnedReadHalf),
    #[cfg(test)]
    Simulated(Pipe),
}

pub(super) enum WriteHalf {
    Plain(OwnedWriteHalf),
    #[cfg(test)]
    Simulated(Pipe),
}

impl Transport {
    pub fn split(self) -> (ReadHalf, WriteHalf) {
        match self {
            Transport::Plain(stream) => {
                let (read, write) = stream.into_split();
                (ReadHalf::Plain(read), WriteHalf::Plain(write))
            }
            #[cfg(test)]
            Transport::Simulated(read, write) => {
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
            #[cfg(test)]
            ReadHalf::Simulated(pipe) => pipe.read(buffer).await,
        }
    }
}

impl WriteHalf {
    pub async fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            WriteHalf::Plain(half) => half.write_vectored(slices).await,
            #[cfg(test)]
            WriteHalf::Simulated(pipe) => pipe.write(slices).await,
        }
    }
}
