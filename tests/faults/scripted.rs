//! A broker made of somebody else's codec that says what a test wants it to say.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io::Read;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use crc_fast::CrcAlgorithm;
use flate2::bufread::GzDecoder;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use kafka_protocol::records::{Compression, RecordBatchDecoder, RecordSet};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use uuid::Uuid;

/// What large requests are read in.
const PART: usize = 16 << 10;

/// What reclaimed memory is filled with; no record of these tests has it.
const POISON: u8 = 0xde;

pub const ID: Uuid = Uuid::from_u128(0xf0e);

/// An answer before it is encoded.
pub enum Answer {
    ApiVersions(ApiVersionsResponse),
    Metadata(MetadataResponse),
    InitProducerId(InitProducerIdResponse),
    Produce(ProduceResponse),
    Mechanisms(SaslHandshakeResponse),
    /// Whoever logs in is let in, for ever.
    Login(SaslAuthenticateResponse),
}

/// What goes out instead of an answer.
pub enum Reply {
    /// These bytes; then the connection goes on.
    Bytes(Vec<u8>),
    /// These bytes, and the end of the connection.
    Last(Vec<u8>),
}

type ChangeAnswer = dyn Fn(usize, &mut Answer) + Send + Sync;
type Judge = dyn Fn(i32, u8) -> i16 + Send + Sync;
type ChangeFrame = dyn Fn(ApiKey, usize, Vec<u8>) -> Reply + Send + Sync;

