//! What a transaction's coordinator is asked, and what its answers mean.

use std::sync::Arc;

use super::offsets::GroupOffsets;
use crate::core::broker_error::BrokerError;
use crate::core::identity::Identity;
use crate::core::record::TopicPartition;

/// A request to the coordinator of the transactional id, or of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// InitProducerId: an identity for this transactional id. What another instance had open is aborted,
    /// and that instance fenced. With `bumps`, the next epoch behind this one is asked for: so a newer
    /// instance fences this one, and not the other way round (KIP-360).
    Init { bumps: Option<Identity> },
    /// AddPartitionsToTxn, in protocol 1.
    AddPartitions(Vec<TopicPartition>),
    /// AddOffsetsToTxn with the name of a group, in protocol 1.
    AddOffsets(Arc<str>),
    /// TxnOffsetCommit. It goes to the coordinator of the group.
    CommitOffsets(Arc<GroupOffsets>),
    /// EndTxn.
    End { commit: bool },
    /// DescribeTransactions: who has the transactional id. It changes nothing.
    Describe,
}

impl Request {
    /// Its name, for people to read.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Init { .. } => "InitProducerId",
            Self::AddPartitions(_) => "AddPartitionsToTxn",
            Self::AddOffsets(_) => "AddOffsetsToTxn",
            Self::CommitOffsets(_) => "TxnOffsetCommit",
            Self::End { .. } => "EndTxn",
            Self::Describe => "DescribeTransactions",
        }
    }
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It was carried out. InitProducerId and, in protocol 2, EndTxn bring the identity to use next.
    Done(Option<Identity>),
    /// DescribeTransactions: the state of the transactional id, as Kafka names it, and who may go on with it.
    Described { state: Box<str>, identity: Identity },
    /// The broker refused it; where it has several parts, one of them, which is named.
    Refused {
        error: BrokerError,
        part: Option<Arc<str>>,
    },
    /// The broker has not heard of these partitions yet, and so did nothing for the others either.
    Absent {
        partitions: Vec<TopicPartition>,
        why: Arc<str>,
    },
    /// No answer came: it may have been carried out, or not.
    Unanswered(Arc<str>),
    /// It never left: no broker could be reached.
    Unsent(Arc<str>),
    /// The broker serves the request in no version that is known here.
    NotServed(Arc<str>),
}

/// What a refusal means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It passes: the same request is sent again after a wait. `may_be_done`: perhaps it was carried out.
    Again { may_be_done: bool },
    /// A transaction of this producer is being ended. That takes some milliseconds.
    Busy,
    /// The transaction can only be aborted.
    Abort,
    /// The coordinator has no such transaction, or not of this epoch: it has ended, or another instance
    /// has taken the transactional id.
    Over,
    /// Nothing more can be done until something is changed.
    Final,
}

/// Whether a broker says with this code that it is not the coordinator, or not yet:
/// COORDINATOR_LOAD_IN_PROGRESS, COORDINATOR_NOT_AVAILABLE, NOT_COORDINATOR, NOT_LEADER_OR_FOLLOWER.
pub fn is_not_coordinator(code: i16) -> bool {
    matches!(code, 14 | 15 | 16 | 6)
}

/// Whether this code passes, whatever was asked. Beside those of brokers that are not the coordinator:
/// UNKNOWN_SERVER_ERROR, REQUEST_TIMED_OUT, NETWORK_EXCEPTION, KAFKA_STORAGE_ERROR.
pub fn passes(code: i16) -> bool {
    is_not_coordinator(code) || matches!(code, -1 | 7 | 13 | 56)
}

impl Refusal {
    /// By the code of the answer to `request`.
    pub fn of(request: &Request, code: i16) -> Self {
        use Refusal::{Abort, Again, Busy, Final, Over};
        let sure = Again { may_be_done: false };
        match (request, code) {
            // CONCURRENT_TRANSACTIONS.
            (_, 51) => Busy,
            // COORDINATOR_NOT_AVAILABLE, NOT_COORDINATOR: also after the end was logged.
            (Request::End { .. }, 15 | 16) => Again { may_be_done: true },
            (_, code) if is_not_coordinator(code) => sure,
            // REBALANCE_IN_PROGRESS.
            (Request::CommitOffsets(_), 27) => sure,
            // The log of the coordinator may have it.
            (_, code) if passes(code) => Again { may_be_done: true },
            // UNKNOWN_TOPIC_OR_PARTITION: it may have been created a moment ago.
            (Request::AddPartitions(_) | Request::CommitOffsets(_), 3) => sure,
            // INVALID_PRODUCER_EPOCH, PRODUCER_FENCED.
            (_, 47 | 90) => Over,
            // INVALID_TXN_STATE, INVALID_PRODUCER_ID_MAPPING: at the end of one that was aborted by the
            // coordinator meanwhile, as its time was over, or that was forgotten.
            (Request::Init { .. }, 48) => Final,
            (_, 48 | 49) => Over,
            // TRANSACTION_ABORTABLE.
            (Request::End { commit: true }, 120) => Abort,
            // CLUSTER_ and TRANSACTIONAL_ID_AUTHORIZATION_FAILED, UNSUPPORTED_VERSION, and whatever is
            // wrong with the producer and not with what it sends.
            (Request::Init { .. }, _) | (_, 31 | 35 | 42 | 53) => Final,
            // TOPIC_AUTHORIZATION_FAILED, OPERATION_NOT_ATTEMPTED, GROUP_AUTHORIZATION_FAILED,
            // UNKNOWN_MEMBER_ID, ILLEGAL_GENERATION, FENCED_INSTANCE_ID, TRANSACTION_ABORTABLE and others.
            (Request::End { .. }, _) => Final,
            _ => Abort,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_mean_what_kafka_means_by_them() {
        let again = |may_be_done| Refusal::Again { may_be_done };
        let end = Request::End { commit: true };
        let init = Request::Init { bumps: None };
        let partitions = Request::AddPartitions(Vec::new());
        for (request, code, expected) in [
            (&init, 51, Refusal::Busy),
            (&end, 14, again(false)),
            (&end, 16, again(true)),
            (&init, 16, again(false)),
            (&end, -1, again(true)),
            (&end, 7, again(true)),
            (&end, 47, Refusal::Over),
            (&end, 48, Refusal::Over),
            (&end, 120, Refusal::Abort),
            (&partitions, 3, again(false)),
            (&partitions, 29, Refusal::Abort),
            (&partitions, 120, Refusal::Abort),
            (&partitions, 90, Refusal::Over),
            (&init, 90, Refusal::Over),
            (&init, 53, Refusal::Final),
            (&init, 3, Refusal::Final),
        ] {
            assert_eq!(Refusal::of(request, code), expected, "{request:?} {code}");
        }
    }
}
