//! Asks the coordinators of a transactional id and of groups.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::coordinator::{CoordinatorClient, CoordinatorError};
use crate::core::broker_error::BrokerError;
use crate::core::cluster::Nodes;
use crate::core::identity::Identity;
use crate::core::record::TopicPartition;
use crate::core::transaction::{Answer, GroupOffsets, Request, is_not_coordinator, passes};
use crate::core::wire::add_offsets_to_txn::{self, AddOffsetsToTxnResponse};
use crate::core::wire::add_partitions_to_txn::{self, AddPartitionsToTxnResponse};
use crate::core::wire::describe_transactions::{self, DescribeTransactionsResponse};
use crate::core::wire::end_txn::{self, EndTxnResponse};
use crate::core::wire::find_coordinator::CoordinatorKey;
use crate::core::wire::init_producer_id::{self, Asker};
use crate::core::wire::txn_offset_commit::{self, CommittedOffset, Group, TxnOffsetCommitResponse};
use crate::core::wire::{
    Api, InitProducerIdResponse, PartitionResult, TransactionProtocol, Transactor,
};

/// Makes the client for the coordinator of one key.
pub type DialCoordinator = Box<dyn Fn(CoordinatorKey) -> CoordinatorClient>;

/// The coordinators that the transactions of one producer are spoken of with.
pub struct TransactionClient {
    id: Arc<str>,
    /// After which time the coordinator aborts a transaction.
    timeout: Duration,
    dial: DialCoordinator,
    coordinator: CoordinatorClient,
    groups: BTreeMap<Arc<str>, CoordinatorClient>,
    nodes: Nodes,
}

/// OPERATION_NOT_ATTEMPTED: another partition of the request is the cause.
const NOT_ATTEMPTED: i16 = 55;
/// UNKNOWN_TOPIC_OR_PARTITION.
const ABSENT: i16 = 3;

impl TransactionClient {
    pub fn new(id: Arc<str>, timeout: Duration, dial: DialCoordinator) -> Self {
        Self {
            coordinator: dial(CoordinatorKey::Transaction(Arc::clone(&id))),
            id,
            timeout,
            dial,
            groups: BTreeMap::new(),
            nodes: Nodes::default(),
        }
    }

    /// Sets the brokers of the cluster, from the newest metadata.
    pub fn set_nodes(&mut self, nodes: &Nodes) {
        self.nodes.clone_from(nodes);
        self.coordinator.set_nodes(nodes);
        for group in self.groups.values_mut() {
            group.set_nodes(nodes);
        }
    }

    /// What the coordinator that is connected speaks.
    pub fn protocol(&self) -> Option<TransactionProtocol> {
        self.coordinator.protocol()
    }

    /// Makes one attempt to have a request answered, on behalf of this identity.
    pub async fn ask(
        &mut self,
        request: &Request,
        protocol: TransactionProtocol,
        identity: Option<Identity>,
    ) -> Answer {
        match (request, identity) {
            (Request::Init { bumps }, _) => self.init(*bumps).await,
            (Request::Describe, _) => self.describe().await,
            (_, None) => Answer::Unsent("there is no producer id".into()),
            (Request::AddPartitions(partitions), Some(identity)) => {
                self.add_partitions(partitions, identity).await
            }
            (Request::AddOffsets(group), Some(identity)) => self.add_offsets(group, identity).await,
            (Request::CommitOffsets(offsets), Some(identity)) => {
                self.commit_offsets(offsets, protocol, identity).await
            }
            (Request::End { commit }, Some(identity)) => {
                self.end(*commit, protocol, identity).await
            }
        }
    }

    async fn init(&mut self, bumps: Option<Identity>) -> Answer {
        let asker = Asker::Transactional {
            id: &self.id,
            timeout: self.timeout,
            bump: bumps.map(|it| (it.producer_id, it.epoch)),
        };
        let encode = |version, correlation_id, client_id: &str| {
            init_producer_id::encode_for(version, correlation_id, client_id, asker)
        };
        let (api, decode) = (Api::InitProducerId, InitProducerIdResponse::decode);
        let any = TransactionProtocol::V1;
        let asked = self.coordinator.ask(any, api, encode, decode).await;
        let told = asked.map(|it| {
            let InitProducerIdResponse {
                error_code,
                producer_id,
                epoch,
                ..
            } = it;
            match Identity::given(producer_id, epoch) {
                Err(why) if error_code == 0 => Answer::Unanswered(why.to_string().into()),
                given => of_code(error_code, given.ok()),
            }
        });
        answer(told, &mut self.coordinator)
    }

