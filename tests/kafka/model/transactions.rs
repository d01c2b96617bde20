//! The model's coordinator, and its partitions where transactions are concerned, against a real broker:
//! the same script of requests goes to both, and what is answered and what is in the logs has to be the
//! same.

use std::time::Duration;

use bytes::Bytes;
use forebay_kafka_cluster as kafka;
use forebay_model_cluster::{
    Cluster, Identity, Kafka, Marker, Settings, Transactions, rng, virtual_time,
};
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, AddPartitionsToTxnRequest,
    AddPartitionsToTxnResponse, ApiKey, EndTxnRequest, EndTxnResponse, FetchRequest, FetchResponse,
    FindCoordinatorRequest, FindCoordinatorResponse, GroupId, InitProducerIdRequest,
    InitProducerIdResponse, ListOffsetsRequest, ListOffsetsResponse, ProduceRequest,
    ProduceResponse, ProducerId, TopicName, TransactionalId, TxnOffsetCommitRequest,
    TxnOffsetCommitResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::sides::{Seen, Side};

const TOPIC: &str = "topic-0";
const PARTITIONS: usize = 40;
const TRANSACTIONAL: i16 = 0x10;

/// Where one id writes: a client that plays its script.
struct Client<'a> {
    side: &'a Side,
    seen: &'a Seen,
    id: String,
    partition: i32,
}

/// What passes by itself: loading, looking for, another transition, a leader that has not heard yet.
const PASSES: [i16; 7] = [3, 5, 6, 14, 15, 16, 51];

/// Asks until the answer is none of those that pass by themselves.
macro_rules! settled {
    ($client:expr, $ask:expr, $code:expr) => {{
        let mut tries = 0;
        loop {
            let answer = $ask;
            if !PASSES.contains(&$code(&answer)) || tries == 300 {
                break answer;
            }
            tries += 1;
            $client.side.pause(Duration::from_millis(50)).await;
        }
    }};
}

fn text(it: &str) -> StrBytes {
    StrBytes::from_string(it.to_owned())
}

fn topic() -> TopicName {
    TopicName(text(TOPIC))
}

