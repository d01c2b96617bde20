//! A broker: takes connections, reads requests, answers them in their order.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use forebay::internals::net::Halves;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::produce_response::{
    LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, TopicProduceResponse,
};
use kafka_protocol::messages::{
    ApiVersionsResponse, BrokerId, InitProducerIdResponse, MetadataRequest, MetadataResponse,
    ProduceRequest, ProduceResponse, ProducerId, RequestHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, StrBytes};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use uuid::Uuid;

use crate::cluster::At;
use crate::kafka::{FIRST_PORT, Kafka, Misdeed, PORTS};
use crate::log::{Appended, code};
use crate::network::{self, Connection, Cut, Pipe};

const PRODUCE: i16 = 0;
const METADATA: i16 = 3;
const API_VERSIONS: i16 = 18;
const INIT_PRODUCER_ID: i16 = 22;

fn host(broker: usize) -> String {
    format!("broker-{broker}")
}

/// Has every broker listen at each port that it may ever have.
pub(crate) fn listen(kafka: &Rc<Kafka>) {
    for broker in 0..kafka.brokers() {
        for port in FIRST_PORT..FIRST_PORT + PORTS {
            let kafka = Rc::clone(kafka);
            let listener = move || {
                let kafka = Rc::clone(&kafka);
                Box::pin(async move { accept(&kafka, broker, port).await }) as _
            };
            network::listen(&host(broker), port, Box::new(listener));
        }
    }
}

