//! Follows receipts to their outcomes, without a task, a callback or a channel send per record.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Instant;

use forebay::{Lane, Outcome, Producer, Receipt, Record, SendError};
use futures_util::FutureExt;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Receipts handed over at once.
const CHUNK: usize = 256;
/// Chunks on their way to the follower, who, on the sender's own thread, has a turn when they are full.
const CHUNKS: usize = 4;
/// Receipts followed at once: some 15 MB. Beyond that the sender waits.
const WINDOW: usize = 1 << 18;
/// Records sent without a wait that share a look at the clock, which would cost a sixth of each send. So
/// they are said to be sent a little earlier than they were: some two microseconds with `perf`.
const LOOK_EVERY: usize = 16;

/// An accepted record.
pub struct Sent<T> {
    receipt: Receipt,
    /// When `send` was called, or a little earlier.
    pub at: Instant,
    pub tag: T,
}

/// Is told of every record's outcome. Records of one partition come in order.
pub trait Observer<T>: Send + 'static {
    fn settled(&mut self, sent: &Sent<T>, outcome: Outcome, now: Instant);
}

/// Which of the producer's doors records go through.
pub enum Handle {
    Shared(Producer),
    Lane(Box<Lane>),
}

impl Handle {
    async fn send(&mut self, record: Record) -> Result<Receipt, SendError> {
        match self {
            Self::Shared(producer) => producer.send(record).await,
            Self::Lane(lane) => {
                let sent = lane.send(record.borrowed()).await?;
                Ok(sent.receipt())
            }
        }
    }
}

/// Sends the records of one topic and has their receipts followed.
pub struct Follower<T> {
    chunk: Vec<Sent<T>>,
    chunks: mpsc::Sender<Vec<Sent<T>>>,
    /// The last look at the clock, if nothing was waited for since.
    looked: Option<Instant>,
}

impl<T: Send + Unpin + 'static> Follower<T> {
    /// The observer comes back when the follower is dropped and every outcome is told.
    pub fn start<O: Observer<T>>(observer: O) -> (Self, JoinHandle<O>) {
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

    /// Sends a record. Dropped before it is ready, nothing was accepted.
    pub async fn send(
        &mut self,
        handle: &mut Handle,
        record: Record,
        tag: T,
    ) -> Result<(), SendError> {
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
                // Others may follow, and none of them would let the follower have a turn.
                self.hand_over().await;
                tokio::task::yield_now().await;
                return Err(error);
            }
            None => {
                // It takes a while: what is kept back here may have its outcome before it ends.
                self.hand_over().await;
                sending.await?
            }
        };
        self.chunk.push(Sent { receipt, at, tag });
        Ok(())
    }

    /// Has everything sent so far followed from now on. Call it before any pause, or the pause
    /// counts as latency.
    pub async fn hand_over(&mut self) {
        self.looked = None;
        if self.chunk.is_empty() {
            return;
        }
        // Reserved first: dropped here, this future leaves the chunk where it is. There is no
        // permit only if the follower's task has panicked, which its handle tells.
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

/// The other end.
struct Follow<T, O> {
    chunks: mpsc::Receiver<Vec<Sent<T>>>,
    open: bool,
    /// By partition. Only the heads are polled: a partition's records are settled in order, and
    /// a slow partition holds up no other one.
    queues: Vec<VecDeque<Sent<T>>>,
    waiting: usize,
    observer: O,
}

impl<T: Unpin, O: Observer<T>> Follow<T, O> {
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
                let Poll::Ready(outcome) = Pin::new(&mut sent.receipt).poll(context) else {
                    break;
                };
                self.observer.settled(sent, outcome, now);
                queue.pop_front();
                self.waiting -= 1;
            }
        }
    }
}