/// Changes what is answered: told the request's API, how many of that API came before, and the
/// answer, in one form or the other.
#[derive(Default)]
pub struct Twist {
    pub answer: Option<Box<ChangeAnswer>>,
    /// The whole frame, with its length.
    pub frame: Option<Box<ChangeFrame>>,
    /// The newest ApiVersions that is answered. On newer ones the connection is closed.
    pub newest_versions: Option<i16>,
    /// How long to wait before each part of a large request is read, told how many came.
    pub stall: Option<Box<dyn Fn(usize) -> Duration + Send + Sync>>,
    /// The cluster's id and this broker's number: ApiVersions 5 is served, and a connection that is
    /// meant for another is told so.
    pub named: Option<(&'static str, i32)>,
    /// Told the partition and the number of the codec of each batch, before it is appended. Returns an
    /// error code to refuse it with, or 0.
    pub judge: Option<Box<Judge>>,
    /// Requests with more bytes end the connection, and nothing else is said.
    pub most: Option<usize>,
    /// Answers leave so much later. Requests are read meanwhile.
    pub delay: Duration,
    /// Connections on which nothing comes for so long are closed.
    pub idle: Option<Duration>,
}

impl Twist {
    pub fn answering(change: impl Fn(usize, &mut Answer) + Send + Sync + 'static) -> Self {
        Self {
            answer: Some(Box::new(change)),
            ..Self::default()
        }
    }
}

/// A partition's log, and what its leader remembers of producers.
#[derive(Default)]
pub struct Log {
    pub values: Vec<Bytes>,
    /// By producer id.
    producers: HashMap<i64, Remembered>,
}

struct Remembered {
    epoch: i16,
    /// The next sequence.
    next: i32,
    /// (first sequence, offset) of the last five batches.
    batches: VecDeque<(i32, i64)>,
}

#[derive(Default)]
struct State {
    logs: [Log; 2],
    requests: HashMap<i16, usize>,
    /// The topics of each metadata request.
    asked: Vec<Vec<String>>,
    /// Connections that were closed because ApiVersions was too new.
    closed: usize,
    /// Bytes of batches that are not what was sent.
    foul: Vec<String>,
    parts: usize,
    connections: usize,
    /// Those that produce requests came on, and that are open.
    producing: usize,
    /// Produce requests that were read and not answered yet, and the most that ever were.
    unanswered: (usize, usize),
    /// The bytes of each produce request.
    sizes: Vec<usize>,
    client_ids: BTreeSet<String>,
    /// The version of each ApiVersions request that was answered, and whether it was refused.
    handshakes: Vec<(i16, bool)>,
}

/// A broker with the topic "t" of two partitions, of the version of Produce it is given.
#[derive(Clone)]
pub struct Scripted {
    produce: i16,
    pub port: u16,
    twist: Arc<Twist>,
    state: Arc<Mutex<State>>,
}

/// A connection that produce requests came on, until it is closed.
struct Produces(Scripted);

impl Produces {
    fn on(broker: &Scripted) -> Self {
        broker.state().producing += 1;
        Self(broker.clone())
    }
}

impl Drop for Produces {
    fn drop(&mut self) {
        self.0.state().producing -= 1;
    }
}

impl Scripted {
    pub async fn start(produce: i16, twist: Twist) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let (twist, state) = (Arc::new(twist), Arc::default());
        let broker = Self {
            produce,
            port,
            twist,
            state,
        };
        let accepting = broker.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(accepting.clone().serve(stream));
            }
        });
        broker
    }

    pub fn servers(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic")
    }

    /// The values of a partition, in their order.
    pub fn values(&self, partition: usize) -> Vec<String> {
        let text = |value: &Bytes| String::from_utf8(value.to_vec()).expect("text");
        self.state().logs[partition]
            .values
            .iter()
            .map(text)
            .collect()
    }

    /// The newest epoch that a partition's leader remembers.
    pub fn epoch(&self, partition: usize) -> Option<i16> {
        let known = &self.state().logs[partition].producers;
        known.values().map(|known| known.epoch).max()
    }

    /// How many requests of this API came.
    pub fn requests(&self, key: ApiKey) -> usize {
        self.state()
            .requests
            .get(&(key as i16))
            .copied()
            .unwrap_or(0)
    }

    /// The topics of each metadata request, in the requests' order.
    pub fn asked(&self) -> Vec<Vec<String>> {
        self.state().asked.clone()
    }

    /// How many connections were closed because ApiVersions was too new.
    pub fn closed(&self) -> usize {
        self.state().closed
    }

    /// How many connections were made.
    pub fn connections(&self) -> usize {
        self.state().connections
    }

    /// How many connections are open that produce requests came on.
    pub fn producing(&self) -> usize {
        self.state().producing
    }

    pub fn client_ids(&self) -> Vec<String> {
        self.state().client_ids.iter().cloned().collect()
    }

    /// The most produce requests that waited for their answers at the same time.
    pub fn most_unanswered(&self) -> usize {
        self.state().unanswered.1
    }

    /// The bytes of each produce request that was taken.
    pub fn sizes(&self) -> Vec<usize> {
        self.state().sizes.clone()
    }

    /// The version of each ApiVersions request that was answered, and whether it was refused.
    pub fn handshakes(&self) -> Vec<(i16, bool)> {
        self.state().handshakes.clone()
    }

    async fn serve(self, stream: TcpStream) {
        self.state().connections += 1;
        let (mut stream, mut answers) = stream.into_split();
        let (outbox, mut inbox) = tokio::sync::mpsc::unbounded_channel::<(_, bool, Vec<u8>)>();
        let answering = self.clone();
        tokio::spawn(async move {
            while let Some((at, produce, bytes)) = inbox.recv().await {
                tokio::time::sleep_until(at).await;
                if produce {
                    answering.state().unanswered.0 -= 1;
                }
                if answers.write_all(&bytes).await.is_err() {
                    return;
                }
            }
        });
        let idle = self.twist.idle.unwrap_or(Duration::MAX);
        let mut produces = None;
        while let Ok(Ok(length)) = tokio::time::timeout(idle, stream.read_u32()).await {
            if self.twist.most.is_some_and(|most| length as usize > most) {
                // Nothing that is unread: that would be a reset.
                let mut rest = stream.take(length.into());
                let _ = tokio::io::copy(&mut rest, &mut tokio::io::sink()).await;
                return;
            }
            let mut frame = vec![0; length as usize];
            for part in frame.chunks_mut(PART) {
                self.stall().await;
                let read = stream.read_exact(part).await;
                // What of it came counts too, though the client gave up in the middle.
                if part.windows(8).any(|eight| eight == [POISON; 8]) {
                    self.state()
                        .foul
                        .push("reclaimed memory on the wire".to_owned());
                }
                if read.is_err() {
                    return;
                }
            }
            let produce = frame.starts_with(&(ApiKey::Produce as i16).to_be_bytes());
            if produce {
                produces.get_or_insert_with(|| Produces::on(&self));
                let mut state = self.state();
                state.unanswered.0 += 1;
                state.unanswered.1 = state.unanswered.1.max(state.unanswered.0);
            }
            let (bytes, last) = match self.answer(frame.into()) {
                Reply::Bytes(bytes) => (bytes, false),
                Reply::Last(bytes) => (bytes, true),
            };
            let at = tokio::time::Instant::now() + self.twist.delay;
            if outbox.send((at, produce, bytes)).is_err() || last {
                return;
            }
        }
    }

    async fn stall(&self) {
        let Some(stall) = &self.twist.stall else {
            return;
        };
        let parts = {
            let mut state = self.state();
            state.parts += 1;
            state.parts
        };
        tokio::time::sleep(stall(parts)).await;
    }

    /// Bytes of batches that are not what was sent.
    pub fn foul(&self) -> Vec<String> {
        self.state().foul.clone()
    }

    fn answer(&self, mut frame: Bytes) -> Reply {
        let key = ApiKey::try_from(i16::from_be_bytes([frame[0], frame[1]])).expect("a key");
        let version = i16::from_be_bytes([frame[2], frame[3]]);
        let newest = self.twist.newest_versions.unwrap_or(i16::MAX);
        if key == ApiKey::ApiVersions && version > newest {
            self.state().closed += 1;
            return Reply::Last(Vec::new());
        }
        let size = frame.len();
        let header = RequestHeader::decode(&mut frame, key.request_header_version(version))
            .expect("a header");
        let before = {
            let mut state = self.state();
            let count = state.requests.entry(key as i16).or_default();
            *count += 1;
            *count - 1
        };
        let client_id = header.client_id.as_deref().unwrap_or_default().to_owned();
        self.state().client_ids.insert(client_id);
        let mut answer = match key {
            ApiKey::ApiVersions => Answer::ApiVersions(self.handshake(version, &frame)),
            ApiKey::Metadata => {
                let request = MetadataRequest::decode(&mut frame, version).expect("a request");
                let names = request
                    .topics
                    .into_iter()
                    .flatten()
                    .flat_map(|topic| topic.name);
                let names: Vec<_> = names.map(|name| name.to_string()).collect();
                self.state().asked.push(names.clone());
                Answer::Metadata(self.metadata(&names))
            }
            ApiKey::InitProducerId => Answer::InitProducerId(
                InitProducerIdResponse::default()
                    .with_producer_id((7 + before as i64).into())
                    .with_producer_epoch(0),
            ),
            ApiKey::Produce => {
                assert_eq!(version, self.produce);
                let request = ProduceRequest::decode(&mut frame, version).expect("a request");
                assert!(!frame.has_remaining(), "bytes left over");
                self.state().sizes.push(size);
                Answer::Produce(self.append(request))
            }
            ApiKey::SaslHandshake => {
                let plain = StrBytes::from_static_str("PLAIN");
                let answer = SaslHandshakeResponse::default().with_mechanisms(vec![plain]);
                Answer::Mechanisms(answer)
            }
            ApiKey::SaslAuthenticate => Answer::Login(SaslAuthenticateResponse::default()),
            other => panic!("{other:?}"),
        };
        if let Some(twist) = &self.twist.answer {
            twist(before, &mut answer);
        }
        let mut out = BytesMut::new();
        out.put_u32(0);
        ResponseHeader::default()
            .with_correlation_id(header.correlation_id)
            .encode(&mut out, key.response_header_version(version))
            .expect("a header");
        let encoded = match answer {
            // A refusal has the form of version 0, and version 5 that of version 4.
            Answer::ApiVersions(answer) if answer.error_code == 35 => answer.encode(&mut out, 0),
            Answer::ApiVersions(answer) => answer.encode(&mut out, version.min(4)),
            Answer::Metadata(answer) => answer.encode(&mut out, version),
            Answer::InitProducerId(answer) => answer.encode(&mut out, version),
            Answer::Produce(answer) => answer.encode(&mut out, version),
            Answer::Mechanisms(answer) => answer.encode(&mut out, version),
            Answer::Login(answer) => answer.encode(&mut out, version),
        };
        encoded.expect("an answer");
        let length = out.len() as u32 - 4;
        out[..4].copy_from_slice(&length.to_be_bytes());
        match &self.twist.frame {
            Some(twist) => twist(key, before, out.to_vec()),
            None => Reply::Bytes(out.to_vec()),
        }
    }

    /// As Kafka 4.4 does with [`Twist::named`], and as those before without it. `request` is behind its
    /// header.
    fn handshake(&self, version: i16, request: &[u8]) -> ApiVersionsResponse {
        let code = match self.twist.named {
            None if version > 4 => 35, // UNSUPPORTED_VERSION
            Some((cluster, node)) if version > 4 => {
                let meant = [
                    &[cluster.len() as u8 + 1],
                    cluster.as_bytes(),
                    &node.to_be_bytes(),
                ];
                match request.ends_with(&[&meant.concat()[..], &[0]].concat()) {
                    true => 0,
                    false => 129, // REBOOTSTRAP_REQUIRED
                }
            }
            _ => 0,
        };
        self.state().handshakes.push((version, code != 0));
        self.versions().with_error_code(code)
    }

    fn versions(&self) -> ApiVersionsResponse {
        let spoken = [
            (0, self.produce, self.produce),
            (3, 0, 12),
            (17, 0, 1),
            (18, 0, if self.twist.named.is_some() { 5 } else { 4 }),
            (22, 0, 4),
            (36, 0, 2),
        ];
        let keys = spoken.map(|(key, min, max)| {
            ApiVersion::default()
                .with_api_key(key)
                .with_min_version(min)
                .with_max_version(max)
        });
        ApiVersionsResponse::default().with_api_keys(keys.to_vec())
    }

    /// The topic "t" with its log, and any other that begins with "t", without one.
    fn metadata(&self, names: &[String]) -> MetadataResponse {
        let (cluster, number) = self.twist.named.unzip();
        let number = number.unwrap_or(0);
        let partition = |index| {
            MetadataResponsePartition::default()
                .with_partition_index(index)
                .with_leader_id(number.into())
        };
        let topic = |name: &String| {
            let topic = MetadataResponseTopic::default()
                .with_name(Some(TopicName(StrBytes::from_string(name.clone()))));
            match &**name {
                "t" => topic.with_topic_id(ID),
                other if other.starts_with('t') => topic.with_topic_id(Uuid::from_u128(1)),
                _ => return topic.with_error_code(3),
            }
            .with_partitions(vec![partition(0), partition(1)])
        };
        MetadataResponse::default()
            .with_cluster_id(cluster.map(StrBytes::from_static_str))
            .with_brokers(vec![node(number, self.port)])
            .with_topics(names.iter().map(topic).collect())
    }

    fn append(&self, request: ProduceRequest) -> ProduceResponse {
        let mut state = self.state();
        let topics = request.topic_data.into_iter().map(|topic| {
            let known = match self.produce {
                ..13 => &*topic.name.0 == "t",
                13.. => topic.topic_id == ID,
            };
            let partitions = topic.partition_data.into_iter().map(|data| {
                let mut records = data.records.expect("records");
                let sum = crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, &records[21..]) as u32;
                if records[17..21] != sum.to_be_bytes() {
                    state
                        .foul
                        .push(format!("a wrong checksum for {}", data.index));
                }
                let codec = records[22] & 7;
                let answer = PartitionProduceResponse::default().with_index(data.index);
                let log = usize::try_from(data.index).ok();
                let Some(log) = log.and_then(|at| state.logs.get_mut(at)).filter(|_| known) else {
                    let unknown = if self.produce < 13 { 3 } else { 100 };
                    return answer.with_error_code(unknown).with_base_offset(-1);
                };
                let judge = self.twist.judge.as_ref();
                let (code, offset) = match judge.map_or(0, |judge| judge(data.index, codec)) {
                    0 => log.produce(&decoded(&mut records).records),
                    refused => (refused, -1),
                };
                answer
                    .with_error_code(code)
                    .with_base_offset(offset)
                    .with_log_append_time_ms(-1)
            });
            TopicProduceResponse::default()
                .with_name(topic.name)
                .with_topic_id(topic.topic_id)
                .with_partition_responses(partitions.collect())
        });
        let topics = topics.collect();
        ProduceResponse::default().with_responses(topics)
    }
}

