//! Splits received bytes into responses, and writes the bytes of requests.

use std::io::{self, IoSlice};
#[cfg(feature = "tls")]
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
#[cfg(feature = "tls")]
use tokio::time::timeout;

use super::transport::{ReadHalf, WriteHalf};
use super::{Endpoint, NetError};

/// Bytes of the largest response that is accepted. The metadata of a hundred thousand partitions is
/// much smaller.
pub const MAX_ANSWER: usize = 64 << 20;

/// The same before the broker has let this client in. Versions and what logins say are some kilobytes.
pub(super) const MAX_FIRST_ANSWER: usize = 1 << 20;

/// Bytes to reserve for a read.
const READ: usize = 32 << 10;

/// Spare bytes in the buffer below which more are reserved. Reading into fewer is not worth a
/// system call.
const LEAST_SPARE: usize = 4 << 10;

/// Slices that the kernel accepts in one vectored write (`IOV_MAX`).
const MAX_SLICES: usize = 1024;

/// Splits received bytes into responses, without copying them.
pub struct FrameReader {
    half: ReadHalf,
    buffer: BytesMut,
    /// Bytes of the largest response that is taken now.
    most: usize,
    endpoint: Endpoint,
}

impl FrameReader {
    pub(super) fn new(half: ReadHalf, endpoint: Endpoint) -> Self {
        Self {
            half,
            buffer: BytesMut::new(),
            most: MAX_FIRST_ANSWER,
            endpoint,
        }
    }

    /// The broker has let this client in: larger responses are taken.
    pub(super) fn let_in(&mut self) {
        self.most = MAX_ANSWER;
    }

    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The next response without its length prefix, if it has arrived already.
    pub fn at_hand(&mut self) -> Result<Option<Bytes>, NetError> {
        split(&mut self.buffer, &self.endpoint, self.most)
    }

    /// The next response without its length prefix, or `None` if the broker closed the connection
    /// between two responses. Cancelling it loses no bytes.
    pub async fn next(&mut self) -> Result<Option<Bytes>, NetError> {
        loop {
            if let Some(frame) = self.at_hand()? {
                return Ok(Some(frame));
            }
            // The buffer grows with the bytes that arrived, never with the announced length.
            if self.buffer.capacity() - self.buffer.len() < LEAST_SPARE {
                self.buffer.reserve(READ);
            }
            let read = match self.half.read(&mut self.buffer).await {
                // So TLS calls the end of a connection that the broker did not announce. Brokers that are
                // killed and proxies do not, and a frame says itself whether it is whole.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => 0,
                read => read.map_err(|error| self.fault(error))?,
            };
            match read {
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
}

/// How long a broker's last words are waited for.
#[cfg(feature = "tls")]
const LAST_WORDS: Duration = Duration::from_millis(200);

impl FrameReader {
    /// The error of a write that failed, or what the broker has said before it closed the connection. In
    /// TLS 1.3 it may refuse a client's certificate while the first request is being written.
    #[cold]
    pub(super) async fn last_words(&mut self, written: NetError) -> NetError {
        #[cfg(feature = "tls")]
        if self.half.is_tls()
            && let Ok(Err(said @ NetError::Security(_))) = timeout(LAST_WORDS, self.next()).await
        {
            return said;
        }
        written
    }

    #[cold]
    fn fault(&self, error: io::Error) -> NetError {
        #[cfg(feature = "tls")]
        return super::tls::while_reading(&self.endpoint, error);
        #[cfg(not(feature = "tls"))]
        return NetError::io(&self.endpoint, "reading from", error);
    }
}

/// Takes the first response off the buffer, without its length prefix, if all of it is there.
#[cfg(feature = "internals")]
pub fn split_frame(buffer: &mut BytesMut, endpoint: &Endpoint) -> Result<Option<Bytes>, NetError> {
    split(buffer, endpoint, MAX_ANSWER)
}

fn split(
    buffer: &mut BytesMut,
    endpoint: &Endpoint,
    most: usize,
) -> Result<Option<Bytes>, NetError> {
    let Some(&prefix) = buffer.first_chunk::<4>() else {
        return Ok(None);
    };
    let size = frame_size(prefix, endpoint, most)?;
    if buffer.len() - 4 < size {
        return Ok(None);
    }
    buffer.advance(4);
    Ok(Some(buffer.split_to(size).freeze()))
}

fn frame_size(prefix: [u8; 4], endpoint: &Endpoint, most: usize) -> Result<usize, NetError> {
    let endpoint = || endpoint.clone();
    let announced = i32::from_be_bytes(prefix);
    let Ok(size) = usize::try_from(announced) else {
        return Err(NetError::NegativeFrame {
            endpoint: endpoint(),
            size: announced,
        });
    };
    if size <= most {
        return Ok(size);
    }
    // Read as a length, the first bytes of HTTP, and of a TLS alert or handshake, are above the
    // limit. So no valid response is taken for them.
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
            cap: most,
        },
    })
}