impl Client<'_> {
    fn transactional_id(&self) -> TransactionalId {
        TransactionalId(text(&self.id))
    }

    fn say(&self, what: &str, of: impl std::fmt::Debug) {
        self.seen.say(&format!("{} {what}", self.id), of);
    }

    /// InitProducerId 4, as somebody new or as somebody known.
    async fn init(&self, known: Option<Identity>, timeout: i32) -> Identity {
        let (id, epoch) = known.unwrap_or((-1, -1));
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(self.transactional_id()))
            .with_transaction_timeout_ms(timeout)
            .with_producer_id(ProducerId(id))
            .with_producer_epoch(epoch);
        let api = (ApiKey::InitProducerId, 4);
        let answer: InitProducerIdResponse = settled!(
            self,
            self.side.ask(api, &request).await,
            |it: &InitProducerIdResponse| it.error_code
        );
        let identity = (*answer.producer_id, answer.producer_epoch);
        let told = (self.seen.id(identity.0), identity.1);
        self.say("init", (answer.error_code, told));
        identity
    }

    async fn add(&self, (id, epoch): Identity, partitions: &[i32]) {
        let topic = AddPartitionsToTxnTopic::default()
            .with_name(topic())
            .with_partitions(partitions.to_vec());
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(self.transactional_id())
            .with_v3_and_below_producer_id(ProducerId(id))
            .with_v3_and_below_producer_epoch(epoch)
            .with_v3_and_below_topics(vec![topic]);
        let code = |it: &AddPartitionsToTxnResponse| {
            let results = it.results_by_topic_v3_and_below.iter();
            let mut all = results.flat_map(|it| &it.results_by_partition);
            match all.next().map_or(0, |it| it.partition_error_code) {
                3 => 0, // meant
                code => code,
            }
        };
        let api = (ApiKey::AddPartitionsToTxn, 3);
        let answer = settled!(self, self.side.ask(api, &request).await, code);
        let results = answer.results_by_topic_v3_and_below.iter();
        let results = results.flat_map(|it| &it.results_by_partition);
        let mut codes: Vec<_> = results
            .map(|it| (it.partition_index, it.partition_error_code))
            .collect();
        codes.sort_unstable();
        self.say("add", codes);
    }

    /// A batch of two records.
    async fn send(&self, version: i16, attributes: i16, stamp: (Identity, i32)) {
        let ((id, epoch), sequence) = stamp;
        let batch = super::attributed(((id, epoch, sequence), attributes), 2, 10);
        let partition = PartitionProduceData::default()
            .with_index(self.partition)
            .with_records(Some(Bytes::from(batch)));
        let topic = TopicProduceData::default()
            .with_name(topic())
            .with_partition_data(vec![partition]);
        let transactional = attributes & TRANSACTIONAL != 0;
        let request = ProduceRequest::default()
            .with_transactional_id(transactional.then(|| self.transactional_id()))
            .with_acks(-1)
            .with_timeout_ms(5_000)
            .with_topic_data(vec![topic]);
        let code = |it: &ProduceResponse| {
            let answer = &it.responses[0].partition_responses[0];
            match answer.error_code {
                19 => 15, // a coordinator that is not there yet
                code => code,
            }
        };
        let api = (ApiKey::Produce, version);
        let answer = settled!(self, self.side.ask(api, &request).await, code);
        let answer = &answer.responses[0].partition_responses[0];
        let kind = if transactional {
            "sends"
        } else {
            "sends plainly"
        };
        let what = format!("{kind} by version {version}, epoch {epoch}, sequence {sequence}");
        self.say(&what, (answer.error_code, answer.base_offset));
    }

    async fn send_v1(&self, identity: Identity, sequence: i32) {
        self.send(10, TRANSACTIONAL, (identity, sequence)).await;
    }

    async fn send_v2(&self, identity: Identity, sequence: i32) {
        self.send(12, TRANSACTIONAL, (identity, sequence)).await;
    }

    async fn send_plainly(&self, identity: Identity, sequence: i32) {
        self.send(12, 0, (identity, sequence)).await;
    }

    /// Who the client is behind it.
    async fn end(&self, version: i16, (id, epoch): Identity, commit: bool) -> Identity {
        let request = EndTxnRequest::default()
            .with_transactional_id(self.transactional_id())
            .with_producer_id(ProducerId(id))
            .with_producer_epoch(epoch)
            .with_committed(commit);
        let api = (ApiKey::EndTxn, version);
        let answer: EndTxnResponse = settled!(
            self,
            self.side.ask(api, &request).await,
            |it: &EndTxnResponse| it.error_code
        );
        let told = (*answer.producer_id, answer.producer_epoch);
        let what = format!("ends by version {version}, epoch {epoch}, commit {commit}");
        self.say(&what, (answer.error_code, self.seen.id(told.0), told.1));
        match version >= 5 && answer.error_code == 0 {
            true => told,
            false => (id, epoch),
        }
    }

    /// Every batch that a reader gets, and up to where it may read.
    async fn read(&self, isolation: i8) -> (Vec<Batch>, FetchedOffsets) {
        let partition = FetchPartition::default()
            .with_partition(self.partition)
            .with_current_leader_epoch(-1)
            .with_partition_max_bytes(1_000_000);
        let topic = FetchTopic::default()
            .with_topic(topic())
            .with_partitions(vec![partition]);
        let request = FetchRequest::default()
            .with_replica_id((-1).into())
            .with_session_epoch(-1)
            .with_max_bytes(1_000_000)
            .with_isolation_level(isolation)
            .with_topics(vec![topic]);
        let code = |it: &FetchResponse| it.responses[0].partitions[0].error_code;
        let answer: FetchResponse = settled!(
            self,
            self.side.ask((ApiKey::Fetch, 11), &request).await,
            code
        );
        let data = &answer.responses[0].partitions[0];
        let aborted = data.aborted_transactions.as_ref().map(|all| {
            let all = all.iter();
            all.map(|it| (self.seen.id(*it.producer_id), it.first_offset))
                .collect()
        });
        let offsets = (data.high_watermark, data.last_stable_offset, aborted);
        let records = data.records.clone().unwrap_or_default();
        (batches(self.seen, &records), offsets)
    }

    async fn list_offset(&self, isolation: i8, timestamp: i64) -> (i16, i64) {
        let partition = ListOffsetsPartition::default()
            .with_partition_index(self.partition)
            .with_current_leader_epoch(-1)
            .with_timestamp(timestamp);
        let topic = ListOffsetsTopic::default()
            .with_name(topic())
            .with_partitions(vec![partition]);
        let request = ListOffsetsRequest::default()
            .with_replica_id((-1).into())
            .with_isolation_level(isolation)
            .with_topics(vec![topic]);
        let code = |it: &ListOffsetsResponse| it.topics[0].partitions[0].error_code;
        let api = (ApiKey::ListOffsets, 5);
        let answer: ListOffsetsResponse = settled!(self, self.side.ask(api, &request).await, code);
        let it = &answer.topics[0].partitions[0];
        (it.error_code, it.offset)
    }

    /// Waits until there are so many markers, and says what is in the log.
    async fn look(&self, markers: usize) {
        for _ in 0..400 {
            let (batches, _) = self.read(0).await;
            if batches.iter().filter(|it| it.marker.is_some()).count() >= markers {
                break;
            }
            self.side.pause(Duration::from_millis(50)).await;
        }
        for isolation in [0, 1] {
            let read = self.read(isolation).await;
            self.say(&format!("reads with isolation {isolation}"), read);
            let latest = self.list_offset(isolation, -1).await;
            let earliest = self.list_offset(isolation, -2).await;
            self.say(
                &format!("lists with isolation {isolation}"),
                (earliest, latest),
            );
        }
    }

    async fn add_offsets(&self, (id, epoch): Identity) {
        let request = AddOffsetsToTxnRequest::default()
            .with_transactional_id(self.transactional_id())
            .with_producer_id(ProducerId(id))
            .with_producer_epoch(epoch)
            .with_group_id(self.group());
        let api = (ApiKey::AddOffsetsToTxn, 3);
        let code = |it: &AddOffsetsToTxnResponse| it.error_code;
        let answer = settled!(self, self.side.ask(api, &request).await, code);
        self.say("adds offsets", answer.error_code);
    }

    fn group(&self) -> GroupId {
        GroupId(text(&format!("group of {}", self.id)))
    }

    async fn commit_offset(&self, version: i16, (id, epoch): Identity, member: (i32, &str)) {
        let partition = TxnOffsetCommitRequestPartition::default()
            .with_partition_index(0)
            .with_committed_offset(5);
        let topic = TxnOffsetCommitRequestTopic::default()
            .with_name(topic())
            .with_partitions(vec![partition]);
        let request = TxnOffsetCommitRequest::default()
            .with_transactional_id(self.transactional_id())
            .with_group_id(self.group())
            .with_producer_id(ProducerId(id))
            .with_producer_epoch(epoch)
            .with_generation_id(member.0)
            .with_member_id(text(member.1))
            .with_topics(vec![topic]);
        let api = (ApiKey::TxnOffsetCommit, version);
        let code = |it: &TxnOffsetCommitResponse| it.topics[0].partitions[0].error_code;
        let answer: TxnOffsetCommitResponse =
            settled!(self, self.side.ask(api, &request).await, code);
        self.say(
            &format!("commits an offset by version {version}, {member:?}"),
            code(&answer),
        );
    }
}

