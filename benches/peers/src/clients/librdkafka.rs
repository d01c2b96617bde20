//! librdkafka through rdkafka's `ThreadedProducer`: the base producer and a thread that polls it
//! and calls a callback for each record. Its `FutureProducer` costs several times as much.
//!
//! Settings: `batch.num.messages` and `queue.buffering.max.messages` are raised, so that bytes
//! decide. The partitioner is Java's. Quirks: a request holds one partition. A full queue is an
//! error, after which the loop sleeps for a millisecond and tries again.

use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::util::Timeout;

use crate::job::Job;
use crate::load::{Client, Entry, Results, run};

struct Tell(&'static Results);

impl rdkafka::ClientContext for Tell {}

impl ProducerContext for Tell {
    type DeliveryOpaque = usize;

    fn delivery(&self, outcome: &DeliveryResult<'_>, due: usize) {
        self.0.settled(outcome.is_ok(), due as u64);
    }
}

struct Librdkafka {
    producer: ThreadedProducer<Tell>,
    topic: String,
}

pub fn drive(job: &Job) {
    let mut config = ClientConfig::new();
    if !job.certificate.is_empty() {
        config
            .set("security.protocol", "ssl")
            .set("ssl.ca.location", &job.certificate);
    }
    run(job, async |results: &'static Results| Librdkafka {
        producer: config
            .clone()
            .set("bootstrap.servers", &job.brokers)
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("max.in.flight.requests.per.connection", "5")
            .set("queue.buffering.max.kbytes", "65536")
            .set("queue.buffering.max.messages", "10000000")
            .set("batch.size", job.batch.to_string())
            .set("batch.num.messages", "1000000")
            .set("linger.ms", job.linger.to_string())
            .set("compression.codec", &job.codec)
            .set("partitioner", "murmur2_random")
            .create_with_context(Tell(results))
            .expect("a producer"),
        topic: job.topic.clone(),
    });
}

impl Client for Librdkafka {
    async fn send(&mut self, entry: &Entry, due: u64) {
        let mut record = BaseRecord::<[u8], [u8], usize>::with_opaque_to(&self.topic, due as usize)
            .payload(&entry.value);
        if let Some(key) = &entry.key {
            record = record.key(key);
        }
        while let Err((error, again)) = self.producer.send(record) {
            match error {
                KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) => {
                    std::thread::sleep(Duration::from_millis(1));
                    record = again;
                }
                error => panic!("{error}"),
            }
        }
    }

    async fn finish(self) {
        self.producer.flush(Timeout::Never).expect("flushed");
    }
}
