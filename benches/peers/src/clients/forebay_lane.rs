//! forebay through a lane: the door for one task that sends a great deal.
//!
//! Settings as in `forebay.rs`. Records are borrowed bytes. Flat out the outcomes are kept in
//! `Receipts` and looked at as they come; with a rate each has a receipt that is awaited.

use forebay::{BorrowedRecord, Lane, Producer};

use super::forebay::{Kept, config};
use crate::job::Job;
use crate::load::{Client, Entry, Results, run};

struct Exclusive {
    producer: Producer,
    lane: Lane,
    topic: String,
    kept: Kept,
}

pub fn drive(job: &Job) {
    run(job, async |results: &'static Results| {
        let producer = Producer::start(config(job)).expect("a producer");
        Exclusive {
            lane: producer.lane(),
            producer,
            topic: job.topic.clone(),
            kept: Kept::new(job, results),
        }
    });
}

impl Client for Exclusive {
    async fn send(&mut self, entry: &Entry, due: u64) {
        let mut record = BorrowedRecord::to(&self.topic).value(&entry.value);
        if let Some(key) = &entry.key {
            record = record.key(key);
        }
        let sent = self.lane.send(record).await.expect("an accepted record");
        match self.kept.follower() {
            Some(follower) => {
                let (receipt, partition) = (sent.receipt(), sent.partition());
                follower.follow(receipt, partition, due).await;
            }
            None => self.kept.push(|receipts| receipts.push(sent)),
        }
    }

    async fn pause(&mut self) {
        self.kept.pause().await;
    }

    async fn finish(self) {
        self.kept.finish(self.producer).await;
    }
}
