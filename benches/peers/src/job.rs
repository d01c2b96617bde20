//! The arguments of a client's process: words like `linger=5`, the same in every language.

use crate::cases::{Case, Transactions};

#[derive(Clone)]
pub struct Job {
    pub brokers: String,
    /// A file with the certificate to trust; empty where connections are not encrypted.
    pub certificate: String,
    pub topic: String,
    pub partitions: usize,
    pub value: usize,
    pub key: usize,
    pub batch: usize,
    /// Milliseconds.
    pub linger: u64,
    pub codec: String,
    pub rate: u64,
    /// Milliseconds before the measured window, and of the window.
    pub warm_up: u64,
    pub window: u64,
    pub transactions: Option<Transactions>,
    /// Tasks that each send a record and await its outcome; 0 for none of them.
    pub tasks: usize,
}

impl Job {
    pub fn new(
        case: &Case,
        (brokers, certificate): (&str, &str),
        warm_up: u64,
        window: u64,
    ) -> Self {
        Self {
            brokers: brokers.into(),
            certificate: certificate.into(),
            topic: case.topic(),
            partitions: case.partitions as usize,
            value: case.value,
            key: case.key,
            batch: case.batch,
            linger: case.linger,
            codec: case.codec.into(),
            rate: case.rate,
            warm_up,
            window,
            transactions: case.transactions,
            tasks: case.tasks,
        }
    }

    pub fn words(&self) -> Vec<String> {
        // Without transactions: 0.
        let (time, records) = self.transactions.map_or((0, 0), |it| (it.time, it.records));
        // As large as every language has them.
        let [time, records] = [time, records].map(|it| it.min(i32::MAX as u64));
        vec![
            format!("brokers={}", self.brokers),
            format!("certificate={}", self.certificate),
            format!("topic={}", self.topic),
            format!("partitions={}", self.partitions),
            format!("value={}", self.value),
            format!("key={}", self.key),
            format!("batch={}", self.batch),
            format!("linger={}", self.linger),
            format!("codec={}", self.codec),
            format!("rate={}", self.rate),
            format!("warm_up={}", self.warm_up),
            format!("window={}", self.window),
            format!("transaction_ms={time}"),
            format!("transaction_records={records}"),
            format!("tasks={}", self.tasks),
        ]
    }

    pub fn parse(words: impl Iterator<Item = String>) -> Self {
        let words: std::collections::HashMap<_, _> = words
            .filter_map(|word| {
                let (name, value) = word.split_once('=')?;
                Some((name.to_owned(), value.to_owned()))
            })
            .collect();
        let text = |name: &str| words[name].clone();
        let number = |name: &str| words[name].parse::<u64>().expect("a number");
        Self {
            brokers: text("brokers"),
            certificate: text("certificate"),
            topic: text("topic"),
            partitions: number("partitions") as usize,
            value: number("value") as usize,
            key: number("key") as usize,
            batch: number("batch") as usize,
            linger: number("linger"),
            codec: text("codec"),
            rate: number("rate"),
            warm_up: number("warm_up"),
            window: number("window"),
            transactions: Some(Transactions {
                time: number("transaction_ms"),
                records: number("transaction_records"),
            })
            .filter(|it| it.records > 0),
            tasks: number("tasks") as usize,
        }
    }
}
