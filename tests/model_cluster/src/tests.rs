//! The cluster's transactions as a client sees them.

use std::rc::Rc;
use std::time::Duration;

use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    AddPartitionsToTxnRequest, AddPartitionsToTxnResponse, ApiKey, ApiVersionsRequest,
    ApiVersionsResponse, EndTxnRequest, EndTxnResponse, FetchRequest, FetchResponse,
    FindCoordinatorRequest, FindCoordinatorResponse, InitProducerIdRequest, InitProducerIdResponse,
    ProduceRequest, ProduceResponse, ProducerId, TopicName, TransactionalId,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use tokio::time::sleep;

use crate::batch::testing::data;
use crate::*;

const ID: &str = "orders";

struct Client {
    kafka: Rc<Kafka>,
    /// What it speaks.
    version: Version,
}

/// A cluster of three with a topic of three partitions.
fn with(version: Version, then: impl AsyncFnOnce(Client)) {
    virtual_time(async {
        let mut rng = rng(1);
        let cluster = Cluster::new(3, &[3], &mut rng);
        let transactions = Transactions {
            version: version.max(1),
            ..Transactions::FAIR
        };
        let settings = Settings {
            transactions: Some(transactions),
            ..Settings::FAIR
        };
        let kafka = Kafka::start(settings, cluster, rng, ());
        while kafka.grow_topic(0) {}
        sleep(Duration::from_secs(1)).await;
        then(Client { kafka, version }).await;
    });
}

fn id() -> TransactionalId {
    TransactionalId(StrBytes::from_static_str(ID))
}

fn topic() -> TopicName {
    TopicName(StrBytes::from_static_str("topic-0"))
}

impl Client {
    async fn ask<R: Decodable>(
        &self,
        broker: usize,
        (api, version): (ApiKey, i16),
        request: &impl Encodable,
    ) -> R {
        let answer = self
            .kafka
            .ask(broker, raw::request(api, version, request))
            .await;
        raw::response(api, version, answer.expect("the broker lives"))
    }

    async fn coordinator(&self, asked: usize) -> usize {
        let request = FindCoordinatorRequest::default()
            .with_key(StrBytes::from_static_str(ID))
            .with_key_type(1);
        let find = (ApiKey::FindCoordinator, 3);
        let answer: FindCoordinatorResponse = self.ask(asked, find, &request).await;
        assert_eq!(answer.error_code, 0);
        *answer.node_id as usize
    }

    /// Whom the controller knows as the coordinator.
    fn true_coordinator(&self) -> usize {
        let coordinators = self.kafka.coordinators.borrow();
        coordinators.of(Kind::Transaction, ID).expect("one").0
    }

