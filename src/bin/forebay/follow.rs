//! Waits for the outcomes of many receipts, without a task, a callback or a channel message for
//! each record.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Instant;

use forebay::{Acked, Lane, Outcome, Producer, Record, SendError, transaction};
use futures_util::FutureExt;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Receipts in one chunk. They are handed to the follower together.
const CHUNK: usize = 256;
/// Chunks in the channel to the follower. If it runs on the sending thread, it gets to run when the
/// channel is full.
const CHUNKS: usize = 4;
/// Receipts that are followed at a time: about 15 MB. Above that, sending waits.
const WINDOW: usize = 1 << 18;
/// Records that share one reading of the clock, if no wait comes between them. A reading for each
/// would take a sixth of the time of a send. So a record may seem to be sent a little earlier than
/// it was: about two microseconds with `perf`.
const LOOK_EVERY: usize = 16;

/// An accepted record.
pub struct Sent<T, R = forebay::Receipt> {
    receipt: R,
    /// When `send` was called, or a little earlier.
    pub at: Instant,
    pub tag: T,
}

/// Receives every record's outcome. The records of one partition come in order.
pub trait Observer<T, R = forebay::Receipt>: Send + 'static {
    fn settled(&mut self, sent: &Sent<T, R>, outcome: Outcome, now: Instant);
}

/// What tells a record's outcome; in a transaction, whether it was appended.
pub trait Receipt: Unpin + Send + 'static {
    fn partition(&self) -> i32;
    fn poll_outcome(&mut self, context: &mut Context<'_>) -> Poll<Outcome>;
}

impl Receipt for forebay::Receipt {
    fn partition(&self) -> i32 {
        self.partition()
    }

    fn poll_outcome(&mut self, context: &mut Context<'_>) -> Poll<Outcome> {
        Pin::new(self).poll(context)
    }
}

impl Receipt for transaction::Receipt {
    fn partition(&self) -> i32 {
        self.partition()
    }

    fn poll_outcome(&mut self, context: &mut Context<'_>) -> Poll<Outcome> {
        let appended = Pin::new(self).poll(context);
        appended.map_ok(|it| Acked::new(it.partition, it.offset, it.timestamp))
    }
}

/// What records are sent through.
pub trait Handle {
    type Receipt: Receipt;
    async fn send(&mut self, record: Record) -> Result<Self::Receipt, SendError>;
}

impl Handle for Producer {
    type Receipt = forebay::Receipt;

    async fn send(&mut self, record: Record) -> Result<Self::Receipt, SendError> {
        Producer::send(self, record).await
    }
}

impl Handle for Lane {
    type Receipt = forebay::Receipt;

    async fn send(&mut self, record: Record) -> Result<Self::Receipt, SendError> {
        let sent = Lane::send(self, record.borrowed()).await?;
        Ok(sent.receipt())
    }
}

impl Handle for transaction::Handle {
    type Receipt = transaction::Receipt;

    async fn send(&mut self, record: Record) -> Result<Self::Receipt, SendError> {
        transaction::Handle::send(self, record).await
    }
}

impl Handle for transaction::Lane {
    type Receipt = transaction::Receipt;

    async fn send(&mut self, record: Record) -> Result<Self::Receipt, SendError> {
        let sent = transaction::Lane::send(self, record.borrowed()).await?;
        Ok(sent.receipt())
    }
}

/// Sends the records of one topic, and hands their receipts to a follower task.
pub struct Follower<T, R = forebay::Receipt> {
    chunk: Vec<Sent<T, R>>,
    chunks: mpsc::Sender<Vec<Sent<T, R>>>,
    /// The last reading of the clock, unless there was a wait since.
    looked: Option<Instant>,
}