type FetchedOffsets = (i64, i64, Option<Vec<(i64, i64)>>);

#[derive(Debug)]
struct Batch {
    #[expect(dead_code, reason = "to be printed")]
    base_offset: i64,
    #[expect(dead_code, reason = "to be printed")]
    stamp: (i64, i16, i32),
    marker: Option<bool>,
}

fn batches(seen: &Seen, mut records: &[u8]) -> Vec<Batch> {
    let mut all = Vec::new();
    while records.len() > 12 {
        let long = |from: usize| i64::from_be_bytes(records[from..from + 8].try_into().unwrap());
        let int = |from: usize| i32::from_be_bytes(records[from..from + 4].try_into().unwrap());
        let short = |from: usize| i16::from_be_bytes(records[from..from + 2].try_into().unwrap());
        let length = 12 + int(8) as usize;
        let control = short(21) & 0x20 != 0;
        all.push(Batch {
            base_offset: long(0),
            stamp: (seen.id(long(43)), short(51), int(53)),
            marker: control.then(|| Marker::read(&records[..length]).committed),
        });
        records = &records[length..];
    }
    all
}

/// The script. Each part has an id and a partition of its own.
async fn play(side: &Side, seen: &Seen) {
    let mut partition = -1;
    let mut client = |id: &str| {
        partition += 1;
        Client {
            side,
            seen,
            id: id.to_owned(),
            partition,
        }
    };
    find_coordinators(side).await;
    table_of_version_2(&mut client).await;
    table_of_version_1(&mut client).await;
    life_of_version_2(&client("life of version 2")).await;
    life_of_version_1(&client("life of version 1")).await;
    fences(&client("second instance")).await;
    bumps(&client("bumps")).await;
    refusals(&client("refusals")).await;
    times_out(&client("timeout")).await;
    fence_without_data(&client("fence")).await;
    offsets(&client("offsets of version 1"), 4).await;
    offsets(&client("offsets of version 2"), 5).await;
    wrong_members(&client("members")).await;
}

