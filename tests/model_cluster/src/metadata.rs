//! Metadata and ApiVersions: what a broker says of the cluster and of itself.

use bytes::Bytes;
use kafka_protocol::messages::api_versions_response::{
    ApiVersion, FinalizedFeatureKey, SupportedFeatureKey,
};
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{
    ApiVersionsResponse, BrokerId, MetadataRequest, MetadataResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use crate::broker::{Life, encoded, host};
use crate::fetch::{FETCH, LIST_OFFSETS};
use crate::kafka::Misdeed;
use crate::log::code;
use crate::produce::PRODUCE;
use crate::requests::{
    ADD_OFFSETS_TO_TXN, ADD_PARTITIONS_TO_TXN, DESCRIBE_TRANSACTIONS, END_TXN, FIND_COORDINATOR,
    INIT_PRODUCER_ID, TXN_OFFSET_COMMIT,
};

impl Life {
    pub(crate) fn metadata(&self, request: &MetadataRequest, version: i16) -> MetadataResponse {
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

    pub(crate) fn api_versions(&self, id: i32, version: i16) -> Bytes {
        let settings = &self.kafka.settings;
        let answer = ApiVersionsResponse::default();
        let Some(transactions) = settings.transactions else {
            let mut keys = vec![
                (0, 3, settings.newest_produce),
                (3, 4, 12),
                (18, 0, 4),
                (22, 0, 5),
            ];
            if settings.reads {
                keys.extend([(FETCH, 4, 13), (LIST_OFFSETS, 1, 8)]);
            }
            return encoded(id, version, &answer.with_api_keys(ranges(&keys)));
        };
        // What there is does not depend on what is finalized: a client has to look at that.
        let v2 = transactions.knows_v2;
        let newest = |of_v1: i16, of_v2: i16| if v2 { of_v2 } else { of_v1 };
        let keys = [
            (PRODUCE, 3, settings.newest_produce.min(newest(11, 13))),
            (FETCH, 4, 13),
            (LIST_OFFSETS, 1, 8),
            (3, 4, 12),
            (FIND_COORDINATOR, 0, newest(4, 6)),
            (18, 0, 4),
            (INIT_PRODUCER_ID, 0, newest(4, 5)),
            (ADD_PARTITIONS_TO_TXN, 0, newest(3, 5)),
            (ADD_OFFSETS_TO_TXN, 0, newest(3, 4)),
            (END_TXN, 0, newest(3, 5)),
            (TXN_OFFSET_COMMIT, 0, newest(3, 5)),
            (DESCRIBE_TRANSACTIONS, 0, 0),
        ];
        let (level, epoch) = self.kafka.coordinators.borrow().versions[self.broker];
        let name = StrBytes::from_static_str("transaction.version");
        let supported = SupportedFeatureKey::default()
            .with_name(name.clone())
            .with_max_version(2);
        let finalized = FinalizedFeatureKey::default()
            .with_name(name)
            .with_min_version_level(level)
            .with_max_version_level(level);
        let answer = answer.with_api_keys(ranges(&keys));
        if version < 3 || !v2 {
            return encoded(id, version, &answer);
        }
        // A feature at level 0 is not among those that are finalized.
        let finalized = (level > 0).then_some(finalized).into_iter();
        let answer = answer
            .with_supported_features(vec![supported])
            .with_finalized_features_epoch(epoch)
            .with_finalized_features(finalized.collect());
        encoded(id, version, &answer)
    }
}

fn ranges(keys: &[(i16, i16, i16)]) -> Vec<ApiVersion> {
    let range = |(key, min, max): &(i16, i16, i16)| {
        ApiVersion::default()
            .with_api_key(*key)
            .with_min_version(*min)
            .with_max_version(*max)
    };
    keys.iter().map(range).collect()
}
