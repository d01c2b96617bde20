//! Frames out of a stream of bytes, and bytes of a request into it.

use std::io::{self, IoSlice};

use bytes::{Buf, Bytes, BytesMut};

use super::transport::{ReadHalf, WriteHalf};
use super::{Endpoint, NetError};

/// The largest answer taken. Metadata of a hundred thousand partitions stays well below it.
pub const MAX_ANSWER: usize = 64 << 20;

/// How much one read asks for.
const READ: usize = 32 << 10;

/// Less spare room than this is not worth a system call.
const LEAST_SPARE: usize = 4 << 10;

/// What the kernel takes in one vectored write (`IOV_MAX`).
const MAX_SLICES: usize = 1024;

/// Splits what a broker sends into answers, without copying them.
pub struct FrameReader {
    half: ReadHalf,
    buffer: BytesMut,
    endpoint: Endpoint,
}

impl FrameReader {
    pub(super) fn new(half: ReadHalf, endpoint: Endpoint) -> Self {
        Self {
            half,
            buffer: BytesMut::new(),
            endpoint,
        }
    }

    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The next answer without its length prefix, or `None` if the broker closed the connection
    /// between two answers. Loses nothing if dropped while it waits.
    pub async fn next(&mut self) -> Result<Option<Bytes>, NetError> {
        loop {
            if let Some(frame) = self.split()? {
                return Ok(Some(frame));
            }
            // The buffer grows with what has arrived, never with what was announced.
            if self.buffer.capacity() - self.buffer.len() < LEAST_SPARE {
                self.buffer.reserve(READ);
            }
            let read = self.half.read(&mut self.buffer).await;
            match read.map_err(|error| NetError::io(&self.endpoint, "reading from", error))? {
                0 if self.buffer.is_empty() => return Ok(None),
                0 => {
                    return Err(NetError::Closed {
                        endpoint: self.endpoint.clone(),
                        partial: self.buffer.len(),
                    });
                }
                _ => {}
            }
        }
    }

    fn split(&mut self) -> Result<Option<Bytes>, NetError> {
        let Some(&prefix) = self.buffer.first_chunk::<4>() else {
            return Ok(None);
        };
        let size = self.frame_size(prefix)?;
        if self.buffer.len() - 4 < size {
            return Ok(None);
        }
        self.buffer.advance(4);
        Ok(Some(self.buffer.split_to(size).freeze()))
    }

    fn frame_size(&self, prefix: [u8; 4]) -> Result<usize, NetError> {
        let endpoint = || self.endpoint.clone();
        let announced = i32::from_be_bytes(prefix);
        let Ok(size) = usize::try_from(announced) else {
            return Err(NetError::NegativeFrame {
                endpoint: endpoint(),
                size: announced,
            });
        };
        if size <= MAX_ANSWER {
            return Ok(size);
        }
        // Read as a length, the first bytes of HTTP and of a TLS alert or handshake are beyond
        // the cap, so no answer is mistaken for them.
        Err(match prefix {
            [b'H', b'T', b'T', b'P'] => NetError::SpeaksHttp {
                endpoint: endpoint(),
            },
            [0x15 | 0x16, 0x03, ..] => NetError::SpeaksTls {
                endpoint: endpoint(),
            },
            _ => NetError::FrameTooLarge {
                endpoint: endpoint(),
                size,
                cap: MAX_ANSWER,
            },
        })
    }
}

/// Writes whole requests. A write that is dropped or fails half-way leaves half a request on the
/// wire: the connection is of no use then. There is no deadline here; the caller has one.
pub struct FrameWriter {
    half: WriteHalf,
    endpoint: Endpoint,
}

impl FrameWriter {
    pub(super) fn new(half: WriteHalf, endpoint: Endpoint) -> Self {
        Self { half, endpoint }
    }

    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Writes all bytes of all slices, and leaves the slices in no particular state.
    pub async fn write(&mut self, mut slices: &mut [IoSlice<'_>]) -> Result<(), NetError> {
        // Takes empty slices off the front, so that a write of 0 bytes can only be a failure.
        IoSlice::advance_slices(&mut slices, 0);
        while !slices.is_empty() {
            let batch = &slices[..slices.len().min(MAX_SLICES)];
            let written = match self.half.write(batch).await {
                Ok(0) => Err(io::ErrorKind::WriteZero.into()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other,
            };
            let written =
                written.map_err(|error| NetError::io(&self.endpoint, "writing to", error))?;
            IoSlice::advance_slices(&mut slices, written);
        }
        Ok(())
    }

    pub async fn write_all(&mut self, bytes: &[u8]) -> Result<(), NetError> {
        self.write(&mut [IoSlice::new(bytes)]).await
    }
}