/// A broker creates the topics of coordinators when it is asked for one.
async fn find_coordinators(side: &Side) {
    for key_type in [0, 1] {
        let request = FindCoordinatorRequest::default()
            .with_key(text("anybody"))
            .with_key_type(key_type);
        for _ in 0..300 {
            let api = (ApiKey::FindCoordinator, 3);
            let answer: FindCoordinatorResponse = side.ask(api, &request).await;
            if answer.error_code == 0 {
                break;
            }
            side.pause(Duration::from_millis(100)).await;
        }
    }
}

/// Nothing has been sent, or one transaction has ended.
async fn reach(client: &Client<'_>, ended: Option<bool>, version: i16) -> Identity {
    let me = client.init(None, 60_000).await;
    let Some(commit) = ended else {
        return me;
    };
    if version < 5 {
        client.add(me, &[client.partition]).await;
        client.send_v1(me, 0).await;
    } else {
        client.send_v2(me, 0).await;
    }
    let me = client.end(version, me, commit).await;
    client.look(1).await;
    me
}

async fn table_of_version_2<'a>(client: &mut impl FnMut(&str) -> Client<'a>) {
    for ended in [None, Some(false), Some(true)] {
        for (commit, again) in [(false, true), (false, false), (true, true), (true, false)] {
            let client = client(&format!("v2 {ended:?} commit {commit} again {again}"));
            let (id, epoch) = reach(&client, ended, 5).await;
            let asked = (id, epoch - i16::from(again));
            client.end(5, asked, commit).await;
            client.init(None, 60_000).await;
        }
    }
}

async fn table_of_version_1<'a>(client: &mut impl FnMut(&str) -> Client<'a>) {
    for ended in [None, Some(false), Some(true)] {
        let client = client(&format!("v1 {ended:?}"));
        let (id, epoch) = reach(&client, ended, 4).await;
        for commit in [false, true] {
            client.end(4, (id, epoch), commit).await;
            client.end(4, (id, epoch + 1), commit).await;
            client.end(4, (id + 1, epoch), commit).await;
        }
    }
}

