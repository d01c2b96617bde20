//! The byte stream under a connection. TLS joins here as another variant.

use std::io::{self, IoSlice};

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

pub(super) enum Transport {
    Plain(TcpStream),
}

pub(super) enum ReadHalf {
    Plain(OwnedReadHalf),
}

pub(super) enum WriteHalf {
    Plain(OwnedWriteHalf),
}

impl Transport {
    pub fn split(self) -> (ReadHalf, WriteHalf) {
        match self {
            Transport::Plain(stream) => {
                let (read, write) = stream.into_split();
                (ReadHalf::Plain(read), WriteHalf::Plain(write))
            }
        }
    }
}

impl ReadHalf {
    /// Reads into the spare room of `buffer`. Loses nothing if dropped while it waits.
    pub async fn read(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        match self {
            ReadHalf::Plain(half) => half.read_buf(buffer).await,
        }
    }
}

impl WriteHalf {
    pub async fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            WriteHalf::Plain(half) => half.write_vectored(slices).await,
        }
    }
}
