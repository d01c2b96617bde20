//! What the requests of a transaction have in common.

use std::sync::Arc;

use super::reader::Reader;
use super::{Api, WireError};

/// Which of the two protocols of transactions is spoken. Versions of requests alone never say: a broker
/// offers those of the second before the cluster has finalized it.
///
/// In the second (KIP-890) the epoch counts up with each transaction, and brokers add what is written to
/// and committed to a transaction by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionProtocol {
    V1,
    V2,
}

impl TransactionProtocol {
    /// The protocol at a level of the feature `transaction.version`. Level 1 only changes the
    /// coordinators' own records.
    pub const fn of(transaction_version: i16) -> Self {
        match transaction_version {
            2.. => Self::V2,
            _ => Self::V1,
        }
    }

    /// The versions of a transactional producer's request that belong to this protocol, from lowest to
    /// highest.
    pub const fn versions(self, api: Api) -> (i16, i16) {
        let (min, max) = api.ours();
        let last_of_v1 = match api {
            Api::Produce => 11,
            Api::EndTxn | Api::TxnOffsetCommit => 4,
            _ => return (min, max),
        };
        match self {
            Self::V1 => (min, last_of_v1),
            Self::V2 => (last_of_v1 + 1, max),
        }
    }
}

/// Who has a transaction, as its requests name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transactor<'a> {
    pub transactional_id: &'a str,
    pub producer_id: i64,
    pub epoch: i16,
}

/// What became of one partition of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionResult {
    pub topic: Arc<str>,
    pub partition: i32,
    pub error_code: i16,
}

impl PartitionResult {
    /// Reads an array of topics with their partitions.
    pub(super) fn read_all(reader: &mut Reader<'_>) -> Result<Vec<Self>, WireError> {
        let mut results = Vec::new();
        for _ in 0..reader.count(5)? {
            let topic: Arc<str> = reader.text()?.into();
            let count = reader.count(6)?;
            results.reserve(count);
            for _ in 0..count {
                let (partition, error_code) = (reader.i32()?, reader.i16()?);
                reader.skip_tags()?;
                let topic = Arc::clone(&topic);
                results.push(Self {
                    topic,
                    partition,
                    error_code,
                });
            }
            reader.skip_tags()?;
        }
        Ok(results)
    }
}

/// Which records are told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// All up to the high watermark.
    ReadUncommitted,
    /// All up to the last stable offset, which no open transaction begins before. Those of aborted ones
    /// are among them.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "what is looked for may not be committed")
    )]
    ReadCommitted,
}

impl Isolation {
    pub(super) const fn level(self) -> i8 {
        match self {
            Self::ReadUncommitted => 0,
            Self::ReadCommitted => 1,
        }
    }
}