async fn life_of_version_2(client: &Client<'_>) {
    let first = client.init(None, 60_000).await;
    client.send_v2(first, 5).await;
    client.send_v2(first, 0).await;
    client.send_v2(first, 2).await;
    client.send_v2(first, 0).await;
    client.send_plainly(first, 4).await;
    client.look(0).await;
    let second = client.end(5, first, true).await;
    client.look(1).await;
    client.send_v2(first, 4).await;
    client.send_v2(first, 0).await;
    client.send_v2(second, 4).await;
    client.send_v2(second, 0).await;
    client.look(1).await;
    let third = client.end(5, second, false).await;
    client.look(2).await;
    client.send_v2(third, 0).await;
    client.end(5, third, true).await;
    client.look(3).await;
}

async fn life_of_version_1(client: &Client<'_>) {
    let me = client.init(None, 60_000).await;
    for version in [9, 10, 11] {
        client.send(version, TRANSACTIONAL, (me, 0)).await;
    }
    client.add(me, &[client.partition]).await;
    client.send_v1(me, 0).await;
    client.send_v1(me, 2).await;
    client.send_plainly(me, 4).await;
    client.look(0).await;
    client.end(4, me, false).await;
    client.look(1).await;
    client.send_v1(me, 4).await;
    client.add(me, &[client.partition]).await;
    client.send_v1(me, 0).await;
    client.send_v1(me, 6).await;
    client.send_v1(me, 4).await;
    client.end(3, me, true).await;
    client.look(2).await;
}

async fn fences(client: &Client<'_>) {
    let first = client.init(None, 60_000).await;
    client.send_v2(first, 0).await;
    let second = client.init(None, 60_000).await;
    client.look(1).await;
    client.end(5, first, true).await;
    client.end(5, first, false).await;
    client.end(4, first, true).await;
    client.end(1, first, true).await;
    client.add(first, &[client.partition]).await;
    client.send_v2(first, 2).await;
    client.send_plainly(first, 2).await;
    client.send_v2(second, 0).await;
    client.end(5, second, true).await;
    client.look(2).await;
}

async fn bumps(client: &Client<'_>) {
    let first = client.init(None, 60_000).await;
    let second = client.init(Some(first), 60_000).await;
    client.init(Some(first), 60_000).await;
    client
        .init(Some((second.0 + 1_000, second.1)), 60_000)
        .await;
    client.init(Some((second.0, second.1 + 5)), 60_000).await;
    client.add(second, &[client.partition]).await;
    client.send_v1(second, 0).await;
    // It aborts what is open, and is asked again under an epoch that is fenced by then.
    client.init(Some(second), 60_000).await;
    client.look(1).await;
    client.init(Some(second), 60_000).await;
    client.init(None, 60_000).await;
}

async fn refusals(client: &Client<'_>) {
    let me = client.init(None, 60_000).await;
    client.init(None, 901_000).await;
    client.init(None, 0).await;
    client.add(me, &[client.partition, 999]).await;
    client.add((me.0 + 1_000, me.1), &[client.partition]).await;
    client.add((me.0, me.1 + 1), &[client.partition]).await;
    client.send_v2((me.0 + 1_000, me.1), 0).await;
    client.send_v2((me.0, me.1 + 1), 0).await;
    client.send(12, TRANSACTIONAL | 0x20, (me, 0)).await;
    let nobody = Client {
        id: "nobody".to_owned(),
        ..*client
    };
    nobody.end(5, me, true).await;
    nobody.end(4, me, true).await;
    nobody.add(me, &[client.partition]).await;
    nobody.send_v2(me, 0).await;
    let empty = Client {
        id: String::new(),
        ..*client
    };
    empty.init(None, 60_000).await;
    client.look(0).await;
}