fn decoded(records: &mut Bytes) -> RecordSet {
    let plain = |bytes: &mut Bytes, codec| match codec {
        Compression::None => Ok(bytes.split_to(bytes.len())),
        Compression::Gzip => {
            let mut plain = Vec::new();
            GzDecoder::new(&bytes.split_to(bytes.len())[..]).read_to_end(&mut plain)?;
            Ok(plain.into())
        }
        other => Err(std::io::Error::other(format!("{other:?}")).into()),
    };
    RecordBatchDecoder::decode_with_custom_compression(records, Some(plain)).expect("a batch")
}

pub fn node(id: i32, port: u16) -> MetadataResponseBroker {
    MetadataResponseBroker::default()
        .with_node_id(id.into())
        .with_host(StrBytes::from_static_str("127.0.0.1"))
        .with_port(port.into())
}

impl Log {
    /// As a leader does for an idempotent producer. Returns the error code and the base offset.
    fn produce(&mut self, records: &[kafka_protocol::records::Record]) -> (i16, i64) {
        let first = records.first().expect("a batch is not empty");
        let count = records.len() as i32;
        let offset = self.values.len() as i64;
        if first.producer_id >= 0 {
            let fresh = |next| Remembered {
                epoch: first.producer_epoch,
                next,
                batches: VecDeque::new(),
            };
            let known = self.producers.entry(first.producer_id);
            let known = known.or_insert_with(|| fresh(first.sequence));
            if first.producer_epoch < known.epoch {
                return (47, -1); // INVALID_PRODUCER_EPOCH
            }
            if first.producer_epoch > known.epoch {
                *known = fresh(0);
            }
            let again = known.batches.iter().find(|(at, _)| *at == first.sequence);
            if let Some((_, offset)) = again {
                return (0, *offset);
            }
            if first.sequence != known.next {
                return (45, -1); // OUT_OF_ORDER_SEQUENCE_NUMBER
            }
            known.next += count;
            known.batches.push_back((first.sequence, offset));
            if known.batches.len() > 5 {
                known.batches.pop_front();
            }
        }
        let values = records.iter().filter_map(|record| record.value.clone());
        self.values.extend(values);
        (0, offset)
    }
}