impl<T: Send + Unpin + 'static, R: Receipt> Follower<T, R> {
    /// Starts the follower task. It returns the observer when this value is dropped and every
    /// outcome was reported.
    pub fn start<O: Observer<T, R>>(observer: O) -> (Self, JoinHandle<O>) {
        let (to, chunks) = mpsc::channel(CHUNKS);
        let follow = Follow {
            chunks,
            open: true,
            queues: Vec::new(),
            waiting: 0,
            observer,
        };
        let follower = Self {
            chunk: Vec::with_capacity(CHUNK),
            chunks: to,
            looked: None,
        };
        (follower, tokio::spawn(follow.run()))
    }

    /// Sends a record. Returns when, or a little earlier. If the future is dropped before it is ready, the
    /// record was not accepted.
    pub async fn send(
        &mut self,
        handle: &mut impl Handle<Receipt = R>,
        record: Record,
        tag: T,
    ) -> Result<Instant, SendError> {
        if self.chunk.len() >= CHUNK {
            self.hand_over().await;
        }
        let at = match self.looked {
            Some(at) if !self.chunk.len().is_multiple_of(LOOK_EVERY) => at,
            _ => *self.looked.insert(Instant::now()),
        };
        let mut sending = pin!(handle.send(record));
        let receipt = match sending.as_mut().now_or_never() {
            Some(Ok(receipt)) => receipt,
            Some(Err(error)) => {
                // The next sends may fail at once as well. Without this, the follower would never
                // get to run.
                self.hand_over().await;
                tokio::task::yield_now().await;
                return Err(error);
            }
            None => {
                // This send waits. Outcomes of earlier records may arrive before it ends.
                self.hand_over().await;
                sending.await?
            }
        };
        self.chunk.push(Sent { receipt, at, tag });
        Ok(at)
    }

    /// Takes the receipt of a record that was sent elsewhere, just now.
    pub async fn add(&mut self, receipt: R, tag: T) {
        let at = Instant::now();
        self.chunk.push(Sent { receipt, at, tag });
        if self.chunk.len() >= CHUNK {
            self.hand_over().await;
        }
    }

    /// Hands all receipts so far to the follower. Call it before any pause, or the pause counts as
    /// latency.
    pub async fn hand_over(&mut self) {
        self.looked = None;
        if self.chunk.is_empty() {
            return;
        }
        // Reserve first, so that dropping this future leaves the chunk in place. Reserving fails
        // only if the follower task has panicked. Its handle reports that.
        if let Ok(permit) = self.chunks.reserve().await {
            let chunk = std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK));
            permit.send(chunk);
        }
    }

    /// Hands over the last chunk.
    pub async fn finish(mut self) {
        self.hand_over().await;
    }
}

/// The follower task.
struct Follow<T, R, O> {
    chunks: mpsc::Receiver<Vec<Sent<T, R>>>,
    open: bool,
    /// Receipts by partition. Only the first of each queue is polled: the records of a partition
    /// are settled in order, and a slow partition does not delay the others.
    queues: Vec<VecDeque<Sent<T, R>>>,
    waiting: usize,
    observer: O,
}

impl<T: Unpin, R: Receipt, O: Observer<T, R>> Follow<T, R, O> {
    async fn run(mut self) -> O {
        poll_fn(|context| self.poll(context)).await;
        self.observer
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            self.take_chunks(context);
            let full = self.waiting >= WINDOW;
            self.settle(context);
            if !self.open && self.waiting == 0 {
                return Poll::Ready(());
            }
            if !full || self.waiting >= WINDOW {
                return Poll::Pending;
            }
        }
    }

    fn take_chunks(&mut self, context: &mut Context<'_>) {
        while self.open && self.waiting < WINDOW {
            match self.chunks.poll_recv(context) {
                Poll::Ready(Some(chunk)) => {
                    self.waiting += chunk.len();
                    for sent in chunk {
                        let at = usize::try_from(sent.receipt.partition()).unwrap_or(0);
                        if at >= self.queues.len() {
                            self.queues.resize_with(at + 1, VecDeque::new);
                        }
                        self.queues[at].push_back(sent);
                    }
                }
                Poll::Ready(None) => self.open = false,
                Poll::Pending => return,
            }
        }
    }

    fn settle(&mut self, context: &mut Context<'_>) {
        let now = Instant::now();
        for queue in &mut self.queues {
            while let Some(sent) = queue.front_mut() {
                let Poll::Ready(outcome) = sent.receipt.poll_outcome(context) else {
                    break;
                };
                self.observer.settled(sent, outcome, now);
                queue.pop_front();
                self.waiting -= 1;
            }
        }
    }
}
