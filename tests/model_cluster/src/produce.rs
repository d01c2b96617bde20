//! Produce: what a leader appends, when it answers, and what it asks the coordinator first.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::produce_response::{
    LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, TopicProduceResponse,
};
use kafka_protocol::messages::{BrokerId, ProduceRequest, ProduceResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use tokio::time::{Instant, sleep, timeout_at};

use crate::batch::Header;
use crate::broker::{Life, host};
use crate::cluster::At;
use crate::kafka::Misdeed;
use crate::log::{Appended, code};
use crate::producers::Guard;
use crate::transaction::{Identity, Participant};

pub(crate) const PRODUCE: i16 = 0;

/// What a transactional batch for a partition has to show, or why it is refused.
type Verified = BTreeMap<At, Result<Option<Guard>, i16>>;

impl Life {
    /// `None` when the broker has died over it.
    pub(crate) async fn produce(
        &self,
        request: ProduceRequest,
        version: i16,
    ) -> Option<ProduceResponse> {
        let kafka = &self.kafka;
        let acks = request.acks;
        let timeout = Duration::from_millis(request.timeout_ms.max(0) as u64);
        let deadline = Instant::now() + timeout;
        let by_id = version >= 13;
        let verified = self.verified(&request, version).await?;
        let mut appended = Vec::new();
        for topic in &request.topic_data {
            for data in &topic.partition_data {
                let bytes = data.records.clone().unwrap_or_default();
                let located = self.locate(&topic.name, topic.topic_id, data.index, by_id);
                let result = located.and_then(|at| {
                    let guard = verified.get(&at).copied().unwrap_or(Ok(None))?;
                    let reign = kafka.cluster.borrow().leads(self.broker, at);
                    Ok(((at, reign), self.append(at, &bytes, acks, guard)?))
                });
                appended.push(result);
            }
        }
        let mut appended = appended.into_iter();
        let mut response = ProduceResponse::default();
        let mut endpoints = Vec::new();
        for topic in request.topic_data {
            let mut partitions = Vec::new();
            for data in topic.partition_data {
                let appended = appended.next().expect("one for each partition");
                let answer = PartitionProduceResponse::default()
                    .with_index(data.index)
                    .with_log_append_time_ms(-1);
                let result = match appended {
                    Ok((at, appended)) => self.replicated(at, appended, acks, deadline).await?,
                    Err(code) => Err(code),
                };
                partitions.push(match result {
                    Ok(appended) if appended.duplicate && kafka.settings.names_duplicates => {
                        answer.with_error_code(46).with_base_offset(-1)
                    }
                    Ok(appended) => answer.with_base_offset(appended.base_offset),
                    Err(code) => {
                        let answer = answer.with_error_code(code).with_base_offset(-1);
                        let at = self.locate(&topic.name, topic.topic_id, data.index, by_id);
                        self.with_hint(answer, code, at.ok(), version, &mut endpoints)
                    }
                });
            }
            let mut answer = TopicProduceResponse::default().with_partition_responses(partitions);
            match by_id {
                true => answer.topic_id = topic.topic_id,
                false => answer.name = TopicName(topic.name.0),
            }
            response.responses.push(answer);
        }
        if kafka.happens(kafka.conditions.get().throttles) {
            kafka.count(Misdeed::Throttle);
            response.throttle_time_ms = kafka.below(200) as i32;
        }
        if kafka.conditions.get().hints_late && !endpoints.is_empty() {
            kafka.count(Misdeed::AnswerLate);
            sleep(kafka.between(50, 1_200)).await;
            self.working().await?;
        }
        response.node_endpoints = endpoints;
        Some(response)
    }

    /// Has the coordinator verify or add the partitions of transactional batches, as far as their
    /// transaction is not open there yet (`ReplicaManager.handleProduceAppend`). Nothing is asked and
    /// nothing is in the answer for what is not transactional. `None` when the broker has died over it.
    async fn verified(&self, request: &ProduceRequest, version: i16) -> Option<Verified> {
        let mut verified = Verified::new();
        let mut asked: Option<Identity> = None;
        let adds = version >= 12;
        for topic in &request.topic_data {
            for data in &topic.partition_data {
                let bytes = data.records.as_deref().unwrap_or_default();
                let header = match Header::read(bytes) {
                    Ok(header) if header.is_transactional() => header,
                    _ => continue,
                };
                let by_id = version >= 13;
                let located = self.locate(&topic.name, topic.topic_id, data.index, by_id);
                let Ok(at) = located else {
                    continue;
                };
                let guard = match request.transactional_id {
                    None => Err(code::TRANSACTIONAL_ID_AUTHORIZATION_FAILED),
                    Some(_) => {
                        let settings = &self.kafka.settings;
                        let mut cluster = self.kafka.cluster.borrow_mut();
                        let (replica, state) = cluster.replica_state(self.broker, at, settings);
                        replica.log.verify(state, &header, adds)
                    }
                };
                let identity = (header.producer_id, header.epoch);
                let other = asked.is_some_and(|before| before != identity);
                asked = Some(identity);
                let guard = match other {
                    true => Err(code::INVALID_PRODUCER_ID_MAPPING),
                    false => guard,
                };
                verified.insert(at, guard);
            }
        }
        let (Some(identity), Some(id)) = (asked, &request.transactional_id) else {
            return Some(verified);
        };
        if adds {
            self.kafka.spoke_v2(PRODUCE, version);
        }
        let unsure = verified
            .iter()
            .filter(|(_, guard)| matches!(guard, Ok(Some(_))));
        let unsure = unsure.map(|(at, _)| Participant::Partition(*at));
        let unsure: Vec<_> = unsure.collect();
        if unsure.is_empty() {
            return Some(verified);
        }
        let how = (adds, version >= 11);
        let answer = self.ask_coordinator((id, identity), &unsure, how).await?;
        if let Err(code) = answer {
            let code = match code {
                code::CONCURRENT_TRANSACTIONS if adds => code,
                // A producer asks again after this one, without looking for another leader.
                code::COORDINATOR_LOAD_IN_PROGRESS
                | code::COORDINATOR_NOT_AVAILABLE
                | code::NOT_COORDINATOR
                | code::CONCURRENT_TRANSACTIONS => code::NOT_ENOUGH_REPLICAS,
                other => other,
            };
            for guard in verified.values_mut().filter(|it| matches!(it, Ok(Some(_)))) {
                *guard = Err(code);
            }
        }
        Some(verified)
    }

    fn with_hint(
        &self,
        answer: PartitionProduceResponse,
        error: i16,
        at: Option<At>,
        version: i16,
        endpoints: &mut Vec<NodeEndpoint>,
    ) -> PartitionProduceResponse {
        let kafka = &self.kafka;
        let wanted = error == code::NOT_LEADER_OR_FOLLOWER && version >= 10 && kafka.settings.hints;
        let (true, Some(at)) = (wanted, at) else {
            return answer;
        };
        let cluster = kafka.cluster.borrow();
        let view = cluster.view(self.broker, at);
        let Some(leader) = view.leader else {
            return answer;
        };
        let id = BrokerId(leader as i32);
        if !endpoints.iter().any(|endpoint| endpoint.node_id == id) {
            let endpoint = NodeEndpoint::default()
                .with_node_id(id)
                .with_host(StrBytes::from_string(host(leader)))
                .with_port(i32::from(cluster.brokers[leader].port));
            endpoints.push(endpoint);
        }
        let leader = LeaderIdAndEpoch::default()
            .with_leader_id(id)
            .with_leader_epoch(view.epoch);
        answer.with_current_leader(leader)
    }

    fn append(
        &self,
        at: At,
        bytes: &Bytes,
        acks: i16,
        guard: Option<Guard>,
    ) -> Result<Appended, i16> {
        let kafka = &self.kafka;
        let conditions = kafka.conditions.get();
        if kafka.happens(conditions.errors_before) {
            kafka.count(Misdeed::ErrorBefore);
            // COORDINATOR_LOAD_IN_PROGRESS to THROTTLING_QUOTA_EXCEEDED, and doubtful ones.
            let codes = [14, 19, 51, 74, 75, 89, 2, 3, 6, 7, 56, -1, 9999];
            return Err(codes[kafka.below(codes.len() as u64) as usize]);
        }
        let result = {
            let mut cluster = kafka.cluster.borrow_mut();
            let (replica, state) = cluster.replica_state(self.broker, at, &kafka.settings);
            replica.log.produce_verified(state, acks, bytes, guard)
        };
        let (offset, duplicate) = match result {
            Ok(appended) => (appended.base_offset, i64::from(appended.duplicate)),
            Err(code) => (-1, i64::from(code)),
        };
        let place = [
            self.broker as i64,
            at.0 as i64,
            at.1 as i64,
            offset,
            duplicate,
        ];
        kafka.note("append", &place);
        if result.is_ok() {
            kafka.replicate(at);
            if kafka.happens(conditions.errors_after) {
                kafka.count(Misdeed::ErrorAfter);
                let codes = [3, 6, 7, 20, 56, 100, -1, 9999];
                return Err(codes[kafka.below(codes.len() as u64) as usize]);
            }
        }
        result
    }

    /// Waits until the replicas in sync have it. `None` when the broker has died.
    async fn replicated(
        &self,
        (at, reign): (At, Option<i32>),
        appended: Appended,
        acks: i16,
        deadline: Instant,
    ) -> Option<Result<Appended, i16>> {
        if acks != -1 {
            return Some(Ok(appended));
        }
        let kafka = &self.kafka;
        loop {
            let changed = kafka.changed.notified();
            self.working().await?;
            {
                let mut cluster = kafka.cluster.borrow_mut();
                if cluster.brokers[self.broker].known[at.0] == 0 {
                    // Deleted meanwhile (`ReplicaManager.getPartitionOrError`, which goes by the name).
                    let name = &cluster.topics[at.0].name;
                    return Some(Err(match cluster.known_as(self.broker, name) {
                        Some(_) => code::NOT_LEADER_OR_FOLLOWER,
                        None => code::UNKNOWN_TOPIC_OR_PARTITION,
                    }));
                }
                if reign.is_none() || cluster.leads(self.broker, at) != reign {
                    return Some(Err(code::NOT_LEADER_OR_FOLLOWER));
                }
                let in_sync = cluster.view(self.broker, at).in_sync.len();
                let replica = &cluster.partition(at).replicas[self.broker];
                if replica.high_watermark >= appended.end {
                    return Some(match in_sync < kafka.settings.min_in_sync {
                        true => Err(code::NOT_ENOUGH_REPLICAS_AFTER_APPEND),
                        false => Ok(appended),
                    });
                }
            }
            if timeout_at(deadline, changed).await.is_err() {
                self.working().await?;
                return Some(Err(code::REQUEST_TIMED_OUT));
            }
        }
    }
}
