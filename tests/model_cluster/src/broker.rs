//! A broker: takes connections, reads requests, answers them in their order.

use std::io;
use std::rc::Rc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use forebay::internals::net::Halves;
use kafka_protocol::messages::{
    ApiKey, FetchRequest, ListOffsetsRequest, MetadataRequest, ProduceRequest, RequestHeader,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::{Instant, sleep, sleep_until};
use uuid::Uuid;

use crate::cluster::At;
use crate::fetch::{FETCH, LIST_OFFSETS};
use crate::kafka::{FIRST_PORT, Kafka, Misdeed, PORTS};
use crate::log::code;
use crate::network::{self, Connection, Cut, Pipe, spawn};
use crate::produce::PRODUCE;
use crate::requests::END_TXN;

const METADATA: i16 = 3;
const API_VERSIONS: i16 = 18;

pub(crate) fn host(broker: usize) -> String {
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
    spawn(async move { broker.serve(connection).await });
    Ok(client)
}

impl Kafka {
    /// What a broker answers to a request, both without their lengths. `None` if it is down, or dies over
    /// it, or if the request wants no answer.
    pub async fn ask(self: &Rc<Self>, broker: usize, request: Bytes) -> Option<Bytes> {
        let life = self.cluster.borrow().brokers[broker].life;
        let broker = Life {
            kafka: Rc::clone(self),
            broker,
            life,
        };
        broker.working().await?;
        let answer = broker.handle(request).await?;
        answer.map(|frame| frame.slice(4..))
    }
}

/// A broker between its start and its death.
#[derive(Clone)]
pub(crate) struct Life {
    pub kafka: Rc<Kafka>,
    pub broker: usize,
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
    pub async fn working(&self) -> Option<()> {
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
        spawn(async move { writer.answer(inbox, answers, cut).await });
        while let Some(frame) = connection.next().await {
            sleep(self.kafka.latency()).await;
            if self.working().await.is_none() {
                return;
            }
            let ends = frame.starts_with(&END_TXN.to_be_bytes());
            if ends && self.kafka.happens(self.kafka.conditions.get().ends_dropped) {
                return connection.cut.cut(usize::MAX, false);
            }
            let Some(frame) = self.handle(frame).await else {
                return;
            };
            let conditions = self.kafka.conditions.get();
            let lost = self.kafka.happens(conditions.answers_lost)
                || ends && self.kafka.happens(conditions.ends_lost);
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
        let key = ApiKey::try_from(api).expect("an api that there is");
        let header_version = key.request_header_version(version);
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
            FETCH => {
                let request = FetchRequest::decode(&mut frame, version).expect("a request");
                let answer = self.fetch(&request, version).await?;
                Some(encoded(id, version, &answer))
            }
            LIST_OFFSETS => {
                let request = ListOffsetsRequest::decode(&mut frame, version).expect("a request");
                let answer = self.list_offsets(&request, version);
                Some(encoded(id, version, &answer))
            }
            other => Some(self.transactional((other, version, id), frame).await?),
        })
    }

    /// What the request means, as this broker sees it; an error is an answer's code.
    pub fn locate(&self, name: &str, id: Uuid, partition: i32, by_id: bool) -> Result<At, i16> {
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
}

pub(crate) fn encoded<R: Encodable + HeaderVersion>(id: i32, version: i16, response: &R) -> Bytes {
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
