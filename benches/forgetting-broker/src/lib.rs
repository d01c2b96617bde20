//! A broker that acknowledges every batch and stores none, to measure a client without a broker's
//! disk.

mod tls;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::exit;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{
    ApiKey, ApiVersionsResponse, BrokerId, InitProducerIdResponse, MetadataRequest,
    MetadataResponse, ProduceRequest, ProduceResponse, ProducerId, RequestHeader, ResponseHeader,
    TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, StrBytes};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
pub use tls::self_signed;

struct Broker {
    port: u16,
    partitions: i32,
    check: bool,
    next_producer_id: AtomicI64,
    /// The next sequence number by (producer, epoch, topic, partition).
    sequences: Mutex<HashMap<(i64, i16, String, i32), i32>>,
}

/// Serves connections for ever. Every topic exists, with `partitions` partitions, and this broker
/// leads all of them. With `check`, the CRC of each batch and the sequence numbers of each producer
/// and partition are verified, and a wrong one ends the process. With `tls` connections are encrypted.
pub fn serve(listener: TcpListener, partitions: i32, check: bool, tls: Option<Arc<ServerConfig>>) {
    let broker = Arc::new(Broker {
        port: listener.local_addr().expect("a bound listener").port(),
        partitions,
        check,
        next_producer_id: AtomicI64::new(1),
        sequences: Mutex::default(),
    });
    for stream in listener.incoming().flatten() {
        let (broker, tls) = (Arc::clone(&broker), tls.clone());
        std::thread::spawn(move || {
            // If one connection fails, the whole broker must not continue.
            if catch_unwind(AssertUnwindSafe(|| broker.serve(stream, tls))).is_err() {
                exit(1);
            }
        });
    }
}

impl Broker {
    fn serve(&self, stream: TcpStream, tls: Option<Arc<ServerConfig>>) {
        stream.set_nodelay(true).expect("a socket");
        match tls {
            Some(config) => {
                let connection = ServerConnection::new(config).expect("a TLS configuration");
                self.answer_all(StreamOwned::new(connection, stream));
            }
            None => self.answer_all(stream),
        }
    }

    fn answer_all(&self, mut stream: impl Read + Write) {
        let mut input = BytesMut::with_capacity(4 << 20);
        let mut chunk = vec![0; 1 << 20];
        let mut output = BytesMut::new();
        loop {
            match stream.read(&mut chunk) {
                Ok(0) | Err(_) => return,
                Ok(n) => input.extend_from_slice(&chunk[..n]),
            }
            while input.len() >= 4 {
                let size = (&input[..4]).get_i32() as usize;
                if input.len() < 4 + size {
                    break;
                }
                let mut frame = input.split_to(4 + size).freeze();
                frame.advance(4);
                self.answer(frame, &mut output);
            }
            if stream.write_all(&output).is_err() {
                return;
            }
            output.clear();
        }
    }

    fn answer(&self, mut frame: Bytes, out: &mut BytesMut) {
        let key = (&frame[..2]).get_i16();
        let version = (&frame[2..4]).get_i16();
        let api = ApiKey::try_from(key).expect("a known api");
        let header = RequestHeader::decode(&mut frame, api.request_header_version(version))
            .expect("a header");
        let reply = Reply {
            id: header.correlation_id,
            version,
        };
        match api {
            ApiKey::ApiVersions => {
                let api = |key: ApiKey, min, max| {
                    ApiVersion::default()
                        .with_api_key(key as i16)
                        .with_min_version(min)
                        .with_max_version(max)
                };
                let body = ApiVersionsResponse::default().with_api_keys(vec![
                    api(ApiKey::Produce, 3, 12),
                    api(ApiKey::Metadata, 0, 12),
                    api(ApiKey::ApiVersions, 0, 3),
                    api(ApiKey::InitProducerId, 0, 4),
                    // These are never served. librdkafka needs them to see that the broker supports
                    // record batches and LZ4. Otherwise it sends the old message sets.
                    api(ApiKey::Fetch, 4, 12),
                    api(ApiKey::FindCoordinator, 0, 3),
                ]);
                if version <= 3 {
                    reply.write(&body, out);
                } else {
                    // UNSUPPORTED_VERSION, in the form that every client can read. The client asks
                    // again.
                    let reply = Reply {
                        version: 0,
                        ..reply
                    };
                    reply.write(&body.with_error_code(35), out);
                }
            }
            ApiKey::Metadata => {
                let request = MetadataRequest::decode(&mut frame, version).expect("a request");
                reply.write(&self.metadata(request), out);
            }
            ApiKey::InitProducerId => {
                let id = self.next_producer_id.fetch_add(1, Ordering::Relaxed);
                let body = InitProducerIdResponse::default().with_producer_id(ProducerId(id));
                reply.write(&body, out);
            }
            ApiKey::Produce => {
                let request = ProduceRequest::decode(&mut frame, version).expect("a request");
                if let Some(body) = self.produce(request) {
                    reply.write(&body, out);
                }
            }
            other => panic!("unexpected {other:?}"),
        }
    }

