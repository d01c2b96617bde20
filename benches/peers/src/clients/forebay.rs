//! forebay through the producer that any number of threads can share.
//!
//! Each record is an owned value (a slice of `Bytes`), and each outcome is read. Without a rate,
//! records are sent by slices and the receipts are kept in `Receipts`. With a rate, each record has
//! a callback. In a separate column records are sent one by one, and with a rate each receipt is
//! awaited.

use std::time::Duration;

use forebay::{Config, Outcome, Producer, Receipt, Receipts, Record};
use tokio::task::JoinHandle;

use super::forebay_transactions::{self, Way};
use crate::follow::Follower;
use crate::job::Job;
use crate::load::{Client, Entry, Results, run};

/// Keeps the receipts until their outcomes.
pub struct Kept {
    /// Used without a rate.
    pub receipts: Receipts,
    /// Used with a rate, if receipts are awaited.
    follower: Option<Follower<Receipt>>,
    results: &'static Results,
}

impl Kept {
    pub fn new(job: &Job, awaits: bool, results: &'static Results) -> Self {
        Self {
            receipts: Receipts::default(),
            follower: (awaits && job.rate > 0).then(|| Follower::new(job, results)),
            results,
        }
    }

    /// Counts the outcomes that are known.
    pub fn look(&mut self) {
        while let Some(outcome) = self.receipts.try_next() {
            self.results.settled(outcome.is_ok(), 0);
        }
    }

    /// Hands a receipt to the follower, which awaits it.
    pub async fn follow(&mut self, receipt: Receipt, due: u64) {
        if let Some(follower) = &mut self.follower {
            let partition = receipt.partition();
            follower.follow(receipt, partition, due).await;
        }
    }

    pub async fn pause(&mut self) {
        if let Some(follower) = &mut self.follower {
            follower.pause().await;
        }
    }

    /// Closes the producer when every record has its outcome.
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
    let mut builder = match job.certificate.as_str() {
        "" => Config::builder(),
        certificate => Config::builder()
            .set("security.protocol", "SSL")
            .set("ssl.truststore.type", "PEM")
            .set("ssl.truststore.location", certificate),
    };
    if job.transactions.is_some() {
        let id = format!("peers-forebay-{}", std::process::id());
        builder = builder.set("transactional.id", id);
    }
    builder
        .set("bootstrap.servers", &job.brokers)
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("max.in.flight.requests.per.connection", "5")
        .set("buffer.memory", "67108864")
        .set("batch.size", job.batch.to_string())
        .set("linger.ms", job.linger.to_string())
        .set("compression.type", &job.codec)
        // So that a request can hold more than one batch of 1 MB.
        .set("max.request.size", "8388608")
        .build()
        .expect("a configuration")
}

struct Shared {
    producer: Producer,
    topic: &'static str,
    one_by_one: bool,
    kept: Kept,
}

pub fn drive(job: &Job) {
    drive_by(job, false);
}

pub fn drive_one_by_one(job: &Job) {
    drive_by(job, true);
}

fn drive_by(job: &Job, one_by_one: bool) {
    if job.transactions.is_some() {
        let way = match one_by_one {
            true => Way::OneByOne,
            false => Way::Slices,
        };
        return forebay_transactions::drive(job, way);
    }
    run(job, async |results: &'static Results| Shared {
        producer: Producer::start(config(job)).expect("a producer"),
        // A static string, as if it were a constant of the program.
        topic: job.topic.clone().leak(),
        kept: Kept::new(job, one_by_one, results),
        one_by_one,
    });
}

// Called in several places, and so not inlined by itself. Each record would be moved once more, which took
// a twentieth of this client's time.
#[inline(always)]
pub fn record(topic: &'static str, entry: &Entry) -> Record {
    let record = Record::to_static(topic).value(entry.value.clone());
    match &entry.key {
        Some(key) => record.key(key.clone()),
        None => record,
    }
}

impl Shared {
    #[inline]
    fn record(&self, entry: &Entry) -> Record {
        record(self.topic, entry)
    }

    /// Sends a record without a future if it need not wait.
    async fn send_one(&self, entry: &Entry) -> Receipt {
        match self.producer.try_send(self.record(entry)) {
            Ok(receipt) => receipt,
            Err(refused) => {
                let (record, _) = refused.into_parts();
                let sent = self.producer.send(record).await;
                sent.expect("an accepted record")
            }
        }
    }
}

impl Client for Shared {
    async fn send(&mut self, entry: &Entry, due: u64) {
        if !self.one_by_one {
            let results = self.kept.results;
            let told = move |outcome: Outcome| results.settled(outcome.is_ok(), due);
            let sent = self.producer.send_with(self.record(entry), told).await;
            drop(sent.expect("an accepted record"));
        } else {
            let receipt = self.send_one(entry).await;
            self.kept.follow(receipt, due).await;
        }
    }

    async fn send_all(&mut self, entries: &[Entry]) {
        if !self.one_by_one {
            let records: Vec<_> = entries.iter().map(|entry| self.record(entry)).collect();
            let sent = self.producer.send_slice(&records, &mut self.kept.receipts);
            sent.await.expect("accepted records");
        } else {
            for entry in entries {
                let receipt = self.send_one(entry).await;
                self.kept.receipts.push_receipt(receipt);
            }
        }
        self.kept.look();
    }

    fn start_task(&mut self, entries: Vec<Entry>, results: &'static Results) -> JoinHandle<u64> {
        let (producer, topic) = (self.producer.clone(), self.topic);
        tokio::spawn(async move {
            let mut sent = 0;
            for entry in entries.iter().cycle() {
                if results.is_over() {
                    break;
                }
                let due = results.now();
                let accepted = producer.send(record(topic, entry)).await;
                let outcome = accepted.expect("an accepted record").await;
                results.settled(outcome.is_ok(), due);
                sent += 1;
            }
            sent
        })
    }

    async fn pause(&mut self) {
        self.kept.pause().await;
    }

    async fn finish(self) {
        self.kept.finish(self.producer).await;
    }
}
