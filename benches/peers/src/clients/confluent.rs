//! confluent-kafka: `send` with borrowed bytes, which uses its C binding, and a callback per
//! record.
//!
//! Quirks: each record has its own `String` for the topic. Callbacks are boxed. Each send also
//! creates a future, which is dropped here.

use std::collections::HashMap;

use confluent_kafka::common::serialization::ByteArraySerializer;
use confluent_kafka::producer::{
    KafkaProducer, Producer, ProducerConfig, ProducerRecord, callback,
};

use crate::job::Job;
use crate::load::{Client, Entry, Results, run};

struct Confluent {
    producer: KafkaProducer<Vec<u8>, Vec<u8>>,
    topic: String,
    results: &'static Results,
}

pub fn drive(job: &Job) {
    run(job, async |results: &'static Results| {
        let config = HashMap::from(
            [
                ("bootstrap.servers", job.brokers.as_str()),
                ("acks", "all"),
                ("enable.idempotence", "true"),
                ("max.in.flight.requests.per.connection", "5"),
                ("buffer.memory", "67108864"),
                ("batch.size", &job.batch.to_string()),
                ("linger.ms", &job.linger.to_string()),
                ("compression.type", &job.codec),
                ("max.request.size", "8388608"),
            ]
            .map(|(key, value)| (key.to_owned(), value.to_owned())),
        );
        let config = ProducerConfig::new(&config).expect("a configuration");
        let (key, value) = (
            ByteArraySerializer::default(),
            ByteArraySerializer::default(),
        );
        Confluent {
            producer: KafkaProducer::new(config, key, value).expect("a producer"),
            topic: job.topic.clone(),
            results,
        }
    });
}

impl Client for Confluent {
    async fn send(&mut self, entry: &Entry, due: u64) {
        let (key, value) = (entry.key.as_deref(), Some(&entry.value[..]));
        let record = ProducerRecord::with_key(self.topic.clone(), key, value);
        let results = self.results;
        let told = callback::new(move |_, error| results.settled(error.is_none(), due));
        let sent = self.producer.send(record, Some(Box::new(told))).await;
        sent.expect("an accepted record");
    }

    async fn finish(self) {
        self.producer.flush().await.expect("a running producer");
        self.producer.close().await.expect("closed");
    }
}