    fn metadata(&self, request: MetadataRequest) -> MetadataResponse {
        let broker = MetadataResponseBroker::default()
            .with_node_id(BrokerId(1))
            .with_host(StrBytes::from_static_str("127.0.0.1"))
            .with_port(i32::from(self.port));
        let names = request
            .topics
            .unwrap_or_default()
            .into_iter()
            .filter_map(|t| t.name);
        let topics = names.map(|name| {
            let partitions = (0..self.partitions).map(|partition| {
                MetadataResponsePartition::default()
                    .with_partition_index(partition)
                    .with_leader_id(BrokerId(1))
                    .with_replica_nodes(vec![BrokerId(1)])
                    .with_isr_nodes(vec![BrokerId(1)])
            });
            MetadataResponseTopic::default()
                .with_name(Some(name))
                .with_partitions(partitions.collect())
        });
        MetadataResponse::default()
            .with_brokers(vec![broker])
            .with_controller_id(BrokerId(1))
            .with_cluster_id(Some(StrBytes::from_static_str("forgetting")))
            .with_topics(topics.collect())
    }

    fn produce(&self, request: ProduceRequest) -> Option<ProduceResponse> {
        let topics = request.topic_data.into_iter().map(|topic| {
            let partitions = topic.partition_data.into_iter().map(|partition| {
                let records = partition.records.as_ref().expect("records");
                assert_eq!(records[16], 2, "the magic of a record batch");
                if self.check {
                    self.check(&topic.name, partition.index, records);
                }
                PartitionProduceResponse::default().with_index(partition.index)
            });
            let partitions = partitions.collect();
            TopicProduceResponse::default()
                .with_name(topic.name.clone())
                .with_partition_responses(partitions)
        });
        let responses = topics.collect();
        (request.acks != 0).then(|| ProduceResponse::default().with_responses(responses))
    }

    fn check(&self, topic: &TopicName, partition: i32, batch: &Bytes) {
        let at = |from: usize, to: usize| &batch[from..to];
        let length = at(8, 12).get_i32() as usize;
        assert_eq!(batch.len(), 12 + length, "one whole batch a partition");
        let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &batch[21..]) as u32;
        assert_eq!(at(17, 21).get_u32(), crc, "the CRC");
        let (producer, epoch) = (at(43, 51).get_i64(), at(51, 53).get_i16());
        let (sequence, count) = (at(53, 57).get_i32(), at(57, 61).get_i32());
        if producer >= 0 {
            let key = (producer, epoch, topic.to_string(), partition);
            let mut sequences = self.sequences.lock().expect("a lock");
            let expected = sequences.entry(key).or_insert(0);
            assert_eq!(sequence, *expected, "the sequence of {topic:?}-{partition}");
            *expected = ((i64::from(sequence) + i64::from(count)) & 0x7fff_ffff) as i32;
        }
    }
}

struct Reply {
    id: i32,
    version: i16,
}

impl Reply {
    fn write<B: Encodable + HeaderVersion>(&self, body: &B, out: &mut BytesMut) {
        let mut frame = BytesMut::new();
        ResponseHeader::default()
            .with_correlation_id(self.id)
            .encode(&mut frame, B::header_version(self.version))
            .expect("a header");
        body.encode(&mut frame, self.version).expect("an answer");
        out.extend_from_slice(&(frame.len() as u32).to_be_bytes());
        out.extend_from_slice(&frame);
    }
}
