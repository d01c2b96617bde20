//! forebay through the door that any number of threads may share.
//!
//! Each record is an owned value (a slice of `Bytes`), and each has a receipt. Flat out they are
//! kept in `Receipts` and looked at as they come; with a rate each is awaited.

use std::time::Duration;

use forebay::{Config, Producer, Receipt, Receipts, Record};

use crate::follow::Follower;
use crate::job::Job;
use crate::load::{Client, Entry, Results, run};

/// Records between two looks at the outcomes.
const LOOK: usize = 256;

/// What becomes of receipts.
pub struct Kept {
    receipts: Receipts,
    since: usize,
    /// With a rate.
    follower: Option<Follower<Receipt>>,
    results: &'static Results,
}

impl Kept {
    pub fn new(job: &Job, results: &'static Results) -> Self {
        Self {
            receipts: Receipts::default(),
            since: 0,
            follower: (job.rate > 0).then(|| Follower::new(job, results)),
            results,
        }
    }

    /// For whom each receipt is awaited, if anyone.
    pub fn follower(&mut self) -> Option<&mut Follower<Receipt>> {
        self.follower.as_mut()
    }

    /// One more record, kept by `keep`.
    pub fn push(&mut self, keep: impl FnOnce(&mut Receipts)) {
        keep(&mut self.receipts);
        self.since += 1;
        if self.since == LOOK {
            self.since = 0;
            while let Some(outcome) = self.receipts.try_next() {
                self.results.settled(outcome.is_ok(), 0);
            }
        }
    }

    pub async fn pause(&mut self) {
        if let Some(follower) = &mut self.follower {
            follower.pause().await;
        }
    }

    /// Ends the producer when every record has its outcome.
    pub async fn finish(mut self, producer: Producer) {
        producer.flush().await.expect("a running producer");
        while let Some(outcome) = self.receipts.next().await {
            self.results.settled(outcome.is_ok(), 0);
        }
        if let Some(follower) = self.follower {
            follower.finish().await;
        }
        producer
            .close(Duration::from_secs(10))
            .await
            .expect("closed");
    }
}

pub fn config(job: &Job) -> Config {
    Config::builder()
        .set("bootstrap.servers", &job.brokers)
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("max.in.flight.requests.per.connection", "5")
        .set("buffer.memory", "67108864")
        .set("batch.size", job.batch.to_string())
        .set("linger.ms", job.linger.to_string())
        .set("compression.type", &job.codec)
        // So that a request takes more than one batch of 1 MB.
        .set("max.request.size", "8388608")
        .build()
        .expect("a configuration")
}

struct Shared {
    producer: Producer,
    topic: &'static str,
    kept: Kept,
}

pub fn drive(job: &Job) {
    run(job, async |results: &'static Results| Shared {
        producer: Producer::start(config(job)).expect("a producer"),
        // As if it stood in the program's text.
        topic: job.topic.clone().leak(),
        kept: Kept::new(job, results),
    });
}

impl Client for Shared {
    async fn send(&mut self, entry: &Entry, due: u64) {
        let mut record = Record::to_static(self.topic).value(entry.value.clone());
        if let Some(key) = &entry.key {
            record = record.key(key.clone());
        }
        let receipt = self
            .producer
            .send(record)
            .await
            .expect("an accepted record");
        match self.kept.follower() {
            Some(follower) => {
                let partition = receipt.partition();
                follower.follow(receipt, partition, due).await;
            }
            None => self.kept.push(|receipts| receipts.push_receipt(receipt)),
        }
    }

    async fn pause(&mut self) {
        self.kept.pause().await;
    }

    async fn finish(self) {
        self.kept.finish(self.producer).await;
    }
}