async fn accept(kafka: &Rc<Kafka>, broker: usize, port: u16) -> io::Result<Halves> {
    sleep(kafka.latency()).await;
    let life = {
        let cluster = kafka.cluster.borrow();
        let it = &cluster.brokers[broker];
        if !it.alive || it.port != port {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        it.life
    };
    let (client, connection) = Connection::new(kafka.settings.socket);
    let mut connections = kafka.connections.borrow_mut();
    connections.retain(|(_, cut)| !cut.is_over());
    connections.push((broker, connection.cut.clone()));
    drop(connections);
    let broker = Life {
        kafka: Rc::clone(kafka),
        broker,
        life,
    };
    spawn_local(async move { broker.serve(connection).await });
    Ok(client)
}

/// A broker between its start and its death.
#[derive(Clone)]
struct Life {
    kafka: Rc<Kafka>,
    broker: usize,
    life: u32,
}

/// An answer on its way, or a word that there will be none.
struct Answer {
    at: Instant,
    frame: Bytes,
    /// The connection ends instead.
    lost: bool,
}

impl Life {
    /// Waits while the broker is frozen. `None` when it has died.
    async fn working(&self) -> Option<()> {
        loop {
            let changed = self.kafka.changed.notified();
            {
                let cluster = self.kafka.cluster.borrow();
                let it = &cluster.brokers[self.broker];
                if it.life != self.life {
                    return None;
                }
                if !it.frozen {
                    return Some(());
                }
            }
            changed.await;
        }
    }

    async fn serve(self, mut connection: Connection) {
        let (outbox, inbox) = unbounded_channel();
        let writer = self.clone();
        let answers = connection.answers.clone();
        let cut = connection.cut.clone();
        spawn_local(async move { writer.answer(inbox, answers, cut).await });
        while let Some(frame) = connection.next().await {
            sleep(self.kafka.latency()).await;
            if self.working().await.is_none() {
                return;
            }
            let Some(frame) = self.handle(frame).await else {
                return;
            };
            let conditions = self.kafka.conditions.get();
            let lost = self.kafka.happens(conditions.answers_lost);
            let late = self.kafka.happens(conditions.answers_late);
            let delay = match late {
                true => self.kafka.between(10, 4_000),
                false => self.kafka.latency(),
            };
            if lost {
                self.kafka.count(Misdeed::AnswerLost);
            }
            if late {
                self.kafka.count(Misdeed::AnswerLate);
            }
            let Some(frame) = frame else {
                continue; // acks=0
            };
            let at = Instant::now() + delay;
            if outbox.send(Answer { at, frame, lost }).is_err() {
                return;
            }
        }
    }

    async fn answer(self, mut inbox: UnboundedReceiver<Answer>, answers: Pipe, cut: Cut) {
        while let Some(answer) = inbox.recv().await {
            sleep_until(answer.at).await;
            if self.working().await.is_none() {
                return;
            }
            if answer.lost {
                return cut.cut(usize::MAX, false);
            }
            if answers.write_all(&answer.frame).await.is_err() {
                return;
            }
        }
    }

    /// The answer's frame; the inner `None` if the request wants no answer, the outer one if the
    /// broker has died over it.
    async fn handle(&self, mut frame: Bytes) -> Option<Option<Bytes>> {
        let (api, version) = {
            let mut peek = frame.clone();
            (peek.get_i16(), peek.get_i16())
        };
        let header_version = match api {
            PRODUCE => ProduceRequest::header_version(version),
            METADATA => MetadataRequest::header_version(version),
            API_VERSIONS => 1 + i16::from(version >= 3),
            _ => 1 + i16::from(version >= 2),
        };
        let header = RequestHeader::decode(&mut frame, header_version).expect("a header");
        let id = header.correlation_id;
        Some(match api {
            PRODUCE => {
                let request = ProduceRequest::decode(&mut frame, version).expect("a request");
                assert!(!frame.has_remaining(), "bytes behind a produce request");
                let acks = request.acks;
                let response = self.produce(request, version).await?;
                (acks != 0).then(|| encoded(id, version, &response))
            }
            METADATA => {
                let request = MetadataRequest::decode(&mut frame, version).expect("a request");
                Some(encoded(id, version, &self.metadata(&request, version)))
            }
            API_VERSIONS => Some(self.api_versions(id, version)),
            INIT_PRODUCER_ID => Some(encoded(id, version, &self.init_producer_id())),
            other => panic!("nobody asks with api key {other}"),
        })
    }

    fn api_versions(&self, id: i32, version: i16) -> Bytes {
        let newest = self.kafka.settings.newest_produce;
        let keys = [(0, 3, newest), (3, 4, 12), (18, 0, 4), (22, 0, 5)];
        let keys = keys.map(|(key, min, max)| {
            ApiVersion::default()
                .with_api_key(key)
                .with_min_version(min)
                .with_max_version(max)
        });
        encoded(
            id,
            version,
            &ApiVersionsResponse::default().with_api_keys(keys.to_vec()),
        )
    }

    fn init_producer_id(&self) -> InitProducerIdResponse {
        let kafka = &self.kafka;
        if kafka.conditions.get().no_producer_ids {
            // COORDINATOR_LOAD_IN_PROGRESS, COORDINATOR_NOT_AVAILABLE
            let error = [14, 15][kafka.below(2) as usize];
            return InitProducerIdResponse::default().with_error_code(error);
        }
        let id = kafka.next_producer_id.get();
        kafka.next_producer_id.set(id + 1);
        InitProducerIdResponse::default()
            .with_producer_id(ProducerId(id))
            .with_producer_epoch(kafka.settings.first_epoch)
    }

    fn metadata(&self, request: &MetadataRequest, version: i16) -> MetadataResponse {
        let kafka = &self.kafka;
        let conditions = kafka.conditions.get();
        let cluster = kafka.cluster.borrow();
        let mine = &cluster.brokers[self.broker];
        let brokers = cluster.brokers.iter().enumerate().zip(&mine.peers);
        let brokers = brokers
            .filter(|(_, there)| **there)
            .map(|((id, broker), _)| {
                MetadataResponseBroker::default()
                    .with_node_id(BrokerId(id as i32))
                    .with_host(StrBytes::from_string(host(id)))
                    .with_port(i32::from(broker.port))
            });
        let empty = conditions.metadata_empty.then(|| kafka.below(4));
        if empty.is_some() {
            kafka.count(Misdeed::MetadataEmpty);
        }
        let topics = request.topics.iter().flatten().filter_map(|asked| {
            let name = asked.name.clone()?;
            let answer = MetadataResponseTopic::default().with_name(Some(name.clone()));
            let found = cluster.known_as(self.broker, &name);
            let Some(at) = found.filter(|_| !conditions.topic_unknown || kafka.below(3) == 0)
            else {
                return Some(answer.with_error_code(code::UNKNOWN_TOPIC_OR_PARTITION));
            };
            let topic = &cluster.topics[at];
            let visible = match empty {
                Some(1) => 0,
                _ => mine.known[at],
            };
            let partitions = (0..visible).map(|partition| {
                let at = (at, partition);
                let view = cluster.view(self.broker, at);
                let answer = MetadataResponsePartition::default()
                    .with_partition_index(partition as i32)
                    .with_leader_epoch(view.epoch);
                if conditions.metadata_stale && kafka.below(2) == 0 {
                    kafka.count(Misdeed::MetadataStale);
                    let anybody = kafka.below(cluster.brokers.len() as u64) as i32;
                    let older = (view.epoch - kafka.below(2) as i32).max(0);
                    return answer
                        .with_leader_id(BrokerId(anybody))
                        .with_leader_epoch(older);
                }
                match view.leader {
                    Some(leader) => answer.with_leader_id(BrokerId(leader as i32)),
                    None => answer.with_leader_id(BrokerId(-1)).with_error_code(5),
                }
            });
            let answer = answer.with_partitions(partitions.collect());
            Some(match version >= 10 {
                true => answer.with_topic_id(topic.id),
                false => answer,
            })
        });
        let answer = MetadataResponse::default()
            .with_controller_id(BrokerId(0))
            .with_topics(topics.collect());
        let mut answer = match empty {
            Some(0) => answer,
            _ => answer.with_brokers(brokers.collect()),
        };
        if conditions.metadata_hostile {
            kafka.count(Misdeed::MetadataHostile);
            self.pervert(&mut answer);
        }
        answer
    }

    /// Puts nonsense among what is true. Epochs stay as they are: clients believe the highest.
    fn pervert(&self, answer: &mut MetadataResponse) {
        let kafka = &self.kafka;
        let partition = |at: i32, leader: i32, epoch: i32| {
            MetadataResponsePartition::default()
                .with_partition_index(at)
                .with_leader_id(BrokerId(leader))
                .with_leader_epoch(epoch)
        };
        let Some(topic) = answer.topics.first_mut() else {
            return;
        };
        let count = topic.partitions.len() as i32;
        match kafka.below(8) {
            0 => topic
                .partitions
                .extend((count..20).map(|at| partition(at, at % 3, 0))),
            1 => drop(topic.partitions.pop()),
            2 => topic.partitions.push(partition(-7, 0, 0)),
            3 => topic.partitions.push(partition(i32::MAX, 0, 0)),
            4 => topic
                .partitions
                .iter_mut()
                .for_each(|it| it.leader_id = BrokerId(77)),
            5 => topic
                .partitions
                .iter_mut()
                .for_each(|it| it.leader_id = BrokerId(-7)),
            6 => {
                let again = topic.clone();
                answer.topics.push(again);
            }
            _ => {
                let name = StrBytes::from_string(format!("stranger-{}", kafka.below(3)));
                let stranger = MetadataResponseTopic::default()
                    .with_name(Some(TopicName(name)))
                    .with_partitions((0..5).map(|at| partition(at, at % 3, 0)).collect());
                answer.topics.push(stranger);
            }
        }
        if kafka.below(4) == 0 {
            let broker = MetadataResponseBroker::default()
                .with_node_id(BrokerId([-5, 99][kafka.below(2) as usize]))
                .with_host(StrBytes::from_static_str("nowhere"))
                .with_port(9092);
            answer.brokers.push(broker);
        }
    }

    /// What the request means, as this broker sees it; an error is an answer's code.
    fn locate(&self, name: &str, id: Uuid, partition: i32, by_id: bool) -> Result<At, i16> {
        let unknown = match by_id {
            true => code::UNKNOWN_TOPIC_ID,
            false => code::UNKNOWN_TOPIC_OR_PARTITION,
        };
        let kafka = &self.kafka;
        if kafka.conditions.get().topic_unknown && kafka.below(3) > 0 {
            return Err(unknown);
        }
        let cluster = kafka.cluster.borrow();
        let known = &cluster.brokers[self.broker].known;
        let topic = match by_id {
            true => cluster.topics.iter().position(|topic| topic.id == id),
            false => cluster.known_as(self.broker, name),
        };
        let topic = topic.filter(|topic| known[*topic] > 0).ok_or(unknown)?;
        let partition = usize::try_from(partition)
            .ok()
            .filter(|at| *at < known[topic])
            .ok_or(code::UNKNOWN_TOPIC_OR_PARTITION)?;
        Ok((topic, partition))
    }

    async fn produce(&self, request: ProduceRequest, version: i16) -> Option<ProduceResponse> {
        let kafka = &self.kafka;
        let acks = request.acks;
        let timeout = Duration::from_millis(request.timeout_ms.max(0) as u64);
        let deadline = Instant::now() + timeout;
        let by_id = version >= 13;
        let mut appended = Vec::new();
        for topic in &request.topic_data {
            for data in &topic.partition_data {
                let bytes = data.records.clone().unwrap_or_default();
                let located = self.locate(&topic.name, topic.topic_id, data.index, by_id);
                let result = located.and_then(|at| {
                    let reign = kafka.cluster.borrow().leads(self.broker, at);
                    Ok(((at, reign), self.append(at, &bytes, acks)?))
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

    fn append(&self, at: At, bytes: &Bytes, acks: i16) -> Result<Appended, i16> {
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
            replica.log.produce(state, acks, bytes)
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

fn encoded<R: Encodable + HeaderVersion>(id: i32, version: i16, response: &R) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_i32(0);
    frame.put_i32(id);
    if R::header_version(version) >= 1 {
        frame.put_u8(0);
    }
    response
        .encode(&mut frame, version)
        .expect("a valid answer");
    let length = (frame.len() - 4) as u32;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    frame.freeze()
}
