//! The requests of transactions, as a broker answers them.

use std::collections::BTreeMap;

use bytes::Bytes;
use kafka_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult,
};
use kafka_protocol::messages::describe_transactions_response::TransactionState;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, AddPartitionsToTxnRequest,
    AddPartitionsToTxnResponse, BrokerId, DescribeTransactionsRequest,
    DescribeTransactionsResponse, EndTxnRequest, EndTxnResponse, FindCoordinatorRequest,
    FindCoordinatorResponse, InitProducerIdRequest, InitProducerIdResponse, ProducerId,
    TransactionalId, TxnOffsetCommitRequest, TxnOffsetCommitResponse,
};
use kafka_protocol::protocol::{Decodable, StrBytes};
use uuid::Uuid;

use crate::broker::{Life, encoded, host};
use crate::coordinator::Kind;
use crate::group::{Member, Place};
use crate::log::code;
use crate::transaction::{Participant, V1, V2};

pub(crate) const FIND_COORDINATOR: i16 = 10;
pub(crate) const INIT_PRODUCER_ID: i16 = 22;
pub(crate) const ADD_PARTITIONS_TO_TXN: i16 = 24;
pub(crate) const ADD_OFFSETS_TO_TXN: i16 = 25;
pub(crate) const END_TXN: i16 = 26;
pub(crate) const TXN_OFFSET_COMMIT: i16 = 28;
pub(crate) const DESCRIBE_TRANSACTIONS: i16 = 65;

/// Clients before this version of a request know INVALID_PRODUCER_EPOCH alone.
fn told(code: i16, version: i16, fenced_since: i16) -> i16 {
    match code {
        code::PRODUCER_FENCED if version < fenced_since => code::INVALID_PRODUCER_EPOCH,
        other => other,
    }
}

fn read<R: Decodable>(frame: &mut Bytes, version: i16) -> R {
    let request = R::decode(frame, version).expect("a request");
    assert!(frame.is_empty(), "bytes behind a request");
    request
}

impl Life {
    /// `None` when the broker has died over it.
    pub(crate) async fn transactional(
        &self,
        (api, version, id): (i16, i16, i32),
        mut frame: Bytes,
    ) -> Option<Bytes> {
        let frame = &mut frame;
        Some(match api {
            FIND_COORDINATOR => {
                let answer = self.find_coordinator(&read(frame, version), version);
                encoded(id, version, &answer)
            }
            INIT_PRODUCER_ID => {
                let answer = self.init_producer_id(&read(frame, version), version);
                encoded(id, version, &answer)
            }
            ADD_PARTITIONS_TO_TXN => {
                let answer = self.add_partitions(&read(frame, version), version);
                encoded(id, version, &answer)
            }
            ADD_OFFSETS_TO_TXN => {
                let answer = self.add_offsets(&read(frame, version), version);
                encoded(id, version, &answer)
            }
            END_TXN => encoded(id, version, &self.end_txn(&read(frame, version), version)),
            TXN_OFFSET_COMMIT => {
                let request = read(frame, version);
                let answer = self.txn_offset_commit(&request, version).await?;
                encoded(id, version, &answer)
            }
            DESCRIBE_TRANSACTIONS => encoded(
                id,
                version,
                &self.describe_transactions(&read(frame, version)),
            ),
            other => panic!("nobody asks with api key {other}"),
        })
    }

    fn find_coordinator(
        &self,
        request: &FindCoordinatorRequest,
        version: i16,
    ) -> FindCoordinatorResponse {
        let one = |key: &StrBytes| {
            let answer = Coordinator::default()
                .with_key(key.clone())
                .with_node_id(BrokerId(-1))
                .with_port(-1);
            match self.coordinator(request.key_type, key) {
                Ok((broker, port)) => answer
                    .with_node_id(BrokerId(broker as i32))
                    .with_host(StrBytes::from_string(host(broker)))
                    .with_port(i32::from(port)),
                Err(code) => answer.with_error_code(code),
            }
        };
        if version >= 4 {
            let all = request.coordinator_keys.iter().map(one);
            return FindCoordinatorResponse::default().with_coordinators(all.collect());
        }
        let one = one(&request.key);
        FindCoordinatorResponse::default()
            .with_error_code(one.error_code)
            .with_node_id(one.node_id)
            .with_host(one.host)
            .with_port(one.port)
    }

    fn coordinator(&self, key_type: i8, key: &str) -> Result<(usize, u16), i16> {
        let kind = match key_type {
            0 => Kind::Group,
            1 => Kind::Transaction,
            _ => return Err(code::INVALID_REQUEST),
        };
        let kafka = &self.kafka;
        if kind == Kind::Transaction {
            kafka.permits()?;
        }
        if kafka.conditions.get().no_coordinators {
            return Err(code::COORDINATOR_NOT_AVAILABLE);
        }
        let broker = kafka.believed(self.broker, kind, key);
        let broker = broker.ok_or(code::COORDINATOR_NOT_AVAILABLE)?;
        let cluster = kafka.cluster.borrow();
        match cluster.brokers[self.broker].peers[broker] {
            true => Ok((broker, cluster.brokers[broker].port)),
            false => Err(code::COORDINATOR_NOT_AVAILABLE),
        }
    }

