//! `forebay produce --transactional-id`: sends lines in transactions.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use forebay::transaction::{NotCommitted, Receipt};
use forebay::{Config, Reason, Record, Transaction, TransactionalProducer, Unconfirmed};
use tokio::sync::mpsc;
use tokio::time::timeout_at;

use crate::Failure;
use crate::closing::TO_CLOSE;
use crate::lines::Line;
use crate::text::Grouped;

/// When a transaction is committed: whichever comes first.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub records: usize,
    pub time: Duration,
}

impl Limits {
    /// Whether a transaction of so many records that began so long ago is to be committed.
    pub fn reached(&self, records: usize, age: Duration) -> bool {
        records >= self.records || age >= self.time
    }
}

/// Sends lines, and begins each transaction that was aborted anew.
pub struct Transactional<R> {
    producer: TransactionalProducer,
    lines: mpsc::Receiver<io::Result<Vec<Line>>>,
    limits: Limits,
    record: R,
    /// Lines that were read and are not part of a transaction yet.
    waiting: VecDeque<Line>,
    read: u64,
    committed: u64,
    aborted: u64,
}

/// What goes on with the lines.
enum Next {
    More,
    Due,
    End,
}

impl<R: Fn(bytes::Bytes) -> Record> Transactional<R> {
    pub fn start(
        config: Config,
        lines: mpsc::Receiver<io::Result<Vec<Line>>>,
        limits: Limits,
        record: R,
    ) -> Result<Self, Failure> {
        Ok(Self {
            producer: TransactionalProducer::start(config)?,
            lines,
            limits,
            record,
            waiting: VecDeque::new(),
            read: 0,
            committed: 0,
            aborted: 0,
        })
    }

    /// Sends all lines, or those before the first that is refused.
    pub async fn run(mut self, interrupted: impl Future<Output = ()>) -> Result<(), Failure> {
        let began = Instant::now();
        let sent = tokio::select! {
            sent = self.all() => sent,
            () = interrupted => Err(Failure::Failed("interrupted".to_owned())),
        };
        if let Err(error) = self.producer.close(TO_CLOSE).await {
            eprintln!("closing: {error}");
        }
        eprintln!(
            "{} lines read, {} committed, {} transactions aborted and sent again, in {:.3} s",
            Grouped(self.read),
            Grouped(self.committed),
            Grouped(self.aborted),
            began.elapsed().as_secs_f64()
        );
        sent
    }

    async fn all(&mut self) -> Result<(), Failure> {
        loop {
            let mut lines = Vec::new();
            let last = self.gather(&mut lines).await?;
            if !lines.is_empty() {
                self.commit(&lines).await?;
                self.committed += lines.len() as u64;
            }
            if last {
                return Ok(());
            }
        }
    }

    /// Takes the lines of one transaction. Returns whether they are the last.
    async fn gather(&mut self, lines: &mut Vec<bytes::Bytes>) -> Result<bool, Failure> {
        let mut due = None;
        while lines.len() < self.limits.records {
            match self.waiting.pop_front() {
                Some(Line::Whole(line)) => {
                    due.get_or_insert_with(|| Instant::now() + self.limits.time);
                    lines.push(line);
                }
                Some(Line::TooLong(length)) => {
                    // Those before it are committed.
                    self.waiting.push_front(Line::TooLong(length));
                    if lines.is_empty() {
                        let why =
                            format!("a line of {length} bytes is longer than a record may be");
                        return Err(Failure::Failed(why));
                    }
                    return Ok(false);
                }
                None => match self.read(due).await? {
                    Next::More => {}
                    Next::Due => return Ok(false),
                    Next::End => return Ok(true),
                },
            }
        }
        Ok(false)
    }

    async fn read(&mut self, due: Option<Instant>) -> Result<Next, Failure> {
        let read = match due {
            Some(due) => match timeout_at(due.into(), self.lines.recv()).await {
                Ok(read) => read,
                Err(_) => return Ok(Next::Due),
            },
            None => self.lines.recv().await,
        };
        match read {
            Some(Ok(lines)) => {
                self.read += lines.len() as u64;
                self.waiting.extend(lines);
                Ok(Next::More)
            }
            Some(Err(error)) => Err(Failure::Failed(format!("the input broke off: {error}"))),
            None => Ok(Next::End),
        }
    }

    /// Sends these lines until they are committed, or one of them is refused.
    async fn commit(&mut self, lines: &[bytes::Bytes]) -> Result<(), Failure> {
        loop {
            let begun = self.producer.begin().await;
            let transaction = begun.map_err(|e| Failure::Failed(e.to_string()))?;
            let receipts = self.send(&transaction, lines).await?;
            let mut committed = transaction.commit().await;
            while let Err(NotCommitted::InDoubt(in_doubt)) = committed {
                committed = in_doubt.resolve().await;
            }
            match committed {
                Ok(()) => return Ok(()),
                Err(NotCommitted::Aborted(why)) => {
                    if let Some(refused) = receipts.iter().find_map(refusal) {
                        return Err(Failure::Failed(format!("a line is refused: {refused}")));
                    }
                    tracing::warn!(%why, "a transaction was aborted, and is sent again");
                    self.aborted += 1;
                }
                Err(other) => return Err(Failure::Failed(other.to_string())),
            }
        }
    }

    /// Sends lines in a transaction. If it takes no more of them, its commit will say why.
    async fn send(
        &self,
        transaction: &Transaction,
        lines: &[bytes::Bytes],
    ) -> Result<Vec<Receipt>, Failure> {
        let mut receipts = Vec::with_capacity(lines.len());
        for line in lines {
            match transaction.send((self.record)(line.clone())).await {
                Ok(receipt) => receipts.push(receipt),
                Err(forebay::SendError::TransactionEnded { .. }) => break,
                Err(refused) => {
                    return Err(Failure::Failed(format!("a line is refused: {refused}")));
                }
            }
        }
        Ok(receipts)
    }
}

/// Why a record would be refused again, if it was.
fn refusal(receipt: &Receipt) -> Option<Unconfirmed> {
    let refused = receipt.outcome()?.err()?;
    let again = matches!(
        refused.reason(),
        Reason::Broker(_) | Reason::BatchMate(_) | Reason::InvalidRecord { .. }
    );
    let certain = matches!(refused, Unconfirmed::NotWritten(_));
    (again && certain).then_some(refused)
}
