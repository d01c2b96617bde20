//! A source of records: something that can be read again from a position, such as a file.

use std::fmt;
use std::sync::Arc;

use super::producer::Producer;
use crate::core::ack::Receipt;
use crate::core::record::Record;
use crate::intake::lease::Lease;
use crate::intake::source_error::SourceError;

/// A source of records: a file, a table of rows to be sent, another topic. Each record has a position in it,
/// and the spool keeps up to where they are accepted. So whoever starts anew after a crash goes on without a
/// gap and without sending anything twice.
///
/// It is made with [`Producer::source`], and lent to one holder at a time. Positions rise from record to
/// record, and may leave numbers out: lines, rows or offsets will do. Its records may go to several topics
/// and partitions.
///
/// ```no_run
/// # async fn example(lines: Vec<String>) -> Result<(), Box<dyn std::error::Error>> {
/// use forebay::{Config, Producer, Record};
///
/// let config = Config::builder()
///     .bootstrap_servers("localhost:9092")
///     .set("forebay.spool.dir", "/var/lib/orders/spool")
///     .build()?;
/// let producer = Producer::start(config)?;
/// let mut source = producer.source("orders.txt").await?;
/// let done = source.accepted_up_to().map_or(0, |line| line + 1);
/// for (position, line) in (0..).zip(&lines).skip(done as usize) {
///     let record = Record::to("orders").value(line.clone());
///     let _receipt = source.send(record, position).await?;
/// }
/// # Ok(())
/// # }
/// ```
///
/// With `forebay.spool.durability=machine` each [`send`](Self::send) waits for the disk before the next one
/// may be appended: otherwise a machine that stops could have kept a later record and lost one before it.
pub struct Source {
    producer: Producer,
    name: Arc<str>,
    lease: Lease,
}

impl Producer {
    /// Opens a source of records under its name, which the spool keeps for good: 1 to 1,000 bytes.
    ///
    /// Waits until the disk has the name and all that was accepted of the source.
    ///
    /// # Errors
    ///
    /// [`SourceError::NoSpool`] without `forebay.spool.dir`, [`SourceError::InUse`] while somebody in this
    /// producer has the source, [`SourceError::InDoubt`] if a disk failed and only the next producer can tell
    /// up to where it is accepted.
    pub async fn source(&self, name: &str) -> Result<Source, SourceError> {
        let name = Arc::from(name);
        let lease = self.intake().lend_source(&name).await?;
        Ok(Source {
            producer: self.clone(),
            name,
            lease,
        })
    }

    /// Up to where the records of a source are accepted, whoever has it. `None` if none is.
    ///
    /// # Errors
    ///
    /// As [`source`](Self::source), but [`SourceError::InUse`].
    pub async fn accepted_up_to(&self, source: &str) -> Result<Option<u64>, SourceError> {
        self.intake().accepted_up_to(&Arc::from(source)).await
    }
}

impl Source {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The highest position that is known to be accepted. All records that were sent at or below it are.
    ///
    /// After a `send` that was dropped or is in doubt a higher one may be; [`settle`](Self::settle) tells.
    pub fn accepted_up_to(&self) -> Option<u64> {
        self.lease.progress.borrow().accepted()
    }

    /// Sends a record, and waits until it is accepted, as [`Producer::send`] does.
    ///
    /// If the future is dropped before it is ready, the record may be accepted all the same. Send it again
    /// then, or go on behind [`settle`](Self::settle): what is accepted already is refused as
    /// [`NotRising`](SourceError::NotRising), and never sent twice.
    ///
    /// # Errors
    ///
    /// [`SourceError::Refused`] if the record is not accepted: its position may be used again.
    /// [`SourceError::NotRising`] if the position is not above all that are accepted.
    /// [`SourceError::InDoubt`] if it is not known whether a record is accepted, this one or one before it.
    pub async fn send(&mut self, record: Record, position: u64) -> Result<Receipt, SourceError> {
        let Self {
            producer, lease, ..
        } = self;
        let (recent, listeners) = (&producer.recent, producer.listeners());
        producer
            .intake()
            .send_of_source(recent, listeners, lease, (record, position))
            .await
    }

    /// Waits until it is known what became of a `send` that was dropped, or is in doubt. Returns up to where
    /// the source is accepted.
    ///
    /// # Errors
    ///
    /// [`SourceError::InDoubt`] if that cannot be known now.
    pub async fn settle(&mut self) -> Result<Option<u64>, SourceError> {
        self.producer.intake().decide(&self.lease).await?;
        Ok(self.accepted_up_to())
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("name", &self.name)
            .field("progress", &*self.lease.progress.borrow())
            .finish_non_exhaustive()
    }
}
