//! kacrab: `send`, and a future per record.
//!
//! Quirks: `send` is synchronous. With a full buffer it spins until there is space, which on one
//! core costs many times what sending costs. So at most half of the buffer is outstanding here, and
//! the loop sleeps instead. Its callbacks cost several times its futures, and some never came. A
//! future does not name its partition, so all are awaited in one sequence.

use std::sync::Arc;
use std::time::Duration;

use kacrab::producer::{Producer, ProducerRecord, SendFuture};

use crate::follow::Follower;
use crate::job::Job;
use crate::load::{Client, Entry, Results, run};

const BUFFER: usize = 64 << 20;
/// Approximate bytes of a record beside its key and value.
const OVERHEAD: usize = 12;

struct Kacrab {
    producer: Producer,
    topic: Arc<str>,
    follower: Follower<SendFuture>,
    results: &'static Results,
    sent: u64,
    /// How many records may be outstanding.
    most: u64,
}

pub fn drive(job: &Job) {
    run(job, async |results: &'static Results| Kacrab {
        producer: Producer::builder()
            .set("bootstrap.servers", job.brokers.as_str())
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("max.in.flight.requests.per.connection", "5")
            .set("buffer.memory", BUFFER.to_string())
            .set("batch.size", job.batch.to_string())
            .set("linger.ms", job.linger.to_string())
            .set("compression.type", job.codec.as_str())
            .set("max.request.size", "8388608")
            .build()
            .await
            .expect("a producer"),
        topic: job.topic.as_str().into(),
        follower: Follower::new(job, results),
        results,
        sent: 0,
        most: (BUFFER / 2 / (job.key + job.value + OVERHEAD)) as u64,
    });
}

impl Client for Kacrab {
    async fn send(&mut self, entry: &Entry, due: u64) {
        while self.sent - self.results.count() >= self.most {
            self.follower.pause().await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let topic = Arc::clone(&self.topic);
        let mut record = ProducerRecord::topic_value(topic, entry.value.clone());
        if let Some(key) = &entry.key {
            record = record.key(key.clone());
        }
        let future = self.producer.send(record).expect("an accepted record");
        self.sent += 1;
        self.follower.follow(future, 0, due).await;
    }

    async fn pause(&mut self) {
        self.follower.pause().await;
    }

    async fn finish(self) {
        self.producer.flush().await.expect("a running producer");
        self.follower.finish().await;
        self.producer.close().await.expect("closed");
    }
}
