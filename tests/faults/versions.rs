//! Brokers of every age: each version of Produce, on a broker made of somebody else's codec.

use std::sync::{Arc, Mutex};

use bytes::{Buf, BufMut, Bytes, BytesMut};
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

use crate::*;

const ID: Uuid = Uuid::from_u128(0xf0e);

/// A broker with the topic "t" of two partitions that speaks one version of Produce.
#[derive(Clone)]
struct Old {
    produce: i16,
    port: u16,
    /// (partition, value), as they came.
    log: Arc<Mutex<Vec<(i32, Bytes)>>>,
}

impl Old {
    async fn start(produce: i16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let log = Arc::default();
        let broker = Self { produce, port, log };
        let accepting = broker.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(accepting.clone().serve(stream));
            }
        });
        broker
    }

    async fn serve(self, mut stream: TcpStream) {
        while let Ok(length) = stream.read_u32().await {
            let mut frame = vec![0; length as usize];
            if stream.read_exact(&mut frame).await.is_err() {
                return;
            }
            let answer = self.answer(frame.into());
            if stream.write_all(&answer).await.is_err() {
                return;
            }
        }
    }

    fn answer(&self, mut frame: Bytes) -> Bytes {
        let key = ApiKey::try_from(i16::from_be_bytes([frame[0], frame[1]])).expect("a key");
        let version = i16::from_be_bytes([frame[2], frame[3]]);
        let header = RequestHeader::decode(&mut frame, key.request_header_version(version))
            .expect("a header");
        let mut out = BytesMut::new();
        out.put_u32(0);
        ResponseHeader::default()
            .with_correlation_id(header.correlation_id)
            .encode(&mut out, key.response_header_version(version))
            .expect("a header");
        let encoded = match key {
            ApiKey::ApiVersions => self.versions().encode(&mut out, version),
            ApiKey::Metadata => self.metadata().encode(&mut out, version),
            ApiKey::InitProducerId => InitProducerIdResponse::default()
                .with_producer_id(7.into())
                .with_producer_epoch(0)
                .encode(&mut out, version),
            ApiKey::Produce => {
                assert_eq!(version, self.produce);
                let request = ProduceRequest::decode(&mut frame, version).expect("a request");
                assert!(!frame.has_remaining(), "bytes left over");
                self.append(request).encode(&mut out, version)
            }
            other => panic!("{other:?}"),
        };
        encoded.expect("an answer");
        let length = out.len() as u32 - 4;
        out[..4].copy_from_slice(&length.to_be_bytes());
        out.freeze()
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
        let host = StrBytes::from_static_str("127.0.0.1");
        let broker = MetadataResponseBroker::default()
            .with_host(host)
            .with_port(self.port.into());
        let partition = |index| MetadataResponsePartition::default().with_partition_index(index);
        let topic = MetadataResponseTopic::default()
            .with_name(Some(TopicName(StrBytes::from_static_str("t"))))
            .with_topic_id(ID)
            .with_partitions(vec![partition(0), partition(1)]);
        MetadataResponse::default()
            .with_brokers(vec![broker])
            .with_topics(vec![topic])
    }

    fn append(&self, request: ProduceRequest) -> ProduceResponse {
        assert_eq!(request.acks, -1);
        let mut log = self.log.lock().expect("no panic");
        let topics = request.topic_data.into_iter().map(|topic| {
            match self.produce {
                ..13 => assert_eq!(&*topic.name.0, "t"),
                13.. => assert_eq!(topic.topic_id, ID),
            }
            let partitions = topic.partition_data.into_iter().map(|data| {
                let before = log.iter().filter(|(at, _)| *at == data.index).count();
                let mut records = data.records.expect("records");
                let set = RecordBatchDecoder::decode(&mut records).expect("a batch");
                let values = set.records.into_iter().filter_map(|record| record.value);
                log.extend(values.map(|value| (data.index, value)));
                PartitionProduceResponse::default()
                    .with_index(data.index)
                    .with_base_offset(before as i64)
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

#[tokio::test]
async fn each_version_of_produce_is_spoken() {
    for version in 3..=13 {
        let broker = Old::start(version).await;
        let servers = format!("127.0.0.1:{}", broker.port);
        let config = config(&servers, &[("linger.ms", "10")]);
        let producer = Producer::start(config).expect("a producer");
        let mut receipts = Vec::new();
        for i in 0..20 {
            let record = Record::to("t").partition(i % 2).value(i.to_string());
            receipts.push(within(producer.send(record)).await.expect("accepted"));
        }
        for (i, receipt) in (0..).zip(receipts) {
            assert_eq!(
                acked(receipt).await.offset,
                Some(i / 2),
                "version {version}"
            );
        }
        close(producer).await;
        for partition in 0..2 {
            let log = broker.log.lock().expect("no panic");
            let values: Vec<_> = log
                .iter()
                .filter(|(at, _)| *at == partition)
                .map(|(_, value)| value.clone())
                .collect();
            let expected = (partition..20).step_by(2).map(|i| i.to_string());
            assert!(expected.eq(values), "version {version}");
        }
    }
}

#[tokio::test]
async fn a_broker_too_old_for_us_is_an_error_in_the_end() {
    let broker = Old::start(2).await;
    let servers = format!("127.0.0.1:{}", broker.port);
    let keys = [
        ("request.timeout.ms", "100"),
        ("delivery.timeout.ms", "200"),
    ];
    let producer = Producer::start(config(&servers, &keys)).expect("a producer");
    let outcome = outcome(send(&producer, "x").await).await;
    assert!(is_not_written(&outcome), "{outcome:?}");
    assert!(broker.log.lock().expect("no panic").is_empty());
    close(producer).await;
}
