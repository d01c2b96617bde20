//! krafka: `enqueue`, and a future per record.
//!
//! Quirks: one batch per partition is in flight, so the round trip limits the rate of one
//! partition. Each record has its own `String` for the topic. Requests in flight are limited per
//! connection.

use std::time::Duration;

use krafka::producer::{Acks, DeliveryHandle, Producer};
use krafka::{Compression, Kafka, Record};

use crate::follow::Follower;
use crate::job::Job;
use crate::load::{Client, Entry, Results, run};

struct Krafka {
    producer: Producer,
    topic: String,
    follower: Follower<DeliveryHandle>,
}

pub fn drive(job: &Job) {
    run(job, async |results: &'static Results| {
        let kafka = Kafka::builder(&job.brokers)
            .max_in_flight_requests(5)
            .connect()
            .await
            .expect("a broker");
        let producer = kafka
            .producer()
            .acks(Acks::All)
            .idempotent(true)
            .buffer_memory(64 << 20)
            .batch_size(job.batch)
            .linger(Duration::from_millis(job.linger))
            .compression(match job.codec.as_str() {
                "lz4" => Compression::Lz4,
                _ => Compression::None,
            })
            .build()
            .await
            .expect("a producer");
        Krafka {
            producer,
            topic: job.topic.clone(),
            follower: Follower::new(job, results),
        }
    });
}

impl Client for Krafka {
    async fn send(&mut self, entry: &Entry, due: u64) {
        let mut record = Record::new(self.topic.as_str(), entry.value.clone());
        if let Some(key) = &entry.key {
            record = record.key(key.clone());
        }
        let handle = self
            .producer
            .enqueue(record)
            .await
            .expect("a queued record");
        let partition = handle.partition();
        self.follower.follow(handle, partition, due).await;
    }

    async fn pause(&mut self) {
        self.follower.pause().await;
    }

    async fn finish(self) {
        self.producer.flush().await.expect("a running producer");
        self.follower.finish().await;
    }
}