    async fn describe(&mut self) -> Answer {
        let encode = |version, correlation_id, client_id: &str| {
            describe_transactions::encode(version, correlation_id, client_id, &self.id)
        };
        let (api, decode) = (
            Api::DescribeTransactions,
            DescribeTransactionsResponse::decode,
        );
        let any = TransactionProtocol::V1;
        let asked = self.coordinator.ask(any, api, encode, decode).await;
        let told = asked.map(|it| match it.states.into_iter().next() {
            Some(told) if told.error_code == 0 => Answer::Described {
                state: told.state.into(),
                identity: Identity {
                    producer_id: told.identity.0,
                    epoch: told.identity.1,
                },
            },
            Some(told) => of_code(told.error_code, None),
            None => Answer::Unanswered("the answer to DescribeTransactions is empty".into()),
        });
        answer(told, &mut self.coordinator)
    }

    async fn add_partitions(
        &mut self,
        partitions: &[TopicPartition],
        identity: Identity,
    ) -> Answer {
        let transactor = transactor(&self.id, identity);
        let encode = |version, correlation_id, client_id: &str| {
            let partitions = partitions.iter().map(|it| (&*it.topic, it.partition));
            add_partitions_to_txn::encode(
                version,
                correlation_id,
                client_id,
                transactor,
                partitions,
            )
        };
        let (api, decode) = (Api::AddPartitionsToTxn, AddPartitionsToTxnResponse::decode);
        let any = TransactionProtocol::V1;
        let asked = self.coordinator.ask(any, api, encode, decode).await;
        let told = asked.map(|it| of_partitions(&it.partitions, of_parts(&it.partitions)));
        answer(told, &mut self.coordinator)
    }

    async fn add_offsets(&mut self, group: &str, identity: Identity) -> Answer {
        let transactor = transactor(&self.id, identity);
        let encode = |version, correlation_id, client_id: &str| {
            add_offsets_to_txn::encode(version, correlation_id, client_id, transactor, group)
        };
        let (api, decode) = (Api::AddOffsetsToTxn, AddOffsetsToTxnResponse::decode);
        let any = TransactionProtocol::V1;
        let asked = self.coordinator.ask(any, api, encode, decode).await;
        let told = asked.map(|it| of_code(it.error_code, None));
        match answer(told, &mut self.coordinator) {
            Answer::Refused { error, .. } => Answer::Refused {
                error,
                part: Some(format!("group {group}").into()),
            },
            answer => answer,
        }
    }

    async fn commit_offsets(
        &mut self,
        offsets: &GroupOffsets,
        protocol: TransactionProtocol,
        identity: Identity,
    ) -> Answer {
        let GroupOffsets { group, offsets } = offsets;
        let transactor = transactor(&self.id, identity);
        let member = Group {
            id: &group.group,
            generation: group.generation,
            member: &group.member,
            instance: group.instance.as_deref(),
        };
        let encode = |version, correlation_id, client_id: &str| {
            let offsets = offsets.iter().map(|it| CommittedOffset {
                topic: &it.partition.topic,
                partition: it.partition.partition,
                offset: it.offset,
                leader_epoch: it.leader_epoch.unwrap_or(-1),
                metadata: it.metadata.as_deref().unwrap_or_default(),
            });
            txn_offset_commit::encode(
                version,
                correlation_id,
                client_id,
                transactor,
                member,
                offsets,
            )
        };
        let (api, decode) = (Api::TxnOffsetCommit, TxnOffsetCommitResponse::decode);
        let (dial, nodes) = (&self.dial, &self.nodes);
        let name = Arc::clone(&group.group);
        let coordinator = self.groups.entry(name).or_insert_with_key(|name| {
            let mut coordinator = dial(CoordinatorKey::Group(Arc::clone(name)));
            coordinator.set_nodes(nodes);
            coordinator
        });
        let asked = coordinator.ask(protocol, api, encode, decode).await;
        let told = asked.map(|it| of_parts(&it.partitions));
        answer(told, coordinator)
    }

    async fn end(
        &mut self,
        commit: bool,
        protocol: TransactionProtocol,
        identity: Identity,
    ) -> Answer {
        let transactor = transactor(&self.id, identity);
        let encode = |version, correlation_id, client_id: &str| {
            end_txn::encode(version, correlation_id, client_id, transactor, commit)
        };
        let (api, decode) = (Api::EndTxn, EndTxnResponse::decode);
        let asked = self.coordinator.ask(protocol, api, encode, decode).await;
        let told = asked.map(|it| {
            let next = it
                .next
                .map(|(producer_id, epoch)| Identity { producer_id, epoch });
            of_code(it.error_code, next)
        });
        answer(told, &mut self.coordinator)
    }
}

