//! Reads records, makes others of them, and commits both together.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use forebay::transaction::{GroupMetadata, NotCommitted, ReadUpTo, TransactionError};
use forebay::{Config, Record, TopicPartition, TransactionalProducer};
use krafka::Kafka;
use krafka::consumer::{AutoOffsetReset, Consumer, ConsumerRecord, IsolationLevel};

/// Where it reads, where it writes, and who it is.
#[derive(Debug, Clone)]
pub struct Job {
    pub servers: String,
    pub from: String,
    pub to: String,
    pub group: String,
    /// No two workers that run at a time have the same.
    pub transactional_id: String,
}

pub struct Worker {
    consumer: Consumer,
    producer: TransactionalProducer,
    job: Job,
}

/// Why a transaction did not come about. What was read is read again.
type Failed = Box<dyn Error + Send + Sync>;

impl Worker {
    pub async fn start(job: Job) -> Result<Self, Failed> {
        let config = Config::builder()
            .bootstrap_servers(&job.servers)
            .set("transactional.id", &job.transactional_id)
            .build()?;
        let kafka = Kafka::builder(&job.servers).connect().await?;
        let consumer = kafka
            .consumer(&job.group)
            .auto_offset_reset(AutoOffsetReset::Earliest)
            .isolation_level(IsolationLevel::ReadCommitted)
            // Started again, it takes its own place, and does not wait until it is missed.
            .group_instance_id(&job.transactional_id)
            // The transaction commits them.
            .enable_auto_commit(false)
            .build()
            .await?;
        consumer.subscribe([&job.from]).await?;
        Ok(Self {
            consumer,
            producer: TransactionalProducer::start(config)?,
            job,
        })
    }

    /// Works on what is there next. Returns how many records that were.
    pub async fn step(&self) -> Result<usize, Failed> {
        let records = self.consumer.poll(Duration::from_millis(500)).await?;
        if records.is_empty() {
            return Ok(0);
        }
        match self.transact(&records).await {
            Ok(()) => Ok(records.len()),
            Err(why) => {
                // Another worker has the id. It reads what this one has read.
                let error = why.downcast_ref::<TransactionError>();
                if matches!(error, Some(TransactionError::Fenced { .. })) {
                    return Err(why);
                }
                eprintln!("once more: {why}");
                self.go_back(&records).await?;
                Ok(0)
            }
        }
    }

    /// What is made of the records, and that they were read, is there for others, or neither is.
    async fn transact(&self, records: &[ConsumerRecord]) -> Result<(), Failed> {
        let transaction = self.producer.begin().await?;
        let mut read = BTreeMap::new();
        for record in records {
            let made = Record::to(self.job.to.as_str()).value(shouted(record));
            let made = match &record.key {
                Some(key) => made.key(key.clone()),
                None => made,
            };
            let _receipt = transaction.send(made).await?;
            read.insert(
                (Arc::clone(&record.topic), record.partition),
                record.offset + 1,
            );
        }
        let read = read.into_iter().map(|((topic, partition), offset)| {
            ReadUpTo::new(TopicPartition::new(topic, partition), offset)
        });
        transaction.send_offsets(&self.group().await, read).await?;
        let mut committed = transaction.commit().await;
        while let Err(NotCommitted::InDoubt(in_doubt)) = committed {
            committed = in_doubt.resolve().await;
        }
        Ok(committed?)
    }

    /// Who this worker is in its group, now: it changes with each rebalance.
    async fn group(&self) -> GroupMetadata {
        let group = GroupMetadata::new(self.job.group.as_str());
        match self.consumer.group_metadata().await {
            Some(me) => group
                .member(me.member_id(), me.generation_id())
                .instance(self.job.transactional_id.as_str()),
            None => group,
        }
    }

    /// Goes back to what is committed. Where the commit is not known, that tells.
    async fn go_back(&self, records: &[ConsumerRecord]) -> Result<(), Failed> {
        let partitions: std::collections::BTreeSet<_> =
            records.iter().map(|record| record.partition).collect();
        let from = self.job.from.as_str();
        let asked: Vec<_> = partitions.iter().map(|at| (from, *at)).collect();
        let committed = self.consumer.committed(&asked).await?;
        for partition in partitions {
            match committed.get(&(from.to_owned(), partition)) {
                Some(position) => self.consumer.seek(from, partition, position.offset).await?,
                None => self.consumer.seek_to_beginning(from, partition).await?,
            }
        }
        Ok(())
    }

    pub async fn close(&self) {
        let _ = self.consumer.close().await;
        let _ = self.producer.close(Duration::from_secs(10)).await;
    }
}

fn shouted(record: &ConsumerRecord) -> Bytes {
    let value = record.value.as_deref().unwrap_or_default();
    Bytes::from(value.to_ascii_uppercase())
}