    async fn init(&self, timeout: i32) -> Result<Identity, i16> {
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(id()))
            .with_transaction_timeout_ms(timeout)
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1);
        let api = (ApiKey::InitProducerId, 4);
        let answer: InitProducerIdResponse = self.ask(self.true_coordinator(), api, &request).await;
        match answer.error_code {
            0 => Ok((*answer.producer_id, answer.producer_epoch)),
            code => Err(code),
        }
    }

    async fn add(&self, identity: Identity, partitions: &[i32]) -> Vec<i16> {
        let topic = AddPartitionsToTxnTopic::default()
            .with_name(topic())
            .with_partitions(partitions.to_vec());
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(id())
            .with_v3_and_below_producer_id(ProducerId(identity.0))
            .with_v3_and_below_producer_epoch(identity.1)
            .with_v3_and_below_topics(vec![topic]);
        let api = (ApiKey::AddPartitionsToTxn, 3);
        let answer: AddPartitionsToTxnResponse =
            self.ask(self.true_coordinator(), api, &request).await;
        let topic = answer.results_by_topic_v3_and_below.into_iter().next();
        let results = topic.expect("a topic").results_by_partition.into_iter();
        results.map(|it| it.partition_error_code).collect()
    }

    fn leader(&self, partition: i32) -> usize {
        let cluster = self.kafka.cluster.borrow();
        let now = &cluster.topics[0].partitions[partition as usize].now;
        now.leader.expect("a leader")
    }

    /// One record.
    async fn send(&self, identity: Identity, partition: i32, sequence: i32) -> Result<i64, i16> {
        let batch = data((identity.0, identity.1, sequence), 1, true);
        let partition_data = PartitionProduceData::default()
            .with_index(partition)
            .with_records(Some(batch));
        let topic = TopicProduceData::default()
            .with_name(topic())
            .with_partition_data(vec![partition_data]);
        let request = ProduceRequest::default()
            .with_transactional_id(Some(id()))
            .with_acks(-1)
            .with_timeout_ms(5_000)
            .with_topic_data(vec![topic]);
        let version = if self.version >= V2 { 12 } else { 10 };
        let api = (ApiKey::Produce, version);
        let answer: ProduceResponse = self.ask(self.leader(partition), api, &request).await;
        let answer = &answer.responses[0].partition_responses[0];
        match answer.error_code {
            0 => Ok(answer.base_offset),
            code => Err(code),
        }
    }

    async fn end(&self, identity: Identity, commit: bool) -> Result<Identity, i16> {
        let request = EndTxnRequest::default()
            .with_transactional_id(id())
            .with_producer_id(ProducerId(identity.0))
            .with_producer_epoch(identity.1)
            .with_committed(commit);
        let api = (ApiKey::EndTxn, if self.version >= V2 { 5 } else { 3 });
        let answer: EndTxnResponse = self.ask(self.true_coordinator(), api, &request).await;
        match answer.error_code {
            0 if self.version < V2 => Ok(identity),
            0 => Ok((*answer.producer_id, answer.producer_epoch)),
            code => Err(code),
        }
    }

    /// Base offsets and last stable offset.
    async fn fetch(&self, partition: i32, isolation: i8) -> (Vec<i64>, i64) {
        let part = FetchPartition::default()
            .with_partition(partition)
            .with_partition_max_bytes(10_000);
        let topic = FetchTopic::default()
            .with_topic(topic())
            .with_partitions(vec![part]);
        let request = FetchRequest::default()
            .with_max_bytes(10_000)
            .with_isolation_level(isolation)
            .with_topics(vec![topic]);
        let api = (ApiKey::Fetch, 11);
        let answer: FetchResponse = self.ask(self.leader(partition), api, &request).await;
        let data = &answer.responses[0].partitions[0];
        assert_eq!(data.error_code, 0);
        let mut rest = &data.records.as_ref().expect("records")[..];
        let mut offsets = Vec::new();
        while !rest.is_empty() {
            offsets.push(i64::from_be_bytes(rest[..8].try_into().expect("eight")));
            let length = i32::from_be_bytes(rest[8..12].try_into().expect("four"));
            rest = &rest[12 + length as usize..];
        }
        (offsets, data.last_stable_offset)
    }

    fn committed(&self, partition: usize) -> Vec<i64> {
        let seen = self.kafka.committed((0, partition)).into_iter();
        seen.map(|it| it.base_offset).collect()
    }
}

async fn settle() {
    sleep(Duration::from_secs(1)).await;
}

#[test]
fn a_transaction_of_version_2_is_seen_whole_or_not_at_all() {
    with(V2, async |client: Client| {
        let first = client.init(60_000).await.expect("an id");
        for partition in 0..3 {
            assert_eq!(client.send(first, partition, 0).await, Ok(0));
        }
        assert_eq!(client.fetch(0, 1).await, (vec![], 0));
        assert_eq!(client.fetch(0, 0).await, (vec![0], 0));
        let second = (first.0, first.1 + 1);
        assert_eq!(client.end(first, true).await, Ok(second));
        assert_eq!(
            client.end(first, true).await,
            Err(code::CONCURRENT_TRANSACTIONS)
        );
        settle().await;
        assert_eq!(client.end(first, true).await, Ok(second));
        assert_eq!(client.fetch(0, 1).await, (vec![0, 1], 2));
        assert_eq!(
            client.send(first, 0, 1).await,
            Err(code::INVALID_PRODUCER_EPOCH)
        );
        assert_eq!(client.send(second, 0, 0).await, Ok(2));
        assert_eq!(client.end(second, false).await, Ok((first.0, first.1 + 2)));
        settle().await;
        let seen = [0, 1, 2].map(|partition| client.committed(partition));
        assert_eq!(seen, [[0], [0], [0]]);
        assert_eq!(
            (client.kafka.hanging(), client.kafka.breaches()),
            (vec![], vec![])
        );
    });
}

#[test]
fn a_partition_of_version_1_has_to_be_added_first() {
    with(V1, async |client: Client| {
        let me = client.init(60_000).await.expect("an id");
        assert_eq!(client.send(me, 0, 0).await, Err(code::INVALID_TXN_STATE));
        let unknown = [
            code::OPERATION_NOT_ATTEMPTED,
            code::UNKNOWN_TOPIC_OR_PARTITION,
        ];
        assert_eq!(client.add(me, &[0, 9]).await, unknown);
        assert_eq!(client.add(me, &[0, 1]).await, [0, 0]);
        assert_eq!(client.send(me, 0, 0).await, Ok(0));
        assert_eq!(client.send(me, 2, 0).await, Err(code::INVALID_TXN_STATE));
        assert_eq!(client.end(me, true).await, Ok(me));
        settle().await;
        assert_eq!(client.end(me, true).await, Ok(me));
        assert_eq!(client.send(me, 0, 1).await, Err(code::INVALID_TXN_STATE));
        assert_eq!(client.add(me, &[0]).await, [0]);
        assert_eq!(client.send(me, 0, 1).await, Ok(2), "the epoch is the same");
        assert_eq!(client.end(me, false).await, Ok(me));
        settle().await;
        assert_eq!(client.committed(0), [0]);
        assert!(client.kafka.breaches().is_empty());
    });
}