    fn init_producer_id(
        &self,
        request: &InitProducerIdRequest,
        version: i16,
    ) -> InitProducerIdResponse {
        let kafka = &self.kafka;
        let Some(id) = &request.transactional_id else {
            if kafka.conditions.get().no_producer_ids {
                let unable = [
                    code::COORDINATOR_LOAD_IN_PROGRESS,
                    code::COORDINATOR_NOT_AVAILABLE,
                ];
                let code = unable[kafka.below(2) as usize];
                return InitProducerIdResponse::default().with_error_code(code);
            }
            return InitProducerIdResponse::default()
                .with_producer_id(ProducerId(kafka.new_producer_id()))
                .with_producer_epoch(kafka.settings.first_epoch);
        };
        // Before version 3 there is no identity to tell.
        let expected = match (*request.producer_id, request.producer_epoch) {
            _ if version < 3 => Ok(None),
            (-1, -1) => Ok(None),
            (-1, _) | (_, -1) => Err(code::INVALID_REQUEST),
            identity => Ok(Some(identity)),
        };
        let timeout = request.transaction_timeout_ms;
        let expected = kafka.permits().and(expected);
        let inited = expected.and_then(|expected| kafka.init(self.broker, id, expected, timeout));
        let answer = InitProducerIdResponse::default();
        match inited {
            Ok((id, epoch)) => answer
                .with_producer_id(ProducerId(id))
                .with_producer_epoch(epoch),
            Err(code) => answer
                .with_producer_id(ProducerId(-1))
                .with_producer_epoch(-1)
                .with_error_code(told(code, version, 4)),
        }
    }

    fn add_partitions(
        &self,
        request: &AddPartitionsToTxnRequest,
        version: i16,
    ) -> AddPartitionsToTxnResponse {
        if version >= 4 {
            self.kafka.not_for_clients(ADD_PARTITIONS_TO_TXN, version);
            return AddPartitionsToTxnResponse::default()
                .with_error_code(code::CLUSTER_AUTHORIZATION_FAILED);
        }
        let topics = &request.v3_and_below_topics;
        let located: Vec<Vec<_>> = topics
            .iter()
            .map(|topic| {
                let all = topic.partitions.iter();
                all.map(|it| self.locate(&topic.name, Uuid::nil(), *it, false))
                    .collect()
            })
            .collect();
        let all: Result<Vec<_>, i16> = located.iter().flatten().copied().collect();
        let added = all.map(|all| {
            let all = all.into_iter().map(Participant::Partition).collect();
            let id = &*request.v3_and_below_transactional_id;
            let identity = (
                *request.v3_and_below_producer_id,
                request.v3_and_below_producer_epoch,
            );
            let added = self.kafka.add_ahead(self.broker, (id, identity), all, V1);
            added.map_or_else(|code| told(code, version, 2), |()| 0)
        });
        let result = |(partition, located): (&i32, &Result<_, i16>)| {
            let code = match (added, located) {
                (Ok(code), _) => code,
                (Err(_), Err(code)) => *code,
                (Err(_), Ok(_)) => code::OPERATION_NOT_ATTEMPTED,
            };
            AddPartitionsToTxnPartitionResult::default()
                .with_partition_index(*partition)
                .with_partition_error_code(code)
        };
        let results = topics.iter().zip(&located).map(|(topic, located)| {
            let partitions = topic.partitions.iter().zip(located).map(result);
            AddPartitionsToTxnTopicResult::default()
                .with_name(topic.name.clone())
                .with_results_by_partition(partitions.collect())
        });
        AddPartitionsToTxnResponse::default().with_results_by_topic_v3_and_below(results.collect())
    }

    fn add_offsets(
        &self,
        request: &AddOffsetsToTxnRequest,
        version: i16,
    ) -> AddOffsetsToTxnResponse {
        let identity = (*request.producer_id, request.producer_epoch);
        let group = vec![Participant::Group(request.group_id.to_string())];
        let of = (&*request.transactional_id.0, identity);
        let added = self.kafka.add(self.broker, of, group, V1);
        let code = added.map_or_else(|code| told(code, version, 2), |()| 0);
        AddOffsetsToTxnResponse::default().with_error_code(code)
    }

    fn describe_transactions(
        &self,
        request: &DescribeTransactionsRequest,
    ) -> DescribeTransactionsResponse {
        let kafka = &self.kafka;
        let one = |id: &TransactionalId| {
            let told = kafka.permits();
            let told = told.and_then(|()| kafka.describe(self.broker, id));
            let answer = TransactionState::default().with_transactional_id(id.clone());
            match told {
                Ok(it) => answer
                    .with_transaction_state(StrBytes::from_string(format!("{:?}", it.state)))
                    .with_transaction_timeout_ms(it.timeout)
                    .with_transaction_start_time_ms(it.started)
                    .with_producer_id(ProducerId(it.producer_id))
                    .with_producer_epoch(it.epoch),
                Err(code) => answer.with_error_code(code),
            }
        };
        let all = request.transactional_ids.iter().map(one).collect();
        DescribeTransactionsResponse::default().with_transaction_states(all)
    }

