//! Connections that exist in memory only, and can be cut at any byte.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, Waker};

use bytes::{BufMut, Bytes, BytesMut};

use crate::core::endpoint::Endpoint;

/// One direction of a connection: what is written at one end is read at the other.
#[derive(Clone)]
pub(crate) struct Pipe(
    Rc<RefCell<Flow>>,
    #[expect(dead_code, reason = "it is there to be dropped")] Rc<End>,
);

/// What dropping a pipe means depends on which end it is.
struct End {
    flow: Rc<RefCell<Flow>>,
    reads: bool,
}

struct Flow {
    bytes: BytesMut,
    /// How much may wait to be read: the sockets' buffers.
    capacity: usize,
    /// Nothing will be written any more.
    ended: bool,
    /// Nobody reads any more, or the connection is cut.
    broken: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Flow {
    fn wake(&mut self) {
        let wakers = [self.reader.take(), self.writer.take()];
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let mut flow = self.flow.borrow_mut();
        match self.reads {
            true => flow.broken = true,
            false => flow.ended = true,
        }
        flow.wake();
    }
}

impl Pipe {
    /// A pipe's reading and writing end.
    fn pair(capacity: usize) -> (Self, Self) {
        let flow = Rc::new(RefCell::new(Flow {
            bytes: BytesMut::new(),
            capacity,
            ended: false,
            broken: false,
            reader: None,
            writer: None,
        }));
        let end = |reads| {
            let end = End {
                flow: Rc::clone(&flow),
                reads,
            };
            Self(Rc::clone(&flow), Rc::new(end))
        };
        (end(true), end(false))
    }

    /// Reads what is there; 0 bytes at the end.
    pub async fn read(&self, into: &mut BytesMut) -> io::Result<usize> {
        poll_fn(|context| {
            let mut flow = self.0.borrow_mut();
            if !flow.bytes.is_empty() {
                let read = flow.bytes.split();
                into.put_slice(&read);
                flow.wake();
                return Poll::Ready(Ok(read.len()));
            }
            if flow.broken {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            if flow.ended {
                return Poll::Ready(Ok(0));
            }
            flow.reader = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Writes what there is room for.
    pub async fn write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        poll_fn(|context| {
            let mut flow = self.0.borrow_mut();
            if flow.broken {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            let mut room = flow.capacity - flow.bytes.len().min(flow.capacity);
            if room == 0 {
                flow.writer = Some(context.waker().clone());
                return Poll::Pending;
            }
            let mut written = 0;
            for slice in slices {
                let part = &slice[..slice.len().min(room)];
                flow.bytes.put_slice(part);
                written += part.len();
                room -= part.len();
            }
            flow.wake();
            Poll::Ready(Ok(written))
        })
        .await
    }

    pub async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = self.write(&[IoSlice::new(bytes)]).await?;
            bytes = &bytes[written..];
        }
        Ok(())
    }
}

/// The broker's side of a connection.
pub(super) struct Connection {
    pub requests: Pipe,
    pub answers: Pipe,
    pub cut: Cut,
    buffer: BytesMut,
}

/// A grip on a connection from outside.
#[derive(Clone)]
pub(super) struct Cut {
    up: Rc<RefCell<Flow>>,
    down: Rc<RefCell<Flow>>,
}

impl Cut {
    /// Ends the connection for both sides. Of what the client has written, all but `kept` bytes
    /// never arrive; what had arrived is still worked on.
    pub fn cut(&self, kept: usize, reset: bool) {
        let mut up = self.up.borrow_mut();
        up.bytes.truncate(kept);
        up.ended = true;
        up.broken = true;
        up.wake();
        drop(up);
        let mut down = self.down.borrow_mut();
        down.bytes.clear();
        down.ended = true;
        down.broken |= reset;
        down.wake();
    }

    pub fn is_over(&self) -> bool {
        self.up.borrow().ended || self.down.borrow().broken
    }
}

impl Connection {
    /// Both sides of a new connection: the client reads from the first pipe and writes to the
    /// second.
    pub fn new(capacity: usize) -> ((Pipe, Pipe), Self) {
        let (requests, client_writes) = Pipe::pair(capacity);
        let (client_reads, answers) = Pipe::pair(capacity);
        let cut = Cut {
            up: Rc::clone(&requests.0),
            down: Rc::clone(&answers.0),
        };
        let broker = Self {
            requests,
            answers,
            cut,
            buffer: BytesMut::new(),
        };
        ((client_reads, client_writes), broker)
    }

    /// The next request without its length, `None` when there will be no more.
    pub async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(length) = self.buffer.first_chunk::<4>() {
                let length = u32::from_be_bytes(*length) as usize;
                if self.buffer.len() >= 4 + length {
                    let frame = self.buffer.split_to(4 + length);
                    return Some(frame.freeze().slice(4..));
                }
            }
            match self.arrived().await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// A cut makes writers fail; readers get what had arrived before it.
    async fn arrived(&mut self) -> io::Result<usize> {
        self.requests.read(&mut self.buffer).await
    }
}

/// Who listens where.
pub(super) type Listener = Box<dyn Fn() -> Dialled>;
type Dialled = Pin<Box<dyn Future<Output = io::Result<(Pipe, Pipe)>>>>;

thread_local! {
    static NETWORK: RefCell<Option<BTreeMap<(String, u16), Listener>>> =
        const { RefCell::new(None) };
}

/// From now on this thread's connections go to these listeners and nowhere else.
pub(super) fn install() {
    NETWORK.set(Some(BTreeMap::new()));
}

pub(super) fn uninstall() {
    NETWORK.set(None);
}

pub(super) fn listen(host: &str, port: u16, listener: Listener) {
    NETWORK.with_borrow_mut(|network| {
        if let Some(network) = network {
            network.insert((host.to_owned(), port), listener);
        }
    });
}

/// A connection, if this thread's network is a simulated one.
pub(crate) fn dial(to: &Endpoint) -> Option<Dialled> {
    NETWORK.with_borrow(|network| {
        let listener = network.as_ref()?.get(&(to.host.clone(), to.port));
        Some(match listener {
            Some(listener) => listener(),
            None => Box::pin(async { Err(io::ErrorKind::ConnectionRefused.into()) }),
        })
    })
}