#[test]
fn the_next_coordinator_ends_what_the_last_one_decided() {
    for version in [V1, V2] {
        with(version, async |client: Client| {
            let me = client.init(60_000).await.expect("an id");
            client.add(me, &[0, 1, 2]).await;
            client.send(me, 0, 0).await.expect("appended");
            client.kafka.change(|it| it.markers = 2_000);
            client.end(me, true).await.expect("decided");
            let before = client.true_coordinator();
            client.kafka.kill(before, false);
            sleep(Duration::from_secs(4)).await;
            let now = client.true_coordinator();
            assert_ne!(before, now);
            for broker in (0..3).filter(|it| *it != before) {
                assert_eq!(client.coordinator(broker).await, now);
            }
            client.kafka.restart(before, false);
            settle().await;
            assert_eq!(client.coordinator(before).await, now);
            let state = client.kafka.transaction(ID).expect("known").state;
            assert_eq!(state, State::CompleteCommit);
            assert_eq!(client.committed(0), [0]);
            assert!(client.kafka.hanging().is_empty());
        });
    }
}

#[test]
fn a_marker_that_cannot_be_written_holds_up_the_id_alone() {
    with(V2, async |client: Client| {
        let me = client.init(60_000).await.expect("an id");
        client.send(me, 0, 0).await.expect("appended");
        client.send(me, 1, 0).await.expect("appended");
        let time = Duration::from_secs(20);
        client
            .kafka
            .block_markers(Participant::Partition((0, 1)), time);
        let next = client.end(me, true).await.expect("decided");
        sleep(Duration::from_secs(10)).await;
        assert_eq!(client.fetch(0, 1).await, (vec![0, 1], 2));
        assert_eq!(client.fetch(1, 1).await, (vec![], 0));
        assert_eq!(
            client.init(60_000).await,
            Err(code::CONCURRENT_TRANSACTIONS)
        );
        assert_eq!(
            client.send(next, 0, 0).await,
            Err(code::CONCURRENT_TRANSACTIONS)
        );
        sleep(Duration::from_secs(11)).await;
        assert_eq!(client.fetch(1, 1).await, (vec![0, 1], 2));
        assert_eq!(client.send(next, 0, 0).await, Ok(2));
    });
}

#[test]
fn what_takes_too_long_is_aborted_and_its_producer_hears_of_it() {
    with(V2, async |client: Client| {
        let me = client.init(1_000).await.expect("an id");
        client.send(me, 0, 0).await.expect("appended");
        sleep(Duration::from_secs(12)).await;
        assert_eq!(client.end(me, true).await, Err(code::INVALID_TXN_STATE));
        assert_eq!(
            client.send(me, 0, 1).await,
            Err(code::INVALID_PRODUCER_EPOCH)
        );
        assert!(client.committed(0).is_empty() && client.kafka.hanging().is_empty());
        let long = 16 * 60 * 1_000;
        assert_eq!(
            client.init(long).await,
            Err(code::INVALID_TRANSACTION_TIMEOUT)
        );
    });
}

#[test]
fn another_instance_fences_the_first() {
    for version in [V1, V2] {
        with(version, async |client: Client| {
            let me = client.init(60_000).await.expect("an id");
            client.add(me, &[0]).await;
            client.send(me, 0, 0).await.expect("appended");
            let taken = client.kafka.take_over(ID);
            assert_eq!(taken, Err(code::CONCURRENT_TRANSACTIONS));
            settle().await;
            let other = client.kafka.take_over(ID).expect("its own");
            assert_eq!(other, (me.0, me.1 + 2));
            assert_eq!(client.end(me, true).await, Err(code::PRODUCER_FENCED));
            assert_eq!(client.add(me, &[0]).await, [code::PRODUCER_FENCED]);
            assert_eq!(
                client.send(me, 0, 1).await,
                Err(code::INVALID_PRODUCER_EPOCH)
            );
            assert!(client.committed(0).is_empty());
        });
    }
}

