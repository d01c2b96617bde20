//! A broker made of somebody else's codec that says what a test wants it to say.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use crc_fast::CrcAlgorithm;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use kafka_protocol::records::RecordBatchDecoder;
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
}

/// What goes out instead of an answer.
pub enum Reply {
    /// These bytes; then the connection goes on.
    Bytes(Vec<u8>),
    /// These bytes, and the end of the connection.
    Last(Vec<u8>),
}

type ChangeAnswer = dyn Fn(usize, &mut Answer) + Send + Sync;
type ChangeFrame = dyn Fn(ApiKey, usize, Vec<u8>) -> Reply + Send + Sync;

/// Changes what is answered: told the request's API, how many of that API came before, and the
/// answer, in one form or the other.
#[derive(Default)]
pub struct Twist {
    pub answer: Option<Box<ChangeAnswer>>,
    /// The whole frame, with its length.
    pub frame: Option<Box<ChangeFrame>>,
    /// How long to wait before each part of a large request is read, told how many came.
    pub stall: Option<Box<dyn Fn(usize) -> Duration + Send + Sync>>,
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
    /// Bytes of batches that are not what was sent.
    foul: Vec<String>,
    parts: usize,
}

/// A broker with the topic "t" of two partitions, of the version of Produce it is given.
#[derive(Clone)]
pub struct Scripted {
    produce: i16,
    pub port: u16,
    twist: Arc<Twist>,
    state: Arc<Mutex<State>>,
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

    /// How many requests of this API came.
    pub fn requests(&self, key: ApiKey) -> usize {
        self.state()
            .requests
            .get(&(key as i16))
            .copied()
            .unwrap_or(0)
    }

    async fn serve(self, mut stream: TcpStream) {
        while let Ok(length) = stream.read_u32().await {
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
            let (bytes, last) = match self.answer(frame.into()) {
                Reply::Bytes(bytes) => (bytes, false),
                Reply::Last(bytes) => (bytes, true),
            };
            if stream.write_all(&bytes).await.is_err() || last {
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
        let header = RequestHeader::decode(&mut frame, key.request_header_version(version))
            .expect("a header");
        let before = {
            let mut state = self.state();
            let count = state.requests.entry(key as i16).or_default();
            *count += 1;
            *count - 1
        };
        let mut answer = match key {
            ApiKey::ApiVersions => Answer::ApiVersions(self.versions()),
            ApiKey::Metadata => Answer::Metadata(self.metadata()),
            ApiKey::InitProducerId => Answer::InitProducerId(
                InitProducerIdResponse::default()
                    .with_producer_id((7 + before as i64).into())
                    .with_producer_epoch(0),
            ),
            ApiKey::Produce => {
                assert_eq!(version, self.produce);
                let request = ProduceRequest::decode(&mut frame, version).expect("a request");
                assert!(!frame.has_remaining(), "bytes left over");
                Answer::Produce(self.append(request))
            }
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
            Answer::ApiVersions(answer) => answer.encode(&mut out, version),
            Answer::Metadata(answer) => answer.encode(&mut out, version),
            Answer::InitProducerId(answer) => answer.encode(&mut out, version),
            Answer::Produce(answer) => answer.encode(&mut out, version),
        };
        encoded.expect("an answer");
        let length = out.len() as u32 - 4;
        out[..4].copy_from_slice(&length.to_be_bytes());
        match &self.twist.frame {
            Some(twist) => twist(key, before, out.to_vec()),
            None => Reply::Bytes(out.to_vec()),
        }
    }

    fn versions(&self) -> ApiVersionsResponse {
        let spoken = [
            (0, self.produce, self.produce),
            (3, 0, 12),
            (18, 0, 4),
            (22, 0, 4),
        ];
        let keys = spoken.map(|(key, min, max)| {
            ApiVersion::default()
                .with_api_key(key)
                .with_min_version(min)
                .with_max_version(max)
        });
        ApiVersionsResponse::default().with_api_keys(keys.to_vec())
    }

    fn metadata(&self) -> MetadataResponse {
        let partition = |index| MetadataResponsePartition::default().with_partition_index(index);
        let topic = MetadataResponseTopic::default()
            .with_name(Some(TopicName(StrBytes::from_static_str("t"))))
            .with_topic_id(ID)
            .with_partitions(vec![partition(0), partition(1)]);
        MetadataResponse::default()
            .with_brokers(vec![node(0, self.port)])
            .with_topics(vec![topic])
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
                let set = RecordBatchDecoder::decode(&mut records).expect("a batch");
                let answer = PartitionProduceResponse::default().with_index(data.index);
                let log = usize::try_from(data.index).ok();
                let Some(log) = log.and_then(|at| state.logs.get_mut(at)).filter(|_| known) else {
                    let unknown = if self.produce < 13 { 3 } else { 100 };
                    return answer.with_error_code(unknown).with_base_offset(-1);
                };
                let (code, offset) = log.produce(&set.records);
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
