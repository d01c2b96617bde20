//! forebay through a lane, which is for one task that sends a lot.
//!
//! The settings are those of `forebay.rs`. Records are borrowed bytes. Without a rate they are sent
//! by slices, and the outcomes are kept in `Receipts` and read as they arrive. With a rate each
//! record is sent by itself, and its receipt is awaited.

use forebay::{BorrowedRecord, Lane, Producer};

use super::forebay::{Kept, config};
use super::forebay_transactions::{self, Way};
use crate::job::Job;
use crate::load::{Client, Entry, Results, run};

struct Exclusive {
    producer: Producer,
    lane: Lane,
    topic: String,
    kept: Kept,
}

pub fn drive(job: &Job) {
    if job.transactions.is_some() {
        return forebay_transactions::drive(job, Way::Lane);
    }
    run(job, async |results: &'static Results| {
        let producer = Producer::start(config(job)).expect("a producer");
        Exclusive {
            lane: producer.lane(),
            producer,
            topic: job.topic.clone(),
            kept: Kept::new(job, true, results),
        }
    });
}

#[inline(always)]
pub fn record<'a>(topic: &'a str, entry: &'a Entry) -> BorrowedRecord<'a> {
    let record = BorrowedRecord::to(topic).value(&entry.value);
    match &entry.key {
        Some(key) => record.key(key),
        None => record,
    }
}

impl Client for Exclusive {
    async fn send(&mut self, entry: &Entry, due: u64) {
        let sent = self.lane.send(record(&self.topic, entry)).await;
        let receipt = sent.expect("an accepted record").receipt();
        self.kept.follow(receipt, due).await;
    }

    async fn send_all(&mut self, entries: &[Entry]) {
        let records = entries.iter().map(|entry| record(&self.topic, entry));
        let records: Vec<_> = records.collect();
        let sent = self.lane.send_slice(&records, &mut self.kept.receipts);
        sent.await.expect("accepted records");
        self.kept.look();
    }

    async fn pause(&mut self) {
        self.kept.pause().await;
    }

    async fn finish(self) {
        self.kept.finish(self.producer).await;
    }
}
