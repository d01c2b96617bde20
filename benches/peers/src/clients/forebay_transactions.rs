//! forebay in transactions, through a transaction's handle or its lane.
//!
//! The settings are those of `forebay.rs`, and records are sent as there and in `forebay_lane.rs`. Receipts
//! are kept, and read as records are appended and at the commit.

use std::time::Duration;

use forebay::transaction::{Lane, NotCommitted, Receipt, Receipts};
use forebay::{Transaction, TransactionalProducer};

use super::{forebay as shared, forebay_lane as lane};
use crate::job::Job;
use crate::load::{Client, Entry, Results, run};

/// What records are sent through.
#[derive(Clone, Copy)]
pub enum Way {
    Slices,
    OneByOne,
    Lane,
}

struct Transactional {
    producer: TransactionalProducer,
    topic: &'static str,
    way: Way,
    open: Option<(Transaction, Lane)>,
    receipts: Receipts,
    results: &'static Results,
}

pub fn drive(job: &Job, way: Way) {
    run(job, async |results: &'static Results| Transactional {
        producer: TransactionalProducer::start(shared::config(job)).expect("a producer"),
        topic: job.topic.clone().leak(),
        way,
        open: None,
        receipts: Receipts::default(),
        results,
    });
}

impl Transactional {
    /// Counts the outcomes that are known.
    fn look(&mut self) {
        while let Some(appended) = self.receipts.try_next() {
            self.results.settled(appended.is_ok(), 0);
        }
    }
}

/// Sends a record without a future if it need not wait.
async fn send_one(transaction: &Transaction, topic: &'static str, entry: &Entry) -> Receipt {
    match transaction.try_send(shared::record(topic, entry)) {
        Ok(receipt) => receipt,
        Err(refused) => {
            let (record, _) = refused.into_parts();
            let sent = transaction.send(record).await;
            sent.expect("an accepted record")
        }
    }
}

impl Client for Transactional {
    async fn begin(&mut self) {
        let transaction = self.producer.begin().await.expect("a transaction");
        let lane = transaction.lane();
        self.open = Some((transaction, lane));
    }

    async fn send(&mut self, entry: &Entry, _: u64) {
        self.send_all(std::slice::from_ref(entry)).await;
    }

    async fn send_all(&mut self, entries: &[Entry]) {
        let (transaction, lane) = self.open.as_mut().expect("a transaction");
        match self.way {
            Way::Slices => {
                let records = entries.iter().map(|it| shared::record(self.topic, it));
                let records: Vec<_> = records.collect();
                let sent = transaction.send_slice(&records, &mut self.receipts);
                sent.await.expect("accepted records");
            }
            Way::OneByOne => {
                for entry in entries {
                    let receipt = send_one(transaction, self.topic, entry).await;
                    self.receipts.push_receipt(receipt);
                }
            }
            Way::Lane => {
                let records = entries.iter().map(|it| lane::record(self.topic, it));
                let records: Vec<_> = records.collect();
                let sent = lane.send_slice(&records, &mut self.receipts);
                sent.await.expect("accepted records");
            }
        }
        self.look();
    }

    async fn commit(&mut self) {
        let (transaction, _) = self.open.take().expect("a transaction");
        let mut committed = transaction.commit().await;
        while let Err(NotCommitted::InDoubt(in_doubt)) = committed {
            committed = in_doubt.resolve().await;
        }
        committed.expect("a commit");
        self.look();
    }

    async fn finish(self) {
        assert!(self.receipts.is_empty(), "all of them are committed");
        let closed = self.producer.close(Duration::from_secs(10)).await;
        closed.expect("closed");
    }
}