fn transactor(id: &str, identity: Identity) -> Transactor<'_> {
    Transactor {
        transactional_id: id,
        producer_id: identity.producer_id,
        epoch: identity.epoch,
    }
}

/// What came of it. Whoever says that it is not the coordinator, or not yet, or does not answer, is asked no
/// more before the coordinator was looked for again.
fn answer(told: Result<Answer, CoordinatorError>, coordinator: &mut CoordinatorClient) -> Answer {
    let answer = match told {
        Ok(answer) => answer,
        Err(error) => return unanswered(&error, coordinator),
    };
    if let Answer::Refused { error, .. } = &answer
        && is_not_coordinator(error.code)
    {
        coordinator.forget();
    }
    answer
}

fn of_code(code: i16, identity: Option<Identity>) -> Answer {
    match code {
        0 => Answer::Done(identity),
        code => Answer::Refused {
            error: BrokerError::new(code),
            part: None,
        },
    }
}

/// The error of a part that is the cause, if there is one: rather one that does not pass.
fn of_parts(parts: &[PartitionResult]) -> Answer {
    let failed = || parts.iter().filter(|part| part.error_code != 0);
    let cause = |not: &[i16]| failed().find(|part| !not.contains(&part.error_code));
    let cause = cause(&[NOT_ATTEMPTED, ABSENT]).or_else(|| cause(&[NOT_ATTEMPTED]));
    match cause.or_else(|| failed().next()) {
        None => Answer::Done(None),
        Some(part) => Answer::Refused {
            error: BrokerError::new(part.error_code),
            part: Some(format!("{}-{}", part.topic, part.partition).into()),
        },
    }
}

/// The same of a request of which the broker attempts all or nothing. Where nothing else is wrong, those that
/// it does not know are named, so that the others can be asked for without them.
fn of_partitions(parts: &[PartitionResult], answer: Answer) -> Answer {
    match answer {
        Answer::Refused { error, .. } if error.code == ABSENT => {
            let absent = parts.iter().filter(|part| part.error_code == ABSENT);
            let partitions = absent.map(|it| TopicPartition::new(&*it.topic, it.partition));
            Answer::Absent {
                partitions: partitions.collect(),
                why: error.to_string().into(),
            }
        }
        answer => answer,
    }
}

fn unanswered(error: &CoordinatorError, coordinator: &mut CoordinatorClient) -> Answer {
    match error {
        // The broker has no version of the request, or none that can say what it is to say.
        CoordinatorError::NotSent(net) if net.is_unsupported() => {
            return Answer::NotServed(net.to_string().into());
        }
        CoordinatorError::Refused { key, error } if !passes(error.code) => {
            let part = Some(key.to_string().into());
            let error = error.clone();
            return Answer::Refused { error, part };
        }
        _ => coordinator.forget(),
    }
    let why = error.to_string().into();
    match error.is_doubt() {
        true => Answer::Unanswered(why),
        false => Answer::Unsent(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_parts_the_cause_is_named() {
        let part = |partition, error_code| PartitionResult {
            topic: "t".into(),
            partition,
            error_code,
        };
        assert_eq!(of_parts(&[part(0, 0)]), Answer::Done(None));
        let refused = |code, part: &str| Answer::Refused {
            error: BrokerError::new(code),
            part: Some(part.into()),
        };
        let parts = [part(0, 0), part(1, NOT_ATTEMPTED), part(2, 29)];
        assert_eq!(of_parts(&parts), refused(29, "t-2"));
        assert_eq!(of_parts(&parts[..2]), refused(NOT_ATTEMPTED, "t-1"));
        // What may pass is not the cause, if something else is.
        let parts = [part(0, ABSENT), part(1, NOT_ATTEMPTED), part(2, 29)];
        assert_eq!(of_parts(&parts), refused(29, "t-2"));
    }

    #[test]
    fn partitions_that_are_not_known_are_named() {
        let part = |partition, error_code| PartitionResult {
            topic: "t".into(),
            partition,
            error_code,
        };
        let absent = |numbers: &[i32]| {
            let partitions = numbers.iter().map(|it| TopicPartition::new("t", *it));
            Answer::Absent {
                partitions: partitions.collect(),
                why: BrokerError::new(ABSENT).to_string().into(),
            }
        };
        let of = |parts: &[_]| of_partitions(parts, of_parts(parts));
        let parts = [part(0, ABSENT), part(1, NOT_ATTEMPTED), part(2, ABSENT)];
        assert_eq!(of(&parts), absent(&[0, 2]));
        let refused = of(&[part(0, ABSENT), part(1, 29)]);
        assert!(matches!(refused, Answer::Refused { .. }), "{refused:?}");
        assert_eq!(of(&[part(0, 0)]), Answer::Done(None));
    }
}
