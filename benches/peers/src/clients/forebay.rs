//! forebay through the door that any number of threads may share.
//!
//! Each record is an owned value (a slice of `Bytes`), each receipt is awaited on a tokio runtime
//! beside forebay's own thread.

use std::sync::Arc;
use std::time::Duration;

use forebay::{Config, Producer, Receipt, Record};

use crate::follow::Follower;
use crate::job::Job;
use crate::load::{Client, Entry, Results, run};

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
    topic: Arc<str>,
    follower: Follower<Receipt>,
}

pub fn drive(job: &Job) {
    run(job, async |results: &'static Results| Shared {
        producer: Producer::start(config(job)).expect("a producer"),
        topic: job.topic.as_str().into(),
        follower: Follower::new(job, results),
    });
}

impl Client for Shared {
    async fn send(&mut self, entry: &Entry, due: u64) {
        let mut record = Record::to(Arc::clone(&self.topic)).value(entry.value.clone());
        if let Some(key) = &entry.key {
            record = record.key(key.clone());
        }
        let receipt = self
            .producer
            .send(record)
            .await
            .expect("an accepted record");
        let partition = receipt.partition();
        self.follower.follow(receipt, partition, due).await;
    }

    async fn pause(&mut self) {
        self.follower.pause().await;
    }

    async fn finish(self) {
        self.producer.flush().await.expect("a running producer");
        self.follower.finish().await;
        self.producer
            .close(Duration::from_secs(10))
            .await
            .expect("closed");
    }
}
