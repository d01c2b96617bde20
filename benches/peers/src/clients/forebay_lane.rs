//! forebay through a lane: the door for one task that sends a great deal.
//!
//! Settings as in `forebay.rs`. Records are borrowed bytes. Flat out the outcomes are kept in
//! `Receipts` and looked at as they come; with a rate each has a receipt that is awaited.

use std::time::Duration;

use forebay::{BorrowedRecord, Lane, Producer, Receipt, Receipts};

use super::forebay::config;
use crate::follow::Follower;
use crate::job::Job;
use crate::load::{Client, Entry, Results, run};

/// Records between two looks at the outcomes.
const LOOK: usize = 256;

struct Exclusive {
    producer: Producer,
    lane: Lane,
    topic: String,
    receipts: Receipts,
    since: usize,
    follower: Option<Follower<Receipt>>,
    results: &'static Results,
}

pub fn drive(job: &Job) {
    run(job, async |results: &'static Results| {
        let producer = Producer::start(config(job)).expect("a producer");
        Exclusive {
            lane: producer.lane(),
            producer,
            topic: job.topic.clone(),
            receipts: Receipts::default(),
            since: 0,
            follower: (job.rate > 0).then(|| Follower::new(job, results)),
            results,
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
        if let Some(follower) = &mut self.follower {
            let (receipt, partition) = (sent.receipt(), sent.partition());
            follower.follow(receipt, partition, due).await;
            return;
        }
        self.receipts.push(sent);
        self.since += 1;
        if self.since == LOOK {
            self.since = 0;
            while let Some(outcome) = self.receipts.try_next() {
                self.results.settled(outcome.is_ok(), 0);
            }
        }
    }

    async fn pause(&mut self) {
        if let Some(follower) = &mut self.follower {
            follower.pause().await;
        }
    }

    async fn finish(mut self) {
        self.producer.flush().await.expect("a running producer");
        while let Some(outcome) = self.receipts.next().await {
            self.results.settled(outcome.is_ok(), 0);
        }
        if let Some(follower) = self.follower {
            follower.finish().await;
        }
        self.producer
            .close(Duration::from_secs(10))
            .await
            .expect("closed");
    }
}