    fn end_txn(&self, request: &EndTxnRequest, version: i16) -> EndTxnResponse {
        let speaks = match version >= 5 {
            true => V2,
            false => V1,
        };
        if speaks == V2 {
            self.kafka.spoke_v2(END_TXN, version);
        }
        let identity = (*request.producer_id, request.producer_epoch);
        let of = (&*request.transactional_id.0, identity);
        let ended = self.kafka.end(self.broker, of, request.committed, speaks);
        let (code, (id, epoch)) = match ended {
            Ok(next) => (0, next.unwrap_or((-1, -1))),
            Err(code) => (told(code, version, 2), (-1, -1)),
        };
        let answer = EndTxnResponse::default().with_error_code(code);
        match version >= 5 {
            true => answer
                .with_producer_id(ProducerId(id))
                .with_producer_epoch(epoch),
            false => answer,
        }
    }

    async fn txn_offset_commit(
        &self,
        request: &TxnOffsetCommitRequest,
        version: i16,
    ) -> Option<TxnOffsetCommitResponse> {
        let mut unknown = BTreeMap::new();
        for topic in &request.topics {
            for it in &topic.partitions {
                let at = (topic.name.to_string(), it.partition_index);
                if let Err(code) = self.locate(&topic.name, Uuid::nil(), at.1, false) {
                    unknown.insert(at, code);
                }
            }
        }
        let committed = self.commit_offsets(request, version, &unknown).await?;
        let code = |name: &str, partition: i32| {
            let code = unknown.get(&(name.to_owned(), partition)).copied();
            code.or(committed.err()).unwrap_or(0)
        };
        let topics = request.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|it| {
                TxnOffsetCommitResponsePartition::default()
                    .with_partition_index(it.partition_index)
                    .with_error_code(code(&topic.name, it.partition_index))
            });
            TxnOffsetCommitResponseTopic::default()
                .with_name(topic.name.clone())
                .with_partitions(partitions.collect())
        });
        Some(TxnOffsetCommitResponse::default().with_topics(topics.collect()))
    }

    /// `None` when the broker has died over it.
    async fn commit_offsets(
        &self,
        request: &TxnOffsetCommitRequest,
        version: i16,
        unknown: &BTreeMap<Place, i16>,
    ) -> Option<Result<(), i16>> {
        let kafka = &self.kafka;
        let adds = version >= 5;
        if adds {
            kafka.spoke_v2(TXN_OFFSET_COMMIT, version);
        }
        let (id, group) = (&*request.transactional_id.0, &*request.group_id.0);
        let identity = (*request.producer_id, request.producer_epoch);
        if let Err(code) = kafka.coordinates(self.broker, Kind::Group, group) {
            return Some(Err(code));
        }
        let open = {
            let groups = kafka.groups.borrow();
            groups.get(group).is_some_and(|it| it.is_open(identity))
        };
        if !open {
            let participant = [Participant::Group(group.to_string())];
            let how = (adds, version >= 4);
            let asked = self
                .ask_coordinator((id, identity), &participant, how)
                .await?;
            let asked = asked.map_err(|code| match code {
                code::UNKNOWN_TOPIC_OR_PARTITION => code::COORDINATOR_NOT_AVAILABLE,
                // An older client does not expect it here.
                code::CONCURRENT_TRANSACTIONS if !adds => code::COORDINATOR_NOT_AVAILABLE,
                other => other,
            });
            if asked.is_err() {
                return Some(asked);
            }
            // The answer may be late: the transaction may have ended.
            let is_in = kafka
                .transaction(id)
                .is_some_and(|it| !it.is_ending() && it.verify(identity, &participant[0]).is_ok());
            if !is_in {
                return Some(Err(code::INVALID_TXN_STATE));
            }
        }
        if let Err(code) = kafka.coordinates(self.broker, Kind::Group, group) {
            return Some(Err(code));
        }
        let offsets = request.topics.iter().flat_map(|topic| {
            let name = topic.name.to_string();
            let all = topic.partitions.iter();
            all.map(move |it| ((name.clone(), it.partition_index), it.committed_offset))
        });
        let offsets = offsets.filter(|(place, _)| !unknown.contains_key(place));
        let offsets: Vec<_> = offsets.collect();
        let member = Member {
            generation: request.generation_id,
            id: &request.member_id,
            instance: request.group_instance_id.as_deref(),
        };
        let mut groups = kafka.groups.borrow_mut();
        let group = groups.entry(group.to_string()).or_default();
        Some(group.commit(identity, &member, offsets))
    }
}
