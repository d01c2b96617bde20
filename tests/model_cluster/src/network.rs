//! Connections that exist in memory only, and can be cut at any byte.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::{BufMut, Bytes, BytesMut};
use forebay::internals::net::{Dialling, Halves, dial_with};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::LocalSet;

/// One direction of a connection: what is written at one end is read at the other.
#[derive(Clone)]
pub struct Pipe(
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

    /// Reads what is there, up to `most` bytes; none at the end.
    fn poll_read(&self, context: &mut Context<'_>, most: usize) -> Poll<io::Result<BytesMut>> {
        let mut flow = self.0.borrow_mut();
        if !flow.bytes.is_empty() {
            let most = most.min(flow.bytes.len());
            let read = flow.bytes.split_to(most);
            flow.wake();
            return Poll::Ready(Ok(read));
        }
        if flow.broken {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if flow.ended {
            return Poll::Ready(Ok(BytesMut::new()));
        }
        flow.reader = Some(context.waker().clone());
        Poll::Pending
    }

    /// Writes what there is room for.
    fn poll_write(
        &self,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
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
    }

    /// Reads what is there; 0 bytes at the end.
    pub async fn read(&self, into: &mut BytesMut) -> io::Result<usize> {
        let read = poll_fn(|context| self.poll_read(context, usize::MAX)).await?;
        into.put_slice(&read);
        Ok(read.len())
    }

    pub async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let slices = [IoSlice::new(bytes)];
            let written = poll_fn(|context| self.poll_write(context, &slices)).await?;
            bytes = &bytes[written..];
        }
        Ok(())
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pipe::poll_read(&self, context, into.remaining());
        read.map_ok(|read| into.put_slice(&read))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pipe::poll_write(&self, context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pipe::poll_write(&self, context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// The broker's side of a connection.
pub struct Connection {
    pub requests: Pipe,
    pub answers: Pipe,
    pub cut: Cut,
    buffer: BytesMut,
}

/// A grip on a connection from outside.
#[derive(Clone)]
pub struct Cut {
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
    /// Both sides of a new connection, the client's first.
    pub fn new(capacity: usize) -> (Halves, Self) {
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
        ((Box::new(client_reads), Box::new(client_writes)), broker)
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

/// Whoever listens at an address makes connections, or refuses to.
pub type Listener = Box<dyn Fn() -> Dialling>;

thread_local! {
    static LISTENERS: RefCell<BTreeMap<(String, u16), Listener>> = RefCell::default();
}

/// Has somebody listen on this thread's network.
pub fn listen(host: &str, port: u16, listener: Listener) {
    let address = (host.to_owned(), port);
    LISTENERS.with_borrow_mut(|listeners| listeners.insert(address, listener));
}

thread_local! {
    /// Where tasks of the brokers run: they go on when a process ends that has tasks of its own.
    static BROKERS: RefCell<Option<Rc<LocalSet>>> = const { RefCell::new(None) };
}

/// Has a broker do something, whoever is running.
///
/// # Panics
///
/// Outside of [`virtual_time`].
pub(crate) fn spawn(task: impl Future<Output = ()> + 'static) {
    let brokers = BROKERS.with_borrow(Clone::clone);
    brokers.expect("virtual time").spawn_local(task);
}

/// A network on this thread, until this is dropped: connections go to those who listen, and nowhere
/// else.
struct Network;

impl Network {
    fn up() -> Self {
        dial_with(Some(Box::new(|host, port| {
            LISTENERS.with_borrow(|listeners| match listeners.get(&(host.to_owned(), port)) {
                Some(listener) => listener(),
                None => Box::pin(async { Err(io::ErrorKind::ConnectionRefused.into()) }),
            })
        })));
        Self
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        dial_with(None);
        LISTENERS.take();
        BROKERS.take();
    }
}

/// Runs something on this thread, in virtual time, with a network in which nobody listens yet.
pub fn virtual_time<T>(what: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let _network = Network::up();
    let brokers = Rc::new(LocalSet::new());
    BROKERS.set(Some(Rc::clone(&brokers)));
    brokers.block_on(&runtime, what)
}