async fn times_out(client: &Client<'_>) {
    let first = client.init(None, 500).await;
    client.send_v2(first, 0).await;
    client.look(1).await;
    client.end(5, first, true).await;
    client.end(5, first, false).await;
    client.end(4, first, false).await;
    client.send_v2(first, 2).await;
    client.init(Some(first), 60_000).await;
}

/// Plain batches under a transactional id's producer id, and a transaction without any.
async fn fence_without_data(client: &Client<'_>) {
    let first = client.init(None, 60_000).await;
    client.send_plainly(first, 0).await;
    client.add(first, &[client.partition]).await;
    let second = client.end(5, first, true).await;
    client.look(1).await;
    client.send_plainly(first, 2).await;
    client.send_plainly(first, 0).await;
    client.send_plainly(second, 5).await;
    client.send_plainly(second, 0).await;
    client.look(1).await;
}

async fn offsets(client: &Client<'_>, version: i16) {
    let me = client.init(None, 60_000).await;
    if version < 5 {
        client.commit_offset(2, me, (-1, "")).await;
        client.commit_offset(3, me, (-1, "")).await;
        client.commit_offset(4, me, (-1, "")).await;
        client.add_offsets(me).await;
    }
    client
        .commit_offset(version, (me.0, me.1 + 1), (-1, ""))
        .await;
    client
        .commit_offset(version, (me.0 + 1_000, me.1), (-1, ""))
        .await;
    client.commit_offset(version, me, (-1, "")).await;
    client.commit_offset(version, me, (-1, "")).await;
    let next = client.end(version, me, true).await;
    // Either is answered when the markers are written.
    match version < 5 {
        true => client.add_offsets(next).await,
        false => client.commit_offset(version, next, (-1, "")).await,
    }
    client.commit_offset(version, me, (-1, "")).await;
    client.end(version, next, false).await;
}

async fn wrong_members(client: &Client<'_>) {
    let me = client.init(None, 60_000).await;
    client.commit_offset(5, me, (3, "somebody")).await;
    client.commit_offset(5, me, (-1, "somebody")).await;
    client.end(5, me, false).await;
}

#[test]
fn the_model_coordinates_as_a_broker_does() {
    let name = "the_model_coordinates_as_a_broker_does";
    if !kafka::require_or_skip(name) {
        return;
    }
    let _turn = kafka::one_at_a_time();
    let sweep = "transaction.abort.timed.out.transaction.cleanup.interval.ms";
    let options = kafka::ClusterOptions::default()
        .brokers(1)
        .property(sweep, "500");
    let cluster = kafka::Cluster::start(options).expect("a cluster");
    cluster
        .create_topic(TOPIC, PARTITIONS as i32, 1, &[])
        .expect("a topic");
    let real = Seen::default();
    let side = Side::Real(cluster.brokers()[0].address());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    runtime.block_on(play(&side, &real));

    let model = Seen::default();
    virtual_time(async {
        let mut rng = rng(1);
        let cluster = Cluster::new(1, &[PARTITIONS], &mut rng);
        let transactions = Transactions {
            sweep: Duration::from_millis(500),
            ..Transactions::FAIR
        };
        let settings = Settings {
            min_in_sync: 1,
            transactions: Some(transactions),
            ..Settings::FAIR
        };
        let kafka = Kafka::start(settings, cluster, rng, ());
        while kafka.grow_topic(0) {}
        tokio::time::sleep(Duration::from_secs(1)).await;
        play(&Side::Model(kafka), &model).await;
    });
    let (real, model) = (real.lines.into_inner(), model.lines.into_inner());
    let both = real
        .iter()
        .zip(&model)
        .filter(|(real, model)| real != model);
    let differences: Vec<_> = both
        .map(|(real, model)| format!("Kafka {real}\nmodel {model}"))
        .collect();
    println!("{} answers compared", real.len());
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    assert_eq!(real.len(), model.len());
}