/// Writes whole requests. If a write is cancelled or fails half way, the connection is useless,
/// because half a request was written. There is no deadline here: the caller has one.
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

    /// Writes all bytes of all slices. Afterwards the slices are in no defined state.
    pub async fn write(&mut self, mut slices: &mut [IoSlice<'_>]) -> Result<(), NetError> {
        // Removes empty slices from the front. A write of 0 bytes is then always a failure.
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
        #[cfg(feature = "tls")]
        if let Err(error) = self.half.flush().await {
            return Err(NetError::io(&self.endpoint, "writing to", error));
        }
        Ok(())
    }

    pub async fn write_all(&mut self, bytes: &[u8]) -> Result<(), NetError> {
        self.write(&mut [IoSlice::new(bytes)]).await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::timeout;

    use super::super::transport::Transport;
    use super::*;

    async fn pair() -> (FrameReader, FrameWriter, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (read, write) = Transport::Plain(near.expect("connected")).split();
        let endpoint = Endpoint::new("127.0.0.1", address.port());
        let mut reader = FrameReader::new(read, endpoint.clone());
        reader.let_in();
        (
            reader,
            FrameWriter::new(write, endpoint),
            far.expect("accepted").0,
        )
    }

    #[tokio::test]
    async fn answers_are_split_wherever_the_bytes_are_torn() {
        let frames: [&[u8]; 4] = [b"one", b"", b"three", &[7; 100_000]];
        let mut bytes = Vec::new();
        for frame in frames {
            bytes.extend((frame.len() as u32).to_be_bytes());
            bytes.extend(frame);
        }
        for torn in [1, 3, 4, 6, 7, 8, 11, 20, 50_000, bytes.len()] {
            let (mut reader, _writer, mut far) = pair().await;
            let bytes = bytes.clone();
            let sender = tokio::spawn(async move {
                let (head, tail) = bytes.split_at(torn);
                far.write_all(head).await.expect("open");
                tokio::time::sleep(Duration::from_millis(5)).await;
                far.write_all(tail).await.expect("open");
            });
            for frame in frames {
                let got = reader.next().await.expect("no error").expect("a frame");
                assert_eq!(&got[..], frame);
            }
            sender.await.expect("sent");
            assert!(reader.next().await.expect("a clean close").is_none());
        }
    }

    #[tokio::test]
    async fn a_close_inside_an_answer_is_an_error() {
        for sent in 1..9 {
            let (mut reader, _writer, mut far) = pair().await;
            far.write_all(&[0, 0, 0, 5, 1, 2, 3, 4, 5][..sent])
                .await
                .expect("open");
            drop(far);
            match reader.next().await {
                Err(NetError::Closed { partial, .. }) => assert_eq!(partial, sent),
                other => panic!("{sent} bytes: {other:?}"),
            }
        }
    }

    #[tokio::test]
    async fn a_read_that_is_dropped_loses_nothing() {
        let (mut reader, _writer, mut far) = pair().await;
        far.write_all(&[0, 0, 0, 2, 1]).await.expect("open");
        let short = Duration::from_millis(20);
        assert!(timeout(short, reader.next()).await.is_err());
        far.write_all(&[2]).await.expect("open");
        let got = reader.next().await.expect("no error").expect("a frame");
        assert_eq!(&got[..], [1, 2]);
    }

    #[tokio::test]
    async fn an_announced_size_reserves_nothing() {
        let (mut reader, _writer, mut far) = pair().await;
        let size = (MAX_ANSWER as u32).to_be_bytes();
        far.write_all(&size).await.expect("open");
        far.write_all(&[0; 100]).await.expect("open");
        drop(far);
        assert!(reader.next().await.is_err());
        assert!(reader.buffer.capacity() <= 2 * READ);
    }

    #[tokio::test]
    async fn a_broker_that_has_not_let_us_in_says_little() {
        let (reader, _writer, mut far) = pair().await;
        let mut reader = FrameReader::new(reader.half, reader.endpoint);
        let size = MAX_FIRST_ANSWER as u32;
        far.write_all(&(size + 1).to_be_bytes())
            .await
            .expect("open");
        let error = reader.next().await.expect_err("too much").to_string();
        assert!(
            error.contains("1048577 bytes, the most taken is 1048576"),
            "{error}"
        );
        reader.let_in();
        let rest = tokio::spawn(async move {
            far.write_all(&[0; (1 << 20) + 1]).await.expect("open");
            far
        });
        let got = reader.next().await.expect("no error").expect("a frame");
        assert_eq!(got.len(), MAX_FIRST_ANSWER + 1);
        rest.await.expect("written");
    }

    #[tokio::test]
    async fn answers_that_are_let_go_do_not_grow_the_buffer() {
        let (mut reader, _writer, mut far) = pair().await;
        let sender = tokio::spawn(async move {
            for _ in 0..2_000 {
                far.write_all(&[0, 0, 1, 0]).await.expect("open");
                far.write_all(&[9; 256]).await.expect("open");
            }
        });
        let mut count = 0;
        while let Some(frame) = reader.next().await.expect("no error") {
            assert_eq!(&frame[..], [9; 256]);
            count += 1;
        }
        sender.await.expect("sent");
        assert_eq!(count, 2_000);
        assert!(reader.buffer.capacity() <= 4 * READ);
    }

    #[tokio::test]
    async fn bad_sizes_are_named() {
        for (prefix, expected) in [
            (*b"HTTP", "answers HTTP"),
            ([0x15, 3, 3, 0], "expects TLS"),
            ([0x16, 3, 1, 0], "expects TLS"),
            ([0xff, 0xff, 0xff, 0xff], "announces an answer of -1 bytes"),
            ([0x80, 0, 0, 0], "announces an answer of -2147483648 bytes"),
            ([4, 0, 0, 1], "announces an answer of 67108865 bytes"),
            (
                [0x7f, 0xff, 0xff, 0xff],
                "announces an answer of 2147483647",
            ),
        ] {
            let (mut reader, _writer, mut far) = pair().await;
            far.write_all(&prefix).await.expect("open");
            let error = reader.next().await.expect_err("a bad size").to_string();
            assert!(error.contains(expected), "{error}");
            assert!(error.contains("127.0.0.1:"), "{error}");
        }
    }

    /// Its connection ends with a reset, so that a write fails before anything was read.
    #[cfg(feature = "tls")]
    #[tokio::test]
    async fn what_a_broker_said_is_not_lost_to_a_write_that_fails() {
        use super::super::Observer;
        use super::super::fake::{listen, tls};

        let signer = tls::Signer::new();
        let acceptor = signer.acceptor(true);
        let endpoint = listen(move |_, stream| {
            let acceptor = acceptor.clone();
            async move {
                let socket = socket2::SockRef::from(&stream);
                socket.set_linger(Some(Duration::ZERO)).expect("a socket");
                let refused = acceptor.accept(stream).await;
                assert!(refused.is_err(), "the client has no certificate");
            }
        });
        let endpoint = endpoint.await;
        let stream = TcpStream::connect(("127.0.0.1", endpoint.port)).await;
        let tls = tls::options(signer.trusted()).security.tls.expect("TLS");
        let observer = Observer::default();
        let stream = tls.connect(stream.expect("a listener"), &endpoint, &observer);
        let stream = Box::new(stream.await.expect("a handshake, as the client sees it"));
        let (read, write) = Transport::Tls(stream).split();
        let mut reader = FrameReader::new(read, endpoint.clone());
        let mut writer = FrameWriter::new(write, endpoint);
        let failed = loop {
            if let Err(error) = writer.write_all(&[0; 100]).await {
                break error;
            }
            tokio::task::yield_now().await;
        };
        assert_eq!(failed.security(), None);
        let said = reader.last_words(failed).await;
        let (error, certain) = said.security().expect("an alert");
        assert!(
            certain && error.to_string().contains("ssl.keystore.location"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn all_slices_are_written() {
        let (_reader, mut writer, mut far) = pair().await;
        let parts: Vec<Vec<u8>> = (0..3_000).map(|i| vec![i as u8; i % 700]).collect();
        let expected = parts.concat();
        let receiver = tokio::spawn(async move {
            let mut got = Vec::new();
            far.read_to_end(&mut got).await.expect("open");
            got
        });
        let mut slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        writer.write(&mut slices).await.expect("open");
        writer.write(&mut []).await.expect("nothing to do");
        writer.write_all(&[]).await.expect("nothing to do");
        drop((writer, _reader));
        assert!(receiver.await.expect("received") == expected);
    }

    #[tokio::test]
    async fn writing_to_a_closed_connection_fails() {
        let (_reader, mut writer, far) = pair().await;
        drop(far);
        let bytes = vec![0; 1 << 20];
        let mut outcome = Ok(());
        for _ in 0..100 {
            outcome = writer.write_all(&bytes).await;
            if outcome.is_err() {
                break;
            }
        }
        let error = outcome.expect_err("a closed connection");
        assert!(error.is_closed(), "{error}");
    }
}