#[test]
fn markers_that_come_again_end_nothing_else() {
    with(V2, async |client: Client| {
        client.kafka.change(|it| it.markers_again = 1_000);
        let mut me = client.init(60_000).await.expect("an id");
        let mut sent = Vec::new();
        for number in 0..20 {
            let offset = client.send(me, 0, 0).await.expect("appended");
            sleep(Duration::from_millis(400)).await;
            me = client.end(me, number % 2 == 0).await.expect("decided");
            sleep(Duration::from_millis(400)).await;
            if number % 2 == 0 {
                sent.push(offset);
            }
        }
        settle().await;
        assert_eq!(client.committed(0), sent);
        let cluster = client.kafka.cluster.borrow();
        let log = cluster.log((0, 0)).expect("a leader");
        let markers = log.batches().iter().filter(|it| it.marker().is_some());
        assert!(markers.count() > 20, "some are there twice");
    });
}

/// As brokers do, which compare epochs: in version 1 they are the same (KIP-1228 mends it in version 2).
#[test]
fn in_version_1_a_marker_that_is_late_ends_the_next_transaction() {
    for version in [V1, V2] {
        with(version, async |client: Client| {
            let kafka = &client.kafka;
            kafka.change(|it| it.markers_again = 1_000);
            let mut me = client.init(60_000).await.expect("an id");
            let mut committed = Vec::new();
            for number in 0..40 {
                if version < V2 {
                    client.add(me, &[0]).await;
                }
                let sequence = if version < V2 { number } else { 0 };
                // Refused if one comes while the coordinator is asked: it is sent again then.
                let mut sent = Err(code::INVALID_TXN_STATE);
                while sent == Err(code::INVALID_TXN_STATE) {
                    sent = client.send(me, 0, sequence).await;
                }
                let offset = sent.expect("appended");
                sleep(Duration::from_millis(100)).await;
                me = client.end(me, number % 2 == 0).await.expect("decided");
                committed.extend((number % 2 == 0).then_some(offset));
                while kafka.transaction(ID).is_some_and(|it| it.is_ending()) {
                    sleep(Duration::from_millis(1)).await;
                }
            }
            sleep(Duration::from_secs(5)).await;
            let astray: Vec<_> = kafka.led_astray();
            let astray: Vec<i64> = astray.iter().map(|(_, it)| it.base_offset).collect();
            assert_eq!(astray.is_empty(), version >= V2, "{astray:?}");
            let log = kafka.committed((0, 0));
            let data = log.iter().filter(|it| it.marker().is_none());
            let seen: Vec<i64> = data.map(|it| it.base_offset).collect();
            let all = seen.iter().chain(&committed);
            let wrong: Vec<i64> = all
                .filter(|it| seen.contains(it) != committed.contains(it))
                .copied()
                .collect();
            assert!(wrong.iter().all(|it| astray.contains(it)), "{wrong:?}");
            assert_eq!(wrong.is_empty(), version >= V2);
        });
    }
}

#[test]
fn the_finalized_feature_alone_says_what_to_speak() {
    with(V1, async |client: Client| {
        let ask = async || -> ApiVersionsResponse {
            let request = ApiVersionsRequest::default();
            client.ask(0, (ApiKey::ApiVersions, 3), &request).await
        };
        let end_txn = |it: &ApiVersionsResponse| {
            let key = it.api_keys.iter().find(|it| it.api_key == 26);
            key.expect("there").max_version
        };
        let answer = ask().await;
        assert_eq!(end_txn(&answer), 5);
        assert_eq!(answer.finalized_features[0].max_version_level, 1);
        client.kafka.finalize(2);
        settle().await;
        let answer = ask().await;
        assert_eq!(answer.finalized_features[0].max_version_level, 2);
        assert_eq!(answer.finalized_features_epoch, 2);
        assert!(client.kafka.breaches().is_empty());
    });
    with(V1, async |mut client: Client| {
        client.version = V2;
        let me = client.init(60_000).await.expect("an id");
        client.send(me, 0, 0).await.expect("appended");
        client.end(me, true).await.expect("decided");
        let early = |api, version| Breach::TooEarly { api, version };
        assert_eq!(client.kafka.breaches(), [early(0, 12), early(26, 5)]);
    });
}

#[test]
fn what_no_coordinator_knows_of_hangs() {
    with(V2, async |client: Client| {
        let leader = client.leader(0);
        let bytes = data((77, 0, 0), 1, true);
        let header = Header::read(&bytes).expect("a batch");
        {
            let mut cluster = client.kafka.cluster.borrow_mut();
            let settings = &client.kafka.settings;
            let (replica, state) = cluster.replica_state(leader, (0, 0), settings);
            let guard = replica.log.verify(state, &header, true).expect("a guard");
            let log = &mut replica.log;
            log.produce_verified(state, -1, &bytes, guard)
                .expect("appended");
        }
        let open = Open {
            producer_id: 77,
            epoch: 0,
            first_offset: 0,
        };
        assert_eq!(client.kafka.hanging(), [((0, 0), open)]);
    });
}
